//! The demo.
use anyhow::bail;
pub(crate) fn run(_keep: bool) -> anyhow::Result<()> {
    bail!("")
}
pub(crate) fn as_root(_keep: bool) -> anyhow::Result<()> {
    bail!("")
}

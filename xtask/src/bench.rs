//! The bench.
use anyhow::bail;
pub(crate) fn postgres() -> anyhow::Result<()> {
    bail!("")
}
pub(crate) fn as_root() -> anyhow::Result<()> {
    bail!("")
}

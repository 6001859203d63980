//! From a statement to what it asks for, outside of a session: for cases and for `why`.

use anyhow::bail;

use crate::policy::Ask;

/// Reads `statement` as a session would that has just been opened, with `public` as its search path.
///
/// # Errors
/// Where statements cannot be read at all.
pub fn read(statement: &str) -> anyhow::Result<Vec<Ask>> {
    bail!("cannot read `{statement}`: give `asks` instead")
}

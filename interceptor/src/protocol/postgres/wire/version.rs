//! What a server of a given version does differently, where that decides what is permitted.
//!
//! Reads the `server_version` that the server reports. A version that is not known here counts as one
//! that does the less safe thing.

/// The first minor version of each major one with CVE-2024-10978 mended, and with the mend's own
/// mistake mended: `ALTER ROLE … SET role` was without effect in the release between.
const ROLE_KEPT: &[(u32, u32)] = &[(12, 22), (13, 18), (14, 15), (15, 10), (16, 6), (17, 2)];

/// Whether `DISCARD ALL` and `RESET SESSION AUTHORIZATION` bring back the role that the login set
/// (`ALTER ROLE … SET role`), and not the user that logged in. `version` is as in `15.18 (Debian 15.18-0)`.
#[must_use]
pub fn discard_keeps_role(version: &str) -> bool {
    let number = version.split_whitespace().next().unwrap_or_default();
    let Some((major, minor)) = number.split_once('.') else {
        return false;
    };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return false;
    };
    let newest = ROLE_KEPT.iter().map(|(known, _)| *known).max();
    newest.is_some_and(|newest| major > newest)
        || ROLE_KEPT
            .iter()
            .any(|(known, least)| *known == major && minor >= *least)
}

#[cfg(test)]
mod tests;

//! From a statement to what it asks for, outside of a session: for cases and for `why`.
//!
//! What a session learns from its server is assumed here: a UTF-8 database, the relations of
//! `pg_catalog` as servers have them, a server with every mend, no prepared statement, no open
//! transaction.

use std::sync::Arc;

use crate::policy::Ask;
use crate::protocol::postgres::facts::{self, Names};

/// Reads `statement` as a session would that looks names up in `search_path`. What cannot be read
/// asks for `Unreadable`.
#[must_use]
pub fn read_with(statement: &str, search_path: &[String]) -> Vec<Ask> {
    let lines = include_str!("catalog.txt").lines();
    let names = lines.filter(|line| !line.starts_with('#'));
    let names = Names {
        search_path: Some(search_path.to_vec()),
        login_path: Some(search_path.to_vec()),
        catalog: Arc::new(
            names
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect(),
        ),
        utf8: true,
        discard_keeps_role: true,
        ..Names::default()
    };
    facts::read(statement, &names).reading.asks.clone()
}

/// Reads `statement` as a session would that looks names up in `public`, as targets do by default.
///
/// # Errors
/// Never: text that cannot be read asks for `Unreadable`.
pub fn read(statement: &str) -> anyhow::Result<Vec<Ask>> {
    Ok(read_with(statement, &["public".to_owned()]))
}

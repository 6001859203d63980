//! Which tables a statement is about, where all of it is known well enough to ask the server about it beside
//! the session: no code of others runs for it, and every name means a plain table.

use std::collections::BTreeSet;

use super::cover::Masking;
use super::functions;
use super::resolve::Meaning;
use super::schema::{Schema, Table, TiedBy};
use crate::protocol::postgres::facts::draft::Draft;
use crate::protocol::postgres::facts::evidence::Role;

/// More tables than this, partitions included, are not looked at.
const TABLES: usize = 4_096;

/// The numbers of the tables that a statement names, and of all below them.
///
/// # Errors
/// Why it must not be asked about, for people.
pub(in super::super) fn tables(
    masking: &Masking,
    draft: &Draft<'_>,
    path: Option<&[String]>,
) -> Result<Vec<u32>, String> {
    let Some(schema) = masking.schema.as_deref() else {
        return Err("what the database looks like is not known".to_owned());
    };
    if functions::check(masking, draft, path, true).is_err() {
        return Err("a function, an operator or a cast of it may run code of others".to_owned());
    }
    let mut found = BTreeSet::new();
    for reference in &draft.references {
        match reference.role {
            Role::Cte | Role::Label => continue,
            Role::Read | Role::Written | Role::Named => {}
        }
        match masking.resolve(reference.relation, path) {
            Ok(Meaning::Plain(table, _) | Meaning::Masked(table, _)) => {
                below(schema, table, &mut found)?;
            }
            Ok(Meaning::System(name)) => return Err(format!("{name} is the system's own")),
            Ok(Meaning::Elsewhere(_)) | Err(_) => {
                let name = &reference.relation.relname;
                return Err(format!("what {name} means is not certain"));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// A table and what its rows may be in: partitions and children.
fn below(schema: &Schema, table: &Table, found: &mut BTreeSet<u32>) -> Result<(), String> {
    let mut wanted = vec![table];
    while let Some(table) = wanted.pop() {
        if !found.insert(table.oid) {
            continue;
        }
        if found.len() > TABLES {
            return Err("it has too many partitions".to_owned());
        }
        is_plain(table)?;
        let is_child = |child: &&Table| child.parents.contains(&table.oid);
        wanted.extend(schema.tables.values().filter(is_child));
    }
    Ok(())
}

fn is_plain(table: &Table) -> Result<(), String> {
    let runs_code = |tie: &super::schema::Tie| tie.by == TiedBy::Function;
    let why = match table.kind {
        b'r' | b'p' if table.has_rules => "has rules",
        b'r' | b'p' if table.computes => "has a default or a constraint that runs code of others",
        b'r' | b'p' if table.ties.values().any(runs_code) => {
            "has an index that runs code of others"
        }
        b'r' | b'p' => return Ok(()),
        _ => "is no plain table",
    };
    Err(format!("{}.{} {why}", table.schema, table.name))
}

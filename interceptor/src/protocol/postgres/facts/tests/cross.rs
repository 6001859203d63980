//! The cross-check: what another parser finds in a text, ours has asked for.

use std::collections::BTreeSet;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::*;

/// The relations that another parser sees, by their last name, as its own debug text shows them:
/// functions in `FROM` left out, and what it takes for a table named `ONLY`.
fn others(text: &str) -> Option<BTreeSet<String>> {
    let tree = format!("{:?}", Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?);
    let mut found = BTreeSet::new();
    for marker in ["Table { name: ObjectName(", "TableName(ObjectName("] {
        for (at, _) in tree.match_indices(marker) {
            let rest = tree.get(at + marker.len()..)?;
            let (name, _) = rest.split_once("])")?;
            let is_function = rest.split_once(", args: ").is_some_and(|(alias, args)| {
                args.starts_with("Some(") && !alias.contains("Table {")
            });
            let last = name.rsplit("Ident { value: \"").next()?;
            let (value, quoting) = last.split_once("\", quote_style: ")?;
            let value = if quoting.starts_with("None") {
                value.to_lowercase()
            } else {
                value.to_owned()
            };
            if !is_function && value != "only" {
                found.insert(value);
            }
        }
    }
    Some(found)
}

#[test]
fn what_another_parser_sees_is_asked_for() {
    let mut both = 0;
    for (text, _) in cases() {
        let facts = read(text, &names());
        let Some(others) = others(text).filter(|_| facts.readable) else {
            continue;
        };
        both += usize::from(!others.is_empty());
        let (_, seen) = typed::walk(&parse(text).unwrap().0);
        let ctes = seen
            .relations
            .iter()
            .filter(|relation| relation.role == evidence::Role::Cte);
        let mut known: BTreeSet<String> = ctes.map(|relation| relation.name.to_string()).collect();
        for access in facts.reading.asks.iter().flat_map(|ask| &ask.accesses) {
            if let Resource::Table { table, .. } = &access.resource {
                known.insert(table.clone());
            }
        }
        assert!(others.is_subset(&known), "{text}: {others:?} and {known:?}");
    }
    assert!(both > 60, "both read {both} statements with relations");
}

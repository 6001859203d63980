//! The queries that psql and the drivers send by themselves.

use super::*;

/// What clients ask the catalogue of their own accord: psql's `\d`, `\dt`, `\df`, `\l`, `\du`, `\dn`,
/// `\dp`, `\dT`, and what drivers do after login and for their types.
const INTROSPECTION: &str = include_str!("clients.sql");

#[test]
fn introspection_reads_the_catalogue_and_calls_nothing() {
    let queries: Vec<&str> = INTROSPECTION
        .split(";\n")
        .filter(|query| !query.trim().is_empty())
        .collect();
    assert!(queries.len() >= 20);
    let mut names = names();
    let words = INTROSPECTION.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    names.catalog = Arc::new(
        words
            .filter(|word| word.starts_with("pg_"))
            .map(String::from)
            .collect(),
    );
    for query in queries {
        let facts = read(query, &names);
        for access in facts.reading.asks.iter().flat_map(|ask| &ask.accesses) {
            let is_catalogue = match &access.resource {
                Resource::Table { schema, .. } => {
                    schema == "pg_catalog" || schema == "information_schema"
                }
                Resource::Database => true,
                Resource::Target
                | Resource::Schema { .. }
                | Resource::Column { .. }
                | Resource::Function { .. }
                | Resource::File { .. }
                | Resource::Forward { .. }
                | Resource::KubeNamespace { .. }
                | Resource::KubeObject { .. }
                | Resource::Path { .. } => false,
            };
            let is_reading = matches!(access.action, Action::Select | Action::Show);
            assert!(is_catalogue && is_reading, "{access:?} of {query}");
        }
    }
}

#[test]
fn what_drivers_set_is_named() {
    let rows = [
        ("SET datestyle TO 'ISO'", "Set database, setting datestyle"),
        (
            "SET extra_float_digits = 3",
            "Set database, setting extra_float_digits",
        ),
        (
            "SET application_name = 'x'",
            "Set database, setting application_name",
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "Set database, setting default_transaction_read_only",
        ),
        (
            "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
            "Select database, Call pg_catalog.current_setting(), Call pg_catalog.set_config(), setting jit, \
             function current_setting, function set_config",
        ),
        (
            "BEGIN ISOLATION LEVEL READ COMMITTED",
            "Transaction database, setting transaction_isolation",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(asks(text, &names()), [expected], "{text}");
    }
    let reset = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;";
    let expected = [
        "Select database, function pg_advisory_unlock_all",
        "Select database",
        "Transaction database",
        "Set database, setting all",
    ];
    assert_eq!(asks(reset, &names()), expected);
}

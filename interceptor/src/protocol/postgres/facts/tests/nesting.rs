//! References are found however statements are nested; shuffled text neither panics nor keeps a literal.

use proptest::prelude::*;

use super::*;

/// Queries around a query.
const QUERIES: [&str; 20] = [
    "SELECT * FROM (@) x",
    "SELECT (@)",
    "SELECT 1 FROM granted WHERE EXISTS (@)",
    "SELECT 1 FROM granted WHERE a IN (@)",
    "SELECT a FROM granted UNION ALL (@)",
    "(@) EXCEPT SELECT a FROM granted",
    "VALUES ((@))",
    "WITH c AS (@) SELECT * FROM c",
    "WITH RECURSIVE c AS (@) SELECT * FROM c",
    "WITH c AS (SELECT 1), d AS (@) SELECT * FROM c, d",
    "SELECT a FROM granted ORDER BY (@) LIMIT (@) OFFSET (@)",
    "SELECT sum(a) FILTER (WHERE (@) = a) OVER (PARTITION BY (@) ORDER BY (@)) FROM granted",
    "SELECT a FROM granted GROUP BY GROUPING SETS ((a), ((@))) HAVING (@) = 1",
    "SELECT DISTINCT ON ((@)) * FROM granted",
    "SELECT * FROM granted g JOIN LATERAL (@) x ON (@) = 1",
    "SELECT ARRAY(@), COALESCE((@), 1), CASE WHEN (@) THEN 1 ELSE (@) END",
    "SELECT * FROM granted TABLESAMPLE system ((@))",
    "SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) x, (@) y",
    "WITH x AS (WITH secret AS (SELECT 1) SELECT * FROM secret) SELECT * FROM x, (@) y",
    "SELECT * FROM ROWS FROM (unnest((@))) x",
];

/// Statements around a query.
const STATEMENTS: [&str; 14] = [
    "@",
    "INSERT INTO granted @",
    "INSERT INTO granted VALUES ((@)) ON CONFLICT (a) DO UPDATE SET a = (@) WHERE (@) = 1",
    "UPDATE granted SET a = (@) WHERE b = 1",
    "DELETE FROM granted USING (@) x WHERE true RETURNING (@)",
    "MERGE INTO granted USING (@) s ON (@) = 1 WHEN MATCHED AND (@) = 2 THEN UPDATE SET a = (@)",
    "CREATE VIEW v AS @",
    "CREATE TABLE x AS @",
    "COPY (@) TO STDOUT",
    "DECLARE c CURSOR FOR @",
    "PREPARE p AS @",
    "EXPLAIN (ANALYZE) @",
    "CREATE POLICY p ON granted USING (EXISTS (@))",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC @; END",
];

/// Where the reference itself hides.
const REFERENCES: [&str; 6] = [
    "SELECT a FROM secret",
    "TABLE secret",
    "SELECT a FROM ONLY \"secret\"",
    "WITH secret AS (TABLE secret) SELECT 1",
    "WITH x AS (DELETE FROM secret RETURNING a) SELECT a FROM x",
    "SELECT secret.a FROM granted, public.secret",
];

/// Puts `inner` into one of the holes of `outer`, and something harmless into the others.
fn fill(outer: &str, inner: &str, hole: usize) -> String {
    let holes = outer.matches('@').count();
    let mut text = String::new();
    for (at, part) in outer.split('@').enumerate() {
        text.push_str(part);
        if at < holes {
            text.push_str(if at == hole % holes {
                inner
            } else {
                "SELECT 1"
            });
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_reference_is_found_however_it_is_nested(
        reference in 0..REFERENCES.len(),
        layers in prop::collection::vec((0..QUERIES.len(), any::<usize>()), 0..6),
        statement in (0..STATEMENTS.len(), any::<usize>()),
    ) {
        let mut text = REFERENCES[reference].to_owned();
        for (query, hole) in &layers {
            text = fill(QUERIES[*query], &text, *hole);
        }
        text = fill(STATEMENTS[statement.0], &text, statement.1);
        let facts = read(&text, &names());
        let secret = Resource::Table { schema: "public".into(), table: "secret".into() };
        let is_found = facts.reading.asks.iter().any(|ask| {
            ask.accesses.iter().any(|access| access.resource == secret)
        });
        prop_assert_eq!(is_found, facts.readable, "{}", text);
        prop_assert!(facts.readable || layers.len() > 3, "{}", text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _facts = read(&text, &names());
    }

    #[test]
    fn no_shuffled_sql_panics_or_keeps_a_literal(
        words in prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..30),
    ) {
        let facts = read(&words.join(" "), &names());
        prop_assert!(!facts.reading.redacted.contains("hunter2"));
    }
}

const WORDS: [&str; 40] = [
    "SELECT",
    "FROM",
    "WHERE",
    "WITH",
    "AS",
    "(",
    ")",
    ",",
    ";",
    "secret",
    "t",
    "a",
    "*",
    "'hunter2'",
    "E'hunter2'",
    "$q$hunter2$q$",
    "1",
    "=",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "TO",
    "DELETE",
    "CREATE",
    "TABLE",
    "ALTER",
    "GRANT",
    "ON",
    "COPY",
    "STDIN",
    "EXPLAIN",
    "DO",
    "UNION",
    "LIMIT",
    "-- hunter2\n",
    "/* hunter2 */",
    "U&'hunter2'",
    "ROLE",
];

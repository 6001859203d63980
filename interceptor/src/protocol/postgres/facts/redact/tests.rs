//! No literal survives redaction.

use super::*;

fn redacted(text: &str) -> String {
    redact(text, &pg_query::scan(text).unwrap().tokens)
}

#[test]
fn no_literal_is_left() {
    let rows = [
        (
            "SELECT 1, 'a', 2.5e3 FROM t WHERE a = -7",
            "SELECT ?, ?, ? FROM t WHERE a = -?",
        ),
        (
            "SELECT E'a\\'b', U&'a', N'a', B'01', X'ff', 0xff",
            "SELECT ?, ?, N?, ?, ?, ?",
        ),
        ("SELECT $$a$$, $x$ $$ $x$", "SELECT ?, ?"),
        ("SELECT 'a'\n'b'", "SELECT ?"),
        ("SELECT $1, a::varchar(10)", "SELECT $1, a::varchar(?)"),
        (
            "SELECT \"a b\" -- comment\n, /* c /* d */ */ 1",
            "SELECT \"a b\" , ?",
        ),
        ("SELECT\n  a,\n\tb", "SELECT a, b"),
        (
            "CREATE USER bob PASSWORD 'x' VALID UNTIL 'y'",
            "CREATE USER bob PASSWORD ? VALID UNTIL ?",
        ),
        ("DO $$ DELETE $$", "DO ?"),
        (
            "COPY t FROM STDIN (DELIMITER 'x', NULL 'y')",
            "COPY t FROM STDIN (DELIMITER ?, NULL ?)",
        ),
        ("COMMENT ON TABLE t IS 'x'", "COMMENT ON TABLE t IS ?"),
        ("NOTIFY a, 'x'", "NOTIFY a, ?"),
        ("SET app.token = secret", "SET app.token = ?"),
        (
            "SET LOCAL app.token TO secret, \"more\", select",
            "SET LOCAL app.token TO ?, ?, ?",
        ),
        (
            "SET a = on; SELECT b FROM c WHERE d = e",
            "SET a = on; SELECT b FROM c WHERE d = e",
        ),
        (
            "ALTER ROLE bob SET app.token TO secret",
            "ALTER ROLE bob SET app.token TO ?",
        ),
        (
            "ALTER SYSTEM SET a = DEFAULT",
            "ALTER SYSTEM SET a = DEFAULT",
        ),
        ("UPDATE t SET a = b, c = 1", "UPDATE t SET a = b, c = ?"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION ? PUBLICATION p",
        ),
        ("SELECT '\u{e9}' FROM \u{e9}", "SELECT ? FROM \u{e9}"),
        ("EXECUTE p(1, 'x')", "EXECUTE p(?, ?)"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a TO secret AS 'x'",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a TO ? ? ?",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(redacted(text), expected, "{text}");
        assert!(redacted(text).len() <= text.len(), "{text}");
    }
}

//! Bodies say what they say to every server, or nothing.

use super::*;

fn document(text: &str) -> Option<(String, String)> {
    let read = graphql::read(text)?;
    let joined = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
    Some((joined(read.operations), joined(read.fields)))
}

#[test]
fn a_document_names_what_it_does() {
    let rows = [
        ("{ me { id } }", "query", "id me"),
        (
            "query Q($a: Int = 1) @d(x: 2) { a: b(c: {d: \"}\"}) { e } }",
            "query",
            "b e",
        ),
        (
            "mutation { pay(id: 1) { ok } } query { me }",
            "mutation query",
            "me ok pay",
        ),
        (
            "subscription S { on ... on T { x } ...F } fragment F on T { y @skip(if: true) }",
            "subscription",
            "on x y",
        ),
        (
            "# mutation { a }\n{ b(c: \"\"\"x\\\"\"\" }\"\"\") }",
            "query",
            "b",
        ),
        ("{ ... @include(if: true) { z } }", "query", "z"),
    ];
    for (text, operations, fields) in rows {
        let expected = Some((operations.to_owned(), fields.to_owned()));
        assert_eq!(document(text), expected, "{text}");
    }
    for text in [
        "",
        "{",
        "{ a",
        "fragment F on T { x }",
        "{ a } }",
        "{ \"x }",
        "type T { a: Int }",
        "{ a ; }",
    ] {
        assert_eq!(document(text), None, "{text}");
    }
}

#[test]
fn a_key_that_is_said_twice_is_not_read() {
    for body in [
        r#"{"method":"tools/list","method":"tools/call"}"#,
        r#"{"method":"tools/list","Method":"tools/call"}"#,
        r#"{"a":{"b":1,"B":2}}"#,
        "[1,2",
        "",
    ] {
        assert!(strict(body.as_bytes()).is_err(), "{body}");
    }
    assert!(strict(br#"{"a":{"b":1},"c":{"b":2}}"#).is_ok());
}

//! The sentences that agents read.

use super::*;

fn message_of(action: Action, resource: Resource, settings: &[&str]) -> String {
    let context = Context {
        settings: settings.iter().map(|name| (*name).to_owned()).collect(),
        ..Context::default()
    };
    message(&Access { action, resource }, &context, "crm", "app")
}

fn function(schema: &str, name: &str) -> Resource {
    Resource::Function {
        schema: schema.to_owned(),
        function: name.to_owned(),
    }
}

#[test]
fn a_refusal_reads_as_a_sentence() {
    let schema = || Resource::Schema {
        schema: "public".to_owned(),
    };
    let rows = [
        (
            Action::Ddl,
            schema(),
            &[][..],
            "data definition (CREATE, ALTER, DROP and the like) on schema public",
        ),
        (
            Action::Call,
            function("pg_catalog", "pg_read_file"),
            &[],
            "calling function pg_catalog.pg_read_file",
        ),
        (Action::Call, function("", "f"), &[], "calling function f"),
        (
            Action::Call,
            Resource::Database,
            &[],
            "calling functions on database app",
        ),
        (Action::Set, Resource::Database, &["role"], "SET role"),
        (
            Action::Set,
            Resource::Database,
            &["a", "b", "c", "d", "e", "f"],
            "SET a, b, c, d, e, …",
        ),
        (Action::Set, Resource::Database, &[], "SET on database app"),
        (Action::Show, Resource::Database, &["all"], "SHOW all"),
        (
            Action::Transaction,
            Resource::Database,
            &[],
            "transaction control",
        ),
        (
            Action::Connect,
            Resource::Target,
            &[],
            "connecting to target crm",
        ),
        (
            Action::Open,
            Resource::Database,
            &[],
            "opening database app of target crm",
        ),
    ];
    for (action, resource, settings, expected) in rows {
        let expected = format!("{expected} is not permitted");
        assert_eq!(message_of(action, resource, settings), expected);
    }
}

#[test]
fn a_name_cannot_make_a_refusal_look_like_something_else() {
    let hostile = "x\nERROR: \u{202e}ok\u{7}\u{200b}";
    assert_eq!(shown(hostile), "x?ERROR: ?ok??");
    let long = "é".repeat(200);
    assert_eq!(shown(&long).chars().count(), 129);
    assert_eq!(shown(&"é".repeat(128)).chars().count(), 128);
}

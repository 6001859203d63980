//! The proof can fail: with any one part of masking left out, the canary or the twins find something.
//!
//! Nothing in the product switches a part off. How texts are read, and what is believed of a database, is
//! given to the engine from outside; here both are given with a part missing.

use std::sync::Arc;

use interceptor::masking::Masked;
use interceptor::protocol::postgres::facts::{self, Facts, Names};
use interceptor::protocol::postgres::mask::Schema;
use interceptor::protocol::postgres::mask::schema::Table;
use interceptor::protocol::postgres::session::Read;
use interceptor::session::Reading;

use super::grammar::Script;
use super::hunt::{Hunt, Source};
use super::random::Random;
use super::twins::Twins;
use super::{mutate, schema};
use crate::loop_rig::{Parted, WHOLE};
use crate::server::Server;

/// So much is asked of the grammar, and again of the known ways, until something is found.
const ASKED: u64 = 3_000;

/// No text is another one.
fn as_written(text: &str, names: &Names) -> Facts {
    let mut facts = facts::read(text, names);
    facts.rewrite = None;
    facts
}

/// Nothing is known to touch what is masked, so that the server's words are passed on.
fn unnoticed(text: &str, names: &Names) -> Facts {
    let mut facts = facts::read(text, names);
    let masked: Arc<[Masked]> = Arc::default();
    facts.reading = Arc::new(Reading {
        masked,
        ..Reading::clone(&facts.reading)
    });
    facts
}

/// What is refused in one of these words is not.
fn permitting(text: &str, names: &Names, words: &[&str]) -> Facts {
    let mut facts = facts::read(text, names);
    let veto = facts.reading.veto.as_ref();
    if veto.is_some_and(|veto| words.iter().any(|word| veto.message.contains(word))) {
        facts.reading = Arc::new(Reading {
            veto: None,
            ..Reading::clone(&facts.reading)
        });
    }
    facts
}

fn any_function(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["()", "the column notation", "the operator"])
}

fn any_system_relation(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["reading pg_"])
}

fn any_write(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["cannot be written or asked about here"])
}

fn any_kind(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["a statement of this kind"])
}

fn any_deleted_key(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["which a masked column refers to"])
}

fn any_view(text: &str, names: &Names) -> Facts {
    permitting(text, names, &["depends on what is masked"])
}

/// What is believed, with every relation changed.
fn changed(schema: &Schema, change: fn(&mut Table)) -> Schema {
    let mut other = Schema::default();
    other.functions.clone_from(&schema.functions);
    other.operators.clone_from(&schema.operators);
    other.casts.clone_from(&schema.casts);
    other.casts_unasked = schema.casts_unasked;
    for table in schema.tables.values() {
        let mut table = table.clone();
        change(&mut table);
        other.add(table);
    }
    other
}

fn no_views(schema: &Schema) -> Schema {
    changed(schema, |table| {
        table.depends.clear();
        table.is_opaque = false;
    })
}

fn no_called_views(schema: &Schema) -> Schema {
    changed(schema, |table| table.is_opaque = false)
}

fn no_families(schema: &Schema) -> Schema {
    changed(schema, |table| table.parents.clear())
}

fn no_references(schema: &Schema) -> Schema {
    changed(schema, |table| table.references.clear())
}

fn no_generated(schema: &Schema) -> Schema {
    changed(schema, |table| table.generated.clear())
}

fn no_constraints(schema: &Schema) -> Schema {
    changed(schema, |table| {
        table.guarded.clear();
        table.ties.clear();
    })
}

fn no_triggers(schema: &Schema) -> Schema {
    changed(schema, |table| table.has_triggers = false)
}

fn no_split(schema: &Schema) -> Schema {
    changed(schema, |table| table.split.clear())
}

fn no_functions(schema: &Schema) -> Schema {
    let mut other = changed(schema, |_| {});
    other.functions.clear();
    other
}

fn no_operators(schema: &Schema) -> Schema {
    let mut other = changed(schema, |_| {});
    other.operators.clear();
    other
}

/// The same names under other numbers: what the server says of its rows means nothing then.
fn other_numbers(schema: &Schema) -> Schema {
    const BY: u32 = 1_000_000;
    changed(schema, |table| {
        table.oid += BY;
        table.parents.iter_mut().for_each(|oid| *oid += BY);
        table.depends.iter_mut().for_each(|(oid, _)| *oid += BY);
        table
            .references
            .iter_mut()
            .for_each(|(_, oid, _)| *oid += BY);
    })
}

fn reading(read: Read) -> Parted {
    Parted { read, ..WHOLE }
}

fn believing(believe: fn(&Schema) -> Schema) -> Parted {
    Parted {
        believe: Some(believe),
        ..WHOLE
    }
}

/// Parts without which something masked comes back.
fn shown() -> [(&'static str, Parted); 11] {
    [
        ("substitution at the source", reading(as_written)),
        ("words of the server withheld", reading(unnoticed)),
        ("the list of functions", reading(any_function)),
        ("system relations", reading(any_system_relation)),
        ("rules of writing", reading(any_write)),
        ("kinds of statement", reading(any_kind)),
        ("views", believing(no_views)),
        ("views that call", believing(no_called_views)),
        ("partitions and children", believing(no_families)),
        ("foreign keys", believing(no_references)),
        ("generated columns", believing(no_generated)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_part_of_masking_the_canary_finds_something() {
    let server = Server::shared();
    schema::make(&server, &[("canary_parts", 'a')]);
    let mut blind = Vec::new();
    for (part, parted) in shown() {
        let mut hunt = Hunt::new(&server, "canary_parts", parted).await;
        hunt.stops = true;
        let mut asked = hunt.statements(&Source::Grammar, 1, ASKED).await.statements;
        if hunt.found.is_empty() {
            let ways = Source::Ways(mutate::ways());
            asked += hunt.statements(&ways, 1, ASKED).await.statements;
        }
        match hunt.found.first() {
            Some(found) => println!("without {part}, at statement {asked}: {found}"),
            None => blind.push(part),
        }
    }
    assert!(blind.is_empty(), "not needed: {blind:?}");
}

/// Parts without which an answer about something masked comes back, each with the question.
fn told() -> [(&'static str, Parted, &'static str); 9] {
    [
        (
            "substitution at the source",
            reading(as_written),
            "SELECT id FROM person WHERE ascii(substr(ssn, 5)) < 82",
        ),
        (
            "rules of writing",
            reading(any_write),
            "BEGIN;;UPDATE person SET name = 'x' WHERE ascii(substr(ssn, 5)) < 82;;ROLLBACK",
        ),
        (
            "keys that are referred to",
            reading(any_deleted_key),
            "{letters}",
        ),
        ("views that ask", reading(any_view), "SELECT id FROM v_asks"),
        (
            "constraints",
            believing(no_constraints),
            "BEGIN;;UPDATE checks SET what = '{secret}' WHERE id = 1;;ROLLBACK",
        ),
        (
            "triggers",
            believing(no_triggers),
            "BEGIN;;INSERT INTO told VALUES (1, 'x');;ROLLBACK",
        ),
        (
            "partitions by a value",
            believing(no_split),
            "SELECT count(*) FROM split_low",
        ),
        (
            "functions of others",
            believing(no_functions),
            "SELECT abs('x'::text)",
        ),
        (
            "operators of others",
            believing(no_operators),
            "SELECT 1 === 2",
        ),
    ]
}

fn script(text: &str) -> Script {
    let secret = schema::cells('a')
        .into_iter()
        .find_map(|cell| match cell.value {
            schema::Value::Token(token) if cell.name == "checks.code of 1" => Some(token),
            _ => None,
        });
    let letters = ('A'..='Z')
        .map(|letter| format!("BEGIN;;DELETE FROM kinds WHERE kind = '{letter}';;ROLLBACK"));
    let text = text.replace("{letters}", &letters.collect::<Vec<_>>().join(";;"));
    let text = text.replace("{secret}", &secret.unwrap()[..9]);
    text.split(";;").map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_part_of_masking_the_twins_are_told_apart() {
    let server = Server::shared();
    let databases = Twins::make(&server, "twinparts");
    let mut wrong = Vec::new();
    let mut ways = Random::new(1);
    let mut whole = Twins::new(&server, databases.clone(), WHOLE).await;
    for (part, parted, text) in told() {
        let script = script(text);
        if !whole.differ_directly(server.address(), &script).await {
            wrong.push(format!("{part}: {text} tells nothing directly"));
        }
        whole
            .scripts(std::slice::from_ref(&script), &mut ways)
            .await;
        let mut twins = Twins::new(&server, databases.clone(), parted).await;
        twins.scripts(&[script], &mut ways).await;
        if twins.found.is_empty() {
            wrong.push(format!("{part} is not needed for {text}"));
        }
    }
    assert!(whole.found.is_empty(), "{:#?}", whole.found);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Columns as they are: what only the second look sees when the first one fails.
const PLAIN: [&str; 6] = [
    "SELECT ssn FROM person",
    "SELECT * FROM orders",
    "SELECT x.memo AS y FROM orders AS x",
    "SELECT payload FROM event_mid_b",
    "SELECT * FROM (SELECT doc FROM person) AS z",
    "SELECT person FROM person",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_second_look_stops_what_the_first_lets_through_and_nothing_else_does() {
    let server = Server::shared();
    schema::make(&server, &[("canary_second", 'a')]);
    for text in PLAIN {
        let source = Source::Plain(vec![vec![text.to_owned()]]);
        let mut hunt = Hunt::new(&server, "canary_second", reading(as_written)).await;
        hunt.statements(&source, 1, 8).await;
        let stopped = hunt.found.iter().all(|found| found.contains("Unmasked"));
        assert!(stopped && hunt.found.len() == 8, "{text}: {:?}", hunt.found);
        let both = Parted {
            read: as_written,
            believe: Some(other_numbers),
        };
        let mut hunt = Hunt::new(&server, "canary_second", both).await;
        hunt.stops = true;
        hunt.statements(&source, 1, 8).await;
        let leaks = hunt.found.iter().any(|found| !found.contains("Unmasked"));
        assert!(leaks, "{text}: {:?}", hunt.found);
    }
}

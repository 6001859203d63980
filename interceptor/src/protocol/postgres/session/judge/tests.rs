//! A text is read once for each scope, and what is remembered of texts is bounded.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::super::wire::backend::Status;
use super::super::entry::Source;
use super::*;
use crate::policy::Access;

static READS: AtomicUsize = AtomicUsize::new(0);

/// Counted for one test alone: others run at the same time.
fn counted(text: &str, names: &Names) -> Facts {
    READS.fetch_add(1, Ordering::SeqCst);
    readable(text, names)
}

fn readable(text: &str, names: &Names) -> Facts {
    let mut facts = facts::made_up(Action::Select, text, names.in_transaction);
    facts.readable = true;
    facts
}

fn scope(schema: &str, status: Status) -> Scope {
    Scope::new(Some(Arc::new(vec![schema.to_owned()])), status, true)
}

#[tokio::test]
async fn a_text_is_read_once_for_each_scope() {
    let mut judge = Judge::new(counted, Names::default(), None);
    let text: Arc<str> = "select".into();
    let rows = [
        (scope("a", Status::Idle), 1),
        (scope("a", Status::Idle), 0),
        (scope("a", Status::Open), 1),
        (scope("a", Status::Failed), 0),
        (scope("a", Status::Idle), 0),
        (scope("b", Status::Idle), 1),
        // Only what was read under the last path is remembered.
        (scope("a", Status::Idle), 1),
    ];
    for (number, (scope, expected)) in rows.iter().enumerate() {
        let before = READS.load(Ordering::SeqCst);
        if judge.recall(&text, scope).is_none() {
            let statement = judge.read(&text, scope, None).await;
            assert_eq!(statement.in_transaction, scope.in_transaction());
        }
        assert_eq!(READS.load(Ordering::SeqCst) - before, *expected, "{number}");
    }
    let prepared = Some(HashMap::new());
    let other: Arc<str> = "execute s".into();
    judge.read(&other, &rows[0].0, prepared).await;
    assert!(judge.recall(&other, &rows[0].0).is_none());
}

#[tokio::test]
async fn a_text_of_a_known_shape_is_not_read_again_unless_its_values_matter() {
    let mut judge = Judge::new(facts::read, Names::default(), None);
    let here = scope("a", Status::Idle);
    let rows = [
        ("select * from t where a = 1", None),
        (
            "select * from t where a = 22",
            Some("select * from t where a = 22"),
        ),
        ("select * from t where a = '1'", None),
        (
            "select * from t where a = ''",
            Some("select * from t where a = ''"),
        ),
        ("select * from t where b = 1", None),
        ("select set_config('jit', 'on', false)", None),
        ("select set_config('role', 'on', false)", None),
        ("set jit = 'on'", None),
        ("set jit = 'off'", None),
        ("select 1 /* a */", None),
        ("select 2 /* a */", None),
    ];
    for (text, expected) in rows {
        let text: Arc<str> = text.into();
        let known = judge.recall(&text, &here);
        assert_eq!(known.as_ref().map(|known| &*known.text), expected, "{text}");
        if known.is_none() {
            judge.read(&text, &here, None).await;
        }
        assert_eq!(judge.recall(&text, &here).expect("remembered").text, text);
    }
}

#[test]
fn the_memory_is_bounded() {
    let mut memory = Memory::new();
    let statement = unread(&"x".into(), &scope("a", Status::Idle), None);
    for number in 0..10_000 {
        memory.keep(
            format!("{number} {}", "x".repeat(1_000)).into(),
            Arc::clone(&statement),
        );
        assert!(memory.weight <= CACHE_MAX);
    }
    assert!(memory.texts.len() > 50);
    memory.forget();
    assert!(memory.texts.is_empty());
}

#[test]
fn the_word_execute_is_found_wherever_it_stands() {
    for (text, expected) in [
        ("execute s", true),
        ("EXPLAIN EXECUTE s", true),
        ("create table t as eXeCuTe s", true),
        ("select executed_at", true),
        ("exec s", false),
        ("", false),
    ] {
        assert_eq!(may_execute(text), expected, "{text}");
    }
}

#[test]
fn what_was_prepared_in_another_text_stands_only_under_its_path() {
    let here = scope("a", Status::Idle);
    let mut statement = Statement::new(
        "prepare".into(),
        &readable("t", &Names::default()),
        &here,
        None,
    );
    statement.source = Source::Prepared;
    statement.under = Some(here.path().clone());
    let statement = Arc::new(statement);
    let same = rejudged(&statement, &scope("a", Status::Open), None);
    assert_eq!(same.source, Source::Prepared);
    assert!(same.reading.asks[0].context.in_transaction);
    let other = rejudged(&statement, &scope("b", Status::Idle), None);
    assert_eq!(other.source, Source::Unread);
    assert_eq!(
        other.reading.asks[0].accesses.first().unwrap().action,
        Action::Unreadable
    );
}

#[tokio::test]
async fn what_a_text_asks_for_counts_as_what_is_remembered_of_it() {
    let mut judge = Judge::new(facts::read, Names::default(), None);
    let here = scope("a", Status::Idle);
    let relations: Vec<_> = (0..1_000).map(|number| format!("t{number}")).collect();
    let text: Arc<str> = format!("select from {}", relations.join(", ")).into();
    let statement = judge.read(&text, &here, None).await;
    let access = size_of::<Access>();
    let asks = &statement.reading.asks;
    assert_eq!(
        asks.iter().map(|ask| ask.accesses.len()).sum::<usize>(),
        1_000
    );
    assert!(
        statement.weight() > 1_000 * access,
        "{}",
        statement.weight()
    );
    assert!(judge.outside.weight >= statement.weight());
}

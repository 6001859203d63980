//! What a session knows of its path and its transaction, between what is told and what the server says.

use super::*;

fn path(schema: &str) -> Path {
    Some(Arc::new(vec![schema.to_owned()]))
}

fn sets(schema: &str, local: bool) -> Effect {
    Effect::SetsSearchPath {
        to: Some(vec![schema.to_owned()]),
        local,
    }
}

fn resets(local: bool) -> Effect {
    Effect::ResetsSearchPath { local }
}

const BEGIN: Effect = Effect::Begin;
const COMMIT: Effect = Effect::Commit { chain: false };
const ROLLBACK: Effect = Effect::Rollback { chain: false };

fn after(effects: &[(Effect, Option<&str>)]) -> Scope {
    let mut scope = Scope::new(path("public"), Status::Idle, true);
    for (effect, tag) in effects {
        scope.apply(effect, *tag, &path("public"));
    }
    scope
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn the_end_of_a_block_keeps_or_restores_the_path() {
    let rows = [
        (
            vec![
                (BEGIN, None),
                (sets("x", false), None),
                (COMMIT, Some("COMMIT")),
            ],
            path("x"),
        ),
        (
            vec![
                (BEGIN, None),
                (sets("x", true), None),
                (COMMIT, Some("COMMIT")),
            ],
            path("public"),
        ),
        (
            vec![
                (BEGIN, None),
                (sets("x", false), None),
                (ROLLBACK, Some("ROLLBACK")),
            ],
            path("public"),
        ),
        // A failed block.
        (
            vec![
                (BEGIN, None),
                (sets("x", false), None),
                (COMMIT, Some("ROLLBACK")),
            ],
            path("public"),
        ),
        // Nobody says which.
        (
            vec![(BEGIN, None), (sets("x", false), None), (COMMIT, None)],
            None,
        ),
        (
            vec![(sets("x", true), None), (COMMIT, Some("COMMIT"))],
            None,
        ),
        // Since a savepoint, or before it.
        (
            vec![
                (BEGIN, None),
                (sets("x", false), None),
                (Effect::RollbackTo("s".to_owned()), None),
            ],
            None,
        ),
        (
            vec![(BEGIN, None), (Effect::RollbackTo("s".to_owned()), None)],
            path("public"),
        ),
        (
            vec![(sets("x", false), None), (Effect::DiscardsAll, None)],
            path("public"),
        ),
        (
            vec![(sets("x", false), None), (Effect::ResetsAll, None)],
            path("public"),
        ),
        (
            vec![(sets("x", false), None), (resets(false), None)],
            path("public"),
        ),
        // Until the end of the block only.
        (
            vec![
                (sets("x", false), None),
                (BEGIN, None),
                (resets(true), None),
                (COMMIT, Some("COMMIT")),
            ],
            path("x"),
        ),
    ];
    for (effects, expected) in rows {
        assert_eq!(*after(&effects).path(), expected, "{effects:?}");
    }
}

#[test]
fn what_is_not_told_leaves_the_path_unknown() {
    let unknown = Effect::SetsSearchPath {
        to: None,
        local: false,
    };
    for effect in [Effect::Unknown, unknown] {
        assert_eq!(*after(&[(effect, None)]).path(), None);
    }
}

#[test]
fn an_implicit_transaction_ends_with_ready_for_query() {
    for (local, failed, expected) in [
        (false, false, path("x")),
        (false, true, path("public")),
        (true, false, path("public")),
    ] {
        let mut scope = after(&[(sets("x", local), None)]);
        assert_eq!(*scope.path(), path("x"));
        scope.ready(Status::Idle, failed, true);
        assert_eq!(*scope.path(), expected);
        assert!(scope.certain());
    }
}

#[test]
fn text_is_unreadable_from_the_change_to_the_next_word_of_the_server() {
    for effect in [
        Effect::SetsEncoding,
        Effect::SetsConformingStrings,
        Effect::ResetsAll,
        Effect::DiscardsAll,
        Effect::Unknown,
    ] {
        let mut scope = after(&[(effect.clone(), None)]);
        assert!(!scope.readable(), "{effect:?}");
        scope.ready(Status::Idle, false, true);
        assert!(scope.readable());
    }
}

#[test]
fn the_word_of_the_server_stands() {
    let start = path("start");
    let rows: &[(&str, Path)] = &[
        ("x", path("x")),
        ("raw at first", path("start")),
        ("\"$user\", public", None),
        ("\"", None),
    ];
    for (raw, expected) in rows {
        let mut scope = after(&[(sets("y", false), None)]);
        scope.ready(Status::Idle, false, true);
        scope.reported(raw.as_bytes(), (b"raw at first", &start));
        assert_eq!(scope.path(), expected, "{raw}");
        assert!(scope.certain());
    }
    let mut scope = after(&[(BEGIN, None)]);
    scope.reported(b"x", (b"raw at first", &start));
    assert_eq!(*scope.path(), path("x"));
    scope.apply(&ROLLBACK, Some("ROLLBACK"), &start);
    assert_eq!(*scope.path(), None);
}

#[test]
fn a_reported_path_is_read_as_the_server_writes_it() {
    let rows: &[(&str, Option<&[&str]>)] = &[
        ("", Some(&[])),
        ("a", Some(&["a"])),
        ("a, b", Some(&["a", "b"])),
        ("A,\"B\"", Some(&["a", "B"])),
        ("\"a, b\"", Some(&["a, b"])),
        ("\"a\"\"b\"", Some(&["a\"b"])),
        ("\"\"", Some(&[])),
        ("\"$user\", a", None),
        ("a b", None),
        ("a,", None),
        (",a", None),
        ("\"a", None),
        ("\"a\"b", None),
    ];
    for (raw, expected) in rows {
        let names = listed(raw);
        let names = names
            .as_ref()
            .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(names.as_deref(), *expected, "{raw}");
    }
}

#[test]
fn leaving_a_block_may_bring_back_an_encoding_in_which_text_cannot_be_read() {
    let set = Effect::SetsEncoding;
    for leave in [COMMIT, ROLLBACK, Effect::RollbackTo("s".to_owned())] {
        // Set to another one before the block, back to UTF-8 in it: the server says so.
        let mut scope = after(&[(set.clone(), None)]);
        scope.ready(Status::Idle, false, false);
        scope.apply(&BEGIN, None, &path("public"));
        scope.apply(&set, None, &path("public"));
        scope.ready(Status::Open, false, true);
        assert!(scope.readable());
        scope.apply(&leave, None, &path("public"));
        assert!(!scope.readable(), "{leave:?}");
        scope.ready(Status::Idle, false, true);
        assert!(scope.readable());
        scope.apply(&leave, None, &path("public"));
        assert!(scope.readable(), "{leave:?}");
    }
}

//! What a text changes about the session that reads the next one.

use super::*;

fn path(to: Option<&[&str]>, local: bool) -> Effect {
    let to = to.map(|to| to.iter().map(|&schema| schema.to_owned()).collect());
    Effect::SetsSearchPath { to, local }
}

fn check(rows: &[(&str, Vec<Effect>)]) {
    for (text, expected) in rows {
        assert_eq!(read(text, &names()).effects, *expected, "{text}");
    }
}

#[test]
fn what_changes_the_session_is_told_in_order() {
    let name = || "p".to_owned();
    check(&[
        ("BEGIN", vec![Effect::Begin]),
        ("COMMIT AND CHAIN", vec![Effect::Commit { chain: true }]),
        ("END", vec![Effect::Commit { chain: false }]),
        ("ABORT", vec![Effect::Rollback { chain: false }]),
        ("SAVEPOINT p", vec![Effect::Savepoint(name())]),
        ("RELEASE p", vec![Effect::Release(name())]),
        ("ROLLBACK TO p", vec![Effect::RollbackTo(name())]),
        (
            "PREPARE TRANSACTION 'x'",
            vec![Effect::Rollback { chain: false }],
        ),
        ("DEALLOCATE p", vec![Effect::Deallocates(Some(name()))]),
        ("DEALLOCATE ALL", vec![Effect::Deallocates(None)]),
        (
            "DECLARE p CURSOR FOR SELECT 1",
            vec![Effect::DeclaresCursor {
                name: name(),
                holds: false,
            }],
        ),
        (
            "DECLARE p BINARY SCROLL CURSOR WITH HOLD FOR SELECT 1",
            vec![Effect::DeclaresCursor {
                name: name(),
                holds: true,
            }],
        ),
        ("EXPLAIN DECLARE p CURSOR FOR SELECT 1", vec![]),
        ("CLOSE p", vec![Effect::ClosesCursor(Some(name()))]),
        ("CLOSE ALL", vec![Effect::ClosesCursor(None)]),
        ("COPY t FROM STDIN", vec![Effect::CopyIn]),
        ("COPY t TO STDOUT", vec![Effect::CopyOut]),
        (
            "COPY t TO STDOUT (FORMAT csv, HEADER)",
            vec![Effect::CopyOut, Effect::CopyHeader],
        ),
        (
            "COPY t TO STDOUT CSV HEADER",
            vec![Effect::CopyOut, Effect::CopyHeader],
        ),
        (
            "COPY t TO STDOUT (HEADER 'on')",
            vec![Effect::CopyOut, Effect::CopyHeader],
        ),
        ("COPY t TO STDOUT (HEADER false)", vec![Effect::CopyOut]),
        ("COPY t FROM STDIN (HEADER)", vec![Effect::CopyIn]),
        ("FETCH 2 FROM p", vec![Effect::Fetches(name())]),
        ("FETCH ALL IN p", vec![Effect::Fetches(name())]),
        ("MOVE 2 FROM p", vec![]),
        ("COPY t TO '/x'", vec![]),
        ("DO 'x'", vec![Effect::Unknown]),
        ("nonsense", vec![Effect::Unknown]),
        (
            "BEGIN; COPY t TO STDOUT; COMMIT",
            vec![
                Effect::Begin,
                Effect::CopyOut,
                Effect::Commit { chain: false },
            ],
        ),
    ]);
}

#[test]
fn settings_that_text_is_read_under_are_told() {
    check(&[
        (
            "SET search_path = a, \"B\"",
            vec![path(Some(&["a", "B"]), false)],
        ),
        ("SET \"Search_Path\" = a", vec![path(Some(&["a"]), false)]),
        ("SET LOCAL search_path TO a", vec![path(Some(&["a"]), true)]),
        ("SET SCHEMA 'a'", vec![path(Some(&["a"]), false)]),
        ("SET search_path = ''", vec![path(Some(&[]), false)]),
        ("SET search_path = \"$user\", a", vec![path(None, false)]),
        (
            "SET LOCAL search_path TO DEFAULT",
            vec![Effect::ResetsSearchPath { local: true }],
        ),
        (
            "RESET \"Search_Path\"",
            vec![Effect::ResetsSearchPath { local: false }],
        ),
        (
            "SELECT set_config('search_path', 'a', true)",
            vec![path(None, false)],
        ),
        ("SET ROLE bob", vec![path(None, false)]),
        ("SET SESSION AUTHORIZATION bob", vec![path(None, false)]),
        ("SET NAMES 'x'", vec![Effect::SetsEncoding]),
        ("SET client_encoding = 'x'", vec![Effect::SetsEncoding]),
        (
            "SET standard_conforming_strings = off",
            vec![Effect::SetsConformingStrings],
        ),
        ("SET NAMES 'utf8'", vec![]),
        ("SET standard_conforming_strings = on", vec![]),
        ("RESET client_encoding", vec![Effect::SetsEncoding]),
        ("RESET ALL", vec![Effect::ResetsAll]),
        ("DISCARD ALL", vec![Effect::DiscardsAll]),
        ("DISCARD PLANS", vec![]),
        ("SET work_mem = 1", vec![]),
        (
            "EXPLAIN ANALYZE SELECT set_config('search_path', 'a', false)",
            vec![path(None, false)],
        ),
        ("ALTER SYSTEM SET search_path = a", vec![]),
        ("ALTER ROLE bob SET search_path = a", vec![]),
    ]);
}

fn prepared(text: &str, names: &Names) -> Prepared {
    let mut effects = read(text, names).effects;
    let Effect::Prepares { prepared, .. } = effects.remove(0) else {
        panic!("{text} prepares nothing");
    };
    prepared
}

#[test]
fn execute_asks_for_what_was_prepared() {
    let mut names = names();
    let body = "SELECT lower(a) FROM t LIMIT 1";
    let known = prepared(&format!("PREPARE p AS {body}"), &names);
    assert_eq!(shown(&known.ask), "Select public.t, limit, function lower");
    assert_eq!(known.search_path, names.search_path);
    names.prepared.insert("p".into(), known);
    let facts = read("EXECUTE p", &names);
    assert_eq!(
        shown(&facts.reading.asks[0]),
        "Select public.t, limit, function lower"
    );
    assert_eq!(facts.effects, [Effect::Executes { name: "p".into() }]);
    names.search_path = Some(vec!["other".into()]);
    assert_eq!(asks("EXECUTE p", &names), ["Unreadable database"]);
    names.search_path = None;
    assert_eq!(asks("EXECUTE p", &names), ["Unreadable database"]);
    assert_eq!(asks("EXECUTE \"P\"", &names), ["Unreadable database"]);
}

#[test]
fn what_a_prepared_body_changes_happens_when_it_is_executed() {
    let mut names = names();
    let text = "PREPARE p AS SELECT pg_catalog.set_config('search_path', 'x', false)";
    assert!(matches!(
        read(text, &names).effects.as_slice(),
        [Effect::Prepares { .. }]
    ));
    names.prepared.insert("p".into(), prepared(text, &names));
    let executed = Effect::Executes { name: "p".into() };
    assert_eq!(
        read("EXECUTE p", &names).effects,
        [executed, path(None, false)]
    );
    assert_eq!(asks("EXECUTE p; TABLE t", &names), ["Unreadable database"]);
}

#[test]
fn a_name_that_is_taken_keeps_its_first_meaning() {
    let mut names = names();
    let known = prepared("PREPARE p AS DELETE FROM secret WHERE true", &names);
    names.prepared.insert("p".into(), known);
    let asks = asks("PREPARE p AS SELECT 1; EXECUTE p", &names);
    assert_eq!(
        asks,
        [
            "Select database",
            "Select public.secret, Delete public.secret"
        ]
    );
}

#[test]
fn leaving_a_block_may_bring_back_another_path() {
    let mut names = names();
    for text in [
        "ROLLBACK; TABLE t",
        "COMMIT; TABLE t",
        "ROLLBACK TO a; TABLE t",
    ] {
        names.in_transaction = true;
        assert!(!read(text, &names).readable, "{text}");
        names.in_transaction = false;
        assert_eq!(asks(text, &names)[1], "Select public.t", "{text}");
    }
}

#[test]
fn an_ask_tells_whether_it_depends_on_the_path() {
    let rows = [
        ("TABLE t", true),
        ("TABLE public.t", false),
        ("SELECT now()", true),
        ("SELECT pg_catalog.now()", false),
        ("TABLE pg_class", true),
        ("SELECT 1", false),
        ("SET a = 1", false),
        ("DROP TYPE x", true),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text, &names()).uses_search_path, expected, "{text}");
    }
}

#[test]
fn discarding_all_asks_for_the_role_where_the_server_would_change_it() {
    let mut names = names();
    for (keeps, expected) in [
        (
            false,
            "Set database, setting all, setting session_authorization",
        ),
        (true, "Set database, setting all"),
    ] {
        names.discard_keeps_role = keeps;
        assert_eq!(asks("DISCARD ALL", &names), [expected]);
    }
}

#[test]
fn a_login_whose_path_is_not_known_is_reset_to_what_is_not_known() {
    let mut names = names();
    names.login_path = None;
    for text in [
        "RESET ALL; TABLE t",
        "RESET search_path; TABLE t",
        "DISCARD ALL; TABLE t",
    ] {
        assert!(!read(text, &names).readable, "{text}");
    }
}

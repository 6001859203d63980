//! What each statement asks for, as a table of cases; what the walks owe each other.

use super::*;

mod clients;
mod cross;
mod effects;
mod limits;
mod nesting;

pub(super) fn names() -> Names {
    Names {
        search_path: Some(vec!["public".into()]),
        login_path: Some(vec!["login".into()]),
        catalog: Arc::new(
            ["pg_class", "pg_type", "pg_settings"]
                .map(String::from)
                .into(),
        ),
        functions: Arc::new(["wipe"].map(String::from).into()),
        prepared: HashMap::new(),
        in_transaction: false,
        utf8: true,
        discard_keeps_role: false,
        masking: None,
    }
}

fn resource(resource: &Resource) -> String {
    match resource {
        Resource::Target => "target".into(),
        Resource::Database => "database".into(),
        Resource::Schema { schema } => format!("{schema}.*"),
        Resource::Table { schema, table } => format!("{schema}.{table}"),
        Resource::Column {
            schema,
            table,
            column,
        } => format!("{schema}.{table}.{column}"),
        Resource::Function { schema, function } => format!("{schema}.{function}()"),
        Resource::Path { path } => path.clone(),
        Resource::File { .. }
        | Resource::Forward { .. }
        | Resource::KubeNamespace { .. }
        | Resource::KubeObject { .. } => "not of SQL".into(),
    }
}

/// An ask as `cases.txt` writes it.
fn shown(ask: &Ask) -> String {
    let access = |access: &Access| format!("{:?} {}", access.action, resource(&access.resource));
    let mut parts: Vec<String> = ask.accesses.iter().map(access).collect();
    let context = &ask.context;
    let is_read = !ask
        .accesses
        .iter()
        .any(|access| access.action == Action::Unreadable);
    let flags = [
        ("no where", is_read && !context.has_where),
        ("limit", context.has_limit),
        ("in transaction", context.in_transaction),
    ];
    parts.extend(
        flags
            .into_iter()
            .filter(|flag| flag.1)
            .map(|flag| flag.0.to_owned()),
    );
    parts.extend(
        context
            .settings
            .iter()
            .map(|name| format!("setting {name}")),
    );
    parts.extend(
        context
            .functions
            .iter()
            .map(|name| format!("function {name}")),
    );
    parts.join(", ")
}

fn asks(text: &str, names: &Names) -> Vec<String> {
    read(text, names).reading.asks.iter().map(shown).collect()
}

/// The rows of `cases.txt`: a text and its asks.
pub(super) fn cases() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    let lines = include_str!("tests/cases.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(ask) => cases
                .last_mut()
                .expect("an ask below a statement")
                .1
                .push(ask),
            None => cases.push((line, Vec::new())),
        }
    }
    cases
}

#[test]
fn each_statement_asks_for_what_the_table_says() {
    let cases = cases();
    assert!(cases.len() > 250, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(text, expected)| {
            let got = asks(text, &names());
            (got != expected).then(|| format!("{text}\n  expected {expected:#?}\n  got {got:#?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_one_write_that_is_all_there_is_tells_how_many_rows_it_touches() {
    for (text, tells) in [
        ("insert into t values (1)", true),
        ("insert into t select * from u", true),
        (
            "insert into t values (1) on conflict (a) do update set b = 2 returning a",
            true,
        ),
        ("update t set a = 1 where b = 2", true),
        (
            "with u as (select 1) delete from t using u returning *",
            true,
        ),
        (
            "merge into t using u on t.a = u.a when matched then delete",
            true,
        ),
        ("copy t from stdin", true),
        ("copy t to stdout", false),
        ("copy (delete from t returning *) to stdout", false),
        ("with d as (delete from t returning *) select 1", false),
        ("with d as (delete from t) delete from t where false", false),
        ("explain analyze delete from t", false),
        ("prepare p as delete from t", false),
        ("create table u as select * from t", false),
        ("select * into u from t", false),
        ("truncate t", false),
        ("select 1", false),
        ("delete from t; delete from t where false", false),
        ("begin; delete from t", false),
        ("", false),
    ] {
        let facts = read(text, &names());
        let told: Vec<_> = facts
            .reading
            .asks
            .iter()
            .map(|ask| ask.context.tells_rows)
            .collect();
        assert_eq!(told.contains(&true), tells, "{text}");
    }
    let mut names = names();
    let Some(Effect::Prepares { name, prepared }) =
        read("prepare p as delete from t", &names).effects.pop()
    else {
        panic!("nothing was prepared");
    };
    names.prepared.insert(name, prepared);
    let facts = read("execute p", &names);
    assert!(facts.readable && !facts.reading.asks[0].context.tells_rows);
}

#[test]
fn every_ask_asks_for_something_and_counts_the_statements() {
    for (text, _) in cases() {
        let facts = read(text, &names());
        for ask in &facts.reading.asks {
            assert!(!ask.accesses.is_empty(), "{text}");
            assert_eq!(
                usize::try_from(ask.context.statements),
                Ok(facts.statements),
                "{text}"
            );
        }
        let is_unreadable = facts.reading.asks.iter().any(|ask| {
            ask.accesses
                .iter()
                .any(|access| access.action == Action::Unreadable)
        });
        assert_eq!(is_unreadable, !facts.readable, "{text}");
    }
}

#[test]
fn names_are_looked_up_in_every_schema_of_the_path() {
    let mut names = names();
    let rows: [(Option<&[&str]>, &str, &str); 8] = [
        (Some(&["a", "b"]), "TABLE t", "Select a.t, Select b.t"),
        (
            Some(&["a", "b"]),
            "SELECT f()",
            "Select database, Call a.f(), Call b.f(), function f",
        ),
        (
            Some(&["a", "pg_catalog", "b"]),
            "TABLE pg_class",
            "Select a.pg_class, Select pg_catalog.pg_class",
        ),
        (
            Some(&["pg_catalog", "a"]),
            "SELECT now()",
            "Select database, function now",
        ),
        (Some(&[]), "TABLE t", "Select pg_temp.t"),
        (None, "TABLE t", "Unreadable database"),
        (None, "SELECT now()", "Unreadable database"),
        (
            None,
            "SELECT pg_catalog.now() FROM a.t",
            "Select a.t, function pg_catalog.now",
        ),
    ];
    for (path, text, expected) in rows {
        names.search_path = path.map(|path| path.iter().map(|&schema| schema.to_owned()).collect());
        assert_eq!(asks(text, &names), [expected], "{path:?} {text}");
    }
}

#[test]
fn a_walk_that_misses_anything_makes_the_text_unreadable() {
    type Break = fn(&mut Evidence);
    let breaks: [(&str, Break); 9] = [
        ("TABLE t", |seen| drop(seen.relations.pop())),
        ("TABLE t", |seen| {
            seen.relations[0].role = evidence::Role::Cte
        }),
        ("TABLE t", |seen| seen.statements += 1),
        ("SELECT f()", |seen| seen.functions.clear()),
        ("SELECT (1).f", |seen| seen.fields.clear()),
        ("SET a = 1", |seen| seen.settings.clear()),
        ("DELETE FROM t", |seen| seen.unbounded = 0),
        ("COPY t TO '/x'", |seen| seen.server_files = 0),
        ("WITH x AS (DELETE FROM t RETURNING a) TABLE x", |seen| {
            seen.kinds.remove("DeleteStmt");
        }),
    ];
    for (text, broken) in breaks {
        let parsed = parse(text).unwrap().0;
        let (_, mut typed) = typed::walk(&parsed);
        let mut other = generic::walk(&parsed).unwrap();
        assert!(typed.agrees(&mut other), "{text}");
        broken(&mut other);
        assert!(!typed.agrees(&mut other), "{text}");
    }
    let rows: [fn(&ParseResult) -> Option<Evidence>; 2] = [
        |_| None,
        |parsed| {
            let mut seen = generic::walk(parsed)?;
            seen.relations.clear();
            Some(seen)
        },
    ];
    for second in rows {
        let facts = read_with("TABLE t", &names(), second);
        assert!(!facts.readable);
        assert_eq!(facts.effects, [Effect::Unknown]);
        assert_eq!(
            facts.reading.asks.iter().map(shown).collect::<Vec<_>>(),
            ["Unreadable database"]
        );
    }
}

#[test]
fn a_summary_names_the_statements_and_stays_short() {
    let long = "SELECT 1;".repeat(50);
    let rows = [
        ("select 1", "SELECT"),
        ("SELECT 1; DELETE FROM t", "SELECT; DELETE"),
        ("EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN"),
        ("RESET ALL; SET a = 1", "RESET; SET"),
        ("ANALYZE t", "ANALYZE"),
        ("REVOKE a FROM b", "REVOKE"),
        ("", ""),
        ("nonsense", "unreadable"),
    ];
    for (text, expected) in rows {
        assert_eq!(&*read(text, &names()).reading.summary, expected, "{text}");
    }
    let summary = Arc::clone(&read(&long, &names()).reading.summary);
    assert!(
        summary.len() <= MAX_SUMMARY && summary.ends_with("; ..."),
        "{summary}"
    );
}

#[test]
fn every_statement_of_the_table_has_a_summary() {
    for (text, _) in cases() {
        let facts = read(text, &names());
        let words = facts
            .reading
            .summary
            .split("; ")
            .filter(|word| !word.is_empty())
            .count();
        assert!(
            words >= facts.statements.min(1),
            "{text}: {}",
            facts.reading.summary
        );
    }
}

#[test]
fn a_fingerprint_ignores_literals_and_tells_relations_apart() {
    let fingerprint = |text| Arc::clone(&read(text, &names()).reading.fingerprint);
    assert_eq!(
        fingerprint("SELECT * FROM t WHERE a = 1"),
        fingerprint("select * from t where a = 2")
    );
    assert_ne!(fingerprint("TABLE a.t"), fingerprint("TABLE b.t"));
    assert_ne!(fingerprint("TABLE t_01"), fingerprint("TABLE t_02"));
    assert_ne!(
        fingerprint("SELECT x.a FROM t x"),
        fingerprint("SELECT x.a FROM u x")
    );
    let unread = fingerprint("SELEC 'secret'");
    assert!(
        unread.starts_with("unreadable:") && unread.len() == "unreadable:".len() + 16,
        "{unread}"
    );
    assert_ne!(unread, fingerprint("SELEC 'other'"));
}

#[test]
fn a_database_that_is_not_utf8_has_only_ascii_names() {
    let mut names = names();
    for text in ["TABLE \u{e9}t\u{e9}", "SELECT \u{c9}", "TABLE U&\"t\""] {
        names.utf8 = true;
        assert!(read(text, &names).readable, "{text}");
        names.utf8 = false;
        assert!(!read(text, &names).readable, "{text}");
    }
    assert!(read("SELECT '\u{e9}' FROM t -- \u{e9}", &names).readable);
}

#[test]
fn a_long_name_is_cut_as_the_server_cuts_it() {
    let long = "a".repeat(70);
    let cut = "a".repeat(63);
    let wide = format!("{}\u{e9}", "a".repeat(62));
    assert_eq!(
        asks(&format!("TABLE {long}"), &names()),
        [format!("Select public.{cut}")]
    );
    assert_eq!(
        asks(&format!("TABLE \"{long}\""), &names()),
        [format!("Select public.{cut}")]
    );
    assert_eq!(
        asks(&format!("TABLE {wide}"), &names()),
        [format!("Select public.{}", "a".repeat(62))]
    );
}

//! What a statement is looked at for, and what is never run for it.

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::protocol::postgres::mask::Schema;
use crate::protocol::postgres::mask::schema::{Table, Tie, TiedBy};

fn asked(text: &str) -> Asked {
    Asked {
        text: text.into(),
        sent: text.into(),
        path: Some(Arc::new(vec!["public".to_owned()])),
        types: Arc::default(),
        bound: None,
    }
}

/// What is counted between the words that every count has.
fn counted(text: &str) -> String {
    match questions(&asked(text)) {
        Ok(Questions {
            count: Count::Ask(text),
            ..
        }) => {
            let front = "SELECT pg_catalog.count(*)::pg_catalog.text FROM (SELECT FROM ";
            let inner = text.strip_prefix(front).unwrap();
            let inner = inner.strip_suffix(" LIMIT 10001) AS c").unwrap();
            inner.replace('\n', " ")
        }
        Ok(Questions {
            count: Count::Known(rows),
            ..
        }) => rows.to_string(),
        Ok(Questions {
            count: Count::Not(why),
            ..
        }) => format!("not: {why}"),
        Err(why) => format!("nothing: {why}"),
    }
}

#[test]
fn what_is_counted_is_the_statements_own_condition() {
    let rows = [
        (
            "delete from orders where id = 1 or true",
            r#""orders" WHERE ( id = 1 or true )"#,
        ),
        (
            "DELETE FROM ONLY public.orders AS o WHERE o.id IN (SELECT 1 WHERE true) RETURNING *;",
            r#"ONLY "public"."orders" AS "o" WHERE ( o.id IN (SELECT 1 WHERE true) )"#,
        ),
        (
            "update t set a = t.where, b = (x).returning WHERE t.returning = 2 -- where\n",
            r#""t" WHERE ( t.returning = 2 )"#,
        ),
        (
            "update \"set\" set set = 'where' where $$returning$$ = a[1] returning (a)",
            r#""set" WHERE ( $$returning$$ = a[1] )"#,
        ),
        ("delete from orders", r#""orders""#),
        (
            "/* where */ select a, lower(b) from orders where c ; -- end",
            "( select a, lower(b) from orders where c ) AS q",
        ),
        ("insert into orders values (1), (2), ($1)", "3"),
        ("insert into orders default values", "1"),
    ];
    for (text, expected) in rows {
        assert_eq!(counted(text), expected, "{text}");
    }
}

/// Statements, and what is said of them.
const UNCERTAIN: &[(&str, &str)] = &[
    ("delete from a using b where a.id = b.id", "not: which rows"),
    (
        "update a set x = 1 from b where a.id = b.id",
        "not: which rows",
    ),
    (
        "with w as (select 1) delete from a where true",
        "not: which rows",
    ),
    (
        "delete from a where current of c",
        "not: it follows a cursor",
    ),
    ("select 1 from a for update", "not: it locks"),
    (
        "insert into a select * from b",
        "not: it inserts what it reads",
    ),
    (
        "insert into a values (1) on conflict do nothing",
        "not: what it meets",
    ),
    (
        "merge into a using b on true when matched then delete",
        "not: a MERGE",
    ),
    ("select 1; select 2", "nothing: it is not one statement"),
    ("truncate a", "nothing: it neither reads"),
    ("copy a to stdout", "nothing: it neither reads"),
    ("select 1 into b from a", "not: it makes a table"),
    (
        "delete from a where pg_sleep(9) is null",
        "nothing: it calls pg_sleep()",
    ),
    (
        "delete from a where nextval('s') > 1",
        "nothing: it calls nextval()",
    ),
    (
        "delete from a where pg_advisory_lock(1) is null",
        "nothing: it calls",
    ),
    ("delete from a where own(1)", "nothing: it calls own()"),
    (
        "delete from a where public.lower(b) = ''",
        "nothing: it calls lower()",
    ),
    (
        "delete from a where repeat('x', 1000000000) = b",
        "nothing: it calls repeat()",
    ),
    ("delete from a where b = 'x'::own", "nothing: it casts"),
    (
        "delete from a where b = 'x'::public.text",
        "nothing: it casts",
    ),
    ("delete from a where b = 'x'::regclass", "nothing: it casts"),
    (
        "select 1 from a tablesample system (1)",
        "nothing: it is of a form",
    ),
    ("explain delete from a", "nothing: it neither reads"),
];

#[test]
fn what_is_not_certain_is_not_counted_and_what_runs_code_is_not_asked_about() {
    for (text, expected) in UNCERTAIN {
        let found = counted(text);
        assert!(found.starts_with(expected), "{text}: {found}");
    }
    let plain = "delete from a where lower(b) = 'x'::text and c between 1::int4 and 2";
    assert!(
        counted(plain).starts_with("\"a\" WHERE"),
        "{}",
        counted(plain)
    );
}

#[test]
fn a_search_path_that_names_the_systems_schemas_is_not_looked_under() {
    for schema in ["pg_catalog", "pg_temp", "pg_temp_3"] {
        let asked = Asked {
            path: Some(Arc::new(vec!["public".to_owned(), schema.to_owned()])),
            ..asked("delete from a where b = 1")
        };
        assert!(questions(&asked).is_err(), "{schema}");
    }
}

#[test]
fn what_goes_upstream_is_what_is_counted() {
    let sent = "delete from a where (select null) = 'x'";
    let asked = Asked {
        sent: sent.into(),
        ..asked("delete from a where ssn = 'x'")
    };
    let found = questions(&asked).unwrap();
    assert_eq!(found.explain, format!("EXPLAIN {sent}"));
    let Count::Ask(text) = found.count else {
        panic!("not counted");
    };
    assert!(
        text.contains("(select null) = 'x'") && !text.contains("ssn"),
        "{text}"
    );
    let alone = "delete from a where current_setting('interceptor.session_key', true) = 'x'";
    let asked = Asked {
        sent: alone.into(),
        ..asked
    };
    assert!(matches!(questions(&asked).unwrap().count, Count::Not(_)));
}

/// Tables that a statement is about, where `change` is made to one that it names.
fn about(text: &str, change: impl FnOnce(&mut Table, &mut Schema)) -> Result<Vec<u32>, String> {
    let table = |oid: u32, name: &str| Table {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: b'r',
        ..Table::default()
    };
    let mut schema = Schema::default();
    let mut orders = table(10, "orders");
    change(&mut orders, &mut schema);
    schema.add(orders);
    schema.add(table(11, "others"));
    let catalog = Catalog {
        functions: Arc::new(HashSet::from(["own".to_owned()])),
        relations: Arc::new(HashSet::from(["pg_class".to_owned()])),
        ..Catalog::default()
    };
    let relations = Arc::clone(&catalog.relations);
    let masking = Masking::new(Some(Arc::new(schema)), Arc::default(), relations);
    tables(&asked(text), &masking, &catalog)
}

#[test]
fn only_plain_tables_are_asked_about() {
    let one = "delete from orders where id in (select id from others)";
    assert_eq!(about(one, |_, _| ()), Ok(vec![10, 11]));
    let child = |name: &str, kind: u8| Table {
        oid: 12,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind,
        parents: vec![10],
        ..Table::default()
    };
    let found = about(one, |_, schema| schema.add(child("part", b'r')));
    assert_eq!(found, Ok(vec![10, 11, 12]));
    let far = about(one, |_, schema| schema.add(child("far", b'f')));
    assert_eq!(far, Err("public.far is no plain table".to_owned()));

    type Change = fn(&mut Table, &mut Schema);
    let changes: [(&str, Change); 6] = [
        ("a view", |table, _| table.kind = b'v'),
        ("a foreign table", |table, _| table.kind = b'f'),
        ("rules", |table, _| table.has_rules = true),
        ("a default", |table, _| table.computes = true),
        ("an index", |table, _| {
            let tie = Tie {
                by: TiedBy::Function,
                ..Tie::default()
            };
            table.ties.insert("f1".to_owned(), tie);
        }),
        ("an operator", |_, schema| {
            schema
                .operators
                .insert(("public".to_owned(), "=".to_owned()));
        }),
    ];
    for (what, change) in changes {
        assert!(about(one, change).is_err(), "{what}");
    }
    for text in [
        "delete from pg_class where true",
        "delete from nowhere where true",
        "delete from orders where orders.own",
    ] {
        assert!(about(text, |_, _| ()).is_err(), "{text}");
    }
}

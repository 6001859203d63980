//! Texts and what becomes of them, under a small catalog.

mod found;
mod order;

use std::collections::HashSet;
use std::sync::Arc;

use super::schema::{Column, Schema, Table};
use super::*;
use crate::masking::{Mask, Masks, Relation};
use crate::protocol::postgres::facts::{self, Facts, Names};

const TEXT: (u32, &str) = (25, "text");
const INT: (u32, &str) = (23, "integer");

fn table(oid: u32, name: &str, kind: u8, columns: &[(&str, (u32, &str))]) -> Table {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let column = |(at, (name, (type_oid, type_name))): (usize, &(&str, (u32, &str)))| Column {
        number: i16::try_from(at + 1).unwrap(),
        name: (*name).to_owned(),
        type_oid: *type_oid,
        type_name: (*type_name).to_owned(),
        ..Column::default()
    };
    Table {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind,
        columns: columns.iter().enumerate().map(column).collect(),
        ..Table::default()
    }
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    let person = [("id", INT), ("name", TEXT), ("ssn", TEXT)];
    schema.add(table(1, "p", b'r', &person));
    schema.add(table(2, "q", b'r', &[("id", INT), ("ssn", TEXT)]));
    schema.add(table(3, "a.p", b'r', &person));
    let mut child = table(4, "p_child", b'r', &person);
    child.parents = vec![1];
    schema.add(child);
    let mut plain = table(5, "v", b'v', &[("id", INT), ("s", TEXT), ("l", INT)]);
    plain.depends = vec![(1, 1), (1, 3)];
    plain.definition =
        " SELECT p.id, p.ssn AS s, length(p.ssn) AS l FROM public.p WHERE p.id > 1;".to_owned();
    schema.add(plain);
    let mut above = table(6, "vv", b'v', &[("id", INT), ("x", TEXT)]);
    above.depends = vec![(5, 1), (5, 2)];
    above.definition =
        " SELECT z.id, z.x FROM ( SELECT v.id, v.s AS x FROM public.v) z;".to_owned();
    schema.add(above);
    let mut clean = table(7, "names", b'v', &[("name", TEXT)]);
    clean.depends = vec![(1, 2)];
    clean.definition = " SELECT p.name FROM public.p;".to_owned();
    schema.add(clean);
    let mut opaque = table(8, "calls", b'v', &[("name", TEXT)]);
    opaque.is_opaque = true;
    schema.add(opaque);
    let mut unique = table(9, "u", b'r', &[("id", INT), ("ssn", TEXT)]);
    unique.guard("c1", 2);
    schema.add(unique);
    let mut made = table(10, "g", b'r', &[("ssn", TEXT), ("made", TEXT)]);
    made.generated = vec![(2, 1)];
    schema.add(made);
    let mut ruled = table(11, "ruled", b'r', &[("id", INT)]);
    ruled.has_rules = true;
    schema.add(ruled);
    let mut refers = table(12, "refers", b'r', &[("id", INT), ("s", TEXT)]);
    refers.references = vec![(2, 1, 3)];
    refers.guard("c1", 2);
    schema.add(refers);
    schema.add(table(13, "b.q", b'r', &[("id", INT)]));
    schema.operators.insert(("a".to_owned(), "<=".to_owned()));
    schema
        .functions
        .insert(("public".to_owned(), "lower".to_owned()));
    schema
        .operators
        .insert(("public".to_owned(), "~~~".to_owned()));
    schema.casts.insert("evil".to_owned());
    schema
}

fn masks(mask: &Mask) -> Masks {
    let mut masks = Masks::default();
    for name in ["p", "u", "g"] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), mask.clone());
    }
    masks
}

fn names(mask: &Mask) -> Names {
    names_of(&schema(), mask)
}

fn names_of(schema: &Schema, mask: &Mask) -> Names {
    let catalog = ["pg_class", "pg_stats", "pg_stat_activity", "pg_settings"];
    let catalog: Arc<HashSet<String>> = Arc::new(catalog.map(str::to_owned).into());
    let masking = Masking::new(
        Some(Arc::new(schema.clone())),
        Arc::new(masks(mask)),
        Arc::clone(&catalog),
    );
    Names {
        search_path: Some(vec!["public".to_owned()]),
        catalog,
        utf8: true,
        masking: Some(Arc::new(masking)),
        ..Names::default()
    }
}

fn read(text: &str) -> Facts {
    facts::read(text, &names(&Mask::Null))
}

/// What goes upstream, with what stands in for `p` written as `P`.
fn goes(text: &str) -> String {
    let facts = read(text);
    if let Some(veto) = &facts.reading.veto {
        return format!("refused: {}", veto.message);
    }
    let sent = facts
        .rewrite
        .map_or_else(|| text.to_owned(), |rewrite| rewrite.text.to_string());
    let list = "\"id\", \"name\", CAST(NULL AS text) AS \"ssn\"";
    sent.replace(
        &format!("(SELECT {list} FROM \"public\".\"p\" AS \"~\")"),
        "P",
    )
    .replace(
        &format!("(SELECT {list} FROM ONLY \"public\".\"p\" AS \"~\")"),
        "ONLY-P",
    )
}

#[test]
fn references_are_replaced_where_they_stand() {
    let cases = [
        ("select ssn from p", "select ssn from P AS \"p\""),
        ("select ssn from public.p", "select ssn from P AS \"p\""),
        ("select x.ssn from p x", "select x.ssn from P x"),
        ("select * from p as x(a, b)", "select * from P as x(a, b)"),
        ("select * from only p", "select * from ONLY-P AS \"p\""),
        ("select * from only (p) x", "select * from ONLY-P x"),
        ("select * from p * where true", "select * from P AS \"p\" where true"),
        ("table p", "SELECT * FROM P AS \"p\""),
        ("table only p", "SELECT * FROM ONLY-P AS \"p\""),
        ("select 1 union all table p", "select 1 union all SELECT * FROM P AS \"p\""),
        ("select(select max(ssn) from p)", "select(select max(ssn) from P AS \"p\")"),
        ("select * from q join p using (id)", "select * from q join P AS \"p\" using (id)"),
        ("select * from q, lateral (select * from p) y", "select * from q, lateral (select * from P AS \"p\") y"),
        ("with p as (select * from p) select * from p", "with p as (select * from P AS \"p\") select * from p"),
        ("with x as (table p) select * from x", "with x as (SELECT * FROM P AS \"p\") select * from x"),
        ("select * from p limit (select count(*) from p)", "select * from P AS \"p\" limit (select count(*) from P AS \"p\")"),
        ("select public.p.ssn from public.p", "select p.ssn from P AS \"p\""),
        ("select p from p", "select p from P AS \"p\""),
        ("select ctid from p", "select ctid from P AS \"p\""),
        ("explain verbose select * from p", "explain verbose select * from P AS \"p\""),
        ("prepare s as select * from p", "prepare s as select * from P AS \"p\""),
        ("declare c cursor for table p", "declare c cursor for SELECT * FROM P AS \"p\""),
        ("create table z as select * from p", "create table z as select * from P AS \"p\""),
        ("select * into z from p", "select * into z from P AS \"p\""),
        ("create view z as select * from p", "create view z as select * from P AS \"p\""),
        ("insert into q select id, ssn from p", "insert into q select id, ssn from P AS \"p\""),
        ("update q set ssn = p.ssn from p where p.id = q.id", "update q set ssn = p.ssn from P AS \"p\" where p.id = q.id"),
        ("delete from q using p where p.id = q.id", "delete from q using P AS \"p\" where p.id = q.id"),
        ("merge into q using p on p.id = q.id when matched then delete", "merge into q using P AS \"p\" on p.id = q.id when matched then delete"),
        ("select * from p for no key update of p", "select * from P AS \"p\" for no key update of p"),
        ("select q.* from q join p using (id) for update of q", "select q.* from q join P AS \"p\" using (id) for update of q"),
        ("with x as (select * from q for update) select * from x, p", "with x as (select * from q for update) select * from x, P AS \"p\""),
        ("copy p to stdout", "copy (SELECT \"id\", \"name\", CAST(NULL AS text) AS \"ssn\" FROM ONLY \"public\".\"p\" AS \"~\") to stdout".replace("(SELECT \"id\", \"name\", CAST(NULL AS text) AS \"ssn\" FROM ONLY \"public\".\"p\" AS \"~\")", "ONLY-P").leak()),
        ("copy p (ssn, id) to stdout csv", "copy (SELECT CAST(NULL AS text) AS \"ssn\", \"id\" FROM ONLY \"public\".\"p\" AS \"~\") to stdout csv"),
        ("copy (table p) to stdout", "copy (SELECT * FROM P AS \"p\") to stdout"),
        ("select * from p tablesample system (10) repeatable (1) where true", "select * from (SELECT \"id\", \"name\", CAST(NULL AS text) AS \"ssn\" FROM \"public\".\"p\" AS \"~\" tablesample system (10) repeatable (1)) AS \"p\"  where true"),
        ("select /* p */ * from /* a */ p -- p", "select /* p */ * from /* a */ P AS \"p\" -- p"),
        ("select 1; select * from p; select 2", "select 1; select * from P AS \"p\"; select 2"),
        ("select * from \"p\"", "select * from P AS \"p\""),
        ("select p.row_to_json from p", "select p.row_to_json from P AS \"p\""),
        ("select 'x' as p, 'é', * from p", "select 'x' as p, 'é', * from P AS \"p\""),
        ("set search_path = public; select * from p", "set search_path = public; select * from P AS \"p\""),
    ];
    for (text, expected) in cases {
        assert_eq!(goes(text), expected, "{text}");
    }
}

#[test]
fn pages_are_not_counted_for_who_may_not_know_how_long_values_are() {
    let refused = |text: &str, counts_pages: bool| {
        let mut schema = schema();
        schema.counts_pages = counts_pages;
        let facts = facts::read(text, &names_of(&schema, &Mask::Null));
        facts.reading.veto.is_some()
    };
    // (text, refused by servers that count unless told not to, by older ones)
    let cases = [
        ("explain select * from p", false, false),
        ("explain analyze select * from p", true, false),
        ("explain (analyze) select * from p", true, false),
        (
            "explain (analyze, buffers off) select * from p",
            false,
            false,
        ),
        (
            "explain (analyze, buffers on, buffers off) select * from p",
            true,
            true,
        ),
        ("explain (analyze off) select * from p", false, false),
        ("explain (analyze, buffers) select * from p", true, true),
        (
            "explain (analyze, buffers off, wal) select * from p",
            true,
            true,
        ),
        ("explain analyze select * from names", false, false),
    ];
    for (text, newer, older) in cases {
        assert_eq!(refused(text, true), newer, "{text}");
        assert_eq!(refused(text, false), older, "{text}");
    }
}

#[test]
fn names_that_mean_something_else_are_left_or_made_certain() {
    let cases = [
        ("select 1", "select 1"),
        ("select * from q", "select * from q"),
        ("select * from a.p", "select * from a.p"),
        ("select * from pg_class", "select * from pg_class"),
        ("select * from mine", "select * from \"pg_temp\".mine"),
        ("select * from pg_temp.mine", "select * from pg_temp.mine"),
        (
            "with p as (select 1) select * from p",
            "with p as (select 1) select * from p",
        ),
        (
            "set search_path = a, public; select * from p",
            "set search_path = a, public; select * from \"a\".p",
        ),
        (
            "insert into p (id, name) values (1, 'x') returning id",
            "insert into \"public\".p (id, name) values (1, 'x') returning id",
        ),
        (
            "update p set name = 'x' where id = 1",
            "update \"public\".p set name = 'x' where id = 1",
        ),
        (
            "update p x set name = '' where x.id = 1",
            "update \"public\".p x set name = '' where x.id = 1",
        ),
        ("lock table p", "lock table \"public\".p"),
        (
            "set search_path = b, public; select * from q",
            "set search_path = b, public; select * from \"b\".q",
        ),
        (
            "set search_path = c, b, public; create table q (id int)",
            "set search_path = c, b, public; create table q (id int)",
        ),
        (
            "set search_path = c, b, public; select 1 as id into q",
            "set search_path = c, b, public; select 1 as id into q",
        ),
        ("select name from names", "select name from names"),
    ];
    for (text, expected) in cases {
        assert_eq!(goes(text), expected, "{text}");
    }
}

#[test]
fn what_is_made_of_a_masked_column_is_masked() {
    let sent = |text: &str| read(text).rewrite.map(|rewrite| rewrite.text.to_string());
    let cases = [
        (
            "select * from p_child",
            "\"id\", \"name\", CAST(NULL AS text) AS \"ssn\" FROM \"public\".\"p_child\"",
        ),
        (
            "select * from v",
            "\"id\", CAST(NULL AS text) AS \"s\", CAST(NULL AS integer) AS \"l\" FROM \"public\".\"v\"",
        ),
        (
            "select * from vv",
            "CAST(NULL AS integer) AS \"id\", CAST(NULL AS text) AS \"x\" FROM \"public\".\"vv\"",
        ),
        (
            "select * from refers",
            "\"id\", CAST(NULL AS text) AS \"s\" FROM \"public\".\"refers\"",
        ),
        (
            "select * from g",
            "CAST(NULL AS text) AS \"ssn\", CAST(NULL AS text) AS \"made\"",
        ),
    ];
    for (text, expected) in cases {
        let sent = sent(text).unwrap_or_default();
        assert!(sent.contains(expected), "{text}: {sent}");
    }
}

const TELLING: &[&str] = &[
    "select * from calls",
    "select * from nowhere.t",
    "select * from pg_toast.pg_toast_1",
    "select * from pg_stats",
    "select * from pg_catalog.pg_statistic",
    "select * from pg_stat_activity",
    "select query_to_xml('select * from p', true, true, '')",
    "select ('select * from p').query_to_xml",
    "select table_to_xml('p', true, true, '')",
    "select lo_get(1)",
    "select * from ts_stat('select 1')",
    "select pg_read_file('x')",
    "select current_setting('interceptor.' || 'session_key')",
    "select current_setting('Interceptor.session_key')",
    "select ('x'::text).current_setting",
    "show interceptor.session_key",
    "set interceptor.session_key = ''",
    "select lower(ssn) from p",
    "select id ~~~ 1 from p",
    "select id::evil from p",
    "set search_path = public, a; select id between 1 and 2 from p",
    "insert into refers (id) values (1)",
    "insert into p values (1, 'x', 'y')",
    "insert into p (id, ssn) values (1, 'y')",
    "insert into p (id) values (1) returning *",
    "insert into p (id) values (1) returning ssn",
    "insert into p (id) values (1) returning p",
    "insert into p (id) values (1) on conflict (ssn) do nothing",
    "insert into p (id) values (1) on conflict (id) do update set name = p.ssn",
    "insert into p (id) values (1) on conflict (id) do update set ssn = ''",
    "update p set ssn = 'x'",
    "update p set (name, ssn) = ('x', 'y')",
    "update p set name = ssn",
    "update p set name = p::text",
    "update p set name = (p).ssn",
    "update p set name = p.row_to_json::text",
    "update p x set name = x.ssn",
    "update p set id = 1 where ssn like 'a%'",
    "update p set id = 1 returning *",
    "update p set id = 1 returning p.*",
    "update p set id = 1 returning old.ssn",
    "update p set id = 1 returning with (old as o) o",
    "with x as (update p set id = 1 returning *) select * from x",
    "delete from p where ssn = 'x'",
    "delete from p where p is not null",
    "delete from p where public.p.ssn = 'x'",
    "merge into p using q on q.ssn = p.ssn when matched then delete",
    "merge into p using q on q.id = p.id when not matched then insert values (1, 'x', 'y')",
    "merge into p using q on q.id = p.id when matched then update set ssn = 'x'",
    "insert into u (id) values (1)",
    "insert into u (id) values (1)",
    "update v set id = 1",
    "delete from names",
    "insert into ruled values (1)",
    "copy p from stdin",
    "copy p (id, ssn) from stdin",
    "alter table p rename to r",
    "alter table p alter ssn type int using ssn::int",
    "alter table q inherit p",
    "alter table q add foreign key (ssn) references p (ssn)",
    "alter schema public rename to other",
    "create index on p (ssn)",
    "create table z (like p)",
    "create table z () inherits (p)",
    "create temp table p (id int)",
    "create temp view p as select 1",
    "create table pg_temp.p (id int)",
    "create function f() returns text language sql as 'select ssn from p'",
    "do 'begin end'",
    "create rule r as on insert to q do also select * from p",
    "create trigger t before insert on q execute function f()",
    "create statistics s on id, ssn from p",
    "create publication x for table p",
    "alter role current_user set search_path from current",
    "select * from p tablesample system ((select max(id) from p))",
    "select * from p for update of p",
    "select id from p order by id for update skip locked",
    "select x.id from (select id from p) x for update of x",
    "select x.id from v x for update",
    "select q.id from q join p using (id) for update of q for update of p",
    "select q.id from q join p using (id) for share of q for update nowait",
    "with x as (select id from p for update) select * from q, x",
    "set max_parallel_workers = 0",
    "set parallel_leader_participation = off",
    "set debug_parallel_query = on",
    "set force_parallel_mode = on",
    "select pg_stat_get_live_tuples(1)",
    "this is not sql",
];

#[test]
fn what_would_tell_is_refused() {
    for text in TELLING {
        let facts = read(text);
        assert!(facts.reading.veto.is_some(), "{text}: {:?}", facts.rewrite);
    }
}

#[test]
fn a_hidden_column_is_not_there() {
    let facts = facts::read("select * from p", &names(&Mask::Hide));
    let sent = facts.rewrite.unwrap().text;
    assert_eq!(
        &*sent,
        "select * from (SELECT \"id\", \"name\" FROM \"public\".\"p\" AS \"~\") AS \"p\""
    );
}

#[test]
fn a_shape_is_rewritten_again_around_other_literals() {
    let first = "select 'a', ssn from p where id = 1 and name = 'b' and exists (select 2 from p)";
    let other =
        "select '', ssn from p where id = 123456 and name = 'it''s' and exists (select 20 from p)";
    let facts = read(first);
    assert!(facts.of_its_shape);
    let (mut shape, mut same, mut ends) = (String::new(), String::new(), Vec::new());
    assert!(facts::ends(first, &mut shape, &mut ends));
    assert!(facts::ends(other, &mut same, &mut ends));
    assert_eq!(shape, same);
    let again = facts.rewrite.unwrap().again(other, &ends).unwrap();
    assert_eq!(again.text, read(other).rewrite.unwrap().text);
}

#[test]
fn a_database_that_is_not_known_lets_nothing_through() {
    let mut names = names(&Mask::Null);
    let masking = Masking::new(None, Arc::new(masks(&Mask::Null)), Arc::default());
    names.masking = Some(Arc::new(masking));
    let facts = facts::read("select 1", &names);
    assert!(facts.reading.veto.is_some());
}

#[test]
fn what_is_configured_and_does_not_fit_is_said() {
    let none = Arc::<HashSet<String>>::default();
    let said = |masks: Masks| {
        Masking::new(Some(Arc::new(schema())), Arc::new(masks), Arc::clone(&none)).misfits()
    };
    assert_eq!(said(masks(&Mask::Null)), None);
    let mut wrong = Masks::default();
    for (name, column, mask) in [
        ("p", "snn", Mask::Null),
        ("nowhere", "ssn", Mask::Null),
        ("p", "id", Mask::Email),
    ] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = wrong.relations.entry(relation).or_default();
        columns.insert(column.to_owned(), mask);
    }
    let said = said(wrong).unwrap();
    for part in [
        "sensitive.public.p.snn: it has no column snn; public.p is closed meanwhile",
        "sensitive.public.nowhere.ssn: there is no such relation",
        "sensitive.public.p.id: email cannot stand in for id of type integer: use null, hide, constant, hash; public.p is",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_cannot_be_masked_as_it_is_configured_is_closed_with_all_that_shows_it() {
    let refused = |column: &str, mask: Mask, text: &str| {
        let mut masks = Masks::default();
        let relation = Relation {
            schema: "public".to_owned(),
            name: "p".to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert(column.to_owned(), mask);
        let masking = Masking::new(Some(Arc::new(schema())), Arc::new(masks), Arc::default());
        let names = Names {
            search_path: Some(vec!["public".to_owned()]),
            utf8: true,
            masking: Some(Arc::new(masking)),
            ..Names::default()
        };
        let read = facts::read(text, &names);
        let sent = read.rewrite.map(|rewrite| rewrite.text.to_string());
        match &read.reading.veto {
            Some(veto) => format!("refused: {}", veto.message),
            None => sent.unwrap_or_else(|| "as it is".to_owned()),
        }
    };
    let wrong = "refused: \"public.p\" is closed: this constant cannot stand in for id of type integer: use null, hide, hash";
    let constant = Mask::Constant("x".into());
    assert_eq!(refused("id", constant.clone(), "select name from p"), wrong);
    let child = refused("id", constant, "select name from p_child");
    assert!(child.starts_with("refused: what"), "{child}");
    let gone = "refused: \"public.p\" is closed: it has no column snn";
    assert_eq!(refused("snn", Mask::Null, "select id from p"), gone);
    // Whichever column has that name no more: what refers to one of them may hold its values.
    let refers = refused("snn", Mask::Null, "select s from refers");
    assert!(refers.contains("CAST(NULL AS text) AS \"s\""), "{refers}");
    assert_eq!(refused("snn", Mask::Null, "select id from q"), "as it is");
}

#[test]
fn a_hash_stands_only_for_a_number_that_has_room_for_it() {
    let fits = |type_name: &str| {
        let column = expression::Subject {
            column: "n",
            type_oid: 1700,
            type_name,
            is_domain: false,
        };
        expression::objection(&Mask::Hash(crate::masking::Joinable::Session), column).is_none()
    };
    for (type_name, expected) in [
        ("numeric", true),
        ("numeric(19,0)", true),
        ("numeric(24,4)", true),
        ("numeric(20,2)", false),
        ("numeric(10,2)", false),
        ("numeric(5)", false),
        ("numeric(19,-2)", true),
    ] {
        assert_eq!(fits(type_name), expected, "{type_name}");
    }
}

#[test]
fn an_index_of_several_columns_answers_where_one_beside_a_masked_one_is_set() {
    let of = |by: &str, text: &str| {
        let mut schema = schema();
        let mut indexed = table(30, "u", b'r', &[("id", INT), ("ssn", TEXT), ("note", TEXT)]);
        indexed.guard(by, 2);
        indexed.guard(by, 3);
        schema.add(indexed);
        let names = names_of(&schema, &Mask::Null);
        facts::read(text, &names).reading.veto.is_none()
    };
    assert!(!of("i1", "update u set note = 'x'"));
    assert!(!of(
        "i1",
        "insert into u (id) values (1) on conflict (id) do update set note = 'x'"
    ));
    assert!(of("i1", "update u set id = 2"));
    assert!(of("i1", "insert into u (id, note) values (1, 'x')"));
    assert!(of("i1", "delete from u"));
    assert!(!of("c1", "insert into u (id, note) values (1, 'x')"));
}

#[test]
fn a_reading_says_what_is_masked_in_it() {
    let facts = read("select id from p");
    let masked: Vec<_> = facts
        .reading
        .masked
        .iter()
        .map(|masked| masked.column.as_str())
        .collect();
    assert_eq!(masked, ["ssn"]);
    assert!(read("select * from q").reading.masked.is_empty());
}

#[test]
fn a_search_path_that_is_set_by_a_call_is_followed() {
    let cases = [
        (
            "select pg_catalog.set_config('search_path', 'a, public', false); select * from p",
            "\"a\".p",
        ),
        (
            "select pg_catalog.set_config('search_path', '', false); select * from p",
            "\"pg_temp\".p",
        ),
        (
            "select pg_catalog.set_config('search_path', 'public', false); select * from p",
            "P AS",
        ),
        (
            "select pg_catalog.set_config('search_path', 'a', false) where false; select * from p",
            "refused",
        ),
        (
            "select set_config('search_path', 'a', false); select * from p",
            "refused",
        ),
        (
            "select pg_catalog.set_config('search_path', 'a', false) from q; select * from p",
            "refused",
        ),
    ];
    for (text, expected) in cases {
        assert!(goes(text).contains(expected), "{text}: {}", goes(text));
    }
}

#[test]
fn a_setting_that_is_named_by_a_column_of_one_value_is_read() {
    let dump = "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'";
    assert_eq!(goes(dump), dump);
    let other = [
        "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name <> 'restrict_nonsystem_relation_kind'",
        "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'a' OR true",
        "SELECT set_config(name, 'view', false) FROM pg_settings",
        "SELECT set_config(setting, 'view', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
        "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'interceptor.session_key'",
        "SELECT set_config(name, 'x', false), set_config(setting, 'x', false) FROM pg_settings WHERE name = 'a'",
    ];
    for text in other {
        assert!(goes(text).starts_with("refused"), "{text}");
    }
}

#[test]
fn what_is_about_masked_columns_alone_does_not_close_a_table_to_updates() {
    let mut tied = table(1, "p", b'r', &[("id", INT), ("name", TEXT), ("ssn", TEXT)]);
    let verdicts = |tied: &Table| {
        let mut schema = Schema::default();
        schema.add(tied.clone());
        [
            "UPDATE p SET id = 1",
            "UPDATE p SET name = ''",
            "DELETE FROM p WHERE id = 1",
            "INSERT INTO p (id, name) VALUES (1, '')",
            "INSERT INTO p (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = ''",
            "MERGE INTO p USING (VALUES (1)) AS z(n) ON p.id = z.n WHEN MATCHED THEN UPDATE SET id = 2",
        ]
        .map(|text| {
            let facts = facts::read(text, &names_of(&schema, &Mask::Null));
            if facts.reading.veto.is_some() { 'n' } else { 'y' }
        })
        .iter()
        .collect::<String>()
    };
    assert_eq!(verdicts(&tied), "yyyyyy");
    for (tie, columns, told) in [
        ("p1", &[1][..], "yyyyyy"),
        ("c1", &[3], "yyynnn"),
        ("c1", &[2, 3], "ynynnn"),
        ("c1", &[0], "nnynnn"),
        ("r1", &[3], "yynnnn"),
        ("e1", &[3], "yyyyyn"),
        ("e1", &[2, 3], "ynyynn"),
        ("e1", &[0], "nnynnn"),
        ("f1", &[3], "nnnnnn"),
        ("f1", &[2], "yyyyyy"),
        ("m1", &[3], "nnynnn"),
    ] {
        tied.ties.clear();
        tied.guarded.clear();
        for column in columns {
            tied.guard(tie, *column);
        }
        assert_eq!(verdicts(&tied), told, "{tie} {columns:?}");
    }
    tied.ties.clear();
    tied.guarded.clear();
    tied.columns.push(Column {
        number: 4,
        name: "made".to_owned(),
        type_oid: INT.0,
        type_name: INT.1.to_owned(),
        is_generated: true,
        ..Column::default()
    });
    tied.generated = vec![(4, 2), (4, 3)];
    assert_eq!(verdicts(&tied), "ynyynn");
}

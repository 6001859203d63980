//! Relations of which rows are found by an index that is in the order of something masked.

use super::*;

/// `p` with indexes, whose keys are told by their names, what they hold beside behind a slash; `?` is one for some rows
/// alone, `f(x)` an expression.
fn indexed(indexes: &[&str]) -> Schema {
    let mut schema = schema();
    schema.tables.remove(&12);
    schema.tables.remove(&4);
    let person = schema.tables.get_mut(&1).unwrap();
    person.guard("p1", 1);
    for (number, index) in (1..).zip(indexes) {
        let (index, is_partial) = match index.strip_suffix('?') {
            Some(index) => (index, true),
            None => (*index, false),
        };
        let (keys, beside) = index.split_once('/').unwrap_or((index, ""));
        let of = |name: &str| person.column(name).unwrap().number;
        let mut put = Vec::new();
        for (place, key) in (1..).zip(keys.split(' ')) {
            match key.strip_prefix("f(").and_then(|key| key.strip_suffix(')')) {
                Some(name) => put.extend([(place, 0), (0, of(name))]),
                None => put.push((place, of(key))),
            }
        }
        put.extend(beside.split_whitespace().map(|name| (0, of(name))));
        for at in put {
            person.index(number, at, is_partial);
        }
    }
    schema
}

/// How `p` is read in a statement.
fn way(schema: &Schema, text: &str) -> String {
    let facts = facts::read(text, &names_of(schema, &Mask::Null));
    if let Some(veto) = &facts.reading.veto {
        return veto.message.clone();
    }
    let sent = facts.rewrite.expect(text).text;
    if sent.contains("(-1) THEN \"~\".\"") {
        return "blind".to_owned();
    }
    let list = "\"id\", \"name\", CAST(NULL AS text) AS \"ssn\"";
    let plain = format!("(SELECT {list} FROM \"public\".\"p\" AS \"~\"");
    let by = "\"~\".\"id\", \"~\".\"name\" COLLATE pg_catalog.\"C\", \"~\".\"ssn\" COLLATE pg_catalog.\"C\"";
    let sorted = format!("(SELECT * FROM {plain}) AS \"~\" ORDER BY {by}");
    match sent.split_once(&sorted) {
        Some((_, rest)) if rest.starts_with(" OFFSET 0)") => "fenced".to_owned(),
        Some((_, rest)) if rest.starts_with(')') => "sorted".to_owned(),
        Some(_) => sent.to_string(),
        None => match sent.split_once(&plain) {
            Some((_, rest)) if rest.starts_with(" WHERE pg_catalog.num_nulls(") => {
                "asked".to_owned()
            }
            Some((_, rest)) if rest.starts_with(" WHERE \"~\".ctid ") => "placed".to_owned(),
            Some((_, rest)) if rest.starts_with(')') => "plain".to_owned(),
            _ => sent.to_string(),
        },
    }
}

#[test]
fn only_what_is_found_by_an_index_in_a_hidden_order_is_sorted() {
    for (indexes, one, other) in [
        (&["name"][..], "plain", "plain"),
        (&["ssn"], "asked", "asked"),
        (&["ssn/id"], "asked", "asked"),
        (&["ssn/id name"], "placed", "placed"),
        (&["name ssn"], "sorted", "asked"),
        (&["ssn name"], "sorted", "asked"),
        (&["ssn id"], "asked", "sorted"),
        // No two rows have the same key.
        (&["id ssn"], "plain", "plain"),
        (&["name id ssn"], "plain", "plain"),
        // Rows come as they lie.
        (&["name/ssn"], "plain", "plain"),
        (&["f(name)"], "plain", "plain"),
        (&["f(ssn)"], "asked", "asked"),
        (&["f(ssn) name"], "sorted", "asked"),
        (&["f(name) ssn"], "sorted", "asked"),
        // For some rows, whichever: its condition finds them.
        (&["ssn/name?"], "sorted", "asked"),
        (&["ssn?"], "asked", "asked"),
        (&["name/ssn?"], "plain", "plain"),
        (&["name ssn", "ssn id"], "sorted", "sorted"),
    ] {
        let schema = indexed(indexes);
        let by_name = way(&schema, "select id, name from p where name = 'x'");
        let by_id = way(&schema, "select id, name from p where id = 1");
        assert_eq!(
            (by_name.as_str(), by_id.as_str()),
            (one, other),
            "{indexes:?}"
        );
    }
}

/// Statements, and how they read `p`, of which rows are found by `name` in a hidden order.
const READS: &[(&str, &str)] = &[
    ("select name from p", "asked"),
    ("select * from p where id = 1 order by id limit 9", "asked"),
    ("select count(*) from p", "asked"),
    ("select 'name' from p where id in (1, 2)", "asked"),
    ("copy p to stdout", "COPY"),
    // It is named.
    (
        "select id from p where name = $1 and id > 5 or not name is null",
        "sorted",
    ),
    ("select id from p order by name", "blind"),
    ("select id, name from p order by 2", "blind"),
    ("select id, name as x from p order by x", "blind"),
    ("select id, name as x from p order by id", "asked"),
    ("select distinct id, name from p", "blind"),
    ("select distinct on (name) id from p", "blind"),
    ("select id from p group by id, name", "blind"),
    ("select id, name from p group by 1, 2", "blind"),
    ("select min(name) from p", "blind"),
    (
        "select id, row_number() over (order by name) from p",
        "blind",
    ),
    ("select p.id from p join q on q.ssn = p.name", "blind"),
    (
        "select x.id from p x, q where q.id = x.id and q.ssn > 'a'",
        "asked",
    ),
    ("select p.id from p natural join q", "blind"),
    ("select id from (select * from p) x", "blind"),
    ("select id from p as x(id, b) where b = 'x'", "blind"),
    (
        "with x as (select id, name from p) select * from x",
        "sorted",
    ),
    (
        "select id from p where exists (select from q where q.ssn = p.name)",
        "sorted",
    ),
    (
        "select id from p where name in (select ssn from q)",
        "sorted",
    ),
    ("select id from p where name like $1", "sorted"),
    ("select id from p where name = current_user", "sorted"),
    (
        "select id from p where name between 'a' and 'b' and id = '7'::int",
        "sorted",
    ),
    (
        "select id from p where name = 'a' union all select id from q",
        "sorted",
    ),
    (
        "select upper(name) from p where name = 'x' for no key update",
        "sorted",
    ),
    (
        "copy (select id from p where name = 'x') to stdout",
        "sorted",
    ),
    (
        "declare c cursor for select id from p where name = 'x'",
        "sorted",
    ),
    ("prepare s as select id from p where name = 'x'", "sorted"),
    (
        "create table z as select id from p where name = 'x'",
        "sorted",
    ),
    // What is asked may fail.
    ("select id from p where name = 'x' and 1 / id > 0", "blind"),
    (
        "select id from p where name like $1 or name like $2",
        "blind",
    ),
    (
        "select id from p where name = $1::text or id = $2::int",
        "blind",
    ),
    ("select id from p where name = $1::text", "sorted"),
    ("select id from p where name = initcap('X')", "blind"),
    (
        "select id from p where upper(name) = upper($1) and length(name) > 3",
        "sorted",
    ),
    (
        "select id from p where upper(id::text) = 'X' and name = 'x'",
        "blind",
    ),
    ("select id from p where (p).name = 'x'", "blind"),
    ("select id from p where p = row(1, 'x', null)", "asked"),
    (
        "select id from p where p is not null and name > ''",
        "blind",
    ),
    (
        "select id from p where p.upper = 'x' and name = 'x'",
        "blind",
    ),
    (
        "select id from p where case when name = 'x' then id = 1 end",
        "blind",
    ),
    (
        "select x.id from (select 1 / id as id, name from p) x where name = 'x' and x.id > 0",
        "blind",
    ),
    (
        "select id from p, lateral generate_series(1, id) where name = 'x'",
        "blind",
    ),
    (
        "select id, (select max(id) from q) from p where name = 'x'",
        "blind",
    ),
    (
        "select id from p group by id, name having name > 'x' and 1 / id > 0",
        "blind",
    ),
    (
        "select id from p where name = 'x' union all select 1 / id from p",
        "blind",
    ),
    (
        "with x as (select 1 / id as i, name from p) select from x where i > 0",
        "blind",
    ),
    // What is made of it later is not known, and what it would cost says something.
    ("create view z as select id from p", "blind"),
    ("create materialized view z as select id from p", "blind"),
    ("explain select id from p where name = 'x'", "blind"),
    ("explain select id from p where id = 1", "asked"),
    (
        "update q set ssn = 'x' from p where p.name = 'x' and p.id = q.id",
        "blind",
    ),
    ("insert into q select id, name from p", "blind"),
];

#[test]
fn a_statement_that_names_what_rows_are_found_by_has_them_sorted() {
    let schema = indexed(&["name ssn"]);
    let mut wrong = Vec::new();
    for (text, what) in READS {
        let found = way(&schema, text);
        let found = match found.starts_with("copy (SELECT \"id\", \"name\"") {
            true => "COPY",
            false => found.as_str(),
        };
        if found != *what {
            wrong.push(format!("{text}: {found}, not {what}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Writes, with `N` for what is in the place of `name`, and what they are where they go.
const WRITES: &[(&str, &str)] = &[
    (
        "update p set name = upper(name) where id > 5 returning id, name",
        "",
    ),
    (
        "update p set name = 'x' where name = 'y' returning name",
        "where N = 'y' returning name",
    ),
    (
        "update p x set name = 'x' where x.name = $1 and x.id = $2",
        "where X.N = $1 and x.id = $2",
    ),
    (
        "update public.p set name = 'x' where public.p.name is null",
        "where PUBLIC.P.N is null",
    ),
    (
        "delete from p where 1 / id > 0 and name[1] = 'x' returning name",
        "where 1 / id > 0 and N[1] = 'x' returning name",
    ),
    (
        "delete from p using q where q.ssn = p.name",
        "where q.ssn = P.N",
    ),
    (
        "delete from p where exists (select * from q where q.ssn = name)",
        "(select * from q where q.ssn = N)",
    ),
    (
        "merge into p using q on q.ssn = p.name when matched then delete",
        "on q.ssn = P.N when matched then delete",
    ),
    (
        "insert into p (id, name) values (1, 'x') on conflict do nothing returning name",
        "",
    ),
    (
        "with x as (delete from p where name = 'x' returning id) select * from x",
        "where N = 'x' returning id) select * from x",
    ),
    (
        "update p set name = 'y' from lateral (select p.name as n) x where x.n = 'x'",
        "refused",
    ),
    ("delete from p where (p).name = 'x'", "refused"),
    ("delete from p where exists (select p.*)", "refused"),
];

#[test]
fn a_write_is_found_by_no_index_in_a_hidden_order() {
    let schema = indexed(&["name ssn"]);
    let mut wrong = Vec::new();
    for (text, what) in WRITES {
        let read = facts::read(text, &names_of(&schema, &Mask::Null));
        let mut sent = match (&read.reading.veto, &read.rewrite) {
            (Some(_), _) => "refused".to_owned(),
            (None, Some(rewrite)) => rewrite.text.replace("\"public\".", ""),
            (None, None) => (*text).to_owned(),
        };
        for (label, short) in [
            ("", "N"),
            ("x.", "X.N"),
            ("p.", "P.N"),
            ("public.p.", "PUBLIC.P.N"),
        ] {
            let name = format!("{label}name");
            let blind = format!(
                "(CASE WHEN pg_catalog.num_nulls({name}) OPERATOR(pg_catalog.<>) (-1) THEN {name} ELSE {name} END)"
            );
            sent = sent.replace(&blind, short);
        }
        let what = if what.is_empty() { text } else { what };
        if !sent.ends_with(what) {
            wrong.push(format!("{text}: {sent}: {:?}", read.reading.veto));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_elsewhere_comes_in_an_order_that_is_not_known() {
    let mut schema = schema();
    schema.tables.remove(&4);
    schema.tables.get_mut(&1).unwrap().kind = b'f';
    assert_eq!(way(&schema, "select id from p where id = 1"), "sorted");
    assert_eq!(way(&schema, "select id from p where 1 / id > 1"), "fenced");
}

#[test]
fn a_view_is_sorted_where_rows_below_it_are_found_in_a_hidden_order() {
    for (definition, what) in [
        (" SELECT p.id FROM public.p WHERE p.id > 1;", "asked"),
        (" SELECT p.id, p.name FROM public.p;", "sorted"),
        (
            " SELECT p.id FROM public.p WHERE p.name > ''::text;",
            "sorted",
        ),
        (" SELECT t.a AS id FROM public.p t(a, b, c);", "sorted"),
        (
            " SELECT count(*) AS id FROM public.p GROUP BY p.name;",
            "sorted",
        ),
        (" SELECT p.id FROM public.p LIMIT 9;", "asked"),
        (
            " SELECT p.id FROM public.p ORDER BY p.name LIMIT 9;",
            "closed",
        ),
        (
            " SELECT (array_agg(p.id))[1] AS id FROM public.p GROUP BY p.name;",
            "closed",
        ),
    ] {
        let mut schema = indexed(&["name ssn"]);
        let mut view = table(50, "w", b'v', &[("id", INT)]);
        view.depends = vec![(1, 1)];
        view.definition = definition.to_owned();
        schema.add(view);
        let facts = facts::read("select id from w", &names_of(&schema, &Mask::Null));
        let sent = facts.rewrite.as_ref().map(|rewrite| rewrite.text.as_ref());
        let found = match (&facts.reading.veto, sent) {
            (Some(veto), _) if veto.message.contains("in which order") => "closed",
            (None, Some(sent)) if sent.contains("ORDER BY") => "sorted",
            (None, _) => "asked",
            (Some(veto), _) => veto.message.as_str(),
        };
        assert_eq!(found, what, "{definition}");
    }
}

#[test]
fn what_every_statement_looks_at_is_looked_at_by_each() {
    let sifted = |column: i16| {
        let mut schema = indexed(&["name ssn"]);
        let person = schema.tables.get_mut(&1).unwrap();
        person.sifted.insert(column);
        way(&schema, "select id from p where id = 1")
    };
    assert_eq!(sifted(2), "sorted");
    assert_eq!(sifted(0), "sorted");
    assert_eq!(sifted(1), "asked");
}

#[test]
fn a_column_that_is_made_of_another_is_that_one() {
    let mut schema = indexed(&["name ssn"]);
    let person = schema.tables.get_mut(&1).unwrap();
    person.generated = vec![(1, 2)];
    assert_eq!(way(&schema, "select id from p where id = 1"), "sorted");
}

#[test]
fn what_rows_refer_to_does_not_have_them_written_in_a_hidden_order() {
    let refused = |acts: bool, indexes: &[&str]| {
        let mut schema = indexed(indexes);
        let person = schema.tables.get_mut(&1).unwrap();
        person.references = vec![(2, 2, 1)];
        if acts {
            person.changed_by.insert(2);
        }
        let facts = facts::read(
            "delete from q where id = 1",
            &names_of(&schema, &Mask::Null),
        );
        facts.reading.veto.is_some()
    };
    assert!(refused(true, &["name ssn"]));
    assert!(!refused(false, &["name ssn"]));
    assert!(!refused(true, &["name"]));
}

//! Relations whose rows would come in the order of an index that holds something masked.

use super::*;

/// `p`, with an index of `ssn` that holds `id`, `q` without any, and a view of them.
fn view(columns: &[(&str, (u32, &str))], definition: &str) -> Schema {
    let mut schema = Schema::default();
    let mut person = table(1, "p", b'r', &[("id", INT), ("ssn", TEXT), ("name", TEXT)]);
    person.index(1, (1, 2), false);
    person.index(1, (0, 1), false);
    schema.add(person);
    schema.add(table(2, "q", b'r', &[("id", INT), ("code", TEXT)]));
    let mut view = table(3, "v", b'v', columns);
    let reads = [("public.p", 1), ("public.q", 2), ("public.w", 4)];
    for (name, oid) in reads {
        if definition.contains(name) {
            view.depends.push((oid, 1));
        }
    }
    view.definition = definition.to_owned();
    schema.add(view);
    let mut under = table(4, "w", b'v', &[("id", INT), ("name", TEXT)]);
    under.depends = vec![(1, 1), (1, 3)];
    under.definition = " SELECT p.id, p.name FROM public.p;".to_owned();
    schema.add(under);
    schema
}

/// What is asked of `v`: columns, nothing, that it is sorted, or `closed`.
fn asked(definition: &str) -> String {
    asked_of(&view(&[("id", INT), ("x", TEXT)], definition))
}

fn asked_of(schema: &Schema) -> String {
    let facts = facts::read("select id from v", &names_of(schema, &Mask::Null));
    if let Some(veto) = &facts.reading.veto {
        assert!(veto.message.contains("in which order"), "{}", veto.message);
        return "closed".to_owned();
    }
    let Some(rewrite) = facts.rewrite else {
        return String::new();
    };
    let text = rewrite.text.to_string();
    let sorted = "select id from (SELECT * FROM (SELECT \"id\", \"x\" FROM \"public\".\"v\" AS \"~\") AS \"~\" \
                  ORDER BY \"~\".\"id\", \"~\".\"x\" COLLATE pg_catalog.\"C\") AS \"v\"";
    if text == sorted {
        return "sorted".to_owned();
    }
    let front = "select id from (SELECT \"id\", \"x\" FROM \"public\".\"v\" AS \"~\"";
    let rest = text.strip_prefix(front).expect(&text);
    let rest = rest.strip_suffix(") AS \"v\"").expect(&text);
    rest.replace(" WHERE pg_catalog.num_nulls(\"~\".", "")
        .replace(" AND pg_catalog.num_nulls(\"~\".", " ")
        .replace(") OPERATOR(pg_catalog.<>) (-1)", "")
}

/// Queries of views, and what is asked of each.
const VIEWS: &[(&str, &str)] = &[
    // The server takes it for the table.
    (" SELECT p.id, p.name AS x FROM public.p;", "\"x\""),
    (" SELECT p.id, upper(p.name) AS x FROM public.p;", "\"x\""),
    (" SELECT p.id, ''::text AS x FROM public.p;", "sorted"),
    (" SELECT t.a, t.c AS x FROM public.p t(a, b, c);", "\"x\""),
    // From PostgreSQL 16 on there are no labels where there is one table.
    (" SELECT id, name AS x FROM public.p;", "\"x\""),
    (" SELECT id, '' AS x FROM public.p;", "sorted"),
    (" SELECT id, '' AS x FROM public.p WHERE name <> 'a';", ""),
    (" SELECT w.id, w.name AS x FROM public.w;", "\"x\""),
    (" SELECT w.id, ''::text AS x FROM public.w;", "sorted"),
    // Its own conditions look at the table.
    (
        " SELECT p.id, '' AS x FROM public.p WHERE p.name <> 'a';",
        "",
    ),
    (
        " SELECT p.id, '' AS x FROM public.p WHERE p.name IS NOT NULL;",
        "sorted",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.p JOIN public.q ON p.name = q.code;",
        "",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.p JOIN public.q ON p.id = q.id;",
        "sorted",
    ),
    // A table that an outer join adds may go, and what it asks of others with it.
    (
        " SELECT q.id, '' AS x FROM public.q LEFT JOIN public.p ON p.name = q.code;",
        "",
    ),
    (
        " SELECT q.id, '' AS x FROM public.p RIGHT JOIN public.q ON p.name = q.code;",
        "",
    ),
    (
        " SELECT q.id, '' AS x FROM public.q FULL JOIN public.p ON p.name = q.code;",
        "",
    ),
    (
        " SELECT q.id, '' AS x FROM public.p RIGHT JOIN public.q USING (id);",
        "sorted",
    ),
    (
        " SELECT p.id, p.name AS x FROM public.p LEFT JOIN public.q ON p.name = q.code;",
        "\"x\"",
    ),
    (
        " SELECT p.id, q.code AS x FROM public.p LEFT JOIN public.q ON p.name = q.code;",
        "sorted",
    ),
    // A table that is joined with itself may be one.
    (
        " SELECT p.id, r.name AS x FROM public.p JOIN public.p r ON p.name = r.name;",
        "sorted",
    ),
    // Queries in it.
    (
        " SELECT z.id, z.n AS x FROM ( SELECT p.id, p.name AS n FROM public.p) z;",
        "\"x\"",
    ),
    (
        " SELECT z.id, '' AS x FROM ( SELECT p.id, p.name AS n FROM public.p) z;",
        "sorted",
    ),
    (
        " WITH z AS ( SELECT p.id, p.name FROM public.p) SELECT z.id, z.name AS x FROM z;",
        "\"x\"",
    ),
    (
        " WITH z(a, b) AS ( SELECT p.id, p.name FROM public.p) SELECT z.a AS id, z.b AS x FROM z;",
        "sorted",
    ),
    (
        " SELECT p.id, p.name AS x FROM public.p UNION ALL SELECT q.id, q.code FROM public.q;",
        "\"x\"",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.q UNION ALL SELECT p.id, '' FROM public.p;",
        "sorted",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.q UNION SELECT p.id, '' FROM public.p;",
        "",
    ),
    // No order is seen.
    (
        " SELECT p.id, count(*)::text AS x FROM public.p GROUP BY p.id;",
        "",
    ),
    (
        " SELECT 1 AS id, string_agg(p.id::text, ',') AS x FROM public.p;",
        "closed",
    ),
    (
        " SELECT 1 AS id, string_agg(p.name, ',') AS x FROM public.p;",
        "\"x\"",
    ),
    (
        " SELECT q.id, (EXISTS ( SELECT 1 FROM public.p WHERE p.id = q.id))::text AS x FROM public.q;",
        "",
    ),
    // The server joins what is looked for in a condition, and may begin there.
    (
        " SELECT q.id, q.code AS x FROM public.q WHERE EXISTS ( SELECT 1 FROM public.p WHERE p.id = q.id);",
        "sorted",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.q WHERE EXISTS ( SELECT p.name FROM public.p WHERE p.id = q.id);",
        "sorted",
    ),
    (
        " SELECT q.id, '' AS x FROM public.q WHERE EXISTS ( SELECT 1 FROM public.p WHERE p.id = q.id GROUP BY p.name);",
        "sorted",
    ),
    (
        " SELECT q.id, '' AS x FROM public.q WHERE EXISTS ( SELECT 1 FROM public.p WHERE p.id = q.id AND p.name = q.code);",
        "",
    ),
    (
        " SELECT q.id, q.code AS x FROM public.q WHERE (q.id IN ( SELECT p.id FROM public.p));",
        "sorted",
    ),
    (
        " SELECT q.id, '' AS x FROM public.q WHERE (q.code IN ( SELECT p.name FROM public.p));",
        "",
    ),
    (
        " SELECT q.id, '' AS x FROM public.q JOIN public.w ON (EXISTS ( SELECT 1 FROM public.p WHERE p.id = q.id)) AND w.name = q.code;",
        "sorted",
    ),
    (
        " SELECT u.u AS id, '' AS x FROM unnest(ARRAY( SELECT p.id FROM public.p)) u(u);",
        "closed",
    ),
    (
        " SELECT q.id, ( SELECT count(*) FROM public.p WHERE p.id = q.id)::text AS x FROM public.q;",
        "",
    ),
    (
        " SELECT q.id, ( SELECT p.id FROM public.p LIMIT 1)::text AS x FROM public.q;",
        "closed",
    ),
    (
        " SELECT q.id, ARRAY( SELECT p.id FROM public.p)::text AS x FROM public.q;",
        "closed",
    ),
    (
        " SELECT q.id, ARRAY( SELECT p.name FROM public.p)::text AS x FROM public.q;",
        "",
    ),
    (" this is no query of public.p", "closed"),
];

#[test]
fn a_view_is_asked_for_what_no_index_with_a_masked_column_holds() {
    for (definition, what) in VIEWS {
        assert_eq!(asked(definition), *what, "{definition}");
    }
}

#[test]
fn what_takes_some_rows_of_many_is_not_sorted() {
    for definition in [
        " SELECT p.id, '' AS x FROM public.p LIMIT 9;",
        " SELECT p.id, '' AS x FROM public.p OFFSET 9;",
        " SELECT DISTINCT ON (p.id) p.id, '' AS x FROM public.p;",
        " SELECT p.id, row_number() OVER ()::text AS x FROM public.p;",
        " SELECT p.id, random()::text AS x FROM public.p;",
        " SELECT p.id, other(p.id)::text AS x FROM public.p;",
        // It is called like one of the server's own.
        " SELECT p.id, public.upper(p.id::text) AS x FROM public.p;",
        " SELECT 1 AS id, public.count(p.id)::text AS x FROM public.p;",
        " SELECT p.id, public.max(''::text) AS x FROM public.p GROUP BY p.id;",
        " SELECT w.id, '' AS x FROM ( SELECT w.id FROM public.w LIMIT 9) w;",
    ] {
        assert_eq!(asked(definition), "closed", "{definition}");
    }
}

/// The same with `v` as a materialized view, and a view `z` of it.
fn filled(definition: &str) -> (String, String) {
    let mut schema = view(&[("id", INT), ("x", TEXT)], definition);
    schema.tables.get_mut(&3).unwrap().kind = b'm';
    let of_view = asked_of(&schema);
    let sorts = |rewrite: Rewrite| rewrite.text.contains("ORDER BY").to_string();
    let mut of_above = |definition: &str| {
        let mut above = table(5, "z", b'v', &[("id", INT), ("x", TEXT)]);
        above.depends = vec![(3, 1)];
        above.definition = definition.to_owned();
        schema.add(above);
        let facts = facts::read("select id from z", &names_of(&schema, &Mask::Null));
        match facts.reading.veto {
            Some(_) => "closed".to_owned(),
            None => facts.rewrite.map(sorts).unwrap_or_default(),
        }
    };
    let above = of_above(" SELECT v.id, v.x FROM public.v;");
    // Which rows of it there are says where they lie.
    let sampled = of_above(" SELECT v.id, v.x FROM public.v TABLESAMPLE system (50);");
    assert_eq!(sampled.is_empty(), above.is_empty(), "{definition}");
    assert_ne!(sampled, "true", "{definition}");
    (of_view, above)
}

#[test]
fn a_materialized_view_that_an_index_may_have_filled_is_sorted_and_all_that_reads_it() {
    for (definition, view, above) in [
        (" SELECT p.id, p.name AS x FROM public.p;", "", ""),
        (" SELECT p.id, '' AS x FROM public.p;", "sorted", "true"),
        (" SELECT w.id, '' AS x FROM public.w;", "sorted", "true"),
        (" SELECT q.id, q.code AS x FROM public.q;", "", ""),
        (
            " SELECT p.id, '' AS x FROM public.p LIMIT 9;",
            "closed",
            "closed",
        ),
        (
            " SELECT 1 AS id, string_agg(p.id::text, ',') AS x FROM public.p;",
            "closed",
            "closed",
        ),
        (
            " SELECT p.id, count(*)::text AS x FROM public.p GROUP BY p.id;",
            "",
            "",
        ),
    ] {
        let expected = (view.to_owned(), above.to_owned());
        assert_eq!(filled(definition), expected, "{definition}");
    }
}

/// A table whose rows lie in the order of what is masked in it.
fn clustered() -> Schema {
    let mut schema = schema();
    let person = schema.tables.get_mut(&1).unwrap();
    person.index(1, (1, 3), false);
    person.guard("l1", 3);
    person.guard("p1", 1);
    // Nothing is refused for that.
    schema.tables.remove(&12);
    schema.tables.remove(&4);
    schema
}

#[test]
fn what_is_shown_in_the_place_of_values_is_sorted_too() {
    let schema = clustered();
    let read = |text: &str, mask: &Mask| facts::read(text, &names_of(&schema, mask));
    let sent = read("select id from p", &Mask::Last4).rewrite.unwrap().text;
    let end = ") AS \"~\" ORDER BY \"~\".\"id\", \"~\".\"name\" COLLATE pg_catalog.\"C\", \"~\".\"ssn\" COLLATE pg_catalog.\"C\") AS \"p\"";
    assert!(sent.ends_with(end), "{sent}");
    let sent = read("copy p (id) to stdout", &Mask::Null);
    let sent = sent.rewrite.unwrap().text;
    let end = "FROM ONLY \"public\".\"p\" AS \"~\") AS \"~\" ORDER BY \"~\".\"id\") to stdout";
    assert!(sent.ends_with(end), "{sent}");
}

/// Writes to it, and whether they go.
const WRITES: &[(&str, bool)] = &[
    ("select id from p tablesample system (50)", false),
    ("update p set name = 'x' where id = 1", true),
    ("update p set name = btrim($1)", true),
    ("update p set name = name, id = id", false),
    ("update p set name = name", true),
    ("update p set name = btrim(name)", false),
    ("update p set name = id", false),
    ("update p set name[1] = 'x'", false),
    ("update p set name = 'x' where 1 / id > 0", false),
    ("update p set name = 'x' where ctid < '(1,1)'", false),
    ("delete from p where p.ctid < '(1,1)'", false),
    ("delete from p where (p).ctid < '(1,1)'", false),
    ("delete from p where tableoid = 1", false),
    (
        "delete from p where case id when 3 then 1 / (id - 3) > 0 end",
        false,
    ),
    ("delete from p where id = '7'::text::int", false),
    ("delete from p where id = $1::int", false),
    ("delete from p where name like 'x'", false),
    ("delete from p where id = id", false),
    ("delete from p where id = -(1)", true),
    (
        "delete from p where id = '7'::int or not (name in ('x', $2) and id is null)",
        true,
    ),
    (
        "delete from p where id = any($1) and id between 1 and $2 and name is distinct from 'x'",
        true,
    ),
    ("with x as (select 1) delete from p where id = 1", false),
    (
        "insert into p (id, name) values (1, 'x') on conflict (name) do update set name = 'y' where p.ctid < '(1,1)'",
        false,
    ),
    ("insert into p (id) values (1) returning ctid", false),
    ("update p set name = random()::text", false),
    ("update p set id = id + 1 where id in (5, 6)", false),
    ("update p set name = (select max(code) from x)", false),
    ("update p set name = q.code from q", false),
    ("delete from p using q where q.id = p.id", false),
    ("update p set name = default", false),
    ("update p set (name) = row(default)", false),
    ("update p set name = 'x' returning id", false),
    ("delete from p where id = 1", true),
    // One row, by its primary key.
    (
        "update p set name = upper(name) where id = $1 and name > 'x' returning id",
        true,
    ),
    (
        "delete from p where (name = 'x' and 1 = id) returning id",
        true,
    ),
    (
        "delete from p where id = 1 and 1 / id > 0 returning id",
        false,
    ),
    ("delete from p where (id = 1 or id = 2) returning id", false),
    ("delete from p where id > 1 returning id", false),
    ("delete from p using q where p.id = 1 returning p.id", false),
    ("delete from p where random() < 0.5", false),
    ("delete from p returning id", false),
    ("insert into p (id) values (1) returning id", true),
    (
        "merge into p using q on q.id = p.id when matched then delete",
        false,
    ),
];

#[test]
fn a_write_to_what_lies_in_a_hidden_order_says_nothing_that_may_fail() {
    let schema = clustered();
    for (text, goes) in WRITES {
        let read = facts::read(text, &names_of(&schema, &Mask::Null));
        let veto = read.reading.veto.clone();
        assert_eq!(veto.is_none(), *goes, "{text}: {veto:?}");
    }
}

/// What is asked of `v` above `p`, of which the rows lie in the order of what is masked.
fn above_laid(definition: &str) -> String {
    let mut schema = view(&[("id", INT), ("x", TEXT)], definition);
    schema.tables.get_mut(&1).unwrap().guard("l1", 2);
    asked_of(&schema)
}

#[test]
fn each_view_above_rows_that_lie_in_a_hidden_order_is_sorted_whatever_it_makes_of_them() {
    for (definition, what) in [
        (" SELECT p.id, p.name AS x FROM public.p;", "sorted"),
        (
            " SELECT DISTINCT p.id, p.name AS x FROM public.p;",
            "sorted",
        ),
        (
            " SELECT p.id, count(*)::text AS x FROM public.p GROUP BY p.id;",
            "sorted",
        ),
        (
            " SELECT w.id, max(w.name) AS x FROM public.w GROUP BY w.id;",
            "sorted",
        ),
        (
            " SELECT q.id, q.code AS x FROM public.q UNION SELECT p.id, '' FROM public.p;",
            "sorted",
        ),
        (
            " SELECT q.id, ( SELECT count(*) FROM public.p WHERE p.id = q.id)::text AS x FROM public.q;",
            "sorted",
        ),
        (
            " SELECT p.id, string_agg(p.name, ',') AS x FROM public.p GROUP BY p.id;",
            "closed",
        ),
        (" SELECT q.id, q.code AS x FROM public.q;", ""),
    ] {
        assert_eq!(above_laid(definition), what, "{definition}");
    }
}

#[test]
fn what_something_is_about_is_not_set_where_rows_lie_in_a_hidden_order() {
    let goes = |change: &dyn Fn(&mut Schema)| {
        let mut schema = Schema::default();
        schema.add(table(
            1,
            "above",
            b'r',
            &[("id", INT), ("name", TEXT), ("sum", (1_700, "numeric"))],
        ));
        let mut child = table(
            2,
            "p",
            b'r',
            &[
                ("id", INT),
                ("name", TEXT),
                ("sum", (1_700, "numeric")),
                ("ssn", TEXT),
            ],
        );
        child.parents = vec![1];
        child.index(1, (1, 4), false);
        child.guard("l1", 4);
        schema.add(child);
        change(&mut schema);
        let facts = |text: &str| {
            facts::read(text, &names_of(&schema, &Mask::Null))
                .reading
                .veto
                .is_none()
        };
        facts("update above set name = 'x' where sum > 1.5")
            && !facts("delete from above where sum > $1")
    };
    let of = |schema: &mut Schema, oid: u32, change: fn(&mut Table)| {
        change(schema.tables.get_mut(&oid).unwrap())
    };
    assert!(goes(&|_| {}));
    assert!(!goes(&|schema| of(schema, 2, |child| child.guard("c1", 2))));
    assert!(!goes(&|schema| of(schema, 2, |child| child
        .generated
        .push((9, 2)))));
    assert!(!goes(&|schema| of(schema, 1, |above| {
        above.split.insert(2);
    })));
    assert!(!goes(
        &|schema| of(schema, 2, |child| child.has_triggers = true)
    ));
    assert!(!goes(&|schema| of(schema, 1, |above| above.columns[2]
        .type_oid =
        20_000)));
}

#[test]
fn a_column_that_is_called_like_its_table_is_one_column() {
    let mut schema = view(
        &[("id", INT), ("x", TEXT)],
        " SELECT p AS id, ''::text AS x FROM public.p;",
    );
    let person = schema.tables.get_mut(&1).unwrap();
    person.columns.first_mut().unwrap().name = "p".to_owned();
    assert_eq!(asked_of(&schema), "sorted");
}

/// What is known of `v`, which reads 100 times what reads 100 times what reads `p`, and so on, by the text of each.
fn nested(levels: u32, of: impl Fn(u32, &str) -> String) -> Schema {
    let mut schema = view(&[], "");
    for level in 0..=levels {
        let (under, name) = match level {
            0 => ("public.w".to_owned(), "v0".to_owned()),
            _ => (format!("public.v{}", level - 1), format!("v{level}")),
        };
        let times: Vec<String> = (0..100).map(|at| format!("{under} a{at}")).collect();
        let mut view = table(100 + level, &name, b'v', &[("id", INT), ("x", TEXT)]);
        view.depends = vec![(if level == 0 { 4 } else { 99 + level }, 1)];
        view.definition = of(level, &times.join(", "));
        schema.add(view);
    }
    schema
}

#[test]
fn views_that_read_views_many_times_are_walked_once() {
    let mut schema = nested(5, |_, times| {
        format!(" SELECT a0.id, '' AS x FROM {times};")
    });
    let under = schema.tables.get_mut(&4).unwrap();
    under.definition = " SELECT p.id, p.name FROM public.p WHERE p.name <> '';".to_owned();
    let facts = facts::read("select id from v5", &names_of(&schema, &Mask::Null));
    assert!(facts.reading.veto.is_none(), "{:?}", facts.reading.veto);
}

#[test]
fn a_view_that_takes_too_many_steps_is_closed_by_itself() {
    let mut schema = nested(0, |_, _| {
        let times: Vec<String> = (0..100).map(|at| format!("{{}} a{at}")).collect();
        let times = times.join(", ");
        let mut with = vec!["c0 AS ( SELECT w.id FROM public.w)".to_owned()];
        for level in 1..6 {
            let under = times.replace("{}", &format!("c{}", level - 1));
            with.push(format!("c{level} AS ( SELECT a0.id FROM {under})"));
        }
        format!(
            " WITH {} SELECT c5.id, '' AS x FROM c5 LIMIT 9;",
            with.join(", ")
        )
    });
    let mut after = schema.tables[&100].clone();
    (after.oid, after.name) = (101, "after".to_owned());
    after.definition = " SELECT w.id, '' AS x FROM public.w;".to_owned();
    schema.add(after);
    let under = schema.tables.get_mut(&4).unwrap();
    under.definition = " SELECT p.id, p.name FROM public.p WHERE p.name <> '';".to_owned();
    let names = names_of(&schema, &Mask::Null);
    let veto = |text: &str| facts::read(text, &names).reading.veto.clone();
    let closed = veto("select id from v0").expect("it is closed");
    assert!(
        closed.message.contains("in which order"),
        "{}",
        closed.message
    );
    assert!(veto("select id from after").is_none());
}

#[test]
fn a_parent_is_asked_for_what_an_index_of_a_child_does_not_hold() {
    let mut schema = Schema::default();
    schema.add(table(1, "above", b'r', &[("id", INT), ("name", TEXT)]));
    let mut child = table(2, "p", b'r', &[("id", INT), ("name", TEXT), ("ssn", TEXT)]);
    child.parents = vec![1];
    child.index(1, (1, 3), false);
    child.index(1, (0, 1), false);
    schema.add(child);
    let goes = |schema: &Schema, text: &str| {
        let facts = facts::read(text, &names_of(schema, &Mask::Null));
        assert!(facts.reading.masked.is_empty());
        let rewrite = facts.rewrite.expect("another text");
        rewrite.text.to_string()
    };
    let asked = "select id from (SELECT \"id\", \"name\" FROM \"public\".\"above\" AS \"~\" \
                 WHERE pg_catalog.num_nulls(\"~\".\"name\") OPERATOR(pg_catalog.<>) (-1)) AS \"above\"";
    assert_eq!(goes(&schema, "select id from above"), asked);
    schema.tables.get_mut(&2).unwrap().index(1, (0, 2), false);
    let asked = goes(&schema, "select above.id from public.above");
    assert!(asked.contains("\"~\".ctid"), "{asked}");
}

#[test]
fn hints_become_comments() {
    for (text, sent) in [
        (
            "/*+ IndexOnlyScan(q) */ select id from q",
            "/*  IndexOnlyScan(q) */ select id from q",
        ),
        (
            "select /* a /*+ b */ */ id /*+*/ from q -- /*+ c */",
            "select /* a /*  b */ */ id /* */ from q -- /*+ c */",
        ),
    ] {
        assert_eq!(goes(text), sent);
    }
    for text in ["select '/*+ x */' from q", "select 1 /* + */ from q"] {
        assert_eq!(goes(text), text);
    }
    let text = "select o.id from p tablesample system (/*+ x */ 100) o";
    assert!(read(text).reading.veto.is_some());
    let both = goes("/*+ x */ select ssn from only /*+ y */ p");
    assert_eq!(both, "/*  x */ select ssn from ONLY-P AS \"p\"");
}

#[test]
fn what_a_primary_key_groups_is_named() {
    let mut schema = schema();
    schema.tables.get_mut(&1).unwrap().guard("p1", 1);
    let goes = |text: &str| {
        let facts = facts::read(text, &names_of(&schema, &Mask::Null));
        let rewrite = facts.rewrite.expect("it is masked");
        let list = "\"id\", \"name\", CAST(NULL AS text) AS \"ssn\"";
        let query = format!("(SELECT {list} FROM \"public\".\"p\" AS \"~\")");
        rewrite.text.replace(&query, "P")
    };
    for (text, sent) in [
        (
            "select p.id, name, count(*) from p join q using (id) group by p.id order by 3",
            "select p.id, name, count(*) from P AS \"p\" join q using (id) group by p.id, \"p\".\"name\" order by 3",
        ),
        (
            "select x.*, max(q.id) from p x, q group by x.id, q.ssn having x.ssn > ''",
            "select x.*, max(q.id) from P x, q group by x.id, \"x\".\"name\", \"x\".\"ssn\", q.ssn having x.ssn > ''",
        ),
        (
            "select id, upper(name) from public.p group by 1",
            "select id, upper(name) from P AS \"p\" group by 1, \"p\".\"name\"",
        ),
        (
            "select id, max(name) from p group by id",
            "select id, max(name) from P AS \"p\" group by id",
        ),
        (
            "select name, ssn from p group by name",
            "select name, ssn from P AS \"p\" group by name",
        ),
        (
            "select name from p group by (id)",
            "select name from P AS \"p\" group by (id)",
        ),
        (
            "select *, (select p.name) from p group by id, name, ssn",
            "select *, (select p.name) from P AS \"p\" group by id, name, ssn",
        ),
    ] {
        assert_eq!(goes(text), sent);
    }
}

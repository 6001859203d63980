//! What has a shape, and that all texts of one shape whose facts say so have the same facts.

use super::super::tests::{cases, names};
use super::super::{Facts, read};
use super::*;

fn of(text: &str) -> Option<String> {
    let mut shaped = String::new();
    shape(text, &mut shaped).then(|| {
        shaped
            .replace(BEGIN, "")
            .replace(INTEGER, "<i>")
            .replace(DECIMAL, "<d>")
            .replace(STRING, "<s>")
    })
}

#[test]
fn plain_literals_are_taken_out() {
    let rows = [
        ("", ""),
        ("select 1", "select <i>"),
        ("select 1.5, -20, 007", "select <d>, -<i>, <i>"),
        // What does not fit an integer is another token to the grammar.
        ("select 2147483647, 2147483648", "select <i>, <d>"),
        (
            "where a='it''s' and b in ('',' ')",
            "where a=<s> and b in (<s>,<s>)",
        ),
        // Over a line break two strings are one; the shape shows both.
        ("select 'a'\n'b'", "select <s>\n<s>"),
        (
            "where \"A \"\"1'\" = $1 and t1.c2 > 3",
            "where \"A \"\"1'\" = $1 and t1.c2 > <i>",
        ),
        ("select x'1", "-"),
        ("select '§1'", "select <s>"),
        ("select '1'::int4[]", "select <s>::int4[]"),
    ];
    for (text, expected) in rows {
        assert_eq!(of(text).as_deref().unwrap_or("-"), expected, "{text}");
    }
}

#[test]
fn what_is_not_plain_has_no_shape() {
    let rows = [
        "select 1 -- one",
        "select 1 /* one */",
        "select e'x'",
        "select E'\\'",
        "select b'1', x'1'",
        "select n'x'",
        "select U&'x'",
        "select U&\"x\"",
        "select date'2020-01-01'",
        "select 'back\\slash'",
        "select 'open",
        "select \"open",
        "select $$x$$",
        "select $a$x$a$",
        "select $1a",
        "select 1a",
        "select 1_000",
        "select 0x1F",
        "select 1e5",
        "select 1.",
        "select .5",
        "select 1.5.5",
        "select a.5",
        "select é",
        "select aé",
        "select \"é\"",
        "select 1é",
        "select 1\u{1}",
        "select \u{b}1",
        "select 1\\gset",
        "select 1::float(3)",
        "select 1::FLOAT (30)",
    ];
    for text in rows {
        assert_eq!(of(text), None, "{text}");
    }
}

/// Values that would matter to whoever looked at them.
const STRINGS: [&str; 8] = [
    "''",
    "'search_path'",
    "'client_encoding'",
    "'is''nt'",
    "'execute s'",
    "'secret; DROP TABLE secret'",
    "'--'",
    "'ä $1 \"x\"'",
];
const INTEGERS: [&str; 5] = ["0", "1", "25", "000", "2147483647"];
const DECIMALS: [&str; 4] = ["0.5", "2147483648", "1.0", "99999999999999999999"];

/// Another text of the same shape, the `turn`th.
fn another(shape: &str, turn: usize) -> String {
    let mut text = String::new();
    let mut turn = turn;
    for letter in shape.chars() {
        let values: &[&str] = match letter {
            BEGIN => continue,
            INTEGER => &INTEGERS,
            DECIMAL => &DECIMALS,
            STRING => &STRINGS,
            other => {
                text.push(other);
                continue;
            }
        };
        text.push_str(values[turn % values.len()]);
        turn = turn / 3 + turn;
    }
    text
}

fn same(one: &Facts, other: &Facts) -> bool {
    one.reading.asks == other.reading.asks
        && one.reading.redacted == other.reading.redacted
        && one.reading.fingerprint == other.reading.fingerprint
        && one.reading.summary == other.reading.summary
        && one.effects == other.effects
        && one.statements == other.statements
        && one.readable == other.readable
        && one.uses_search_path == other.uses_search_path
        && one.of_its_shape == other.of_its_shape
}

/// Texts whose literals stand where a grammar might look at them.
const MORE: &str = "
select 1 limit 5
select 1 limit 2147483648
select interval '1' day(3), interval(3) '1 day', time(3) '1:00', bit(3) '101', char(3) 'abc'
select a::numeric(10,2), a::varchar(20), cast('x' as regclass), 'x'::regclass from t order by 1, 2
select set_config('jit', 'off', false)
select current_setting('jit')
select pg_catalog.set_config('jit'::text, 'off', false)
select json_value(a, '$.x'), extract('year' from b), a at time zone 'UTC' from t
select * from json_table(a, '$[*]' columns (id int path '$.id')) x
select * from t tablesample system (10) repeatable (1)
select sum(x) over (order by y rows between 1 preceding and 2 following) from t
select * from t where a like '%x' escape '!' and b between 1 and 2 for update
insert into t (a, b) values (1, 'x'), (2, 'y') on conflict (a) do update set b = 'z' returning 1
update t set a = a + 1, b = 'x' where c = 2.5
delete from t where a in (1, 2, 3)
delete from t
merge into t using u on t.a = u.a when matched then update set b = 1 when not matched then insert values (1, 'x')
with a as (select 1), b as (delete from t where x = '1' returning 2) select * from a, b limit 3
select 1; select 'x'; update t set a = 1
select a[1], b[2:3], (row(1, 'x')).f1, array[1, 2], '{1}'::int[] from t
set search_path = 'a'
set work_mem = 100
begin; insert into t values (1); commit
prepare s as select 1
copy t from stdin with (delimiter '|')
";

#[test]
fn texts_of_one_shape_have_the_same_facts_where_they_say_so() {
    let own = MORE.lines().filter(|line| !line.is_empty());
    let (mut shaped, mut shared) = (0, 0);
    for text in cases().into_iter().map(|(text, _)| text).chain(own) {
        let mut shape_of = String::new();
        if !shape(text, &mut shape_of) {
            continue;
        }
        shaped += 1;
        let facts = read(text, &names());
        for turn in 0..24 {
            let other = another(&shape_of, turn);
            let mut again = String::new();
            assert!(shape(&other, &mut again) && again == shape_of, "{other}");
            let theirs = read(&other, &names());
            assert_eq!(facts.of_its_shape, theirs.of_its_shape, "{text}\n{other}");
            if facts.of_its_shape {
                shared += 1;
                assert!(
                    same(&facts, &theirs),
                    "{text}\n{facts:?}\n{other}\n{theirs:?}"
                );
            }
        }
    }
    assert!(shaped > 200 && shared > 2_000, "{shaped} {shared}");
}

#[test]
fn where_a_value_matters_the_shape_does_not_stand_for_it() {
    let rows = [
        ("select 1", true),
        ("update t set a = 'x' where b = 1", true),
        ("select set_config('jit', 'off', false)", false),
        ("select (select current_setting('jit'))", false),
        ("set search_path = 'a'", false),
        ("select 1; set jit = 'off'", false),
        ("begin", false),
        ("select * from", false),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text, &names()).of_its_shape, expected, "{text}");
    }
}

#[test]
fn an_answer_may_cover_other_literals_only_where_none_of_them_is_the_deed() {
    let rows = [
        ("delete from t where a = 1", true),
        ("insert into t values (1, 'x') returning a", true),
        (
            "merge into t using u on t.a = u.a when matched then update set b = 1",
            true,
        ),
        ("copy t to program 'rm -r x'", false),
        ("copy t to '/tmp/x'", false),
        (
            "create function f() returns int language plpython3u as 'x'",
            false,
        ),
        ("alter role x password 'y'", false),
        ("set search_path to 'a'", false),
        ("select pg_read_file('/etc/passwd')", false),
        (
            "select query_to_xml('delete from t', true, true, '')",
            false,
        ),
        ("select own_code('x') from t", false),
        ("delete from t where a = own_code('x')", false),
        ("do 'begin end'", false),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text, &names()).varies(), expected, "{text}");
    }
}

#[test]
fn literals_are_the_same_however_a_text_is_spelled() {
    let same = [
        "delete from t where a = -1 and b = 'x''y' and c in (2, 3.5)",
        "DELETE  FROM t\nWHERE (a = - 1) AND b='x''y' and c in (2,3.5)",
        "delete /* it's 7 */ from t where a = -1 -- or 8\n and b = 'x''y' and c in (2, 3.5)",
    ];
    let first = literals(same[0]).unwrap();
    assert_eq!(first, "-1\u{0}'x''y'\u{0}2\u{0}3.5\u{0}");
    for text in same {
        assert_eq!(literals(text).as_deref(), Some(first.as_str()), "{text}");
    }
    for other in ["select '-- 1'", "select '/* 1'", "select \"a--b\", 1"] {
        assert!(literals(other).is_some(), "{other}");
    }
    assert_eq!(literals("select '-- 1', 2").unwrap(), "'-- 1'\u{0}2\u{0}");
    for unclear in [
        "select e'x'",
        "select $$x$$",
        "select /* /* */ */ 1",
        "select 'open",
        "select 1 /*",
    ] {
        assert_eq!(literals(unclear), None, "{unclear}");
    }
}

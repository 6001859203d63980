//! A database in which every masked cell holds something that stands nowhere else, in two versions that
//! mask to the same.

use interceptor::masking::{Joinable, Mask, Masks, Relation};

mod values;

pub(super) use self::values::{Cell, Date, Value};
use self::values::{Draw, Kind};
use crate::server::Server;

/// So many rows has each table.
pub(super) const ROWS: usize = 12;

/// Masked columns: table, column, kind, mask. Every mask there is, and every type that can be masked.
const MASKED: &[(&str, &str, Kind, &str)] = &[
    ("person", "ssn", Kind::Token, "last4"),
    ("person", "email", Kind::Email, "email"),
    ("person", "phone", Kind::Token, "partial"),
    ("person", "note", Kind::Token, "constant"),
    ("person", "token", Kind::Token, "hide"),
    ("person", "born", Kind::Date, "year"),
    ("person", "seen", Kind::Stamp, "null"),
    ("person", "at", Kind::Stamp, "year"),
    ("person", "pin", Kind::Int, "null"),
    ("person", "num", Kind::Int, "hash"),
    ("person", "big", Kind::Big, "hash"),
    ("person", "amount", Kind::Numeric, "null"),
    ("person", "uid", Kind::Uuid, "target"),
    ("person", "raw", Kind::Bytes, "hash"),
    ("person", "tags", Kind::Tags, "null"),
    ("person", "doc", Kind::Doc, "null"),
    ("person", "addr", Kind::Address, "null"),
    ("person", "mood", Kind::Mood, "null"),
    ("person", "span", Kind::Span, "null"),
    ("person", "days", Kind::Days, "null"),
    ("person", "ratio", Kind::Float, "null"),
    ("person", "ip", Kind::Ip, "null"),
    ("person", "code", Kind::Token, "target"),
    ("person", "page", Kind::Page, "null"),
    ("person", "words", Kind::Words, "null"),
    ("person", "spot", Kind::Spot, "null"),
    ("person", "handle", Kind::Token, "null"),
    ("orders", "card", Kind::Token, "last4"),
    ("orders", "memo", Kind::Token, "null"),
    ("orders", "fee", Kind::Numeric, "null"),
    ("event", "payload", Kind::Token, "null"),
    ("event", "num", Kind::Big, "null"),
    ("base", "label", Kind::Token, "constant"),
    ("leaf", "label", Kind::Token, "constant"),
    ("leaf", "extra", Kind::Token, "null"),
    ("vault", "code", Kind::Token, "null"),
    ("split", "part", Kind::Token, "null"),
    ("kinded", "kind", Kind::Letter, "null"),
    ("checks", "code", Kind::Token, "last4"),
];

const SETUP: &str = r"
SET ROLE trusted;
CREATE TYPE mood AS ENUM ('glad', 'sad', 'calm');
CREATE TYPE address AS (street text, code int);
CREATE DOMAIN handle AS text CHECK (length(VALUE) > 2);
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, city text, grp int, score numeric(8,2), made timestamptz,
  flag bool, ssn text, email text, phone varchar(24), note text, token text, born date, seen timestamp, at timestamptz,
  pin int, num int, big bigint, amount numeric(24,4), uid uuid, raw bytea, tags text[], doc jsonb, addr address,
  mood mood, span int8range, days daterange, ratio float8, ip inet, code text, page xml, words tsvector, spot point,
  handle handle);
CREATE TABLE orders (id int PRIMARY KEY, person_id int REFERENCES person, item text, qty int, price numeric(8,2),
  day date, card text, memo text, fee numeric(24,4));
CREATE INDEX ON orders (person_id);
CREATE TABLE event (id int, what text, day date, payload text, num bigint) PARTITION BY RANGE (id);
CREATE TABLE event_low PARTITION OF event FOR VALUES FROM (1) TO (5);
CREATE TABLE event_mid PARTITION OF event FOR VALUES FROM (5) TO (9) PARTITION BY LIST (what);
CREATE TABLE event_mid_a PARTITION OF event_mid FOR VALUES IN ('w0', 'w1');
CREATE TABLE event_mid_b PARTITION OF event_mid DEFAULT;
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE TABLE base (id int, what text, label text);
CREATE TABLE leaf (extra text) INHERITS (base);
CREATE TABLE vault (id int PRIMARY KEY, what text, code text UNIQUE, low text GENERATED ALWAYS AS (lower(code)) STORED);
CREATE TABLE refers (id int, code text REFERENCES vault (code) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE split (id int, part text) PARTITION BY LIST ((ascii(substr(part, 5)) < 82));
CREATE TABLE split_low PARTITION OF split FOR VALUES IN (true);
CREATE TABLE split_rest PARTITION OF split DEFAULT;
CREATE TABLE kinds (kind text PRIMARY KEY);
INSERT INTO kinds SELECT chr(64 + n) FROM generate_series(1, 26) AS n;
CREATE TABLE kinded (id int PRIMARY KEY, kind text REFERENCES kinds);
CREATE TABLE checks (id int PRIMARY KEY, what text, code text, CHECK (left(code, 9) <> what));
CREATE TABLE city (name text PRIMARY KEY, country text, people int);
CREATE TABLE nums (n int, word text, day date, more numeric(8,2));
CREATE VIEW v_person AS SELECT id, name, ssn, upper(ssn) AS u, length(name) AS l, email, born, doc FROM person;
CREATE VIEW v_order AS SELECT o.id, o.item, o.card, p.name, p.ssn, p.amount FROM orders o JOIN person p ON p.id = o.person_id;
CREATE VIEW v_top AS SELECT z.x, z.id FROM (SELECT ssn AS x, id FROM v_person) AS z;
CREATE VIEW v_plain AS SELECT id, name, city FROM person WHERE id < 9;
CREATE VIEW v_city AS SELECT city, count(*) AS n, max(score) AS best FROM person GROUP BY city;
CREATE VIEW v_asks AS SELECT id FROM person WHERE ascii(substr(ssn, 5)) < 82;
CREATE VIEW v_union AS SELECT id, payload AS x FROM event UNION SELECT id, memo FROM orders;
CREATE MATERIALIZED VIEW m_person AS SELECT id, ssn, doc, amount, tags FROM person WITH NO DATA;
CREATE MATERIALIZED VIEW m_top AS SELECT x, id FROM v_top WITH NO DATA;
CREATE FUNCTION peek() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.person WHERE id = 1';
CREATE FUNCTION abs(text) RETURNS text LANGUAGE sql AS 'SELECT peek()';
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT ascii(substr(peek(), 5)) < 82';
CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = int);
CREATE VIEW v_calls AS SELECT peek() AS p;
CREATE TABLE told (id int, what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN RAISE NOTICE ''%'', peek(); IF NEW.id > 5 THEN RAISE EXCEPTION ''%'', peek(); END IF; RETURN NEW; END';
CREATE TRIGGER tell BEFORE INSERT ON told FOR EACH ROW EXECUTE FUNCTION tell();
";

/// Every masked cell of one version.
pub(super) fn cells(which: char) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (table, column, kind, _) in MASKED {
        for row in 1..=ROWS {
            let (_, values) = Draw::of(table, column, row, which).value(*kind);
            cells.extend(values.into_iter().map(|value| Cell {
                name: format!("{table}.{column} of {row}"),
                value,
            }));
        }
    }
    cells
}

/// What fills the tables. What is not masked is the same in both versions.
fn rows(which: char) -> String {
    type Of = fn(usize) -> String;
    const PLAIN: &[(&str, &str, Of)] = &[
        ("person", "name, city, grp, score, made, flag", |row| {
            let (city, grp) = (row % 4, row % 3);
            format!(
                "'n{row}', 'c{city}', {grp}, {row}.25, '2024-01-{:02}', {}",
                row,
                grp == 1
            )
        }),
        ("orders", "person_id, item, qty, price, day", |row| {
            format!(
                "{}, 'i{}', {}, {row}.5, '2024-02-{row:02}'",
                row % 5 + 1,
                row % 3,
                row % 4
            )
        }),
        ("event", "what, day", |row| {
            format!("'w{}', '2024-03-{row:02}'", row % 3)
        }),
        ("base", "what", |row| format!("'b{row}'")),
        ("leaf", "what", |row| format!("'l{row}'")),
        ("vault", "what", |row| format!("'v{row}'")),
        ("split", "", |_| String::new()),
        ("kinded", "", |_| String::new()),
        ("checks", "what", |row| format!("'k{row}'")),
    ];
    let mut sql = String::from("SET ROLE trusted;\n");
    for (table, plain, of) in PLAIN {
        let masked = MASKED.iter().filter(|(of, ..)| of == table);
        let masked: Vec<_> = masked.collect();
        for row in 1..=ROWS {
            let mut columns = vec!["id".to_owned()];
            let mut values = vec![row.to_string()];
            if !plain.is_empty() {
                columns.push((*plain).to_owned());
                values.push(of(row));
            }
            for (_, column, kind, _) in &masked {
                columns.push((*column).to_owned());
                values.push(Draw::of(table, column, row, which).value(*kind).0);
            }
            let (columns, values) = (columns.join(", "), values.join(", "));
            sql.push_str(&format!(
                "INSERT INTO {table} ({columns}) VALUES ({values});\n"
            ));
        }
    }
    sql.push_str(
        "INSERT INTO refers SELECT id, code FROM vault ORDER BY id LIMIT 6;
         INSERT INTO city SELECT 'c' || n, 'x', n * 1000 FROM generate_series(0, 3) AS n;
         INSERT INTO nums SELECT n, 'n' || n, date '2024-01-01' + n, n / 4.0 FROM generate_series(1, 12) AS n;
         REFRESH MATERIALIZED VIEW m_person; REFRESH MATERIALIZED VIEW m_top;
         RESET ROLE;\nVACUUM (FREEZE, ANALYZE);\n",
    );
    sql
}

/// Databases of these names, each in its version, alike in all but what is masked.
pub(super) fn make(server: &Server, databases: &[(&str, char)]) {
    let (first, _) = databases[0];
    for (name, _) in databases {
        server.sql(&format!("DROP DATABASE IF EXISTS {name}"));
    }
    server.sql(&format!("CREATE DATABASE {first} OWNER trusted"));
    server.sql(&format!(
        "\\c {first}\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    for (name, _) in &databases[1..] {
        server.sql(&format!(
            "CREATE DATABASE {name} TEMPLATE {first} OWNER trusted"
        ));
    }
    for (name, which) in databases {
        server.sql(&format!(
            "ALTER DATABASE {name} SET statement_timeout = '10s'; ALTER DATABASE {name} SET jit = off;
             ALTER DATABASE {name} SET timezone = 'UTC'; ALTER DATABASE {name} SET max_parallel_workers_per_gather = 0;
             \\c {name}\n{}",
            rows(*which)
        ));
    }
}

/// The masks. Where `steady`, none shows what is another in the two versions, or in each session.
pub(super) fn masks(steady: bool) -> Masks {
    let mut masks = Masks::default();
    for (table, column, _, mask) in MASKED {
        let relation = Relation {
            schema: "public".to_owned(),
            name: (*table).to_owned(),
        };
        let mask = match *mask {
            "last4" => Mask::Last4,
            "email" => Mask::Email,
            "partial" => Mask::Partial(3),
            "constant" => Mask::Constant("not shown".into()),
            "hide" => Mask::Hide,
            "year" => Mask::Year,
            "hash" if !steady => Mask::Hash(Joinable::Session),
            "target" if !steady => Mask::Hash(Joinable::Target),
            _ => Mask::Null,
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert((*column).to_owned(), mask);
    }
    masks
}

//! Ways around masks by what stands between a statement and its rows: views that are written to, locks, rows
//! that move, what a mask hangs on, functions, and what a session made while it saw more.

use std::sync::Arc;

use interceptor::masking::{Mask, Masks, Relation};
use interceptor::protocol::postgres::inject::Injector;
use interceptor::protocol::postgres::mask::Masking;
use interceptor::protocol::postgres::terminate::Startup;

use crate::bridge::Target;
use crate::loop_rig::{Front, Raw, sensitive};
use crate::masking::said;
use crate::server::Server;

const SETUP: &str = r#"
SET ROLE trusted;
CREATE SCHEMA s2;
CREATE TABLE p (id int PRIMARY KEY, name text, ssn text);
INSERT INTO p SELECT n, 'n' || n, 'c' FROM generate_series(1, 5) AS n;
CREATE TABLE q (id int PRIMARY KEY, code text);
INSERT INTO q SELECT n, 'x' FROM generate_series(1, 5) AS n;
CREATE TABLE kinds (code text PRIMARY KEY);
INSERT INTO kinds SELECT 'CANARY' || w || '-' || lpad(n::text, 4, '0') FROM generate_series(1, 5) AS n, unnest(ARRAY['A','B']) AS w;
CREATE TABLE kinded (id int, ssn text REFERENCES kinds);
CREATE TABLE log (id int, what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''%'', (SELECT ssn FROM public.p WHERE id = 1); END';
CREATE TRIGGER tell BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE heard (id int, what text);
CREATE FUNCTION send() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM public.p WHERE id = 1); RETURN NEW; END';
CREATE TRIGGER send BEFORE INSERT ON heard FOR EACH ROW EXECUTE FUNCTION send();
CREATE FUNCTION peek() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.p WHERE id = 1';
CREATE FUNCTION peeks(q) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.p WHERE id = $1.id';
CREATE PROCEDURE warns() LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM public.p WHERE id = 1); END';
CREATE TABLE defaulted (id int, what text DEFAULT peek());
CREATE TABLE above (id int, what text);
CREATE TABLE below (ssn text, CHECK (left(ssn, 7) <> what)) INHERITS (above);
INSERT INTO below VALUES (1, 'x', 'c');
CREATE VIEW over_log AS SELECT * FROM log;
CREATE VIEW over_heard AS SELECT * FROM heard;
CREATE VIEW over_defaulted AS SELECT * FROM defaulted;
CREATE VIEW over_kinds AS SELECT code AS k FROM kinds;
CREATE VIEW twice AS SELECT k AS kk FROM over_kinds;
CREATE VIEW over_above AS SELECT what, id FROM above;
CREATE VIEW plain AS SELECT code FROM q;
CREATE TABLE u (id int, ssn text UNIQUE);
INSERT INTO u VALUES (1, 'a'), (2, 'b');
CREATE TABLE refers (s text REFERENCES u (ssn));
CREATE VIEW locked AS SELECT code, xmax::text <> '0' AS is FROM kinds;
CREATE TABLE ranged (id int, what text, ssn text) PARTITION BY RANGE (id);
CREATE TABLE ranged_low PARTITION OF ranged FOR VALUES FROM (1) TO (9);
CREATE TABLE ranged_high PARTITION OF ranged (CHECK (left(ssn, 7) <> 'CANARYA')) FOR VALUES FROM (9) TO (99);
INSERT INTO ranged VALUES (1, 'x', 'c');
CREATE TABLE placed (id int, ssn text);
INSERT INTO placed SELECT n, 'c' FROM generate_series(1, 20) AS n;
CREATE TABLE person (id int, seen timestamptz);
CREATE TABLE event (id int, what text, ssn text) PARTITION BY RANGE (id);
CREATE TABLE event_mid PARTITION OF event FOR VALUES FROM (1) TO (99) PARTITION BY LIST (ssn);
CREATE TABLE event_a PARTITION OF event_mid FOR VALUES IN ('CANARYA-0001');
CREATE TABLE event_b PARTITION OF event_mid DEFAULT;
CREATE VIEW asks AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';
CREATE TABLE s2.asks (id int);
CREATE TABLE policed (id int);
INSERT INTO policed VALUES (1);
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
ALTER TABLE policed FORCE ROW LEVEL SECURITY;
CREATE POLICY asks ON policed USING (id IN (SELECT id FROM asks));
CREATE TABLE lax (id int, name text, ssn text);
INSERT INTO lax VALUES (1, 'x', 'c');
CREATE TABLE shifty (id int, name text, ssn text, CHECK (left(ssn, 7) <> coalesce(current_setting('x.y', true), '')));
INSERT INTO shifty VALUES (1, 'x', 'c');
CREATE TABLE numbered (id int, ssn serial);
CREATE TABLE written (id int, x text DEFAULT query_to_xml('SELECT ssn FROM public.p WHERE id = 1', true, true, '')::text);
CREATE TABLE sifted (id int);
INSERT INTO sifted VALUES (1);
ALTER TABLE sifted ENABLE ROW LEVEL SECURITY;
ALTER TABLE sifted FORCE ROW LEVEL SECURITY;
CREATE POLICY sifts ON sifted USING (query_to_xml('SELECT 1 FROM public.p WHERE ssn LIKE ''CANARYA%''', true, true, '')::text LIKE '%row%');
CREATE FUNCTION loud(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM public.p WHERE id = 1); RETURN $1; END';
CREATE TABLE indexed (id int, note text);
CREATE INDEX ON indexed (loud(note));
CREATE TABLE spread (id int, note text) PARTITION BY LIST (loud(note));
CREATE TABLE spread_all PARTITION OF spread DEFAULT;
CREATE TABLE kept (id int, ssn text);
CREATE UNIQUE INDEX kept_ssn ON kept (ssn);
INSERT INTO kept VALUES (1, 'CANARYA-0001');
CREATE TABLE keeps (s text REFERENCES kept (ssn));
INSERT INTO keeps VALUES ('CANARYA-0001');
CREATE TYPE mood AS ENUM ('good');
CREATE TABLE moody (id int, mood mood, ssn text);
CREATE VIEW shown AS SELECT query_to_xml('SELECT ssn FROM public.p WHERE id = 1', true, true, '')::text AS x;
CREATE SEQUENCE free;
CREATE TABLE sorted (id int, ssn text, filler text);
CREATE INDEX ON sorted (ssn);
CREATE TABLE ranked (id int, ssn text) WITH (fillfactor = 10);
CREATE INDEX ON ranked (ssn, id);
CREATE TABLE listed (id int, ssn text, filler text);
CREATE INDEX ON listed (ssn, id);
CREATE VIEW over_listed AS SELECT id, filler FROM listed;
CREATE VIEW over_all AS SELECT * FROM listed;
CREATE VIEW over_over AS SELECT id AS i, filler AS f FROM over_all;
CREATE VIEW over_both AS SELECT id, filler FROM listed UNION ALL SELECT id, code FROM q;
CREATE VIEW over_ids AS SELECT id FROM listed;
CREATE VIEW over_gathered AS SELECT array_agg(id) AS ids, max(filler) AS filler FROM listed;
CREATE VIEW over_joined AS SELECT l.id, q.code FROM listed AS l LEFT JOIN q ON q.id = l.id;
CREATE VIEW over_some AS SELECT id FROM listed LIMIT 900;
CREATE MATERIALIZED VIEW filled AS SELECT id FROM listed WITH NO DATA;
CREATE MATERIALIZED VIEW filled_some AS SELECT id FROM listed LIMIT 900 WITH NO DATA;
CREATE MATERIALIZED VIEW filled_whole AS SELECT id, filler FROM listed WITH NO DATA;
CREATE VIEW over_filled AS SELECT id AS i FROM filled;
CREATE TABLE put (id int UNIQUE, ssn text, filler text);
CREATE INDEX put_ssn ON put (ssn);
CREATE TABLE put_above (id int, filler text);
CREATE TABLE put_below (ssn text) INHERITS (put_above);
CREATE INDEX put_below_ssn ON put_below (ssn);
CREATE VIEW over_put AS SELECT id, filler FROM put;
CREATE VIEW over_grouped AS SELECT id, count(*) AS n FROM put_above GROUP BY id;
CREATE TABLE shaped (at float8[], ssn text);
CREATE INDEX shaped_ssn ON shaped (ssn);
CREATE TABLE pointed (at point, ssn text);
CREATE INDEX pointed_ssn ON pointed (ssn);
CREATE TABLE upper (id int, filler text);
CREATE TABLE under (ssn text) INHERITS (upper);
CREATE INDEX ON under (ssn, id);
CREATE TABLE family (id int, ssn text, filler text) PARTITION BY RANGE (id);
CREATE TABLE family_all PARTITION OF family DEFAULT;
CREATE INDEX ON family_all (ssn);
CREATE TABLE locking (id int);
CREATE FUNCTION lock() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(hashtext((SELECT ssn FROM public.p WHERE id = 1))); RETURN NEW; END';
CREATE TRIGGER lock BEFORE INSERT ON locking FOR EACH ROW EXECUTE FUNCTION lock();
CREATE TABLE sealed (id int, ssn text);
CREATE TYPE boxed AS (content sealed);
CREATE TABLE archive (id int, old sealed, olds sealed[], box boxed);
CREATE TABLE split (id int, ssn text);
CREATE TABLE split_low () INHERITS (split);
INSERT INTO split_low VALUES (1, 'c');
CREATE TABLE made (id int, ssn text, low text GENERATED ALWAYS AS (lower(ssn)) STORED);
"#;

fn values(which: char) -> String {
    let long = match which {
        'A' => "'CANARYA'",
        _ => "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 55) AS n)",
    };
    // The mask shows the end, which is the same in both.
    let order = match which {
        'A' => "n",
        _ => "3001 - n",
    };
    let (seen, referred) = match which {
        'A' => ("2024-01-05 07:13:20+00", 'a'),
        _ => ("2024-01-05 07:13:22+00", 'b'),
    };
    let mut sql = format!(
        "SET ROLE trusted;
         INSERT INTO person VALUES (1, '{seen}');
         INSERT INTO event VALUES (1, 'x', 'CANARY{which}-0001');
         UPDATE placed SET ssn = {long};
         INSERT INTO archive SELECT 1, s, ARRAY[s], ROW(s)::boxed FROM (SELECT ROW(1, 'CANARY{which}-0001')::sealed) AS x (s);
         INSERT INTO made VALUES (1, 'CANARY{which}-0001');
         INSERT INTO moody VALUES (1, 'good', 'CANARY{which}-0001');
         INSERT INTO sorted SELECT n, {order} || '-CANARY-' || n, repeat('x', 500) FROM generate_series(1001, 2000) AS n;
         INSERT INTO listed TABLE sorted;
         INSERT INTO put TABLE sorted;
         INSERT INTO put_below SELECT id, filler, ssn FROM sorted;
         INSERT INTO under SELECT id, filler, ssn FROM sorted;
         INSERT INTO family TABLE sorted;
         INSERT INTO shaped SELECT ARRAY[1 + n * 1e-7], ssn FROM (SELECT row_number() OVER (ORDER BY id), ssn FROM sorted LIMIT 2) AS x (n, ssn);
         INSERT INTO pointed SELECT point(at[1], 1), ssn FROM shaped;
         INSERT INTO ranked SELECT id, ssn FROM sorted;
         ALTER SEQUENCE numbered_ssn_seq RESTART WITH {};",
        if which == 'A' { 5 } else { 6 }
    );
    for table in ["p", "below", "ranged", "lax", "shifty", "split"] {
        sql.push_str(&format!(
            "UPDATE {table} SET ssn = 'CANARY{which}-' || lpad(id::text, 4, '0');"
        ));
    }
    sql.push_str(&format!(
        "ALTER TABLE lax ADD CHECK (ssn NOT LIKE 'CANARYA%') NOT VALID;
         RESET ROLE;\nVACUUM (FULL, ANALYZE, FREEZE);\nVACUUM sorted, ranked, listed, under, family_all;\nSET ROLE trusted;
         REFRESH MATERIALIZED VIEW filled;
         REFRESH MATERIALIZED VIEW filled_some;
         REFRESH MATERIALIZED VIEW filled_whole;
         CLUSTER put USING put_ssn;
         CLUSTER put_below USING put_below_ssn;
         CLUSTER shaped USING shaped_ssn;
         CLUSTER pointed USING pointed_ssn;
         INSERT INTO kinded VALUES (1, 'CANARY{which}-0001');
         INSERT INTO refers VALUES ('{referred}');"
    ));
    sql
}

pub(crate) fn masks() -> Masks {
    let mut masks = Masks::default();
    let mut put = |table: &str, column: &str, mask: Mask| {
        let relation = Relation {
            schema: "public".to_owned(),
            name: table.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert(column.to_owned(), mask);
    };
    for table in [
        "p",
        "kinded",
        "below",
        "u",
        "refers",
        "ranged",
        "placed",
        "event",
        "lax",
        "shifty",
        "numbered",
        "kept",
        "moody",
        "ranked",
        "listed",
        "under",
        "sealed",
        "made",
        "split",
        "put_below",
        "shaped",
        "pointed",
    ] {
        if table != "refers" {
            put(table, "ssn", Mask::Null);
        }
    }
    put("person", "seen", Mask::Year);
    put("sorted", "ssn", Mask::Last4);
    put("family", "ssn", Mask::Last4);
    put("put", "ssn", Mask::Last4);
    masks
}

/// What it is, and the statements. Each tells the two databases apart directly.
pub(crate) const WAYS: &[(&str, &str)] = &[
    // Before others lock the same rows.
    (
        "lock of what is referred to",
        "SELECT code, xmax::text <> '0' FROM kinds ORDER BY code",
    ),
    (
        "the same by notation",
        "SELECT code, (kinds).xmax::text <> '0' FROM kinds ORDER BY code",
    ),
    ("the same in a view", "SELECT * FROM locked ORDER BY code"),
    (
        "whose lock it is",
        "BEGIN;; UPDATE kinded SET id = id WHERE xmin = (SELECT xmax FROM kinds WHERE code = 'CANARYA-0001') RETURNING id;; ROLLBACK",
    ),
    (
        "lock of what is masked",
        "BEGIN;; UPDATE u SET id = id WHERE xmax::text <> '0' RETURNING id;; ROLLBACK",
    ),
    (
        "temporary view over a trigger",
        "CREATE TEMP VIEW z AS SELECT * FROM log;; INSERT INTO z VALUES (1, 'x')",
    ),
    (
        "temporary view over a trigger that speaks",
        "CREATE TEMP VIEW z AS SELECT * FROM heard;; BEGIN;; INSERT INTO z VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "temporary view over a default",
        "CREATE TEMP VIEW z AS SELECT * FROM defaulted;; BEGIN;; INSERT INTO z (id) VALUES (1) RETURNING what;; ROLLBACK",
    ),
    (
        "temporary view over what is referred to",
        "CREATE TEMP VIEW z AS SELECT * FROM kinds;; BEGIN;; DELETE FROM z WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "temporary view over a view",
        "CREATE TEMP VIEW z AS TABLE twice;; BEGIN;; DELETE FROM z WHERE kk = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "temporary view over a parent",
        "CREATE TEMP VIEW z AS SELECT * FROM above;; BEGIN;; UPDATE z SET what = 'CANARYA';; ROLLBACK",
    ),
    (
        "temporary view of a plain table's name",
        "CREATE TEMP VIEW q AS SELECT * FROM kinds;; BEGIN;; DELETE FROM q WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view that becomes a temporary one",
        "CREATE TEMP TABLE t (a int);; CREATE VIEW z AS SELECT * FROM kinds WHERE NOT EXISTS (SELECT FROM t);; BEGIN;; DELETE FROM z WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view over a trigger",
        "INSERT INTO over_log VALUES (1, 'x')",
    ),
    (
        "view over a trigger that speaks",
        "BEGIN;; INSERT INTO over_heard VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "view over a default",
        "BEGIN;; INSERT INTO over_defaulted (id) VALUES (1) RETURNING what;; ROLLBACK",
    ),
    (
        "view over what is referred to",
        "BEGIN;; DELETE FROM over_kinds WHERE k = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view over what is referred to, updated",
        "BEGIN;; UPDATE over_kinds SET k = 'x' WHERE k = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view over a view",
        "BEGIN;; DELETE FROM twice WHERE kk = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view over a parent",
        "BEGIN;; UPDATE over_above SET what = 'CANARYA';; ROLLBACK",
    ),
    (
        "view that was just made",
        "CREATE VIEW z AS SELECT * FROM kinds;; BEGIN;; DELETE FROM z WHERE code = 'CANARYA-0001';; ROLLBACK;; DROP VIEW z",
    ),
    (
        "view that was replaced",
        "BEGIN;; CREATE OR REPLACE VIEW plain AS SELECT code FROM kinds;; DELETE FROM plain WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "view under another name",
        "BEGIN;; ALTER TABLE q RENAME TO q2;; ALTER VIEW over_kinds RENAME TO q;; DELETE FROM q WHERE k = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "table that speaks under another name",
        "BEGIN;; ALTER TABLE q RENAME TO q2;; ALTER TABLE heard RENAME TO q;; INSERT INTO q VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "check of another partition",
        "BEGIN;; UPDATE ranged SET id = 50 WHERE id = 1;; ROLLBACK",
    ),
    (
        "bytes of the log of what was prepared",
        "PREPARE s AS UPDATE placed SET id = 100 WHERE id = 1;; BEGIN;; EXPLAIN (ANALYZE, WAL, TIMING OFF, SUMMARY OFF, COSTS OFF) EXECUTE s;; ROLLBACK",
    ),
    (
        "year under another time zone",
        "SET TIME ZONE INTERVAL '-103:13:21';; SELECT id FROM person WHERE seen >= '2024-01-05 07:13:21+00'",
    ),
    (
        "partition of a partition",
        "BEGIN;; UPDATE event SET what = what WHERE id = 1 RETURNING tableoid::regclass;; ROLLBACK",
    ),
    (
        "partition of a partition in a plan",
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT id FROM event WHERE id = 1",
    ),
    (
        "closed view behind a renamed table",
        "SET search_path = s2, public;; BEGIN;; ALTER TABLE s2.asks RENAME TO z;; SELECT count(*) FROM asks;; ROLLBACK",
    ),
    ("policy that asks a closed view", "SELECT id FROM policed"),
    (
        "check that need not hold",
        "BEGIN;; UPDATE lax SET name = name;; ROLLBACK",
    ),
    (
        "check that changes",
        "SET x.y = 'CANARYA';; BEGIN;; UPDATE shifty SET name = name;; ROLLBACK",
    ),
    (
        "what a sequence gave out, by notation",
        "INSERT INTO numbered (id) VALUES (1);; SELECT ('numbered_ssn_seq'::regclass).currval",
    ),
    (
        "default that runs a query",
        "BEGIN;; INSERT INTO written (id) VALUES (1) RETURNING x;; ROLLBACK",
    ),
    ("policy that runs a query", "SELECT id FROM sifted"),
    (
        "index that speaks",
        "BEGIN;; INSERT INTO indexed VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "partitions by what speaks",
        "BEGIN;; INSERT INTO spread VALUES (1, 'x');; ROLLBACK",
    ),
    ("function", "SELECT peek()"),
    ("function of a schema", "SELECT public.peek()"),
    ("function in FROM", "SELECT * FROM peek()"),
    ("function by notation", "SELECT q.peeks FROM q ORDER BY id"),
    (
        "function by notation of a row",
        "SELECT (z).peeks FROM q AS z ORDER BY id",
    ),
    ("procedure", "CALL warns()"),
    ("order of an index", "SELECT ssn FROM sorted"),
    (
        "order of an index that holds all there is",
        "SELECT id FROM ranked",
    ),
    ("order of an index of a partition", "SELECT ssn FROM family"),
    (
        "order of an index that is copied",
        "COPY sorted (ssn) TO STDOUT",
    ),
    (
        "order of an index through a view",
        "SELECT id FROM over_listed",
    ),
    (
        "order of an index through a view that shows what is masked",
        "SELECT id FROM over_all",
    ),
    (
        "order of an index through a view of a view",
        "SELECT i FROM over_over",
    ),
    (
        "order of an index through a view of several",
        "SELECT id FROM over_both",
    ),
    (
        "order of an index through a view that shows nothing else",
        "SELECT id FROM over_ids",
    ),
    (
        "order of an index in a value of a view",
        "SELECT ids FROM over_gathered",
    ),
    (
        "order of an index through a temporary view",
        "CREATE TEMP VIEW z AS SELECT id FROM over_listed;; SELECT id FROM z",
    ),
    ("order of an index of a child", "SELECT id FROM upper"),
    (
        "order of an index that is asked for",
        "SET enable_seqscan = off;; SET enable_bitmapscan = off;; SELECT id FROM ranked WHERE id > 0",
    ),
    (
        "order of an index that is asked for by a function",
        "SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false);; SELECT id FROM ranked WHERE id > 0",
    ),
    (
        "order of an index that costs nothing",
        "SET random_page_cost = 0;; SET seq_page_cost = 100000;; SELECT id FROM ranked WHERE id > 0",
    ),
    (
        "keys of locks",
        "BEGIN;; INSERT INTO locking VALUES (1);; SELECT objid FROM pg_locks WHERE locktype = 'advisory';; ROLLBACK",
    ),
    (
        "keys of locks by a function",
        "BEGIN;; INSERT INTO locking VALUES (1);; SELECT objid FROM pg_lock_status() WHERE locktype = 'advisory';; ROLLBACK",
    ),
    (
        "order of what an index filled",
        "SELECT id FROM filled LIMIT 5",
    ),
    ("the same below a view", "SELECT i FROM over_filled LIMIT 5"),
    (
        "the same in a cursor",
        "BEGIN;; DECLARE c CURSOR FOR TABLE over_filled;; FETCH 5 FROM c;; ROLLBACK",
    ),
    (
        "the same in an aggregate",
        "SELECT (array_agg(id))[1:5] FROM filled",
    ),
    (
        "the same by samples",
        "SELECT count(*) FROM filled TABLESAMPLE system (50) REPEATABLE (1) WHERE id > 1500",
    ),
    (
        "the same in places",
        "SELECT id FROM filled WHERE ctid = '(0,1)'",
    ),
    (
        "the same in a view of one's own",
        "CREATE TEMP VIEW z AS TABLE filled;; SELECT id FROM z LIMIT 5",
    ),
    (
        "what an index put first",
        "SELECT id FROM over_some ORDER BY id DESC LIMIT 5",
    ),
    (
        "the same, kept",
        "SELECT id FROM filled_some ORDER BY id DESC LIMIT 5",
    ),
    (
        "order below an outer join",
        "SELECT id FROM over_joined OFFSET 990",
    ),
    (
        "order of what was put into one",
        "SELECT id FROM put LIMIT 5",
    ),
    (
        "the same with what is shown",
        "SELECT id, filler FROM put OFFSET 7 LIMIT 5",
    ),
    ("the same of a child", "SELECT id FROM put_above LIMIT 5"),
    ("the same, copied", "COPY put (id) TO STDOUT"),
    (
        "the same, given back",
        "BEGIN;; UPDATE put SET filler = 'x' RETURNING id;; ROLLBACK",
    ),
    (
        "the same, taken away",
        "BEGIN;; DELETE FROM put WHERE id + 0 < 1010 RETURNING id;; ROLLBACK",
    ),
    (
        "the same, numbered",
        "BEGIN;; UPDATE put SET filler = nextval('free');; SELECT id FROM put ORDER BY filler::int LIMIT 5;; ROLLBACK;; SELECT setval('free', 1)",
    ),
    (
        "the same, in the way of each other",
        "BEGIN;; DELETE FROM put WHERE id = 1003;; UPDATE put SET id = id + 1 WHERE id + 0 < 1003;; ROLLBACK",
    ),
    (
        "the same, counted by a view",
        "SELECT setseed(0.5);; BEGIN;; CREATE VIEW counting AS SELECT random() AS n;; UPDATE put SET filler = (SELECT n FROM counting WHERE put.id > 0);; SELECT id FROM put ORDER BY filler LIMIT 5;; ROLLBACK",
    ),
    (
        "the same, at random",
        "SELECT setseed(0.5);; BEGIN;; UPDATE put_above SET filler = random();; SELECT id FROM put_above ORDER BY filler LIMIT 5;; ROLLBACK",
    ),
    (
        "what fails first of what was put into an order",
        "SELECT id FROM put WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END",
    ),
    (
        "the same of a child",
        "SELECT id FROM put_above WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END",
    ),
    (
        "the same, kept",
        "SELECT id FROM filled WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END",
    ),
    (
        "the same in words, kept",
        "SELECT id FROM filled WHERE id IN (1003, 1007) AND ('r' || id)::int > 0",
    ),
    (
        "the same in a view",
        "SELECT id FROM over_put WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END",
    ),
    (
        "the same in a view that groups",
        "SELECT id FROM over_grouped WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END",
    ),
    (
        "the same, taken away",
        "BEGIN;; DELETE FROM put WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END;; ROLLBACK",
    ),
    (
        "the same of a child, taken away",
        "BEGIN;; DELETE FROM put_above WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END;; ROLLBACK",
    ),
    (
        "the same, changed",
        "BEGIN;; UPDATE put SET filler = 'x' WHERE CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END;; ROLLBACK",
    ),
    (
        "the same, set",
        "BEGIN;; UPDATE put SET filler = (CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END)::text;; ROLLBACK",
    ),
    (
        "the same of a child, set",
        "BEGIN;; UPDATE put_above SET filler = (CASE id WHEN 1003 THEN 1 / (id - 1003) > 0 WHEN 1007 THEN ('r' || id)::int > 0 ELSE false END)::text;; ROLLBACK",
    ),
    (
        "where a row of what was put into an order lies",
        "BEGIN;; UPDATE put_above SET filler = filler WHERE id = 1003 AND ctid < '(30,0)';; ROLLBACK",
    ),
    (
        "order among arrays that look the same",
        "SET extra_float_digits = -15;; SELECT at[1] > 1.00000015 FROM shaped",
    ),
    (
        "order among points that look the same",
        "SET extra_float_digits = -15;; SELECT at[0] > 1.00000015 FROM pointed",
    ),
    ("row in a column", "SELECT (old).ssn FROM archive"),
    ("row in a column, whole", "SELECT old::text FROM archive"),
    ("rows in an array", "SELECT olds::text FROM archive"),
    ("row in a type", "SELECT ((box).content).ssn FROM archive"),
    (
        "row in a column that is asked about",
        "SELECT id FROM archive WHERE (old).ssn LIKE 'CANARYA%'",
    ),
];

/// A pair of databases that differ in what is masked, of these names, made anew.
pub(crate) fn pair(one: &str, other: &str) -> Arc<Server> {
    let server = Server::shared();
    for (name, which) in [(one, 'A'), (other, 'B')] {
        server.sql(&format!(
            "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} OWNER trusted;"
        ));
        server.sql(&format!(
            "\\c {name}\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
        ));
        server.sql(&format!("\\c {name}\n{}", values(which)));
    }
    server
}

pub(crate) fn shown(told: &[u8]) -> String {
    String::from_utf8_lossy(told).escape_debug().to_string()
}

#[tokio::test]
async fn nothing_between_a_statement_and_its_rows_tells_one_masked_value_from_another() {
    let server = pair("beyond_a", "beyond_b");
    let front = Front::masked(&server, &["beyond_a", "beyond_b"], masks()).await;
    let direct = server.address();
    let mut open = Vec::new();
    for (way, text) in WAYS {
        let one = said(direct, "beyond_a", text).await;
        let other = said(direct, "beyond_b", text).await;
        if one == other {
            open.push(format!(
                "{way} does not even leak directly: {}",
                shown(&one)
            ));
        }
        let one = said(front.address, "beyond_a", text).await;
        let other = said(front.address, "beyond_b", text).await;
        if one != other {
            open.push(format!("{way}: {} <> {}", shown(&one), shown(&other)));
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

#[tokio::test]
async fn what_may_lie_in_a_hidden_order_is_answered_in_another() {
    let server = pair("lies_a", "lies_b");
    let front = Front::masked(&server, &["lies_a"], masks()).await;
    for (text, end) in [
        ("SELECT id FROM filled WHERE id < 1003", "SELECT 2"),
        ("SELECT count(*) FROM over_filled", "SELECT 1"),
        ("SELECT id, code FROM over_joined", "SELECT 1000"),
        ("SELECT id, ssn FROM put WHERE id = 1001", "SELECT 1"),
        ("SELECT id, ssn FROM put FOR UPDATE", "SELECT 1000"),
        ("SELECT filler FROM over_put WHERE id = 1001", "SELECT 1"),
        ("SELECT n FROM over_grouped WHERE id = 1001", "SELECT 1"),
        ("SELECT id FROM filled_whole", "SELECT 1000"),
        ("COPY put TO STDOUT", "COPY 1000"),
        ("COPY (SELECT * FROM filled) TO STDOUT", "COPY 1000"),
        (
            "UPDATE put SET filler = upper('x') WHERE id = 1001",
            "UPDATE 1",
        ),
        (
            "INSERT INTO put (id, filler) VALUES (1, 'y') RETURNING id",
            "INSERT 0 1",
        ),
        ("DELETE FROM put WHERE id = 1", "DELETE 1"),
        (
            "UPDATE put_above SET filler = filler WHERE id IN (1001, 1003) AND filler IS NOT NULL",
            "UPDATE 2",
        ),
        (
            "DELETE FROM put_above AS a WHERE NOT a.id > 0 OR filler BETWEEN 'y' AND 'z'::varchar",
            "DELETE 0",
        ),
    ] {
        let told = shown(&said(front.address, "lies_a", text).await);
        let is_answered = told.contains(end) && !told.contains("ERROR");
        assert!(is_answered, "{text}: {told}");
    }
}

#[tokio::test]
async fn what_a_mask_hangs_on_is_not_dropped() {
    let server = pair("hangs_a", "hangs_b");
    let front = Front::masked(&server, &["hangs_a"], masks()).await;
    for text in [
        "DROP INDEX kept_ssn",
        "DROP INDEX IF EXISTS kept_ssn CASCADE",
        "DROP TABLE kept CASCADE",
        "DROP TABLE q, public.kept CASCADE",
        "DROP TABLE IF EXISTS kinds CASCADE",
        "DROP TABLE above CASCADE",
        "DROP TABLE defaulted",
        "DROP VIEW asks",
        "DROP VIEW over_kinds",
        "DROP SEQUENCE numbered_ssn_seq CASCADE",
        "DROP TRIGGER tell ON p",
        "DROP POLICY asks ON policed",
        "DROP RULE x ON public.kinds",
        "DROP TYPE mood CASCADE",
        "DROP FUNCTION tell() CASCADE",
        "DROP ROUTINE tell CASCADE",
        "DROP OPERATOR CLASS public.x USING btree CASCADE",
        "DROP SCHEMA public CASCADE",
        "DROP SCHEMA s2 CASCADE",
        "DROP EXTENSION plpgsql CASCADE",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC",
    ] {
        let told = said(front.address, "hangs_a", text).await;
        assert!(shown(&told).contains("C42501"), "{text}: {}", shown(&told));
    }
    for text in [
        "BEGIN;; DROP VIEW plain;; DROP TABLE q CASCADE;; ROLLBACK",
        "BEGIN;; DROP SEQUENCE IF EXISTS free, s2.none;; ROLLBACK",
        "CREATE TEMP TABLE t (a int);; DROP TABLE t",
        "CREATE TEMP TABLE t (a int);; DROP TABLE pg_temp.t",
        "DROP TABLE IF EXISTS nothing",
        "BEGIN;; CREATE TYPE tone AS ENUM ('a');; DROP TYPE tone;; ROLLBACK",
        "BEGIN;; GRANT SELECT ON q TO PUBLIC;; ROLLBACK",
    ] {
        let told = said(front.address, "hangs_a", text).await;
        let told = shown(&told);
        assert!(!told.contains("ERROR"), "{text}: {told}");
    }
    let told = said(front.address, "hangs_a", "SELECT s FROM keeps").await;
    let told = shown(&told);
    assert!(
        told.contains("SELECT 1") && !told.contains("CANARY"),
        "{told}"
    );
}

#[tokio::test]
async fn what_would_show_a_hidden_order_is_not_set_and_no_name_is_taken_twice() {
    let server = pair("steer_a", "steer_b");
    let front = Front::masked(&server, &["steer_a"], masks()).await;
    for text in [
        "SET LOCAL enable_indexscan TO on",
        "SET SESSION \"enable_seqscan\" = off",
        "SET cpu_index_tuple_cost = 0",
        "SET cursor_tuple_fraction = 0.1",
        "SELECT set_config('enable_sort', 'off', true)",
        "SET max_parallel_workers_per_gather = 0",
        "SET join_collapse_limit = 1",
        "SET plan_cache_mode = force_generic_plan",
        "SET geqo_threshold = 2",
        "SET pg_hint_plan.enable_hint_table = on",
        "CREATE TABLE pg_temp.sorted (id int)",
        "CREATE TABLE pg_temp_3.sorted (id int)",
    ] {
        let told = said(front.address, "steer_a", text).await;
        assert!(shown(&told).contains("C42501"), "{text}: {}", shown(&told));
    }
    for text in [
        "SET work_mem = '8MB'",
        "SET jit = off",
        "SHOW work_mem",
        "SHOW random_page_cost",
        "SELECT current_setting('effective_cache_size')",
        "RESET enable_seqscan",
        "SET enable_seqscan TO DEFAULT",
        "RESET ALL",
    ] {
        let told = shown(&said(front.address, "steer_a", text).await);
        assert!(!told.contains("ERROR"), "{text}: {told}");
    }
}

#[tokio::test]
async fn what_was_masked_stays_so_when_what_that_hung_on_goes() {
    let server = pair("hung_a", "hung_b");
    let front = Front::masked(&server, &["hung_a"], masks()).await;
    // The server writes it in small letters where that is how it was made.
    let is_seen = |told: &[u8]| shown(told).to_uppercase().contains("CANARYA");
    for (change, question) in [
        (
            "ALTER TABLE keeps DROP CONSTRAINT keeps_s_fkey",
            "SELECT s FROM keeps",
        ),
        ("DROP TABLE kept", "SELECT s FROM keeps WHERE true"),
        (
            "ALTER TABLE moody RENAME TO moodier",
            "SELECT ssn FROM moodier",
        ),
        (
            "ALTER TABLE ranged DETACH PARTITION ranged_low",
            "SELECT ssn FROM ranged_low",
        ),
        (
            "ALTER TABLE ranged_low RENAME ssn TO tax",
            "SELECT tax FROM ranged_low",
        ),
        (
            "BEGIN;; ALTER TABLE split_low NO INHERIT split;; ALTER TABLE split_low RENAME ssn TO tax;; COMMIT",
            "SELECT tax FROM split_low",
        ),
        (
            "ALTER TABLE made ALTER COLUMN low DROP EXPRESSION",
            "SELECT low FROM made",
        ),
        (
            "ALTER TABLE made DROP COLUMN ssn",
            "SELECT low FROM made WHERE true",
        ),
        (
            "ALTER TABLE archive ALTER COLUMN old TYPE text USING old::text",
            "SELECT old FROM archive",
        ),
    ] {
        // Known as it is before.
        let before = question.replace("moodier", "moody");
        assert!(
            !is_seen(&said(front.address, "hung_a", &before).await),
            "{before}"
        );
        front.reveal();
        let told = shown(&said(front.address, "hung_a", change).await);
        assert!(!told.contains("ERROR"), "{change}: {told}");
        assert!(
            is_seen(&said(front.address, "hung_a", question).await),
            "{question}"
        );
        front.conceal(masks());
        let told = said(front.address, "hung_a", question).await;
        assert!(!is_seen(&told), "{change}: {}", shown(&told));
    }
}

#[tokio::test]
async fn who_refers_to_a_row_by_a_masked_column_is_not_waited_for() {
    let server = pair("waits_a", "waits_b");
    let front = Front::masked(&server, &["waits_a", "waits_b"], masks()).await;
    let direct = server.address();
    let mut writers = Vec::new();
    for which in ['A', 'B'] {
        let mut writer = Raw::connect(direct, &format!("waits_{}", which.to_lowercase())).await;
        let insert = format!("INSERT INTO kinded VALUES (2, 'CANARY{which}-0002')");
        writer.rows("BEGIN").await;
        writer.rows(&insert).await;
        writers.push(writer);
    }
    let skip = "SELECT code FROM {} ORDER BY 1 FOR UPDATE SKIP LOCKED";
    let wait = "SET lock_timeout = 50;; SELECT 1 FROM {} WHERE code = 'CANARYA-0002' FOR UPDATE";
    for text in [
        skip.replace("{}", "kinds"),
        skip.replace("{}", "(SELECT k AS code FROM over_kinds) AS z"),
        wait.replace("{}", "kinds"),
        wait.replace("FOR UPDATE", "FOR SHARE OF z FOR UPDATE NOWAIT")
            .replace("{}", "kinds AS z"),
    ] {
        let one = said(direct, "waits_a", &text).await;
        let other = said(direct, "waits_b", &text).await;
        assert!(one != other, "{text} does not even leak directly");
        let one = said(front.address, "waits_a", &text).await;
        let other = said(front.address, "waits_b", &text).await;
        assert!(one == other, "{text}: {}", shown(&one));
    }
    let text = "SELECT code FROM kinds ORDER BY 1 FOR NO KEY UPDATE";
    let told = shown(&said(front.address, "waits_a", text).await);
    assert!(told.contains("SELECT 10"), "{told}");
    drop(writers);
}

#[tokio::test]
async fn what_hung_on_something_is_known_wherever_a_target_is_reached() {
    let server = pair("ways_a", "ways_b");
    let injector = Injector::new().unwrap();
    let startup = |database: &str| Startup {
        database: database.to_owned(),
        ..crate::login::startup(&[])
    };
    // By another role as by another address: each is known by itself.
    let known = async |role: &str, database: &str| {
        let mut target = Target::new(&server, role);
        target.sensitive = sensitive(&masks());
        let upstream = target.login(&injector, &startup(database)).await.unwrap();
        let schema = upstream.known.unwrap().current();
        let masking = Masking::new(schema, Arc::new(masks()), Arc::default());
        let masked: Vec<String> = masking
            .masked()
            .map(|one| format!("{}.{}", one.relation.name, one.column))
            .collect();
        masked.contains(&"keeps.s".to_owned())
    };
    assert!(known("trusted", "ways_a").await);
    server.sql("\\c ways_a\nALTER TABLE keeps DROP CONSTRAINT keeps_s_fkey");
    assert!(known("super", "ways_a").await);
    server.sql("\\c ways_b\nALTER TABLE keeps DROP CONSTRAINT keeps_s_fkey");
    assert!(!known("super", "ways_b").await, "nobody has seen it");
    injector.forget();
    assert!(!known("super", "ways_a").await, "it is not forgotten");
}

#[tokio::test]
async fn what_a_session_made_while_it_saw_more_ends_with_it() {
    let server = pair("saw_a", "saw_b");
    let show = "Q SELECT ssn FROM z WHERE id = 1";
    for (made, goes_on) in [
        ("CREATE TEMP VIEW z AS SELECT id, ssn FROM p", false),
        (
            "CREATE TEMP TABLE t (a int); CREATE VIEW z AS SELECT id, ssn FROM p WHERE NOT EXISTS (SELECT FROM t)",
            false,
        ),
        (
            "DO $$ BEGIN EXECUTE 'CREATE TEMP VIEW z AS SELECT id, ssn FROM p'; END $$",
            false,
        ),
        ("CREATE TEMP TABLE z (id int, ssn text)", true),
        ("SET enable_seqscan = off", false),
        ("SELECT set_config('random_page_cost', '0', false)", false),
        ("SET work_mem = '8MB'", true),
    ] {
        // Something is masked at first, so that the database is known.
        let front = Front::masked(&server, &["saw_a"], masks()).await;
        let mut raw = Raw::connect(front.address, "saw_a").await;
        front.mask(Masks::default());
        raw.rows(made).await;
        raw.send(show).await;
        assert!(raw.read_until("Z:I").await.ends_with("Z:I"));
        front.mask(masks());
        let told = raw.exchange(show).await;
        assert_eq!(told.ends_with("Z:I"), goes_on, "{made}: {told}");
        assert!(goes_on || !told.contains('D'), "{made}: {told}");
    }
}

#[tokio::test]
async fn a_session_that_brought_a_way_to_read_rows_ends_where_something_is_masked() {
    let server = pair("brought_a", "brought_b");
    for (setting, goes_on) in [(("enable_seqscan", "off"), false), (("jit", "off"), true)] {
        let front = Front::masked(&server, &["brought_a"], masks()).await;
        front.reveal();
        let mut raw = Raw::set(front.address, "brought_a", setting).await;
        assert_eq!(raw.rows("SELECT 1").await.len(), 1);
        front.mask(masks());
        let told = raw.exchange("Q SELECT id FROM q").await;
        assert_eq!(told.ends_with("Z:I"), goes_on, "{setting:?}: {told}");
    }
}

#[tokio::test]
async fn a_view_that_a_masked_session_made_shows_no_more_when_others_do() {
    let server = pair("made_a", "made_b");
    let front = Front::masked(&server, &["made_a"], masks()).await;
    let mut raw = Raw::connect(front.address, "made_a").await;
    raw.rows("CREATE TEMP VIEW z AS SELECT id, ssn FROM p")
        .await;
    front.mask(Masks::default());
    assert_eq!(raw.rows("SELECT ssn FROM p WHERE id = 1").await.len(), 1);
    front.mask(masks());
    let rows = raw.rows("SELECT ssn FROM z WHERE id = 1").await;
    assert_eq!(rows, ["\u{fffd}".repeat(4)]);
}

#[tokio::test]
async fn how_a_client_has_names_written_hides_nothing_of_the_catalog() {
    let server = pair("quoted_a", "quoted_b");
    let front = Front::masked(&server, &["quoted_a"], masks()).await;
    for (name, value) in [
        ("quote_all_identifiers", "on"),
        ("standard_conforming_strings", "off"),
    ] {
        drop(Raw::set(front.address, "quoted_a", (name, value)).await);
        let told = said(front.address, "quoted_a", "SELECT x FROM shown").await;
        assert!(shown(&told).contains("C42501"), "{name}: {}", shown(&told));
    }
}

//! Statements that are more than a query: rows as a whole, what fails, what is refused, writes, copies,
//! cursors, what is prepared or made for the session.

use super::{CLOSED, FAILING, FORBIDDEN, Grammar, Script, Ty, columns_of, under};
use crate::canary::words::TYPES;

/// Ways to take a row as a whole, of a table or of its alias.
const ROWS: &[&str] = &[
    "SELECT * FROM {t}",
    "SELECT {t} FROM {t}",
    "SELECT {t}.* FROM {t}",
    "TABLE {t}",
    "SELECT row_to_json({t}) FROM {t}",
    "SELECT {t}.row_to_json FROM {t}",
    "SELECT to_jsonb({t}) FROM {t}",
    "SELECT {t}::text FROM {t}",
    "SELECT ROW({t}.*) FROM {t}",
    "SELECT x FROM {t} AS x",
    "SELECT (x).* FROM (SELECT {t} AS x FROM {t}) AS y",
    "SELECT count({t}) FROM {t}",
    "SELECT DISTINCT {t}::text FROM {t}",
    "SELECT json_agg({t}) FROM {t}",
    "SELECT array_agg({t}) FROM {t}",
    "SELECT {t}.text FROM {t}",
    "SELECT concat({t}, 'x') FROM {t}",
    "SELECT {t} IS NULL FROM {t}",
    "SELECT {t} = {t} FROM {t}",
    "SELECT xmlforest({t}) FROM {t}",
    "SELECT j.* FROM {t}, jsonb_each_text(to_jsonb({t})) AS j",
    "SELECT format('%s', {t}) FROM {t}",
    "SELECT md5({t}::text) FROM {t}",
    "SELECT max({t}::text) FROM {t}",
    "SELECT {t} FROM {t} ORDER BY {t}::text",
    "SELECT * FROM (TABLE {t}) AS z",
    "SELECT z.* FROM {t} AS z, city",
    "SELECT string_agg({t}::text, ';') FROM {t}",
    "SELECT * FROM {t} *",
    "SELECT {t}.to_json FROM {t}",
    "SELECT {t}.pg_typeof FROM {t}",
    "SELECT {t}.num_nulls FROM {t}",
    "SELECT {t}.json_build_array FROM {t}",
    "SELECT ctid FROM {t}",
    "SELECT tableoid::regclass FROM {t}",
    "SELECT {t}.hash_record FROM {t}",
    "SELECT {t}.record_out FROM {t}",
    "SELECT pg_column_size({t}) FROM {t}",
    "SELECT lead({t}) OVER () FROM {t}",
    "SELECT * FROM {t} NATURAL JOIN (SELECT 3 AS id) AS k",
    "SELECT * FROM {t} JOIN {t} AS b USING (id)",
    "SELECT a FROM {t} AS t(a)",
    "SELECT coalesce({t}, NULL) FROM {t}",
    "SELECT * FROM public.{t} FOR UPDATE",
    "SELECT public.{t}.id FROM public.{t}",
    "SELECT xmlelement(name r, row_to_json({t})) FROM {t}",
    "SELECT quote_nullable({t}) FROM {t}",
    "SELECT to_json(array_agg({t})) FROM {t}",
    "SELECT * FROM {t} TABLESAMPLE system (100)",
    "SELECT 1 FROM {t} GROUP BY {t}.id, {t}",
    "SELECT (SELECT {t}) FROM {t}",
    "SELECT * FROM {t} LIMIT 3",
];

/// Writes that ask nothing of what is masked, or ask a table that can be replaced. `{t}` and `{b}` are of
/// `person AS p`, `{pt}` and `{pb}` of what is plain in `orders`.
const WRITES: &[&str] = &[
    "UPDATE orders SET item = {pt} WHERE {pb} RETURNING id, item",
    "UPDATE orders SET qty = qty + 1 WHERE {pb}",
    "DELETE FROM orders WHERE {pb} RETURNING id",
    "UPDATE city SET country = (SELECT {t} FROM person AS p WHERE p.id = 2) RETURNING country",
    "INSERT INTO nums (n, word) SELECT p.id, {t} FROM person AS p RETURNING n, word",
    "INSERT INTO person (id, name) VALUES (100, 'x') RETURNING id, name",
    "INSERT INTO person (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id",
    "UPDATE city SET country = {t} FROM person AS p WHERE {b} RETURNING city.country",
    "DELETE FROM city USING person AS p WHERE {b} RETURNING city.name",
    "MERGE INTO city USING person AS p ON {b} WHEN MATCHED THEN UPDATE SET country = {t}",
    "UPDATE person SET name = NULL WHERE id = 2",
    "INSERT INTO orders (id, person_id) VALUES (500, 999)",
    "WITH w AS (UPDATE nums SET word = word RETURNING *) SELECT w.n, {t} FROM w JOIN person AS p ON p.id = w.n",
    "INSERT INTO nums (word) SELECT z::text FROM ({q}) AS z RETURNING word",
    "WITH w AS ({q}) UPDATE nums SET word = (SELECT w::text FROM w LIMIT 1) WHERE n = 1 RETURNING word",
    "UPDATE event SET what = 'w9' WHERE id = 6 RETURNING id, what",
    "UPDATE orders SET item = {t} FROM person AS p WHERE p.id = orders.id RETURNING item",
    "INSERT INTO city (name, country) SELECT p.name, {t} FROM person AS p ON CONFLICT (name) DO UPDATE SET country = excluded.country RETURNING *",
    "UPDATE orders AS o SET item = b.card FROM orders AS b WHERE b.id = o.id RETURNING o.item",
    "WITH w AS (DELETE FROM nums RETURNING word) SELECT w.word, {t} FROM w, person AS p",
    "UPDATE nums SET (word, n) = (SELECT {t}, 3 FROM person AS p WHERE p.id = 1) RETURNING *",
    "DELETE FROM kinds WHERE kind IN (SELECT {t} FROM person AS p)",
    "UPDATE checks SET what = (SELECT left({t}, 9) FROM person AS p WHERE p.id = 1) WHERE id = 1",
    "INSERT INTO kinds SELECT {t} FROM person AS p",
];

/// Writes that ask for what is masked of the very table that they change.
const GREEDY: &[&str] = &[
    "UPDATE orders SET item = {m} RETURNING item",
    "UPDATE orders SET item = orders.{m}",
    "UPDATE orders AS x SET item = x.{m}",
    "UPDATE orders SET item = (SELECT {m})",
    "UPDATE orders SET item = orders::text",
    "UPDATE orders AS x SET item = x::text",
    "UPDATE orders SET item = row_to_json(orders)::text",
    "UPDATE orders SET item = orders.row_to_json::text",
    "UPDATE orders SET item = (orders).card",
    "UPDATE orders SET item = (SELECT z.card FROM (SELECT orders.*) AS z)",
    "UPDATE orders SET item = (SELECT o::text FROM (VALUES (1)) AS v, LATERAL (SELECT orders) AS o)",
    "UPDATE orders SET item = public.orders.{m}",
    "UPDATE orders SET (item) = (SELECT {m}) RETURNING item",
    "DELETE FROM orders WHERE id = 3 RETURNING *",
    "DELETE FROM orders RETURNING {m}",
    "DELETE FROM orders WHERE {m} < 'M'",
    "DELETE FROM orders WHERE orders IS NOT NULL",
    "DELETE FROM orders WHERE orders::text LIKE '%K%'",
    "DELETE FROM orders AS x WHERE x.card > 'K' RETURNING x.id",
    "DELETE FROM orders RETURNING orders",
    "DELETE FROM orders RETURNING (SELECT {m})",
    "DELETE FROM orders RETURNING to_jsonb(orders)",
    "UPDATE orders SET qty = 1 RETURNING orders.*",
    "UPDATE orders SET qty = 1 RETURNING (orders).memo",
    "INSERT INTO orders (id) SELECT id + 100 FROM orders RETURNING {m}",
    "INSERT INTO orders SELECT * FROM orders ON CONFLICT (id) DO UPDATE SET item = orders.card",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET item = orders.card RETURNING item",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET qty = 1 WHERE orders.card < 'M'",
    "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET item = (SELECT orders::text)",
    "MERGE INTO orders USING nums ON orders.id = nums.n WHEN MATCHED AND card < 'M' THEN DELETE",
    "MERGE INTO orders USING nums ON orders.id = nums.n WHEN MATCHED THEN UPDATE SET item = card",
    "MERGE INTO orders AS o USING orders AS s ON o.id = s.id WHEN MATCHED THEN UPDATE SET item = s.card",
    "WITH w AS (UPDATE orders SET qty = 1 RETURNING *) SELECT * FROM w",
    "WITH w AS (DELETE FROM orders RETURNING card AS c) SELECT c FROM w",
    "UPDATE orders SET item = f.x FROM (SELECT card AS x, id FROM orders) AS f WHERE f.id = orders.id",
    "UPDATE person AS p SET name = {t} WHERE {b} RETURNING p.id, p.name",
    "UPDATE vault SET what = code",
    "UPDATE v_person SET name = ssn RETURNING u",
    "UPDATE leaf SET what = label",
    "UPDATE base SET what = label RETURNING what",
    "UPDATE event_low SET what = payload RETURNING *",
    "INSERT INTO vault (id, what, code) SELECT 99, 'x', code FROM vault LIMIT 1",
    "UPDATE refers SET id = 1 WHERE code > 'K'",
    "DELETE FROM vault WHERE id = 2 RETURNING low",
    "UPDATE orders SET item = CASE WHEN card < 'M' THEN 'a' ELSE 'b' END",
    "UPDATE orders SET card = item",
    "UPDATE orders SET card = DEFAULT RETURNING item",
    "UPDATE orders SET price = fee",
];

/// Statements of every other kind; most are refused.
const ODD: &[&str] = &[
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM person LIMIT 1); END $$",
    "SET application_name = 'x'",
    "SHOW application_name",
    "SET ROLE trusted",
    "RESET ALL",
    "DISCARD ALL",
    "SHOW ALL",
    "SET x.y = 'z'",
    "SHOW interceptor.session_key",
    "LISTEN c",
    "NOTIFY c, 'x'",
    "BEGIN;; LOCK TABLE person;; ROLLBACK",
    "VACUUM person",
    "ANALYZE VERBOSE person",
    "CHECKPOINT",
    "REFRESH MATERIALIZED VIEW m_person",
    "BEGIN;; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person LIMIT 1';; SELECT f();; ROLLBACK",
    "BEGIN;; ALTER TABLE person RENAME TO gone;; SELECT ssn FROM gone;; ROLLBACK",
    "BEGIN;; ALTER TABLE person RENAME ssn TO name2;; SELECT name2 FROM person;; ROLLBACK",
    "BEGIN;; CREATE RULE r AS ON INSERT TO city DO ALSO SELECT ssn FROM person;; INSERT INTO city VALUES ('z');; ROLLBACK",
    "BEGIN;; CREATE INDEX ON person ((ssn::int));; ROLLBACK",
    "BEGIN;; ALTER TABLE person ADD CHECK (ssn < 'K');; ROLLBACK",
    "BEGIN;; ALTER TABLE person ALTER ssn TYPE int USING ssn::int;; ROLLBACK",
    "BEGIN;; CREATE TABLE kid () INHERITS (person);; SELECT * FROM kid;; ROLLBACK",
    "BEGIN;; INSERT INTO told VALUES ({int}, 'x');; ROLLBACK",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'person'",
    "SELECT * FROM pg_stat_activity",
    "SELECT relname, relpages, reltuples FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'split%'",
    "SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'person'::regclass",
    "SELECT * FROM information_schema.columns WHERE table_name = 'person'",
    "SELECT pg_get_viewdef('v_order'::regclass)",
    "SELECT setting FROM pg_settings WHERE name LIKE 'inter%'",
    "SELECT token FROM person",
    "SELECT id, token IS NULL FROM person",
    "SELECT * FROM person WHERE token = 'x'",
    "COPY person (id, token) TO STDOUT",
    "EXECUTE nothing",
    "FETCH ALL FROM nothing",
    "GRANT SELECT ON person TO PUBLIC",
    "COMMENT ON COLUMN person.ssn IS 'x'",
    "SECURITY LABEL ON TABLE person IS 'x'",
    "BEGIN;; TRUNCATE told;; ROLLBACK",
    "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO public",
    "SELECT 1; SELECT ssn, email FROM person; SELECT {text} FROM person",
    "SELECT lo_create(0)",
    "COPY person TO PROGRAM 'cat'",
    "COPY person TO '/tmp/x'",
    "BEGIN;; SET LOCAL search_path = pg_catalog, public;; SELECT ssn FROM person;; ROLLBACK",
    "BEGIN;; SAVEPOINT a;; SELECT ssn::int FROM person;; ROLLBACK TO a;; SELECT ssn FROM person;; ROLLBACK",
    "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_cursors",
    "SET datestyle = 'German';; SELECT born, seen, at FROM person;; RESET datestyle",
    "SET bytea_output = 'escape';; SELECT raw FROM person;; RESET bytea_output",
    "SET client_min_messages = 'debug5';; SELECT ssn FROM person WHERE id = 1;; RESET client_min_messages",
    "SET intervalstyle = 'iso_8601'",
    "SET xmloption = document;; SELECT page FROM person;; RESET xmloption",
];

impl Grammar {
    fn table(&mut self) -> &'static str {
        const TABLES: [&str; 11] = [
            "person", "person", "person", "orders", "event", "leaf", "vault", "v_person", "v_top",
            "m_person", "base",
        ];
        self.random.pick::<&str>(&TABLES)
    }

    pub(super) fn rows(&mut self) -> Script {
        let table = self.table();
        let form = *self.random.pick(ROWS);
        vec![form.replace("{t}", table)]
    }

    /// A value of a person that cannot be had without an error.
    pub(super) fn failing(&mut self) -> Script {
        self.scope = under("p", columns_of("person"));
        let form = *self.random.pick(FAILING);
        let value = self.fill(form, 1);
        vec![format!("SELECT {value} FROM person AS p")]
    }

    pub(super) fn forbidden(&mut self) -> Script {
        self.scope = under("p", columns_of("person"));
        let form = *self.random.pick(FORBIDDEN);
        let call = self.fill(form, 1);
        match self.random.below(3) {
            0 => vec![format!("SELECT {call}").replace("p.", "(SELECT max(id) FROM person).")],
            1 => vec![format!(
                "SELECT id FROM person AS p WHERE ({call}) IS NOT NULL"
            )],
            _ => vec![format!("SELECT {call} FROM person AS p WHERE p.id < 3")],
        }
    }

    pub(super) fn closed(&mut self) -> Script {
        let relation = *self.random.pick(&CLOSED);
        let other = self.query(1);
        vec![match self.random.below(3) {
            0 => format!("SELECT * FROM {relation}"),
            1 => format!("SELECT count(*) FROM {relation}, ({other}) AS z"),
            _ => other,
        }]
    }

    pub(super) fn explain(&mut self) -> Script {
        let query = self.query(2);
        let options = *self.random.pick(&[
            "(COSTS OFF)",
            "",
            "VERBOSE ",
            "(ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF)",
            "(FORMAT json)",
            "(ANALYZE, VERBOSE, TIMING OFF, SUMMARY OFF)",
            "(FORMAT xml, ANALYZE, TIMING OFF, SUMMARY OFF)",
        ]);
        vec![format!("EXPLAIN {options} {query}")]
    }

    pub(super) fn copy(&mut self) -> Script {
        let format = *self.random.pick(&[
            "",
            " WITH (FORMAT csv, HEADER)",
            " WITH (FORMAT binary)",
            " WITH (FORMAT csv, FORCE_QUOTE *)",
            " WITH (DELIMITER '|', NULL 'x')",
            " (ENCODING 'LATIN1')",
        ]);
        let table = *self.random.pick(&[
            "person", "orders", "event", "leaf", "base", "vault", "city", "m_person", "v_person",
        ]);
        let text = match self.random.below(8) {
            0..2 => format!("COPY {table} TO STDOUT{format}"),
            2 => {
                let columns = columns_of(table);
                let some: Vec<_> = (0..3)
                    .map(|_| self.random.pick(&columns).0.clone())
                    .collect();
                format!("COPY {table} ({}) TO STDOUT{format}", some.join(", "))
            }
            3 => format!("COPY {table} FROM STDIN{format}"),
            4 => "BEGIN;; COPY city (name, people) FROM STDIN;; ROLLBACK".to_owned(),
            _ => format!("COPY ({}) TO STDOUT{format}", self.query(1)),
        };
        text.split(";;").map(|one| one.trim().to_owned()).collect()
    }

    pub(super) fn cursor(&mut self) -> Script {
        let query = self.query(1);
        let how = *self
            .random
            .pick(&["", "BINARY ", "SCROLL ", "NO SCROLL ", "INSENSITIVE "]);
        let fetch = *self.random.pick(&[
            "FETCH ALL FROM c",
            "FETCH 3 FROM c",
            "FETCH LAST FROM c",
            "MOVE 2 IN c",
        ]);
        let mut script = match self.random.percent(20) {
            true => vec![
                format!("DECLARE c {how}CURSOR WITH HOLD FOR {query}"),
                fetch.to_owned(),
            ],
            false => vec![
                "BEGIN".to_owned(),
                format!("DECLARE c {how}CURSOR FOR {query}"),
                fetch.to_owned(),
            ],
        };
        if script.len() == 3 {
            script.extend([fetch.to_owned(), "ROLLBACK".to_owned()]);
        } else {
            script.push("CLOSE ALL".to_owned());
        }
        script
    }

    pub(super) fn prepared(&mut self) -> Script {
        let query = self.query(1);
        let (prepare, execute) = match self.random.percent(50) {
            true => (format!("PREPARE s AS {query}"), "EXECUTE s".to_owned()),
            false => {
                self.scope = under("p", columns_of("person"));
                let (value, test) = (self.value(Ty::Text, 1), self.value(Ty::Text, 1));
                let argument = self.constant(Ty::Text);
                let text = format!(
                    "PREPARE s (text) AS SELECT {value}, $1 FROM person AS p WHERE {test} > $1"
                );
                (text, format!("EXECUTE s ({argument})"))
            }
        };
        let first = match self.random.percent(30) {
            true => format!("EXPLAIN {execute}"),
            false => execute.clone(),
        };
        vec![prepare, first, execute, "DEALLOCATE ALL".to_owned()]
    }

    /// Writes, each undone.
    pub(super) fn write(&mut self) -> Script {
        let query = self.query(1);
        self.scope = under("p", columns_of("person"));
        let (text, test) = (self.value(Ty::Text, 1), self.value(Ty::Bool, 1));
        self.scope = columns_of("orders").into_iter().take(6).collect();
        let (plain_text, plain_test) = (self.value(Ty::Text, 1), self.value(Ty::Bool, 1));
        let form = match self.random.percent(50) {
            true => *self.random.pick(WRITES),
            false => *self.random.pick(GREEDY),
        };
        let column = *self.random.pick(&["card", "memo", "fee::text"]);
        let write = form
            .replace("{t}", &text)
            .replace("{b}", &test)
            .replace("{pt}", &plain_text)
            .replace("{pb}", &plain_test)
            .replace("{m}", column)
            .replace("{q}", &query);
        let after = "SELECT * FROM nums ORDER BY n LIMIT 3";
        let other = "SELECT id, item FROM orders ORDER BY id";
        ["BEGIN", &write, after, other, "ROLLBACK"]
            .map(str::to_owned)
            .into()
    }

    /// Several statements in one message.
    pub(super) fn several(&mut self) -> Script {
        let count = self.random.below(3) + 2;
        let all: Vec<String> = (0..count)
            .map(|_| match self.random.percent(80) {
                true => self.query(1),
                false => self.rows().remove(0),
            })
            .collect();
        vec![all.join("; ")]
    }

    /// What a session makes for itself.
    pub(super) fn temporary(&mut self) -> Script {
        let query = self.query(1);
        let (make, read) = *self.random.pick(&[
            ("CREATE TEMP VIEW z AS {q}", "SELECT * FROM z"),
            ("CREATE TEMP TABLE z AS {q}", "TABLE z"),
            (
                "CREATE TEMP TABLE z (LIKE person)",
                "INSERT INTO z SELECT * FROM person",
            ),
            ("CREATE VIEW z AS {q}", "SELECT z FROM z"),
            ("CREATE TABLE z AS {q}", "SELECT * FROM z"),
            ("CREATE MATERIALIZED VIEW z AS {q}", "SELECT * FROM z"),
            (
                "SELECT * INTO TEMP z FROM ({q}) AS y",
                "SELECT z::text FROM pg_temp.z",
            ),
        ]);
        let (make, read) = (make.replace("{q}", &query), read.to_owned());
        let again = "SELECT count(*) FROM z".to_owned();
        vec!["BEGIN".to_owned(), make, read, again, "ROLLBACK".to_owned()]
    }

    pub(super) fn odd(&mut self) -> Script {
        self.scope = TYPES
            .iter()
            .map(|(ty, ..)| ("NULL".to_owned(), *ty))
            .collect();
        let form = *self.random.pick(ODD);
        let text = self.fill(form, 0);
        text.split(";;").map(|one| one.trim().to_owned()).collect()
    }
}

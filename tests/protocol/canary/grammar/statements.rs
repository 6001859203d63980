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
    "SELECT relname, relpages, reltuples FROM pg_class WHERE relnamespace = 'public'::regnamespace",
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
        *self.random.pick(&[
            "person", "person", "person", "orders", "event", "leaf", "vault", "v_person", "v_top",
            "m_person", "base",
        ])
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
            _ => format!("{other}"),
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
        vec![match self.random.below(8) {
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
        }]
        .iter()
        .flat_map(|text| text.split(";;"))
        .map(|text| text.trim().to_owned())
        .collect()
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
        self.scope = under("p", columns_of("person"));
        let text = self.value(Ty::Text, 1);
        let test = self.value(Ty::Bool, 1);
        self.scope = columns_of("orders").into_iter().take(6).collect();
        let plain_text = self.value(Ty::Text, 1);
        let plain_test = self.value(Ty::Bool, 1);
        let query = self.query(1);
        let write = match self.random.below(20) {
            0 => format!("UPDATE orders SET item = {plain_text} WHERE {plain_test} RETURNING id, item"),
            1 => format!("UPDATE orders SET qty = qty + 1 WHERE {plain_test}"),
            2 => format!("DELETE FROM orders WHERE {plain_test} RETURNING id"),
            3 => "DELETE FROM orders WHERE id = 3 RETURNING *".to_owned(),
            4 => format!("UPDATE city SET country = (SELECT {text} FROM person AS p WHERE p.id = 2) RETURNING country"),
            5 => format!("INSERT INTO nums (n, word) SELECT p.id, {text} FROM person AS p RETURNING n, word"),
            6 => "INSERT INTO person (id, name) VALUES (100, 'x') RETURNING id, name".to_owned(),
            7 => "INSERT INTO person (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id".to_owned(),
            8 => format!("UPDATE city SET country = {text} FROM person AS p WHERE {test} RETURNING city.country"),
            9 => format!("DELETE FROM city USING person AS p WHERE {test} RETURNING city.name"),
            10 => format!("MERGE INTO city USING person AS p ON {test} WHEN MATCHED THEN UPDATE SET country = {text}"),
            11 => format!("UPDATE person AS p SET name = {text} WHERE {test} RETURNING p.id, p.name"),
            12 => "UPDATE person SET name = NULL WHERE id = 2".to_owned(),
            13 => "UPDATE vault SET what = 'x' RETURNING code".to_owned(),
            14 => "INSERT INTO vault (id, what, code) SELECT 99, 'x', code FROM vault LIMIT 1".to_owned(),
            15 => "INSERT INTO orders (id, person_id) VALUES (500, 999)".to_owned(),
            16 => format!("WITH w AS (UPDATE nums SET word = word RETURNING *) SELECT w.n, {text} FROM w JOIN person AS p ON p.id = w.n"),
            17 => format!("INSERT INTO nums (word) SELECT z::text FROM ({query}) AS z RETURNING word"),
            18 => format!("WITH w AS ({query}) UPDATE nums SET word = (SELECT w::text FROM w LIMIT 1) WHERE n = 1 RETURNING word"),
            _ => "UPDATE event SET what = 'w9' WHERE id = 6 RETURNING id, what".to_owned(),
        };
        vec![
            "BEGIN".to_owned(),
            write,
            "SELECT * FROM nums ORDER BY n LIMIT 3".to_owned(),
            "ROLLBACK".to_owned(),
        ]
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

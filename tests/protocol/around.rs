//! Ways around masks by way of what else is in a database: foreign keys, triggers, partitions, indexes,
//! views that ask about what is masked, and search paths that are not what they seem.

use interceptor::masking::{Mask, Masks, Relation};

use crate::loop_rig::Front;
use crate::masking::said;
use crate::server::Server;

const SETUP: &str = r#"
SET ROLE trusted;
CREATE SCHEMA s2;
CREATE TABLE q (id int PRIMARY KEY, ssn text);
INSERT INTO q SELECT n, 'CANARYA-' || lpad(n::text, 4, '0') FROM generate_series(1, 20) AS n;
CREATE TABLE p (id int PRIMARY KEY, name text NOT NULL, ssn text, born date);
INSERT INTO p SELECT n, 'n' || n, 'c' || n, '2000-01-01' FROM generate_series(1, 20) AS n;
CREATE TABLE s2.p (id int, ssn text);
CREATE TABLE held (id int PRIMARY KEY, owner int NOT NULL REFERENCES q (id) ON DELETE SET NULL ON UPDATE CASCADE CHECK (owner > 0), ssn text);
INSERT INTO held SELECT n, n, 'c' FROM generate_series(1, 10) AS n;
CREATE TABLE codes (code text PRIMARY KEY);
INSERT INTO codes SELECT 'CANARY' || w || '-' || lpad(n::text, 4, '0') FROM generate_series(1, 10) AS n, unnest(ARRAY['A','B']) AS w;
CREATE TABLE coded (id int, ssn text REFERENCES codes ON DELETE CASCADE);
CREATE TABLE kinds (code text PRIMARY KEY);
INSERT INTO kinds TABLE codes;
CREATE TABLE kinded (id int, ssn text REFERENCES kinds);
CREATE TABLE byvalue (id int, ssn text) PARTITION BY LIST (ssn);
CREATE TABLE byvalue_a PARTITION OF byvalue FOR VALUES IN ('CANARYA-0001');
CREATE TABLE byvalue_b PARTITION OF byvalue DEFAULT;
CREATE TABLE wide (id int, ssn text, filler text);
INSERT INTO wide SELECT n, 'c', repeat('x', 500) FROM generate_series(1, 200) AS n;
CREATE INDEX ON wide (ssn, id);
CREATE VIEW asks AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';
CREATE VIEW counts AS SELECT count(*) AS n FROM p GROUP BY substr(ssn, 7, 1) = 'A', ssn LIKE 'CANARYA-000%';
CREATE VIEW first AS SELECT id FROM p ORDER BY ssn LIKE 'CANARYA-0020' DESC, id LIMIT 1;
CREATE VIEW nested AS SELECT z.id FROM (SELECT id FROM p WHERE ssn LIKE 'CANARYA%') AS z;
CREATE VIEW united AS SELECT substr(ssn, 7, 2) < 'AZ' AS x FROM p UNION SELECT true;
CREATE VIEW joined AS SELECT p.id FROM p JOIN q ON q.ssn = p.ssn;
CREATE VIEW used AS SELECT id FROM p JOIN (SELECT id AS k, ssn FROM q) AS q USING (ssn);
CREATE VIEW good AS SELECT id, upper(ssn) AS s FROM p WHERE id < 5 ORDER BY id;
CREATE VIEW better AS SELECT z.id FROM (SELECT id, ssn FROM p WHERE name > '') AS z WHERE z.id = 3;
CREATE TABLE log (id int, what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''%'', (SELECT ssn FROM p WHERE id = 1); END';
CREATE TRIGGER tell BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE said (id int, what text);
CREATE FUNCTION send() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''c'', (SELECT ssn FROM p WHERE id = 1)); RAISE NOTICE ''%'', (SELECT ssn FROM p WHERE id = 1); RETURN NEW; END';
CREATE TRIGGER send BEFORE INSERT ON said FOR EACH ROW EXECUTE FUNCTION send();
CREATE FUNCTION peek() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.p WHERE id = 1';
CREATE DOMAIN odd AS text CHECK (VALUE <> 'CANARYA-0001' OR peek() IS NULL);
CREATE FUNCTION is_a(text) RETURNS bool LANGUAGE sql AS 'SELECT peek() LIKE ''CANARYA%''';
CREATE DOMAIN other AS text CHECK (is_a(VALUE));
CREATE TABLE defaulted (id int, what text DEFAULT peek());
CREATE TABLE checked (id int, what text CHECK (is_a(what)));
CREATE TABLE mine (id int, note text);
INSERT INTO mine VALUES (1, 'x');
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
ALTER TABLE mine FORCE ROW LEVEL SECURITY;
CREATE POLICY looks ON mine USING (is_a(note));
CREATE FUNCTION grow(text, text) RETURNS text LANGUAGE sql AS 'SELECT peek()';
CREATE TABLE whole (id int, what text, ssn text, CHECK (strpos(whole::text, 'C' || what) = 0));
INSERT INTO whole VALUES (1, 'x', 'c');
CREATE TABLE rowly (id int, what text, ssn text);
INSERT INTO rowly SELECT n, 'w' || n, CASE n WHEN 1 THEN 'c' END FROM generate_series(1, 3) AS n;
CREATE UNIQUE INDEX ON rowly (what) WHERE rowly IS NOT NULL;
CREATE TABLE above (id int, what text);
CREATE TABLE below (ssn text, CHECK (left(ssn, 7) <> what)) INHERITS (above);
INSERT INTO below VALUES (1, 'x', 'c');
CREATE TABLE heard (id int, what text);
CREATE TABLE heard_below () INHERITS (heard);
INSERT INTO heard_below VALUES (1, 'x');
CREATE TABLE keys (code text);
CREATE TABLE keys_below (PRIMARY KEY (code)) INHERITS (keys);
INSERT INTO keys_below TABLE codes;
CREATE TABLE keyed (id int, ssn text REFERENCES keys_below);
CREATE TABLE ranged (id int, what text, ssn text) PARTITION BY RANGE (id);
CREATE TABLE ranged_low PARTITION OF ranged (CHECK (left(ssn, 7) <> what)) FOR VALUES FROM (1) TO (9);
INSERT INTO ranged VALUES (1, 'x', 'c');
CREATE TABLE partly (id int, what text, ssn text);
INSERT INTO partly SELECT n, 'w' || n, 'c' FROM generate_series(1, 3) AS n;
CREATE UNIQUE INDEX ON partly (what) WHERE ssn LIKE 'CANARYA%';
CREATE TABLE cause (id int PRIMARY KEY);
INSERT INTO cause VALUES (1);
CREATE TABLE effect (id int REFERENCES cause ON DELETE CASCADE, what text);
INSERT INTO effect VALUES (1, 'x');
CREATE TRIGGER tell BEFORE DELETE ON effect FOR EACH ROW EXECUTE FUNCTION tell();
CREATE VIEW watched AS SELECT tablename, histogram_bounds::text AS b FROM pg_stats WHERE attname = 'ssn';
CREATE VIEW written AS SELECT query_to_xml('SELECT ssn FROM public.p', true, true, '')::text AS x;
CREATE VIEW over_written AS SELECT x FROM written;
CREATE TRIGGER tell BEFORE UPDATE ON heard_below FOR EACH ROW EXECUTE FUNCTION tell();
CREATE AGGREGATE grown (text) (SFUNC = grow, STYPE = text);
CREATE VIEW grew AS SELECT grown(code) AS g FROM codes;
CREATE TABLE divided (id int, k int, ssn text, x int GENERATED ALWAYS AS (100 / (ascii(substr(ssn, 7, 1)) - k)) STORED);
INSERT INTO divided (id, k, ssn) VALUES (1, 0, 'canary-');
CREATE TABLE bound (id int, k int, ssn text, CHECK (ascii(substr(ssn, 7, 1)) <> k));
INSERT INTO bound VALUES (1, 0, 'canary-');
CREATE TABLE sought (id int, k int, ssn text);
INSERT INTO sought VALUES (1, 0, 'canary-');
CREATE INDEX ON sought ((100 / (ascii(substr(ssn, 7, 1)) - k)));
CREATE TABLE halved (id int, k int, ssn text);
INSERT INTO halved VALUES (1, 0, 'canary-');
CREATE INDEX ON halved (id) WHERE 100 / (ascii(substr(ssn, 7, 1)) - k) > 0;
CREATE TABLE paired (k int, ssn text, UNIQUE (ssn, k));
INSERT INTO paired VALUES (1, 'c'), (2, 'd');
CREATE TABLE noticed (id int, ssn text);
INSERT INTO noticed VALUES (1, 'c');
CREATE FUNCTION loud(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN $1; END';
CREATE INDEX ON noticed (loud(ssn));
CREATE INDEX ON noticed (id);
CREATE TABLE tied_to (id int PRIMARY KEY);
INSERT INTO tied_to VALUES (1);
CREATE TABLE tied (id int, owner int REFERENCES tied_to ON DELETE SET NULL, ssn text, CHECK (owner IS NOT NULL OR ssn LIKE 'CANARYA%'));
INSERT INTO tied VALUES (1, 1, 'c');
CREATE TABLE holds (id int PRIMARY KEY, ssn text);
INSERT INTO holds VALUES (1, 'c'), (2, 'c');
CREATE TABLE held_by (id int, ssn int REFERENCES holds);
INSERT INTO held_by VALUES (1, 1);
CREATE TABLE origins (id int PRIMARY KEY);
INSERT INTO origins VALUES (0), (1), (2);
CREATE FUNCTION peek_number() RETURNS int LANGUAGE sql AS 'SELECT ascii(substr(ssn, 7)) - 64 FROM public.p WHERE id = 1';
CREATE TABLE falls_back (id int, origin int DEFAULT peek_number() REFERENCES origins ON DELETE SET DEFAULT);
INSERT INTO falls_back VALUES (1, 0);
CREATE TABLE sized (id int, note text, ssn text);
INSERT INTO sized VALUES (1, 'x', 'c');
CREATE INDEX ON sized (note, ssn);
CREATE TABLE placed (id int, ssn text);
INSERT INTO placed SELECT n, 'c' FROM generate_series(1, 20) AS n;
CREATE TABLE wordy (id int, note text, ssn text);
INSERT INTO wordy VALUES (1, 'x', 'c');
CREATE VIEW parsed AS SELECT id, (ts_parse('default', ssn)).token AS t FROM wordy;
CREATE VIEW rows_of AS SELECT p AS whole, id FROM p;
CREATE VIEW few AS SELECT id FROM q ORDER BY id LIMIT (SELECT ascii(substr(max(ssn), 7)) - 63 FROM p);
CREATE VIEW within AS SELECT code FROM codes WHERE code IN (SELECT ssn FROM p);
CREATE VIEW beside AS SELECT code FROM codes JOIN q ON q.id = 1 AND code > (SELECT max(ssn) FROM p);
CREATE TABLE policed (id int, owner text);
INSERT INTO policed SELECT 1, code FROM codes;
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
ALTER TABLE policed FORCE ROW LEVEL SECURITY;
CREATE POLICY asks ON policed USING (owner IN (SELECT ssn FROM p));
CREATE VIEW over_policed AS SELECT owner FROM policed;
CREATE VIEW grouped AS SELECT p.id, p.name, p.ssn, count(q.id) AS n FROM p LEFT JOIN q ON q.id = p.id GROUP BY p.id, p.name, p.ssn;
CREATE TABLE excluded (id int, ssn text, EXCLUDE USING btree (ssn WITH =));
INSERT INTO excluded VALUES (1, 'c');
CREATE TABLE later (id int, ssn text, UNIQUE (ssn) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO later VALUES (1, 'c');
CREATE TABLE far_above (id int, ssn text);
CREATE TABLE late (id int);
INSERT INTO late VALUES (1);
CREATE TABLE numbered (id int, ssn serial);
CREATE TABLE parted (code text PRIMARY KEY) PARTITION BY RANGE (code);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM ('A') TO ('Z');
INSERT INTO parted TABLE codes;
CREATE TABLE into_parted (id int, ssn text REFERENCES parted);
CREATE MATERIALIZED VIEW kept AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';
CREATE MATERIALIZED VIEW risen AS SELECT id FROM p WHERE 1 / (ascii(substr(ssn, 7, 1)) - 65) > 5;
CREATE VIEW unnamed AS SELECT s.id FROM (SELECT id, ssn || '' FROM p) AS s WHERE s."?column?" LIKE 'CANARYA%';
CREATE VIEW sorted AS SELECT x.ssn, count(*) AS n FROM paired AS x GROUP BY x.ssn;
"#;

fn values(which: char) -> String {
    let mut sql = String::from("SET ROLE trusted;");
    for table in [
        "p", "held", "divided", "bound", "sought", "halved", "noticed", "whole", "partly", "below",
        "ranged", "tied", "excluded", "later",
    ] {
        sql.push_str(&format!(
            "UPDATE {table} SET ssn = 'CANARY{which}-' || lpad(id::text, 4, '0');"
        ));
    }
    // What no compression makes shorter.
    let long = match which {
        'A' => "'CANARYA'",
        _ => "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 55) AS n)",
    };
    // So many words of one length.
    let words = if which == 'A' {
        "a b c d e"
    } else {
        "aaaaaaaaa"
    };
    let order = if which == 'A' { "id" } else { "1000 - id" };
    sql.push_str(&format!(
        "UPDATE wide SET ssn = 'CANARY{which}-' || lpad(({order})::text, 4, '0');
         UPDATE held_by SET ssn = CASE '{which}' WHEN 'A' THEN 1 ELSE 2 END;
         UPDATE paired SET ssn = CASE WHEN k = 1 THEN 'CANARYA-0001' ELSE 'CANARY{which}-0001' END;
         UPDATE rowly SET ssn = CASE '{which}' WHEN 'A' THEN 'x' END WHERE id = 2;
         UPDATE wordy SET ssn = '{words}';
         UPDATE sized SET ssn = {long};
         UPDATE placed SET ssn = {long};
         REFRESH MATERIALIZED VIEW kept;
         SELECT setval('numbered_ssn_seq', CASE '{which}' WHEN 'A' THEN 5 ELSE 6 END);
         INSERT INTO into_parted VALUES (1, 'CANARY{which}-0001');
         INSERT INTO keyed VALUES (1, 'CANARY{which}-0001');
         INSERT INTO coded VALUES (1, 'CANARY{which}-0001');
         INSERT INTO kinded VALUES (1, 'CANARY{which}-0001');
         INSERT INTO byvalue VALUES (1, 'CANARY{which}-0001');
         RESET ROLE;\nVACUUM (FULL, ANALYZE);\nVACUUM wide;
         SET ROLE trusted; ALTER TABLE late ADD COLUMN ssn text DEFAULT 'CANARY{which}-0001';
         ALTER TABLE late ALTER COLUMN ssn DROP DEFAULT; RESET ROLE;
         CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE far (id int, ssn text) SERVER files
         OPTIONS (program 'echo 1,CANARY{which}-0001', format 'csv'); GRANT SELECT ON far TO trusted;
         CREATE FOREIGN TABLE far_below () INHERITS (far_above) SERVER files
         OPTIONS (program 'echo 1,CANARY{which}-0001', format 'csv');
         ALTER FOREIGN TABLE far OWNER TO trusted; ALTER FOREIGN TABLE far_below OWNER TO trusted;"
    ));
    sql
}

fn masks() -> Masks {
    let mut masks = Masks::default();
    for name in [
        "p",
        "held",
        "coded",
        "kinded",
        "byvalue",
        "wide",
        "whole",
        "partly",
        "rowly",
        "below",
        "keyed",
        "ranged",
        "divided",
        "bound",
        "sought",
        "halved",
        "paired",
        "noticed",
        "tied",
        "holds",
        "held_by",
        "sized",
        "placed",
        "wordy",
        "late",
        "numbered",
        "into_parted",
        "excluded",
        "later",
        "far",
        "far_above",
    ] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), Mask::Null);
    }
    masks
}

/// What it is, and the statements. Each tells the two databases apart directly.
pub(crate) const WAYS: &[(&str, &str)] = &[
    ("a foreign table", "SELECT ssn FROM far"),
    ("a foreign table below another", "SELECT ssn FROM far_below"),
    (
        "what excludes",
        "BEGIN;; INSERT INTO excluded VALUES (2, 'CANARYA-0001');; ROLLBACK",
    ),
    (
        "what is checked at the end",
        "BEGIN;; INSERT INTO later VALUES (2, 'CANARYA-0001');; COMMIT",
    ),
    (
        "what older rows hold in a new column",
        "SELECT attmissingval FROM pg_catalog.pg_attribute WHERE attrelid = 'late'::regclass AND atthasmissing",
    ),
    (
        "the same by its row",
        "SELECT a::text LIKE '%CANARYA%' FROM pg_attribute AS a WHERE a.attrelid = 'late'::regclass AND a.attnum = 2",
    ),
    (
        "the same under another name",
        "SELECT z FROM (SELECT * FROM pg_attribute) AS y (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, aa, z) WHERE a = 'late'::regclass AND f = 2",
    ),
    (
        "the same through a view",
        "CREATE TEMP VIEW seen AS SELECT attrelid, attmissingval::text AS m FROM pg_attribute WHERE attnum = 2;; SELECT m FROM seen WHERE attrelid = 'late'::regclass",
    ),
    (
        "a parent gets the column of its child",
        "BEGIN;; ALTER TABLE above ADD COLUMN ssn text;; SELECT ssn FROM above;; ROLLBACK",
    ),
    (
        "the same in one text",
        "ALTER TABLE above ADD COLUMN ssn text; SELECT ssn FROM above; SELECT 1 / 0",
    ),
    (
        "a check of a child while its parent is made anew",
        "BEGIN;; ALTER TABLE above ALTER COLUMN what TYPE text USING 'CANARYA';; ROLLBACK",
    ),
    (
        "what a masked column refers to is made anew",
        "ALTER TABLE kinds ALTER COLUMN code TYPE text USING 'x' || code",
    ),
    (
        "what a masked column refers to is detached",
        "ALTER TABLE parted DETACH PARTITION parted_a",
    ),
    (
        "a closed view under another name",
        "BEGIN;; ALTER TABLE cause RENAME TO cause_2;; ALTER VIEW watched RENAME TO cause;; SELECT * FROM cause;; ROLLBACK",
    ),
    (
        "an index of a closed materialized view",
        "BEGIN;; CREATE INDEX ON kept ((1 / (id - 5)));; ROLLBACK",
    ),
    (
        "a closed materialized view is made anew",
        "REFRESH MATERIALIZED VIEW risen",
    ),
    ("an index is made anew", "REINDEX INDEX noticed_loud_idx"),
    ("a schema's indexes are made anew", "REINDEX SCHEMA public"),
    ("samples for statistics", "ANALYZE noticed"),
    ("samples of all", "ANALYZE"),
    ("rows are moved together", "VACUUM FULL noticed"),
    (
        "what a sequence gave out",
        "SELECT last_value FROM numbered_ssn_seq",
    ),
    (
        "the same in the catalog",
        "SELECT last_value FROM pg_sequences WHERE sequencename = 'numbered_ssn_seq'",
    ),
    (
        "what a sequence gives out next",
        "BEGIN;; SELECT nextval('numbered_ssn_seq');; ROLLBACK",
    ),
    (
        "a path by blanks",
        "SET search_path = s2;; SELECT set_config('search_path  '::bpchar, 'public', false);; SELECT ssn || '' FROM p",
    ),
    (
        "a path by a name that is cut",
        "SET search_path = s2;; SELECT set_config('search_path!'::varchar(11), 'public', false);; SELECT ssn || '' FROM p",
    ),
    (
        "a path by a view of settings",
        "CREATE TEMP VIEW v AS SELECT name, setting FROM pg_settings;; SET search_path = s2;; UPDATE v SET setting = 'public' WHERE name = 'search_path';; SELECT ssn || '' FROM p",
    ),
    (
        "a path by a table that is called as settings are",
        "SET search_path = s2;; CREATE TEMP TABLE pg_settings (name bpchar);; INSERT INTO pg_settings VALUES ('search_path');; SELECT set_config(name, 'public', false) FROM pg_settings WHERE name = 'search_path  ';; SELECT ssn || '' FROM p",
    ),
    ("a column that has no name", "SELECT * FROM unnamed"),
    (
        "generated beside what is set",
        "BEGIN;; UPDATE divided SET k = 65;; ROLLBACK",
    ),
    (
        "check beside what is set",
        "BEGIN;; UPDATE bound SET k = 65;; ROLLBACK",
    ),
    (
        "index beside what is set",
        "BEGIN;; UPDATE sought SET k = 65;; ROLLBACK",
    ),
    (
        "condition of an index beside what is set",
        "BEGIN;; UPDATE halved SET k = 65;; ROLLBACK",
    ),
    (
        "unique beside what is set",
        "BEGIN;; UPDATE paired SET k = 1 WHERE k = 2;; ROLLBACK",
    ),
    (
        "merge beside what is set",
        "BEGIN;; MERGE INTO bound USING (VALUES (65)) AS z(n) ON bound.id = 1 WHEN MATCHED THEN UPDATE SET k = z.n;; ROLLBACK",
    ),
    (
        "check of what a foreign key sets",
        "BEGIN;; DELETE FROM tied_to WHERE id = 1;; ROLLBACK",
    ),
    (
        "what a masked column refers to, masked itself",
        "BEGIN;; DELETE FROM holds WHERE id = 1;; ROLLBACK",
    ),
    (
        "function of a default that a foreign key sets",
        "BEGIN;; DELETE FROM origins WHERE id = 0;; SELECT origin FROM falls_back;; ROLLBACK",
    ),
    (
        "how long an entry of an index is",
        "BEGIN;; UPDATE sized SET note = (SELECT string_agg(md5(n::text), '') FROM generate_series(60, 110) AS n);; ROLLBACK",
    ),
    (
        "where a row lies",
        "BEGIN;; UPDATE placed SET id = id RETURNING id, ctid;; ROLLBACK",
    ),
    (
        "whether a row lies there",
        "BEGIN;; DELETE FROM placed WHERE ctid = '(1,1)';; ROLLBACK",
    ),
    (
        "function of an index",
        "BEGIN;; UPDATE noticed SET id = 2;; ROLLBACK",
    ),
    (
        "view that groups by what is masked alone",
        "SELECT count(*) FROM sorted",
    ),
    (
        "view of a whole row",
        "SELECT whole FROM rows_of ORDER BY id",
    ),
    (
        "field of a view of a whole row",
        "SELECT (whole).ssn FROM rows_of ORDER BY id",
    ),
    ("view limited by a query", "SELECT count(*) FROM few"),
    ("view of what is in a query", "SELECT code FROM within"),
    ("view joined by a query", "SELECT code FROM beside"),
    (
        "policy that asks",
        "SELECT owner FROM policed ORDER BY owner",
    ),
    (
        "policy below a view",
        "SELECT owner FROM over_policed ORDER BY owner",
    ),
    ("view of words, a row for each", "SELECT id FROM parsed"),
    (
        "bytes of the log",
        "BEGIN;; EXPLAIN (ANALYZE, WAL, TIMING OFF, SUMMARY OFF, COSTS OFF) UPDATE placed SET id = 100 WHERE id = 1;; ROLLBACK",
    ),
    (
        "pages that are read",
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT ssn FROM placed",
    ),
    ("view that groups beside a key", "SELECT ssn FROM grouped"),
    (
        "a row that a foreign key fails",
        "BEGIN;; DELETE FROM q WHERE id = 1;; ROLLBACK",
    ),
    (
        "a row that a cascade fails",
        "BEGIN;; UPDATE q SET id = -1 WHERE id = 1;; ROLLBACK",
    ),
    (
        "what is referred to, deleted",
        "BEGIN;; DELETE FROM kinds WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "what is referred to, updated",
        "BEGIN;; UPDATE kinds SET code = 'x' WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "what is referred to, cascading",
        "BEGIN;; DELETE FROM codes WHERE code = 'CANARYA-0001';; SELECT count(*) FROM coded;; ROLLBACK",
    ),
    (
        "what is referred to, merged",
        "BEGIN;; MERGE INTO kinds USING (VALUES (1)) AS z ON code = 'CANARYA-0001' WHEN MATCHED THEN DELETE;; ROLLBACK",
    ),
    (
        "what is referred to, locked",
        "BEGIN;; INSERT INTO kinds VALUES ('CANARYA-0001') ON CONFLICT (code) DO UPDATE SET code = 'y';; ROLLBACK",
    ),
    ("partition of a value", "SELECT id FROM byvalue_a"),
    (
        "partition by origin",
        "SELECT tableoid::regclass FROM byvalue",
    ),
    (
        "partition in a plan",
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT id FROM byvalue",
    ),
    (
        "partition by writing",
        "BEGIN;; DELETE FROM byvalue WHERE id = 1 RETURNING tableoid::regclass;; ROLLBACK",
    ),
    (
        "partition by deleting",
        "BEGIN;; DELETE FROM byvalue_a;; ROLLBACK",
    ),
    ("view with a condition", "SELECT * FROM asks"),
    ("view that groups", "SELECT n FROM counts ORDER BY n"),
    ("view that orders", "SELECT id FROM first"),
    ("view with a condition inside", "SELECT * FROM nested"),
    ("view that unites", "SELECT count(*) FROM united"),
    ("view of an aggregate", "SELECT g FROM grew"),
    (
        "view of statistics",
        "SELECT b FROM watched WHERE tablename IN ('p', 'wide')",
    ),
    ("view that runs a query", "SELECT x FROM written"),
    ("view above one that does", "SELECT x FROM over_written"),
    ("view that joins", "SELECT count(*) FROM joined"),
    ("view that joins by name", "SELECT count(*) FROM used"),
    (
        "trigger's error",
        "BEGIN;; INSERT INTO log VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "trigger's notice",
        "BEGIN;; INSERT INTO said VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "trigger's notification",
        "LISTEN c;; INSERT INTO said VALUES (1, 'x');; SELECT 1",
    ),
    (
        "default",
        "BEGIN;; INSERT INTO defaulted (id) VALUES (1) RETURNING what;; ROLLBACK",
    ),
    (
        "check",
        "BEGIN;; INSERT INTO checked VALUES (1, 'x');; ROLLBACK",
    ),
    (
        "check of the whole row",
        "BEGIN;; UPDATE whole SET what = 'ANARYA' WHERE id = 1;; ROLLBACK",
    ),
    (
        "unique index of some rows",
        "BEGIN;; UPDATE partly SET what = 'w2' WHERE id = 1;; ROLLBACK",
    ),
    (
        "unique index of some rows, by the whole of them",
        "BEGIN;; UPDATE rowly SET what = 'w2' WHERE id = 1;; ROLLBACK",
    ),
    (
        "check of a child",
        "BEGIN;; UPDATE above SET what = 'CANARYA';; ROLLBACK",
    ),
    (
        "check of a partition",
        "BEGIN;; UPDATE ranged SET what = 'CANARYA';; ROLLBACK",
    ),
    (
        "trigger of a child",
        "BEGIN;; UPDATE heard SET what = 'y';; ROLLBACK",
    ),
    (
        "trigger of a cascade",
        "BEGIN;; DELETE FROM cause WHERE id = 1;; ROLLBACK",
    ),
    (
        "key of a child",
        "BEGIN;; DELETE FROM keys WHERE code = 'CANARYA-0001';; ROLLBACK",
    ),
    (
        "new foreign key",
        "BEGIN;; ALTER TABLE q ADD FOREIGN KEY (id) REFERENCES held (owner);; ROLLBACK;; ALTER TABLE p ADD UNIQUE (ssn);; ALTER TABLE q ADD FOREIGN KEY (ssn) REFERENCES p (ssn);; ALTER TABLE q DROP CONSTRAINT q_ssn_fkey;; ALTER TABLE p DROP CONSTRAINT p_ssn_key CASCADE",
    ),
    (
        "path that was not set",
        "SELECT set_config('search_path', 's2', false) WHERE false;; SELECT ssn FROM p;; RESET search_path",
    ),
    (
        "path in a failed text",
        "SET search_path = s2; SELECT 1 / 0;; SELECT ssn FROM p;; RESET search_path",
    ),
    (
        "path locally",
        "SET LOCAL search_path = s2;; SELECT ssn FROM p",
    ),
    (
        "path locally, called",
        "SELECT pg_catalog.set_config('search_path', 's2', true);; SELECT ssn FROM p",
    ),
    (
        "path and savepoint",
        "BEGIN;; SAVEPOINT a;; SET search_path = s2;; ROLLBACK TO a;; SELECT ssn FROM p;; ROLLBACK",
    ),
    (
        "path rolled back",
        "BEGIN;; SET search_path = s2;; ROLLBACK;; SELECT ssn FROM p",
    ),
    (
        "path rolled back and chained",
        "BEGIN;; SET search_path = s2;; ROLLBACK AND CHAIN;; SELECT ssn FROM p;; ROLLBACK",
    ),
    (
        "path local and chained",
        "BEGIN;; SET LOCAL search_path = s2;; COMMIT AND CHAIN;; SELECT ssn FROM p;; ROLLBACK",
    ),
    (
        "path in a view",
        "SET search_path = s2;; CREATE TEMP VIEW z AS SELECT set_config('search_path', 'public', false) AS x;; SELECT x FROM z;; SELECT ssn FROM p",
    ),
    (
        "path in a default",
        "SET search_path = s2;; CREATE TEMP TABLE z (a int, x text DEFAULT set_config('search_path', 'public', false));; INSERT INTO z VALUES (1);; SELECT ssn FROM p",
    ),
    (
        "path explained",
        "SET search_path = s2;; EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) SELECT set_config('search_path', 'public', false);; SELECT ssn FROM p",
    ),
    (
        "path in a cursor",
        "SET search_path = s2;; BEGIN;; DECLARE c CURSOR FOR SELECT pg_catalog.set_config('search_path', 'public', false);; FETCH c;; SELECT ssn FROM p;; COMMIT",
    ),
    (
        "path prepared",
        "SET search_path = s2;; PREPARE s AS SELECT pg_catalog.set_config('search_path', 'public', false);; EXECUTE s;; SELECT ssn FROM p",
    ),
    (
        "prepared under another path",
        "SET search_path = s2;; PREPARE s AS SELECT ssn FROM p;; SET search_path = public;; EXECUTE s",
    ),
    (
        "reset",
        "SET search_path = s2;; RESET ALL;; SELECT ssn FROM p",
    ),
    (
        "discard",
        "SET search_path = s2;; DISCARD ALL;; SELECT ssn FROM p",
    ),
    (
        "renamed temporary table",
        "CREATE TEMP TABLE z (id int, ssn text);; ALTER TABLE z RENAME TO p;; SELECT ssn FROM p;; DROP TABLE pg_temp.p;; SELECT ssn FROM p",
    ),
    (
        "cte of the name, after",
        "WITH a AS (SELECT ssn FROM p), p AS (SELECT 'x' AS ssn) SELECT * FROM a",
    ),
    (
        "cte of the name, in itself",
        "WITH p AS (SELECT ssn FROM p) SELECT * FROM p",
    ),
    (
        "cte of the name, beside",
        "SELECT ssn FROM p WHERE EXISTS (WITH p AS (SELECT 1) SELECT FROM p)",
    ),
    (
        "cte of the name, qualified",
        "WITH p AS (SELECT 'x' AS ssn) SELECT ssn FROM public.p",
    ),
    (
        "cte of the name, inside",
        "SELECT (WITH p AS (SELECT 'x' AS ssn) SELECT max(ssn) FROM p), ssn FROM p",
    ),
    (
        "cte of the name, in a union",
        "(WITH p AS (SELECT 'x' AS ssn) SELECT ssn FROM p) UNION ALL SELECT ssn FROM p",
    ),
    (
        "cte of the name, limited",
        "SELECT 1 FROM generate_series(1, 300) LIMIT (SELECT ascii(substr(max(ssn), 7)) FROM p)",
    ),
    (
        "cte of the name, deeper",
        "WITH a AS (WITH p AS (SELECT 'x' AS ssn) SELECT * FROM p) SELECT ssn FROM p",
    ),
    (
        "cte of the name, prepared",
        "PREPARE s AS WITH p AS (SELECT 1) SELECT FROM p;; SELECT ssn FROM p",
    ),
    (
        "cte of the name, updated",
        "BEGIN;; WITH p AS (SELECT 1 AS id) UPDATE p SET name = ssn;; SELECT name FROM p;; ROLLBACK",
    ),
    (
        "cte of the name, inserted",
        "BEGIN;; WITH x AS (INSERT INTO s2.p WITH p AS (SELECT 1, 'x') SELECT * FROM p RETURNING id) SELECT ssn FROM p;; ROLLBACK",
    ),
    (
        "query to xml in a default",
        "CREATE TEMP TABLE z (a int, x text DEFAULT query_to_xml('SELECT ssn FROM p', true, true, '')::text);; INSERT INTO z VALUES (1) RETURNING x",
    ),
    (
        "query to xml in a new column",
        "BEGIN;; ALTER TABLE q ADD COLUMN x text DEFAULT query_to_xml('SELECT ssn FROM p', true, true, '')::text;; SELECT x FROM q;; ROLLBACK",
    ),
    (
        "query to xml as a parameter",
        "PREPARE s (text) AS SELECT $1;; EXECUTE s (query_to_xml('SELECT ssn FROM p', true, true, '')::text)",
    ),
    (
        "query to xml in xmltable",
        "SELECT * FROM xmltable('/*' PASSING query_to_xml('SELECT ssn FROM p', false, false, '') COLUMNS a text PATH '.')",
    ),
    (
        "query to xml in limit",
        "SELECT 1 FROM generate_series(1, 100) LIMIT length(query_to_xml('SELECT 1 FROM p WHERE ssn LIKE ''CANARYA%''', true, true, '')::text) / 100",
    ),
    (
        "query to xml by unicode",
        "SELECT U&\"query\\005fto_xml\"('SELECT ssn FROM p', true, true, '')",
    ),
    (
        "type by a function",
        "BEGIN;; ALTER TABLE q ALTER ssn TYPE text USING (SELECT ssn FROM p LIMIT 1);; ROLLBACK;; SELECT ssn FROM p",
    ),
    (
        "strings that do not conform",
        "SET standard_conforming_strings = off;; SELECT 'x\\' FROM q --', ssn FROM p --'\n;; SET standard_conforming_strings = on;; SELECT ssn FROM p",
    ),
    (
        "encoding",
        "SET client_encoding = 'SJIS';; SELECT E'\u{3042}\\' , (SELECT ssn FROM p LIMIT 1) --'\n;; SELECT ssn FROM p",
    ),
    (
        "long name",
        "CREATE TEMP VIEW z AS SELECT * FROM p;; SELECT ssn FROM z",
    ),
    (
        "array of query",
        "SELECT ARRAY(SELECT ssn FROM p ORDER BY id)",
    ),
    ("row of query", "SELECT ROW(p.*) FROM p"),
    (
        "json array of query",
        "SELECT json_agg(z) FROM (SELECT * FROM p) AS z",
    ),
    (
        "grouping",
        "SELECT ssn, count(*) FROM p GROUP BY GROUPING SETS ((ssn), ()) ORDER BY 1",
    ),
    (
        "named window",
        "SELECT id FROM (SELECT id, row_number() OVER w AS n FROM p WINDOW w AS (ORDER BY ssn <> 'CANARYA-0007', id)) AS z WHERE n = 1",
    ),
    (
        "cycle",
        "WITH RECURSIVE c AS (SELECT id, ssn FROM p WHERE id = 1 UNION ALL SELECT c.id, p.ssn FROM c JOIN p ON p.id = c.id + 1) CYCLE ssn SET y USING w SELECT * FROM c",
    ),
    (
        "merge condition",
        "BEGIN;; MERGE INTO q USING p ON p.id = q.id WHEN MATCHED AND p.ssn LIKE 'CANARYA%' THEN UPDATE SET ssn = p.ssn;; SELECT * FROM q ORDER BY id;; ROLLBACK",
    ),
    (
        "update from",
        "BEGIN;; UPDATE q SET ssn = p.ssn FROM p WHERE p.id = q.id RETURNING q.ssn;; ROLLBACK",
    ),
    (
        "delete using",
        "BEGIN;; DELETE FROM said USING p WHERE p.ssn LIKE 'x';; DELETE FROM s2.p USING public.p AS x WHERE x.ssn = 'y';; SELECT ssn FROM p;; ROLLBACK",
    ),
    (
        "conflict",
        "BEGIN;; INSERT INTO q VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = (SELECT ssn FROM p WHERE id = 1) RETURNING *;; ROLLBACK",
    ),
    (
        "failing row",
        "BEGIN;; UPDATE p SET name = NULL WHERE id = 1;; ROLLBACK",
    ),
    (
        "failing row, conflict",
        "BEGIN;; INSERT INTO p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = NULL;; ROLLBACK",
    ),
    (
        "materialized",
        "CREATE MATERIALIZED VIEW mm AS SELECT ssn FROM p;; SELECT * FROM mm;; DROP MATERIALIZED VIEW mm",
    ),
    (
        "own view",
        "CREATE VIEW own AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';; SELECT count(*) FROM own;; DROP VIEW own",
    ),
    (
        "replaced view",
        "BEGIN;; CREATE OR REPLACE VIEW asks AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';; SELECT count(*) FROM asks;; ROLLBACK",
    ),
    (
        "sequence",
        "CREATE TEMP SEQUENCE z;; SELECT setval('z', ascii(substr(ssn, 7))) FROM p WHERE id = 1;; SELECT last_value FROM z",
    ),
    (
        "temporary table in a call",
        "SELECT lastval(), setval('pg_temp.z', (SELECT ascii(substr(ssn, 7)) FROM p WHERE id = 1));; CREATE TEMP SEQUENCE z;; SELECT setval('z', (SELECT ascii(substr(ssn, 7)) FROM p WHERE id = 1))",
    ),
    (
        "advisory lock",
        "SELECT pg_advisory_lock(ascii(substr(ssn, 7))) FROM p WHERE id = 1;; SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
    ),
    ("enum", "SELECT ssn::regtype FROM p"),
    ("xml for each", "SELECT xmlforest(ssn) FROM p"),
    ("xml agg", "SELECT xmlagg(xmlelement(name x, ssn)) FROM p"),
    ("json object", "SELECT json_object_agg(id, ssn) FROM p"),
    (
        "populate",
        "SELECT (jsonb_populate_record(NULL::q, to_jsonb(p))).ssn FROM p",
    ),
    (
        "record of another",
        "SELECT (z).* FROM (SELECT p AS z FROM p) AS y",
    ),
    ("distinct rows", "SELECT DISTINCT p FROM p"),
    ("hash of a row", "SELECT hash_record(p) FROM p"),
    ("field of a function", "SELECT p.to_json FROM p"),
    (
        "sized",
        "SELECT pg_column_size(ssn), md5(ssn), hashtext(ssn) FROM p",
    ),
    (
        "ordered set",
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM p",
    ),
    ("mode", "SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM p"),
    (
        "in a range",
        "SELECT id FROM p WHERE ssn BETWEEN SYMMETRIC 'CANARYA' AND 'CANARYAZ'",
    ),
    (
        "is distinct",
        "SELECT id FROM p WHERE ssn IS DISTINCT FROM 'CANARYA-0001'",
    ),
    ("any", "SELECT 'CANARYA-0001' = ANY (SELECT ssn FROM p)"),
    ("all", "SELECT 'CANARYB' > ALL (SELECT ssn FROM p)"),
    (
        "similar",
        "SELECT id FROM p WHERE ssn SIMILAR TO 'CANARYA%'",
    ),
    ("nullif", "SELECT nullif(ssn, 'CANARYA-0001') FROM p"),
    ("greatest", "SELECT greatest(ssn, 'CANARYAZ') FROM p"),
];

/// What has another text from PostgreSQL 18 on, whose catalog has other columns.
const RENAMED: &[(&str, &str)] = &[(
    "the same under another name",
    "SELECT z FROM (SELECT * FROM pg_attribute) AS y (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, z) WHERE a = 'late'::regclass AND e = 2",
)];

/// A pair of databases that differ in what is masked, of these names, made anew.
fn pair(one: &str, other: &str) -> std::sync::Arc<Server> {
    let server = Server::shared();
    server.sql(&format!(
        "DROP DATABASE IF EXISTS {one}; DROP DATABASE IF EXISTS {other}; \
         CREATE DATABASE {one} OWNER trusted;"
    ));
    server.sql(&format!(
        "\\c {one}\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    server.sql(&format!(
        "CREATE DATABASE {other} TEMPLATE {one} OWNER trusted"
    ));
    server.sql(&format!("\\c {one}\n{}", values('A')));
    server.sql(&format!("\\c {other}\n{}", values('B')));
    server
}

#[tokio::test]
async fn what_only_stands_beside_is_used_as_before() {
    let server = pair("beside_a", "beside_b");
    let front = Front::masked(&server, &["beside_a"], masks()).await;
    for text in [
        "SELECT id FROM good",
        "SELECT count(*) FROM better",
        "BEGIN;; INSERT INTO kinds VALUES ('new') RETURNING code;; ROLLBACK",
        "BEGIN;; UPDATE q SET ssn = 'x' WHERE id = 1 RETURNING id, ssn;; ROLLBACK",
        "BEGIN;; DELETE FROM q WHERE id = 20;; ROLLBACK",
    ] {
        let directly = said(server.address(), "beside_a", text).await;
        let through = said(front.address, "beside_a", text).await;
        assert_eq!(
            String::from_utf8_lossy(&directly),
            String::from_utf8_lossy(&through),
            "{text}"
        );
    }
}

#[tokio::test]
async fn nothing_else_in_a_database_tells_one_masked_value_from_another() {
    let server = pair("around_a", "around_b");
    let front = Front::masked(&server, &["around_a", "around_b"], masks()).await;
    let direct = server.address();
    let mut open = Vec::new();
    let major = server.major();
    for (way, text) in WAYS {
        let renamed = RENAMED
            .iter()
            .find(|(known, _)| major >= 18 && known == way);
        let text = renamed.map_or(*text, |(_, text)| *text);
        let one = said(direct, "around_a", text).await;
        let other = said(direct, "around_b", text).await;
        if one == other {
            let told = String::from_utf8_lossy(&one).escape_debug().to_string();
            open.push(format!("{way} does not even leak directly: {told}"));
        }
        let one = said(front.address, "around_a", text).await;
        let other = said(front.address, "around_b", text).await;
        if one != other {
            let [one, other] =
                [one, other].map(|told| String::from_utf8_lossy(&told).escape_debug().to_string());
            open.push(format!("{way}: {one} <> {other}"));
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

#[tokio::test]
async fn a_masked_column_with_another_name_is_not_shown_under_it() {
    let server = pair("renamed_a", "renamed_b");
    server.sql(
        "\\c renamed_a\nDROP TABLE held; ALTER TABLE p RENAME ssn TO tax; SET ROLE trusted; \
         CREATE TABLE over_below (id int, tax text); ALTER TABLE below RENAME ssn TO tax; \
         ALTER TABLE below INHERIT over_below; ALTER TABLE p ADD UNIQUE (tax); \
         CREATE TABLE taxed (id int, owner text REFERENCES p (tax)); INSERT INTO taxed SELECT id, tax FROM p;",
    );
    let front = Front::masked(&server, &["renamed_a"], masks()).await;
    for text in [
        "SELECT tax FROM p",
        "SELECT tax FROM over_below",
        "UPDATE over_below SET id = id",
        "SELECT id FROM p WHERE tax LIKE 'CANARYA%'",
        "COPY p TO STDOUT",
        "SELECT * FROM asks",
        "BEGIN;; UPDATE p SET name = 'x' RETURNING tax;; ROLLBACK",
        "BEGIN;; ALTER TABLE p RENAME TO r;; SELECT tax FROM r;; ROLLBACK",
        "BEGIN;; ALTER TABLE s2.p RENAME TO r;; ALTER TABLE p SET SCHEMA s2;; SELECT tax FROM s2.p;; ROLLBACK",
    ] {
        let told = said(front.address, "renamed_a", text).await;
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.contains("C42501") && !told.contains("CANARY"),
            "{text}: {told}"
        );
    }
    for text in [
        "SELECT * FROM taxed",
        "SELECT id FROM taxed WHERE owner LIKE 'CANARYA%'",
    ] {
        let told = said(front.address, "renamed_a", text).await;
        let told = String::from_utf8_lossy(&told);
        let rows = told.matches("SELECT 20").count() + told.matches("SELECT 0").count();
        assert!(rows == 1 && !told.contains("CANARY"), "{text}: {told}");
    }
    assert!(
        said(front.address, "renamed_a", "SELECT id FROM q")
            .await
            .len()
            > 100
    );
}

#[tokio::test]
async fn a_table_is_closed_of_which_a_mask_does_not_fit_its_column() {
    let server = pair("unfit_a", "unfit_b");
    let mut masks = masks();
    let relation = Relation {
        schema: "public".to_owned(),
        name: "p".to_owned(),
    };
    let columns = masks.relations.entry(relation).or_default();
    columns.insert("ssn".to_owned(), Mask::Year);
    let front = Front::masked(&server, &["unfit_a"], masks).await;
    for text in [
        "SELECT id FROM p",
        "SELECT ssn FROM p",
        "COPY p (id) TO STDOUT",
        "UPDATE p SET name = 'x'",
        "SELECT * FROM good",
    ] {
        let told = said(front.address, "unfit_a", text).await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("C42501"), "{text}: {told}");
        let says = "year cannot stand in for ssn of type text: use null, hide, constant, hash, last4, email, partial";
        assert!(
            told.contains(says) || text.contains("good"),
            "{text}: {told}"
        );
    }
    let told = said(front.address, "unfit_a", "SELECT id, ssn FROM q").await;
    assert!(String::from_utf8_lossy(&told).contains("SELECT 20"));
}

#[tokio::test]
async fn what_is_beside_a_mask_stays_closed_in_the_extended_protocol() {
    let server = pair("extended_a", "extended_b");
    let front = Front::masked(&server, &["extended_a", "extended_b"], masks()).await;
    for script in [
        "P a DELETE FROM q WHERE id = 1|B - a|E -|S",
        "P a DELETE FROM kinds WHERE code = 'CANARYA-0001'|D S a|B - a|E -|S",
        "P a INSERT INTO log VALUES (1, 'x')|B - a|E -|S",
        "P a SELECT id FROM asks|D S a|B - a|D P -|E -|S",
        "P a SELECT id FROM byvalue_a|D S a|B - a|E - 1|E -|S",
        "P a SELECT ssn, p FROM p|D S a|B - a|D P -|E - 1|E -|S",
        "P a UPDATE p SET name = NULL|B - a|E -|S|Q ROLLBACK",
    ] {
        let mut told = Vec::new();
        for database in ["extended_a", "extended_b"] {
            let mut raw = crate::loop_rig::Raw::connect(front.address, database).await;
            let bytes = crate::loop_rig::script_bytes(script);
            told.push(crate::masking::strip(raw.exchange_bytes(&bytes).await));
        }
        let [one, other] = [&told[0], &told[1]].map(|told| String::from_utf8_lossy(told));
        assert_eq!(one, other, "{script}");
        assert!(!one.contains("CANARY"), "{script}: {one}");
    }
}

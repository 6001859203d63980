//! Masks in the loop, over a real server: two databases that differ in nothing but what is masked.
//!
//! Each way to a masked value is gone directly first, which tells the two apart, and then through the
//! loop, where every byte of both answers is the same.

use std::sync::Arc;

use interceptor::masking::{Joinable, Mask, Masks, Relation};
use interceptor::protocol::postgres::mask::expression::{Subject, expression};
use interceptor::protocol::postgres::wire::frontend;

use crate::loop_rig::{Front, Raw};
use crate::server::Server;

const SETUP: &str = r"
SET ROLE trusted;
CREATE TABLE p (id int PRIMARY KEY, name text NOT NULL, ssn text, born date);
INSERT INTO p SELECT n, 'n' || n, 'c' || n, '2000-01-01' FROM generate_series(1, 20) AS n;
CREATE TABLE q (id int PRIMARY KEY, ssn text);
INSERT INTO q SELECT n, 'q' FROM generate_series(1, 20) AS n;
CREATE VIEW v AS SELECT id, ssn AS s, upper(ssn) AS u, length(name) AS l FROM p;
CREATE VIEW vv AS SELECT z.x FROM (SELECT s AS x FROM v) AS z;
CREATE MATERIALIZED VIEW m AS SELECT id, ssn FROM p;
CREATE TABLE parent (id int, ssn text) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parent FOR VALUES FROM (1) TO (100);
INSERT INTO parent SELECT id, ssn FROM p;
CREATE TABLE g (id int, ssn text, low text GENERATED ALWAYS AS (lower(ssn)) STORED);
INSERT INTO g SELECT id, ssn FROM p;
CREATE TABLE u (id int, ssn text UNIQUE);
INSERT INTO u SELECT id, ssn FROM p;
CREATE TABLE refers (s text REFERENCES u (ssn) ON UPDATE CASCADE);
INSERT INTO refers SELECT ssn FROM u;
CREATE TABLE strict (id int, ssn text, CHECK (ssn <> id::text));
INSERT INTO strict SELECT id, ssn FROM p;
CREATE FUNCTION first() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM p WHERE id = 1';
CREATE VIEW called AS SELECT first() AS f;
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT (SELECT ssn FROM p WHERE id = 1) LIKE ''CANARYA%''';
CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION abs(text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM p WHERE id = 1';
";

/// Values of equal length, so that nothing but they themselves tells the two apart.
fn values(which: char) -> String {
    let mut sql = String::from("SET ROLE trusted;");
    for table in ["p", "parent", "g", "u", "strict"] {
        sql.push_str(&format!(
            "UPDATE {table} SET ssn = 'CANARY{which}-' || lpad(id::text, 4, '0');"
        ));
    }
    sql.push_str("REFRESH MATERIALIZED VIEW m; RESET ROLE; VACUUM (FULL, ANALYZE);");
    sql
}

/// One pair for all tests that only read: `masked_a` and `masked_b`.
fn pair() -> Arc<Server> {
    static MADE: std::sync::Mutex<std::sync::Weak<Server>> =
        std::sync::Mutex::new(std::sync::Weak::new());
    let mut made = MADE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = made.upgrade() {
        return server;
    }
    let server = Server::shared();
    server.sql(
        "DROP DATABASE IF EXISTS masked_a; DROP DATABASE IF EXISTS masked_b; CREATE DATABASE masked_a; \
         ALTER DATABASE masked_a OWNER TO trusted;",
    );
    server.sql(&format!(
        "\\c masked_a\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    server.sql("CREATE DATABASE masked_b TEMPLATE masked_a OWNER trusted");
    server.sql(&format!(
        "\\c masked_a\n{}",
        values('A').replace("VACUUM", ";\nVACUUM")
    ));
    server.sql(&format!(
        "\\c masked_b\n{}",
        values('B').replace("VACUUM", ";\nVACUUM")
    ));
    *made = Arc::downgrade(&server);
    server
}

fn masks(mask: &Mask) -> Masks {
    let mut masks = Masks::default();
    for name in ["p", "parent", "g", "u", "strict"] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), mask.clone());
    }
    masks
}

/// Every byte that comes back for some statements, each a message of its own.
pub(crate) async fn said(
    address: std::net::SocketAddr,
    database: &str,
    statements: &str,
) -> Vec<u8> {
    let mut raw = Raw::connect(address, database).await;
    let bytes: Vec<u8> = statements
        .split(";;")
        .flat_map(|text| frontend::make_query(text.trim()).to_vec())
        .collect();
    strip(raw.exchange_bytes(&bytes).await)
}

/// An answer without what is another in every session: the names of requests, the numbers of temporary
/// relations, and who notifies.
pub(crate) fn strip(bytes: Vec<u8>) -> Vec<u8> {
    let mut stripped = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(length) = rest.get(1..5) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(message) = rest.get(..=length) else {
            break;
        };
        let mut message = message.to_vec();
        match message[0] {
            b'T' => blank_origins(&mut message),
            b'A' => message[5..9].fill(0),
            b'E' => {
                if let Some(at) = message.windows(8).position(|word| word == b"request ") {
                    message[at + 8..at + 8 + 36].fill(b'-');
                }
            }
            _ => {}
        }
        stripped.extend(message);
        rest = &rest[length + 1..];
    }
    stripped
}

/// The table's number of each column that a `RowDescription` describes.
fn blank_origins(message: &mut [u8]) {
    let columns = u16::from_be_bytes([message[5], message[6]]);
    let mut at = 7;
    for _ in 0..columns {
        at += message[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
        message[at..at + 4].fill(0);
        at += 18;
    }
}

/// Ways to what `ssn` holds, one a line: what it is, and the statements.
pub(crate) const WAYS: &[(&str, &str)] = &[
    ("column", "SELECT ssn FROM p"),
    ("alias", "SELECT x.ssn AS y FROM p AS x"),
    ("subquery", "SELECT * FROM (SELECT ssn FROM p) AS z"),
    ("cte", "WITH c AS (SELECT ssn FROM p) SELECT * FROM c"),
    (
        "materialized cte",
        "WITH c AS MATERIALIZED (SELECT * FROM p) SELECT ssn FROM c",
    ),
    (
        "recursive cte",
        "WITH RECURSIVE c AS (SELECT 1 AS n, ssn FROM p WHERE id = 1 UNION ALL SELECT n + 1, ssn FROM c WHERE n < 3) SELECT * FROM c",
    ),
    (
        "lateral",
        "SELECT z.* FROM q, LATERAL (SELECT ssn FROM p WHERE p.id = q.id) AS z",
    ),
    ("field", "SELECT (p).ssn FROM p"),
    ("cast", "SELECT ssn::text FROM p"),
    ("varchar", "SELECT ssn::varchar FROM p"),
    ("collate", "SELECT ssn COLLATE \"C\" FROM p"),
    ("concat", "SELECT ssn || '' FROM p"),
    ("group", "SELECT ssn FROM p GROUP BY ssn ORDER BY 1"),
    ("distinct", "SELECT DISTINCT ssn FROM p ORDER BY 1"),
    ("aggregate", "SELECT max(ssn), string_agg(ssn, ',') FROM p"),
    ("case", "SELECT CASE WHEN true THEN ssn END FROM p"),
    ("coalesce", "SELECT coalesce(ssn, '') FROM p"),
    ("scalar subquery", "SELECT (SELECT ssn FROM p WHERE id = 1)"),
    ("union", "SELECT 'x' UNION SELECT ssn FROM p ORDER BY 1"),
    (
        "union all table",
        "SELECT 1, '', '', NULL::date UNION ALL TABLE p",
    ),
    (
        "full join using",
        "SELECT ssn FROM p FULL JOIN q USING (ssn) ORDER BY 1",
    ),
    ("left join", "SELECT p.ssn FROM q LEFT JOIN p USING (id)"),
    (
        "natural join",
        "SELECT count(*) FROM p NATURAL JOIN (SELECT 'CANARYA-0001' AS ssn) AS z",
    ),
    ("whole row", "SELECT p FROM p"),
    ("row to json", "SELECT row_to_json(p) FROM p"),
    ("column notation", "SELECT p.row_to_json FROM p"),
    ("record text", "SELECT p::text FROM p"),
    ("to jsonb", "SELECT to_jsonb(p) -> 'ssn' FROM p"),
    (
        "json each",
        "SELECT j.* FROM p, LATERAL jsonb_each(to_jsonb(p)) AS j",
    ),
    ("table", "TABLE p"),
    ("only", "SELECT ssn FROM ONLY p"),
    ("star", "SELECT * FROM p *"),
    ("renamed columns", "SELECT c FROM p AS t(a, b, c)"),
    ("qualified", "SELECT public.p.ssn FROM public.p"),
    ("database too", "SELECT ssn FROM {db}.public.p"),
    ("quoted", "SELECT \"ssn\" FROM \"p\""),
    ("unicode", "SELECT U&\"s\\0073n\" FROM \"p\""),
    ("sample", "SELECT ssn FROM p TABLESAMPLE bernoulli (100)"),
    (
        "rows from",
        "SELECT * FROM ROWS FROM (jsonb_each_text((SELECT to_jsonb(p) FROM p WHERE id = 1))) AS z",
    ),
    ("values", "VALUES ((SELECT ssn FROM p WHERE id = 1))"),
    (
        "limit",
        "SELECT 1 FROM generate_series(1, 9) LIMIT (SELECT ascii(substr(ssn, 7)) - 64 FROM p WHERE id = 1)",
    ),
    ("window", "SELECT id, lag(ssn) OVER (ORDER BY id) FROM p"),
    (
        "filter",
        "SELECT count(*) FILTER (WHERE ssn LIKE 'CANARYA%') FROM p",
    ),
    ("having", "SELECT 1 FROM p HAVING max(ssn) LIKE 'CANARYA%'"),
    ("where", "SELECT id FROM p WHERE ssn LIKE 'CANARYA%'"),
    (
        "join",
        "SELECT p.id FROM p JOIN (VALUES ('CANARYA-0003')) AS z(s) ON p.ssn = z.s",
    ),
    ("in", "SELECT 1 WHERE 'CANARYA-0001' IN (SELECT ssn FROM p)"),
    (
        "exists",
        "SELECT EXISTS (SELECT FROM p WHERE ssn > 'CANARYAZ')",
    ),
    (
        "order",
        "SELECT id FROM (SELECT 0 AS id, 'CANARYAZ' AS ssn UNION ALL SELECT id, ssn FROM p) AS z ORDER BY ssn COLLATE \"C\" LIMIT 1",
    ),
    ("int", "SELECT ssn::int FROM p"),
    ("date", "SELECT ssn::date FROM p"),
    ("uuid", "SELECT ssn::uuid FROM p"),
    ("json", "SELECT ssn::json FROM p"),
    ("regclass", "SELECT ssn::regclass FROM p"),
    ("xmlparse", "SELECT xmlparse(DOCUMENT ssn) FROM p"),
    (
        "division",
        "SELECT 1 / (CASE WHEN ssn LIKE 'CANARYA%' THEN 0 ELSE 1 END) FROM p",
    ),
    (
        "query to xml",
        "SELECT query_to_xml('SELECT ssn FROM p', true, true, '')",
    ),
    (
        "query to xml as a field",
        "SELECT table_to_xml('p', true, true, '')",
    ),
    (
        "schema to xml",
        "SELECT schema_to_xml('public', true, true, '')",
    ),
    (
        "cursor to xml",
        "BEGIN;; DECLARE c CURSOR FOR SELECT ssn FROM p;; SELECT cursor_to_xml('c', 5, true, true, '')",
    ),
    (
        "ts stat",
        "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', ssn) FROM p') ORDER BY 1",
    ),
    (
        "pg_stats",
        "SELECT histogram_bounds, most_common_vals FROM pg_stats WHERE tablename = 'p'",
    ),
    (
        "pg_stats by schema",
        "SELECT * FROM pg_catalog.pg_stats WHERE tablename = 'u' AND attname = 'ssn'",
    ),
    (
        "explain",
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) SELECT id FROM p WHERE ssn LIKE 'CANARYA%'",
    ),
    (
        "explain estimates",
        "EXPLAIN SELECT id FROM p WHERE ssn < 'CANARYB'",
    ),
    (
        "set_config",
        "SELECT set_config('application_name', (SELECT ssn FROM p WHERE id = 1), false)",
    ),
    (
        "current_setting",
        "SELECT set_config('x.y', (SELECT ssn FROM p WHERE id = 1), false);; SELECT current_setting('x.y')",
    ),
    (
        "show",
        "SELECT set_config('x.y', (SELECT ssn FROM p WHERE id = 1), false);; SHOW x.y",
    ),
    (
        "temporary table",
        "CREATE TEMP TABLE z AS SELECT * FROM p;; SELECT * FROM z",
    ),
    (
        "select into",
        "SELECT * INTO TEMP z FROM p;; SELECT ssn FROM pg_temp.z",
    ),
    (
        "temporary view",
        "CREATE TEMP VIEW z AS SELECT ssn FROM p;; SELECT * FROM z",
    ),
    (
        "insert select",
        "CREATE TEMP TABLE z (s text);; INSERT INTO z SELECT ssn FROM p RETURNING s",
    ),
    (
        "large object",
        "SELECT lo_get(lo_from_bytea(0, (SELECT ssn::bytea FROM p WHERE id = 1)))",
    ),
    (
        "notify",
        "LISTEN c;; SELECT pg_notify('c', (SELECT ssn FROM p WHERE id = 1));; SELECT 1",
    ),
    ("prepare", "PREPARE s AS SELECT ssn FROM p;; EXECUTE s"),
    (
        "explain execute",
        "PREPARE s AS SELECT id FROM p WHERE ssn LIKE 'CANARYA%';; EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) EXECUTE s",
    ),
    (
        "cursor",
        "BEGIN;; DECLARE c CURSOR FOR TABLE p;; FETCH 3 FROM c",
    ),
    (
        "cursor with hold",
        "DECLARE c CURSOR WITH HOLD FOR SELECT ssn FROM p;; FETCH ALL FROM c",
    ),
    ("copy", "COPY p TO STDOUT"),
    (
        "copy columns",
        "COPY p (ssn) TO STDOUT WITH (FORMAT csv, HEADER)",
    ),
    ("copy query", "COPY (SELECT ssn FROM p) TO STDOUT"),
    ("copy binary", "COPY p TO STDOUT WITH (FORMAT binary)"),
    ("view", "SELECT * FROM v"),
    ("view predicate", "SELECT id FROM v WHERE u LIKE 'CANARYA%'"),
    ("view above a view", "SELECT * FROM vv"),
    ("materialized view", "SELECT ssn FROM m"),
    ("view that calls", "SELECT * FROM called"),
    ("partitioned", "SELECT ssn FROM parent"),
    ("partition", "SELECT ssn FROM part"),
    ("generated", "SELECT low FROM g"),
    ("operator", "SELECT 1 === 2"),
    ("qualified operator", "SELECT 1 OPERATOR(public.===) 2"),
    ("overloaded function", "SELECT abs('x'::text)"),
    (
        "returning",
        "BEGIN;; UPDATE p SET name = name WHERE id = 1 RETURNING ssn;; ROLLBACK",
    ),
    (
        "returning star",
        "BEGIN;; UPDATE p SET name = name WHERE id = 1 RETURNING *;; ROLLBACK",
    ),
    (
        "delete returning",
        "BEGIN;; DELETE FROM p WHERE id = 1 RETURNING p;; ROLLBACK",
    ),
    (
        "update where",
        "BEGIN;; UPDATE p SET name = name WHERE ssn LIKE 'CANARYA%';; ROLLBACK",
    ),
    (
        "delete where",
        "BEGIN;; DELETE FROM p WHERE ssn LIKE 'CANARYA%';; ROLLBACK",
    ),
    (
        "update from itself",
        "BEGIN;; UPDATE p SET name = ssn;; SELECT name FROM p;; ROLLBACK",
    ),
    (
        "writing cte",
        "BEGIN;; WITH w AS (UPDATE p SET name = name RETURNING *) SELECT ssn FROM w;; ROLLBACK",
    ),
    (
        "unique",
        "BEGIN;; INSERT INTO u VALUES (0, 'CANARYA-0001');; ROLLBACK",
    ),
    (
        "on conflict",
        "BEGIN;; INSERT INTO u VALUES (0, 'CANARYA-0001') ON CONFLICT DO NOTHING;; ROLLBACK",
    ),
    (
        "foreign key",
        "BEGIN;; CREATE TEMP TABLE k (s text);; CREATE TABLE f (s text REFERENCES u (ssn));; INSERT INTO f VALUES ('CANARYA-0001');; ROLLBACK",
    ),
    (
        "check",
        "BEGIN;; UPDATE strict SET id = NULL WHERE ssn LIKE 'CANARYA%' RETURNING 1;; ROLLBACK",
    ),
    (
        "merge",
        "BEGIN;; MERGE INTO p USING (VALUES (1)) AS z ON p.ssn LIKE 'CANARYA%' WHEN MATCHED THEN UPDATE SET name = 'x';; ROLLBACK",
    ),
    (
        "new check",
        "BEGIN;; ALTER TABLE strict ADD CHECK (ssn !~ 'CANARYA');; ROLLBACK",
    ),
    (
        "index expression",
        "BEGIN;; CREATE INDEX ON p ((1 / (CASE WHEN ssn LIKE 'CANARYA%' THEN 0 ELSE 1 END)));; ROLLBACK",
    ),
    (
        "rename",
        "BEGIN;; ALTER TABLE p RENAME TO r;; SELECT ssn FROM r;; ROLLBACK",
    ),
    (
        "rename column",
        "BEGIN;; ALTER TABLE p RENAME ssn TO s;; SELECT s FROM p;; ROLLBACK",
    ),
    (
        "new schema",
        "BEGIN;; CREATE SCHEMA n;; ALTER TABLE p SET SCHEMA n;; SELECT ssn FROM n.p;; ROLLBACK",
    ),
    (
        "inherit",
        "BEGIN;; CREATE TABLE above (id int NOT NULL, name text NOT NULL, ssn text, born date);; ALTER TABLE p INHERIT above;; SELECT ssn FROM above;; ROLLBACK",
    ),
    (
        "attach",
        "BEGIN;; CREATE TABLE range (id int NOT NULL, name text NOT NULL, ssn text, born date) PARTITION BY RANGE (id);; ALTER TABLE range ATTACH PARTITION p DEFAULT;; SELECT ssn FROM range;; ROLLBACK",
    ),
    (
        "function",
        "BEGIN;; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM p LIMIT 1';; SELECT f();; ROLLBACK",
    ),
    (
        "do",
        "DO $$ BEGIN RAISE NOTICE '%', (SELECT ssn FROM p LIMIT 1); END $$",
    ),
    (
        "do error",
        "DO $$ BEGIN RAISE '%', (SELECT ssn FROM p LIMIT 1); END $$",
    ),
    (
        "rule",
        "BEGIN;; CREATE RULE r AS ON INSERT TO q DO INSTEAD SELECT ssn FROM p;; INSERT INTO q VALUES (0, '');; ROLLBACK",
    ),
    (
        "search path",
        "SET search_path = public, pg_catalog;; SELECT ssn FROM p",
    ),
    ("several", "SELECT 1; SELECT ssn FROM p; SELECT 2"),
    ("pg_typeof error", "SELECT (ssn::json) ->> 'x' FROM p"),
    ("regexp", "SELECT id FROM p WHERE ssn ~ '^CANARYA'"),
    (
        "generate_series",
        "SELECT count(*) FROM p, generate_series(1, ascii(substr(ssn, 7))) AS z",
    ),
    (
        "repeat",
        "SELECT length(repeat('x', ascii(substr(ssn, 7)))) FROM p WHERE id = 1",
    ),
];

#[tokio::test]
async fn no_way_tells_one_masked_value_from_another() {
    let server = pair();
    for mask in [Mask::Null, Mask::Constant("***".into()), Mask::Hide] {
        let front = Front::masked(&server, &["masked_a", "masked_b"], masks(&mask)).await;
        let mut open = Vec::new();
        for (way, text) in WAYS {
            let of = |database: &str| text.replace("{db}", database);
            let direct = server.address();
            if mask == Mask::Null {
                let one = said(direct, "masked_a", &of("masked_a")).await;
                let other = said(direct, "masked_b", &of("masked_b")).await;
                if one == other {
                    let told = String::from_utf8_lossy(&one).escape_debug().to_string();
                    open.push(format!("{way} does not even leak directly: {told}"));
                }
            }
            let one = said(front.address, "masked_a", &of("masked_a")).await;
            let other = said(front.address, "masked_b", &of("masked_b")).await;
            let told = String::from_utf8_lossy(&one).into_owned();
            if one != other || told.to_lowercase().contains("canarya") && !text.contains("CANARYA")
            {
                open.push(format!("{way}: {}", told.escape_debug()));
            }
        }
        assert!(open.is_empty(), "{mask:?}: {open:#?}");
    }
}

#[tokio::test]
async fn what_is_not_masked_is_answered_as_before() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Null)).await;
    let same = [
        "SELECT id, name FROM p ORDER BY id",
        "SELECT * FROM q ORDER BY id",
        "SELECT count(*) FROM p",
        "SELECT l FROM v",
        "SELECT p.name, q.id FROM public.p JOIN q ON q.id = public.p.id ORDER BY 2",
        "SELECT name FROM p AS x WHERE x.id IN (SELECT id FROM q) ORDER BY x.name LIMIT 3",
        "BEGIN;; UPDATE p SET name = 'x' WHERE id = 1 RETURNING id, name;; SELECT name FROM p WHERE id = 1;; ROLLBACK",
        "BEGIN;; INSERT INTO p (id, name) VALUES (100, 'x') RETURNING id;; DELETE FROM p WHERE id = 100;; ROLLBACK",
        "BEGIN;; INSERT INTO p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING name;; ROLLBACK",
        "CREATE TEMP TABLE t (a int);; INSERT INTO t VALUES (1);; SELECT * FROM t;; DROP TABLE t",
        "SELECT relname FROM pg_class WHERE relname = 'p'",
        "SELECT pg_get_viewdef('v'::regclass)",
        "SELECT id FROM p ORDER BY id FOR UPDATE",
        "BEGIN;; DECLARE c CURSOR FOR SELECT id FROM p ORDER BY id;; FETCH 2 FROM c;; COMMIT",
        "PREPARE s AS SELECT name FROM p WHERE id = $1;; EXECUTE s (3);; DEALLOCATE s",
        "COPY p (id, name) TO STDOUT",
        "SELECT pg_catalog.set_config('search_path', 'public', false);; SELECT name FROM p WHERE id = 2",
    ];
    for text in same {
        let directly = said(server.address(), "masked_a", text).await;
        let through = said(front.address, "masked_a", text).await;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Descriptions of rows name where a column comes from, which is another place now.
        assert_eq!(
            rows(&directly),
            rows(&through),
            "{text}: {}",
            words(&through)
        );
    }
}

/// Rows, tags and errors of an answer.
fn rows(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rows = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        if bytes.len() <= length {
            break;
        }
        if bytes[0] != b'T' {
            rows.push((bytes[0], bytes[5..=length].to_vec()));
        }
        bytes = &bytes[length + 1..];
    }
    rows
}

#[tokio::test]
async fn the_extended_protocol_is_masked_too() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Last4)).await;
    let script = "P a SELECT ssn FROM p WHERE id = 2|D S a|B - a|D P -|E -|S\
        |P - SELECT ssn FROM p WHERE id = 3|B - -|E -|S";
    let mut raw = Raw::connect(front.address, "masked_a").await;
    let bytes = crate::loop_rig::script_bytes(script);
    let told = raw.exchange_bytes(&bytes).await;
    let told = String::from_utf8_lossy(&told);
    for expected in ["****0002", "****0003"] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains("CANARY"), "{told}");
}

#[tokio::test]
async fn texts_of_one_shape_are_masked_from_memory() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Last4)).await;
    let mut raw = Raw::connect(front.address, "masked_a").await;
    for id in [1, 2, 13, 20] {
        let rows = raw
            .rows(&format!(
                "SELECT 'x', ssn FROM p WHERE id = {id} AND name <> 'it''s'"
            ))
            .await;
        assert_eq!(rows.len(), 1);
        assert!(rows[0].contains(&format!("****{id:04}")), "{rows:?}");
    }
}

#[tokio::test]
async fn hashes_are_equal_within_a_session_and_their_key_cannot_be_read() {
    let server = pair();
    let hash = |joinable| masks(&Mask::Hash(joinable));
    let of = async |front: &Front| {
        let mut raw = Raw::connect(front.address, "masked_a").await;
        let one = raw.rows("SELECT ssn FROM p WHERE id = 1").await.concat();
        let again = raw.rows("SELECT ssn FROM g WHERE id = 1").await.concat();
        let other = raw.rows("SELECT ssn FROM p WHERE id = 2").await.concat();
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert!(one.len() > 16, "{one:?}");
        one
    };
    let front = Front::masked(&server, &["masked_a"], hash(Joinable::Session)).await;
    assert_ne!(of(&front).await, of(&front).await);
    let everywhere = Front::masked(&server, &["masked_a"], hash(Joinable::Target)).await;
    assert_eq!(of(&everywhere).await, of(&everywhere).await);
    for text in [
        "SHOW ALL",
        "SELECT name, setting, boot_val, reset_val FROM pg_settings",
        "SELECT * FROM pg_settings",
    ] {
        let told = said(front.address, "masked_a", text).await;
        assert!(
            !String::from_utf8_lossy(&told).contains("interceptor."),
            "{text}"
        );
    }
    for text in [
        "SHOW interceptor.session_key",
        "SHOW \"interceptor.session_key\"",
        "SELECT current_setting('interceptor.session_key')",
        "SELECT current_setting('INTERCEPTOR.' || 'session_key')",
        "SELECT current_setting('interceptor.session_key  '::bpchar)",
        "SELECT current_setting('interceptor.session_key!'::varchar(23))",
        "SELECT current_setting('<?xml version=\"1.0\"?>interceptor.session_key'::xml::name)",
        "SELECT current_setting('<?xml version=\"1.0\"?>interceptor.target_key'::xml::name)",
        "SELECT set_config('<?xml version=\"1.0\"?>interceptor.session_key'::xml::name, 'known', false)",
        "SELECT current_setting(setting_name => 'interceptor.session_key')",
        "SELECT ('interceptor.session_key'::text).current_setting",
        "SELECT pg_catalog.current_setting(lower('INTERCEPTOR.session_key'))",
        "SET interceptor.session_key = 'x'",
        "RESET interceptor.session_key",
        "SELECT set_config('interceptor.session_key', '', false)",
        "SELECT pg_show_all_settings()",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET interceptor.session_key FROM CURRENT AS 'SELECT 1'",
        "ALTER ROLE trusted SET interceptor.session_key FROM CURRENT",
    ] {
        let told = said(front.address, "masked_a", text).await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("C42501"), "{text}: {told}");
    }
}

/// Types with values at the ends of what they hold.
const TYPES: &[(&str, u32, &[&str])] = &[
    (
        "text",
        25,
        &[
            "",
            "a",
            "abcdefgh",
            "a@b.c",
            "@",
            "a@",
            "\u{fc}\u{2168}@\u{e9}",
            "x@y@z.org",
        ],
    ),
    ("character varying(5)", 1043, &["", "abcde"]),
    ("character(4)", 1042, &["", "ab"]),
    ("name", 19, &["", "abc"]),
    ("smallint", 21, &["-32768", "32767"]),
    ("integer", 23, &["-2147483648", "0"]),
    ("bigint", 20, &["-9223372036854775808", "1"]),
    ("numeric(30,2)", 1700, &["NaN", "-1.50", "1e20"]),
    ("numeric", 1700, &["Infinity", "1e1000"]),
    ("boolean", 16, &["t", "f"]),
    (
        "date",
        1082,
        &["-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29"],
    ),
    (
        "timestamp without time zone",
        1114,
        &[
            "infinity",
            "4713-01-01 BC",
            "294276-12-31",
            "2024-06-01 12:00",
        ],
    ),
    (
        "timestamp with time zone",
        1184,
        &["-infinity", "294276-12-31 00:00+00", "2024-06-01 12:00+02"],
    ),
    ("uuid", 2950, &["00000000-0000-0000-0000-000000000000"]),
    ("bytea", 17, &["", "\\xff00"]),
    ("jsonb", 3802, &["null", "{\"a\": 1}"]),
    ("integer[]", 1007, &["{}", "{1,NULL}"]),
    ("real", 700, &["NaN", "-Infinity"]),
];

#[test]
fn every_mask_has_a_value_of_the_column_s_type_for_whatever_it_holds() {
    let server = Server::shared();
    let kinds = [
        Mask::Null,
        Mask::Constant("7".into()),
        Mask::Constant("it's \\ a \u{e9}".into()),
        Mask::Hash(Joinable::Session),
        Mask::Last4,
        Mask::Email,
        Mask::Year,
        Mask::Partial(2),
        Mask::Partial(u16::MAX),
    ];
    let mut stand = 0;
    for (name, oid, values) in TYPES {
        for mask in &kinds {
            let subject = Subject {
                column: "c\"x",
                type_oid: *oid,
                type_name: name,
                is_domain: false,
            };
            let Some(stands) = expression(mask, subject) else {
                continue;
            };
            stand += 1;
            let rows: Vec<String> = values
                .iter()
                .map(|value| format!("('{value}'::{name})"))
                .collect();
            let sql = format!(
                "SET interceptor.session_key = 'k'; SET TimeZone = 'Pacific/Kiritimati'; \
                 SELECT DISTINCT pg_typeof({stands}) = '{name}'::regtype FROM (VALUES {}, (NULL)) AS t(\"c\"\"x\");",
                rows.join(", ")
            );
            assert_eq!(server.sql(&sql), "t", "{mask:?} of {name}");
        }
    }
    assert!(stand > 40, "only {stand} pairs");
}

#[tokio::test]
async fn what_a_session_makes_is_known_to_its_next_statement() {
    let server = Server::shared();
    server.sql("DROP DATABASE IF EXISTS masked_c; CREATE DATABASE masked_c OWNER trusted;");
    server.sql(&format!(
        "\\c masked_c\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    let front = Front::masked(&server, &["masked_c"], masks(&Mask::Null)).await;
    let mut raw = Raw::connect(front.address, "masked_c").await;
    let rows = raw.rows("CREATE TABLE made (a int)").await;
    assert!(rows.is_empty());
    raw.rows("INSERT INTO made VALUES (7)").await;
    let rows = raw.rows("SELECT a FROM made").await;
    assert!(rows.concat().ends_with('7'), "{rows:?}");
    raw.rows("CREATE VIEW seen AS SELECT id, ssn FROM p WHERE id = 1")
        .await;
    let rows = raw.rows("SELECT * FROM seen").await;
    assert_eq!(rows.len(), 1);
    raw.rows("BEGIN").await;
    raw.rows("DROP TABLE made").await;
    assert_eq!(raw.rows("SELECT id FROM p").await.len(), 20);
    raw.rows("ROLLBACK").await;
    assert_eq!(raw.rows("SELECT a FROM made").await.len(), 1);
}

#[tokio::test]
async fn a_change_by_one_who_sees_everything_is_heeded_by_those_who_do_not() {
    let server = Server::shared();
    server.sql("DROP DATABASE IF EXISTS masked_d; CREATE DATABASE masked_d OWNER trusted;");
    server.sql(&format!(
        "\\c masked_d\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    let front = Front::masked(&server, &["masked_d"], masks(&Mask::Null)).await;
    let mut masked = Raw::connect(front.address, "masked_d").await;
    front.reveal();
    let mut trusted = Raw::connect(front.address, "masked_d").await;
    assert_eq!(masked.rows("SELECT id FROM q").await.len(), 20);
    assert_eq!(
        trusted.rows("SELECT ssn FROM p WHERE id = 1").await[0].len(),
        6
    );
    trusted
        .rows("CREATE VIEW over AS SELECT ssn AS q FROM p")
        .await;
    trusted
        .rows("ALTER TABLE q RENAME TO old; ALTER VIEW over RENAME TO q")
        .await;
    let rows = masked.rows("SELECT q FROM q").await;
    assert_eq!(rows.len(), 20);
    for row in rows {
        // A null, which has no length.
        assert_eq!(row, "\u{fffd}".repeat(4));
    }
}

/// What `psql` and `pg_dump` ask the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_ask_the_catalog_is_answered() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Null)).await;
    for command in [
        "\\d",
        "\\d p",
        "\\d+ p",
        "\\d+ v",
        "\\dt+",
        "\\df",
        "\\df+",
        "\\dv+",
        "\\dn+",
        "\\du",
        "\\l",
        "\\dx",
        "\\dT+",
        "\\di+",
        "\\dp",
        "\\dm",
        "\\do ===",
        "\\d+ parent",
        "\\sv v",
        "\\sf first",
    ] {
        let run = |address: std::net::SocketAddr| {
            let mut psql = std::process::Command::new(crate::server::programs().join("psql"));
            psql.args([
                "-X",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "trusted",
                "-c",
                command,
                "masked_a",
            ])
            .args(["-p", &address.port().to_string()]);
            crate::server::done(psql)
        };
        let (through, directly) = (run(front.address), run(server.address()));
        assert_eq!(through, directly, "{command}");
    }
    let mut dump = std::process::Command::new(crate::server::programs().join("pg_dump"));
    dump.args([
        "--schema-only",
        "-h",
        "127.0.0.1",
        "-U",
        "trusted",
        "masked_a",
    ])
    .args(["-p", &front.address.port().to_string()]);
    assert!(crate::server::done(dump).contains("CREATE VIEW public.v"));
}

#[tokio::test]
async fn what_was_prepared_under_other_masks_is_not_run() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Last4)).await;
    let mut raw = Raw::connect(front.address, "masked_a").await;
    raw.send("P a SELECT ssn FROM p WHERE id = 1|P b SELECT id FROM q WHERE id = 1|S")
        .await;
    raw.read_until("Z:I").await;
    raw.rows("PREPARE c AS SELECT ssn FROM p WHERE id = 1")
        .await;
    raw.rows("BEGIN").await;
    raw.rows("DECLARE d CURSOR FOR SELECT ssn FROM p").await;
    let told = async |raw: &mut Raw, script: &str| {
        raw.send(script).await;
        let ready = if script.starts_with("E d") {
            "Z:E"
        } else {
            "Z:I"
        };
        raw.read_until(ready).await
    };
    front.mask(masks(&Mask::Null));
    assert_eq!(told(&mut raw, "E d 1|S").await, "E:42501 Z:E");
    raw.rows("ROLLBACK").await;
    assert_eq!(told(&mut raw, "B - a|E -|S").await, "2 E:42501 Z:I");
    assert_eq!(told(&mut raw, "Q EXECUTE c").await, "E:42501 Z:I");
    assert_eq!(told(&mut raw, "B - b|E -|S").await, "2 D C:SELECT_1 Z:I");
    front.mask(Masks::default());
    assert_eq!(told(&mut raw, "B - a|E -|S").await, "2 E:42501 Z:I");
    front.mask(masks(&Mask::Last4));
    assert_eq!(told(&mut raw, "B - a|E -|S").await, "2 D C:SELECT_1 Z:I");
    assert_eq!(told(&mut raw, "Q EXECUTE c").await, "T D C:SELECT_1 Z:I");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_whatever_policy_permits() {
    let server = pair();
    let front = Front::masked(&server, &["masked_a"], masks(&Mask::Null)).await;
    let mut raw = Raw::connect(front.address, "masked_a").await;
    for script in ["Q this is not SQL", "F", "P - ) (|S", "E nothing|S"] {
        raw.send(script).await;
        let told = raw.read_until("Z:I").await;
        assert!(
            told.starts_with("E:42501") || told.starts_with("E:34000"),
            "{script}: {told}"
        );
    }
    // Inside of a transaction the server fails by itself.
    raw.rows("BEGIN").await;
    raw.send("Q SELECT query_to_xml('SELECT 1', true, true, '')")
        .await;
    assert_eq!(raw.read_until("Z:E").await, "E:42501 Z:E");
}

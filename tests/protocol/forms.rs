//! Ways to what is masked by forms of statements that are seldom written, and by those that newer servers have.

use interceptor::masking::{Mask, Masks, Relation};

use crate::beyond::{self, pair, shown};
use crate::loop_rig::Front;
use crate::masking::said;
use crate::server::Server;

/// What newer servers have, from this version on.
const NEWER: (u32, &str) = (
    18,
    "SET ROLE trusted;
     CREATE TABLE seen (id int, ssn text, low text GENERATED ALWAYS AS (lower(ssn)) VIRTUAL, n int GENERATED ALWAYS AS (ascii(substr(ssn, 7)) - 65) VIRTUAL);
     CREATE TABLE held_at (ssn int4range, during int4range, PRIMARY KEY (ssn, during WITHOUT OVERLAPS));
     CREATE TABLE refers_at (s int4range, during int4range, FOREIGN KEY (s, PERIOD during) REFERENCES held_at (ssn, PERIOD during));
     CREATE TABLE loosely (s text REFERENCES kept (ssn) NOT ENFORCED);
     CREATE VIEW over_seen AS SELECT id, n FROM seen;",
);

/// Operators and aggregates of the server's own functions that run a query.
const CODED: &str = "
CREATE AGGREGATE runs(text) (SFUNC = ts_rewrite, STYPE = tsquery, INITCOND = 'a');
CREATE OPERATOR @@@@ (FUNCTION = ts_rewrite, LEFTARG = tsquery, RIGHTARG = text);
";

/// Puts that into a database of a pair.
fn newer(server: &Server, database: &str, which: char) {
    let (number, setup) = (if which == 'A' { 1 } else { 4 }, NEWER.1);
    server.sql(&format!(
        "\\c {database}\n{setup}
         INSERT INTO seen VALUES (1, 'CANARY{which}-0001');
         INSERT INTO held_at VALUES ('[{number},{number}]', '[1,9)');
         INSERT INTO refers_at VALUES ('[{number},{number}]', '[2,3)');
         INSERT INTO loosely VALUES ('CANARY{which}-0001');"
    ));
}

fn masks() -> Masks {
    let mut masks = beyond::masks();
    for table in ["seen", "held_at"] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: table.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), Mask::Null);
    }
    masks
}

/// What it is, from which version on, and the statements. Each tells the two databases apart directly.
pub(crate) const WAYS: &[(&str, u32, &str)] = &[
    (
        "distinct on",
        15,
        "SELECT DISTINCT ON (left(ssn, 7)) left(ssn, 7), id FROM p ORDER BY 1, 2",
    ),
    (
        "rows compared",
        15,
        "SELECT id FROM p WHERE (ssn, id) > ('CANARYA-0002', 2) AND (ssn, id) < ('CANARYAZ', 0) ORDER BY id",
    ),
    (
        "row is distinct",
        15,
        "SELECT count(*) FROM p WHERE p IS DISTINCT FROM ROW(1, 'n1', 'CANARYA-0001')::p",
    ),
    (
        "rollup",
        15,
        "SELECT ssn, grouping(ssn), count(*) FROM p GROUP BY ROLLUP (ssn) ORDER BY 1",
    ),
    (
        "ordered-set aggregate of a hypothetical row",
        15,
        "SELECT rank('CANARYAZ') WITHIN GROUP (ORDER BY ssn) FROM p",
    ),
    (
        "multirange of values",
        15,
        "SELECT range_agg(int4range(0, ascii(substr(ssn, 7)))) FROM p",
    ),
    (
        "window of values",
        15,
        "SELECT id, count(*) FILTER (WHERE ssn < 'CANARYB') OVER (ORDER BY id), first_value(ssn) OVER (ORDER BY id) FROM p",
    ),
    (
        "lateral values",
        15,
        "SELECT z.* FROM p, LATERAL (VALUES (p.ssn), (p.name)) AS z (x)",
    ),
    (
        "recursion over values",
        15,
        "WITH RECURSIVE z (i, s) AS (SELECT 1, ssn FROM p WHERE id = 1 UNION ALL SELECT i + 1, substr(s, 2) FROM z WHERE s <> '') SELECT s FROM z",
    ),
    (
        "table from XML",
        15,
        "SELECT z.* FROM p, XMLTABLE('/r' PASSING xmlelement(name r, ssn) COLUMNS s text PATH '.') AS z",
    ),
    (
        "path in JSON",
        15,
        "SELECT jsonb_path_query(to_jsonb(p), '$.ssn ? (@ starts with \"CANARYA\")') FROM p",
    ),
    (
        "cursor that is kept",
        15,
        "BEGIN;; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id FROM p WHERE ssn LIKE 'CANARYA%';; COMMIT;; MOVE ALL c;; FETCH BACKWARD 2 FROM c;; CLOSE c",
    ),
    (
        "rows that a plan takes out",
        15,
        "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF, BUFFERS OFF) SELECT 1 FROM q WHERE EXISTS (SELECT FROM p WHERE ssn LIKE 'CANARYA%')",
    ),
    (
        "update of what a cursor is at",
        15,
        "BEGIN;; DECLARE c CURSOR FOR SELECT ssn FROM p FOR UPDATE;; FETCH c;; UPDATE p SET name = 'x' WHERE CURRENT OF c RETURNING ssn;; ROLLBACK",
    ),
    (
        "several columns from a query",
        15,
        "BEGIN;; UPDATE q SET (code) = (SELECT ssn FROM p WHERE p.id = q.id);; SELECT code FROM q ORDER BY id;; ROLLBACK",
    ),
    (
        "write within a query",
        15,
        "BEGIN;; WITH w AS (INSERT INTO q SELECT id + 100, ssn FROM p RETURNING code) SELECT code FROM w;; ROLLBACK",
    ),
    (
        "what a conflict leaves",
        15,
        "BEGIN;; INSERT INTO q SELECT id, ssn FROM p ON CONFLICT (id) DO UPDATE SET code = excluded.code RETURNING code;; ROLLBACK",
    ),
    (
        "the row that a conflict meets",
        15,
        "BEGIN;; INSERT INTO p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = p.ssn RETURNING name;; ROLLBACK",
    ),
    (
        "the condition of a conflict",
        15,
        "BEGIN;; INSERT INTO p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y' WHERE p.ssn LIKE 'CANARYA%' RETURNING id;; ROLLBACK",
    ),
    (
        "a merge that deletes",
        15,
        "BEGIN;; MERGE INTO q USING p ON p.id = q.id AND p.ssn LIKE 'CANARYA%' WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (p.id + 50, 'z');; SELECT id FROM q ORDER BY id;; ROLLBACK",
    ),
    (
        "where rows go that are copied in",
        15,
        "BEGIN;; CREATE TEMP TABLE z AS SELECT id, ssn FROM p;; COPY (SELECT * FROM z WHERE ssn LIKE 'CANARYA%') TO STDOUT;; ROLLBACK",
    ),
    (
        "a plan's constant",
        15,
        "PREPARE s (text) AS SELECT id FROM p WHERE ssn = $1;; EXECUTE s ('CANARYA-0003')",
    ),
    (
        "sorted by an operator",
        15,
        "SELECT id FROM (SELECT 0 AS id, 'CANARYAZ' AS ssn UNION ALL SELECT id, ssn FROM p) AS z ORDER BY ssn USING OPERATOR(pg_catalog.<) LIMIT 1",
    ),
    (
        "ties of a limit",
        15,
        "SELECT id FROM p ORDER BY ssn < 'CANARYB' DESC FETCH FIRST 1 ROW WITH TIES;; SELECT left(ssn, 7) FROM p ORDER BY 1 FETCH FIRST 1 ROW WITH TIES",
    ),
    (
        "a field of a whole row in a subquery",
        15,
        "SELECT (z.r).ssn FROM (SELECT p AS r FROM p) AS z",
    ),
    (
        "all columns of a join",
        15,
        "SELECT j.ssn FROM (p JOIN q USING (id)) AS j ORDER BY 1",
    ),
    (
        "a function in FROM with ordinality",
        15,
        "SELECT * FROM p, regexp_split_to_table(ssn, '-') WITH ORDINALITY",
    ),
    (
        "text that is turned into a query's name",
        15,
        "SELECT to_regclass(lower(ssn)), ssn::name, quote_ident(ssn) FROM p",
    ),
    (
        "what cannot be a value",
        16,
        "SELECT pg_input_is_valid(substr(ssn, 7, 1), 'bool'), (pg_input_error_info(ssn, 'int4')).message FROM p",
    ),
    ("any value", 16, "SELECT any_value(ssn) FROM p"),
    (
        "objects in JSON",
        16,
        "SELECT json_objectagg(id : ssn), json_arrayagg(ssn ORDER BY id) FROM p",
    ),
    ("is JSON", 16, "SELECT ssn || '' IS JSON, ssn FROM p"),
    (
        "table from JSON",
        17,
        "SELECT z.* FROM p, JSON_TABLE(to_jsonb(p), '$' COLUMNS (s text PATH '$.ssn')) AS z",
    ),
    (
        "value in JSON",
        17,
        "SELECT JSON_VALUE(to_jsonb(p), '$.ssn'), JSON_EXISTS(to_jsonb(p), '$.ssn ? (@ starts with \"CANARYA\")') FROM p",
    ),
    (
        "what a merge returns",
        17,
        "BEGIN;; MERGE INTO p USING (VALUES (1)) AS v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET name = 'x' RETURNING merge_action(), p.*;; ROLLBACK",
    ),
    (
        "what a source lacks",
        17,
        "BEGIN;; MERGE INTO q USING (SELECT id FROM p WHERE ssn LIKE 'CANARYA%') AS v ON q.id = v.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING q.id;; ROLLBACK",
    ),
    (
        "rows as they were",
        18,
        "BEGIN;; UPDATE p SET name = 'x' WHERE id = 1 RETURNING old.ssn, new.ssn;; ROLLBACK",
    ),
    (
        "rows as they were, whole",
        18,
        "BEGIN;; UPDATE p SET name = 'x' WHERE id = 1 RETURNING WITH (OLD AS o) o;; ROLLBACK",
    ),
    (
        "rows as they were, as JSON",
        18,
        "BEGIN;; DELETE FROM p WHERE id = 1 RETURNING to_jsonb(old);; ROLLBACK",
    ),
    (
        "rows as they were before a conflict",
        18,
        "BEGIN;; INSERT INTO p (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y' RETURNING old.*;; ROLLBACK",
    ),
    ("column that is never stored", 18, "SELECT low FROM seen"),
    (
        "the same asked about",
        18,
        "SELECT id FROM seen WHERE low LIKE 'canarya%'",
    ),
    (
        "the same that fails",
        18,
        "SELECT 1 / n FROM seen;; SELECT 1 / n FROM over_seen",
    ),
    (
        "the same given back",
        18,
        "BEGIN;; UPDATE seen SET id = 2 RETURNING low;; ROLLBACK",
    ),
    (
        "the same as it was",
        18,
        "BEGIN;; DELETE FROM seen WHERE n = 0 RETURNING old.id;; ROLLBACK",
    ),
    (
        "key that does not overlap",
        18,
        "BEGIN;; INSERT INTO held_at VALUES ('[1,1]', '[5,6)');; ROLLBACK",
    ),
    ("what refers to a time", 18, "SELECT s FROM refers_at"),
    (
        "who is referred to at a time",
        18,
        "BEGIN;; DELETE FROM held_at WHERE ssn = '[1,1]';; ROLLBACK;; BEGIN;; INSERT INTO refers_at VALUES ('[1,1]', '[2,3)');; ROLLBACK",
    ),
    ("what refers and need not", 18, "SELECT s FROM loosely"),
    (
        "estimate of rows",
        15,
        "EXPLAIN SELECT FROM p WHERE ssn LIKE 'CANARYA%'",
    ),
    (
        "zero by arithmetic",
        15,
        "SELECT 1 / (ascii(substr(ssn, 7)) - 65) FROM p",
    ),
    (
        "too large by arithmetic",
        15,
        "SELECT 33554431 * (ascii(substr(ssn, 7)) - 1)::int FROM p",
    ),
    (
        "row by its format",
        15,
        "SELECT format('%s %L', p, p.*) FROM p WHERE id = 1",
    ),
    (
        "record made of a row's text",
        15,
        "SELECT (json_populate_record(NULL::p, to_json(p))).ssn, (p::text::p).ssn FROM p",
    ),
    (
        "rows in a list",
        15,
        "SELECT id FROM q WHERE (id, 'CANARYA-000' || id) IN (SELECT id, ssn FROM p)",
    ),
    (
        "all but some",
        15,
        "SELECT ssn FROM p EXCEPT ALL SELECT 'CANARYA-0001' ORDER BY 1",
    ),
    (
        "place among others",
        15,
        "SELECT width_bucket(ssn, ARRAY['CANARYA', 'CANARYB']), percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn), mode() WITHIN GROUP (ORDER BY ssn) FROM p GROUP BY 1",
    ),
    (
        "seed of a sample",
        15,
        "SELECT count(*), sum(id) FROM upper TABLESAMPLE bernoulli (50) REPEATABLE ((SELECT ascii(substr(max(ssn), 7)) FROM p))",
    ),
    (
        "partition that is not looked at",
        15,
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT FROM ranged WHERE id = (SELECT (ascii(substr(max(ssn), 7)) - 65) * 10 + 1 FROM p)",
    ),
    (
        "check of a domain",
        15,
        "CREATE DOMAIN pg_temp.d AS text CHECK (VALUE LIKE 'CANARYA%');; SELECT ssn::pg_temp.d FROM p",
    ),
    (
        "rows that are locked",
        15,
        "BEGIN;; SELECT id FROM p WHERE ssn LIKE 'CANARYA%' FOR UPDATE SKIP LOCKED;; ROLLBACK",
    ),
    (
        "what is told to others",
        15,
        "LISTEN c;; SELECT pg_notify('c', ssn) FROM p WHERE id = 1;; UNLISTEN c",
    ),
    (
        "setting from a value",
        15,
        "SELECT set_config('application_name', ssn, false) FROM p WHERE id = 1;; SHOW application_name;; RESET application_name",
    ),
    (
        "aggregate of a query's text",
        15,
        "CREATE AGGREGATE pg_temp.runs(text) (SFUNC = ts_rewrite, STYPE = tsquery, INITCOND = 'a');; SELECT pg_temp.runs('SELECT ''a''::tsquery, to_tsquery(ssn) FROM p WHERE id = 1')",
    ),
    (
        "operator of a query's text",
        15,
        "CREATE OPERATOR pg_temp.@@@@ (FUNCTION = ts_rewrite, LEFTARG = tsquery, RIGHTARG = text);; SELECT 'a'::tsquery OPERATOR(pg_temp.@@@@) 'SELECT ''a''::tsquery, to_tsquery(ssn) FROM p WHERE id = 1'",
    ),
    (
        "the same, made by others",
        15,
        "SELECT 'a'::tsquery OPERATOR(public.@@@@) 'SELECT ''a''::tsquery, to_tsquery(ssn) FROM p WHERE id = 1'",
    ),
    (
        "the same aggregate, made by others",
        15,
        "SELECT runs('SELECT ''a''::tsquery, to_tsquery(ssn) FROM p WHERE id = 1')",
    ),
    (
        "reversed",
        18,
        "SELECT reverse(ssn::bytea), crc32(ssn::bytea), casefold(ssn) FROM p",
    ),
];

#[tokio::test]
async fn no_form_of_a_statement_tells_one_masked_value_from_another() {
    let server = pair("forms_a", "forms_b");
    let major = server.major();
    for (database, which) in [("forms_a", 'A'), ("forms_b", 'B')] {
        server.sql(&format!("\\c {database}\nSET ROLE trusted;\n{CODED}"));
        if major >= NEWER.0 {
            newer(&server, database, which);
        }
    }
    let front = Front::masked(&server, &["forms_a", "forms_b"], masks()).await;
    let direct = server.address();
    let mut open = Vec::new();
    for (way, since, text) in WAYS {
        let one = said(front.address, "forms_a", text).await;
        let other = said(front.address, "forms_b", text).await;
        if one != other {
            open.push(format!("{way}: {} <> {}", shown(&one), shown(&other)));
        }
        let one = said(direct, "forms_a", text).await;
        let other = said(direct, "forms_b", text).await;
        if major >= *since && one == other {
            let told = shown(&one);
            open.push(format!("{way} does not even leak directly: {told}"));
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

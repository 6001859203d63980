//! Ways to what is masked by forms of statements that are seldom written, and by those that newer servers have.

use crate::beyond::{masks, pair, shown};
use crate::loop_rig::Front;
use crate::masking::said;

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

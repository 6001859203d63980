//! Ways around masks by the order in which the server finds rows: by indexes that hold something masked beside something
//! that is not, or of some rows alone.

use std::sync::Arc;

use interceptor::masking::{Mask, Masks, Relation};

use crate::beyond::shown;
use crate::loop_rig::Front;
use crate::masking::said;
use crate::server::Server;

/// Tables of the same rows, of which ten are of the first group.
const TABLES: [&str; 9] = [
    "before", "behind", "once", "partial", "lowered", "whole", "under", "held", "sifted",
];

const SETUP: &str = r"
SET ROLE trusted;
CREATE TABLE before (id int, org int, ssn text, filler text);
CREATE INDEX ON before (ssn, org);
CREATE TABLE behind (id int PRIMARY KEY, org int, ssn text, filler text);
CREATE INDEX ON behind (org, ssn);
CREATE TABLE once (id int, org int, ssn text, filler text, UNIQUE (org, ssn));
CREATE TABLE partial (id int, org int, ssn text, filler text);
CREATE INDEX ON partial (ssn) WHERE org = 1;
CREATE TABLE lowered (id int, org int, ssn text, filler text);
CREATE INDEX ON lowered (lower(ssn), org);
CREATE TABLE whole (id int, org int, ssn text, filler text) PARTITION BY RANGE (id);
CREATE TABLE whole_all PARTITION OF whole DEFAULT;
CREATE INDEX ON whole_all (org, ssn);
CREATE TABLE over (id int, org int, filler text);
CREATE TABLE under (ssn text) INHERITS (over);
CREATE INDEX ON under (org, ssn);
CREATE TABLE held (id int PRIMARY KEY, org int, ssn text, filler text);
CREATE INDEX ON held (id, ssn);
CREATE INDEX ON held (org) INCLUDE (ssn);
CREATE INDEX ON held USING brin (org, ssn);
CREATE TABLE sifted (id int, org int, ssn text, filler text);
CREATE INDEX ON sifted (org, ssn);
CREATE VIEW shows AS SELECT id, org FROM behind;
CREATE VIEW gathers AS SELECT org, array_agg(id) AS ids FROM behind GROUP BY org;
CREATE VIEW first AS SELECT DISTINCT ON (org) org, id FROM behind ORDER BY org;
CREATE MATERIALIZED VIEW filled AS SELECT id, org, ssn FROM held WITH NO DATA;
CREATE INDEX ON filled (org, ssn);
CREATE TABLE orgs (org int PRIMARY KEY);
INSERT INTO orgs VALUES (1), (2);
";

/// Rows of a pair of databases that differ in the order of what is masked, and in nothing else that is shown.
fn values(which: char) -> String {
    let order = match which {
        'A' => "n",
        _ => "3001 - n",
    };
    let mut sql = format!(
        "SET ROLE trusted;
         CREATE TEMP TABLE rows AS SELECT n AS id, CASE WHEN n % 100 = 0 THEN 1 ELSE n END AS org,
         {order} || '-CANARY-' || n AS ssn, repeat('x', 900) AS filler FROM generate_series(1001, 2000) AS n;"
    );
    for table in TABLES {
        sql.push_str(&format!(
            "INSERT INTO {table} (id, org, ssn, filler) SELECT id, org, ssn, filler FROM rows;"
        ));
    }
    sql.push_str(
        "CREATE POLICY own ON sifted USING (org = 1);
         ALTER TABLE sifted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;",
    );
    sql.push_str("REFRESH MATERIALIZED VIEW filled; RESET ROLE; VACUUM (ANALYZE, FREEZE);");
    sql
}

/// A pair of databases of these names, made anew. As where pages cost the same wherever they lie.
fn pair(one: &str, other: &str) -> Arc<Server> {
    let server = Server::shared();
    for (name, which) in [(one, 'A'), (other, 'B')] {
        server.sql(&format!(
            "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} OWNER trusted;
             ALTER DATABASE {name} SET random_page_cost = 1;
             ALTER DATABASE {name} SET enable_bitmapscan = off;
             ALTER DATABASE {name} SET enable_sort = off;"
        ));
        server.sql(&format!(
            "\\c {name}\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
        ));
        server.sql(&format!("\\c {name}\n{}", values(which)));
    }
    server
}

fn masks() -> Masks {
    let mut masks = Masks::default();
    for table in TABLES {
        let relation = Relation {
            schema: "public".to_owned(),
            name: table.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), Mask::Null);
    }
    masks
}

/// What fails in one way for one row and in another way for another one.
const FAILS: &str =
    "CASE id WHEN 1100 THEN 1 / (id - 1100) > 0 WHEN 1900 THEN ('r' || id)::int > 0 ELSE false END";

/// What it is, and the statements. Each tells the two databases apart directly.
const WAYS: &[(&str, &str)] = &[
    ("masked column first", "SELECT id FROM before WHERE org = 1"),
    (
        "masked column behind",
        "SELECT id FROM behind WHERE org = 1",
    ),
    ("order", "SELECT id FROM behind ORDER BY org LIMIT 5"),
    ("some rows", "SELECT id FROM behind WHERE org = 1 LIMIT 1"),
    ("unique", "SELECT id FROM once WHERE org = 1"),
    (
        "unique, ordered",
        "SELECT id FROM once ORDER BY org LIMIT 5",
    ),
    (
        "condition of the index",
        "SELECT id FROM partial WHERE org = 1",
    ),
    ("expression", "SELECT id FROM lowered WHERE org = 1"),
    ("expression alone", "SELECT org FROM lowered LIMIT 5"),
    ("partition", "SELECT id FROM whole WHERE org = 1"),
    ("parent", "SELECT id FROM over WHERE org = 1"),
    ("policy", "SELECT id FROM sifted"),
    (
        "policy, given back",
        "BEGIN;; DELETE FROM sifted RETURNING id;; ROLLBACK",
    ),
    ("view", "SELECT id FROM shows WHERE org = 1"),
    ("view, ordered", "SELECT id FROM shows ORDER BY org LIMIT 5"),
    ("view that gathers", "SELECT ids FROM gathers WHERE org = 1"),
    ("view that takes the first", "SELECT id FROM first LIMIT 1"),
    ("materialized view", "SELECT id FROM filled WHERE org = 1"),
    (
        "temporary view",
        "CREATE TEMP VIEW z AS SELECT id, org FROM behind;; SELECT id FROM z WHERE org = 1",
    ),
    (
        "window",
        "SELECT id, row_number() OVER (ORDER BY org) FROM behind LIMIT 5",
    ),
    (
        "first of each",
        "SELECT DISTINCT ON (org) id FROM behind ORDER BY org LIMIT 1",
    ),
    (
        "one after the other",
        "SELECT array_agg(id) FROM behind WHERE org = 1",
    ),
    (
        "groups",
        "SELECT array_agg(id) FROM behind GROUP BY org LIMIT 1",
    ),
    ("join", "SELECT id FROM orgs JOIN behind USING (org)"),
    ("natural join", "SELECT id FROM orgs NATURAL JOIN behind"),
    (
        "lateral",
        "SELECT x.id FROM orgs, LATERAL (SELECT id FROM behind AS b WHERE b.org = orgs.org LIMIT 1) AS x",
    ),
    (
        "query",
        "SELECT id FROM (SELECT * FROM behind) AS x WHERE org = 1",
    ),
    (
        "query with a name",
        "WITH x AS (SELECT id, org AS o FROM behind) SELECT id FROM x WHERE o = 1",
    ),
    (
        "other names",
        "SELECT id FROM behind AS x (id, o) WHERE o = 1",
    ),
    (
        "field of a row",
        "SELECT id FROM behind AS x WHERE (x).org = 1",
    ),
    (
        "both sides",
        "SELECT id FROM behind WHERE org = 1 UNION ALL SELECT org FROM orgs",
    ),
    (
        "copy",
        "COPY (SELECT id FROM behind WHERE org = 1) TO STDOUT",
    ),
    (
        "cursor",
        "BEGIN;; DECLARE c CURSOR FOR SELECT id FROM behind WHERE org = 1;; FETCH 2 FROM c;; ROLLBACK",
    ),
    (
        "prepared",
        "PREPARE z (int) AS SELECT id FROM behind WHERE org = $1;; EXECUTE z (1)",
    ),
    (
        "lock",
        "BEGIN;; SELECT id FROM behind WHERE org = 1 LIMIT 1 FOR UPDATE;; ROLLBACK",
    ),
    (
        "fields in the order",
        "SELECT (SELECT id FROM behind WHERE org = 1 LIMIT 1)",
    ),
    (
        "given back",
        "BEGIN;; UPDATE behind SET filler = filler WHERE org = 1 RETURNING id;; ROLLBACK",
    ),
    (
        "given back by what goes",
        "BEGIN;; DELETE FROM behind WHERE org = 1 RETURNING id;; ROLLBACK",
    ),
    (
        "written anew",
        "BEGIN;; UPDATE behind SET filler = repeat('y', 900) WHERE org = 1;; SELECT id, length(filler) FROM behind OFFSET 990;; ROLLBACK",
    ),
    (
        "given back by a join",
        "BEGIN;; DELETE FROM behind USING orgs WHERE orgs.org = behind.org RETURNING id;; ROLLBACK",
    ),
];

/// The same with what fails for one row after the other.
const FAILING: &[&str] = &[
    "SELECT id FROM behind WHERE org = 1 AND {}",
    "SELECT id FROM shows WHERE org = 1 AND {}",
    "SELECT id FROM over WHERE org = 1 AND {}",
    "SELECT min(org) FROM behind WHERE {}",
    "SELECT id FROM (SELECT id, org, {} AS f FROM behind) AS x WHERE org = 1 AND f",
    "SELECT count(*) FROM behind WHERE org = 1 AND {}",
    "UPDATE behind SET filler = 'y' WHERE org = 1 AND {}",
    "UPDATE behind SET filler = ({})::text WHERE org = 1",
    "DELETE FROM behind WHERE org = 1 AND {}",
];

#[tokio::test]
async fn no_order_in_which_rows_are_found_tells_one_masked_value_from_another() {
    let server = pair("orders_a", "orders_b");
    let front = Front::masked(&server, &["orders_a", "orders_b"], masks()).await;
    let direct = server.address();
    let failing = FAILING
        .iter()
        .map(|text| ("failing", text.replace("{}", FAILS)));
    let ways = WAYS.iter().map(|(way, text)| (*way, (*text).to_owned()));
    let mut open = Vec::new();
    for (way, text) in ways.chain(failing) {
        let one = said(direct, "orders_a", &text).await;
        let other = said(direct, "orders_b", &text).await;
        if one == other {
            open.push(format!(
                "{way} does not even leak directly: {text}: {}",
                shown(&one)
            ));
        }
        let one = said(front.address, "orders_a", &text).await;
        let other = said(front.address, "orders_b", &text).await;
        if one != other {
            open.push(format!(
                "{way}: {text}: {} <> {}",
                shown(&one),
                shown(&other)
            ));
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

#[tokio::test]
async fn what_is_found_in_a_hidden_order_is_answered_in_another() {
    let server = pair("founds_a", "founds_b");
    let front = Front::masked(&server, &["founds_a"], masks()).await;
    for (text, end) in [
        ("SELECT id FROM before WHERE org = 1", "SELECT 10"),
        (
            "SELECT * FROM behind WHERE org = 1 AND id > 1500",
            "SELECT 5",
        ),
        (
            "SELECT id, 1 / (id - 1) FROM behind WHERE org = 1",
            "SELECT 10",
        ),
        (
            "SELECT id FROM behind WHERE 1 / (id - 1) >= 0 AND org = 1",
            "SELECT 10",
        ),
        (
            "SELECT o.org, b.id FROM orgs AS o LEFT JOIN behind AS b ON b.org = o.org",
            "SELECT 11",
        ),
        (
            "SELECT org, count(*) FROM once GROUP BY org ORDER BY org LIMIT 3",
            "SELECT 3",
        ),
        (
            "SELECT id FROM shows WHERE org = 1 ORDER BY id",
            "SELECT 10",
        ),
        (
            "SELECT id FROM whole WHERE id = 1001 AND org = 1001",
            "SELECT 1",
        ),
        ("SELECT id FROM over WHERE org = 1 FOR UPDATE", "SELECT 10"),
        ("SELECT id FROM filled WHERE org IN (1, 2)", "SELECT 10"),
        ("EXPLAIN SELECT id FROM behind WHERE org = 1", "EXPLAIN"),
        ("COPY behind (id, org) TO STDOUT", "COPY 1000"),
        (
            "UPDATE behind SET filler = upper(filler) WHERE id = 1100 AND org = 1 RETURNING id",
            "UPDATE 1",
        ),
        (
            "UPDATE behind SET filler = upper(filler) WHERE id > 1990 RETURNING id",
            "UPDATE 10",
        ),
        ("UPDATE behind SET filler = 'y' WHERE org = 1", "UPDATE 10"),
        (
            "DELETE FROM before WHERE org = 1 RETURNING 1 / (id - 1)",
            "DELETE 10",
        ),
    ] {
        let told = shown(&said(front.address, "founds_a", text).await);
        let is_answered = told.contains(end) && !told.contains("ERROR");
        assert!(is_answered, "{text}: {told}");
    }
}

/// Rows of what no index in a hidden order helps to find come as they are found.
#[tokio::test]
async fn what_an_index_holds_beside_hides_no_order() {
    let server = pair("inside_a", "inside_b");
    let front = Front::masked(&server, &["inside_a", "inside_b"], masks()).await;
    for text in [
        "SELECT id FROM held ORDER BY id LIMIT 5",
        "SELECT id FROM held WHERE org = 1",
        "SELECT id FROM held ORDER BY org LIMIT 20",
        "SELECT org FROM held LIMIT 20",
    ] {
        let directly = [
            said(server.address(), "inside_a", text).await,
            said(server.address(), "inside_b", text).await,
        ];
        assert!(directly[0] == directly[1], "{text} leaks directly");
        for name in ["inside_a", "inside_b"] {
            let told = said(front.address, name, text).await;
            assert!(told == directly[0], "{text}: {}", shown(&told));
        }
    }
}

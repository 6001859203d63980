//! Statements of others, with the names of the canary's schema in the place of theirs, and turned into
//! something else here and there: the ways around masks that are known by name, and PostgreSQL's own
//! regression SQL where it is installed (`INTERCEPTOR_SUITES`).

use std::fs;
use std::path::Path;

use super::grammar::Script;
use super::random::Random;

/// What the ways around masks call things, and what that may be here.
const OF_WAYS: &[(&str, &[&str])] = &[
    ("p", &["{t}"]),
    ("q", &["{t}", "orders", "nums"]),
    ("ssn", &["{c}"]),
    ("name", &["{n}"]),
    ("born", &["{c}"]),
    ("v", &["v_person"]),
    ("vv", &["v_top"]),
    ("m", &["m_person"]),
    ("parent", &["event"]),
    ("part", &["event_low", "event_mid_b"]),
    ("g", &["vault"]),
    ("u", &["vault"]),
    ("low", &["low"]),
    ("strict", &["vault", "orders"]),
    ("refers", &["refers"]),
    ("called", &["v_calls"]),
    ("first", &["v_plain"]),
    ("held", &["orders"]),
    ("owner", &["person_id"]),
    ("codes", &["vault"]),
    ("kinds", &["vault"]),
    ("coded", &["refers"]),
    ("kinded", &["refers"]),
    ("byvalue", &["split"]),
    ("byvalue_a", &["split_rest"]),
    ("wide", &["person", "orders"]),
    ("asks", &["v_asks"]),
    ("counts", &["v_city"]),
    ("nested", &["v_top"]),
    ("united", &["v_union"]),
    ("joined", &["v_order"]),
    ("used", &["v_order"]),
    ("log", &["told"]),
    ("said", &["told"]),
    ("heard", &["told"]),
    ("indexed", &["told"]),
    ("defaulted", &["told"]),
    ("written", &["told"]),
    ("over_log", &["v_person"]),
    ("over_heard", &["v_order"]),
    ("over_defaulted", &["v_plain"]),
    ("over_kinds", &["v_person", "v_order"]),
    ("over_above", &["v_union"]),
    ("twice", &["v_top"]),
    ("above", &["base"]),
    ("below", &["leaf"]),
    ("placed", &["{t}"]),
    ("ranged", &["event"]),
    ("lax", &["checks"]),
    ("shifty", &["checks"]),
    ("locked", &["v_person"]),
    ("policed", &["orders"]),
    ("sifted", &["orders"]),
    ("numbered", &["vault"]),
    ("sorted", &["{t}"]),
    ("ranked", &["{t}"]),
    ("db", &["{db}"]),
];

/// Tables, each with a plain column of text and masked ones.
const TABLES: &[(&str, &str, &[&str])] = &[
    (
        "person",
        "name",
        &[
            "ssn", "email", "phone", "note", "code", "handle", "born", "seen", "pin", "num", "big",
            "amount", "uid", "raw", "tags", "doc", "addr", "mood", "span", "days", "ratio", "ip",
            "page", "words", "spot", "at", "token",
        ],
    ),
    ("person", "city", &["ssn", "note", "code"]),
    ("orders", "item", &["card", "memo", "fee"]),
    ("event", "what", &["payload", "num"]),
    ("leaf", "what", &["label", "extra"]),
    ("base", "what", &["label"]),
    ("vault", "what", &["code", "low"]),
    ("v_person", "name", &["ssn", "u", "email", "doc"]),
    ("m_person", "ssn", &["ssn", "doc", "amount", "tags"]),
    ("v_order", "item", &["card", "ssn", "amount"]),
];

/// Words that a table stands behind.
const BEFORE_TABLES: [&str; 7] = ["from", "join", "into", "update", "table", "only", "using"];
/// What the regression SQL calls columns.
const COLUMNS: &[&str] = &[
    "unique1",
    "unique2",
    "two",
    "four",
    "ten",
    "twenty",
    "hundred",
    "thousand",
    "twothousand",
    "fivethous",
    "tenthous",
    "stringu1",
    "stringu2",
    "string4",
    "f1",
    "f2",
    "f3",
    "f4",
    "a",
    "b",
    "c",
    "d",
    "x",
    "y",
    "q1",
    "q2",
    "i",
    "j",
    "k",
    "aa",
    "bb",
    "cc",
    "dd",
    "age",
    "salary",
    "location",
    "name",
    "data",
    "val",
    "value",
    "key",
    "id",
    "col1",
    "col2",
    "t",
    "s",
    "n",
    "v",
];
/// Statements that leave the block in which they are asked, or that are not for it.
const LEAVING: [&str; 12] = [
    "commit",
    "rollback",
    "end",
    "abort",
    "begin",
    "start",
    "vacuum",
    "cluster",
    "reindex",
    "\\",
    "prepare transaction",
    "copy",
];

/// What a query can be put into; the last pieces are statements of their own.
const AROUND: &[&str] = &[
    "SELECT * FROM ({q}) AS w",
    "WITH w AS ({q}) TABLE w",
    "WITH w AS MATERIALIZED ({q}) SELECT w FROM w",
    "EXPLAIN ({q})",
    "EXPLAIN (ANALYZE, VERBOSE, TIMING OFF, SUMMARY OFF) {q}",
    "COPY ({q}) TO STDOUT",
    "COPY ({q}) TO STDOUT WITH (FORMAT binary)",
    "PREPARE s AS {q};; EXECUTE s;; DEALLOCATE ALL",
    "DECLARE c CURSOR FOR {q};; FETCH ALL FROM c",
    "CREATE TEMP TABLE w AS {q};; TABLE w",
    "CREATE TEMP VIEW w AS {q};; SELECT w::text FROM w",
    "SELECT w::text FROM ({q}) AS w",
    "SELECT row_to_json(w) FROM ({q}) AS w",
    "SELECT w.to_jsonb FROM ({q}) AS w",
    "({q}) UNION ALL ({q})",
    "SELECT 1 WHERE EXISTS ({q})",
    "SELECT (SELECT w FROM ({q}) AS w LIMIT 1)",
    "SELECT count(*) FROM ({q}) AS w",
    "SELECT string_agg(w::text, ';') FROM ({q}) AS w",
    "SELECT ARRAY(SELECT w::text FROM ({q}) AS w)",
    "SELECT * FROM nums LEFT JOIN LATERAL ({q}) AS w ON true",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT r.n, w FROM r, ({q}) AS w",
    "SELECT 1 / (length(w::text) - length(w::text)) FROM ({q}) AS w",
    "SELECT (w::text)::int FROM ({q}) AS w",
    "SELECT xmlelement(name x, w::text) FROM ({q}) AS w",
    "INSERT INTO nums (word) SELECT w::text FROM ({q}) AS w RETURNING word",
    "UPDATE nums SET word = (SELECT w::text FROM ({q}) AS w LIMIT 1) RETURNING *",
];

/// The named ways around masks.
pub(super) fn ways() -> Vec<Script> {
    let all = crate::masking::WAYS.iter().chain(crate::around::WAYS);
    let all = all.chain(crate::beyond::WAYS);
    all.map(|(_, text)| text.split(";;").map(|one| one.trim().to_owned()).collect())
        .collect()
}

/// The statements of the regression SQL; none where it is not there.
pub(super) fn regression() -> Vec<Script> {
    let Some(suites) = std::env::var_os("INTERCEPTOR_SUITES") else {
        return Vec::new();
    };
    let found = fs::read_dir(&suites).unwrap().flatten();
    let pglast = found.map(|entry| entry.path()).find(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        path.is_dir() && name.is_some_and(|name| name.starts_with("pglast"))
    });
    let directory = pglast
        .unwrap()
        .join("libpg_query/test/sql/postgres_regress");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let scripts = files.iter().filter_map(|file| statements(file));
    scripts.flatten().map(|text| vec![text]).collect()
}

fn statements(file: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('\\') && !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements = text.split(";\n").map(|one| one.trim().to_owned());
    let kept = statements.filter(|one| {
        let lower = one.to_lowercase();
        one.len() > 6 && one.len() < 2_000 && !LEAVING.iter().any(|word| lower.starts_with(word))
    });
    Some(kept.collect())
}

/// A script of the ways, as another one, in a block that is undone.
pub(super) fn way(script: &Script, random: &mut Random) -> Script {
    let (table, plain, masked) = *random.pick(TABLES);
    let column = *random.pick(masked);
    let texts = script.iter().map(|text| {
        let text = words(text, |word, _| {
            let (_, others) = OF_WAYS.iter().find(|(known, _)| *known == word)?;
            let other = match *random.pick(others) {
                "{t}" => table,
                "{n}" => plain,
                "{c}" => column,
                other => other,
            };
            Some(other.to_owned())
        });
        let text = text.replace("CANARYA", "K").replace("CANARYB", "M");
        text.replace("{db}", "canary_a")
    });
    let texts: Vec<String> = texts.collect();
    block(changed(texts, random))
}

/// A statement of the regression SQL, as another one, in a block that is undone.
pub(super) fn regress(script: &Script, random: &mut Random) -> Script {
    let texts = script.iter().map(|text| {
        let (table, plain, masked) = *random.pick(TABLES);
        words(text, |word, before| {
            let lower = word.to_lowercase();
            if BEFORE_TABLES.contains(&before.to_lowercase().as_str())
                && lower != "select"
                && random.percent(90)
            {
                return Some(table.to_owned());
            }
            if !COLUMNS.contains(&lower.as_str()) {
                return None;
            }
            Some(match random.below(4) {
                0 => "id".to_owned(),
                1 => plain.to_owned(),
                _ => (*random.pick(masked)).to_owned(),
            })
        })
    });
    let texts: Vec<String> = texts.collect();
    block(changed(texts, random))
}

fn block(script: Script) -> Script {
    let is_block = script.iter().any(|text| text.starts_with("BEGIN"));
    match is_block {
        true => script,
        false => {
            let begin = std::iter::once("BEGIN".to_owned());
            begin
                .chain(script)
                .chain(std::iter::once("ROLLBACK".to_owned()))
                .collect()
        }
    }
}

/// Sometimes a query within something else, or with other space between its words.
fn changed(script: Script, random: &mut Random) -> Script {
    let mut changed = Script::new();
    for text in script {
        let is_query =
            text.starts_with("SELECT") || text.starts_with("select") || text.starts_with("TABLE");
        if is_query && random.percent(40) {
            let around = random.pick(AROUND).replace("{q}", &text);
            changed.extend(around.split(";;").map(|one| one.trim().to_owned()));
        } else if random.percent(15) {
            let space = *random.pick(&["/**/ ", "\n", "  \t", " /* ; */ ", " --\n"]);
            let quoted = text.contains('\'') || text.contains('"') || text.contains('$');
            changed.push(if quoted {
                text
            } else {
                text.replace(' ', space)
            });
        } else {
            changed.push(text);
        }
    }
    changed
}

/// The text with some of its words in other words; quotes stay. A word is told with the one before it.
fn words(text: &str, mut other: impl FnMut(&str, &str) -> Option<String>) -> String {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut out = String::new();
    let mut before = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '\'' | '"' => rest[1..].find(letter).map_or(rest.len(), |end| end + 2),
            letter if is_word(letter) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            letter => letter.len_utf8(),
        };
        let piece = &rest[..length];
        rest = &rest[length..];
        if letter.is_ascii_alphabetic() {
            out.push_str(&other(piece, &before).unwrap_or_else(|| piece.to_owned()));
            piece.clone_into(&mut before);
        } else {
            if !letter.is_whitespace() {
                before.clear();
            }
            out.push_str(piece);
        }
    }
    out
}

#[test]
fn words_are_others_and_quotes_stay() {
    let told = words("SELECT p.ssn, 'p' FROM p -- p", |word, before| {
        match (word, before) {
            ("p", "FROM") => Some("t".to_owned()),
            ("p", _) => Some("x".to_owned()),
            _ => None,
        }
    });
    assert_eq!(told, "SELECT x.ssn, 'p' FROM t -- x");
    assert!(ways().len() > 150);
}

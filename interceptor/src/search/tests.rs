//! What is found, and that an index that is lost is made again.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn line(seq: u64, agent: &str, statement: &str) -> String {
    format!(
        r#"{{"v":1,"seq":{seq},"time":"2026-11-27T10:00:{seq:02}.000000Z","event":"request.permitted","session":"00000000-0000-7000-8000-00000000000{seq}","principal":{{"agent":"{agent}","process":{{"executable":{{"path":"/usr/bin/psql"}},"argv":["psql","-h","db"]}}}},"target":"shop","statement":"{statement}","asks":[{{"accesses":[{{"resource":{{"table":{{"schema":"public","table":"orders"}}}}}}]}}]}}"#
    )
}

fn log(state: &Path, lines: &[String]) -> PathBuf {
    let dir = state.join("audit");
    fs::create_dir_all(&dir).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("audit-000000000001.jsonl"), text).unwrap();
    dir
}

fn lines() -> Vec<String> {
    vec![
        line(1, "claude", "SELECT name FROM customers"),
        line(2, "robot", "DELETE FROM customers WHERE id = $1"),
        line(3, "claude", "UPDATE order_items SET price = $1"),
        r#"{"v":1,"seq":4,"time":"2026-11-27T10:00:04.000000Z","event":"kernel.lost","count":1}"#
            .to_owned(),
    ]
}

fn seqs(index: &Index, words: &[&str], more: impl FnOnce(&mut Query)) -> Vec<i64> {
    let mut query = Query {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        most: 50,
        ..Query::default()
    };
    more(&mut query);
    index
        .search(&query)
        .unwrap()
        .iter()
        .map(|hit| hit.seq)
        .collect()
}

#[test]
fn requests_are_found_by_words_who_when_and_where() {
    let state = tempfile::tempdir().unwrap();
    let dir = log(state.path(), &lines());
    let mut index = Index::open(&state.path().join("search.db")).unwrap();
    assert_eq!(index.catch_up(&dir).unwrap(), 4);
    assert_eq!(index.catch_up(&dir).unwrap(), 0);
    use std::os::unix::fs::PermissionsExt as _;
    for end in ["", "-wal"] {
        let file = state.path().join(format!("search.db{end}"));
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else reads statements");
    }
    let any = |_query: &mut Query| {};
    let rows: [(&[&str], &[i64]); 11] = [
        (&[], &[3, 2, 1]),
        (&["customers"], &[2, 1]),
        (&["CUSTOMERS", "delete"], &[2]),
        (&["order_items"], &[3]),
        (&["order*"], &[3, 2, 1]),
        (&["items"], &[]),
        (&["robot"], &[2]),
        (&["/usr/bin/psql"], &[3, 2, 1]),
        (&["cust"], &[]),
        (&["\" OR said : *"], &[]),
        (&["orders"], &[3, 2, 1]),
    ];
    for (words, expected) in rows {
        assert_eq!(seqs(&index, words, any), expected, "{words:?}");
    }
    assert_eq!(
        seqs(&index, &["customers"], |query| query.agent =
            Some("claude".to_owned())),
        [1]
    );
    assert_eq!(
        seqs(&index, &[], |query| query.target = Some("other".to_owned())),
        [0; 0]
    );
    let second = "2026-11-27T10:00:02Z".parse().ok();
    assert_eq!(seqs(&index, &[], |query| query.since = second), [3, 2]);
    assert_eq!(seqs(&index, &[], |query| query.until = second), [2, 1]);
    assert_eq!(seqs(&index, &[], |query| query.most = 1), [3]);
}

#[test]
fn an_index_that_is_lost_broken_or_of_another_log_is_made_anew() {
    let state = tempfile::tempdir().unwrap();
    let dir = log(state.path(), &lines()[..2]);
    let path = state.path().join("search.db");
    let catch_up = || Index::open(&path).unwrap().catch_up(&dir).unwrap();
    assert_eq!(catch_up(), 2);
    log(state.path(), &lines());
    assert_eq!(catch_up(), 2, "only what is new");
    fs::remove_file(&path).unwrap();
    assert_eq!(catch_up(), 4);
    fs::write(&path, "no database").unwrap();
    assert_eq!(catch_up(), 4);
    log(state.path(), &[line(1, "other", "SELECT 1")]);
    assert_eq!(catch_up(), 1);
    let index = Index::open(&path).unwrap();
    assert_eq!(seqs(&index, &["customers"], |_query| {}), [0; 0]);
}

#[test]
fn what_is_beyond_the_bound_goes_the_oldest_first() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("search.db");
    let dir = log(state.path(), &lines()[..2]);
    Index::open(&file).unwrap().catch_up(&dir).unwrap();
    log(state.path(), &lines());
    let mut index = Index::open(&file).unwrap();
    index.kept = 2;
    index.catch_up(&dir).unwrap();
    assert_eq!(seqs(&index, &[], |_query| {}), [3, 2]);
    assert_eq!(seqs(&index, &["name"], |_query| {}), [0; 0]);
    assert_eq!(seqs(&index, &["customers"], |_query| {}), [2]);
}

/// The daemon follows the log while `sessions search` takes what it lacks.
#[test]
fn who_follows_takes_what_comes_and_nothing_twice() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("search.db");
    let lines = lines();
    let dir = log(state.path(), &lines[..1]);
    let mut first = Index::open(&file).unwrap();
    let mut entries = first.follow(&dir).unwrap();
    assert_eq!(first.take_some(&mut entries).unwrap(), 1);
    log(state.path(), &lines[..2]);
    assert_eq!(Index::open(&file).unwrap().catch_up(&dir).unwrap(), 1);
    log(state.path(), &lines[..3]);
    assert_eq!(first.take_some(&mut entries).unwrap(), 2, "both are read");
    let customers = seqs(&first, &["customers"], |_query| {});
    assert_eq!(customers, [2, 1], "each is found once");
    assert_eq!(seqs(&first, &["order_items"], |_query| {}), [3]);
}

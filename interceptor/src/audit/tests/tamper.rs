//! Whatever is done to a closed log is found.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::{cut, lines, log_dir, segments, settings, written};
use crate::audit::{Error, Log, checkpoint, verify};

/// Something done to the segments.
type Harm = fn(&[PathBuf]);

#[test]
fn a_segment_that_is_gone_or_cut_is_found() {
    let rows: [(&str, Harm); 6] = [
        ("first gone", |paths| fs::remove_file(&paths[0]).unwrap()),
        ("middle gone", |paths| fs::remove_file(&paths[2]).unwrap()),
        ("last gone", |paths| {
            fs::remove_file(paths.last().unwrap()).unwrap()
        }),
        ("middle cut", |paths| cut(&paths[2], 100)),
        ("last cut", |paths| cut(paths.last().unwrap(), 10)),
        ("two swapped", |paths| {
            let (one, other) = (fs::read(&paths[1]).unwrap(), fs::read(&paths[2]).unwrap());
            fs::write(&paths[1], other).unwrap();
            fs::write(&paths[2], one).unwrap();
        }),
    ];
    for (name, change) in rows {
        let (_temporary, dir) = log_dir();
        written(&dir, 60, 4096);
        change(&segments(&dir));
        let report = verify(&dir).expect("a report");
        assert!(!report.is_whole(), "{name}: {report:?}");
    }
}

#[test]
fn a_checkpoint_that_is_gone_or_foreign_is_found() {
    let rows: [(&str, Option<&str>); 3] = [
        ("gone", None),
        ("not JSON", Some("{")),
        (
            "of another line",
            Some(
                r#"{"v":1,"seq":2,"hash":"00","segment":"audit-000000000001.jsonl","length":5,"time":""}"#,
            ),
        ),
    ];
    for (name, text) in rows {
        let (_temporary, dir) = log_dir();
        written(&dir, 3, 1 << 20);
        let path = dir.join(checkpoint::FILE);
        match text {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        assert!(!verify(&dir).expect("a report").is_whole(), "{name}");
        let opened = Log::open(&dir, &settings(1 << 20));
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{name}");
    }
}

#[test]
fn a_violation_names_file_line_and_what() {
    let (_temporary, dir) = log_dir();
    written(&dir, 5, 1 << 20);
    let path = dir.join("audit-000000000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"count\":2", "\"count\":9")).unwrap();
    let report = verify(&dir).expect("a report");
    let said: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "audit-000000000001.jsonl:5: carries another hash than that of the line before: one of the two was changed"
        ]
    );
}

/// One change of one line.
#[derive(Clone, Debug)]
enum Change {
    Flip { line: usize, byte: usize, bit: u8 },
    Remove { line: usize },
    Swap { one: usize, other: usize },
    Repeat { line: usize, at: usize },
    Insert { at: usize, seq: u64 },
}

const COUNT: usize = 12;

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..COUNT, any::<usize>(), 0..8_u8).prop_map(|(line, byte, bit)| Change::Flip {
            line,
            byte,
            bit
        }),
        (0..COUNT).prop_map(|line| Change::Remove { line }),
        (0..COUNT, 0..COUNT)
            .prop_filter("two lines", |(one, other)| one != other)
            .prop_map(|(one, other)| Change::Swap { one, other }),
        (0..COUNT, 0..=COUNT).prop_map(|(line, at)| Change::Repeat { line, at }),
        (0..=COUNT, 1..20_u64).prop_map(|(at, seq)| Change::Insert { at, seq }),
    ]
}

fn apply(lines: &mut Vec<Vec<u8>>, change: &Change) {
    match *change {
        Change::Flip { line, byte, bit } => {
            let line = &mut lines[line];
            let byte = byte % line.len();
            line[byte] ^= 1 << bit;
        }
        Change::Remove { line } => drop(lines.remove(line)),
        Change::Swap { one, other } => lines.swap(one, other),
        Change::Repeat { line, at } => lines.insert(at, lines[line].clone()),
        Change::Insert { at, seq } => {
            let line = format!(
                r#"{{"v":1,"seq":{seq},"prev":"{}","event":"x"}}"#,
                "0".repeat(64)
            );
            lines.insert(at, line.into_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_change_of_one_line_of_a_closed_log_is_found(change in change(), segment in prop_oneof![Just(1024_u64), Just(1 << 20)]) {
        let (_temporary, dir) = log_dir();
        written(&dir, (COUNT - 2) as u64, segment);
        let paths = segments(&dir);
        let mut all: Vec<Vec<u8>> = lines(&dir).into_iter().map(String::into_bytes).collect();
        let lengths: Vec<usize> = paths
            .iter()
            .map(|path| fs::read_to_string(path).unwrap().lines().count())
            .collect();
        apply(&mut all, &change);
        let mut rest = all.into_iter();
        for (index, (path, length)) in paths.iter().zip(lengths).enumerate() {
            let take = if index + 1 == paths.len() { usize::MAX } else { length };
            let text: Vec<u8> = rest.by_ref().take(take).flat_map(|line| [line, vec![b'\n']].concat()).collect();
            fs::write(path, text).unwrap();
        }
        let report = verify(&dir).expect("a report");
        prop_assert!(!report.is_whole(), "{:?}", report);
    }
}

//! Whatever is done to a closed log is found.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use proptest::prelude::*;

use super::{cut, log_dir, segments, settings, signer, written};
use crate::audit::verify::Report;
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
        let opened = Log::open(&dir, signer(&dir), &settings(1 << 20));
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

#[test]
fn a_line_that_was_added_with_the_right_hash_must_have_the_right_sequence() {
    let (_temporary, dir) = log_dir();
    written(&dir, 1, 1 << 20);
    let path = segments(&dir).remove(0);
    let text = fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    let prev = hex::encode(digest(&SHA256, last.as_bytes()));
    for (seq, is_whole) in [(3, false), (4, true), (5, false)] {
        let line = format!(r#"{{"v":1,"seq":{seq},"prev":"{prev}","event":"x"}}"#);
        fs::write(&path, format!("{text}{line}\n")).unwrap();
        let report = verify(&dir).expect("a report");
        assert_eq!(report.is_whole(), is_whole, "{report:?}");
    }
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

/// The lines of each segment of a closed log, and its checkpoint; made once for all cases.
struct Made {
    segments: Vec<(String, Vec<Vec<u8>>)>,
    checkpoint: Vec<u8>,
}

impl Made {
    fn with(segment_bytes: u64) -> Self {
        let (_temporary, dir) = log_dir();
        written(&dir, (COUNT - 2) as u64, segment_bytes);
        let read = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read(path).unwrap();
            let lines = text
                .strip_suffix(b"\n")
                .unwrap()
                .split(|byte| *byte == b'\n');
            (name, lines.map(<[u8]>::to_vec).collect())
        };
        Self {
            segments: segments(&dir).iter().map(read).collect(),
            checkpoint: fs::read(dir.join(checkpoint::FILE)).unwrap(),
        }
    }
}

/// Writes the lines into the segments that they were in, and checks what came of it.
fn rebuilt(made: &Made, all: Vec<Vec<u8>>) -> Report {
    let (_temporary, dir) = log_dir();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(checkpoint::FILE), &made.checkpoint).unwrap();
    let mut rest = all.into_iter();
    for (index, (name, lines)) in made.segments.iter().enumerate() {
        let is_last = index + 1 == made.segments.len();
        let take = if is_last { usize::MAX } else { lines.len() };
        let lines = rest.by_ref().take(take);
        let text: Vec<u8> = lines
            .flat_map(|line| [line, vec![b'\n']].concat())
            .collect();
        fs::write(dir.join(name), text).unwrap();
    }
    verify(&dir).expect("a report")
}

#[test]
fn a_log_that_is_written_back_unchanged_is_whole() {
    for made in [&*ONE, &*MANY] {
        let all = made
            .segments
            .iter()
            .flat_map(|(_, lines)| lines.clone())
            .collect();
        let report = rebuilt(made, all);
        assert!(report.is_whole(), "{report:?}");
    }
}

static ONE: LazyLock<Made> = LazyLock::new(|| Made::with(1 << 20));
static MANY: LazyLock<Made> = LazyLock::new(|| Made::with(1024));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_change_of_one_line_of_a_closed_log_is_found(change in change(), many in any::<bool>()) {
        let made: &Made = if many { &MANY } else { &ONE };
        let mut all: Vec<Vec<u8>> = made.segments.iter().flat_map(|(_, lines)| lines.clone()).collect();
        // Where there are several segments, each but the last ends with a checkpoint.
        prop_assert!(all.len() >= COUNT);
        apply(&mut all, &change);
        let report = rebuilt(made, all);
        prop_assert!(!report.is_whole(), "{:?}", report);
    }
}

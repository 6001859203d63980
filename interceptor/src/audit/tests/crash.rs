//! What a kill or a power loss leaves, and what the log makes of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{assert_whole, cut, events, log_dir, lost, open, segments, settings, signer, written};
use crate::audit::{Error, Log, Sequence, Sink as _, checkpoint, segment, verify};

/// Tells a process of this test binary that it is the one to be killed, and where its log is.
const CHILD: &str = "INTERCEPTOR_TEST_AUDIT_CHILD";

#[test]
fn a_torn_tail_is_set_aside_and_the_chain_goes_on() {
    let rows: [(&str, &[u8], bool); 5] = [
        ("half a line", b"{\"v\":1,\"seq\":99,\"ti", true),
        ("zeros of a preallocated tail", &[0; 5000], false),
        ("half a line and zeros", b"{\"v\":1\0\0\0\0\0", true),
        (
            "a line of another chain",
            b"{\"v\":1,\"seq\":6,\"prev\":\"00\",\"event\":\"x\"}\n",
            true,
        ),
        ("rubbish in many lines", b"\n\n{}\nx\n", true),
    ];
    for (name, tail, kept) in rows {
        let (_temporary, dir) = log_dir();
        written(&dir, 3, 1 << 20);
        let path = dir.join("audit-000000000001.jsonl");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(tail).unwrap();
        written(&dir, 1, 1 << 20);
        assert_whole(&dir);
        let recovered = events(&dir, "log.recovered");
        assert_eq!(recovered.len(), 1, "{name}");
        assert_eq!(recovered[0]["bytes"], tail.len(), "{name}");
        let aside = recovered[0]["kept"].as_str();
        assert_eq!(aside.is_some(), kept, "{name}");
        if let Some(aside) = aside {
            let bytes = fs::read(dir.join(aside)).unwrap();
            let content = tail.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            assert_eq!(bytes, &tail[..content], "{name}");
        }
        assert_eq!(events(&dir, "kernel.lost").len(), 4, "{name}");
    }
}

#[test]
fn segments_behind_a_tear_are_set_aside_whole() {
    let (_temporary, dir) = log_dir();
    written(&dir, 2, 1 << 20);
    let sealed = fs::read(dir.join(checkpoint::FILE)).unwrap();
    written(&dir, 120, 4096);
    let paths = segments(&dir);
    assert!(paths.len() > 3);
    // As after a power loss: the checkpoint is old, the second segment has lost its end.
    fs::write(dir.join(checkpoint::FILE), sealed).unwrap();
    cut(&paths[1], 7);
    written(&dir, 1, 1 << 20);
    assert_whole(&dir);
    assert_eq!(events(&dir, "log.recovered").len(), paths.len() - 1);
    assert_eq!(segments(&dir).len(), 2);
}

#[test]
fn damage_before_the_checkpoint_is_not_passed_over() {
    let (_temporary, dir) = log_dir();
    written(&dir, 5, 1 << 20);
    let path = dir.join("audit-000000000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    for damage in [
        text.replace("\"count\":2", "\"count\":9"),
        text.chars().take(300).collect(),
    ] {
        fs::write(&path, &damage).unwrap();
        let error = Log::open(&dir, signer(&dir), &settings(1 << 20)).expect_err("a refusal");
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            damage,
            "it is left as it is"
        );
    }
}

/// Runs in the killed process only: says each sequence after it was acknowledged.
#[test]
fn the_child_that_is_killed_appends_without_end() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let log = open(Path::new(&dir), &settings(64 << 10));
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        let Sequence(sequence) = log.append(&lost(number)).expect("a line");
        writeln!(out, "acknowledged {sequence}").expect("the parent reads");
        out.flush().expect("the parent reads");
    }
}

#[test]
fn a_segment_that_was_begun_before_the_line_in_front_of_it_is_no_damage() {
    let (_temporary, dir) = log_dir();
    written(&dir, 3, 1 << 20);
    let next = u64::try_from(super::lines(&dir).len()).unwrap() + 2;
    let begun = |name| fs::write(dir.join(segment::Name(name).to_string()), "").unwrap();
    begun(next);
    assert_whole(&dir);
    written(&dir, 3, 1 << 20);
    assert_whole(&dir);
    // Any other name is none that a daemon would have given it.
    begun(next + 40);
    assert!(!verify(&dir).unwrap().is_whole());
}

#[test]
fn a_killed_process_loses_no_line_that_it_was_told_is_written() {
    let (_temporary, dir) = log_dir();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("audit::tests::crash::the_child_that_is_killed_appends_without_end")
            .env(CHILD, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut acknowledged = 0;
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.expect("a line");
            if let Some((_, sequence)) = line.split_once("acknowledged ") {
                acknowledged = sequence.parse().expect("a whole line of the pipe");
                count += 1;
            }
            if count == 300 + round * 37 {
                child.kill().expect("SIGKILL");
            }
        }
        child.wait().expect("an end");
        assert!(count >= 300);
        let report = verify(&dir).expect("a report");
        assert!(report.is_whole(), "{report:?}");
        let lines = report.lines;
        assert!(lines >= acknowledged, "{lines} {acknowledged}");
    }
    written(&dir, 1, 1 << 20);
    assert_whole(&dir);
    assert_eq!(events(&dir, "log.opened").len(), 6);
    assert_eq!(
        events(&dir, "log.closed").len(),
        1,
        "the killed ones closed nothing"
    );
}

//! The verbs over a log that was written for them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand as _};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Audit;
use crate::audit::{Event, Log, Settings, Signer, Sink as _};
use crate::config::Durability;
use crate::session::{Outcome, RequestId};

/// As the program parses it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    audit: Audit,
}

fn run(dir: &Path, arguments: &[&str]) -> (u8, String) {
    let all = ["audit"].iter().chain(arguments).copied();
    let all: Vec<String> = all
        .map(str::to_owned)
        .chain([format!("--dir={}", dir.display())])
        .collect();
    let cli = Cli::try_parse_from(all).expect("arguments");
    let mut out = Vec::new();
    let code = cli.audit.run(&mut out).expect("an answer");
    (code, String::from_utf8(out).expect("text"))
}

#[test]
fn a_reading_is_told_in_the_words_it_was_asked_for() {
    for (asked, told) in [
        (&["show"][..], Some("audit show")),
        (&["show", "7"], Some("audit show 7")),
        (
            &["show", "--agent", "claude", "--event=request"],
            Some("audit show --agent claude --event request"),
        ),
        (
            &["tail", "-f", "--since", "90m"],
            Some("audit tail --lines 20 --follow --since 90m"),
        ),
        (&["verify"], None),
    ] {
        let cli = Cli::try_parse_from(["audit"].iter().chain(asked)).expect("arguments");
        assert_eq!(cli.audit.reads().as_deref(), told);
    }
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path().join("audit");
    let settings = Settings {
        durability: Durability::Relaxed,
        segment_bytes: 1 << 20,
        ..Settings::default()
    };
    let signer = Signer::open(temporary.path()).expect("a key");
    let log = Log::open(&dir, signer, &settings).expect("a log");
    let principal =
        r#"{"agent":"claude","process":{"pid":7,"executable":{"path":"/usr/bin/psql"}}}"#;
    let principal = RawValue::from_string(principal.to_owned()).expect("JSON");
    for (request, status) in [(1, "ok"), (2, "\u{1b}[2J\u{9b}31m")] {
        let outcome = Outcome {
            status: status.to_owned(),
            ..Outcome::default()
        };
        let event = Event::RequestFinished {
            connection: Uuid::nil(),
            session: Uuid::max(),
            request: RequestId(Uuid::from_u128(request)),
            principal: Some(&principal),
            outcome: &outcome,
            spent: &[],
        };
        log.append(&event).expect("a line");
    }
    log.close().expect("a closed log");
    (temporary, dir)
}

#[test]
fn the_arguments_are_sound() {
    Audit::augment_subcommands(clap::Command::new("audit")).debug_assert();
}

#[test]
fn a_whole_log_is_called_whole_and_a_changed_one_ends_with_one() {
    let (_temporary, dir) = written();
    let (code, said) = run(&dir, &["verify"]);
    assert_eq!(code, 0);
    assert!(
        said.starts_with("the log is whole: 4 lines in 1 segment"),
        "{said}"
    );
    let path = dir.join("audit-000000000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("claude", "cloude", 1)).unwrap();
    let (code, said) = run(&dir, &["verify"]);
    assert_eq!(code, 1);
    assert!(said.starts_with("audit-000000000001.jsonl:3: "), "{said}");
    let (code, said) = run(&dir, &["verify", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["violations"][0]["line"]), (1, &3.into()));
}

#[test]
fn a_copy_is_checked_with_the_key_and_an_anchor_alone() {
    let (temporary, dir) = written();
    let (code, key) = run(&dir, &["key"]);
    assert!(
        code == 0 && key.starts_with("-----BEGIN PUBLIC KEY-----"),
        "{key}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let (key_file, anchor) = (
        elsewhere.path().join("key"),
        elsewhere.path().join("anchor"),
    );
    fs::write(&key_file, key).unwrap();
    let export = format!("--export={}", anchor.display());
    assert_eq!(run(&dir, &["checkpoint", &export]), (0, String::new()));
    let copy = elsewhere.path().join("copy");
    fs::rename(&dir, &copy).unwrap();
    drop(temporary);
    let by = [
        "verify",
        &format!("--key={}", key_file.display()),
        &format!("--anchor={}", anchor.display()),
    ];
    let (code, said) = run(&copy, &by);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("signed up to sequence 4 (1 signature checked)"),
        "{said}"
    );
    assert!(said.contains("1 anchor stands"), "{said}");
    let path = copy.join("checkpoint.json");
    let mut text = fs::read_to_string(&path).unwrap();
    let at = text.find("signature").unwrap() + 15;
    let other = match text.as_bytes()[at] {
        b'0' => "1",
        _ => "0",
    };
    text.replace_range(at..=at, other);
    fs::write(&path, text).unwrap();
    let (code, said) = run(&copy, &by);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("has a signature that is not that of its key"),
        "{said}"
    );
}

#[test]
fn a_log_that_no_checkpoint_vouches_for_is_not_called_certain() {
    let (_temporary, dir) = written();
    let (_, said) = run(&dir, &["verify"]);
    assert!(said.contains("certain up to sequence 4"), "{said}");
    let file = dir.join("checkpoint.json");
    let beginning = serde_json::json!({
        "v": 1, "seq": 0, "hash": "0".repeat(64), "segment": "audit-000000000001.jsonl",
        "length": 0, "time": "2026-01-01T00:00:00Z",
    });
    fs::write(&file, beginning.to_string()).unwrap();
    let (code, said) = run(&dir, &["verify"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no checkpoint vouches"), "{said}");
    assert!(!said.contains("certain"), "{said}");
}

#[test]
fn tail_and_show_give_the_lines_asked_for_and_nothing_that_acts() {
    let (_temporary, dir) = written();
    let request = Uuid::from_u128(2).to_string();
    let rows: [(&[&str], usize, &str); 8] = [
        (&["tail", "-n", "2"], 2, "log.closed"),
        (
            &["tail", "--event", "request"],
            2,
            "claude /usr/bin/psql[7]",
        ),
        (
            &["tail", "--json", "--agent", "claude"],
            2,
            "\"request.finished\"",
        ),
        (&["tail", "--since", "1h"], 4, "log.opened"),
        (&["tail", "--since", "2999-01-01T00:00:00Z"], 0, ""),
        (&["show", "2", "--json"], 1, "\"seq\":2"),
        (&["show", &request, "--json"], 1, "\"seq\":3"),
        (
            &[
                "show",
                "--session",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "--json",
            ],
            2,
            "status",
        ),
    ];
    for (arguments, count, holds) in rows {
        let (code, said) = run(&dir, arguments);
        assert_eq!(code, 0);
        assert_eq!(said.lines().count(), count, "{arguments:?}: {said}");
        assert!(said.contains(holds), "{arguments:?}: {said}");
        let acting = said
            .chars()
            .find(|shown| shown.is_control() && *shown != '\n');
        assert_eq!(acting, None, "{arguments:?}");
    }
    let (_, said) = run(&dir, &["show", &request]);
    assert!(said.contains("  \"agent\": \"claude\""), "{said}");
}

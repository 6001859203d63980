//! The verbs over a session that was recorded for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, Subcommand as _};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Pace, Sessions};
use crate::clock;
use crate::recording::{Reader, Recorder, Settings, Subject, Terminal, What, find};
use crate::session::{Direction, Phase, RequestId};

/// As the program parses it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    sessions: Sessions,
}

fn run(dir: &Path, arguments: &[&str]) -> (u8, String) {
    let all = ["sessions"].iter().chain(arguments).copied();
    let place = format!("--dir={}", dir.display());
    let cli = Cli::try_parse_from(all.chain([place.as_str()])).expect("arguments");
    let mut out = Vec::new();
    let code = cli.sessions.run(&mut out).expect("an answer");
    (code, String::from_utf8(out).expect("text"))
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a length");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// What records, and where.
fn recorder() -> (tempfile::TempDir, PathBuf, Recorder) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let root = temporary.path().join("recordings");
    let settings = Settings {
        segment_bytes: 1 << 20,
        session_bytes: None,
        recipients: Vec::new(),
        keep: Default::default(),
    };
    let audit = crate::audit::tests::log(temporary.path());
    let recorder = Recorder::open(&root, &settings, audit).expect("a recorder");
    (temporary, root, recorder)
}

/// A `SELECT` of one hostile value, then a refused `DELETE`.
async fn recorded() -> (tempfile::TempDir, PathBuf) {
    let (temporary, root, recorder) = recorder();
    let principal =
        r#"{"agent":"claude","process":{"pid":7,"executable":{"path":"/usr/bin/psql"}}}"#;
    let principal = RawValue::from_string(principal.to_owned()).expect("JSON");
    let writer = recorder
        .begin(&Subject {
            session: Uuid::max(),
            connection: Uuid::nil(),
            protocol: "postgres",
            target: "main",
            database: Some("shop"),
            principal: Some(&principal),
        })
        .expect("a writer");
    let column = [&b"\0\x01name\0"[..], &[0; 18]].concat();
    let row = [&[0, 1, 0, 0, 0, 6][..], b"a\x1b[2Jb"].concat();
    let selected = [
        message(b'T', &column),
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ];
    let refused = [
        message(
            b'E',
            b"SERROR\0C42501\0Mnot permitted\0Hinterceptor request\0\0",
        ),
        message(b'Z', b"I"),
    ];
    let steps = [
        (1, "SELECT name\nFROM customers", selected.concat()),
        (2, "DELETE FROM customers", refused.concat()),
    ];
    for (request, statement, answer) in steps {
        let text = [statement.as_bytes(), b"\0"].concat();
        let sent = Bytes::from(message(b'Q', &text));
        writer
            .record(Direction::Sent, sent)
            .await
            .expect("recorded");
        let request = RequestId(Uuid::from_u128(request));
        writer.mark(request, Phase::Execute).await.expect("marked");
        writer
            .record(Direction::Received, Bytes::from(answer))
            .await
            .expect("recorded");
    }
    writer.close("client").await.expect("closed");
    (temporary, root)
}

#[test]
fn the_arguments_are_sound() {
    Sessions::augment_subcommands(clap::Command::new("sessions")).debug_assert();
}

#[tokio::test]
async fn ls_names_each_session_by_what_it_is() {
    let (_temporary, root) = recorded().await;
    let rows: [(&[&str], usize); 4] = [
        (&["ls"], 1),
        (&["ls", "--agent", "claude", "--since", "1h"], 1),
        (&["ls", "--agent", "other"], 0),
        (&["ls", "--json"], 1),
    ];
    for (arguments, count) in rows {
        let (code, said) = run(&root, arguments);
        assert_eq!(
            (code, said.lines().count()),
            (0, count),
            "{arguments:?}: {said}"
        );
    }
    let (_, said) = run(&root, &["ls"]);
    assert!(
        said.contains("claude  /usr/bin/psql[7]  main/shop  client"),
        "{said}"
    );
}

#[tokio::test]
async fn show_gives_statement_result_and_request() {
    let (_temporary, root) = recorded().await;
    let (code, said) = run(&root, &["show", "ffff"]);
    assert_eq!(code, 0);
    for holds in [
        "  | SELECT name\n  | FROM customers\n name\n-----------",
        " a\\u{1b}[2Jb\nSELECT 1\n",
        "request 00000000-0000-0000-0000-000000000002\n  | DELETE FROM customers\n",
        "ERROR 42501: not permitted\nHINT: interceptor request\n",
    ] {
        assert!(said.contains(holds), "{holds:?} is not in {said}");
    }
    let (_, said) = run(&root, &["show", "ffff", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        said["exchanges"][0]["results"][0]["rows"][0][0],
        "a\u{1b}[2Jb"
    );
    assert_eq!(said["exchanges"][1]["errors"][0]["code"], "42501");
    assert_eq!(said["session"]["principal"]["agent"], "claude");
}

#[tokio::test]
async fn replay_shows_the_same_in_the_order_of_time() {
    let (_temporary, root) = recorded().await;
    let (code, said) = run(&root, &["replay", "ffff", "--instant"]);
    assert_eq!(code, 0);
    let order = [
        "shop=> SELECT name\n  | FROM",
        "SELECT 1",
        "shop=> DELETE",
        "ERROR 42501",
    ];
    let places: Vec<_> = order.map(|part| said.find(part)).into_iter().collect();
    assert!(places.is_sorted() && places[0].is_some(), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    let (_, said) = run(&root, &["replay", "ffff", "--json", "--speed", "1000"]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[tokio::test]
async fn a_damaged_recording_is_shown_as_far_as_it_goes_and_ends_with_one() {
    let (_temporary, root) = recorded().await;
    let path = find(&root, "ffff").expect("found").join("000001.rec");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, said) = run(&root, &["show", "ffff"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("SELECT name") && said.contains("is damaged"),
        "{said}"
    );
}

#[test]
fn pauses_follow_the_pace_and_are_never_longer_than_asked() {
    let second = Duration::from_secs(1);
    let rows = [
        (1.0, false, second, second),
        (10.0, false, second, second / 10),
        (1.0, false, 60 * second, 2 * second),
        (1.0, true, second, Duration::ZERO),
        (1e-300, false, Duration::MAX, 2 * second),
    ];
    for (speed, instant, later, expected) in rows {
        let pace = Pace::new(speed, instant, 2.0).expect("a pace");
        assert_eq!(pace.pause(later), expected, "{speed} {later:?}");
    }
    for (speed, pause) in [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, -1.0)] {
        assert!(Pace::new(speed, false, pause).is_err());
    }
}

/// A session with two terminals at once, the first of which comes behind files.
async fn terminals() -> (tempfile::TempDir, PathBuf) {
    let (temporary, root, recorder) = recorder();
    let writer = recorder
        .begin(&Subject {
            session: Uuid::max(),
            connection: Uuid::nil(),
            protocol: "ssh",
            target: "web",
            database: None,
            principal: None,
        })
        .expect("a writer");
    let opened = |command: &str| Terminal::Opened {
        columns: 80,
        rows: 24,
        term: "xterm".to_owned(),
        command: command.to_owned(),
    };
    let shown = |text: &'static str| Terminal::Shown(Bytes::from_static(text.as_bytes()));
    let typed = |text: &'static str| Terminal::Typed(Bytes::from_static(text.as_bytes()));
    let carried = Terminal::Carried(Direction::Sent, Bytes::from_static(b"x"));
    let mut all = vec![(0, Terminal::Carries("subsystem sftp".to_owned()))];
    all.extend(vec![(0, carried); 100]);
    all.extend([
        (1, opened("")),
        (1, shown("old\u{1b}[2Jprompt ")),
        (1, typed("hunter2\r")),
        (2, opened("top")),
        (2, shown("of top")),
        (1, shown("answer")),
    ]);
    for (number, what) in &all {
        writer.terminal(*number, what).await.expect("recorded");
    }
    // What comes later is later by the clock that places are named by, too.
    let begun = clock::boot();
    while clock::boot().since(begun) < Duration::from_millis(2) {
        std::thread::yield_now();
    }
    writer
        .terminal(1, &shown(" later"))
        .await
        .expect("recorded");
    writer.close("client").await.expect("closed");
    (temporary, root)
}

#[tokio::test]
async fn terminals_are_played_each_behind_its_name_or_one_of_them() {
    let (_temporary, root) = terminals().await;
    let (code, said) = run(&root, &["play", "ffff", "--instant"]);
    assert_eq!(code, 0);
    let places: Vec<_> = [
        "prompt",
        "[terminal 2: top]",
        "of top",
        "[terminal 1: a shell]",
        "answer later",
    ]
    .map(|text| {
        said.find(text)
            .unwrap_or_else(|| panic!("{text:?} is not in {said:?}"))
    })
    .into();
    assert!(places.is_sorted(), "{said:?}");
    let (_, said) = run(&root, &["play", "ffff", "--instant", "--terminal", "2"]);
    assert!(said.starts_with("of top\u{1b}["), "{said:?}");
    let (_, said) = run(&root, &["follow", "ffff", "--terminal", "1"]);
    assert!(
        said.contains("prompt answer later") && !said.contains("of top"),
        "{said:?}"
    );
    let all = ["sessions", "play", "ffff", "--terminal", "7"];
    let place = format!("--dir={}", root.display());
    let cli = Cli::try_parse_from(all.into_iter().chain([place.as_str()])).unwrap();
    let error = cli.sessions.run(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("terminal 7"), "{error}");
}

#[tokio::test]
async fn from_a_later_time_on_a_terminal_is_as_it_was_then() {
    let (_temporary, root) = terminals().await;
    let reader = Reader::open(&find(&root, "ffff").unwrap()).unwrap();
    let begun = reader.meta().started_boot_ns;
    let last = reader
        .map(Result::unwrap)
        .filter(|frame| matches!(&frame.what, What::Terminal(_, Terminal::Shown(_))));
    let later = last.last().unwrap().at.since(begun).as_millis();
    let seek = format!("{later}ms");
    let (_, said) = run(&root, &["play", "ffff", "--instant", "--seek", &seek]);
    assert!(said.starts_with("\u{1b}[2Jprompt answer later"), "{said:?}");
}

#[tokio::test]
async fn what_was_typed_is_exported_only_where_it_is_asked_for() {
    let (_temporary, root) = terminals().await;
    for format in ["asciicast-v2", "asciicast-v3"] {
        let words = ["export", "ffff", "--format", format];
        let (_, said) = run(&root, &words);
        assert!(
            said.contains("answer") && !said.contains("hunter2"),
            "{said}"
        );
        let (_, said) = run(&root, &[&words[..], &["--input"]].concat());
        assert!(said.contains(r#""i","hunter2\r""#), "{said}");
    }
}

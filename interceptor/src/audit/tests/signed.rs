//! What a signature adds: a log that is rewritten as a whole is found too, and a copy can be checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::{events, log_dir, lost, open, segments, settings, signer, waited, written};
use crate::audit::chain::{Chain, Hash};
use crate::audit::checkpoint::{self, Checkpoint, sign};
use crate::audit::verify::{Report, Trust, What, verify_with};
use crate::audit::{Error, Log, PublicKey, Settings, Signer, Sink as _, verify};
use crate::clock;

fn keys(dir: &Path) -> Vec<PublicKey> {
    PublicKey::read(&dir.parent().unwrap().join(sign::PUBLIC)).expect("keys")
}

fn check(dir: &Path, keys: &[PublicKey], anchors: &[Checkpoint]) -> Report {
    let trust = Trust { keys, anchors };
    verify_with(dir, trust, &mut |_line| {}).expect("a report")
}

/// Writes a log anew with other text in it, each hash as it must be: what whoever has the directory can do.
fn rewrite(dir: &Path, from: &str, to: &str) -> (u64, Hash, u64) {
    let (mut prev, mut seq, mut length) = (Hash::GENESIS, 0, 0);
    for path in segments(dir) {
        let mut all = String::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let line = line.replace(from, to);
            let (head, rest) = line.split_once("\"prev\":\"").unwrap();
            let line = format!(
                "{head}\"prev\":\"{}{}",
                prev.as_str(),
                rest.get(64..).unwrap()
            );
            prev = Hash::of(line.as_bytes());
            seq += 1;
            all.push_str(&line);
            all.push('\n');
        }
        length = all.len() as u64;
        fs::write(path, all).unwrap();
    }
    (seq, prev, length)
}

#[test]
fn a_log_that_is_rewritten_as_a_whole_is_whole_only_without_the_key() {
    let (_temporary, dir) = log_dir();
    written(&dir, 5, 1 << 20);
    let keys = keys(&dir);
    let report = check(&dir, &keys, &[]);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.signed, report.signatures), (Some(7), 1));
    let (seq, hash, length) = rewrite(&dir, "\"count\":2", "\"count\":9");
    let mut forged = checkpoint::newest(&dir).expect("a checkpoint");
    (forged.seq, forged.hash, forged.length) = (seq, hash.as_str().to_owned(), length);
    checkpoint::write(&dir, &forged).unwrap();
    assert!(
        verify(&dir).unwrap().is_whole(),
        "the chain alone cannot tell"
    );
    let found = check(&dir, &keys, &[]).violations;
    assert_eq!(found[0].what, What::Signature);
    forged.v = 1;
    (forged.key, forged.signature) = (None, None);
    checkpoint::write(&dir, &forged).unwrap();
    assert_eq!(check(&dir, &keys, &[]).violations[0].what, What::Unsigned);
    // Nor does a daemon go on behind it.
    let opened = Log::open(&dir, signer(&dir), &settings(1 << 20));
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    let other = tempfile::tempdir().unwrap();
    let other = Signer::open(other.path()).unwrap();
    checkpoint::write(&dir, &other.sign(Checkpoint { v: 2, ..forged })).unwrap();
    let found = &check(&dir, &keys, &[]).violations[0].what;
    assert!(matches!(found, What::OtherKey(_)), "{found:?}");
}

#[test]
fn each_segment_ends_with_a_signature_that_stands_where_it_says() {
    let (_temporary, dir) = log_dir();
    written(&dir, 60, 4096);
    let keys = keys(&dir);
    let report = check(&dir, &keys, &[]);
    assert!(report.is_whole(), "{report:?}");
    let paths = segments(&dir);
    assert_eq!(report.signatures, paths.len() as u64);
    for path in &paths[..paths.len() - 1] {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.lines().last().unwrap().contains("log.checkpoint"));
    }
    // A chain that is made anew over other lines cannot keep them.
    rewrite(&dir, "\"count\":2", "\"count\":9");
    let report = check(&dir, &keys, &[]);
    let misplaced = report.violations.iter();
    let misplaced = misplaced
        .filter(|found| found.what == What::Misplaced)
        .count();
    assert!(misplaced >= paths.len() - 2, "{report:?}");
}

#[test]
fn an_anchor_finds_what_even_the_key_cannot_hide() {
    let (_temporary, dir) = log_dir();
    written(&dir, 4, 1 << 20);
    let anchor = checkpoint::newest(&dir).unwrap();
    written(&dir, 4, 1 << 20);
    let report = check(&dir, &keys(&dir), std::slice::from_ref(&anchor));
    assert!(report.is_whole() && report.anchors == 1, "{report:?}");
    let (seq, hash, length) = rewrite(&dir, "\"count\":2", "\"count\":9");
    let mut forged = checkpoint::newest(&dir).unwrap();
    (forged.seq, forged.hash, forged.length) = (seq, hash.as_str().to_owned(), length);
    let forged = signer(&dir).sign(forged);
    checkpoint::write(&dir, &forged).unwrap();
    assert!(
        check(&dir, &keys(&dir), &[]).is_whole(),
        "it was signed anew"
    );
    let found = check(&dir, &keys(&dir), std::slice::from_ref(&anchor));
    assert_eq!(found.violations[0].what, What::Anchor(anchor.seq));
    let ahead = Checkpoint {
        seq: seq + 1,
        ..anchor
    };
    let found = check(&dir, &keys(&dir), &[ahead]);
    assert_eq!(found.violations[0].what, What::Anchor(seq + 1));
}

#[test]
fn a_log_of_before_signatures_is_signed_once_and_never_again() {
    let (_temporary, dir) = log_dir();
    written(&dir, 4, 1 << 20);
    let old = || {
        let mut old = checkpoint::newest(&dir).unwrap();
        old.v = 1;
        (old.key, old.signature) = (None, None);
        checkpoint::write(&dir, &old).unwrap();
    };
    old();
    let state = dir.parent().unwrap();
    fs::remove_file(state.join("audit.key")).unwrap();
    fs::remove_file(state.join("audit.pub")).unwrap();
    written(&dir, 1, 1 << 20);
    let report = check(&dir, &keys(&dir), &[]);
    assert!(report.is_whole(), "{report:?}");
    old();
    let opened = Log::open(&dir, signer(&dir), &settings(1 << 20));
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
}

#[test]
fn a_key_that_is_gone_open_to_others_or_not_of_its_pair_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    type Harm = fn(&Path);
    let rows: [(&str, Harm, &str); 3] = [
        ("gone", |key| fs::remove_file(key).unwrap(), "it is gone"),
        (
            "open",
            |key| fs::set_permissions(key, fs::Permissions::from_mode(0o640)).unwrap(),
            "others can reach it",
        ),
        (
            "another",
            |key| {
                let other = tempfile::tempdir().unwrap();
                drop(Signer::open(other.path()).unwrap());
                fs::rename(other.path().join("audit.key"), key).unwrap();
            },
            "not that of audit.key",
        ),
    ];
    for (name, harm, said) in rows {
        let (_temporary, dir) = log_dir();
        written(&dir, 1, 1 << 20);
        let state = dir.parent().unwrap();
        let key = state.join("audit.key");
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        harm(&key);
        let error = Signer::open(state).expect_err(name).to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[test]
fn the_log_vouches_for_itself_from_time_to_time_and_rests_when_nothing_comes() {
    let (_temporary, dir) = log_dir();
    let often = Settings {
        checkpoint: Duration::from_millis(1),
        ..settings(1 << 20)
    };
    let log = open(&dir, &often);
    let since = clock::boot();
    for number in 1..=2 {
        log.append(&lost(number)).expect("a line");
        while (events(&dir, "log.checkpoint").len() as u64) < number {
            waited(since);
        }
    }
    log.close().expect("a closed log");
    // The opening may have one of its own; nothing vouches for what vouches.
    assert!(events(&dir, "log.checkpoint").len() <= 3);
    let report = check(&dir, &keys(&dir), &[]);
    assert!(report.is_whole() && report.signatures >= 3, "{report:?}");
}

/// A closed log of several segments, as its files.
fn made() -> (Vec<(String, Vec<u8>)>, Vec<PublicKey>) {
    let (_temporary, dir) = log_dir();
    written(&dir, 60, 2048);
    let mut files: Vec<PathBuf> = segments(&dir);
    assert!(files.len() > 3);
    files.push(dir.join(checkpoint::FILE));
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    (files.iter().map(read).collect(), keys(&dir))
}

/// What is done to the bytes of one file.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Swap(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        any::<usize>().prop_map(Harm::Cut),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Harm::Swap(one, other)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_byte_of_any_file_of_a_closed_log_that_is_flipped_cut_or_swapped_is_found(
        which in any::<usize>(),
        harm in harm(),
    ) {
        type Files = Vec<(String, Vec<u8>)>;
        static MADE: std::sync::LazyLock<(Files, Vec<PublicKey>)> =
            std::sync::LazyLock::new(made);
        let (files, keys) = &*MADE;
        let which = which % files.len();
        let (_temporary, dir) = log_dir();
        fs::create_dir(&dir).unwrap();
        for (index, (name, bytes)) in files.iter().enumerate() {
            let mut bytes = bytes.clone();
            if index == which {
                let length = bytes.len();
                match harm {
                    Harm::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
                    Harm::Cut(at) => bytes.truncate(at % length),
                    Harm::Swap(one, other) => bytes.swap(one % length, other % length),
                }
                prop_assume!(bytes != files[index].1);
            }
            fs::write(dir.join(name), bytes).unwrap();
        }
        let report = check(&dir, keys, &[]);
        prop_assert!(!report.is_whole(), "{:?} of {}", harm, files[which].0);
    }
}

#[test]
fn a_chain_stands_where_its_hash_says() {
    // What `rewrite` stands on.
    let (_temporary, dir) = log_dir();
    written(&dir, 3, 1 << 20);
    let before = fs::read(&segments(&dir)[0]).unwrap();
    rewrite(&dir, "nothing", "nothing");
    assert_eq!(fs::read(&segments(&dir)[0]).unwrap(), before);
    assert_eq!(Chain::START.next, 1);
}

//! Every directory in `policies/` with its cases: each loads, each case comes out as it says, and
//! each rule decides at least one case.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose ground is missing cannot go on"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use interceptor::cli::policy::{cases, read};
use interceptor::policy::{Generation, Policy, Rule, SCHEMA};

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../policies")
        .canonicalize()
        .expect("the repository has policies")
}

fn packs() -> Vec<PathBuf> {
    let mut packs: Vec<_> = std::fs::read_dir(policies())
        .expect("policies can be listed")
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    packs.sort();
    packs
}

fn load(pack: &Path) -> Policy {
    Policy::load(pack, Generation(1)).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn there_are_packs() {
    let names: Vec<_> = packs()
        .iter()
        .filter_map(|pack| Some(pack.file_name()?.to_string_lossy().into_owned()))
        .collect();
    for expected in ["allow-all", "read-write", "starter"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
}

#[test]
fn every_pack_loads_without_a_warning() {
    for pack in packs() {
        let policy = load(&pack);
        assert_eq!(policy.warnings(), [], "{}", pack.display());
    }
}

#[test]
fn every_case_comes_out_as_it_says() {
    let mut failed = Vec::new();
    for pack in packs() {
        let policy = load(&pack);
        for case in cases::load(&pack).unwrap_or_else(|mistakes| panic!("{mistakes}")) {
            let outcome = case.run(&policy, &read);
            if !outcome.ok {
                failed.push(outcome.to_string());
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_rule_decides_a_case_that_expects_it() {
    for pack in packs() {
        let policy = load(&pack);
        let decided: BTreeSet<_> = cases::load(&pack)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"))
            .iter()
            .map(|case| case.run(&policy, &read))
            .filter(|outcome| outcome.ok)
            .flat_map(|outcome| outcome.rules)
            .collect();
        let idle: Vec<Arc<Rule>> = policy
            .rules()
            .into_iter()
            .filter(|rule| !decided.contains(&rule.id))
            .collect();
        assert!(idle.is_empty(), "no case is decided by {idle:#?}");
    }
}

#[test]
fn every_rule_of_a_pack_has_a_name_and_every_forbid_tells_what_to_do() {
    for pack in packs() {
        for rule in load(&pack).rules() {
            let place = format!("{}:{}", rule.file.display(), rule.line);
            assert!(!rule.id.0.contains(':'), "{place} has no @id");
            let forbids = rule.effect == interceptor::policy::Effect::Forbid;
            assert_eq!(rule.hint.is_some(), forbids, "{place}: @hint");
        }
    }
}

#[test]
fn the_schema_beside_the_packs_is_the_one_that_is_judged_by() {
    let text = std::fs::read_to_string(policies().join("schema.cedarschema"))
        .expect("the schema can be read");
    assert_eq!(text, SCHEMA);
}

#[test]
fn a_pack_loads_from_a_copy_with_the_schema_beside_it() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    for entry in std::fs::read_dir(policies().join("read-write")).expect("it can be listed") {
        let path = entry.expect("an entry can be read").path();
        let to = dir.path().join(path.file_name().expect("it has a name"));
        std::fs::copy(&path, to).expect("a file can be copied");
    }
    std::fs::write(dir.path().join("schema.cedarschema"), SCHEMA).expect("it can be written");
    assert_eq!(
        load(dir.path()).rules().len(),
        load(&policies().join("read-write")).rules().len()
    );
}

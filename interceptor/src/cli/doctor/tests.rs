//! What doctor says is to be done.

mod host;

use std::fs;
use std::path::PathBuf;

use super::{Check, Doctor, Found, lesser, upstream};
use crate::capture::Guard;
use crate::config;

fn mend(found: &Found) -> &str {
    match found {
        Found::Good { .. } => "",
        Found::Warning { mend, .. } | Found::Bad { mend, .. } => mend,
    }
}

#[test]
fn a_configuration_that_is_not_there_is_to_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    let doctor = |config: PathBuf| Doctor {
        config,
        json: false,
        prove: false,
        user: None,
        report: None,
        verify: None,
        key: None,
        attempt: None,
    };
    let shown = config.display().to_string();
    let said = doctor(config.clone()).mend();
    assert!(said.starts_with(&format!("write {shown}")), "{said}");
    fs::write(&config, "version: 2").unwrap();
    assert_eq!(doctor(config).mend(), "correct the file");
}

#[test]
fn a_name_that_leads_nowhere_is_to_be_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let text = "version: 1\ntargets: { shop: { addresses: ['db.internal:5432'], \
                postgres: { user: a, databases: [shop] } } }";
    fs::write(&file, text).unwrap();
    let config = config::load(&file).unwrap();
    let target = &config.targets["shop"];
    let unknown = crate::cli::upstream::Unknown {
        host: "db.internal".to_owned(),
        cause: "no such name".to_owned(),
    };
    let check = upstream::bad(target, &unknown.into());
    let said = mend(&check.found);
    assert!(said.contains("getent hosts db.internal"), "{said}");
    assert!(said.contains("targets.shop"), "{said}");
    let check = upstream::bad(target, &anyhow::anyhow!("dial 10.0.0.1:5432: refused"));
    assert!(mend(&check.found).contains("takes the credential"));
}

#[test]
fn a_servers_words_neither_act_on_a_terminal_nor_pass_for_a_result() {
    let check = Check::bad("target shop", "FATAL: \u{1b}[2J\u{9b}x\nok       y", "");
    let line = check.line();
    assert!(
        !line.chars().any(|c| c != '\n' && c.is_control()),
        "{line:?}"
    );
    let results = line.lines().filter(|line| !line.starts_with(' '));
    assert_eq!(results.count(), 1, "{line}");
}

#[test]
fn less_than_the_kernel_has_for_unix_sockets_is_told() {
    assert!(lesser("lsm", Guard::Lsm).is_none());
    assert!(lesser("none", Guard::None).is_none());
    let line = lesser("names", Guard::Lsm).unwrap().line();
    assert!(
        line.starts_with("warning  UNIX sockets: looked at by \"names\""),
        "{line}"
    );
}

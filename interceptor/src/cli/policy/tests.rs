//! Answers and exit codes of `policy check` and `policy test`.

use super::*;

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn answer(policy: &Policy) -> (u8, String) {
    let mut out = Vec::new();
    let code = policy.write(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

fn checked(path: &Path, json: bool) -> (u8, String) {
    let dir = path.to_owned();
    answer(&Policy::Check { dir, json })
}

fn tested(path: &Path, json: bool) -> (u8, String) {
    let dir = path.to_owned();
    answer(&Policy::Test { dir, json })
}

const GOOD: &str = "@id(\"all\") permit(principal is Agent, action, resource);";
const LEANING: &str =
    "permit(principal is Agent, action, resource) when { principal.executable.path == \"x\" };";

#[test]
fn check_tells_mistakes_and_warnings_and_their_code() {
    let rows = [
        (GOOD, 0, "1 rules, no mistakes\n"),
        (LEANING, 0, "warning: "),
        (
            "permit(principal is Agent, action, resource)",
            VIOLATION,
            "a.cedar:1: ",
        ),
        (
            "permit(;permit(",
            VIOLATION,
            "2 mistakes: this directory does not load",
        ),
    ];
    for (text, code, expected) in rows {
        let dir = dir(&[("a.cedar", text)]);
        let found = checked(dir.path(), false);
        assert_eq!(found.0, code, "{}", found.1);
        assert!(found.1.contains(expected), "{expected} in\n{}", found.1);
        let json: serde_json::Value = serde_json::from_str(&checked(dir.path(), true).1).unwrap();
        assert_eq!(json["ok"], code == 0);
    }
    assert_eq!(checked(Path::new("/does/not/exist"), false).0, FAILED);
}

const CASES: &str = "version: 1\nagent: claude\ntarget: crm\ndatabase: app\ncases:\n\
    - name: one\n  statement: SELECT 1\n  expect: permit\n";

#[test]
fn test_tells_failed_cases_and_its_code() {
    let refused = CASES.replace("permit", "refuse");
    let by_rule = format!("{CASES}  rule: other\n");
    let rows = [
        (GOOD, CASES, 0, "1 cases, 0 failed\n"),
        (
            GOOD,
            &refused,
            VIOLATION,
            "a.cases.yaml:6: FAILED: one: expected refuse; decided by all",
        ),
        (
            GOOD,
            &by_rule,
            VIOLATION,
            "a.cases.yaml:6: FAILED: one: expected permit; decided by all",
        ),
        ("permit(", CASES, FAILED, "a.cedar:1: "),
        (GOOD, "version: 1\ncases: []\n", FAILED, "holds no case"),
    ];
    for (policy, cases, code, expected) in rows {
        let dir = dir(&[("a.cedar", policy), ("a.cases.yaml", cases)]);
        let found = tested(dir.path(), false);
        assert_eq!(found.0, code, "{}", found.1);
        assert!(found.1.contains(expected), "{expected} in\n{}", found.1);
        let json: serde_json::Value = serde_json::from_str(&tested(dir.path(), true).1).unwrap();
        assert_eq!(json["ok"], code == 0);
    }
}

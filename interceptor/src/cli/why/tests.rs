//! What `why` answers, for a statement and for recorded requests.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    why: Why,
}

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/starter")
}

fn why(args: &[&str]) -> anyhow::Result<(u8, String)> {
    let starter = starter();
    let starter = starter.to_str().unwrap();
    let args = ["why", "--policies", starter]
        .into_iter()
        .chain(args.iter().copied());
    let mut out = Vec::new();
    let code = Cli::try_parse_from(args)?.why.write(&mut out)?;
    Ok((code, String::from_utf8(out)?))
}

fn statement(statement: &str, more: &[&str]) -> (u8, String) {
    let mut args = vec!["--agent", "claude", "--user", "1000", "--target", "crm"];
    args.extend(["--database", "app"].iter().chain(more));
    args.push(statement);
    why(&args).unwrap()
}

#[test]
fn a_statement_is_explained_by_the_rule_and_its_place() {
    let (code, text) = statement("DELETE FROM customers", &[]);
    assert_eq!(code, VIOLATION);
    for expected in [
        "refuse  Delete on Table::\"crm/app/public.customers\"",
        "forbid require-where  ",
        "require-where.cedar:3",
        "refused: DELETE on public.customers is not permitted",
        "hint: add a WHERE clause",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let (code, text) = statement("SELECT 1; SELECT * FROM customers", &[]);
    assert_eq!(code, 0);
    for expected in ["statement 2", "permit read  ", "\npermitted\n"] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn an_answer_in_json_holds_who_and_why() {
    let (code, text) = statement(
        "SELECT lo_import('x')",
        &["--json", "--executable", "/proc/self/exe"],
    );
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, VIOLATION);
    assert_eq!(answer["principal"]["user"]["uid"], 1000);
    let hash = answer["principal"]["process"]["executable"]["sha256"]
        .as_str()
        .unwrap();
    assert_eq!(hash.len(), 64);
    assert_eq!(answer["explanation"]["permitted"], false);
    assert_eq!(
        answer["explanation"]["refusal"]["rules"][0],
        "never-functions"
    );
}

#[test]
fn a_permit_with_limits_is_told_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let rule = "@id(\"few\")\n@max_rows(\"10\")\n@max_bytes(\"1KiB\")\npermit(principal is Agent, action, resource);";
    std::fs::write(dir.path().join("few.cedar"), rule).unwrap();
    let place = dir.path().to_str().unwrap();
    let told = |more: &[&str]| {
        let mut args = vec![
            "why",
            "--policies",
            place,
            "--agent",
            "claude",
            "--user",
            "1000",
        ];
        args.extend(["--target", "crm", "--database", "app", "SELECT 1"]);
        args.extend(more);
        let mut out = Vec::new();
        Cli::try_parse_from(args)
            .unwrap()
            .why
            .write(&mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = told(&[]);
    let end = "permitted\nlimit: 10 rows a request, by few\nlimit: 1024 bytes of rows a request, by few\n";
    assert!(text.ends_with(end), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&told(&["--json"])).unwrap();
    assert_eq!(answer["explanation"]["limits"]["max_rows"]["most"], 10);
}

#[test]
fn what_is_missing_or_unknown_is_said() {
    assert!(why(&["SELECT 1"]).is_err());
    let args = [
        "--agent",
        "a",
        "--target",
        "t",
        "--database",
        "d",
        "--user",
        "no such user",
        "SELECT 1",
    ];
    let error = why(&args).unwrap_err().to_string();
    assert_eq!(
        error,
        "user no such user is not known on this host: give its number"
    );
}

const PERMITTED: &str = r#"{"event":"request.permitted","request":"00000000-0000-7000-8000-000000000001",
"principal":{"agent":"claude","user":{"uid":1000,"gid":1000},"process":{"pid":7,"started":1,
"executable":{"path":"/usr/bin/psql","sha256":"00"},"argv":["psql"],"uid":1000},"ancestors":[],
"cgroup":{"id":1,"path":"/a","scope":"/a"},"privileged":false},"target":"crm","database":"app",
"phase":"execute","summary":"SELECT","fingerprint":"f","asks":[{"accesses":[{"action":"Select",
"resource":{"table":{"schema":"public","table":"customers"}}}],"context":{"hasWhere":true,
"hasLimit":false,"settings":[],"functions":[],"statements":1,"inTransaction":false}}],
"generation":1,"rules":["read"]}"#;

fn log(lines: &[String]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in lines {
        writeln!(file, "{}", line.replace('\n', "")).unwrap();
    }
    file
}

#[test]
fn recorded_requests_are_compared_with_what_the_rules_say() {
    let delete = PERMITTED
        .replace("\"Select\"", "\"Delete\"")
        .replace("000001", "000002");
    let refused = |refusal: &str| {
        let end = format!("\"refusal\":{{{refusal},\"message\":\"no\",\"hint\":null}}");
        let line = delete.replace("request.permitted", "request.refused");
        line.replace("\"rules\":[\"read\"]", &end)
    };
    let other = r#"{"event":"session.closed","reason":"client"}"#.to_owned();
    let rows = [
        (
            vec![PERMITTED.to_owned(), other.clone()],
            0,
            "SELECT: permitted by read",
        ),
        (
            vec![PERMITTED.replace("[\"read\"]", "[\"write\"]")],
            VIOLATION,
            "decide otherwise",
        ),
        (vec![delete.clone()], VIOLATION, "decide otherwise"),
        (
            vec![refused("\"kind\":\"not_permitted\",\"rules\":[]")],
            0,
            ": not_permitted\n",
        ),
        (
            vec![refused("\"kind\":\"forbidden\",\"rules\":[\"x\"]")],
            VIOLATION,
            "decide otherwise",
        ),
        (
            vec![refused("\"kind\":\"limit\",\"rules\":[]")],
            0,
            ": limit\n",
        ),
        (vec![other], 0, ""),
    ];
    for (lines, code, expected) in rows {
        let file = log(&lines);
        let found = why(&["--recorded", file.path().to_str().unwrap()]).unwrap();
        assert_eq!(found.0, code, "{lines:?}\n{}", found.1);
        assert!(found.1.contains(expected), "{expected} in\n{}", found.1);
    }
}

#[test]
fn one_request_is_found_among_the_recorded() {
    let second = PERMITTED
        .replace("000001", "000002")
        .replace("[\"read\"]", "[\"x\"]");
    let file = log(&[PERMITTED.to_owned(), second]);
    let of = |request: &str| {
        why(&[
            "--recorded",
            file.path().to_str().unwrap(),
            "--request",
            request,
        ])
    };
    assert_eq!(of("00000000-0000-7000-8000-000000000001").unwrap().0, 0);
    assert_eq!(
        of("00000000-0000-7000-8000-000000000002").unwrap().0,
        VIOLATION
    );
    let missing = of("00000000-0000-7000-8000-000000000003").unwrap_err();
    assert!(
        missing.to_string().contains("is not among the lines"),
        "{missing}"
    );
}

#[test]
fn a_line_that_cannot_be_read_is_an_error_with_its_place() {
    let cut = PERMITTED.replace("\"target\":\"crm\",", "");
    let file = log(&[PERMITTED.to_owned(), cut]);
    let error = why(&["--recorded", file.path().to_str().unwrap()]).unwrap_err();
    assert!(error.to_string().ends_with(":2"), "{error}");
}

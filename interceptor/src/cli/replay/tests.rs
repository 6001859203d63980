//! What a policy would change of a log that was written for it.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::policy::{Access, Action, Ask, Context, HttpFacts, KubeFacts, Resource, SshFacts};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    replay: Replay,
}

/// A line of the log, as it stands there, of a request with this action.
fn line(seq: u64, session: u32, action: &str, end: &str) -> String {
    let event = if end.contains("refusal") {
        "refused"
    } else {
        "permitted"
    };
    let text = format!(
        r#"{{"v":1,"seq":{seq},"time":"2026-11-27T10:00:0{seq}.000000Z","boot_ns":1,"prev":"","event":"request.{event}",
"request":"00000000-0000-7000-8000-00000000000{seq}","session":"0000000{session}-0000-7000-8000-000000000000",
"principal":{{"agent":"claude","user":{{"uid":1000,"gid":1000}},"process":{{"pid":7,"started":1,
"executable":{{"path":"/usr/bin/psql","sha256":"00"}},"argv":["psql"],"uid":1000}},"ancestors":[],
"cgroup":{{"id":1,"path":"/a","scope":"/a"}},"privileged":false}},"target":"crm","database":"app",
"phase":"execute","summary":"{action}","statement":"{action} of it","fingerprint":"f","asks":[{{"accesses":[{{"action":"{action}",
"resource":{{"table":{{"schema":"public","table":"customers"}}}}}}],"context":{{"hasWhere":true,
"hasLimit":false,"settings":[],"functions":[],"statements":1,"inTransaction":false}}}}],"generation":1,{end}}}"#
    );
    text.replace('\n', "")
}

fn replay(lines: &[String], policy: &str, more: &[&str]) -> (u8, String) {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("policy");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("rules.cedar"), policy).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(dir.path().join("audit-000000000001.jsonl"), text).unwrap();
    let (rules, log) = (
        rules.display().to_string(),
        dir.path().display().to_string(),
    );
    let args = ["replay", "--policy", &rules, "--dir", &log];
    let cli = Cli::try_parse_from(args.iter().chain(more)).unwrap();
    let mut out = Vec::new();
    let code = cli.replay.run(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

const READ: &str =
    r#"@id("read") permit (principal is Agent, action in Action::"Read", resource is Table);"#;
const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource is Table);"#;

fn asked() -> Vec<String> {
    let refusal = |kind: &str| {
        format!(r#""refusal":{{"kind":"{kind}","rules":[],"message":"no","hint":null}}"#)
    };
    vec![
        line(1, 1, "Select", r#""rules":["read"]"#),
        line(2, 1, "Delete", &refusal("not_permitted")),
        line(3, 2, "Delete", r#""rules":["all"]"#),
        line(4, 2, "Select", &refusal("limit")),
    ]
}

#[test]
fn what_a_policy_would_change_is_told_by_request_and_by_rule() {
    let (code, text) = replay(&asked(), READ, &[]);
    assert_eq!(code, VIOLATION);
    assert!(
        text.contains("Delete of it: permitted (by all) -> not_permitted"),
        "{text}"
    );
    assert!(
        text.contains("rule (no rule): 1 more refused, 0 more permitted"),
        "{text}"
    );
    assert!(
        text.contains("3 requests of 2 sessions judged: 1 would be refused, 0 would be permitted"),
        "{text}"
    );
    assert!(text.contains("1 left out"), "{text}");
    let (code, text) = replay(&asked(), ALL, &[]);
    assert_eq!(code, VIOLATION);
    assert!(
        text.contains("Delete of it: not_permitted -> permitted (by all)"),
        "{text}"
    );
    assert!(
        text.contains("rule all: 0 more refused, 1 more permitted"),
        "{text}"
    );
}

#[test]
fn a_policy_that_says_the_same_changes_nothing() {
    let (code, text) = replay(&asked()[..2], READ, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.starts_with("2 requests of 1 session judged: 0 would"),
        "{text}"
    );
}

#[test]
fn sessions_are_picked_by_how_their_id_begins_and_json_has_the_sums_last() {
    let (code, text) = replay(&asked(), READ, &["00000001", "--json"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = replay(&asked(), READ, &["00000002", "--json"]);
    assert_eq!(code, VIOLATION);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["was"], &lines[0]["would"]),
        (&"permitted".into(), &"not_permitted".into())
    );
    assert_eq!(lines[0]["was_by"], serde_json::json!(["all"]));
    assert_eq!(lines[1]["sums"]["rules"]["(no rule)"]["refused"], 1);
    assert_eq!(lines[1]["sums"]["undecided"], 1);
}

#[test]
fn what_people_permitted_and_would_be_asked_again_is_no_change() {
    const ASK: &str =
        r#"@id("ask") @approve("dba") permit (principal is Agent, action, resource is Table);"#;
    let approved = line(
        1,
        1,
        "Delete",
        r#""approval":"00000000-0000-7000-8000-000000000009","rules":["ask"]"#,
    );
    let plain = line(2, 1, "Delete", r#""rules":["all"]"#);
    let (code, text) = replay(std::slice::from_ref(&approved), ASK, &[]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = replay(&[approved, plain], ASK, &[]);
    assert_eq!(code, VIOLATION);
    assert!(
        text.contains("permitted (by all) -> needs_approval"),
        "{text}"
    );
}

/// A line of a target without databases, as the log has it.
fn plain(
    seq: u64,
    protocol: &str,
    (action, resource): (Action, Resource),
    context: Context,
) -> Value {
    let ask = Ask {
        accesses: [Access { action, resource }].into(),
        context,
    };
    let mut line: Value = serde_json::from_str(&line(seq, 1, "x", r#""rules":["all"]"#)).unwrap();
    let fields = line.as_object_mut().unwrap();
    fields.remove("database");
    fields.remove("statement");
    fields.insert("protocol".to_owned(), protocol.into());
    fields.insert("summary".to_owned(), protocol.into());
    fields.insert("asks".to_owned(), json!([ask]));
    line
}

fn command(seq: u64, program: &str) -> Value {
    let facts = SshFacts {
        user: "deploy".to_owned(),
        is_simple: true,
        program: program.to_owned(),
        ..SshFacts::default()
    };
    let context = Context {
        ssh: Some(Box::new(facts)),
        ..Context::default()
    };
    plain(seq, "ssh", (Action::Exec, Resource::Target), context)
}

#[test]
fn requests_of_targets_without_databases_are_judged_like_others() {
    let path = Resource::Path {
        path: "/v1/orders".to_owned(),
    };
    let http = Context {
        http: Some(Box::new(HttpFacts::default())),
        ..Context::default()
    };
    let namespace = Resource::KubeNamespace {
        namespace: "shop".to_owned(),
    };
    let cluster = Context {
        kubernetes: Some(Box::new(KubeFacts::default())),
        ..Context::default()
    };
    let mut lines = vec![
        command(1, "ls").to_string(),
        plain(2, "http", (Action::HttpGet, path), http).to_string(),
        plain(3, "kubernetes", (Action::KubeList, namespace), cluster).to_string(),
        line(4, 2, "Delete", r#""rules":["all"]"#),
    ];
    let every = r#"@id("all") permit (principal is Agent, action, resource);"#;
    let (code, text) = replay(&lines, every, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.starts_with("4 requests of 2 sessions judged: 0 would"),
        "{text}"
    );
    let (code, text) = replay(&lines, ALL, &[]);
    assert_eq!(code, VIOLATION, "{text}");
    assert!(
        text.contains("4 requests of 2 sessions judged: 3 would be refused"),
        "{text}"
    );
    // What is behind them is judged, too.
    lines.rotate_left(3);
    assert_eq!(replay(&lines, ALL, &[]).0, VIOLATION);
}

#[test]
fn a_command_is_judged_with_its_arguments_where_the_log_has_them() {
    let alone = r#"@id("alone") permit (principal is Agent, action == Action::"Exec", resource is Target)
        when { context.arguments.isEmpty() };"#;
    let mut whole = command(1, "hostname");
    whole["statement"] = "hostname other".into();
    whole["fingerprint"] = hex::encode(digest(&SHA256, b"hostname other")).into();
    let (code, text) = replay(&[whole.to_string()], alone, &[]);
    assert_eq!(code, VIOLATION, "{text}");
    assert!(
        text.contains("permitted (by all) -> not_permitted"),
        "{text}"
    );
    assert!(!text.contains("without arguments"), "{text}");
    let mut redacted = whole.clone();
    redacted["statement"] = "hostname (1 arguments)".into();
    let (_, text) = replay(&[redacted.to_string()], alone, &[]);
    assert!(
        text.contains("1 command was judged without arguments"),
        "{text}"
    );
}

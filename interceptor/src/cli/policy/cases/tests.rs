//! Cases that are not whole are refused with their line.

use super::*;
use crate::policy::Generation;

fn load_text(text: &str) -> Result<Vec<Case>, Mistakes> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.cases.yaml"), text).unwrap();
    load(dir.path())
}

#[test]
fn a_case_that_is_not_whole_is_refused_with_its_line() {
    let head = "version: 1\nagent: a\ntarget: t\ndatabase: d\ncases:\n";
    let rows = [
        ("cases: []\n".to_owned(), "version"),
        (
            "version: 2\ncases: []\n".to_owned(),
            "`version: 1` expected",
        ),
        (
            format!("{head}- name: x\n  expect: permit\n"),
            ":6: case `x` takes one of",
        ),
        (
            format!("{head}- name: x\n  statement: s\n  asks: []\n  expect: permit\n"),
            ":6: case `x` takes one of",
        ),
        (
            format!("{head}- name: x\n  statement: s\n  expect: permitted\n"),
            ":8: ",
        ),
        (
            format!("{head}- name: x\n  statment: s\n  expect: permit\n"),
            ":7: ",
        ),
        (
            format!(
                "{head}- name: x\n  asks: [{{accesses: [{{action: Selct, resource: target}}]}}]\n  expect: permit\n"
            ),
            ":7: ",
        ),
        (
            format!(
                "{head}- name: x\n  asks: [{{accesses: [], context: {{where: true}}}}]\n  expect: permit\n"
            ),
            ":7: ",
        ),
        (
            format!("{head}- name: x\n  resolve: {{qname: Example.com}}\n  expect: permit\n"),
            ":6: `qname` of case `x` is no name of DNS",
        ),
        (
            format!("{head}- name: x\n  resolve: {{qname: a, qtypes: A}}\n  expect: permit\n"),
            ":7: ",
        ),
        (
            format!("{head}- name: x\n  resolve: {{qname: a}}\n  verb: Run\n  expect: permit\n"),
            ":6: case `x` takes one of",
        ),
        (
            format!("{head}- name: x\n  verb: Fly\n  expect: permit\n"),
            ":6: verb `Fly` is not known",
        ),
        (
            "version: 1\nagent: a\ncases:\n- name: x\n  statement: s\n  expect: permit\n"
                .to_owned(),
            ":4: case `x` has no `target`",
        ),
        (
            "version: 1\ncases:\n- name: x\n  verb: Run\n  expect: permit\n".to_owned(),
            ":3: case `x` has no `agent`",
        ),
    ];
    for (text, expected) in rows {
        let found = load_text(&text).unwrap_err().to_string();
        assert!(
            found.contains(expected),
            "{expected} in\n{found}\nfor\n{text}"
        );
    }
}

#[test]
fn what_a_case_says_of_the_process_is_what_rules_see() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "permit(principal is Agent, action, resource) when {\n\
        principal.name == \"a\" && principal.user.uid == 7 && principal.privileged &&\n\
        principal.executable.path == \"/x\" && principal.executable.sha256 == \"00\" &&\n\
        principal.ancestorPaths.contains(\"/y\") && principal.cgroup == \"/s/c\" &&\n\
        principal.scope == \"/s\" && principal has container && principal.container == \"k\" &&\n\
        principal has workload && principal.workload has serviceAccount && principal.workload.serviceAccount == \"sa\" };\n\
        permit(principal in Group::\"27\", action == Action::\"Run\", resource in Agent::\"a\")\n\
        when { principal.groups.contains(\"g\") };";
    fs::write(dir.path().join("a.cedar"), rules).unwrap();
    let policy = Policy::load(dir.path(), Generation(0)).unwrap();
    let text = "version: 1\ncases:\n\
        - {name: process, agent: a, user: {uid: 7, gid: 7}, executable: {path: /x, sha256: \"00\"},\n   \
           ancestors: [{path: /y}], cgroup: /s/c, scope: /s, container: k, workload: {runtime: podman, service_account: sa}, privileged: true,\n   \
           target: t, database: d, asks: [{accesses: [{action: Select, resource: database}]}],\n   \
           expect: permit}\n\
        - {name: caller, agent: a, verb: Run, expect: permit,\n   \
           user: {uid: 7, gid: 7, groups: [{gid: 27, name: g}]}}\n\
        - {name: other, agent: b, verb: Run, expect: refuse,\n   \
           user: {uid: 7, gid: 7, groups: [{gid: 27, name: g}]}}\n";
    let read = |_: &str| anyhow::bail!("no statement is expected");
    for case in load_text(text).unwrap() {
        let outcome = case.run(&policy, &read);
        assert!(outcome.ok, "{outcome}");
    }
}

#[test]
fn a_statement_that_cannot_be_turned_into_asks_fails_its_case() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("a.cedar"),
        "forbid(principal is Agent, action, resource);",
    )
    .unwrap();
    let policy = Policy::load(dir.path(), Generation(0)).unwrap();
    let text = "version: 1\nagent: a\ntarget: t\ndatabase: d\ncases:\n\
        - {name: x, statement: SELECT 1, expect: refuse}\n";
    let read = |_: &str| anyhow::bail!("not today");
    let outcome = load_text(text).unwrap()[0].run(&policy, &read);
    assert!(!outcome.ok);
    assert!(outcome.to_string().ends_with("not today"), "{outcome}");
}

#[test]
fn a_case_states_whom_the_scope_is_bound_to() {
    let rule = "@id(\"dba\") permit(principal is Agent, action, resource is Table) \
                when { principal has identity && principal.identity.groups.contains(\"dba\") };";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("test.cedar"), rule).unwrap();
    let policy = Policy::load(dir.path(), Generation(1)).unwrap();
    let case = "- name: x\n  asks: [{accesses: [{action: Select, resource: {table: {schema: s, table: t}}}]}]\n";
    let text = format!(
        "version: 1\nagent: a\ntarget: t\ndatabase: d\ncases:\n\
         {case}  identity: {{ issuer: i, subject: s, groups: [dba] }}\n  expect: permit\n  rule: dba\n\
         {case}  identity: {{ issuer: i, subject: s, groups: [staff] }}\n  expect: refuse\n\
         {case}  expect: refuse\n"
    );
    for case in load_text(&text).unwrap() {
        let outcome = case.run(&policy, &|_| Ok(Vec::new()));
        assert!(outcome.ok, "{outcome}");
    }
    let wrong = text.replace("subject: s, groups: [dba]", "subject: s, group: dba");
    let mistakes = load_text(&wrong).unwrap_err().to_string();
    assert!(mistakes.contains("group"), "{mistakes}");
}

#[test]
fn a_case_tells_whose_word_it_takes_from_what_is_never_permitted_and_who_may_give_it() {
    let rules = "@id(\"people\") @approve(\"dba\") \
        permit(principal is Agent, action == Action::\"Delete\", resource);\n\
        @id(\"while\") @grant(\"1h\") permit(principal is Agent, action == Action::\"Update\", resource)\n\
        when { principal has identity && principal.identity.groups.contains(\"dba\") };\n\
        @id(\"staff\") permit(principal is Person, action == Action::\"Approve\", resource in Agent::\"a\")\n\
        when { principal.groups.contains(\"idp:dba\") && principal.amr.contains(\"hwk\") };\n\
        @id(\"host\") permit(principal is User, action == Action::\"Approve\", resource in Agent::\"a\")\n\
        when { principal.groups.contains(\"dba\") };";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("test.cedar"), rules).unwrap();
    let policy = Policy::load(dir.path(), Generation(1)).unwrap();
    let asks =
        |action: &str| format!("asks: [{{accesses: [{{action: {action}, resource: database}}]}}]");
    let (delete, update, insert) = (asks("Delete"), asks("Update"), asks("Insert"));
    let jane = "identity: {issuer: i, subject: s, groups: [dba], amr: [hwk]}";
    let weak = "identity: {issuer: i, subject: s, groups: [dba], amr: [pwd]}";
    let dba = "user: {uid: 7, gid: 7, groups: [{gid: 27, name: dba}]}";
    let rows = [
        (format!("{delete}, expect: approve, rule: people"), true),
        (format!("{delete}, expect: refuse"), true),
        (format!("{delete}, expect: grant"), false),
        (format!("{delete}, expect: permit"), false),
        (format!("{update}, {jane}, expect: grant"), true),
        (format!("{update}, {jane}, expect: approve"), false),
        (format!("{update}, expect: refuse"), true),
        (format!("{update}, expect: grant"), false),
        (format!("{insert}, expect: approve"), false),
        (
            format!("verb: Approve, {jane}, login: idp, expect: permit, rule: staff"),
            true,
        ),
        (
            format!("verb: Approve, {jane}, login: other, expect: refuse"),
            true,
        ),
        (
            format!("verb: Approve, {weak}, login: idp, expect: refuse"),
            true,
        ),
        (format!("verb: Approve, {jane}, expect: refuse"), true),
        (
            format!("verb: Approve, {dba}, expect: permit, rule: host"),
            true,
        ),
        (format!("verb: Kill, {dba}, expect: approve"), false),
    ];
    for (case, ok) in rows {
        let text = format!(
            "version: 1\nagent: a\ntarget: t\ndatabase: d\ncases:\n- {{name: x, {case}}}\n"
        );
        let outcome = load_text(&text).unwrap()[0].run(&policy, &|_| Ok(Vec::new()));
        assert_eq!(outcome.ok, ok, "{case}: {outcome}");
    }
    for wrong in [
        "verb: Approve, login: idp, expect: permit",
        "statement: s, identity: {issuer: i, subject: s}, login: idp, expect: permit",
    ] {
        let text = format!(
            "version: 1\nagent: a\ntarget: t\ndatabase: d\ncases:\n- {{name: x, {wrong}}}\n"
        );
        let mistakes = load_text(&text).unwrap_err().to_string();
        assert!(mistakes.contains("`login` of case `x`"), "{mistakes}");
    }
}

//! Loading: every mistake with its place, and slices that decide as the whole does.

use std::fs;

use cedar_policy::{Authorizer, Entities, Request};

use super::*;
use crate::policy::subject::{Subject, chain_entities};
use crate::policy::tests::{agent, load_text};
use crate::policy::vocabulary::{self, Kind};
use crate::policy::{Action, Resource};

/// Loads one file and gives its mistakes as `line: text`.
fn mistakes(text: &str) -> Vec<String> {
    match load_text(text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => lines(&mistakes.0),
    }
}

fn warnings(text: &str) -> Vec<String> {
    lines(load_text(text).unwrap().warnings())
}

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    mistakes
        .iter()
        .map(|mistake| format!("{}: {}", mistake.line.unwrap_or(0), mistake.text))
        .collect()
}

/// Each text has a mistake that begins so.
fn check<const N: usize>(rows: [(&str, &str); N]) {
    for (text, expected) in rows {
        let found = mistakes(text);
        assert!(
            found.iter().any(|mistake| mistake.starts_with(expected)),
            "{text}\n{found:#?}"
        );
    }
}

#[test]
fn what_cedar_refuses_is_told_with_its_line() {
    check([
        ("permit(principal, action resource);", "1: unexpected token"),
        (
            "\n\npermit (principal is Agent, action, resource) when { 1 + };",
            "3: unexpected",
        ),
        (
            "permit(principal == ?principal, action == Action::\"Select\", resource);",
            "1: ",
        ),
        (
            "permit(principal is Agent, action == Action::\"Selct\", resource);",
            "1: ",
        ),
        (
            "permit(principal is Agent, action, resource)\nwhen { principal.nam == \"x\" };",
            "2: ",
        ),
        (
            "permit(principal is Agent, action, resource)\nwhen { principal.container == \"x\" };",
            "2: ",
        ),
        (
            "permit(principal is Agent, action, resource is Tabel);",
            "1: ",
        ),
        (
            "permit(principal is Agent, action, resource)\nwhen { context.hasWhere == \"yes\" };",
            "2: ",
        ),
        (
            "permit(principal is Agent, action == Action::\"Connect\", resource is Table);",
            "1: ",
        ),
        (
            "forbid(principal is Agent, action == Action::\"Read\", resource);",
            "1: ",
        ),
        (
            "forbid(principal is Agent, action, resource) when { false };",
            "1: ",
        ),
    ]);
}

#[test]
fn an_approval_that_asks_nobody_is_told_with_its_line() {
    let permit = "permit(principal is Agent, action == Action::\"Delete\", resource);";
    for (annotations, rule, expected) in [
        ("@approve(\"\")", permit, "@approve takes groups"),
        ("@approve(\"a b\")", permit, "@approve takes groups"),
        ("@approve(\"dba,\")", permit, "@approve takes groups"),
        (
            "@approve(\"dba\")",
            "forbid(principal, action, resource);",
            "@approve on a forbid",
        ),
        (
            "@approve(\"dba\")",
            "permit(principal, action == Action::\"Delete\", resource);",
            "@approve is for agents",
        ),
        (
            "@approve(\"dba\")",
            "permit(principal is Agent, action == Action::\"Open\", resource);",
            "@approve holds requests of an open session",
        ),
        (
            "@approvers(\"2\")",
            permit,
            "@approvers belongs to an @approve",
        ),
        (
            "@approve(\"dba\") @approvers(\"0\")",
            permit,
            "@approvers takes how many",
        ),
        (
            "@approve(\"dba\") @escalate(\"ops\")",
            permit,
            "@escalate takes an @escalate_after",
        ),
        (
            "@approve(\"dba\") @escalate(\"ops\") @escalate_after(\"soon\")",
            permit,
            "@escalate_after takes after how long",
        ),
        (
            "@approve(\"dba\") @shape(\"25h\")",
            permit,
            "@shape takes for how long",
        ),
    ] {
        let found = mistakes(&format!("{annotations}\n{rule}"));
        assert!(
            found.iter().any(|mistake| mistake.contains(expected)),
            "{annotations}: {found:#?}"
        );
    }
    let good = "@approve(\"dba, ops\") @approvers(\"2\") @escalate(\"cto\") @escalate_after(\"2m\") @shape(\"10m\")";
    assert!(load_text(&format!("{good}\n{permit}")).is_ok());
    let before = "@grant(\"1h\") @approve(\"dba\")";
    let open = "permit(principal is Agent, action == Action::\"Open\", resource);";
    assert!(load_text(&format!("{before}\n{open}")).is_ok());
}

#[test]
fn what_only_this_program_refuses_is_told_with_its_line() {
    check([
        (
            "// x\n@name(\"x\")\npermit(principal is Agent, action, resource);",
            "2: @name is not known",
        ),
        (
            "@mask(\"hash\")\npermit(principal is Agent, action, resource);",
            "1: @mask is an obligation",
        ),
        (
            "@id(\"a b\")\npermit(principal is Agent, action, resource);",
            "1: @id takes",
        ),
        (
            "@id\npermit(principal is Agent, action, resource);",
            "1: @id takes",
        ),
        (
            "@hint(\"\")\nforbid(principal is Agent, action, resource);",
            "1: @hint takes",
        ),
        (
            "@hint(\"a\\nb\")\nforbid(principal is Agent, action, resource);",
            "1: @hint takes",
        ),
        (
            "@mandatory(\"no\")\nforbid(principal is Agent, action, resource);",
            "1: @mandatory takes no value",
        ),
        (
            "permit(principal, action, resource);",
            "1: permits Run, Tag",
        ),
        (
            "forbid(principal is Agent, action, resource == Table::\"customers\");",
            "1: Table::\"customers\" names nothing",
        ),
        (
            "forbid(principal is Agent, action, resource)\nwhen { resource in Schema::\"crm.app\" };",
            "2: Schema::\"crm.app\" names nothing",
        ),
        (
            "forbid(principal in User::\"alice\", action, resource);",
            "1: User::\"alice\" names nothing",
        ),
        (
            "permit(principal in Group::\"027\", action == Action::\"Run\", resource);",
            "1: Group::\"027\" names nothing",
        ),
    ]);
}

#[test]
fn a_limit_that_is_none_is_told_with_its_line() {
    check([
        (
            "// x\n@max_rows(\"many\")\npermit(principal is Agent, action, resource);",
            "2: @max_rows takes a number of at least 1",
        ),
        (
            "@id(\"a\")\n@max_session_rows(\"0\")\npermit(principal is Agent, action, resource);",
            "2: @max_session_rows takes a number of at least 1",
        ),
        (
            "@max_bytes\npermit(principal is Agent, action, resource);",
            "1: @max_bytes takes a size of at least 1",
        ),
        (
            "@max_session_bytes(\"1 MiB\")\npermit(principal is Agent, action, resource);",
            "1: @max_session_bytes takes a size",
        ),
        (
            "@max_rows(\"9\")\nforbid(principal is Agent, action, resource);",
            "1: @max_rows on a forbid limits nothing",
        ),
        (
            "@max_rows(\"9\")\npermit(principal is Agent, action == Action::\"Open\", resource);",
            "1: @max_rows limits nothing here",
        ),
    ]);
}

#[test]
fn all_mistakes_of_a_directory_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "a.cedar",
        "@id(\"one\")\npermit(principal is Agent, action, resource);\n\n\
         permit(principal is Agent, acton, resource);\n\
         @shadow\nforbid(principal is Agent, action, resource)\nwhen { context.nothing };\n",
    );
    write("b.cedar", &format!("\n{};", "(".repeat(101)));
    write(
        "c.cedar",
        "\n\n@id(\"one\")\nforbid(principal is Agent, action, resource);",
    );
    let found = Policy::load(dir.path(), Generation(1))
        .unwrap_err()
        .to_string();
    let place = dir.path().display();
    for expected in [
        format!("{place}/a.cedar:4: "),
        format!("{place}/a.cedar:5: @shadow is an obligation"),
        format!("{place}/a.cedar:7: "),
        format!("{place}/b.cedar:2: brackets nest deeper than 100"),
        format!("{place}/c.cedar:3: @id(\"one\") is taken by {place}/a.cedar:1"),
    ] {
        assert!(found.contains(&expected), "{expected} in\n{found}");
    }
}

#[test]
fn what_is_let_through_does_not_exhaust_the_stack() {
    let condition = |text: &str| {
        format!(
            "permit(principal is Agent, action in Action::\"Read\", resource) when {{ {text} }};"
        )
    };
    let deep = format!("{}true{}", "(".repeat(99), ")".repeat(99));
    let chain = format!("true{}", " && context.hasWhere".repeat(320));
    let choice = format!("{}true", "if context.hasWhere then true else ".repeat(450));
    let sums = format!("1{} == 1", " + 1".repeat(990));
    let names: Vec<_> = (0..20_000).map(|number| format!("\"f{number}\"")).collect();
    let wide = format!("context.functions.containsAny([{}])", names.join(","));
    for text in [deep, chain, choice, sums, wide] {
        let policy = load_text(&condition(&text));
        assert!(policy.is_ok(), "{text:.60}: {}", policy.unwrap_err());
    }
}

#[test]
fn a_rule_without_a_name_is_named_by_its_place() {
    let policy = load_text("\npermit(principal is Agent, action, resource);").unwrap();
    let rules = policy.rules();
    assert!(rules[0].id.0.ends_with("test.cedar:2"), "{rules:?}");
    assert_eq!(rules[0].line, 2);
}

#[test]
fn rules_that_lean_on_the_executable_are_warned_of() {
    let rows = [
        ("principal.executable.path == \"/usr/bin/psql\"", true),
        ("principal[\"executable\"].sha256 == \"00\"", true),
        ("principal.ancestorPaths.contains(\"/bin/sh\")", true),
        ("principal.name == \"executable\"", false),
        ("principal.user.uid == 1000", false),
    ];
    for (condition, expected) in rows {
        let text = format!("permit(principal is Agent, action, resource)\nwhen {{ {condition} }};");
        let found = warnings(&text);
        let warned = found
            .iter()
            .any(|warning| warning.contains("attribution is not a boundary"));
        assert_eq!(warned, expected, "{condition}: {found:?}");
    }
}

#[test]
fn unread_text_beside_rules_that_need_reading_is_warned_of() {
    let all = "@id(\"all\") permit(principal is Agent, action, resource);\n";
    let rows = [
        (all, "", false),
        (
            all,
            "forbid(principal is Agent, action, resource == Table::\"a/b/c.d\");",
            true,
        ),
        (
            all,
            "forbid(principal is Agent, action == Action::\"Delete\", resource);",
            true,
        ),
        (
            all,
            "forbid(principal is Agent, action == Action::\"Unreadable\", resource);\n\
               forbid(principal is Agent, action == Action::\"Delete\", resource);",
            false,
        ),
        (
            "permit(principal is Agent, action == Action::\"Select\", resource);",
            "forbid(principal is Agent, action == Action::\"Delete\", resource);",
            false,
        ),
    ];
    for (permit, forbid, expected) in rows {
        let found = warnings(&format!("{permit}\n{forbid}"));
        let warned = found
            .iter()
            .any(|warning| warning.contains("permits Unreadable"));
        assert_eq!(warned, expected, "{permit} {forbid}: {found:?}");
    }
}

#[test]
fn a_shape_of_what_has_none_is_warned_of() {
    for (action, expected) in [("Exec", true), ("Delete", false)] {
        let rule = format!(
            "@approve(\"dba\") @shape(\"10m\")\npermit(principal is Agent, action == Action::\"{action}\", resource);"
        );
        let found = warnings(&rule);
        let warned = found.iter().any(|warning| warning.contains("@shape"));
        assert_eq!(warned, expected, "{action}: {found:?}");
    }
}

#[test]
fn a_hint_that_nobody_sees_is_warned_of() {
    let found = warnings("@hint(\"x\")\npermit(principal is Agent, action, resource);");
    assert!(found[0].starts_with("1: @hint on a permit"), "{found:?}");
}

#[test]
fn a_word_that_older_policies_have_is_taken_and_warned_of() {
    let rule = "@id(\"a\") @grant(\"1h\") @grant_tree\n\
                permit(principal is Agent, action in Action::\"Read\", resource in Target::\"crm\");";
    let found = warnings(rule);
    let told = "@grant_tree does nothing any more";
    assert!(found.iter().any(|one| one.contains(told)), "{found:?}");
}

/// Scopes of every form, so that each way of leaving a rule out is tried.
const SCOPES: &str = r#"
@id("a") permit(principal is Agent, action in Action::"Read", resource);
@id("b") permit(principal == Agent::"claude", action, resource in Target::"crm");
@id("c") forbid(principal == Agent::"other", action, resource);
@id("d") forbid(principal in User::"1000", action == Action::"Delete", resource is Table);
@id("e") forbid(principal in User::"7", action, resource);
@id("f") permit(principal, action in [Action::"Insert", Action::"Session"], resource in Database::"crm/app");
@id("g") forbid(principal is Agent, action, resource == Table::"crm/app/public.secret");
@id("h") forbid(principal is Agent in User::"1000", action in Action::"Write", resource is Table in Schema::"erp/app/public");
@id("i") permit(principal is Agent, action == Action::"Call", resource == Function::"erp/app/public.f");
@id("j") forbid(principal == User::"1000", action in Action::"Control", resource);
@id("k") permit(principal is User, action, resource);
@id("l") permit(principal, action == Action::"Reload", resource == Host::"localhost");
"#;

#[test]
fn a_slice_decides_as_the_whole_set_does() {
    let policy = load_text(SCOPES).unwrap();
    let mut decided = 0;
    for (name, target) in [
        ("claude", "crm"),
        ("claude", "erp"),
        ("other", "crm"),
        ("third", "x"),
    ] {
        let principal = Arc::new(agent(name));
        let subject = Subject::new(&principal, target, "app").unwrap();
        for action in Action::ALL {
            for resource in resources() {
                decided += compare(&policy, &subject, action, &resource);
            }
        }
    }
    assert!(
        decided > 50,
        "only {decided} questions had an answer that a rule gave"
    );
}

fn resources() -> Vec<Resource> {
    let (schema, table, function) = ("public".to_owned(), "secret".to_owned(), "f".to_owned());
    let column = "c".to_owned();
    vec![
        Resource::Target,
        Resource::Database,
        Resource::Schema {
            schema: schema.clone(),
        },
        Resource::Table {
            schema: schema.clone(),
            table: "open".to_owned(),
        },
        Resource::Table {
            schema: schema.clone(),
            table: table.clone(),
        },
        Resource::Column {
            schema: schema.clone(),
            table,
            column,
        },
        Resource::Function { schema, function },
        Resource::Path {
            path: "/v1/secret".to_owned(),
        },
    ]
}

/// Asks the slice and the whole; 1 where any rule decided.
fn compare(policy: &Policy, subject: &Subject, action: Action, resource: &Resource) -> usize {
    let slice = policy.slices.of(&subject.principal.agent, &subject.target);
    let sliced = policy
        .slices
        .rules(&slice, action, Kind::of(resource))
        .unwrap();
    let mut entities = vocabulary::ACTIONS.clone();
    entities.push(subject.principal.entity.clone());
    entities.extend(chain_entities(&subject.target, &subject.database, resource).unwrap());
    let entities = Entities::from_entities(entities, None).unwrap();
    let request = Request::new(
        subject.principal.uid.clone(),
        vocabulary::uid(Kind::Action, action.name()),
        subject.resource(resource),
        crate::policy::decide::context(&crate::policy::Context::default()).unwrap(),
        None,
    )
    .unwrap();
    let answers = [sliced, &policy.control_rules].map(|rules| {
        let response = Authorizer::new().is_authorized(&request, rules, &entities);
        let mut rules: Vec<_> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        rules.sort();
        (response.decision(), rules)
    });
    assert_eq!(
        answers[0], answers[1],
        "{} {action:?} {resource:?}",
        subject.principal.agent
    );
    usize::from(!answers[0].1.is_empty())
}

#[test]
fn a_permit_that_reveals_by_naming_no_action_is_warned_of() {
    let rows = [
        ("permit(principal is Agent, action, resource);", true),
        (
            "permit(principal is Agent, action, resource is Column);",
            true,
        ),
        (
            "permit(principal is Agent, action, resource in Table::\"crm/app/public.a\");",
            true,
        ),
        (
            "permit(principal is Agent, action, resource is Function);",
            false,
        ),
        (
            "permit(principal is Agent, action == Action::\"Reveal\", resource);",
            false,
        ),
        (
            "permit(principal is Agent, action in Action::\"Read\", resource);",
            false,
        ),
        (
            "permit(principal is Agent, action, resource) unless { action == Action::\"Reveal\" };",
            false,
        ),
        ("forbid(principal is Agent, action, resource);", false),
    ];
    for (rule, warned) in rows {
        let policy = load_text(rule).unwrap();
        let warnings = policy.warnings().iter();
        let found = warnings
            .filter(|one| one.text.contains("permits Reveal"))
            .count();
        assert_eq!(found, usize::from(warned), "{rule}");
    }
}

#[test]
fn rules_that_lean_on_an_identity_of_any_issuer_are_warned_of() {
    let issuer = r#"principal.identity.issuer == "https://id.example""#;
    let group = r#"principal.identity.groups.contains("dba")"#;
    let tag = r#"principal.hasTag("team") && principal.getTag("team") == "dba""#;
    let rows = [
        (
            "permit",
            format!("when {{ principal has identity && {group} }}"),
            true,
        ),
        (
            "permit",
            format!("when {{ principal has identity && {issuer} && {group} }}"),
            false,
        ),
        // The issuer may stand in a condition of its own.
        (
            "permit",
            format!("when {{ principal has identity && {issuer} }} when {{ {group} }}"),
            false,
        ),
        ("permit", format!("when {{ {tag} }}"), true),
        (
            "permit",
            "when { principal has identity }".to_owned(),
            false,
        ),
        // What forbids by a group is too much at worst, but for whom it makes an exception.
        (
            "forbid",
            format!("when {{ principal has identity && {group} }}"),
            false,
        ),
        (
            "forbid",
            format!("unless {{ principal has identity && {group} }}"),
            true,
        ),
    ];
    for (effect, condition, expected) in rows {
        let rule = format!(
            "{effect}(principal is Agent, action == Action::\"Select\", resource)\n{condition};"
        );
        let warned = warnings(&rule)
            .iter()
            .any(|warning| warning.contains("without the issuer"));
        assert_eq!(warned, expected, "{rule}");
    }
}

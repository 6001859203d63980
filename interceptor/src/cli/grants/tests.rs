//! The command of a refusal's hint asks for what was refused.

use std::process::Command;
use std::sync::Arc;

use clap::Parser;

use super::*;
use crate::policy::{Access, Ask, Context, Generation, NoGrants, Policy, PrincipalFacts};

#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    request: Request,
}

/// The words that a shell makes of a command.
fn words(command: &str) -> Vec<String> {
    let print = format!("set -- {command}; printf '%s\\n' \"$@\"");
    let told = Command::new("sh").args(["-c", &print]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.lines().map(str::to_owned).collect()
}

/// What a hint's command asks for.
fn asked_by(hint: &str) -> (BTreeSet<Action>, Resource) {
    let (command, _) = hint.split_once("\nor send the form: ").unwrap();
    let command = command
        .strip_prefix("ask for one: interceptor request ")
        .unwrap();
    let words = std::iter::once("request".to_owned()).chain(words(command));
    let Request {
        actions,
        on,
        database,
        ..
    } = Alone::try_parse_from(words).unwrap().request;
    let actions = actions.iter().flat_map(|word| named(word).unwrap());
    (actions.collect(), on.resource(database.is_some()).unwrap())
}

#[test]
fn the_command_of_every_hint_asks_for_what_was_refused() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"@grant("90m") permit (principal is Agent, action, resource in Target::"prod");"#;
    std::fs::write(directory.path().join("rules.cedar"), rules).unwrap();
    let policy = Policy::load(directory.path(), Generation(1)).unwrap();
    let principal = crate::grants::a_principal();
    let facts = Arc::new(PrincipalFacts::new(&principal).unwrap());
    let long = format!("/v1/{}", "x".repeat(200));
    for (action, database, kind, name) in [
        (Action::Connect, "", "", ""),
        (Action::Open, "app", "", ""),
        (Action::Ddl, "app", "schema", "public"),
        (
            Action::Select,
            "app",
            "table",
            "public.\"it's \"\"mine\"\"\"",
        ),
        (Action::Reveal, "app", "column", "public.customers.email"),
        (Action::Call, "app", "function", "public.report"),
        (Action::HttpGet, "", "path", long.as_str()),
        (Action::HttpPut, "", "path", "/a b/$HOME/*"),
        (Action::Shell, "", "", ""),
        (Action::ReadFile, "", "file", "/etc/motd"),
        (Action::WriteFile, "", "file", "~/a $(b)"),
        (Action::ForwardTo, "", "forward", "db.internal:5432"),
        (Action::KubeGet, "", "object", "payments/pods/web-0"),
        (Action::KubeList, "", "object", "payments/deployments.apps"),
        (Action::KubeGet, "", "object", "\"\"/nodes/n1"),
        (Action::KubeList, "", "object", "\"\"/pods"),
        (Action::KubeVisit, "", "path", "/healthz"),
    ] {
        let resource = match (kind, database) {
            ("", "") => Resource::Target,
            ("", _) => Resource::Database,
            (kind, _) => Resource::named(kind, name).unwrap(),
        };
        let context = Context {
            http: action.name().starts_with("Http").then(Box::default),
            ssh: action.is_of_a_channel().then(Box::default),
            kubernetes: action.name().starts_with("Kube").then(Box::default),
            ..Context::default()
        };
        let access = Access {
            action,
            resource: resource.clone(),
        };
        let ask = Ask {
            accesses: BTreeSet::from([access]),
            context,
        };
        let asked = policy.authorize_with(&NoGrants, &facts, "prod", database, &[ask]);
        let hint = asked.unwrap_err().hint.unwrap();
        assert_eq!(
            asked_by(&hint),
            (BTreeSet::from([action]), resource),
            "{hint}"
        );
    }
}

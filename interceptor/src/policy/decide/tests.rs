//! What is permitted, what is refused, and how it is told.

use super::*;
use crate::policy::tests::{agent, ask, load_text, person, table};
use crate::policy::{Generation, Verdicts};

const RULES: &str = r#"
@id("read") permit(principal is Agent, action in Action::"Read", resource);
@id("write") permit(principal is Agent, action in [Action::"Delete", Action::"Insert"], resource in Schema::"crm/app/public");
@id("where") @hint("add a WHERE") forbid(principal is Agent, action == Action::"Delete", resource) unless { context.hasWhere };
@id("secret") forbid(principal is Agent, action, resource == Table::"crm/app/public.secret");
@id("connect") permit(principal is Agent, action in [Action::"Connect", Action::"Open"], resource in Target::"crm");
"#;

fn judged(rules: &str, asks: &[Ask]) -> Result<Permit, Refusal> {
    let policy = load_text(rules).unwrap();
    policy.authorize(&Arc::new(agent("claude")), "crm", "app", asks)
}

fn without_where(mut ask: Ask) -> Ask {
    ask.context.has_where = false;
    ask
}

fn told(refused: Result<Permit, Refusal>) -> (RefusalKind, String, String, String) {
    let refusal = refused.unwrap_err();
    let rules: Vec<_> = refusal.rules.iter().map(|rule| rule.0.clone()).collect();
    (
        refusal.kind,
        refusal.message,
        refusal.hint.unwrap_or_default(),
        rules.join(" "),
    )
}

#[test]
fn a_permit_names_every_rule_that_permitted() {
    let asks = [
        ask([(Action::Select, table("a")), (Action::Insert, table("b"))]),
        ask([(Action::Show, Resource::Database)]),
    ];
    let permit = judged(RULES, &asks).unwrap();
    let rules: Vec<_> = permit.rules().iter().map(|rule| rule.0.as_str()).collect();
    assert_eq!(rules, ["read", "write"]);
    assert_eq!(permit.generation(), Generation(1));
}

#[test]
fn a_refusal_says_what_on_what_and_what_to_do() {
    let admin = "whoever keeps the policies of this host";
    let rows = [
        (
            vec![ask([(Action::Update, table("a"))])],
            RefusalKind::NotPermitted,
            "UPDATE on public.a is not permitted",
            format!("permitted here: SELECT, INSERT, DELETE; for more, ask {admin}"),
            "",
        ),
        (
            vec![without_where(ask([(Action::Delete, table("a"))]))],
            RefusalKind::Forbidden,
            "DELETE on public.a is not permitted",
            "add a WHERE".to_owned(),
            "where",
        ),
        (
            // The forbid is told although a missing permit comes first.
            vec![ask([
                (Action::Update, table("a")),
                (Action::Delete, table("secret")),
            ])],
            RefusalKind::Forbidden,
            "DELETE on public.secret is not permitted",
            format!("no rule permits this; {admin} can add one"),
            "secret",
        ),
        (
            vec![
                ask([(Action::Select, table("a"))]),
                ask([(Action::Do, Resource::Database)]),
            ],
            RefusalKind::NotPermitted,
            "DO is not permitted",
            format!("no rule permits this; {admin} can add one"),
            "",
        ),
        (
            vec![ask([(Action::Unreadable, Resource::Database)])],
            RefusalKind::Unreadable,
            "a statement that cannot be read is not permitted",
            "the statement could not be read by the SQL grammar; write it in plain, complete SQL \
             in UTF-8, of at most 1 MiB"
                .to_owned(),
            "",
        ),
    ];
    for (asks, kind, message, hint, rules) in rows {
        let expected = (kind, message.to_owned(), hint, rules.to_owned());
        assert_eq!(told(judged(RULES, &asks)), expected);
    }
}

#[test]
fn each_statement_is_judged_in_its_own_context() {
    let asks = [
        ask([(Action::Delete, table("a"))]),
        without_where(ask([(Action::Select, table("a"))])),
    ];
    assert!(judged(RULES, &asks).is_ok());
    let asks = [
        ask([(Action::Select, table("a"))]),
        without_where(ask([(Action::Delete, table("a"))])),
    ];
    assert!(judged(RULES, &asks).is_err());
}

#[test]
fn a_request_that_asks_for_nothing_is_refused() {
    let all = "permit(principal is Agent, action, resource);";
    for asks in [
        vec![],
        vec![Ask::default()],
        vec![ask([(Action::Do, Resource::Database)]), Ask::default()],
    ] {
        let (kind, message, ..) = told(judged(all, &asks));
        assert_eq!(kind, RefusalKind::NotPermitted);
        assert_eq!(message, "a request that asks for nothing cannot be judged");
    }
}

#[test]
fn a_request_that_asks_for_too_much_is_refused() {
    let all = "permit(principal is Agent, action, resource);";
    let many = |count: usize| {
        let accesses = (0..count).map(|number| Access {
            action: Action::Select,
            resource: table(&format!("t{number}")),
        });
        Ask {
            accesses: accesses.collect(),
            context: Context::default(),
        }
    };
    assert!(judged(all, &[many(MOST)]).is_ok());
    assert_eq!(told(judged(all, &[many(MOST + 1)])).0, RefusalKind::Limit);
    assert_eq!(
        told(judged(all, &[many(MOST / 2), many(MOST / 2 + 1)])).0,
        RefusalKind::Limit
    );
    let mut functions = many(1);
    functions.context.functions = (0..MOST).map(|number| format!("f{number}")).collect();
    assert_eq!(told(judged(all, &[functions])).0, RefusalKind::Limit);
}

#[test]
fn a_rule_that_cannot_be_evaluated_refuses() {
    let overflow = "context.statements + 9223372036854775807 > 0";
    let asks = [Ask {
        context: Context {
            statements: 1,
            ..Context::default()
        },
        ..ask([(Action::Select, table("a"))])
    }];
    for effect in ["permit", "forbid"] {
        let rules = format!(
            "permit(principal is Agent, action, resource);\n\
             @id(\"broken\") {effect}(principal is Agent, action in [Action::\"Read\", Action::\"Write\"], resource) when {{ {overflow} }};"
        );
        let (kind, message, hint, rules) = told(judged(&rules, &asks));
        assert_eq!(kind, RefusalKind::Internal);
        assert_eq!(message, "SELECT on public.a is not permitted");
        assert!(hint.contains("rule broken cannot be evaluated"), "{hint}");
        assert_eq!(rules, "broken");
    }
}

#[test]
fn targets_and_databases_are_asked_for_like_all_else() {
    let policy = load_text(RULES).unwrap();
    let principal = Arc::new(agent("claude"));
    assert!(policy.connect(&NoGrants, &principal, "crm").is_ok());
    let refused = told(policy.connect(&NoGrants, &principal, "erp"));
    assert_eq!(refused.1, "connecting to target erp is not permitted");
    assert!(policy.open(&NoGrants, &principal, "crm", "app").is_ok());
    assert!(policy.open(&NoGrants, &principal, "crm", "").is_ok());
    let refused = told(policy.open(&NoGrants, &principal, "erp", ""));
    assert_eq!(refused.1, "opening target erp is not permitted");
    let refused = told(policy.open(&NoGrants, &principal, "erp", "app"));
    assert_eq!(
        refused.1,
        "opening database app of target erp is not permitted"
    );
}

#[test]
fn facts_of_the_principal_decide() {
    let rows = [
        ("principal.name == \"claude\"", true),
        ("principal in User::\"1000\"", true),
        ("principal in User::\"1001\"", false),
        (
            "principal.user has name && principal.user.name == \"alice\"",
            true,
        ),
        (
            "principal.user.uid == 1000 && principal.user.gid == 100",
            true,
        ),
        ("principal.executable.path like \"/usr/bin/*\"", true),
        (
            "principal.ancestorPaths.contains(\"/usr/bin/python3\")",
            true,
        ),
        ("principal.ancestorPaths.contains(\"/usr/bin/psql\")", false),
        ("principal.scope == \"/agents.slice/claude\"", true),
        ("principal.cgroup like \"/agents.slice/claude/*\"", true),
        ("principal has container", false),
        ("principal.privileged", false),
    ];
    for (condition, expected) in rows {
        let rules = format!("permit(principal is Agent, action, resource) when {{ {condition} }};");
        let permitted = judged(&rules, &[ask([(Action::Select, table("a"))])]).is_ok();
        assert_eq!(permitted, expected, "{condition}");
    }
}

#[test]
fn an_explanation_says_of_each_access_what_was_done() {
    let policy = load_text(RULES).unwrap();
    let principal = Arc::new(agent("claude"));
    let requests = [
        vec![ask([
            (Action::Select, table("a")),
            (Action::Insert, table("b")),
        ])],
        vec![ask([
            (Action::Select, table("secret")),
            (Action::Update, table("b")),
        ])],
        vec![],
    ];
    for asks in &requests {
        let explanation = policy.explain(&NoGrants, &principal, "crm", "app", asks);
        let judged = policy.authorize(&principal, "crm", "app", asks);
        assert_eq!(explanation.permitted, judged.is_ok());
        assert_eq!(explanation.refusal, judged.err());
    }
    let explained = policy.explain(&NoGrants, &principal, "crm", "app", &requests[1]);
    let rows: Vec<_> = explained.asks[0]
        .accesses
        .iter()
        .map(|access| {
            let rules: Vec<_> = access
                .rules
                .iter()
                .map(|rule| (rule.id.0.as_str(), rule.line))
                .collect();
            (access.id.as_str(), access.permitted, rules)
        })
        .collect();
    let expected = [
        (
            "Table::\"crm/app/public.secret\"",
            false,
            vec![("secret", 5)],
        ),
        ("Table::\"crm/app/public.b\"", false, vec![]),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn the_strictest_limit_of_the_permits_that_decided_is_the_request_s() {
    let policy = load_text(
        "@id(\"all\")\npermit(principal is Agent, action, resource);\n\
         @id(\"few\")\n@max_rows(\"10\")\n@max_session_bytes(\"1MiB\")\n\
         permit(principal is Agent, action == Action::\"Select\", resource is Table)\n\
         when { resource.name == \"a\" || resource.name == \"b\" };\n\
         @id(\"fewer\")\n@max_rows(\"7\")\n\
         permit(principal is Agent, action == Action::\"Select\", resource is Table)\n\
         when { resource.name == \"b\" };",
    )
    .unwrap();
    let who = Arc::new(agent("claude"));
    for (tables, said) in [
        (&["a"][..], "10 few, 1048576 few"),
        (&["b"], "7 fewer, 1048576 few"),
        (&["a", "b"], "7 fewer, 1048576 few"),
        (&["c"], ""),
        (&["a", "c"], "10 few, 1048576 few"),
    ] {
        let asks: Vec<_> = tables
            .iter()
            .map(|name| ask([(Action::Select, table(name))]))
            .collect();
        let verdicts = Verdicts::new(&who, "crm", "app").unwrap();
        let explained = policy.explain(&NoGrants, &who, "crm", "app", &asks).limits;
        // Judged, and remembered.
        for _ in 0..2 {
            let permit = verdicts
                .authorize(&policy, &asks, &NoGrants, &NotApproved)
                .unwrap();
            assert_eq!(permit.limits(), explained.as_ref());
            let limits = permit.limits().into_iter().flat_map(|limits| limits.said());
            let limits: Vec<_> = limits
                .map(|(limit, _)| format!("{} {}", limit.most, limit.rule.0))
                .collect();
            assert_eq!(limits.join(", "), said, "{tables:?}");
        }
    }
}

#[test]
fn rules_look_at_whom_a_scope_is_bound_to() {
    let rules = r#"
@id("dba") permit(principal is Agent, action == Action::"Select", resource)
when { principal has identity && principal.identity.issuer == "https://idp.example"
  && principal.identity.groups.contains("dba") };
@id("main") permit(principal is Agent, action == Action::"Insert", resource)
when { principal.hasTag("ref") && principal.getTag("ref") like "refs/heads/*" };
@id("sure") permit(principal is Agent, action == Action::"Delete", resource)
when { principal has identity && principal.identity has acr && principal.identity.acr == "phr"
  && principal.identity.amr.contains("hwk") && principal.identity.expires < 1 };
"#;
    let policy = load_text(rules).unwrap();
    let may = |identity: Option<crate::identity::Identity>, action| {
        let mut principal = crate::policy::tests::principal("claude");
        principal.identity = identity.map(Arc::new);
        let facts = Arc::new(PrincipalFacts::new(&principal).unwrap());
        let asks = [ask([(action, table("a"))])];
        policy.authorize(&facts, "crm", "app", &asks).is_ok()
    };
    for action in [Action::Select, Action::Insert, Action::Delete] {
        assert!(may(Some(person()), action), "{action:?}");
        assert!(!may(None, action), "{action:?} for nobody");
    }
    let mut other = person();
    other.issuer = "https://other.example".to_owned();
    assert!(!may(Some(other), Action::Select), "another issuer's dba");
    let mut other = person();
    other.claims = [("ref".to_owned(), "refs/tags/v1".to_owned())].into();
    assert!(!may(Some(other), Action::Insert), "another ref");
}

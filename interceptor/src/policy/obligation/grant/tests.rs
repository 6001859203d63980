//! What policy leaves to grants.

use std::collections::BTreeSet;

use super::*;
use crate::policy::tests::{agent, load_text, table};
use crate::policy::{Ask, Context, Policy, PrincipalFacts, RefusalKind};

const RULES: &str = r#"
@id("reach") permit(principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("open") permit(principal is Agent, action == Action::"Select", resource == Table::"crm/app/public.items");
@id("short") @grant("10m")
permit(principal is Agent, action in Action::"Read", resource in Target::"crm");
@id("long") @grant("1h30m")
permit(principal is Agent, action == Action::"Select", resource in Target::"crm");
@id("never") forbid(principal, action, resource == Table::"crm/app/public.salaries");
@id("where") @grant("1h")
permit(principal is Agent, action == Action::"Delete", resource in Target::"crm") when { context.hasWhere };
"#;

/// Covers what it lists, by one grant each.
struct Some(Vec<(Action, &'static str, GrantId)>);

impl Held for Some {
    fn cover(&self, place: Place<'_>, access: &Access, _longest: Duration) -> Option<GrantId> {
        assert_eq!((place.target, place.database), ("crm", "app"));
        let found = self
            .0
            .iter()
            .find(|(action, name, _)| *action == access.action && table(name) == access.resource);
        found.map(|(_, _, grant)| *grant)
    }
}

fn id(number: u128) -> GrantId {
    GrantId(Uuid::from_u128(number))
}

fn ask(action: Action, name: &str, has_where: bool) -> Ask {
    Ask {
        accesses: BTreeSet::from([Access {
            action,
            resource: table(name),
        }]),
        context: Context {
            has_where,
            ..Context::default()
        },
    }
}

fn judged(policy: &Policy, held: &dyn Held, asks: &[Ask]) -> Result<Permit, Refusal> {
    let principal: Arc<PrincipalFacts> = Arc::new(agent("claude"));
    policy.authorize_with(held, &principal, "crm", "app", asks)
}

#[test]
fn what_is_left_to_a_grant_is_refused_without_one_and_the_hint_asks_for_it() {
    let policy = load_text(RULES).unwrap();
    let refusal = judged(
        &policy,
        &NoGrants,
        &[ask(Action::Select, "my orders", true)],
    )
    .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NeedsGrant);
    assert_eq!(
        refusal.rules,
        ["long", "short"].map(|rule| RuleId(rule.to_owned()))
    );
    let hint = refusal.hint.unwrap();
    assert_eq!(
        hint,
        "ask for one: interceptor request --target crm --database app --action Select \
         --table 'public.\"my orders\"' --for 90m --reason WHY"
    );
}

#[test]
fn a_grant_admits_what_it_covers_and_the_permit_names_it() {
    let policy = load_text(RULES).unwrap();
    let held = Some(vec![
        (Action::Select, "orders", id(1)),
        (Action::Select, "customers", id(2)),
    ]);
    let asks = [
        ask(Action::Select, "orders", true),
        ask(Action::Select, "items", true),
        ask(Action::Select, "customers", true),
        ask(Action::Select, "orders", true),
    ];
    let permit = judged(&policy, &held, &asks).unwrap();
    assert_eq!(permit.grants()[..], [id(1), id(2)]);
    let asks = [asks[0].clone(), ask(Action::Select, "others", true)];
    let refusal = judged(&policy, &held, &asks).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NeedsGrant);
    assert!(refusal.message.contains("public.others"), "{refusal:?}");
}

#[test]
fn a_plain_permit_needs_no_grant_whatever_else_leaves_it_to_one() {
    let policy = load_text(RULES).unwrap();
    let permit = judged(&policy, &NoGrants, &[ask(Action::Select, "items", true)]).unwrap();
    assert!(permit.grants().is_empty());
}

#[test]
fn a_forbid_and_the_conditions_of_the_permit_hold_under_a_grant_too() {
    let policy = load_text(RULES).unwrap();
    let held = Some(vec![
        (Action::Select, "salaries", id(1)),
        (Action::Delete, "orders", id(2)),
    ]);
    let refused = judged(&policy, &held, &[ask(Action::Select, "salaries", true)]).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Forbidden);
    assert!(judged(&policy, &held, &[ask(Action::Delete, "orders", true)]).is_ok());
    let refused = judged(&policy, &held, &[ask(Action::Delete, "orders", false)]).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NotPermitted);
}

#[test]
fn what_may_be_granted_is_told_with_the_most_generous_time() {
    let policy = load_text(RULES).unwrap();
    let principal = Arc::new(agent("claude"));
    let grantable = |action, name| {
        let resource = table(name);
        policy.grantable(&principal, "crm", "app", &Access { action, resource })
    };
    let of = |answer| match answer {
        Ok(Grantable::For { longest, .. }) => longest.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(grantable(Action::Select, "orders")), 5_400);
    assert_eq!(of(grantable(Action::CopyOut, "orders")), 600);
    assert_eq!(of(grantable(Action::Delete, "orders")), 3_600);
    assert_eq!(
        grantable(Action::Select, "items").unwrap(),
        Grantable::Permitted
    );
    for (action, name) in [(Action::Select, "salaries"), (Action::Insert, "orders")] {
        assert!(grantable(action, name).is_err(), "{name}");
    }
}

#[test]
fn a_column_that_a_grant_reveals_is_seen_only_with_it() {
    let text = r#"@id("r") @grant("1h")
        permit(principal is Agent, action == Action::"Reveal", resource in Target::"crm");"#;
    let policy = load_text(text).unwrap();
    let column = Resource::named("column", "public.customers.ssn").unwrap();
    struct All;
    impl Held for All {
        fn cover(&self, _place: Place<'_>, access: &Access, _longest: Duration) -> Option<GrantId> {
            (access.action == Action::Reveal).then_some(id(1))
        }
    }
    let verdicts = crate::policy::Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
    let columns = [column];
    assert_eq!(verdicts.revealed(&policy, &columns, &NoGrants), [false]);
    assert_eq!(verdicts.revealed(&policy, &columns, &All), [true]);
}

#[test]
fn annotations_that_grant_nothing_are_mistakes() {
    for (rule, expected) in [
        (
            r#"@grant("1h") forbid(principal is Agent, action, resource);"#,
            "a forbid wins over every grant",
        ),
        (
            r#"@grant("1h") permit(principal, action == Action::"Select", resource);"#,
            "write `principal is Agent`",
        ),
        (
            r#"@grant("1h") permit(principal is User, action == Action::"Kill", resource);"#,
            "write `principal is Agent`",
        ),
        (
            r#"@grant("8d") permit(principal is Agent, action == Action::"Select", resource);"#,
            "of at most 7d",
        ),
        (
            r#"@grant("") permit(principal is Agent, action == Action::"Select", resource);"#,
            "of at most 7d",
        ),
        (
            r#"@grant("0s") permit(principal is Agent, action == Action::"Select", resource);"#,
            "of at most 7d",
        ),
    ] {
        let mistakes = load_text(rule).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{rule}: {mistakes}");
    }
}

//! What policy leaves to grants.

use std::collections::BTreeSet;

use super::*;
use crate::policy::tests::{agent, load_text, offered, table};
use crate::policy::{Ask, Context, Policy, PrincipalFacts, RefusalKind, Seen};

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
    fn cover(&self, want: &Want<'_>) -> Option<Covering> {
        let Want { place, access, .. } = want;
        assert_eq!((place.target, place.database), ("crm", "app"));
        let found = self
            .0
            .iter()
            .find(|(action, name, _)| *action == access.action && table(name) == access.resource);
        found.map(|(_, _, grant)| covering(*grant))
    }
}

fn covering(grant: GrantId) -> Covering {
    let until = BootTime(u64::MAX);
    Covering { grant, until }
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
    let (command, form) = hint.split_once('\n').unwrap();
    assert_eq!(
        command,
        "ask for one: interceptor request --target crm --database app --action Select \
         --table 'public.\"my orders\"' --for 90m --reason WHY"
    );
    let form = form.strip_prefix("or send the form: ").unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(form).unwrap(),
        serde_json::json!({
            "target": "crm",
            "database": "app",
            "actions": ["Select"],
            "resource": { "table": { "schema": "public", "table": "my orders" } },
            "for": "90m",
            "reason": "WHY",
        })
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
        Ok(Grantable::For { offers, .. }) => {
            let longest = offers
                .iter()
                .flat_map(|some| some.iter().map(|offer| offer.terms.longest))
                .max();
            longest.unwrap().as_secs()
        }
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
        fn cover(&self, want: &Want<'_>) -> Option<Covering> {
            (want.access.action == Action::Reveal).then(|| covering(id(1)))
        }
    }
    let verdicts = crate::policy::Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
    let columns = [column];
    let seen = |held: &dyn Held| verdicts.revealed(&policy, &columns, held);
    assert_eq!(seen(&NoGrants), [Seen::Masked]);
    assert_eq!(seen(&All), [Seen::Granted(covering(id(1)))]);
}

/// One grant, within the terms or not.
struct One(Duration, Budget, Needs, bool);

impl Held for One {
    fn cover(&self, want: &Want<'_>) -> Option<Covering> {
        let issued = Issued {
            time: self.0,
            budget: &self.1,
            word: &self.2,
            tree: self.3,
        };
        want.admits(&issued).then(|| covering(id(1)))
    }
}

#[test]
fn a_grant_covers_what_one_of_the_permits_leaves_to_it_whole() {
    let rules = r#"
        @id("brief") @grant("10m") @grant_rows("1000")
        permit(principal is Agent, action == Action::"Select", resource in Target::"crm");
        @id("little") @grant("8h") @grant_uses("2") @grant_rows("10") @grant_bytes("4KiB")
        permit(principal is Agent, action == Action::"Select", resource in Target::"crm");"#;
    let policy = load_text(rules).unwrap();
    let held = |minutes: u64, uses, rows, bytes| {
        let budget = Budget { uses, rows, bytes };
        One(
            Duration::from_secs(minutes * 60),
            budget,
            Needs::new(),
            true,
        )
    };
    let asks = [ask(Action::Select, "orders", true)];
    for (held, good) in [
        (held(10, None, Option::Some(1_000), None), true),
        (held(10, None, Option::Some(1_001), None), false),
        (held(10, None, None, None), false),
        // Longer than the one permits, and more than the other.
        (held(60, None, Option::Some(1_000), None), false),
        (
            held(60, Option::Some(2), Option::Some(10), Option::Some(4_096)),
            true,
        ),
        (held(60, Option::Some(2), Option::Some(10), None), false),
        (
            held(60, Option::Some(3), Option::Some(10), Option::Some(4_096)),
            false,
        ),
    ] {
        let judged = judged(&policy, &held, &asks);
        assert_eq!(judged.is_ok(), good, "{:?} {:?}", held.0, held.1);
    }
    let hint = judged(&policy, &NoGrants, &asks).unwrap_err().hint.unwrap();
    let command = "--for 8h --uses 2 --rows 10 --bytes 4096 --reason WHY";
    assert!(hint.contains(command), "{hint}");
}

#[test]
fn what_a_grant_counts_may_only_come_in_an_answer() {
    let policy = load_text(
        r#"@id("all") @grant("1h") permit(principal is Agent, action, resource in Target::"crm");"#,
    )
    .unwrap();
    let rows = Budget {
        rows: Option::Some(10),
        ..Budget::default()
    };
    let hour = Duration::from_secs(3_600);
    let into = |action| {
        let mut ask = ask(action, "copies", true);
        ask.accesses.insert(Access {
            action: Action::Select,
            resource: table("orders"),
        });
        [ask]
    };
    for action in [
        Action::Select,
        Action::CopyOut,
        Action::Explain,
        Action::Lock,
    ] {
        assert!(
            judged(&policy, &One(hour, rows, Needs::new(), true), &into(action)).is_ok(),
            "{action:?}"
        );
    }
    for action in [
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Merge,
        Action::CopyIn,
        Action::Ddl,
        Action::Do,
        Action::System,
        Action::FastPath,
        Action::Unreadable,
    ] {
        let refusal =
            judged(&policy, &One(hour, rows, Needs::new(), true), &into(action)).unwrap_err();
        assert!(refusal.message.contains("in no answer"), "{refusal:?}");
        // One that counts no answers covers it.
        assert!(
            judged(
                &policy,
                &One(hour, Budget::default(), Needs::new(), true),
                &into(action)
            )
            .is_ok()
        );
    }
}

#[test]
fn rows_that_a_write_touches_are_counted_where_its_end_tells_them() {
    let policy = load_text(
        r#"@id("all") @grant("1h") permit(principal is Agent, action, resource in Target::"crm");"#,
    )
    .unwrap();
    let hour = Duration::from_secs(3_600);
    let rows = Budget {
        rows: Option::Some(10),
        ..Budget::default()
    };
    let bytes = Budget {
        bytes: Option::Some(10),
        ..rows
    };
    let write = |action, also: Option<Access>| {
        let mut ask = ask(action, "copies", true);
        ask.context.tells_rows = true;
        ask.accesses.extend(also);
        [ask]
    };
    let reads = |name| {
        Option::Some(Access {
            action: Action::Select,
            resource: table(name),
        })
    };
    for action in [
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Merge,
        Action::CopyIn,
    ] {
        for also in [None, reads("copies")] {
            let asks = write(action, also);
            assert!(
                judged(&policy, &One(hour, rows, Needs::new(), true), &asks).is_ok(),
                "{asks:?}"
            );
            // Nothing says how many bytes they have.
            assert!(judged(&policy, &One(hour, bytes, Needs::new(), true), &asks).is_err());
        }
        let refusal = judged(
            &policy,
            &One(hour, rows, Needs::new(), true),
            &write(action, reads("orders")),
        );
        assert!(refusal.unwrap_err().message.contains("in no answer"));
    }
    let truncate = write(Action::Truncate, None);
    assert!(judged(&policy, &One(hour, rows, Needs::new(), true), &truncate).is_err());
}

#[test]
fn what_is_permitted_in_some_contexts_only_may_be_granted_for_the_others() {
    let rules = r#"
        @id("few") permit(principal is Agent, action == Action::"Select", resource in Target::"crm")
        when { context.hasLimit };
        @id("all") @grant("1h") permit(principal is Agent, action == Action::"Select", resource in Target::"crm");
        @id("bounded") @grant("2h") permit(principal is Agent, action == Action::"Delete", resource in Target::"crm")
        when { context.inTransaction && !context.hasWhere };
        @id("limited") @grant("3h") permit(principal is Agent, action in [Action::"Reveal", Action::"Connect", Action::"Open"], resource)
        when { context.hasLimit };"#;
    let policy = load_text(rules).unwrap();
    let principal = Arc::new(agent("claude"));
    let grantable = |action, resource| {
        let access = Access { action, resource };
        match policy.grantable(&principal, "crm", "app", &access) {
            Ok(Grantable::For { offers, rules }) => {
                let longest = offers
                    .iter()
                    .flat_map(|some| some.iter().map(|offer| offer.terms.longest))
                    .max();
                (longest.unwrap().as_secs(), rules.len())
            }
            Ok(Grantable::Permitted) => (0, 0),
            Err(_refused) => (u64::MAX, 0),
        }
    };
    assert_eq!(grantable(Action::Select, table("orders")), (3_600, 1));
    assert_eq!(grantable(Action::Delete, table("orders")), (7_200, 1));
    // What is no statement has no limit: a grant of it would cover nothing.
    let column = Resource::named("column", "public.customers.ssn").unwrap();
    for (action, resource) in [
        (Action::Reveal, column),
        (Action::Connect, Resource::Target),
        (Action::Open, Resource::Database),
    ] {
        assert_eq!(grantable(action, resource), (u64::MAX, 0), "{action:?}");
    }
}

fn need(rule: &str, group: &str, count: u32) -> Need {
    Need {
        rule: RuleId(rule.to_owned()),
        groups: BTreeSet::from([group.to_owned()]),
        count,
        later: None,
        shape: None,
        second_factor: false,
    }
}

/// The terms of an hour's grant of everything on some word.
fn hour_on(word: Needs) -> One {
    One(Duration::from_secs(3_600), Budget::default(), word, true)
}

#[test]
fn a_grant_that_another_permit_gives_without_a_word_does_not_stand_in_for_one() {
    let rules = r#"
        @id("all") @grant("1h") permit(principal is Agent, action in Action::"Read", resource in Schema::"crm/app/public")
        unless { resource == Table::"crm/app/public.salaries" };
        @id("pay") @grant("1h") @approve("dba")
        permit(principal is Agent, action in Action::"Read", resource == Table::"crm/app/public.salaries");
        @id("some") @grant("1h") permit(principal is Agent, action == Action::"Delete", resource in Target::"crm")
        when { context.hasWhere };
        @id("every") @grant("1h") @approve("dba") permit(principal is Agent, action == Action::"Delete", resource in Target::"crm")
        unless { context.hasWhere };"#;
    let policy = load_text(rules).unwrap();
    let nobodys = hour_on(Needs::new());
    let dba = hour_on(Needs::from([need("pay", "dba", 1)]));
    for (ask, alone) in [
        (ask(Action::Select, "orders", true), true),
        (ask(Action::Select, "salaries", true), false),
        (ask(Action::Delete, "orders", true), true),
        (ask(Action::Delete, "orders", false), false),
    ] {
        let asks = [ask];
        let refused = judged(&policy, &nobodys, &asks).is_err();
        assert_eq!(refused, !alone, "{asks:?}");
        assert!(judged(&policy, &dba, &asks).is_ok(), "{asks:?}");
    }
}

#[test]
fn a_grant_for_all_contexts_takes_the_word_of_each() {
    let rules = r#"
        @id("some") @grant("1h") permit(principal is Agent, action == Action::"Delete", resource in Target::"crm")
        when { context.hasWhere };
        @id("every") @grant("10m") @approve("dba") permit(principal is Agent, action == Action::"Delete", resource in Target::"crm")
        unless { context.hasWhere };"#;
    let policy = load_text(rules).unwrap();
    let offers = offered(&policy, Action::Delete);
    let of = |minutes: u64| {
        let time = Duration::from_secs(minutes * 60);
        needed(&offers, (time, &Budget::default()), true)
    };
    let both = of(10).unwrap();
    assert_eq!(both, [Needs::from([need("every", "dba", 1)])]);
    // What is longer covers those with a condition alone.
    assert_eq!(of(11), Option::Some(Vec::new()));
    assert_eq!(of(61), None);
}

#[test]
fn a_grant_of_a_whole_scope_covers_only_what_a_permit_says_it_may() {
    let rules = r#"@id("tree") @grant("1h")
        permit(principal is Agent, action == Action::"Select", resource in Target::"crm");"#;
    let policy = load_text(rules).unwrap();
    let asks = [ask(Action::Select, "orders", true)];
    let tree = hour_on(Needs::new());
    assert!(judged(&policy, &tree, &asks).is_ok());
    let scope = One(tree.0, tree.1, Needs::new(), false);
    assert!(judged(&policy, &scope, &asks).is_err());
    let offers = offered(&policy, Action::Select);
    let much = (tree.0, &tree.1);
    assert_eq!(needed(&offers, much, true), Option::Some(Vec::new()));
    assert_eq!(needed(&offers, much, false), None);
    let rules = rules.replace("@grant(\"1h\")", "@grant(\"1h\") @grant_scope");
    let policy = load_text(&rules).unwrap();
    assert!(judged(&policy, &scope, &asks).is_ok());
    let offers = offered(&policy, Action::Select);
    assert_eq!(needed(&offers, much, false), Option::Some(Vec::new()));
    for (rule, expected) in [
        ("@grant_scope", "stands beside @grant"),
        ("@grant(\"1h\") @grant_scope(\"no\")", "takes no value"),
    ] {
        let rule =
            format!("{rule} permit(principal is Agent, action == Action::\"Select\", resource);");
        let mistakes = load_text(&rule).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{rule}: {mistakes}");
    }
}

#[test]
fn a_word_counts_for_what_asks_for_no_more_than_that() {
    let rules = r#"@id("pay") @grant("1h") @approve("ciso, dba") @approvers("2")
        permit(principal is Agent, action == Action::"Select", resource in Target::"crm");"#;
    let policy = load_text(rules).unwrap();
    let asks = [ask(Action::Select, "orders", true)];
    for (met, good) in [
        (need("pay", "dba", 2), true),
        // A rule that was written anew asks for the same.
        (need("other", "ciso", 3), true),
        (need("pay", "dba", 1), false),
        (need("pay", "helpdesk", 2), false),
    ] {
        let held = hour_on(Needs::from([met.clone()]));
        assert_eq!(judged(&policy, &held, &asks).is_ok(), good, "{met:?}");
    }
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
            r#"@grant_rows("5") permit(principal is Agent, action == Action::"Select", resource);"#,
            "beside @grant",
        ),
        (
            r#"@grant("1h") @grant_rows("0") permit(principal is Agent, action == Action::"Select", resource);"#,
            "a number of at least 1",
        ),
        (
            r#"@grant("1h") @grant_rows("5") permit(principal is Agent, action in Action::"Write", resource);"#,
            "cannot be counted for all",
        ),
        (
            r#"@grant("1h") @grant_uses("5") permit(principal is Agent, action == Action::"Reveal", resource);"#,
            "cannot be counted for all",
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

/// What may be granted of an action on the whole of the target, or why not.
fn grantable(policy: &Policy, action: Action) -> Result<Grantable, RefusalKind> {
    let access = Access {
        action,
        resource: Resource::Target,
    };
    let principal = Arc::new(agent("claude"));
    let found = policy.grantable(&principal, "crm", "", &access);
    found.map_err(|refusal| refusal.kind)
}

#[test]
fn what_a_permit_looks_at_in_a_request_may_be_granted_before_anybody_knows_it() {
    let rules = r#"
        @id("restart") @grant("1h")
        permit(principal is Agent, action == Action::"Exec", resource) when { context.program == "restart" };
        @id("query") @grant("2h") @approve("dba")
        permit(principal is Agent, action == Action::"HttpGet", resource)
        when { principal.name == "claude" && context.query.contains("state=open") };
        @id("kube") @grant("3h")
        permit(principal is Agent, action == Action::"KubeExec", resource) unless { context.program == "sh" };
        @id("set") @grant("4h")
        permit(principal is Agent, action == Action::"Set", resource) when { context.settings.contains("role") };
        @id("another") @grant("5h")
        permit(principal is Agent, action == Action::"HttpPut", resource)
        when { principal.name == "other" && context.query.contains("state=open") };
        @id("never") @grant("6h")
        permit(principal is Agent, action == Action::"Shell", resource) when { context.user == "deploy" };
        @id("no-shell") forbid(principal is Agent, action == Action::"Shell", resource);
        @id("some") @grant("7h")
        permit(principal is Agent, action == Action::"Subsystem", resource) when { context.subsystem == "sftp" };
        @id("some-not") forbid(principal is Agent, action == Action::"Subsystem", resource)
        unless { context.user == "deploy" };"#;
    let policy = load_text(rules).unwrap();
    for (action, hours, asks) in [
        (Action::Exec, 1, false),
        (Action::HttpGet, 2, true),
        (Action::KubeExec, 3, false),
        (Action::Set, 4, false),
        (Action::Subsystem, 7, false),
    ] {
        let found = grantable(&policy, action).unwrap();
        let Grantable::For { offers, .. } = found else {
            panic!("{action:?}: {found:?}");
        };
        let much = |hours: u64| Duration::from_secs(hours * 3_600);
        let any = Budget::default();
        let needs = needed(&offers, (much(hours), &any), true).unwrap();
        assert_eq!(!needs.is_empty(), asks, "{action:?}");
        assert!(needed(&offers, (much(hours + 1), &any), true).is_none());
    }
    assert_eq!(
        grantable(&policy, Action::HttpPut),
        Err(RefusalKind::NotPermitted)
    );
    assert_eq!(
        grantable(&policy, Action::Shell),
        Err(RefusalKind::Forbidden)
    );
}

#[test]
fn what_some_requests_may_have_for_longer_may_be_granted_for_as_long() {
    let rules = r#"
        @id("any") @grant("10m") permit(principal is Agent, action == Action::"Exec", resource);
        @id("restart") @grant("1h") @approve("ops")
        permit(principal is Agent, action == Action::"Exec", resource) when { context.program == "restart" };
        @id("open") permit(principal is Agent, action == Action::"HttpGet", resource);
        @id("more") @grant("1h")
        permit(principal is Agent, action == Action::"HttpGet", resource) when { context.query.contains("a=b") };"#;
    let policy = load_text(rules).unwrap();
    let found = grantable(&policy, Action::Exec).unwrap();
    let Grantable::For { offers, .. } = found else {
        panic!("{found:?}");
    };
    let any = Budget::default();
    let needs = |minutes: u64| needed(&offers, (Duration::from_secs(minutes * 60), &any), true);
    assert_eq!(needs(10), Option::Some(Vec::new()));
    assert_eq!(needs(60).unwrap().len(), 1);
    assert_eq!(needs(61), None);
    // What every request may have needs no grant.
    assert_eq!(
        grantable(&policy, Action::HttpGet),
        Ok(Grantable::Permitted)
    );
}

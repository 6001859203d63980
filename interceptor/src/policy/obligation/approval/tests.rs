//! What policy leaves to people.

use std::sync::Arc;

use super::*;
use crate::clock::BootTime;
use crate::policy::tests::{agent, load_text, offered, table};
use crate::policy::{
    Access, Action, Ask, Budget, Context, Covering, GrantId, Held, NoGrants, Policy, RefusalKind,
    Verdicts, Want, needed,
};

const RULES: &str = r#"
@id("items") permit(principal is Agent, action == Action::"Delete", resource == Table::"crm/app/public.items");
@id("dba") @approve("dba") @approvers("2") @escalate("cto") @escalate_after("2m") @shape("10m")
permit(principal is Agent, action == Action::"Delete", resource in Target::"crm");
@id("ops") @approve("ops, security")
permit(principal is Agent, action == Action::"Delete", resource == Table::"crm/app/public.orders");
@id("grant") @grant("1h")
permit(principal is Agent, action == Action::"Update", resource in Target::"crm");
@id("either") @approve("dba")
permit(principal is Agent, action == Action::"Update", resource == Table::"crm/app/public.orders");
@id("asked-first") @grant("1h") @approve("dba")
permit(principal is Agent, action == Action::"Insert", resource in Target::"crm");
@id("never") forbid(principal, action, resource == Table::"crm/app/public.salaries");
"#;

struct Everything;

impl Held for Everything {
    fn cover(&self, want: &Want<'_>) -> Option<Covering> {
        (!want.offers.is_empty()).then_some(Covering {
            grant: GrantId(Uuid::from_u128(1)),
            until: BootTime(u64::MAX),
        })
    }
}

fn ask(action: Action, name: &str) -> Ask {
    Ask {
        accesses: BTreeSet::from([Access {
            action,
            resource: table(name),
        }]),
        context: Context::default(),
    }
}

fn needs(policy: &Policy, held: &dyn Held, asks: &[Ask]) -> Vec<Vec<String>> {
    let verdicts = Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
    let needs = verdicts.needs(policy, asks, held);
    let rules = |ways: &Needs| ways.iter().map(|need| need.rule.0.clone()).collect();
    needs.iter().map(rules).collect()
}

#[test]
fn people_are_asked_where_no_permit_does_without_them() {
    let policy = load_text(RULES).unwrap();
    assert!(policy.asks_people());
    let delete = |name| ask(Action::Delete, name);
    let of = |asks: &[Ask]| needs(&policy, &NoGrants, asks);
    assert!(of(&[delete("items")]).is_empty(), "a plain permit does");
    assert!(of(&[delete("salaries")]).is_empty(), "it is forbidden");
    assert_eq!(of(&[delete("customers")]), [["dba"]]);
    assert_eq!(of(&[delete("orders")]), [["dba", "ops"]]);
    // Of each its own, said once.
    let three = [delete("orders"), delete("customers"), delete("others")];
    assert_eq!(of(&three).len(), 2);
    assert!(
        !load_text("@id(\"x\") permit(principal is Agent, action, resource);")
            .unwrap()
            .asks_people()
    );
}

#[test]
fn a_rule_says_whether_a_yes_takes_a_second_factor() {
    let rule = |more: &str| {
        let text = format!(
            r#"@id("x") @approve("dba") {more} permit(principal is Agent, action == Action::"Delete", resource);"#
        );
        load_text(&text)
    };
    for (more, takes) in [("", false), (r#"@second_factor("webauthn")"#, true)] {
        let verdicts = Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
        let needs = verdicts.needs(&rule(more).unwrap(), &[ask(Action::Delete, "t")], &NoGrants);
        let all: Vec<_> = needs
            .iter()
            .flatten()
            .map(|need| need.second_factor)
            .collect();
        assert_eq!(all, [takes], "{more}");
    }
    assert!(rule(r#"@second_factor("")"#).is_err());
    assert!(rule(r#"@second_factor("totp")"#).is_err());
}

#[test]
fn a_grant_or_a_word_does_where_one_permit_wants_the_one_and_another_the_other() {
    let policy = load_text(RULES).unwrap();
    let update = |name| ask(Action::Update, name);
    assert_eq!(needs(&policy, &NoGrants, &[update("orders")]), [["either"]]);
    assert!(needs(&policy, &Everything, &[update("orders")]).is_empty());
    // Nobody's word helps where a grant is wanted and there is none.
    assert!(needs(&policy, &NoGrants, &[update("orders"), update("items")]).is_empty());
    let insert = [ask(Action::Insert, "orders")];
    assert!(
        needs(&policy, &NoGrants, &insert).is_empty(),
        "people are asked for the grant"
    );
}

#[test]
fn nothing_is_permitted_without_the_word_that_it_takes() {
    let policy = load_text(RULES).unwrap();
    let verdicts = Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
    let asks = [ask(Action::Delete, "orders")];
    let judged = |approved: &dyn Approved| verdicts.authorize(&policy, &asks, &NoGrants, approved);
    let refusal = judged(&NotApproved).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NeedsApproval);
    assert!(
        refusal.message.contains("without an approval"),
        "{refusal:?}"
    );
    struct Only(Needs);
    impl Approved for Only {
        fn covers(&self, needs: &Needs) -> bool {
            self.0 == *needs
        }
    }
    let word = verdicts.needs(&policy, &asks, &NoGrants).remove(0);
    let less = word.iter().take(1).cloned().collect();
    assert!(judged(&Only(word)).is_ok());
    assert!(judged(&Only(less)).is_err());
    let principal = Arc::new(agent("claude"));
    let plain = policy.authorize(&principal, "crm", "app", &asks);
    assert_eq!(plain.unwrap_err().kind, RefusalKind::NeedsApproval);
}

#[test]
fn a_need_is_what_its_annotations_say() {
    let policy = load_text(RULES).unwrap();
    let verdicts = Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap();
    let asks = [ask(Action::Delete, "customers")];
    let needs = verdicts.needs(&policy, &asks, &NoGrants).remove(0);
    let need = needs.first().unwrap();
    assert_eq!((need.count, need.shape), (2, Some(600)));
    let may = |seconds| {
        let groups = need.groups_after(Duration::from_secs(seconds));
        groups.cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        (may(119), may(120)),
        ("dba".to_owned(), "dba cto".to_owned())
    );
}

#[test]
fn a_group_is_of_the_host_or_of_an_issuer_that_is_named() {
    for good in [
        "dba",
        "dba, ops",
        "staff:dba",
        "dba, staff:dba, slack:/dba:x",
    ] {
        assert!(check("approve", good).is_ok(), "{good}");
    }
    for bad in ["", "a b", ":dba", "staff:", "Staff:dba", "a b:dba", "dba,"] {
        assert!(check("approve", bad).is_err(), "{bad}");
    }
}

#[test]
fn people_are_asked_for_the_grant_that_only_their_permit_offers() {
    let text = r#"
@id("short") @grant("10m")
permit(principal is Agent, action == Action::"Insert", resource in Target::"crm");
@id("long") @grant("8h") @approve("dba")
permit(principal is Agent, action == Action::"Insert", resource in Target::"crm");
"#;
    let policy = load_text(text).unwrap();
    let offers = offered(&policy, Action::Insert);
    let of = |minutes: u64| {
        let time = Duration::from_secs(minutes * 60);
        needed(&offers, (time, &Budget::default()), true)
    };
    assert_eq!(of(10), Some(Vec::new()));
    let long = of(11).unwrap();
    assert_eq!(long[0].first().unwrap().rule.0, "long");
    assert_eq!(of(8 * 60 + 1), None);
}

#[test]
fn a_word_does_for_what_takes_no_more_proof_and_lets_others_speak_no_later() {
    let of = |factor: bool, later: Option<(&str, u64)>| Need {
        rule: RuleId("r".to_owned()),
        groups: BTreeSet::from(["dba".to_owned()]),
        count: 1,
        later: later.map(|(group, after)| Later {
            groups: BTreeSet::from([group.to_owned()]),
            after,
        }),
        shape: None,
        second_factor: factor,
    };
    let (bare, proved) = (of(false, None), of(true, None));
    assert!(bare.is_met_by(&proved));
    assert!(!proved.is_met_by(&bare));
    let (soon, late) = (
        of(false, Some(("help", 60))),
        of(false, Some(("help", 600))),
    );
    assert!(soon.is_met_by(&late));
    assert!(!late.is_met_by(&soon));
    assert!(!bare.is_met_by(&soon));
    assert!(soon.is_met_by(&bare));
}

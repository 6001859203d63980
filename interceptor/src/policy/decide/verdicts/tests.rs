//! A remembered verdict is the verdict that judging would give.

use super::*;
use crate::policy::tests::{agent, ask, load_text_as, table};
use crate::policy::{Action, Context, NoGrants, NotApproved, RuleId};

const ALL: &str = "@id(\"all\") permit(principal is Agent, action, resource);";
const NONE: &str = "@id(\"none\") forbid(principal is Agent, action, resource);";

fn verdicts() -> Verdicts {
    Verdicts::new(&Arc::new(agent("claude")), "crm", "app").unwrap()
}

fn kept(verdicts: &Verdicts) -> usize {
    verdicts.kept.lock().unwrap().verdicts.len()
}

#[test]
fn a_new_policy_forgets_what_the_old_one_decided() {
    let old = load_text_as(ALL, Generation(1)).unwrap();
    let new = load_text_as(NONE, Generation(2)).unwrap();
    let verdicts = verdicts();
    let asks = [ask([(Action::Select, table("a"))])];
    for _ in 0..2 {
        assert_eq!(
            verdicts
                .authorize(&old, &asks, &NoGrants, &NotApproved)
                .unwrap()
                .generation(),
            Generation(1)
        );
        assert_eq!(kept(&verdicts), 1);
    }
    for _ in 0..2 {
        let refusal = verdicts
            .authorize(&new, &asks, &NoGrants, &NotApproved)
            .unwrap_err();
        assert_eq!(refusal.rules, [RuleId("none".to_owned())]);
        assert_eq!(kept(&verdicts), 1);
    }
    // A request that was begun under the old policy does not bring its verdicts back.
    assert!(
        verdicts
            .authorize(&old, &asks, &NoGrants, &NotApproved)
            .is_ok()
    );
    assert!(
        verdicts
            .authorize(&new, &asks, &NoGrants, &NotApproved)
            .is_err()
    );
}

#[test]
fn what_differs_in_anything_is_judged_anew() {
    let rules = "permit(principal is Agent, action == Action::\"Select\", resource)\n\
                 when { context.hasWhere && !context.inTransaction };";
    let policy = load_text_as(rules, Generation(1)).unwrap();
    let verdicts = verdicts();
    let good = ask([(Action::Select, table("a"))]);
    let context = |has_where, in_transaction| Ask {
        context: Context {
            has_where,
            in_transaction,
            ..good.context.clone()
        },
        ..good.clone()
    };
    let rows = [
        (vec![good.clone()], true),
        (vec![good.clone(), good.clone()], true),
        (vec![context(false, false)], false),
        (vec![context(true, true)], false),
        (vec![ask([(Action::Insert, table("a"))])], false),
        (vec![good.clone(), Ask::default()], false),
        (vec![], false),
    ];
    for _ in 0..2 {
        for (asks, expected) in &rows {
            assert_eq!(
                verdicts
                    .authorize(&policy, asks, &NoGrants, &NotApproved)
                    .is_ok(),
                *expected,
                "{asks:?}"
            );
        }
    }
    assert_eq!(kept(&verdicts), rows.len());
}

#[test]
fn what_an_agent_can_make_grow_is_bounded() {
    let policy = load_text_as(ALL, Generation(1)).unwrap();
    let verdicts = verdicts();
    for number in 0..REQUESTS + 10 {
        let asks = [ask([(Action::Select, table(&number.to_string()))])];
        assert!(
            verdicts
                .authorize(&policy, &asks, &NoGrants, &NotApproved)
                .is_ok()
        );
    }
    assert_eq!(kept(&verdicts), REQUESTS);
    let large = [ask([(Action::Select, table(&"x".repeat(REQUEST_BYTES)))])];
    assert!(
        verdicts
            .authorize(&policy, &large, &NoGrants, &NotApproved)
            .is_ok()
    );
    assert!(!verdicts.kept.lock().unwrap().verdicts.contains(&large[..]));
}

#[test]
fn columns_are_seen_where_a_permit_reveals_them_and_no_forbid_does_not() {
    let rules = "
        permit(principal is Agent, action == Action::\"Reveal\",
               resource in Table::\"crm/app/public.people\");
        forbid(principal is Agent, action == Action::\"Reveal\",
               resource == Column::\"crm/app/public.people.ssn\");
        permit(principal is Agent, action in Action::\"Read\", resource);";
    let policy = load_text_as(rules, Generation(1)).unwrap();
    let column = |table: &str, column: &str| Resource::Column {
        schema: "public".to_owned(),
        table: table.to_owned(),
        column: column.to_owned(),
    };
    let columns = [
        column("people", "email"),
        column("people", "ssn"),
        column("cards", "number"),
        column("people", "name"),
    ];
    let verdicts = verdicts();
    assert_eq!(
        verdicts.revealed(&policy, &columns, &NoGrants),
        [Seen::Plain, Seen::Masked, Seen::Masked, Seen::Plain]
    );
    // What cannot be judged is not seen.
    let broken = "permit(principal is Agent, action == Action::\"Reveal\", resource);
        forbid(principal is Agent, action == Action::\"Reveal\", resource is Column)
        when { 9223372036854775807 + principal.user.uid > 0 };";
    let broken = load_text_as(broken, Generation(2)).unwrap();
    let reveals = verdicts.revealed(&broken, &columns[..1], &NoGrants);
    assert_eq!(reveals, [Seen::Masked]);
}

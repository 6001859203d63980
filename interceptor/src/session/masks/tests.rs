//! What a grant reveals, and how long what was found holds.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::masking::Mask;
use crate::policy::{NoGrants, PrincipalFacts, Want};

/// One grant for each of two columns; the second ends first.
struct Two;

impl Held for Two {
    fn cover(&self, want: &Want<'_>) -> Option<Covering> {
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            want.offers.iter().map(|offer| offer.terms.longest).max(),
            Some(hour)
        );
        let number = match want.access.resource.shown().as_str() {
            "column public.people.ssn" => 1,
            "column public.people.email" => 2,
            _ => return None,
        };
        Some(Covering {
            grant: GrantId(Uuid::from_u128(number)),
            until: BootTime(100 / u64::try_from(number).unwrap()),
        })
    }
}

#[test]
fn what_grants_reveal_is_told_with_the_grants() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"@grant("1h")
        permit (principal is Agent, action == Action::"Reveal", resource in Target::"crm");"#;
    std::fs::write(directory.path().join("rules.cedar"), rules).unwrap();
    let policy = Policy::load(directory.path(), Generation(1)).unwrap();
    let principal = crate::grants::a_principal();
    let facts = Arc::new(PrincipalFacts::new(&principal).unwrap());
    let verdicts = Verdicts::new(&facts, "crm", "app").unwrap();
    let sensitive: Vec<_> = ["ssn", "email", "name"]
        .map(|column| Sensitive {
            database: None,
            relation: Relation {
                schema: "public".to_owned(),
                name: "people".to_owned(),
            },
            column: column.to_owned(),
            mask: Mask::Hide,
        })
        .into();
    let of = |held: &dyn Held| of(&policy, &verdicts, (&sensitive, "app"), held);
    let (masks, revealing) = of(&NoGrants);
    assert_eq!((masks.columns().count(), revealing.len()), (3, 0));
    let (masks, revealing) = of(&Two);
    let masked: Vec<_> = masks.columns().map(|(_, column, _)| column).collect();
    assert_eq!(masked, ["name"]);
    let until = revealing.iter().map(|one| one.until).min();
    assert_eq!((revealing.len(), until), (2, Some(BootTime(50))));
}

#[test]
fn what_a_grant_reveals_is_asked_again_once_its_time_is_over_whoever_ends_it() {
    for (until, now, holds) in [
        (None, 9, true),
        (Some(10), 9, true),
        (Some(10), 10, false),
        (Some(10), 11, false),
    ] {
        let found = lasts(until.map(BootTime), || BootTime(now));
        assert_eq!(found, holds, "{until:?} {now}");
    }
}

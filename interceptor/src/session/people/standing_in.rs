//! Standing in: whether somebody may speak by the right of an approver who is away.

use std::sync::Arc;

use crate::approvals::{Delegation, Person};
use crate::identity::{Identity, LoggedIn};
use crate::policy::{ControlCaller, ControlObject, ControlVerb, RefusalKind};
use crate::session::services::Services;

/// The approver, as policy sees who that is now; `None` where `who` is not the one that was named, or runs as
/// an agent. `pid` is a process whose view of users counts.
pub async fn approver_of(
    services: &Arc<Services>,
    (who, pid): (&ControlCaller, u32),
    delegation: &Delegation,
) -> Option<ControlCaller> {
    let by = &delegation.by;
    let is_out = match who {
        ControlCaller::User(user) => {
            user.runs_agent || user.agent.is_some() || Some(user.uid) == by.uid
        }
        ControlCaller::Person(login) => by.login.as_ref().is_some_and(|own| own.is_of(login)),
    };
    let groups = who.groups();
    let groups: Vec<_> = groups.iter().map(String::as_str).collect();
    if is_out || !delegation.to.is(who.name().as_deref(), &groups) {
        return None;
    }
    away(services, pid, by)
        .await
        .map(|approver| match approver {
            ControlCaller::Person(login) => ControlCaller::Person(proved_by(&login, who)),
            user @ ControlCaller::User(_) => user,
        })
}

/// Somebody who is not there, as policy sees who that is now. Of who logged in by an issuer it is what that said last,
/// where its word still counts.
async fn away(services: &Arc<Services>, pid: u32, by: &Person) -> Option<ControlCaller> {
    if let Some(login) = &by.login {
        let counts = services.is_vouched_for(login);
        return counts.then(|| ControlCaller::Person(login.clone()));
    }
    // The primary group is among the others.
    let approver = services.user(pid, (by.uid?, u32::MAX)).await;
    let approver =
        approver.inspect_err(|error| tracing::warn!(%error, "cannot look up who delegated"));
    approver.ok().map(ControlCaller::User)
}

/// The approver's login, as surely known as both of them are: who speaks has not logged in as the approver did.
fn proved_by(login: &LoggedIn, who: &ControlCaller) -> LoggedIn {
    let Identity { acr, amr, .. } = &*login.identity;
    let (acr, amr) = match who {
        ControlCaller::Person(speaker) => {
            let speaker = &speaker.identity;
            let acr = acr.clone().filter(|acr| speaker.acr.as_ref() == Some(acr));
            (acr, amr.intersection(&speaker.amr).cloned().collect())
        }
        ControlCaller::User(_) => Default::default(),
    };
    LoggedIn {
        identity: Arc::new(Identity {
            acr,
            amr,
            ..Identity::clone(&login.identity)
        }),
        ..login.clone()
    }
}

/// Whether `who` may answer in the approver's place: the approver may, and `who` is not forbidden to.
#[must_use]
pub fn may(
    services: &Services,
    who: &ControlCaller,
    approver: &ControlCaller,
    object: &ControlObject,
) -> bool {
    let policy = services.policy.current();
    let judged =
        |caller: &ControlCaller| policy.authorize_control(caller, ControlVerb::Approve, object);
    let forbidden = |refusal: &crate::policy::Refusal| refusal.kind == RefusalKind::Forbidden;
    !judged(who).is_err_and(|refusal| forbidden(&refusal)) && judged(approver).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn login(subject: &str, acr: Option<&str>, amr: &[&str]) -> LoggedIn {
        LoggedIn {
            by: "staff".to_owned(),
            identity: Arc::new(Identity {
                issuer: "https://staff.example".to_owned(),
                subject: subject.to_owned(),
                user: None,
                groups: [format!("of {subject}")].into(),
                acr: acr.map(str::to_owned),
                amr: amr.iter().map(|word| (*word).to_owned()).collect(),
                claims: Default::default(),
                expires: clock::wall(),
            }),
            until: clock::boot(),
        }
    }

    #[test]
    fn an_approvers_right_is_no_better_proved_than_who_speaks_by_it() {
        let approver = login("a", Some("high"), &["hwk", "pwd"]);
        let of = |who: &LoggedIn| {
            let proved = proved_by(&approver, &ControlCaller::Person(who.clone()));
            // All else is the approver's.
            assert!(proved.is_of(&approver) && proved.groups().eq(approver.groups()));
            let Identity { acr, amr, .. } = &*proved.identity;
            (acr.clone(), amr.iter().cloned().collect::<Vec<_>>())
        };
        let hwk = || vec!["hwk".to_owned()];
        assert_eq!(
            of(&login("b", Some("high"), &["hwk"])),
            (Some("high".to_owned()), hwk())
        );
        assert_eq!(of(&login("b", None, &["hwk", "otp"])), (None, hwk()));
        assert_eq!(of(&login("b", Some("low"), &["otp"])), (None, Vec::new()));
    }
}

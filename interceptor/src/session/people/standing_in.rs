//! Standing in: whether somebody may speak by the right of an approver who is away.

use std::sync::Arc;

use crate::approvals::{Delegation, Person};
use crate::identity::{Identity, LoggedIn};
use crate::policy::{ControlCaller, ControlObject, ControlVerb, Policy, Refusal, RefusalKind};
use crate::session::services::Services;

/// Somebody in whose place another speaks.
#[derive(Debug)]
pub struct Approver {
    /// As policy sees who that is.
    own: ControlCaller,
    /// The same, as surely known as both of them are: by this it is spoken.
    pub right: ControlCaller,
}

/// The approver, as of now; `None` where `who` is not the one that was named, or runs as
/// an agent. `pid` is a process whose view of users counts.
pub async fn approver_of(
    services: &Arc<Services>,
    (who, pid): (&ControlCaller, u32),
    delegation: &Delegation,
) -> Option<Approver> {
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
        .map(|approver| Approver::of(approver, who))
}

impl Approver {
    /// Somebody in whose place `who` speaks.
    fn of(own: ControlCaller, who: &ControlCaller) -> Self {
        let right = match &own {
            ControlCaller::Person(login) => ControlCaller::Person(proved_by(login, who)),
            user @ ControlCaller::User(_) => user.clone(),
        };
        Self { own, right }
    }
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

/// Whether `who` may answer in the approver's place: the approver may, both by the own login and as surely known as
/// both of them are, and `who` is not forbidden to. What forbids one of them by the own login forbids it.
#[must_use]
pub fn may(
    policy: &Policy,
    who: &ControlCaller,
    approver: &Approver,
    object: &ControlObject,
) -> bool {
    let judged =
        |caller: &ControlCaller| policy.authorize_control(caller, ControlVerb::Approve, object);
    let forbidden = |refusal: &Refusal| refusal.kind == RefusalKind::Forbidden;
    let Approver { own, right } = approver;
    !judged(who).is_err_and(|refusal| forbidden(&refusal))
        && [own, right].iter().all(|one| judged(one).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::policy::Generation;

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

    #[test]
    fn what_is_said_of_an_approvers_own_login_holds_for_who_speaks_by_it() {
        let directory = tempfile::tempdir().unwrap();
        let rules = r#"
@id("staff") permit (principal is Person, action == Action::"Approve", resource)
when { principal.groups.contains("staff:of a") };
@id("sms") forbid (principal is Person, action == Action::"Approve", resource)
when { principal.amr.contains("sms") };
@id("low") forbid (principal is Person, action == Action::"Approve", resource)
when { principal has acr && principal.acr == "low" };
@id("otp") permit (principal is Person, action == Action::"Approve", resource in Agent::"other")
unless { principal.amr.contains("otp") };
"#;
        std::fs::write(directory.path().join("rules.cedar"), rules).unwrap();
        let policy = Policy::load(directory.path(), Generation(1)).unwrap();
        let answers = |approver: LoggedIn, who: LoggedIn, agent: &str| {
            let who = ControlCaller::Person(who);
            let approver = Approver::of(ControlCaller::Person(approver), &who);
            let object = ControlObject::Scope {
                agent: agent.to_owned(),
                cgroup: "/agents.slice/run".to_owned(),
            };
            may(&policy, &who, &approver, &object)
        };
        let who = || login("b", Some("high"), &["hwk"]);
        assert!(answers(login("a", Some("high"), &["hwk"]), who(), "claude"));
        // What bars the approver is not lifted by another's login.
        assert!(!answers(
            login("a", Some("high"), &["sms"]),
            who(),
            "claude"
        ));
        assert!(!answers(login("a", Some("low"), &["hwk"]), who(), "claude"));
        // Nor what permits it not at all.
        let other = |amr: &[&str]| answers(login("c", None, amr), who(), "other");
        assert!(other(&["hwk"]));
        assert!(!other(&["otp"]));
        // What bars who speaks holds as before.
        let barred = || login("b", None, &["sms"]);
        assert!(!answers(login("a", None, &["hwk"]), barred(), "claude"));
    }
}

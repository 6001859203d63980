//! Somebody who is no process on a socket: at the console, or in a chat.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::logins::SESSION;
use crate::audit::event::Caller;
use crate::clock;
use crate::identity::LoggedIn;
use crate::policy::{ControlCaller, HostUser, SessionUser};
use crate::session::services::Services;

/// How long after a login a yes may be said by it.
const FRESH: Duration = Duration::from_mins(15);

/// Somebody who logged in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The login.
    pub login: Uuid,
    /// As whom.
    pub who: As,
}

/// As whom somebody logged in.
#[derive(Clone, Debug)]
pub enum As {
    /// Root of the host, by a link that was printed for this caller, who came by this login.
    Root(Arc<Caller>, Option<SessionUser>),
    /// A person, by the word of an issuer or a chat.
    Person(LoggedIn),
}

impl Visitor {
    /// Whether the login counts still, by the configuration and the clock.
    #[must_use]
    pub fn is_good(&self, services: &Services) -> bool {
        match &self.who {
            As::Root(..) => true,
            As::Person(person) => services.is_good(person),
        }
    }

    /// Whether the login is a new one, so that a yes may be said by it.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        match &self.who {
            As::Root(..) => true,
            As::Person(person) => {
                let left = person.until.since(clock::boot());
                SESSION.saturating_sub(left) <= FRESH
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.who {
            As::Root(..) => "root".to_owned(),
            As::Person(person) => person.shown(),
        }
    }

    /// By what it is named as a stand-in.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.who {
            As::Root(..) => "root".to_owned(),
            As::Person(person) => person.id(),
        }
    }

    /// As policy sees it.
    pub(super) fn as_caller(&self) -> ControlCaller {
        match &self.who {
            As::Root(_, session) => ControlCaller::User(HostUser {
                uid: 0,
                gid: 0,
                name: None,
                groups: Vec::new(),
                agent: None,
                runs_agent: false,
                session: session.clone(),
            }),
            As::Person(person) => ControlCaller::Person(person.clone()),
        }
    }

    /// As the audit names it.
    pub(super) fn named(&self) -> Caller {
        let (person, link) = match &self.who {
            As::Root(link, _) => (None, Some(Arc::clone(link))),
            As::Person(person) => (Some(person.clone()), None),
        };
        Caller::Visitor {
            login: self.login,
            person,
            link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_yes_takes_a_new_login() {
        let of = |seconds| Visitor {
            login: Uuid::nil(),
            who: As::Person(LoggedIn {
                by: "staff".to_owned(),
                identity: Arc::new(Identity {
                    issuer: "https://staff.example".to_owned(),
                    subject: "1".to_owned(),
                    user: None,
                    groups: Default::default(),
                    acr: None,
                    amr: Default::default(),
                    claims: Default::default(),
                    expires: clock::wall(),
                }),
                until: clock::boot().after(SESSION - Duration::from_secs(seconds)),
            }),
        };
        assert!(of(0).is_fresh() && of(899).is_fresh());
        assert!(!of(901).is_fresh() && !of(3_599).is_fresh());
    }
}

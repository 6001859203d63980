//! Somebody who is no process on a socket: at the console, or in a chat.

use std::sync::Arc;

use uuid::Uuid;

use crate::audit::event::Caller;
use crate::identity::LoggedIn;
use crate::policy::{ControlCaller, HostUser, SessionUser};
use crate::session::services::Services;

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

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.who {
            As::Root(..) => "root".to_owned(),
            As::Person(person) => person.shown(),
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

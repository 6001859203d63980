//! Who answers: a user of the host, or a person who logged in by an issuer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Question;
use crate::identity::LoggedIn;
use crate::policy::Need;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// User id of a user of the host; root counts as one of every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The login of whoever is no user of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoggedIn>,
    /// Login name, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of the groups, as they were when it was said.
    pub groups: Vec<String>,
}

impl Person {
    /// The name, or the number.
    #[must_use]
    pub fn shown(&self) -> String {
        match (&self.login, &self.name, self.uid) {
            (Some(login), ..) => login.shown(),
            (None, Some(name), _) => name.clone(),
            (None, None, Some(0)) => "root".to_owned(),
            (None, None, Some(uid)) => format!("uid {uid}"),
            (None, None, None) => "nobody".to_owned(),
        }
    }

    /// Whether the person speaks for what `need` asks for, once somebody has waited so long.
    #[must_use]
    pub fn speaks_for(&self, need: &Need, waited: Duration) -> bool {
        self.is_root()
            || need
                .groups_after(waited)
                .any(|group| self.groups.contains(group))
    }

    /// Whether it is root of the host.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == Some(0) && self.login.is_none()
    }

    /// Whether it is the same person. One may be known by several words: who has the same name counts as one.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same = |one: Option<u32>, two: Option<u32>| one.is_some() && one == two;
        let login = match (&self.login, &other.login) {
            (Some(one), Some(two)) => one.is_of(two),
            _ => false,
        };
        login || same(self.uid, other.uid) || (self.name.is_some() && self.name == other.name)
    }

    /// Whether a request runs as this user.
    pub(super) fn runs(&self, question: &Question) -> bool {
        self.uid == Some(question.uid)
            || (self.login.is_some()
                && self.name.is_some()
                && self.name.as_deref() == question.user())
    }

    /// Whether a request is made on this person's behalf.
    pub(super) fn is_behind(&self, question: &Question) -> bool {
        let is_login = self.login.as_ref().is_some_and(|login| {
            let identity = &login.identity;
            question.is_of(&identity.issuer, &identity.subject)
        });
        let name = self.name.as_deref();
        is_login || name.is_some_and(|name| question.is_for(name))
    }
}

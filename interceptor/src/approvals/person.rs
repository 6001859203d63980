//! Who answers: a user of the host, or a person who logged in by an issuer.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Question;
use crate::config::{Config, KnownPerson, SLACK};
use crate::identity::{Identity, LoggedIn};
use crate::policy::{Need, SessionUser};

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
    /// By what else it was known when it was said: nobody counts twice, by whichever way they come.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub known_as: BTreeSet<String>,
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

    /// The same with what else is known of who it is: the session that a user of the host came by, and who is
    /// [`known`] by several words.
    #[must_use]
    pub fn also(mut self, session: Option<&SessionUser>, known: &[BTreeSet<String>]) -> Self {
        if let Some(session) = session {
            self.known_as.insert(by_uid(session.uid));
            let name = session.name.as_deref().filter(|_| session.uid != 0);
            self.known_as.extend(name.map(by_name));
        }
        let words = self.words();
        let own = known.iter().filter(|all| !all.is_disjoint(&words));
        self.known_as.extend(own.flatten().cloned());
        self
    }

    /// All by which it is known. A name counts without what stands behind its `@`, and in small letters: an issuer
    /// may call `alice@example.com` whom the host calls `alice`.
    fn words(&self) -> BTreeSet<String> {
        let mut words = self.known_as.clone();
        words.extend(self.uid.map(by_uid));
        let name = self.name.as_deref().filter(|_| self.uid != Some(0));
        words.extend(name.map(by_name));
        words.extend(self.login.as_ref().map(|login| {
            let Identity {
                issuer, subject, ..
            } = &*login.identity;
            by_subject(issuer, subject)
        }));
        words
    }

    /// Whether it is the same person. One may be known by several words: who has one of them in common counts as one.
    pub(super) fn is(&self, other: &Self) -> bool {
        !self.words().is_disjoint(&other.words())
            || (self.name.is_some() && self.name == other.name)
    }

    /// Whether a request runs as this user, by whatever word, or in a container of theirs.
    pub(super) fn runs(&self, question: &Question) -> bool {
        let words = self.words();
        let owners = &question.owners;
        let is_owner = |word: &String| {
            let uid = word.strip_prefix(UID).and_then(|uid| uid.parse().ok());
            uid.is_some_and(|uid| uid != 0 && owners.has(uid, None))
        };
        words.contains(&by_uid(question.uid))
            || words.iter().any(is_owner)
            || question
                .user()
                .is_some_and(|name| words.contains(&by_name(name)))
            || owners
                .names
                .iter()
                .any(|name| words.contains(&by_name(name)))
    }

    /// Whether a request is made on this person's behalf.
    pub(super) fn is_behind(&self, question: &Question) -> bool {
        let words = self.words();
        question.behind().any(|name| words.contains(&by_name(name)))
            || question
                .subjects()
                .any(|(issuer, subject)| words.contains(&by_subject(issuer, subject)))
    }
}

/// What a word begins with that is a user id.
const UID: &str = "uid ";

fn by_uid(uid: u32) -> String {
    format!("{UID}{uid}")
}

fn by_name(name: &str) -> String {
    let (own, _) = name.split_once('@').unwrap_or((name, ""));
    format!("name {}", own.to_lowercase())
}

fn by_subject(issuer: &str, subject: &str) -> String {
    format!("subject {issuer} {subject}")
}

/// Each of whom the configuration says who they are elsewhere, by all words.
#[must_use]
pub fn known(config: &Config) -> Vec<BTreeSet<String>> {
    let people = config.people.iter();
    people.map(|one| words_of(one, config)).collect()
}

/// A login of an issuer that is not there names nobody.
fn words_of(one: &KnownPerson, config: &Config) -> BTreeSet<String> {
    let login = |login: &String| {
        let (by, subject) = login.split_once(':')?;
        match by {
            SLACK => Some(by_subject(SLACK, subject)),
            _ => Some(by_subject(&config.issuers.get(by)?.url.text, subject)),
        }
    };
    let logins = one.logins.iter().filter_map(login);
    logins.chain([by_name(&one.user)]).collect()
}

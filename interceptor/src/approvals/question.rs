//! What people are asked: the request exactly as it was sent, by whom, and what it means beside its text.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::OPEN;
use crate::clock::{self, BootTime};
use crate::grants::Holder;
use crate::identity::{Identity, Owners, Principal};
use crate::policy::{ApprovalId, Needs};

/// Bytes of a principal, about: its argument list and its ancestors are bounded where they are read.
const PRINCIPAL: usize = 16 << 10;

/// One value: its text, or `None` for a null.
pub type Value = Option<String>;

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// Its name.
    pub id: ApprovalId,
    /// Whose request it is.
    pub holder: Holder,
    /// The same in full, as it stands in the audit.
    pub principal: serde_json::Value,
    /// The user that it runs as.
    pub uid: u32,
    /// Who else it is of.
    #[serde(default)]
    pub owners: Owners,
    /// SHA-256 of the executable.
    pub sha256: String,
    /// The target.
    pub target: String,
    /// The database.
    pub database: String,
    /// Words for people: `DELETE`.
    pub summary: String,
    /// Hash of the normalized text.
    pub fingerprint: String,
    /// What it shares with texts that differ in their literals alone.
    pub shape: String,
    /// Whether whatever shares that does the same with other values: only then an answer may cover it.
    #[serde(default)]
    pub varies: bool,
    /// The text, exactly.
    pub text: String,
    /// The values of its parameters; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// SHA-256 of the same, in hex: with their types, and of values that are too long to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The values of the literals in its text, in order; absent where they cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literals: Option<String>,
    /// Under what it is read.
    pub under: Vec<String>,
    /// In whose name it is asked, where that is not whom the scope is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Arc<Identity>>,
    /// Whose word it takes: of each one way.
    pub needs: Vec<Needs>,
    /// When it was asked first.
    pub asked: Timestamp,
    /// Until when it may be answered, for people.
    pub expires: Timestamp,
    /// When it was asked first, for the daemon.
    pub from: BootTime,
    /// Until when it may be answered, for the daemon.
    pub until: BootTime,
}

/// What makes two questions the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Question {
    /// One of `principal`, which begins now; what is asked is still to be said.
    ///
    /// # Errors
    /// Where the principal cannot be told as JSON.
    pub fn of(
        principal: &Principal,
        holder: Holder,
        needs: Vec<Needs>,
    ) -> serde_json::Result<Self> {
        let (from, asked) = (clock::boot(), clock::wall());
        Ok(Self {
            id: ApprovalId(Uuid::now_v7()),
            holder,
            principal: serde_json::to_value(principal)?,
            uid: principal.user.uid,
            owners: Owners::of(principal.process.pid, principal.user.uid),
            sha256: principal.process.executable.sha256.clone(),
            target: String::new(),
            database: String::new(),
            summary: String::new(),
            fingerprint: String::new(),
            shape: String::new(),
            varies: false,
            text: String::new(),
            values: None,
            digest: None,
            literals: None,
            under: Vec::new(),
            on_behalf_of: None,
            needs,
            asked,
            expires: asked.saturating_add(OPEN).unwrap_or(asked),
            from,
            until: from.after(OPEN),
        })
    }

    /// Who may answer as well by now, since nobody has for so long.
    #[must_use]
    pub fn escalated(&self, now: BootTime) -> BTreeSet<&str> {
        let waited = now.since(self.from).as_secs();
        let later = self.needs.iter().flatten().flat_map(|need| &need.later);
        let later = later.filter(|later| waited >= later.after);
        let groups = later.flat_map(|later| &later.groups);
        groups.map(String::as_str).collect()
    }

    /// When the next ones may.
    pub(super) fn escalates(&self, now: BootTime) -> Option<BootTime> {
        let later = self.needs.iter().flatten().flat_map(|need| &need.later);
        let times = later.map(|later| self.from.after(Duration::from_secs(later.after)));
        times.filter(|at| *at > now).min()
    }

    /// Of the very same request.
    pub(super) fn exact(&self) -> Key {
        self.key(&[
            b"exact",
            self.text.as_bytes(),
            self.digest.as_deref().unwrap_or_default().as_bytes(),
        ])
    }

    /// Whose request it is, whatever program or scope of theirs sends it: another copy of the one, or the next of
    /// the other, is no reason to ask people more often.
    pub(super) fn asker(&self) -> Key {
        Key(digest(self.whose().iter().map(String::as_bytes)))
    }

    /// Of requests that ask for the same with the same values, however they are spelled, whatever was set before,
    /// and whatever program or scope of whoever asks sends them: what was denied is not asked again with another
    /// space in it.
    pub(super) fn alike(&self) -> Option<Key> {
        let literals = self.literals.as_deref()?;
        let digest = self.digest.as_deref().unwrap_or_default();
        let own = [
            b"alike",
            self.fingerprint.as_bytes(),
            literals.as_bytes(),
            digest.as_bytes(),
        ];
        Some(self.wanted(&own))
    }

    /// Of requests that ask for the same, whatever literals are in their text: where those cannot be told, a no
    /// is for all of them.
    pub(super) fn unread(&self) -> Key {
        let digest = self.digest.as_deref().unwrap_or_default();
        let own = [b"unread", self.fingerprint.as_bytes(), digest.as_bytes()];
        self.wanted(&own)
    }

    /// Of requests that ask for the same, whatever their values are.
    pub(super) fn kind(&self) -> Key {
        self.wanted(&[b"kind", self.fingerprint.as_bytes()])
    }

    /// Of requests that differ in their literals alone.
    pub(super) fn shape(&self) -> Key {
        self.key(&[b"shape", self.shape.as_bytes()])
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let values = self.values.iter().flatten().flatten();
        let texts = values.chain(&self.under).map(String::len);
        texts.fold(
            self.text.len().saturating_add(PRINCIPAL),
            usize::saturating_add,
        )
    }

    /// What its identity says of whom it is asked for, where its scope is bound to one.
    pub(super) fn on_behalf(&self, what: &str) -> Option<&str> {
        self.principal.get("identity")?.get(what)?.as_str()
    }

    /// The name of the user that it runs as, where the host has one.
    pub(super) fn user(&self) -> Option<&str> {
        self.principal.pointer("/user/name")?.as_str()
    }

    /// The names of those in whose name it is asked.
    pub(super) fn behind(&self) -> impl Iterator<Item = &str> {
        let brought = self.on_behalf_of.as_ref();
        let brought = brought.and_then(|identity| identity.user.as_deref());
        self.on_behalf("user").into_iter().chain(brought)
    }

    /// The same, as their issuers call them.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&str, &str)> {
        let brought = self.on_behalf_of.as_ref();
        let brought = brought.map(|of| (of.issuer.as_str(), of.subject.as_str()));
        let bound = self.on_behalf("issuer").zip(self.on_behalf("subject"));
        bound.into_iter().chain(brought)
    }

    /// What an answer covers: from this scope and program alone.
    fn key(&self, own: &[&[u8]]) -> Key {
        let scope = self.holder.scope.to_be_bytes();
        let from: [&[u8]; 2] = [&scope, self.sha256.as_bytes()];
        let under = self.under.iter().map(String::as_bytes);
        let own = own.iter().copied().chain(from).chain(under);
        self.wanted(&own.collect::<Vec<_>>())
    }

    /// What somebody wants, wherever it comes from.
    fn wanted(&self, own: &[&[u8]]) -> Key {
        let whose = self.whose();
        let place = [self.target.as_bytes(), self.database.as_bytes()];
        // What takes another word is another question.
        let needs = serde_json::to_vec(&self.needs).unwrap_or_default();
        let whose = whose.iter().map(String::as_bytes);
        let parts = own.iter().copied().chain(whose).chain(place);
        Key(digest(parts.chain([needs.as_slice()])))
    }

    /// The agent and the user, and in whose name.
    fn whose(&self) -> [String; 6] {
        let [issuer, subject] = ["issuer", "subject"].map(|what| self.on_behalf(what));
        let brought = self.on_behalf_of.as_ref();
        let brought = brought.map_or(("", ""), |of| (of.issuer.as_str(), of.subject.as_str()));
        [
            brought.0.to_owned(),
            brought.1.to_owned(),
            issuer.unwrap_or_default().to_owned(),
            subject.unwrap_or_default().to_owned(),
            self.holder.agent.clone(),
            self.uid.to_string(),
        ]
    }
}

/// Each with its length: no two lists run into the same bytes.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}

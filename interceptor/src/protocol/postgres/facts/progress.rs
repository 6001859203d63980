//! One text from its first statement to its last: what each changes for those that follow.
//!
//! A simple query may hold `SET search_path` and, behind it, names that are looked up under the new
//! path; `PREPARE` and, behind it, `EXECUTE`. Where the effect is not certain, what follows is
//! unreadable.

use std::borrow::Cow;
use std::collections::HashMap;

use super::draft::{Draft, Lookup};
use super::{Effect, Names, Prepared};
use crate::policy::{Access, Action, Ask, Context, Resource};

/// A text whose statements ask for more accesses together is not read.
const MAX_ACCESSES: usize = 16 * 1024;

pub(super) struct Progress<'a> {
    names: &'a Names,
    path: Option<Cow<'a, [String]>>,
    /// Whether leaving a transaction block may bring back another search path.
    path_may_return: bool,
    prepared: Cow<'a, HashMap<String, Prepared>>,
    in_transaction: bool,
    statements: u32,
    accesses: usize,
    pub(super) effects: Vec<Effect>,
    pub(super) uses_path: bool,
    /// The search path of each statement, where something is masked.
    pub(super) paths: Vec<Option<Vec<String>>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(names: &'a Names, statements: usize) -> Self {
        Self {
            names,
            path: names.search_path.as_deref().map(Cow::Borrowed),
            path_may_return: names.in_transaction,
            prepared: Cow::Borrowed(&names.prepared),
            in_transaction: names.in_transaction,
            statements: u32::try_from(statements).unwrap_or(u32::MAX),
            accesses: 0,
            effects: Vec::new(),
            uses_path: false,
            paths: Vec::new(),
        }
    }

    /// The asks of all statements; `None` where one of them cannot be resolved. A text without a
    /// statement asks for what `SELECT 1` asks for: the server answers it.
    pub(super) fn asks(&mut self, drafts: &[Draft<'_>]) -> Option<Vec<Ask>> {
        if drafts.is_empty() {
            let access = Access {
                action: Action::Select,
                resource: Resource::Database,
            };
            let context = Context {
                has_where: true,
                in_transaction: self.in_transaction,
                ..Context::default()
            };
            return Some(vec![Ask {
                accesses: [access].into(),
                context,
            }]);
        }
        drafts.iter().map(|draft| self.ask(draft)).collect()
    }

    fn ask(&mut self, draft: &Draft<'_>) -> Option<Ask> {
        let lookup = Lookup {
            path: self.path.as_deref(),
            catalog: &self.names.catalog,
            functions: &self.names.functions,
            prepared: &self.prepared,
            statements: self.statements,
            in_transaction: self.in_transaction,
        };
        if self.names.masking.is_some() {
            self.paths.push(self.path.as_deref().map(<[_]>::to_vec));
        }
        let mut resolved = lookup.resolve(draft)?;
        if draft.effects.contains(&Effect::DiscardsAll) && !self.names.discard_keeps_role {
            let settings = &mut resolved.ask.context.settings;
            settings.insert("session_authorization".to_owned());
        }
        self.uses_path |= resolved.uses_path;
        self.accesses = self.accesses.saturating_add(resolved.ask.accesses.len());
        if self.accesses > MAX_ACCESSES {
            return None;
        }
        let mut effects = draft.effects.clone();
        for name in &draft.executes {
            effects.extend(
                self.prepared
                    .get(*name)
                    .into_iter()
                    .flat_map(|known| known.effects.clone()),
            );
        }
        if let Some(name) = draft.prepares {
            let search_path = resolved
                .uses_path
                .then(|| self.path.as_deref().map(<[_]>::to_vec));
            let prepared = Prepared {
                ask: resolved.ask.clone(),
                search_path: search_path.flatten(),
                effects,
            };
            effects = vec![Effect::Prepares {
                name: name.to_owned(),
                prepared,
            }];
        }
        for effect in effects {
            self.apply(&effect);
            self.effects.push(effect);
        }
        Some(resolved.ask)
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Begin => self.in_transaction = true,
            Effect::Commit { chain } | Effect::Rollback { chain } => {
                self.in_transaction = *chain;
                self.path_returns();
            }
            Effect::RollbackTo(_) => self.path_returns(),
            Effect::SetsSearchPath { to, local } => {
                let is_certain = self.in_transaction || !local;
                self.path = to.clone().filter(|_| is_certain).map(Cow::Owned);
                self.path_may_return = true;
            }
            Effect::ResetsSearchPath { local } => {
                let login = self.names.login_path.as_deref();
                let is_certain = self.in_transaction || !local;
                self.path = login.filter(|_| is_certain).map(Cow::Borrowed);
                self.path_may_return = true;
            }
            Effect::ResetsAll => {
                self.path = self.names.login_path.as_deref().map(Cow::Borrowed);
                self.path_may_return = true;
            }
            Effect::Prepares { name, prepared } => {
                let known = self.prepared.to_mut();
                known
                    .entry(name.clone())
                    .or_insert_with(|| prepared.clone());
            }
            Effect::Deallocates(Some(name)) => {
                self.prepared.to_mut().remove(name);
            }
            Effect::Deallocates(None) => self.prepared = Cow::default(),
            Effect::DiscardsAll => {
                self.path = self.names.login_path.as_deref().map(Cow::Borrowed);
                self.prepared = Cow::default();
            }
            Effect::Unknown => {
                self.path = None;
                self.prepared = Cow::default();
            }
            Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::SetsEncoding
            | Effect::SetsConformingStrings
            | Effect::Executes { .. }
            | Effect::DeclaresCursor { .. }
            | Effect::ClosesCursor(_)
            | Effect::Stores
            | Effect::CopyIn
            | Effect::CopyOut
            | Effect::CopyHeader
            | Effect::Fetches(_)
            | Effect::CopyBoth => {}
        }
    }

    fn path_returns(&mut self) {
        if self.path_may_return {
            self.path = None;
        }
    }
}

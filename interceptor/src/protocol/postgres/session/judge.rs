//! Judge: what a text asks for, read once and remembered as long as its scope stands.
//!
//! Decides nothing: it turns texts into readings, and makes the readings of what cannot be read. The
//! gate decides.

mod alone;

use std::collections::HashMap;
use std::sync::Arc;

use lru::LruCache;

pub use self::alone::Alone;
use super::super::facts::{self, Facts, Names, Prepared};
use super::super::mask::{self, Masking, Watch};
use super::entry::Statement;
use super::scope::{Path, Scope};
use super::table::Weigh as _;
use crate::masking::Masks;
use crate::policy::Action;
use crate::session::Reading;

/// Turns a text into facts. [`facts::read`](super::super::facts) is the one that runs.
pub type Read = fn(&str, &Names) -> Facts;

/// The longest text that is read, in bytes; what is longer is `Unreadable`.
pub const TEXT_MAX: usize = facts::MAX_TEXT;
/// Texts above this are read on a thread of their own: the grammar takes milliseconds for them.
const INLINE_MAX: usize = 16 << 10;
/// The most that is remembered, in bytes, for each state of the transaction.
const CACHE_MAX: usize = 512 << 10;
/// A text that is longer is not remembered.
const CACHED_TEXT_MAX: usize = 64 << 10;

/// A text of the client.
#[derive(Clone, Debug)]
pub(super) enum Text {
    /// All of it.
    Whole(Arc<str>),
    /// The front of one that is too long, or is not UTF-8.
    Front(Arc<str>),
}

impl Text {
    /// Of bytes that are all there.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= TEXT_MAX => Self::Whole(text.into()),
            _ => Self::front(bytes),
        }
    }

    /// Of bytes that go on.
    pub(super) fn front(bytes: &[u8]) -> Self {
        let front = bytes.get(..bytes.len().min(FRONT)).unwrap_or_default();
        Self::Front(String::from_utf8_lossy(front).into())
    }
}

/// How much is kept of a text that is not read.
pub(super) const FRONT: usize = 1 << 10;

/// Reads, and remembers.
#[derive(Debug)]
pub(super) struct Judge {
    read: Read,
    names: Names,
    /// Under which search path the remembered texts were read.
    under: Path,
    outside: Memory,
    inside: Memory,
    /// The shape being looked up, and where its literals end in the text.
    shape: String,
    literals: Vec<usize>,
    /// What the database looks like; `None` where nothing in it is ever masked.
    known: Option<Arc<Watch>>,
    /// The masks, and how often the database had changed, when `names.masking` was made of them.
    masks: (Arc<Masks>, u64),
}

impl Judge {
    pub(super) fn new(read: Read, mut names: Names, known: Option<Arc<Watch>>) -> Self {
        let under = names.search_path.clone().map(Arc::new);
        names.login_path.clone_from(&names.search_path);
        names.prepared = HashMap::new();
        Self {
            read,
            names,
            under,
            outside: Memory::new(),
            inside: Memory::new(),
            shape: String::new(),
            literals: Vec::new(),
            known,
            masks: (Arc::default(), 0),
        }
    }

    /// The masks that are read by.
    pub(super) fn masks(&self) -> &Arc<Masks> {
        &self.masks.0
    }

    /// Reads by these masks from now on.
    pub(super) fn heed(&mut self, masks: Arc<Masks>) {
        let changes = self
            .known
            .as_ref()
            .map_or(0, |watch| watch.known().changes());
        if Arc::ptr_eq(&masks, &self.masks.0) && changes == self.masks.1 {
            return;
        }
        self.masks = (masks, changes);
        let masks = &self.masks.0;
        if masks.is_empty() && self.names.masking.is_none() {
            return;
        }
        self.names.masking = (!masks.is_empty()).then(|| {
            let catalog = &self.names.catalog;
            match &self.known {
                Some(watch) => watch.known().masking(masks, catalog),
                None => Arc::new(Masking::new(None, Arc::clone(masks), Arc::clone(catalog))),
            }
        });
        self.outside.forget();
        self.inside.forget();
    }

    /// Whether it was asked what the database looks like: only where something may be masked.
    pub(super) fn is_watching(&self) -> bool {
        self.known.is_some()
    }

    /// What must be waited for before a text can be read: what the database looks like now.
    pub(super) fn waits_for(&self, masks: &Masks, is_changing: bool) -> Option<Arc<Watch>> {
        let watch = self.known.as_ref().filter(|_| !masks.is_empty())?;
        (!watch.is_ready(is_changing)).then(|| Arc::clone(watch))
    }

    /// What is masked.
    pub(super) fn masking(&self) -> Option<&Arc<Masking>> {
        self.names.masking.as_ref()
    }

    /// What is remembered of a text, or of one that differs from it in literals that do not matter.
    pub(super) fn recall(&mut self, text: &Arc<str>, scope: &Scope) -> Option<Arc<Statement>> {
        if text.len() > CACHED_TEXT_MAX {
            return None;
        }
        let mut shape = std::mem::take(&mut self.shape);
        let mut literals = std::mem::take(&mut self.literals);
        let memory = self.memory(scope);
        let same = facts::ends(text, &mut shape, &mut literals)
            .then(|| memory.texts.get(shape.as_str()))
            .flatten();
        let known = match same {
            Some(same) if same.text == *text => Some(Arc::clone(same)),
            Some(same) => same.with_text(text, &literals).map(Arc::new),
            None => memory.texts.get(&**text).map(Arc::clone),
        };
        self.shape = shape;
        self.literals = literals;
        known
    }

    fn memory(&mut self, scope: &Scope) -> &mut Memory {
        if self.under != *scope.path() {
            self.under = scope.path().clone();
            self.outside.forget();
            self.inside.forget();
        }
        if scope.in_transaction() {
            &mut self.inside
        } else {
            &mut self.outside
        }
    }

    /// Reads a text. Those that may run a prepared statement need to know `prepared`, and are not
    /// remembered, as they mean what it means.
    pub(super) async fn read(
        &mut self,
        text: &Arc<str>,
        scope: &Scope,
        prepared: Option<HashMap<String, Prepared>>,
    ) -> Arc<Statement> {
        let remember = prepared.is_none() && text.len() <= CACHED_TEXT_MAX;
        self.names.search_path = scope.path().as_ref().map(|path| path.to_vec());
        self.names.in_transaction = scope.in_transaction();
        self.names.prepared = prepared.unwrap_or_default();
        let facts = if text.len() <= INLINE_MAX {
            (self.read)(text, &self.names)
        } else {
            let (read, names) = (self.read, self.names.clone());
            let apart = Arc::clone(text);
            // A reader that panics has not read.
            tokio::task::spawn_blocking(move || read(&apart, &names))
                .await
                .unwrap_or_else(|_| facts::unread(text, scope.in_transaction()))
        };
        self.names.prepared = HashMap::new();
        let masking = self.names.masking.clone();
        let statement = Arc::new(Statement::new(Arc::clone(text), &facts, scope, masking));
        if remember {
            let key = if facts.of_its_shape && facts::shape(text, &mut self.shape) {
                self.shape.as_str().into()
            } else {
                Arc::clone(text)
            };
            self.memory(scope).keep(key, Arc::clone(&statement));
        }
        statement
    }
}

/// Whether a text may run a prepared statement: it must have the word in it, and no way to write a
/// key word hides its letters.
pub(super) fn may_execute(text: &str) -> bool {
    text.as_bytes()
        .windows(7)
        .any(|word| word.eq_ignore_ascii_case(b"execute"))
}

/// A text that is not read: it is one request with the action `Unreadable`.
pub(super) fn unread(
    front: &Arc<str>,
    scope: &Scope,
    masking: Option<&Arc<Masking>>,
) -> Arc<Statement> {
    let facts = masked(facts::unread(front, scope.in_transaction()), masking);
    Arc::new(Statement::new(
        Arc::clone(front),
        &facts,
        scope,
        masking.cloned(),
    ))
}

/// A call by the function-call message. The function's number says nothing about what it is.
pub(super) fn function_call(scope: &Scope, masking: Option<&Arc<Masking>>) -> Arc<Statement> {
    let mut facts = facts::made_up(Action::FastPath, "function call", scope.in_transaction());
    facts.readable = true;
    let facts = masked(facts, masking);
    Arc::new(Statement::new("".into(), &facts, scope, masking.cloned()))
}

/// Where anything is masked, nothing goes upstream that was not read.
fn masked(mut facts: Facts, masking: Option<&Arc<Masking>>) -> Facts {
    if masking.is_some() {
        let reading = Reading {
            veto: Some(Arc::new(mask::unreadable())),
            ..Reading::clone(&facts.reading)
        };
        facts.reading = Arc::new(reading);
    }
    facts
}

/// What was prepared inside of another text, under a scope that may be another one by now.
pub(super) fn rejudged(
    statement: &Arc<Statement>,
    scope: &Scope,
    masking: Option<&Arc<Masking>>,
) -> Arc<Statement> {
    let path = statement.under.as_ref();
    if path.is_some_and(|path| path.is_none() || path != scope.path()) {
        return unread(&statement.text, scope, masking);
    }
    if !statement.is_masked_by(masking) {
        return Arc::new(statement.outdated(masking));
    }
    Arc::new(statement.within(scope))
}

/// Texts and shapes, least recently used first out.
#[derive(Debug)]
struct Memory {
    texts: LruCache<Arc<str>, Arc<Statement>>,
    weight: usize,
}

impl Memory {
    fn new() -> Self {
        Self {
            texts: LruCache::unbounded(),
            weight: 0,
        }
    }

    fn keep(&mut self, key: Arc<str>, statement: Arc<Statement>) {
        self.weight = self.weight.saturating_add(weight(&key, &statement));
        if let Some(old) = self.texts.put(Arc::clone(&key), statement) {
            self.weight = self.weight.saturating_sub(weight(&key, &old));
        }
        while self.weight > CACHE_MAX
            && let Some((key, old)) = self.texts.pop_lru()
        {
            self.weight = self.weight.saturating_sub(weight(&key, &old));
        }
    }

    fn forget(&mut self) {
        self.texts.clear();
        self.weight = 0;
    }
}

/// A key and all that is known of its text, about.
fn weight(key: &str, statement: &Statement) -> usize {
    let entry = key.len().saturating_add(512);
    entry.saturating_add(statement.weight())
}

#[cfg(test)]
mod tests;

//! What is known of a database now, shared by all sessions on it, and when it has to be read again.
//!
//! What is old is read again beside the sessions that go on; what something has changed is worth nothing
//! until then. A change counts twice, when it goes upstream and when its transaction has ended: what was
//! read in between may be either.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::cover::Masking;
use super::schema::Schema;
use crate::clock::{self, BootTime};
use crate::masking::Masks;

/// How old it may be before it is read again.
const OLD: Duration = Duration::from_secs(60);
/// How old it may be before it is worth nothing.
const TOO_OLD: Duration = Duration::from_secs(300);
/// How long a statement waits for it to be read again.
const PATIENCE: Duration = Duration::from_secs(5);

/// More relations that were closed are only counted.
const TOLD_MAX: usize = 8;
/// How many principals' masks are kept made.
const MADE_MAX: usize = 16;
/// How often it is found out anew for one session, where it became another one meanwhile.
const TRIES_MAX: usize = 3;

/// What was said of a database last, by whichever of its servers.
#[derive(Debug, Default)]
pub struct Past(Mutex<Option<Arc<Schema>>>);

impl Past {
    fn last(&self) -> MutexGuard<'_, Option<Arc<Schema>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing was said: the configuration is another one.
    pub fn forget(&self) {
        *self.last() = None;
    }
}

/// What is known of a database.
#[derive(Debug, Default)]
pub struct Known {
    past: Arc<Past>,
    state: Mutex<State>,
    changes: AtomicU64,
    news: Notify,
    /// What masks make of it, those that were asked for last at the end: of the sessions that see the same one
    /// finds out.
    made: Mutex<VecDeque<Arc<Making>>>,
}

/// What masks make of a database, or will have made.
#[derive(Debug)]
struct Making {
    schema: Option<Arc<Schema>>,
    masks: Arc<Masks>,
    catalog: Arc<HashSet<String>>,
    made: OnceLock<Arc<Masking>>,
}

impl Making {
    /// Whether it is of these. What a database looks like is one value as long as it does not change.
    fn is_of(&self, other: &Self) -> bool {
        self.is_about(other.schema.as_ref())
            && (Arc::ptr_eq(&self.masks, &other.masks) || self.masks == other.masks)
            && (Arc::ptr_eq(&self.catalog, &other.catalog) || self.catalog == other.catalog)
    }

    fn is_about(&self, schema: Option<&Arc<Schema>>) -> bool {
        is_same(self.schema.as_ref(), schema)
    }

    fn make(&self, find: impl FnOnce(&Self) -> Masking) -> Arc<Masking> {
        let made = self.made.get_or_init(|| {
            let masking = find(self);
            if let Some(misfits) = masking.misfits() {
                tracing::warn!(%misfits, "what the configuration calls sensitive does not fit the database");
            }
            Arc::new(masking)
        });
        Arc::clone(made)
    }
}

/// Whether a database looks like this still.
fn is_same(one: Option<&Arc<Schema>>, other: Option<&Arc<Schema>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[derive(Debug, Default)]
struct State {
    schema: Option<Arc<Schema>>,
    /// What was known last, though it may be worth nothing: what hangs on it goes on to do so.
    last: Option<Arc<Schema>>,
    read: Option<BootTime>,
    /// Whether it is to be read again, though it still holds.
    wanted: bool,
    doubts: u64,
}

impl Known {
    /// Of one server; `past` is that of all that have this database.
    #[must_use]
    pub fn new(past: Arc<Past>) -> Self {
        Self {
            past,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts how often it became another.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Counts how often it was doubted: what is read must be told how often it was when it began.
    #[must_use]
    pub fn doubts(&self) -> u64 {
        self.state().doubts
    }

    /// What is known; nothing, from when something changed it until it is read again.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Schema>> {
        self.state().schema.clone()
    }

    /// What these masks make of it, for sessions to which the names in `catalog` are the system's.
    #[must_use]
    pub fn masking(&self, masks: &Arc<Masks>, catalog: &Arc<HashSet<String>>) -> Arc<Masking> {
        self.masking_by(masks, catalog, &|making| {
            let (masks, catalog) = (Arc::clone(&making.masks), Arc::clone(&making.catalog));
            Masking::new(making.schema.clone(), masks, catalog)
        })
    }

    fn masking_by(
        &self,
        masks: &Arc<Masks>,
        catalog: &Arc<HashSet<String>>,
        find: &dyn Fn(&Making) -> Masking,
    ) -> Arc<Masking> {
        let of = |schema| {
            let making = self.making(Making {
                schema,
                masks: Arc::clone(masks),
                catalog: Arc::clone(catalog),
                made: OnceLock::new(),
            });
            match making.made.get() {
                Some(made) => Arc::clone(made),
                // Who waits for what another session finds out would only do the same.
                None => beside(|| making.make(find)),
            }
        };
        for _ in 0..TRIES_MAX {
            let schema = self.current();
            let masking = of(schema.clone());
            // It may be worth nothing any more.
            if is_same(schema.as_ref(), self.current().as_ref()) {
                return masking;
            }
        }
        of(None)
    }

    /// The one that is kept, or this, which is kept from now on. Nothing is found out here, where all sessions wait.
    fn making(&self, new: Making) -> Arc<Making> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|made| made.is_of(&new));
        if let Some(known) = known.and_then(|at| made.remove(at)) {
            made.push_back(Arc::clone(&known));
            return known;
        }
        // What was made of another one is of no use any more.
        let schema = new.schema.as_ref();
        made.retain(|made| schema.is_none() || made.is_about(schema));
        while made.len() >= MADE_MAX {
            made.pop_front();
        }
        let new = Arc::new(new);
        made.push_back(Arc::clone(&new));
        new
    }

    /// Whether there is no need to read it again.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let state = self.state();
        state.schema.is_some() && !state.wanted && age(&state).is_some_and(|age| age < OLD)
    }

    /// What was just read. One that is the same as before stays the one that it was; one that was doubted
    /// since there were `doubts` of it is worth nothing.
    pub fn learn(&self, mut schema: Schema, doubts: u64) {
        let mut state = self.state();
        if state.doubts == doubts {
            state.read = Some(clock::boot());
            state.wanted = false;
            let past = self.past.last().clone();
            let past = past.filter(|past| {
                let own = state.last.as_ref();
                own.is_none_or(|own| !Arc::ptr_eq(own, past))
            });
            let closed = schema.keep(state.last.as_deref(), past.as_deref());
            tell(&schema, &closed);
            if state.schema.as_deref() != Some(&schema) {
                // What was worth nothing for a while may be what it was.
                let same = state.last.take().filter(|last| **last == schema);
                let schema = same.unwrap_or_else(|| Arc::new(schema));
                state.last = Some(Arc::clone(&schema));
                *self.past.last() = Some(Arc::clone(&schema));
                state.schema = Some(schema);
                self.changes.fetch_add(1, Ordering::Release);
            }
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// Forgets what hung on what: the configuration is another one.
    pub fn forget(&self) {
        self.state().last = None;
        self.doubt(true);
    }

    /// Something changed it: it is to be read again, and is worth nothing before where that may be about
    /// what is masked.
    pub fn doubt(&self, worthless: bool) {
        let mut state = self.state();
        state.doubts = state.doubts.saturating_add(1);
        state.wanted = true;
        if worthless && state.schema.take().is_some() {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// Does what may take long, as there may be many views; others go on meanwhile where there are workers for them.
fn beside<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Tells the operator what was closed.
fn tell(schema: &Schema, closed: &[u32]) {
    let tables = closed.iter().filter_map(|oid| schema.tables.get(oid));
    let names = tables.map(|table| format!("{}.{}", table.schema, table.name));
    let names: Vec<String> = names.take(TOLD_MAX).collect();
    if !closed.is_empty() {
        tracing::error!(
            tables = names.join(", "),
            count = closed.len(),
            "what masks hung on has changed so often that it is not kept any more: these are closed until the \
             configuration is read again"
        );
    }
}

fn age(state: &State) -> Option<Duration> {
    state.read.map(|read| clock::boot().since(read))
}

/// A session's eye on what is known of its database.
pub struct Watch {
    known: Arc<Known>,
    again: Again,
    asked: Arc<AtomicBool>,
}

/// Has what is known of a database read again, beside the session.
pub type Again = Box<dyn Fn(Asked) + Send + Sync>;

/// A reading that was asked for: it has ended, well or not, when this is dropped, and may be asked for
/// again.
#[derive(Debug)]
pub struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// `again` has it read again.
    #[must_use]
    pub fn new(known: Arc<Known>, again: Again) -> Self {
        Self {
            known,
            again,
            asked: Arc::default(),
        }
    }

    /// What is known.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Whether a text may be read by what is known now. What is old is asked for again, one reading at
    /// a time; what the session itself `is_changing` cannot be read yet.
    #[must_use]
    pub fn is_ready(&self, is_changing: bool) -> bool {
        if self.known.is_fresh() {
            self.asked.store(false, Ordering::Relaxed);
            return true;
        }
        if !self.asked.swap(true, Ordering::Relaxed) {
            (self.again)(Asked(Arc::clone(&self.asked)));
        }
        let state = self.known.state();
        let is_wanted = state.wanted && !is_changing;
        !is_wanted && state.schema.is_some() && age(&state).is_some_and(|age| age < TOO_OLD)
    }

    /// Waits until it was read again, for a while. Where it is worth nothing then, nothing is known.
    pub async fn ready(&self, is_changing: bool) {
        let news = async {
            loop {
                let news = self.known.news.notified();
                if self.is_ready(is_changing) {
                    return;
                }
                news.await;
                self.asked.store(false, Ordering::Relaxed);
            }
        };
        if timeout(PATIENCE, news).await.is_err() {
            self.asked.store(false, Ordering::Relaxed);
            let is_old = age(&self.known.state()).is_none_or(|age| age >= TOO_OLD);
            if is_old {
                self.known.doubt(true);
            }
        }
    }
}

/// Changes of the database that a session has asked for, until its transaction ends.
#[derive(Debug, Default)]
pub struct Changes {
    watch: Option<Arc<Watch>>,
    pending: bool,
    worthless: bool,
}

impl Changes {
    /// None yet.
    #[must_use]
    pub fn new(watch: Option<Arc<Watch>>) -> Self {
        Self {
            watch,
            ..Self::default()
        }
    }

    /// A statement that changes it goes upstream. A principal for whom something is masked cannot change
    /// what is masked, so that what is known still holds.
    pub fn begin(&mut self, is_masked: bool) {
        self.pending = true;
        self.worthless |= !is_masked;
        self.tell();
    }

    /// Whether their transaction has not ended.
    #[must_use]
    pub fn are_pending(&self) -> bool {
        self.pending
    }

    /// No transaction is open any more.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.tell();
            self.worthless = false;
        }
    }

    fn tell(&self) {
        if let Some(watch) = &self.watch {
            watch.known.doubt(self.worthless);
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masking::{Mask, Relation};

    fn masks(mask: Mask) -> Arc<Masks> {
        let relation = Relation {
            schema: "public".to_owned(),
            name: "p".to_owned(),
        };
        let mut masks = Masks::default();
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), mask);
        masks.into()
    }

    #[test]
    fn sessions_that_see_the_same_share_what_was_made_of_it() {
        let known = Known::default();
        let catalog: Arc<HashSet<String>> = Arc::default();
        let of = |masks: &Arc<Masks>| known.masking(masks, &catalog);
        let unknown = of(&masks(Mask::Null));
        known.learn(Schema::default(), known.doubts());
        let first = of(&masks(Mask::Null));
        assert!(!Arc::ptr_eq(&unknown, &first));
        assert!(first.masked().next().is_none());
        assert!(Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        let other = of(&masks(Mask::Hide));
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(Arc::ptr_eq(&other, &of(&masks(Mask::Hide))));
        assert!(Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        let others = Arc::new(HashSet::from(["pg_class".to_owned()]));
        let names = known.masking(&masks(Mask::Null), &others);
        assert!(!Arc::ptr_eq(&first, &names));
        // The same once more is the same, also where it was worth nothing meanwhile; another one is not.
        known.learn(Schema::default(), known.doubts());
        assert!(Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        known.doubt(true);
        assert!(!Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        known.learn(Schema::default(), known.doubts());
        assert!(Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        let mut schema = Schema::default();
        schema.attributes.push("attrelid".to_owned());
        known.learn(schema, known.doubts());
        assert!(!Arc::ptr_eq(&first, &of(&masks(Mask::Null))));
        let many = (0..100).map(|shown| of(&masks(Mask::Partial(shown))));
        assert_eq!(many.count(), 100);
        assert_eq!(known.made.lock().unwrap().len(), MADE_MAX);
    }

    #[test]
    fn who_finds_out_keeps_nobody_else_waiting_and_what_changed_meanwhile_is_worth_nothing() {
        let (known, catalog) = (Arc::new(Known::default()), Arc::default());
        known.learn(Schema::default(), known.doubts());
        let (began, begins) = std::sync::mpsc::sync_channel(8);
        let (go, goes) = std::sync::mpsc::sync_channel::<()>(1);
        let slow = std::thread::spawn({
            let (known, catalog, goes) =
                (Arc::clone(&known), Arc::clone(&catalog), Mutex::new(goes));
            move || {
                known.masking_by(&masks(Mask::Null), &catalog, &|making| {
                    began.send(making.schema.is_some()).unwrap();
                    if making.schema.is_some() {
                        goes.lock().unwrap().recv().unwrap();
                    }
                    Masking::new(
                        making.schema.clone(),
                        Arc::clone(&making.masks),
                        Arc::clone(&making.catalog),
                    )
                })
            }
        });
        assert!(begins.recv().unwrap());
        // With nobody else at it this returns, while the other one is held.
        let other = known.masking(&masks(Mask::Hide), &catalog);
        assert!(other.is_about(known.current().as_ref()));
        known.doubt(true);
        go.send(()).unwrap();
        assert!(slow.join().unwrap().is_about(None));
    }

    #[test]
    fn a_reading_that_failed_is_asked_for_again_and_one_under_way_is_not() {
        let readings: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let asked = Arc::clone(&readings);
        let again = Box::new(move |reading| asked.lock().unwrap().push(reading));
        let watch = Watch::new(Arc::default(), again);
        assert!(!watch.is_ready(false));
        assert!(!watch.is_ready(false));
        assert_eq!(readings.lock().unwrap().len(), 1);
        // It ends without having learnt anything.
        drop(readings.lock().unwrap().pop());
        assert!(!watch.is_ready(false));
        assert_eq!(readings.lock().unwrap().len(), 1);
    }
}

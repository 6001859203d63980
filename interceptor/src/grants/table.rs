//! The live grants in memory, by scope: what every request is looked up in.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cover;
use super::{Amount, Ended, Error, Grant, Standing, Take, Taken};
use crate::clock::BootTime;
use crate::policy::{Action, Budget, Covering, GrantId, Limit, Limits};

/// Live grants of one scope.
pub(super) const OF_ONE: usize = 256;
/// Live grants of all scopes.
const OF_ALL: usize = 65_536;

/// A grant that lives, and what has been taken of it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) grant: Grant,
    state: Mutex<State>,
    /// Cancelled when nothing can stand on it any more.
    gone: CancellationToken,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct State {
    taken: Amount,
    /// How many stand on it.
    standing: usize,
    ended: Option<Ended>,
}

/// How well something new stands on a grant; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Nothing of it is counted.
    Free,
    /// It is counted, and there is some.
    Counted,
    /// All that is left is set aside for what runs.
    Busy,
}

impl Live {
    /// Whether it has begun, and its time is not over.
    fn is_time(&self, now: BootTime) -> bool {
        (self.grant.from..self.grant.until).contains(&now)
    }

    /// Whether what stands on it may go on.
    pub(super) fn stands(&self, now: BootTime) -> bool {
        self.is_time(now) && self.state().ended.is_none()
    }

    /// How well something new would stand on it; `None` where it cannot.
    pub(super) fn room(&self, now: BootTime) -> Option<Room> {
        if !self.is_time(now) {
            return None;
        }
        let budget = &self.grant.budget;
        let state = self.state();
        match state.ended {
            Some(_) => None,
            None if budget.is_empty() => Some(Room::Free),
            None if state.taken.is_all_uses(budget) => None,
            None if !state.taken.is_all_data(budget) => Some(Room::Counted),
            None => (state.standing > 0).then_some(Room::Busy),
        }
    }

    fn take(self: &Arc<Self>, what: Take<'_>, now: BootTime) -> Result<Taken, Error> {
        let budget = &self.grant.budget;
        let mut state = self.state();
        if !self.is_time(now) || state.ended.is_some() {
            return Err(Error::Spent);
        }
        let took = match what {
            Take::Hold => Amount::default(),
            _ if state.taken.is_all_uses(budget) => return Err(Error::Spent),
            Take::Use => Amount {
                uses: 1,
                ..Amount::default()
            },
            Take::Answer(_) if state.taken.is_all_data(budget) => {
                return Err(match state.standing {
                    0 => Error::Spent,
                    _ => Error::Busy,
                });
            }
            Take::Answer(limits) => set_aside(budget, state.taken, limits),
        };
        state.taken = state.taken.and(took);
        state.standing = state.standing.saturating_add(1);
        drop(state);
        Ok(Taken::new(Arc::clone(self), took))
    }

    pub(super) fn put_back(&self, unused: Amount) {
        let mut state = self.state();
        state.taken = state.taken.without(unused);
    }

    /// One who stood on it stands on it no more.
    pub(super) fn let_go(&self) {
        let mut state = self.state();
        state.standing = state.standing.saturating_sub(1);
        let over = self.is_over(&state);
        drop(state);
        if over {
            self.bell.ring(self.grant.id);
        }
    }

    /// Whether it is used up, and nothing of it runs.
    fn is_over(&self, state: &State) -> bool {
        state.standing == 0 && state.ended.is_none() && state.taken.is_all_of(&self.grant.budget)
    }

    fn standing(&self) -> Standing {
        let taken = self.state().taken;
        Standing::new(self.grant.clone(), taken)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One use, and all that an answer can need of what is left.
fn set_aside(budget: &Budget, taken: Amount, limits: Option<&Limits>) -> Amount {
    let some = |budget: Option<u64>, taken: u64, limit: Option<&Limit>| {
        let left = budget.map_or(0, |most| most.saturating_sub(taken));
        limit.map_or(left, |limit| left.min(limit.most))
    };
    Amount {
        uses: 1,
        rows: some(
            budget.rows,
            taken.rows,
            limits.and_then(|limits| limits.max_rows.as_ref()),
        ),
        bytes: some(
            budget.bytes,
            taken.bytes,
            limits.and_then(|limits| limits.max_bytes.as_ref()),
        ),
    }
}

/// Tells whoever ends grants that something changed.
#[derive(Debug, Default)]
struct Bell {
    changes: watch::Sender<u64>,
    /// Those that may be used up.
    spent: Mutex<Vec<GrantId>>,
}

impl Bell {
    fn ring(&self, spent: GrantId) {
        self.spent().push(spent);
        self.count();
    }

    fn count(&self) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn spent(&self) -> MutexGuard<'_, Vec<GrantId>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every live grant.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: RwLock<Held>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Held {
    by_scope: HashMap<u64, OfScope>,
    by_id: HashMap<GrantId, Arc<Live>>,
    by_end: BTreeSet<(BootTime, GrantId)>,
    /// Those that had not begun when they were entered.
    by_start: BTreeSet<(BootTime, GrantId)>,
    /// Places of grants that are about to be issued, by scope, and of all.
    coming: HashMap<u64, usize>,
    all_coming: usize,
    /// Counts all that was issued and ended.
    number: u64,
}

#[derive(Debug, Default)]
struct OfScope {
    grants: Vec<Listed>,
    number: u64,
}

/// A grant in the list of its scope, with what most of them can be passed over by.
#[derive(Debug)]
struct Listed {
    actions: u64,
    target: u64,
    /// Of which part of a database it is.
    key: Option<u64>,
    live: Arc<Live>,
}

/// A place among the live grants, for one that is about to be issued.
#[derive(Debug)]
pub(super) struct Place<'a> {
    table: &'a Table,
    scope: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.table.write();
        held.all_coming = held.all_coming.saturating_sub(1);
        if let Some(count) = held.coming.get_mut(&self.scope) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.coming.remove(&self.scope);
            }
        }
    }
}

impl Held {
    /// Something was issued or ended in a scope.
    fn count_up(&mut self, scope: u64) {
        self.number = self.number.wrapping_add(1);
        if let Some(of_scope) = self.by_scope.get_mut(&scope) {
            of_scope.number = self.number;
        }
    }
}

impl Table {
    /// Makes room for one more.
    pub(super) fn place(&self, scope: u64) -> Result<Place<'_>, Error> {
        let mut held = self.write();
        let coming = held.coming.get(&scope).copied().unwrap_or_default();
        let live = held
            .by_scope
            .get(&scope)
            .map_or(0, |of_scope| of_scope.grants.len());
        if live.saturating_add(coming) >= OF_ONE {
            return Err(Error::Full("256 live grants of one scope"));
        }
        if held.by_id.len().saturating_add(held.all_coming) >= OF_ALL {
            return Err(Error::Full("65,536 live grants of all scopes"));
        }
        held.coming.insert(scope, coming.saturating_add(1));
        held.all_coming = held.all_coming.saturating_add(1);
        drop(held);
        Ok(Place { table: self, scope })
    }

    pub(super) fn enter(&self, grant: Grant, taken: Amount) {
        let scope = grant.holder.scope;
        let live = Arc::new(Live {
            state: Mutex::new(State {
                taken,
                ..State::default()
            }),
            gone: CancellationToken::new(),
            bell: Arc::clone(&self.bell),
            grant,
        });
        let grant = &live.grant;
        if taken.is_all_of(&grant.budget) {
            self.bell.spent().push(grant.id);
        }
        let listed = Listed {
            actions: grant.actions.iter().fold(0, |all, one| all | bit(*one)),
            target: hash(&grant.target),
            key: cover::key(&grant.resource),
            live: Arc::clone(&live),
        };
        let mut held = self.write();
        held.by_id.insert(grant.id, Arc::clone(&live));
        held.by_end.insert((grant.until, grant.id));
        // One that began while nobody looked is found to have.
        held.by_start.insert((grant.from, grant.id));
        held.by_scope.entry(scope).or_default().grants.push(listed);
        held.count_up(scope);
        drop(held);
        self.bell.count();
    }

    /// The best of a scope's grants for an action at a target that `which` gives room on. Those of parts of a
    /// database that are not `within` these are passed over.
    pub(super) fn find(
        &self,
        scope: u64,
        (action, target): (Action, &str),
        within: &[Option<u64>],
        which: impl Fn(&Live) -> Option<Room>,
    ) -> Option<Covering> {
        let held = self.read();
        let of_scope = held.by_scope.get(&scope)?;
        let (action, target) = (bit(action), hash(target));
        let mut best: Option<(Room, &Live)> = None;
        for listed in &of_scope.grants {
            let is_around = listed.key.is_none() || within.contains(&listed.key);
            if listed.actions & action == 0 || listed.target != target || !is_around {
                continue;
            }
            match which(&listed.live) {
                Some(room) if best.is_none_or(|(other, _)| room < other) => {
                    best = Some((room, &listed.live));
                    if room == Room::Free {
                        break;
                    }
                }
                Some(_) | None => {}
            }
        }
        best.map(|(_, live)| Covering {
            grant: live.grant.id,
            until: live.grant.until,
        })
    }

    pub(super) fn take(&self, id: GrantId, what: Take<'_>, now: BootTime) -> Result<Taken, Error> {
        self.get(id).ok_or(Error::Spent)?.take(what, now)
    }

    /// Ends a grant; `None` where it has ended.
    pub(super) fn end(&self, id: GrantId, why: Ended) -> Option<Standing> {
        let live = {
            let mut held = self.write();
            let live = held.by_id.remove(&id)?;
            held.by_end.remove(&(live.grant.until, id));
            held.by_start.remove(&(live.grant.from, id));
            let scope = live.grant.holder.scope;
            if let Some(of_scope) = held.by_scope.get_mut(&scope) {
                of_scope.grants.retain(|listed| listed.live.grant.id != id);
                if of_scope.grants.is_empty() {
                    held.by_scope.remove(&scope);
                }
            }
            held.count_up(scope);
            live
        };
        live.state().ended = Some(why);
        live.gone.cancel();
        self.bell.count();
        Some(live.standing())
    }

    /// Cancelled when nothing can stand on a grant any more; `None` where that is so.
    pub(super) fn gone(&self, id: GrantId) -> Option<CancellationToken> {
        self.get(id).map(|live| live.gone.clone())
    }

    pub(super) fn standing(&self, id: GrantId) -> Option<Standing> {
        self.get(id).map(|live| live.standing())
    }

    pub(super) fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        let held = self.read();
        let of = |live: &&Arc<Live>| scope.is_none_or(|scope| scope == live.grant.holder.scope);
        let mut all: Vec<_> = held
            .by_id
            .values()
            .filter(of)
            .map(|live| live.standing())
            .collect();
        drop(held);
        all.sort_by_key(|standing| (standing.grant.from, standing.grant.id));
        all
    }

    pub(super) fn count(&self) -> usize {
        self.read().by_id.len()
    }

    pub(super) fn number(&self, scope: u64) -> u64 {
        let held = self.read();
        held.by_scope
            .get(&scope)
            .map_or(0, |of_scope| of_scope.number)
    }

    pub(super) fn changes(&self) -> u64 {
        *self.bell.changes.borrow()
    }

    /// Resolves when anything has changed since.
    pub(super) async fn changed(&self, changes: u64) {
        let mut counts = self.bell.changes.subscribe();
        // The sender lives in `self`: it cannot be gone.
        drop(counts.wait_for(|now| *now != changes).await);
    }

    /// Counts a change for those that begin: what was found without them holds no longer.
    fn begin(&self, now: BootTime) -> Option<BootTime> {
        let mut held = self.write();
        let later = held
            .by_start
            .split_off(&(now.after(Duration::from_nanos(1)), GrantId(Uuid::nil())));
        for (_, id) in std::mem::replace(&mut held.by_start, later) {
            if let Some(scope) = held.by_id.get(&id).map(|live| live.grant.holder.scope) {
                held.count_up(scope);
            }
        }
        held.by_start.first().map(|(from, _)| *from)
    }

    /// Those whose time is over or that are used up, and when the next one begins or its time is over.
    pub(super) fn due(&self, now: BootTime) -> (Vec<(GrantId, Ended)>, Option<BootTime>) {
        let begins = self.begin(now);
        let spent = std::mem::take(&mut *self.bell.spent());
        let held = self.read();
        let last = GrantId(Uuid::max());
        let over = held.by_end.range(..=(now, last));
        let mut due: Vec<_> = over.map(|(_, id)| (*id, Ended::Expired)).collect();
        let next = held
            .by_end
            .range((now, last)..)
            .find(|(until, _)| *until > now);
        let next = next
            .map(|(until, _)| *until)
            .into_iter()
            .chain(begins)
            .min();
        for id in spent {
            let live = held.by_id.get(&id);
            if live.is_some_and(|live| now < live.grant.until && live.is_over(&live.state())) {
                due.push((id, Ended::Used));
            }
        }
        (due, next)
    }

    fn get(&self, id: GrantId) -> Option<Arc<Live>> {
        self.read().by_id.get(&id).map(Arc::clone)
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(action: Action) -> u64 {
    let at = Action::ALL.iter().position(|known| *known == action);
    at.and_then(|at| 1_u64.checked_shl(u32::try_from(at).ok()?))
        .unwrap_or_default()
}

fn hash(target: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::grant;
    use super::*;
    use crate::clock;

    #[test]
    fn who_has_found_a_grant_takes_nothing_of_it_after_its_end() {
        let table = Table::default();
        let granted = grant(1, Some(1));
        let id = granted.id;
        table.enter(granted, Amount::default());
        let live = table.get(id).unwrap();
        assert!(table.end(id, Ended::Revoked).is_some());
        for what in [Take::Hold, Take::Use, Take::Answer(None)] {
            let taken = live.take(what, clock::boot());
            assert!(matches!(taken, Err(Error::Spent)), "{taken:?}");
        }
    }

    #[test]
    fn what_is_used_up_and_over_ends_once_and_by_its_time() {
        let table = Table::default();
        let granted = grant(1, Some(1));
        let (id, until) = (granted.id, granted.until);
        table.enter(granted, Amount::default());
        drop(table.take(id, Take::Use, clock::boot()).unwrap());
        assert_eq!(table.due(until).0, [(id, Ended::Expired)]);
    }
}

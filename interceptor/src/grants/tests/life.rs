//! The life of grants against a model of it: whatever is done in whatever order, and whenever, both say the same.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::table::Room;
use super::*;

/// A step of time.
const SECOND: u64 = 1_000_000_000;

/// What is done next. Numbers pick one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    /// With a budget; it begins in so many seconds, and lasts for so many.
    Issue(Budget, u64, u64),
    /// Its issue is cut off.
    Prepare,
    Take(usize, Option<u64>),
    /// Of two, or of one twice.
    Both(usize, usize, Option<u64>),
    /// Nothing can be written meanwhile.
    Torn(usize),
    Use(usize),
    Hold(usize),
    Settle(usize, u64, u64),
    LetGo(usize),
    End(usize, Ended),
    /// What ends grants looks at them.
    Look,
    /// Seconds go by.
    Pass(u64),
    /// The daemon is started again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || option::of(1..6_u64);
    let budget = (number(), number(), option::of(1..60_u64))
        .prop_map(|(uses, rows, bytes)| Budget { uses, rows, bytes });
    let which = || 0..64_usize;
    let most = || option::of(1..4_u64);
    // Most begin at once, and see the end of it.
    let begins = select(vec![0_u64, 0, 0, 2, 5]);
    let lasts = select(vec![0_u64, 3, 10, 3_600, 3_600, 3_600]);
    let why = select(vec![
        Ended::Revoked,
        Ended::Exited,
        Ended::Untagged,
        Ended::Killed,
        Ended::Identity,
    ]);
    vec(
        prop_oneof![
            4 => (budget, begins, lasts).prop_map(|(budget, begins, lasts)| Step::Issue(budget, begins, lasts)),
            1 => Just(Step::Prepare),
            8 => (which(), most()).prop_map(|(which, most)| Step::Take(which, most)),
            3 => (which(), which(), most()).prop_map(|(one, other, most)| Step::Both(one, other, most)),
            1 => which().prop_map(Step::Torn),
            2 => which().prop_map(Step::Use),
            2 => which().prop_map(Step::Hold),
            6 => (which(), 0..7_u64, 0..70_u64)
                .prop_map(|(which, rows, bytes)| Step::Settle(which, rows, bytes)),
            3 => which().prop_map(Step::LetGo),
            1 => (which(), why).prop_map(|(which, why)| Step::End(which, why)),
            2 => Just(Step::Look),
            2 => (1..4_u64).prop_map(Step::Pass),
            1 => Just(Step::Restart),
        ],
        1..60,
    )
}

/// What the model knows of one grant.
#[derive(Clone, Debug)]
struct Known {
    budget: Budget,
    from: BootTime,
    until: BootTime,
    /// What ends grants has not seen yet that it began.
    unseen: bool,
    /// Uses, rows and bytes.
    taken: [u64; 3],
    /// The same, as a daemon that starts anew finds them.
    kept: [u64; 3],
    standing: usize,
}

impl Known {
    fn budgets(&self) -> [Option<u64>; 3] {
        [self.budget.uses, self.budget.rows, self.budget.bytes]
    }

    fn is_out_of(&self, which: &[usize]) -> bool {
        let mut which = which.iter();
        which.any(|at| self.budgets()[*at].is_some_and(|most| self.taken[*at] >= most))
    }

    fn is_time(&self, now: BootTime) -> bool {
        self.from <= now && now < self.until
    }

    /// What a take must give: the rows and bytes that are set aside, or the error's beginning.
    fn take(
        &mut self,
        now: BootTime,
        answer: bool,
        most: Option<u64>,
    ) -> Result<[u64; 3], &'static str> {
        if !self.is_time(now) || self.is_out_of(&[0]) {
            return Err("Spent");
        }
        let mut took = [1, 0, 0];
        if answer {
            if self.is_out_of(&[1, 2]) {
                return Err(if self.standing > 0 { "Busy" } else { "Spent" });
            }
            for at in [1, 2] {
                let left = self.budgets()[at].map_or(0, |most| most - self.taken[at]);
                took[at] = left.min(most.filter(|_| at == 1).unwrap_or(u64::MAX));
            }
        }
        for (taken, took) in self.taken.iter_mut().zip(took) {
            *taken += took;
        }
        self.standing += 1;
        Ok(took)
    }

    /// What was taken is on disk.
    fn keep(&mut self, took: [u64; 3]) {
        for (kept, took) in self.kept.iter_mut().zip(took) {
            *kept += took;
        }
        // What is not counted is not kept.
        if self.budget.uses.is_none() {
            self.kept[0] = 0;
        }
    }

    /// Whether anything of what was taken has to be on disk first.
    fn is_counted(&self, took: [u64; 3]) -> bool {
        self.budget.uses.is_some() || took[1] + took[2] > 0
    }

    fn is_due(&self, now: BootTime) -> Option<Ended> {
        match () {
            () if self.until <= now => Some(Ended::Expired),
            () if self.standing == 0 && self.is_out_of(&[0, 1, 2]) => Some(Ended::Used),
            () => None,
        }
    }

    /// How well something new stands on it.
    fn room(&self, now: BootTime) -> Option<Room> {
        let is_any = self.budgets().iter().any(Option::is_some);
        match () {
            () if !self.is_time(now) || self.is_out_of(&[0]) => None,
            () if !is_any => Some(Room::Free),
            () if !self.is_out_of(&[1, 2]) => Some(Room::Counted),
            () => (self.standing > 0).then_some(Room::Busy),
        }
    }
}

/// The grants and the model of them.
struct Both {
    place: Somewhere,
    grants: Option<Grants>,
    taken: Vec<(Taken, [u64; 3])>,
    known: BTreeMap<GrantId, Known>,
    issued: u128,
    now: BootTime,
}

impl Both {
    fn new() -> Self {
        let place = place();
        Self {
            grants: Some(Grants::open(&place.file).unwrap()),
            place,
            taken: Vec::new(),
            known: BTreeMap::new(),
            issued: 0,
            now: clock::boot(),
        }
    }

    fn grants(&self) -> &Grants {
        self.grants.as_ref().unwrap()
    }

    fn pick(&self, which: usize) -> Option<GrantId> {
        let count = self.known.len();
        self.known.keys().nth(which.checked_rem(count)?).copied()
    }

    fn next(&mut self, budget: Budget, begins: u64, lasts: u64) -> Grant {
        self.issued += 1;
        let from = BootTime(self.now.0 + begins * SECOND);
        Grant {
            budget,
            from,
            until: BootTime(from.0 + lasts * SECOND),
            ..grant(self.issued, None)
        }
    }

    async fn issue(&mut self, budget: Budget, begins: u64, lasts: u64) {
        let granted = self.next(budget, begins, lasts);
        let known = Known {
            budget,
            from: granted.from,
            until: granted.until,
            unseen: true,
            taken: [0; 3],
            kept: [0; 3],
            standing: 0,
        };
        let id = issue(self.grants(), granted).await;
        self.known.insert(id, known);
    }

    /// Of all of these, or of none.
    async fn take(&mut self, ids: &[GrantId], what: Take<'_>) {
        let most = match what {
            Take::Answer(Some(limits)) => limits.max_rows.as_ref().map(|limit| limit.most),
            _ => None,
        };
        let (before, now) = (self.known.clone(), self.now);
        let is_answer = matches!(what, Take::Answer(_));
        let each = ids.iter().map(|id| {
            let known = self.known.get_mut(id).unwrap();
            known.take(now, is_answer, most)
        });
        let expected: Result<Vec<_>, _> = each.collect();
        match (self.grants().take_at(now, ids, what).await, expected) {
            (Ok(taken), Ok(took)) => {
                assert_eq!(taken.len(), took.len());
                for (one, took) in taken.into_iter().zip(took) {
                    assert_eq!(one.rows().unwrap_or(0), took[1]);
                    assert_eq!(one.bytes().unwrap_or(0), took[2]);
                    self.known.get_mut(&one.id()).unwrap().keep(took);
                    self.taken.push((one, took));
                }
            }
            (Err(error), Err(expected)) => {
                assert!(format!("{error:?}").starts_with(expected));
                self.known = before;
            }
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    /// Nothing can be written: what is counted is given to nobody.
    async fn torn(&mut self, id: GrantId) {
        // What was given back is on disk before.
        self.grants().store.ended(Vec::new()).await.unwrap();
        let other = rusqlite::Connection::open(&self.place.file).unwrap();
        let tear =
            "create trigger torn before update on grants begin select raise(abort, 'torn'); end";
        other.execute_batch(tear).unwrap();
        let known = self.known.get_mut(&id).unwrap();
        let before = known.clone();
        let expected = known.take(self.now, true, None);
        let is_counted = expected.is_ok_and(|took| known.is_counted(took));
        let found = self
            .grants()
            .take_at(self.now, &[id], Take::Answer(None))
            .await;
        other.execute_batch("drop trigger torn").unwrap();
        match (found, expected) {
            (Err(Error::State(_)), Ok(_)) if is_counted => {
                self.known.insert(id, before);
            }
            (Ok(mut taken), Ok(took)) if !is_counted => self.taken.push((taken.remove(0), took)),
            (Err(error), Err(expected)) => assert!(format!("{error:?}").starts_with(expected)),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    /// One that was taken is no more; with what was given out of it.
    fn let_go(&mut self, which: usize, given: Option<(u64, u64)>) {
        let count = self.taken.len();
        let Some(at) = which.checked_rem(count) else {
            return;
        };
        let (one, took) = self.taken.swap_remove(at);
        if let Some(known) = self.known.get_mut(&one.id()) {
            known.standing -= 1;
            let (rows, bytes) = given.unwrap_or((u64::MAX, u64::MAX));
            for (at, given) in [(1, rows), (2, bytes)] {
                let unused = took[at].saturating_sub(given);
                known.taken[at] -= unused;
                known.kept[at] -= unused;
            }
        }
        match given {
            Some((rows, bytes)) => self.grants().settle(one, rows, bytes),
            None => drop(one),
        }
    }

    async fn look(&mut self) {
        let now = self.now;
        let before = self.grants().number(7);
        let (due, next) = self.grants().due(now);
        // What was found without one that has begun is looked for again, and nothing else is.
        let begun = self.known.values_mut();
        let begun = begun.fold(false, |any, known| {
            let begins = known.unseen && known.from <= now;
            known.unseen &= !begins;
            any | begins
        });
        assert_eq!(self.grants().number(7) != before, begun);
        let times = self
            .known
            .values()
            .flat_map(|known| [known.from, known.until]);
        assert_eq!(next, times.filter(|at| now < *at).min());
        let mut ended = settle(self.grants(), due).await;
        ended.sort_by_key(|(id, _)| *id);
        let due = |(id, known): (&GrantId, &Known)| Some((*id, known.is_due(now)?));
        let expected: Vec<_> = self.known.iter().filter_map(due).collect();
        assert_eq!(ended, expected);
        for (id, _) in ended {
            self.known.remove(&id);
        }
    }

    async fn restart(&mut self) {
        self.taken.clear();
        // What is given back is not waited for: a kill may lose it, which the test of crashes shows.
        self.grants().store.ended(Vec::new()).await.unwrap();
        drop(self.grants.take());
        self.grants = Some(Grants::open(&self.place.file).unwrap());
        for known in self.known.values_mut() {
            known.standing = 0;
            known.unseen = true;
            known.taken = known.kept;
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Issue(budget, begins, lasts) => self.issue(budget, begins, lasts).await,
            Step::Prepare => {
                let granted = self.next(Budget::default(), 0, 3_600);
                drop(prepare(self.grants(), granted).await.unwrap());
            }
            Step::Take(which, most) => {
                let ids: Vec<_> = self.pick(which).into_iter().collect();
                let limits = most.map(rows_at_most);
                self.take(&ids, Take::Answer(limits.as_ref())).await;
            }
            Step::Both(one, other, most) => {
                let ids: Vec<_> = [one, other]
                    .into_iter()
                    .filter_map(|which| self.pick(which))
                    .collect();
                let limits = most.map(rows_at_most);
                self.take(&ids, Take::Answer(limits.as_ref())).await;
            }
            Step::Torn(which) => {
                if let Some(id) = self.pick(which) {
                    self.torn(id).await;
                }
            }
            Step::Use(which) => {
                let ids: Vec<_> = self.pick(which).into_iter().collect();
                self.take(&ids, Take::Use).await;
            }
            Step::Hold(which) => {
                let Some(id) = self.pick(which) else { return };
                let one = self.grants().hold_at(self.now, id);
                let known = self.known.get_mut(&id).unwrap();
                assert_eq!(one.is_some(), known.is_time(self.now));
                known.standing += usize::from(one.is_some());
                self.taken.extend(one.map(|one| (one, [0; 3])));
            }
            Step::Settle(which, rows, bytes) => self.let_go(which, Some((rows, bytes))),
            Step::LetGo(which) => self.let_go(which, None),
            Step::End(which, why) => {
                let Some(id) = self.pick(which) else { return };
                assert_eq!(self.grants().end(&[(id, why)]).len(), 1);
                self.grants().keep_ends(vec![(id, why)]).await.unwrap();
                self.known.remove(&id);
            }
            Step::Look => self.look().await,
            Step::Pass(seconds) => self.now = BootTime(self.now.0 + seconds * SECOND),
            Step::Restart => self.restart().await,
        }
    }

    fn agree(&self) {
        let mut all = self.grants().all(None);
        all.sort_by_key(|standing| standing.grant.id);
        let found = all.iter().map(|standing| {
            let taken = (standing.used, standing.used_rows, standing.used_bytes);
            (standing.grant.id, taken)
        });
        let known = self.known.iter().map(|(id, known)| {
            let [uses, rows, bytes] = known.taken;
            let Budget {
                rows: r, bytes: b, ..
            } = known.budget;
            (*id, (uses, r.map(|_| rows), b.map(|_| bytes)))
        });
        assert!(found.eq(known), "{all:?} {:?}", self.known);
        for (id, known) in &self.known {
            // No budget was ever exceeded.
            let budgets = known.budgets().into_iter().zip(known.taken);
            assert!(
                budgets
                    .into_iter()
                    .all(|(most, is)| most.is_none_or(|most| is <= most)),
                "{id:?} {known:?}"
            );
            assert_eq!(self.room(*id), known.room(self.now), "{id:?} {known:?}");
        }
        for (one, _) in &self.taken {
            let lives = |known: &Known| known.is_time(self.now);
            let lives = self.known.get(&one.id()).is_some_and(lives);
            assert_eq!(one.stands(self.now), lives);
        }
    }

    /// How well a request that only this one covers would stand on it.
    fn room(&self, id: GrantId) -> Option<Room> {
        let room = Cell::new(None);
        let table = &self.grants().table;
        let found = table.find(7, (Action::Select, "crm"), &[], |live| {
            let own = live.room(self.now).filter(|_| live.grant.id == id);
            room.set(room.get().or(own));
            own
        });
        let found = found.map(|covering| covering.grant);
        let room = room.get();
        assert_eq!(found, room.map(|_| id));
        room
    }
}

fn rows_at_most(most: u64) -> Limits {
    Limits {
        max_rows: Some(Limit {
            most,
            rule: crate::policy::RuleId("r".to_owned()),
        }),
        ..Limits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn grants_live_as_the_model_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut both = Both::new();
            for step in steps {
                both.step(step).await;
                both.agree();
            }
            both.restart().await;
            both.agree();
        });
    }
}

//! The life of grants against a model of it: whatever is done in whatever order, both say the same.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// What is done next. Numbers pick one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    /// With a budget; its time may be over already.
    Issue(Budget, bool),
    /// Its issue is cut off.
    Prepare,
    Take(usize, Option<u64>),
    Use(usize),
    Hold(usize),
    Settle(usize, u64, u64),
    LetGo(usize),
    End(usize, Ended),
    /// What ends grants looks at them.
    Look,
    /// The daemon is started again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || option::of(1..6_u64);
    let budget = (number(), number(), option::of(1..60_u64))
        .prop_map(|(uses, rows, bytes)| Budget { uses, rows, bytes });
    let which = 0..64_usize;
    let why = prop_oneof![
        Just(Ended::Revoked),
        Just(Ended::Exited),
        Just(Ended::Untagged),
        Just(Ended::Killed),
    ];
    vec(
        prop_oneof![
            3 => (budget, prop::bool::weighted(0.1)).prop_map(|(budget, over)| Step::Issue(budget, over)),
            1 => Just(Step::Prepare),
            8 => (which.clone(), option::of(1..4_u64)).prop_map(|(which, most)| Step::Take(which, most)),
            2 => which.clone().prop_map(Step::Use),
            2 => which.clone().prop_map(Step::Hold),
            6 => (which.clone(), 0..7_u64, 0..70_u64)
                .prop_map(|(which, rows, bytes)| Step::Settle(which, rows, bytes)),
            3 => which.clone().prop_map(Step::LetGo),
            1 => (which, why).prop_map(|(which, why)| Step::End(which, why)),
            2 => Just(Step::Look),
            1 => Just(Step::Restart),
        ],
        1..50,
    )
}

/// What the model knows of one grant.
#[derive(Clone, Debug, Default)]
struct Known {
    budget: Budget,
    over: bool,
    /// Uses, rows and bytes.
    taken: [u64; 3],
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

    /// What a take must give: the rows and bytes that are set aside, or the error's beginning.
    fn take(&mut self, answer: bool, most: Option<u64>) -> Result<[u64; 3], &'static str> {
        if self.over || self.is_out_of(&[0]) {
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

    fn is_due(&self) -> Option<Ended> {
        match () {
            () if self.over => Some(Ended::Expired),
            () if self.standing == 0 && self.is_out_of(&[0, 1, 2]) => Some(Ended::Used),
            () => None,
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
        }
    }

    fn grants(&self) -> &Grants {
        self.grants.as_ref().unwrap()
    }

    fn pick(&self, which: usize) -> Option<GrantId> {
        let count = self.known.len();
        self.known.keys().nth(which.checked_rem(count)?).copied()
    }

    fn next(&mut self, budget: Budget, over: bool) -> Grant {
        self.issued += 1;
        let mut granted = Grant {
            budget,
            ..grant(self.issued, None)
        };
        if over {
            granted.until = granted.from;
        }
        granted
    }

    async fn take(&mut self, which: usize, what: Take<'_>) {
        let Some(id) = self.pick(which) else { return };
        let known = self.known.get_mut(&id).unwrap();
        let most = match what {
            Take::Answer(Some(limits)) => limits.max_rows.as_ref().map(|limit| limit.most),
            _ => None,
        };
        let expected = known.take(matches!(what, Take::Answer(_)), most);
        match (self.grants().take(&[id], what).await, expected) {
            (Ok(mut taken), Ok(took)) => {
                let one = taken.remove(0);
                let [_, rows, bytes] = took;
                assert_eq!(one.rows().unwrap_or(0), rows);
                assert_eq!(one.bytes().unwrap_or(0), bytes);
                self.taken.push((one, took));
            }
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
            known.taken[1] -= took[1].saturating_sub(rows);
            known.taken[2] -= took[2].saturating_sub(bytes);
        }
        match given {
            Some((rows, bytes)) => self.grants().settle(one, rows, bytes),
            None => drop(one),
        }
    }

    async fn look(&mut self) {
        let mut ended = settle_due(self.grants()).await;
        ended.sort_by_key(|(id, _)| *id);
        let due = |(id, known): (&GrantId, &Known)| Some((*id, known.is_due()?));
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
            // What is not counted is not kept.
            if known.budget.uses.is_none() {
                known.taken[0] = 0;
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Issue(budget, over) => {
                let granted = self.next(budget, over);
                let id = issue(self.grants(), granted).await;
                let known = Known {
                    budget,
                    over,
                    ..Known::default()
                };
                self.known.insert(id, known);
            }
            Step::Prepare => {
                let granted = self.next(Budget::default(), false);
                drop(prepare(self.grants(), granted).await.unwrap());
            }
            Step::Take(which, most) => {
                let limits = most.map(|most| Limits {
                    max_rows: Some(Limit {
                        most,
                        rule: crate::policy::RuleId("r".to_owned()),
                    }),
                    ..Limits::default()
                });
                self.take(which, Take::Answer(limits.as_ref())).await;
            }
            Step::Use(which) => self.take(which, Take::Use).await,
            Step::Hold(which) => {
                let Some(id) = self.pick(which) else { return };
                let one = self.grants().hold(id);
                let known = self.known.get_mut(&id).unwrap();
                assert_eq!(one.is_some(), !known.over);
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
        }
        for (one, _) in &self.taken {
            let lives = self.known.get(&one.id()).is_some_and(|known| !known.over);
            assert_eq!(one.stands(clock::boot()), lives);
        }
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

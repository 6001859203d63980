//! The questions that are open, and the answers that hold, in memory. Every step is one under one lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::question::Key;
use super::{Answer, Error, HOLDS, Over, Person, Question, Standing, State, Word};
use crate::clock::BootTime;
use crate::policy::{ApprovalId, Needs};

/// Open questions of one scope.
const OF_ONE: usize = 16;
/// Questions that are kept in mind of all scopes, answered ones among them.
const OF_ALL: usize = 4_096;
/// Bytes of all of them.
const BYTES: usize = 64 << 20;

/// What an approver chose beside yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For how long the answer covers the same text with other literals.
    pub shape: Option<Duration>,
    /// How many requests that wait a yes covers; at least one.
    pub times: u64,
}

/// What is known of a request when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// People have said yes; its use is still to be taken.
    Approved(Word),
    /// Somebody has said no a while ago.
    Denied(Answer),
    /// People are asked.
    Open {
        /// The question.
        id: ApprovalId,
        /// Whether it is a new one.
        new: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Table {
    held: Mutex<Held>,
    news: Notify,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    all: HashMap<ApprovalId, Entry>,
    exact: HashMap<Key, ApprovalId>,
    shape: HashMap<Key, ApprovalId>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    news: watch::Sender<u64>,
}

impl Entry {
    fn new(standing: Standing) -> Self {
        Self {
            standing,
            news: watch::Sender::new(0),
        }
    }

    fn question(&self) -> &Question {
        &self.standing.question
    }

    fn set(&mut self, state: State) {
        self.standing.state = state;
        self.standing.version = self.standing.version.saturating_add(1);
    }

    fn word(&self) -> Word {
        Word {
            id: self.question().id,
            needs: self.question().needs.clone(),
            answers: self.standing.answers.clone(),
        }
    }

    fn is_open(&self, now: BootTime) -> bool {
        self.standing.state == State::Open && now < self.question().until
    }

    /// Until when its state stands by itself.
    fn until(&self) -> BootTime {
        match self.standing.state {
            State::Open => self.question().until,
            State::Approved { until, .. } | State::Denied { until } => until,
            State::Over { .. } => BootTime(0),
        }
    }

    /// The answer, where it holds and is not used up.
    fn said(&self, now: BootTime) -> Option<Word> {
        match self.standing.state {
            State::Approved { until, left, shape } if now < until && (shape || left > 0) => {
                Some(self.word())
            }
            _ => None,
        }
    }

    /// Uses the answer once.
    fn take(&mut self, now: BootTime) -> bool {
        match self.standing.state {
            State::Approved { until, .. } if until <= now => false,
            State::Approved { shape: true, .. } => true,
            State::Approved {
                left: left @ 1..,
                until,
                shape,
            } => {
                self.set(match left.saturating_sub(1) {
                    0 => State::Over { why: Over::Used },
                    left => State::Approved { left, until, shape },
                });
                true
            }
            _ => false,
        }
    }
}

impl Held {
    fn insert(&mut self, standing: Standing) {
        let question = &standing.question;
        self.bytes = self.bytes.saturating_add(question.weight());
        self.exact.insert(question.exact(), question.id);
        if matches!(standing.state, State::Approved { shape: true, .. }) {
            self.shape.insert(question.shape(), question.id);
        }
        self.all.insert(question.id, Entry::new(standing));
    }

    fn remove(&mut self, id: ApprovalId) -> Option<Standing> {
        let entry = self.all.remove(&id)?;
        let question = entry.question();
        self.bytes = self.bytes.saturating_sub(question.weight());
        for (map, key) in [
            (&mut self.exact, question.exact()),
            (&mut self.shape, question.shape()),
        ] {
            if map.get(&key) == Some(&id) {
                map.remove(&key);
            }
        }
        Some(entry.standing)
    }

    fn room(&self, question: &Question, now: BootTime) -> Result<(), Error> {
        let of_one = |entry: &&Entry| {
            entry.is_open(now) && entry.question().holder.scope == question.holder.scope
        };
        if self.all.values().filter(of_one).count() >= OF_ONE {
            return Err(Error::Full(
                "16 requests of this scope wait for an approval already",
            ));
        }
        if self.all.len() >= OF_ALL || self.bytes.saturating_add(question.weight()) > BYTES {
            return Err(Error::Full(
                "too many requests of this host wait for an approval",
            ));
        }
        Ok(())
    }

    /// What is known of a question that is asked again.
    fn known(&mut self, question: &Question, now: BootTime) -> Option<Found> {
        let alike = self.shape.get(&question.shape()).copied();
        let same = self.exact.get(&question.exact()).copied();
        for id in [alike, same].into_iter().flatten() {
            let Some(entry) = self.all.get_mut(&id) else {
                continue;
            };
            if let Some(word) = entry.said(now) {
                return Some(Found::Approved(word));
            }
            match entry.standing.state {
                State::Open if entry.is_open(now) => {
                    entry.standing.times = entry.standing.times.saturating_add(1);
                    return Some(Found::Open { id, new: false });
                }
                State::Denied { until } if now < until => {
                    let said = entry.standing.answers.iter().rev().find(|said| !said.yes);
                    if let Some(said) = said {
                        return Some(Found::Denied(said.clone()));
                    }
                }
                State::Open | State::Denied { .. } | State::Approved { .. } => {
                    entry.set(State::Over { why: Over::Expired });
                }
                State::Over { .. } => {}
            }
        }
        None
    }
}

impl Table {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, standing: Standing) {
        self.held().insert(standing);
        self.tell_all();
    }

    pub(super) fn ask(
        &self,
        question: Question,
        now: BootTime,
    ) -> Result<(Found, Option<Standing>), Error> {
        let mut held = self.held();
        if let Some(known) = held.known(&question, now) {
            self.tell_all();
            return Ok((known, None));
        }
        held.room(&question, now)?;
        let id = question.id;
        let standing = Standing {
            question: Arc::new(question),
            waiting: 0,
            times: 1,
            state: State::Open,
            answers: Vec::new(),
            covers: u64::MAX,
            version: 0,
        };
        held.insert(standing.clone());
        self.tell_all();
        Ok((Found::Open { id, new: true }, Some(standing)))
    }

    /// One more waits; `None` where there is nothing to wait for.
    pub(super) fn join(&self, id: ApprovalId) -> Option<watch::Receiver<u64>> {
        let mut held = self.held();
        let entry = held.all.get_mut(&id)?;
        entry.standing.waiting = entry.standing.waiting.saturating_add(1);
        let news = entry.news.subscribe();
        self.tell_all();
        Some(news)
    }

    /// One waits no longer. What nobody waits for is over, unless it stays for whoever comes back; and who goes
    /// away takes the part of the answer along that was its own.
    /// What is to be kept of it.
    pub(super) fn leave(&self, id: ApprovalId, stays: bool) -> Option<Standing> {
        let mut held = self.held();
        let entry = held.all.get_mut(&id)?;
        let waiting = entry.standing.waiting.saturating_sub(1);
        entry.standing.waiting = waiting;
        match entry.standing.state {
            _ if stays => return None,
            State::Open if waiting == 0 => {
                entry.set(State::Over {
                    why: Over::Withdrawn,
                });
            }
            State::Approved {
                left,
                until,
                shape: false,
            } if left > waiting => entry.set(match waiting {
                0 => State::Over {
                    why: Over::Withdrawn,
                },
                left => State::Approved {
                    left,
                    until,
                    shape: false,
                },
            }),
            _ => return None,
        }
        self.tell_all();
        Some(entry.standing.clone())
    }

    pub(super) fn said(&self, id: ApprovalId, now: BootTime) -> Option<Word> {
        self.held().all.get(&id)?.said(now)
    }

    /// Uses an answer once; how it stands then, where there was one.
    pub(super) fn take(&self, id: ApprovalId, now: BootTime) -> Option<Standing> {
        let mut held = self.held();
        let entry = held.all.get_mut(&id)?;
        let after = entry.take(now).then(|| entry.standing.clone());
        self.tell_all();
        after
    }

    pub(super) fn may_answer(
        &self,
        id: ApprovalId,
        answer: &Answer,
        choice: Choice,
        now: BootTime,
    ) -> Result<Standing, Error> {
        let held = self.held();
        let mistaken = |text: &str| Err(Error::Mistaken(text.to_owned()));
        let Some(entry) = held.all.get(&id).filter(|entry| entry.is_open(now)) else {
            return mistaken(
                "no question of that name is open; `interceptor approvals ls` lists those that are",
            );
        };
        let (question, by) = (entry.question(), &answer.by);
        if by.runs(question) {
            return mistaken("nobody answers a request that runs as the same user");
        }
        if by.is_behind(question) {
            return mistaken("nobody answers a request on his own behalf");
        }
        if entry.standing.answers.iter().any(|said| said.by.is(by)) {
            return mistaken("this user has answered already; another one must");
        }
        if answer.break_glass {
            return match choice.shape {
                None => Ok(entry.standing.clone()),
                Some(_) => mistaken("an emergency is for what was shown alone"),
            };
        }
        let waited = now.since(question.from);
        let mut ways = question.needs.iter().flatten();
        if !ways.any(|need| by.speaks_for(need, waited)) {
            let text = format!("this waits for {}", super::who(&question.needs));
            return Err(Error::Mistaken(text));
        }
        let longest = longest_shape(&question.needs);
        match (choice.shape, longest) {
            (None, _) => {}
            (Some(shape), Some(longest)) if shape <= longest => {}
            (Some(_), Some(longest)) => {
                return Err(Error::Mistaken(format!(
                    "the rules let an answer cover other literals for at most {} s",
                    longest.as_secs()
                )));
            }
            (Some(_), None) => {
                return mistaken("the rules let an answer cover nothing but what was shown");
            }
        }
        Ok(entry.standing.clone())
    }

    /// Takes an answer; what was before, and what is now.
    pub(super) fn answer(
        &self,
        id: ApprovalId,
        answer: Answer,
        choice: Choice,
        now: BootTime,
    ) -> Result<(Standing, Standing), Error> {
        let before = self.may_answer(id, &answer, choice, now)?;
        let mut held = self.held();
        let held = &mut *held;
        let entry = held
            .all
            .get_mut(&id)
            .filter(|entry| entry.standing.version == before.version)
            .ok_or_else(|| Error::Mistaken("somebody else has answered meanwhile".to_owned()))?;
        let (yes, alone) = (answer.yes, answer.break_glass);
        entry.standing.answers.push(answer);
        entry.standing.covers = entry.standing.covers.min(choice.times.max(1));
        let waited = now.since(entry.question().from);
        let until = now.after(HOLDS);
        let people: Vec<_> = entry.standing.answers.iter().map(|said| &said.by).collect();
        let enough = alone || are_enough(&entry.question().needs, &people, waited);
        let state = match (yes, enough, choice.shape) {
            (false, _, _) => State::Denied { until },
            (true, false, _) => State::Open,
            (true, true, Some(shape)) => State::Approved {
                left: 0,
                until: now.after(shape),
                shape: true,
            },
            (true, true, None) => State::Approved {
                left: entry.standing.covers.min(entry.standing.waiting.max(1)),
                until,
                shape: false,
            },
        };
        entry.set(state);
        if matches!(state, State::Approved { shape: true, .. }) {
            held.shape.insert(entry.question().shape(), id);
        }
        let after = entry.standing.clone();
        self.tell_all();
        Ok((before, after))
    }

    /// Takes a step back that could not be kept.
    pub(super) fn put_back(&self, before: Standing) {
        let mut held = self.held();
        if let Some(entry) = held.all.get_mut(&before.question.id) {
            let waiting = entry.standing.waiting;
            let version = entry.standing.version.saturating_add(1);
            entry.standing = Standing {
                waiting,
                version,
                ..before
            };
        }
    }

    /// Wakes those who wait.
    pub(super) fn tell(&self, id: ApprovalId) {
        if let Some(entry) = self.held().all.get(&id) {
            entry
                .news
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(super) fn end(&self, id: ApprovalId, why: Over) {
        if let Some(entry) = self.held().all.get_mut(&id) {
            entry.set(State::Over { why });
        }
        self.tell_all();
    }

    /// The scopes that asked something which is not over.
    pub(super) fn scopes(&self) -> BTreeSet<u64> {
        let held = self.held();
        let open = |entry: &&Entry| !matches!(entry.standing.state, State::Over { .. });
        let open = held.all.values().filter(open);
        open.map(|entry| entry.question().holder.scope).collect()
    }

    pub(super) fn end_scope(&self, scope: u64) {
        let mut held = self.held();
        let of = held.all.values_mut();
        for entry in of.filter(|entry| entry.question().holder.scope == scope) {
            if !matches!(entry.standing.state, State::Over { .. }) {
                entry.set(State::Over { why: Over::Scope });
            }
        }
        self.tell_all();
    }

    pub(super) fn get(&self, id: ApprovalId) -> Option<Standing> {
        let held = self.held();
        held.all.get(&id).map(|entry| entry.standing.clone())
    }

    pub(super) fn all(&self, scope: Option<u64>) -> Vec<Standing> {
        let held = self.held();
        let of = |entry: &&Entry| {
            scope.is_none_or(|scope| scope == entry.question().holder.scope)
                && !matches!(entry.standing.state, State::Over { .. })
        };
        let all = held.all.values().filter(of);
        let mut all: Vec<_> = all.map(|entry| entry.standing.clone()).collect();
        all.sort_by_key(|standing| standing.question.id);
        all
    }

    pub(super) fn open_now(&self) -> usize {
        let held = self.held();
        let open = |entry: &&Entry| entry.standing.state == State::Open;
        held.all.values().filter(open).count()
    }

    /// Ends what is due, and lets go of what is over.
    pub(super) fn ended(&self, now: BootTime) -> (Vec<Standing>, Option<BootTime>) {
        let mut held = self.held();
        let mut over = Vec::new();
        for (id, entry) in &mut held.all {
            let is_over = matches!(entry.standing.state, State::Over { .. });
            if !is_over && entry.until() <= now {
                entry.set(State::Over { why: Over::Expired });
            }
            if matches!(entry.standing.state, State::Over { .. }) {
                entry
                    .news
                    .send_modify(|count| *count = count.wrapping_add(1));
                over.push(*id);
            }
        }
        let over = over.into_iter().filter_map(|id| held.remove(id)).collect();
        (over, held.all.values().map(Entry::until).min())
    }

    /// Counts what changes, for whoever shows it.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn tell_all(&self) {
        self.news.notify_one();
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }
}

/// Whether these people's yes is enough: for each thing that is wanted, in one of its ways.
fn are_enough(needs: &[Needs], people: &[&Person], waited: Duration) -> bool {
    needs.iter().all(|ways| {
        ways.iter().any(|need| {
            let speak = people.iter().filter(|by| by.speaks_for(need, waited));
            speak.count() >= usize::try_from(need.count).unwrap_or(usize::MAX)
        })
    })
}

/// For how long an answer may cover a shape: as long as each of what is wanted lets it.
fn longest_shape(needs: &[Needs]) -> Option<Duration> {
    let each = needs
        .iter()
        .map(|ways| ways.iter().filter_map(|need| need.shape).max());
    let least = each.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(Duration::from_secs(least))
}

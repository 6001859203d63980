//! The questions that are open, and the answers that hold, in memory. Every step is one under one lock.

mod entry;

use std::collections::{BTreeSet, HashMap, VecDeque, hash_map};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::entry::Entry;
use super::fatigue::Fatigue;
use super::question::Key;
use super::word::TakenBack;
use super::{Answer, Error, HOLDS, Over, Question, Standing, State, Touches, Word};
use crate::clock::BootTime;
use crate::policy::{ApprovalId, Need, Needs};

/// Open questions of one scope.
const OF_ONE: usize = 16;
/// What is told to who answers without the proof that is asked for.
const NO_FACTOR: &str = "a yes takes a second factor here: give it at the console, with a key";
/// Questions that are kept in mind of all scopes, answered ones among them.
const OF_ALL: usize = 4_096;
/// Questions that are over and are remembered for whoever tells of their end.
const LATELY: usize = 64;
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
    Denied(Box<Answer>),
    /// People are asked.
    Open {
        /// The question.
        id: ApprovalId,
        /// Whether it is a new one.
        new: bool,
    },
}

/// What came of asking.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) found: Found,
    /// A new question, which is to be kept.
    pub(super) new: Option<Standing>,
    /// Of an open one; whoever asked is counted among those who wait.
    pub(super) news: Option<watch::Receiver<u64>>,
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
    /// What was denied, however it is spelled.
    denied: HashMap<Key, ApprovalId>,
    /// The same, whatever literals are in it: there may be several.
    unread: HashMap<Key, Vec<ApprovalId>>,
    fatigue: Fatigue,
    bytes: usize,
    /// What was let go of last, as it ended.
    lately: VecDeque<Standing>,
}

impl Held {
    fn insert(&mut self, standing: Standing) {
        let question = &standing.question;
        self.bytes = self.bytes.saturating_add(question.weight());
        self.exact.insert(question.exact(), question.id);
        match standing.state {
            // One that an earlier version kept may be of what has no shape.
            State::Approved { shape: true, .. } if question.varies => {
                self.shape.insert(question.shape(), question.id);
            }
            State::Denied { until } => {
                deny((&mut self.denied, &mut self.unread), question);
                self.fatigue.deny(question.kind(), denied_at(until));
            }
            _ => {}
        }
        self.all.insert(question.id, Entry::new(standing));
    }

    fn remove(&mut self, id: ApprovalId) -> Option<Standing> {
        let entry = self.all.remove(&id)?;
        let question = entry.question();
        self.bytes = self.bytes.saturating_sub(question.weight());
        let keys = [
            (&mut self.exact, Some(question.exact())),
            (&mut self.shape, Some(question.shape())),
            (&mut self.denied, question.alike()),
        ];
        for (map, key) in keys {
            if let Some(key) = key.filter(|key| map.get(key) == Some(&id)) {
                map.remove(&key);
            }
        }
        if let hash_map::Entry::Occupied(mut others) = self.unread.entry(question.unread()) {
            others.get_mut().retain(|one| *one != id);
            if others.get().is_empty() {
                others.remove();
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
        // What is over waits to be told of as that, and is no reason to ask nobody any more; but it is there.
        let live = |entry: &&Entry| !matches!(entry.standing.state, State::Over { .. });
        let live = self.all.values().filter(live);
        let (count, bytes) = live.fold((0_usize, 0_usize), |(count, bytes), entry| {
            let weight = entry.question().weight();
            (count.saturating_add(1), bytes.saturating_add(weight))
        });
        let weight = question.weight();
        let is_full = count >= OF_ALL || bytes.saturating_add(weight) > BYTES;
        let is_twice_full =
            self.all.len() >= 2 * OF_ALL || self.bytes.saturating_add(weight) > 2 * BYTES;
        if is_full || is_twice_full {
            return Err(Error::Full(
                "too many requests of this host wait for an approval",
            ));
        }
        Ok(())
    }

    /// Who said no to the same, however it is spelled.
    fn denied(&self, question: &Question, now: BootTime) -> Option<Answer> {
        let alike = question.alike().and_then(|key| self.denied.get(&key));
        if let Some(said) = alike.and_then(|id| self.all.get(id)?.denied(now)) {
            return Some(said);
        }
        let others = self.unread.get(&question.unread())?.iter();
        let mut others = others.filter_map(|id| self.all.get(id)).filter(|other| {
            // Of two texts whose literals are known it is known that they are not the same.
            question.literals.is_none() || other.question().literals.is_none()
        });
        others.find_map(|other| other.denied(now))
    }

    /// What is known of a question that is asked again.
    fn known(&mut self, question: &Question, now: BootTime) -> Option<Found> {
        let alike = self.shape.get(&question.shape()).copied();
        let alike = alike.filter(|_| question.varies);
        let same = self.exact.get(&question.exact()).copied();
        if let Some(said) = self.denied(question, now) {
            return Some(Found::Denied(Box::new(said)));
        }
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
                    if let Some(said) = entry.denied(now) {
                        return Some(Found::Denied(Box::new(said)));
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

    /// Asks. In one step with that `tell` writes it: nobody can find, or answer, what is not written.
    pub(super) fn ask(
        &self,
        question: Question,
        now: BootTime,
        tell: impl FnOnce(&Question) -> Result<(), String>,
    ) -> Result<Asked, Error> {
        let mut held = self.held();
        if let Some(found) = held.known(&question, now) {
            let news = match &found {
                Found::Open { id, .. } => held.all.get_mut(id).map(Entry::join),
                Found::Approved(_) | Found::Denied(_) => None,
            };
            self.tell_all();
            return Ok(Asked {
                found,
                new: None,
                news,
            });
        }
        held.room(&question, now)?;
        if let Some(left) = held.fatigue.is_closed(question.kind(), now) {
            return Err(Error::Closed { left });
        }
        held.fatigue.ask(question.asker(), now)?;
        tell(&question).map_err(Error::Untold)?;
        let id = question.id;
        let standing = Standing {
            question: Arc::new(question),
            waiting: 0,
            times: 1,
            state: State::Open,
            answers: Vec::new(),
            touches: None,
            covers: u64::MAX,
            version: 0,
            taken_back: TakenBack::default(),
        };
        held.insert(standing.clone());
        let news = held.all.get_mut(&id).map(Entry::join);
        self.tell_all();
        Ok(Asked {
            found: Found::Open { id, new: true },
            new: Some(standing),
            news,
        })
    }

    /// One more waits; `None` where there is nothing to wait for.
    #[cfg(test)]
    pub(super) fn join(&self, id: ApprovalId) -> Option<watch::Receiver<u64>> {
        let mut held = self.held();
        let news = held.all.get_mut(&id).map(Entry::join);
        self.tell_all();
        news
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
        let (question, by) = (entry.question(), answer.right());
        for person in [&answer.by, by] {
            if person.runs(question) {
                return mistaken("nobody answers a request that runs as the same user");
            }
            if person.is_behind(question) {
                return mistaken("nobody answers a request on his own behalf");
            }
        }
        let mut said = entry.standing.answers.iter();
        // Who has said yes may think better of it.
        if said.any(|said| said.is_by_any_of(answer) && (answer.yes || !said.yes)) {
            return mistaken("this user has answered already; another one must");
        }
        if answer.break_glass {
            // In place of everybody else's word, and not of the proof.
            let lacks = |ways: &Needs| !ways.iter().any(|need| answer.is_proved(need));
            if question.needs.iter().any(lacks) {
                return mistaken(NO_FACTOR);
            }
            return match choice.shape {
                None => Ok(entry.standing.clone()),
                Some(_) => mistaken("an emergency is for what was shown alone"),
            };
        }
        let waited = now.since(question.from);
        let ways = question.needs.iter().flatten();
        let mut own = ways.filter(|need| by.speaks_for(need, waited)).peekable();
        if own.peek().is_none() {
            let text = format!("this waits for {}", super::who(&question.needs));
            return Err(Error::Mistaken(text));
        }
        if !own.any(|need| answer.is_proved(need)) {
            return mistaken(NO_FACTOR);
        }
        let longest = longest_shape(&question.needs);
        match (choice.shape, longest) {
            (None, _) => {}
            (Some(_), _) if !question.varies => {
                return mistaken(
                    "this is no statement on rows alone, of which others differ in values only: an answer covers what was shown",
                );
            }
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

    /// What an answer would make of a question. It counts once it is kept: see [`Table::commit`].
    pub(super) fn weigh(
        &self,
        id: ApprovalId,
        answer: Answer,
        choice: Choice,
        now: BootTime,
    ) -> Result<Standing, Error> {
        let mut after = self.may_answer(id, &answer, choice, now)?;
        let (yes, alone) = (answer.yes, answer.break_glass);
        after.answers.push(answer);
        after.covers = after.covers.min(choice.times.max(1));
        let waited = now.since(after.question.from);
        let until = now.after(HOLDS);
        let enough = alone || are_enough(&after.question.needs, &after.answers, waited);
        after.state = match (yes, enough, choice.shape) {
            (false, _, _) => State::Denied { until },
            (true, false, _) => State::Open,
            (true, true, Some(shape)) => State::Approved {
                left: 0,
                until: now.after(shape),
                shape: true,
            },
            (true, true, None) => State::Approved {
                left: after.covers.min(after.waiting.max(1)),
                until,
                shape: false,
            },
        };
        after.version = after.version.saturating_add(1);
        Ok(after)
    }

    /// Takes what an answer made of a question, which is kept already; tells those who wait.
    ///
    /// # Errors
    /// Where it has changed since it was weighed: how it stands, which is to be kept over what was.
    pub(super) fn commit(&self, after: Standing) -> Result<Standing, Option<Box<Standing>>> {
        let mut held = self.held();
        let held = &mut *held;
        let id = after.question.id;
        let Some(entry) = held.all.get_mut(&id) else {
            // Its end is kept by whoever saw it.
            return Err(None);
        };
        if entry.standing.version.saturating_add(1) != after.version
            || entry.standing.state != State::Open
        {
            let above = entry.standing.version.max(after.version);
            entry.standing.version = above.saturating_add(1);
            return Err(Some(Box::new(entry.standing.clone())));
        }
        // Who came or went meanwhile was not weighed.
        let waiting = entry.standing.waiting;
        let state = match after.state {
            State::Approved {
                left,
                until,
                shape: false,
            } => State::Approved {
                left: left.min(waiting.max(1)),
                until,
                shape: false,
            },
            state => state,
        };
        // It may have become known since.
        let touches = entry.standing.touches.take();
        entry.standing = Standing {
            waiting,
            times: entry.standing.times,
            state,
            touches,
            ..after
        };
        match state {
            State::Approved { shape: true, .. } => {
                held.shape.insert(entry.question().shape(), id);
            }
            State::Denied { until } => {
                deny((&mut held.denied, &mut held.unread), entry.question());
                held.fatigue.deny(entry.question().kind(), denied_at(until));
            }
            _ => {}
        }
        let after = entry.standing.clone();
        entry.tell();
        self.tell_all();
        Ok(after)
    }

    /// Says what an open question's request would touch.
    pub(super) fn touches(&self, id: ApprovalId, touches: Touches) {
        let mut held = self.held();
        let entry = held.all.get_mut(&id);
        if let Some(entry) = entry.filter(|entry| entry.standing.state == State::Open) {
            entry.standing.touches = Some(touches);
        }
        self.tell_all();
    }

    /// Takes a yes back, be it used up: how it stands then.
    pub(super) fn take_back(&self, id: ApprovalId) -> Option<Standing> {
        let mut held = self.held();
        if let Some(entry) = held.all.get_mut(&id) {
            let after = entry.take_back();
            self.tell_all();
            return after;
        }
        let used = State::Over { why: Over::Used };
        let mut lately = held.lately.iter().rev();
        let last = lately.find(|one| one.question.id == id && one.state == used)?;
        last.taken_back.set();
        Some(last.clone())
    }

    /// Takes back what people said yes to of an agent, and ends what it asks.
    pub(super) fn end_agent(&self, agent: &str) -> Vec<Standing> {
        let mut held = self.held();
        let mut ended = Vec::new();
        let of = held.all.values_mut();
        for entry in of.filter(|entry| entry.question().holder.agent == agent) {
            if entry.standing.state == State::Open {
                entry.set(State::Over { why: Over::Revoked });
                entry.tell();
                ended.push(entry.standing.clone());
            } else {
                ended.extend(entry.take_back());
            }
        }
        self.tell_all();
        ended
    }

    pub(super) fn end(&self, id: ApprovalId, why: Over) {
        if let Some(entry) = self.held().all.get_mut(&id) {
            entry.set(State::Over { why });
        }
        self.tell_all();
    }

    /// The scopes that asked something which ends with them.
    pub(super) fn scopes(&self) -> BTreeSet<u64> {
        let held = self.held();
        let open = held.all.values().filter(|entry| entry.ends_with_scope());
        open.map(|entry| entry.question().holder.scope).collect()
    }

    pub(super) fn end_scope(&self, scope: u64) {
        let mut held = self.held();
        let of = held.all.values_mut();
        let of = of.filter(|entry| entry.question().holder.scope == scope);
        for entry in of.filter(|entry| entry.ends_with_scope()) {
            entry.set(State::Over { why: Over::Scope });
        }
        self.tell_all();
    }

    pub(super) fn get(&self, id: ApprovalId) -> Option<Standing> {
        let held = self.held();
        held.all.get(&id).map(|entry| entry.standing.clone())
    }

    pub(super) fn last_of(&self, id: ApprovalId) -> Option<Standing> {
        let held = self.held();
        let entry = held.all.get(&id).map(|entry| &entry.standing);
        let mut lately = held.lately.iter().rev();
        entry
            .or_else(|| lately.find(|one| one.question.id == id))
            .cloned()
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
                entry.tell();
                over.push(*id);
            }
        }
        let over: Vec<_> = over.into_iter().filter_map(|id| held.remove(id)).collect();
        held.lately.extend(over.iter().cloned());
        let old = held.lately.len().saturating_sub(LATELY);
        held.lately.drain(..old);
        (over, held.all.values().map(Entry::until).min())
    }

    /// The open questions that more people may answer since the last time, and when the next ones may.
    pub(super) fn escalated(&self, now: BootTime) -> (Vec<Arc<Question>>, Option<BootTime>) {
        let mut held = self.held();
        let (mut more, mut next) = (Vec::new(), None::<BootTime>);
        for entry in held.all.values_mut().filter(|entry| entry.is_open(now)) {
            let question = &entry.standing.question;
            let groups = question.escalated(now).len();
            next = next.into_iter().chain(question.escalates(now)).min();
            if groups > entry.escalated {
                entry.escalated = groups;
                more.push(Arc::clone(question));
            }
        }
        if !more.is_empty() {
            self.changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        (more, next)
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

/// Notes what was denied.
fn deny(
    (denied, unread): (
        &mut HashMap<Key, ApprovalId>,
        &mut HashMap<Key, Vec<ApprovalId>>,
    ),
    question: &Question,
) {
    if let Some(alike) = question.alike() {
        denied.insert(alike, question.id);
    }
    let others = unread.entry(question.unread()).or_default();
    others.push(question.id);
}

/// When a no was said that holds until then.
fn denied_at(until: BootTime) -> BootTime {
    BootTime(until.0.saturating_sub(nanos(HOLDS)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether these people's yes is enough: for each thing that is wanted, in one of its ways.
fn are_enough(needs: &[Needs], answers: &[Answer], waited: Duration) -> bool {
    let mut all = needs.iter();
    all.all(|ways| ways.iter().any(|need| is_enough(need, answers, waited)))
}

/// The same of one way.
pub(super) fn is_enough(need: &Need, answers: &[Answer], waited: Duration) -> bool {
    let counts = |said: &&Answer| said.right().speaks_for(need, waited) && said.is_proved(need);
    let speak = answers.iter().filter(counts);
    speak.count() >= usize::try_from(need.count).unwrap_or(usize::MAX)
}

/// For how long an answer may cover a shape: as long as each of what is wanted lets it.
fn longest_shape(needs: &[Needs]) -> Option<Duration> {
    let each = needs
        .iter()
        .map(|ways| ways.iter().filter_map(|need| need.shape).max());
    let least = each.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(Duration::from_secs(least))
}

//! A gate that refuses what touches `denied`, and a reader of a small language, for tests.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::super::super::facts::{Effect, Facts, Names, Prepared};
use crate::masking::Masks;
use crate::policy::{
    Access, Action, Ask, Context, Limits, Permit, Refusal, RefusalKind, Resource, RuleId,
};
use crate::session::meter::Room;
use crate::session::{
    Allowance, Answered, Authorized, Direction, EndReason, Gate, Outcome, Phase, Reading, Refused,
    RequestId, Said, Terminal, Typed,
};

/// What the gate saw of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) phase: Phase,
    pub(crate) text: String,
    pub(crate) permitted: bool,
    pub(crate) tables: Vec<String>,
    pub(crate) in_transaction: bool,
    /// Whether something of the same batch ran before it.
    pub(crate) begun: bool,
}

#[derive(Debug, Default)]
pub(crate) struct FakeGate {
    pub(crate) seen: Mutex<Vec<(RequestId, Seen)>>,
    pub(crate) finished: Mutex<HashMap<RequestId, Vec<Outcome>>>,
    pub(crate) sent: Mutex<Vec<u8>>,
    pub(crate) received: Mutex<Vec<u8>>,
    /// From now on `late` is denied too.
    pub(crate) withdrawn: AtomicBool,
    /// What cannot be read is denied.
    pub(crate) strict: AtomicBool,
    /// Yields before it answers.
    pub(crate) slow: AtomicBool,
    /// Says that it was asked, and answers when it is let.
    pub(crate) holds: AtomicBool,
    pub(crate) asked: Notify,
    pub(crate) go: Notify,
    pub(crate) end: Notify,
    /// What the server answered to the cancel with which the session ended.
    pub(crate) answered: Mutex<Vec<Answered>>,
    pub(crate) full: AtomicBool,
    pub(crate) masks: Arc<Masks>,
    /// Nothing is masked until the next request is judged.
    pub(crate) reveals: AtomicBool,
    pub(crate) nothing: Arc<Masks>,
    /// What the answers of tables are under that are named `limited`.
    pub(crate) limits: Limits,
    /// What grants give of the answers of tables that are named `granted`.
    pub(crate) allowance: Option<Allowance>,
    /// The texts of what lasts.
    pub(crate) lasting: Mutex<Vec<String>>,
}

impl FakeGate {
    /// Every permitted request was finished once, no other was.
    pub(crate) fn assert_balanced(&self) {
        let finished = self.finished.lock().unwrap();
        let mut permitted = 0;
        for (request, seen) in self.seen.lock().unwrap().iter() {
            let times = finished.get(request).map_or(0, Vec::len);
            assert_eq!(times, usize::from(seen.permitted), "{seen:?}");
            permitted += times;
        }
        assert_eq!(finished.len(), permitted);
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        let finished = self.finished.lock().unwrap();
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter_map(|(request, seen)| {
                let outcome = finished.get(request)?.first()?;
                Some(format!("{}: {}", seen.text, outcome.status))
            })
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let word = |seen: &Seen| match (seen.phase, seen.permitted) {
            (Phase::Prepare, true) => "prepare",
            (Phase::Prepare, false) => "refuse to prepare",
            (Phase::Execute, true) => "execute",
            (Phase::Execute, false) => "refuse to execute",
        };
        seen.iter()
            .map(|(_, seen)| format!("{} {}", word(seen), seen.tables.join("+")))
            .collect()
    }

    fn judge(
        &self,
        phase: Phase,
        (text, begun): (&str, bool),
        reading: &Reading,
    ) -> Result<Authorized, Refused> {
        self.reveals.store(false, Ordering::SeqCst);
        let request = RequestId(uuid::Uuid::now_v7());
        let tables: Vec<String> = reading
            .asks
            .iter()
            .flat_map(|ask| &ask.accesses)
            .map(|access| match &access.resource {
                Resource::Table { schema, table } => format!("{schema}.{table}"),
                _ => format!("{:?}", access.action),
            })
            .collect();
        let withdrawn = self.withdrawn.load(Ordering::SeqCst);
        let strict = self.strict.load(Ordering::SeqCst);
        let denied = tables.iter().any(|table| {
            table.contains("denied")
                || table.contains("FastPath")
                || (strict && table.contains("Unreadable"))
                || (withdrawn && table.contains("late"))
        });
        let seen = Seen {
            phase,
            text: text.to_owned(),
            permitted: !denied,
            tables: tables.clone(),
            in_transaction: reading
                .asks
                .first()
                .is_some_and(|ask| ask.context.in_transaction),
            begun,
        };
        self.seen.lock().unwrap().push((request, seen));
        if denied {
            return Err(Refused {
                request,
                refusal: Refusal {
                    kind: RefusalKind::NotPermitted,
                    rules: vec![RuleId("no-denied".to_owned())],
                    message: "that is denied".to_owned(),
                    hint: Some("ask nicely".to_owned()),
                },
            });
        }
        Ok(Authorized {
            request,
            word: None,
            permit: match text.contains("limited") {
                true => Permit::of_a_test("all").limited(self.limits.clone()),
                false => Permit::of_a_test("all"),
            },
            allowance: match (phase, tables.iter().any(|table| table.contains("granted"))) {
                (Phase::Execute, true) => self.allowance,
                _ => None,
            },
        })
    }
}

impl Gate for FakeGate {
    async fn authorize(
        &self,
        phase: Phase,
        said: Said<'_>,
        reading: &Arc<Reading>,
    ) -> Result<Authorized, Refused> {
        if self.slow.load(Ordering::SeqCst) {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        if self.holds.load(Ordering::SeqCst) {
            self.asked.notify_one();
            self.go.notified().await;
        }
        self.judge(phase, (said.text, said.begun), reading)
    }

    fn asks_people(&self) -> bool {
        false
    }

    fn finish(&self, request: RequestId, outcome: &Outcome) {
        let mut finished = self.finished.lock().unwrap();
        finished.entry(request).or_default().push(outcome.clone());
    }

    async fn record(&self, direction: Direction, bytes: Bytes) -> Result<(), Refusal> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Refusal {
                kind: RefusalKind::Storage,
                rules: Vec::new(),
                message: "the disk is full".to_owned(),
                hint: None,
            });
        }
        let to = match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        };
        to.lock().unwrap().extend_from_slice(&bytes);
        Ok(())
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::clone(match self.reveals.load(Ordering::SeqCst) {
            true => &self.nothing,
            false => &self.masks,
        })
    }

    fn lasts(&self, request: RequestId) {
        let seen = self.seen.lock().unwrap();
        let found = seen.iter().find(|(id, _)| *id == request);
        let text = found.map(|(_, seen)| seen.text.clone());
        self.lasting.lock().unwrap().extend(text);
    }

    async fn terminal(&self, _number: u32, _what: &Terminal) -> Result<(), Refusal> {
        Ok(())
    }

    fn typed(&self, _request: RequestId, _lines: &[Typed]) -> Result<(), Refusal> {
        Ok(())
    }

    fn presented(&self, _place: &str, _credential: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn returned(&self, _request: RequestId, _place: &'static str) -> Result<(), Refusal> {
        Ok(())
    }

    fn room(&self) -> Room {
        Room::default()
    }

    fn answered(&self, answered: Answered, _after: Duration) {
        self.answered.lock().unwrap().push(answered);
    }

    async fn ended(&self) -> EndReason {
        self.end.notified().await;
        EndReason::Killed
    }
}

/// Reads the language of [`super::server`]: statements parted by semicolons, words by spaces; the last
/// word is the table.
pub(crate) fn read(text: &str, names: &Names) -> Facts {
    let mut effects = Vec::new();
    let mut asks = Vec::new();
    let mut readable = true;
    let mut uses_search_path = false;
    let statements: Vec<&str> = text
        .split(';')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    for one in &statements {
        let (ask, effect) = read_one(one, names, &mut uses_search_path);
        readable &= effect != Some(Effect::Unknown);
        effects.extend(effect);
        asks.push(ask);
    }
    if let ([one], [ask]) = (statements.as_slice(), asks.as_mut_slice()) {
        let writes = ["insert", "touch", "returning", "defer", "copyin"];
        ask.context.tells_rows = writes.iter().any(|word| one.starts_with(word));
    }
    Facts {
        reading: Arc::new(Reading {
            asks,
            redacted: text.into(),
            fingerprint: "f".into(),
            summary: "s".into(),
            masked: super::masked::touched(text),
            veto: None,
        }),
        effects,
        statements: statements.len(),
        readable,
        uses_search_path,
        of_its_shape: false,
        rewrite: None,
    }
}

fn read_one(one: &str, names: &Names, uses_search_path: &mut bool) -> (Ask, Option<Effect>) {
    let words: Vec<&str> = one.split_whitespace().collect();
    let path = names
        .search_path
        .as_ref()
        .map_or_else(|| "unknown".to_owned(), |path| path.join(","));
    let table = |table: &str, uses: &mut bool| {
        *uses = true;
        ask(
            Action::Select,
            Resource::Table {
                schema: path.clone(),
                table: table.to_owned(),
            },
            names,
        )
    };
    if let Some((action, effect)) = plain_effect(&words) {
        return (ask(action, Resource::Database, names), effect);
    }
    match words.as_slice() {
        ["prepare", name, "as", body @ ..] => {
            let (ask, _) = read_one(&body.join(" "), names, uses_search_path);
            let prepared = Prepared {
                ask: ask.clone(),
                search_path: names.search_path.clone(),
                effects: Vec::new(),
            };
            let name = (*name).to_owned();
            (ask, Some(Effect::Prepares { name, prepared }))
        }
        ["execute", name] => match names.prepared.get(*name) {
            Some(prepared) => (
                prepared.ask.clone(),
                Some(Effect::Executes {
                    name: (*name).to_owned(),
                }),
            ),
            None => (table("denied", uses_search_path), None),
        },
        ["declare", name, body @ ..] => {
            let (ask, _) = read_one(&body.join(" "), names, uses_search_path);
            let name = (*name).to_owned();
            (ask, Some(Effect::DeclaresCursor { name, holds: false }))
        }
        ["fetch", name] => (
            ask(Action::Select, Resource::Database, names),
            Some(Effect::Fetches((*name).to_owned())),
        ),
        ["close", name] => (
            ask(Action::Select, Resource::Database, names),
            Some(Effect::ClosesCursor(Some((*name).to_owned()))),
        ),
        ["copyin", name] => (table(name, uses_search_path), Some(Effect::CopyIn)),
        ["replicate", name] => {
            let mut ask = table(name, uses_search_path);
            ask.context.command = "start_replication".to_owned();
            (ask, Some(Effect::CopyBoth))
        }
        ["stream", name] => (table(name, uses_search_path), Some(Effect::CopyBoth)),
        ["copyheader", name] => (table(name, uses_search_path), Some(Effect::CopyHeader)),
        ["copyout", name] => (table(name, uses_search_path), Some(Effect::CopyOut)),
        words => (table(words[words.len() - 1], uses_search_path), None),
    }
}

/// What needs no table and no name.
fn plain_effect(words: &[&str]) -> Option<(Action, Option<Effect>)> {
    let path = |to: &str, local| Effect::SetsSearchPath {
        to: Some(vec![to.to_owned()]),
        local,
    };
    let (action, effect) = match words {
        [] => return Some((Action::Select, None)),
        ["begin"] => (Action::Transaction, Effect::Begin),
        ["commit"] => (Action::Transaction, Effect::Commit { chain: false }),
        ["rollback"] => (Action::Transaction, Effect::Rollback { chain: false }),
        ["set", "search_path", to] => (Action::Set, path(to, false)),
        ["set", "local", "search_path", to] => (Action::Set, path(to, true)),
        ["set", "client_encoding", _] => (Action::Set, Effect::SetsEncoding),
        ["deallocate", "all"] => (Action::Set, Effect::Deallocates(None)),
        ["deallocate", name] => (Action::Set, Effect::Deallocates(Some((*name).to_owned()))),
        ["discard"] => (Action::Set, Effect::DiscardsAll),
        ["unreadable", ..] => (Action::Unreadable, Effect::Unknown),
        _ => return None,
    };
    Some((action, Some(effect)))
}

fn ask(action: Action, resource: Resource, names: &Names) -> Ask {
    Ask {
        accesses: BTreeSet::from([Access { action, resource }]),
        context: Context {
            in_transaction: names.in_transaction,
            ..Context::default()
        },
    }
}

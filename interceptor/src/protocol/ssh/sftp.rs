//! sftp, read as it passes: what a request does to which path is judged, and a refused one is answered
//! here. What the server answers goes through as it is; how a request came out is told from it, of a file that was
//! opened when it is closed, with how much was read and written.

pub(super) mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use self::wire::{Broken, Operation, Request, kind};
use super::facts::path;
use crate::clock::{self, BootTime};
use crate::policy::{Access, Action, Resource};
use crate::session::RequestId;

/// Handles of one channel.
const HANDLES: usize = 1_024;
/// Requests of one channel that wait for their answers.
const ASKED: usize = 65_536;
/// Bytes of an answer that is looked into.
const LOOKED_INTO: usize = 16 << 10;
/// What a request is whose channel ended first.
const UNFINISHED: &str = "unfinished";
/// What one is that was done.
const OK: &str = "ok";
/// Bytes of a DATA before what was read: its type, its id, its length.
const HEAD: usize = 9;
/// The id of our own request. It is answered before any other.
const OURS: u32 = u32::MAX;

/// What is known of one channel's files.
#[derive(Debug)]
pub(super) struct Files {
    known: Mutex<Known>,
    home: watch::Sender<Home>,
    room: Notify,
}

#[derive(Debug, Default)]
struct Known {
    is_greeted: bool,
    /// By their ids, of which none stands for two: an answer must name one request.
    asked: HashMap<u32, Asked>,
    handles: HashMap<Bytes, Arc<Opened>>,
    opens: usize,
    done: Vec<Done>,
}

/// A request that waits for its answer.
#[derive(Debug, Default)]
struct Asked {
    what: What,
    going: Option<Going>,
}

/// What its answer says more than how it came out.
#[derive(Debug, Default)]
enum What {
    #[default]
    Nothing,
    /// The handle that stands for a path from then on.
    Opens(String),
    /// What was read.
    Reads(Arc<Opened>),
    /// That so much is written.
    Writes(Arc<Opened>, u64),
    /// That a handle stands for nothing any more.
    Closes(Arc<Opened>),
    /// How much the server takes at once.
    Limits,
}

/// What a handle stands for.
#[derive(Debug)]
struct Opened {
    path: String,
    going: Option<Going>,
    read: AtomicU64,
    written: AtomicU64,
}

/// A request that was permitted.
#[derive(Clone, Copy, Debug)]
struct Going {
    request: RequestId,
    begun: BootTime,
}

/// How one came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) request: RequestId,
    pub(super) begun: BootTime,
    pub(super) status: String,
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Opened {
    fn done(&self, status: String) -> Option<Done> {
        let [read, written] = [&self.read, &self.written].map(|one| one.load(Ordering::Relaxed));
        Some(Done {
            read,
            written,
            ..self.going?.done(status)
        })
    }
}

impl Going {
    fn done(self, status: String) -> Done {
        Done {
            request: self.request,
            begun: self.begun,
            status,
            read: 0,
            written: 0,
        }
    }
}

impl What {
    /// How a request came out that has this answer; nothing yet of what is open.
    fn ends(self, going: Option<Going>, kind: u8, status: String, bytes: u64) -> Option<Done> {
        match self {
            Self::Nothing | Self::Opens(_) | Self::Limits => Some(going?.done(status)),
            Self::Reads(opened) => {
                let read = if kind == kind::DATA { bytes } else { 0 };
                opened.read.fetch_add(read, Ordering::Relaxed);
                None
            }
            Self::Writes(opened, bytes) => {
                let written = if status == OK { bytes } else { 0 };
                opened.written.fetch_add(written, Ordering::Relaxed);
                None
            }
            Self::Closes(opened) => opened.done(status),
        }
    }
}

/// What the client is to have of an answer.
enum Answer {
    AsItIs,
    Instead(Bytes),
    Nothing,
}

/// Where paths begin that are not absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Home {
    #[default]
    NotSaid,
    Said(Option<Vec<String>>),
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    Pass,
    /// It goes on, with a question of our own behind it.
    Greet,
    /// It goes on where this is permitted.
    Judge {
        operation: &'static str,
        said: String,
        accesses: BTreeSet<Access>,
    },
    /// It goes no farther.
    Refuse(u32, &'static str),
}

impl Files {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
            home: watch::Sender::default(),
            room: Notify::new(),
        }
    }

    /// The question that tells where the home is.
    pub(super) fn question() -> Bytes {
        wire::where_am_i(OURS)
    }

    /// What becomes of a packet of the client, and its id.
    pub(super) async fn step(&self, packet: &[u8]) -> Result<(u32, Step), Broken> {
        let (id, request) = wire::request(packet)?;
        if !self.begins(id, matches!(request, Request::Init(_))).await? {
            return Ok((id, Step::Greet));
        }
        let step = match request {
            Request::Plain => Step::Pass,
            Request::Limits => {
                if let Some(asked) = self.lock().asked.get_mut(&id) {
                    asked.what = What::Limits;
                }
                Step::Pass
            }
            Request::Init(_) => return Err(Broken),
            Request::Unknown => Step::Refuse(wire::OP_UNSUPPORTED, "not carried here"),
            Request::Read(handle) => self.moves(id, &handle, What::Reads),
            Request::Write(handle, bytes) => {
                self.moves(id, &handle, |opened| What::Writes(opened, bytes))
            }
            Request::NotText => Step::Refuse(
                wire::PERMISSION_DENIED,
                "this path is no UTF-8, and no rule can be about it",
            ),
            Request::Close(handle) => {
                let step = self.moves(id, &handle, What::Closes);
                self.lock().handles.remove(&handle);
                step
            }
            Request::Open {
                path,
                reads,
                writes,
            } => self.open(id, path, reads, writes).await,
            Request::Path(operation, path) => {
                let wanted = [(of_one(operation), path.as_str())];
                match self.accesses(&wanted).await {
                    None => CANNOT_TELL,
                    Some(_) if operation == Operation::OpenDir && !self.opens(id, &path) => {
                        TOO_MANY
                    }
                    Some(accesses) => judge(operation.word(), path, accesses),
                }
            }
            Request::Paths(operation, first, second) => {
                let first = beside(operation, &first, &second);
                match self.accesses(&of_two(operation, &first, &second)).await {
                    Some(accesses) => {
                        judge(operation.word(), format!("{first} {second}"), accesses)
                    }
                    None => CANNOT_TELL,
                }
            }
            Request::Handle(operation, handle) => match self.path_of(&handle) {
                None => Step::Refuse(wire::PERMISSION_DENIED, "this handle is not known"),
                Some(path) => {
                    let wanted = [(of_one(operation), path.as_str())];
                    match self.accesses(&wanted).await {
                        Some(accesses) => judge(operation.word(), path, accesses),
                        None => CANNOT_TELL,
                    }
                }
            },
        };
        Ok((id, step))
    }

    fn path_of(&self, handle: &Bytes) -> Option<String> {
        let known = self.lock();
        known.handles.get(handle).map(|opened| opened.path.clone())
    }

    async fn open(&self, id: u32, path: String, reads: bool, writes: bool) -> Step {
        let mut wanted = Vec::new();
        wanted.extend(reads.then_some((Action::ReadFile, path.as_str())));
        wanted.extend(writes.then_some((Action::WriteFile, path.as_str())));
        match self.accesses(&wanted).await {
            None => CANNOT_TELL,
            Some(_) if !self.opens(id, &path) => TOO_MANY,
            Some(accesses) => judge("open", path, accesses),
        }
    }

    /// Forgets a request that is answered here.
    pub(super) fn refused(&self, id: u32) {
        self.ends(id);
    }

    /// Notes that a request goes on that was permitted.
    pub(super) fn goes(&self, id: u32, request: RequestId) {
        if let Some(asked) = self.lock().asked.get_mut(&id) {
            let begun = clock::boot();
            asked.going = Some(Going { request, begun });
        }
    }

    /// What has come out since this was asked.
    pub(super) fn done(&self) -> Vec<Done> {
        std::mem::take(&mut self.lock().done)
    }

    /// What comes out no more.
    pub(super) fn left(&self) -> Vec<Done> {
        let mut known = self.lock();
        let mut done = std::mem::take(&mut known.done);
        for (_, Asked { what, going }) in known.asked.drain() {
            let status = UNFINISHED.to_owned();
            done.extend(what.ends(going, kind::STATUS, status, 0));
        }
        let open = known.handles.drain();
        done.extend(open.filter_map(|(_, opened)| opened.done(UNFINISHED.to_owned())));
        done
    }

    /// Notes what an answer says of what a handle stands for.
    fn moves(&self, id: u32, handle: &Bytes, what: impl FnOnce(Arc<Opened>) -> What) -> Step {
        let mut known = self.lock();
        let opened = known.handles.get(handle).cloned();
        if let (Some(opened), Some(asked)) = (opened, known.asked.get_mut(&id)) {
            asked.what = what(opened);
        }
        Step::Pass
    }

    /// Notes a request; whether it is no greeting, which comes first, and once. Waits while too many are
    /// not answered.
    async fn begins(&self, id: u32, is_greeting: bool) -> Result<bool, Broken> {
        loop {
            {
                let mut known = self.lock();
                if known.is_greeted == is_greeting {
                    return Err(Broken);
                }
                if is_greeting {
                    known.is_greeted = true;
                    return Ok(false);
                }
                if known.asked.contains_key(&id)
                    || (id == OURS && *self.home.borrow() == Home::NotSaid)
                {
                    return Err(Broken);
                }
                if known.asked.len() < ASKED {
                    known.asked.insert(id, Asked::default());
                    return Ok(true);
                }
            }
            self.room.notified().await;
        }
    }

    /// A request that has its answer.
    fn ends(&self, id: u32) -> Asked {
        let mut known = self.lock();
        let asked = known.asked.remove(&id).unwrap_or_default();
        if let What::Opens(_) = asked.what {
            known.opens = known.opens.saturating_sub(1);
        }
        self.room.notify_one();
        asked
    }

    /// Notes how a request came out, by the beginning of its answer; `bytes` of it were read. Says whether it asked for
    /// limits.
    fn came_out(&self, head: &[u8], status: String, bytes: usize) -> Result<bool, Broken> {
        let Asked { what, going } = self.ends(wire::id(head)?);
        let asked_for_limits = matches!(what, What::Limits);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let done = what.ends(going, wire::kind_of(head), status, bytes);
        self.lock().done.extend(done);
        Ok(asked_for_limits)
    }

    /// Nothing more is answered: whoever waits for the home waits no longer.
    pub(super) fn close(&self) {
        self.home.send_if_modified(|home| {
            let unsaid = *home == Home::NotSaid;
            if unsaid {
                *home = Home::Said(None);
            }
            unsaid
        });
    }

    async fn accesses(&self, wanted: &[(Action, &str)]) -> Option<BTreeSet<Access>> {
        let home = self.home().await;
        let access = |(action, path): &(Action, &str)| {
            let path = path::steps(path, home.as_deref())?;
            Some(Access {
                action: *action,
                resource: Resource::File { path },
            })
        };
        wanted.iter().map(access).collect()
    }

    async fn home(&self) -> Option<Vec<String>> {
        let mut home = self.home.subscribe();
        let said = home.wait_for(|home| *home != Home::NotSaid).await;
        match said.as_deref() {
            Ok(Home::Said(home)) => home.clone(),
            _ => None,
        }
    }

    /// Notes that the answer to a request is to be a handle for a path; `false` where there are too many.
    fn opens(&self, id: u32, path: &str) -> bool {
        let mut known = self.lock();
        if known.opens >= HANDLES || known.handles.len() >= HANDLES {
            return false;
        }
        known.opens = known.opens.saturating_add(1);
        let what = What::Opens(path.to_owned());
        known.asked.insert(id, Asked { what, going: None });
        true
    }

    /// Looks at an answer of the server.
    fn answered(&self, packet: &[u8]) -> Result<Answer, Broken> {
        let kind = wire::kind_of(packet);
        if kind == kind::VERSION {
            return wire::offered(packet).map(Answer::Instead);
        }
        let id = wire::id(packet)?;
        if self.is_ours(id) {
            let home = match kind {
                kind::NAME => path::steps(&wire::name(packet)?, None),
                _ => None,
            };
            self.home.send_replace(Home::Said(home));
            return Ok(Answer::Nothing);
        }
        if kind != kind::HANDLE {
            let status = wire::outcome(packet)?;
            let is_limits = self.came_out(packet, status, packet.len().saturating_sub(HEAD))?;
            return match (is_limits, kind) {
                (true, kind::EXTENDED_REPLY) => {
                    let handles = u64::try_from(HANDLES).unwrap_or(u64::MAX);
                    wire::limited(packet, handles).map(Answer::Instead)
                }
                _ => Ok(Answer::AsItIs),
            };
        }
        let Asked { what, going } = self.ends(id);
        if let What::Opens(path) = what {
            let opened = Opened {
                path,
                going,
                read: AtomicU64::new(0),
                written: AtomicU64::new(0),
            };
            let mut known = self.lock();
            let before = known
                .handles
                .insert(wire::handle(packet)?, Arc::new(opened));
            // It stood for something else.
            let before = before.and_then(|opened| opened.done(UNFINISHED.to_owned()));
            known.done.extend(before);
        }
        Ok(Answer::AsItIs)
    }

    /// An answer of so many bytes, too long to be looked into.
    fn answered_at_length(&self, head: &[u8], length: usize) -> Result<(), Broken> {
        let is_status = wire::kind_of(head) == kind::STATUS;
        if is_status || wire::kind_of(head) == kind::VERSION || self.is_ours(wire::id(head)?) {
            return Err(Broken);
        }
        self.came_out(head, OK.to_owned(), length.saturating_sub(HEAD))?;
        Ok(())
    }

    /// Whether an answer is to our own question.
    fn is_ours(&self, id: u32) -> bool {
        id == OURS && *self.home.borrow() == Home::NotSaid
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What no rule can be held against.
const CANNOT_TELL: Step = Step::Refuse(
    wire::PERMISSION_DENIED,
    "where this path leads cannot be told",
);
/// No more handles.
const TOO_MANY: Step = Step::Refuse(wire::PERMISSION_DENIED, "too many files are open");

fn judge(operation: &'static str, said: String, accesses: BTreeSet<Access>) -> Step {
    Step::Judge {
        operation,
        said,
        accesses,
    }
}

fn of_one(operation: Operation) -> Action {
    match operation {
        Operation::Stat | Operation::OpenDir | Operation::ReadLink | Operation::StatVfs => {
            Action::ListFiles
        }
        Operation::Remove | Operation::RemoveDir => Action::RemoveFile,
        Operation::SetStat
        | Operation::MakeDir
        | Operation::Rename
        | Operation::Symlink
        | Operation::Hardlink => Action::WriteFile,
    }
}

/// A link makes what it leads to readable and writable by another name.
fn of_two<'a>(operation: Operation, first: &'a str, second: &'a str) -> Vec<(Action, &'a str)> {
    match operation {
        Operation::Rename => vec![
            (Action::RemoveFile, first),
            (Action::WriteFile, first),
            (Action::ReadFile, first),
            (Action::WriteFile, second),
        ],
        // Servers differ in which of the two is the link.
        Operation::Symlink => vec![
            (Action::ReadFile, first),
            (Action::WriteFile, first),
            (Action::ReadFile, second),
            (Action::WriteFile, second),
        ],
        _ => vec![
            (Action::ReadFile, first),
            (Action::WriteFile, first),
            (Action::WriteFile, second),
        ],
    }
}

/// What a symbolic link leads to begins where the link is.
fn beside(operation: Operation, to: &str, link: &str) -> String {
    match (operation, link.rsplit_once('/')) {
        (Operation::Symlink, Some((directory, _))) if !to.starts_with('/') => {
            format!("{directory}/{to}")
        }
        _ => to.to_owned(),
    }
}

/// The server's side, cut into packets as far as that is needed.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: BytesMut,
    /// Bytes of a long packet that have not come yet.
    left: usize,
    /// Packets that have gone by.
    gone_by: u64,
}

impl Answers {
    /// How many packets have gone by whole: answers of our own stand where theirs would.
    pub(super) fn gone_by(&self) -> u64 {
        self.gone_by
    }

    /// What the client is to have of this, and of what was left; no more than `until` packets go by.
    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        files: &Files,
        until: Option<u64>,
    ) -> Result<Bytes, Broken> {
        self.waiting.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        loop {
            if self.left > 0 {
                let now = self.left.min(self.waiting.len());
                out.unsplit(self.waiting.split_to(now));
                self.left = self.left.saturating_sub(now);
                if self.left > 0 {
                    return Ok(out.freeze());
                }
                self.gone_by = self.gone_by.saturating_add(1);
            }
            if until.is_some_and(|until| self.gone_by >= until) {
                return Ok(out.freeze());
            }
            let Some(length) = self.waiting.first_chunk::<4>() else {
                return Ok(out.freeze());
            };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length == 0 || length > wire::MOST {
                return Err(Broken);
            }
            let whole = length.saturating_add(4);
            if length > LOOKED_INTO {
                let Some(head) = self.waiting.get(4..9) else {
                    return Ok(out.freeze());
                };
                files.answered_at_length(head, length)?;
                self.left = whole;
                continue;
            }
            if self.waiting.len() < whole {
                return Ok(out.freeze());
            }
            let packet = self.waiting.split_to(whole);
            self.gone_by = self.gone_by.saturating_add(1);
            match files.answered(packet.chunk().get(4..).unwrap_or_default())? {
                Answer::AsItIs => out.extend_from_slice(&packet),
                Answer::Instead(other) => out.extend_from_slice(&wire::framed(&other)),
                Answer::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;

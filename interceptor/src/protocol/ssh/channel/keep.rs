//! What is kept of a channel for replay: a terminal of its own in the session's recording, with what it
//! showed on either stream, what it was told, and which request permitted it. A channel that carries files or
//! a connection is no terminal, and is told apart.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::super::facts;
use super::super::typing::Typing;
use super::thin::Thin;
use super::{Gone, Shared, Start};
use crate::clock::{self, BootTime};
use crate::session::{Direction, Gate as _, RequestId, Terminal, Typed};

/// The subsystem whose packets are followed.
const SFTP: &str = "sftp";
/// The size of a terminal that says none.
const SIZE: [u32; 2] = [80, 24];
/// How often it is written what was typed.
const EVERY: Duration = Duration::from_secs(1);
/// Lines that were typed and wait to be written; more than a second's are counted.
const LINES: usize = 64;

/// One channel's place in the recording.
#[derive(Debug)]
pub(super) struct Kept {
    number: u32,
    is_terminal: bool,
    /// What is recorded of what it carries: what the client sends, and what it is sent.
    thin: [Mutex<Thin>; 2],
    typed: Option<Mutex<Lines>>,
    status: OnceLock<u32>,
}

/// What was typed.
#[derive(Debug)]
struct Lines {
    typing: Typing,
    request: Option<RequestId>,
    waiting: Vec<Typed>,
    more: usize,
    written: Option<BootTime>,
}

impl Kept {
    /// `most` bytes of each direction are recorded of what is no terminal.
    pub(super) fn new(number: u32, most: usize) -> Self {
        Self {
            number,
            is_terminal: false,
            thin: [Thin::new(most), Thin::new(most)].map(Mutex::new),
            typed: None,
            status: OnceLock::new(),
        }
    }

    async fn keep(&self, shared: &Shared, what: &Terminal) -> Result<(), Gone> {
        let kept = shared.session.terminal(self.number, what).await;
        kept.map_err(|_refusal| Gone)
    }

    /// A channel begins that runs something; `terminal` where it has one.
    pub(super) async fn starts(
        &mut self,
        shared: &Shared,
        start: &Start,
        terminal: Option<&super::Terminal>,
    ) -> Result<(), Gone> {
        let command = match start {
            Start::Shell => String::new(),
            Start::Exec(command) if terminal.is_none() && facts::carries_files(command) => {
                let command = String::from_utf8_lossy(command).into_owned();
                return self.carries(shared, command).await;
            }
            Start::Exec(command) => String::from_utf8_lossy(command).into_owned(),
            Start::Subsystem(name) => {
                if name == SFTP {
                    self.thin.iter().for_each(|thin| lock(thin).follow());
                }
                return self.carries(shared, facts::subsystem(name)).await;
            }
        };
        // What has no size is no terminal.
        let [columns, rows] = terminal.map_or([0, 0], |terminal| cells(terminal.size));
        self.is_terminal = true;
        self.typed = terminal.map(|_terminal| {
            Mutex::new(Lines {
                typing: Typing::new(u32::from(columns)),
                request: None,
                waiting: Vec::new(),
                more: 0,
                written: None,
            })
        });
        let opened = Terminal::Opened {
            columns,
            rows,
            term: terminal.map_or_else(String::new, |terminal| terminal.name.clone()),
            command,
        };
        self.keep(shared, &opened).await
    }

    /// A channel begins that carries something.
    pub(super) async fn carries(&self, shared: &Shared, what: String) -> Result<(), Gone> {
        self.keep(shared, &Terminal::Carries(what)).await
    }

    /// What was asked for last was permitted.
    pub(super) async fn permitted(&self, shared: &Shared, request: RequestId) -> Result<(), Gone> {
        if let Some(typed) = &self.typed {
            lock(typed).request.get_or_insert(request);
        }
        self.keep(shared, &Terminal::Asked(request)).await
    }

    /// What the client sent.
    pub(super) async fn sent(&self, shared: &Shared, bytes: Bytes) -> Result<(), Gone> {
        if let Some(typed) = &self.typed {
            lock(typed).typing.typed(&bytes);
        }
        let sent = match self.is_terminal {
            true => Terminal::Typed(bytes),
            false => return self.carried(shared, Direction::Sent, bytes).await,
        };
        self.keep(shared, &sent).await
    }

    /// What the client is about to see.
    pub(super) async fn shown(
        &self,
        shared: &Shared,
        bytes: Bytes,
        is_error: bool,
    ) -> Result<(), Gone> {
        if let Some(typed) = &self.typed {
            let mut typed = lock(typed);
            let Lines {
                typing,
                waiting,
                more,
                ..
            } = &mut *typed;
            typing.shown(&bytes, |text| match waiting.len() < LINES {
                true => waiting.push(facts::typed(text)),
                false => *more = more.saturating_add(1),
            });
        }
        let shown = match (is_error, self.is_terminal) {
            (true, _) => Terminal::Erred(bytes),
            (false, true) => Terminal::Shown(bytes),
            (false, false) => return self.carried(shared, Direction::Received, bytes).await,
        };
        self.keep(shared, &shown).await?;
        self.write(shared, false)
    }

    /// What goes by on what is no terminal, as far as it is recorded.
    async fn carried(
        &self,
        shared: &Shared,
        direction: Direction,
        bytes: Bytes,
    ) -> Result<(), Gone> {
        let [sent, received] = &self.thin;
        let thin = match direction {
            Direction::Sent => sent,
            Direction::Received => received,
        };
        let bytes = lock(thin).keep(bytes);
        match bytes.is_empty() {
            true => Ok(()),
            false => {
                self.keep(shared, &Terminal::Carried(direction, bytes))
                    .await
            }
        }
    }

    /// The client's terminal has another size.
    pub(super) async fn resized(&self, shared: &Shared, size: [u32; 4]) -> Result<(), Gone> {
        if !self.is_terminal {
            return Ok(());
        }
        let [columns, rows] = cells(size);
        if let Some(typed) = &self.typed {
            lock(typed).typing.resize(u32::from(columns));
        }
        self.keep(shared, &Terminal::Resized { columns, rows })
            .await
    }

    /// How it ended; what is said first counts.
    pub(super) fn exited(&self, status: u32) {
        self.status.get_or_init(|| status);
    }

    /// It is over.
    pub(super) async fn closed(&self, shared: &Shared) -> Result<(), Gone> {
        self.write(shared, true)?;
        let [sent, received] = self.thin.each_ref().map(|thin| lock(thin).out());
        if sent > 0 || received > 0 {
            let left_out = Terminal::Unrecorded { sent, received };
            self.keep(shared, &left_out).await?;
        }
        let status = self.status.get().copied();
        self.keep(shared, &Terminal::Closed { status }).await
    }

    /// Whether lines that were typed wait to be written.
    pub(super) fn waits(&self) -> bool {
        let waits = |typed: &Mutex<Lines>| !lock(typed).waiting.is_empty();
        self.typed.as_ref().is_some_and(waits)
    }

    /// Writes what was typed, no more often than is bearable, or all with `last`.
    pub(super) fn write(&self, shared: &Shared, last: bool) -> Result<(), Gone> {
        let Some(typed) = &self.typed else {
            return Ok(());
        };
        let (request, lines) = {
            let mut typed = lock(typed);
            let now = clock::boot();
            let is_due = typed.written.is_none_or(|at| now.since(at) >= EVERY);
            let Some(request) = typed.request else {
                return Ok(());
            };
            if typed.waiting.is_empty() || !(is_due || last) {
                return Ok(());
            }
            typed.written = Some(now);
            let mut lines = std::mem::take(&mut typed.waiting);
            let more = std::mem::take(&mut typed.more);
            if more > 0 {
                let text = format!("({more} more lines)");
                lines.push(Typed {
                    redacted: text.clone(),
                    text,
                });
            }
            (request, lines)
        };
        let written = shared.session.typed(request, &lines);
        written.map_err(|_refusal| Gone)
    }
}

/// A size in cells.
fn cells([columns, rows, ..]: [u32; 4]) -> [u16; 2] {
    let [usual_columns, usual_rows] = SIZE;
    [(columns, usual_columns), (rows, usual_rows)].map(|(said, usual)| {
        let said = if said == 0 { usual } else { said };
        u16::try_from(said).unwrap_or(u16::MAX)
    })
}

fn lock<T>(held: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

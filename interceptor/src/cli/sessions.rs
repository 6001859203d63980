//! `interceptor sessions`: list recordings, show what was asked and what came back, play them, follow what goes on.
//!
//! Reads the files themselves, which takes root; whoever calls `run` sees to it that the reading is
//! written to the audit log first.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use self::play::{Pace, play};
use self::transcribing::Transcribing;
use super::audit::{since, unless_gone};
use super::{Daemon, reading, terminal};
use crate::clock;
use crate::protocol::postgres::transcript::{Exchange, Limits, Transcript};
use crate::recording::{self, Filter, Identities, Meta, Reader, find, list};

pub mod export;
pub mod live;
mod play;
mod render;
mod screen;
pub mod search;
#[cfg(test)]
mod tests;
mod transcribing;

/// What to do with recordings.
#[derive(Clone, Debug, Subcommand)]
pub enum Sessions {
    /// List recorded sessions, oldest first.
    Ls {
        /// Begun not before: a time (RFC 3339), or how long ago (`90m`).
        #[arg(long)]
        since: Option<String>,
        /// Of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// With this target.
        #[arg(long)]
        target: Option<String>,
        /// Where the recordings are, and how to answer.
        #[command(flatten)]
        place: Place,
    },
    /// Show each statement with its result and how long it took.
    Show {
        /// The session's id, or its beginning.
        id: String,
        /// Rows shown of each result.
        #[arg(long, default_value_t = 1000)]
        rows: usize,
        /// Where the recordings are, and how to answer.
        #[command(flatten)]
        place: Place,
    },
    /// Show a session as its agent saw it, in its own time.
    #[command(alias = "replay")]
    Play {
        /// The session's id, or its beginning.
        id: String,
        /// From so long after its start on: `1m30s`.
        #[arg(long, value_parser = clock::duration)]
        seek: Option<Duration>,
        /// How many times as fast.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// Without any pause.
        #[arg(long, conflicts_with = "speed")]
        instant: bool,
        /// The longest pause, in seconds.
        #[arg(long, default_value_t = 2.0)]
        max_pause: f64,
        /// Only this terminal, where there are several; by default all, each behind its name.
        #[arg(long)]
        terminal: Option<u32>,
        /// Where the recordings are, and how to answer.
        #[command(flatten)]
        place: Place,
    },
    /// Show a session while it goes on, until it ends.
    Follow {
        /// The session's id, or its beginning.
        id: String,
        /// Only this terminal, where there are several; by default all, each behind its name.
        #[arg(long)]
        terminal: Option<u32>,
        /// Where the recordings are, and how to answer.
        #[command(flatten)]
        place: Place,
    },
    /// Write a session for other programs: its requests as JSON lines, a terminal for asciinema.
    Export {
        /// The session's id, or its beginning.
        id: String,
        /// As what.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: export::Format,
        /// Which terminal, where there are several; by default the first.
        #[arg(long)]
        terminal: Option<u32>,
        /// What was typed into a terminal, too: passwords are among it.
        #[arg(long)]
        input: bool,
        /// Where the recordings are, and how to answer.
        #[command(flatten)]
        place: Place,
    },
    /// Find requests by the words of what was asked, of who asked, and of what it was about.
    Search(search::Search),
    /// Keep a recording whatever its age, until it is released.
    Hold {
        /// Which.
        #[command(flatten)]
        which: live::Which,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Keep it no longer than others.
    Release {
        /// Which.
        #[command(flatten)]
        which: live::Which,
    },
    /// End an open session; its process lives on.
    Kill {
        /// Which.
        #[command(flatten)]
        which: live::Which,
    },
}

/// Where the recordings are, and how to answer.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The recordings' directory; by default the one of the daemon.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// A file with an identity of age, for encrypted recordings.
    #[arg(long)]
    pub identity: Option<PathBuf>,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

impl Place {
    fn dir(&self) -> PathBuf {
        self.dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/interceptor/recordings"))
    }

    /// The recording of a session.
    fn open(&self, id: &str) -> Result<Reader> {
        let identities = self.identity.as_deref().map(Identities::read).transpose()?;
        let dir = find(&self.dir(), id)?;
        Ok(Reader::with(&dir, identities.unwrap_or_default())?)
    }
}

impl Sessions {
    /// Tells the audit what is about to be read, then does it, on standard output.
    ///
    /// # Errors
    /// Where the reading cannot be audited, or a recording cannot be read.
    pub fn main(mut self) -> Result<ExitCode> {
        let which = self.reads();
        let place = match &mut self {
            Self::Ls { place, .. }
            | Self::Show { place, .. }
            | Self::Play { place, .. }
            | Self::Follow { place, .. }
            | Self::Export { place, .. } => place,
            Self::Search(search) => return search.clone().main(),
            // The daemon does it, and says so in the audit.
            Self::Hold { .. } | Self::Release { .. } | Self::Kill { .. } => {
                return self.run(&mut io::stdout().lock()).map(ExitCode::from);
            }
        };
        let state = reading::announce(&place.daemon, place.dir.as_deref(), "recordings", &which)?;
        place.dir.get_or_insert_with(|| state.join("recordings"));
        self.run(&mut io::stdout().lock()).map(ExitCode::from)
    }

    /// What is about to be read, in words for the audit.
    #[must_use]
    pub fn reads(&self) -> String {
        match self {
            Self::Ls { .. } => "sessions ls".to_owned(),
            Self::Show { id, .. } => format!("sessions show {id}"),
            Self::Play { id, .. } => format!("sessions play {id}"),
            Self::Follow { id, .. } => format!("sessions follow {id}"),
            Self::Export { id, .. } => format!("sessions export {id}"),
            Self::Search(search) => search.reads(),
            Self::Hold { which, .. } => format!("sessions hold {}", which.id),
            Self::Release { which } => format!("sessions release {}", which.id),
            Self::Kill { which } => format!("sessions kill {}", which.id),
        }
    }

    /// Does it. The exit code is 0, or 1 where a recording is damaged.
    pub fn run(&self, out: &mut impl Write) -> Result<u8> {
        unless_gone(match self {
            Self::Ls {
                since: begun,
                agent,
                target,
                place,
            } => {
                let filter = Filter {
                    since: begun.as_deref().map(since).transpose()?,
                    agent: agent.clone(),
                    target: target.clone(),
                };
                ls(place, &filter, out)
            }
            Self::Show { id, rows, place } => show(id, *rows, place, out),
            Self::Follow {
                id,
                terminal,
                place,
            } => live::follow(id, *terminal, place, out),
            Self::Export {
                id,
                format,
                terminal,
                input,
                place,
            } => export::export(id, (*format, *terminal, *input), place, out),
            Self::Search(search) => search.run(out),
            Self::Hold { which, reason } => {
                which.ask("hold", Some(reason), ["is held", "was held already"], out)
            }
            Self::Release { which } => {
                which.ask("release", None, ["is held no longer", "was not held"], out)
            }
            Self::Kill { which } => which.ask("kill", None, ["is ended", "had ended"], out),
            Self::Play {
                id,
                seek,
                speed,
                instant,
                max_pause,
                terminal,
                place,
            } => {
                let pace = Pace::new(*speed, *instant, *max_pause)?;
                let when = (&pace, seek.unwrap_or_default());
                play(id, *terminal, when, place, out)
            }
        })
    }
}

fn ls(place: &Place, filter: &Filter, out: &mut impl Write) -> Result<u8> {
    let mut code = 0;
    for listing in list(&place.dir(), filter)? {
        match listing {
            Ok(listing) if place.json => {
                let text = serde_json::to_string(&listing.meta)?;
                writeln!(out, "{}", terminal::json(&text))?;
            }
            Ok(listing) => writeln!(out, "{}", render::heading(&listing.meta))?,
            Err(error) => {
                code = 1;
                let damaged = Damaged {
                    damage: in_full(&error),
                };
                if place.json {
                    let text = serde_json::to_string(&damaged)?;
                    writeln!(out, "{}", terminal::json(&text))?;
                } else {
                    writeln!(out, "{}", terminal::line(&damaged.damage))?;
                }
            }
        }
    }
    Ok(code)
}

/// In place of a session that cannot be read.
#[derive(Serialize)]
struct Damaged {
    damage: String,
}

/// A recording read, as far as it goes.
struct Read {
    meta: Meta,
    transcript: Transcript,
    /// Why it does not go on: what a crash tore off, or damage.
    stopped: Option<recording::Error>,
}

impl Read {
    fn open(place: &Place, id: &str, limits: Limits) -> Result<Self> {
        let mut reader = place.open(id)?;
        let meta = reader.meta().clone();
        let mut reading = Transcribing::of(&meta, limits)?;
        let mut stopped = None;
        for frame in reader.by_ref() {
            match frame {
                Ok(frame) => reading.take(frame.at, &frame.what),
                Err(error) => stopped = Some(error),
            }
        }
        Ok(Self {
            meta,
            transcript: reading.finish(),
            stopped,
        })
    }

    /// A tear is what a crash leaves; everything else that stops the reading is a violation.
    fn code(&self) -> u8 {
        match &self.stopped {
            None | Some(recording::Error::Torn { .. }) => 0,
            Some(_) => 1,
        }
    }

    fn remarks(&self) -> Vec<String> {
        let stopped = self.stopped.as_ref().map(in_full);
        let remark = self.transcript.remark.map(str::to_owned);
        let open = (self.meta.ended.is_none() && stopped.is_none())
            .then(|| "the recording has no end: the session lives, or the daemon died".to_owned());
        stopped.into_iter().chain(remark).chain(open).collect()
    }
}

/// An error and its causes in one line.
fn in_full(error: &recording::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// `sessions show --json`.
#[derive(Serialize)]
struct Shown<'a> {
    session: &'a Meta,
    exchanges: &'a [Exchange],
    remarks: Vec<String>,
}

fn show(id: &str, rows: usize, place: &Place, out: &mut impl Write) -> Result<u8> {
    let limits = Limits {
        rows,
        ..Limits::default()
    };
    let read = Read::open(place, id, limits)?;
    if place.json {
        let shown = Shown {
            session: &read.meta,
            exchanges: &read.transcript.exchanges,
            remarks: read.remarks(),
        };
        let text = serde_json::to_string(&shown)?;
        writeln!(out, "{}", terminal::json(&text))?;
        return Ok(read.code());
    }
    writeln!(out, "{}", render::heading(&read.meta))?;
    for exchange in &read.transcript.exchanges {
        writeln!(out)?;
        render::asked(exchange, read.meta.started_boot_ns, out)?;
        render::answered(exchange, out)?;
    }
    finish(&read, out)
}

fn finish(read: &Read, out: &mut impl Write) -> Result<u8> {
    for remark in read.remarks() {
        writeln!(out, "\n{}", terminal::line(&remark))?;
    }
    Ok(read.code())
}

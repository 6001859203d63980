//! `interceptor audit`: check the log, show its lines.
//!
//! Reads the files themselves, which takes root; whoever calls `run` sees to it that the reading is
//! written to the log first.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{Daemon, reading, terminal};
use crate::audit::read::{Entries, Entry, Filter, last};
use crate::clock;

pub mod check;
#[cfg(test)]
mod tests;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What to do with the audit log.
#[derive(Clone, Debug, Subcommand)]
pub enum Audit {
    /// Check that no line was changed, removed, added or moved; exit code 1 if one was.
    Verify {
        /// What it is checked by.
        #[command(flatten)]
        by: check::By,
        /// Where the log is, and how to answer.
        #[command(flatten)]
        log: Log,
    },
    /// Print the public key that checkpoints are signed for, which is all that a copy is checked with.
    Key {
        /// Where the log is, and how to answer.
        #[command(flatten)]
        log: Log,
    },
    /// Print the newest signed checkpoint, to be kept elsewhere: `verify --anchor` finds whether it still holds.
    Checkpoint {
        /// To a file rather than to standard output.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// Where the log is, and how to answer.
        #[command(flatten)]
        log: Log,
    },
    /// Show lines in full: those of a request, a session or a connection, or one by its sequence.
    Show {
        /// An id of any of these, or a sequence; all lines that pass without.
        id: Option<String>,
        /// Which.
        #[command(flatten)]
        only: Only,
        /// Where the log is, and how to answer.
        #[command(flatten)]
        log: Log,
    },
    /// Show the newest lines, one each.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
        /// Which.
        #[command(flatten)]
        only: Only,
        /// Where the log is, and how to answer.
        #[command(flatten)]
        log: Log,
    },
}

/// Where the log is, and how to answer.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// The log's directory; by default the one of the daemon.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
    /// Answer in JSON; lines as they stand in the log.
    #[arg(long)]
    pub json: bool,
}

/// Which lines.
#[derive(Clone, Debug, Default, Args)]
pub struct Only {
    /// Not before: a time (RFC 3339), or how long ago (`90m`).
    #[arg(long)]
    pub since: Option<String>,
    /// Of this agent.
    #[arg(long)]
    pub agent: Option<String>,
    /// Of this session.
    #[arg(long)]
    pub session: Option<Uuid>,
    /// Of this request.
    #[arg(long)]
    pub request: Option<Uuid>,
    /// Of this event, or of all that begin so: `request.refused`, `request`.
    #[arg(long)]
    pub event: Option<String>,
}

impl Log {
    fn dir(&self) -> PathBuf {
        self.dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/interceptor/audit"))
    }
}

impl Only {
    fn filter(&self) -> Result<Filter> {
        Ok(Filter {
            since: self.since.as_deref().map(since).transpose()?,
            agent: self.agent.clone(),
            session: self.session,
            request: self.request,
            event: self.event.clone(),
            ..Filter::default()
        })
    }
}

/// As it is written on a command line, a space before each word.
impl std::fmt::Display for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            since,
            agent,
            session,
            request,
            event,
        } = self;
        for (option, value) in [
            ("since", since.clone()),
            ("agent", agent.clone()),
            ("session", session.map(|id| id.to_string())),
            ("request", request.map(|id| id.to_string())),
            ("event", event.clone()),
        ] {
            if let Some(value) = value {
                write!(f, " --{option} {value}")?;
            }
        }
        Ok(())
    }
}

/// A time, or one that long ago.
pub(in crate::cli) fn since(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: SignedDuration = text.parse().with_context(|| {
        format!("cannot read the time {text:?}: give RFC 3339, or how long ago as in 90m")
    })?;
    clock::wall()
        .checked_sub(ago)
        .context("cannot count back that far")
}

impl Audit {
    /// What is about to be read, in words for the audit itself; `None` for a check, which shows nothing.
    #[must_use]
    pub fn reads(&self) -> Option<String> {
        match self {
            Self::Verify { .. } | Self::Key { .. } | Self::Checkpoint { .. } => None,
            Self::Show { id, only, .. } => {
                let id = id.iter().map(|id| format!(" {id}")).collect::<String>();
                Some(format!("audit show{id}{only}"))
            }
            Self::Tail {
                lines,
                follow,
                only,
                ..
            } => {
                let follow = if *follow { " --follow" } else { "" };
                Some(format!("audit tail --lines {lines}{follow}{only}"))
            }
        }
    }

    /// Tells the audit what is about to be read, then does it, on standard output.
    ///
    /// # Errors
    /// Where the reading cannot be audited, or the log cannot be read.
    pub fn main(mut self) -> Result<ExitCode> {
        let which = self.reads();
        let log = self.log();
        let state = match (which, &log.dir) {
            (Some(which), dir) => reading::announce(&log.daemon, dir.as_deref(), "audit", &which)?,
            // A copy is checked wherever it is, without a daemon.
            (None, Some(_)) => return self.run(&mut io::stdout().lock()).map(ExitCode::from),
            (None, None) => reading::state(&log.daemon)?,
        };
        log.dir.get_or_insert_with(|| state.join("audit"));
        if let Self::Verify { by, .. } = &mut self {
            by.of_this_host(&state);
        }
        self.run(&mut io::stdout().lock()).map(ExitCode::from)
    }

    fn log(&mut self) -> &mut Log {
        match self {
            Self::Verify { log, .. }
            | Self::Key { log }
            | Self::Checkpoint { log, .. }
            | Self::Show { log, .. }
            | Self::Tail { log, .. } => log,
        }
    }

    /// Does it. The exit code is 0, or 1 where `verify` found something wrong.
    pub fn run(&self, out: &mut impl Write) -> Result<u8> {
        unless_gone(match self {
            Self::Verify { by, log } => check::check(by, log, out),
            Self::Key { log } => check::key(log, out),
            Self::Checkpoint { export, log } => check::checkpoint(export.as_deref(), log, out),
            Self::Show { id, only, log } => show(id.as_deref(), only, log, out),
            Self::Tail {
                lines,
                follow,
                only,
                log,
            } => tail(*lines, *follow, only, log, out),
        })
    }
}

/// That our reader went away (`| head`) is no failure.
pub(super) fn unless_gone(done: Result<u8>) -> Result<u8> {
    match done {
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(0)
        }
        other => other,
    }
}

fn show(id: Option<&str>, only: &Only, log: &Log, out: &mut impl Write) -> Result<u8> {
    let mut filter = only.filter()?;
    if let Some(id) = id {
        match (id.parse(), id.parse()) {
            (Ok(sequence), _) => filter.sequence = Some(sequence),
            (_, Ok(id)) => filter.id = Some(id),
            _ => bail!("cannot show {id:?}: it is neither an id nor a sequence"),
        }
    }
    let mut count = 0_u64;
    for entry in Entries::open(&log.dir(), filter)? {
        let entry = entry?;
        count += 1;
        if log.json {
            writeln!(out, "{}", terminal::json(&entry.line))?;
        } else {
            let value: Value = serde_json::from_str(&entry.line)?;
            let text = serde_json::to_string_pretty(&value)?;
            writeln!(
                out,
                "{}:{}\n{}",
                entry.file,
                entry.number,
                terminal::json(&text)
            )?;
        }
    }
    if count == 0 && !log.json {
        writeln!(out, "no such line below {}", log.dir().display())?;
    }
    Ok(0)
}

fn tail(lines: usize, follow: bool, only: &Only, log: &Log, out: &mut impl Write) -> Result<u8> {
    let (found, mut more) = last(&log.dir(), &only.filter()?, lines)?;
    for entry in found {
        one(&entry, log.json, out)?;
    }
    out.flush()?;
    if !follow {
        return Ok(0);
    }
    while terminal::pause(LOOK_EVERY)? {
        for entry in more.by_ref() {
            one(&entry?, log.json, out)?;
        }
        out.flush()?;
    }
    Ok(0)
}

fn one(entry: &Entry, json: bool, out: &mut impl Write) -> Result<()> {
    if json {
        writeln!(out, "{}", terminal::json(&entry.line))?;
        return Ok(());
    }
    let value: Value = serde_json::from_str(&entry.line)?;
    writeln!(out, "{}", terminal::line(&in_words(&value)))?;
    Ok(())
}

/// A line of the log for people: when, what, who, where, and what came of it.
fn in_words(line: &Value) -> String {
    let text = |pointer: &str| match line.pointer(pointer) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let mut words = vec![
        text("/time").unwrap_or_default(),
        format!("#{}", text("/seq").unwrap_or_default()),
        text("/event").unwrap_or_default(),
    ];
    let agent = text("/principal/agent").or_else(|| text("/agent"));
    words.extend(agent);
    if let Some(pid) = text("/principal/process/pid") {
        let path = text("/principal/process/executable/path").unwrap_or_default();
        words.push(format!("{path}[{pid}]"));
    }
    let place: Vec<String> = ["/target", "/database"]
        .into_iter()
        .filter_map(text)
        .collect();
    if !place.is_empty() {
        words.push(place.join("/"));
    }
    words.extend(text("/destination"));
    words.extend(text("/asked").map(|asked| format!("for {asked}")));
    words.extend(text("/statement").or_else(|| text("/summary")));
    words.extend(text("/refusal/message").map(|message| format!("refused: {message}")));
    for (name, pointer) in [
        ("cause", "/cause"),
        ("by", "/refusal/rules"),
        ("rules", "/rules"),
        ("rows", "/rows"),
        ("micros", "/micros"),
        ("status", "/status"),
        ("reason", "/reason"),
        ("verb", "/verb"),
        ("result", "/result"),
        ("detail", "/detail"),
        ("denied", "/denied"),
        ("count", "/count"),
        ("segment", "/segment"),
        ("request", "/request"),
    ] {
        let value = text(pointer).filter(|value| value != "[]");
        words.extend(value.map(|value| format!("{name}={value}")));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

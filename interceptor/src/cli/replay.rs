//! `interceptor replay`: what another policy would have said of the requests that were asked.
//!
//! Reads the audit log, which has of each request what it asked for and who asked, and judges it by the
//! same code as the daemon. Requests that something else than rules refused (a limit, a full disk, a
//! mask) are counted and left out. Nothing is sent anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::audit::{since, unless_gone};
use super::why::recorded::{Compared, compare_line};
use super::{Daemon, VIOLATION, counted, reading, terminal};
use crate::audit::read::{Entries, Filter};
use crate::policy::{Generation, Policy, RefusalKind};

/// Judge recorded requests again by another policy.
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// The directory of the policy that judges.
    #[arg(long, value_name = "DIR")]
    policy: PathBuf,
    /// Sessions, by id or how that begins; all where none is named.
    sessions: Vec<String>,
    /// Asked not before: a time (RFC 3339), or how long ago (`90m`).
    #[arg(long)]
    since: Option<String>,
    /// Of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// The audit log's directory; by default the one of the daemon.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer in JSON, one change a line and the sums last.
    #[arg(long)]
    json: bool,
}

/// A request of which the policy says something else.
#[derive(Debug, Serialize)]
struct Change<'a> {
    session: Option<Uuid>,
    request: Uuid,
    time: &'a str,
    agent: &'a str,
    target: &'a str,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'a str>,
    /// What the daemon did: `permitted`, or the kind of refusal.
    was: &'a str,
    was_by: Vec<&'a str>,
    /// What it would do.
    would: &'static str,
    would_by: Vec<String>,
}

/// What of a line is shown besides what was judged.
#[derive(serde::Deserialize)]
struct Shown {
    time: String,
    session: Option<Uuid>,
    target: Option<String>,
    statement: Option<String>,
    approval: Option<Uuid>,
    principal: Option<Who>,
}

#[derive(serde::Deserialize)]
struct Who {
    agent: String,
}

/// The sums of a replay.
#[derive(Debug, Default, Serialize)]
struct Sums {
    /// Requests judged.
    judged: u64,
    /// Sessions that they belong to.
    sessions: usize,
    /// Permitted then, refused by this policy.
    refused: u64,
    /// Refused then, permitted by this policy.
    permitted: u64,
    /// Refused by both, otherwise.
    otherwise: u64,
    /// What rules did not decide.
    undecided: u64,
    /// Of those judged, commands whose arguments the log does not have.
    partly: u64,
    /// Changes by the rule that makes them; `(no rule)` where none permits any more.
    rules: BTreeMap<String, Turned>,
}

/// What one rule changes.
#[derive(Debug, Default, Serialize)]
struct Turned {
    refused: u64,
    permitted: u64,
    otherwise: u64,
}

impl Replay {
    /// Tells the audit what is about to be read, then does it.
    ///
    /// # Errors
    /// Where the reading cannot be audited, or policy or log cannot be read.
    pub fn main(mut self) -> anyhow::Result<ExitCode> {
        let which = format!("replay {}", self.sessions.join(" "));
        let state =
            reading::announce(&self.daemon, self.dir.as_deref(), "audit", which.trim_end())?;
        self.dir.get_or_insert_with(|| state.join("audit"));
        self.run(&mut io::stdout().lock()).map(ExitCode::from)
    }

    /// Does it. The exit code is 1 where anything would be otherwise.
    ///
    /// # Errors
    /// Where policy or log cannot be read.
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<u8> {
        unless_gone(self.judge(out))
    }

    fn judge(&self, out: &mut impl Write) -> anyhow::Result<u8> {
        let policy = Policy::load(&self.policy, Generation(0))?;
        let dir = self
            .dir
            .as_deref()
            .unwrap_or_else(|| Path::new("/var/lib/interceptor/audit"));
        let filter = Filter {
            since: self.since.as_deref().map(since).transpose()?,
            agent: self.agent.clone(),
            event: Some("request".to_owned()),
            ..Filter::default()
        };
        let mut sums = Sums::default();
        let mut sessions = BTreeSet::new();
        for entry in Entries::open(dir, filter)? {
            let entry = entry?;
            let place = || format!("{}:{}", entry.file, entry.number);
            let shown: Shown = serde_json::from_str(&entry.line).with_context(place)?;
            if !self.wants(shown.session) {
                continue;
            }
            let Some(compared) = compare_line(&policy, &entry.line, None).with_context(place)?
            else {
                continue;
            };
            sessions.extend(shown.session);
            self.one(&compared, &shown, &mut sums, out)?;
        }
        sums.sessions = sessions.len();
        self.tell(&sums, out)?;
        let changes = sums.refused + sums.permitted + sums.otherwise;
        Ok(if changes == 0 { 0 } else { VIOLATION })
    }

    fn wants(&self, session: Option<Uuid>) -> bool {
        let Some(session) = session.map(|session| session.to_string()) else {
            return self.sessions.is_empty();
        };
        let begins = |wanted: &String| {
            !wanted.is_empty() && session.starts_with(&wanted.to_ascii_lowercase())
        };
        self.sessions.is_empty() || self.sessions.iter().any(begins)
    }

    /// Compares one request, and shows it where it would be otherwise.
    fn one(
        &self,
        compared: &Compared,
        shown: &Shown,
        sums: &mut Sums,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let was = compared.done.as_str();
        let needs_approval = RefusalKind::NeedsApproval.word();
        if compared.agrees.is_none() && was != needs_approval {
            sums.undecided += 1;
            return Ok(());
        }
        sums.judged += 1;
        sums.partly += u64::from(compared.partly);
        let refusal = compared.explanation.refusal.as_ref();
        let would = refusal.map_or("permitted", |refusal| refusal.kind.word());
        // People said yes to it, and would be asked again.
        let asked = shown.approval.is_some() && would == needs_approval;
        if would == was || asked {
            return Ok(());
        }
        let would_by = by(compared);
        let turn = |turned: &mut Turned| match (was, would) {
            ("permitted", _) => turned.refused += 1,
            (_, "permitted") => turned.permitted += 1,
            _ => turned.otherwise += 1,
        };
        let mut all = Turned::default();
        turn(&mut all);
        sums.refused += all.refused;
        sums.permitted += all.permitted;
        sums.otherwise += all.otherwise;
        let none = ["(no rule)".to_owned()];
        let rules = if would_by.is_empty() {
            &none[..]
        } else {
            &would_by
        };
        for rule in rules {
            turn(sums.rules.entry(rule.clone()).or_default());
        }
        self.show(
            &Change {
                session: shown.session,
                request: compared.request,
                time: &shown.time,
                agent: shown.principal.as_ref().map_or("?", |who| &who.agent),
                target: shown.target.as_deref().unwrap_or("?"),
                summary: &compared.summary,
                statement: shown.statement.as_deref(),
                was,
                was_by: compared.rules.iter().map(|rule| rule.0.as_str()).collect(),
                would,
                would_by,
            },
            out,
        )
    }

    fn show(&self, change: &Change<'_>, out: &mut impl Write) -> anyhow::Result<()> {
        if self.json {
            let text = serde_json::to_string(change)?;
            writeln!(out, "{}", terminal::json(&text))?;
            return Ok(());
        }
        let by = |rules: String| match rules.is_empty() {
            true => String::new(),
            false => format!(" (by {rules})"),
        };
        let line = format!(
            "{}  {}  {}  {}: {}{} -> {}{}",
            change.time,
            change.request,
            change.agent,
            change.statement.unwrap_or(change.summary),
            change.was,
            by(change.was_by.join(", ")),
            change.would,
            by(change.would_by.join(", ")),
        );
        writeln!(out, "{}", terminal::line(&line))?;
        Ok(())
    }

    fn tell(&self, sums: &Sums, out: &mut impl Write) -> anyhow::Result<()> {
        if self.json {
            writeln!(out, "{}", json!({ "sums": sums }))?;
            return Ok(());
        }
        for (rule, turned) in &sums.rules {
            let Turned {
                refused,
                permitted,
                otherwise,
            } = turned;
            let line = format!(
                "rule {rule}: {refused} more refused, {permitted} more permitted, {otherwise} refused otherwise"
            );
            writeln!(out, "{}", terminal::line(&line))?;
        }
        let judged = counted(sums.judged, "request", "requests");
        let sessions = counted(sums.sessions, "session", "sessions");
        writeln!(
            out,
            "{judged} of {sessions} judged: {} would be refused, {} would be permitted, {} refused otherwise; {} left out, which rules did not decide",
            sums.refused, sums.permitted, sums.otherwise, sums.undecided
        )?;
        if sums.partly > 0 {
            let commands = counted(sums.partly, "command was", "commands were");
            writeln!(
                out,
                "{commands} judged without arguments, which the log does not have: `statement: full` keeps them"
            )?;
        }
        Ok(())
    }
}

/// The rules that decide now: of a refusal its own, else all that permit.
fn by(compared: &Compared) -> Vec<String> {
    let explanation = &compared.explanation;
    if let Some(refusal) = &explanation.refusal {
        return refusal
            .rules
            .iter()
            .map(|rule| rule.0.to_string())
            .collect();
    }
    let accesses = explanation.asks.iter().flat_map(|ask| &ask.accesses);
    let rules: BTreeSet<_> = accesses
        .flat_map(|access| &access.rules)
        .map(|rule| rule.id.0.to_string())
        .collect();
    rules.into_iter().collect()
}

#[cfg(test)]
mod tests;

//! `interceptor approvals`: requests that wait for people, and their answers.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::client;
use super::operate::{lines, show};
use super::{Daemon, complain, print, terminal};
use crate::approvals::{Answer, Delegation, StandIn, Standing, State, who};
use crate::control::api::{self, Asked, Say, WhichApproval};
use crate::policy::ApprovalId;

/// Columns of a request's text that are shown in one line.
const WIDTH: usize = 76;

/// `interceptor approvals`.
#[derive(Debug, Args)]
pub struct Approvals {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the requests that wait for an answer, and the answers that hold.
    Ls(Ls),
    /// Show one request exactly as it was sent, by whom, and what was asked before.
    Show(Show),
    /// Say yes.
    Approve(Approve),
    /// Say no.
    Deny(Deny),
    /// Take a yes back, and end what goes on by it.
    Revoke(Revoke),
    /// Name a stand-in, who answers by your right while you are away.
    Delegate(Delegate),
    /// List who stands in for whom.
    Delegations(Delegations),
    /// Take a delegation back.
    Undelegate(Undelegate),
}

impl Approvals {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Ls(ls) => ls.run().await,
            Verb::Show(show) => show.run().await,
            Verb::Approve(approve) => approve.run().await,
            Verb::Deny(deny) => deny.run().await,
            Verb::Revoke(revoke) => revoke.run().await,
            Verb::Delegate(delegate) => delegate.run().await,
            Verb::Delegations(delegations) => delegations.run().await,
            Verb::Undelegate(undelegate) => undelegate.run().await,
        }
    }
}

#[derive(Debug, Args)]
struct Ls {
    /// Those of the caller's own scope: what an agent may ask.
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON, one request a line.
    #[arg(long)]
    json: bool,
}

impl Ls {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let socket = match self.own {
            true => self.daemon.agent()?,
            false => self.daemon.control()?,
        };
        let all: Vec<Standing> = client::get(&socket, "/v1/approvals").await?;
        let mut text = lines(self.json, &all, line)?;
        if all.is_empty() && !self.json {
            text.push_str("nothing waits for an approval\n");
        }
        print(&text);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
struct Show {
    /// The request, as `ls` names it.
    approval: Uuid,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let asked = asked(&self.daemon, self.approval).await?;
        Ok(show(self.json, &asked, &whole(&asked)))
    }
}

#[derive(Debug, Args)]
struct Approve {
    /// The request, as `ls` names it.
    approval: Uuid,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
    /// Let the answer cover the same statement on rows with other literals, for this long: 10m.
    #[arg(long)]
    shape: Option<String>,
    /// How many of the same request, which wait at once, it covers.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Say yes alone, in an emergency, whoever it waits for; needs a reason.
    #[arg(long)]
    break_glass: bool,
    /// To what `show` has shown, by its digest: where that has changed, nothing is said. At a terminal it is shown
    /// here, and asked for.
    #[arg(long, value_name = "DIGEST")]
    shown: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Approve {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let shown = match self.shown {
            None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
                Some(confirmed(&self.daemon, self.approval).await?)
            }
            shown => shown,
        };
        let say = Say {
            shown,
            approval: ApprovalId(self.approval),
            yes: true,
            reason: self.reason,
            shape: self.shape,
            times: self.times,
            break_glass: self.break_glass,
            factor: None,
        };
        answer(&self.daemon, &say, self.json).await
    }
}

#[derive(Debug, Args)]
struct Deny {
    /// The request, as `ls` names it.
    approval: Uuid,
    /// Why: the agent is told.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Deny {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let say = Say {
            shown: None,
            approval: ApprovalId(self.approval),
            yes: false,
            reason: self.reason,
            shape: None,
            times: 0,
            break_glass: false,
            factor: None,
        };
        answer(&self.daemon, &say, self.json).await
    }
}

#[derive(Debug, Args)]
struct Revoke {
    /// The request, as `ls` names it.
    approval: Uuid,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let which = WhichApproval {
            approval: ApprovalId(self.approval),
        };
        let control = self.daemon.control()?;
        let standing: Standing = client::post(&control, "/v1/approvals/revoke", &which).await?;
        let text = format!("{}\n", state(&standing));
        Ok(show(self.json, &standing, &text))
    }
}

#[derive(Debug, Args)]
struct Delegate {
    /// Who stands in: a group, or user:NAME; of an issuer staff:GROUP, or user:staff:SUBJECT.
    #[arg(long, value_name = "GROUP|user:NAME")]
    to: String,
    /// For how long: 8h.
    #[arg(long = "for")]
    time: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Delegate {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let to = match self.to.strip_prefix("user:") {
            Some(name) => StandIn::User(name.to_owned()),
            None => StandIn::Group(self.to),
        };
        let asked = api::Delegate {
            to,
            time: self.time,
        };
        let control = self.daemon.control()?;
        let made: Delegation = client::post(&control, "/v1/approvals/delegate", &asked).await?;
        Ok(show(self.json, &made, &delegation(&made)))
    }
}

#[derive(Debug, Args)]
struct Delegations {
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON, one delegation a line.
    #[arg(long)]
    json: bool,
}

impl Delegations {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let control = self.daemon.control()?;
        let all: Vec<Delegation> = client::get(&control, "/v1/approvals/delegations").await?;
        let mut text = lines(self.json, &all, delegation)?;
        if all.is_empty() && !self.json {
            text.push_str("nobody stands in for anybody\n");
        }
        print(&text);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
struct Undelegate {
    /// The delegation, as `delegations` names it.
    delegation: Uuid,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Undelegate {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let which = api::WhichDelegation {
            delegation: self.delegation,
        };
        let control = self.daemon.control()?;
        let over: Delegation = client::post(&control, "/v1/approvals/undelegate", &which).await?;
        let text = format!("revoked: {}", delegation(&over));
        Ok(show(self.json, &over, &text))
    }
}

/// One delegation for people.
fn delegation(one: &Delegation) -> String {
    let to = match &one.to {
        StandIn::User(name) => format!("user {}", terminal::line(name)),
        StandIn::Group(name) => format!("group {}", terminal::line(name)),
    };
    let by = one.by.shown();
    let by = terminal::line(&by);
    format!("{}  {to} for {by}  until {}\n", one.id, one.expires)
}

async fn asked(daemon: &Daemon, approval: Uuid) -> anyhow::Result<Asked> {
    let which = WhichApproval {
        approval: ApprovalId(approval),
    };
    client::post(&daemon.control()?, "/v1/approvals/show", &which).await
}

/// Shows a request at a terminal, and what it was that somebody said yes to.
async fn confirmed(daemon: &Daemon, approval: Uuid) -> anyhow::Result<String> {
    let asked = asked(daemon, approval).await?;
    complain(&format!("{}approve this? yes or no: ", whole(&asked)));
    let mut said = String::new();
    std::io::stdin().read_line(&mut said)?;
    match said.trim() {
        "yes" => Ok(asked.shown),
        _ => bail!("nothing was said"),
    }
}

async fn answer(daemon: &Daemon, say: &Say, json: bool) -> anyhow::Result<ExitCode> {
    let standing: Standing = client::post(&daemon.control()?, "/v1/approvals/answer", say).await?;
    let text = format!("{}\n", state(&standing));
    Ok(show(json, &standing, &text))
}

/// One request for people, in one line.
fn line(standing: &Standing) -> String {
    let question = &standing.question;
    format!(
        "{}  {}  {} on {}/{}  for {}  {}  {}\n",
        question.id.0,
        question.holder.agent,
        terminal::line(&question.summary),
        question.target,
        terminal::line(&question.database),
        who(&question.needs),
        state(standing),
        terminal::line(&question.text),
    )
}

fn state(standing: &Standing) -> String {
    let said = |yes: bool| {
        let names = standing.answers.iter().filter(|said| said.yes == yes);
        let names: Vec<_> = names
            .map(|said| terminal::line(&said.by.shown()).into_owned())
            .collect();
        names.join(", ")
    };
    match standing.state {
        State::Open if standing.answers.is_empty() => {
            format!("open, {} waiting", standing.waiting)
        }
        State::Open => format!(
            "open, {} waiting, approved by {} so far",
            standing.waiting,
            said(true)
        ),
        State::Approved { shape: true, .. } => {
            format!("approved by {} for its shape", said(true))
        }
        State::Approved { left, .. } => {
            format!("approved by {}, for {left} more requests", said(true))
        }
        State::Denied { .. } => format!("denied by {}", said(false)),
        State::Over { why } => match serde_json::to_value(why) {
            Ok(serde_json::Value::String(word)) => format!("over: {word}"),
            _ => "over".to_owned(),
        },
    }
}

/// All of a request, for who is to answer it.
fn whole(asked: &Asked) -> String {
    let Asked {
        standing,
        before,
        shown,
    } = asked;
    let question = &standing.question;
    let mut text = String::new();
    // The request first, each line marked: none of it can pass for what the daemon says.
    for line in question.text.lines() {
        for (mark, part) in wrapped(&terminal::line(line)) {
            text.push_str(&format!("  {mark} {part}\n"));
        }
    }
    text.push('\n');
    let mut row = |name: &str, value: &str| {
        text.push_str(&format!("{name:<10} {value}\n"));
    };
    row("approval", &question.id.0.to_string());
    row("agent", &question.holder.agent);
    for (name, value) in principal(&question.principal) {
        row(name, &value);
    }
    let place = format!("{}/{}", question.target, question.database);
    row("target", &terminal::line(&place));
    row(
        "asked",
        &format!("{}, until {}", question.asked, question.expires),
    );
    row("needs", &who(&question.needs));
    row("state", &state(standing));
    if let Some(touches) = &standing.touches {
        row("touches", &terminal::line(&touches.rows.to_string()));
        for line in &touches.plan {
            row("plan", &terminal::line(line));
        }
    }
    for said in &standing.answers {
        row("answer", &answered(said));
    }
    if let Some(of) = &question.on_behalf_of {
        let name = of.user.as_ref().unwrap_or(&of.subject);
        let (name, issuer) = (terminal::line(name), terminal::line(&of.issuer));
        row("on behalf", &format!("{name} of {issuer}"));
    }
    for under in &question.under {
        row("under", &terminal::line(under));
    }
    for (at, value) in question.values.iter().flatten().enumerate() {
        let value = value
            .as_deref()
            .map_or_else(|| "NULL".into(), terminal::line);
        row("value", &format!("${} = {value}", at.saturating_add(1)));
    }
    // Of what is no SQL this is a summary alone.
    if question.shape != question.text {
        row("normalized", &terminal::line(&question.shape));
    }
    row("shown", shown);
    for earlier in before {
        let when = earlier.question.asked;
        let text = terminal::line(&earlier.question.text);
        row("before", &format!("{when}  {}  {text}", state(earlier)));
    }
    text
}

/// A line in pieces of what a terminal shows in one, so that it has no line without a mark; all but the first have
/// another one than what begins a line.
fn wrapped(line: &str) -> Vec<(char, String)> {
    let mut parts = vec![('|', String::new())];
    let mut width = 0;
    for shown in line.chars() {
        // Letters of East Asia take two places.
        let takes = if shown < '\u{1100}' { 1 } else { 2 };
        if width + takes > WIDTH {
            parts.push((':', String::new()));
            width = 0;
        }
        width += takes;
        if let Some((_, part)) = parts.last_mut() {
            part.push(shown);
        }
    }
    parts
}

fn answered(said: &Answer) -> String {
    let word = match (said.yes, said.break_glass) {
        (true, true) => "yes, as an emergency",
        (true, false) => "yes",
        (false, _) => "no",
    };
    let reason = said.reason.as_deref().map(terminal::line);
    let place = said.in_place.as_ref().map(|place| place.of.shown());
    let place = place.map(|of| format!(" for {}", terminal::line(&of)));
    format!(
        "{word}, by {}{} at {}{}",
        terminal::line(&said.by.shown()),
        place.unwrap_or_default(),
        said.at,
        reason
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default()
    )
}

/// Who asks, row by row.
fn principal(principal: &serde_json::Value) -> Vec<(&'static str, String)> {
    let at = |path: &str| principal.pointer(path).map(plain);
    let ancestors = principal
        .pointer("/ancestors")
        .and_then(|all| all.as_array());
    let ancestors = ancestors.into_iter().flatten();
    let paths: Vec<_> = ancestors
        .filter_map(|process| process.pointer("/executable/path").map(plain))
        .collect();
    let user = at("/user/name").or_else(|| at("/user/uid"));
    let rows = [
        (
            "for",
            at("/identity/user").or_else(|| at("/identity/subject")),
        ),
        ("user", user),
        ("executable", at("/process/executable/path")),
        ("sha256", at("/process/executable/sha256")),
        ("argv", at("/process/argv")),
        ("ancestors", (!paths.is_empty()).then(|| paths.join(" < "))),
        ("cgroup", at("/cgroup/path")),
        ("container", at("/container")),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => terminal::line(text).into_owned(),
        other => terminal::line(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_that_a_terminal_makes_is_without_its_mark() {
        let forged = format!("DELETE FROM a{}needs      nobody", " ".repeat(100));
        let parts = wrapped(&forged);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].0, parts[1].0), ('|', ':'));
        let whole: String = parts.iter().map(|(_, part)| part.as_str()).collect();
        assert_eq!(whole, forged);
        assert!(parts.iter().all(|(_, part)| part.len() <= WIDTH));
        let wide = wrapped(&"\u{4f60}".repeat(76));
        assert_eq!(wide.len(), 2);
        assert_eq!(wrapped(""), [('|', String::new())]);
    }
}

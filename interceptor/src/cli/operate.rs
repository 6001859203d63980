//! The verbs that are one question to the daemon: tag, untag, status, reload, freeze, thaw, kill, metrics.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client;
use super::{Daemon, FAILED, complain, counted, print, terminal};
use crate::control::api::{self, Acted, Reloaded, Scope, Which};

/// Which cgroup.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// Path below the cgroup v2 mount: `agents.slice/claude`.
    cgroup: Option<String>,
    /// A process: the cgroup that it is in.
    #[arg(long)]
    pid: Option<u32>,
    /// A systemd unit: its control group.
    #[arg(long)]
    unit: Option<String>,
    /// A container that runs: by its name, or by its id or how that begins.
    #[arg(long)]
    container: Option<String>,
}

impl From<WhichArgs> for Which {
    fn from(args: WhichArgs) -> Self {
        Self {
            cgroup: args.cgroup,
            pid: args.pid,
            unit: args.unit,
            container: args.container,
        }
    }
}

/// `interceptor tag`.
#[derive(Debug, Args)]
pub struct Tag {
    #[command(flatten)]
    which: WhichArgs,
    /// The agent's name.
    #[arg(long)]
    agent: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Tag {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked = api::Tag {
            which: self.which.into(),
            agent: self.agent,
        };
        let scope: Scope = client::post(&self.daemon.control()?, "/v1/scopes/tag", &asked).await?;
        let text = format!(
            "{} is {}; {}\n",
            terminal::line(&scope.cgroup),
            scope.agent,
            living(&scope)
        );
        Ok(show(self.json, &scope, &text))
    }
}

/// How many pids `status` names.
const NAMED: usize = 8;

/// Who is held of scopes that are gone, in words.
fn held(pids: &[u32]) -> String {
    let named: Vec<String> = pids.iter().take(NAMED).map(u32::to_string).collect();
    let more = if pids.len() > NAMED { " …" } else { "" };
    let count = counted(pids.len(), "process", "processes");
    let named = named.join(" ");
    format!("held     {count} of scopes that are gone, without sockets: pid {named}{more}")
}

/// How many processes live in a scope, in words.
fn living(scope: &Scope) -> String {
    match scope.processes {
        Some(count) => counted(count, "process", "processes"),
        None => "processes unknown".to_owned(),
    }
}

/// `interceptor untag`.
#[derive(Debug, Args)]
pub struct Untag {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Untag {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked: Which = self.which.into();
        let scope: Scope =
            client::post(&self.daemon.control()?, "/v1/scopes/untag", &asked).await?;
        let text = format!(
            "{} is not intercepted any more; it was {}\n",
            terminal::line(&scope.cgroup),
            scope.agent
        );
        Ok(show(self.json, &scope, &text))
    }
}

/// `interceptor status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Inside a scope: which agent this process is, and which targets there are.
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if self.own {
            return self.own().await;
        }
        let status: api::Status = client::get(&self.daemon.control()?, "/v1/status").await?;
        let text = describe(&status);
        Ok(show(self.json, &status, &text))
    }

    async fn own(self) -> anyhow::Result<ExitCode> {
        let own: api::Own = client::get(&self.daemon.agent()?, "/v1/self").await?;
        let text = format!(
            "agent {}, in {}; targets: {}\n",
            own.agent,
            terminal::line(&own.cgroup),
            own.targets.join(", ")
        );
        Ok(show(self.json, &own, &text))
    }
}

/// What is looked at beside the packets of scopes.
pub(super) fn guarded(status: &api::Status) -> String {
    let host = match status.guards_host {
        true => "and the whole host",
        false => "not the host",
    };
    format!("guards UNIX sockets by {}, {host}", status.guard)
}

fn describe(status: &api::Status) -> String {
    let mut text = format!(
        "interceptor {}, policy generation {}, {}\n",
        status.version,
        status.generation,
        guarded(status)
    );
    // An executable and a cgroup are called what agents like.
    let mut line = |words: String| {
        text.push_str(&terminal::line(&words));
        text.push('\n');
    };
    for scope in &status.scopes {
        let whom = scope.identity.as_ref().map(|identity| {
            let name = identity.user.as_ref().unwrap_or(&identity.subject);
            format!("  bound to {}", terminal::line(name))
        });
        line(format!(
            "scope    {}  agent {}  {}{}",
            scope.cgroup,
            scope.agent,
            living(scope),
            whom.unwrap_or_default()
        ));
    }
    if !status.held.is_empty() {
        line(held(&status.held));
    }
    for (name, addresses) in &status.targets {
        line(format!("target   {name}  {}", addresses.join(" ")));
    }
    for (name, usage) in &status.agents {
        line(format!(
            "agent    {name}  {}  {}",
            counted(usage.connections, "connection", "connections"),
            counted(usage.sessions, "session", "sessions")
        ));
    }
    for session in &status.sessions {
        let database = session.database.as_ref();
        let database = database.map(|name| format!("/{name}")).unwrap_or_default();
        line(format!(
            "session  {}  {} → {}{}  pid {} {}  {}  {} s",
            session.id,
            session.agent,
            session.target,
            database,
            session.pid,
            session.executable,
            counted(session.requests, "request", "requests"),
            session.seconds
        ));
    }
    for (name, output) in &status.outputs {
        let failing = output.failing.as_deref().unwrap_or("");
        let failing = terminal::line(failing);
        let behind = counted(output.behind, "line", "lines");
        line(
            format!("output   {name}  {behind} behind  {failing}")
                .trim_end()
                .to_owned(),
        );
    }
    text
}

/// `interceptor reload`.
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Reload {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let reloaded: Reloaded = client::post(&self.daemon.control()?, "/v1/reload", &()).await?;
        let mut text = String::new();
        for mistake in &reloaded.mistakes {
            complain(&format!("{}\n", terminal::block(mistake)));
        }
        for setting in &reloaded.needs_restart {
            writeln!(text, "{setting} was changed, which needs a restart")?;
        }
        for cgroup in &reloaded.untagged {
            let cgroup = terminal::line(cgroup);
            writeln!(text, "untagged {cgroup}, which the file names no more")?;
        }
        if reloaded.mistakes.is_empty() {
            writeln!(
                text,
                "policy generation {}; {}",
                reloaded.generation,
                ended(reloaded.ended)
            )?;
        } else {
            complain("nothing was changed: everything old stays in force\n");
        }
        let code = show(self.json, &reloaded, &text);
        Ok(if reloaded.mistakes.is_empty() {
            code
        } else {
            ExitCode::from(FAILED)
        })
    }
}

/// What is done to an agent.
#[derive(Debug, Args)]
pub struct OnAgent {
    /// The agent's name.
    agent: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl OnAgent {
    async fn run(self, verb: &str, done: &str) -> anyhow::Result<ExitCode> {
        let asked = api::Agent { agent: self.agent };
        let path = format!("/v1/agents/{verb}");
        let acted: Acted = client::post(&self.daemon.control()?, &path, &asked).await?;
        let text = format!(
            "{done} {}; {}\n",
            terminal::line(&acted.scopes.join(", ")),
            ended(acted.sessions)
        );
        Ok(show(self.json, &acted, &text))
    }
}

/// `interceptor freeze`.
#[derive(Debug, Args)]
pub struct Freeze {
    #[command(flatten)]
    on: OnAgent,
}

/// `interceptor thaw`.
#[derive(Debug, Args)]
pub struct Thaw {
    #[command(flatten)]
    on: OnAgent,
}

/// `interceptor kill`.
#[derive(Debug, Args)]
pub struct Kill {
    #[command(flatten)]
    on: OnAgent,
}

impl Freeze {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.on.run("freeze", "frozen:").await
    }
}

impl Thaw {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.on.run("thaw", "thawed:").await
    }
}

impl Kill {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.on.run("kill", "killed:").await
    }
}

/// `interceptor metrics`.
#[derive(Debug, Args)]
pub struct Metrics {
    #[command(flatten)]
    daemon: Daemon,
}

impl Metrics {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        print(&client::get_text(&self.daemon.control()?, "/v1/metrics").await?);
        Ok(ExitCode::SUCCESS)
    }
}

fn ended(sessions: usize) -> String {
    format!("{} ended", counted(sessions, "session", "sessions"))
}

/// One line for each, for people or for programs.
///
/// # Errors
/// Where one cannot be told as JSON.
pub(super) fn lines<A: Serialize>(
    json: bool,
    all: &[A],
    line: fn(&A) -> String,
) -> serde_json::Result<String> {
    let of = |one: &A| match json {
        true => Ok(format!(
            "{}\n",
            terminal::json(&serde_json::to_string(one)?)
        )),
        false => Ok(line(one)),
    };
    all.iter().map(of).collect()
}

/// Prints an answer, for people or for programs.
pub(super) fn show<A: Serialize>(json: bool, answer: &A, text: &str) -> ExitCode {
    match json.then(|| serde_json::to_string(answer)) {
        Some(Ok(line)) => print(&format!("{}\n", terminal::json(&line))),
        _ => print(text),
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_call_things_neither_acts_on_a_terminal_nor_begins_a_line() {
        let hostile = "/tmp/\u{1b}[2J\nscope    /x  agent trusted";
        let status = api::Status {
            version: "1".to_owned(),
            guard: "lsm".to_owned(),
            guards_host: true,
            held: (1..=9).collect(),
            generation: 1,
            scopes: vec![Scope {
                cgroup: hostile.to_owned(),
                agent: "demo".to_owned(),
                id: 1,
                processes: Some(1),
                identity: None,
            }],
            targets: Default::default(),
            agents: Default::default(),
            sessions: vec![api::OpenSession {
                id: Default::default(),
                agent: "demo".to_owned(),
                target: "shop".to_owned(),
                database: None,
                pid: 7,
                executable: hostile.to_owned(),
                requests: 0,
                seconds: 0,
            }],
            listeners: Vec::new(),
            outputs: Default::default(),
            distrusting: Vec::new(),
        };
        let text = describe(&status);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.contains(
                "9 processes of scopes that are gone, without sockets: pid 1 2 3 4 5 6 7 8 …\n"
            ),
            "{text}"
        );
        assert!(text.contains("by lsm, and the whole host"), "{text}");
    }
}

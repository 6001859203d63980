//! The commands: one file per verb. Each answers with an exit code: 0 ok, 1 violation, 2 usage or configuration.

pub mod approvals;
pub mod audit;
pub mod bind;
pub mod ca;
mod client;
pub mod config;
pub mod console;
pub mod discover;
pub mod doctor;
pub mod grants;
pub mod hook;
pub mod host_files;
pub mod kubeconfig;
pub mod operate;
pub mod policy;
mod reading;
pub mod replay;
pub mod run;
pub mod sessions;
pub mod ssh_ca;
pub mod terminal;
pub mod uninstall;
mod upstream;
pub mod why;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::daemon;
use crate::telemetry;

/// The configuration file where none is named.
pub const CONFIG: &str = "/etc/interceptor/config.yaml";

/// Where the sockets are where no configuration says otherwise.
const RUN: &str = "/run/interceptor";

/// Stack of each thread, in bytes: the SQL grammar's reader needs up to 1.6 MiB of it unoptimised.
const STACK: usize = 8 << 20;

/// A command that found a violation: a changed audit line, a policy with mistakes, a failed check.
pub const VIOLATION: u8 = 1;

/// A command that could not be carried out: wrong usage, wrong configuration, no daemon.
pub const FAILED: u8 = 2;

/// Attributes, decides, masks and records what agents do on this host.
#[derive(Debug, Parser)]
#[command(name = "interceptor", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon in the foreground.
    Daemon {
        /// The configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Run a command as an agent: in a scope of its own.
    Run(run::Run),
    /// Intercept a cgroup.
    Tag(operate::Tag),
    /// Intercept a cgroup no longer.
    Untag(operate::Untag),
    /// Intercept a container before it starts: for container runtimes to run.
    #[command(subcommand)]
    Hook(hook::Hook),
    /// Bind a scope to whom a token names.
    Bind(bind::Bind),
    /// Take back whom a scope is bound to.
    Unbind(bind::Unbind),
    /// Exchange a token for one that is good in one scope only.
    Exchange(bind::Exchange),
    /// Log a person in, and bind a scope to them.
    Login(bind::Login),
    /// Show scopes, agents, sessions and targets.
    Status(operate::Status),
    /// Check the host, the configuration and the daemon, and say how to mend what is wrong.
    Doctor(doctor::Doctor),
    /// Find sensitive columns of a target that are not configured; print a least-privilege role for it.
    Discover(discover::Discover),
    /// List, show and replay recorded sessions.
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Read and verify the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Say what another policy would have said of recorded requests.
    Replay(replay::Replay),
    /// Check and test policies.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Know the format of the configuration.
    #[command(subcommand)]
    Config(config::Config),
    /// Have clients of this host trust the daemon's authority.
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Have SSH clients of this host know the daemon.
    #[command(subcommand)]
    SshCa(ssh_ca::SshCa),
    /// Print a kubeconfig without credentials for a cluster.
    Kubeconfig(kubeconfig::Kubeconfig),
    /// Say which rule decides, or decided, and why.
    Why(why::Why),
    /// Read configuration and policy again.
    Reload(operate::Reload),
    /// Stop an agent's processes and end its sessions; they stay to be looked at.
    Freeze(operate::Freeze),
    /// Let a frozen agent go on.
    Thaw(operate::Thaw),
    /// End an agent's processes and sessions.
    Kill(operate::Kill),
    /// Ask for access for a while, as an agent.
    Request(Box<grants::Request>),
    /// List what is granted.
    Grants(grants::Grants),
    /// Take a grant back, and end what lives on it.
    Revoke(grants::Revoke),
    /// See and answer the requests that wait for people.
    Approvals(approvals::Approvals),
    /// Print a link to the web page for people, for root: it opens once.
    Console(console::Console),
    /// Take from the host what the daemon put there, once it has ended.
    Uninstall(uninstall::Uninstall),
    /// Print the daemon's metrics.
    Metrics(operate::Metrics),
    /// Print the version.
    Version {
        /// Answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Where the daemon is.
#[derive(Clone, Debug, Args)]
pub struct Daemon {
    /// The control socket; by default the one of `--config`, or of /run/interceptor.
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// The configuration file that says where the socket is.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

impl Daemon {
    /// The control socket.
    ///
    /// # Errors
    /// Where the configuration cannot be read.
    pub fn control(&self) -> anyhow::Result<PathBuf> {
        self.named("control.sock")
    }

    /// The socket that answers agents about themselves.
    ///
    /// # Errors
    /// Where the configuration cannot be read.
    pub fn agent(&self) -> anyhow::Result<PathBuf> {
        self.named("agent.sock")
    }

    fn named(&self, name: &str) -> anyhow::Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let run = match &self.config {
            Some(path) => {
                crate::config::load(path)
                    .map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?
                    .paths
                    .run
            }
            None => PathBuf::from(RUN),
        };
        Ok(run.join(name))
    }
}

/// Carries out one command line.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.verb {
        Verb::Daemon { config } => {
            telemetry::init();
            block_on(daemon::run(&config), true).map(|()| ExitCode::SUCCESS)
        }
        Verb::Run(run) => run.run(),
        Verb::Tag(tag) => block_on(tag.run(), false),
        Verb::Untag(untag) => block_on(untag.run(), false),
        Verb::Hook(hook) => block_on(hook.run(), false),
        Verb::Bind(bind) => block_on(bind.run(), false),
        Verb::Unbind(unbind) => block_on(unbind.run(), false),
        Verb::Exchange(exchange) => block_on(exchange.run(), false),
        Verb::Login(login) => block_on(login.run(), false),
        Verb::Status(status) => block_on(status.run(), false),
        Verb::Doctor(doctor) => doctor.main(),
        Verb::Discover(discover) => discover.run(),
        Verb::Sessions(sessions) => sessions.main(),
        Verb::Audit(audit) => audit.main(),
        Verb::Replay(replay) => replay.main(),
        Verb::Policy(policy) => policy.run(),
        Verb::Config(config) => config.run(),
        Verb::Ca(ca) => ca.run(),
        Verb::SshCa(ssh) => ssh.run(),
        Verb::Uninstall(uninstall) => uninstall.run(),
        Verb::Kubeconfig(kubeconfig) => kubeconfig.run(),
        Verb::Why(why) => why.run(),
        Verb::Reload(reload) => block_on(reload.run(), false),
        Verb::Freeze(freeze) => block_on(freeze.run(), false),
        Verb::Thaw(thaw) => block_on(thaw.run(), false),
        Verb::Kill(kill) => block_on(kill.run(), false),
        Verb::Request(request) => block_on(request.run(), false),
        Verb::Grants(grants) => block_on(grants.run(), false),
        Verb::Revoke(revoke) => block_on(revoke.run(), false),
        Verb::Approvals(approvals) => block_on(approvals.run(), false),
        Verb::Console(console) => block_on(console.run(), false),
        Verb::Metrics(metrics) => block_on(metrics.run(), false),
        Verb::Version { json } => {
            let version = env!("CARGO_PKG_VERSION");
            print(&match json {
                true => format!("{}\n", serde_json::json!({ "version": version })),
                false => format!("interceptor {version}\n"),
            });
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        let told = told(&error);
        complain(&format!("interceptor: {}\n", terminal::block(&told)));
        ExitCode::from(FAILED)
    })
}

/// Writes to standard output; a reader that went away is not an error.
pub fn print(text: &str) {
    use std::io::Write as _;
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Writes to standard error.
pub fn complain(text: &str) {
    use std::io::Write as _;
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// An error with its causes, each said once: many a text names its cause itself.
fn told(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .reduce(|told, cause| match told.contains(&cause) {
            true => told,
            false => format!("{told}: {cause}"),
        })
        .unwrap_or_default()
}

/// How many of what.
fn counted<N: From<u8> + PartialEq + Display>(number: N, one: &str, many: &str) -> String {
    let what = if number == N::from(1) { one } else { many };
    format!("{number} {what}")
}

/// Runs a future: on every core for the daemon, on this thread for a command.
pub fn block_on<T>(
    future: impl Future<Output = anyhow::Result<T>>,
    every_core: bool,
) -> anyhow::Result<T> {
    let mut builder = match every_core {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_all()
        .thread_stack_size(STACK)
        .build()?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use clap::CommandFactory as _;

    use super::*;

    /// Verbs that print a file, a link or a program's own output, or nothing: JSON would say no more.
    const PLAIN: &[&str] = &[
        "ca install",
        "ca show",
        "ca uninstall",
        "config schema",
        "daemon",
        "hook create-runtime",
        "hook runtime",
        "kubeconfig",
        "metrics",
        "run",
        "ssh-ca install",
        "ssh-ca show",
        "ssh-ca uninstall",
        "uninstall",
    ];

    #[test]
    fn every_verb_answers_as_json_or_is_known_not_to() {
        let mut open = vec![(String::new(), Cli::command())];
        let mut plain = Vec::new();
        while let Some((name, command)) = open.pop() {
            let below: Vec<_> = command.get_subcommands().cloned().collect();
            if below.is_empty() {
                let mut arguments = command.get_arguments();
                if !arguments.any(|argument| argument.get_long() == Some("json")) {
                    plain.push(name.trim_start().to_owned());
                }
                continue;
            }
            open.extend(below.into_iter().map(|verb| {
                let name = format!("{name} {}", verb.get_name());
                (name, verb)
            }));
        }
        plain.sort();
        assert_eq!(plain, PLAIN);
    }

    #[test]
    fn a_cause_is_said_once() {
        let named = anyhow::anyhow!("no such file").context("read ca.pem: no such file");
        assert_eq!(told(&named), "read ca.pem: no such file");
        let cause: anyhow::Result<()> = Err(named).context("cannot start");
        let told = told(&cause.unwrap_err());
        assert_eq!(told, "cannot start: read ca.pem: no such file");
    }

    #[test]
    fn one_is_not_many() {
        let said = [0_u32, 1, 2].map(|number| counted(number, "process", "processes"));
        assert_eq!(said, ["0 processes", "1 process", "2 processes"]);
    }
}

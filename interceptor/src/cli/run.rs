//! `interceptor run --agent NAME -- CMD…`: asks the daemon for a scope, is moved into it, and becomes CMD.
//!
//! What is inherited is what could carry a way out: descriptors above standard error are closed, capabilities
//! and new privileges given up, root steps down to the user that is named, and what the hooks of a scope do not
//! see is taken away by mounts, a filter of system calls and a Landlock domain. A token is read here only, and
//! gone before the command runs.

#![expect(
    unsafe_code,
    reason = "system calls that have no safe wrapper in our crates"
)]

pub(super) mod apart;
mod filter;
mod mounts;
mod trust;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use nix::sys::prctl;
use nix::unistd::{Uid, User};

use super::bind::TokenIn;
use super::{Daemon, bind, block_on, client};
use crate::capture::cgroup2::Hierarchy;
use crate::control::api::{Begin, Launch, Placed, Proof, Run as Asked};

/// By what names programs are told of the host's store in a file: those that find it by other names else (OpenSSL), or
/// bring a bundle of their own, which may be installed after the start.
const STORES: [&str; 8] = [
    "SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
];

/// `interceptor run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The agent's name.
    #[arg(long)]
    agent: String,
    /// Root only: become this user first. Processes with host capabilities get no credentials.
    #[arg(long)]
    user: Option<String>,
    /// Bind the scope to whom this token names: a file, or ENV:NAME for a variable. It is removed before the
    /// command runs.
    #[arg(long, value_name = "FILE|ENV:NAME")]
    as_token: Option<TokenIn>,
    /// Bind the scope to whom this assertion of a SAML identity provider names, or the response that has it:
    /// a file, or ENV:NAME for a variable. It is removed before the command runs.
    #[arg(long, value_name = "FILE|ENV:NAME", conflicts_with = "as_token")]
    as_saml: Option<TokenIn>,
    /// Log a person in by this issuer first, and bind the scope to them.
    #[arg(long, value_name = "ISSUER", conflicts_with_all = ["as_token", "as_saml"])]
    login: Option<String>,
    /// Leave this descriptor open to the command. A socket that was made outside is not intercepted.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(3..))]
    keep_fd: Vec<u32>,
    #[command(flatten)]
    daemon: Daemon,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Run {
    /// Becomes the command; returns only where that fails.
    ///
    /// # Errors
    /// Where the daemon cannot be reached or refuses, the user does not exist, or the command cannot be run.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let user = self.user.as_deref().map(known_user).transpose()?;
        let (program, arguments) = self
            .command
            .split_first()
            .context("name the command to run")?;
        let control = self.daemon.control()?;
        let proof = match (&self.as_token, &self.as_saml, &self.login) {
            (Some(token), ..) => Some(Proof::Token(token.take()?)),
            (None, Some(assertion), _) => Some(Proof::Saml(assertion.take()?)),
            (None, None, Some(issuer)) => {
                let begin = Begin {
                    issuer: issuer.clone(),
                    agent: Some(self.agent.clone()),
                    which: None,
                };
                let login = block_on(bind::log_in(&control, &begin), false)?;
                Some(Proof::Login(login))
            }
            (None, None, None) => None,
        };
        let asked = Asked {
            agent: self.agent.clone(),
            proof,
        };
        let placed: Placed = block_on(client::post(&control, "/v1/run", &asked), false)?;
        is_in(&placed.cgroup)?;
        close_descriptors(&self.keep_fd)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(added(placed.environment));
        let brought = self.as_token.as_ref().or(self.as_saml.as_ref());
        if let Some(variable) = brought.and_then(TokenIn::variable) {
            command.env_remove(variable);
        }
        let store = give_up(&placed.launch, program, user.as_ref())?;
        if let Some(store) = store {
            let unsaid = STORES
                .iter()
                .filter(|name| std::env::var_os(name).is_none());
            command.envs(unsaid.map(|name| (name, store)));
        }
        if let Some(user) = user {
            command
                .env("HOME", &user.dir)
                .env("USER", &user.name)
                .env("LOGNAME", &user.name);
        }
        let error = command.exec();
        Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
    }
}

/// On a host with both hierarchies a process can be said to be moved and be nowhere that counts.
fn is_in(cgroup: &str) -> anyhow::Result<()> {
    let own = Hierarchy::find()?.of(None)?;
    ensure!(
        own == cgroup,
        "this process is in the cgroup {own} and not in {cgroup}: the command would not be intercepted"
    );
    Ok(())
}

/// Gives up everything by which the command could get around its scope, in the order in which each can still
/// be given up. Where the command finds the host's store of certificates, with the daemon's authority in it.
fn give_up(
    launch: &Launch,
    program: &OsStr,
    user: Option<&User>,
) -> anyhow::Result<Option<&'static str>> {
    let mut store = None;
    if Uid::effective().is_root() {
        if launch.mounts {
            mounts::separate(launch)?;
            let trust = launch.trust.as_ref();
            let extended = trust.map(|trust| trust::extend(trust, program, user));
            store = extended.transpose()?.flatten();
        }
        apart::bound().context("cannot give up capabilities for good")?;
    }
    apart::forget_keys();
    if let Some(user) = user {
        step_down(user)?;
    }
    apart::disarm().context("cannot give up capabilities")?;
    prctl::set_no_new_privs().context("cannot give up new privileges")?;
    let names_abstract = launch.sockets.iter().any(|name| name.starts_with('@'));
    let apart = apart::domain(launch.all_sockets || names_abstract)
        .context("cannot keep it apart from other processes")?;
    let filter = filter::Filter {
        namespaces: launch.user_namespaces,
        apart,
    };
    filter::install(filter).context("cannot filter system calls")?;
    Ok(store)
}

/// The daemon's variables, but for those that the caller set: those are the caller's choice.
fn added(environment: BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    environment
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
}

fn known_user(name: &str) -> anyhow::Result<User> {
    if !Uid::effective().is_root() {
        bail!("--user is for root; without it the command runs as you");
    }
    if name.is_empty() {
        bail!("--user is empty; name an ordinary user, such as the one that you log in as");
    }
    User::from_name(name)?.with_context(|| format!("no user is named {name}"))
}

fn step_down(user: &User) -> anyhow::Result<()> {
    let name =
        std::ffi::CString::new(user.name.as_bytes()).context("a user's name holds a zero byte")?;
    nix::unistd::initgroups(&name, user.gid).context("cannot set the groups")?;
    nix::unistd::setresgid(user.gid, user.gid, user.gid).context("cannot set the group")?;
    nix::unistd::setresuid(user.uid, user.uid, user.uid).context("cannot set the user")
}

/// Sockets made outside the scope are not hooked: none is handed in but the standard three.
fn close_descriptors(keep: &[u32]) -> anyhow::Result<()> {
    let keep: std::collections::BTreeSet<u32> = keep.iter().copied().collect();
    let mut from = 3;
    for last in keep.iter().copied().chain([libc::c_uint::MAX]) {
        let to = last.saturating_sub(u32::from(last != libc::c_uint::MAX));
        if from <= to {
            // SAFETY: no object of this process uses a descriptor above 2 afterwards: the runtime is gone.
            let closed = unsafe { libc::close_range(from, to, 0) };
            nix::errno::Errno::result(closed)
                .context("cannot close inherited descriptors (needs Linux 5.9)")?;
        }
        from = last.saturating_add(1);
    }
    Ok(())
}

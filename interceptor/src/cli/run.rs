//! `interceptor run --agent NAME -- CMD…`: asks the daemon for a scope, is moved into it, and becomes CMD.
//!
//! What is inherited is what could carry a way out: every descriptor above standard error is closed,
//! new privileges are given up, and root steps down to the user that is named. A token is read here only,
//! and gone before the command runs.

#![expect(
    unsafe_code,
    reason = "close_range(2) has no safe wrapper in our crates"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::prctl;
use nix::unistd::{Uid, User};

use super::bind::TokenIn;
use super::{Daemon, bind, block_on, client};
use crate::control::api::{Begin, Placed, Proof, Run as Asked};

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
        close_descriptors()?;
        let mut command = Command::new(program);
        command.args(arguments).envs(added(placed.environment));
        let brought = self.as_token.as_ref().or(self.as_saml.as_ref());
        if let Some(variable) = brought.and_then(TokenIn::variable) {
            command.env_remove(variable);
        }
        if let Some(user) = user {
            step_down(&user)?;
            command
                .env("HOME", &user.dir)
                .env("USER", &user.name)
                .env("LOGNAME", &user.name);
        }
        prctl::set_no_new_privs().context("cannot give up new privileges")?;
        let error = command.exec();
        Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
    }
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
fn close_descriptors() -> anyhow::Result<()> {
    // SAFETY: no object of this process uses a descriptor above 2 afterwards: the runtime is gone.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if closed != 0 {
        return Err(std::io::Error::last_os_error())
            .context("cannot close inherited descriptors (needs Linux 5.9)");
    }
    Ok(())
}

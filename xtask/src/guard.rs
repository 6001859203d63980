//! Runs a part of this program as root, so that it always takes down what it put up.
//!
//! The outer process holds the terminal and a pipe; the inner one works in a process group of its own,
//! where Ctrl-C does not reach it. When the pipe closes, for whatever reason, SIGKILL of the outer
//! included, the inner one stops at its next step and tears down; the outer one waits for that.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

use crate::root::{self, Root};
use crate::stage::Stage;

/// What a terminal, a shell and a service manager end programs with.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The outer process, from before it puts anything up: signals wait until the inner one can be told of them.
#[derive(Debug)]
pub(crate) struct Outer {
    command: Command,
    signals: SigSet,
}

impl Outer {
    /// Asks for root where that is needed, and holds signals back from then on.
    pub(crate) fn prepare(why: &str) -> anyhow::Result<Self> {
        let signals: SigSet = ENDING.into_iter().collect();
        let command = inner(why)?;
        signals.thread_block().context("hold signals back")?;
        Ok(Self { command, signals })
    }

    /// Starts `as-root ARGUMENTS` of this program with `variables`, and comes back when it has ended.
    pub(crate) fn start(
        self,
        arguments: &[&str],
        variables: &[(&'static str, String)],
    ) -> anyhow::Result<()> {
        let Self {
            mut command,
            signals,
        } = self;
        for (name, value) in variables {
            command.arg(format!("{name}={value}"));
        }
        command
            .arg(std::env::current_exe().context("find this program")?)
            .arg("as-root")
            .args(arguments)
            .stdin(Stdio::piped())
            .process_group(0);
        outlast(command, signals)
    }
}

/// Runs the inner process to its end, whatever signals come meanwhile.
fn outlast(mut command: Command, signals: SigSet) -> anyhow::Result<()> {
    let mut child = command
        .spawn()
        .context("start the part that runs as root")?;
    let pipe = child.stdin.take();
    thread::spawn(move || {
        // Any of them closes the pipe; the wait below ends when the inner process has torn down.
        if let Ok(signal) = signals.wait() {
            eprintln!("\n{signal}: taking everything down");
        }
        drop(pipe);
        // A second one while it tears down is not what makes it leave things behind.
        while signals.wait().is_ok() {}
    });
    let status = child
        .wait()
        .context("wait for the part that runs as root")?;
    if !status.success() {
        bail!("it ended with {status}");
    }
    Ok(())
}

/// `env` as root. Sudo asks for its password before, while the terminal is ours.
fn inner(why: &str) -> anyhow::Result<Command> {
    match root::way() {
        Root::Already => Ok(Command::new("env")),
        Root::Sudo => {
            root::authenticate(why)?;
            let mut command = Command::new("sudo");
            command.args(["-n", "--", "env"]);
            Ok(command)
        }
        Root::Missing => bail!("root is needed to {why}; run this as root, or install sudo"),
    }
}

/// The inner process's view: whether it shall go on.
#[derive(Debug)]
pub(crate) struct Guard {
    over: Arc<(Mutex<bool>, Condvar)>,
}

impl Guard {
    /// Watches the pipe that `start` holds.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let signals: SigSet = ENDING.into_iter().collect();
        signals.thread_unblock().context("let signals through")?;
        let guard = Self {
            over: Arc::new((Mutex::new(false), Condvar::new())),
        };
        let theirs = Arc::clone(&guard.over);
        thread::spawn(move || {
            let mut buffer = [0_u8; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
            let (over, changed) = &*theirs;
            *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            changed.notify_all();
        });
        Ok(guard)
    }

    /// Fails once the outer process is gone or was told to end.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        if *self.over.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Comes back when the outer process is gone or was told to end.
    pub(crate) fn wait(&self) {
        let (over, changed) = &*self.over;
        let over = over.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(over, |over| !*over));
    }
}

/// Told to end by a closed pipe, the outer process may be gone; what it staged goes all the same.
impl Drop for Guard {
    fn drop(&mut self) {
        if self.go_on().is_err() {
            Stage::sweep();
        }
    }
}

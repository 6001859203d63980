//! A real daemon with directories, cgroups and a bpffs of its own; all of it is gone when dropped.
//!
//! Its bpffs is mounted below its temporary directory: one unmount frees every pin, and with the pins
//! the links and programs. Readiness is the daemon's own word (`READY=1`), never a guess.

mod settings;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use self::settings::Places;
pub use self::settings::{Settings, Target};
use crate::cgroup::Cgroup;
use crate::process::{Finished, Process};
use crate::{Agent, DEADLINE, audit, place, suffix};

/// A daemon under test.
pub struct Daemon {
    // Fields are dropped in order: the daemon ends before its cgroups and directory go.
    process: Option<Process>,
    cgroups: Vec<Cgroup>,
    settings: Settings,
    places: Places,
    directory: TempDir,
}

impl Daemon {
    /// Writes the settings and starts a daemon; comes back when it says that it is ready.
    ///
    /// # Errors
    /// When it ends or stays silent instead; the text has its log.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(settings)?;
        daemon.resume()?;
        Ok(daemon)
    }

    /// Everything but the start: for a daemon that is expected to refuse its settings.
    ///
    /// # Errors
    /// When directories or cgroups cannot be made.
    pub fn prepare(settings: Settings) -> anyhow::Result<Self> {
        let directory = place::temporary("daemon")?;
        let unique = suffix()?;
        let at = |name: &str| directory.path().join(name);
        let places = Places {
            run: at("run"),
            state: settings.state.clone().unwrap_or_else(|| at("state")),
            bpffs: at("bpf"),
            policies: at("policies"),
            secrets: at("secrets"),
            daemon_cgroup: format!("ic-{unique}-daemon"),
            parent: format!("ic-{unique}.slice"),
            scope: format!("ic-{unique}.slice/scope"),
        };
        let cgroups = vec![
            Cgroup::make(&places.scope)?,
            Cgroup::adopt(&places.parent)?,
            Cgroup::adopt(&places.daemon_cgroup)?,
        ];
        let daemon = Self {
            process: None,
            cgroups,
            settings,
            places,
            directory,
        };
        daemon.write()?;
        Ok(daemon)
    }

    /// Starts it, or starts it again after [`Daemon::kill`] or [`Daemon::stop`]. One that is started again
    /// wants its old port, which a daemon of another test may have meanwhile: it is tried until that has ended.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let error = match self.start_once() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let taken = format!("{error:#}").contains("bind the redirect listener");
            if !taken || begun.elapsed() > DEADLINE {
                return Err(error);
            }
            self.process = None;
        }
    }

    fn start_once(&mut self) -> anyhow::Result<()> {
        let path = self.directory.path().join("notify");
        drop(fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).context("bind the notify socket")?;
        socket
            .set_nonblocking(true)
            .context("prepare the notify socket")?;
        let mut command = self.command();
        command.arg("daemon").arg("--config").arg(self.config());
        command.env("NOTIFY_SOCKET", &path);
        let process = Process::start(command)?;
        let ready = await_ready(&socket, &process);
        let log = process.log();
        self.process = Some(process);
        ready.with_context(|| format!("the daemon's log:\n{log}"))
    }

    /// Runs it to its end: for a daemon that is expected to refuse its settings.
    ///
    /// # Errors
    /// When it does not end.
    pub fn refuse(&self) -> anyhow::Result<Finished> {
        let mut command = self.command();
        command.arg("daemon").arg("--config").arg(self.config());
        Process::run(command, DEADLINE)
    }

    /// Ends it with no chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGKILL);
        }
    }

    /// Asks it to drain and waits for its end.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> anyhow::Result<Finished> {
        let Some(mut process) = self.process.take() else {
            bail!("the daemon does not run");
        };
        process.signal(Signal::SIGTERM);
        process.finish(DEADLINE)
    }

    /// Changes its settings and writes them; it is told by [`Daemon::reload`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) -> anyhow::Result<()> {
        change(&mut self.settings);
        self.write()
    }

    /// `interceptor reload`.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn reload(&self) -> anyhow::Result<Finished> {
        self.cli(&["reload"])
    }

    /// Runs a verb of the program against this daemon's control socket.
    ///
    /// # Errors
    /// When it cannot be run or does not end.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let mut command = self.command();
        let (verb, rest) = split(arguments);
        command
            .args(verb)
            .arg("--socket")
            .arg(self.places.run.join("control.sock"))
            .args(rest);
        Process::run(command, DEADLINE)
    }

    /// Its processes' agent: an ordinary user inside its scope.
    #[must_use]
    pub fn agent(&self) -> Agent {
        match self.cgroups.first() {
            Some(scope) => Agent::inside(scope.path()),
            None => Agent::outside(),
        }
    }

    /// The scope that its file tags.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.places.scope
    }

    /// The cgroup below which `interceptor run` makes scopes.
    #[must_use]
    pub fn run_parent(&self) -> &str {
        &self.places.parent
    }

    /// Its audit log.
    #[must_use]
    pub fn audit(&self) -> audit::Log {
        audit::Log::below(&self.places.state)
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.places.state
    }

    /// The directory of its sockets.
    #[must_use]
    pub fn run_directory(&self) -> &Path {
        &self.places.run
    }

    /// The directory of its Cedar files.
    #[must_use]
    pub fn policies(&self) -> &Path {
        &self.places.policies
    }

    /// The directory of its pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.places.bpffs
    }

    /// The file that holds the password of `target`.
    #[must_use]
    pub fn secret(&self, target: &str) -> PathBuf {
        self.places.secrets.join(target)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("interceptor.yaml")
    }

    /// The authority that agents trust, as the daemon made it at its first start.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.places.state.join("ca.pem")
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn command(&self) -> Command {
        let mut command =
            Command::new(place::interceptor().unwrap_or_else(|_| "interceptor".into()));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            .current_dir("/");
        command
    }

    fn write(&self) -> anyhow::Result<()> {
        let places = &self.places;
        for (directory, mode) in [(&places.policies, 0o755), (&places.secrets, 0o700)] {
            fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(mode)))
                .with_context(|| format!("make {}", directory.display()))?;
        }
        for (name, text) in &self.settings.policies {
            fs::write(places.policies.join(name), text).context("write a policy")?;
        }
        for target in &self.settings.targets {
            if let Some(password) = &target.password {
                let file = self.secret(&target.name);
                fs::write(&file, password)
                    .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)))
                    .context("write a secret")?;
            }
        }
        fs::write(self.config(), settings::yaml(&self.settings, places))
            .context("write the settings")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.process.is_some() {
            drop(self.stop());
        }
        if umount2(&self.places.bpffs, MntFlags::MNT_DETACH).is_err() {
            // Never mounted: the daemon did not come that far.
        }
    }
}

/// Waits for `READY=1`, or for the daemon's end, whichever is first.
fn await_ready(socket: &UnixDatagram, process: &Process) -> anyhow::Result<()> {
    let mut buffer = [0_u8; 4096];
    crate::wait::for_fact("the daemon's readiness", DEADLINE, || {
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if text.lines().any(|line| line == "READY=1") {
                return Ok(Some(()));
            }
        }
        if process.is_over() {
            bail!("the daemon ended before it was ready");
        }
        Ok(None)
    })
}

/// The verb and its own sub-verbs come before the options.
fn split<'a>(arguments: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    let words = arguments
        .iter()
        .take(2)
        .take_while(|word| word.chars().all(|letter| letter.is_ascii_lowercase()))
        .count();
    let nested = matches!(
        arguments.first(),
        Some(&("sessions" | "audit" | "policy" | "approvals"))
    );
    arguments.split_at(if nested { words } else { words.min(1) })
}

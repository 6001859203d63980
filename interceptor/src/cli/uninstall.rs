//! `interceptor uninstall`: takes from the host what the daemon and its verbs put there, and says what it left.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use nix::unistd::geteuid;

use super::{ca, ssh_ca};
use crate::capture::cgroup2::{Hierarchy, is_within};
use crate::capture::{self, Scope};
use crate::config::{self, Paths};
use crate::control;
use crate::tls::CERTIFICATE;

/// What the daemon puts into its run directory.
const SOCKETS: [&str; 3] = ["control.sock", "agent.sock", control::TARGETS];

/// `interceptor uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The configuration file.
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
    /// Let processes of agents go on: they are not intercepted any more.
    #[arg(long)]
    release: bool,
    /// Remove the state directory too: the audit log, the recordings, the authority's key.
    #[arg(long)]
    state: bool,
}

impl Uninstall {
    /// Carries the command out.
    ///
    /// # Errors
    /// Where the daemon runs, agents run and are not to be released, or something cannot be removed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        if !geteuid().is_root() {
            bail!("the programs in the kernel are root's: run this as root");
        }
        let config =
            config::load(&self.config).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        let paths = &config.paths;
        if UnixStream::connect(paths.run.join("control.sock")).is_ok() {
            bail!(
                "the daemon runs: end it first, with `systemctl disable --now interceptor` where it is a service"
            );
        }
        let hierarchy = Hierarchy::find()?;
        let scopes = capture::pinned(&paths.bpffs)?;
        if !self.release {
            nobody_lives(&hierarchy, &scopes)?;
        }
        capture::unpin(&paths.bpffs)?;
        let mut done = vec![format!(
            "detached the programs from {}",
            super::counted(scopes.len(), "cgroup", "cgroups")
        )];
        done.extend(cgroups(&hierarchy, &scopes, &config.run_parent)?);
        done.extend(run_directory(&paths.run)?);
        done.extend(ssh_ca::uninstall(&self.config)?);
        done.extend(ca::uninstall(&self.config)?);
        match self.state {
            true => done.push(state(&paths.state)?),
            false => done.push(left(paths)),
        }
        super::print(&(done.join("\n") + "\n"));
        Ok(ExitCode::SUCCESS)
    }
}

/// Fails where a process would be set free.
fn nobody_lives(hierarchy: &Hierarchy, scopes: &[Scope]) -> anyhow::Result<()> {
    let mut living = Vec::new();
    for scope in scopes {
        let processes = hierarchy.processes(&scope.path)?;
        if !processes.is_empty() {
            let pids: Vec<_> = processes.iter().map(u32::to_string).collect();
            let Scope { agent, path, .. } = scope;
            living.push(format!("agent {agent} in {path}: pid {}", pids.join(", ")));
        }
    }
    if living.is_empty() {
        return Ok(());
    }
    bail!(
        "agents still run, and would be free:\n  {}\nend them, or let them go on with --release; while the daemon runs, `interceptor kill AGENT` ends them",
        living.join("\n  ")
    )
}

/// Empty cgroups of scopes below where scopes are made, that place, and the daemon's own.
fn cgroups(
    hierarchy: &Hierarchy,
    scopes: &[Scope],
    run_parent: &str,
) -> anyhow::Result<Vec<String>> {
    let parent = format!("/{}", run_parent.trim_matches('/'));
    let ours = scopes.iter().map(|scope| scope.path.as_str());
    let mut ours: Vec<&str> = ours.filter(|path| is_within(path, &parent)).collect();
    // The deepest first.
    ours.sort_by_key(|path| std::cmp::Reverse(path.len()));
    let also = [parent.as_str(), capture::cgroup2::DEFAULT_HOME];
    let mut done = Vec::new();
    for path in ours.into_iter().chain(also) {
        if hierarchy
            .processes(path)
            .is_ok_and(|found| found.is_empty())
            && remove_directory(&hierarchy.directory(path))?
        {
            done.push(format!("removed cgroup {path}"));
        }
    }
    Ok(done)
}

/// Sockets of the daemon, and their directory.
fn run_directory(run: &Path) -> anyhow::Result<Option<String>> {
    for name in SOCKETS {
        let socket = run.join(name);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", socket.display()));
            }
            _ => {}
        }
    }
    let removed = remove_directory(run)?;
    Ok(removed.then(|| format!("removed {}", run.display())))
}

/// Removes a directory that nothing lies in; whether it was there and is gone.
fn remove_directory(path: &Path) -> anyhow::Result<bool> {
    let Err(error) = fs::remove_dir(path) else {
        return Ok(true);
    };
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::ResourceBusy => Ok(false),
        _ => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

fn state(state: &Path) -> anyhow::Result<String> {
    let path = state.display();
    if !state.join(CERTIFICATE).is_file() {
        bail!("{path} has no {CERTIFICATE}: it is no state directory of a daemon, and stays");
    }
    fs::remove_dir_all(state).with_context(|| format!("remove {path}"))?;
    Ok(format!("removed {path}"))
}

fn left(paths: &Paths) -> String {
    format!(
        "left {} (audit log, recordings, authority; --state removes it) and {}",
        paths.state.display(),
        paths.config.display()
    )
}

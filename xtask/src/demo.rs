//! `cargo xtask demo`: the whole thing on one terminal, each claim with its real command and real output.
//!
//! Everything lives under temporary names and is taken down at the end, on errors and on Ctrl-C.

mod left;
mod records;
mod show;
mod story;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use support::{Daemon, Postgres};

use self::show::{heading, say};
use self::story::Stage;
use crate::guard::{Guard, Outer};
use crate::setup::{self, For};
use crate::shell::{self, cargo, run as execute};
use crate::stage;

/// Sets up and builds, where there is no `program` that is built already, and starts the part that runs as root.
pub(crate) fn run(options: &[&str]) -> anyhow::Result<()> {
    let (keep, program) = match options {
        [] => (false, None),
        ["--keep"] => (true, None),
        ["--program", program] => (false, Some(program)),
        ["--keep", "--program", program] => (true, Some(program)),
        other => bail!(
            "expected --keep, --program FILE or both, found {}",
            other.join(" ")
        ),
    };
    let (ready, program) = match program {
        Some(built) => (setup::installed()?, PathBuf::from(built)),
        None => {
            let ready = setup::servers(For::Demo)?;
            execute(cargo(&["build", "--workspace", "--bin", "interceptor"]))?;
            (ready, shell::target().join("debug/interceptor"))
        }
    };
    let outer = Outer::prepare("attach eBPF programs to a cgroup")?;
    let staged = stage::Stage::set(&program, &ready)?;
    let mode = if keep { "keep" } else { "once" };
    outer.start(&["demo", mode], &staged.variables(&ready))
}

/// The part that runs as root: put up, tell, take down, look that nothing is left.
pub(crate) fn as_root(keep: bool) -> anyhow::Result<()> {
    let guard = Guard::watch()?;
    let stage = put_up(&guard)?;
    let told = story::tell(&stage, &guard);
    if keep && told.is_ok() {
        story::play(&stage);
        guard.wait();
    }
    let left = stage.take_down();
    told?;
    left?;
    say("everything is taken down; nothing is left");
    Ok(())
}

fn put_up(guard: &Guard) -> anyhow::Result<Stage> {
    heading("a throw-away PostgreSQL with a shop in it");
    let server = Postgres::start().context("start the throw-away PostgreSQL")?;
    say(&format!(
        "it listens on {}; its role `{}` has a random password that only the daemon is given",
        server.address(),
        server.user(),
    ));
    guard.go_on()?;
    heading("the daemon");
    let settings = story::settings(&server)?;
    let mut daemon = Daemon::prepare(settings).context("prepare the daemon")?;
    story::introduce(&daemon)?;
    daemon.resume().context("start the daemon")?;
    say("it is ready: its programs are attached to the one tagged cgroup, and to nothing else");
    Ok(Stage { daemon, server })
}

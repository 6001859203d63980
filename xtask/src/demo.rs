//! `cargo xtask demo`: the whole thing on one terminal, each claim with its real command and real output.
//!
//! Everything lives under temporary names and is taken down at the end, on errors and on Ctrl-C.

mod records;
mod show;
mod story;

use anyhow::Context as _;
use support::{Daemon, Postgres};

use self::show::{heading, say};
use self::story::Stage;
use crate::guard::{self, Guard};
use crate::setup::{self, For};
use crate::shell::{self, cargo, run as execute};
use crate::stage;

/// Sets up, builds, and starts the part that runs as root.
pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    let ready = setup::servers(For::Demo)?;
    execute(cargo(&["build", "--workspace", "--bin", "interceptor"]))?;
    let staged = stage::Stage::set(&shell::target().join("debug/interceptor"), &ready)?;
    let mode = if keep { "keep" } else { "once" };
    guard::start(
        &["demo", mode],
        &staged.variables(&ready),
        "attach eBPF programs to a cgroup",
    )
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

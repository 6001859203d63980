//! What nearly every end-to-end test stands on: a shop, a daemon before it, an agent.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::{Agent, Daemon, Finished, Postgres, place};

/// Salaries are closed, on top of whichever pack.
pub(crate) const PRIVATE: &str = r#"
@id("salaries-are-private")
@hint("ask the people team")
forbid (principal, action, resource in Table::"shop/shop/public.salaries");
"#;

/// Fields are dropped in order: the daemon before the server.
pub(crate) struct Lab {
    pub(crate) daemon: Daemon,
    pub(crate) server: Postgres,
}

impl Lab {
    /// A shop in clear behind the read-write pack.
    pub(crate) fn new() -> Result<Self> {
        Self::over(Postgres::start()?, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        Self::over(Postgres::start()?, change)
    }

    /// A daemon before `server`.
    pub(crate) fn over(server: Postgres, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let mut settings = settings(&server)?;
        change(&mut settings);
        let daemon = Daemon::start(settings)?;
        Ok(Self { daemon, server })
    }

    /// What an agent dials: the server's own address, a user that does not exist, no password.
    pub(crate) fn dsn(&self) -> Dsn {
        Dsn::of(self.server.address(), "anybody", self.server.database())
    }

    /// An ordinary user in the tagged cgroup.
    pub(crate) fn agent(&self) -> Agent {
        self.daemon.agent()
    }

    /// The agent's `psql` with `statements`.
    pub(crate) fn psql(&self, statements: &[&str]) -> Result<Finished> {
        self.agent().psql(&self.dsn(), statements)
    }
}

/// The settings that every lab begins with.
pub(crate) fn settings(server: &Postgres) -> Result<Settings> {
    needs_root()?;
    let mut settings = Settings::new(vec![Target::shop(server)], "");
    settings.policies = place::pack("read-write")?;
    settings
        .policies
        .push(("private.cedar".to_owned(), PRIVATE.to_owned()));
    Ok(settings)
}

/// Fails rather than skips: a tier that did not run has shown nothing.
pub(crate) fn needs_root() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "needs root: `cargo xtask e2e` runs it through sudo"
    );
    Ok(())
}

/// That `text` has every one of `wanted`.
pub(crate) fn has(text: &str, wanted: &[&str]) -> Result<()> {
    for word in wanted {
        ensure!(text.contains(word), "no {word:?} in:\n{text}");
    }
    Ok(())
}

/// That `text` has none of `unwanted`.
pub(crate) fn lacks(text: &str, unwanted: &[&str]) -> Result<()> {
    for word in unwanted {
        ensure!(!text.contains(word), "{word:?} is in:\n{text}");
    }
    Ok(())
}

/// Standard error of something that must have failed.
pub(crate) fn refused(finished: Finished) -> Result<String> {
    ensure!(
        !finished.status.success(),
        "it was not refused; stdout: {}",
        finished.stdout
    );
    Ok(finished.stderr)
}

/// A field of a JSON line as text.
pub(crate) fn text<'a>(line: &'a serde_json::Value, pointer: &str) -> Result<&'a str> {
    line.pointer(pointer)
        .and_then(serde_json::Value::as_str)
        .with_context(|| format!("no text at {pointer} in {line}"))
}

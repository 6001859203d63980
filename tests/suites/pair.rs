//! Two servers that begin alike, one of them behind a daemon that permits all.
//!
//! Two, so that both ways find the same numbers: what one server is asked changes nothing for the other.
//! Both offer TLS, as the daemon does: a client that prefers it takes it both ways.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::{Agent, DEADLINE, Daemon, Finished, Postgres, Process, place};
use tempfile::TempDir;

/// Which way a suite goes to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Through,
}

impl Way {
    /// Its name in paths and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Through => "through",
        }
    }
}

/// Fields are dropped in order: the daemon before the servers.
pub(crate) struct Pair {
    pub(crate) daemon: Daemon,
    direct: Postgres,
    through: Postgres,
    directory: TempDir,
}

/// Who logs in on both: the tests of databases are written for a superuser.
const USER: &str = "postgres";

impl Pair {
    /// Starts both and runs `statements` on each; agents may ask for `databases`.
    pub(crate) fn start(databases: &[&str], statements: &[&str]) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "needs root: `cargo xtask suite` runs it through sudo"
        );
        let (direct, through) = (Postgres::start_with_tls()?, Postgres::start_with_tls()?);
        for server in [&direct, &through] {
            server.admin(&format!(
                "alter role {USER} password '{}'",
                server.password()
            ))?;
            for statement in statements {
                server.admin(statement)?;
            }
        }
        let mut target = Target::postgres("suite", &through, through.address());
        USER.clone_into(&mut target.user);
        target.databases = databases.iter().map(|&name| name.to_owned()).collect();
        let mut settings = Settings::new(vec![target], "");
        settings.policies = place::pack("allow-all")?;
        let daemon = Daemon::start(settings)?;
        let directory = place::temporary("suite")?;
        for way in [Way::Direct, Way::Through] {
            let own = directory.path().join(way.name());
            fs::create_dir(&own)
                .and_then(|()| fs::set_permissions(&own, fs::Permissions::from_mode(0o777)))
                .context("make a directory for one way")?;
        }
        Ok(Self {
            daemon,
            direct,
            through,
            directory,
        })
    }

    /// The server behind a way.
    pub(crate) fn server(&self, way: Way) -> &Postgres {
        match way {
            Way::Direct => &self.direct,
            Way::Through => &self.through,
        }
    }

    /// Runs SQL in a database of one server, past the daemon.
    pub(crate) fn prepare(&self, way: Way, database: &str, sql: &str) -> Result<()> {
        let server = self.server(way);
        let dsn = Dsn::of(server.address(), USER, database).with_password(server.password());
        Agent::outside().psql(&dsn, &[sql])?.ok().map(drop)
    }

    /// A directory that everyone may write, the same for both ways but for its last part.
    pub(crate) fn directory(&self, way: Way) -> PathBuf {
        self.directory.path().join(way.name())
    }

    /// What the suite is told: the direct one has a password.
    pub(crate) fn dsn(&self, way: Way, database: &str) -> Dsn {
        let server = self.server(way);
        let dsn = Dsn::of(server.address(), USER, database);
        match way {
            Way::Direct => dsn.with_password(server.password()),
            Way::Through => dsn,
        }
    }

    /// Who runs the suite: the same user, outside every scope or as an agent.
    pub(crate) fn client(&self, way: Way) -> Agent {
        match way {
            Way::Direct => Agent::outside(),
            Way::Through => self.daemon.agent(),
        }
    }

    /// Runs a program with both of its outputs in one, as they came.
    pub(crate) fn run(client: &Agent, deadline: Duration, words: &[&str]) -> Result<Finished> {
        let join = r#"exec "$@" 2>&1"#;
        let arguments = [&["-c", join, "sh"], words].concat();
        Process::run(client.command("sh", &arguments), deadline)
    }

    /// `text` with what is different by nature made the same: the way's directory and the port.
    pub(crate) fn alike(&self, way: Way, text: &str) -> String {
        let directory = self.directory(way);
        let port = self.server(way).address().port().to_string();
        text.replace(&*directory.to_string_lossy(), "/way")
            .replace(&format!("\"{port}\""), "\"port\"")
            .replace(&format!("port {port}"), "port")
    }
}

/// A suite's unpacked source, by the beginning of its directory's name, in `$INTERCEPTOR_SUITES`.
pub(crate) fn source(name: &str) -> Result<PathBuf> {
    let home = env::var_os("INTERCEPTOR_SUITES")
        .map(PathBuf::from)
        .context("INTERCEPTOR_SUITES is not set; `cargo xtask suite` fetches them and sets it")?;
    let entries = fs::read_dir(&home).with_context(|| format!("read {}", home.display()))?;
    entries
        .flatten()
        .find(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            file.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('-'))
                && entry.path().is_dir()
        })
        .map(|entry| entry.path())
        .with_context(|| format!("no {name} in {}", home.display()))
}

/// Puts the parts of a suite, and what runs it and what it stands on, into a directory.
pub(crate) fn lay_out(suite: &str, parts: &[&str], directory: &Path) -> Result<()> {
    let source = source(suite)?;
    for part in parts {
        copy(&source.join(part), &directory.join(part))?;
    }
    let home = source.parent().context("find the suites")?;
    copy(&home.join("python"), &directory.join("beside"))?;
    for (name, text) in [
        ("runner.py", include_str!("runner.py")),
        ("lines.py", include_str!("lines.py")),
    ] {
        fs::write(directory.join(name), text).context("write a runner")?;
    }
    Ok(())
}

/// Whether all of a suite is asked for, and not only its telling part.
pub(crate) fn whole() -> bool {
    env::var_os("INTERCEPTOR_SUITE").is_some_and(|what| what == "whole")
}

/// A copy that every user may read.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["-rL", "--"]).arg(from).arg(to);
    Process::run(cp, DEADLINE)?.ok()?;
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX", "--"]).arg(to);
    Process::run(chmod, DEADLINE)?.ok().map(drop)
}

/// Where the outputs of a suite are kept for whoever wants to look: in the build directory.
pub(crate) fn kept(suite: &str, way: Way) -> Result<PathBuf> {
    let own = env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(3).context("find the build directory")?;
    let directory = target.join("suites").join(suite).join(way.name());
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// The beginning of `diff -u` of two files, which names both.
pub(crate) fn difference(left: &Path, right: &Path) -> Result<String> {
    const LINES: usize = 60;
    let mut diff = Command::new("diff");
    diff.arg("-u").arg("--").arg(left).arg(right);
    let text = Process::run(diff, DEADLINE)?.stdout;
    let lines: Vec<&str> = text.lines().take(LINES).collect();
    Ok(lines.join("\n"))
}

//! The own tests of two libraries of SSH: what comes of each test must be the same both ways.
//!
//! Their servers are in the process of their clients, and many tests say what the one is to do while they look at the
//! other. So the process is outside, and its clients come by an agent (`ssh/carrier.py`), which hands each
//! connection over. As whom a test logs in is by the target that it is led to: there is one for each login.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Uid, chown, geteuid};
use support::daemon::Settings;
use support::ssh::keygen;
use support::{Agent, DEADLINE, Daemon, Process, place, port};

use crate::outcomes::{self, Outcomes};
use crate::pair::{self, Way};

/// How long a suite may take on one way.
const SUITE_WITHIN: Duration = Duration::from_secs(1_800);

/// A library's own tests.
struct Suite {
    /// The name of its source.
    name: &'static str,
    /// What runs it: Python's words.
    runner: &'static [&'static str],
    /// As whom its tests log in; the first where they do not say.
    logins: &'static [&'static str],
    /// Of which type the keys are.
    keys: &'static [&'static str],
    /// How the daemon logs in, with the directory of what it keeps to itself.
    credential: fn(&Path) -> String,
    telling: &'static [&'static str],
    all: &'static [&'static str],
    least: Least,
    exceptions: &'static str,
}

/// How many tests pass at least on each way, and how many of them through the daemon, of the telling part and of all.
struct Least {
    telling: (usize, usize),
    all: (usize, usize),
}

/// Left out are the modules that open no connection (keys, configuration, formats), those of which the client's
/// login is the subject (the daemon's own is another), and `tuntap`, which takes devices of a network.
const ASYNCSSH: Suite = Suite {
    name: "asyncssh",
    runner: &["asyncssh_hop.py"],
    logins: &[
        "guest",
        "close",
        "conn_close_open",
        "conn_close_startup",
        "echo",
        "no_channels",
        "no_pty",
        "request_pty",
        "task_error",
        "ckey",
    ],
    keys: &["-t", "rsa", "-b", "2048"],
    credential: |own| format!("key: {{ file: {} }}", own.join("ckey").display()),
    telling: &[
        "tests.test_channel",
        "tests.test_process",
        "tests.test_stream",
        "tests.test_subprocess",
    ],
    all: &[
        "tests.test_channel",
        "tests.test_editor",
        "tests.test_forward",
        "tests.test_process",
        "tests.test_sftp",
        "tests.test_stream",
        "tests.test_subprocess",
        "tests.test_x11",
    ],
    least: Least {
        telling: (180, 180),
        all: (800, 780),
    },
    exceptions: include_str!("asyncssh.exceptions"),
};

/// Left out are the modules that open no connection, and the one of transports: its tests look into both ends of one
/// connection, of which there are two here.
const PARAMIKO: Suite = Suite {
    name: "paramiko",
    runner: &[
        "-m",
        "pytest",
        "-p",
        "lines",
        "-p",
        "paramiko_hop",
        "-p",
        "no:cacheprovider",
        "--quiet",
        "--tb=native",
    ],
    logins: &["slowdive"],
    keys: &["-t", "ed25519"],
    credential: |own| format!("password: {{ file: {} }}", own.join("password").display()),
    telling: &["tests/test_sftp.py", "tests/test_client.py"],
    all: &[
        "tests/test_sftp.py",
        "tests/test_sftp_big.py",
        "tests/test_client.py",
    ],
    least: Least {
        telling: (55, 48),
        all: (66, 58),
    },
    exceptions: include_str!("paramiko.exceptions"),
};

#[test]
fn asyncsshs_own_tests_come_out_the_same_directly_and_through_the_daemon() -> Result<()> {
    check(&ASYNCSSH)
}

#[test]
fn paramikos_own_tests_come_out_the_same_directly_and_through_the_daemon() -> Result<()> {
    check(&PARAMIKO)
}

/// One way after the other: some of the tests look at the clock.
fn check(suite: &Suite) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "needs root: `cargo xtask suite` runs it through sudo"
    );
    let (direct, _) = Hop::lay(suite, Way::Direct)?.run(suite)?;
    let (through, crossed) = Hop::lay(suite, Way::Through)?.run(suite)?;
    let (passed, crosses) = match pair::whole() {
        true => suite.least.all,
        false => suite.least.telling,
    };
    println!("{}: {crossed} went through the daemon", suite.name);
    ensure!(
        crossed >= crosses,
        "only {crossed} of those that passed went through the daemon, of which at least {crosses} do"
    );
    let ways = [(Way::Direct, &direct), (Way::Through, &through)];
    outcomes::alike(suite.name, ways, passed, suite.exceptions)
}

/// One way of a suite, with the daemon before its server where that is the way. Fields are dropped in order.
struct Hop {
    way: Way,
    carrier: Option<Process>,
    daemon: Option<Daemon>,
    /// Where the tests have their server.
    server: u16,
    /// Where the daemon takes connections, by login.
    ways: Vec<(&'static str, u16)>,
    directory: tempfile::TempDir,
    /// What no agent reads.
    own: tempfile::TempDir,
}

impl Hop {
    fn lay(suite: &Suite, way: Way) -> Result<Self> {
        let (directory, own) = (place::temporary("hop")?, place::temporary("own")?);
        give(directory.path())?;
        for name in ["ckey", "skey"] {
            let key = directory.path().join(name);
            keygen(
                &[suite.keys, &["-q", "-m", "PEM", "-N", "", "-f"]].concat(),
                &key,
            )?;
            fs::copy(&key, own.path().join(name)).context("keep a key")?;
            give(&key)?;
        }
        let password = own.path().join("password");
        fs::write(&password, "pygmalion\n").context("keep a password")?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let mut hop = Self {
            way,
            carrier: None,
            daemon: None,
            server: port::free()?.port(),
            ways: Vec::new(),
            directory,
            own,
        };
        if way == Way::Through {
            hop.intercept(suite)?;
        }
        Ok(hop)
    }

    /// Puts a daemon before the server.
    fn intercept(&mut self, suite: &Suite) -> Result<()> {
        let mut settings = Settings::new(Vec::new(), "");
        settings.policies = place::pack("allow-all")?;
        let host_key = fs::read_to_string(self.at("skey.pub"))?;
        let host_key: Vec<&str> = host_key.split_whitespace().take(2).collect();
        for (number, login) in suite.logins.iter().enumerate() {
            let way = port::free()?.port();
            self.ways.push((login, way));
            write!(
                settings.more,
                "  login-{number}:\n    addresses: [\"127.0.0.1:{way}\"]\n    dial: {{ hosts: [\"127.0.0.1:{}\"] }}\n    \
                 ssh:\n      user: {login}\n      host_keys: [\"{}\"]\n      {}\n      env: [\"*\"]\n",
                self.server,
                host_key.join(" "),
                (suite.credential)(self.own.path()),
            )?;
        }
        let daemon = Daemon::start(settings)?;
        let mut shown = Command::new(place::interceptor()?);
        shown.args(["ssh-ca", "show", "--config"]);
        shown.arg(daemon.config()).env_clear();
        fs::write(self.at("known"), Process::run(shown, DEADLINE)?.ok()?)
            .context("write what the clients believe")?;
        let agent = daemon.agent();
        let python = place::python()?.display().to_string();
        let socket = self.at("carrier").display().to_string();
        let carrier = agent.start(&python, &["-c", include_str!("ssh/carrier.py"), &socket])?;
        carrier.await_text("ready", DEADLINE)?;
        self.carrier = Some(carrier);
        self.daemon = Some(daemon);
        Ok(())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the tests: what came of them, and how many went through the daemon.
    fn run(&self, suite: &Suite) -> Result<(Outcomes, usize)> {
        let work = place::temporary("suite")?;
        give(work.path())?;
        pair::lay_out(suite.name, &["tests"], work.path())?;
        for (name, text) in [
            ("hop.py", include_str!("ssh/hop.py")),
            ("asyncssh_hop.py", include_str!("ssh/asyncssh_hop.py")),
            ("paramiko_hop.py", include_str!("ssh/paramiko_hop.py")),
        ] {
            fs::write(work.path().join(name), text).context("write a way")?;
        }
        let here = work.path().display().to_string();
        let client = Agent::outside()
            .with("HOME", &here)
            .with("TMPDIR", &here)
            .with("OUTCOMES", &format!("{here}/outcomes"))
            .with("PYTHONPATH", &format!("{here}:{here}/beside"))
            .with("PYTHONDONTWRITEBYTECODE", "1")
            .with("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            .with("DISABLE_LOGGING", "1")
            .with("HOP_DIRECTORY", &self.at("").display().to_string())
            .with("HOP_PORT", &self.server.to_string())
            .with("HOP_WAYS", &self.told());
        let chosen = match pair::whole() {
            true => suite.all,
            false => suite.telling,
        };
        let python = place::python()?.display().to_string();
        let enter = r#"cd "$HOME" && exec "$@""#;
        let words = [&["-c", enter, "sh", &*python][..], suite.runner, chosen].concat();
        let finished = Process::run(client.command("sh", &words), SUITE_WITHIN)
            .with_context(|| format!("{}, {}", suite.name, self.way.name()))?;
        let said = fs::read_to_string(work.path().join("outcomes")).unwrap_or_default();
        let kept = pair::kept(suite.name, self.way)?;
        let log = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        let carried = self.carrier.as_ref().map(Process::log).unwrap_or_default();
        fs::write(kept.join("outcomes"), &said)
            .and_then(|()| fs::write(kept.join("log"), finished.stdout + &finished.stderr))
            .and_then(|()| fs::write(kept.join("daemon"), log + &carried))
            .context("keep the outcomes")?;
        ensure!(
            said.contains("\nran "),
            "{}, {}, ended with {}:\n{}",
            suite.name,
            self.way.name(),
            finished.status,
            finished.stderr
        );
        // Why something fails is said with numbers that are others each time.
        Ok((
            outcomes::read(&said, |_| String::new()),
            outcomes::crossed(&said),
        ))
    }

    /// Where each login is led, as JSON.
    fn told(&self) -> String {
        let ways = self.ways.iter();
        let ways: Vec<_> = ways
            .map(|(login, way)| format!("\"{login}\": {way}"))
            .collect();
        format!("{{{}}}", ways.join(", "))
    }
}

/// The agent's user owns it.
fn give(path: &Path) -> Result<()> {
    let user = Uid::from_raw(Agent::outside().uid());
    chown(path, Some(user), None).with_context(|| format!("chown {}", path.display()))
}

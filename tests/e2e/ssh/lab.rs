//! What tests of SSH stand on: an sshd, a daemon before it, a client without a key that believes nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use support::daemon::Settings;
use support::{Agent, DEADLINE, Daemon, Finished, Sshd, place};

use crate::lab::needs_root;

/// An sshd, and a daemon before it.
pub(crate) struct Lab {
    pub(crate) daemon: Daemon,
    pub(crate) server: Sshd,
    pub(crate) known_hosts: PathBuf,
    _directory: tempfile::TempDir,
}

impl Lab {
    /// The same with a key that logs in.
    pub(crate) fn new(policies: Vec<(String, String)>) -> Result<Self> {
        let server = Sshd::start()?;
        let login = format!("key: {{ file: {} }}", server.key().display());
        let target = server.target("web", &login, &[])?;
        Self::over(server, &target, policies)
    }

    /// A daemon with these targets.
    pub(crate) fn over(
        server: Sshd,
        target: &str,
        policies: Vec<(String, String)>,
    ) -> Result<Self> {
        needs_root()?;
        let mut settings = Settings::new(Vec::new(), "");
        settings.policies = policies;
        // A master and its clients meet at a UNIX socket of their own, which takes an LSM to be told from others.
        settings.more = format!("{target}\nunix: {{ others: permit }}\n");
        let daemon = Daemon::start(settings)?;
        let directory = place::temporary("ssh")?;
        let config = daemon.config().display().to_string();
        let mut shown = std::process::Command::new(place::interceptor()?);
        shown
            .args(["ssh-ca", "show", "--config", &config])
            .env_clear();
        let lines = support::Process::run(shown, DEADLINE)?.ok()?;
        ensure!(
            lines.contains("@cert-authority "),
            "no authority in {lines}"
        );
        let known_hosts = directory.path().join("known_hosts");
        fs::write(&known_hosts, lines)?;
        fs::set_permissions(&known_hosts, fs::Permissions::from_mode(0o644))?;
        Ok(Self {
            daemon,
            server,
            known_hosts,
            _directory: directory,
        })
    }

    /// An ordinary user in the tagged cgroup.
    pub(crate) fn agent(&self) -> Agent {
        self.daemon.agent()
    }

    /// Options of a client that has no key, and believes nobody that it does not know.
    pub(crate) fn options(&self) -> Vec<String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let options = [
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            &known_hosts,
            "-o",
            "GlobalKnownHostsFile=none",
            "-o",
            "IdentityFile=none",
            "-o",
            "BatchMode=yes",
        ];
        options.map(str::to_owned).into()
    }

    /// Runs `ssh` to the server: options first, then the command.
    pub(crate) fn ssh(&self, more: &[&str]) -> Result<Finished> {
        self.ssh_at(self.server.address().port(), more)
    }

    /// The same to another port.
    pub(crate) fn ssh_at(&self, port: u16, more: &[&str]) -> Result<Finished> {
        let port = port.to_string();
        let mut line = self.options();
        line.extend(["-p".to_owned(), port, "anybody@127.0.0.1".to_owned()]);
        let (options, command): (Vec<&str>, Vec<&str>) =
            more.iter().partition(|word| word.starts_with('-'));
        let mut words: Vec<&str> = options;
        words.extend(line.iter().map(String::as_str));
        words.extend(command);
        self.agent().run("ssh", &words)
    }

    /// Kilobytes that the daemon has had in memory at most.
    pub(crate) fn peak(&self) -> Result<u64> {
        let pid = self.daemon.process().context("the daemon runs")?.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no peak")?.parse()?)
    }
}

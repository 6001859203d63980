//! OpenSSH's own regression scripts, as Debian ships them: a script that passes directly must pass through the
//! daemon.
//!
//! The scripts have a client and a server of their own, and join them by a `ProxyCommand` that runs the server.
//! Through the daemon, the command goes to a port at which the same server answers, with the same settings.
//! Scripts that start a server which listens reach it through the daemon as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Uid, User, chown};
use support::daemon::Settings;
use support::ssh::keygen;
use support::{Agent, DEADLINE, Daemon, Process, place, port};

use crate::{exceptions, pair};

/// How long one script may take: the longest send many megabytes.
const SCRIPT_WITHIN: Duration = Duration::from_secs(180);

/// And those that try all that there is, or wait themselves.
const SLOW_WITHIN: Duration = Duration::from_secs(1_200);
const SLOW: [&str; 4] = ["cipher-speed", "forward-control", "kextype", "rekey"];

/// What sessions, streams, copies, keys and forwards are most easily wrong on. The others are about the
/// client's and the server's own files and settings.
const SCRIPTS: [&str; 36] = [
    "agent",
    "broken-pipe",
    "channel-timeout",
    "cipher-speed",
    "connect",
    "connect-privsep",
    "connect-uri",
    "dhgex",
    "dynamic-forward",
    "envpass",
    "exit-status",
    "exit-status-signal",
    "forcecommand",
    "forward-control",
    "forwarding",
    "host-expand",
    "kextype",
    "localcommand",
    "multiplex",
    "portnum",
    "rekey",
    "scp",
    "scp-uri",
    "scp3",
    "sftp",
    "sftp-badcmds",
    "sftp-batch",
    "sftp-cmds",
    "sftp-glob",
    "sftp-perm",
    "sftp-uri",
    "stderr-after-eof",
    "stderr-data",
    "transfer",
    "try-ciphers",
    "yes-head",
];

/// What the daemon does not offer: the library has no sntrup761, and by choice neither the curves of NIST, the older
/// groups, CBC, UMAC nor MD5 and SHA-1. Scripts that try everything try what is left.
const NOT_OFFERED: [&str; 25] = [
    "3des-cbc",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "aes128-gcm@openssh.com",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group-exchange-sha1",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "hmac-md5",
    "hmac-md5-96",
    "hmac-md5-etm@openssh.com",
    "hmac-md5-96-etm@openssh.com",
    "hmac-sha1",
    "hmac-sha1-96",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1-96-etm@openssh.com",
    "umac-64@openssh.com",
    "umac-64-etm@openssh.com",
    "umac-128@openssh.com",
    "umac-128-etm@openssh.com",
];

/// Those of them that `test` runs: the others take minutes, or want more than this machine has.
const TELLING: [&str; 14] = [
    "broken-pipe",
    "connect",
    "connect-uri",
    "envpass",
    "exit-status",
    "exit-status-signal",
    "scp",
    "scp-uri",
    "scp3",
    "sftp",
    "sftp-batch",
    "sftp-cmds",
    "stderr-data",
    "transfer",
];

/// Answers each connection with a server of its own, and starts those that the scripts want to start: nothing
/// listens in an agent's scope.
const SERVES: &str = r#"
import os, signal, socket, subprocess, sys, threading
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.mkfifo(sys.argv[4])
def starts():
    while True:
        with open(sys.argv[4]) as asked:
            for line in asked:
                subprocess.Popen(["/usr/sbin/sshd"] + line.split())
threading.Thread(target=starts, daemon=True).start()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    words = ["/usr/sbin/sshd", "-i", "-f", sys.argv[2], "-E", sys.argv[3]]
    subprocess.Popen(words, stdin=client, stdout=client, stderr=subprocess.DEVNULL)
    client.close()
"#;

/// In place of the server: has those that listen started outside.
const STARTS: &str = r#"#!/bin/sh
case " $* " in
*" -i "*|*" -t "*|*" -T "*) exec /usr/sbin/sshd "$@" ;;
*) echo "$@" > "$(dirname "$0")/starts" ;;
esac
"#;

/// The client, which knows of nothing that is not offered.
const ASKS: &str = r#"#!/bin/sh
case " $* " in
*" -Q "*) /usr/bin/ssh "$@" | grep -vxF -f "$(dirname "$0")/not-offered" ;;
*) exec /usr/bin/ssh "$@" ;;
esac
"#;

/// What a script is changed in: its words, and those in their place.
const CHANGED: [(&str, &str, &str); 1] = [
    // It counts at the client how often the server has changed keys, which here is on the other connection.
    (
        "rekey",
        r#"verbose "server rekeylimit"#,
        r#"continue; verbose "server rekeylimit"#,
    ),
];

/// The scripts with their keys, and what stands behind the daemon. Fields are dropped in order.
struct Suite {
    daemon: Daemon,
    _server: Process,
    user: Uid,
    /// Where the server answers for the daemon, and where the scripts start one.
    ports: [u16; 2],
    directory: tempfile::TempDir,
}

impl Suite {
    fn start() -> Result<Self> {
        let user = place::server_user();
        let name = User::from_uid(user)?.context("the server's user has a name")?;
        let directory = place::temporary("openssh")?;
        let scripts = directory.path().join("regress");
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(pair::source("openssh")?.join("usr/lib/openssh/regress"))
            .arg(&scripts);
        Process::run(copy, DEADLINE)?.ok()?;
        // The scripts take a key that is there already.
        keygen(
            &["-q", "-t", "ed25519", "-N", "", "-f"],
            &scripts.join("ssh-ed25519"),
        )?;
        // Scripts change who may log in with which key: the daemon does so by who signs.
        keygen(
            &["-q", "-t", "ed25519", "-N", "", "-f"],
            &directory.path().join("ca"),
        )?;
        let signer = directory.path().join("ca").display().to_string();
        give(directory.path(), user)?;
        let mut all = Command::new("chown");
        all.arg("-R").arg(&name.name).arg(&scripts);
        Process::run(all, DEADLINE)?.ok()?;
        let (answers, starts) = (port::free()?.port(), port::free()?.port());
        let at = |file: &str| scripts.join(file).display().to_string();
        let port = answers.to_string();
        let (proxy, log, fifo) = (at("sshd_proxy"), at("sshd.log"), at("starts"));
        let words = ["-c", SERVES, &port, &proxy, &log, &fifo];
        for (name, text) in [("start-sshd", STARTS), ("offered-ssh", ASKS)] {
            fs::write(scripts.join(name), text).context("write what starts programs")?;
            fs::set_permissions(scripts.join(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::write(scripts.join("not-offered"), NOT_OFFERED.join("\n"))?;
        for (script, words, others) in CHANGED {
            let path = scripts.join(format!("{script}.sh"));
            let text = fs::read_to_string(&path)?;
            ensure!(text.contains(words), "{script} has no {words}");
            fs::write(&path, text.replace(words, others))?;
        }
        let server = Agent::outside().as_uid(user.as_raw());
        let server = server.start("/usr/bin/python3", &words)?;
        server.await_text("ready", DEADLINE)?;
        let host_key = fs::read_to_string(scripts.join("ssh-ed25519.pub"))?;
        let host_key: Vec<&str> = host_key.split(' ').take(2).collect();
        let mut settings = Settings::new(Vec::new(), "");
        settings.policies = place::pack("allow-all")?;
        for (target, port) in [("proxy", answers), ("started", starts)] {
            settings.more.push_str(&format!(
                "  {target}:\n    addresses: [\"127.0.0.1:{port}\"]\n    ssh:\n      user: {}\n      \
                 host_keys: [\"{}\"]\n      sign: {{ ca: {{ file: {} }} }}\n      env: [_XXX_*, LANG, LC_*]\n",
                name.name,
                host_key.join(" "),
                signer,
            ));
        }
        // Masters and agents are met at UNIX sockets, which takes an LSM to be told from those of others.
        settings.more.push_str("unix: { others: permit }\n");
        // Where the server listens for a script, the script goes itself.
        let listens = [starts.saturating_add(1), 3301, 3302];
        let direct = listens.map(|port| format!("{{ network: '127.0.0.1/32', port: {port} }}"));
        let direct = format!("direct: [{}]\n", direct.join(", "));
        settings.more.push_str(&direct);
        Ok(Self {
            daemon: Daemon::start(settings)?,
            _server: server,
            user,
            ports: [answers, starts],
            directory,
        })
    }

    /// What the client is told besides, to go through the daemon and to believe it; by whether a script starts
    /// a server of its own.
    fn through(&self) -> Result<[String; 2]> {
        let mut shown = Command::new(place::interceptor()?);
        shown.args(["ssh-ca", "show", "--config"]);
        shown.arg(self.daemon.config()).env_clear();
        let lines = Process::run(shown, DEADLINE)?.ok()?;
        let [answers, _] = self.ports;
        // The scripts have one name for all their servers.
        let plain = lines.lines().filter(|line| !line.starts_with('@'));
        let keys = plain.filter_map(|line| line.split_once(' '));
        let keys: String = keys.map(|(_, key)| format!("* {key}\n")).collect();
        ensure!(keys.lines().count() == 2, "{lines}");
        let known = self.directory.path().join("known");
        fs::write(&known, keys).context("write what the client believes")?;
        give(&known, self.user)?;
        let netcat = self.directory.path().join("regress/netcat");
        let believes = format!("KnownHostsCommand /bin/cat {}", known.display());
        let goes = format!("ProxyCommand {} 127.0.0.1 {answers}", netcat.display());
        Ok([format!("{goes}\n{believes}"), believes])
    }

    /// Whether a script starts a server of its own.
    fn starts(&self, script: &str) -> Result<bool> {
        let path = self.directory.path().join("regress");
        let text = fs::read_to_string(path.join(format!("{script}.sh")))?;
        Ok(text.lines().any(|line| line.trim() == "start_sshd"))
    }

    /// Runs one script; what it says, where it fails.
    fn run(&self, script: &str, more: Option<&str>) -> Result<Option<String>> {
        let scripts = self.directory.path().join("regress");
        let [_, starts] = self.ports;
        let signer = self.directory.path().join("ca.pub").display().to_string();
        let agent = match more {
            Some(_) => self.daemon.agent(),
            None => Agent::outside(),
        };
        let agent = agent
            .as_uid(self.user.as_raw())
            .with("TEST_SHELL", "sh")
            .with(
                "TEST_SSH_SSH",
                &scripts.join("offered-ssh").display().to_string(),
            )
            .with(
                "TEST_SSH_SSHD",
                &scripts.join("start-sshd").display().to_string(),
            )
            .with("TEST_SSH_SFTPSERVER", "/usr/lib/openssh/sftp-server")
            .with("TEST_SSH_UNSAFE_PERMISSIONS", "1")
            .with(
                "TEST_SSH_SSHD_CONFOPTS",
                &format!("TrustedUserCAKeys {signer}"),
            )
            .with("TEST_SSH_PORT", &starts.to_string())
            .with("TEST_SSH_SSH_CONFOPTS", more.unwrap_or_default());
        let at = |file: &str| scripts.join(file).display().to_string();
        let line = format!(
            "cd {0} && exec sh {0}/test-exec.sh {0} {1}",
            scripts.display(),
            at(&format!("{script}.sh"))
        );
        let mut command = agent.command("sh", &["-c", &line]);
        command.stdin(std::process::Stdio::null());
        let within = match SLOW.contains(&script) {
            true => SLOW_WITHIN,
            false => SCRIPT_WITHIN,
        };
        let Ok(finished) = Process::run(command, within) else {
            return Ok(Some(format!("it did not end within {within:?}")));
        };
        Ok((!finished.status.success()).then(|| {
            let said = format!("{}{}", finished.stdout, finished.stderr);
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.len().saturating_sub(12);
            lines.get(last..).unwrap_or_default().join("\n")
        }))
    }
}

fn give(path: &Path, to: Uid) -> Result<()> {
    chown(path, Some(to), None).with_context(|| format!("chown {}", path.display()))
}

#[test]
fn scripts_of_openssh_that_pass_directly_pass_through_the_daemon() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "needs root: `cargo xtask suite` runs it through sudo"
    );
    let suite = Suite::start()?;
    let through = suite.through()?;
    let known = exceptions::read(include_str!("openssh.exceptions"))?;
    let (mut ran, mut failed) = (BTreeSet::new(), BTreeMap::new());
    for script in SCRIPTS {
        if !pair::whole() && !TELLING.contains(&script) {
            continue;
        }
        let [goes, believes] = &through;
        let through = if suite.starts(script)? {
            believes
        } else {
            goes
        };
        let Some(why) = suite.run(script, Some(through))? else {
            println!("{script}: passes");
            ran.insert(script.to_owned());
            continue;
        };
        // What this machine lacks, it lacks without the daemon, too.
        if suite.run(script, None)?.is_some() {
            println!("{script}: passes neither way:\n{why}");
            continue;
        }
        println!("{script}: fails:\n{why}");
        ran.insert(script.to_owned());
        failed.insert(script.to_owned(), why);
    }
    println!("{} scripts, {} fail", ran.len(), failed.len());
    ensure!(!ran.is_empty(), "none passes either way");
    exceptions::hold(&known, &ran, &failed)
}

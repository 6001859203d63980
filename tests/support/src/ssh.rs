//! A throw-away SSH server: Debian's own sshd with keys of its own, for one ordinary user; gone when dropped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Uid, User, chown, geteuid};
use tempfile::TempDir;

use crate::process::{Finished, Process};
use crate::{DEADLINE, place, port};

/// How a server in Python of a test's own goes on behind what it is: each connection at `PORT` is given to its
/// `serves`. Says `ready` first.
pub const LISTENS: &str = r#"
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("ready", flush=True)
while True:
    threading.Thread(target=serves, args=(listener.accept()[0],), daemon=True).start()
"#;

const PROGRAM: &str = "/usr/sbin/sshd";
const READY: &str = "Server listening on";
const ATTEMPTS: u32 = 5;

/// A running server.
pub struct Sshd {
    process: Process,
    directory: TempDir,
    address: SocketAddr,
    user: String,
}

impl Sshd {
    /// Starts one.
    ///
    /// # Errors
    /// When sshd is not installed or does not come up.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more lines of `sshd_config`.
    ///
    /// # Errors
    /// As [`Sshd::start`].
    pub fn start_with(more: &[&str]) -> anyhow::Result<Self> {
        let directory = place::temporary("sshd")?;
        for name in ["host", "user", "ca"] {
            keygen(
                &["-q", "-t", "ed25519", "-N", "", "-f"],
                &directory.path().join(name),
            )?;
        }
        let named = ["-q", "-h", "-I", "host", "-n", "127.0.0.1", "-s"];
        let signer = directory.path().join("ca").display().to_string();
        let words: Vec<&str> = named.iter().copied().chain([signer.as_str()]).collect();
        keygen(&words, &directory.path().join("host.pub"))?;
        fs::copy(
            directory.path().join("user.pub"),
            directory.path().join("authorized"),
        )?;
        let files = directory.path().join("files");
        fs::create_dir(&files)?;
        let uid = place::server_user();
        for path in [directory.path(), &files, &directory.path().join("host")] {
            give(path, uid)?;
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let address = port::free()?;
            match serve(directory.path(), address, more) {
                Ok(process) => {
                    let user = User::from_uid(uid)?.context("the server's user has a name")?;
                    return Ok(Self {
                        process,
                        directory,
                        address,
                        user: user.name,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    /// Gives it another host key, at the same address.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn change_key(&mut self) -> anyhow::Result<()> {
        for name in ["host", "host.pub"] {
            fs::remove_file(self.at(name))?;
        }
        let host = self.at("host");
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f"], &host)?;
        give(&host, place::server_user())?;
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        self.process.finish(DEADLINE)?;
        self.process = serve(self.directory.path(), self.address, &[])?;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who may log in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that logs in; root's alone.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.at("user")
    }

    /// The private key that signs users' certificates; root's alone.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.at("ca")
    }

    /// Its public key, as `known_hosts` has it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn host_key(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.at("host.pub"))?;
        let words: Vec<_> = text.split(' ').take(2).collect();
        Ok(words.join(" "))
    }

    /// A directory that is its user's.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.at("files")
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A file beside its own.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The target of a daemon's file that leads here, with more lines of `ssh`.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub fn target(&self, name: &str, login: &str, more: &[&str]) -> anyhow::Result<String> {
        let mut text = format!(
            "  {name}:\n    addresses: [\"{}\"]\n    ssh:\n      user: {}\n      host_keys: [\"{}\"]\n      {login}\n",
            self.address,
            self.user,
            self.host_key()?
        );
        for line in more {
            text.push_str(&format!("      {line}\n"));
        }
        Ok(text)
    }
}

/// Runs `ssh-keygen` to a file.
///
/// # Errors
/// When it fails.
pub fn keygen(arguments: &[&str], to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).arg(to).env_clear();
    command.env("PATH", "/usr/bin:/bin");
    let finished: Finished = Process::run(command, DEADLINE)?;
    finished.ok().map(drop)
}

fn give(path: &Path, uid: Uid) -> anyhow::Result<()> {
    if geteuid().is_root() {
        let gid = Gid::from_raw(place::group_of(uid));
        chown(path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}

fn serve(directory: &Path, address: SocketAddr, more: &[&str]) -> anyhow::Result<Process> {
    if !Path::new(PROGRAM).exists() {
        bail!("{PROGRAM} is missing: `cargo xtask setup e2e` installs it");
    }
    let at = |name: &str| directory.join(name).display().to_string();
    // Terminals are root's to give away; what the daemon of the package makes at its start is missing where
    // it does not run.
    let pam = if geteuid().is_root() { "yes" } else { "no" };
    if geteuid().is_root() {
        fs::create_dir_all("/run/sshd")?;
    }
    let mut text = String::new();
    // What is said first counts.
    for line in more {
        let line = line.replace("%ca", &at("ca.pub"));
        let line = line.replace("%revoked", &at("revoked"));
        text.push_str(&line.replace("%certificate", &at("host-cert.pub")));
        text.push('\n');
    }
    // Of these alone what is said last counts.
    if !more.iter().any(|line| line.starts_with("MaxStartups")) {
        text.push_str("MaxStartups 200\n");
    }
    text.push_str(&format!(
        "Port {}\nListenAddress {}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
         UsePAM {}\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nAcceptEnv LANG LC_* TOLD\n\
         MaxSessions 100\nLogLevel VERBOSE\n",
        address.port(), address.ip(), at("host"), at("authorized"), pam,
    ));
    let config = directory.join("config");
    fs::write(&config, text)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let mut command = Command::new(PROGRAM);
    command
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let process = Process::start(command)?;
    process.await_text(READY, DEADLINE)?;
    Ok(process)
}

//! A real pgbouncer in front of a throw-away PostgreSQL; gone when dropped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use nix::unistd::{Gid, chown};
use tempfile::TempDir;

use crate::process::Process;
use crate::{DEADLINE, Postgres, place, port};

/// A running pooler; its one user is the server's, with the same password.
pub struct Pgbouncer {
    process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Pgbouncer {
    /// Starts one before `server`; `more` are lines of its section `[pgbouncer]`.
    ///
    /// # Errors
    /// When pgbouncer is not installed or does not come up.
    pub fn start(server: &Postgres, more: &str) -> anyhow::Result<Self> {
        let directory = place::temporary("pgbouncer")?;
        let address = port::free()?;
        let user = place::server_user();
        let users = directory.path().join("users.txt");
        let line = format!("\"{}\" \"{}\"\n", server.user(), server.password());
        fs::write(&users, line)
            .and_then(|()| fs::set_permissions(&users, fs::Permissions::from_mode(0o600)))
            .context("write pgbouncer's users")?;
        let group = Gid::from_raw(place::group_of(user));
        chown(&users, Some(user), Some(group)).context("give pgbouncer its users")?;
        let text = format!(
            "[databases]\n* = host={} port={}\n\
             [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\n{more}\n",
            server.address().ip(),
            server.address().port(),
            address.ip(),
            address.port(),
            users.display(),
        );
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, text).context("write pgbouncer's settings")?;
        let mut command = Command::new("pgbouncer");
        command
            .arg(&file)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .current_dir("/")
            .uid(user.as_raw())
            .gid(place::group_of(user));
        let process = Process::start(command)?;
        process.await_text("process up", DEADLINE)?;
        Ok(Self {
            process,
            address,
            _directory: directory,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

//! The four ways to the same server.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use nix::unistd::{Gid, chown};
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::{Agent, DEADLINE, Daemon, Postgres, Process, place, port};
use tempfile::TempDir;

/// How many clients a hop must take.
const CLIENTS: u32 = 800;

/// One way to the server.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// Where clients run, and what they are told.
    pub(super) client: Agent,
    pub(super) dsn: Dsn,
    /// The process whose memory counts; none for the direct way.
    pub(super) pid: Option<u32>,
}

/// What has been put up. Fields are dropped in order: hops before the server.
pub(super) struct Lab {
    pub(super) daemon: Daemon,
    hops: Vec<Process>,
    addresses: [SocketAddr; 2],
    pub(super) server: Postgres,
    _directory: TempDir,
}

impl Lab {
    /// Starts server and hops.
    pub(super) fn put_up() -> anyhow::Result<Self> {
        let server = Postgres::start()?;
        let directory = place::temporary("bench")?;
        let (haproxy, first) = haproxy(directory.path(), server.address())?;
        let (pgbouncer, second) = pgbouncer(directory.path(), &server)?;
        let target = Target::postgres("shop", &server, server.address());
        let mut settings = Settings::new(vec![target], "");
        settings.policies = place::pack("allow-all")?;
        settings.limits = vec![
            "connections: unlimited".into(),
            "sessions: unlimited".into(),
        ];
        Ok(Self {
            daemon: Daemon::start(settings)?,
            hops: vec![haproxy, pgbouncer],
            addresses: [first, second],
            server,
            _directory: directory,
        })
    }

    /// The four, in the order in which they are measured.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let plain = |address| {
            Dsn::of(address, self.server.user(), self.server.database())
                .with_password(self.server.password())
        };
        let outside = |name, address, pid| Subject {
            name,
            client: Agent::outside(),
            dsn: plain(address),
            pid,
        };
        let [haproxy, pgbouncer] = self.addresses;
        let pid = |at: usize| self.hops.get(at).map(Process::pid);
        vec![
            outside("direct", self.server.address(), None),
            outside("haproxy", haproxy, pid(0)),
            outside("pgbouncer", pgbouncer, pid(1)),
            self.interceptor("interceptor"),
        ]
    }

    /// The way through the daemon, with no password.
    pub(super) fn interceptor(&self, name: &'static str) -> Subject {
        Subject {
            name,
            client: self.daemon.agent(),
            dsn: Dsn::of(self.server.address(), "anybody", self.server.database()),
            pid: self.daemon.process().map(Process::pid),
        }
    }
}

fn haproxy(directory: &Path, server: SocketAddr) -> anyhow::Result<(Process, SocketAddr)> {
    let address = port::free()?;
    let text = format!(
        "global\n  maxconn {CLIENTS}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         listen postgres\n  bind {address}\n  server one {server}\n"
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, text).context("write haproxy's settings")?;
    let mut command = as_server("haproxy")?;
    command.arg("-db").arg("-f").arg(&file);
    let process = Process::start(command)?;
    Ok((listening(process, address)?, address))
}

fn pgbouncer(directory: &Path, server: &Postgres) -> anyhow::Result<(Process, SocketAddr)> {
    let address = port::free()?;
    let users = directory.join("users.txt");
    fs::write(
        &users,
        format!("\"{}\" \"{}\"\n", server.user(), server.password()),
    )
    .and_then(|()| fs::set_permissions(&users, fs::Permissions::from_mode(0o600)))
    .context("write pgbouncer's users")?;
    let user = place::server_user();
    chown(
        &users,
        Some(user),
        Some(Gid::from_raw(place::group_of(user))),
    )
    .context("give pgbouncer its users")?;
    let text = format!(
        "[databases]\n* = host={} port={}\n\
         [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = session\n\
         max_client_conn = {CLIENTS}\ndefault_pool_size = {CLIENTS}\n\
         ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n",
        server.address().ip(),
        server.address().port(),
        address.ip(),
        address.port(),
        users.display(),
    );
    let file = directory.join("pgbouncer.ini");
    fs::write(&file, text).context("write pgbouncer's settings")?;
    let mut command = as_server("pgbouncer")?;
    command.arg(&file);
    let process = Process::start(command)?;
    process.await_text("process up", DEADLINE)?;
    Ok((process, address))
}

/// Both refuse to be root, or should not be.
pub(super) fn as_server(program: &str) -> anyhow::Result<Command> {
    let path =
        crate::shell::find(program).with_context(|| format!("{program} is not installed"))?;
    let user = place::server_user();
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .uid(user.as_raw())
        .gid(place::group_of(user));
    Ok(command)
}

/// Some say nothing when they are up.
pub(super) fn listening(process: Process, address: SocketAddr) -> anyhow::Result<Process> {
    support::wait::for_fact("a hop's listener", DEADLINE, || {
        anyhow::ensure!(!process.is_over(), "a hop ended: {}", process.log());
        Ok(std::net::TcpStream::connect(address).ok().map(drop))
    })?;
    Ok(process)
}

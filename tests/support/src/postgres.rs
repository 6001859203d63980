//! A throw-away PostgreSQL: its own data directory, port and passwords; gone when dropped.
//!
//! `initdb` is run once and kept as a template in the cache; a start copies it. The server runs as an
//! ordinary user, never syncs, demands SCRAM over TCP, and trusts only its socket directory, which
//! nobody but that user and root can enter.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown, geteuid};
use tempfile::TempDir;

use crate::process::{Finished, Process};
use crate::tls::Authority;
use crate::{DEADLINE, place, port, suffix};

const SAMPLE: &str = include_str!("postgres/sample.sql");
const READY: &str = "database system is ready to accept connections";
const READY_STANDBY: &str = "database system is ready to accept read-only connections";
const ATTEMPTS: u32 = 5;
const CONNECTIONS: u32 = 1_200;

/// A running server with the sample database `shop`.
pub struct Postgres {
    process: Process,
    directory: TempDir,
    address: SocketAddr,
    password: String,
    authority: Option<Authority>,
}

impl Postgres {
    /// Starts one without TLS.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not come up.
    pub fn start() -> anyhow::Result<Self> {
        Self::launch(false, &[])
    }

    /// Starts one that offers TLS with a certificate from an authority of its own.
    ///
    /// # Errors
    /// As [`Postgres::start`], and when `openssl` fails.
    pub fn start_with_tls() -> anyhow::Result<Self> {
        Self::launch(true, &[])
    }

    /// Starts one without TLS and with more settings, as `name=value`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        Self::launch(false, settings)
    }

    fn launch(tls: bool, settings: &[&str]) -> anyhow::Result<Self> {
        let directory = place::temporary("pg")?;
        let template = template()?;
        let data = directory.path().join("data");
        copy(&template, &data)?;
        let sockets = directory.path().join("s");
        own_directory(&sockets)?;
        let authority = tls.then(|| Authority::make(directory.path())).transpose()?;
        if let Some(authority) = &authority {
            give(&authority.key, &data.join("server.key"))?;
            give(&authority.certificate, &data.join("server.crt"))?;
            give(&authority.ca, &data.join("root.crt"))?;
        }
        let (process, address) = serve(&data, &sockets, tls, (settings, READY))?;
        let server = Self {
            process,
            directory,
            address,
            password: format!("{}{}", suffix()?, suffix()?),
            authority,
        };
        server.admin(&format!(
            "alter role shop_app password '{}'",
            server.password
        ))?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its Unix socket, which root may connect to, and trusts whoever it lets in.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let name = format!(".s.PGSQL.{}", self.address.port());
        self.directory.path().join("s").join(name)
    }

    /// The role that may do everything in `shop`.
    #[must_use]
    pub fn user(&self) -> &'static str {
        "shop_app"
    }

    /// The password of that role, different at each start.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The sample database.
    #[must_use]
    pub fn database(&self) -> &'static str {
        "shop"
    }

    /// The authority of its certificate, where it offers TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its process id, the postmaster's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The first number of its version: 15.
    ///
    /// # Errors
    /// When it does not say it.
    pub fn major(&self) -> anyhow::Result<u32> {
        let number = self.admin("show server_version_num")?;
        let number: u32 = number.trim().parse().context("read the server's version")?;
        Ok(number / 10_000)
    }

    /// Runs SQL as superuser through its private socket; gives back unaligned rows.
    ///
    /// # Errors
    /// When `psql` fails.
    pub fn admin(&self, sql: &str) -> anyhow::Result<String> {
        let mut command = psql(&self.directory.path().join("s"), self.address.port())?;
        command.args(["-d", "shop", "-c", sql]);
        Process::run(command, DEADLINE)?.ok()
    }

    /// Runs a script of psql as superuser through its private socket.
    ///
    /// # Errors
    /// When `psql` fails.
    pub fn script(&self, text: &str) -> anyhow::Result<String> {
        let directory = place::temporary("script")?;
        let file = directory.path().join("script.sql");
        fs::write(&file, text).context("write the script")?;
        let mut command = psql(&self.directory.path().join("s"), self.address.port())?;
        command.args(["-d", "shop", "-f"]).arg(&file);
        Process::run(command, DEADLINE)?.ok()
    }

    /// Says how clients must log in over TCP: lines of `pg_hba.conf`, in place of the ones before.
    ///
    /// # Errors
    /// When the file cannot be written or the server does not read it.
    pub fn demand(&self, lines: &str) -> anyhow::Result<()> {
        let file = self.directory.path().join("data/pg_hba.conf");
        fs::write(&file, format!("local all all trust\n{lines}\n")).context("write pg_hba.conf")?;
        let errors = "select pg_reload_conf(), (select count(*) from pg_hba_file_rules where error is not null)";
        let answer = self.admin(errors)?;
        if answer.trim() != "t|0" {
            bail!("the server does not take these lines: {lines}");
        }
        // The postmaster reads it when it gets round to it: a connection that is new must see it.
        let marked = self.admin("select pg_conf_load_time()")?;
        self.admin("select pg_reload_conf()")?;
        crate::wait::for_fact("the server's new rules", DEADLINE, || {
            let now = self.admin("select pg_conf_load_time()")?;
            Ok((now != marked).then_some(()))
        })
    }

    /// Starts a standby of this server, which must not have been told how clients log in.
    ///
    /// # Errors
    /// When the copy cannot be made or does not come up.
    pub fn standby(&self) -> anyhow::Result<Self> {
        let directory = place::temporary("standby")?;
        let data = directory.path().join("data");
        own_directory(&data)?;
        let mut command = as_server(place::postgres_programs()?.join("pg_basebackup"));
        command
            .args(["-R", "-X", "stream", "-c", "fast", "-U", "postgres"])
            .args(["-p", &self.address.port().to_string(), "-h"])
            .arg(self.directory.path().join("s"))
            .arg("-D")
            .arg(&data);
        Process::run(command, DEADLINE)?
            .ok()
            .context("pg_basebackup")?;
        let sockets = directory.path().join("s");
        own_directory(&sockets)?;
        let (process, address) = serve(&data, &sockets, false, (&[], READY_STANDBY))?;
        Ok(Self {
            process,
            directory,
            address,
            password: self.password.clone(),
            authority: None,
        })
    }

    /// Stops it at once, as a crash of the database would.
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGQUIT);
        drop(self.process.finish(DEADLINE));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(
    data: &Path,
    sockets: &Path,
    tls: bool,
    (settings, ready): (&[&str], &str),
) -> anyhow::Result<(Process, SocketAddr)> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let address = port::free()?;
        let mut command = as_server(place::postgres_programs()?.join("postgres"));
        command.arg("-D").arg(data).arg("-k").arg(sockets).args([
            "-p",
            &address.port().to_string(),
            "-c",
            "listen_addresses=127.0.0.1,::1",
            "-c",
            &format!("max_connections={CONNECTIONS}"),
            "-c",
            if tls { "ssl=on" } else { "ssl=off" },
        ]);
        if tls {
            command.args(["-c", "ssl_ca_file=root.crt"]);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        let process = Process::start(command)?;
        match process.await_text(ready, DEADLINE) {
            Ok(()) => return Ok((process, address)),
            Err(why) => last = Some(why),
        }
    }
    Err(last.context("no attempt was made")?).context("start PostgreSQL")
}

/// The data directory that every start copies; made by the first.
fn template() -> anyhow::Result<PathBuf> {
    let cache = place::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let programs = place::postgres_programs()?;
    let version = version(&programs)?;
    let user = place::server_user();
    let name = format!(
        "postgres-{version}-{user}-{:08x}",
        place::fingerprint(SAMPLE)
    );
    let template = cache.join(name);
    let lock = File::create(cache.join("postgres.lock")).context("make the template's lock")?;
    lock.lock().context("lock the template")?;
    if !template.join("PG_VERSION").is_file() {
        let work = place::temporary("init")?;
        let data = work.path().join("data");
        initialise(&programs, work.path(), &data)?;
        let half = template.with_extension("half");
        drop(fs::remove_dir_all(&half));
        copy(&data, &half)?;
        fs::rename(&half, &template).context("put the template in its place")?;
    }
    Ok(template)
}

fn initialise(programs: &Path, work: &Path, data: &Path) -> anyhow::Result<()> {
    own_directory(data)?;
    let mut command = as_server(programs.join("initdb"));
    command.arg("-D").arg(data).args([
        "--username=postgres",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
        "--wal-segsize=1",
    ]);
    Process::run(command, DEADLINE)?.ok().context("initdb")?;
    let settings = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n\
        max_wal_size = 1GB\nlog_min_messages = warning\n";
    let file = data.join("postgresql.auto.conf");
    fs::write(&file, settings).context("write the server's settings")?;
    let sockets = work.join("s");
    own_directory(&sockets)?;
    let (mut process, address) = serve(data, &sockets, false, (&[], READY))?;
    let script = work.join("sample.sql");
    fs::write(&script, SAMPLE).context("write the sample data")?;
    let mut command = psql(&sockets, address.port())?;
    command.args(["-d", "postgres", "-f"]).arg(&script);
    Process::run(command, DEADLINE)?
        .ok()
        .context("load the sample data")?;
    process.signal(Signal::SIGINT);
    process.finish(DEADLINE)?;
    Ok(())
}

fn psql(sockets: &Path, port: u16) -> anyhow::Result<Command> {
    let mut command = as_server(place::postgres_programs()?.join("psql"));
    command
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
        .args(["-U", "postgres", "-p", &port.to_string(), "-h"])
        .arg(sockets);
    Ok(command)
}

/// A command under the server's user with a clean environment.
fn as_server(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/");
    if geteuid().is_root() {
        let user = place::server_user();
        command.uid(user.as_raw()).gid(place::group_of(user));
    }
    command
}

/// A directory that only the server's user may enter.
fn own_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("make {}", path.display()))?;
    own(path)
}

/// A copy that only the server's user may read: PostgreSQL refuses a key that others can.
fn give(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("copy to {}", to.display()))?;
    own(to)
}

fn own(path: &Path) -> anyhow::Result<()> {
    let user: Uid = place::server_user();
    let group = Gid::from_raw(place::group_of(user));
    chown(path, Some(user), Some(group)).with_context(|| format!("give away {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    Process::run(command, DEADLINE)
        .and_then(Finished::ok)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn version(programs: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(programs.join("postgres"));
    command.arg("--version").env_clear();
    let text = Process::run(command, DEADLINE)?.ok()?;
    let Some(version) = text.split_whitespace().nth(2) else {
        bail!("read PostgreSQL's version from {text:?}");
    };
    Ok(version.to_owned())
}

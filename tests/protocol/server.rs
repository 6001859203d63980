//! A throw-away PostgreSQL server with a role for each way to log in.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use nix::unistd::{Gid, Uid, User};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// What roles log in with.
pub(crate) const PASSWORD: &str = "correct horse \u{2168}";

const HBA: &str = "
local   all admin             trust
host    all trusted all       trust
hostssl all tls_only all      scram-sha-256
hostssl all certified all     cert
hostssl all twofold all       scram-sha-256 clientcert=verify-full
hostnossl all tls_only all    reject
host    all clear all         password
host    all md5 all           md5
host    all all all           scram-sha-256
";

const SETUP: &str = "
CREATE ROLE trusted LOGIN;
CREATE ROLE certified LOGIN;
SET password_encryption = 'md5';
CREATE ROLE md5 LOGIN PASSWORD :'password';
SET password_encryption = 'scram-sha-256';
CREATE ROLE clear LOGIN PASSWORD :'password';
CREATE ROLE scram LOGIN PASSWORD :'password';
CREATE ROLE tls_only LOGIN PASSWORD :'password';
CREATE ROLE twofold LOGIN PASSWORD :'password';
CREATE ROLE super LOGIN SUPERUSER PASSWORD :'password';
CREATE ROLE bypass LOGIN BYPASSRLS PASSWORD :'password';
CREATE ROLE rotated LOGIN PASSWORD :'password';
CREATE ROLE defaults LOGIN PASSWORD :'password';
ALTER ROLE defaults SET search_path = evil;
ALTER ROLE defaults SET standard_conforming_strings = off;
ALTER ROLE defaults SET client_encoding = 'LATIN1';
CREATE SCHEMA \"my schema\";
CREATE SCHEMA evil;
CREATE FUNCTION evil.never(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION evil.never(oid, int) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (FUNCTION = evil.never, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR evil.= (FUNCTION = evil.never, LEFTARG = oid, RIGHTARG = int);
GRANT USAGE ON SCHEMA evil TO PUBLIC;
";

/// A running server; stopped and removed when the last test lets go of it.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    user: Option<(Uid, Gid)>,
    port: u16,
}

impl Server {
    /// The server that the tests share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The authority of its certificate, which is for `127.0.0.1` and `db.example`.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// The certificate and key of `role`, as one PEM.
    pub(crate) fn certificate_of(&self, role: &str) -> String {
        fs::read_to_string(self.path(&format!("{role}.pem"))).unwrap()
    }

    /// Runs SQL as its administrator; what `psql -At` prints.
    pub(crate) fn sql(&self, text: &str) -> String {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-v", &format!("password={PASSWORD}")])
            .args(["-h", &self.path("").display().to_string()])
            .args(["-p", &self.port.to_string(), "-U", "admin", "postgres"])
            .args(["-f", "-"]);
        // Tests run side by side: a file that nobody else can name.
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.rewind().unwrap();
        psql.stdin(input);
        done(psql)
    }

    /// The first number of its version: 15.
    pub(crate) fn major(&self) -> u32 {
        let number: u32 = self.sql("SHOW server_version_num").trim().parse().unwrap();
        number / 10_000
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // PostgreSQL does not run as root.
        let user = Uid::effective().is_root().then(|| {
            let user = ["postgres", "nobody"]
                .iter()
                .find_map(|name| User::from_name(name).unwrap())
                .unwrap();
            (user.uid, user.gid)
        });
        let mut server = Self {
            directory,
            user,
            port: 0,
        };
        if let Some((uid, gid)) = user {
            let path = server.path("");
            chown(path, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
        }
        server.certificates();
        let data = server.path("data").display().to_string();
        server.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "admin",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
        );
        fs::write(server.path("data/pg_hba.conf"), HBA).unwrap();
        server.port = support::port::free().unwrap().port();
        let settings = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nautovacuum = off\n\
             ssl = on\nssl_cert_file = '../server.pem'\nssl_key_file = '../server.key'\nssl_ca_file = '../root.pem'\n",
            server.port,
            server.path("").display(),
        );
        fs::write(server.path("data/postgresql.conf"), settings).unwrap();
        let log = server.path("log").display().to_string();
        server.run("pg_ctl", &["start", "-w", "-D", &data, "-l", &log]);
        server.sql(SETUP);
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn certificates(&self) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = ["127.0.0.1", "db.example"].map(str::to_owned).to_vec();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &root)
            .unwrap();
        fs::write(self.path("root.pem"), root.pem()).unwrap();
        for role in ["certified", "twofold"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, role);
            let certificate = params.signed_by(&key, &root).unwrap();
            let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
            fs::write(self.path(&format!("{role}.pem")), pem).unwrap();
        }
        fs::write(self.path("server.pem"), leaf.pem()).unwrap();
        fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
        let own = self.path("server.key");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(own, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(programs().join(program));
        command.args(arguments).current_dir(self.path(""));
        // What it leaves running must not hold the pipes that are read to the end here.
        let output = fs::File::create(self.path("output")).unwrap();
        command.stdin(std::process::Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        if let Some((uid, gid)) = self.user {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        let status = command.status().unwrap();
        let said = fs::read_to_string(self.path("output")).unwrap();
        assert!(status.success(), "{program}: {status}: {said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.path("data").display().to_string();
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate", "-D", &data]);
    }
}

/// Runs a client with nothing of this process's environment; what it prints.
pub(crate) fn done(mut command: Command) -> String {
    let output = bare(&mut command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Takes this process's environment away; what was set before stays.
pub(crate) fn bare(command: &mut Command) -> &mut Command {
    let set: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/nonexistent")
        .envs(set)
}

/// Where the server's and the client's programs are, past the wrappers of distributions.
pub(crate) fn programs() -> PathBuf {
    support::place::postgres_programs().unwrap()
}

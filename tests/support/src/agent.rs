//! An agent: stock clients as an ordinary user inside a tagged cgroup, with a clean environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, geteuid};

use crate::process::{Finished, Process};
use crate::{DEADLINE, place};

/// Joins the cgroup named by `$0`, then becomes the command. The kernel takes `0` for the writer.
const JOIN: &str = r#"echo 0 > "$0/cgroup.procs" && exec "$@""#;

/// Where and how its processes run.
#[derive(Clone, Debug)]
pub struct Agent {
    cgroup: Option<PathBuf>,
    uid: u32,
    netns: Option<String>,
    environment: Vec<(String, String)>,
}

/// What a client is told to connect to, as libpq writes it.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Password, where the client has one.
    pub password: Option<String>,
    /// libpq's `sslmode`.
    pub sslmode: String,
    /// libpq's `sslrootcert`.
    pub root: Option<PathBuf>,
    /// TLS from the first byte: libpq's `sslnegotiation=direct`.
    pub direct: bool,
}

impl Agent {
    /// Processes in `cgroup`.
    #[must_use]
    pub fn inside(cgroup: &Path) -> Self {
        Self {
            cgroup: Some(cgroup.to_path_buf()),
            ..Self::outside()
        }
    }

    /// Processes of the same user where this process is: not in any scope.
    #[must_use]
    pub fn outside() -> Self {
        Self {
            cgroup: None,
            uid: place::agent_uid(),
            netns: None,
            environment: Vec::new(),
        }
    }

    /// The same as another user.
    #[must_use]
    pub fn as_uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// The same in a named network namespace.
    #[must_use]
    pub fn in_netns(mut self, name: &str) -> Self {
        self.netns = Some(name.to_owned());
        self
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with libpq's variables for `dsn`.
    #[must_use]
    pub fn told(self, dsn: &Dsn) -> Self {
        dsn.variables()
            .iter()
            .fold(self, |agent, (name, value)| agent.with(name, value))
    }

    /// The user that its processes run as.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// A command that becomes `program`, in the same process.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let gid = place::group_of(Uid::from_raw(self.uid));
        let mut line: Vec<String> = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            line.extend(["sh".into(), "-c".into(), JOIN.into()]);
            line.push(cgroup.to_string_lossy().into_owned());
        }
        if let Some(netns) = &self.netns {
            line.extend(["ip", "netns", "exec", netns].map(str::to_owned));
        }
        if geteuid().is_root() {
            line.push("setpriv".into());
            line.push(format!("--reuid={}", self.uid));
            line.push(format!("--regid={gid}"));
            line.extend(["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned));
        }
        line.push(program.to_owned());
        line.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let mut words = line.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("PGCONNECT_TIMEOUT", "30")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/");
        command
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        Process::run(self.command(program, arguments), DEADLINE)
    }

    /// Starts a program that stays, with its input open.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        Process::start(self.command(program, arguments))
    }

    /// Runs `psql` with each of `statements` as a `-c` of its own.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn psql(&self, dsn: &Dsn, statements: &[&str]) -> anyhow::Result<Finished> {
        let program = place::postgres_programs()?.join("psql");
        let conninfo = dsn.conninfo();
        let mut arguments = vec!["-X", "-A", "-t", "-w", "-d", &conninfo];
        for statement in statements {
            arguments.extend(["-c", statement]);
        }
        self.run(&program.to_string_lossy(), &arguments)
    }

    /// Starts `psql` that reads statements from its input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open_psql(&self, dsn: &Dsn) -> anyhow::Result<Process> {
        let program = place::postgres_programs()?.join("psql");
        let conninfo = dsn.conninfo();
        self.start(
            &program.to_string_lossy(),
            &["-X", "-A", "-t", "-w", "-n", "-d", &conninfo],
        )
    }

    /// Runs a Python program that has the drivers; `$DSN` in its environment is libpq's form,
    /// `$URL` the other.
    ///
    /// # Errors
    /// When the environment is missing, or it cannot be started or does not end.
    pub fn python(&self, dsn: &Dsn, program: &str) -> anyhow::Result<Finished> {
        let python = place::python()?;
        self.clone()
            .with("DSN", &dsn.conninfo())
            .with("URL", &dsn.url())
            .run(&python.to_string_lossy(), &["-c", program])
    }
}

impl Dsn {
    /// The ordinary address of a server, without a password.
    #[must_use]
    pub fn of(address: SocketAddr, user: &str, database: &str) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
            database: database.to_owned(),
            user: user.to_owned(),
            password: None,
            sslmode: "disable".to_owned(),
            root: None,
            direct: false,
        }
    }

    /// The same by host name: what `verify-full` verifies.
    #[must_use]
    pub fn by_name(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The same with another `sslmode` and the authority to trust.
    #[must_use]
    pub fn with_tls(mut self, mode: &str, root: Option<&Path>) -> Self {
        mode.clone_into(&mut self.sslmode);
        self.root = root.map(Path::to_path_buf);
        self
    }

    /// The same with TLS from the first byte.
    #[must_use]
    pub fn directly(mut self) -> Self {
        self.direct = true;
        self
    }

    /// The same with a password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The same for another database.
    #[must_use]
    pub fn for_database(mut self, database: &str) -> Self {
        database.clone_into(&mut self.database);
        self
    }

    /// `host=… port=…`.
    #[must_use]
    pub fn conninfo(&self) -> String {
        let mut text = format!(
            "host={} port={} dbname={} user={} sslmode={} gssencmode=disable",
            self.host, self.port, self.database, self.user, self.sslmode
        );
        if let Some(password) = &self.password {
            text += &format!(" password={password}");
        }
        if let Some(root) = &self.root {
            text += &format!(" sslrootcert={}", root.display());
        }
        if self.direct {
            text += " sslnegotiation=direct";
        }
        text
    }

    /// libpq's variables, for clients that are told nothing else.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGDATABASE", self.database.clone()),
            ("PGUSER", self.user.clone()),
            ("PGSSLMODE", self.sslmode.clone()),
        ];
        let root = self.root.as_ref();
        variables.extend(root.map(|root| ("PGSSLROOTCERT", root.display().to_string())));
        let password = self.password.as_ref();
        variables.extend(password.map(|password| ("PGPASSWORD", password.clone())));
        variables.extend(
            self.direct
                .then(|| ("PGSSLNEGOTIATION", "direct".to_owned())),
        );
        variables
    }

    /// `postgresql://…`, for asyncpg.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self
            .password
            .as_ref()
            .map(|password| format!(":{password}"))
            .unwrap_or_default();
        let mut text = format!(
            "postgresql://{}{password}@{}:{}/{}?sslmode={}",
            self.user, self.host, self.port, self.database, self.sslmode
        );
        if let Some(root) = &self.root {
            text += &format!("&sslrootcert={}", root.display());
        }
        text
    }
}

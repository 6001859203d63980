//! Stock drivers before the shop, each in every kind of TLS that it knows, through one list of steps.
//!
//! A client does what it can do and names each step that went right; one checker holds the names
//! against the list and the wire against the mode. Policy permits all but the salaries: a client must
//! not be able to tell the daemon from the server, until it is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use support::agent::Dsn;
use support::{Agent, DEADLINE, Finished, Postgres, Process, place, tls};
use tempfile::TempDir;

use crate::lab::{Lab, PRIVATE, has, refused};

const JDBC: &str = "/usr/share/java/postgresql.jar";

/// Every client takes these.
const COMMON: [&str; 7] = [
    "simple", "prepared", "rollback", "error", "aborted", "refused", "usable",
];

/// A client.
struct Client {
    /// What it can do beside what all do.
    steps: &'static [&'static str],
    /// Whether it knows `sslmode=prefer`.
    prefer: bool,
    /// Whether it can begin TLS with the first byte.
    direct: bool,
    /// Whether it tells the server (SNI) a name without a dot. Else it gets a certificate for the address.
    names: bool,
    /// Runs it with libpq's variables.
    run: fn(&Agent, &Kit) -> Result<Finished>,
}

/// A mode, by which name the server is called, and what must come of it.
struct Row {
    host: &'static str,
    mode: &'static str,
    direct: bool,
    encrypted: bool,
}

const fn row(host: &'static str, mode: &'static str, direct: bool, encrypted: bool) -> Row {
    Row {
        host,
        mode,
        direct,
        encrypted,
    }
}

const ROWS: [Row; 7] = [
    row("127.0.0.1", "disable", false, false),
    row("127.0.0.1", "prefer", false, true),
    row("127.0.0.1", "require", false, true),
    row("127.0.0.1", "verify-full", false, true),
    row("localhost", "verify-full", false, true),
    row("127.0.0.1", "require", true, true),
    row("localhost", "verify-full", true, true),
];

const PSQL: Client = Client {
    steps: &[
        "described",
        "types",
        "copy",
        "cursor",
        "refused in a transaction",
    ],
    prefer: true,
    direct: false,
    names: true,
    run: |agent, kit| {
        let psql = place::postgres_programs()?.join("psql");
        let script = kit.file("psql.sql", include_str!("matrix/psql.sql"))?;
        agent.run(
            &psql.to_string_lossy(),
            &["-X", "-q", "-A", "-t", "-w", "-f", &script],
        )
    },
};

const PSYCOPG2: Client = Client {
    steps: &[
        "parameter",
        "types",
        "large",
        "copy",
        "cursor",
        "batch",
        "cancel",
        "report",
    ],
    prefer: true,
    direct: true,
    names: true,
    run: |agent, _| python(agent, include_str!("matrix/psycopg2.py")),
};

const PSYCOPG3: Client = Client {
    steps: &[
        "parameter",
        "types in text",
        "types in binary",
        "large",
        "copy",
        "broken copy",
        "cursor",
        "row by row",
        "batch",
        "pipeline",
        "broken pipeline",
        "cancel",
        "refused in a transaction",
        "refused in a pipeline",
    ],
    prefer: true,
    direct: true,
    names: true,
    run: |agent, _| python(agent, include_str!("matrix/psycopg3.py")),
};

const ASYNCPG: Client = Client {
    steps: &[
        "parameter",
        "types",
        "types that are looked up",
        "large",
        "copy",
        "broken copy",
        "cursor",
        "batch",
        "cancel",
        "refused in a transaction",
    ],
    prefer: true,
    direct: true,
    names: true,
    run: |agent, _| python(agent, include_str!("matrix/asyncpg.py")),
};

const NODE: Client = Client {
    steps: &[
        "parameter",
        "types in text",
        "types in binary",
        "large",
        "queue",
        "cancel",
        "refused in a transaction",
    ],
    // Its `prefer` falls back to nothing.
    prefer: false,
    direct: true,
    names: true,
    run: |agent, kit| {
        let modules = kit.node_modules()?;
        let script = kit.file("node.js", include_str!("matrix/node.js"))?;
        agent
            .clone()
            .with("NODE_PATH", &modules)
            .run("node", &[&script])
    },
};

const JAVA: Client = Client {
    steps: &[
        "parameter",
        "types",
        "large",
        "copy",
        "broken copy",
        "cursor",
        "batch",
        "simple mode",
        "catalog",
        "cancel",
        "refused in a transaction",
    ],
    prefer: true,
    // Debian's version came before it.
    direct: false,
    // It sends no name without a dot, and the target is configured by its address.
    names: false,
    run: |agent, kit| agent.run("java", &["-cp", &kit.classes()?, "Jdbc"]),
};

const TOKIO_POSTGRES: Client = Client {
    steps: &[
        "parameter",
        "types",
        "large",
        "copy",
        "broken copy",
        "cursor",
        "pipeline",
        "cancel",
        "refused in a transaction",
    ],
    prefer: true,
    direct: true,
    names: true,
    run: |agent, kit| agent.run(&kit.program()?, &[]),
};

fn python(agent: &Agent, program: &str) -> Result<Finished> {
    agent.run(&place::python()?.to_string_lossy(), &["-c", program])
}

/// Where a client's files are put so that the agent can read them; made when first asked for.
struct Kit(TempDir);

impl Kit {
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.path().join(name);
        if !path.exists() {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(path.to_string_lossy().into_owned())
    }

    fn node_modules(&self) -> Result<String> {
        let path = self.0.path().join("node_modules");
        if !path.exists() {
            copy(&place::node_modules()?, &path)?;
        }
        Ok(path.to_string_lossy().into_owned())
    }

    /// The class path with the compiled client.
    fn classes(&self) -> Result<String> {
        let directory = self.0.path().to_string_lossy();
        if !self.0.path().join("Jdbc.class").exists() {
            let source = self.file("Jdbc.java", include_str!("matrix/Jdbc.java"))?;
            let mut javac = Command::new("javac");
            javac.args(["-cp", JDBC, "-d", &directory, &source]);
            Process::run(javac, DEADLINE)?.ok().context("javac")?;
        }
        Ok(format!("{JDBC}:{directory}"))
    }

    /// The client of tokio-postgres, which cargo puts beside this program's directory.
    fn program(&self) -> Result<String> {
        let path = self.0.path().join("tokio-postgres");
        if !path.exists() {
            let own = std::env::current_exe().context("find this program")?;
            let built = own
                .ancestors()
                .nth(2)
                .map(|target| target.join("examples/tokio-postgres"))
                .filter(|built| built.is_file())
                .context("not built: `cargo build --workspace --examples`")?;
            copy(&built, &path)?;
        }
        Ok(path.to_string_lossy().into_owned())
    }
}

/// A copy that every user may read.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["-rL", "--"]).arg(from).arg(to);
    Process::run(cp, DEADLINE)?.ok()?;
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX", "--"]).arg(to);
    Process::run(chmod, DEADLINE)?.ok().map(drop)
}

/// What cannot be read could be the salaries.
const READABLE: &str = r#"
@id("readable")
forbid (principal, action == Action::"Unreadable", resource);
"#;

/// A lab whose policy permits all but the salaries.
fn open_lab() -> Result<Lab> {
    lab_over(Postgres::start()?)
}

/// The same before a server of one's own choice.
fn lab_over(server: Postgres) -> Result<Lab> {
    let mut policies = place::pack("allow-all")?;
    policies.push(("private.cedar".to_owned(), PRIVATE.to_owned()));
    policies.push(("readable.cedar".to_owned(), READABLE.to_owned()));
    Lab::over(server, |settings| settings.policies = policies)
}

fn dsn(lab: &Lab, row: &Row) -> Dsn {
    let authority = lab.daemon.authority();
    let root = (row.mode == "verify-full").then_some(authority.as_path());
    let dsn = lab.dsn().by_name(row.host).with_tls(row.mode, root);
    if row.direct { dsn.directly() } else { dsn }
}

/// Runs the client in each mode that it knows, and with an authority that is not the daemon's.
fn check(client: &Client) -> Result<()> {
    let lab = open_lab()?;
    let kit = Kit(place::temporary("client")?);
    for row in &ROWS {
        let knows = (client.direct || !row.direct)
            && (client.prefer || row.mode != "prefer")
            && (client.names || row.host != "localhost");
        if !knows {
            continue;
        }
        let ran = (client.run)(&lab.agent().told(&dsn(&lab, row)), &kit)
            .and_then(|finished| held(client, row, finished));
        ran.with_context(|| {
            format!(
                "sslmode {} to {}, direct: {}",
                row.mode, row.host, row.direct
            )
        })?;
    }
    check_twice_encrypted(client, &kit)?;
    let other = place::temporary("ca")?;
    let stranger = tls::Authority::make(other.path())?;
    let dsn = lab.dsn().with_tls("verify-full", Some(&stranger.ca));
    let finished = (client.run)(&lab.agent().told(&dsn), &kit)?;
    ensure!(finished.stdout.trim().is_empty(), "{}", finished.stdout);
    let error = refused(finished)?;
    ensure!(
        ["certificate", "PKIX"]
            .iter()
            .any(|word| error.contains(word)),
        "it did not mind the authority: {error}"
    );
    Ok(())
}

/// Runs the client where both ways, to the daemon and from it to the server, are TLS.
fn check_twice_encrypted(client: &Client, kit: &Kit) -> Result<()> {
    let lab = lab_over(Postgres::start_with_tls()?)?;
    lab.server.demand("hostssl all all all scram-sha-256")?;
    let row = row("127.0.0.1", "verify-full", false, true);
    (client.run)(&lab.agent().told(&dsn(&lab, &row)), kit)
        .and_then(|finished| held(client, &row, finished))
        .context("TLS on both ways")
}

/// Holds what a client said against what it can do.
fn held(client: &Client, row: &Row, finished: Finished) -> Result<()> {
    let (stdout, stderr) = (&finished.stdout, &finished.stderr);
    let has_line = |wanted: &str| stdout.lines().any(|line| line == wanted);
    for step in COMMON.iter().chain(client.steps) {
        ensure!(
            has_line(step),
            "no step {step:?} in:\n{stdout}\nstderr: {stderr}"
        );
    }
    // The last is psql's own word.
    let encrypted = has_line("encrypted") || stdout.contains("SSL connection (protocol: ");
    ensure!(
        encrypted == row.encrypted,
        "encrypted: {encrypted}, in:\n{stdout}"
    );
    if !finished.status.success() {
        bail!("it ended with {}: {stderr}", finished.status);
    }
    Ok(())
}

#[test]
fn psql_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&PSQL)
}

#[test]
fn psycopg2_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&PSYCOPG2)
}

#[test]
fn psycopg3_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&PSYCOPG3)
}

#[test]
fn asyncpg_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&ASYNCPG)
}

#[test]
fn node_pg_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&NODE)
}

#[test]
fn jdbc_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&JAVA)
}

#[test]
fn tokio_postgres_does_what_it_can_in_every_sslmode() -> Result<()> {
    check(&TOKIO_POSTGRES)
}

#[test]
fn libpq_that_asks_for_the_newest_protocol_gets_the_servers() -> Result<()> {
    let lab = open_lab()?;
    let kit = Kit(place::temporary("client")?);
    let major = lab.server.major()?;
    for row in ROWS.iter().filter(|row| row.host == "127.0.0.1") {
        let agent = lab
            .agent()
            .told(&dsn(&lab, row))
            .with("PGMAXPROTOCOLVERSION", "latest");
        (PSYCOPG3.run)(&agent, &kit)
            .and_then(|finished| held(&PSYCOPG3, row, finished))
            .with_context(|| format!("sslmode {}, direct: {}", row.mode, row.direct))?;
        let newer = (PSYCOPG3.run)(&agent.with("PGMINPROTOCOLVERSION", "3.2"), &kit)?;
        if major < 18 {
            has(&refused(newer)?, &["3.0"])?;
        } else {
            held(&PSYCOPG3, row, newer)?;
        }
    }
    Ok(())
}

#[test]
fn interrupting_psql_cancels_its_statement_in_every_sslmode() -> Result<()> {
    let lab = open_lab()?;
    let asleep = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' \
        and state = 'active'";
    for row in ROWS.iter().filter(|row| !row.direct) {
        let mut psql = lab.agent().open_psql(&dsn(&lab, row))?;
        psql.send("select pg_sleep(600);\n")?;
        support::wait::for_fact("a statement that sleeps", DEADLINE, || {
            Ok((lab.server.admin(asleep)?.trim() == "1").then_some(()))
        })?;
        psql.signal(Signal::SIGINT);
        psql.close_input();
        let finished = psql.finish(DEADLINE)?;
        has(
            &finished.stderr,
            &["canceling statement due to user request"],
        )
        .with_context(|| format!("sslmode {} to {}", row.mode, row.host))?;
    }
    Ok(())
}

//! Servers that stand for each other, poolers, and credentials that do not live long.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::pam::Pam;
use support::pgbouncer::Pgbouncer;
use support::{DEADLINE, Postgres, place, port};

use crate::lab::{Lab, has, refused, text};

/// A lab whose target is dialled at an address where nobody listens; `postgres` and `more` are lines
/// of its target.
fn behind(server: Postgres, postgres: &[&str], more: &[String]) -> Result<(Lab, SocketAddr)> {
    let nowhere = port::free()?;
    let lab = Lab::over(server, |settings: &mut Settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
        for target in &mut settings.targets {
            target.addresses = vec![nowhere.to_string()];
            target
                .postgres
                .extend(postgres.iter().map(|&line| line.to_owned()));
            target.more.extend(more.iter().cloned());
        }
    })?;
    Ok((lab, nowhere))
}

fn hosts(of: &[SocketAddr], more: &str) -> String {
    let hosts: Vec<String> = of.iter().map(|at| format!("\"{at}\"")).collect();
    format!("dial: {{ hosts: [{}], {more} }}", hosts.join(", "))
}

/// What the audit says of a login that failed.
fn cause(lab: &Lab) -> Result<String> {
    let log = lab.daemon.audit();
    log.wait_for("connection.refused", DEADLINE, |_| true)?;
    let lines = log.events("connection.refused")?;
    Ok(text(lines.last().context("a line")?, "/cause")?.to_owned())
}

#[test]
fn the_server_of_the_kind_that_is_asked_for_is_found_among_several() -> Result<()> {
    let primary = Postgres::start()?;
    let standby = primary.standby()?;
    let (first, second) = (primary.address(), standby.address());
    let gone = port::free()?;
    let rows = [
        ("primary", second, "f"),
        ("read-write", second, "f"),
        ("standby", first, "t"),
        ("read-only", first, "t"),
        ("prefer-standby", first, "t"),
        ("any", second, "t"),
    ];
    let (mut lab, nowhere) = behind(primary, &[], &[])?;
    let mut dsn = lab.dsn();
    dsn.port = nowhere.port();
    for (attrs, listed_first, expected) in rows {
        let listed_last = if listed_first == first { second } else { first };
        lab.daemon.change(|settings| {
            for target in &mut settings.targets {
                target.postgres = vec![format!("session_attrs: {attrs}")];
                let listed = [gone, listed_first, listed_last];
                target.more = vec![hosts(&listed, "timeout: 30s")];
            }
        })?;
        lab.daemon.reload()?.ok()?;
        // Also one that waited.
        for _ in 0..3 {
            let agent = lab.agent().psql(&dsn, &["select pg_is_in_recovery()"])?;
            let answer = agent.ok().with_context(|| attrs)?;
            ensure!(answer.trim() == expected, "{attrs}: {answer}");
        }
        let opened = lab.daemon.audit().events("session.opened")?;
        let upstream = text(opened.last().context("a session")?, "/upstream")?;
        let wanted = if expected == "t" { second } else { first };
        ensure!(upstream == wanted.to_string(), "{attrs}: {upstream}");
    }
    drop(standby);
    Ok(())
}

#[test]
fn sessions_go_on_at_the_server_that_was_promoted() -> Result<()> {
    let primary = Postgres::start()?;
    let standby = primary.standby()?;
    let both = [primary.address(), standby.address()];
    let dial = hosts(&both, "timeout: 30s");
    let (mut lab, nowhere) = behind(primary, &["session_attrs: read-write"], &[dial])?;
    let mut dsn = lab.dsn();
    dsn.port = nowhere.port();
    let write = "update orders set amount = amount where id = 100";
    lab.agent().psql(&dsn, &[write])?.ok()?;
    lab.server.stop();
    let error = refused(lab.agent().psql(&dsn, &[write])?)?;
    has(&error, &["FATAL"])?;
    standby.admin("select pg_promote()")?;
    support::wait::for_fact("a server that takes writes", DEADLINE, || {
        Ok(lab.agent().psql(&dsn, &[write])?.ok().ok())
    })?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let upstream = text(opened.last().context("a session")?, "/upstream")?;
    ensure!(upstream == standby.address().to_string(), "{upstream}");
    Ok(())
}

/// A name of this host's own, in `/etc/hosts` for as long as it is held.
struct Name(String);

impl Name {
    const FILE: &str = "/etc/hosts";

    fn new() -> Result<Self> {
        Ok(Self(format!("ic-{}.example", support::suffix()?)))
    }

    /// Has it lead there, and nowhere else.
    fn leads(&self, to: &str) -> Result<()> {
        self.forget()?;
        let mut hosts = std::fs::OpenOptions::new().append(true).open(Self::FILE)?;
        Ok(hosts.write_all(format!("{to} {}\n", self.0).as_bytes())?)
    }

    fn forget(&self) -> Result<()> {
        let hosts = std::fs::read_to_string(Self::FILE)?;
        let others = hosts.split_inclusive('\n');
        let others: String = others.filter(|line| !line.contains(&self.0)).collect();
        Ok(std::fs::write(Self::FILE, others)?)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        drop(self.forget());
    }
}

#[test]
fn a_target_whose_name_has_moved_is_found_at_once() -> Result<()> {
    for dialled_by_name in [false, true] {
        let server = Postgres::start()?;
        let at = server.address();
        // Nobody listens there.
        let before = SocketAddr::from(([127, 9, 8, 7], at.port()));
        let name = Name::new()?;
        name.leads(&before.ip().to_string())?;
        let by_name = format!("\"{}:{}\"", name.0, at.port());
        let more = format!("dial: {{ hosts: [{by_name}], order: listed }}");
        let (mut lab, nowhere) = behind(server, &[], &[more])?;
        let mut dsn = lab.dsn();
        dsn.port = nowhere.port();
        if dialled_by_name {
            // The agent goes on to dial what it was told once.
            lab.daemon.change(|settings| {
                for target in &mut settings.targets {
                    target.addresses = vec![format!("{}:{}", name.0, at.port())];
                    target.more.clear();
                }
            })?;
            lab.daemon.reload()?.ok()?;
            dsn = Dsn::of(before, "anybody", lab.server.database());
        }
        name.leads(&at.ip().to_string())?;
        // The first that comes, though names are looked up once a minute.
        let said = lab.agent().psql(&dsn, &["select 'found'"])?.ok()?;
        has(&said, &["found"])?;
        let opened = lab.daemon.audit().events("session.opened")?;
        let upstream = text(opened.last().context("a session")?, "/upstream")?;
        ensure!(upstream == at.to_string(), "{upstream}");
    }
    Ok(())
}

/// Takes each of its arguments, a port of loopback, for its own, and says how that went.
const SIT: &str = r#"
import errno, socket, sys
for port in sys.argv[1:]:
    for address in "127.0.0.1", "0.0.0.0":
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((address, int(port)))
            print(port, address, "bound", flush=True)
        except OSError as error:
            print(port, address, errno.errorcode[error.errno], flush=True)
"#;

#[test]
fn agents_sit_nowhere_where_the_daemon_dials() -> Result<()> {
    let server = Postgres::start()?;
    let (beyond, collector) = (port::free()?, port::free()?);
    let lab = Lab::over(server, |settings| {
        for target in &mut settings.targets {
            target.more.push(hosts(&[beyond], "order: listed"));
        }
        settings.audit.push(format!(
            "outputs: {{ far: {{ to: {{ otlp: {{ url: 'http://{collector}/v1/logs', allow_http: true }} }} }} }}"
        ));
    })?;
    let free = port::free()?.port().to_string();
    let ports = [beyond, collector].map(|at| at.port().to_string());
    let words = ["-c", SIT, &ports[0], &ports[1], &free];
    let told = lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    let mut expected = String::new();
    for port in ports {
        expected += &format!("{port} 127.0.0.1 EPERM\n{port} 0.0.0.0 EPERM\n");
    }
    expected += &format!("{free} 127.0.0.1 bound\n{free} 0.0.0.0 bound\n");
    ensure!(told == expected, "{told}");
    Ok(())
}

#[test]
fn agents_cannot_dial_the_servers_behind_a_target_themselves() -> Result<()> {
    let server = Postgres::start()?;
    let at = server.address();
    let (lab, nowhere) = behind(server, &[], &[hosts(&[at], "order: random")])?;
    let mut dsn = lab.dsn();
    let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
    has(&error, &["connection to server"])?;
    dsn.port = nowhere.port();
    has(
        &lab.agent().psql(&dsn, &["select 'served'"])?.ok()?,
        &["served"],
    )?;
    // Nor may a rule of the configuration let them.
    let mut lab = lab;
    lab.daemon.change(|settings| {
        settings.more += &format!(
            "direct: [{{ network: {}, port: {} }}]\n",
            at.ip(),
            at.port()
        );
    })?;
    has(
        &refused(lab.daemon.reload()?)?,
        &["would lead around the daemon"],
    )
}

fn pooled(mode: &str, target: &[&str]) -> Result<(Lab, Pgbouncer)> {
    let server = Postgres::start()?;
    server.admin("alter role shop_app set search_path = public")?;
    let pooler = Pgbouncer::start(&server, mode)?;
    let lab = Lab::over(server, |settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
        for Target {
            addresses,
            postgres,
            ..
        } in &mut settings.targets
        {
            *addresses = vec![pooler.address().to_string()];
            postgres.extend(target.iter().map(|&line| line.to_owned()));
        }
    })?;
    Ok((lab, pooler))
}

fn dsn(lab: &Lab, pooler: &Pgbouncer) -> Dsn {
    let mut dsn = lab.dsn();
    dsn.port = pooler.address().port();
    dsn
}

#[test]
fn a_pooler_in_session_mode_serves_as_the_server_does() -> Result<()> {
    let (lab, pooler) = pooled("pool_mode = session", &["pooler: session"])?;
    let dsn = dsn(&lab, &pooler);
    let agent = lab
        .agent()
        .with("PGTZ", "Asia/Tokyo")
        .with("PGOPTIONS", "-c geqo=off -c intervalstyle=iso_8601");
    let sql = [
        "select name from customers where id = 1",
        "select current_user, current_setting('search_path'), current_setting('TimeZone'), \
         current_setting('geqo'), current_setting('IntervalStyle')",
        "begin; create temp table t (a int); insert into t values (1); commit; select sum(a) from t",
        "prepare p as select 'prepared'; execute p",
    ];
    for _ in 0..3 {
        let output = agent.psql(&dsn, &sql)?.ok()?;
        let expected = "shop_app|public|Asia/Tokyo|off|iso_8601";
        has(&output, &["Ada Lovelace", expected, "\n1\n", "prepared"])?;
    }
    let mut psql = agent.open_psql(&dsn)?;
    psql.send("select pg_sleep(600);\n")?;
    let running = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
    support::wait::for_fact("the sleep", DEADLINE, || {
        Ok((lab.server.admin(running)?.trim() == "1").then_some(()))
    })?;
    psql.signal(nix::sys::signal::Signal::SIGINT);
    psql.await_text("canceling statement due to user request", DEADLINE)
}

const NEWEST: &str = "
import psycopg, sys
with psycopg.connect(sys.argv[1] + ' max_protocol_version=latest') as connection:
    print('served', connection.execute('select 1').fetchone()[0])
";

#[test]
fn a_client_of_the_newest_protocol_is_served_behind_a_pooler_of_the_oldest() -> Result<()> {
    let (lab, pooler) = pooled("pool_mode = session", &["pooler: session"])?;
    let (python, dsn) = (place::python()?, dsn(&lab, &pooler).conninfo());
    let python = python.to_string_lossy();
    let output = lab.agent().run(&python, &["-c", NEWEST, &dsn])?.ok()?;
    has(&output, &["served 1"])
}

#[test]
fn a_pooler_that_nobody_told_of_is_not_logged_in_to() -> Result<()> {
    let ignoring = "ignore_startup_parameters = options";
    for (mode, words) in [
        (String::new(), "unsupported startup parameter"),
        (ignoring.to_owned(), "a pooler answers for the server"),
        (
            format!("pool_mode = transaction\n{ignoring}"),
            "a pooler answers for the server",
        ),
    ] {
        let (lab, pooler) = pooled(&mode, &[])?;
        let error = refused(lab.agent().psql(&dsn(&lab, &pooler), &["select 1"])?)?;
        has(&error, &["the connection to this target failed"])?;
        has(&cause(&lab)?, &[words])?;
    }
    Ok(())
}

#[test]
fn a_pooled_session_that_another_left_its_things_in_is_not_used() -> Result<()> {
    let mode = "pool_mode = session\ndefault_pool_size = 1\nserver_reset_query =";
    let target = ["pooler: session", "warm: { connections: 0 }"];
    for left in [
        "prepare p as select 1",
        "set search_path = pg_catalog",
        "set row_security = off",
        "create temp table orders (id int)",
        "listen x",
    ] {
        let (lab, pooler) = pooled(mode, &target)?;
        let dsn = dsn(&lab, &pooler);
        has(
            &lab.agent().psql(&dsn, &["select 'clean'"])?.ok()?,
            &["clean"],
        )?;
        let mut own = dsn.clone().with_password(lab.server.password());
        lab.server.user().clone_into(&mut own.user);
        support::Agent::outside().psql(&own, &[left])?.ok()?;
        let error = refused(lab.agent().psql(&dsn, &["select 1"])?)?;
        has(&error, &["the connection to this target failed"])?;
        has(&cause(&lab)?, &["not as it was at first"]).context(left)?;
    }
    let (lab, pooler) = pooled("pool_mode = session", &["pooler: session"])?;
    lab.server.admin("alter role shop_app reset search_path")?;
    refused(lab.agent().psql(&dsn(&lab, &pooler), &["select 1"])?)?;
    has(&cause(&lab)?, &["ALTER ROLE … SET search_path = public"])
}

#[test]
fn a_token_of_a_command_is_used_as_password_and_asked_for_anew_when_it_is_refused() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    server.demand("hostssl all all all password")?;
    let token = place::temporary("token")?;
    is_asked_for_anew(&server, token.path(), "password authentication failed")
}

/// As servers in clouds have tokens checked, which then say of a wrong one what they say of a wrong host.
#[test]
fn a_token_that_the_servers_pam_refuses_is_asked_for_anew() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    let token = place::temporary("token")?;
    let pam = Pam::of(&token.path().join("token"))?;
    server.demand(&format!(
        "hostssl all all all pam pamservice={}",
        pam.name()
    ))?;
    is_asked_for_anew(&server, token.path(), "PAM authentication failed")
}

/// The token is a file of `directory`; `refused` is what the server logs of one that it does not take.
fn is_asked_for_anew(server: &Postgres, directory: &Path, refused: &str) -> Result<()> {
    let (file, runs) = (directory.join("token"), directory.join("runs"));
    let give = |token: &str| -> Result<()> {
        server.admin(&format!("alter role shop_app password '{token}'"))?;
        Ok(std::fs::write(&file, token)?)
    };
    give("first-token")?;
    let script = format!("echo x >> {}; cat {}", runs.display(), file.display());
    let exec = format!("password: {{ exec: {{ command: [/bin/sh, -c, \"{script}\"], ttl: 1h }} }}");
    let settings = |settings: &mut Settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
        for target in &mut settings.targets {
            target.postgres = vec![exec.clone(), "warm: { connections: 0 }".to_owned()];
        }
    };
    let runs = || -> Result<usize> { Ok(std::fs::read_to_string(&runs)?.lines().count()) };
    let mut begun = crate::lab::settings(server)?;
    settings(&mut begun);
    let daemon = support::Daemon::start(begun)?;
    let dsn = Dsn::of(server.address(), "anybody", server.database());
    let ask = |sql: &str| daemon.agent().psql(&dsn, &[sql]);
    for _ in 0..3 {
        has(&ask("select current_user")?.ok()?, &["shop_app"])?;
    }
    ensure!(runs()? == 1, "the command ran {} times", runs()?);
    let mut psql = daemon.agent().open_psql(&dsn)?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;

    give("second-token")?;
    // An answer that is new is not doubted, so that a wrong one is not asked for at every login.
    support::wait::for_fact("a login with the second token", DEADLINE, || {
        let served = ask("select 'served'")?.ok().ok();
        // The login that has it asked for anew is the one that uses it.
        ensure!(served.is_some() || runs()? == 1, "a new token was not used");
        Ok(served)
    })?;
    ensure!(runs()? == 2, "the command ran {} times", runs()?);
    psql.send("select 'still ' || 'open';\n")?;
    psql.await_text("still open", DEADLINE)?;
    has(&server.log(), &[refused])
}

//! What is no statement of SQL, and an action of its own: replication, function calls, notifications.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{Agent, DEADLINE, Finished, Postgres, place};

use crate::lab::{Lab, has, lacks, refused, text};

/// The policy for an agent that may decode the log of one database and no more.
const LOGICAL: &str = r#"
@id("open")
permit (principal, action in [Action::"Connect", Action::"Open", Action::"Select"], resource);

// What PostgreSQL's own programs begin with.
@id("path")
permit (principal, action == Action::"Call", resource == Function::"shop/shop/pg_catalog.set_config")
when { context.settings == ["search_path"] };

@id("decode")
permit (principal, action == Action::"Replicate", resource in Database::"shop/shop")
when {
  ["startup", "show", "identify_system", "create_replication_slot", "start_replication"]
    .contains(context.command)
};
"#;

/// A daemon with `pack` before a server whose log can be decoded, and a role that may replicate.
fn lab(pack: Vec<(String, String)>) -> Result<Lab> {
    // The log is sent as far as it is flushed.
    let server = Postgres::start_with(&["wal_level=logical", "synchronous_commit=on"])?;
    server.admin("alter role shop_app replication")?;
    Lab::over(server, |settings| {
        settings.policies = pack;
        for target in &mut settings.targets {
            // What a client names that replicates a whole server.
            target.databases.push("replication".to_owned());
        }
    })
}

/// One of PostgreSQL's own programs, as the agent.
fn program(lab: &Lab, name: &str, words: &[&str]) -> Result<Finished> {
    let program = place::postgres_programs()?.join(name);
    lab.agent().run(&program.to_string_lossy(), words)
}

/// A directory that the agent may write to.
fn open_directory() -> Result<tempfile::TempDir> {
    let directory = place::temporary("copy")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))
        .context("open a directory")?;
    Ok(directory)
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

#[test]
fn a_backup_of_the_whole_server_is_taken_with_its_log_streamed_beside_it() -> Result<()> {
    let lab = lab(place::pack("allow-all")?)?;
    let directory = open_directory()?;
    let backup = path(directory.path(), "backup");
    let conninfo = lab.dsn().for_database("replication").conninfo();
    let words = [
        "-D", &backup, "-X", "stream", "-c", "fast", "-w", "-d", &conninfo,
    ];
    program(&lab, "pg_basebackup", &words)?.ok()?;
    program(&lab, "pg_verifybackup", &[&backup])?.ok()?;
    let audit = lab.daemon.audit();
    let line = audit.wait_for("request.permitted", DEADLINE, |line| {
        line["summary"] == "BASE_BACKUP"
    })?;
    ensure!(
        text(&line, "/asks/0/context/command")? == "base_backup",
        "command: {line}"
    );
    lacks(text(&line, "/statement")?, &["pg_basebackup"])?;
    let request = text(&line, "/request")?;
    audit.wait_for("request.finished", DEADLINE, |line| {
        line["request"] == request && line["status"] == "ok"
    })?;
    Ok(())
}

#[test]
fn the_log_is_received_byte_for_byte() -> Result<()> {
    let lab = lab(place::pack("allow-all")?)?;
    let directory = open_directory()?;
    let conninfo = lab.dsn().for_database("replication").conninfo();
    let to = directory.path().to_string_lossy();
    let create = ["-S", "wal", "--create-slot", "-w", "-d", &conninfo];
    program(&lab, "pg_receivewal", &create)?.ok()?;
    lab.server
        .admin("select pg_create_physical_replication_slot('from_here', true)")?;
    let segment = lab
        .server
        .admin("select pg_walfile_name(pg_current_wal_insert_lsn())")?;
    lab.server
        .admin("update customers set name = 'in the log'")?;
    lab.server.admin("select pg_switch_wal()")?;
    // The program gives a segment its name when it sees the next one, and ends behind its end.
    lab.server
        .admin("update customers set name = 'in the next'")?;
    let end = lab.server.admin("select pg_current_wal_insert_lsn()")?;
    lab.server
        .admin("update customers set name = 'behind it'")?;
    let receive = [
        "-D",
        &to,
        "-S",
        "from_here",
        "-w",
        "-n",
        "--endpos",
        end.trim(),
        "-d",
        &conninfo,
    ];
    program(&lab, "pg_receivewal", &receive)?.ok()?;
    let received = fs::read(directory.path().join(segment.trim())).context("read what came")?;
    let written = lab.server.data().join("pg_wal").join(segment.trim());
    ensure!(
        received == fs::read(written).context("read the server's own")?,
        "the segment is another one"
    );
    let drop = ["-S", "wal", "--drop-slot", "-w", "-d", &conninfo];
    program(&lab, "pg_receivewal", &drop)?.ok().map(|_| ())
}

#[test]
fn a_standby_follows_its_primary_by_way_of_the_daemon_and_goes_on_without_it() -> Result<()> {
    let lab = lab(place::pack("allow-all")?)?;
    let directory = open_directory()?;
    let (data, sockets) = (path(directory.path(), "data"), path(directory.path(), ""));
    let conninfo = lab.dsn().for_database("replication").conninfo();
    let words = [
        "-D", &data, "-R", "-X", "stream", "-c", "fast", "-w", "-d", &conninfo,
    ];
    program(&lab, "pg_basebackup", &words)?.ok()?;
    let postgres = place::postgres_programs()?.join("postgres");
    let directory = format!("unix_socket_directories={sockets}");
    let words = [
        "-D",
        &data,
        "-c",
        &directory,
        "-c",
        "listen_addresses=",
        "-c",
        "max_connections=1200",
    ];
    let mut standby = lab.agent().start(&postgres.to_string_lossy(), &words)?;
    standby.await_text("ready to accept read-only connections", DEADLINE)?;
    let psql = place::postgres_programs()?.join("psql");
    let ask = |sql: &str| {
        let words = [
            "-X", "-A", "-t", "-h", &sockets, "-U", "postgres", "-d", "shop", "-c", sql,
        ];
        Agent::outside().run(&psql.to_string_lossy(), &words)
    };
    let name = "select name from customers where id = 1";
    for written in ["first", "second"] {
        lab.server.admin(&format!(
            "update customers set name = '{written}' where id = 1"
        ))?;
        support::wait::for_fact("what the primary wrote", DEADLINE, || {
            Ok((ask(name)?.ok()?.trim() == written).then_some(()))
        })?;
    }
    // The primary hears of it, too: the standby has taken all that there is.
    let taken = "select count(*) from pg_stat_replication where replay_lsn = pg_current_wal_lsn()";
    support::wait::for_fact("the standby's feedback", DEADLINE, || {
        Ok((lab.server.admin(taken)?.trim() == "1").then_some(()))
    })?;
    let audit = lab.daemon.audit();
    let line = audit.wait_for("request.permitted", DEADLINE, |line| {
        line["asks"][0]["context"]["command"] == "start_replication"
    })?;
    has(&ask("select pg_promote()")?.ok()?, &["t"])?;
    ask("update customers set name = 'its own' where id = 1")?.ok()?;
    has(&ask(name)?.ok()?, &["its own"])?;
    has(&lab.server.admin(name)?, &["second"])?;
    let session = text(&line, "/session")?;
    audit.wait_for("session.closed", DEADLINE, |line| {
        line["session"] == session
    })?;
    standby.signal(Signal::SIGQUIT);
    standby.finish(DEADLINE).map(drop)
}

#[test]
fn changes_are_decoded_and_a_rule_on_commands_keeps_the_rest_closed() -> Result<()> {
    let lab = lab(vec![("logical.cedar".to_owned(), LOGICAL.to_owned())])?;
    let conninfo = lab.dsn().conninfo();
    let slot = ["-S", "decoded", "-w", "-d", &conninfo];
    let with = |more: &[&'static str]| [&slot[..], more].concat();
    let create = with(&["--create-slot", "-P", "test_decoding"]);
    program(&lab, "pg_recvlogical", &create)?.ok()?;
    lab.server
        .admin("update customers set name = 'decoded' where id = 1")?;
    let end = lab.server.admin("select pg_current_wal_insert_lsn()")?;
    let end = format!("--endpos={}", end.trim());
    let mut start = with(&["--start", "-n", "-f", "-"]);
    start.push(&end);
    let output = program(&lab, "pg_recvlogical", &start)?.ok()?;
    has(&output, &["table public.customers: UPDATE", "'decoded'"])?;

    // On the same kind of connection: SQL by its own rules, commands by theirs.
    let mut dsn = lab.dsn().conninfo();
    dsn.push_str(" replication=database");
    let words = |statement: &'static str| ["-X", "-A", "-t", "-w", "-d", &dsn, "-c", statement];
    has(
        &program(
            &lab,
            "psql",
            &words("select count(*) || ' customers' from customers"),
        )?
        .ok()?,
        &["3 customers"],
    )?;
    has(
        &program(&lab, "psql", &words("IDENTIFY_SYSTEM"))?.ok()?,
        &["shop"],
    )?;
    let error = refused(program(&lab, "psql", &words("delete from customers"))?)?;
    has(&error, &["DELETE on public.customers is not permitted"])?;
    for command in ["BASE_BACKUP", "ALTER_REPLICATION_SLOT decoded (FAILOVER)"] {
        let error = refused(program(&lab, "psql", &words(command))?)?;
        let word = command.split(' ').next().unwrap_or_default().to_lowercase();
        has(&error, &[&format!("replication ({word}) is not permitted")])?;
    }
    let error = refused(program(&lab, "pg_recvlogical", &with(&["--drop-slot"]))?)?;
    has(
        &error,
        &["replication (drop_replication_slot) is not permitted"],
    )?;
    let physical = lab.dsn().for_database("replication").conninfo();
    let directory = open_directory()?;
    let to = directory.path().to_string_lossy();
    let words = ["-D", &to, "-w", "-n", "-d", &physical];
    let error = refused(program(&lab, "pg_receivewal", &words)?)?;
    has(&error, &["replication (startup) is not permitted"])
}

#[test]
fn without_a_permit_there_is_no_replication_and_nothing_is_dialled() -> Result<()> {
    let lab = lab(place::pack("read-write")?)?;
    for dsn in [lab.dsn(), lab.dsn().for_database("replication")] {
        let kind = if dsn.database == "replication" {
            "true"
        } else {
            "database"
        };
        let conninfo = format!("{} replication={kind}", dsn.conninfo());
        let words = ["-X", "-w", "-d", &conninfo, "-c", "IDENTIFY_SYSTEM"];
        let error = refused(program(&lab, "psql", &words)?)?;
        has(
            &error,
            &["FATAL", "replication (startup)", "never-statements"],
        )?;
    }
    ensure!(
        lab.daemon.audit().events("session.opened")?.is_empty(),
        "a session was opened"
    );
    Ok(())
}

#[test]
fn the_function_call_message_is_an_action_of_its_own() -> Result<()> {
    // libpq's large objects are called by the functions' numbers.
    let import = "\\lo_import /etc/hostname 'name'";
    let write = place::pack("read-write")?;
    for (pack, permitted) in [(place::pack("allow-all")?, true), (write, false)] {
        let lab = Lab::with(|settings| settings.policies = pack)?;
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send(&format!(
            "begin;\n{import}\nselect 'the ' || 'end';\ncommit;\n"
        ))?;
        psql.close_input();
        let finished = psql.finish(DEADLINE)?;
        let objects = lab
            .server
            .admin("select count(*) from pg_largeobject_metadata")?;
        if permitted {
            has(&finished.stdout, &["lo_import", "the end"])?;
            ensure!(objects.trim() == "1", "objects: {objects}");
            continue;
        }
        has(&finished.stderr, &["is not permitted", "never-statements"])?;
        lacks(&finished.stdout, &["the end"])?;
        ensure!(objects.trim() == "0", "objects: {objects}");
        let line = lab
            .daemon
            .audit()
            .wait_for("request.refused", DEADLINE, |line| {
                line["summary"] == "function call"
            })?;
        ensure!(
            text(&line, "/asks/0/accesses/0/action")? == "FastPath",
            "action: {line}"
        );
    }
    Ok(())
}

#[test]
fn notifications_reach_who_listens_where_both_are_permitted() -> Result<()> {
    let lab = Lab::with(|settings| {
        settings.policies = place::pack("allow-all").unwrap_or_default();
    })?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("listen news;\nselect 'lis' || 'tening';\n")?;
    psql.await_text("listening", DEADLINE)?;
    lab.psql(&["notify news, 'first'", "select pg_notify('news', 'second')"])?
        .ok()?;
    // psql shows what has come behind each of its statements.
    support::wait::for_fact("both notifications", DEADLINE, || {
        psql.send("select 1;\n")?;
        let log = psql.log();
        Ok((log.contains("payload \"first\"") && log.contains("payload \"second\"")).then_some(()))
    })?;
    psql.send("unlisten *;\nselect 'go' || 'ne';\n")?;
    psql.await_text("gone", DEADLINE)?;

    let lab = Lab::new()?;
    for statement in [
        "listen news",
        "notify news",
        "select pg_notify('news', 'x')",
    ] {
        let error = refused(lab.psql(&[statement])?)?;
        has(&error, &["is not permitted"])?;
        let lines = lab.daemon.audit().events("request.refused")?;
        let asks = lines.last().map(|line| line["asks"].to_string());
        has(&asks.unwrap_or_default(), &["Notify"])?;
    }
    Ok(())
}

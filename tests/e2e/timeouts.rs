//! What takes too long, or is not permitted any more while it is answered: the server stops, the client is told.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{DEADLINE, Postgres, place};

use crate::lab::{Lab, has, lacks, text};

/// A lab that permits everything, with `timeouts`.
fn lab(timeouts: &str) -> Result<Lab> {
    let pack = place::pack("allow-all")?;
    Lab::with(|settings| {
        settings.policies = pack;
        for target in &mut settings.targets {
            target.more.push(format!("timeouts: {{ {timeouts} }}"));
        }
    })
}

/// Waits until no session of the agents' role is `state` on the server.
fn await_none(server: &Postgres, state: &str) -> Result<()> {
    let count = format!(
        "select count(*) from pg_stat_activity where usename = 'shop_app' and state = '{state}'"
    );
    support::wait::for_fact(&format!("no session that is {state}"), DEADLINE, || {
        Ok((server.admin(&count)?.trim() == "0").then_some(()))
    })
}

#[test]
fn a_statement_that_runs_too_long_is_cancelled_on_the_server_and_the_session_goes_on() -> Result<()>
{
    let lab = lab("statement: 1s")?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("begin;\nselect pg_sleep(3600);\nrollback;\nselect 'al' || 'ive';\n")?;
    psql.await_text("alive", DEADLINE)?;
    // In the server's own words.
    has(&psql.log(), &["canceling statement due to user request"])?;
    await_none(&lab.server, "active")?;
    let audit = lab.daemon.audit();
    let cancel = audit.wait_for("request.cancelled", DEADLINE, |_| true)?;
    ensure!(cancel.get("error").is_none(), "not passed on: {cancel}");
    let opened = audit.wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(
        text(&cancel, "/session")? == text(&opened, "/session")?,
        "of another session: {cancel}"
    );
    audit.wait_for("request.finished", DEADLINE, |line| {
        line["status"] == "57014"
    })?;
    psql.close_input();
    ensure!(psql.finish(DEADLINE)?.status.success(), "psql failed");
    Ok(())
}

/// Says a part of a login and waits: for the answers, and then for the end of the connection.
const STALLS: &str = r#"
import socket, struct, sys
said = bytes.fromhex(sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as stalled:
    stalled.sendall(said)
    try:
        while stalled.recv(4096):
            pass
    except ConnectionResetError:
        pass
print("ended")
"#;

#[test]
fn a_login_that_stalls_anywhere_is_ended() -> Result<()> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.more.push("timeouts: { startup: 1s }".to_owned());
            target.postgres.push("client_auth: scram".to_owned());
        }
    })?;
    let port = lab.server.address().port().to_string();
    let startup = "user\0shop_app\0database\0shop\0\0";
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let length = u32::try_from(startup.len())? + 8;
    let whole = [&length.to_be_bytes(), &[0, 3, 0, 0], startup.as_bytes()].concat();
    let ask_tls = [0, 0, 0, 8, 4, 210, 22, 47];
    let mechanism = b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx";
    let message = [
        b"p",
        &(u32::try_from(mechanism.len())? + 4).to_be_bytes()[..],
        mechanism,
    ]
    .concat();
    for said in [
        Vec::new(),
        whole.get(..9).context("a part")?.to_vec(),
        ask_tls.to_vec(),
        [&ask_tls[..], &[22, 3, 1, 0]].concat(),
        whole.clone(),
        [whole.clone(), message].concat(),
    ] {
        let words = ["-c", STALLS, &port, &hex(&said)];
        let ended = lab.agent().run("python3", &words)?.ok()?;
        ensure!(ended.trim() == "ended", "{ended}");
    }
    lab.psql(&["select 1"])?;
    Ok(())
}

#[test]
fn a_server_that_does_not_stop_when_it_is_told_to_loses_the_session() -> Result<()> {
    let lab = lab("statement: 1s")?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'pid=' || pg_backend_pid() || ';';\n")?;
    psql.await_text(";", DEADLINE)?;
    let log = psql.log();
    let pid = log.split(['=', ';']).nth(1).context("psql says a pid")?;
    let pid = Pid::from_raw(pid.parse().context("read a pid")?);
    // A process that is stopped heeds nobody.
    kill(pid, Signal::SIGSTOP)?;
    psql.send("select 'never';\n")?;
    psql.await_text("ran for too long", DEADLINE)?;
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true);
    kill(pid, Signal::SIGCONT)?;
    let closed = closed?;
    ensure!(text(&closed, "/reason")? == "statement", "reason: {closed}");
    lacks(&psql.log(), &["never\n"])
}

#[test]
fn a_transaction_that_waits_too_long_is_ended_and_rolled_back() -> Result<()> {
    let lab = lab("idle_in_transaction: 1s")?;
    let mut patient = lab.agent().open_psql(&lab.dsn())?;
    patient.send("select 'pat' || 'ient';\n")?;
    patient.await_text("patient", DEADLINE)?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("begin;\ndelete from orders;\nselect 'del' || 'eted';\n")?;
    psql.await_text("deleted", DEADLINE)?;
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(
        text(&closed, "/reason")? == "idle_in_transaction",
        "reason: {closed}"
    );
    psql.send("commit;\n")?;
    psql.await_text("the transaction was idle for too long", DEADLINE)?;
    await_none(&lab.server, "idle in transaction")?;
    let left = lab.server.admin("select count(*) from orders")?;
    ensure!(left.trim() != "0", "the transaction was committed");
    patient.send("select 'st' || 'ill';\n")?;
    patient.await_text("still", DEADLINE)
}

#[test]
fn quiet_is_counted_from_the_answer_and_not_from_the_question() -> Result<()> {
    let lab = lab("idle: 2s")?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select pg_sleep(3);\n")?;
    let audit = lab.daemon.audit();
    let closed = audit.wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(text(&closed, "/reason")? == "idle", "reason: {closed}");
    let finished = audit.wait_for("request.finished", DEADLINE, |_| true)?;
    let at = |line: &serde_json::Value| line["boot_ns"].as_u64().context("a line has its time");
    let quiet = at(&closed)?.saturating_sub(at(&finished)?);
    ensure!(quiet >= 2_000_000_000, "ended after {quiet} ns of quiet");
    Ok(())
}

/// Is answered, says nothing more, and says what comes then.
const QUIET: &str = r#"
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
f = s.makefile("rb")
def message():
    head = f.read(5)
    return head[:1], f.read(struct.unpack("!i", head[1:])[0] - 4) if len(head) == 5 else head
def answer():
    while message()[0] != b"Z":
        pass
answer()
s.sendall(b"Q\0\0\0\x0dselect 1\0")
answer()
tag, body = message()
fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
print("told", tag, fields[b"S"], fields[b"C"], "then", message())
"#;

#[test]
fn a_client_that_is_quiet_for_too_long_is_told_so_last() -> Result<()> {
    let lab = lab("idle: 1s")?;
    let at = lab.server.address();
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let said = lab
        .agent()
        .run("/usr/bin/python3", &["-c", QUIET, &ip, &port])?;
    let expected = "told b'E' b'FATAL' b'57P05' then (b'', b'')";
    has(&said.ok()?, &[expected])
}

/// Reads an endless result message by message, and says what the last one was.
const ENDLESS: &str = r#"
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
f = s.makefile("rb")
def message():
    head = f.read(5)
    if len(head) < 5:
        return (b"", head)
    length = struct.unpack("!i", head[1:])[0] - 4
    body = f.read(length)
    return (head[:1], body) if len(body) == length else (b"", b"half a message")
while message()[0] != b"Z":
    pass
query = sys.argv[3].encode() + b"\0"
s.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
tags, last = set(), (b"", b"")
while True:
    got = message()
    if not got[0]:
        break
    last = got
    tags.add(got[0])
print("tags", sorted(tags), "last", last[0], last[1][:200], "then", got)
"#;

/// An agent reads what `query` never ends to answer, and meanwhile policy gets one more file: both sides end.
fn withdrawn(lab: &mut Lab, query: &str, (name, rule): (&str, &str)) -> Result<String> {
    let address = lab.server.address();
    let words = [
        "-c",
        ENDLESS,
        &address.ip().to_string(),
        &address.port().to_string(),
        query,
    ];
    let mut reader = lab.agent().start("/usr/bin/python3", &words)?;
    let active =
        "select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'active'";
    support::wait::for_fact("a result on its way", DEADLINE, || {
        Ok((lab.server.admin(active)?.trim() == "1").then_some(()))
    })?;
    lab.daemon
        .change(|settings| settings.policies.push((name.to_owned(), rule.to_owned())))?;
    lab.daemon.reload()?.ok()?;
    let finished = reader.finish(DEADLINE)?;
    await_none(&lab.server, "active")?;
    let closed = lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |_| true)?;
    ensure!(text(&closed, "/reason")? == "policy", "reason: {closed}");
    Ok(finished.stdout)
}

/// What the agent is told of it.
const WITHDRAWN: [&str; 4] = [
    "last b'E'",
    "57P01",
    "policy does not permit this session any more",
    "then (b'', b'')",
];

#[test]
fn a_permission_that_is_withdrawn_in_the_middle_of_a_result_ends_it_on_both_sides() -> Result<()> {
    let mut lab = Lab::new()?;
    let query = "copy (select o.*, g from orders o, generate_series(1, 1000000000) g) to stdout";
    let rule = "@id(\"no-orders\") forbid (principal, action, resource in Table::\"shop/shop/public.orders\");";
    has(
        &withdrawn(&mut lab, query, ("orders.cedar", rule))?,
        &WITHDRAWN,
    )
}

#[test]
fn a_reveal_that_is_withdrawn_in_the_middle_of_a_result_ends_it_on_both_sides() -> Result<()> {
    let reveal =
        "@id(\"reveal\") permit (principal is Agent, action == Action::\"Reveal\", resource);";
    let mut lab = Lab::with(|settings| {
        settings
            .policies
            .push(("reveal.cedar".to_owned(), reveal.to_owned()));
        for target in &mut settings.targets {
            let sensitive = "sensitive: { public.customers.ssn: last4 }";
            target.more.push(sensitive.to_owned());
        }
    })?;
    let query = "select c.ssn, generate_series(1, 1000000000000) from customers c";
    has(
        &withdrawn(&mut lab, query, ("reveal.cedar", ""))?,
        &WITHDRAWN,
    )
}

//! Ends that nobody asked for: a server that dies in its answer, a client whose bytes are no messages.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Finished};

use crate::lab::{Lab, has, lacks, text};
use crate::upstreams::{self, Liar, message, ready, result};

/// Logs in, sends the bytes that its third argument has in hex, and prints in hex what comes back up to the
/// end. `;` in it stands for the next `ReadyForQuery`.
const RAW: &str = r#"
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
got = b""
def until_ready():
    global got
    while b"Z\0\0\0\x05" not in got:
        more = s.recv(65536)
        if not more:
            raise SystemExit("no session: %r" % got)
        got += more
until_ready()
parts = sys.argv[3].split(";")
for number, part in enumerate(parts):
    got = b""
    s.sendall(bytes.fromhex(part))
    if number + 1 < len(parts):
        until_ready()
try:
    while True:
        more = s.recv(65536)
        if not more:
            break
        got += more
except ConnectionResetError:
    pass
print(got.hex())
"#;

fn raw(lab: &Lab, at: SocketAddr, sends: &str) -> Result<Vec<u8>> {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let finished: Finished = lab
        .agent()
        .run("/usr/bin/python3", &["-c", RAW, &ip, &port, sends])?;
    let output = finished.ok()?;
    let hex = output.trim();
    (0..hex.len() / 2)
        .map(|at| {
            let pair = hex.get(2 * at..2 * at + 2).context("a pair of digits")?;
            u8::from_str_radix(pair, 16).context("a byte in hex")
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn query(text: &str) -> String {
    hex(&message(b'Q', format!("{text}\0").as_bytes()))
}

/// Ids of the sessions that were closed so far, with why.
fn closed(lab: &Lab) -> Result<Vec<(String, String)>> {
    let lines = lab.daemon.audit().events("session.closed")?;
    let both = |line| {
        Ok((
            text(line, "/session")?.to_owned(),
            text(line, "/reason")?.to_owned(),
        ))
    };
    lines.iter().map(both).collect()
}

#[test]
fn a_server_that_dies_in_its_answer_is_heard_so_far_and_recorded_to_the_end() -> Result<()> {
    let liar = Liar::start()?;
    let (lab, _) = upstreams::lab(&liar)?;
    let row = result(b"half of this is heard");
    let whole = [row.clone(), ready()].concat();
    let fields = b"SERROR\0VERROR\0C22012\0Mnearly an error\0\0";
    liar.will_die();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("before a word", Vec::new()),
        ("in a header", row[..3].to_vec()),
        ("in a description", row[..20].to_vec()),
        ("in a row", row[..row.len() - 20].to_vec()),
        ("between two messages", row.clone()),
        ("in an error", message(b'E', fields)[..20].to_vec()),
        ("in the last message", whole[..whole.len() - 1].to_vec()),
    ];
    for (number, (when, says)) in rows.iter().enumerate() {
        liar.will_say(says);
        let heard = raw(&lab, liar.address, &query("select 1"))?;
        // What it has begun to say and what can be told from it goes on; then there is an end.
        ensure!(
            says.starts_with(&heard) && says.len() - heard.len() < 5 + 21,
            "{when}: heard {heard:?} of {says:?}"
        );
        let audit = lab.daemon.audit();
        support::wait::for_fact("the end of the session", DEADLINE, || {
            Ok((audit.events("session.closed")?.len() == number + 1).then_some(()))
        })?;
        let (session, reason) = closed(&lab)?.pop().context("a session was closed")?;
        ensure!(reason == "upstream", "{when}: {reason}");
        let ended = audit.events("request.finished")?;
        let last = ended.last().context("a request has ended")?;
        ensure!(text(last, "/status")? == "lost", "{when}: {last}");
        // The recording has its end, and all that was heard before it.
        support::wait::for_fact("the end of the recording", DEADLINE, || {
            let listed = lab.daemon.cli(&["sessions", "ls"])?.ok()?;
            let line = listed.lines().find(|line| line.contains(&session));
            Ok(line
                .is_some_and(|line| line.contains("upstream"))
                .then_some(()))
        })?;
        let replay = lab.daemon.cli(&["sessions", "replay", &session])?.ok()?;
        has(&replay, &["select 1"])?;
        if *when == "between two messages" {
            has(&replay, &["half of this is heard"])?;
        }
    }
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

#[test]
fn bytes_that_are_no_messages_end_their_session_and_roll_it_back() -> Result<()> {
    let lab = Lab::new()?;
    let at = lab.server.address();
    let begun = [
        query("begin"),
        query("update customers set name = 'nobody'"),
    ]
    .join(";");
    let rows: &[(&str, &[u8])] = &[
        ("no length", b"Q\0\0\0\0"),
        ("a short length", b"Q\0\0\0\x03"),
        ("a negative length", b"Q\xff\xff\xff\xff"),
        ("more than a message can have", b"Q\x40\0\0\0"),
        ("as much as a number can say", b"d\x7f\xff\xff\xff"),
        ("a long sync", b"S\0\0\x27\x15"),
        ("a long execute", b"E\0\x01\0\0"),
        ("a password", b"p\0\0\0\x05\0"),
        ("a message of the server", b"T\0\0\0\x06\0\0"),
        ("a tag that nobody has", b"\xff\0\0\0\x04"),
        ("a request for encryption", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("another startup", b"\0\0\0\x09\0\x03\0\0\0"),
        ("nothing but zeros", &[0; 64]),
    ];
    for (number, (what, bytes)) in rows.iter().enumerate() {
        let heard = raw(&lab, at, &format!("{begun};{}", hex(bytes)))?;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        has(&heard, &["FATAL", "08P01"]).context(*what)?;
        let (_, reason) = support::wait::for_fact("the end of the session", DEADLINE, || {
            let closed = closed(&lab)?;
            Ok(closed.get(number).cloned())
        })?;
        ensure!(reason == "protocol", "{what}: {reason}");
        let names = lab
            .server
            .admin("select string_agg(name, ' ') from customers")?;
        lacks(&names, &["nobody"]).context(*what)?;
    }
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_message_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::new()?;
    let at = lab.server.address();
    let update = "update customers set name = 'nobody'";
    let whole = message(b'Q', format!("{update}\0").as_bytes());
    // Cut at every place: nothing may run that is not whole.
    for cut in [1, 3, 5, 6, 20, whole.len() - 1] {
        let cut = whole.get(..cut).context("a part of it")?;
        // Its end follows at once.
        let program = RAW.replace(
            "s.sendall(bytes.fromhex(part))",
            "s.sendall(bytes.fromhex(part)); s.shutdown(socket.SHUT_WR)",
        );
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let words = ["-c", &program, &ip, &port, &hex(cut)];
        lab.agent().run("/usr/bin/python3", &words)?.ok()?;
    }
    support::wait::for_fact("the end of every session", DEADLINE, || {
        Ok((closed(&lab)?.len() == 6).then_some(()))
    })?;
    let names = lab
        .server
        .admin("select string_agg(name, ' ') from customers")?;
    lacks(&names, &["nobody"])?;
    ensure!(
        closed(&lab)?.iter().all(|(_, reason)| reason == "client"),
        "another reason: {:?}",
        closed(&lab)?
    );
    ensure!(
        lab.daemon.audit().events("request.permitted")?.is_empty(),
        "half a message was judged"
    );
    Ok(())
}

//! First bytes that no client of PostgreSQL sends, or that somebody between has changed.

use anyhow::{Context as _, Result, ensure};
use support::cgroup::Cgroup;
use support::{Agent, DEADLINE, Postgres, suffix};

use crate::lab::{Lab, has};

/// A client in bytes. Each case prints one line: its name, and what came of it, as the tags of the
/// messages that it was sent; `=` stands before the SQLSTATE of an error, `.` for the end.
const CLIENT: &str = r#"
import socket, ssl, struct, sys

PORT = int(sys.argv[1])
SSL, GSS, CANCEL = (struct.pack("!ii", 8, 80877100 + n) for n in (3, 4, 2))

def startup(version=196608, options=(), pairs=(("user", "anybody"), ("database", "shop"))):
    body = struct.pack("!i", version)
    for name, value in list(pairs) + [(name, "") for name in options]:
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body

def connect():
    s = socket.create_connection(("127.0.0.1", PORT))
    s.settimeout(20)
    return s

def tls(s, alpn=("postgresql",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn: context.set_alpn_protocols(list(alpn))
    return context.wrap_socket(s, server_hostname="localhost")

def exactly(s, count):
    got = b""
    while len(got) < count:
        more = s.recv(count - len(got))
        if not more: raise EOFError
        got += more
    return got

def messages(s, until=b"Z"):
    while True:
        try: tag = exactly(s, 1)
        except (EOFError, OSError): yield b".", b""; return
        body = exactly(s, struct.unpack("!i", exactly(s, 4))[0] - 4)
        yield tag, body
        if tag == until: return

def tags(s):
    seen = ""
    for tag, body in messages(s):
        seen += tag.decode("latin-1")
        if tag == b"E":
            seen += "=" + [f[1:] for f in body.split(b"\0") if f[:1] == b"C"][0].decode()
    return seen

def raw(*sent):
    s = connect()
    try:
        for part in sent: s.sendall(part)
        s.shutdown(socket.SHUT_WR)
    except OSError: pass
    return tags(s)

def asked(request, answer):
    s = connect()
    s.sendall(request)
    got = exactly(s, 1)
    assert got == answer, got
    return s

def under_tls(first):
    s = tls(asked(SSL, b"S"))
    s.sendall(first)
    return tags(s)

def named(begun, alpn, first):
    try:
        s = tls(begun, alpn)
        s.sendall(first)
        return tags(s)
    except OSError as error:
        return "."

def direct(alpn, first):
    return named(connect(), alpn, first)

def gss_then_ssl():
    s = asked(GSS, b"N")
    s.sendall(SSL)
    assert exactly(s, 1) == b"S"
    s = tls(s)
    s.sendall(startup())
    return tags(s)

def clear_after_answer():
    s = asked(SSL, b"S")
    seen = b""
    try:
        s.sendall(startup())
        s.shutdown(socket.SHUT_WR)
        while True:
            more = s.recv(4096)
            if not more: break
            seen += more
    except OSError: pass
    # A TLS alert at most.
    return "." if seen[:1] in (b"", b"\x15") else repr(seen)

def first_of(version, options):
    s = connect()
    s.sendall(startup(version, options))
    seen = []
    for tag, body in messages(s):
        if tag == b"v":
            version, count = struct.unpack("!ii", body[:8])
            names = body[8:].split(b"\0")[:-1]
            seen.append("v%d.%d:%d:%s" % (version >> 16, version & 0xffff, count, b",".join(names).decode()))
        elif tag == b"K": seen.append("K%d" % (len(body) - 4))
        elif tag in b"RE.": seen.append(tag.decode())
    return " ".join(seen)

length = lambda n: struct.pack("!I", n)
CASES = {
    "length 0": lambda: raw(length(0)),
    "length 3": lambda: raw(length(3)),
    "length 7": lambda: raw(length(7) + b"abc"),
    "length 10005": lambda: raw(length(10005)),
    "length 2^31": lambda: raw(length(1 << 31)),
    "length 2^32-1": lambda: raw(length((1 << 32) - 1)),
    "version 2": lambda: raw(startup(131072)),
    "version 4": lambda: raw(startup(4 << 16)),
    "no user": lambda: raw(startup(pairs=())),
    "empty user": lambda: raw(startup(pairs=(("user", ""),))),
    "no end": lambda: raw(length(len(startup()) + 2) + startup()[4:] + b"x\0"),
    "plain": lambda: raw(startup()),
    "ssl": lambda: under_tls(startup()),
    "gss, ssl": gss_then_ssl,
    "ssl, h2": lambda: named(asked(SSL, b"S"), ("h2",), startup()),
    "ssl, no name": lambda: named(asked(SSL, b"S"), (), startup()),
    "ssl, ssl": lambda: under_tls(SSL),
    "ssl, gss": lambda: under_tls(GSS),
    "gss, gss": lambda: (lambda s: (s.sendall(GSS), tags(s))[1])(asked(GSS, b"N")),
    "ssl and startup at once": lambda: raw(SSL + startup()),
    "gss and startup at once": lambda: raw(GSS + startup()),
    "ssl, then startup in clear": clear_after_answer,
    "direct": lambda: direct(("postgresql",), startup()),
    "direct, two names": lambda: direct(("h2", "postgresql"), startup()),
    "direct, h2": lambda: direct(("h2",), startup()),
    "direct, no name": lambda: direct((), startup()),
    "direct, ssl": lambda: direct(("postgresql",), SSL),
    "direct, gss": lambda: direct(("postgresql",), GSS),
    "3.0": lambda: first_of(196608, ()),
    "3.2": lambda: first_of(196610, ()),
    "3.9999": lambda: first_of(196608 + 9999, ("_pq_.test_protocol_negotiation",)),
    "3.0 with options": lambda: first_of(196608, ("_pq_.x", "_pq_.y")),
    "cancel, no key": lambda: raw(struct.pack("!iii", 12, 80877102, 1)),
    "cancel, 3 bytes": lambda: raw(struct.pack("!iii", 15, 80877102, 1) + b"abc"),
    "cancel, 4 bytes": lambda: raw(struct.pack("!iii", 16, 80877102, 1) + b"abcd"),
    "cancel, 256 bytes": lambda: raw(struct.pack("!iii", 268, 80877102, 1) + b"a" * 256),
    "cancel, 257 bytes": lambda: raw(struct.pack("!iii", 269, 80877102, 1) + b"a" * 257),
    "cancel under tls": lambda: under_tls(struct.pack("!iii", 16, 80877102, 1) + b"abcd"),
}
for name, case in CASES.items():
    try: print(name, "->", case(), flush=True)
    except Exception as error: print(name, "-> raised", repr(error), flush=True)
"#;

/// Settings are reported in an order that is the server's: only what frames them is compared.
fn framed(outcome: &str) -> String {
    let mut framed: String = outcome.chars().filter(|tag| *tag != 'S').collect();
    if framed.ends_with('.') && framed.len() > 1 && framed.contains('E') {
        framed.pop();
    }
    framed
}

/// To a login that is taken: its end, the cancel key, and `ReadyForQuery`.
const SERVED: &str = "RKZ";

/// What a client begins with, and what it is answered.
const ANSWERS: &[(&str, &str)] = &[
    ("length 0", "."),
    ("length 3", "."),
    ("length 7", "."),
    ("length 10005", "."),
    ("length 2^31", "."),
    ("length 2^32-1", "."),
    ("version 2", "E=0A000"),
    ("version 4", "E=0A000"),
    ("no user", "E=28000"),
    ("empty user", "E=28000"),
    ("no end", "E=08P01"),
    ("plain", SERVED),
    ("ssl", SERVED),
    ("gss, ssl", SERVED),
    ("ssl, h2", "."),
    ("ssl, no name", SERVED),
    ("ssl, ssl", "E=0A000"),
    ("ssl, gss", "E=0A000"),
    ("gss, gss", "E=0A000"),
    ("ssl and startup at once", "."),
    ("gss and startup at once", "."),
    ("ssl, then startup in clear", "."),
    ("direct", SERVED),
    ("direct, two names", SERVED),
    ("direct, h2", "."),
    ("direct, no name", "."),
    ("direct, ssl", "E=0A000"),
    ("direct, gss", "E=0A000"),
    ("3.0", "R K4"),
    // The server behind is of 3.0, see `ANSWERS_OF_18`.
    ("3.2", "v3.0:0: R K4"),
    ("3.9999", "v3.0:1:_pq_.test_protocol_negotiation R K4"),
    ("3.0 with options", "v3.0:2:_pq_.x,_pq_.y R K4"),
    ("cancel, no key", "."),
    ("cancel, 3 bytes", "."),
    ("cancel, 4 bytes", "."),
    ("cancel, 256 bytes", "."),
    ("cancel, 257 bytes", "."),
    ("cancel under tls", "."),
];

/// The same where the server behind is of 3.2.
const ANSWERS_OF_18: &[(&str, &str)] = &[
    ("3.2", "R K32"),
    ("3.9999", "v3.2:1:_pq_.test_protocol_negotiation R K32"),
];

#[test]
fn first_bytes_are_answered_as_a_server_answers_them_or_not_at_all() -> Result<()> {
    let server = Postgres::start_with_tls()?;
    server.demand("host all all all trust")?;
    server.admin("create role anybody login")?;
    let lab = Lab::over(server, |_| {})?;
    let port = lab.server.address().port().to_string();
    let ask = |agent: Agent| agent.run("/usr/bin/python3", &["-c", CLIENT, &port])?.ok();
    let output = ask(lab.agent())?;
    let directly = ask(Agent::outside())?;
    let mut wrong = Vec::new();
    let of = |output: &str, name: &str| -> Result<String> {
        let mut lines = output.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name} -> ")));
        Ok(framed(line.with_context(|| {
            format!("no line for {name}:\n{output}")
        })?))
    };
    let major = lab.server.major()?;
    for (name, expected) in ANSWERS {
        let newer = ANSWERS_OF_18.iter().find(|(known, _)| known == name);
        let newer = newer.filter(|_| major >= 18);
        let expected = newer.map_or(expected, |(_, expected)| expected);
        let line = of(&output, name)?;
        if line != *expected {
            wrong.push(format!("{name}: {line}, not {expected}"));
        }
        // Servers speak direct TLS, and look at ALPN, since version 17, and GSSAPI where they are built with it;
        // to a client of version 2 they speak version 2; and what comes at once they leave until TLS begins.
        let apart = ["direct", "h2", "gss", "version 2", "at once"];
        let theirs = of(&directly, name)?;
        if line != theirs && !apart.iter().any(|apart| name.contains(apart)) {
            wrong.push(format!("{name}: {line}, and {theirs} directly"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(
        output.lines().count() == ANSWERS.len(),
        "a case has no row:\n{output}"
    );
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

/// Asks for what does not exist yet, and says the messages up to `ReadyForQuery` with what is in those that
/// matter. It has a password where one is asked for.
const NEWEST: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608 + 9999) + b"user\0a\0database\0shop\0_pq_.x\0\0\0"
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(struct.pack("!i", len(body) + 4) + body)
f, said = s.makefile("rb"), []
while not said or said[-1] != "Z":
    head = f.read(5)
    body = f.read(struct.unpack("!i", head[1:])[0] - 4)
    tag = head[:1].decode()
    if tag == "v": said.append("v" + body.hex())
    elif tag == "R":
        said.append("R%d" % struct.unpack("!i", body[:4]))
        if said[-1] == "R3": s.sendall(b"p\0\0\0\x0bsecret\0")
    elif tag == "K": said.append("K%d" % (len(body) - 4))
    elif tag != "S": said.append(tag)
print(" ".join(said))
"#;

#[test]
fn a_version_is_negotiated_before_anything_is_asked_for_and_once() -> Result<()> {
    // The version that is agreed on before the server behind is spoken to is the daemon's own.
    for (asks, expected) in [
        (false, "v00030000000000015f70715f2e7800 R0 K4 Z"),
        (true, "v00030002000000015f70715f2e7800 R3 R0 K32 Z"),
    ] {
        let lab = Lab::over(Postgres::start()?, |settings| {
            for target in &mut settings.targets {
                target.postgres.push(format!("ask_password: {asks}"));
            }
        })?;
        let major = lab.server.major()?;
        let expected = match major {
            18.. if !asks => "v00030002000000015f70715f2e7800 R0 K32 Z",
            _ => expected,
        };
        let port = lab.server.address().port().to_string();
        let said = lab
            .agent()
            .run("/usr/bin/python3", &["-c", NEWEST, &port])?
            .ok()?;
        ensure!(said.trim() == expected, "asks: {asks}: {said}");
    }
    Ok(())
}

/// Opens a session, says its key, and then runs something long.
const VICTIM: &str = r#"
import socket, struct, sys
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(struct.pack("!i", len(body) + 4) + body)
def message():
    head = b""
    while len(head) < 5: head += s.recv(5 - len(head))
    body, length = b"", struct.unpack("!i", head[1:])[0] - 4
    while len(body) < length: body += s.recv(length - len(body))
    return head[:1], body
while True:
    tag, body = message()
    if tag == b"K": print("key", body.hex(), flush=True)
    if tag == b"Z": break
query = b"select pg_sleep(600)\0"
s.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
while True:
    tag, body = message()
    if tag == b"E": print("error", [f[1:] for f in body.split(b"\0") if f[:1] == b"C"][0].decode(), flush=True)
    if tag == b"Z": break
"#;

const CANCEL: &str = r#"
import socket, struct, sys
key = bytes.fromhex(sys.argv[2])
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(struct.pack("!ii", 8 + len(key), 80877102) + key)
print(len(s.recv(1)))
"#;

#[test]
fn a_cancel_key_works_for_its_own_scope_and_nobody_else() -> Result<()> {
    let lab = Lab::over(Postgres::start()?, |settings| {
        settings.policies = support::place::pack("allow-all").unwrap_or_default();
    })?;
    let other = Cgroup::make(&format!("ic-{}-other", suffix()?))?;
    lab.daemon
        .cli(&["tag", other.below(), "--agent", "other"])?
        .ok()?;
    let stranger = Agent::inside(other.path());
    let port = lab.server.address().port().to_string();
    let victim = lab
        .agent()
        .start("/usr/bin/python3", &["-c", VICTIM, &port])?;
    victim.await_text("key ", DEADLINE)?;
    let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
    support::wait::for_fact("the sleep", DEADLINE, || {
        Ok((lab.server.admin(sleeping)?.trim() == "1").then_some(()))
    })?;
    let log = victim.log();
    let key = log
        .lines()
        .find_map(|line| line.strip_prefix("key "))
        .context("the victim said its key")?
        .to_owned();
    let cancel = |agent: &Agent, key: &str| -> Result<()> {
        let said = agent.run("/usr/bin/python3", &["-c", CANCEL, &port, key])?;
        ensure!(said.ok()?.trim() == "0", "a cancel was answered");
        Ok(())
    };
    let pid = key.get(..8).context("a key has a pid")?;
    let wrong = format!("{pid}{}", "00".repeat(4));
    let long = format!("{key}{}", "00".repeat(252));
    let rows = [
        (&stranger, &key),
        (&lab.agent(), &wrong),
        (&lab.agent(), &long),
    ];
    for (agent, key) in rows {
        cancel(agent, key)?;
    }
    let refused = lab.daemon.audit().events("request.cancelled")?;
    ensure!(refused.len() == 3, "{} cancels", refused.len());
    ensure!(
        refused
            .iter()
            .all(|line| line["error"] == refused[0]["error"]),
        "they can be told apart: {refused:?}"
    );
    ensure!(
        lab.server.admin(sleeping)?.trim() == "1",
        "one of them worked"
    );
    cancel(&lab.agent(), &key)?;
    victim.await_text("error 57014", DEADLINE)
}

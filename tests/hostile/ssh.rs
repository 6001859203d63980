//! Agents that speak SSH against the daemon, and servers that do: what either can make grow is bounded, nothing is
//! opened that was not asked for, and others are served meanwhile.

mod agents;
mod servers;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use support::ssh::LISTENS;
use support::{DEADLINE, Process, Sshd, place, port};

use crate::lab::{has, lacks};
use crate::ssh_lab::Lab;

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

/// What a daemon may grow by, in kilobytes, whoever pushes.
const GROWTH: u64 = 48 << 10;

fn permitting(rules: &str) -> Result<Lab> {
    Lab::new(vec![("test.cedar".to_owned(), rules.to_owned())])
}

/// Runs a program of the agent's that has paramiko.
fn python(lab: &Lab, program: &str) -> Result<String> {
    python_at(lab, lab.server.address().port(), program)
}

/// The same, to another port.
fn python_at(lab: &Lab, port: u16, program: &str) -> Result<String> {
    let files = lab.server.files().display().to_string();
    let agent = lab
        .agent()
        .with("PORT", &port.to_string())
        .with("FILES", &files);
    let python = place::python()?.display().to_string();
    agent.run(&python, &["-c", program])?.ok()
}

/// How every attack begins.
const CONNECT: &str = r#"
import os, paramiko, struct, sys, threading, time
from paramiko.message import Message
def connect():
    transport = paramiko.Transport(("127.0.0.1", int(os.environ["PORT"])))
    transport.start_client(timeout=20)
    transport.auth_none("x")
    return transport
"#;

/// Asks for ever, and hears none of the answers. It is ended from outside.
const DEAF: &str = r#"
transport = connect()
channel = transport.open_session(timeout=20)
print("in", flush=True)
transport.packetizer.read_message = lambda: threading.Event().wait()
while True:
    for kind in [b"keepalive@openssh.com", b"tcpip-forward", b"x" * 1000]:
        m = Message()
        m.add_byte(bytes([80])); m.add_string(kind); m.add_boolean(True)
        m.add_string("0.0.0.0"); m.add_int(0)
        transport._send_message(m)
    m = Message()
    m.add_byte(bytes([98])); m.add_int(channel.remote_chanid); m.add_string("env"); m.add_boolean(True)
    m.add_string("LD_PRELOAD"); m.add_string("/tmp/x.so")
    transport._send_message(m)
"#;

#[test]
fn a_client_that_asks_for_ever_and_hears_nothing_makes_nothing_grow() -> Result<()> {
    let lab = permitting(ALL)?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    let agent = lab
        .agent()
        .with("PORT", &lab.server.address().port().to_string());
    let python = place::python()?.display().to_string();
    let program = format!("{CONNECT}{DEAF}");
    let words = ["-s", "KILL", "6", &python, "-c", &program];
    let mut deaf = agent.start("timeout", &words)?;
    deaf.await_text("in", DEADLINE)?;
    has(&lab.ssh(&["echo served"])?.ok()?, &["served"])?;
    deaf.finish(DEADLINE)?;
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "the daemon grew by {grown} KiB");
    Ok(())
}

/// As many and as long variables as there may be, on as many channels.
const VARIABLES: &str = r#"
transport = connect()
held = []
for _ in range(32):
    channel = transport.open_session(timeout=20)
    held.append(channel)
    for number in range(64):
        channel.set_environment_variable(f"LC_{number}", "x" * 30000)
channel.exec_command("echo heard")
print(channel.makefile().read().decode().strip())
"#;

#[test]
fn variables_of_a_channel_are_short_or_not_taken() -> Result<()> {
    let lab = permitting(ALL)?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    let out = python(&lab, &format!("{CONNECT}{VARIABLES}"))?;
    ensure!(out == "heard\n", "{out}");
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "the daemon grew by {grown} KiB");
    Ok(())
}

/// Two opens of one id: the first one's handle would come to stand for the second one's path.
const TWICE: &str = r#"
def text(value):
    return struct.pack(">I", len(value)) + value
def packet(kind, rest):
    return struct.pack(">IB", len(rest) + 1, kind) + rest
transport = connect()
channel = transport.open_session(timeout=20)
channel.invoke_subsystem("sftp")
channel.settimeout(20)
def answer():
    head = b""
    while len(head) < 4:
        head += channel.recv(4 - len(head)) or sys.exit(print("over"))
    length = struct.unpack(">I", head)[0]
    body = b""
    while len(body) < length:
        body += channel.recv(length - len(body)) or sys.exit(print("over"))
    return body
channel.sendall(packet(1, struct.pack(">I", 3)))
answer()
files = os.environ["FILES"].encode()
def opens(name, flags):
    return packet(3, struct.pack(">I", 5) + text(files + name) + struct.pack(">II", flags, 0))
channel.sendall(opens(b"/kept", 1) + opens(b"/free", 2 | 8))
handles = [answer() for _ in range(2)]
size = struct.unpack(">I", handles[0][5:9])[0]
handle = handles[0][9:9 + size]
channel.sendall(packet(10, struct.pack(">I", 6) + text(handle) + struct.pack(">II", 4, 0o777)))
print(answer())
"#;

#[test]
fn a_handle_cannot_be_made_to_stand_for_another_file() -> Result<()> {
    let rules = format!(
        r#"{ALL}
@id("keep") forbid (principal is Agent, action in Action::"SshWrite", resource is File)
  when {{ resource.path like "*/kept*" }};"#
    );
    let lab = permitting(&rules)?;
    let kept = lab.server.files().join("kept");
    lab.ssh(&[&format!("umask 077; echo x > {}", kept.display())])?
        .ok()?;
    let out = python(&lab, &format!("{CONNECT}{TWICE}"))?;
    let mode = fs::metadata(&kept)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o} after {out}");
    has(&out, &["over"])
}

/// A server that does what its command says.
const SERVER: &str = r#"
import os, socket, threading, paramiko
from paramiko.message import Message
key = paramiko.Ed25519Key(filename=os.environ["HOSTKEY"])
class Face(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return "publickey"
    def check_auth_publickey(self, user, key):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=acts, args=(channel, command.decode()), daemon=True).start()
        return True
def opens(channel):
    transport, taken, refused = channel.get_transport(), 0, 0
    for kind in ["auth-agent@openssh.com", "x11", "session", "forwarded-tcpip"]:
        for _ in range(200):
            try:
                transport.open_channel(kind, dest_addr=("a", 1), src_addr=("b", 2), timeout=20)
                taken += 1
            except paramiko.ChannelException:
                refused += 1
    channel.sendall(f"{taken} {refused}\n".encode())
def floods(channel):
    for _ in range(10000):
        m = Message()
        m.add_byte(bytes([94])); m.add_int(channel.remote_chanid); m.add_string(b"x" * 30000)
        channel.get_transport()._send_message(m)
def acts(channel, command):
    {"open": opens, "flood": floods}[command](channel)
    channel.send_exit_status(0)
    channel.close()
def serves(client):
    if os.environ["MODE"] == "banner":
        try:
            while True:
                client.sendall(b"not yet\r\n" * 1000)
        except OSError:
            return
    transport = paramiko.Transport(client)
    transport.add_server_key(key)
    try:
        transport.start_server(server=Face())
    except Exception:
        pass
"#;

/// An sshd, and beside it a server that means harm, with the same keys.
fn beside(mode: &str) -> Result<(Lab, Process, u16)> {
    before(SERVER, mode)
}

/// The same for another program.
fn before(program: &str, mode: &str) -> Result<(Lab, Process, u16)> {
    before_under(program, mode, ALL)
}

/// The same under other rules.
fn before_under(program: &str, mode: &str, rules: &str) -> Result<(Lab, Process, u16)> {
    set_up((program, mode), rules, "key: { file: %key }")
}

/// The same with another credential.
fn before_with(program: &str, mode: &str, login: &str) -> Result<(Lab, Process, u16)> {
    set_up((program, mode), ALL, login)
}

fn set_up((program, mode): (&str, &str), rules: &str, login: &str) -> Result<(Lab, Process, u16)> {
    let server = Sshd::start()?;
    let password = server.at("password");
    fs::write(&password, "correct horse\n")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let key = server.key().display().to_string();
    let address = port::free()?;
    let own = format!("key: {{ file: {key} }}");
    let target = server.target("web", &own, &[])?;
    let login = login.replace("%key", &key);
    let login = login.replace("%password", &password.display().to_string());
    let odd = server.target("odd", &login, &[])?;
    let odd = odd.replace(&server.address().to_string(), &address.to_string());
    let odd = format!("{odd}    timeouts: {{ dial: 3s }}\n");
    let mut command = Command::new(place::python()?);
    command
        .args(["-c", &format!("{program}{LISTENS}")])
        .env_clear()
        .env("HOSTKEY", server.at("host"))
        .env("PORT", address.port().to_string())
        .env("MODE", mode);
    let process = Process::start(command)?;
    process.await_text("ready", DEADLINE)?;
    let rules = vec![("test.cedar".to_owned(), rules.to_owned())];
    let lab = Lab::over(server, &format!("{target}{odd}"), rules)?;
    Ok((lab, process, address.port()))
}

#[test]
fn a_server_opens_nothing_towards_the_agent() -> Result<()> {
    let (lab, _server, port) = beside("")?;
    let run = lab.ssh_at(port, &["open"])?;
    ensure!(run.stdout == "0 800\n", "{run:?}");
    Ok(())
}

#[test]
fn a_server_that_sends_more_than_it_may_makes_nothing_grow() -> Result<()> {
    let (lab, _server, port) = beside("")?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    // The client is there, and reads nothing.
    let mut words = vec!["ssh".to_owned()];
    words.extend(lab.options());
    words.extend(["-p".to_owned(), port.to_string(), "x@127.0.0.1".to_owned()]);
    words.push("flood".to_owned());
    let script = r#"timeout -s KILL 5 "$@" | (sleep 4; echo over)"#;
    let mut line = vec!["-c", script, "sh"];
    line.extend(words.iter().map(String::as_str));
    let mut mute = lab.agent().start("sh", &line)?;
    has(&lab.ssh(&["echo served"])?.ok()?, &["served"])?;
    has(&mute.finish(DEADLINE)?.stdout, &["over"])?;
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "the daemon grew by {grown} KiB");
    Ok(())
}

#[test]
fn a_server_that_never_says_what_it_speaks_is_given_up() -> Result<()> {
    let (lab, _server, port) = beside("banner")?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    let no = lab.ssh_at(port, &["true"])?;
    ensure!(!no.status.success(), "{no:?}");
    has(&lab.ssh(&["echo served"])?.ok()?, &["served"])?;
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "the daemon grew by {grown} KiB");
    Ok(())
}

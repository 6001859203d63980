//! Servers that begin, and never end: what is given up with them is let go, and they hold nothing of it.

use super::*;

/// What each does with a connection; that a connection is over is said, as the server sees it.
const BEGINS: &str = r#"
import os, socket, struct, threading, paramiko
from paramiko.message import Message
mode = os.environ["MODE"]
class Face(paramiko.ServerInterface):
    rounds = 0
    def get_allowed_auths(self, user):
        return "publickey,password,keyboard-interactive"
    def check_auth_password(self, user, password):
        return paramiko.AUTH_FAILED
    def check_auth_interactive(self, user, methods):
        return paramiko.InteractiveQuery("", "")
    def check_auth_interactive_response(self, responses):
        Face.rounds += 1
        print("round", Face.rounds, flush=True)
        return paramiko.InteractiveQuery("", "")
    def check_auth_publickey(self, user, key):
        if mode != "banners":
            return paramiko.AUTH_SUCCESSFUL
        while self.transport.is_active():
            m = Message()
            m.add_byte(bytes([53])); m.add_string("x" * 1000); m.add_string("")
            self.transport._send_message(m)
        return paramiko.AUTH_FAILED
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        if mode == "rekey":
            threading.Thread(target=stalls, args=(channel,), daemon=True).start()
        taken, feeds = 0, channel.in_buffer.feed
        def fills(data):
            nonlocal taken
            feeds(data)
            taken += len(data)
            if taken >= channel.in_window_size:
                print("full", flush=True)
        channel.in_buffer.feed = fills
        print("runs", flush=True)
        return True
def stalls(channel):
    transport = channel.get_transport()
    transport.packetizer.read_message = lambda: threading.Event().wait()
    transport._send_kex_init()
    ends(transport.sock)
def ends(client):
    client.settimeout(None)
    try:
        while client.recv(65536):
            pass
    except OSError:
        pass
    print("let go", flush=True)
def serves(client):
    client.settimeout(None)
    if mode == "silent":
        client.sendall(b"SSH-2.0-silent\r\n")
        return ends(client)
    if mode == "chatty":
        client.sendall(b"SSH-2.0-chatty\r\n")
        ignored = struct.pack(">IBBI", 12, 6, 2, 0) + b"\0" * 6
        try:
            while True:
                client.sendall(ignored * 100)
        except OSError:
            return print("let go", flush=True)
    transport = paramiko.Transport(client)
    transport.add_server_key(paramiko.Ed25519Key(filename=os.environ["HOSTKEY"]))
    face = Face()
    face.transport = transport
    try:
        transport.start_server(server=face)
    except Exception:
        pass
    if mode != "rekey":
        # It never reads what comes on a channel: the window stays as it is.
        transport.join()
        print("let go", flush=True)
"#;

/// One that is given up before it has logged anybody in.
fn gives_up(mode: &str, wants: &[&str]) -> Result<()> {
    let (lab, server, port) = before(BEGINS, mode)?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    let no = lab.ssh_at(port, &["true"])?;
    ensure!(!no.status.success(), "{mode}: {no:?}");
    has(&no.stderr, wants)?;
    server.await_text("let go", DEADLINE)?;
    has(&lab.ssh(&["echo served"])?.ok()?, &["served"])?;
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "{mode}: the daemon grew by {grown} KiB");
    Ok(())
}

#[test]
fn a_server_that_says_who_it_is_and_no_more_is_let_go() -> Result<()> {
    gives_up("silent", &["did not answer in time"])
}

#[test]
fn a_server_that_never_comes_to_the_exchange_of_keys_is_let_go() -> Result<()> {
    gives_up("chatty", &["did not answer in time"])
}

#[test]
fn a_server_that_greets_for_ever_and_lets_nobody_in_is_let_go() -> Result<()> {
    gives_up("banners", &["did not answer in time"])
}

#[test]
fn a_dialogue_without_end_is_ended() -> Result<()> {
    let (lab, server, port) = before_with(BEGINS, "dialogue", "password: { file: %password }")?;
    let no = lab.ssh_at(port, &["true"])?;
    ensure!(!no.status.success(), "{no:?}");
    has(&no.stderr, &["did not take the login"])?;
    server.await_text("let go", DEADLINE)?;
    lacks(&server.log(), &["round 9\n"])
}

/// More than a server takes that reads nothing.
const SENDS: &str = r#"
transport = connect()
channel = transport.open_session(timeout=20)
channel.exec_command("cat")
try:
    channel.sendall(b"x" * 50000000)
except Exception as broken:
    print("broken", broken, flush=True)
transport.join(20)
print("over", not transport.is_alive(), flush=True)
"#;

fn sends(lab: &Lab, port: u16) -> Result<Process> {
    let agent = lab.agent().with("PORT", &port.to_string());
    let program = format!("{CONNECT}{SENDS}");
    let python = place::python()?.display().to_string();
    agent.start(&python, &["-c", &program])
}

/// A client that sends more than the server takes, and is gone.
fn leaves(mode: &str, when: &str) -> Result<()> {
    let (lab, server, port) = before(BEGINS, mode)?;
    let client = sends(&lab, port)?;
    server.await_text(when, DEADLINE)?;
    drop(client);
    server.await_text("let go", DEADLINE)?;
    has(&lab.ssh(&["echo served"])?.ok()?, &["served"])
}

#[test]
fn a_server_that_never_opens_its_window_is_let_go_with_its_client() -> Result<()> {
    leaves("shut", "full")
}

#[test]
fn a_server_that_never_ends_an_exchange_of_keys_is_let_go_with_its_client() -> Result<()> {
    leaves("rekey", "runs")
}

/// A server whose windows stay shut: what is killed ends there at once.
#[test]
fn a_session_that_is_killed_ends_at_a_server_that_reads_nothing() -> Result<()> {
    let (lab, server, port) = before(BEGINS, "shut")?;
    let mut client = sends(&lab, port)?;
    server.await_text("full", DEADLINE)?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let id = opened.last().context("no session")?;
    let id = crate::lab::text(id, "/session")?.to_owned();
    lab.daemon.cli(&["sessions", "kill", &id])?.ok()?;
    server.await_text("let go", DEADLINE)?;
    let finished = client.finish(DEADLINE)?;
    ensure!(finished.stdout.contains("over True"), "{finished:?}");
    Ok(())
}

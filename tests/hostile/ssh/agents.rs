//! Agents that say what servers read differently from policy, and that say it without end.

use super::*;

/// A server that takes everything, and says what it was asked for.
const TAKES: &str = r#"
import os, socket, threading, paramiko
class Face(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return "publickey"
    def check_auth_publickey(self, user, key):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_direct_tcpip_request(self, number, origin, to):
        print("to", repr(to), flush=True)
        return paramiko.OPEN_SUCCEEDED
    def check_port_forward_request(self, address, port):
        print("from", repr((address, port)), flush=True)
        if os.environ["MODE"] == "opens":
            threading.Thread(target=opens, args=(self.transport, address, port), daemon=True).start()
        return port
    def check_channel_x11_request(self, channel, once, protocol, cookie, number):
        print("screen", repr(cookie), flush=True)
        return True
    def check_channel_exec_request(self, channel, command):
        print("runs", flush=True)
        return True
def opens(transport, address, port):
    answered = 0
    def tries():
        nonlocal answered
        try:
            transport.open_channel("forwarded-tcpip", dest_addr=(address, port), src_addr=("b", 2), timeout=60)
        except Exception:
            pass
        answered += 1
        if answered == 300:
            print("all answered", flush=True)
    for _ in range(300):
        threading.Thread(target=tries, daemon=True).start()
        # Each has been heard before the next comes.
        transport.global_request("ping@test", wait=True)
def serves(client):
    transport = paramiko.Transport(client)
    transport.add_server_key(paramiko.Ed25519Key(filename=os.environ["HOSTKEY"]))
    face = Face()
    face.transport = transport
    try:
        transport.start_server(server=face)
    except Exception:
        pass
"#;

/// Places as servers read them whose texts end where they have a zero, or whose ports are of two bytes.
const READ_OTHERWISE: &str = r#"
transport = connect()
def said(what):
    try:
        return "taken" if what() is not False else "refused"
    except (paramiko.ChannelException, paramiko.SSHException):
        return "refused"
def to(host, port):
    return said(lambda: transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 1), timeout=20))
def at(address, port):
    return said(lambda: transport.request_port_forward(address, port))
def socket_at(path):
    m = Message()
    m.add_byte(bytes([90])); m.add_string("direct-streamlocal@openssh.com")
    number = transport._next_channel()
    m.add_int(number); m.add_int(1 << 20); m.add_int(1 << 15)
    m.add_string(path); m.add_string(""); m.add_int(0)
    channel = paramiko.Channel(number)
    transport._channels.put(number, channel)
    event = transport.channel_events[number] = threading.Event()
    transport.channels_seen[number] = True
    channel._set_transport(transport)
    channel._set_window(1 << 20, 1 << 15)
    transport._send_user_message(m)
    event.wait(20)
    return "taken" if transport._channels.get(number) is not None else "refused"
print("plain", to("inside.allowed", 22), at("", 8022))
print("zero", to("127.0.0.1\0.allowed", 22), at("127.0.0.1\0.allowed", 8022))
print("port", to("inside.allowed", 65536 + 22), at("", 65536 + 22))
print("scope", to("::1%lo", 22))
print("socket", socket_at("/run/x\0.allowed"), socket_at("/run/docker//x"), socket_at("run/x"))
def screen(cookie):
    channel = transport.open_session(timeout=20)
    return said(lambda: channel.request_x11(auth_cookie=cookie))
print("screen", screen("00\nsource /etc/shadow"), screen("00ff"))
"#;

const FORWARDS: &str = r#"
@id("all") permit (principal is Agent, action, resource);
@id("socket") forbid (principal is Agent, action == Action::"ForwardTo", resource is Forward)
  when { resource.host == "/run/docker/x" };
"#;

#[test]
fn what_some_servers_would_read_otherwise_goes_nowhere() -> Result<()> {
    let (lab, server, port) = before_under(TAKES, "", FORWARDS)?;
    let out = python_at(&lab, port, &format!("{CONNECT}{READ_OTHERWISE}"))?;
    let wanted = "plain taken taken\nzero refused refused\nport refused refused\nscope refused\n\
                  socket refused refused refused\nscreen refused taken\n";
    ensure!(out == wanted, "{out}");
    lacks(&server.log(), &["127.0.0.1", "65558", "source"])
}

/// Signals with long names, while a command waits for people.
const SIGNALS: &str = r#"
transport = connect()
channel = transport.open_session(timeout=20)
channel.exec_command("anything")
for _ in range(400):
    m = Message()
    m.add_byte(bytes([98])); m.add_int(channel.remote_chanid); m.add_string("signal"); m.add_boolean(False)
    m.add_string("x" * 200000)
    transport._send_message(m)
second = transport.open_session(timeout=20)
print("heard")
"#;

#[test]
fn signals_are_names_and_not_taken_where_they_are_none() -> Result<()> {
    let rules = r#"
@id("all") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("run") @approve("games") permit (principal is Agent, action == Action::"Exec", resource);
"#;
    let lab = permitting(rules)?;
    drop(python(&lab, &format!("{CONNECT}connect()"))?);
    let before = lab.peak()?;
    let out = python(&lab, &format!("{CONNECT}{SIGNALS}"))?;
    ensure!(out == "heard\n", "{out}");
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < GROWTH, "the daemon grew by {grown} KiB");
    Ok(())
}

/// Logins that are no names, and ways of logging in that nobody has, again and again.
const LOGINS: &str = r#"
def tries(user):
    transport = paramiko.Transport(("127.0.0.1", int(os.environ["PORT"])))
    transport.start_client(timeout=20)
    try:
        transport.auth_none(user)
        return "in"
    except paramiko.SSHException:
        return "out"
print(tries("x" * 200000), tries("root\x1b[2J"), tries("anybody"))
transport = paramiko.Transport(("127.0.0.1", int(os.environ["PORT"])))
transport.start_client(timeout=20)
m = Message()
m.add_byte(bytes([5])); m.add_string("ssh-userauth")
transport._send_message(m)
failures = 0
ended = threading.Event()
class Counts:
    def write(self, *_):
        pass
transport.auth_handler = paramiko.auth_handler.AuthHandler(transport)
real = transport.packetizer.read_message
def counted():
    global failures
    kind, message = real()
    if kind == 51:
        failures += 1
        return 2, Message()
    if kind == 1:
        ended.set()
    return kind, message
transport.packetizer.read_message = counted
try:
    for _ in range(2000):
        m = Message()
        m.add_byte(bytes([50])); m.add_string("x"); m.add_string("ssh-connection"); m.add_string("hostbased")
        transport._send_message(m)
except (EOFError, OSError, paramiko.SSHException):
    pass
transport.join(20)
print(not transport.is_alive(), failures < 100)
"#;

#[test]
fn a_login_is_a_name_and_is_tried_a_few_times() -> Result<()> {
    let lab = permitting(ALL)?;
    let out = python(&lab, &format!("{CONNECT}{LOGINS}"))?;
    ensure!(out == "out out in\nTrue True\n", "{out}");
    let opened = lab.daemon.audit().events("session.opened")?;
    let asked = opened
        .iter()
        .map(|line| crate::lab::text(line, "/asked_user"));
    let asked = asked.collect::<Result<Vec<_>>>()?;
    ensure!(asked == ["anybody"], "{asked:?}");
    Ok(())
}

/// A client that has the server listen, and opens nothing of what comes.
const DEAF_TO_WHAT_COMES: &str = r#"
transport = connect()
real = transport.packetizer.read_message
def deaf():
    while True:
        kind, message = real()
        if kind != 90:
            return kind, message
transport.packetizer.read_message = deaf
print(transport.request_port_forward("", 8022), flush=True)
threading.Event().wait()
"#;

#[test]
fn a_server_opens_no_more_at_once_than_an_agent_may_have() -> Result<()> {
    let (lab, server, port) = before(TAKES, "opens")?;
    let agent = lab.agent().with("PORT", &port.to_string());
    let python = place::python()?.display().to_string();
    let program = format!("{CONNECT}{DEAF_TO_WHAT_COMES}");
    let client = agent.start(&python, &["-c", &program])?;
    server.await_text("all answered", DEADLINE)?;
    drop(client);
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let many = permitted.len();
    // One for the listening; of 300 that come at once as many as an agent may have channels, and those
    // that found a place when these had been given up.
    ensure!(many <= 1 + 2 * 32, "{many} were let in");
    Ok(())
}

/// What is put before the end of the first exchange of keys (Terrapin), by either side.
const PREFIXED: &str = r#"
import os, socket, threading, paramiko
from paramiko.message import Message
class Prefixed(paramiko.Transport):
    def _send_kex_init(self):
        super()._send_kex_init()
        m = Message()
        m.add_byte(bytes([2])); m.add_string(b"counts")
        self._send_message(m)
"#;

/// An agent that does.
const TRUNCATES: &str = r#"
for strict in [False, True]:
    transport = Prefixed(("127.0.0.1", int(os.environ["PORT"])), strict_kex=strict)
    try:
        transport.start_client(timeout=20)
        transport.auth_none("x")
        print(strict, "in")
    except Exception:
        print(strict, "out")
"#;

#[test]
fn nothing_is_put_before_the_end_of_the_exchange_of_keys_by_an_agent() -> Result<()> {
    let lab = permitting(ALL)?;
    let out = python(&lab, &format!("{PREFIXED}{TRUNCATES}"))?;
    ensure!(out == "False in\nTrue out\n", "{out}");
    Ok(())
}

/// A server that does.
const SERVES_PREFIXED: &str = r#"
class Face(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return "publickey"
    def check_auth_publickey(self, user, key):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        def acts():
            channel.sendall(b"ran\n")
            channel.send_exit_status(0)
            channel.close()
        threading.Thread(target=acts, daemon=True).start()
        return True
def serves(client):
    transport = Prefixed(client, strict_kex=os.environ["MODE"] == "strict")
    transport.add_server_key(paramiko.Ed25519Key(filename=os.environ["HOSTKEY"]))
    try:
        transport.start_server(server=Face())
    except Exception:
        pass
"#;

#[test]
fn nothing_is_put_before_the_end_of_the_exchange_of_keys_by_a_server() -> Result<()> {
    let program = format!("{PREFIXED}{SERVES_PREFIXED}");
    for (mode, is_served) in [("old", true), ("strict", false)] {
        let (lab, _server, port) = before(&program, mode)?;
        let run = lab.ssh_at(port, &["anything"])?;
        ensure!(run.status.success() == is_served, "{mode}: {run:?}");
    }
    Ok(())
}

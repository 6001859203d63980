//! Peers that mean harm: what they can make grow is bounded, and others are served meanwhile.

use super::*;

fn words(lab: &Lab, command: &str) -> Vec<String> {
    let mut words = lab.options();
    let port = lab.server.address().port().to_string();
    words.extend([
        "-p".to_owned(),
        port,
        "x@127.0.0.1".to_owned(),
        command.to_owned(),
    ]);
    words
}

#[test]
fn a_client_that_is_not_read_from_or_does_not_read_makes_nothing_grow() -> Result<()> {
    let lab = Lab::permitting()?;
    lab.ssh(&["true"])?.ok()?;
    let before = lab.peak()?;
    // One sends to a server that does not read; one does not read what the server sends. `cat` says when
    // what it was sent stops coming: by then everything on the way is full.
    let mut deaf = words(&lab, "sleep 1000");
    deaf.insert(0, "ssh".to_owned());
    let script = r#"head -c 200000000 /dev/zero | timeout -s KILL 4 "$@"; echo over"#;
    let mut line = vec!["-c", script, "sh"];
    line.extend(deaf.iter().map(String::as_str));
    let mut sender = lab.agent().start("sh", &line)?;
    let mut loud = words(&lab, "head -c 200000000 /dev/zero");
    loud.insert(0, "ssh".to_owned());
    let script = r#"timeout -s KILL 4 "$@" | (sleep 3; echo over)"#;
    let mut line = vec!["-c", script, "sh"];
    line.extend(loud.iter().map(String::as_str));
    let mut mute = lab.agent().start("sh", &line)?;
    let other = lab.ssh(&["echo served"])?;
    ensure!(other.stdout == "served\n", "{other:?}");
    for process in [&mut sender, &mut mute] {
        has(&process.finish(DEADLINE)?.stdout, &["over"])?;
    }
    let grown = lab.peak()?.saturating_sub(before);
    ensure!(grown < 40 << 10, "the daemon grew by {grown} KiB");
    Ok(())
}

/// Channels without end, a window that never opens, bytes that are no packets.
const FLOOD: &str = r#"
import os, paramiko, socket
def connect():
    transport = paramiko.Transport(("127.0.0.1", int(os.environ["PORT"])))
    transport.start_client(timeout=20)
    transport.auth_none("x")
    return transport
transport = connect()
opened, refused = [], 0
for _ in range(100):
    try:
        opened.append(transport.open_session(timeout=20))
    except paramiko.ChannelException:
        refused += 1
print(len(opened), refused)
opened[0].exec_command("echo one")
print(opened[0].makefile().read().decode().strip())
shut = connect()
channel = shut.open_channel("session", window_size=1, max_packet_size=32768, timeout=20)
channel.exec_command("head -c 100000000 /dev/zero")
second = shut.open_session(timeout=20)
second.exec_command("echo two")
print(second.makefile().read().decode().strip())
for garbage in [b"\xff" * 64, b"\x00\x00\x00\x00" * 16, b"GET / HTTP/1.1\r\n\r\n" * 5000]:
    with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=20) as raw:
        raw.sendall(b"SSH-2.0-x\r\n" + garbage)
        try:
            while raw.recv(65536):
                pass
        except ConnectionError:
            pass
with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=20) as raw:
    try:
        raw.sendall(b"x" * 10000000)
        while raw.recv(65536):
            pass
    except ConnectionError:
        pass
print("over")
"#;

#[test]
fn floods_of_channels_shut_windows_and_bytes_that_are_no_packets_end_with_whoever_sent_them()
-> Result<()> {
    let lab = Lab::permitting()?;
    let agent = lab
        .agent()
        .with("PORT", &lab.server.address().port().to_string());
    let python = place::python()?.display().to_string();
    let out = agent.run(&python, &["-c", FLOOD])?;
    ensure!(out.stdout == "32 68\none\ntwo\nover\n", "{out:?}");
    lab.ssh(&["true"])?.ok()?;
    Ok(())
}

//! What runs in scopes and beside them. Each says a line when it is there, and one when it has done what a line
//! that it is told says: so often.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use interceptor::clock;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Becomes one.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["serve"] => serve(),
        ["dial", port] => dial(at(port)?),
        ["make"] => make(),
        ["ask", port] => ask(at(port)?),
        ["talk", port] => talk(at(port)?),
        ["move", port] => roam(at(port)?),
        _ => bail!("no such client: {words:?}"),
    }
}

fn at(port: &str) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port.parse::<u16>()?,
    )))
}

fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("say it")
}

/// Does `once` as often as each line says, and tells how long it took.
fn rounds(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    say("here")?;
    for line in std::io::stdin().lock().lines() {
        let times: u32 = line?.parse()?;
        let since = clock::monotonic();
        for _ in 0..times {
            once()?;
        }
        say(clock::monotonic().saturating_sub(since).as_nanos())?;
    }
    Ok(())
}

fn connected(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Closed, it is gone: nothing waits for it.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&SockAddr::from(to)).context("connect")?;
    Ok(socket.into())
}

/// Connects, and closes at once.
fn dial(to: SocketAddr) -> anyhow::Result<()> {
    rounds(|| connected(to).map(drop))
}

/// Has a process made, and waits for its end.
fn make() -> anyhow::Result<()> {
    rounds(|| {
        let ended = Command::new("/bin/true").status()?;
        ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    })
}

/// Connects, and waits until the other end has closed.
fn ask(to: SocketAddr) -> anyhow::Result<()> {
    rounds(|| ended(&connected(to)?))
}

fn ended(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    match stream.read(&mut [0; 1]) {
        Ok(0) => Ok(()),
        Err(reset) if reset.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => bail!("the other end did not close: {other:?}"),
    }
}

/// Sends a byte and waits for one, on one connection.
fn talk(to: SocketAddr) -> anyhow::Result<()> {
    let mut stream = None;
    rounds(|| {
        if stream.is_none() {
            let connected = connected(to)?;
            connected.set_nodelay(true)?;
            stream = Some(connected);
        }
        let stream = stream.as_mut().context("no connection")?;
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0]).context("hear the other end")
    })
}

/// Accepts, and sends back what it is sent.
fn serve() -> anyhow::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(at("0")?))?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    say(listener.local_addr()?)?;
    for stream in listener.incoming().flatten() {
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || echo(stream))?;
    }
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    drop(stream.set_nodelay(true));
    while let Ok(length) = stream.read(&mut bytes) {
        let Some(read) = bytes.get(..length).filter(|read| !read.is_empty()) else {
            return;
        };
        if stream.write_all(read).is_err() {
            return;
        }
    }
}

/// Goes into a network namespace of its own at each first line, and connects there at each second.
fn roam(to: SocketAddr) -> anyhow::Result<()> {
    say("here")?;
    let mut is_there = false;
    for line in std::io::stdin().lock().lines() {
        line?;
        if is_there {
            ended(&connected(to)?)?;
        } else {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            let up = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()?;
            ensure!(up.success(), "ip ended with {up}");
        }
        is_there = !is_there;
        say("done")?;
    }
    Ok(())
}

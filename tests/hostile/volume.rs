//! Messages as long as there are, and peers that stop reading: passed on whole, in little memory.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use support::daemon::Target;
use support::{DEADLINE, Daemon, Postgres, place};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::lab::{Lab, has};
use crate::upstreams::{answered, greeting, header, message, ready};

/// The longest message that there is, without its tag.
const LONGEST: usize = 0x3fff_ffff;
/// What is also recorded.
const LONG: usize = 150 << 20;
/// What the daemon may need for it more than before, in KiB: buffers in two directions, and what waits
/// for the recorder.
pub(crate) const MOST: u64 = 32 << 10;

/// A server that has bodies of any length, and drops them.
struct Peer {
    address: SocketAddr,
    /// It reads a long body once it finds a permit here.
    reads: Arc<Semaphore>,
}

impl Peer {
    fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let reads = Arc::new(Semaphore::new(0));
        let permits = Arc::clone(&reads);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                while let Ok((client, _)) = listener.accept().await {
                    let permits = Arc::clone(&permits);
                    tokio::spawn(async move { drop(serve(client, &permits).await) });
                }
            });
        });
        Ok(Self { address, reads })
    }
}

/// The body of one message, of which a long one's is dropped.
async fn body(
    client: &mut TcpStream,
    length: usize,
    reads: &Semaphore,
) -> std::io::Result<Vec<u8>> {
    if length < 1 << 20 {
        let mut body = vec![0; length];
        client.read_exact(&mut body).await?;
        return Ok(body);
    }
    if let Ok(permit) = reads.acquire().await {
        permit.forget();
    }
    let long = u64::try_from(length).unwrap_or(u64::MAX);
    let read = tokio::io::copy(&mut client.take(long), &mut tokio::io::sink()).await?;
    if read < long {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Vec::new())
}

async fn send_long(
    client: &mut TcpStream,
    tag: u8,
    front: &[u8],
    length: usize,
) -> std::io::Result<()> {
    let whole = i32::try_from(length).unwrap_or(i32::MAX);
    client.write_all(&header(tag, whole)).await?;
    client.write_all(front).await?;
    let left = u64::try_from(length - 4 - front.len()).unwrap_or(u64::MAX);
    tokio::io::copy(&mut tokio::io::repeat(b'x').take(left), client).await?;
    Ok(())
}

async fn serve(mut client: TcpStream, reads: &Semaphore) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap_or(4).saturating_sub(4)];
    client.read_exact(&mut startup).await?;
    client.write_all(&greeting()).await?;
    loop {
        let tag = client.read_u8().await?;
        let length = usize::try_from(client.read_u32().await?).unwrap_or(4) - 4;
        let body = body(&mut client, length, reads).await?;
        let words = String::from_utf8_lossy(&body).into_owned();
        let number = || {
            words
                .trim_end_matches('\0')
                .rsplit(' ')
                .next()
                .and_then(|n| n.parse().ok())
        };
        let done = [message(b'C', b"COPY 1\0"), ready()].concat();
        if let Some(own) = answered(&body) {
            client.write_all(&own).await?;
            continue;
        }
        match tag {
            b'Q' if words.starts_with("select") => {
                let length: usize = number().unwrap_or(LONG);
                let column = i32::try_from(length - 10).unwrap_or(i32::MAX);
                client.write_all(&message(b'T', &[0, 0])).await?;
                let front = [&[0, 1][..], &column.to_be_bytes()].concat();
                send_long(&mut client, b'D', &front, length).await?;
                client
                    .write_all(&[message(b'C', b"SELECT 1\0"), ready()].concat())
                    .await?;
            }
            b'Q' if words.starts_with("copy t to") => {
                client.write_all(&message(b'H', &[0, 0, 0])).await?;
                send_long(&mut client, b'd', b"", LONG).await?;
                client.write_all(&message(b'c', b"")).await?;
                client.write_all(&done).await?;
            }
            b'Q' if words.starts_with("copy t from") => {
                client.write_all(&message(b'G', &[0, 0, 0])).await?;
            }
            b'Q' => {
                client
                    .write_all(&[message(b'C', b"SELECT 0\0"), ready()].concat())
                    .await?
            }
            b'P' => client.write_all(&message(b'1', b"")).await?,
            b'B' => client.write_all(&message(b'2', b"")).await?,
            b'E' => client.write_all(&message(b'C', b"SELECT 0\0")).await?,
            b'S' => client.write_all(&ready()).await?,
            b'F' => {
                let result = message(b'V', &[255; 4]);
                client.write_all(&[result, ready()].concat()).await?;
            }
            b'c' => client.write_all(&done).await?,
            b'd' | b'H' => {}
            _ => return Ok(()),
        }
    }
}

/// A client that sends and reads messages of any length. It says `stuck` when nothing more is taken
/// of it, or before it reads; what is then said to it lets it go on.
const CLIENT: &str = r#"
import select, socket, struct, sys
host, port, what, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
waits = sys.argv[5] == "waits"
s = socket.create_connection((host, port))
s.settimeout(240)
def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body
chunk = b"x" * (1 << 16)
stuck = False
def push(data):
    global stuck
    data = memoryview(data)
    while data:
        if waits and not stuck and not select.select([], [s], [], 1)[1]:
            stuck = True
            print("stuck", flush=True)
        data = data[s.send(data):]
def long(tag, front, length, back):
    push(tag + struct.pack("!i", length) + front)
    left = length - 4 - len(front) - len(back)
    while left > 0:
        push(chunk[:min(left, len(chunk))])
        left -= len(chunk)
    push(back)
received = b""
def need(count):
    global received
    while len(received) < count:
        more = s.recv(1 << 16)
        if not more:
            raise SystemExit("the session was ended: %r" % received[-300:])
        received += more
def read():
    global received
    need(5)
    tag, length = received[:1], struct.unpack("!i", received[1:5])[0]
    if length < 1 << 20:
        need(length + 1)
        body, received = received[5:length + 1], received[length + 1:]
        if tag == b"E":
            raise SystemExit("an error: %r" % body)
        return tag, length
    left = length + 1 - len(received)
    received = b""
    while left > 0:
        more = s.recv(min(left, 1 << 16))
        if not more:
            raise SystemExit("the session was ended in a long message")
        left -= len(more)
    return tag, length
def until(wanted):
    seen = []
    while not seen or seen[-1][0] != wanted:
        seen.append(read())
    return " ".join("%s%d" % (t.decode(), l) for t, l in seen)
push(struct.pack("!i", 8 + len(b"user\0a\0database\0shop\0\0")) + struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0")
until(b"Z")
if what == "bind":
    push(message(b"P", b"\0select $1\0\0\0"))
    param = size - 4 - 2 - 2 - 2 - 4 - 2
    long(b"B", b"\0\0" + b"\0\0" + b"\0\1" + struct.pack("!i", param), size, b"\0\0")
    push(message(b"E", b"\0\0\0\0\0") + message(b"S", b""))
elif what == "parse":
    long(b"P", b"\0select '", size, b"'\0\0\0")
    push(message(b"B", b"\0\0\0\0\0\0\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b""))
elif what == "query":
    long(b"Q", b"select '", size, b"'\0")
elif what == "copy":
    push(message(b"Q", b"copy t from stdin\0"))
    until(b"G")
    long(b"d", b"", size, b"")
    push(message(b"c", b""))
elif what == "call":
    long(b"F", b"\0\0\7\xea\0\0\0\1" + struct.pack("!i", size - 18), size, b"\0\0")
else:
    push(message(b"Q", what.encode() + b"\0"))
    if waits:
        need(1)
        print("stuck", flush=True)
        sys.stdin.readline()
print("done " + until(b"Z"), flush=True)
"#;

/// The most memory that the daemon has had since the last reset, in KiB.
pub(crate) fn peak(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.process().context("the daemon runs")?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    // Linux 4.0: "5" begins the peak anew.
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    Ok(number.context("a process has a peak")?.parse()?)
}

/// A daemon that permits everything, before a peer whose sessions are recorded or not.
fn lab(peer: &Peer, record: bool) -> Result<Lab> {
    let server = Postgres::start()?;
    let mut target = Target::postgres("peer", &server, peer.address);
    target.more.push(format!("record: {record}"));
    let pack = place::pack("allow-all")?;
    Lab::over(server, |settings| {
        settings.policies = pack;
        settings.targets.push(target);
    })
}

/// Lets a client do `what` with a message of `size` bytes. Where it waits, somebody has stopped reading:
/// whoever that is goes on once the client is stuck.
#[expect(clippy::print_stdout, reason = "figures, for whoever asks to see them")]
fn exchange(lab: &Lab, peer: &Peer, what: &str, size: usize, waits: bool) -> Result<()> {
    let case = format!("{what} of {size} bytes, waits: {waits}");
    if !waits {
        peer.reads.add_permits(1);
    }
    let (ip, port) = (
        peer.address.ip().to_string(),
        peer.address.port().to_string(),
    );
    let (size, waits_word) = (size.to_string(), if waits { "waits" } else { "goes on" });
    let words = ["-c", CLIENT, &ip, &port, what, &size, waits_word];
    peak(&lab.daemon)?;
    let before = peak(&lab.daemon)?;
    let mut client = lab.agent().start("/usr/bin/python3", &words)?;
    if waits {
        client.await_text("stuck", DEADLINE).context(case.clone())?;
        peer.reads.add_permits(1);
        client.send("go on\n")?;
    }
    client
        .await_text("done", DEADLINE * 4)
        .context(case.clone())?;
    let grown = peak(&lab.daemon)?.saturating_sub(before);
    println!("{case}: {grown} KiB more at most");
    ensure!(grown < MOST, "{case}: {grown} KiB");
    let finished = client.finish(DEADLINE)?;
    ensure!(finished.status.success(), "{case}: {finished:?}");
    // What an unread permit would do to the next one.
    peer.reads.forget_permits(usize::MAX >> 3);
    Ok(())
}

#[test]
fn the_longest_message_of_every_kind_passes_in_little_memory() -> Result<()> {
    let peer = Peer::start()?;
    let lab = lab(&peer, false)?;
    let row = format!("select {LONGEST}");
    for what in [row.as_str(), "bind", "copy", "query", "parse", "call"] {
        exchange(&lab, &peer, what, LONGEST, false)?;
    }
    has(&lab.psql(&["select 'unharmed'"])?.ok()?, &["unharmed"])
}

#[test]
fn long_messages_are_recorded_in_little_memory_too() -> Result<()> {
    let peer = Peer::start()?;
    let lab = lab(&peer, true)?;
    let row = format!("select {LONG}");
    for what in [row.as_str(), "copy t to stdout", "bind", "copy", "query"] {
        exchange(&lab, &peer, what, LONG, false)?;
    }
    Ok(())
}

#[test]
fn a_client_or_a_server_that_stops_reading_costs_no_memory_and_goes_on_where_it_stopped()
-> Result<()> {
    let peer = Peer::start()?;
    for record in [false, true] {
        let lab = lab(&peer, record)?;
        let row = format!("select {LONG}");
        for what in [
            row.as_str(),
            "copy t to stdout",
            "bind",
            "copy",
            "query",
            "parse",
        ] {
            exchange(&lab, &peer, what, LONG, true)?;
        }
    }
    Ok(())
}

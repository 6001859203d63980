//! Thousands of sessions that do nothing: what each costs, and that it costs nobody else anything.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::daemon::Target;
use support::{DEADLINE, Postgres, Process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::{Lab, has};
use crate::upstreams::{answered, greeting, ready, resident, result};

/// How many sessions are held at once, and how many of those that are recorded.
const SESSIONS: u64 = 5_000;
const RECORDED: u64 = 500;

/// What one of them may cost in the daemon once it has asked something and waits, in KiB: of a build that is not
/// optimised, whose futures are several times as large. `cargo xtask bench postgres` says it of a release.
const EACH: u64 = 96;

/// A server that answers each query with the same row, and holds as many connections as there are.
fn peer() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away ends its own session only.
                tokio::spawn(async move { drop(serve(client).await) });
            }
        });
    });
    Ok(address)
}

async fn serve(mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let length = client.read_u32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap_or(4).saturating_sub(4)];
    client.read_exact(&mut startup).await?;
    client.write_all(&greeting()).await?;
    loop {
        let tag = client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut body = vec![0; usize::try_from(length).unwrap_or(4).saturating_sub(4)];
        client.read_exact(&mut body).await?;
        if tag != b'Q' {
            return Ok(());
        }
        let answer = answered(&body).unwrap_or_else(|| [result(b"here"), ready()].concat());
        client.write_all(&answer).await?;
    }
}

/// Opens sessions, and lets each ask something whenever a line comes in.
const HOLD: &str = r#"
import resource, socket, struct, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
body = struct.pack("!i", 196608) + b"user\0a\0database\0shop\0\0"
startup = struct.pack("!i", len(body) + 4) + body
def until_ready(s):
    got = b""
    while not got.endswith(b"Z\0\0\0\x05I"):
        more = s.recv(65536)
        if not more:
            raise SystemExit("a session was ended: %r" % got[-200:])
        got += more
    return got
held = []
for _ in range(count):
    s = socket.create_connection((host, port))
    s.sendall(startup)
    until_ready(s)
    held.append(s)
print("held", flush=True)
query = b"select 1\0"
for line in sys.stdin:
    for s in held:
        s.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        if b"here" not in until_ready(s):
            raise SystemExit("no answer")
    print("asked " + line.strip(), flush=True)
"#;

fn hold(lab: &Lab, address: SocketAddr, count: u64) -> Result<Process> {
    let (ip, port, count) = (
        address.ip().to_string(),
        address.port().to_string(),
        count.to_string(),
    );
    let words = ["-c", HOLD, &ip, &port, &count];
    let holder = lab.agent().start("/usr/bin/python3", &words)?;
    holder.await_text("held", DEADLINE * 10)?;
    Ok(holder)
}

/// KiB that the daemon has grown by for each of `count` sessions, once each has asked something twice.
fn grown(lab: &Lab, before: u64, count: u64, holder: &mut Process) -> Result<u64> {
    let mut each = 0;
    for round in ["once", "again"] {
        holder.send(&format!("{round}\n"))?;
        holder.await_text(&format!("asked {round}"), DEADLINE * 10)?;
        let grown = resident(&lab.daemon)?.saturating_sub(before);
        each = each.max(grown / count);
    }
    Ok(each)
}

#[test]
fn thousands_of_idle_sessions_are_held_in_little_memory_and_each_still_answers() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The client's, the server's and the process's in the daemon; a recording is one more.
    let needed = 3 * SESSIONS + 4 * RECORDED + 500;
    ensure!(
        hard >= needed,
        "needs a hard limit of {needed} open files; it is {hard} here"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let server = Postgres::start()?;
    let mut crowd = Target::postgres("crowd", &server, peer()?);
    crowd.more.push("record: false".to_owned());
    let recorded = Target::postgres("recorded", &server, peer()?);
    let at = |target: &Target| target.addresses.concat().parse::<SocketAddr>();
    let (crowd_at, recorded_at) = (at(&crowd)?, at(&recorded)?);
    let lab = Lab::over(server, |settings| {
        settings.targets.extend([crowd, recorded]);
        settings.limits = ["connections: unlimited", "sessions: unlimited"]
            .map(str::to_owned)
            .to_vec();
    })?;
    // What is made once is made: threads, caches, the policy's slices.
    let mut first = hold(&lab, recorded_at, 50)?;
    grown(&lab, 0, 50, &mut first)?;
    let mut holders = Vec::new();
    for (address, count) in [(recorded_at, RECORDED), (crowd_at, SESSIONS)] {
        let before = resident(&lab.daemon)?;
        let mut holder = hold(&lab, address, count)?;
        let each = grown(&lab, before, count, &mut holder)?;
        ensure!(each < EACH, "{each} KiB for each of {count} sessions");
        holders.push(holder);
    }
    // Somebody else is served meanwhile.
    has(&lab.psql(&["select 'served'"])?.ok()?, &["served"])?;
    for mut holder in holders {
        holder.close_input();
        ensure!(
            holder.finish(DEADLINE)?.status.success(),
            "a session was ended"
        );
    }
    Ok(())
}

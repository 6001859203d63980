//! What is behind a proxy besides pages: a database, whose cancels go by their session's own way, and SSH.

use anyhow::{Result, ensure};
use support::daemon::{Settings, Target};
use support::{Daemon, Finished, Postgres, Sshd, place};

use super::{OPENED, Proxy};
use crate::lab::{has, lacks, needs_root, refused};
use crate::ssh::lab::Lab;

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

/// A session by one way, which is cancelled by the other.
const CANCELS: &str = r#"
import select, time
proxy, place, first = sys.argv[1:4]
def straight(proxy, place):
    host, port = place.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=60)
by, other = (opened, straight) if first == "through" else (straight, opened)
def message(stream):
    kind, size = struct.unpack("!cI", whole(stream, 5))
    return kind, whole(stream, size - 4)
stream = by(proxy, place)
words = b"user\0anybody\0database\0shop\0\0"
stream.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
kind = key = None
while kind != b"Z":
    kind, body = message(stream)
    if kind == b"E":
        sys.exit(body.decode())
    if kind == b"K":
        key = body
text = b"select pg_sleep(600)\0"
stream.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
deadline = time.monotonic() + 60
while not select.select([stream], [], [], 0.5)[0]:
    if time.monotonic() > deadline:
        sys.exit("it was not cancelled")
    cancels = other(proxy, place)
    cancels.sendall(struct.pack("!II", 16, 80877102) + key)
    cancels.recv(1)
said = b""
while b"SFATAL" not in said and b"SERROR" not in said:
    kind, body = message(stream)
    said += body
print(said)
"#;

#[test]
fn a_cancel_goes_by_the_way_of_its_session_and_tells_no_server_the_proxys_login() -> Result<()> {
    needs_root()?;
    let server = Postgres::start_with_tls()?;
    let directory = place::temporary("behind")?;
    let proxy = Proxy::start(directory.path(), &[])?;
    let mut settings = Settings::new(vec![Target::shop(&server)], ALL);
    settings.more = proxy.target();
    let daemon = Daemon::start(settings)?;
    let (at, place) = (proxy.at.to_string(), server.address().to_string());
    let program = format!("{OPENED}{CANCELS}");
    let run = |first: &str| {
        let words = ["-c", &program, &at, &place, first];
        daemon.agent().run("/usr/bin/python3", &words)?.ok()
    };
    has(&run("straight")?, &["C57014"])?;
    // The proxy was asked for nothing.
    ensure!(proxy.asked().is_empty(), "{}", proxy.asked());
    has(&run("through")?, &["C57014"])?;
    // For the session, and for each of its cancels.
    ensure!(proxy.asked().lines().count() >= 2, "{}", proxy.asked());
    for line in daemon.audit().events("request.cancelled")? {
        ensure!(
            line.get("error").is_none_or(serde_json::Value::is_null),
            "{line}"
        );
    }
    lacks(&server.log(), &["startup packet", "CONNECT"])
}

/// `ssh` to the server through the proxy, as nobody there knows it.
fn ssh(lab: &Lab, proxy: &Proxy) -> Result<Finished> {
    let way = format!("-oProxyCommand=nc -X connect -x {} %h %p", proxy.at);
    lab.ssh(&[&way, "id -un"])
}

#[test]
fn a_server_of_ssh_is_reached_behind_a_proxy_by_the_key_that_is_known() -> Result<()> {
    let policy = || vec![("test.cedar".to_owned(), ALL.to_owned())];
    let directory = place::temporary("behind")?;
    let proxy = Proxy::start(directory.path(), &[])?;
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = format!("{}{}", server.target("web", &login, &[])?, proxy.target());
    let lab = Lab::over(server, &target, policy())?;
    let said = ssh(&lab, &proxy)?.ok()?;
    ensure!(said.trim() == lab.server.user(), "{said}");
    let port = lab.server.address().port();
    has(&proxy.asked(), &[&format!("CONNECT 127.0.0.1:{port} ")])?;

    // The same by a key that is believed at first sight.
    let before = proxy.asked();
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let (head, rest) = target.split_once("host_keys: [").unwrap_or_default();
    let (_key, rest) = rest.split_once(']').unwrap_or_default();
    let target = format!("{head}host_keys: [learn]{rest}{}", proxy.target());
    let lab = Lab::over(server, &target, policy())?;
    refused(ssh(&lab, &proxy)?)?;
    ensure!(proxy.asked() == before, "{}", proxy.asked());
    let refused = lab.daemon.audit().events("connection.refused")?;
    has(
        &format!("{refused:?}"),
        &["only servers are reached that prove"],
    )?;
    // Straight it is believed.
    lab.ssh(&["id -un"])?.ok().map(drop)
}

//! The server, and the ways to it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, chown};
use support::daemon::{Settings, Target};
use support::tls::Authority;
use support::{Agent, Daemon, Process, place, port};
use tempfile::TempDir;

use crate::bench::ssh::part;
use crate::bench::subjects::{as_server, listening};

/// Bytes of a large body.
pub(super) const BIG: u32 = 1 << 30;
/// Bytes of a body of JSON.
const ROWS: u32 = 256 << 20;
/// Bytes of one endless stream, which nobody lives to read.
const EVENTS: u32 = 8 << 20;
/// As some API's token is.
const TOKEN: &str = "upstream-token-0123456789";
/// What is masked of a row: one field of three.
const MASK: &str = "mask: { '**.email': email }";

/// One way to the server.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// Where clients run, and what they ask.
    pub(super) client: Agent,
    pub(super) address: SocketAddr,
    /// The process whose memory counts; none for the direct way.
    pub(super) pid: Option<u32>,
}

impl Subject {
    /// What a client asks for.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

/// What has been put up. Fields are dropped in order: hops before the server.
pub(super) struct Lab {
    daemon: Daemon,
    haproxy: (Process, SocketAddr),
    mitmproxy: (Process, SocketAddr),
    _server: Process,
    /// The same server on three ports, of which each is a target of its own.
    places: [SocketAddr; 3],
    directory: TempDir,
}

impl Lab {
    /// Starts server and hops; `python` is mitmproxy's.
    pub(super) fn put_up(python: &Path) -> anyhow::Result<Self> {
        let directory = place::temporary("bench")?;
        let at = directory.path();
        let authority = Authority::make(at)?;
        let places = [port::free()?, port::free()?, port::free()?];
        let [plain, given, masked] = places;
        let server = nginx(at, &places, &authority)?;
        let haproxy = haproxy(at, plain, &authority)?;
        let mitmproxy = mitmproxy(at, plain, &authority, python)?;
        let inject = "inject: { secret: SECRET }";
        let targets = vec![
            target("plain", plain, &authority, &[]),
            target("given", given, &authority, &[inject]),
            target("masked", masked, &authority, &[MASK]),
        ];
        let mut settings = Settings::new(targets, "");
        settings.policies = place::pack("allow-all")?;
        settings.limits = vec![
            "connections: unlimited".into(),
            "sessions: unlimited".into(),
        ];
        Ok(Self {
            daemon: Daemon::start(settings)?,
            haproxy,
            mitmproxy,
            _server: server,
            places,
            directory,
        })
    }

    /// The direct way.
    pub(super) fn direct(&self) -> Subject {
        let [plain, ..] = self.places;
        outside("direct", plain, None)
    }

    /// All ways, in the order in which they are measured.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let (mitmproxy, at) = &self.mitmproxy;
        let mitmproxy = outside("mitmproxy", *at, Some(mitmproxy.pid()));
        let mut all = self.without_mitmproxy();
        all.insert(2, mitmproxy);
        all
    }

    /// Those that are not written in Python.
    pub(super) fn without_mitmproxy(&self) -> Vec<Subject> {
        let [plain, given, _masked] = self.places;
        let (haproxy, at) = &self.haproxy;
        vec![
            self.direct(),
            outside("haproxy", *at, Some(haproxy.pid())),
            self.through("interceptor", plain),
            self.through("interceptor, credential", given),
        ]
    }

    /// Through the daemon, as it is and with masks.
    pub(super) fn masked(&self) -> [Subject; 2] {
        let [plain, _given, masked] = self.places;
        [
            self.through("interceptor", plain),
            self.through("interceptor, mask", masked),
        ]
    }

    fn through(&self, name: &'static str, address: SocketAddr) -> Subject {
        Subject {
            name,
            client: self.daemon.agent(),
            address,
            pid: self.daemon.process().map(Process::pid),
        }
    }

    /// A directory that clients may write to.
    pub(super) fn scratch(&self) -> anyhow::Result<PathBuf> {
        let scratch = self.directory.path().join("scratch");
        if !scratch.is_dir() {
            fs::create_dir(&scratch).context("make a directory for clients")?;
            chown(&scratch, Some(Uid::from_raw(Agent::outside().uid())), None)?;
        }
        Ok(scratch)
    }
}

fn outside(name: &'static str, address: SocketAddr, pid: Option<u32>) -> Subject {
    Subject {
        name,
        client: Agent::outside(),
        address,
        pid,
    }
}

fn target(name: &str, address: SocketAddr, authority: &Authority, http: &[&str]) -> Target {
    let lines = [http, &["hosts: [127.0.0.1]"]].concat();
    Target {
        password: Some(TOKEN.to_owned()),
        authority: Some(authority.ca.clone()),
        ..Target::http(name, address, &lines)
    }
}

/// The server, with everything that is asked for.
fn nginx(at: &Path, places: &[SocketAddr], authority: &Authority) -> anyhow::Result<Process> {
    let root = at.join("served");
    fs::create_dir(&root).context("make a directory of what is served")?;
    let big = fs::File::create(root.join("big")).context("make a large file")?;
    big.set_len(part(BIG)?.into())
        .context("make a large file large")?;
    fs::write(root.join("rows.json"), rows(part(ROWS)?)).context("write rows of JSON")?;
    let event = "data: {\"at\":1}\n\n";
    let many = usize::try_from(EVENTS)? / event.len();
    fs::write(root.join("events"), event.repeat(many)).context("write events")?;
    let state = at.join("nginx");
    fs::create_dir(&state).context("make a directory for nginx")?;
    let file = at.join("nginx.conf");
    fs::write(&file, settings(&state, &root, (places, authority))).context("write its settings")?;
    let user = place::server_user();
    for (path, mode) in [(at, 0o755), (&authority.key, 0o644), (&root, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("let it be read")?;
    }
    let group = Gid::from_raw(place::group_of(user));
    chown(&state, Some(user), Some(group)).context("give nginx its directory")?;
    let mut command = as_server("nginx")?;
    command.arg("-e").arg("stderr").arg("-c").arg(&file);
    let first = places.first().copied().context("a server has a port")?;
    listening(Process::start(command)?, first)
}

fn settings(state: &Path, root: &Path, (places, authority): (&[SocketAddr], &Authority)) -> String {
    let (state, root) = (state.display(), root.display());
    let mut text = format!(
        "daemon off;\nworker_processes 2;\npid {state}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 9000; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 1h;\n  keepalive_requests 1000000000;\n\
         http2_max_concurrent_streams 1000;\n  sendfile on;\n  output_buffers 2 128k;\n  open_file_cache max=16;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _infallible = writeln!(text, "  {kind}_temp_path {state}/{kind};");
    }
    text.push_str("  server {\n");
    for place in places {
        let _infallible = writeln!(text, "    listen {place} ssl http2;");
    }
    let (certificate, key) = (authority.certificate.display(), authority.key.display());
    let _infallible = write!(
        text,
        "    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.3;\n\
         root {root};\n    default_type application/octet-stream;\n    types {{ application/json json; }}\n\
         location = /hello {{ default_type text/plain; return 200 \"hello, world\\n\"; }}\n\
         location = /status {{ stub_status; }}\n\
         location = /events {{ default_type text/event-stream; limit_rate 16; }}\n  }}\n}}\n"
    );
    text
}

/// A list of rows in one line, of so many bytes or a little less.
fn rows(bytes: u32) -> String {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut text = String::with_capacity(bytes);
    text.push('[');
    for number in 0_u32.. {
        let comma = if number == 0 { "" } else { "," };
        let row = format!(
            "{comma}{{\"id\":{number},\"name\":\"Customer {number}\",\"email\":\"customer{number}@example.com\",\
             \"address\":{{\"street\":\"{number} Example Street\",\"city\":\"Somewhere\"}},\"tags\":[\"a\",\"b\"]}}"
        );
        if text.len() + row.len() + 1 > bytes {
            break;
        }
        text.push_str(&row);
    }
    text.push(']');
    text
}

/// From TLS to TLS, and to the server in the version that the client chose: nothing is translated.
fn haproxy(
    at: &Path,
    server: SocketAddr,
    authority: &Authority,
) -> anyhow::Result<(Process, SocketAddr)> {
    let address = port::free()?;
    let shown = at.join("haproxy.pem");
    let read = |path: &Path| fs::read_to_string(path).context("read a certificate");
    fs::write(
        &shown,
        read(&authority.certificate)? + &read(&authority.key)?,
    )
    .context("write haproxy's certificate")?;
    let (ca, shown) = (authority.ca.display(), shown.display());
    let backend = |name: &str, protocol: &str| {
        format!(
            "backend {name}\n  server one {server} ssl verify required ca-file {ca} alpn {protocol}\n"
        )
    };
    let text = format!(
        "global\n  maxconn 4000\n  tune.h2.max-concurrent-streams 200\n\
         defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
         frontend web\n  bind {address} ssl crt {shown} alpn h2,http/1.1\n\
         use_backend two if {{ ssl_fc_alpn -i h2 }}\n  default_backend one\n{}{}",
        backend("one", "http/1.1"),
        backend("two", "h2"),
    );
    let file = at.join("haproxy.cfg");
    fs::write(&file, text).context("write haproxy's settings")?;
    let mut command = as_server("haproxy")?;
    command.arg("-db").arg("-f").arg(&file);
    Ok((listening(Process::start(command)?, address)?, address))
}

/// As a reverse proxy, which costs it less than finding out where a connection was going.
fn mitmproxy(
    at: &Path,
    server: SocketAddr,
    authority: &Authority,
    python: &Path,
) -> anyhow::Result<(Process, SocketAddr)> {
    let address = port::free()?;
    let own = at.join("mitmproxy");
    fs::create_dir(&own).context("make a directory for mitmproxy")?;
    let user = place::server_user();
    let group = place::group_of(user);
    chown(&own, Some(user), Some(Gid::from_raw(group))).context("give mitmproxy its directory")?;
    let mut command = Command::new(python);
    command
        .args([
            "-c",
            "from mitmproxy.tools.main import mitmdump; mitmdump()",
        ])
        .args(["--quiet", "--listen-host", &address.ip().to_string()])
        .args(["--listen-port", &address.port().to_string()])
        .args(["--mode", &format!("reverse:https://{server}")])
        .args(["--set", "stream_large_bodies=1m", "--set", "flow_detail=0"])
        .args(["--set", &format!("confdir={}", own.display())])
        .arg("--set")
        .arg(format!(
            "ssl_verify_upstream_trusted_ca={}",
            authority.ca.display()
        ))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &own)
        .current_dir("/")
        .uid(user.as_raw())
        .gid(group);
    Ok((listening(Process::start(command)?, address)?, address))
}

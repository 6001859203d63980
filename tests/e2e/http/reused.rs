//! A connection to the server is left to the next client of the same scope, and to nobody else.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::cgroup::Cgroup;
use support::daemon::{Settings, Target};
use support::{Agent, DEADLINE, Daemon, suffix, wait};

use super::Shop;
use crate::lab::{has, needs_root};

#[test]
fn a_connection_is_left_to_the_next_client_of_the_scope_and_to_no_other_scope() -> Result<()> {
    let shop = Shop::new(&[])?;
    let cgroup = Cgroup::make(&format!("ic-{}-other", suffix()?))?;
    let tag = ["tag", cgroup.below(), "--agent", "demo"];
    shop.daemon.cli(&tag)?.ok()?;
    let other = Agent::inside(cgroup.path());
    let (ca, url) = (shop.daemon.authority(), shop.url("/v1/customers"));
    let ca = ca.to_string_lossy();
    for version in ["--http1.1", "--http2"] {
        let ask = |agent: &Agent| -> Result<u64> {
            let words = ["-sS", "-4", "--cacert", &ca, version, &url];
            has(&agent.run("curl", &words)?.ok()?, &["Ann"])?;
            let arrived = shop.arrived()?;
            arrived
                .get("from")
                .and_then(Value::as_u64)
                .context("a port")
        };
        let mut seen = BTreeSet::new();
        // A connection is free when its client's end has been seen.
        wait::for_fact("a connection that is used again", DEADLINE, || {
            Ok((!seen.insert(ask(&shop.agent())?)).then_some(()))
        })?;
        let mut others = BTreeSet::new();
        wait::for_fact("the same in another scope", DEADLINE, || {
            Ok((!others.insert(ask(&other)?)).then_some(()))
        })?;
        ensure!(seen.is_disjoint(&others), "{seen:?} and {others:?}");
    }
    Ok(())
}

/// A server that answers the first request of each connection, and closes where it hears a second one.
struct Fickle {
    address: SocketAddr,
    /// The first line of every request.
    heard: Arc<Mutex<Vec<String>>>,
    /// How often it has closed.
    closed: Arc<AtomicUsize>,
}

impl Fickle {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let fickle = Self {
            address: listener.local_addr()?,
            heard: Arc::default(),
            closed: Arc::default(),
        };
        let (heard, closed) = (Arc::clone(&fickle.heard), Arc::clone(&fickle.closed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (heard, closed) = (Arc::clone(&heard), Arc::clone(&closed));
                thread::spawn(move || {
                    if answer(client, &heard).is_some() {
                        closed.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Ok(fickle)
    }

    fn times(&self, line: &str) -> usize {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|heard| heard.starts_with(line)).count()
    }
}

/// `None` where the client has closed first.
fn answer(mut client: TcpStream, heard: &Mutex<Vec<String>>) -> Option<()> {
    for number in 0..2 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).ok()?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        if number == 0 {
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            client.write_all(ok).ok()?;
        }
    }
    Some(())
}

#[test]
fn what_changes_nothing_is_asked_again_where_the_server_closed_and_nothing_else_is() -> Result<()> {
    needs_root()?;
    let server = Fickle::start()?;
    let target = Target::http("api", server.address, &["recorded: 1KiB"]);
    let policy = "permit (principal is Agent, action, resource);";
    let daemon = Daemon::start(Settings::new(vec![target], policy))?;
    let ask = |method: &str, path: &str| -> Result<String> {
        let url = format!("http://{}{path}", server.address);
        let words = ["-sS", "-X", method, "-w", "\n%{http_code}\n", &url];
        daemon.agent().run("curl", &words)?.ok()
    };
    let closed = || server.closed.load(Ordering::SeqCst);
    wait::for_fact("a connection that the server closes", DEADLINE, || {
        has(&ask("GET", "/read")?, &["ok\n200\n"])?;
        Ok((closed() > 0).then_some(()))
    })?;
    let mut number = 0;
    wait::for_fact(
        "one that it closes where something is changed",
        DEADLINE,
        || {
            number += 1;
            has(&ask("GET", "/read")?, &["ok\n200\n"])?;
            let (before, path) = (closed(), format!("/change/{number}"));
            let said = ask("POST", &path)?;
            let times = server.times(&format!("POST {path} "));
            ensure!(times == 1, "it was sent {times} times: {said}");
            if closed() == before {
                return has(&said, &["ok\n200\n"]).map(|()| None);
            }
            has(&said, &["gave no answer", "\n502\n"]).map(Some)
        },
    )
}

//! Agents in a network namespace of their own: a container's, with or without a database of its own.

use anyhow::{Context as _, Result};
use support::agent::Dsn;
use support::daemon::Target;
use support::netns::Netns;
use support::{Agent, DEADLINE, Finished, Postgres, Process};

use crate::lab::{Lab, has, lacks, refused};

/// Carries connections from its namespace's loopback to the server's socket: a database in a container.
const BRIDGE: &str = r#"
import socket, sys, threading
def carry(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
while True:
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[2])
    for ends in (client, server), (server, client):
        threading.Thread(target=carry, args=ends, daemon=True).start()
"#;

/// A namespace is served from its first refusal on: what becomes of the agent's statement then.
fn answered(agent: &Agent, dsn: &Dsn) -> Result<Finished> {
    let statement = "select name from customers where id = 1";
    support::wait::for_fact("listeners in the namespace", DEADLINE, || {
        let finished = agent.psql(dsn, &[statement])?;
        let again = finished.stderr.contains("No route to host");
        Ok((!again).then_some(finished))
    })
}

#[test]
fn loopback_of_a_clients_namespace_is_not_the_daemons() -> Result<()> {
    let lab = Lab::new()?;
    let netns = Netns::new()?;
    let agent = lab.agent().in_netns(netns.name());
    let error = refused(answered(&agent, &lab.dsn())?)?;
    has(&error, &["FATAL", "loopback of another network namespace"])?;
    let log = lab.daemon.audit();
    log.wait_for("kernel.denied", DEADLINE, |line| {
        line["denied"]["reason"] == "netns_unknown"
    })?;
    lacks(&format!("{:?}", log.lines()?), &["session.opened"])
}

#[test]
fn a_target_of_the_clients_namespace_is_dialled_there_and_nowhere_else() -> Result<()> {
    let inner = Postgres::start()?;
    inner.admin("update customers set name = 'Inner Ada' where id = 1")?;
    let netns = Netns::new()?;
    let at = support::port::free()?;
    let mut bridge = netns.command("/usr/bin/python3");
    bridge
        .args(["-c", BRIDGE, &at.port().to_string()])
        .arg(inner.socket());
    let bridge = Process::start(bridge)?;
    bridge.await_text("up", DEADLINE)?;
    let lab = Lab::with(|settings| {
        let mut target = Target::postgres("inner", &inner, at);
        // Its wire to the bridge is in clear, so the daemon has nothing to give it.
        target.namespace = "client";
        settings.targets.push(target);
    })?;
    let dsn = Dsn::of(at, "anybody", "shop");
    let within = lab.agent().in_netns(netns.name());
    has(&answered(&within, &dsn)?.ok()?, &["Inner Ada"])?;
    // The same address in the daemon's own namespace, where nothing listens.
    let error = refused(answered(&lab.agent(), &dsn)?)?;
    has(&error, &["FATAL"]).context("outside of the namespace")?;
    lacks(&error, &["Inner"])?;
    let opened = lab.daemon.audit().events("session.opened")?;
    has(&format!("{opened:?}"), &["inner"])
}

//! Many of something: connects in a minute, scopes, network namespaces. Each is bounded in number and in time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use interceptor::capture::{Origin as _, Verdict};
use interceptor::clock;
use interceptor::identity::pidfd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd as _;

use crate::scene::{Client, Scene};
use crate::{count, part, show};

const CONNECTS: u32 = 100_000;
/// How many clients make them.
const CLIENTS: u32 = 4;
const SCOPES: u32 = 10_000;
const NAMESPACES: u32 = 1_000;
/// Longer than this nothing is made more of.
const LONGEST: Duration = Duration::from_secs(300);
/// An address that nobody is at.
const NOBODY: u16 = 9;

/// Connects that each have their record read, as fast as they come.
pub(crate) fn connects(scene: &Scene) -> anyhow::Result<()> {
    let all = part(CONNECTS)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, NOBODY));
    scene.rules(&[(to, Verdict::Redirect)])?;
    let daemon = scene.accept(true)?;
    let words = ["ask", &NOBODY.to_string()];
    let clients = (0..CLIENTS).map(|_| scene.inside(&words));
    let mut clients = clients.collect::<anyhow::Result<Vec<Client>>>()?;
    let each = all.div_ceil(CLIENTS);
    let since = clock::monotonic();
    for client in &mut clients {
        client.tell(&each.to_string())?;
    }
    for client in &mut clients {
        client.line()?;
    }
    let took = clock::monotonic().saturating_sub(since);
    let (known, unknown) = daemon.seen();
    let lost = scene.capture.unrecorded()?;
    show("tagged", "connects", f64::from(known), "connects");
    let rate = f64::from(known) * 60.0 / took.as_secs_f64();
    show("tagged", "connects,rate", rate, "1/min");
    show(
        "tagged",
        "connects,lost",
        f64::from(unknown) + count(lost),
        "records",
    );
    ensure!(
        known == each * CLIENTS,
        "{known} of {} arrived",
        each * CLIENTS
    );
    ensure!(
        unknown == 0 && lost == 0,
        "{unknown} and {lost} records are lost"
    );
    Ok(())
}

/// Scopes beside each other, and what a connect costs in the last of them.
pub(crate) fn scopes(scene: &mut Scene) -> anyhow::Result<()> {
    let wanted = part(SCOPES)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, NOBODY));
    scene.rules(&[(to, Verdict::Redirect)])?;
    let since = clock::monotonic();
    let mut made = 0;
    let mut last = scene.path("in");
    while made < wanted && clock::monotonic().saturating_sub(since) < LONGEST {
        last = scene.path(&format!("scope{made}"));
        scene.make(last.clone())?;
        scene.capture.tag(&last, "bench")?;
        made += 1;
    }
    let took = clock::monotonic().saturating_sub(since);
    show("scopes", "tagged", f64::from(made), "scopes");
    show(
        "scopes",
        "tag",
        took.as_secs_f64() * 1e6 / f64::from(made.max(1)),
        "µs",
    );
    let connects = part(crate::CONNECTS)?;
    let daemon = scene.accept(false)?;
    let mut client = scene.client(&last, &["dial", &NOBODY.to_string()])?;
    client.round(connects)?;
    let counted = scene.programs.counted(|| client.round(connects))?;
    let each = counted.0.time / connects;
    show("scopes", "connect,programs", each.as_secs_f64() * 1e6, "µs");
    drop(daemon);
    Ok(())
}

/// Network namespaces that are listened in at once, with a connect of a scope's process in each.
pub(crate) fn namespaces(scene: &Scene) -> anyhow::Result<()> {
    let wanted = part(NAMESPACES)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, NOBODY));
    scene.rules(&[(to, Verdict::Redirect)])?;
    let mut client = scene.inside(&["move", &NOBODY.to_string()])?;
    let process = pidfd::open(client.pid())?;
    let begun = clock::monotonic();
    let mut served = Vec::new();
    let mut provisioning = Duration::ZERO;
    while served.len() < usize::try_from(wanted)?
        && clock::monotonic().saturating_sub(begun) < LONGEST
    {
        client.tell("go")?;
        client.line()?;
        let since = clock::monotonic();
        let listeners = scene.capture.provision(process.as_fd())?;
        provisioning += clock::monotonic().saturating_sub(since);
        let listeners = listeners.context("the namespace is served already")?;
        client.tell("connect")?;
        let mut waiting = [PollFd::new(listeners.v4.as_fd(), PollFlags::POLLIN)];
        let came = poll(&mut waiting, PollTimeout::from(20_000_u16))?;
        ensure!(came == 1, "nobody connected in a namespace");
        let (socket, _) = listeners.v4.accept()?;
        let flow = scene.capture.origin(&socket)?;
        ensure!(
            flow.netns == listeners.netns,
            "it came out of another namespace"
        );
        drop(socket);
        client.line()?;
        served.push(listeners);
    }
    let made = u32::try_from(served.len())?;
    show("namespaces", "served", f64::from(made), "namespaces");
    let each = provisioning / made.max(1);
    show("namespaces", "provision", each.as_secs_f64() * 1e6, "µs");
    for listeners in served {
        scene.capture.retire(listeners.netns)?;
    }
    Ok(())
}

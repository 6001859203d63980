//! Who was refused something: named where it can still be shown, and at a bounded cost.

use super::*;

async fn shown(
    identifier: &Identifier,
    denied: &Denied,
    scope: &ScopeOf,
) -> Result<Principal, &'static str> {
    let json = identifier.of_refusal(denied, scope).await;
    json.map(|json| serde_json::from_str(json.get()).unwrap())
        .map_err(|error| error.reason())
}

#[tokio::test]
async fn whoever_was_refused_is_named_as_whoever_connects() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let mut shell =
        group.shell("sleep 999 & echo $!; read line; kill $!; wait; echo ended; read line");
    let child: u32 = shell.hear().parse().unwrap();
    until("the exec", || {
        fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|path| path.ends_with("sleep"))
    });
    let flow = flow(child, &scope);
    let refused = denied(&flow);
    let connected = identifier.identify(&flow, &scope).await.unwrap();
    let principal = shown(&identifier, &refused, &scope).await.unwrap();
    assert_eq!(principal, *connected.principal);
    assert_eq!(principal.ancestors.len(), 1);
    shell.tell("end");
    assert_eq!(shell.hear(), "ended");
    assert_eq!(shown(&identifier, &refused, &scope).await, Err("gone"));
}

#[tokio::test]
async fn what_cannot_be_shown_is_not_said() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let mut shell = group.shell("read line; exec sleep 999");
    let refused = denied(&flow(shell.pid(), &scope));
    assert!(shown(&identifier, &refused, &scope).await.is_ok());

    let mut passerby = refused.clone();
    passerby.passerby = true;
    assert_eq!(shown(&identifier, &passerby, &scope).await, Err("passerby"));
    let mut nobody = refused.clone();
    nobody.process.tgid = 0;
    assert_eq!(shown(&identifier, &nobody, &scope).await, Err("unstamped"));
    let mut earlier = refused.clone();
    earlier.process.started = BootTime(1);
    assert_eq!(shown(&identifier, &earlier, &scope).await, Err("replaced"));
    let mut before = refused.clone();
    before.at = BootTime(before.process.started.0 - 1);
    assert_eq!(shown(&identifier, &before, &scope).await, Err("later"));

    let exe = format!("/proc/{}/exe", shell.pid());
    shell.tell("go");
    until("the exec", || {
        fs::read_link(&exe).is_ok_and(|path| path.ends_with("sleep"))
    });
    assert_eq!(shown(&identifier, &refused, &scope).await, Err("executed"));
}

#[tokio::test]
async fn a_flood_of_refusals_is_named_no_more_and_costs_connections_nothing() {
    if !is_root() {
        return;
    }
    let (group, other) = (Group::new(), Group::new());
    let (identifier, scope) = (identifier(), group.scope());
    let argument = "x".repeat(4_000);
    let sleep = group.start("/bin/sh", &["-c", "read line", &argument]);
    let flow = flow(sleep.pid(), &scope);
    let refused = denied(&flow);
    // Four KiB of arguments in each line: a few hundred of them are all that it may spend at once.
    let mut named = 0;
    while shown(&identifier, &refused, &scope).await != Err("busy") {
        named += 1;
        assert!(named < 2_000, "named without an end");
    }
    assert!(named > 20, "{named}");
    assert_eq!(reason(&identifier, &flow, &scope).await, Ok(()));
    let (sleep, scope) = (other.start(SLEEP, &["999"]), other.scope());
    let refused = denied(&super::flow(sleep.pid(), &scope));
    assert!(shown(&identifier, &refused, &scope).await.is_ok());
}

//! Real processes in real cgroups: which they are, and where.

use super::*;

#[tokio::test]
async fn a_process_is_named_with_all_that_belongs_to_it() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (scope, inner) = (group.scope(), group.below("inner"));
    let sleep = inner.start(SLEEP, &["999", "998"]);
    let flow = flow(sleep.pid(), &scope);
    let identified = identifier().identify(&flow, &scope).await.unwrap();
    let path = fs::canonicalize(SLEEP).unwrap();
    let expected = Principal {
        agent: "claude".into(),
        user: User {
            uid: 0,
            gid: 0,
            name: Some("root".into()),
        },
        process: Process {
            pid: sleep.pid(),
            started: flow.process.started,
            executable: Executable {
                sha256: sha256sum(&path),
                path,
            },
            argv: vec![SLEEP.into(), "999".into(), "998".into()],
            uid: 0,
        },
        ancestors: vec![],
        cgroup: Cgroup {
            id: flow.process.cgroup,
            path: inner.path(),
            scope: group.path(),
        },
        container: None,
        workload: None,
        privileged: true,
        identity: None,
    };
    assert_eq!(*identified.principal, expected);
    // A scope may be told with or without its leading slash.
    let scope = ScopeOf {
        cgroup: scope.cgroup.trim_start_matches('/').into(),
        ..scope
    };
    let again = identifier().identify(&flow, &scope).await.unwrap();
    assert_eq!(*again.principal, expected);
}

#[tokio::test]
async fn a_process_that_has_ended_is_refused_reaped_or_not() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    // Forks, the child connects, both are stamped, the child ends: its parent does not stand in for it.
    let mut shell = group.shell("sleep 999 & echo $!; read line");
    let child: u32 = shell.hear().parse().unwrap();
    until("the child's exec", || {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line == b"sleep\x00999\x00")
    });
    let (of_child, of_shell) = (flow(child, &scope), flow(shell.pid(), &scope));
    let named = identifier.identify(&of_child, &scope).await.unwrap();
    assert_eq!(named.principal.process.argv, ["sleep", "999"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    named.exited().await;
    let zombie =
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    assert!(zombie, "the shell has not waited for it");
    assert_eq!(reason(&identifier, &of_child, &scope).await, Err("gone"));
    assert_eq!(reason(&identifier, &of_shell, &scope).await, Ok(()));
    shell.end();
    assert_eq!(reason(&identifier, &of_shell, &scope).await, Err("gone"));
}

#[tokio::test]
async fn a_number_that_belongs_to_another_process_by_now_is_refused() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let sleep = group.start(SLEEP, &["999"]);
    let real = flow(sleep.pid(), &scope);
    let started = real.process.started.0;
    let rows = [
        (started, Ok(())),
        // Within the same tick.
        (started - 1_234_567, Ok(())),
        (started - 10_000_000, Err("replaced")),
        (started + 10_000_000, Err("replaced")),
        (0, Err("replaced")),
        // Later than the connect.
        (real.at.0 + 1, Err("later")),
    ];
    for (started, expected) in rows {
        let mut flow = real.clone();
        flow.process.started = BootTime(started);
        assert_eq!(
            reason(&identifier, &flow, &scope).await,
            expected,
            "{started}"
        );
    }
    for tgid in [0, u32::MAX, 4_194_305] {
        let mut flow = real.clone();
        flow.process.tgid = tgid;
        assert_eq!(
            reason(&identifier, &flow, &scope).await,
            Err("gone"),
            "{tgid}"
        );
    }
}

#[tokio::test]
async fn a_process_outside_of_its_scope_or_its_cgroup_is_refused() {
    if !is_root() {
        return;
    }
    let (group, other) = (Group::new(), Group::new());
    let (identifier, scope) = (identifier(), group.scope());
    let (a, b) = (group.below("a"), group.below("b"));
    let sleep = a.start(SLEEP, &["999"]);
    let flow = flow(sleep.pid(), &scope);
    b.take(sleep.pid());
    assert_eq!(reason(&identifier, &flow, &scope).await, Err("moved"));
    other.take(sleep.pid());
    let error = identifier.identify(&flow, &scope).await.unwrap_err();
    assert!(matches!(error, Error::Outside { .. }), "{error}");
    a.take(sleep.pid());
    assert_eq!(reason(&identifier, &flow, &scope).await, Ok(()));
    // A scope whose name begins with the other's.
    let prefix = ScopeOf {
        cgroup: group.path().strip_suffix(|_: char| true).unwrap().into(),
        ..scope
    };
    assert_eq!(
        reason(&super::identifier(), &flow, &prefix).await,
        Err("moved")
    );
}

#[tokio::test]
async fn ancestors_are_listed_up_to_the_scopes_root() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (scope, inner) = (group.scope(), group.below("inner"));
    let script = format!(
        "sh -c 'echo 0 > {}/cgroup.procs; sleep 999 & echo $!; wait' middle & wait",
        inner.0.display()
    );
    let mut outer = group.shell(&script);
    let child: u32 = outer.hear().parse().unwrap();
    until("the exec", || {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    });
    let flow = flow(child, &scope);
    let whole = identifier().identify(&flow, &scope).await.unwrap();
    let ancestors = &whole.principal.ancestors;
    assert_eq!(
        ancestors.len(),
        2,
        "the test itself is outside: {ancestors:#?}"
    );
    assert_eq!(ancestors[0].argv.last().unwrap(), "middle");
    assert_eq!(
        (ancestors[1].pid, ancestors[1].argv[0].as_str()),
        (outer.pid(), "/bin/sh")
    );
    let sh = sha256sum(Path::new("/bin/sh"));
    assert!(
        ancestors
            .iter()
            .all(|ancestor| ancestor.executable.sha256 == sh)
    );
    assert!(ancestors[0].started >= ancestors[1].started);
    // Where only the inner cgroup is the scope, the outer shell is outside of it.
    let inner = inner.scope();
    let part = identifier().identify(&flow, &inner).await.unwrap();
    assert_eq!(part.principal.ancestors.len(), 1);
}

#[tokio::test]
async fn a_parent_that_has_ended_ends_the_chain() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let scope = group.scope();
    let mut outer = group.shell("sh -c 'sleep 999 & echo $!'; read line");
    let child: u32 = outer.hear().parse().unwrap();
    let parent = || {
        stat(&fs::read_to_string(format!("/proc/{child}/stat")).unwrap())
            .unwrap()
            .parent
    };
    until("the orphan", || {
        let parent = fs::read_to_string(format!("/proc/{}/cgroup", parent())).unwrap_or_default();
        !parent.contains(&group.path())
    });
    until("the exec", || {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    });
    let orphan = identifier()
        .identify(&flow(child, &scope), &scope)
        .await
        .unwrap();
    assert_eq!(orphan.principal.ancestors, []);
    assert_eq!(orphan.principal.process.pid, child);
}

#[tokio::test]
async fn a_deep_chain_of_long_arguments_stays_bounded() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (scope, place) = (group.scope(), tempfile::tempdir().unwrap());
    let script = place.path().join("deeper");
    let deeper = "n=$1; if [ \"$n\" = 0 ]; then echo $$; exec sleep 999; fi; sh \"$0\" $((n - 1)) \"$2\"; wait";
    fs::write(&script, deeper).unwrap();
    let (script, long) = (script.display().to_string(), "x".repeat(5_000));
    let mut outer = group.start("/bin/sh", &[&script, "80", &long]);
    let deepest: u32 = outer.hear().parse().unwrap();
    until("the exec", || {
        fs::read(format!("/proc/{deepest}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    });
    let flow = flow(deepest, &scope);
    let deep = identifier().identify(&flow, &scope).await.unwrap();
    let ancestors = &deep.principal.ancestors;
    assert_eq!(ancestors.len(), 64);
    let size = |process: &Process| {
        process
            .argv
            .iter()
            .map(|argument| argument.len() + 1)
            .sum::<usize>()
    };
    assert_eq!(size(&ancestors[0]), 4_096);
    assert!(ancestors.iter().map(size).sum::<usize>() <= 16 << 10);
}

/// Drops what a process holds, so that nothing of root's is left.
const DROP: &str =
    "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --ambient-caps=-all";

/// Gives up every capability of its thread.
const CLEAR: &str = "import ctypes
libc = ctypes.CDLL(None)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
";

#[tokio::test]
async fn a_process_with_host_capabilities_is_privileged() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let scope = group.scope();
    // The leader has given its capabilities up; a thread of it has not.
    let hidden = format!(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,), daemon=True).start()\n{CLEAR}print('ready', flush=True)\ntime.sleep(999)"
    );
    let dropped = format!("import time\n{CLEAR}print('ready', flush=True)\ntime.sleep(999)");
    let rows: &[(&str, &[&str], bool)] = &[
        ("root", &["echo ready; exec sleep 999"], true),
        (
            "nobody",
            &[&format!("{DROP} sh -c 'echo ready; exec sleep 999'")],
            false,
        ),
        (
            "nobody with one capability",
            &[&format!(
                "{} sh -c 'echo ready; exec sleep 999'",
                DROP.replace("-all", "-all,+net_raw")
            )],
            true,
        ),
        (
            "nobody as root of a namespace",
            &[&format!(
                "{DROP} unshare --user --map-root-user sh -c 'echo ready; exec sleep 999'"
            )],
            false,
        ),
        (
            "root without any",
            &["exec python3 -c \"$0\"", &dropped],
            true,
        ),
        (
            "root in a namespace of its own",
            &["exec unshare --user sh -c 'echo ready; exec sleep 999'"],
            true,
        ),
        (
            "a thread with some",
            &["exec python3 -c \"$0\"", &hidden],
            true,
        ),
    ];
    for (name, script, expected) in rows {
        let mut process = group.start("/bin/sh", &[&["-c"], *script].concat());
        assert_eq!(process.hear(), "ready", "{name}");
        let pid = deepest(process.pid());
        let shell = fs::canonicalize("/bin/sh").unwrap();
        until("the exec", || {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe != shell)
        });
        let identified = identifier()
            .identify(&flow(pid, &scope), &scope)
            .await
            .unwrap();
        assert_eq!(
            identified.principal.privileged, *expected,
            "{name}: {:?}",
            identified.principal
        );
    }
}

/// The only child of the only child of a process.
fn deepest(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children
        .split_whitespace()
        .next()
        .map_or(pid, |child| deepest(child.parse().unwrap()))
}

#[tokio::test]
async fn a_user_is_named_by_the_host() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let scope = group.scope();
    for (uid, name) in [(65_534, Some("nobody")), (65_431, None)] {
        let drop = DROP.replace("reuid 65534", &format!("reuid {uid}"));
        let mut process = group.shell(&format!("exec {drop} sh -c 'echo ready; read line'"));
        assert_eq!(process.hear(), "ready");
        let identified = identifier()
            .identify(&flow(process.pid(), &scope), &scope)
            .await
            .unwrap();
        let expected = User {
            uid,
            gid: 65_534,
            name: name.map(str::to_owned),
        };
        assert_eq!(identified.principal.user, expected);
    }
}

/// A container's root: overlayfs over two file systems, in a mount namespace of its own.
/// An agent may serve its own executable, and stop answering whoever reads it.
#[tokio::test]
async fn a_held_principal_tells_when_its_process_ends() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let scope = group.scope();
    let mut sleep = group.start(SLEEP, &["999"]);
    let identified = identifier()
        .identify(&flow(sleep.pid(), &scope), &scope)
        .await
        .unwrap();
    tokio::select! {
        biased;
        () = identified.exited() => panic!("it still runs"),
        () = tokio::task::yield_now() => {}
    }
    sleep.end();
    tokio::time::timeout(PATIENCE, identified.exited())
        .await
        .unwrap();
}

//! Real executables: which file a process executes, and what is in it.

use super::super::executable::{Hashes, Open};
use super::super::live::Live;
use super::super::mounts::by_kernel;
use super::*;
use crate::capture::KernelFile;

#[tokio::test]
async fn a_process_that_executes_another_binary_after_its_connect_is_refused() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let mut shell = group.shell("read line; exec sleep 999");
    let flow = flow(shell.pid(), &scope);
    let before = identifier.identify(&flow, &scope).await.unwrap();
    assert_ne!(
        before.principal.process.executable.sha256,
        sha256sum(Path::new(SLEEP))
    );
    shell.tell("go");
    let exe = format!("/proc/{}/exe", shell.pid());
    let sleep = fs::canonicalize(SLEEP).unwrap();
    until("the exec", || {
        fs::read_link(&exe).is_ok_and(|path| path == sleep)
    });
    // What was kept of the shell a moment ago does not help the sleep.
    assert_eq!(reason(&identifier, &flow, &scope).await, Err("executed"));
    assert_eq!(
        reason(&super::identifier(), &flow, &scope).await,
        Err("executed")
    );
}

#[tokio::test]
async fn a_stamp_without_the_right_inode_is_refused() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let sleep = group.start(SLEEP, &["999"]);
    let real = flow(sleep.pid(), &scope);
    let file = real.process.executable.unwrap();
    let rows = [
        (None, "unstamped"),
        (
            Some(KernelFile {
                inode: file.inode + 1,
                ..file
            }),
            "executed",
        ),
        (
            Some(KernelFile {
                device: file.device + 1,
                ..file
            }),
            "executed",
        ),
        // The same major and minor in the user's encoding are not the kernel's.
        (
            Some(KernelFile {
                device: file.device.swap_bytes(),
                ..file
            }),
            "executed",
        ),
    ];
    for (executable, expected) in rows {
        let mut flow = real.clone();
        flow.process.executable = executable;
        assert_eq!(
            reason(&identifier, &flow, &scope).await,
            Err(expected),
            "{executable:?}"
        );
    }
}

#[tokio::test]
async fn many_connections_of_one_process_cost_one_reading() {
    if !is_root() {
        return;
    }
    let group = Group::new();
    let (identifier, scope) = (identifier(), group.scope());
    let sleeps: Vec<_> = (0..3).map(|_| group.start(SLEEP, &["999"])).collect();
    let flows: Vec<_> = sleeps
        .iter()
        .map(|sleep| flow(sleep.pid(), &scope))
        .collect();
    let mut all = tokio::task::JoinSet::new();
    let identifier = Arc::new(identifier);
    for number in 0..60 {
        let (identifier, flow, scope) = (
            Arc::clone(&identifier),
            flows[number % 3].clone(),
            scope.clone(),
        );
        all.spawn(async move {
            identifier
                .identify(&flow, &scope)
                .await
                .unwrap()
                .principal
                .process
                .pid
        });
    }
    assert_eq!(all.join_all().await.len(), 60);
    assert_eq!(identifier.hashed(), 1, "one file, one reading");
    let first = identifier.identify(&flows[0], &scope).await.unwrap();
    let again = identifier.identify(&flows[0], &scope).await.unwrap();
    assert!(Arc::ptr_eq(&first.principal, &again.principal));
    // Tagged anew with another name, it is another principal.
    let scope = ScopeOf {
        agent: "ci".into(),
        ..scope
    };
    let other = identifier.identify(&flows[0], &scope).await.unwrap();
    assert_eq!(other.principal.agent, "ci");
}

#[tokio::test]
async fn a_file_rewritten_in_place_is_hashed_anew() {
    if !is_root() {
        return;
    }
    let (group, place) = (Group::new(), tempfile::tempdir().unwrap());
    let (scope, identifier) = (group.scope(), identifier());
    let path = place.path().join("program");
    fs::copy(SLEEP, &path).unwrap();
    let program = path.display().to_string();
    let mut hashes = Vec::new();
    for addition in ["", "x", "xy"] {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(addition.as_bytes()).unwrap();
        drop(file);
        let process = group.start(&program, &["999"]);
        let identified = identifier
            .identify(&flow(process.pid(), &scope), &scope)
            .await
            .unwrap();
        let hash = identified.principal.process.executable.sha256.clone();
        assert_eq!(hash, sha256sum(&path));
        assert!(!hashes.contains(&hash));
        hashes.push(hash);
    }
}

/// Starts a program that was just written. A child that another test forks meanwhile holds the file open
/// for writing until it executes (execve(2), ETXTBSY).
fn spawn(program: &Path) -> Child {
    let mut child = None;
    until("nobody writes the program", || {
        child = Command::new(program).arg("999").spawn().ok();
        child.is_some()
    });
    child.unwrap()
}

#[test]
fn a_kept_hash_is_given_up_when_ctime_moves_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("program");
    fs::copy(SLEEP, &path).unwrap();
    let kept = Hashes::default();
    let count = || kept.computed.load(std::sync::atomic::Ordering::Relaxed);
    let run = || {
        let mut child = spawn(&path);
        let exe = format!("/proc/{}/exe", child.id());
        until("the exec", || {
            fs::read_link(&exe).is_ok_and(|exe| exe == path)
        });
        let process = Live::open(child.id()).unwrap();
        let mut open = Open::of(&process).unwrap();
        open.settled = true;
        let hash = kept.of(&open, child.id()).unwrap().sha256;
        child.kill().unwrap();
        child.wait().unwrap();
        hash
    };
    let first = run();
    assert_eq!((run(), count()), (first.clone(), 1));
    // The same inode and size, other bytes; as often as ctime's tick needs to move on.
    let ctime = || {
        fs::metadata(&path)
            .map(|about| (about.ctime(), about.ctime_nsec()))
            .unwrap()
    };
    let before = ctime();
    until("a tick", || {
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.last_mut().unwrap();
        *last = last.wrapping_add(1) | 0x80;
        fs::write(&path, bytes).unwrap();
        ctime() != before
    });
    let second = run();
    assert_eq!((second.clone(), count()), (sha256sum(&path), 2));
    assert_ne!(first, second);
}

#[test]
fn a_file_that_changed_a_moment_ago_is_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("program");
    fs::copy(SLEEP, &path).unwrap();
    let settled = |program: &Path| {
        let mut child = spawn(program);
        let exe = format!("/proc/{}/exe", child.id());
        let program = fs::canonicalize(program).unwrap();
        until("the exec", || {
            fs::read_link(&exe).is_ok_and(|exe| exe == program)
        });
        let open = Open::of(&Live::open(child.id()).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        open.settled
    };
    assert!(!settled(&path));
    assert!(settled(Path::new(SLEEP)));
}

#[tokio::test]
async fn a_binary_on_overlayfs_is_compared_by_the_kernels_own_numbers() {
    if !is_root() {
        return;
    }
    let (group, place) = (Group::new(), tempfile::tempdir().unwrap());
    let scope = group.scope();
    let script = format!(
        "cd {} && mkdir a b m && mount -t tmpfs none a && mount -t tmpfs none b && mkdir b/u b/w && cp {SLEEP} a/sleep \
         && mount -t overlay -o lowerdir=a,upperdir=b/u,workdir=b/w,xino=off none m && exec m/sleep 999",
        place.path().display()
    );
    let process = group.start(
        "/usr/bin/unshare",
        &["--mount", "--propagation", "private", "sh", "-c", &script],
    );
    let exe = format!("/proc/{}/exe", process.pid());
    until("the exec", || {
        fs::read_link(&exe).is_ok_and(|exe| exe.ends_with("m/sleep"))
    });
    // Another witness of the kernel's own numbers: the mapping of the binary (Linux 6.8 for overlayfs).
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid())).unwrap();
    let line = maps.lines().find(|line| line.ends_with("m/sleep")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    let (major, minor) = fields[3].split_once(':').unwrap();
    let number = |hex| u32::from_str_radix(hex, 16).unwrap();
    let kernel = KernelFile {
        device: number(major) << 20 | number(minor),
        inode: fields[4].parse().unwrap(),
    };
    let mut flow = flow(process.pid(), &scope);
    assert_ne!(
        flow.process.executable,
        Some(kernel),
        "stat tells other numbers here"
    );
    flow.process.executable = Some(kernel);
    let identified = identifier().identify(&flow, &scope).await.unwrap();
    assert_eq!(
        identified.principal.process.executable.sha256,
        sha256sum(Path::new(SLEEP))
    );
    flow.process.executable = Some(KernelFile {
        inode: kernel.inode + 1,
        ..kernel
    });
    assert_eq!(reason(&identifier(), &flow, &scope).await, Err("executed"));
}

/// A process whose executable a second one serves, which falls silent when it is told.
fn served(group: &Group, place: &Path) -> (Started, u32) {
    let server = place.join("fuse.py");
    fs::write(&server, include_str!("fuse.py")).unwrap();
    let directory = place.display().to_string();
    let arguments = [
        "--mount",
        "--propagation",
        "private",
        "python3",
        &server.display().to_string(),
        SLEEP,
        &directory,
    ];
    let mut server = group.start("/usr/bin/unshare", &arguments);
    let child: u32 = server.hear().parse().unwrap();
    let exe = format!("/proc/{child}/exe");
    until("the exec", || {
        fs::read_link(&exe).is_ok_and(|path| path.ends_with("program"))
    });
    (server, child)
}

#[tokio::test]
async fn refusals_that_block_their_reader_hold_up_no_connection_and_have_an_end() {
    if !is_root() {
        return;
    }
    let (group, place) = (Group::new(), tempfile::tempdir().unwrap());
    let (mut server, child) = served(&group, place.path());
    let (identifier, scope) = (Arc::new(identifier()), group.scope());
    let refused = denied(&flow(child, &scope));
    let sleep = group.start(SLEEP, &["999"]);
    server.tell("silence");
    assert_eq!(server.hear(), "silent");
    let mut blocked = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (identifier, refused, scope) =
            (Arc::clone(&identifier), refused.clone(), scope.clone());
        blocked.spawn(async move {
            let shown = identifier.of_refusal(&refused, &scope).await;
            shown.map(drop).map_err(|error| error.reason())
        });
    }
    tokio::task::yield_now().await;
    let flow = flow(sleep.pid(), &scope);
    assert_eq!(reason(&identifier, &flow, &scope).await, Ok(()));
    let answers = tokio::time::timeout(PATIENCE, blocked.join_all())
        .await
        .unwrap();
    let count = |word| answers.iter().filter(|a| **a == Err(word)).count();
    assert_eq!((count("timeout"), count("busy")), (64, 36));
    server.end();
}

#[tokio::test]
async fn a_scope_whose_files_block_their_reader_holds_up_no_other() {
    if !is_root() {
        return;
    }
    let (hostile, honest, place) = (Group::new(), Group::new(), tempfile::tempdir().unwrap());
    let (mut server, child) = served(&hostile, place.path());
    let (identifier, scope) = (Arc::new(identifier()), hostile.scope());
    let served = flow(child, &scope);
    let hash = identifier
        .identify(&served, &scope)
        .await
        .unwrap()
        .principal
        .process
        .executable
        .sha256
        .clone();
    assert_eq!(hash, sha256sum(Path::new(SLEEP)));

    server.tell("silence");
    assert_eq!(server.hear(), "silent");
    let mut blocked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (identifier, flow, scope) = (Arc::clone(&identifier), served.clone(), scope.clone());
        blocked.spawn(async move { reason(&identifier, &flow, &scope).await });
    }
    // All of them have asked before the honest one does.
    tokio::task::yield_now().await;
    let (sleep, other) = (honest.start(SLEEP, &["999"]), honest.scope());
    let honest_flow = flow(sleep.pid(), &other);
    let unharmed = identifier.identify(&honest_flow, &other);
    tokio::select! {
        biased;
        answer = blocked.join_next() => panic!("{answer:?} of a file that nobody serves"),
        answer = unharmed => drop(answer.unwrap()),
    }
    // Its end aborts what waits for it.
    server.end();
    let answers = tokio::time::timeout(PATIENCE, blocked.join_all())
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    // The scope's own turns come back.
    let sleep = hostile.start(SLEEP, &["999"]);
    assert_eq!(
        reason(&identifier, &flow(sleep.pid(), &scope), &scope).await,
        Ok(())
    );
}

#[test]
fn the_kernels_numbers_are_stats_where_the_file_system_is_plain() {
    let process = Live::open(std::process::id()).unwrap();
    let path = fs::canonicalize("/bin/sh").unwrap();
    let about = nix::sys::stat::stat(&path).unwrap();
    let file = fs::File::open(&path).unwrap();
    let kind = nix::sys::statfs::fstatfs(&file).unwrap().filesystem_type();
    let plain = [
        nix::sys::statfs::EXT4_SUPER_MAGIC,
        nix::sys::statfs::XFS_SUPER_MAGIC,
        nix::sys::statfs::TMPFS_MAGIC,
    ];
    if plain.contains(&kind) {
        assert_eq!(by_kernel(&file, &process), by_stat(&about));
    }
    assert!(by_kernel(&file, &process).is_some());
}

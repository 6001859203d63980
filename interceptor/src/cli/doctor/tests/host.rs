//! Each thing that doctor looks at, good, worth a word and bad.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use interceptor_ebpf::LAYOUT;
use jiff::Timestamp;

use crate::capture::{self, Foreign, Pinned};
use crate::cli::doctor::{Check, Found, host, kernel, policies_in};
use crate::config;

/// What was found: `+` good, `~` a warning, `-` bad; what is so, and what is to be done.
fn told(check: &Check) -> (char, String) {
    match &check.found {
        Found::Good { is } => ('+', is.clone()),
        Found::Warning { is, mend } => ('~', format!("{is} → {mend}")),
        Found::Bad { is, mend } => ('-', format!("{is} → {mend}")),
    }
}

#[track_caller]
fn found(check: &Check, result: char, words: &[&str]) {
    let (found, said) = told(check);
    assert_eq!(found, result, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    let is_mended = match &check.found {
        Found::Good { .. } => true,
        Found::Warning { mend, .. } | Found::Bad { mend, .. } => !mend.is_empty(),
    };
    assert!(is_mended, "nothing is said to do: {said}");
}

#[test]
fn a_kernel_is_told_by_what_it_lacks() {
    let rows: [(&str, bool, char, &[&str]); 9] = [
        ("4.19.0-27-amd64", true, '-', &["4.19.0", "5.10 or later"]),
        ("5.9.16", true, '-', &["5.10 or later"]),
        ("", true, '-', &["5.10 or later"]),
        (
            "5.10.0-43-amd64",
            false,
            '~',
            &["SO_NETNS_COOKIE", "refused"],
        ),
        (
            "5.10.0-43-amd64",
            true,
            '~',
            &[
                "before Linux 5.14 executables on overlayfs and btrfs",
                "EPERM",
                "6.1 or later",
            ],
        ),
        (
            "5.15.0-1",
            true,
            '~',
            &["before Linux 5.18 agents read EPERM"],
        ),
        ("6.0.9", true, '~', &["before Linux 6.7"]),
        (
            "6.1.0-50-amd64",
            true,
            '+',
            &["before Linux 6.7 UNIX sockets of targets are refused"],
        ),
        ("6.18.7", true, '+', &["6.18.7"]),
    ];
    for (release, tells_namespaces, result, words) in rows {
        found(&kernel::check(release, tells_namespaces), result, words);
    }
    let (_, newest) = told(&kernel::check("7.2.0", true));
    assert_eq!(newest, "7.2.0");
    let (_, later) = told(&kernel::check("5.15.0", true));
    assert!(
        !later.contains("5.14"),
        "it has what came with 5.14: {later}"
    );
}

#[test]
fn unix_sockets_of_targets_need_a_kernel_that_leads_them() {
    let directory = tempfile::tempdir().unwrap();
    let load = |address: &str| {
        let file = directory.path().join("config.yaml");
        let target = "postgres: { user: a, databases: [shop] }";
        let text =
            format!("version: 1\ntargets: {{ shop: {{ addresses: ['{address}'], {target} }} }}");
        fs::write(&file, text).unwrap();
        config::load(&file).unwrap()
    };
    assert!(host::sockets(&load("10.0.0.1:5432"), "5.10.0").is_none());
    let by_socket = load("unix:/run/postgresql/.s.PGSQL.5432");
    let old = host::sockets(&by_socket, "6.6.30").unwrap();
    found(&old, '-', &["6.6.30", "target shop"]);
    found(&host::sockets(&by_socket, "6.7.0").unwrap(), '+', &[]);
}

#[test]
fn types_hierarchy_and_file_system_are_there_or_not() {
    found(&host::btf(true), '+', &["vmlinux"]);
    found(
        &host::btf(false),
        '-',
        &["refused", "CONFIG_DEBUG_INFO_BTF"],
    );
    assert!(!capture::knows_processes(b""));
    assert!(!capture::knows_processes(&[0x9f, 0xeb, 1, 0]));
    found(&host::cgroup(Ok(PathBuf::from("/c"))), '+', &["/c"]);
    let error = "none is mounted".to_owned();
    found(
        &host::cgroup(Err(error)),
        '-',
        &["none is mounted", "mount -t cgroup2"],
    );
    found(&host::bpffs("nodev\tsysfs\nnodev\tbpf\n\text4\n"), '+', &[]);
    for without in ["", "nodev\tbpfs\n\tbpf2\n"] {
        found(&host::bpffs(without), '-', &["CONFIG_BPF_SYSCALL"]);
    }
}

#[test]
fn a_clock_is_set_and_kept() {
    let at = |second| Timestamp::from_second(second).unwrap();
    found(&host::clock(at(0), Some(true)), '-', &["1970", "set it"]);
    let before = host::OLDEST_TIME - 1;
    found(&host::clock(at(before), Some(true)), '-', &["set it"]);
    for kept in [Some(true), None] {
        found(&host::clock(at(host::OLDEST_TIME), kept), '+', &["2025"]);
    }
    let adrift = host::clock(at(host::OLDEST_TIME), Some(false));
    found(&adrift, '~', &["nothing keeps it", "chrony"]);
}

#[test]
fn a_disk_has_room() {
    let state = Path::new("/var/lib/x");
    let of = |free| host::disk(state, free);
    found(&of(Ok(host::LOW_DISK)), '+', &["1024 MiB", "/var/lib/x"]);
    found(&of(Ok(host::LOW_DISK - 1)), '~', &["1023 MiB", "free some"]);
    found(&of(Ok(0)), '-', &["nothing is free", "free some"]);
    let error = io::Error::from_raw_os_error(libc::EACCES);
    found(&of(Err(error)), '-', &["Permission denied", "paths.state"]);
}

#[test]
fn policies_load_or_say_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let (none, _) = policies_in(directory.path());
    found(&none, '-', &["holds no *.cedar file", "policy check"]);
    let file = directory.path().join("a.cedar");
    fs::write(&file, "permit (principal is Agent, action, resource);").unwrap();
    found(&policies_in(directory.path()).0, '+', &[]);
    fs::write(&file, "permit (principal").unwrap();
    found(&policies_in(directory.path()).0, '-', &["a.cedar:1"]);
}

#[test]
fn pins_are_whole_or_not() {
    let at = Path::new("/b");
    let pins = |pinned| host::pins(at, Ok(pinned));
    let current = || Pinned {
        is_current: true,
        scopes: 2,
        ..Pinned::default()
    };
    found(&pins(current()), '+', &["2 scopes below /b"]);
    found(&pins(Pinned::default()), '~', &["none", "start the daemon"]);
    let others = |others| Pinned {
        others,
        ..current()
    };
    found(
        &pins(others(1)),
        '~',
        &["another version", "takes them over"],
    );
    let lacking = vec!["RULES", "STATE"];
    let without = Pinned {
        lacking,
        ..current()
    };
    found(&pins(without), '-', &["RULES, STATE", "restart the daemon"]);
    let torn = vec![("claude".to_owned(), vec!["connect4"])];
    let half = Pinned { torn, ..current() };
    found(&pins(half), '-', &["agent claude", "connect4", "restart"]);
    let closed = host::pins(at, Err("list /b: Permission denied".to_owned()));
    found(&closed, '-', &["Permission denied", "as root"]);
}

#[test]
fn what_is_pinned_is_read_off_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("pins");
    assert_eq!(capture::standing(&root).unwrap(), Pinned::default());
    fs::create_dir_all(root.join("v1/scopes")).unwrap();
    fs::create_dir_all(root.join("vx")).unwrap();
    let only_old = capture::standing(&root).unwrap();
    assert_eq!((only_old.is_current, only_old.others), (false, 1));
    let own = root.join(format!("v{LAYOUT}"));
    let scope = own.join("scopes/7");
    fs::create_dir_all(&scope).unwrap();
    std::os::unix::fs::symlink("claude", scope.join("agent")).unwrap();
    fs::write(scope.join("egress"), "").unwrap();
    let half = capture::standing(&root).unwrap();
    assert!(
        half.is_current && half.lacking.contains(&"RULES"),
        "{half:?}"
    );
    assert_eq!((half.scopes, half.torn.len()), (1, 1));
    let (agent, lacking) = &half.torn[0];
    assert_eq!(agent, "claude");
    assert!(lacking.contains(&"connect4") && !lacking.contains(&"egress"));
}

#[test]
fn programs_of_others_are_named_with_hook_and_cgroup() {
    assert!(host::programs(&[]).is_none());
    let foreign = Foreign {
        cgroup: "/agents.slice/x".to_owned(),
        hook: "connect4",
        id: 7,
    };
    let check = host::programs(&[foreign]).unwrap();
    found(
        &check,
        '~',
        &["connect4 of /agents.slice/x: program 7", "bpftool"],
    );
}

//! What the host must have: kernel, BTF, cgroup v2, bpffs, pins, a disk, a clock that is set. What is read here is
//! judged by functions that know nothing else.

#![expect(unsafe_code, reason = "nobody wraps adjtimex(2)")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Check;
use super::kernel::{self, CARRIES};
use crate::capture::{self, Pinned, cgroup2::Hierarchy};
use crate::cli::counted;
use crate::clock;
use crate::config::Config;

/// Bytes below which the disk of the records is called nearly full.
pub(super) const LOW_DISK: u64 = 1 << 30;

/// A clock that shows an earlier time, in seconds, was never set: the middle of 2025.
pub(super) const OLDEST_TIME: i64 = 1_750_000_000;

pub(super) fn checks() -> Vec<Check> {
    let types = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    let mount = Hierarchy::find().map(|found| found.mount().to_owned());
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    vec![
        kernel::check(&release(), capture::tells_namespaces()),
        btf(capture::knows_processes(&types)),
        cgroup(mount.map_err(|error| error.to_string())),
        bpffs(&systems),
        clock(clock::wall(), is_kept()),
    ]
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What of the configuration has to do with the host.
pub(super) fn of(config: &Config) -> Vec<Check> {
    let paths = &config.paths;
    let pinned = capture::standing(&paths.bpffs).map_err(|error| error.to_string());
    let mut checks = vec![
        disk(&paths.state, free(&paths.state)),
        pins(&paths.bpffs, pinned),
    ];
    checks.extend(sockets(config, &release()));
    checks.extend(foreign(&paths.bpffs));
    checks
}

/// Targets that agents dial by a UNIX socket, which not every kernel leads to the daemon.
pub(super) fn sockets(config: &Config, release: &str) -> Option<Check> {
    let mut targets = config.targets.values();
    let target = targets.find(|target| !target.sockets.is_empty())?;
    let what = "UNIX sockets of targets";
    Some(match kernel::version(release) < CARRIES {
        true => Check::bad(
            what,
            format!("Linux {release} leads none to the daemon: they are refused"),
            format!(
                "use Linux 6.7 or later, or give target {} a host and port as well",
                target.name
            ),
        ),
        false => Check::good(what, "led to the daemon"),
    })
}

pub(super) fn btf(knows_processes: bool) -> Check {
    let what = "BTF";
    match knows_processes {
        true => Check::good(what, "/sys/kernel/btf/vmlinux"),
        false => Check::bad(
            what,
            "/sys/kernel/btf/vmlinux does not say where the kernel keeps a process's executable: every \
             connection is refused",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

pub(super) fn cgroup(mount: Result<PathBuf, String>) -> Check {
    match mount {
        Ok(mount) => Check::good("cgroup v2", mount.display().to_string()),
        Err(error) => Check::bad(
            "cgroup v2",
            error,
            "mount it: `mount -t cgroup2 none /sys/fs/cgroup`",
        ),
    }
}

/// `systems` is `/proc/filesystems` (proc(5)).
pub(super) fn bpffs(systems: &str) -> Check {
    if systems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "bpf")
    {
        return Check::good(
            "bpffs",
            "the kernel has it; the daemon mounts it where it is missing",
        );
    }
    Check::bad(
        "bpffs",
        "the kernel does not have it",
        "use a kernel built with CONFIG_BPF_SYSCALL",
    )
}

/// Pins outlive the daemon: with them and without a daemon, every target is refused.
pub(super) fn pins(below: &Path, pinned: Result<Pinned, String>) -> Check {
    let (what, below) = ("pins", below.display());
    let pinned = match pinned {
        Ok(pinned) => pinned,
        Err(error) => return Check::bad(what, error, "run doctor as root"),
    };
    if let Some((agent, lacking)) = pinned.torn.first() {
        let is = format!(
            "the scope of agent {agent} lacks {} below {below}",
            lacking.join(", ")
        );
        return Check::bad(what, is, "restart the daemon: it attaches what is missing");
    }
    if !pinned.lacking.is_empty() {
        let is = format!("{below} lacks {}", pinned.lacking.join(", "));
        return Check::bad(what, is, "restart the daemon: it makes what is missing");
    }
    match (pinned.is_current, pinned.others) {
        (true, 0) => {
            let scopes = counted(pinned.scopes, "scope", "scopes");
            Check::good(what, format!("{scopes} below {below}"))
        }
        (false, 0) => Check::warning(
            what,
            format!("none below {below}"),
            "start the daemon: it makes them",
        ),
        (_, _) => Check::warning(
            what,
            format!("another version's below {below}"),
            "start the daemon: it takes them over",
        ),
    }
}

/// Programs of others that the kernel runs after ours.
pub(super) fn foreign(pins: &Path) -> Option<Check> {
    match capture::foreign(pins) {
        Ok(found) => programs(&found),
        // The pins say the same, and what to do.
        Err(_unread) => None,
    }
}

pub(super) fn programs(found: &[capture::Foreign]) -> Option<Check> {
    let named = |program: &capture::Foreign| {
        let capture::Foreign { cgroup, hook, id } = program;
        format!("{hook} of {cgroup}: program {id}")
    };
    let named: Vec<_> = found.iter().map(named).collect();
    (!named.is_empty()).then(|| {
        Check::warning(
            "programs of others",
            format!("run after this one's: {}", named.join(", ")),
            "see what they do (`bpftool prog show id …`): they can lead elsewhere what was decided here; the guard \
             behind them still drops what no rule covers",
        )
    })
}

/// Bytes that are free on the disk of the nearest directory above the records, before the first start.
fn free(state: &Path) -> io::Result<u64> {
    let there = state.ancestors().find(|directory| directory.exists());
    let disk = nix::sys::statvfs::statvfs(there.unwrap_or(state))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

pub(super) fn disk(state: &Path, free: io::Result<u64>) -> Check {
    let mend = "free some: with a full disk every request is refused";
    let state = state.display();
    match free {
        Ok(0) => Check::bad("disk", format!("nothing is free below {state}"), mend),
        Ok(free) => {
            let is = format!("{} MiB free below {state}", free >> 20);
            match free < LOW_DISK {
                true => Check::warning("disk", is, mend),
                false => Check::good("disk", is),
            }
        }
        Err(error) => Check::bad(
            "disk",
            format!("{state}: {error}"),
            "see that the directory of `paths.state` can be made there",
        ),
    }
}

/// Whether something keeps the clock, as adjtimex(2) says it; none where the kernel does not say.
fn is_kept() -> Option<bool> {
    // SAFETY: all zero asks and changes nothing, and is a value of that record of numbers.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the record is ours and outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

pub(super) fn clock(now: Timestamp, is_kept: Option<bool>) -> Check {
    let oldest = Timestamp::from_second(OLDEST_TIME).unwrap_or_default();
    let mend = "set it: certificates and audit lines carry the time";
    if now < oldest {
        return Check::bad("clock", format!("{now}"), mend);
    }
    match is_kept {
        Some(false) => Check::warning(
            "clock",
            format!("{now}, and nothing keeps it right"),
            "have chrony, ntpd or systemd-timesyncd do so",
        ),
        Some(true) | None => Check::good("clock", format!("{now}")),
    }
}

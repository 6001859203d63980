//! What the host must have: kernel, BTF, cgroup v2, bpffs, capabilities, a clock that is set.

use std::path::Path;

use super::Check;
use crate::capture::cgroup2::Hierarchy;
use crate::config::Config;

/// The oldest kernel that has every hook and helper that is used.
const OLDEST: (u32, u32) = (5, 10);

/// From here on refusals carry an errno of choice and namespaces are known in every hook.
const RECOMMENDED: (u32, u32) = (6, 1);

/// From here on UNIX sockets of targets are led to the daemon.
const CARRIES: (u32, u32) = (6, 7);

/// Capabilities that the daemon needs, by bit number (`linux/capability.h`) and name.
const CAPABILITIES: [(u8, &str); 6] = [
    (10, "CAP_NET_BIND_SERVICE"),
    (12, "CAP_NET_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), btf(), cgroup(), bpffs(), capabilities(), clock()]
}

/// The kernel's release, and the first two numbers of it.
fn release() -> (String, (u32, u32)) {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

/// Targets that agents dial by a UNIX socket, which not every kernel leads to the daemon.
pub(super) fn sockets(config: &Config) -> Option<Check> {
    let mut targets = config.targets.values();
    let target = targets.find(|target| !target.sockets.is_empty())?;
    let (release, version) = release();
    let what = "UNIX sockets of targets";
    Some(match version < CARRIES {
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

fn kernel() -> Check {
    let (release, version) = release();
    if version < OLDEST {
        return Check::bad("kernel", release, "needs Linux 5.10 or later");
    }
    if version < RECOMMENDED {
        return Check::warning(
            "kernel",
            release,
            "Linux 6.1 or later tells agents more exactly why a connect failed",
        );
    }
    Check::good("kernel", release)
}

fn btf() -> Check {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    if path.exists() {
        return Check::good("BTF", path.display().to_string());
    }
    Check::bad(
        "BTF",
        "the kernel tells no types",
        "use a kernel built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn cgroup() -> Check {
    match Hierarchy::find() {
        Ok(mount) => Check::good("cgroup v2", mount.mount().display().to_string()),
        Err(error) => Check::bad(
            "cgroup v2",
            error.to_string(),
            "mount it: `mount -t cgroup2 none /sys/fs/cgroup`",
        ),
    }
}

fn bpffs() -> Check {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
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
pub(super) fn pins(bpffs: &Path) -> Check {
    match std::fs::read_dir(bpffs).map(Iterator::count) {
        Ok(1..) => Check::good("pins", format!("below {}", bpffs.display())),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Check::bad(
            "pins",
            format!("{}: {error}", bpffs.display()),
            "run doctor as root",
        ),
        _ => Check::warning(
            "pins",
            format!("none below {}", bpffs.display()),
            "start the daemon: it makes them",
        ),
    }
}

fn capabilities() -> Check {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let lacking: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| held & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if lacking.is_empty() {
        return Check::good("capabilities", "all that the daemon needs");
    }
    Check::bad(
        "capabilities",
        format!("lacking {}", lacking.join(", ")),
        "run the daemon and doctor as root, or grant them in the unit",
    )
}

fn clock() -> Check {
    let oldest = jiff::Timestamp::from_second(1_750_000_000).unwrap_or_default();
    let now = crate::clock::wall();
    if now < oldest {
        return Check::bad(
            "clock",
            format!("{now}"),
            "set it: certificates and audit lines carry the time",
        );
    }
    Check::good("clock", format!("{now}"))
}

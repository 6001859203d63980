//! Mounts of the command's own: what is not for it is not there.
//!
//! Everything is taken away by mounting over it, in a mount namespace that nothing is passed into from the
//! host any more. Who has no capabilities cannot take such a mount off again, nor from a user namespace.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::control::api::Launch;

/// Most sockets of others that are hidden one by one; where there are more, the command does not start.
const MOST_SOCKETS: usize = 4_096;

/// Devices by which a socket of the host's, or a packet, is made without a socket, or memory of others is reached.
const DEVICES: [&str; 5] = [
    "/dev/vsock",
    "/dev/vhost-vsock",
    "/dev/vhost-net",
    "/dev/net/tun",
    "/dev/infiniband",
];

/// File systems of the kernel's that are for the host's root alone.
const KERNEL: [&str; 4] = ["bpf", "debugfs", "tracefs", "securityfs"];

/// Kind and source of what has a helper outside look a host up, and dial it, for whoever names it (`/net`).
const HOSTS: (&str, &str) = ("autofs", "-hosts");

/// What of /proc is about the host: the kernel runs what is written there, outside of every scope, or does it.
const KNOBS: [&str; 5] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
];

/// Gives this process mounts of its own, and hides in them what it may not see.
pub(super) fn separate(launch: &Launch) -> anyhow::Result<()> {
    let sockets = sockets(launch)?;
    let mounted = mounted()?;
    // What is open stays: a directory that is hidden by then is not to be the command's.
    let here = env::current_dir().unwrap_or_else(|_gone| PathBuf::from("/"));
    unshare(CloneFlags::CLONE_NEWNS)
        .context("cannot make mounts of its own; `launcher: { mounts: false }` goes without")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("cannot keep the mounts apart from the host's")?;
    let kept = kept(launch)?;
    for path in launch.hide.iter().map(Path::new) {
        hide(path)?;
    }
    for (path, file) in &kept {
        restore(path, file)?;
    }
    for path in sockets.iter().map(PathBuf::as_path) {
        hide(path)?;
    }
    for path in DEVICES.map(Path::new) {
        hide(path)?;
    }
    for Mounted { kind, source, at } in &mounted {
        match (kind.as_str(), source.as_str()) {
            ("cgroup" | "cgroup2", _) => freeze(at)?,
            ("sysfs", _) => lock(at)?,
            HOSTS => hide(at)?,
            (kind, _) if KERNEL.contains(&kind) => hide(at)?,
            _ => {}
        }
    }
    processes()?;
    for path in KNOBS
        .map(Path::new)
        .into_iter()
        .filter(|path| path.exists())
    {
        freeze(path)?;
    }
    match env::set_current_dir(&here) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "{} is hidden from the command: start it elsewhere",
                here.display()
            )
        }
        // Who may not go there again stays where it is, which nothing hides.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Sockets of others that have a path now, but for those that may be reached.
fn sockets(launch: &Launch) -> anyhow::Result<BTreeSet<PathBuf>> {
    if launch.all_sockets {
        return Ok(BTreeSet::new());
    }
    let table = fs::read_to_string("/proc/net/unix").context("cannot read the UNIX sockets")?;
    let is_there = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
    };
    let mut found = paths(&table);
    found.retain(|path| !launch.sockets.iter().any(|may| Path::new(may) == path) && is_there(path));
    ensure!(
        found.len() <= MOST_SOCKETS,
        "more than {MOST_SOCKETS} UNIX sockets have a path on this host, so not all can be hidden; \
         `ss -xl` names whose they are, and `launcher: {{ mounts: false }}` goes without"
    );
    Ok(found)
}

/// Each path in a table of UNIX sockets; every connection of a listener has a row with the same one.
fn paths(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let at = line.find(" /")?;
        line.get(at.saturating_add(1)..).map(PathBuf::from)
    };
    table.lines().skip(1).filter_map(path).collect()
}

/// A mount.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    kind: String,
    source: String,
    at: PathBuf,
}

fn mounted() -> anyhow::Result<Vec<Mounted>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    Ok(table.lines().filter_map(one_mount).collect())
}

/// A line of the table (proc_pid_mountinfo(5)).
fn one_mount(line: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Mounted {
        kind: after.next()?.to_owned(),
        source: after.next()?.to_owned(),
        at: PathBuf::from(before.split(' ').nth(4)?),
    })
}

/// Files that stay where the directory around them is hidden.
fn kept(launch: &Launch) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let open = |path: &String| {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .with_context(|| format!("cannot open {path}"))?;
        Ok((PathBuf::from(path), file))
    };
    let there = launch.keep.iter().filter(|path| Path::new(path).exists());
    there.map(open).collect()
}

/// Mounts an empty directory over a directory, and the null device over all else. What is not there is
/// hidden already.
fn hide(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::metadata(path) else {
        return Ok(());
    };
    let done = if found.is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            flags,
            Some("mode=0555,size=64k"),
        )
    } else {
        mount(
            Some("/dev/null"),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
    };
    match done {
        Err(nix::errno::Errno::ENOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot hide {}", path.display())),
    }
}

/// Puts a file back into the empty directory that hides it.
fn restore(path: &Path, file: &File) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::create_new(path)
        .map_err(anyhow::Error::from)
        .and_then(|_empty| {
            let bind = MsFlags::MS_BIND;
            Ok(mount(
                Some(from.as_str()),
                path,
                None::<&str>,
                bind,
                None::<&str>,
            )?)
        })
        .with_context(|| format!("cannot keep {}", path.display()))
}

/// Nobody enters another cgroup, or turns a knob of the kernel's, by a file that cannot be written.
fn freeze(at: &Path) -> anyhow::Result<()> {
    mount(Some(at), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot make {} a mount", at.display()))?;
    lock(at)
}

/// The same for what is a mount already; what is mounted below it stays as it is.
pub(super) fn lock(at: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot make {} read-only", at.display()))
}

/// Shows only the processes that the command may look into anyway (`hidepid=ptraceable`, Linux 5.8).
fn processes() -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = Some("proc");
    mount(proc, "/proc", proc, flags, Some("hidepid=ptraceable"))
        .context("cannot mount a /proc of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dials_hosts_by_their_names_is_told_from_other_mounts() {
        let lines = [
            "93 28 0:60 / /net rw,relatime shared:60 - autofs -hosts rw,fd=6,pgrp=1,timeout=300",
            "94 28 0:61 / /home rw,relatime shared:61 - autofs /etc/auto.home rw,fd=12,pgrp=1",
            "35 24 0:31 / /sys/fs/bpf rw - bpf bpf rw,mode=700",
        ];
        let found: Vec<_> = lines.iter().filter_map(|line| one_mount(line)).collect();
        let is_of_hosts = |found: &Mounted| (found.kind.as_str(), found.source.as_str()) == HOSTS;
        let hidden: Vec<_> = found.iter().map(is_of_hosts).collect();
        assert_eq!(hidden, [true, false, false]);
        assert_eq!(found[0].at, PathBuf::from("/net"));
        assert_eq!(found[2].kind, "bpf");
    }

    #[test]
    fn however_many_connections_a_socket_has_the_others_are_seen() {
        let mut table = "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned();
        let row = |path: &str| format!("0: 00000003 00000000 00000000 0001 03 12345 {path}\n");
        for _ in 0..10_000 {
            table.push_str(&row("/run/dbus/system_bus_socket"));
        }
        table.push_str(&row("@abstract"));
        table.push_str(&row("/run/docker.sock"));
        let found: Vec<_> = paths(&table).into_iter().collect();
        let expected = ["/run/dbus/system_bus_socket", "/run/docker.sock"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}

//! What an operator does to a cgroup and its processes: freeze, kill, wait until it is empty, remove.

#![expect(unsafe_code, reason = "tokio must be promised that a descriptor stays")]

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use crate::capture::Capture;
use crate::capture::cgroup2::{Hierarchy, is_within};
use crate::identity::pidfd;

/// One walk over all cgroups at a time: whoever was given a cgroup can make thousands of them.
static WALK: Semaphore = Semaphore::const_new(1);

/// Stops every process of a cgroup, or lets them go on (cgroup v2 freezer, Linux 5.2).
///
/// # Errors
/// What the kernel said.
pub(in crate::control) fn freeze(
    hierarchy: &Hierarchy,
    path: &str,
    freeze: bool,
) -> io::Result<()> {
    let value = if freeze { "1" } else { "0" };
    fs::write(hierarchy.directory(path).join("cgroup.freeze"), value)
}

/// Ends every process of a cgroup with SIGKILL: at once by `cgroup.kill` (Linux 5.14), before that one by one.
///
/// # Errors
/// What the kernel said.
pub(in crate::control) fn kill(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    let all = fs::OpenOptions::new()
        .write(true)
        .open(hierarchy.directory(path).join("cgroup.kill"));
    match all {
        Ok(mut file) => file.write_all(b"1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => kill_each(hierarchy, path),
        Err(error) => Err(error),
    }
}

/// Stopped, nobody can fork meanwhile; what is killed ends all the same.
fn kill_each(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    let file = hierarchy.directory(path).join("cgroup.freeze");
    let was_frozen = fs::read_to_string(&file)?.trim() == "1";
    freeze(hierarchy, path, true)?;
    let killed = rounds(hierarchy, path);
    if !was_frozen {
        freeze(hierarchy, path, false)?;
    }
    killed
}

/// Until nobody is found who was not told: the freezer takes its time, and who was forked before it is in the next
/// round. Who was told forks no more.
fn rounds(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    let mut told: HashMap<u32, OwnedFd> = HashMap::new();
    loop {
        let mut is_over = true;
        for pid in hierarchy.processes(path).map_err(io::Error::other)? {
            if told.get(&pid).is_some_and(pidfd::is_alive) {
                continue;
            }
            // The dead are listed until somebody has waited for them.
            let Ok(held) = pidfd::open(pid) else { continue };
            // Held, its number is no other's: it is killed only where it is in this cgroup still.
            let of = hierarchy.of(Some(pid));
            if pidfd::is_alive(&held) && of.is_ok_and(|of| is_within(&of, path)) {
                pidfd::kill(&held)?;
                told.insert(pid, held);
                is_over = false;
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

/// Removes a cgroup and those below it, which must hold no process; one that is gone is removed.
///
/// # Errors
/// What the kernel said.
pub(in crate::control) fn remove(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    remove_all(&hierarchy.directory(path))
}

fn remove_all(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// Waits for a change of `cgroup.events`, which the kernel tells when a cgroup empties or fills.
///
/// # Errors
/// Where the cgroup is gone, or cannot be watched.
pub(in crate::control) async fn changes(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    let file = fs::File::open(hierarchy.directory(path).join("cgroup.events"))?;
    // A read arms the notice: what changes after it is told as an exceptional condition.
    io::read_to_string(&file)?;
    // SAFETY: a `File` answers one descriptor all its life, and keeps it open until it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
    let watched = watched.map_err(|error| error.into_parts().1)?;
    drop(watched.ready(Interest::PRIORITY).await?);
    Ok(())
}

/// The control group of a systemd unit: the cgroup that is named as it is, wherever it lies. Whoever was
/// given a cgroup can make others of any name below it, so two of one name are nobody's.
///
/// # Errors
/// What to say where there is none, or more than one.
pub(in crate::control) async fn of_unit(
    capture: &Arc<Capture>,
    unit: &str,
) -> Result<String, String> {
    let (capture, unit) = (Arc::clone(capture), unit.to_owned());
    walk(move || find(capture.hierarchy(), &unit)).await
}

/// Walks over all cgroups, once there is nobody else who does.
///
/// # Errors
/// Those of the walk.
pub(super) async fn walk<T: Send + 'static>(
    over: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let turn = WALK.acquire().await.map_err(|error| error.to_string())?;
    let walk = tokio::task::spawn_blocking(move || {
        let found = over();
        drop(turn);
        found
    });
    walk.await.map_err(|error| error.to_string())?
}

fn find(hierarchy: &Hierarchy, unit: &str) -> Result<String, String> {
    let is_name = !unit.is_empty() && !unit.contains('/') && unit != "." && unit != "..";
    let root = hierarchy.directory("/");
    let mut found = Vec::new();
    if is_name {
        search(&root, unit, &mut found);
    }
    let named = |path: &PathBuf| {
        let below = path.strip_prefix(&root).unwrap_or(path);
        format!("/{}", below.to_string_lossy())
    };
    match found.as_slice() {
        [] => Err(format!("no cgroup is named {unit}; is the unit started?")),
        [one] => Ok(named(one)),
        [one, other, ..] => Err(format!(
            "{} and {} are both named {unit}; name the one that is meant by its path",
            named(one),
            named(other)
        )),
    }
}

/// A path as the kernel and policy agree on it: what it resolves to is what it says.
///
/// # Errors
/// What to say where it has parts that lead nowhere, or elsewhere.
pub(in crate::control) fn plain(path: &str) -> Result<String, &'static str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    let is_root = matches!(path, "" | "/");
    if !is_root && inner.split('/').any(is_odd) {
        return Err("a cgroup's path has no `//`, no `/./` and no `..`");
    }
    Ok(format!("/{inner}"))
}

/// Finds up to two cgroups of a name.
fn search(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if found.len() > 1 || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        }
        search(&entry.path(), name, found);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A cgroup that goes with the test.
    struct Own<'a>(&'a Hierarchy, String);

    impl Drop for Own<'_> {
        fn drop(&mut self) {
            drop(fs::write(
                self.0.directory(&self.1).join("cgroup.kill"),
                "1",
            ));
            for _ in 0..100_000 {
                if remove(self.0, &self.1).is_ok() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn without_the_kernels_help_a_cgroup_is_ended_one_by_one() {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "needs root"
            );
            println!("skipped: needs root");
            return;
        }
        let hierarchy = Hierarchy::find().unwrap();
        let own = Own(
            &hierarchy,
            format!("/ict-{}-kill", uuid::Uuid::now_v7().simple()),
        );
        let below = format!("{}/below", own.1);
        hierarchy.make(&below).unwrap();
        // Each with a child of its own, which nobody waits for; one forks all the time.
        let scripts = [
            "sleep 999 & echo; sleep 999",
            "echo; while :; do /bin/true; done",
        ];
        // It goes in before it has children: what forked outside would stay there.
        let start = |(script, path): (&str, &String)| -> Child {
            let file = hierarchy.directory(path).join("cgroup.procs");
            let script = format!("echo 0 > {} && {{ {script}; }}", file.display());
            let mut child = Command::new("/bin/sh")
                .args(["-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let output = child.stdout.as_mut().unwrap();
            BufReader::new(output).read_line(&mut line).unwrap();
            child
        };
        let children: Vec<Child> = scripts
            .into_iter()
            .zip([&own.1, &below])
            .map(start)
            .collect();
        kill_each(&hierarchy, &own.1).unwrap();
        for mut child in children {
            let ended = child.wait().unwrap();
            assert_eq!(ended.signal(), Some(libc::SIGKILL), "{ended}");
        }
        let file = hierarchy.directory(&own.1).join("cgroup.freeze");
        assert_eq!(
            fs::read_to_string(file).unwrap().trim(),
            "0",
            "it stays frozen"
        );
    }

    #[test]
    fn a_path_is_spelled_in_one_way_only() {
        for (path, is) in [
            ("", "/"),
            ("/", "/"),
            ("agents.slice/x", "/agents.slice/x"),
            ("/agents.slice/x/", "/agents.slice/x"),
            ("/a..b/.c", "/a..b/.c"),
        ] {
            assert_eq!(plain(path), Ok(is.to_owned()), "{path}");
        }
        for path in [
            "a//b", "a/./b", "a/../b", "..", ".", "//a", "a/.", "./a", "a//", "//",
        ] {
            assert!(plain(path).is_err(), "{path}");
        }
    }
}

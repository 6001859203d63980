//! What an operator does to a cgroup and its processes: freeze, kill, wait until it is empty, remove.

#![expect(unsafe_code, reason = "tokio must be promised that a descriptor stays")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use crate::capture::Capture;
use crate::capture::cgroup2::Hierarchy;

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

/// Ends every process of a cgroup with SIGKILL (`cgroup.kill`, Linux 5.14).
///
/// # Errors
/// What the kernel said.
pub(in crate::control) fn kill(hierarchy: &Hierarchy, path: &str) -> io::Result<()> {
    fs::write(hierarchy.directory(path).join("cgroup.kill"), "1")
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
    let turn = WALK.acquire().await.map_err(|error| error.to_string())?;
    let (capture, unit) = (Arc::clone(capture), unit.to_owned());
    let walk = tokio::task::spawn_blocking(move || {
        let found = find(capture.hierarchy(), &unit);
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
    use super::plain;

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

//! Cgroups of a test's own, below the cgroup v2 mount wherever that is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// How long the kernel may take to end what lived in a removed cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// A cgroup that is taken away when dropped, with all below it and all processes in it.
#[derive(Debug)]
pub struct Cgroup {
    below: String,
    path: PathBuf,
}

impl Cgroup {
    /// Makes `below` (relative to the cgroup v2 mount) or takes over the one that is there.
    ///
    /// # Errors
    /// When it cannot be made, or no cgroup v2 is mounted.
    pub fn make(below: &str) -> anyhow::Result<Self> {
        let made = Self::adopt(below)?;
        fs::create_dir_all(&made.path)
            .with_context(|| format!("make cgroup {}", made.path.display()))?;
        Ok(made)
    }

    /// One that someone else may make; it is removed all the same.
    ///
    /// # Errors
    /// When no cgroup v2 is mounted.
    pub fn adopt(below: &str) -> anyhow::Result<Self> {
        Ok(Self {
            below: below.to_owned(),
            path: mount()?.join(below),
        })
    }

    /// Its path below the mount, without a leading slash.
    #[must_use]
    pub fn below(&self) -> &str {
        &self.below
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processes in it and below it.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        tree(&self.path)
            .iter()
            .filter_map(|directory| fs::read_to_string(directory.join("cgroup.procs")).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Ends what lives below `path` and removes the directories, deepest first.
pub fn remove(path: &Path) {
    if !path.exists() {
        return;
    }
    for directory in tree(path) {
        drop(fs::write(directory.join("cgroup.freeze"), "0"));
        drop(fs::write(directory.join("cgroup.kill"), "1"));
    }
    drop(wait::for_fact("an empty cgroup", EMPTY_WITHIN, || {
        for directory in tree(path).iter().rev() {
            drop(fs::remove_dir(directory));
        }
        Ok((!path.exists()).then_some(()))
    }));
}

/// Where cgroup v2 is mounted: the first such line of /proc/self/mountinfo.
///
/// # Errors
/// When it is not mounted.
pub fn mount() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .context("cgroup v2 is not mounted")
}

/// `path` and every directory below it, parents first.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        found.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    found
}

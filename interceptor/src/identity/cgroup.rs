//! Cgroup paths: one form of each, and which container they name.
//!
//! A container's id is believed only where root made the name: whoever was given a cgroup can make
//! cgroups of any name below it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a container's id (Docker, containerd, CRI-O and Podman alike).
const ID_DIGITS: usize = 64;
/// What runtimes put before the id.
const PREFIXES: &[&str] = &["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];
/// Write permission for group or others.
const WRITABLE: u32 = 0o022;

/// A path with one leading slash and none at its end; the root is `/`.
pub(super) fn normal(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// Cgroup directories of the host.
#[derive(Clone, Debug)]
pub(super) struct Directories {
    mount: PathBuf,
}

impl Directories {
    pub(super) fn new(mount: &Path) -> Self {
        Self {
            mount: mount.to_owned(),
        }
    }

    /// The id of the cgroup at a path; `None` where there is none.
    pub(super) fn id(&self, path: &str) -> Option<u64> {
        let about = std::fs::metadata(self.directory(path)).ok()?;
        about.is_dir().then_some(about.ino())
    }

    /// Every container that has a cgroup: its id and its path.
    pub(super) fn containers(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut open = vec![String::from("/")];
        while let Some(path) = open.pop() {
            let entries = std::fs::read_dir(self.directory(&path));
            for entry in entries.into_iter().flatten().flatten() {
                let name = entry.file_name().into_string();
                let (Ok(name), Ok(true)) = (name, entry.file_type().map(|kind| kind.is_dir()))
                else {
                    continue;
                };
                let below = format!("{}/{name}", path.trim_end_matches('/'));
                match id_in(&name).filter(|_| self.only_root_writes(&path)) {
                    Some(id) => found.push((id.to_owned(), below)),
                    None => open.push(below),
                }
            }
        }
        found.sort();
        found
    }

    /// The id of the outermost container that a path names.
    pub(super) fn container(&self, path: &str) -> Option<String> {
        container(path, |parent| self.only_root_writes(parent))
    }

    fn only_root_writes(&self, path: &str) -> bool {
        std::fs::metadata(self.directory(path))
            .is_ok_and(|about| about.uid() == 0 && about.mode() & WRITABLE == 0)
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

/// The id of the outermost container that a path names, in a directory that only root writes.
pub(super) fn container(path: &str, only_root_writes: impl Fn(&str) -> bool) -> Option<String> {
    let mut parent = String::from("/");
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if let Some(id) = id_in(part).filter(|_| only_root_writes(&parent)) {
            return Some(id.to_owned());
        }
        if parent.len() > 1 {
            parent.push('/');
        }
        parent.push_str(part);
    }
    None
}

fn id_in(part: &str) -> Option<&str> {
    Some(without_runtime(part)).filter(|id| is_id(id))
}

/// A cgroup's name without what its runtime puts around the container's.
fn without_runtime(part: &str) -> &str {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    // Without systemd, containerd keeps systemd's notation: `kubepods-pod….slice:cri-containerd:ID`.
    let part = part.rsplit(':').next().unwrap_or(part);
    PREFIXES
        .iter()
        .find_map(|prefix| part.strip_prefix(prefix))
        .unwrap_or(part)
}

/// Whether a cgroup has the name of the container with this id, whatever form the id has.
#[must_use]
pub fn is_named(path: &str, id: &str) -> bool {
    let mut parts = path.rsplit('/');
    // crun can put the container's processes one below.
    let name = parts.find(|part| *part != "container");
    !id.is_empty() && name.is_some_and(|name| without_runtime(name) == id)
}

/// Whether this is the whole id of a container.
pub(super) fn is_id(id: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    id.len() == ID_DIGITS && id.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_named_by_its_own_name_and_not_by_a_part_of_another() {
        let id = "0123456789abcdef".repeat(4);
        for (path, id, named) in [
            (format!("/system.slice/docker-{id}.scope"), &*id, true),
            (
                format!("/machine.slice/libpod-{id}.scope/container"),
                &id,
                true,
            ),
            (
                format!("/kubepods-pod1.slice:cri-containerd:{id}"),
                &id,
                true,
            ),
            ("/default/web".to_owned(), "web", true),
            ("/default/web/below".to_owned(), "web", false),
            ("/system.slice/cron.service".to_owned(), "s", false),
            ("/system.slice/cron.service".to_owned(), "slice", false),
            (
                "/system.slice/cron.service".to_owned(),
                "system.slice",
                false,
            ),
            ("/system.slice/cron.service".to_owned(), "", false),
            ("/".to_owned(), "", false),
        ] {
            assert_eq!(is_named(&path, id), named, "{path} and {id:?}");
        }
    }
}

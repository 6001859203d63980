//! The pins: one directory below bpffs, root's alone, in which everything outlives the daemon.
//!
//! `<pins>/v<layout>/maps/<map>`, `…/scopes/<cgroup id>/<hook>`, `…/daemon/<cgroup id>` and `…/host/<hook>`. A scope's
//! agent is the target of the symbolic link `agent` beside its hooks, which every layout can read; a link
//! `configured` beside it says that the configuration asked for the tag.

pub(super) mod look;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use interceptor_ebpf::LAYOUT;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::statfs;

use super::{Error, syscall};

/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// `SYSFS_MAGIC`.
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// The link that says that the configuration asked for a scope.
pub(super) const CONFIGURED: &str = "configured";

/// What one earlier start left of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScopePin {
    /// Cgroup id.
    pub(super) id: u64,
    /// The agent's name; empty where it cannot be read.
    pub(super) agent: String,
    /// Whether the configuration asked for it, rather than somebody.
    pub(super) is_configured: bool,
    /// Where its hooks are pinned.
    pub(super) directory: PathBuf,
}

/// The directory of the pins.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    own: PathBuf,
}

impl Pins {
    /// Opens the directory; mounts a bpffs on it where it lies on none.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        // In `/sys/fs/bpf`, where the host has mounted nothing on it, no directory can be made.
        if let Some(parent) = root.parent()
            && !root.exists()
            && parent.exists()
            && kind(parent)? == SYSFS_MAGIC
        {
            mount_bpffs(parent)?;
        }
        make(root)?;
        if kind(root)? != BPF_FS_MAGIC {
            mount_bpffs(root)?;
        }
        let found = fs::metadata(root).map_err(pin_error("look at", root))?;
        if found.uid() != 0 {
            let source = io::Error::other("it belongs to another user than root");
            return Err(pin_error("use", root)(source));
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(pin_error("close", root))?;
        let own = root.join(format!("v{LAYOUT}"));
        for part in ["maps", "scopes", "daemon"] {
            make(&own.join(part))?;
        }
        Ok(Self {
            root: root.to_owned(),
            own,
        })
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        map_in(&self.own, name)
    }

    /// Where a scope's hooks are pinned.
    pub(super) fn scope(&self, id: u64) -> PathBuf {
        self.own.join("scopes").join(id.to_string())
    }

    /// Where the daemon's own hook is pinned, for a cgroup of its own.
    pub(super) fn daemon(&self, id: u64) -> PathBuf {
        self.own.join("daemon").join(id.to_string())
    }

    /// Where the hooks that guard the host are pinned.
    pub(super) fn host(&self) -> PathBuf {
        self.own.join("host")
    }

    /// Pins of the daemon's hook on cgroups other than `id`, of this layout.
    pub(super) fn other_daemons(&self, id: u64) -> Result<Vec<PathBuf>, Error> {
        let own = self.daemon(id);
        let mut found = entries(&self.own.join("daemon"))?;
        found.retain(|path| *path != own);
        Ok(found)
    }

    /// Scopes of this layout.
    pub(super) fn scopes(&self) -> Result<Vec<ScopePin>, Error> {
        scopes_in(&self.own)
    }

    /// Directories that other layouts left.
    pub(super) fn other_layouts(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = layouts(&self.root)?;
        found.retain(|path| *path != self.own);
        Ok(found)
    }
}

/// The directory of each layout; the file system may have files of its own beside them.
fn layouts(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = entries(root)?;
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix('v'));
        version.is_some_and(|version| version.parse::<u32>().is_ok())
    });
    Ok(found)
}

/// The magic number of the file system that a directory lies on.
fn kind(directory: &Path) -> Result<i64, Error> {
    let found = statfs(directory);
    let found = found.map_err(|source| pin_error("look at", directory)(source.into()))?;
    Ok(found.filesystem_type().0)
}

/// As `mount -t bpf -o nosuid,nodev,noexec,mode=0700 bpf <on>`.
fn mount_bpffs(on: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), on, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|source| pin_error("mount a bpffs on", on)(source.into()))
}

/// Where a layout has a map pinned.
pub(super) fn map_in(layout: &Path, name: &str) -> PathBuf {
    layout.join("maps").join(name)
}

/// Scopes that are pinned in the directory of one layout.
pub(super) fn scopes_in(layout: &Path) -> Result<Vec<ScopePin>, Error> {
    let mut found = Vec::new();
    for directory in entries(&layout.join("scopes"))? {
        let name = directory.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        let agent = fs::read_link(directory.join("agent"));
        let agent = agent.map(|name| name.to_string_lossy().into_owned());
        found.push(ScopePin {
            id,
            agent: agent.unwrap_or_default(),
            is_configured: directory.join(CONFIGURED).is_symlink(),
            directory,
        });
    }
    Ok(found)
}

/// Scopes that any layout left in the directory of the pins, which need not be there.
pub(super) fn remains(root: &Path) -> Result<Vec<ScopePin>, Error> {
    let mut found = Vec::new();
    for layout in layouts(root)? {
        found.extend(scopes_in(&layout)?);
    }
    Ok(found)
}

/// Takes the directory of the pins away, with the file system that was mounted for it alone.
pub(super) fn clear(root: &Path) -> Result<(), Error> {
    for layout in layouts(root)? {
        remove(&layout)?;
    }
    let removed = match fs::remove_dir(root) {
        Err(busy) if busy.raw_os_error() == Some(libc::EBUSY) => umount(root)
            .map_err(io::Error::from)
            .and_then(|()| fs::remove_dir(root)),
        removed => removed,
    };
    match removed {
        Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(pin_error("remove", root)),
    }
}

/// Writes the agent's name beside a scope's hooks. At no moment is there none.
pub(super) fn name_agent(directory: &Path, agent: &str) -> Result<(), Error> {
    let (link, next) = (directory.join("agent"), directory.join("agent-next"));
    remove_file(&next)?;
    symlink(agent, &next).map_err(pin_error("name the agent in", &next))?;
    fs::rename(&next, &link).map_err(pin_error("name the agent in", &link))
}

/// Notes beside a scope's hooks whether the configuration asked for it.
pub(super) fn set_configured(directory: &Path, is_configured: bool) -> Result<(), Error> {
    let link = directory.join(CONFIGURED);
    let (action, done) = match is_configured {
        true => ("make", symlink("by the file", &link)),
        false => ("remove", fs::remove_file(&link)),
    };
    let as_it_was = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
        )
    };
    match done {
        Err(error) if as_it_was(&error) => Ok(()),
        done => done.map_err(pin_error(action, &link)),
    }
}

/// Removes what lies in a scope's directory under other names.
pub(super) fn retain(directory: &Path, names: &[&str]) -> Result<(), Error> {
    for path in entries(directory)? {
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| names.contains(&name)) {
            fs::remove_file(&path).map_err(pin_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes a directory that only root can enter.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(pin_error("make", path))
}

/// Takes a directory of pins away; what was pinned only there is detached.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_dir_all(path).map_err(pin_error("remove", path))
}

/// Takes a pin away that need not be there.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(pin_error("remove", path)),
    }
}

/// Opens the pinned link, where there is one.
pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, Error> {
    match syscall::open_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(pin_error("open", path)(source)),
    }
}

/// What lies in a directory, which need not be there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(pin_error("list", directory)(source)),
    };
    found
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(pin_error("list", directory))
}

/// Names the pin and what was tried in an error of the kernel's.
pub(super) fn pin_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Pin {
        action,
        path,
        source,
    }
}

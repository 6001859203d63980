//! Where things are on this machine: the program under test, PostgreSQL, Python with its drivers, caches.
//!
//! `cargo xtask` sets the variables that are read here; run by hand, the ordinary places are looked at.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::{Uid, User, geteuid};

/// Names the directory that temporary ones are made in, where it is not `/tmp`. Every user must be able to enter it.
pub const TEMPORARY: &str = "INTERCEPTOR_TEMPORARY";

/// The `interceptor` program: `$INTERCEPTOR_BIN`, or the debug build of this workspace.
///
/// # Errors
/// When there is none; the text says how to build it.
pub fn interceptor() -> anyhow::Result<PathBuf> {
    let path = env::var_os("INTERCEPTOR_BIN").map_or_else(
        || {
            env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| workspace().join("target"), PathBuf::from)
                .join("debug/interceptor")
        },
        PathBuf::from,
    );
    if !path.is_file() {
        bail!(
            "no program at {}; build it with `cargo build --package interceptor`",
            path.display()
        );
    }
    Ok(path)
}

/// The root of the source tree that this process was started for.
///
/// Asked at run time, never baked in: a build directory that is shared by several clones hands the
/// program that was compiled in one of them to the next. `$INTERCEPTOR_WORKSPACE`, or what cargo says
/// to what it runs, or the nearest directory above that has a `Cargo.lock`.
#[must_use]
pub fn workspace() -> PathBuf {
    if let Some(set) = env::var_os("INTERCEPTOR_WORKSPACE") {
        return PathBuf::from(set);
    }
    let begin = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .or_else(|| env::current_dir().ok())
        .unwrap_or_default();
    root_above(&begin).unwrap_or(begin)
}

/// The nearest directory, `begin` or above it, that has a `Cargo.lock`.
pub(crate) fn root_above(begin: &Path) -> Option<PathBuf> {
    begin
        .ancestors()
        .find(|directory| directory.join("Cargo.lock").is_file())
        .map(Path::to_path_buf)
}

/// The variable that names the directory of PostgreSQL's programs.
pub const POSTGRES_PROGRAMS: &str = "INTERCEPTOR_PG_BIN";

/// The directory of PostgreSQL's programs: `$INTERCEPTOR_PG_BIN`, or the newest of Debian's.
///
/// # Errors
/// When PostgreSQL is not installed.
pub fn postgres_programs() -> anyhow::Result<PathBuf> {
    if let Some(set) = env::var_os(POSTGRES_PROGRAMS) {
        return Ok(PathBuf::from(set));
    }
    newest_postgres()
        .context("PostgreSQL is not installed; `sudo apt-get install postgresql` installs it")
}

/// A pack of `policies/`: file names and texts.
///
/// # Errors
/// When there is no such pack.
pub fn pack(name: &str) -> anyhow::Result<Vec<(String, String)>> {
    let directory = workspace().join("policies").join(name);
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("read the pack {}", directory.display()))?;
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|ending| ending == "cedar") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default();
            files.push((name.to_string_lossy().into_owned(), text));
        }
    }
    files.sort();
    Ok(files)
}

/// The newest of the PostgreSQL versions that Debian's packages put side by side.
#[must_use]
pub fn newest_postgres() -> Option<PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql").ok()?;
    entries
        .flatten()
        .filter(|entry| entry.path().join("bin/initdb").is_file())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .map(|entry| entry.path().join("bin"))
}

/// FNV-1a: names what is cached after what is in it.
#[must_use]
pub fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// A Python that has the drivers of `xtask/src/setup.rs`: `$INTERCEPTOR_PYTHON`.
///
/// # Errors
/// When the variable is not set.
pub fn python() -> anyhow::Result<PathBuf> {
    env::var_os("INTERCEPTOR_PYTHON")
        .map(PathBuf::from)
        .context(
            "INTERCEPTOR_PYTHON is not set; `cargo xtask e2e` makes the environment and sets it",
        )
}

/// The directory of npm's packages, node-pg and oidc-provider: `$INTERCEPTOR_NODE_MODULES`.
///
/// # Errors
/// When the variable is not set.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    env::var_os("INTERCEPTOR_NODE_MODULES")
        .map(PathBuf::from)
        .context("INTERCEPTOR_NODE_MODULES is not set; `cargo xtask e2e` installs them and sets it")
}

/// Where a Kubernetes API server and its `kubectl` are kept once they are built.
///
/// # Errors
/// As [`cache`].
pub fn kubernetes_cache() -> anyhow::Result<PathBuf> {
    cache().map(|cache| cache.join("kubernetes-1.20.2-1.1-deb12u1"))
}

/// A Kubernetes API server and its `kubectl`: `$INTERCEPTOR_KUBERNETES`, or where they are kept.
///
/// # Errors
/// When they are not built.
pub fn kubernetes() -> anyhow::Result<PathBuf> {
    let set = env::var_os("INTERCEPTOR_KUBERNETES").map(PathBuf::from);
    let directory = set.map_or_else(kubernetes_cache, Ok)?;
    if !directory.join("kube-apiserver").is_file() {
        bail!(
            "there is no kube-apiserver in {}; `cargo xtask e2e kube` builds it, once",
            directory.display()
        );
    }
    Ok(directory)
}

/// Where `helm` is kept once it was fetched.
///
/// # Errors
/// As [`cache`].
pub fn helm_cache() -> anyhow::Result<PathBuf> {
    cache().map(|cache| cache.join("helm-4.1.4"))
}

/// `helm`: `$INTERCEPTOR_HELM`, or where it is kept.
///
/// # Errors
/// When it was not fetched.
pub fn helm() -> anyhow::Result<PathBuf> {
    let set = env::var_os("INTERCEPTOR_HELM").map(PathBuf::from);
    let program = set.map_or_else(helm_cache, Ok)?;
    if !program.is_file() {
        bail!(
            "there is no {}; `cargo xtask e2e kube` fetches it, once",
            program.display()
        );
    }
    Ok(program)
}

/// What is kept between runs: `$XDG_CACHE_HOME/interceptor`, by default below `~/.cache`.
///
/// # Errors
/// When neither variable nor home directory is known.
pub fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|base| base.join("interceptor"))
        .context("neither XDG_CACHE_HOME nor HOME is set")
}

/// The ordinary user that plays the agent: who called sudo, or `nobody`.
#[must_use]
pub fn agent_uid() -> u32 {
    let caller = env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    match caller {
        Some(uid) if uid != 0 => uid,
        _ if geteuid().is_root() => nobody(),
        _ => geteuid().as_raw(),
    }
}

/// The user that PostgreSQL runs as: itself refuses to be root.
#[must_use]
pub fn server_user() -> Uid {
    if !geteuid().is_root() {
        return geteuid();
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => user.uid,
        _ => Uid::from_raw(nobody()),
    }
}

fn nobody() -> u32 {
    match User::from_name("nobody") {
        Ok(Some(user)) => user.uid.as_raw(),
        _ => 65534,
    }
}

/// The primary group of a user; a group of the same number where the host does not know the user.
#[must_use]
pub fn group_of(uid: Uid) -> u32 {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.gid.as_raw(),
        _ => uid.as_raw(),
    }
}

/// A directory with a short path (Unix sockets allow 108 bytes) that every user may pass through,
/// named after `what`; removed when dropped.
///
/// # Errors
/// When it cannot be made.
pub fn temporary(what: &str) -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new()
        .prefix(&format!("ic-{what}-"))
        .tempdir_in(env::var_os(TEMPORARY).unwrap_or_else(|| "/tmp".into()))
        .context("make a temporary directory")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .context("open a temporary directory to other users")?;
    Ok(directory)
}

//! Principal: who is behind a connection. Process → executable → ancestors → cgroup → container → user.
//!
//! Second step of the intercept path. Starts from the kernel's stamp and adds what /proc tells, only
//! where a pidfd proves that it still tells about the same process. What cannot be proved is refused.

use std::path::PathBuf;

use serde::Serialize;

use crate::clock::BootTime;

/// Who asks: what policy judges and every audit line names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// The name that the scope is tagged with.
    pub agent: String,
    /// The user that the process runs as.
    pub user: User,
    /// The process that called `connect()`.
    pub process: Process,
    /// Its ancestors up to the scope's root, parent first. Ancestors outside the scope are not listed.
    pub ancestors: Vec<Process>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The container's id, where its cgroup names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Whether the process holds capabilities in the initial user namespace. Injection for such
    /// processes is refused by default: they could leave the scope.
    pub privileged: bool,
}

/// A user of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Group id in the initial user namespace.
    pub gid: u32,
    /// Login name, where the host knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One process at the time of the connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Start time since boot; with the pid it names the process for ever.
    pub started: BootTime,
    /// What it executes.
    pub executable: Executable,
    /// Its arguments, lossily decoded, at most 4 KiB in all. Written by the process itself: never a boundary.
    pub argv: Vec<String>,
    /// User id.
    pub uid: u32,
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Executable {
    /// Path as /proc names it.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, in lower-case hex.
    pub sha256: String,
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// Cgroup v2 id: the directory's inode.
    pub id: u64,
    /// Path below the cgroup v2 mount, with a leading slash.
    pub path: String,
    /// Path of the scope's root, the tagged cgroup that caught the connection.
    pub scope: String,
}

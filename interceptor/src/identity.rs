//! Principal: who is behind a connection. Process → executable → ancestors → cgroup → container → user,
//! and whom the scope is bound to.
//!
//! Second step of the intercept path. Starts from the kernel's stamp and adds what /proc tells, only
//! where a pidfd proves that it still tells about the same process, and only where the process still
//! executes the very inode that was stamped at `connect()`. What cannot be proved is refused.
//! Never trusts what a process writes about itself, and never lets a process hold up another scope's:
//! reading its memory or its files may block for as long as it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::capture::Scope;
use crate::clock::BootTime;

mod allowance;
mod ancestors;
mod cgroup;
mod executable;
mod live;
mod lookup;
mod mounts;
mod operator;
pub mod pidfd;
pub mod runtimes;
#[cfg(test)]
mod tests;
mod user;

pub use cgroup::is_named;
pub use lookup::Identifier;
pub use operator::Operator;
pub use runtimes::Workload;
pub use user::{LoggedIn, Login, Owners, given_to, session_of, uid_of};

/// The effective user of whoever has this number now.
///
/// # Errors
/// Where nobody has it, or /proc does not say.
pub fn user_of(pid: u32) -> Result<u32, Error> {
    live::Live::open(pid)?.uid()
}

/// The tagged cgroup that caught a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeOf {
    /// The name that it is tagged with.
    pub agent: String,
    /// Its path below the cgroup v2 mount; a leading slash makes no difference.
    pub cgroup: String,
    /// Its cgroup id.
    pub id: u64,
    /// Whom it is bound to.
    pub identity: Option<Arc<Identity>>,
}

impl From<&Scope> for ScopeOf {
    fn from(scope: &Scope) -> Self {
        Self {
            agent: scope.agent.clone(),
            cgroup: scope.path.clone(),
            id: scope.id,
            identity: None,
        }
    }
}

/// A principal, held: as long as this lives, its process's number names no other process to us.
#[derive(Debug)]
pub struct Identified {
    /// Who it is.
    pub principal: Arc<Principal>,
    pidfd: AsyncFd<OwnedFd>,
}

impl Identified {
    /// The process; see pidfd_open(2).
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }

    /// Waits until the process has ended. Cancelling is safe; also answers when the runtime stops.
    pub async fn exited(&self) {
        if let Err(error) = self.pidfd.readable().await {
            tracing::debug!(%error, "cannot wait for a process any more");
        }
    }
}

/// Who asks: what policy judges and every audit line names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The name that the scope is tagged with.
    pub agent: String,
    /// The user that the process runs as.
    pub user: User,
    /// The process that called `connect()`.
    pub process: Process,
    /// Its ancestors up to the scope's root, parent first, at most 64. Ancestors outside the scope are
    /// not listed. A parent that has ended ends the chain: who then adopted the child is not its origin.
    pub ancestors: Vec<Process>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The container's id, where its cgroup names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the container is, where a runtime of this host knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Arc<Workload>>,
    /// Whether the process is the host's root, or holds capabilities in the initial user namespace. Injection for
    /// such processes is refused by default: they could leave the scope.
    pub privileged: bool,
    /// Whom its scope is bound to, where it is bound to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Arc<Identity>>,
}

/// The person or the workload that a scope is bound to, as a token says that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer, as its tokens name it.
    pub issuer: String,
    /// The issuer's own name for it, which is never given to another (OpenID Connect Core §2, `sub`).
    pub subject: String,
    /// The user's name, where the issuer tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its groups.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// How surely the issuer knew it (OpenID Connect Core §2, `acr`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By which means (RFC 8176).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub amr: BTreeSet<String>,
    /// More claims, those that the configuration names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// When it ends, for people.
    pub expires: Timestamp,
}

impl Identity {
    /// Whether it is the same subject.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }

    /// Whether the same is said of it, but for when it ends.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        let Self {
            issuer,
            subject,
            user,
            groups,
            acr,
            amr,
            claims,
            expires: _,
        } = self;
        *issuer == other.issuer
            && *subject == other.subject
            && *user == other.user
            && *groups == other.groups
            && *acr == other.acr
            && *amr == other.amr
            && *claims == other.claims
    }
}

/// A user of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id (thread group) in the initial pid namespace.
    pub pid: u32,
    /// Start time since boot; with the pid it names the process for ever. Of ancestors in steps of 10 ms.
    pub started: BootTime,
    /// What it executes.
    pub executable: Executable,
    /// Its arguments, lossily decoded, at most 4 KiB in all. Written by the process itself: never a boundary.
    pub argv: Vec<String>,
    /// User id.
    pub uid: u32,
}

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Path as /proc names it, lossily decoded, in the process's own mount namespace.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, in lower-case hex.
    pub sha256: String,
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Cgroup v2 id: the directory's inode.
    pub id: u64,
    /// Path below the cgroup v2 mount, with a leading slash.
    pub path: String,
    /// Path of the scope's root, the tagged cgroup that caught the connection.
    pub scope: String,
}

/// Why nobody can be named. Every one of them is a refusal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The daemon reads shifted start times.
    #[error(
        "cannot compare start times: the daemon runs in a time namespace; start it in the host's"
    )]
    TimeNamespace,
    /// The daemon sees other numbers than the kernel stamps.
    #[error("cannot look processes up: the daemon runs in a pid namespace; start it in the host's")]
    PidNamespace,
    /// The daemon's own surroundings cannot be read.
    #[error("cannot read {what}: {cause}")]
    Host {
        /// What.
        what: &'static str,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// The process has ended.
    #[error("cannot identify process {pid}: it has ended")]
    Gone {
        /// Its number.
        pid: u32,
    },
    /// Another process has the number now.
    #[error(
        "cannot identify process {pid}: its number belongs to a process that started at another time"
    )]
    Replaced {
        /// The number.
        pid: u32,
    },
    /// A stamp that cannot be true.
    #[error("cannot identify process {pid}: it started after it connected")]
    Later {
        /// Its number.
        pid: u32,
    },
    /// The kernel stamped no executable.
    #[error(
        "cannot identify process {pid}: the kernel did not say what it executes; see `interceptor doctor`"
    )]
    Unstamped {
        /// Its number.
        pid: u32,
    },
    /// The process executes another file than when it connected.
    #[error("cannot identify process {pid}: it executes another file than when it connected")]
    Executed {
        /// Its number.
        pid: u32,
    },
    /// An executable that is being written.
    #[error("cannot hash {path}: it changes while it is read")]
    Changing {
        /// The file as /proc names it.
        path: PathBuf,
    },
    /// An executable over 4 GiB.
    #[error("cannot hash {path}: it is larger than 4 GiB")]
    TooLarge {
        /// The file as /proc names it.
        path: PathBuf,
    },
    /// The process is not inside the scope that caught it.
    #[error("cannot identify process {pid}: it is not in scope {scope} any more")]
    Outside {
        /// Its number.
        pid: u32,
        /// The scope's root.
        scope: String,
    },
    /// The process is in another cgroup than when it connected.
    #[error("cannot identify process {pid}: it has left the cgroup that it connected from")]
    Moved {
        /// Its number.
        pid: u32,
    },
    /// Something of the process cannot be read.
    #[error("cannot read {what} of process {pid}: {cause}")]
    Unreadable {
        /// Its number.
        pid: u32,
        /// What, as /proc names it.
        what: &'static str,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// Something of the process is not in the form that proc(5) says.
    #[error("cannot understand {what} of process {pid}")]
    Malformed {
        /// Its number.
        pid: u32,
        /// What, as /proc names it.
        what: &'static str,
    },
    /// The host's user database does not answer.
    #[error("cannot look up user {uid}: {cause}")]
    User {
        /// The user.
        uid: u32,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// Reading took too long: a process can hold up whoever reads its memory or files.
    #[error("cannot identify process {pid}: reading it took too long")]
    Timeout {
        /// Its number.
        pid: u32,
    },
    /// The packet that was dropped does not show who sent it.
    #[error(
        "cannot identify process {pid}: it ran when the packet left, which does not show that it sent it"
    )]
    Passerby {
        /// Its number.
        pid: u32,
    },
    /// More is refused in this scope than is worth looking into.
    #[error(
        "cannot identify process {pid}: too much was refused in its scope to look into each refusal"
    )]
    Busy {
        /// Its number.
        pid: u32,
    },
    /// The runtime is shutting down.
    #[error("cannot identify process {pid}: the daemon is stopping")]
    Stopping {
        /// Its number.
        pid: u32,
    },
}

impl Error {
    /// The reason in one word, from a closed list: for metrics and the audit.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TimeNamespace | Self::PidNamespace | Self::Host { .. } => "host",
            Self::Gone { .. } => "gone",
            Self::Replaced { .. } => "replaced",
            Self::Later { .. } => "later",
            Self::Unstamped { .. } => "unstamped",
            Self::Executed { .. } => "executed",
            Self::Changing { .. } | Self::TooLarge { .. } => "executable",
            Self::Outside { .. } | Self::Moved { .. } => "moved",
            Self::Unreadable { .. } | Self::Malformed { .. } => "unreadable",
            Self::User { .. } => "user",
            Self::Timeout { .. } => "timeout",
            Self::Passerby { .. } => "passerby",
            Self::Busy { .. } => "busy",
            Self::Stopping { .. } => "stopping",
        }
    }
}

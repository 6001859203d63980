//! Who gives the daemon an order: a process outside every scope, described as an agent's process is.

use serde::Serialize;

use super::live::Live;
use super::lookup::{MAX_ARGUMENTS, Reader};
use super::{Error, Process, User, ancestors};

/// A process on a control socket, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// The user that the kernel gave for it when it connected.
    pub user: User,
    /// The process.
    pub process: Process,
    /// Its ancestors up to the host's first process or one that cannot be read, parent first, at most 64.
    pub ancestors: Vec<Process>,
    /// Path of its cgroup below the cgroup v2 mount.
    pub cgroup: String,
}

impl Reader {
    /// Describes the process that has this number now. Whether it is the one that is meant, the caller
    /// shows by a pidfd that still lives afterwards.
    pub(super) fn operator(&self, pid: u32, (uid, gid): (u32, u32)) -> Result<Operator, Error> {
        let process = Live::open(pid)?;
        let cgroup = process.cgroup()?;
        let parent = ancestors::parent(&process)?;
        let started = self.boot_time(process.stat()?.started);
        let described = self.describe(&process, started, uid, MAX_ARGUMENTS)?;
        let name = self.user_name(uid)?;
        let operator = Operator {
            user: User { uid, gid, name },
            process: described,
            ancestors: ancestors::readable(self, parent),
            cgroup,
        };
        process.alive()?;
        Ok(operator)
    }
}

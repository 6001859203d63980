//! From a stamp to a principal: every step either proves something or ends in a refusal.
//!
//! Everything here reads files that may block their reader for as long as an agent likes (an executable
//! that it serves over FUSE). So it runs on threads of its own, a few at a time for each scope, under a
//! deadline.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::value::RawValue;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::allowance::Allowance;
use super::cgroup::{self, Directories};
use super::executable::{Hashes, Open, Version};
use super::live::{self, Live};
use super::runtimes::Runtimes;
use super::user::{Login, Names};
use super::{
    Cgroup, Error, Identified, Identity, Operator, Principal, Process, ScopeOf, User, ancestors,
    pidfd,
};
use crate::capture::cgroup2::is_within;
use crate::capture::{Denied, Flow, KernelFile, ProcessStamp};
use crate::clock::{self, BootTime};

/// How long one lookup may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take for a refusal or an order, whose line in the audit waits for it.
const WAITED_FOR: Duration = Duration::from_secs(2);
/// Lookups of connections at once for one scope; each may keep a thread for as long as a process likes.
const AT_ONCE: usize = 4;
/// Bytes that each line of the audit has beside a name and a cause, about.
const LINE: usize = 512;
/// Scopes whose lookups are counted.
const SCOPES: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// How long what was read of a process is used for its next connection.
const TTL: Duration = Duration::from_secs(1);
/// Processes that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Bytes of a process's arguments.
pub(super) const MAX_ARGUMENTS: usize = 4 << 10;
/// Inodes of the initial namespaces (`PROC_*_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_TIME_NAMESPACE: u64 = 0xEFFF_FFFA;
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Names who is behind connections. One for the daemon.
#[derive(Debug)]
pub struct Identifier {
    reader: Arc<Reader>,
    scopes: Mutex<LruCache<u64, Share>>,
}

/// What one scope may keep busy: its refusals are no reason for its connections to wait.
#[derive(Clone, Debug)]
struct Share {
    connections: Arc<Semaphore>,
    refusals: Arc<Allowance>,
    lines: Arc<Allowance>,
}

impl Identifier {
    /// Identifies by the cgroup v2 that is mounted here, and containers by what their runtimes keep.
    ///
    /// # Errors
    /// Where the daemon runs in a time or pid namespace of its own: numbers and times that the kernel
    /// stamps would name something else there.
    pub fn new(cgroup_mount: &Path, runtimes: Runtimes) -> Result<Self, Error> {
        let namespace =
            |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map(|ns| ns.ino());
        let host = |what| {
            move |cause| Error::Host {
                what,
                cause: Arc::new(cause),
            }
        };
        if namespace("pid").map_err(host("/proc/self/ns/pid"))? != INITIAL_PID_NAMESPACE {
            return Err(Error::PidNamespace);
        }
        // Kernels without time namespaces (before 5.6) have no such file.
        if namespace("time").is_ok_and(|inode| inode != INITIAL_TIME_NAMESPACE) {
            return Err(Error::TimeNamespace);
        }
        let ticks = sysconf(SysconfVar::CLK_TCK)
            .map_err(|errno| host("sysconf CLK_TCK")(errno.into()))?
            .and_then(|ticks| u64::try_from(ticks).ok())
            .filter(|ticks| (1..=1_000_000_000).contains(ticks))
            .unwrap_or(100);
        let reader = Reader {
            directories: Directories::new(cgroup_mount),
            runtimes,
            nanos_per_tick: 1_000_000_000 / ticks,
            hashes: Hashes::default(),
            names: Names::default(),
            kept: Mutex::new(LruCache::new(KEPT)),
        };
        let scopes = Mutex::new(LruCache::new(SCOPES));
        Ok(Self {
            reader: Arc::new(reader),
            scopes,
        })
    }

    /// Names who opened a connection. Takes at most 10 s; the daemon's other scopes are not held up.
    ///
    /// # Errors
    /// Whatever keeps the process from being the proven one: the connection is to be refused.
    /// Cancelling is safe.
    pub async fn identify(&self, flow: &Flow, scope: &ScopeOf) -> Result<Identified, Error> {
        let pid = flow.process.tgid;
        let found = tokio::time::timeout(DEADLINE, self.find(flow, scope)).await;
        let (principal, pidfd) = found.map_err(|_elapsed| Error::Timeout { pid })??;
        let pidfd = pidfd::watch(pidfd).map_err(|cause| live::unreadable(pid, "pidfd", cause))?;
        Ok(Identified { principal, pidfd })
    }

    /// Names a process that speaks for itself, such as a peer on a socket: `ids` are the user and group
    /// that the kernel gives for it. No connect was stamped, so this is who it is now.
    ///
    /// # Errors
    /// As [`Identifier::identify`].
    pub async fn of_process(
        &self,
        pid: u32,
        ids: (u32, u32),
        scope: &ScopeOf,
    ) -> Result<Arc<Principal>, Error> {
        let wanted = scope.clone();
        let slots = self.share(scope.id).connections;
        let found = self.in_slot(pid, slots, move |reader| reader.observe(pid, ids, &wanted));
        let found = tokio::time::timeout(DEADLINE, found).await;
        found.map_err(|_elapsed| Error::Timeout { pid })?
    }

    /// Names a process outside every scope that gives an order. Takes at most 2 s. Users are looked up
    /// apart: a program file that cannot be read holds up nobody else's orders.
    ///
    /// # Errors
    /// What could not be read. Cancelling is safe.
    pub async fn of_operator(&self, pid: u32, ids: (u32, u32)) -> Result<Operator, Error> {
        let slots = self.share(of_user(ids.0)).connections;
        let found = self.in_slot(pid, slots, move |reader| reader.operator(pid, ids));
        let found = tokio::time::timeout(WAITED_FOR, found).await;
        found.map_err(|_elapsed| Error::Timeout { pid })?
    }

    /// The user of a process that gives an order, with its groups. Takes at most 10 s, and of each user a
    /// few threads.
    ///
    /// # Errors
    /// Where the host's user database does not answer, or not in time. Cancelling is safe.
    pub async fn login(&self, pid: u32, uid: u32) -> Result<Login, Error> {
        let slots = self.share(of_user(uid)).connections;
        let found = self.in_slot(pid, slots, move |reader| reader.names.login(uid));
        let found = tokio::time::timeout(DEADLINE, found).await;
        found.map_err(|_elapsed| Error::Timeout { pid })?
    }

    /// Holds a process that was named before: `started` to a clock tick. Within a runtime only.
    ///
    /// # Errors
    /// Where it has ended, or the number is another's.
    pub fn hold(&self, pid: u32, started: BootTime) -> Result<AsyncFd<OwnedFd>, Error> {
        let process = Live::open(pid)?;
        if process.stat()?.started != started.0 / self.reader.nanos_per_tick {
            return Err(Error::Replaced { pid });
        }
        process.alive()?;
        pidfd::watch(process.into_pidfd()).map_err(|cause| live::unreadable(pid, "pidfd", cause))
    }

    /// Names whom the kernel refused something, as JSON, where that can still be shown: the process
    /// has not waited. Takes at most 2 s, and of all refusals of a scope a tenth of a thread's time.
    ///
    /// # Errors
    /// Whatever keeps the process from being the proven one. The refusal stands all the same.
    /// Cancelling is safe.
    pub async fn of_refusal(
        &self,
        denied: &Denied,
        scope: &ScopeOf,
    ) -> Result<Box<RawValue>, Error> {
        let pid = denied.process.tgid;
        if pid == 0 {
            return Err(Error::Unstamped { pid });
        }
        if denied.passerby {
            return Err(Error::Passerby { pid });
        }
        let allowance = self.share(scope.id).refusals;
        let Some(_place) = allowance.admit(clock::boot()) else {
            return Err(Error::Busy { pid });
        };
        let slots = allowance.slots();
        let (stamp, at, scope) = (denied.process.clone(), denied.at, scope.clone());
        let found = self.in_slot(pid, slots, move |reader| {
            let begun = clock::boot();
            if !allowance.affords(begun) {
                return Err(Error::Busy { pid });
            }
            let found = reader.prove(&stamp, at, &scope);
            let found = found.and_then(|proved| json(&proved.principal));
            let bytes = found.as_ref().map_or(0, |json| json.get().len());
            allowance.charge(clock::boot().since(begun), bytes);
            found
        });
        let found = tokio::time::timeout(WAITED_FOR, found).await;
        found.map_err(|_elapsed| Error::Timeout { pid })?
    }

    /// Looks for containers also where the runtime of this bundle keeps others. For root's word only.
    pub fn learn(&self, bundle: &Path) {
        self.reader.runtimes.learn(bundle);
    }

    /// The containers that have a cgroup, each with its path, and those among them that have this name. Walks
    /// over all cgroups, and reads files.
    #[must_use]
    pub fn containers(&self, name: &str) -> (Vec<(String, String)>, BTreeSet<String>) {
        let Reader {
            directories,
            runtimes,
            ..
        } = &*self.reader;
        (directories.containers(), runtimes.named(name))
    }

    /// Whether a scope may have one more line in the audit for a connection that is refused, of so many bytes beside
    /// what each line has; it is paid for by this.
    #[must_use]
    pub fn affords_line(&self, scope: u64, bytes: usize) -> bool {
        let lines = self.share(scope).lines;
        let affords = lines.affords(clock::boot());
        if affords {
            lines.charge(Duration::ZERO, bytes.saturating_add(LINE));
        }
        affords
    }

    async fn find(&self, flow: &Flow, scope: &ScopeOf) -> Result<(Arc<Principal>, OwnedFd), Error> {
        let slots = self.share(scope.id).connections;
        let (stamp, at, scope) = (flow.process.clone(), flow.at, scope.clone());
        self.in_slot(stamp.tgid, slots, move |reader| {
            let Proved {
                principal,
                process,
                executable,
            } = reader.prove(&stamp, at, &scope)?;
            // Hashing may have taken its time, and the connection goes on.
            executable.still(&process)?;
            process.alive()?;
            Ok((principal, process.into_pidfd()))
        })
        .await
    }

    fn share(&self, scope: u64) -> Share {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Share {
            connections: Arc::new(Semaphore::new(AT_ONCE)),
            refusals: Arc::new(Allowance::new(clock::boot())),
            lines: Arc::new(Allowance::new(clock::boot())),
        };
        scopes.get_or_insert(scope, new).clone()
    }

    /// Runs a look-up on a thread that may block, a few at once for each scope.
    async fn in_slot<T: Send + 'static>(
        &self,
        pid: u32,
        slots: Arc<Semaphore>,
        look: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let stopping = Error::Stopping { pid };
        let slot = slots
            .acquire_owned()
            .await
            .map_err(|_closed| stopping.clone())?;
        let reader = Arc::clone(&self.reader);
        tokio::task::spawn_blocking(move || {
            let found = look(&reader);
            // Held by the thread, not by the caller: one that is stuck goes on counting.
            drop(slot);
            found
        })
        .await
        .map_err(|_stopped| stopping)?
    }

    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.reader
            .hashes
            .computed
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Root of the host, by whatever name its namespace knows it.
const ROOT: u32 = 0;

/// What stands for a scope where a user's own look-ups are counted. No cgroup has so high a number: the
/// kernel counts them up from 1.
fn of_user(uid: u32) -> u64 {
    u64::MAX - u64::from(uid)
}

/// What a principal depends on; where all of it is the same, so is the principal, for a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tgid: u32,
    started: BootTime,
    ids: (u32, u32),
    cgroup: u64,
    executable: (KernelFile, Version),
    scope: u64,
    agent: String,
    identity: Option<Arc<Identity>>,
}

/// Reads processes, and keeps what it has read.
#[derive(Debug)]
pub(super) struct Reader {
    directories: Directories,
    runtimes: Runtimes,
    nanos_per_tick: u64,
    hashes: Hashes,
    names: Names,
    kept: Mutex<LruCache<Key, (BootTime, Arc<Principal>)>>,
}

/// A process that the stamp has been shown to speak of.
struct Proved {
    principal: Arc<Principal>,
    process: Live,
    executable: Open,
}

/// What a process told while it lived.
struct Seen {
    argv: Vec<String>,
    cgroup: Cgroup,
    privileged: bool,
    parent: Option<Live>,
}

impl Reader {
    /// Who the stamp speaks of, where it was written at `at`. What only a living process tells is read
    /// first: whoever was refused something is about to end.
    fn prove(&self, stamp: &ProcessStamp, at: BootTime, scope: &ScopeOf) -> Result<Proved, Error> {
        let pid = stamp.tgid;
        if stamp.started > at {
            return Err(Error::Later { pid });
        }
        let process = Live::open(pid)?;
        if process.stat()?.started != stamp.started.0 / self.nanos_per_tick {
            return Err(Error::Replaced { pid });
        }
        let stamped = stamp.executable.ok_or(Error::Unstamped { pid })?;
        let executable = Open::of(&process)?;
        if !executable.is(stamped, &process) {
            return Err(Error::Executed { pid });
        }
        let key = Key {
            tgid: pid,
            started: stamp.started,
            ids: (stamp.uid, stamp.gid),
            cgroup: stamp.cgroup,
            executable: (stamped, executable.version),
            scope: scope.id,
            agent: scope.agent.clone(),
            identity: scope.identity.clone(),
        };
        let principal = match self.recall(&key) {
            Some(principal) => {
                executable.still(&process)?;
                process.alive()?;
                principal
            }
            None => {
                let seen = self.see(stamp, &process, scope)?;
                executable.still(&process)?;
                process.alive()?;
                let principal = Arc::new(self.name(stamp, seen, &executable, scope)?);
                if executable.settled {
                    self.keep(key, &principal);
                }
                principal
            }
        };
        Ok(Proved {
            principal,
            process,
            executable,
        })
    }

    fn observe(&self, pid: u32, ids: (u32, u32), scope: &ScopeOf) -> Result<Arc<Principal>, Error> {
        let process = Live::open(pid)?;
        // Somebody else's by now, or no longer whom it was when it called.
        if process.uid()? != ids.0 {
            return Err(Error::Replaced { pid });
        }
        let executable = Open::of(&process)?;
        let cgroup = self.directories.id(&process.cgroup()?);
        let stamp = ProcessStamp {
            tgid: pid,
            started: self.boot_time(process.stat()?.started),
            executable: None,
            uid: ids.0,
            gid: ids.1,
            cgroup: cgroup.ok_or(Error::Moved { pid })?,
            comm: String::new(),
        };
        let seen = self.see(&stamp, &process, scope)?;
        let principal = self.name(&stamp, seen, &executable, scope)?;
        executable.still(&process)?;
        process.alive()?;
        Ok(Arc::new(principal))
    }

    fn recall(&self, key: &Key) -> Option<Arc<Principal>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, principal) = kept.get(key)?;
        (clock::boot().since(*at) < TTL).then(|| Arc::clone(principal))
    }

    fn keep(&self, key: Key, principal: &Arc<Principal>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.put(key, (clock::boot(), Arc::clone(principal)));
    }

    /// What can be read only while the process lives.
    fn see(&self, stamp: &ProcessStamp, process: &Live, scope: &ScopeOf) -> Result<Seen, Error> {
        Ok(Seen {
            argv: argv(process, MAX_ARGUMENTS)?,
            cgroup: self.cgroup(stamp, process, scope)?,
            privileged: stamp.uid == ROOT || process.is_privileged()?,
            parent: ancestors::parent(process)?,
        })
    }

    /// The rest, which may take its time: hashes of what is held open, those above, and names.
    fn name(
        &self,
        stamp: &ProcessStamp,
        seen: Seen,
        executable: &Open,
        scope: &ScopeOf,
    ) -> Result<Principal, Error> {
        let pid = stamp.tgid;
        let Seen {
            argv,
            cgroup,
            privileged,
            parent,
        } = seen;
        let container = self.directories.container(&cgroup.path);
        Ok(Principal {
            agent: scope.agent.clone(),
            user: User {
                uid: stamp.uid,
                gid: stamp.gid,
                name: self.user_name(stamp.uid)?,
            },
            process: Process {
                pid,
                started: stamp.started,
                executable: self.hashes.of(executable, pid)?,
                argv,
                uid: stamp.uid,
            },
            ancestors: ancestors::of(self, parent, &cgroup.scope)?,
            workload: container
                .as_deref()
                .and_then(|id| self.runtimes.workload(id)),
            container,
            cgroup,
            privileged,
            identity: scope.identity.clone(),
        })
    }

    fn cgroup(
        &self,
        stamp: &ProcessStamp,
        process: &Live,
        scope: &ScopeOf,
    ) -> Result<Cgroup, Error> {
        let pid = process.pid;
        let (path, root) = (process.cgroup()?, cgroup::normal(&scope.cgroup));
        if !is_within(&path, &root) {
            return Err(Error::Outside { pid, scope: root });
        }
        if self.directories.id(&path) != Some(stamp.cgroup) {
            return Err(Error::Moved { pid });
        }
        Ok(Cgroup {
            id: stamp.cgroup,
            path,
            scope: root,
        })
    }

    /// The login name of a user.
    pub(super) fn user_name(&self, uid: u32) -> Result<Option<String>, Error> {
        self.names.of(uid)
    }

    /// A start in ticks as a time; exact to one tick.
    pub(super) fn boot_time(&self, ticks: u64) -> BootTime {
        BootTime(ticks.saturating_mul(self.nanos_per_tick))
    }

    /// Describes a process that no stamp speaks of.
    pub(super) fn describe(
        &self,
        process: &Live,
        started: BootTime,
        uid: u32,
        room: usize,
    ) -> Result<Process, Error> {
        let executable = Open::of(process)?;
        let described = Process {
            pid: process.pid,
            started,
            executable: self.hashes.of(&executable, process.pid)?,
            argv: argv(process, room.min(MAX_ARGUMENTS))?,
            uid,
        };
        executable.still(process)?;
        Ok(described)
    }
}

fn json(principal: &Principal) -> Result<Box<RawValue>, Error> {
    serde_json::value::to_raw_value(principal).map_err(|_unwritable| Error::Malformed {
        pid: principal.process.pid,
        what: "principal",
    })
}

fn argv(process: &Live, most: usize) -> Result<Vec<String>, Error> {
    let bytes = process.read("cmdline", u64::try_from(MAX_ARGUMENTS).unwrap_or(u64::MAX))?;
    Ok(arguments(&bytes, most))
}

/// Splits a command line, lossily decoded; the arguments and one byte for each end are at most `most`.
pub(super) fn arguments(bytes: &[u8], most: usize) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let mut arguments = Vec::new();
    let mut room = most;
    if bytes.is_empty() {
        return arguments;
    }
    for argument in bytes.split(|byte| *byte == 0) {
        let mut text = String::from_utf8_lossy(argument).into_owned();
        let Some(left) = room.checked_sub(1) else {
            break;
        };
        let fits = text.len() <= left;
        text.truncate(text.floor_char_boundary(left));
        room = left.saturating_sub(text.len());
        arguments.push(text);
        if !fits {
            break;
        }
    }
    arguments
}

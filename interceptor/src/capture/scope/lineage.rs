//! Who comes from which scope, where the host is guarded: what no tracepoint tells. Those that are in a scope when it
//! is tagged are noted, and those of one that is untagged are let go; a scope whose cgroup is removed keeps its own.

pub(in crate::capture) mod inherit;

use std::collections::{BTreeSet, HashMap};
use std::fs;

use interceptor_ebpf::process::{Lineage, TICK};

use super::Scope;
use crate::capture::cgroup2::Hierarchy;
use crate::capture::{Capture, Error, map_error};
use crate::clock;

/// How often all processes are looked at when a scope is let go: those that are made meanwhile are its too.
const ROUNDS: usize = 16;

/// The tagged cgroups, for who asks about many processes.
struct Tagged<'a> {
    hierarchy: &'a Hierarchy,
    ids: BTreeSet<u64>,
    known: HashMap<String, Option<u64>>,
}

impl Tagged<'_> {
    /// The deepest at a path or above it.
    fn around(&mut self, path: &str) -> Option<u64> {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let mut at = path;
        let found = loop {
            let id = self.hierarchy.id(at).ok();
            if let Some(id) = id.filter(|id| self.ids.contains(id)) {
                break Some(id);
            }
            match at.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => at = above,
                _ => break None,
            }
        };
        self.known.insert(path.to_owned(), found);
        found
    }

    /// The one that a process is in.
    fn of(&mut self, pid: u32) -> Option<u64> {
        let path = self.hierarchy.of(Some(pid)).ok()?;
        self.around(&path)
    }
}

impl Capture {
    /// Writes down those that are in a scope already, of whom no tracepoint has told.
    pub(super) fn note_processes(&self, scope: &Scope) -> Result<(), Error> {
        if !self.guards_host() {
            return Ok(());
        }
        let since = clock::boot().0;
        let mut tagged = self.tagged();
        for pid in self.hierarchy.processes(&scope.path)? {
            let Some(started) = started(pid) else {
                continue;
            };
            let now = tagged.of(pid);
            // Its number may be a later process's by now: that one is in the scope too, or it is none of it.
            if started + TICK > since && now.is_none() {
                continue;
            }
            let scope = now.unwrap_or(scope.id);
            self.keep(pid, Lineage { scope, started })?;
        }
        Ok(())
    }

    /// Lets go of those that come from a scope that was untagged: each is of the scope that it is in, else of the one
    /// that this was in.
    pub(super) fn release(&self, id: u64, path: &str) -> Result<(), Error> {
        if !self.guards_host() {
            return Ok(());
        }
        let mut tagged = self.tagged_but(id);
        let heir = tagged.around(above(path));
        for _ in 0..ROUNDS {
            let mut is_done = true;
            for pid in processes()? {
                let row = self.kept(pid)?;
                if row.scope != id {
                    continue;
                }
                is_done = false;
                let scope = tagged.of(pid).or(heir);
                let row = scope
                    .map(|scope| Lineage { scope, ..row })
                    .unwrap_or_default();
                self.keep(pid, row)?;
                self.keep_where_it_is(pid, row.scope, &mut tagged)?;
            }
            if is_done {
                return Ok(());
            }
        }
        tracing::warn!(
            cgroup = path,
            "processes of an untagged cgroup are made faster than they are let go: some make no sockets outside"
        );
        Ok(())
    }

    /// Lets go of those that come from a cgroup that is there and is not tagged: who untagged it did not come to them.
    pub(super) fn release_strays(&self) -> Result<(), Error> {
        if !self.guards_host() {
            return Ok(());
        }
        let mut seen = self.tagged().ids;
        for pid in processes()? {
            let scope = self.kept(pid)?.scope;
            if scope == 0 || !seen.insert(scope) {
                continue;
            }
            if let Ok(Some(path)) = self.hierarchy.path(scope) {
                self.release(scope, &path)?;
            }
        }
        Ok(())
    }

    /// The processes that are held of scopes that are gone.
    ///
    /// # Errors
    /// Where the processes, or what is kept of them, cannot be read.
    pub fn held_of_gone(&self) -> Result<Vec<u32>, Error> {
        if !self.guards_host() {
            return Ok(Vec::new());
        }
        let tagged = self.tagged().ids;
        let mut held = Vec::new();
        for pid in processes()? {
            let row = self.kept(pid)?;
            let is_gone = row.scope != 0 && !tagged.contains(&row.scope);
            if is_gone && started(pid) == Some(row.started - row.started % TICK) {
                held.push(pid);
            }
        }
        Ok(held)
    }

    /// Whether a scope is within another.
    pub(super) fn has_heir(&self, id: u64, path: &str) -> bool {
        self.tagged_but(id).around(above(path)).is_some()
    }

    /// A process that was just written down as of one scope may have been moved into another meanwhile, which only a
    /// tracepoint has told of.
    fn keep_where_it_is(&self, pid: u32, scope: u64, tagged: &mut Tagged<'_>) -> Result<(), Error> {
        if let Some(scope) = tagged.of(pid).filter(|now| *now != scope)
            && let Some(started) = started(pid)
        {
            self.keep(pid, Lineage { scope, started })?;
        }
        Ok(())
    }

    fn tagged(&self) -> Tagged<'_> {
        Tagged {
            hierarchy: &self.hierarchy,
            ids: self.tables().levels.keys().copied().collect(),
            known: HashMap::new(),
        }
    }

    fn tagged_but(&self, id: u64) -> Tagged<'_> {
        let mut tagged = self.tagged();
        tagged.ids.remove(&id);
        tagged
    }

    fn kept(&self, pid: u32) -> Result<Lineage, Error> {
        let tables = self.tables();
        let row = tables.lineage.get(&pid, 0);
        row.map_err(map_error("read", "LINEAGE"))
    }

    fn keep(&self, pid: u32, row: Lineage) -> Result<(), Error> {
        let mut tables = self.tables();
        let written = tables.lineage.set(pid, row, 0);
        written.map_err(map_error("write", "LINEAGE"))
    }
}

/// The path of the cgroup around one.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// The numbers of all processes.
fn processes() -> Result<Vec<u32>, Error> {
    let unlisted = |source| Error::Cgroup {
        action: "list the processes in",
        path: "/proc".to_owned(),
        source,
    };
    let entries = fs::read_dir("/proc").map_err(unlisted)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(unlisted)?;
    let number = |name: &std::ffi::OsString| name.to_str()?.parse().ok();
    Ok(names.iter().filter_map(number).collect())
}

/// When a process started, nanoseconds since boot, to a tick; none where it has ended.
fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may itself hold parentheses and spaces; field 22 is the twentieth behind it (proc_pid_stat(5)).
    let (_, rest) = text.rsplit_once(')')?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    ticks.checked_mul(TICK)
}

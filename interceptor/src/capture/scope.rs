//! Scopes: tagged cgroups, with every hook attached as a pinned link.
//!
//! The row in `SCOPES` is written before the first hook and removed after the last, so that no hook
//! ever runs without it; a hook that finds no scope refuses.

pub(super) mod lineage;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use interceptor_ebpf::rule::State;
use interceptor_ebpf::{MAX_LEVEL, MAX_SCOPES, scope as abi};

use super::cgroup2::{Hierarchy, is_within, level};
use super::pins::{self, ScopePin, pin_error};
use super::programs::{DAEMON_HOOK, Hook, TELLER};
use super::{Capture, Error, Tables, map_error, syscall, write_error};

/// Longest name of an agent, in bytes.
const MAX_AGENT: usize = 64;

/// The agent of a scope whose pins have lost its name.
const UNNAMED: &str = "unnamed";

/// A tagged cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Cgroup id of its root, as [`Flow::scope`](super::Flow::scope) names it.
    pub id: u64,
    /// Path below the cgroup v2 mount, with a leading slash.
    pub path: String,
    /// The agent's name.
    pub agent: String,
}

/// The tagged cgroups, as they are pinned where no daemon runs; also those of other layouts.
///
/// # Errors
/// Where pins or cgroups cannot be read.
pub fn pinned(pins: &Path) -> Result<Vec<Scope>, Error> {
    let hierarchy = Hierarchy::find()?;
    let mut found = Vec::new();
    for ScopePin { id, agent, .. } in pins::remains(pins)? {
        if let Some(path) = hierarchy.path(id)? {
            found.push(Scope { id, path, agent });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found.dedup_by(|one, other| one.id == other.id);
    Ok(found)
}

/// Detaches everything that is pinned, and takes the pins away. What is in a tagged cgroup is free from then on.
///
/// # Errors
/// Where a pin cannot be removed.
pub fn unpin(pins: &Path) -> Result<(), Error> {
    pins::clear(pins)
}

impl Capture {
    /// Tags a cgroup: from now on its processes, and those of cgroups below it, are intercepted. One
    /// that is tagged already gets the new name.
    ///
    /// Connections and bound sockets from before are cut off; processes must dial and listen again.
    ///
    /// # Errors
    /// Where the cgroup does not exist, holds the daemon, is too deep, or the kernel refuses; it is
    /// then not tagged, or tagged as before.
    pub fn tag(&self, path: &str, agent: &str) -> Result<Scope, Error> {
        self.tag_for(path, agent, false)
    }

    /// The same, for the configuration: the scope is among [`Capture::configured`] until somebody else tags it.
    ///
    /// # Errors
    /// As [`Capture::tag`].
    pub fn tag_configured(&self, path: &str, agent: &str) -> Result<Scope, Error> {
        self.tag_for(path, agent, true)
    }

    /// The tagged cgroups that the configuration asked for, this one's or an earlier.
    ///
    /// # Errors
    /// As [`Capture::scopes`].
    pub fn configured(&self) -> Result<Vec<Scope>, Error> {
        let mut found = self.scopes()?;
        let pins = self.pins.scopes()?;
        let asked = |scope: &Scope| {
            let mut pins = pins.iter();
            pins.any(|pin| pin.id == scope.id && pin.is_configured)
        };
        found.retain(asked);
        Ok(found)
    }

    fn tag_for(&self, path: &str, agent: &str, is_configured: bool) -> Result<Scope, Error> {
        let path = format!("/{}", path.trim_matches('/'));
        check_agent(&path, agent)?;
        if is_within(&self.home, &path) {
            return Err(Error::OwnCgroup {
                path,
                daemon: self.home.clone(),
            });
        }
        let level = u32::try_from(level(&path)).unwrap_or(u32::MAX);
        if level >= MAX_LEVEL {
            return Err(Error::TooDeep {
                path,
                most: MAX_LEVEL - 1,
            });
        }
        let _alone = self.tagging();
        let id = self.hierarchy.id(&path)?;
        let scope = Scope {
            id,
            path,
            agent: agent.to_owned(),
        };
        let is_new = self.admit(&scope, level)?;
        self.attach(&scope, is_configured).inspect_err(|_failed| {
            // What was half attached is taken back; the error that led here is the one to tell. A scope
            // that was tagged before stays shut.
            if is_new {
                let _undone = self.let_go(id, &scope.path);
            }
        })?;
        if let Err(error) = self.note_processes(&scope) {
            // The scope's own hooks hold; what the guard of the host lacks is told.
            tracing::error!(%error, cgroup = %scope.path, "the guard of the host does not know all who are in a scope already");
        }
        Ok(scope)
    }

    /// Ends the interception of a cgroup. Sockets that its processes hold are free from now on, and at no moment has
    /// one of them fewer than others have.
    ///
    /// # Errors
    /// Where it is not tagged, or the kernel refuses.
    pub fn untag(&self, path: &str) -> Result<(), Error> {
        let path = format!("/{}", path.trim_matches('/'));
        let _alone = self.tagging();
        let id = self.hierarchy.id(&path).ok();
        match id.filter(|id| self.pins.scope(*id).is_dir()) {
            Some(id) => self.let_go(id, &path),
            None => {
                // What has been removed is forgotten on the way.
                self.scopes()?;
                Err(Error::NotTagged(path))
            }
        }
    }

    /// The tagged cgroups. Those that have been removed are forgotten on the way.
    ///
    /// # Errors
    /// Where pins or cgroups cannot be read.
    pub fn scopes(&self) -> Result<Vec<Scope>, Error> {
        let mut found = Vec::new();
        for ScopePin { id, agent, .. } in self.pins.scopes()? {
            match self.hierarchy.path(id)? {
                Some(path) => found.push(Scope { id, path, agent }),
                None => self.detach(id)?,
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Takes over what earlier starts pinned: new programs first, then the old ones go.
    pub(super) fn restore(&self) -> Result<(), Error> {
        for pin in self.pins.scopes()? {
            self.adopt(&pin)?;
        }
        for layout in self.pins.other_layouts()? {
            for pin in pins::scopes_in(&layout)? {
                self.adopt(&pin)?;
            }
            self.inherit(&layout)?;
            pins::remove(&layout)?;
        }
        self.sweep()
    }

    /// Attaches the daemon's own hook, which takes the records of accepted connections.
    pub(super) fn attach_home(&self) -> Result<(), Error> {
        for scope in self.scopes()? {
            if is_within(&self.home, &scope.path) {
                return Err(Error::OwnCgroup {
                    path: scope.path,
                    daemon: self.home.clone(),
                });
            }
        }
        let id = self.hierarchy.id(&self.home)?;
        let pin = self.pins.daemon(id);
        self.attach_one(&DAEMON_HOOK, &self.home, &pin)?;
        for other in self.pins.other_daemons(id)? {
            fs::remove_file(&other).map_err(pin_error("remove", &other))?;
        }
        Ok(())
    }

    /// Attaches what tells in which namespace a socket of the daemon's is, on a kernel that does not itself.
    pub(super) fn teller(&self) -> Result<Option<OwnedFd>, Error> {
        if !self.programs.has_teller() {
            return Ok(None);
        }
        let program = self.programs.of(&TELLER)?;
        let link = File::open(self.hierarchy.directory(&self.home))
            .and_then(|cgroup| syscall::link_create(program, &cgroup, TELLER.attach_type));
        let link = link.map_err(|source| Error::Attach {
            hook: TELLER.name,
            path: self.home.clone(),
            source,
        })?;
        Ok(Some(link))
    }

    fn adopt(&self, pin: &ScopePin) -> Result<(), Error> {
        let Some(path) = self.hierarchy.path(pin.id)? else {
            // The cgroup is gone, and its programs with it.
            pins::remove(&pin.directory)?;
            return self.forget(pin.id);
        };
        // Whatever its name was, what was tagged stays shut.
        let agent = match check_agent(&path, &pin.agent) {
            Ok(()) => &pin.agent,
            Err(_unreadable) => UNNAMED,
        };
        self.tag_for(&path, agent, pin.is_configured).map(drop)
    }

    /// Writes the scope's row; says whether it is new.
    fn admit(&self, scope: &Scope, level: u32) -> Result<bool, Error> {
        let mut tables = self.tables();
        let is_new = !tables.levels.contains_key(&scope.id);
        let row = abi::Scope { level, going: 0 };
        tables
            .scopes
            .insert(scope.id, row, 0)
            .map_err(write_error("SCOPES", ("tag one more cgroup", MAX_SCOPES)))?;
        tables.levels.insert(scope.id, level);
        tables.write_levels()?;
        Ok(is_new)
    }

    fn attach(&self, scope: &Scope, is_configured: bool) -> Result<(), Error> {
        let directory = self.pins.scope(scope.id);
        pins::make(&directory)?;
        pins::name_agent(&directory, &scope.agent)?;
        pins::set_configured(&directory, is_configured)?;
        let mut names = vec!["agent", pins::CONFIGURED];
        for hook in self.programs.of_scope() {
            self.attach_one(&hook, &scope.path, &directory.join(hook.name))?;
            names.push(hook.name);
        }
        // A kernel that was told of other security modules since has other hooks.
        pins::retain(&directory, &names)
    }

    /// Puts the new program into the pinned link, or makes the link.
    pub(super) fn attach_one(&self, hook: &Hook, path: &str, pin: &Path) -> Result<(), Error> {
        let program = self.programs.of(hook)?;
        let attach_error = |source| Error::Attach {
            hook: hook.name,
            path: path.to_owned(),
            source,
        };
        if let Some(link) = pins::open(pin)? {
            match syscall::link_update(&link, program) {
                // It was taken off its hook, and its pin was left.
                Err(severed) if severed.raw_os_error() == Some(libc::ENOLINK) => {
                    pins::remove_file(pin)?;
                }
                updated => return updated.map_err(attach_error),
            }
        }
        let directory = self.hierarchy.directory(path);
        let cgroup = File::open(&directory).map_err(attach_error)?;
        let link =
            syscall::link_create(program, &cgroup, hook.attach_type).map_err(attach_error)?;
        syscall::pin(&link, pin).map_err(pin_error("pin", pin))
    }

    /// Takes a tag away. Where there is no other scope around, those that come from this one are let go before its
    /// hooks are; else they are that one's, whose hooks have seen them all along.
    ///
    /// A program that runs at this moment has found the scope's row: it is waited for before that goes, or what it does
    /// for the scope next would be refused, or kept for a scope that is no more.
    fn let_go(&self, id: u64, path: &str) -> Result<(), Error> {
        if !self.guards_host() || self.has_heir(id, path) {
            self.unhook(id)?;
            self.forget(id)?;
            return self.release(id, path);
        }
        self.set_going(id)?;
        await_programs();
        self.release(id, path)?;
        self.unhook(id)?;
        self.forget(id)
    }

    /// Takes a scope's programs off its hooks, and their pins away; none of them runs behind this.
    fn unhook(&self, id: u64) -> Result<(), Error> {
        let directory = self.pins.scope(id);
        let hooks = self.programs.of_scope();
        let links: Result<Vec<_>, _> = hooks
            .map(|hook| pins::open(&directory.join(hook.name)))
            .collect();
        let links = links?;
        // The pins first: what is cut off here is held by this process alone, and ends with it.
        if directory.exists() {
            pins::remove(&directory)?;
        }
        for link in links.iter().flatten() {
            if let Err(error) = syscall::link_detach(link) {
                // It comes off with its end, a moment later.
                tracing::debug!(%error, "a link is not taken off its hook by itself");
            }
        }
        drop(links);
        await_programs();
        Ok(())
    }

    /// Has the guard of the host take nobody for one of this scope any more.
    fn set_going(&self, id: u64) -> Result<(), Error> {
        let mut tables = self.tables();
        let Some(level) = tables.levels.get(&id).copied() else {
            return Ok(());
        };
        let row = abi::Scope { level, going: 1 };
        let written = tables.scopes.insert(id, row, 0);
        written.map_err(map_error("write", "SCOPES"))
    }

    /// Ends what a tag or an untag that was cut off has left.
    fn sweep(&self) -> Result<(), Error> {
        let pinned = self.pins.scopes()?.into_iter().map(|pin| pin.id);
        let pinned: BTreeSet<u64> = pinned.collect();
        let rows: Vec<u64> = self.tables().levels.keys().copied().collect();
        for id in rows.into_iter().filter(|id| !pinned.contains(id)) {
            self.forget(id)?;
        }
        self.release_strays()
    }

    fn detach(&self, id: u64) -> Result<(), Error> {
        let directory = self.pins.scope(id);
        if directory.exists() {
            pins::remove(&directory)?;
        }
        self.forget(id)
    }

    fn forget(&self, id: u64) -> Result<(), Error> {
        let mut tables = self.tables();
        match tables.scopes.remove(&id) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
            Err(aya::maps::MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(source) => return Err(map_error("write", "SCOPES")(source)),
        }
        tables.levels.remove(&id);
        tables.write_levels()
    }
}

impl Tables {
    /// The row that says which rules hold; all zero before the first rules.
    pub(super) fn read_state(&self) -> Result<State, Error> {
        self.state.get(&0, 0).map_err(map_error("read", "STATE"))
    }

    /// Replaces that row. Programs read it word by word, and each word stands alone.
    pub(super) fn write_state(&mut self, state: State) -> Result<(), Error> {
        self.state
            .set(0, state, 0)
            .map_err(map_error("write", "STATE"))
    }

    /// Reads what an earlier start has written.
    pub(super) fn read_levels(&mut self) -> Result<(), Error> {
        let rows: Result<Vec<_>, _> = self.scopes.iter().collect();
        let rows = rows.map_err(map_error("read", "SCOPES"))?;
        self.levels = rows.into_iter().map(|(id, row)| (id, row.level)).collect();
        Ok(())
    }

    /// Tells the programs at which levels to look for scopes.
    fn write_levels(&mut self) -> Result<(), Error> {
        let levels = self.levels.values();
        let levels = levels
            .filter_map(|level| 1_u32.checked_shl(*level))
            .fold(0, |all, level| all | level);
        let state = self.read_state()?;
        if state.levels == levels {
            return Ok(());
        }
        self.write_state(State { levels, ..state })
    }
}

/// Where the kernel offers no wait, what runs at this moment is refused in the worst case, and tries again.
fn await_programs() {
    if let Err(error) = syscall::await_programs() {
        tracing::debug!(%error, "programs under way are not waited for");
    }
}

fn check_agent(path: &str, agent: &str) -> Result<(), Error> {
    let is_bad = |letter: char| letter == '/' || letter.is_control();
    if agent.is_empty() || agent.len() > MAX_AGENT || agent.contains(is_bad) {
        return Err(Error::AgentName {
            path: path.to_owned(),
            name: agent.to_owned(),
        });
    }
    Ok(())
}

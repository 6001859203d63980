//! The guard of the whole host, where the configuration asks for it: hooks at the root cgroup, and tracepoints that
//! tell which scope a process comes from. Pinned like the scopes' own, so that it holds while no daemon runs.

use std::fs;
use std::path::Path;

use interceptor_ebpf::process::{ABSENT, Lineage};

use super::{HOST_HOOKS, Hook, TRACEPOINTS};
use crate::capture::pins::{self, pin_error};
use crate::capture::{Capture, Error, Scope, Settings, btf, map_error, syscall};

/// The root cgroup.
const ROOT: &str = "/";

/// Whether the kernel's type information has what the tracepoints read.
pub(in crate::capture) fn check(settings: &Settings) -> Result<(), Error> {
    if !settings.host {
        return Ok(());
    }
    let found = fs::read(&settings.btf).map(|file| btf::offsets(&file));
    let found = found.unwrap_or(interceptor_ebpf::process::Offsets::NONE);
    let needed = [
        found.pid,
        found.tgid,
        found.group_leader,
        found.start_boottime,
        found.cgroups,
        found.dfl_cgrp,
        found.level,
        // Which of the two there is, is the version's.
        found.ancestors.min(found.ancestor_ids),
    ];
    if needed.contains(&ABSENT) {
        return Err(Error::Untraced(settings.btf.clone()));
    }
    Ok(())
}

impl Capture {
    /// Attaches the guard where it is asked for; else takes away what an earlier start attached.
    pub(in crate::capture) fn guard_host(&self) -> Result<(), Error> {
        let directory = self.pins.host();
        if !self.programs.has_host() {
            return match directory.is_dir() {
                true => pins::remove(&directory),
                false => Ok(()),
            };
        }
        pins::make(&directory)?;
        for hook in TRACEPOINTS {
            self.trace(&hook, &directory.join(hook.name))?;
        }
        for hook in HOST_HOOKS {
            self.attach_one(&hook, ROOT, &directory.join(hook.name))?;
        }
        Ok(())
    }

    /// Whether the whole host is guarded.
    #[must_use]
    pub fn guards_host(&self) -> bool {
        self.programs.has_host()
    }

    /// Attaches a program to its tracepoint, and then lets go of the one before: those links take no other program.
    fn trace(&self, hook: &Hook, pin: &Path) -> Result<(), Error> {
        let program = self.programs.of(hook)?;
        let link = syscall::tracepoint_open(program, hook.name);
        let link = link.map_err(|source| Error::Attach {
            hook: hook.name,
            path: "the host's tracepoints".to_owned(),
            source,
        })?;
        // The file system takes no dots in names.
        let next = pin.with_file_name(format!("{}-next", hook.name));
        if next.exists() {
            fs::remove_file(&next).map_err(pin_error("remove", &next))?;
        }
        syscall::pin(&link, &next).map_err(pin_error("pin", &next))?;
        if pin.exists() {
            fs::remove_file(pin).map_err(pin_error("remove", pin))?;
        }
        fs::rename(&next, pin).map_err(pin_error("pin", pin))
    }

    /// Writes down those that are in a scope already, of whom no tracepoint has told.
    pub(in crate::capture) fn note_processes(&self, scope: &Scope) -> Result<(), Error> {
        if !self.guards_host() {
            return Ok(());
        }
        let processes = self.hierarchy.processes(&scope.path)?;
        let lineage = &mut self.tables().lineage;
        for pid in processes {
            let row = Lineage {
                scope: scope.id,
                started: 0,
            };
            if lineage
                .get(&pid, 0)
                .is_ok_and(|known| known.scope == scope.id)
            {
                continue;
            }
            let written = lineage.insert(pid, row, 0);
            written.map_err(map_error("write", "LINEAGE"))?;
            // What has ended meanwhile took no row along, and its number may be another's soon.
            if !Path::new(&format!("/proc/{pid}")).exists() {
                let removed = lineage.remove(&pid);
                removed.map_err(map_error("write", "LINEAGE"))?;
            }
        }
        Ok(())
    }
}

//! The guard of the whole host, where the configuration asks for it: hooks at the root cgroup, and tracepoints that
//! tell which scope a process comes from. Pinned like the scopes' own, so that it holds while no daemon runs.

use std::fs;
use std::path::Path;

use interceptor_ebpf::process::ABSENT;

use super::{HOST_HOOKS, HOST_MAP, Hook, TRACEPOINTS};
use crate::capture::pins::{self, pin_error};
use crate::capture::{Capture, Error, Settings, btf, syscall};

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
            if directory.is_dir() {
                pins::remove(&directory)?;
            }
            return pins::remove_file(&self.pins.map(HOST_MAP));
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
}

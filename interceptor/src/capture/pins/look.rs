//! Looking at what is in the kernel without changing any of it: for who checks a host, beside the daemon.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use interceptor_ebpf::LAYOUT;
use interceptor_ebpf::process::ABSENT;
use socket2::{Domain, Socket, Type};

use super::{ScopePin, entries, layouts, open, pin_error, remains, scopes_in};
use crate::capture::cgroup2::Hierarchy;
use crate::capture::programs::{MAPS, SCOPE_HOOKS};
use crate::capture::{Error, btf, syscall};

/// What is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Whether it is of this version.
    pub is_current: bool,
    /// Layouts of other versions.
    pub others: usize,
    /// Maps of this version that are not there.
    pub lacking: Vec<&'static str>,
    /// Scopes of this version.
    pub scopes: usize,
    /// Those of them that lack hooks, by the agent's name, and which.
    pub torn: Vec<(String, Vec<&'static str>)>,
}

/// Somebody else's program that runs after ours on a hook, and so has the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The scope's path.
    pub cgroup: String,
    /// The hook.
    pub hook: &'static str,
    /// The program's number.
    pub id: u32,
}

/// What is pinned in a directory, which need not be there.
///
/// # Errors
/// Where it cannot be read.
pub fn standing(root: &Path) -> Result<Pinned, Error> {
    let own = root.join(format!("v{LAYOUT}"));
    let layouts = layouts(root)?;
    let mut pinned = Pinned {
        is_current: layouts.contains(&own),
        others: layouts.iter().filter(|path| **path != own).count(),
        ..Pinned::default()
    };
    if !pinned.is_current {
        return Ok(pinned);
    }
    let maps = own.join("maps");
    let lacking = MAPS.iter().filter(|name| !maps.join(name).exists());
    pinned.lacking = lacking.copied().collect();
    for scope in scopes_in(&own)? {
        pinned.scopes += 1;
        let names = SCOPE_HOOKS.iter().map(|hook| hook.name);
        let lacking: Vec<_> = names
            .filter(|name| !scope.directory.join(name).exists())
            .collect();
        if !lacking.is_empty() {
            pinned.torn.push((scope.agent, lacking));
        }
    }
    Ok(pinned)
}

/// Programs of others that run after ours on the hooks of the scopes. The kernel runs those of the deepest cgroup
/// first, and those of one cgroup in the order in which they were attached. LSM hooks are not looked at: of those the
/// kernel does not tell what runs in which order.
///
/// # Errors
/// Where pins or cgroups cannot be read, or the kernel does not tell.
pub fn foreign(root: &Path) -> Result<Vec<Foreign>, Error> {
    let scopes = remains(root)?;
    let ours = ours(root, &scopes)?;
    let hierarchy = Hierarchy::find()?;
    let mut found = Vec::new();
    for scope in scopes {
        let Some(path) = hierarchy.path(scope.id)? else {
            continue;
        };
        for hook in SCOPE_HOOKS {
            let directory = hierarchy.directory(&path);
            let queried = File::open(&directory)
                .and_then(|cgroup| syscall::programs_of(&cgroup, hook.attach_type));
            let programs = queried.map_err(|source| Error::Raw {
                what: format!("ask for the programs at {} of {path}", hook.name),
                source,
            })?;
            let before_ours = |id: &u32| !ours.contains(id);
            let after = programs.into_iter().skip_while(before_ours);
            found.extend(after.filter(before_ours).map(|id| Foreign {
                cgroup: path.clone(),
                hook: hook.name,
                id,
            }));
        }
    }
    Ok(found)
}

/// The numbers of the programs that are pinned.
fn ours(root: &Path, scopes: &[ScopePin]) -> Result<BTreeSet<u32>, Error> {
    let mut ours = BTreeSet::new();
    let hosts = layouts(root)?.into_iter().map(|layout| layout.join("host"));
    let scopes = scopes.iter().map(|scope| scope.directory.clone());
    for directory in hosts.chain(scopes) {
        for pin in entries(&directory)? {
            // The agent's name lies among them.
            if pin.is_symlink() {
                continue;
            }
            let Some(link) = open(&pin)? else {
                continue;
            };
            let id = syscall::program_of(&link).map_err(pin_error("look at", &pin))?;
            ours.insert(id);
        }
    }
    Ok(ours)
}

/// Whether the kernel's own type information, as a file, tells where a process's executable and start are kept.
#[must_use]
pub fn knows_processes(file: &[u8]) -> bool {
    let found = btf::offsets(file);
    let needed = [
        found.group_leader,
        found.start_boottime,
        found.mm,
        found.exe_file,
        found.f_inode,
        found.i_ino,
        found.i_sb,
        found.s_dev,
    ];
    needed.iter().all(|offset| *offset != ABSENT)
}

/// Whether the kernel names the network namespace of a socket.
#[must_use]
pub fn tells_namespaces() -> bool {
    Socket::new(Domain::IPV4, Type::DGRAM, None)
        .is_ok_and(|socket| syscall::netns_cookie(&socket).is_ok())
}

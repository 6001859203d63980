//! UNIX sockets: who looks at them on this kernel, and which of those outside scopes may reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use interceptor_ebpf::door::{Door, PATH, TARGET, VIA};
use interceptor_ebpf::{MAX_CARRIED, MAX_DOORS};

use super::super::{Capture, Error, map_error, syscall};
use crate::socket::SocketPath;

/// `LSM_ID_BPF` (`linux/lsm.h`).
const BPF: u64 = 110;

/// Who looks at UNIX sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Hooks of an LSM, which see both sockets (Linux 6.1, `bpf` among the security modules).
    Lsm,
    /// Hooks that see the name which the process wrote (Linux 6.7).
    Names,
    /// Nobody: only what `interceptor run` hides is closed.
    None,
}

impl Guard {
    /// Those that this kernel has, the best first.
    pub(in crate::capture) fn possible() -> Vec<Self> {
        let since = aya::util::KernelVersion::new(6, 1, 0);
        let now = aya::util::KernelVersion::current();
        let mut found = Vec::new();
        if now.is_ok_and(|now| now >= since) && has_lsm() {
            found.push(Self::Lsm);
        }
        if Self::has_names() {
            found.push(Self::Names);
        }
        found
    }

    /// The best that this kernel has.
    #[must_use]
    pub fn best() -> Self {
        Self::possible().first().copied().unwrap_or(Self::None)
    }

    /// Whether this kernel has hooks that see the names of UNIX sockets.
    pub(in crate::capture) fn has_names() -> bool {
        let since = aya::util::KernelVersion::new(6, 7, 0);
        aya::util::KernelVersion::current().is_ok_and(|now| now >= since)
    }

    /// Its word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Names => "names",
            Self::None => "none",
        }
    }
}

/// A hook of an LSM that is not active is never called, and its attachment is no error.
fn has_lsm() -> bool {
    if let Ok(active) = syscall::security_modules() {
        return active.contains(&BPF);
    }
    let listed = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    listed.trim().split(',').any(|name| name == "bpf")
}

impl Capture {
    /// Who looks at UNIX sockets.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.programs.guard()
    }

    /// Says which UNIX sockets outside of them scopes may reach: paths, and abstract names behind an `@`;
    /// `None` for all.
    ///
    /// # Errors
    /// Where they do not fit, or the kernel refuses.
    pub fn set_doors(&self, names: Option<&[String]>) -> Result<(), Error> {
        let wanted: BTreeSet<Row> = match names {
            Some(names) => names.iter().filter_map(|name| row(name)).collect(),
            None => BTreeSet::from([(Door::NONE.length, Door::NONE.path)]),
        };
        if wanted.len() > usize::try_from(MAX_DOORS / 2).unwrap_or(0) {
            return Err(Error::Full {
                what: "open all UNIX sockets",
                most: MAX_DOORS / 2,
            });
        }
        let doors = &mut self.tables().doors;
        let rows: Result<Vec<Door>, _> = doors.keys().collect();
        let rows = rows.map_err(map_error("read", "DOORS"))?;
        for door in rows {
            if !wanted.contains(&(door.length, door.path)) {
                doors.remove(&door).map_err(map_error("write", "DOORS"))?;
            }
        }
        for (length, path) in wanted {
            let door = Door { length, path };
            doors
                .insert(door, 1, 0)
                .map_err(map_error("write", "DOORS"))?;
        }
        Ok(())
    }
}

impl Capture {
    /// Says which UNIX sockets are targets': whoever dials one of them in a scope is led to the daemon's own
    /// at `via`. None is, on a kernel that cannot ([`Capture::carries`]).
    ///
    /// # Errors
    /// Where they do not fit, or the kernel refuses.
    pub fn set_carried(&self, targets: &[SocketPath], via: &str) -> Result<(), Error> {
        let mut wanted: BTreeMap<Row, u32> = targets
            .iter()
            .filter_map(|path| Some((row(path.as_str())?, TARGET)))
            .collect();
        let own = row(via).filter(|_| !wanted.is_empty());
        wanted.extend(own.map(|own| (own, VIA)));
        if wanted.len() > usize::try_from(MAX_CARRIED / 2).unwrap_or(0) {
            return Err(Error::Full {
                what: "lead all targets' UNIX sockets here",
                most: MAX_CARRIED / 2,
            });
        }
        let mut tables = self.tables();
        if let Some((length, path)) = own {
            let set = tables.via.set(0, Door { length, path }, 0);
            set.map_err(map_error("write", "VIA"))?;
        }
        let carried = &mut tables.carried;
        let rows: Result<Vec<Door>, _> = carried.keys().collect();
        for door in rows.map_err(map_error("read", "CARRIED"))? {
            if !wanted.contains_key(&(door.length, door.path)) {
                carried
                    .remove(&door)
                    .map_err(map_error("write", "CARRIED"))?;
            }
        }
        for ((length, path), kind) in wanted {
            carried
                .insert(Door { length, path }, kind, 0)
                .map_err(map_error("write", "CARRIED"))?;
        }
        Ok(())
    }

    /// Whether UNIX sockets of targets are led to the daemon on this kernel (Linux 6.7).
    #[must_use]
    pub fn carries(&self) -> bool {
        self.programs.peer().is_some()
    }
}

/// Length and bytes of a [`Door`].
type Row = (u32, [u8; PATH]);

/// A name as the kernel keeps it; none where no socket can have it.
pub(in crate::capture) fn row(name: &str) -> Option<Row> {
    let mut path = [0; PATH];
    let bytes = name.as_bytes();
    let (first, rest) = match bytes.split_first()? {
        (b'@', rest) => (0, rest),
        (first, rest) => (*first, rest),
    };
    let length = if first == 0 {
        bytes.len()
    } else {
        bytes.len().checked_add(1)?
    };
    if length > PATH {
        return None;
    }
    for (to, from) in path.iter_mut().zip(std::iter::once(&first).chain(rest)) {
        *to = *from;
    }
    Some((u32::try_from(length).ok()?, path))
}

/// The name for people; none where there is none.
pub(in crate::capture) fn text(door: &Door) -> Option<String> {
    let length = usize::try_from(door.length).ok()?;
    let name = door.path.get(..length)?;
    match name.split_first()? {
        (0, name) => Some(format!("@{}", shown(name))),
        _ => Some(shown(name.strip_suffix(&[0]).unwrap_or(name))),
    }
}

/// Bytes that a name of UTF-8 cannot have, and zeroes, become the replacement character.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let plain = |letter: char| {
        if letter.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            letter
        }
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::{Door, row, text};

    fn round(name: &str) -> Option<String> {
        let (length, path) = row(name)?;
        text(&Door { length, path })
    }

    #[test]
    fn a_name_is_the_kernels_and_back() {
        let (length, path) = row("/run/x").unwrap();
        assert_eq!((length, &path[..8]), (7, &b"/run/x\0\0"[..]));
        let (length, path) = row("@x").unwrap();
        assert_eq!((length, &path[..3]), (2, &b"\0x\0"[..]));
        for name in ["/run/interceptor/agent.sock", "@/org/kernel/x", "relative"] {
            assert_eq!(round(name).as_deref(), Some(name));
        }
        let longest = format!("/{}", "x".repeat(106));
        assert_eq!(round(&longest), Some(longest.clone()));
        assert_eq!(row(&format!("{longest}x")), None);
        assert_eq!(row(""), None);
        assert_eq!(text(&Door::NONE), None);
    }
}

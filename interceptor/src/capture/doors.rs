//! UNIX sockets: who looks at them on this kernel, and which of those outside scopes may reach.

use std::collections::BTreeSet;
use std::fs;

use interceptor_ebpf::MAX_DOORS;
use interceptor_ebpf::door::{Door, PATH};

use super::{Capture, Error, map_error, syscall};

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
    pub(super) fn possible() -> Vec<Self> {
        let now = aya::util::KernelVersion::current();
        let since = |major, minor| {
            now.as_ref()
                .is_ok_and(|now| *now >= aya::util::KernelVersion::new(major, minor, 0))
        };
        let mut found = Vec::new();
        if since(6, 1) && has_lsm() {
            found.push(Self::Lsm);
        }
        if since(6, 7) {
            found.push(Self::Names);
        }
        found
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

/// Length and bytes of a [`Door`].
type Row = (u32, [u8; PATH]);

/// A name as the kernel keeps it; none where no socket can have it.
fn row(name: &str) -> Option<Row> {
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
pub(super) fn text(door: &Door) -> Option<String> {
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

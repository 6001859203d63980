//! UNIX sockets by name: what a scope may reach of those that were made outside of it.

use crate::process::Process;

/// Bytes of `sun_path`.
pub const PATH: usize = 108;

/// A name as the kernel keeps it: a path with its zero byte, or an abstract name, which begins with one.
/// All zero: every socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Bytes of `path` that count.
    pub length: u32,
    /// Those, and zeroes.
    pub path: [u8; PATH],
}

impl Door {
    /// Every socket; as the name of one, that it has none.
    pub const NONE: Self = Self {
        length: 0,
        path: [0; PATH],
    };

    /// A number for the name: refusals of one door are folded, and never one into those of another.
    #[inline(always)]
    #[must_use]
    pub fn number(&self) -> [u32; 4] {
        let mut numbers = [self.length; 4];
        let (parts, _rest) = self.path.as_chunks::<4>();
        for part in parts {
            let [a, b, c, d] = numbers;
            let next = (a.rotate_left(5) ^ u32::from_ne_bytes(*part)).wrapping_mul(0x9e37_79b1);
            numbers = [b, c, d, next];
        }
        numbers
    }
}

/// A door that leads to the daemon: a target's.
pub const TARGET: u32 = 1;
/// The daemon's own, to which those lead.
pub const VIA: u32 = 2;

/// Who dialled a target's door, until the daemon has accepted it; its key is the cookie of the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Scope root's cgroup id.
    pub scope: u64,
    /// Network namespace cookie.
    pub netns: u64,
    /// `CLOCK_BOOTTIME`.
    pub at: u64,
    /// Who.
    pub process: Process,
    /// The door, as it was named.
    pub door: Door,
}

/// Which end of an accepted UNIX socket is asked for, and the answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The descriptor of the accepted socket, in the process that asks.
    pub descriptor: u32,
    /// Zero.
    pub reserved: u32,
    /// The cookie of the other end; zero where there is none.
    pub cookie: u64,
}

impl Default for Door {
    fn default() -> Self {
        Self::NONE
    }
}

const _: () = assert!(size_of::<Door>() == 112);
const _: () = assert!(size_of::<Dial>() == 200);
const _: () = assert!(size_of::<Peer>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Door {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Dial {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(name: &[u8]) -> Door {
        let mut door = Door::NONE;
        door.length = u32::try_from(name.len()).unwrap();
        for (place, byte) in door.path.iter_mut().zip(name) {
            *place = *byte;
        }
        door
    }

    #[test]
    fn doors_have_numbers_of_their_own() {
        let names: [&[u8]; 5] = [b"", b"/run/a", b"/run/b", b"/a/run", b"\0/run/a"];
        let mut numbers = names.map(|name| door(name).number());
        assert_eq!(numbers[1], door(b"/run/a").number());
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

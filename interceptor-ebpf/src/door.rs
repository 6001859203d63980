//! UNIX sockets by name: what a scope may reach of those that were made outside of it.

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
}

impl Default for Door {
    fn default() -> Self {
        Self::NONE
    }
}

const _: () = assert!(size_of::<Door>() == 112);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Door {}
}

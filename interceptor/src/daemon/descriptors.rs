//! File descriptors: as many as the system lets the daemon have.
//!
//! Each connection takes two and each recording one. The soft limit that services start with (1,024)
//! is for programs that use select(2).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
///
/// # Errors
/// What the kernel said.
pub(super) fn raise() -> nix::Result<()> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

//! The daemon's memory holds credentials: no core file, no ptrace, no /proc/self/mem for its user.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Makes this process not dumpable (`PR_SET_DUMPABLE`, prctl(2)) and its core limit zero. To be called
/// once, first thing, before any secret is read; what it executes afterwards starts dumpable again.
///
/// # Errors
/// What the kernel said. The daemon must not go on then.
pub fn harden() -> std::io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    Ok(())
}

//! What the tests, the demo and the bench share: real daemons, real PostgreSQL, stock clients, real cgroups.
//!
//! Everything started here runs on loopback or in a network namespace of its own, under names with a
//! random suffix, and is taken away again when its value is dropped, on panics too. Waiting is for an
//! event (a line of log, a file's change, a process's end) with a deadline that only failing tests meet.
//! Never depends on the `interceptor` crate: it sees the program as an operator does.
#![expect(
    clippy::disallowed_methods,
    reason = "the product's rules on dialling and clocks are not for the things around it"
)]

pub mod agent;
pub mod audit;
pub mod browser;
pub mod cgroup;
pub mod daemon;
pub mod kubernetes;
pub mod netns;
pub mod pam;
pub mod pgbouncer;
pub mod place;
pub mod port;
pub mod postgres;
pub mod process;
pub mod ssh;
pub mod tap;
pub mod tls;
pub mod wait;

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;

pub use agent::Agent;
pub use browser::Browser;
pub use daemon::Daemon;
pub use kubernetes::Cluster;
pub use postgres::Postgres;
pub use process::{Finished, Process};
pub use ssh::Sshd;

/// How long anything may take before a test fails: far above what a loaded two-core machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Eight random hex digits: every name on the machine that is made here ends with some.
///
/// # Errors
/// When the kernel's random source cannot be read.
pub fn suffix() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 4];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("read random bytes")?;
    Ok(format!("{:08x}", u32::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests;

//! A network namespace of a test's own, with its loopback up.

use std::process::Command;

use anyhow::Context as _;

use crate::process::{Finished, Process};
use crate::{DEADLINE, suffix};

/// A named network namespace. Removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one.
    ///
    /// # Errors
    /// Without root or `ip`.
    pub fn new() -> anyhow::Result<Self> {
        let made = Self {
            name: format!("ic-{}", suffix()?),
        };
        ip(&["netns", "add", &made.name])?;
        ip(&["-n", &made.name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(ip(&["netns", "del", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments);
    Process::run(command, DEADLINE)
        .and_then(Finished::ok)
        .map(drop)
        .with_context(|| format!("ip {}", arguments.join(" ")))
}

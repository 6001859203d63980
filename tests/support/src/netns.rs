//! A network namespace of a test's own, with its loopback up.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{Finished, Process};
use crate::{DEADLINE, suffix};

/// A named network namespace. Removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// The interface outside that leads into it.
    door: Option<String>,
}

impl Netns {
    /// Makes one.
    ///
    /// # Errors
    /// Without root or `ip`.
    pub fn new() -> anyhow::Result<Self> {
        let made = Self {
            name: format!("ic-{}", suffix()?),
            door: None,
        };
        ip(&["netns", "add", &made.name])?;
        ip(&["-n", &made.name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Makes one that this namespace reaches, at the address that is given back: of a network that benchmarks have
    /// (RFC 2544), and hosts do not.
    ///
    /// # Errors
    /// Without root or `ip`.
    pub fn joined() -> anyhow::Result<(Self, Ipv4Addr)> {
        let mut made = Self::new()?;
        let random = u32::from_str_radix(&suffix()?, 16).context("read random digits")?;
        let network = (u32::from(Ipv4Addr::new(198, 18, 0, 0)) | random >> 15) & !3;
        let [outside, inside] = [1, 2].map(|host| Ipv4Addr::from(network | host));
        let door = format!("ic{}", suffix()?);
        let peer = ["type", "veth", "peer", "name", "in0", "netns", &made.name];
        ip(&[&["link", "add", &door][..], &peer].concat())?;
        made.door = Some(door.clone());
        let name = made.name.as_str();
        ip(&["addr", "add", &format!("{outside}/30"), "dev", &door])?;
        ip(&["link", "set", &door, "up"])?;
        ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{inside}/30"),
            "dev",
            "in0",
        ])?;
        ip(&["-n", name, "link", "set", "in0", "up"])?;
        Ok((made, inside))
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
        if let Some(door) = &self.door {
            drop(ip(&["link", "del", door]));
        }
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

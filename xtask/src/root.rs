//! How this run can do what needs root: it is root, it may use sudo, or it cannot.

use std::process::{Command, Stdio};

use anyhow::bail;
use nix::unistd::geteuid;

use crate::shell;

/// The way to root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// This process is root.
    Already,
    /// Through sudo, which may ask for a password.
    Sudo,
    /// There is no way.
    Missing,
}

/// Which way this run has.
pub(crate) fn way() -> Root {
    if geteuid().is_root() {
        Root::Already
    } else if shell::find("sudo").is_some() {
        Root::Sudo
    } else {
        Root::Missing
    }
}

/// `program` as root.
pub(crate) fn command(program: &str, why: &str) -> anyhow::Result<Command> {
    match way() {
        Root::Already => Ok(Command::new(program)),
        Root::Sudo => {
            authenticate(why)?;
            let mut command = Command::new("sudo");
            command.args(["--", program]);
            Ok(command)
        }
        Root::Missing => bail!("root is needed to {why}; run this as root, or install sudo"),
    }
}

/// Lets sudo ask for its password now, on the terminal, and not in the middle of something.
pub(crate) fn authenticate(why: &str) -> anyhow::Result<()> {
    let known = Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status();
    if known.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    println!("sudo may ask for your password: root is needed to {why}");
    let status = Command::new("sudo").arg("-v").status()?;
    if !status.success() {
        bail!("sudo was refused; root is needed to {why}");
    }
    Ok(())
}

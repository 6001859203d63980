//! `interceptor ssh-ca`: who the daemon is to SSH clients, in the words of `known_hosts`. A block of our own
//! in the host's file, put there and taken away whole; everything else in the file stays as it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::host_files::{Which, write};
use crate::config;
use crate::protocol::ssh::host;
use crate::secrets::Secrets;
use crate::tls::{Authority, CERTIFICATE};

const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
/// Where the host has settings for stock clients, and ours among them.
pub(super) const SETTINGS: &str = "/etc/ssh/ssh_config.d";
pub(super) const DROP_IN: &str = "/etc/ssh/ssh_config.d/interceptor.conf";
pub(super) const DROP_IN_NAME: &str = "interceptor.conf";
const BEGIN: &str = "# begin: written by interceptor ssh-ca install";
const END: &str = "# end: written by interceptor ssh-ca install";
/// Bytes of a file of known hosts.
const MOST: u64 = 16 << 20;

/// Have SSH clients of this host know the daemon.
#[derive(Clone, Debug, Subcommand)]
pub enum SshCa {
    /// Print the lines for `known_hosts`.
    Show(Which),
    /// Write them into the host's `known_hosts`, and what else stock clients need.
    Install(Files),
    /// Take away what `install` wrote.
    Uninstall(Files),
}

/// Of which daemon, and where to.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// The configuration file.
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
    /// The file of known hosts.
    #[arg(long, default_value = KNOWN_HOSTS)]
    known_hosts: PathBuf,
    /// The file of settings for stock clients.
    #[arg(long, default_value = DROP_IN)]
    drop_in: PathBuf,
}

impl SshCa {
    /// Carries the command out.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or the daemon has no authority yet.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show(which) => {
                let lines = lines(&which.config)?;
                super::print(&(lines.join("\n") + "\n"));
            }
            Self::Install(files) => {
                let lines = lines(&files.config)?;
                let block = format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"));
                let rest = without_block(&read(&files.known_hosts)?)?;
                let gap = match rest.is_empty() || rest.ends_with('\n') {
                    true => "",
                    false => "\n",
                };
                write(&files.known_hosts, &format!("{rest}{gap}{block}"))?;
                if let Some(directory) = files.drop_in.parent().filter(|at| at.is_dir()) {
                    tracing::debug!(directory = %directory.display(), "writes a drop-in");
                    write(&files.drop_in, &drop_in(&files.known_hosts))?;
                }
            }
            Self::Uninstall(files) => {
                remove(&files.known_hosts, &files.drop_in)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes away what `install` wrote of this daemon where no other files were named; what was taken.
///
/// # Errors
/// Where a file cannot be read or written.
pub(super) fn uninstall(config: &Path) -> anyhow::Result<Option<String>> {
    let known_hosts = Path::new(KNOWN_HOSTS);
    let written = read(known_hosts)?;
    // A host may have another daemon, or its block only.
    let is_of = |line: &String| written.lines().any(|known| known == line);
    if !written.contains(BEGIN) || !lines(config).is_ok_and(|lines| lines.iter().any(is_of)) {
        return Ok(None);
    }
    let removed = remove(known_hosts, Path::new(DROP_IN))?;
    Ok(removed.then(|| format!("took the daemon out of {KNOWN_HOSTS}")))
}

/// Whether anything of it was there.
fn remove(known_hosts: &Path, drop_in: &Path) -> anyhow::Result<bool> {
    let whole = read(known_hosts)?;
    let rest = without_block(&whole)?;
    if rest != whole {
        write(known_hosts, &rest)?;
    }
    let is_ours = read(drop_in)?.starts_with(BEGIN);
    if is_ours {
        std::fs::remove_file(drop_in).with_context(|| format!("remove {}", drop_in.display()))?;
    }
    Ok(is_ours || rest != whole)
}

/// The lines of one daemon's targets.
fn lines(config: &Path) -> anyhow::Result<Vec<String>> {
    let config = config::load(config).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let state = &config.paths.state;
    if !state.join(CERTIFICATE).exists() {
        bail!("the daemon has no authority yet; start it once");
    }
    let opened = async { Ok(Authority::of(&config, &Secrets::default()).await?) };
    let authority = super::block_on(opened, false)?;
    let targets = config.targets.values().map(AsRef::as_ref);
    host::known_hosts(&authority, targets).context("make the keys")
}

/// What stock clients are told: the host's own file stays where they look, and keys that they meet here
/// are not written into users' files.
pub(super) fn drop_in(known_hosts: &Path) -> String {
    format!(
        "{BEGIN}\nUpdateHostKeys no\nGlobalKnownHostsFile {KNOWN_HOSTS} {KNOWN_HOSTS}2{}\n{END}\n",
        match known_hosts == Path::new(KNOWN_HOSTS) {
            true => String::new(),
            false => format!(" {}", known_hosts.display()),
        }
    )
}

/// A file without our block; a block that is not whole is nobody's to guess at.
fn without_block(text: &str) -> anyhow::Result<String> {
    let Some((before, rest)) = text.split_once(BEGIN) else {
        return Ok(text.to_owned());
    };
    let Some((_, after)) = rest.split_once(END) else {
        bail!("the file has a line `{BEGIN}` without its end; mend it by hand");
    };
    Ok(format!(
        "{before}{}",
        after.strip_prefix('\n').unwrap_or(after)
    ))
}

/// A file, or nothing where there is none.
fn read(path: &Path) -> anyhow::Result<String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Ok(found) if found.len() > MOST => bail!("{} is too large", path.display()),
        _ => {}
    }
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_block_goes_and_nothing_else() {
        let others = "one\ntwo\n";
        let with = format!("one\n{BEGIN}\nours\n{END}\ntwo\n");
        assert_eq!(without_block(&with).unwrap(), others);
        assert_eq!(without_block(others).unwrap(), others);
        assert!(without_block(&format!("one\n{BEGIN}\nours\n")).is_err());
    }
}

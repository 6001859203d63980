//! Has the command's own bundles of certificates hold the daemon's authority too, on mounts of its own: what a program
//! brings along in place of the host's store (Python's `certifi`, a JDK), its kubeconfig, and who servers are to `ssh`.
//!
//! What the command's user could have put there is looked for and read as that user, never as root: a link in a
//! bundle's place leads to nothing that the user could not read. What cannot be understood stays as it is, with a word
//! about it.

mod find;
mod java;
mod kubeconfig;
#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use memchr::memmem;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, User, getgroups, initgroups, setegid, seteuid, setgroups};

use self::find::{Found, Kind};
use super::apart;
use super::mounts::lock;
use crate::cli::ssh_ca;
use crate::control::api::Trust;

/// Where new contents are written before they are mounted: a file system in memory, over a directory that is always
/// there, for as long as that takes.
const DESK: &str = "/tmp";
const ROOM: &str = "mode=0711,size=512m";

/// The servers, beside the settings that name it; settings are not read from a file of such a name.
const KNOWN_HOSTS: &str = "interceptor_known_hosts";

/// What each certificate begins with in PEM (RFC 7468 section 5.1).
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const TRUSTED: &[u8] = b"-----BEGIN TRUSTED CERTIFICATE-----";

/// Mounts over each bundle one that holds the authority too. `program` is the command's, `user` who it becomes. The
/// mounts of this process are its own already. The host's own store, where there is one in a file that holds the
/// authority now.
pub(super) fn extend(
    trust: &Trust,
    program: &OsStr,
    user: Option<&User>,
) -> anyhow::Result<Option<&'static str>> {
    let made = as_user(user, || made(trust, program, user)).context("cannot read as the user")?;
    let settings = Path::new(ssh_ca::SETTINGS);
    let is_told = trust.known_hosts.is_empty() || Path::new(ssh_ca::DROP_IN).exists();
    let tells = !is_told && settings.is_dir();
    if !made.is_empty() || tells {
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), DESK, Some("tmpfs"), flags, Some(ROOM))
            .with_context(|| format!("cannot mount {DESK}"))?;
        let done = replace_all(&made, tells.then_some(trust), user);
        umount2(DESK, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {DESK}"))?;
        done?;
    }
    let trusts = |store: &&str| is_trusting(Path::new(store), &trust.certificate);
    Ok(find::store().filter(trusts))
}

/// Whether a bundle holds the authority: one that was left as it is takes the place of no other.
fn is_trusting(bundle: &Path, certificate: &str) -> bool {
    find::read(bundle).is_some_and(|content| holds(&content, certificate))
}

/// What there is, and what comes in its place.
fn made(trust: &Trust, program: &OsStr, user: Option<&User>) -> Vec<(Found, Vec<u8>)> {
    let extended = |found: Found| match extended(&found, trust) {
        Ok(made) => Some((found, made?)),
        Err(why) => {
            left(&found, why);
            None
        }
    };
    let found = find::all(trust, program, user);
    found.into_iter().filter_map(extended).collect()
}

/// Acts as the user, with the rights of nobody else; this process is root before and after. Where root stays what it
/// is, it reads as the root that the command will be.
fn as_user<T>(user: Option<&User>, act: impl FnOnce() -> T) -> anyhow::Result<T> {
    let Some(user) = user else {
        return Ok(apart::unarmed(act)?);
    };
    let (root, group, groups) = (Uid::effective(), Gid::effective(), getgroups()?);
    initgroups(&CString::new(user.name.as_bytes())?, user.gid)?;
    setegid(user.gid)?;
    seteuid(user.uid)?;
    let done = act();
    seteuid(root)?;
    setegid(group)?;
    setgroups(&groups)?;
    Ok(done)
}

/// Writes everything, then mounts it: a mount that cannot be written to is one wherever it is bound.
fn replace_all(
    made: &[(Found, Vec<u8>)],
    tells: Option<&Trust>,
    user: Option<&User>,
) -> anyhow::Result<()> {
    let at = |number: usize| Path::new(DESK).join(number.to_string());
    let mut written = Vec::new();
    for (number, (found, content)) in made.iter().enumerate() {
        match write(found, &at(number), content) {
            Ok(()) => written.push((found, at(number))),
            Err(error) => left(found, error),
        }
    }
    for new in as_user(user, || unreadable(&written)).context("cannot read as the user")? {
        // It was read by a right that no mode says. These mounts are the user's alone.
        let reader = user.map_or(0, |user| user.uid.as_raw());
        chown(&new, Some(reader), None).context("cannot hand over a bundle")?;
    }
    let settings = Path::new(DESK).join("ssh");
    if let Some(trust) = tells {
        write_settings(&settings, &trust.known_hosts).context("cannot tell ssh of the daemon")?;
    }
    lock(Path::new(DESK))?;
    for (found, new) in written {
        // Whatever has its name by now: the file that was read is mounted over, where it still has one.
        let place = format!("/proc/self/fd/{}", found.file.as_raw_fd());
        if let Err(error) = bind(&new, Path::new(&place)) {
            left(found, error);
        }
    }
    match tells {
        Some(_) => bind(&settings, Path::new(ssh_ca::SETTINGS)),
        None => Ok(()),
    }
}

/// Those that this process may not read, as whoever it is at the moment.
fn unreadable(written: &[(&Found, PathBuf)]) -> Vec<PathBuf> {
    let new = written.iter().map(|(_found, new)| new);
    new.filter(|new| File::open(new).is_err())
        .cloned()
        .collect()
}

/// One file is no reason not to start.
fn left(found: &Found, why: impl Display) {
    tracing::warn!(
        path = %found.path.display(),
        "left as it is: a program that reads it does not trust the daemon: {why:#}"
    );
}

fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot mount over {}", to.display()))
}

/// Its content with the authority; none where it holds it.
fn extended(found: &Found, trust: &Trust) -> Result<Option<Vec<u8>>, &'static str> {
    let content = found.content.as_slice();
    match found.kind {
        Kind::Bundle if java::is_store(content) => {
            let certificate = der(&trust.certificate).ok_or("the authority is not in PEM")?;
            java::with(content, &certificate)
        }
        Kind::Bundle => with(content, &trust.certificate),
        Kind::Kubeconfig => {
            kubeconfig::with(content, &trust.certificate, |path| found.beside(path))
        }
        Kind::KnownHosts => {
            // Some clients take the first line for a host, whatever else they find.
            let mut made = (trust.known_hosts.join("\n") + "\n").into_bytes();
            made.extend(content);
            Ok(Some(made))
        }
    }
}

/// A bundle in PEM with one more certificate; none where it is there.
fn with(content: &[u8], certificate: &str) -> Result<Option<Vec<u8>>, &'static str> {
    let has = |mark: &[u8]| memmem::find(content, mark).is_some();
    if !has(BEGIN) && !has(TRUSTED) {
        return Err("it holds no certificate in PEM");
    }
    if holds(content, certificate) {
        return Ok(None);
    }
    let mut made = content.to_vec();
    if !made.ends_with(b"\n") {
        made.push(b'\n');
    }
    made.extend(certificate.as_bytes());
    Ok(Some(made))
}

/// Whether a bundle holds a certificate, however its lines are broken.
fn holds(bundle: &[u8], certificate: &str) -> bool {
    let plain = |bytes: &[u8]| -> Vec<u8> {
        let letters = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
        letters.copied().collect()
    };
    let (bundle, certificate) = (plain(bundle), plain(certificate.as_bytes()));
    !certificate.is_empty() && memmem::find(&bundle, &certificate).is_some()
}

fn der(certificate: &str) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    Some(pem.contents)
}

/// A file with the owner of the one that it replaces; nobody writes to it.
fn write(found: &Found, to: &Path, content: &[u8]) -> anyhow::Result<()> {
    let was = found.file.metadata()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    file.write_all(content)?;
    fchown(&file, Some(was.uid()), Some(was.gid()))?;
    Ok(file.set_permissions(Permissions::from_mode(was.mode() & 0o444))?)
}

/// The directory of the host's settings for clients of SSH, with all that is in that one, and with the servers that the
/// daemon stands for.
fn write_settings(new: &Path, known_hosts: &[String]) -> anyhow::Result<()> {
    let host = Path::new(ssh_ca::SETTINGS);
    let public = |path: &Path, text: &str, mode: u32| -> anyhow::Result<()> {
        ensure!(!path.exists(), "{} is there already", path.display());
        fs::write(path, text)?;
        Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
    };
    fs::create_dir(new)?;
    fs::set_permissions(new, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        if entry.path().is_file() {
            let to = new.join(entry.file_name());
            public(&to, "", 0o444)?;
            bind(&entry.path(), &to)?;
        }
    }
    let lines = known_hosts.join("\n") + "\n";
    public(&new.join(KNOWN_HOSTS), &lines, 0o644)?;
    let drop_in = ssh_ca::drop_in(&host.join(KNOWN_HOSTS));
    public(&new.join(ssh_ca::DROP_IN_NAME), &drop_in, 0o644)
}

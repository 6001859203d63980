//! Opening the file: only one that nobody but its owner and root, or group root, could have written is believed.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::mistake::{Mistakes, Named, Place, Report};
use super::shape::Held;
use super::{Config, Mistake, Resolver, build, check, cross, document, shape};

/// Bytes of a configuration.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of `/etc/resolv.conf` that are read.
const MAX_RESOLV_CONF: u64 = 64 << 10;
/// The servers that glibc asks (`MAXNS`, resolv.conf(5)).
const MAX_RESOLVERS: usize = 3;
/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Looks into a file that the configuration names; what was expected of it where it is not so.
pub(super) type Look<'a> = &'a dyn Fn(&Config, Held, &Path) -> Result<(), String>;

/// Reads, checks and builds; see [`super::load()`].
pub(super) fn load(path: &Path, look: Look<'_>) -> Result<Config, Mistakes> {
    let path = std::path::absolute(path).unwrap_or_else(|_ignored| path.to_owned());
    let whole = |text: String| Mistakes::whole(&path, text);
    let text = read(&path).map_err(whole)?;
    let resolvers = host_resolvers(Path::new("/etc/resolv.conf"));
    parse(&text, &path, resolvers, look)
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read the configuration: {error}");
    // A FIFO must not hold up the start; see fifo(7).
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{}; name one with --config", failed(error)),
            _ => failed(error),
        })?;
    let about = file.metadata().map_err(failed)?;
    let own = nix::unistd::geteuid().as_raw();
    if !about.is_file() {
        return Err("expected a regular file".into());
    }
    if is_open(&about) {
        return Err(format!(
            "expected a file that only its owner can write, found mode {:04o}; chmod go-w it",
            about.mode() & 0o7777
        ));
    }
    if about.uid() != 0 && about.uid() != own {
        return Err(format!(
            "expected a file owned by root or by uid {own}, found uid {}",
            about.uid()
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(text)
    } else {
        Err("expected at most 1 MiB".into())
    }
}

/// Whether a file may be written by more than its owner: by everybody, or by a group that is neither root's
/// nor, where somebody checks files of their own, theirs.
pub fn is_open(about: &Metadata) -> bool {
    let own = nix::unistd::getegid().as_raw();
    let by_group = about.mode() & 0o020 != 0 && about.gid() != 0 && about.gid() != own;
    about.mode() & 0o002 != 0 || by_group
}

/// Checks and builds; `resolvers` stand in where the text says none.
pub(super) fn parse(
    text: &str,
    path: &Path,
    resolvers: Vec<Resolver>,
    look: Look<'_>,
) -> Result<Config, Mistakes> {
    let root = document::read(text).map_err(|(place, text)| unreadable(path, place, text))?;
    let mut report = Report::default();
    check::check(&root, &shape::FILE, "", &mut report);
    let built = build::build(&root, path, resolvers);
    cross::check(&root, &built, &mut report);
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    for Named {
        place,
        key,
        path,
        held,
    } in report.named()
    {
        if let Err(expected) = look(&built.config, held, &directory.join(path)) {
            report.add(place, &key, expected);
        }
    }
    match report.finish(path) {
        Some(mistakes) => Err(Mistakes {
            policies: Some(built.config.paths.policies),
            ..mistakes
        }),
        None => Ok(built.config),
    }
}

fn unreadable(path: &Path, place: Option<Place>, text: String) -> Mistakes {
    let mistake = Mistake {
        place,
        key: String::new(),
        expected: format!("expected YAML: {text}"),
    };
    Mistakes {
        file: PathBuf::from(path),
        all: vec![mistake],
        policies: None,
    }
}

/// The servers that the host asks. A file that cannot be read names none: scopes then ask nobody.
fn host_resolvers(path: &Path) -> Vec<Resolver> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_RESOLV_CONF).read_to_string(&mut text));
    match read {
        Ok(_) => resolvers_in(&text),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "cannot read the host's DNS servers; agents may ask none");
            Vec::new()
        }
    }
}

/// The `nameserver` lines of resolv.conf(5).
pub(super) fn resolvers_in(text: &str) -> Vec<Resolver> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and_then(|_| words.next())?;
        // A link-local server names its interface: fe80::1%eth0.
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(Resolver {
            address: SocketAddr::new(address.to_canonical(), DNS_PORT),
        })
    };
    text.lines()
        .filter_map(server)
        .take(MAX_RESOLVERS)
        .collect()
}

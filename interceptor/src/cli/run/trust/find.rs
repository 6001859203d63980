//! Where bundles lie, and what is in them.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::control::api::Trust;

/// The host's own store, where most programs look for it.
const STORES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Where JDKs have theirs, as patterns.
const JAVA: [&str; 4] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/java/cacerts",
    "/usr/lib/jvm/*/lib/security/cacerts",
    "/usr/lib/jvm/*/jre/lib/security/cacerts",
];

/// Where Python packages lie, below what an interpreter is installed in.
const PACKAGES: [&str; 2] = ["lib/python3*/site-packages", "lib/python3*/dist-packages"];

/// The packages that bring a bundle.
const PYTHON: [&str; 4] = [
    "certifi/cacert.pem",
    "botocore/cacert.pem",
    "requests/cacert.pem",
    "pip/_vendor/certifi/cacert.pem",
];

/// Most bytes of a bundle.
const MOST_BYTES: u64 = 4 << 20;
/// Most bundles.
const MOST: usize = 256;

/// How a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Certificates: PEM, or a key store of Java.
    Bundle,
    /// Clusters and their bundles.
    Kubeconfig,
    /// Who servers are to SSH.
    KnownHosts,
}

/// A file as it is.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
}

impl Found {
    /// What lies at a path that this file names, from its directory on.
    pub(super) fn beside(&self, name: &str) -> Option<Vec<u8>> {
        let (_file, content) = open(&self.path.parent()?.join(name))?;
        Some(content)
    }
}

/// The host's own store in a file, where there is one.
pub(super) fn store() -> Option<&'static str> {
    STORES.into_iter().find(|store| Path::new(store).is_file())
}

/// All that there are, as whoever this process is at the moment.
pub(super) fn all(trust: &Trust, program: &OsStr, user: Option<&User>) -> Vec<Found> {
    let home = match user {
        Some(user) => Some(user.dir.clone()),
        None => env::var_os("HOME").map(PathBuf::from),
    };
    let named = trust.bundles.iter().cloned();
    let host = STORES.into_iter().chain(JAVA).map(str::to_owned);
    let mut patterns: Vec<String> = named.chain(host).collect();
    for prefix in prefixes(program, home.as_deref()) {
        let prefix = glob::Pattern::escape(&prefix.to_string_lossy());
        for packages in PACKAGES {
            patterns.extend(PYTHON.map(|bundle| format!("{prefix}/{packages}/{bundle}")));
        }
    }
    let mut found = Files::default();
    for pattern in patterns {
        for path in glob::glob(&pattern).into_iter().flatten().flatten() {
            found.take(&path, Kind::Bundle);
        }
    }
    for path in kubeconfigs(home.as_deref()) {
        found.take(&path, Kind::Kubeconfig);
    }
    if let Some(home) = home.filter(|_home| !trust.known_hosts.is_empty()) {
        found.take(&home.join(".ssh/known_hosts"), Kind::KnownHosts);
    }
    found.all
}

/// Each file once, however many names lead to it.
#[derive(Default)]
struct Files {
    seen: BTreeSet<(u64, u64)>,
    all: Vec<Found>,
}

impl Files {
    fn take(&mut self, path: &Path, kind: Kind) {
        if self.all.len() >= MOST {
            return;
        }
        let Some((file, content)) = open(path) else {
            return;
        };
        let is_new = file
            .metadata()
            .is_ok_and(|found| self.seen.insert((found.dev(), found.ino())));
        if is_new {
            let path = path.to_owned();
            self.all.push(Found {
                path,
                file,
                kind,
                content,
            });
        }
    }
}

/// An ordinary file that can be read and is not too large.
fn open(path: &Path) -> Option<(File, Vec<u8>)> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > MOST_BYTES {
        return None;
    }
    let mut content = Vec::new();
    file.by_ref()
        .take(MOST_BYTES)
        .read_to_end(&mut content)
        .ok()?;
    Some((file, content))
}

/// What Python may be installed in: the host's, the user's, and what the command lies in, as an environment of its own
/// does.
fn prefixes(program: &OsStr, home: Option<&Path>) -> BTreeSet<PathBuf> {
    let program = Path::new(program);
    let path = env::var_os("PATH").unwrap_or_default();
    let there = match program.components().count() {
        1 => env::split_paths(&path)
            .map(|directory| directory.join(program))
            .find(|path| path.is_file()),
        _ => Some(program.to_owned()),
    };
    let real = there.as_ref().and_then(|path| path.canonicalize().ok());
    let around = |path: &PathBuf| Some(path.parent()?.parent()?.to_owned());
    let of_command = there.iter().chain(&real).filter_map(around);
    let own = home.map(|home| home.join(".local"));
    let active = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let host = ["/usr", "/usr/local"].map(PathBuf::from);
    let all = host.into_iter().chain(own).chain(active).chain(of_command);
    all.filter(|prefix| prefix.is_absolute()).collect()
}

fn kubeconfigs(home: Option<&Path>) -> Vec<PathBuf> {
    match env::var_os("KUBECONFIG") {
        Some(paths) => env::split_paths(&paths).collect(),
        None => home
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect(),
    }
}

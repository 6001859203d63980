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

/// What is installed in a user's home that brings a Python of its own, as patterns.
const HOMES: [&str; 8] = [
    ".local",
    ".local/share/pipx/venvs/*",
    ".local/share/uv/tools/*",
    ".local/share/uv/python/*",
    ".pyenv/versions/*",
    "miniconda3",
    "anaconda3",
    ".venv",
];

/// Tools that bring one for the host.
const TOOLS: [&str; 3] = [
    "/usr/local/aws-cli/v2/*/dist/awscli/botocore/cacert.pem",
    "/opt/az/lib/python3*/site-packages/certifi/cacert.pem",
    "/usr/lib/google-cloud-sdk/lib/third_party/certifi/cacert.pem",
];

/// Most bytes of a bundle, and of all.
const MOST_BYTES: u64 = 4 << 20;
const MOST_IN_ALL: u64 = 64 << 20;
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

/// What a bundle holds.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    open(path).map(|(_file, content)| content)
}

/// All that there are, as whoever this process is at the moment.
pub(super) fn all(trust: &Trust, program: &OsStr, user: Option<&User>) -> Vec<Found> {
    let home = match user {
        Some(user) => Some(user.dir.clone()),
        None => env::var_os("HOME").map(PathBuf::from),
    };
    let named = trust.bundles.iter().cloned();
    let host = STORES.into_iter().chain(JAVA).chain(TOOLS);
    let host = host.map(str::to_owned);
    let mut patterns: Vec<String> = named.chain(host).collect();
    let escaped = |path: &PathBuf| glob::Pattern::escape(&path.to_string_lossy());
    let own = home.iter().flat_map(|home| {
        let home = escaped(home);
        HOMES.map(|below| format!("{home}/{below}"))
    });
    let prefixes = prefixes(program);
    for prefix in prefixes.iter().map(escaped).chain(own) {
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
    bytes: u64,
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
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let all = self.bytes.saturating_add(bytes);
        if is_new && all <= MOST_IN_ALL {
            self.bytes = all;
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

/// What Python may be installed in: the host's, and environments of their own: what the command lies in, one that is
/// active, and those in the working directory.
fn prefixes(program: &OsStr) -> BTreeSet<PathBuf> {
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
    let active = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let here = env::current_dir().ok();
    let here = here
        .iter()
        .flat_map(|here| [".venv", "venv"].map(|name| here.join(name)));
    let host = ["/usr", "/usr/local"].map(PathBuf::from);
    let all = host.into_iter().chain(here).chain(active).chain(of_command);
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

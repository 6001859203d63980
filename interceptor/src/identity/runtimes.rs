//! What container runtimes keep of their containers: names, images, pods, labels.
//!
//! Read from files that only root writes (or who runs this program, for a hook that a user's own runtime
//! runs), outside of every container: never what a process in one can write. What an image says of itself
//! is told apart, since who made the image does not operate this host.

mod bundle;
mod containerd;
mod docker;
mod storage;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lru::LruCache;
use serde::de::DeserializeOwned;

use super::cgroup::is_id;

pub use workload::Workload;

/// Where runtimes keep what they know, unless they are told otherwise.
const USUAL: [&str; 3] = [
    "/var/lib/containers/storage",
    "/run/containerd/io.containerd.runtime.v2.task",
    "/var/lib/docker",
];
/// Places that hooks tell of.
const LEARNED: usize = 16;
/// Containers that are kept in mind: nothing that is read here changes while one lives, but its name.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Bytes of a file; `containers.json` has about a kilobyte for each container.
const MOST: u64 = 16 << 20;
/// Write permission for group or others.
const WRITABLE: u32 = 0o022;

/// A container as it stands in the files of its runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub workload: Workload,
    /// Its labels and annotations.
    pub labels: BTreeMap<String, String>,
    /// The names of those that its image brings along; `None` where that cannot be told.
    pub of_image: Option<BTreeSet<String>>,
}

/// The places where runtimes of this host keep what they know.
#[derive(Debug)]
pub struct Runtimes {
    places: RwLock<Vec<PathBuf>>,
    kept: Mutex<LruCache<String, Arc<Workload>>>,
}

impl Runtimes {
    /// Looks into the usual places, and `more`.
    #[must_use]
    pub fn new(more: &[PathBuf]) -> Self {
        let usual = USUAL.iter().map(PathBuf::from);
        Self::at(more.iter().cloned().chain(usual).collect())
    }

    fn at(places: Vec<PathBuf>) -> Self {
        Self {
            places: RwLock::new(places),
            kept: Mutex::new(LruCache::new(KEPT)),
        }
    }

    /// Looks also where the runtime of this bundle keeps others. For root's word only.
    pub fn learn(&self, bundle: &Path) {
        let Some((place, _)) = place_of(bundle) else {
            return;
        };
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if !places.contains(&place) && places.len() < USUAL.len().saturating_add(LEARNED) {
            places.push(place);
        }
    }

    /// What a container is, by its id; `None` where no runtime knows it. May read files.
    #[must_use]
    pub fn workload(&self, id: &str) -> Option<Arc<Workload>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(id) {
            return Some(Arc::clone(known));
        }
        let found = self.places().iter().find_map(|place| find(place, id))?;
        let found = Arc::new(found.workload);
        kept().put(id.to_owned(), Arc::clone(&found));
        Some(found)
    }

    /// The ids of the containers that have this name.
    #[must_use]
    pub fn named(&self, name: &str) -> BTreeSet<String> {
        let places = self.places();
        let all = places.iter().flat_map(|place| {
            let stored = storage::names(place).into_iter();
            stored
                .chain(containerd::names(place))
                .chain(docker::names(place))
        });
        all.filter_map(|(id, own)| (own == name && is_id(&id)).then_some(id))
            .collect()
    }

    fn places(&self) -> Vec<PathBuf> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.clone()
    }
}

/// Those in the usual places.
impl Default for Runtimes {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// A container as its runtime keeps it: beside its bundle, or for Docker's in one of `more` or where Docker
/// usually keeps them. `None` where the bundle is no runtime's that is known here.
///
/// # Errors
/// Where it is, and the container cannot be read there: what its image says of itself cannot be told from what
/// its operator says.
pub fn of_container(bundle: &Path, id: &str, more: &[PathBuf]) -> Result<Option<Kept>, String> {
    let Some((place, own)) = place_of(bundle) else {
        return Ok(None);
    };
    if own != id {
        return Err(format!("{} is not the bundle of {id}", bundle.display()));
    }
    let found = match containerd::is_dockers(bundle) {
        true => {
            let usual = USUAL.iter().map(Path::new);
            let mut places = more.iter().map(PathBuf::as_path).chain(usual);
            places.find_map(|place| docker::find(place, id))
        }
        false => find(&place, id),
    };
    found.map(Some).ok_or_else(|| {
        let bundle = bundle.display();
        format!("container {id} is not in the files of its runtime; its bundle is {bundle}")
    })
}

/// The capabilities that a container's processes may hold, without `CAP_`; `None` where its bundle does not tell.
#[must_use]
pub fn capabilities(bundle: &Path) -> Option<BTreeSet<String>> {
    bundle::Config::of(bundle).map(|config| config.capabilities())
}

/// Where the runtime of a bundle keeps its containers, and whose bundle it is.
fn place_of(bundle: &Path) -> Option<(PathBuf, &str)> {
    let found = storage::place_of(bundle).or_else(|| containerd::place_of(bundle));
    found.map(|(place, id)| (place.to_owned(), id))
}

fn find(place: &Path, id: &str) -> Option<Kept> {
    // It becomes part of a path.
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if id.is_empty() || id.starts_with('.') || !id.chars().all(is_plain) {
        return None;
    }
    storage::find(place, id)
        .or_else(|| containerd::find(place, id))
        .or_else(|| docker::find(place, id))
}

/// Reads a file of JSON that nobody can have written but root, or who runs this.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&bytes(path)?).ok()
}

/// The same for a text.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(bytes(path)?).ok()
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let about = file.metadata().ok()?;
    let own = nix::unistd::geteuid().as_raw();
    let is_trusted = [0, own].contains(&about.uid()) && about.mode() & WRITABLE == 0;
    if !about.is_file() || !is_trusted {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The directories in a directory, by name.
fn directories(of: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

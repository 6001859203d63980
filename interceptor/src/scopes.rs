//! The tagged cgroups, as the capture layer knows them, kept at hand for each connection.
//!
//! The capture layer reads them from pins, which is too slow for a hot path; what is not found here is
//! looked up there once more before it counts as unknown.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::capture::cgroup2::{is_outside, is_within};
use crate::capture::{self, Capture, Scope};
use crate::secrets::Secret;
use crate::tls::Authority;

/// The tagged cgroups.
#[derive(Debug)]
pub struct Scopes {
    capture: Arc<Capture>,
    known: ArcSwap<Vec<Scope>>,
    /// Agents whose scopes are stopped, those that they get later too.
    frozen: Mutex<BTreeSet<String>>,
}

impl Scopes {
    /// Reads the scopes that are pinned.
    ///
    /// # Errors
    /// Where pins or cgroups cannot be read.
    pub fn new(capture: &Arc<Capture>) -> Result<Self, capture::Error> {
        let known = capture.scopes()?;
        // Of agents that an earlier daemon stopped, the cgroups still say so.
        let is_stopped = |scope: &&Scope| {
            let file = capture.hierarchy().directory(&scope.path);
            let said = fs::read_to_string(file.join("cgroup.freeze"));
            said.is_ok_and(|said| said.trim() == "1")
        };
        let frozen = known.iter().filter(is_stopped);
        Ok(Self {
            frozen: Mutex::new(frozen.map(|scope| scope.agent.clone()).collect()),
            capture: Arc::clone(capture),
            known: ArcSwap::from_pointee(known),
        })
    }

    /// Whether an agent is to be stopped wherever it runs.
    #[must_use]
    pub fn is_frozen(&self, agent: &str) -> bool {
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        frozen.contains(agent)
    }

    /// Notes whether it is.
    pub fn set_frozen(&self, agent: &str, is_frozen: bool) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if is_frozen {
            frozen.insert(agent.to_owned());
        } else {
            frozen.remove(agent);
        }
    }

    /// Every scope, read anew.
    ///
    /// # Errors
    /// Where pins or cgroups cannot be read.
    pub fn refresh(&self) -> Result<Arc<Vec<Scope>>, capture::Error> {
        let scopes = Arc::new(self.capture.scopes()?);
        self.known.store(Arc::clone(&scopes));
        Ok(scopes)
    }

    /// Every scope, as last read.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Scope>> {
        self.known.load_full()
    }

    /// The scope with this cgroup id at its root.
    #[must_use]
    pub fn by_id(&self, id: u64) -> Option<Scope> {
        let find = |scopes: &Vec<Scope>| scopes.iter().find(|scope| scope.id == id).cloned();
        find(&self.known.load()).or_else(|| {
            // Whoever asks refuses then, as of a scope that is none.
            let read = self.refresh().inspect_err(|error| {
                tracing::error!(%error, id, "cannot read whether a cgroup is a scope: it counts as none");
            });
            find(&*read.ok()?)
        })
    }

    /// The scope with this cgroup at its root, as last read.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<Scope> {
        let known = self.known.load();
        known.iter().find(|scope| scope.path == path).cloned()
    }

    /// The deepest scope that a cgroup lies in, as last read: for bounds, not for doors.
    #[must_use]
    pub fn known_around(&self, cgroup: &str) -> Option<u64> {
        let known = self.known.load();
        let around = known.iter().filter(|scope| is_within(cgroup, &scope.path));
        around
            .max_by_key(|scope| scope.path.len())
            .map(|scope| scope.id)
    }

    /// The deepest scope that a cgroup lies in; read anew, since a wrong "none" opens a door.
    ///
    /// # Errors
    /// Where pins or cgroups cannot be read, or the cgroup lies where nothing is known of scopes.
    pub fn around(&self, cgroup: &str) -> Result<Option<Scope>, capture::Error> {
        if is_outside(cgroup) {
            return Err(capture::Error::Hierarchy("the process lies outside of it"));
        }
        let scopes = self.refresh()?;
        let around = scopes.iter().filter(|scope| is_within(cgroup, &scope.path));
        Ok(around.max_by_key(|scope| scope.path.len()).cloned())
    }
}

/// The scope's throw-away password: for clients that take no server that asks for none. It is the same
/// as long as the scope is, also after a restart, and opens nothing but what the scope opens anyway.
#[must_use]
pub fn password(authority: &Authority, scope: &Scope) -> Secret {
    let of = [scope.path.as_bytes(), &scope.id.to_be_bytes()];
    let key = authority.derive("scope password", &of);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*key));
    Secret::from(text.as_str())
}

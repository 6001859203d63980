//! SCRAM keys, kept per credential, salt and cost: a second login costs two HMACs, not thousands.
//!
//! Only keys with which a server has proved that it knows the password are kept. A password that
//! was rotated has another digest, and so other keys.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{hmac, rand};
use lru::LruCache;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use super::Error;
use super::scram::{Keys, prepare};
use crate::secrets::Secret;

const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Digest of credential, salt and cost, under a key of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Id([u8; 32]);

pub(in super::super) struct Cache {
    digest: hmac::Key,
    kept: Mutex<LruCache<Id, Arc<Keys>>>,
    /// Where SCRAM succeeded with which password: nothing weaker is answered there any more.
    proved: Mutex<LruCache<Id, ()>>,
    /// A hostile server asks for new keys at each login: what it can burn is bounded.
    derivations: Arc<Semaphore>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Cache([REDACTED])")
    }
}

impl Cache {
    pub(in super::super) fn new() -> Result<Self, Error> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        rand::fill(&mut *key).map_err(|_unspecified| Error::Random)?;
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            digest: hmac::Key::new(hmac::HMAC_SHA256, &*key),
            kept: Mutex::new(LruCache::new(KEPT_MAX)),
            proved: Mutex::new(LruCache::new(KEPT_MAX)),
            derivations: Arc::new(Semaphore::new(threads.div_ceil(2))),
        })
    }

    /// The keys, kept or derived on a thread of their own; cancelled, the derivation runs on.
    pub(in super::super) async fn keys(
        &self,
        user: &str,
        password: &Secret,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Result<(Id, Arc<Keys>), Error> {
        let id = self.id(user, password, salt, iterations);
        if let Some(keys) = self.kept(id) {
            return Ok((id, keys));
        }
        let permit = Arc::clone(&self.derivations).acquire_owned().await;
        let permit = permit.map_err(|_closed| Error::Derivation)?;
        // Whoever held the permit before may have derived the same.
        if let Some(keys) = self.kept(id) {
            return Ok((id, keys));
        }
        let password = prepare(password.expose_secret());
        let salt = salt.to_vec();
        let derived = tokio::task::spawn_blocking(move || {
            let keys = Keys::derive(&password, &salt, iterations);
            drop(permit);
            keys
        });
        let keys = derived.await.map_err(|_cut_off| Error::Derivation)?;
        Ok((id, Arc::new(keys)))
    }

    /// Keeps keys that a server has proved, or that are of a password of our own.
    pub(in super::super) fn keep(&self, id: Id, keys: Arc<Keys>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.put(id, keys);
    }

    /// Notes that the server at this place has proved that it knows the password.
    pub(super) fn proved(&self, place: &[&[u8]], password: &Secret) {
        let id = self.place(place, password);
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        proved.put(id, ());
    }

    /// Whether it has.
    pub(super) fn has_proved(&self, place: &[&[u8]], password: &Secret) -> bool {
        let id = self.place(place, password);
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        proved.get(&id).is_some()
    }

    /// Forgets who has proved what: the configuration was read again.
    pub(super) fn forget(&self) {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        proved.clear();
    }

    fn place(&self, place: &[&[u8]], password: &Secret) -> Id {
        let password = password.expose_secret().as_bytes();
        let parts: Vec<&[u8]> = [b"place".as_slice(), password]
            .into_iter()
            .chain(place.iter().copied())
            .collect();
        Id(self.digest(&parts))
    }

    fn kept(&self, id: Id) -> Option<Arc<Keys>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&id).map(Arc::clone)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// What tells one credential from another, and nothing else of it.
    pub(super) fn credential(&self, password: Option<&Secret>) -> [u8; 32] {
        let password = password.map(|password| password.expose_secret().as_bytes());
        match password {
            Some(password) => self.digest(&[b"credential", password]),
            None => self.digest(&[b"none"]),
        }
    }

    fn id(&self, user: &str, password: &Secret, salt: &[u8], iterations: NonZeroU32) -> Id {
        let password = password.expose_secret().as_bytes();
        let iterations = iterations.get().to_be_bytes();
        Id(self.digest(&[b"keys", user.as_bytes(), password, salt, &iterations]))
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.digest);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut digest = [0; 32];
        for (digest, byte) in digest.iter_mut().zip(tag.as_ref()) {
            *digest = *byte;
        }
        digest
    }
}

#[cfg(test)]
mod tests;

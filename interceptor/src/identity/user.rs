//! Names of users, as the host's name service knows them (getpwuid_r(3)), kept for a minute.
//!
//! A name service that fails is an error, not a user without a name: a rule may forbid by name.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use nix::unistd::{Uid, User};

use super::Error;
use crate::clock::{self, BootTime};

/// How long a name is kept.
const TTL: Duration = Duration::from_secs(60);
/// Names that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// The names.
#[derive(Debug)]
pub(super) struct Names {
    kept: Mutex<LruCache<u32, (BootTime, Option<String>)>>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(KEPT)),
        }
    }
}

impl Names {
    /// The login name. May block on the network, where the host's users are kept there.
    pub(super) fn of(&self, uid: u32) -> Result<Option<String>, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, name)) = kept().get(&uid)
            && clock::boot().since(*at) < TTL
        {
            return Ok(name.clone());
        }
        let user = User::from_uid(Uid::from_raw(uid)).map_err(|errno| Error::User {
            uid,
            cause: Arc::new(errno.into()),
        })?;
        let name = user.map(|user| user.name);
        kept().put(uid, (clock::boot(), name.clone()));
        Ok(name)
    }
}

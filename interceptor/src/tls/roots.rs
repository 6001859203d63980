//! How each target is verified, and what it is shown: read from its files once for all its dials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Error, Upstream};
use crate::clock::{self, BootTime};
use crate::config::{Target, UpstreamTls};
use crate::secrets::Secret;

/// How long roots read from disk are used: a rotated file counts after this.
const ROOTS_FOR: Duration = Duration::from_secs(60);

/// What was read, by target.
#[derive(Debug, Default)]
pub struct Roots {
    /// Held by whoever reads a target's files, on a thread that may wait for them: nobody else needs to
    /// read them meanwhile, and no other target waits.
    known: Mutex<HashMap<String, Held>>,
}

type Held = Arc<tokio::sync::Mutex<Option<Known>>>;

#[derive(Debug)]
struct Known {
    made_from: UpstreamTls,
    /// Digest of the client certificate's key.
    key: Option<Vec<u8>>,
    made: BootTime,
    tls: Arc<Upstream>,
}

impl Roots {
    /// Gives up what stands on a configuration that a reload has replaced.
    pub fn forget(&self) {
        self.known().clear();
    }

    /// How a target is verified, and what we show it: made anew after a while and at each change. A
    /// certificate whose key is not the one beside it is one that is being rotated: the one before
    /// stays in use.
    ///
    /// # Errors
    /// Where its files cannot be used, or not be read in time.
    pub async fn of(
        &self,
        target: &Arc<Target>,
        key: Option<Secret>,
    ) -> Result<Arc<Upstream>, String> {
        let of = |key: &Secret| digest::digest(&SHA256, key.expose_secret().as_bytes());
        let digest = key.as_ref().map(|key| of(key).as_ref().to_vec());
        let held = Arc::clone(self.known().entry(target.name.clone()).or_default());
        let (patience, target) = (target.timeouts.dial, Arc::clone(target));
        let made = timeout(patience, async move {
            let mut known = held.lock_owned().await;
            let fresh = known
                .as_ref()
                .and_then(|known| known.fresh(&target, digest.as_deref()));
            if let Some(fresh) = fresh {
                return Ok(fresh);
            }
            let made =
                spawn_blocking(move || Known::anew(&mut known, &target, key.as_ref(), digest));
            match made.await {
                Ok(made) => made.map_err(|error| error.to_string()),
                Err(stopped) => Err(stopped.to_string()),
            }
        });
        let made = made.await;
        made.unwrap_or_else(|_elapsed| Err("its files could not be read in time".to_owned()))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn fresh(&self, target: &Target, key: Option<&[u8]>) -> Option<Arc<Upstream>> {
        let fresh = self.made_from == target.tls
            && self.key.as_deref() == key
            && clock::boot().since(self.made) < ROOTS_FOR;
        fresh.then(|| Arc::clone(&self.tls))
    }

    /// Reads the files; what was `known` of them before is replaced, or stays in use.
    fn anew(
        known: &mut Option<Self>,
        target: &Target,
        key: Option<&Secret>,
        digest: Option<Vec<u8>>,
    ) -> Result<Arc<Upstream>, Error> {
        let now = clock::boot();
        let before = known.as_ref().filter(|known| known.made_from == target.tls);
        let tls = match (Upstream::new(&target.tls, key), before) {
            // What waits was verified with the same.
            (Ok(tls), Some(before)) if before.key == digest && before.tls.is_same(&tls) => {
                Arc::clone(&before.tls)
            }
            (Err(error @ Error::Identity { .. }), Some(before)) => {
                let target = &target.name;
                tracing::warn!(%error, %target, "the client certificate of before is still used");
                return Ok(Arc::clone(&before.tls));
            }
            (made, _) => Arc::new(made?),
        };
        *known = Some(Self {
            made_from: target.tls.clone(),
            key: digest,
            made: now,
            tls: Arc::clone(&tls),
        });
        Ok(tls)
    }
}

//! Refresh tokens (RFC 6749 section 6). Where a server gives another one each time, the newest is on disk before the
//! token that came with it is used: the one before is good no more, and whoever brings it may lose all of them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{OptionalExtension as _, params};
use secrecy::ExposeSecret as _;
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use crate::config::Client;
use crate::secrets::Secret;
use crate::state::{self, State};

const SCHEMA: &str = "\
create table if not exists refresh (
    client text not null,
    first text not null,
    token text not null,
    primary key (client, first)
) strict;
";
/// Grants that are remembered: more than a configuration has.
const MOST: usize = 1_024;

/// How a grant has begun: who has it, and with which token. A configuration with a new one begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    client: String,
    first: String,
}

impl Begun {
    pub(super) fn with(client: &Client, first: &Secret) -> Self {
        let hash = |text: &str| hex::encode(digest(&SHA256, text.as_bytes()));
        Self {
            client: hash(&format!("{}\n{}", client.url.text, client.id)),
            first: hash(first.expose_secret()),
        }
    }
}

/// The newest token of a grant, once it is known.
type Newest = Arc<tokio::sync::Mutex<Option<Secret>>>;

/// The newest token of each grant.
#[derive(Debug)]
pub(super) struct Refreshes {
    file: State,
    known: Mutex<Vec<(Begun, Newest)>>,
}

impl Refreshes {
    /// Opens or makes the file.
    pub(super) fn open(file: &Path) -> Result<Self, state::Error> {
        let (file, ()) = State::open("refresh tokens", file, &[SCHEMA], |_| Ok(()))?;
        Ok(Self {
            file,
            known: Mutex::default(),
        })
    }

    /// The token to use, for one user at a time.
    ///
    /// # Errors
    /// Where it cannot be known whether there is a newer one.
    pub(super) async fn newest(
        &self,
        begun: &Begun,
        first: Secret,
    ) -> Result<OwnedMutexGuard<Option<Secret>>, String> {
        let mut newest = self.slot(begun).lock_owned().await;
        if newest.is_none() {
            let asked = begun.clone();
            let found = self.file.look(move |database| {
                let query = "select token from refresh where client = ?1 and first = ?2";
                let of = params![asked.client, asked.first];
                let row = database.query_row(query, of, |row| row.get::<_, String>(0));
                Ok(row.optional()?.map(Secret::from))
            });
            let found = found.await.map_err(|error| error.to_string())?;
            *newest = Some(found.unwrap_or(first));
        }
        Ok(newest)
    }

    /// Keeps a newer one. Where it cannot be written, it is good for as long as the daemon runs.
    pub(super) async fn keep(
        &self,
        begun: &Begun,
        newest: &mut OwnedMutexGuard<Option<Secret>>,
        token: Secret,
    ) {
        let (of, text) = (
            begun.clone(),
            Zeroizing::new(token.expose_secret().to_owned()),
        );
        **newest = Some(token);
        let kept = self.file.write(move |database| {
            let replace = "insert or replace into refresh values (?1, ?2, ?3)";
            database.execute(replace, params![of.client, of.first, *text])
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "a new refresh token is lost when the daemon ends");
        }
    }

    fn slot(&self, begun: &Begun) -> Newest {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, newest)) = known.iter().find(|(one, _)| one == begun) {
            return Arc::clone(newest);
        }
        if known.len() >= MOST {
            known.remove(0);
        }
        let newest = Newest::default();
        known.push((begun.clone(), Arc::clone(&newest)));
        newest
    }
}

#[cfg(test)]
mod tests;

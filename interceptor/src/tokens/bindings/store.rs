//! Where bindings outlive the daemon: each is on disk before it is in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::Binding;
use crate::clock::{self, BootTime};
use crate::state::{State, unwritable};
use crate::tokens::Error;

/// How long after its end a token is remembered, in seconds: its issuer's clock may be off, and ours set back.
const REMEMBERED: i64 = 7 * 86_400;

const SCHEMA: &str = "\
create table if not exists tokens (
    issuer text not null,
    token text not null,
    boot text not null,
    scope integer not null,
    ends integer not null,
    primary key (issuer, token)
) strict;
create table if not exists bindings (
    scope integer primary key,
    boot text not null,
    token text not null,
    record text not null
) strict;
";

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    file: State,
    boot: Arc<str>,
}

impl Store {
    /// Opens or makes the file; also gives the bindings of this boot.
    pub(super) fn open(file: &Path) -> Result<(Self, Vec<Binding>), Error> {
        let failed = |cause: String| Error::Store(format!("{}: {cause}", file.display()));
        let boot = clock::boot_id().map_err(|error| failed(error.to_string()))?;
        let opened = State::open("identities", file, &[SCHEMA], |file| load(file, &boot));
        let (file, kept) = opened.map_err(|error| Error::Store(error.to_string()))?;
        let boot = Arc::from(boot);
        Ok((Self { file, boot }, kept))
    }

    /// For which scope a token was used, if for any. A scope of another boot is another one.
    pub(super) async fn used_for(&self, issuer: &str, token: &str) -> Result<Option<u64>, Error> {
        let (issuer, token) = (issuer.to_owned(), token.to_owned());
        self.with(move |database, boot| {
            let row = database.query_row(
                "select scope, boot from tokens where issuer = ?1 and token = ?2",
                params![issuer, token],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
            );
            Ok(row.optional()?.map(|(scope, then)| match then == boot {
                true => scope.cast_unsigned(),
                false => 0,
            }))
        })
        .await
    }

    /// Keeps that a token is used for a scope; false where it was used before, so that it must not be.
    pub(super) async fn use_up(
        &self,
        (issuer, token): (&str, &str),
        scope: u64,
        ends: jiff::Timestamp,
        once: bool,
    ) -> Result<bool, Error> {
        let (issuer, token) = (issuer.to_owned(), token.to_owned());
        self.with(move |database, boot| {
            let of = (boot, scope.cast_signed(), ends.as_second());
            use_for(database, (&issuer, &token), of, once)
        })
        .await
    }

    /// Keeps that a scope is bound, and its token used; false where that was used for another scope meanwhile,
    /// so that nothing is kept.
    pub(super) async fn bound(&self, binding: &Binding) -> Result<bool, Error> {
        let binding = binding.clone();
        self.with(move |database, boot| {
            let record = serde_json::to_string(&binding).map_err(unwritable)?;
            let scope = binding.scope.cast_signed();
            let identity = &binding.identity;
            let ends = identity.expires.as_second();
            let named = (identity.issuer.as_str(), binding.token.as_str());
            if !use_for(database, named, (boot, scope, ends), false)? {
                return Ok(false);
            }
            database.execute(
                "insert or replace into bindings values (?1, ?2, ?3, ?4)",
                params![scope, boot, binding.token, record],
            )?;
            Ok(true)
        })
        .await
    }

    /// Keeps that a binding has ended; not that of a fresh token that came meanwhile.
    pub(super) async fn ended(&self, binding: &Arc<Binding>) -> Result<(), Error> {
        let binding = Arc::clone(binding);
        self.with(move |database, _boot| {
            database.execute(
                "delete from bindings where scope = ?1 and token = ?2",
                params![binding.scope.cast_signed(), binding.token],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets tokens that nobody could bring any more.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        self.with(|database, _boot| prune(database)).await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let boot = Arc::clone(&self.boot);
        let done = self.file.write(move |transaction| work(transaction, &boot));
        done.await.map_err(|error| Error::Store(error.to_string()))
    }
}

/// Writes that a token is used for a scope; false where it was used before: for another one, or at all where it
/// is good for `once`.
fn use_for(
    database: &Transaction<'_>,
    (issuer, token): (&str, &str),
    (boot, scope, ends): (&str, i64, i64),
    once: bool,
) -> rusqlite::Result<bool> {
    let new = database.execute(
        "insert or ignore into tokens values (?1, ?2, ?3, ?4, ?5)",
        params![issuer, token, boot, scope, ends],
    )?;
    if new == 1 || once {
        return Ok(new == 1);
    }
    database.query_row(
        "select scope = ?3 and boot = ?4 from tokens where issuer = ?1 and token = ?2",
        params![issuer, token, scope, boot],
        |row| row.get(0),
    )
}

/// Forgets tokens that nobody could bring any more.
fn prune(database: &Transaction<'_>) -> rusqlite::Result<()> {
    let oldest = clock::wall().as_second().saturating_sub(REMEMBERED);
    database.execute("delete from tokens where ends < ?1", params![oldest])?;
    Ok(())
}

fn load(database: &Transaction<'_>, boot: &str) -> rusqlite::Result<Vec<Binding>> {
    prune(database)?;
    database.execute("delete from bindings where boot <> ?1", params![boot])?;
    let mut all = database.prepare("select record from bindings")?;
    let rows = all.query_map([], |row| row.get::<_, String>(0))?;
    let mut kept = Vec::new();
    for row in rows {
        let binding: Binding = serde_json::from_str(&row?).map_err(unwritable)?;
        kept.push(binding);
    }
    Ok(kept)
}

/// How long after now, in boot time.
pub(in crate::tokens) fn after(seconds: i64) -> BootTime {
    clock::boot().after(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

//! Where bindings outlive the daemon: each is on disk before it is in force.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::Binding;
use crate::clock::{self, BootTime};
use crate::state::{self, InSql, Over, Rows, Sqlite, unwritable};
use crate::tokens::Error;

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

/// What happens to tokens and scopes.
#[derive(Debug)]
pub(super) enum Change {
    /// A token is used.
    Used {
        /// Its issuer, and its name.
        token: (String, String),
        /// For which scope.
        scope: u64,
        /// When it ends, in seconds by the wall clock.
        ends: i64,
        /// Whether it is good for one use alone.
        once: bool,
    },
    /// A scope is bound, by a token that is used for it.
    Bound(Box<Binding>),
    /// A binding has ended; not that of a fresh token that came meanwhile.
    Ended(Arc<Binding>),
}

/// Tokens and bindings as rows.
#[derive(Debug)]
pub(super) enum Identities {}

impl Rows for Identities {
    type Change = Change;
    /// Whether the token may be used so; nothing is kept where it may not.
    type Answer = bool;
    /// An issuer, and a token's name.
    type Question = (String, String);
    /// For which scope it was used.
    type Found = Option<u64>;
}

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Store(Box<dyn state::Store<Identities>>);

impl Store {
    /// Opens or makes the file; also gives the bindings of this boot.
    pub(super) fn open(file: &Path) -> Result<(Self, Vec<Binding>), Error> {
        let (rows, kept) = Sqlite::open(file).map_err(failed)?;
        Ok((Self(Box::new(rows)), kept))
    }

    /// For which scope a token was used, if for any. A scope of another boot is another one.
    pub(super) async fn used_for(&self, issuer: &str, token: &str) -> Result<Option<u64>, Error> {
        let named = (issuer.to_owned(), token.to_owned());
        self.0.look(named).await.map_err(failed)
    }

    /// Keeps that a token is used for a scope; false where it was used before, so that it must not be.
    pub(super) async fn use_up(
        &self,
        (issuer, token): (&str, &str),
        scope: u64,
        ends: jiff::Timestamp,
        once: bool,
    ) -> Result<bool, Error> {
        let used = Change::Used {
            token: (issuer.to_owned(), token.to_owned()),
            scope,
            ends: ends.as_second(),
            once,
        };
        self.0.keep(used).await.map_err(failed)
    }

    /// Keeps that a scope is bound, and its token used; false where that was used for another scope meanwhile,
    /// so that nothing is kept.
    pub(super) async fn bound(&self, binding: &Binding) -> Result<bool, Error> {
        let bound = Change::Bound(Box::new(binding.clone()));
        self.0.keep(bound).await.map_err(failed)
    }

    /// Keeps that a binding has ended; not that of a fresh token that came meanwhile.
    pub(super) async fn ended(&self, binding: &Arc<Binding>) -> Result<(), Error> {
        let ended = Change::Ended(Arc::clone(binding));
        self.0.keep(ended).await.map(drop).map_err(failed)
    }

    /// Forgets tokens that nobody could bring any more.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        self.0.prune().await.map_err(failed)
    }
}

fn failed(error: state::Error) -> Error {
    Error::Store(error.to_string())
}

impl InSql for Identities {
    const NAME: &'static str = "identities";
    const VERSIONS: &'static [&'static str] = &[SCHEMA];
    // A token is remembered for so long after its end: its issuer's clock may be off, and ours set back.
    const OVER: &'static [Over] = &[Over {
        table: "tokens",
        which: "true",
        since: "ends",
        days: 7,
        most: None,
    }];
    type Kept = Vec<Binding>;

    fn load(file: &Transaction<'_>, boot: &str) -> rusqlite::Result<Vec<Binding>> {
        file.execute("delete from bindings where boot <> ?1", params![boot])?;
        let mut all = file.prepare("select record from bindings")?;
        let rows = all.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| serde_json::from_str(&row?).map_err(unwritable))
            .collect()
    }

    fn change(file: &Transaction<'_>, boot: &str, change: Change) -> rusqlite::Result<bool> {
        match change {
            Change::Used {
                token: (issuer, token),
                scope,
                ends,
                once,
            } => {
                let of = (boot, scope.cast_signed(), ends);
                use_for(file, (&issuer, &token), of, once)
            }
            Change::Bound(binding) => bound(file, boot, &binding),
            Change::Ended(binding) => {
                let named = params![binding.scope.cast_signed(), binding.token];
                let ended = "delete from bindings where scope = ?1 and token = ?2";
                file.execute(ended, named).map(|_count| true)
            }
        }
    }

    fn look(
        file: &Transaction<'_>,
        boot: &str,
        (issuer, token): (String, String),
    ) -> rusqlite::Result<Option<u64>> {
        let row = file.query_row(
            "select scope, boot from tokens where issuer = ?1 and token = ?2",
            params![issuer, token],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        );
        Ok(row.optional()?.map(|(scope, then)| match then == boot {
            true => scope.cast_unsigned(),
            false => 0,
        }))
    }
}

fn bound(file: &Transaction<'_>, boot: &str, binding: &Binding) -> rusqlite::Result<bool> {
    let record = serde_json::to_string(binding).map_err(unwritable)?;
    let scope = binding.scope.cast_signed();
    let identity = &binding.identity;
    let ends = identity.expires.as_second();
    let named = (identity.issuer.as_str(), binding.token.as_str());
    if !use_for(file, named, (boot, scope, ends), false)? {
        return Ok(false);
    }
    file.execute(
        "insert or replace into bindings values (?1, ?2, ?3, ?4)",
        params![scope, boot, binding.token, record],
    )?;
    Ok(true)
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

/// How long after now, in boot time.
pub(in crate::tokens) fn after(seconds: i64) -> BootTime {
    clock::boot().after(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

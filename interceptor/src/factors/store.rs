//! Where keys outlive the daemon.

use std::convert::Infallible;
use std::path::Path;

use rusqlite::{Transaction, params};

use super::{Bytes, Key};
use crate::state::{self, InSql, Over, Rows, Sqlite, unwritable};

const SCHEMA: &str = "\
create table keys (
    id text primary key,
    record text not null
) strict;
";

const SAVE: &str = "\
insert into keys (id, record) values (?1, ?2) on conflict (id) do update set record = excluded.record";

/// What happens to keys.
#[derive(Debug)]
pub(super) enum Change {
    /// One is as it is now.
    Saved(Box<Key>),
    /// One is gone.
    Removed(Bytes),
}

/// The keys as rows.
#[derive(Debug)]
pub(super) enum Keys {}

impl Rows for Keys {
    type Change = Change;
    type Answer = ();
    type Question = Infallible;
    type Found = Infallible;
}

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Store(Box<dyn state::Store<Keys>>);

impl Store {
    /// Opens or makes the file; also gives the keys in it.
    pub(super) fn open(file: &Path) -> Result<(Self, Vec<Key>), state::Error> {
        let (rows, keys) = Sqlite::open(file)?;
        Ok((Self(Box::new(rows)), keys))
    }

    /// Keeps a key as it is now.
    pub(super) async fn save(&self, key: &Key) -> Result<(), state::Error> {
        self.0.keep(Change::Saved(Box::new(key.clone()))).await
    }

    /// Forgets a key.
    pub(super) async fn remove(&self, id: &Bytes) -> Result<(), state::Error> {
        self.0.keep(Change::Removed(id.clone())).await
    }
}

impl InSql for Keys {
    const NAME: &'static str = "second factors";
    const VERSIONS: &'static [&'static str] = &[SCHEMA];
    // A key counts until it is taken away.
    const OVER: &'static [Over] = &[];
    type Kept = Vec<Key>;

    fn load(file: &Transaction<'_>, _boot: &str) -> rusqlite::Result<Vec<Key>> {
        let mut statement = file.prepare("select record from keys order by rowid")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        // What cannot be read is no key of anybody's, and no reason to let somebody in without.
        rows.map(|row| serde_json::from_str(&row?).map_err(unwritable))
            .collect()
    }

    fn change(file: &Transaction<'_>, _boot: &str, change: Change) -> rusqlite::Result<()> {
        let made = match change {
            Change::Saved(key) => {
                let record = serde_json::to_string(&key).map_err(unwritable)?;
                file.execute(SAVE, params![key.id.shown(), record])
            }
            Change::Removed(id) => {
                file.execute("delete from keys where id = ?1", params![id.shown()])
            }
        };
        made.map(drop)
    }

    fn look(
        _file: &Transaction<'_>,
        _boot: &str,
        none: Infallible,
    ) -> rusqlite::Result<Infallible> {
        match none {}
    }
}

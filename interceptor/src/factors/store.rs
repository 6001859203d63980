//! Where keys outlive the daemon.

use std::path::Path;

use rusqlite::{Transaction, params};

use super::{Bytes, Key};
use crate::state::{self, State as File, unwritable};

const SCHEMA: &str = "\
create table keys (
    id text primary key,
    record text not null
) strict;
";

const SAVE: &str = "\
insert into keys (id, record) values (?1, ?2) on conflict (id) do update set record = excluded.record";

/// The file.
#[derive(Debug)]
pub(super) struct Store(File);

impl Store {
    /// Opens or makes the file; also gives the keys in it.
    pub(super) fn open(file: &Path) -> Result<(Self, Vec<Key>), state::Error> {
        let (file, keys) = File::open("second factors", file, &[SCHEMA], load)?;
        Ok((Self(file), keys))
    }

    /// Keeps a key as it is now.
    pub(super) async fn save(&self, key: &Key) -> Result<(), state::Error> {
        let id = key.id.shown();
        let record = serde_json::to_string(key);
        let saves = move |database: &Transaction<'_>| {
            database
                .execute(SAVE, params![id, record.map_err(unwritable)?])
                .map(drop)
        };
        self.0.write(saves).await
    }

    /// Forgets a key.
    pub(super) async fn remove(&self, id: &Bytes) -> Result<(), state::Error> {
        let id = id.shown();
        let removes = move |database: &Transaction<'_>| {
            database
                .execute("delete from keys where id = ?1", params![id])
                .map(drop)
        };
        self.0.write(removes).await
    }
}

fn load(database: &Transaction<'_>) -> rusqlite::Result<Vec<Key>> {
    let mut statement = database.prepare("select record from keys order by rowid")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    // What cannot be read is no key of anybody's, and no reason to let somebody in without.
    rows.map(|row| serde_json::from_str(&row?).map_err(unwritable))
        .collect()
}

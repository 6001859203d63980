//! The keys of SSH servers that were believed when they were first seen, as long as nobody pins them:
//! a server that shows another one later is not spoken to, whoever restarts what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Transaction, params};

use crate::state::{Error, State};

const FILE: &str = "hosts.db";
const SCHEMA: &str = "\
create table hosts (
    target text not null,
    address text not null,
    key text not null,
    primary key (target, address)
) strict;
";

type Known = BTreeMap<(String, String), String>;

/// What was learned.
#[derive(Debug)]
pub struct Hosts {
    file: State,
    known: Mutex<Known>,
}

impl Hosts {
    /// Opens or makes the file below the state directory. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read or made.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let (file, known) = State::open("hosts", &state.join(FILE), &[SCHEMA], load)?;
        Ok(Self {
            file,
            known: Mutex::new(known),
        })
    }

    /// The key that a target's server was known by, in OpenSSH's form.
    #[must_use]
    pub fn of(&self, target: &str, address: SocketAddr) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&name(target, address)).cloned()
    }

    /// Keeps a key that was seen first; on disk when this answers.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn learn(&self, target: &str, address: SocketAddr, key: &str) -> Result<(), Error> {
        let (name, key) = (name(target, address), key.to_owned());
        let row = (name.clone(), key.clone());
        let written = self.file.write(move |database| {
            let ((target, address), key) = row;
            database.execute(
                "insert or ignore into hosts values (?1, ?2, ?3)",
                params![target, address, key],
            )
        });
        written.await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(name).or_insert(key);
        Ok(())
    }
}

fn name(target: &str, address: SocketAddr) -> (String, String) {
    (target.to_owned(), address.to_string())
}

fn load(database: &Transaction<'_>) -> rusqlite::Result<Known> {
    let mut all = database.prepare("select target, address, key from hosts")?;
    let rows = all.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_key_stays_whoever_starts_again() {
        let directory = tempfile::tempdir().unwrap();
        let at = SocketAddr::from(([10, 0, 0, 1], 22));
        let hosts = Hosts::open(directory.path()).unwrap();
        assert_eq!(hosts.of("web", at), None);
        hosts.learn("web", at, "one").await.unwrap();
        hosts.learn("web", at, "two").await.unwrap();
        assert_eq!(hosts.of("web", at).as_deref(), Some("one"));
        drop(hosts);
        let hosts = Hosts::open(directory.path()).unwrap();
        assert_eq!(hosts.of("web", at).as_deref(), Some("one"));
        assert_eq!(hosts.of("other", at), None);
    }
}

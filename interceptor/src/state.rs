//! What outlives the daemon: one SQLite file each, written by one thread.
//!
//! Whatever is told waits until it is on disk (`synchronous = FULL` under a write-ahead log, SQLite
//! documentation "PRAGMA synchronous"); what is told while the disk is busy goes into the next
//! transaction together.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;
use tokio::sync::oneshot;

/// Changes that wait for the disk at most; who brings more is refused.
const WAITING: usize = 1_024;

/// What can go wrong with a file of state.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be opened or read.
    #[error("cannot open {path}: {cause}")]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        cause: String,
    },
    /// It cannot be written.
    #[error("cannot write {name}: {cause}")]
    Write {
        /// What the file is called.
        name: &'static str,
        /// Why.
        cause: String,
    },
}

type Change = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send>;

struct Told {
    change: Change,
    done: oneshot::Sender<Result<(), String>>,
}

/// One file, behind its thread.
pub struct State {
    name: &'static str,
    told: mpsc::SyncSender<Told>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("State").field(&self.name).finish()
    }
}

impl State {
    /// Opens or makes `file`; also gives what `load` makes of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open<T>(
        name: &'static str,
        file: &Path,
        load: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<(Self, T), Error> {
        let failed = |cause: String| Error::Open {
            path: file.to_owned(),
            cause,
        };
        let opened = || {
            let database = Connection::open(file)?;
            database.pragma_update(None, "journal_mode", "wal")?;
            database.pragma_update(None, "synchronous", "full")?;
            let loaded = load(&database)?;
            Ok((database, loaded))
        };
        let opened: rusqlite::Result<(Connection, T)> = opened();
        let (database, loaded) = opened.map_err(|error| failed(error.to_string()))?;
        let (told, hears) = mpsc::sync_channel(WAITING);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(name, database, &hears))
            .map_err(|error| failed(error.to_string()))?;
        Ok((Self { name, told }, loaded))
    }

    /// Makes a change; it is on disk when this answers.
    ///
    /// # Errors
    /// [`Error::Write`]: where one of what is written together cannot be, none of it is.
    pub async fn write(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let failed = |cause: String| Error::Write {
            name: self.name,
            cause,
        };
        let (done, answer) = oneshot::channel();
        let change = Box::new(change);
        let full = |_error| failed("too much waits for the disk".to_owned());
        self.told.try_send(Told { change, done }).map_err(full)?;
        let gone = |_error| failed("its thread has ended".to_owned());
        answer.await.map_err(gone)?.map_err(failed)
    }
}

/// Writes what is told, all that waits in one transaction, until nobody is left to tell.
fn run(name: &'static str, mut database: Connection, hears: &mpsc::Receiver<Told>) {
    while let Ok(first) = hears.recv() {
        let all: Vec<_> = std::iter::once(first).chain(hears.try_iter()).collect();
        let (changes, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().map(|told| (told.change, told.done)).unzip();
        let written = write(&mut database, changes);
        if let Err(error) = &written {
            tracing::error!(%error, name, "cannot write state");
        }
        for done in waiting {
            let answer = written.as_ref().copied().map_err(ToString::to_string);
            // Whoever has gone away does not want to know.
            drop(done.send(answer));
        }
    }
}

fn write(database: &mut Connection, changes: Vec<Change>) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        change(&transaction)?;
    }
    transaction.commit()
}

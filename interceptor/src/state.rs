//! What outlives the daemon: one SQLite file each, written by one thread.
//!
//! Whatever is told waits until it is on disk (`synchronous = FULL` under a write-ahead log, SQLite
//! documentation "PRAGMA synchronous"); what is told while the disk is busy goes into the next
//! transaction together.

mod owed;
mod store;

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;
use tokio::sync::oneshot;

pub use self::owed::Owed;
pub use self::store::{Answered, InSql, Over, Rows, Sqlite, Store};

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
    #[error("cannot write the {name}: {cause}")]
    Write {
        /// What the file holds.
        name: &'static str,
        /// Why.
        cause: String,
    },
    /// There is no room for what was to be written.
    #[error("cannot write the {name}: {cause}")]
    NoRoom {
        /// What the file holds.
        name: &'static str,
        /// Why.
        cause: String,
    },
}

/// Why a change was not written.
#[derive(Clone)]
struct Unwritten {
    cause: String,
    /// Whether it is about the disk, which a quota may fill as well (`unixWrite` in SQLite's `os_unix.c`).
    no_room: bool,
}

impl From<&rusqlite::Error> for Unwritten {
    fn from(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        let code = error.sqlite_error_code();
        Self {
            cause: error.to_string(),
            no_room: matches!(code, Some(DiskFull | SystemIoFailure)),
        }
    }
}

type Change = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send>;

struct Told {
    change: Change,
    /// Absent where nobody waits for it.
    done: Option<oneshot::Sender<Result<(), Unwritten>>>,
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
    /// Opens or makes `file`, brings it to the newest of `versions` (each what it adds to the one before, its
    /// number is SQLite's `user_version`), and gives what `load` makes of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open<T>(
        name: &'static str,
        file: &Path,
        versions: &[&str],
        load: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<(Self, T), Error> {
        let failed = |cause: String| Error::Open {
            path: file.to_owned(),
            cause,
        };
        private(file).map_err(|error| failed(error.to_string()))?;
        let opened = opened(file, versions, load);
        let (database, loaded) = opened.map_err(|error| failed(error.to_string()))?;
        let (told, hears) = mpsc::sync_channel(WAITING);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(name, database, &hears))
            .map_err(|error| failed(error.to_string()))?;
        Ok((Self { name, told }, loaded))
    }

    /// Makes a change; it is on disk when this answers. Goes on where nobody waits any more.
    ///
    /// # Errors
    /// [`Error::Write`] and [`Error::NoRoom`]: where one of what is written together cannot be, none of it is.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (found, finds) = oneshot::channel();
        let (done, answer) = oneshot::channel();
        let change = Box::new(move |transaction: &Transaction<'_>| {
            // Whoever has gone away does not want to know.
            drop(found.send(change(transaction)?));
            Ok(())
        });
        let done = Some(done);
        let full = |_error| self.failed("too much waits for the disk");
        self.told.try_send(Told { change, done }).map_err(full)?;
        let gone = |_error| self.failed("its thread has ended");
        let written = answer.await.map_err(gone)?;
        written.map_err(|Unwritten { cause, no_room }| match no_room {
            true => Error::NoRoom {
                name: self.name,
                cause,
            },
            false => self.failed(&cause),
        })?;
        finds.await.map_err(gone)
    }

    /// Looks at what is there after all that was told before. What cannot be read is a matter of who asked alone:
    /// the changes that are written together with it are kept.
    ///
    /// # Errors
    /// [`Error::Write`]: it cannot be read, or what was told before cannot be written.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let found = self.write(move |transaction| Ok(look(transaction))).await?;
        found.map_err(|error| self.failed(&error.to_string()))
    }

    /// Makes a change that nobody waits for; whether it will be tried.
    pub fn write_later(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> bool {
        let change = Box::new(change);
        self.told.try_send(Told { change, done: None }).is_ok()
    }

    fn failed(&self, cause: &str) -> Error {
        Error::Write {
            name: self.name,
            cause: cause.to_owned(),
        }
    }
}

/// What JSON cannot say or hold, as an error of the file that it stands in.
#[must_use]
pub fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Sees that the file, made where there is none, is nobody else's to read: it holds what was asked with its
/// values. What SQLite makes beside it gets the same mode.
fn private(file: &Path) -> std::io::Result<()> {
    let mode = 0o600;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(mode);
    options.open(file)?;
    let beside = ["", "-wal", "-shm"].map(|end| format!("{}{end}", file.display()));
    for file in beside {
        match fs::set_permissions(file, Permissions::from_mode(mode)) {
            // Whoever had the file before takes what is beside it away as it closes.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            set => set?,
        }
    }
    Ok(())
}

fn opened<T>(
    file: &Path,
    versions: &[&str],
    load: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(Connection, T)> {
    let mut database = Connection::open(file)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    migrate(&transaction, versions)?;
    let loaded = load(&transaction)?;
    transaction.commit()?;
    Ok((database, loaded))
}

/// Brings the file to the newest version.
fn migrate(transaction: &Transaction<'_>, versions: &[&str]) -> rusqlite::Result<()> {
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = i64::try_from(versions.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            "it was written by a newer version of this program".into(),
        ));
    }
    let version = usize::try_from(version).unwrap_or(0);
    for step in versions.iter().skip(version) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", newest)
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
        for done in waiting.into_iter().flatten() {
            let answer = written.as_ref().copied().map_err(Unwritten::from);
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

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

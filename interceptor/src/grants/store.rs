//! Where grants outlive the daemon: one SQLite file, written by one thread.
//!
//! Whatever is told waits until it is on disk (`synchronous = FULL` under a write-ahead log, SQLite
//! documentation "PRAGMA synchronous"); what is told while the disk is busy goes into the next
//! transaction together. Times are boot times: rows of an earlier boot are ended when the file is opened.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Ended, Error, Grant};
use crate::clock;
use crate::policy::GrantId;

/// Changes that wait for the disk at most; whoever brings more waits.
const WAITING: usize = 1_024;
/// How long ended grants are kept for whoever looks back.
const KEPT_DAYS: i64 = 30;

const SCHEMA: &str = "\
create table if not exists grants (
    id text primary key,
    boot text not null,
    record text not null,
    uses integer,
    used integer not null default 0,
    ended text,
    ended_at text
) strict;
create index if not exists live on grants (boot) where ended is null;
";

/// The file, behind its thread.
#[derive(Debug)]
pub(super) struct Store {
    changes: mpsc::SyncSender<Change>,
}

#[derive(Debug)]
struct Change {
    what: What,
    done: oneshot::Sender<Result<(), String>>,
}

#[derive(Debug)]
enum What {
    Issued(Box<Grant>),
    Used(Vec<GrantId>),
    Ended(GrantId, Ended),
}

impl Store {
    /// Opens or makes the file; also gives the grants that live on, and how often each was used.
    pub(super) fn open(file: &Path) -> Result<(Self, Vec<(Grant, u64)>), Error> {
        let failed = |cause: String| Error::Open {
            path: file.to_owned(),
            cause,
        };
        let boot = clock::boot_id().map_err(|error| failed(error.to_string()))?;
        let (database, kept) = open(file, &boot).map_err(|error| failed(error.to_string()))?;
        let (changes, told) = mpsc::sync_channel(WAITING);
        thread::Builder::new()
            .name("grants".to_owned())
            .spawn(move || run(database, &boot, &told))
            .map_err(|error| failed(error.to_string()))?;
        Ok((Self { changes }, kept))
    }

    pub(super) async fn issue(&self, grant: &Grant) -> Result<(), Error> {
        self.tell(What::Issued(Box::new(grant.clone()))).await
    }

    pub(super) async fn used(&self, grants: Vec<GrantId>) -> Result<(), Error> {
        self.tell(What::Used(grants)).await
    }

    pub(super) async fn ended(&self, id: GrantId, why: Ended) -> Result<(), Error> {
        self.tell(What::Ended(id, why)).await
    }

    async fn tell(&self, what: What) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let full = |_error| Error::Store("too much waits for the disk".to_owned());
        self.changes.try_send(Change { what, done }).map_err(full)?;
        let gone = |_error| Error::Store("its thread has ended".to_owned());
        answer.await.map_err(gone)?.map_err(Error::Store)
    }
}

fn open(file: &Path, boot: &str) -> rusqlite::Result<(Connection, Vec<(Grant, u64)>)> {
    let database = Connection::open(file)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    database.execute_batch(SCHEMA)?;
    let now = clock::wall().to_string();
    database.execute(
        "update grants set ended = ?1, ended_at = ?2 where ended is null and boot <> ?3",
        params![Ended::Restarted.word(), now, boot],
    )?;
    database.execute(
        "delete from grants where ended_at < datetime('now', ?1)",
        params![format!("-{KEPT_DAYS} days")],
    )?;
    let kept = {
        let mut live = database.prepare("select record, used from grants where ended is null")?;
        let rows = live.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let mut kept = Vec::new();
        for row in rows {
            let (record, used): (String, i64) = row?;
            let grant = serde_json::from_str(&record)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            kept.push((grant, u64::try_from(used).unwrap_or(u64::MAX)));
        }
        kept
    };
    Ok((database, kept))
}

/// Writes what is told, all that waits in one transaction, until nobody is left to tell.
fn run(mut database: Connection, boot: &str, told: &mpsc::Receiver<Change>) {
    while let Ok(first) = told.recv() {
        let changes: Vec<_> = std::iter::once(first).chain(told.try_iter()).collect();
        let written = write(&mut database, boot, &changes);
        if let Err(error) = &written {
            tracing::error!(%error, "cannot write the grants");
        }
        for change in changes {
            let answer = written.as_ref().copied().map_err(ToString::to_string);
            // Whoever has gone away does not want to know.
            drop(change.done.send(answer));
        }
    }
}

fn write(database: &mut Connection, boot: &str, changes: &[Change]) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        match &change.what {
            What::Issued(grant) => {
                let record = serde_json::to_string(grant)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                let uses = grant
                    .uses
                    .map(|uses| i64::try_from(uses).unwrap_or(i64::MAX));
                transaction
                    .prepare_cached(
                        "insert into grants (id, boot, record, uses) values (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![name(grant.id), boot, record, uses])?;
            }
            What::Used(grants) => {
                for grant in grants {
                    transaction
                        .prepare_cached("update grants set used = used + 1 where id = ?1")?
                        .execute(params![name(*grant)])?;
                }
            }
            What::Ended(id, why) => {
                transaction
                    .prepare_cached("update grants set ended = ?1, ended_at = ?2 where id = ?3")?
                    .execute(params![why.word(), clock::wall().to_string(), name(*id)])?;
            }
        }
    }
    transaction.commit()
}

fn name(id: GrantId) -> String {
    id.0.to_string()
}

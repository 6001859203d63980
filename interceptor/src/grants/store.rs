//! Where grants outlive the daemon: one SQLite file, written by one thread.
//!
//! Whatever is told waits until it is on disk (`synchronous = FULL` under a write-ahead log, SQLite
//! documentation "PRAGMA synchronous"); what is told while the disk is busy goes into the next
//! transaction together. Only what is given back is not waited for: where it is lost, less is left.
//! Times are boot times: rows of an earlier boot are ended when the file is opened.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Amount, Ended, Error, Grant};
use crate::clock;
use crate::policy::GrantId;

/// Changes that wait for the disk at most; whoever brings more waits.
const WAITING: usize = 1_024;
/// How long ended grants are kept for whoever looks back.
const KEPT_DAYS: i64 = 30;

/// The word of a row whose grant is about to be issued.
const PENDING: &str = "pending";

/// What each version of the file adds to the one before; its number is SQLite's `user_version`.
const VERSIONS: [&str; 2] = [FIRST, COUNTED];

const FIRST: &str = "\
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
/// Rows and bytes that were given out or are set aside.
const COUNTED: &str = "\
alter table grants add column used_rows integer not null default 0;
alter table grants add column used_bytes integer not null default 0;
";

/// The file, behind its thread.
#[derive(Debug)]
pub(super) struct Store {
    changes: mpsc::SyncSender<Change>,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Grants that live on, and what was taken of each.
    pub(super) live: Vec<(Grant, Amount)>,
    /// Those that had to end now, and why.
    pub(super) ended: Vec<(Grant, Amount, Ended)>,
}

#[derive(Debug)]
struct Change {
    what: What,
    /// Absent where nobody waits for it.
    done: Option<oneshot::Sender<Result<(), String>>>,
}

#[derive(Debug)]
enum What {
    Prepared(Box<Grant>),
    Issued(GrantId),
    Took(Vec<(GrantId, Amount)>),
    GaveBack(GrantId, Amount),
    Ended(Vec<(GrantId, Ended)>),
}

impl Store {
    /// Opens or makes the file; also gives what it holds.
    pub(super) fn open(file: &Path) -> Result<(Self, Kept), Error> {
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

    /// Keeps a grant that is not in force yet.
    pub(super) async fn prepare(&self, grant: &Grant) -> Result<(), Error> {
        self.tell(What::Prepared(Box::new(grant.clone()))).await
    }

    pub(super) async fn issue(&self, id: GrantId) -> Result<(), Error> {
        self.tell(What::Issued(id)).await
    }

    pub(super) async fn took(&self, amounts: Vec<(GrantId, Amount)>) -> Result<(), Error> {
        self.tell(What::Took(amounts)).await
    }

    /// Whether it will be kept.
    pub(super) fn gave_back(&self, id: GrantId, unused: Amount) -> bool {
        let change = Change {
            what: What::GaveBack(id, unused),
            done: None,
        };
        self.changes.try_send(change).is_ok()
    }

    pub(super) async fn ended(&self, ended: Vec<(GrantId, Ended)>) -> Result<(), Error> {
        self.tell(What::Ended(ended)).await
    }

    async fn tell(&self, what: What) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let done = Some(done);
        let full = |_error| Error::Store("too much waits for the disk".to_owned());
        self.changes.try_send(Change { what, done }).map_err(full)?;
        let gone = |_error| Error::Store("its thread has ended".to_owned());
        answer.await.map_err(gone)?.map_err(Error::Store)
    }
}

fn open(file: &Path, boot: &str) -> rusqlite::Result<(Connection, Kept)> {
    let mut database = Connection::open(file)?;
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "full")?;
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    migrate(&transaction)?;
    let now = clock::wall().to_string();
    let mut kept = Kept::default();
    let ends = [
        (Ended::Unissued, "ended = ?1", PENDING),
        (Ended::Restarted, "ended is null and boot <> ?1", boot),
    ];
    for (why, which, word) in ends {
        let ended = rows(&transaction, which, word)?.into_iter();
        kept.ended
            .extend(ended.map(|(grant, taken)| (grant, taken, why)));
        transaction.execute(
            &format!("update grants set ended = ?2, ended_at = ?3 where {which}"),
            params![word, why.word(), now],
        )?;
    }
    transaction.execute(
        "delete from grants where ended_at < datetime('now', ?1)",
        params![format!("-{KEPT_DAYS} days")],
    )?;
    kept.live = rows(&transaction, "ended is null and boot = ?1", boot)?;
    transaction.commit()?;
    Ok((database, kept))
}

/// Brings the file to the newest version.
fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let newest = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(rusqlite::Error::ToSqlConversionFailure(
            "it was written by a newer version of this program".into(),
        ));
    }
    let version = usize::try_from(version).unwrap_or(0);
    for step in VERSIONS.iter().skip(version) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", newest)
}

/// Grants of the file, with what was taken of each.
fn rows(
    transaction: &Transaction<'_>,
    which: &str,
    word: &str,
) -> rusqlite::Result<Vec<(Grant, Amount)>> {
    let sql = format!("select record, used, used_rows, used_bytes from grants where {which}");
    let mut found = transaction.prepare(&sql)?;
    let mut found = found.query(params![word])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let record: String = row.get(0)?;
        let grant = serde_json::from_str(&record)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let count = |at: usize| row.get(at).map(number_of);
        let taken = Amount {
            uses: count(1)?,
            rows: count(2)?,
            bytes: count(3)?,
        };
        all.push((grant, taken));
    }
    Ok(all)
}

/// What cannot be is as much as can be: nothing is left then.
fn number_of(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(u64::MAX)
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
            drop(change.done.map(|done| done.send(answer)));
        }
    }
}

fn write(database: &mut Connection, boot: &str, changes: &[Change]) -> rusqlite::Result<()> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = clock::wall().to_string();
    for change in changes {
        match &change.what {
            What::Prepared(grant) => {
                let record = serde_json::to_string(grant)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                let uses = grant.budget.uses.map(stored);
                transaction
                    .prepare_cached(
                        "insert into grants (id, boot, record, uses, ended, ended_at) \
                         values (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![name(grant.id), boot, record, uses, PENDING, now])?;
            }
            What::Issued(id) => {
                transaction
                    .prepare_cached(
                        "update grants set ended = null, ended_at = null where id = ?1",
                    )?
                    .execute(params![name(*id)])?;
            }
            What::Took(amounts) => {
                for (id, amount) in amounts {
                    add(&transaction, *id, *amount, 1)?;
                }
            }
            What::GaveBack(id, amount) => add(&transaction, *id, *amount, -1)?,
            What::Ended(ended) => {
                for (id, why) in ended {
                    transaction
                        .prepare_cached(
                            "update grants set ended = ?1, ended_at = ?2 where id = ?3",
                        )?
                        .execute(params![why.word(), now, name(*id)])?;
                }
            }
        }
    }
    transaction.commit()
}

fn add(
    transaction: &Transaction<'_>,
    id: GrantId,
    amount: Amount,
    sign: i64,
) -> rusqlite::Result<()> {
    let Amount { uses, rows, bytes } = amount;
    let by = |number: u64| stored(number).saturating_mul(sign);
    transaction
        .prepare_cached(
            "update grants set used = used + ?2, used_rows = used_rows + ?3, \
             used_bytes = used_bytes + ?4 where id = ?1",
        )?
        .execute(params![name(id), by(uses), by(rows), by(bytes)])?;
    Ok(())
}

fn name(id: GrantId) -> String {
    id.0.to_string()
}

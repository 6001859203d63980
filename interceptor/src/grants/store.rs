//! Where grants outlive the daemon.
//!
//! Only what is given back is not waited for: where it is lost, less is left. Times are boot times: rows of an
//! earlier boot are ended when the file is opened.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::{Amount, Ended, Error, Grant};
use crate::clock;
use crate::policy::GrantId;
use crate::state::{self, State, unwritable};

/// How long ended grants are kept for whoever looks back.
const KEPT_DAYS: i64 = 30;
/// And how many of them, the newest: an agent that asks all the time does not fill the disk. The audit has all.
const KEPT: i64 = 100_000;

/// Bytes that are kept free for ends: a write-ahead log of some hundred pages.
const RESERVE: u64 = 1 << 20;

/// The word of a row whose grant is about to be issued.
const PENDING: &str = "pending";

/// What each version of the file adds to the one before.
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

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) file: State,
    boot: Arc<str>,
    /// Room on the disk for ends.
    reserve: PathBuf,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Grants that live on, and what was taken of each.
    pub(super) live: Vec<(Grant, Amount)>,
    /// Those that had to end now, and why.
    pub(super) ended: Vec<(Grant, Amount, Ended)>,
}

impl Store {
    /// Opens or makes the file; also gives what it holds.
    pub(super) fn open(file: &Path) -> Result<(Self, Kept), Error> {
        let boot = clock::boot_id().map_err(|error| state::Error::Open {
            path: file.to_owned(),
            cause: error.to_string(),
        })?;
        let reserve = file.with_extension("reserve");
        keep_room(&reserve);
        let (file, kept) = State::open("grants", file, &VERSIONS, |file| load(file, &boot))?;
        let boot = boot.into();
        Ok((
            Self {
                file,
                boot,
                reserve,
            },
            kept,
        ))
    }

    /// Keeps a grant that is not in force yet.
    pub(super) async fn prepare(&self, grant: &Grant) -> Result<(), Error> {
        let (grant, boot) = (grant.clone(), Arc::clone(&self.boot));
        let written = self.file.write(move |transaction| {
            let record = serde_json::to_string(&grant).map_err(unwritable)?;
            let uses = grant.budget.uses.map(stored);
            let now = clock::wall().to_string();
            transaction
                .prepare_cached(
                    "insert into grants (id, boot, record, uses, ended, ended_at) \
                     values (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![name(grant.id), &*boot, record, uses, PENDING, now])?;
            Ok(())
        });
        Ok(written.await?)
    }

    pub(super) async fn issue(&self, id: GrantId) -> Result<(), Error> {
        let written = self.file.write(move |transaction| {
            transaction
                .prepare_cached("update grants set ended = null, ended_at = null where id = ?1")?
                .execute(params![name(id)])?;
            Ok(())
        });
        Ok(written.await?)
    }

    pub(super) async fn took(&self, amounts: Vec<(GrantId, Amount)>) -> Result<(), Error> {
        let written = self.file.write(move |transaction| {
            let mut amounts = amounts.into_iter();
            amounts.try_for_each(|(id, amount)| add(transaction, id, amount, 1))
        });
        Ok(written.await?)
    }

    /// Whether it will be kept.
    pub(super) fn gave_back(&self, id: GrantId, unused: Amount) -> bool {
        self.file
            .write_later(move |transaction| add(transaction, id, unused, -1))
    }

    /// Forgets what ended grants are old, or too many.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        let written = self.file.write(|transaction| prune(transaction, KEPT));
        Ok(written.await?)
    }

    /// Where there is no room for it, the reserve makes some; it is kept anew once there is room again.
    pub(super) async fn ended(&self, ended: Vec<(GrantId, Ended)>) -> Result<(), Error> {
        match self.write_ended(ended.clone()).await {
            Err(Error::State(state::Error::NoRoom { .. }))
                if std::fs::remove_file(&self.reserve).is_ok() =>
            {
                self.write_ended(ended).await
            }
            Ok(()) => {
                let reserve = self.reserve.clone();
                // Whether there is room for it is no matter of the ends.
                drop(tokio::task::spawn_blocking(move || keep_room(&reserve)).await);
                Ok(())
            }
            refused => refused,
        }
    }

    async fn write_ended(&self, ended: Vec<(GrantId, Ended)>) -> Result<(), Error> {
        let written = self.file.write(move |transaction| {
            let now = clock::wall().to_string();
            for (id, why) in ended {
                transaction
                    .prepare_cached("update grants set ended = ?1, ended_at = ?2 where id = ?3")?
                    .execute(params![why.word(), now, name(id)])?;
            }
            Ok(())
        });
        Ok(written.await?)
    }
}

/// Forgets what ended long ago, and of the rest what is more than `most`.
fn prune(transaction: &Transaction<'_>, most: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "delete from grants where ended_at < datetime('now', ?1)",
        params![format!("-{KEPT_DAYS} days")],
    )?;
    transaction.execute(
        "delete from grants where id in (select id from grants where ended is not null and ended <> ?1 \
         order by ended_at desc limit -1 offset ?2)",
        params![PENDING, most],
    )?;
    Ok(())
}

/// Keeps room for ends, where there is any to keep.
fn keep_room(reserve: &Path) {
    if std::fs::metadata(reserve).is_ok_and(|file| file.len() == RESERVE) {
        return;
    }
    if let Err(error) = fill(reserve) {
        tracing::warn!(%error, "cannot keep room for ends of grants");
        // A part of it is no use.
        drop(std::fs::remove_file(reserve));
    }
}

/// With what no file system makes smaller, on the disk by the time that this ends.
fn fill(reserve: &Path) -> std::io::Result<()> {
    let mut bytes = vec![0; usize::try_from(RESERVE).unwrap_or(0)];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| std::io::ErrorKind::Other)?;
    let mut file = std::fs::File::create(reserve)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn load(transaction: &Transaction<'_>, boot: &str) -> rusqlite::Result<Kept> {
    let now = clock::wall().to_string();
    let mut kept = Kept::default();
    let ends = [
        (Ended::Unissued, "ended = ?1", PENDING),
        (Ended::Restarted, "ended is null and boot <> ?1", boot),
    ];
    for (why, which, word) in ends {
        let ended = rows(transaction, which, word)?.into_iter();
        kept.ended
            .extend(ended.map(|(grant, taken)| (grant, taken, why)));
        transaction.execute(
            &format!("update grants set ended = ?2, ended_at = ?3 where {which}"),
            params![word, why.word(), now],
        )?;
    }
    prune(transaction, KEPT)?;
    kept.live = rows(transaction, "ended is null and boot = ?1", boot)?;
    Ok(kept)
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
        let grant = serde_json::from_str(&record).map_err(unwritable)?;
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

#[cfg(test)]
mod tests {
    use super::super::tests::grant;
    use super::*;

    #[tokio::test]
    async fn what_is_over_is_forgotten_when_it_is_old_or_too_much_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("grants.db")).unwrap();
        for number in 1..=6 {
            store.prepare(&grant(number, None)).await.unwrap();
        }
        let id = |number| GrantId(uuid::Uuid::from_u128(number));
        // The first is about to be issued still, the second lives.
        for number in 2..=6 {
            store.issue(id(number)).await.unwrap();
        }
        for number in 3..=6 {
            store
                .ended(vec![(id(number), Ended::Revoked)])
                .await
                .unwrap();
        }
        let pruned = store.file.write(move |to| {
            let old = "update grants set ended_at = '2000-01-01T00:00:00Z' where id = ?1";
            to.execute(old, params![name(id(6))])?;
            prune(to, 2)?;
            let mut left = to.prepare("select id from grants order by id")?;
            let rows = left.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let left = [1, 2, 4, 5].map(|number| name(id(number)));
        assert_eq!(pruned.await.unwrap(), left);
    }
}

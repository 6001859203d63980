//! Where grants outlive the daemon.
//!
//! Only what is given back is not waited for: where it is lost, less is left. Times are boot times: rows of an
//! earlier boot are ended when the file is opened.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::{Amount, Ended, Error, Grant};
use crate::clock;
use crate::policy::GrantId;
use crate::state::{self, InSql, Over, Rows, Sqlite, unwritable};

/// Bytes that are kept free for ends: a write-ahead log of some hundred pages.
const RESERVE: u64 = 1 << 20;

/// The word of a row whose grant is about to be issued.
const PENDING: &str = "pending";

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

/// What happens to grants.
#[derive(Debug)]
pub(super) enum Change {
    /// One is about to be issued.
    Prepared(Box<Grant>),
    /// It is in force.
    Issued(GrantId),
    /// So much was taken of these.
    Took(Vec<(GrantId, Amount)>),
    /// So much of what was taken was not needed.
    GaveBack(GrantId, Amount),
    /// These have ended.
    Ended(Vec<(GrantId, Ended)>),
}

/// The grants as rows.
#[derive(Debug)]
pub(super) enum Grants {}

impl Rows for Grants {
    type Change = Change;
    type Answer = ();
    type Question = Infallible;
    type Found = Infallible;
}

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Store {
    rows: Arc<dyn state::Store<Grants>>,
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
        let (rows, kept) = Sqlite::open(file)?;
        Ok((Self::over(Arc::new(rows), file), kept))
    }

    /// One that keeps room for ends beside `file`.
    pub(super) fn over(rows: Arc<dyn state::Store<Grants>>, file: &Path) -> Self {
        let reserve = file.with_extension("reserve");
        keep_room(&reserve);
        Self { rows, reserve }
    }

    /// Keeps a grant that is not in force yet.
    pub(super) async fn prepare(&self, grant: &Grant) -> Result<(), Error> {
        let prepared = Change::Prepared(Box::new(grant.clone()));
        Ok(self.rows.keep(prepared).await?)
    }

    pub(super) async fn issue(&self, id: GrantId) -> Result<(), Error> {
        Ok(self.rows.keep(Change::Issued(id)).await?)
    }

    pub(super) async fn took(&self, amounts: Vec<(GrantId, Amount)>) -> Result<(), Error> {
        Ok(self.rows.keep(Change::Took(amounts)).await?)
    }

    /// Whether it will be kept.
    pub(super) fn gave_back(&self, id: GrantId, unused: Amount) -> bool {
        self.rows.keep_later(Change::GaveBack(id, unused))
    }

    /// Forgets what ended grants are old, or too many.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        Ok(self.rows.prune().await?)
    }

    /// Where there is no room for it, the reserve makes some; it is kept anew once there is room again.
    pub(super) async fn ended(&self, ended: Vec<(GrantId, Ended)>) -> Result<(), Error> {
        match self.rows.keep(Change::Ended(ended.clone())).await {
            Err(state::Error::NoRoom { .. }) if std::fs::remove_file(&self.reserve).is_ok() => {
                Ok(self.rows.keep(Change::Ended(ended)).await?)
            }
            Ok(()) => {
                let reserve = self.reserve.clone();
                // Whether there is room for it is no matter of the ends.
                drop(tokio::task::spawn_blocking(move || keep_room(&reserve)).await);
                Ok(())
            }
            Err(refused) => Err(refused.into()),
        }
    }
}

impl InSql for Grants {
    const NAME: &'static str = "grants";
    const VERSIONS: &'static [&'static str] = &[FIRST, COUNTED];
    const OVER: &'static [Over] = &[Over {
        table: "grants",
        // One that is about to be issued (`PENDING`) is not over.
        which: "ended is not null and ended <> 'pending'",
        since: "unixepoch(ended_at)",
        days: 30,
        most: Some(100_000),
    }];
    type Kept = Kept;

    fn load(file: &Transaction<'_>, boot: &str) -> rusqlite::Result<Kept> {
        let now = clock::wall().to_string();
        let mut kept = Kept::default();
        let ends = [
            (Ended::Unissued, "ended = ?1", PENDING),
            (Ended::Restarted, "ended is null and boot <> ?1", boot),
        ];
        for (why, which, word) in ends {
            let ended = rows(file, which, word)?.into_iter();
            kept.ended
                .extend(ended.map(|(grant, taken)| (grant, taken, why)));
            file.execute(
                &format!("update grants set ended = ?2, ended_at = ?3 where {which}"),
                params![word, why.word(), now],
            )?;
        }
        kept.live = rows(file, "ended is null and boot = ?1", boot)?;
        Ok(kept)
    }

    fn change(file: &Transaction<'_>, boot: &str, change: Change) -> rusqlite::Result<()> {
        let now = clock::wall().to_string();
        match change {
            Change::Prepared(grant) => {
                let record = serde_json::to_string(&grant).map_err(unwritable)?;
                let uses = grant.budget.uses.map(stored);
                file.prepare_cached(
                    "insert into grants (id, boot, record, uses, ended, ended_at) \
                     values (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![name(grant.id), boot, record, uses, PENDING, now])
                .map(drop)
            }
            Change::Issued(id) => file
                .prepare_cached("update grants set ended = null, ended_at = null where id = ?1")?
                .execute(params![name(id)])
                .map(drop),
            Change::Took(amounts) => {
                let mut amounts = amounts.into_iter();
                amounts.try_for_each(|(id, amount)| add(file, id, amount, 1))
            }
            Change::GaveBack(id, unused) => add(file, id, unused, -1),
            Change::Ended(ended) => {
                for (id, why) in ended {
                    file.prepare_cached(
                        "update grants set ended = ?1, ended_at = ?2 where id = ?3",
                    )?
                    .execute(params![why.word(), now, name(id)])?;
                }
                Ok(())
            }
        }
    }

    fn look(
        _file: &Transaction<'_>,
        _boot: &str,
        none: Infallible,
    ) -> rusqlite::Result<Infallible> {
        match none {}
    }
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
    async fn what_is_over_is_forgotten_when_it_is_old_and_what_is_on_its_way_or_lives_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("grants.db");
        let (store, _) = Store::open(&file).unwrap();
        for number in 1..=4 {
            store.prepare(&grant(number, None)).await.unwrap();
        }
        let id = |number| GrantId(uuid::Uuid::from_u128(number));
        // The first is about to be issued still, the second lives.
        for number in 2..=4 {
            store.issue(id(number)).await.unwrap();
        }
        let ended = [3, 4].map(|number| (id(number), Ended::Revoked));
        store.ended(ended.to_vec()).await.unwrap();
        let other = rusqlite::Connection::open(&file).unwrap();
        let old = "update grants set ended_at = '2000-01-01T00:00:00.123456789Z' where id <> ?1";
        other.execute(old, params![name(id(3))]).unwrap();
        store.prune().await.unwrap();
        let mut left = other.prepare("select id from grants order by id").unwrap();
        let left = left.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let left = left.collect::<rusqlite::Result<Vec<_>>>().unwrap();
        assert_eq!(left, [1, 2, 3].map(|number| name(id(number))));
    }
}

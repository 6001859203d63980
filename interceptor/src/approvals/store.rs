//! Where questions and answers outlive the daemon.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::{Delegation, Error, Over, Question, Standing, State};
use crate::clock;
use crate::state::{self, State as File, unwritable};

/// How long what is over is kept for whoever looks back.
const KEPT_DAYS: i64 = 30;
/// And how many, the newest: each has all that people were shown.
const KEPT: i64 = 10_000;

const SCHEMA: &str = "\
create table if not exists approvals (
    id text primary key,
    boot text not null,
    agent text not null,
    target text not null,
    fingerprint text not null,
    version integer not null,
    live integer not null,
    record text not null,
    changed_at text not null
) strict;
create index if not exists live on approvals (boot) where live = 1;
create index if not exists shape on approvals (agent, target, fingerprint);
";

/// Who stands in for whom.
const DELEGATIONS: &str = "\
create table delegations (
    id text primary key,
    boot text not null,
    record text not null
) strict;
";

/// What was found in the file.
#[derive(Debug)]
pub(super) struct Kept {
    /// The questions that are live still.
    pub(super) standings: Vec<Standing>,
    /// The delegations of this boot.
    pub(super) delegations: Vec<Delegation>,
}

const SAVE: &str = "\
insert into approvals (id, boot, agent, target, fingerprint, version, live, record, changed_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, datetime('now'))
on conflict (id) do update set version = excluded.version, live = excluded.live, record = excluded.record,
    changed_at = excluded.changed_at
where excluded.version > approvals.version or (excluded.version = approvals.version and excluded.live = 0)";

const BEFORE: &str = "\
select record from approvals where agent = ?1 and target = ?2 and fingerprint = ?3 and id <> ?4
order by id desc limit ?5";

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    boot: Arc<str>,
}

impl Store {
    /// Opens or makes the file; also gives what is live still.
    pub(super) fn open(file: &Path) -> Result<(Self, Kept), Error> {
        let boot = clock::boot_id().map_err(|error| state::Error::Open {
            path: file.to_owned(),
            cause: error.to_string(),
        })?;
        let boot: Arc<str> = boot.into();
        let of = Arc::clone(&boot);
        let (file, kept) =
            File::open("approvals", file, &[SCHEMA, DELEGATIONS], move |database| {
                load(database, &of)
            })?;
        Ok((Self { file, boot }, kept))
    }

    pub(super) async fn save(&self, standing: Standing) -> Result<(), Error> {
        let boot = Arc::clone(&self.boot);
        let written = self.file.write(move |to| save(to, &boot, &standing));
        Ok(written.await?)
    }

    /// The same where nobody can wait for it; whether it will be tried.
    pub(super) fn save_later(&self, standing: Standing) -> bool {
        let boot = Arc::clone(&self.boot);
        self.file.write_later(move |to| save(to, &boot, &standing))
    }

    pub(super) async fn delegated(&self, one: Delegation) -> Result<(), Error> {
        let boot = Arc::clone(&self.boot);
        let written = self.file.write(move |to| {
            let record = serde_json::to_string(&one).map_err(unwritable)?;
            let row = params![one.id.to_string(), &*boot, record];
            to.execute("insert into delegations values (?1, ?2, ?3)", row)?;
            Ok(())
        });
        Ok(written.await?)
    }

    /// One that was taken back meanwhile stays so.
    pub(super) async fn renewed(&self, one: Delegation) -> Result<(), Error> {
        let written = self.file.write(move |to| {
            let record = serde_json::to_string(&one).map_err(unwritable)?;
            let row = params![one.id.to_string(), record];
            to.execute("update delegations set record = ?2 where id = ?1", row)?;
            Ok(())
        });
        Ok(written.await?)
    }

    pub(super) async fn undelegated(&self, id: Uuid) -> Result<(), Error> {
        let written = self.file.write(move |to| {
            let row = params![id.to_string()];
            to.execute("delete from delegations where id = ?1", row)?;
            Ok(())
        });
        Ok(written.await?)
    }

    /// Forgets what is over and old, or too much.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        let written = self.file.write(|database| prune(database, KEPT));
        Ok(written.await?)
    }

    pub(super) async fn before(&self, of: &Question, most: usize) -> Result<Vec<Standing>, Error> {
        let named = (
            of.holder.agent.clone(),
            of.target.clone(),
            of.fingerprint.clone(),
            of.id.0.to_string(),
        );
        let read = move |database: &Transaction<'_>| {
            let (agent, target, fingerprint, id) = named;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut query = database.prepare_cached(BEFORE)?;
            let rows = query.query_map(params![agent, target, fingerprint, id, most], |row| {
                row.get::<_, String>(0)
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let records = self.file.write(read).await?;
        let parsed = records.iter().map(|record| serde_json::from_str(record));
        let parsed: Result<_, serde_json::Error> = parsed.collect();
        parsed.map_err(|error| {
            let (name, cause) = ("approvals", error.to_string());
            state::Error::Write { name, cause }.into()
        })
    }
}

fn save(to: &Transaction<'_>, boot: &str, standing: &Standing) -> rusqlite::Result<()> {
    let question = &standing.question;
    let is_over = matches!(standing.state, State::Over { .. });
    // What nobody answered is in the audit; kept here it would be room that asking takes for free.
    if is_over && standing.answers.is_empty() {
        let id = question.id.0.to_string();
        return to
            .execute("delete from approvals where id = ?1", params![id])
            .map(drop);
    }
    let record = serde_json::to_string(standing).map_err(unwritable)?;
    to.prepare_cached(SAVE)?.execute(params![
        question.id.0.to_string(),
        boot,
        question.holder.agent,
        question.target,
        question.fingerprint,
        i64::try_from(standing.version).unwrap_or(i64::MAX),
        !is_over,
        record,
    ])?;
    Ok(())
}

/// Forgets what was over long ago, and of the rest that is over what is more than `most`.
fn prune(database: &Transaction<'_>, most: i64) -> rusqlite::Result<()> {
    database.execute(
        "delete from approvals where live = 0 and changed_at < datetime('now', ?1)",
        params![format!("-{KEPT_DAYS} days")],
    )?;
    database.execute(
        "delete from approvals where id in (select id from approvals where live = 0 \
         order by changed_at desc, id desc limit -1 offset ?1)",
        params![most],
    )?;
    Ok(())
}

fn delegations(database: &Transaction<'_>, boot: &str) -> rusqlite::Result<Vec<Delegation>> {
    // Boot times of another boot mean nothing.
    database.execute("delete from delegations where boot <> ?1", params![boot])?;
    let mut all = database.prepare("select record from delegations")?;
    let rows = all.query_map([], |row| row.get::<_, String>(0))?;
    let read = |row: rusqlite::Result<String>| serde_json::from_str(&row?).map_err(unwritable);
    rows.map(read).collect()
}

fn load(database: &Transaction<'_>, boot: &str) -> rusqlite::Result<Kept> {
    prune(database, KEPT)?;
    let mut live = database.prepare("select boot, record from approvals where live = 1")?;
    let rows = live.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut kept = Vec::new();
    for row in rows {
        let (of, record) = row?;
        let mut standing: Standing = serde_json::from_str(&record).map_err(unwritable)?;
        standing.waiting = 0;
        if of != boot {
            // It is told as ended, and kept so, by whoever looks after what ends.
            standing.version = standing.version.saturating_add(1);
            standing.state = State::Over {
                why: Over::Restarted,
            };
        }
        kept.push(standing);
    }
    Ok(Kept {
        standings: kept,
        delegations: delegations(database, boot)?,
    })
}

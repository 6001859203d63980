//! Where questions and answers outlive the daemon.

use std::path::Path;

use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::{Delegation, Error, Over, Question, Standing, State};
use crate::state::{self, InSql, Over as Gone, Rows, Sqlite, unwritable};

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

/// What happens to questions and delegations.
#[derive(Debug)]
pub(super) enum Change {
    /// A question is as it is now.
    Saved(Box<Standing>),
    /// Somebody stands in.
    Delegated(Box<Delegation>),
    /// More is known of a delegation; one that was taken back meanwhile stays so.
    Renewed(Box<Delegation>),
    /// Nobody stands in by this any more.
    Undelegated(Uuid),
}

/// What was asked before: the newest of what is like a question, but for that one.
#[derive(Debug)]
pub(super) struct Before {
    agent: String,
    target: String,
    fingerprint: String,
    id: String,
    most: usize,
}

/// Questions and delegations as rows.
#[derive(Debug)]
pub(super) enum Approvals {}

impl Rows for Approvals {
    type Change = Change;
    type Answer = ();
    type Question = Before;
    type Found = Vec<Standing>;
}

/// Where they are kept.
#[derive(Debug)]
pub(super) struct Store(Box<dyn state::Store<Approvals>>);

impl Store {
    /// Opens or makes the file; also gives what is live still.
    pub(super) fn open(file: &Path) -> Result<(Self, Kept), Error> {
        let (rows, kept) = Sqlite::open(file)?;
        Ok((Self(Box::new(rows)), kept))
    }

    pub(super) async fn save(&self, standing: Standing) -> Result<(), Error> {
        let saved = Change::Saved(Box::new(standing));
        Ok(self.0.keep(saved).await?)
    }

    /// The same where nobody can wait for it; whether it will be tried.
    pub(super) fn save_later(&self, standing: Standing) -> bool {
        self.0.keep_later(Change::Saved(Box::new(standing)))
    }

    pub(super) async fn delegated(&self, one: Delegation) -> Result<(), Error> {
        Ok(self.0.keep(Change::Delegated(Box::new(one))).await?)
    }

    pub(super) async fn renewed(&self, one: Delegation) -> Result<(), Error> {
        Ok(self.0.keep(Change::Renewed(Box::new(one))).await?)
    }

    pub(super) async fn undelegated(&self, id: Uuid) -> Result<(), Error> {
        Ok(self.0.keep(Change::Undelegated(id)).await?)
    }

    /// Forgets what is over and old, or too much.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        Ok(self.0.prune().await?)
    }

    pub(super) async fn before(&self, of: &Question, most: usize) -> Result<Vec<Standing>, Error> {
        let before = Before {
            agent: of.holder.agent.clone(),
            target: of.target.clone(),
            fingerprint: of.fingerprint.clone(),
            id: of.id.0.to_string(),
            most,
        };
        Ok(self.0.look(before).await?)
    }
}

impl InSql for Approvals {
    const NAME: &'static str = "approvals";
    const VERSIONS: &'static [&'static str] = &[SCHEMA, DELEGATIONS];
    const OVER: &'static [Gone] = &[Gone {
        table: "approvals",
        which: "live = 0",
        since: "unixepoch(changed_at)",
        days: 30,
        // Each has all that people were shown.
        most: Some(10_000),
    }];
    type Kept = Kept;

    fn load(file: &Transaction<'_>, boot: &str) -> rusqlite::Result<Kept> {
        Ok(Kept {
            standings: standings(file, boot)?,
            delegations: delegations(file, boot)?,
        })
    }

    fn change(file: &Transaction<'_>, boot: &str, change: Change) -> rusqlite::Result<()> {
        let made = match change {
            Change::Saved(standing) => return save(file, boot, &standing),
            Change::Delegated(one) => {
                let record = serde_json::to_string(&one).map_err(unwritable)?;
                let row = params![one.id.to_string(), boot, record];
                file.execute("insert into delegations values (?1, ?2, ?3)", row)
            }
            Change::Renewed(one) => {
                let record = serde_json::to_string(&one).map_err(unwritable)?;
                let row = params![one.id.to_string(), record];
                file.execute("update delegations set record = ?2 where id = ?1", row)
            }
            Change::Undelegated(id) => {
                let row = params![id.to_string()];
                file.execute("delete from delegations where id = ?1", row)
            }
        };
        made.map(drop)
    }

    fn look(file: &Transaction<'_>, _boot: &str, of: Before) -> rusqlite::Result<Vec<Standing>> {
        let most = i64::try_from(of.most).unwrap_or(i64::MAX);
        let named = params![of.agent, of.target, of.fingerprint, of.id, most];
        let mut query = file.prepare_cached(BEFORE)?;
        let rows = query.query_map(named, |row| row.get::<_, String>(0))?;
        rows.map(|row| serde_json::from_str(&row?).map_err(unwritable))
            .collect()
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

fn delegations(database: &Transaction<'_>, boot: &str) -> rusqlite::Result<Vec<Delegation>> {
    // Boot times of another boot mean nothing.
    database.execute("delete from delegations where boot <> ?1", params![boot])?;
    let mut all = database.prepare("select record from delegations")?;
    let rows = all.query_map([], |row| row.get::<_, String>(0))?;
    let read = |row: rusqlite::Result<String>| serde_json::from_str(&row?).map_err(unwritable);
    rows.map(read).collect()
}

fn standings(database: &Transaction<'_>, boot: &str) -> rusqlite::Result<Vec<Standing>> {
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
    Ok(kept)
}

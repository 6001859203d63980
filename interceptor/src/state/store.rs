//! The seam between what is granted, asked, bound and proved, and where that outlives the daemon.
//!
//! Each of these parts says what happened in words of its own, and asks in words of its own; none of them knows SQL
//! above its `store.rs`, and none of them is told that something happened before it is kept. Here it is kept in one
//! SQLite file of this host each. A store that several hosts share takes the same words, in the same order for all of
//! them, and is put in the place of [`Sqlite`] where that is opened.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::{Error, State};
use crate::clock;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// What a store answers, once it does. Cancelled, it goes on.
pub type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The words of one part of the daemon.
pub trait Rows: 'static {
    /// What happened.
    type Change: Send + 'static;
    /// What is said to that.
    type Answer: Send + 'static;
    /// What is asked of what happened before.
    type Question: Send + 'static;
    /// What is found then.
    type Found: Send + 'static;
}

/// Where one part of the daemon keeps what happened.
pub trait Store<R: Rows>: Debug + Send + Sync {
    /// Keeps a change: all of it, or none. It lasts when this answers.
    fn keep(&self, change: R::Change) -> Answered<'_, R::Answer>;
    /// Keeps a change that nobody waits for; whether it will be tried.
    fn keep_later(&self, change: R::Change) -> bool;
    /// Looks at what is kept.
    fn look(&self, question: R::Question) -> Answered<'_, R::Found>;
    /// Forgets what is over, and old or too much.
    fn prune(&self) -> Answered<'_, ()>;
}

/// The same words in SQL.
pub trait InSql: Rows {
    /// What the file holds, for people.
    const NAME: &'static str;
    /// What each version of the file adds to the one before.
    const VERSIONS: &'static [&'static str];
    /// What of it is over.
    const OVER: &'static [Over];
    /// What is found when the file is opened.
    type Kept;

    /// Reads what lives on in this boot, and ends what does not.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn load(file: &Transaction<'_>, boot: &str) -> rusqlite::Result<Self::Kept>;

    /// Makes a change.
    ///
    /// # Errors
    /// Where it cannot be made.
    fn change(
        file: &Transaction<'_>,
        boot: &str,
        change: Self::Change,
    ) -> rusqlite::Result<Self::Answer>;

    /// Finds what is asked for.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn look(
        file: &Transaction<'_>,
        boot: &str,
        question: Self::Question,
    ) -> rusqlite::Result<Self::Found>;
}

/// Rows that are over: for how long they are kept, and how many. The audit has them all.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// Their table.
    pub table: &'static str,
    /// Which of its rows.
    pub which: &'static str,
    /// Since when they are, in seconds by the wall clock.
    pub since: &'static str,
    /// For how many days they are kept.
    pub days: i64,
    /// How many, the newest: who asks all the time does not fill the disk.
    pub most: Option<i64>,
}

impl Over {
    /// Forgets those that are old, and of the rest those that are too many.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn forget(&self, file: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self {
            table,
            which,
            since,
            days,
            most,
        } = self;
        let oldest = clock::wall()
            .as_second()
            .saturating_sub(days.saturating_mul(DAY));
        file.execute(
            &format!("delete from {table} where {which} and {since} < ?1"),
            params![oldest],
        )?;
        if let Some(most) = most {
            file.execute(
                &format!(
                    "delete from {table} where rowid in (select rowid from {table} where {which} \
                     order by {since} desc, rowid desc limit -1 offset ?1)"
                ),
                params![most],
            )?;
        }
        Ok(())
    }
}

/// A file of this host.
pub struct Sqlite<R> {
    file: State,
    boot: Arc<str>,
    rows: PhantomData<fn() -> R>,
}

impl<R> Debug for Sqlite<R> {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.file, to)
    }
}

impl<R: InSql> Sqlite<R> {
    /// Opens or makes the file; also gives what is found in it. Blocks.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<(Self, R::Kept), Error> {
        let boot = clock::boot_id().map_err(|error| Error::Open {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        let (file, kept) = State::open(R::NAME, path, R::VERSIONS, |file| {
            prune::<R>(file)?;
            R::load(file, &boot)
        })?;
        let boot = boot.into();
        let rows = PhantomData;
        Ok((Self { file, boot, rows }, kept))
    }
}

#[cfg(test)]
impl<R> Sqlite<R> {
    /// The file itself.
    pub(crate) fn file(&self) -> &State {
        &self.file
    }
}

fn prune<R: InSql>(file: &Transaction<'_>) -> rusqlite::Result<()> {
    R::OVER.iter().try_for_each(|over| over.forget(file))
}

impl<R: InSql> Store<R> for Sqlite<R> {
    fn keep(&self, change: R::Change) -> Answered<'_, R::Answer> {
        let boot = Arc::clone(&self.boot);
        let kept = self.file.write(move |file| R::change(file, &boot, change));
        Box::pin(kept)
    }

    fn keep_later(&self, change: R::Change) -> bool {
        let boot = Arc::clone(&self.boot);
        let kept = move |file: &Transaction<'_>| R::change(file, &boot, change).map(drop);
        self.file.write_later(kept)
    }

    fn look(&self, question: R::Question) -> Answered<'_, R::Found> {
        let boot = Arc::clone(&self.boot);
        let found = self.file.look(move |file| R::look(file, &boot, question));
        Box::pin(found)
    }

    fn prune(&self) -> Answered<'_, ()> {
        Box::pin(self.file.write(|file| prune::<R>(file)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    struct Deeds;

    impl Rows for Deeds {
        type Change = (i64, i64, bool);
        type Answer = ();
        type Question = Infallible;
        type Found = Infallible;
    }

    impl InSql for Deeds {
        const NAME: &'static str = "deeds";
        const VERSIONS: &'static [&'static str] =
            &["create table deeds (id integer primary key, at integer, over integer) strict;"];
        const OVER: &'static [Over] = &[Over {
            table: "deeds",
            which: "over = 1",
            since: "at",
            days: 30,
            most: Some(2),
        }];
        type Kept = Vec<i64>;

        fn load(file: &Transaction<'_>, _boot: &str) -> rusqlite::Result<Vec<i64>> {
            let mut all = file.prepare("select id from deeds order by id")?;
            let rows = all.query_map([], |row| row.get(0))?;
            rows.collect()
        }

        fn change(
            file: &Transaction<'_>,
            _boot: &str,
            (id, at, over): (i64, i64, bool),
        ) -> rusqlite::Result<()> {
            let row = params![id, at, over];
            file.execute("insert into deeds values (?1, ?2, ?3)", row)
                .map(drop)
        }

        fn look(_: &Transaction<'_>, _: &str, none: Infallible) -> rusqlite::Result<Infallible> {
            match none {}
        }
    }

    #[tokio::test]
    async fn what_is_over_is_forgotten_when_it_is_old_or_too_much_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deeds.db");
        let (store, _) = Sqlite::<Deeds>::open(&path).unwrap();
        let now = clock::wall().as_second();
        let day = |days: i64| now - days * DAY;
        // The first two live, however old; of the rest one is old, and one is too much.
        for deed in [
            (1, day(90), false),
            (2, now, false),
            (3, now, true),
            (4, day(31), true),
            (5, now, true),
            (6, day(29), true),
        ] {
            store.keep(deed).await.unwrap();
        }
        store.prune().await.unwrap();
        drop(store);
        let (store, left) = Sqlite::<Deeds>::open(&path).unwrap();
        assert_eq!(left, [1, 2, 3, 5]);
        // What is there already is none of it kept again.
        store.keep((1, now, true)).await.unwrap_err();
        assert!(store.keep_later((7, now, false)));
        store.keep((8, now, true)).await.unwrap();
        drop(store);
        // As it is opened, too.
        let (_, left) = Sqlite::<Deeds>::open(&path).unwrap();
        assert_eq!(left, [1, 2, 5, 7, 8]);
    }
}

//! What a database's `pg_catalog` holds, and what the login role may do: asked once a minute per
//! server, database and role, on the session that was just opened; and anew where that is to wait.
//!
//! Each name and operator of our own query is qualified: it runs after the client's settings were
//! made, and must not be steered by them (pgbouncer CVE-2025-12819).

mod answer;
mod schema;
pub mod survey;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use lru::LruCache;

use super::error::Denied;
use super::peer::Peer;
use super::{Error, Login, Opened};
use crate::clock::{self, BootTime};
use crate::masking::Masks;
use crate::protocol::postgres::mask::{Known, Past};
use crate::protocol::postgres::wire::backend::{
    COMMAND_COMPLETE, DATA_ROW, READY, ROW_DESCRIPTION, Status, ready,
};
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;
use crate::protocol::postgres::wire::{Body, Tag, put_string, write};
use crate::socket::Place;

/// 11 is `pg_catalog` in every version (`catalog/pg_namespace.dat`). The timeouts are the client's
/// to set for its own statements, not for this one.
const QUERY: &[u8] = b"BEGIN READ ONLY; SET LOCAL statement_timeout = 0; \
    SELECT rolsuper, rolbypassrls FROM pg_catalog.pg_roles \
    WHERE rolname OPERATOR(pg_catalog.=) SESSION_USER; \
    SELECT relname FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 11; \
    SELECT DISTINCT proname FROM pg_catalog.pg_proc \
    WHERE pronamespace OPERATOR(pg_catalog.<>) 11 AND pronargs OPERATOR(pg_catalog.>=) 1 \
    AND (pronargs OPERATOR(pg_catalog.-) pronargdefaults) OPERATOR(pg_catalog.<=) 1; \
    COMMIT";

/// PostgreSQL 18 has about 430.
const RELATIONS_MAX: usize = 20_000;
/// PostGIS, the largest extension, has about 500 of one argument.
const FUNCTIONS_MAX: usize = 50_000;
/// How long what is known of a database is used: functions come and go.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// What is known of a database before the first query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Names of the relations in `pg_catalog`, which is searched before any search path.
    pub relations: Arc<HashSet<String>>,
    /// Names of the functions of other schemas that take one argument: they can be called as a field.
    pub functions: Arc<HashSet<String>>,
    /// Whether the login role is a superuser: no grant or policy of the server binds it.
    pub superuser: bool,
    /// Whether row-level security does not bind it.
    pub bypass_rls: bool,
}

/// Catalogs by target, address, database, server version and login role, each with when it was read.
/// Servers of one target may differ in what functions they have.
type Kept = LruCache<[String; 5], (BootTime, Arc<Catalog>)>;

/// What is known of databases with sensitive columns, by the same.
type Learned = LruCache<[String; 5], Arc<Known>>;

/// What was said of them last, by target and database.
type Pasts = LruCache<[String; 2], Arc<Past>>;

#[derive(Debug)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
    learned: Mutex<Learned>,
    pasts: Mutex<Pasts>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(KEPT_MAX)),
            learned: Mutex::new(LruCache::new(KEPT_MAX)),
            pasts: Mutex::new(LruCache::new(KEPT_MAX)),
        }
    }

    /// What the database looks like, where that is to be masked: read anew where nobody knows it any
    /// more, or for a while. All sessions on it see what the last of them has read.
    pub(super) async fn known(
        &self,
        peer: &mut Peer,
        login: &Login<'_>,
        (address, opened): (Place, &Opened),
        anew: bool,
    ) -> Result<Arc<Known>, Error> {
        let id = id(login, address, opened);
        let past = {
            let mut pasts = self.pasts.lock().unwrap_or_else(PoisonError::into_inner);
            let id = [login.target, login.database].map(str::to_owned);
            Arc::clone(pasts.get_or_insert(id, Arc::default))
        };
        let known = {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(learned.get_or_insert(id, || Arc::new(Known::new(past))))
        };
        if anew || !known.is_fresh() {
            let doubts = known.doubts();
            if let Some(mut schema) = schema::fetch(peer).await? {
                schema.sensitive = sensitive(login);
                known.learn(schema, doubts);
            }
        }
        Ok(known)
    }

    /// Has what is known be read again, with nothing of what was known before.
    pub(super) fn forget(&self) {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let pasts = self.pasts.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, past) in pasts.iter() {
            past.forget();
        }
        for (_, known) in learned.iter() {
            known.forget();
        }
    }

    pub(super) async fn of(
        &self,
        peer: &mut Peer,
        login: &Login<'_>,
        (address, opened): (Place, &Opened),
        anew: bool,
    ) -> Result<Arc<Catalog>, Error> {
        let id = id(login, address, opened);
        let now = clock::boot();
        if !anew
            && let Some((read, catalog)) = self.lock().get(&id)
            && now.since(*read) < KNOWN_FOR
        {
            return Ok(Arc::clone(catalog));
        }
        let catalog = Arc::new(fetch(peer).await?);
        self.lock().put(id, (now, Arc::clone(&catalog)));
        Ok(catalog)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Columns that are sensitive in the login's database, by the schemas and names of their relations.
fn sensitive(login: &Login<'_>) -> BTreeMap<(String, String), BTreeSet<String>> {
    let all = login.masked.map(|masked| masked.sensitive);
    let masks = Masks::of_database(all.unwrap_or_default(), login.database);
    let relations = masks.relations.into_iter();
    relations
        .map(|(one, columns)| ((one.schema, one.name), columns.into_keys().collect()))
        .collect()
}

fn id(login: &Login<'_>, address: Place, opened: &Opened) -> [String; 5] {
    let parameters = &opened.parameters;
    let version = parameters
        .iter()
        .find_map(|(name, value)| (name == "server_version").then_some(value.as_str()))
        .unwrap_or_default();
    let user = login.postgres.user.as_str();
    let place = login.server(address);
    [login.target, &place, login.database, version, user].map(str::to_owned)
}

fn body_max(tag: u8) -> Option<usize> {
    match tag {
        ROW_DESCRIPTION | DATA_ROW | COMMAND_COMPLETE => Some(1_024),
        PARAMETER_STATUS => Some(8_192),
        READY => Some(1),
        ERROR | NOTICE => Some(30_000),
        _ => None,
    }
}

async fn fetch(peer: &mut Peer) -> Result<Catalog, Error> {
    let mut query = BytesMut::new();
    write(&mut query, b'Q', |to| put_string(to, QUERY));
    peer.send(&query).await?;
    let mut catalog = Catalog::default();
    let mut relations = HashSet::new();
    let mut functions = HashSet::new();
    let mut results = 0_u8;
    let mut roles = 0_u8;
    loop {
        let (tag, body) = peer.next(body_max).await?;
        match tag {
            ROW_DESCRIPTION => results = results.saturating_add(1),
            DATA_ROW if results == 1 => {
                roles = roles.saturating_add(1);
                let [superuser, bypass_rls] = columns(&body)?;
                catalog.superuser = superuser == "t";
                catalog.bypass_rls = bypass_rls == "t";
            }
            DATA_ROW if results == 2 => {
                name(
                    &mut relations,
                    &body,
                    RELATIONS_MAX,
                    "relations in pg_catalog",
                )?;
            }
            DATA_ROW if results == 3 => {
                name(
                    &mut functions,
                    &body,
                    FUNCTIONS_MAX,
                    "functions of one argument",
                )?;
            }
            COMMAND_COMPLETE | NOTICE | PARAMETER_STATUS => {}
            READY => {
                let status = ready(&body)?;
                let whole = results == 3 && roles == 1 && !relations.is_empty();
                catalog.relations = Arc::new(relations);
                catalog.functions = Arc::new(functions);
                return match status {
                    Status::Idle if whole => Ok(catalog),
                    _ => Err(wrong("the answer is not whole")),
                };
            }
            ERROR => return Err(wrong(&Denied::read(&body)?.to_string())),
            tag => return Err(Error::Order { message: Tag(tag) }),
        }
    }
}

fn name(
    names: &mut HashSet<String>,
    row: &[u8],
    most: usize,
    what: &'static str,
) -> Result<(), Error> {
    let [name] = columns(row)?;
    if names.len() == most {
        return Err(Error::TooMany { what, most });
    }
    names.insert(name.to_owned());
    Ok(())
}

/// The columns of a `DataRow`, none of them null.
pub(super) fn columns<const N: usize>(row: &[u8]) -> Result<[&str; N], Error> {
    let mut body = Body::new(row);
    let count = body.i16("number of columns")?;
    if usize::try_from(count).ok() != Some(N) {
        return Err(wrong("a row has the wrong number of columns"));
    }
    let mut columns = [""; N];
    for column in &mut columns {
        let length = body.i32("length of a column")?;
        let length = usize::try_from(length).map_err(|_negative| wrong("a column is null"))?;
        let bytes = body.bytes("column", length)?;
        *column = std::str::from_utf8(bytes).map_err(|_not_utf8| wrong("a name is not UTF-8"))?;
    }
    body.end()?;
    Ok(columns)
}

fn wrong(reason: &str) -> Error {
    Error::Catalog {
        reason: reason.to_owned(),
    }
}

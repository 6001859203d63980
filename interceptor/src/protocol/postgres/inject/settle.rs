//! What a fresh login must be like before it is used: of the server that was asked for, under the search
//! path that was asked for, and nobody else's.
//!
//! A pooler that passes no startup settings on, or hands out a session that others have used, would have
//! statements mean something else than what is judged. A server's process is the one of its cancel key;
//! where it is not, somebody stands between, which the configuration must know. Each name and operator
//! of our own queries is qualified: the search path is not known yet.

use bytes::{Bytes, BytesMut};

use super::catalog::columns;
use super::error::Denied;
use super::peer::Peer;
use super::startup::{brings_search_path, later, search_path};
use super::{Error, Login, Opened};
use crate::config::{Pooler, SessionAttrs};
use crate::protocol::postgres::wire::backend::{
    COMMAND_COMPLETE, DATA_ROW, READY, ROW_DESCRIPTION, Status, ready,
};
use crate::protocol::postgres::wire::error::{ERROR, NOTICE};
use crate::protocol::postgres::wire::startup::PARAMETER_STATUS;
use crate::protocol::postgres::wire::{Tag, put_string, write};

/// The timeouts are the client's to set for its own statements, not for this one.
const QUERY: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 0; \
    SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path'), \
    pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only'); \
    COMMIT";

/// Also what `RESET` brings back, and how much is left of whoever had the server's session before:
/// another role, statements, cursors, channels, temporary tables, settings that the pooler does not set.
const POOLED_QUERY: &str = "SELECT \
    (SELECT reset_val FROM pg_catalog.pg_settings \
        WHERE name OPERATOR(pg_catalog.=) 'search_path'), \
    pg_catalog.current_setting('search_path'), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('default_transaction_read_only'), CURRENT_USER, SESSION_USER, \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements) \
    OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors \
        WHERE name OPERATOR(pg_catalog.<>) '') \
    OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels()) \
    OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class \
        WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
    OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_settings \
        WHERE source OPERATOR(pg_catalog.=) 'session' AND name OPERATOR(pg_catalog.<>) 'DateStyle' \
        AND name OPERATOR(pg_catalog.<>) 'TimeZone' \
        AND name OPERATOR(pg_catalog.<>) 'application_name' \
        AND name OPERATOR(pg_catalog.<>) 'client_encoding' \
        AND name OPERATOR(pg_catalog.<>) 'standard_conforming_strings')";

/// What is known of a session that was just opened.
struct Found {
    search_path: String,
    standby: bool,
    read_only: bool,
}

/// Looks at a session that was just opened, and makes the settings that could not be made at startup.
pub(super) async fn settle(
    peer: &mut Peer,
    login: &Login<'_>,
    opened: &mut Opened,
) -> Result<(), Error> {
    let found = match login.postgres.pooler {
        Pooler::None => direct(peer, opened).await?,
        Pooler::Session => pooled(peer, login, opened).await?,
    };
    let wanted = search_path(&login.postgres.search_path);
    let own = login.postgres.pooler == Pooler::None && brings_search_path(login);
    if !own && found.search_path != wanted {
        return Err(Error::SearchPath { wanted });
    }
    if !fits(login.attrs, &found) {
        return Err(Error::Attrs {
            wanted: login.attrs.word(),
        });
    }
    set(peer, login, opened).await
}

async fn direct(peer: &mut Peer, opened: &mut Opened) -> Result<Found, Error> {
    let row = ask(peer, QUERY, opened).await?;
    let [pid, search_path, standby, read_only] = columns(&row)?;
    let own = opened.key.as_ref().map(|key| key.pid.to_string());
    if own.as_deref() != Some(pid) {
        return Err(Error::Pooled);
    }
    Ok(Found {
        search_path: search_path.to_owned(),
        standby: standby == "t",
        read_only: read_only == "on",
    })
}

async fn pooled(peer: &mut Peer, login: &Login<'_>, opened: &mut Opened) -> Result<Found, Error> {
    let row = ask(peer, POOLED_QUERY, opened).await?;
    let [
        resets_to,
        search_path,
        standby,
        read_only,
        current,
        session,
        left,
    ] = columns(&row)?;
    let user = login.postgres.user.as_str();
    if left != "0" || current != user || session != user {
        return Err(Error::Unclean);
    }
    let wanted = super::startup::search_path(&login.postgres.search_path);
    if resets_to != wanted {
        return Err(Error::RoleSearchPath { wanted });
    }
    Ok(Found {
        search_path: search_path.to_owned(),
        standby: standby == "t",
        read_only: read_only == "on",
    })
}

// As libpq decides since PostgreSQL 14 (`fe-connect.c`, `CONNECTION_CHECK_TARGET`).
fn fits(attrs: SessionAttrs, found: &Found) -> bool {
    let writes = !found.standby && !found.read_only;
    match attrs {
        SessionAttrs::Any => true,
        SessionAttrs::ReadWrite => writes,
        SessionAttrs::ReadOnly => !writes,
        SessionAttrs::Primary => !found.standby,
        SessionAttrs::Standby | SessionAttrs::PreferStandby => found.standby,
    }
}

/// Makes the client's settings that a pooler does not take at startup. What `RESET` brings back of
/// them is the role's own value then; the search path is not among what is known after one.
async fn set(peer: &mut Peer, login: &Login<'_>, opened: &mut Opened) -> Result<(), Error> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let calls: Vec<_> = later(login)
        .map(|setting| {
            let (name, value) = (literal(&setting.name), literal(&setting.value));
            format!("pg_catalog.set_config({name}, {value}, false)")
        })
        .collect();
    if calls.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT {}", calls.join(", "));
    ask(peer, &sql, opened).await.map(drop)
}

fn body_max(tag: u8) -> Option<usize> {
    match tag {
        // Column names and values: as many as a startup packet has settings.
        ROW_DESCRIPTION | DATA_ROW | ERROR | NOTICE => Some(64 * 1024),
        COMMAND_COMPLETE => Some(1_024),
        PARAMETER_STATUS => Some(8_192),
        READY => Some(1),
        _ => None,
    }
}

/// The one row that a query of ours gives. Settings that the server reports meanwhile are the client's
/// to know.
async fn ask(peer: &mut Peer, sql: &str, opened: &mut Opened) -> Result<Bytes, Error> {
    let mut query = BytesMut::new();
    write(&mut query, b'Q', |to| put_string(to, sql.as_bytes()));
    peer.send(&query).await?;
    let mut row = None;
    loop {
        let (tag, body) = peer.next(body_max).await?;
        match tag {
            ROW_DESCRIPTION | COMMAND_COMPLETE | NOTICE => {}
            PARAMETER_STATUS => opened.reported(tag, &body)?,
            DATA_ROW if row.is_none() => row = Some(body),
            READY if ready(&body)? == Status::Idle => {
                return row.ok_or(Error::Unanswered);
            }
            ERROR => return Err(Error::Denied(Denied::read(&body)?)),
            tag => return Err(Error::Order { message: Tag(tag) }),
        }
    }
}

//! What of a body rules look at, and what it says of that.

use bytes::Bytes;
use hyper::header;
use hyper::http::request::Parts;

use super::plan::Plan;
use crate::config::Http;
use crate::protocol::http::facts::{Facts, Wrong, body, called};
use crate::protocol::http::inject;
use crate::protocol::http::mask::grpc::{How, UNKNOWN_CALL, is_grpc};
use crate::protocol::kubernetes::facts as kubernetes;
use crate::session::Direction;
use crate::session::meter::Room;

/// What a body is read for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// What HTTP carries.
    Http(body::Wanted<'a>),
    /// A cluster.
    Cluster(kubernetes::Wanted),
}

pub(super) fn wanted<'a>(facts: &Facts, settings: &'a Http) -> Option<Wanted<'a>> {
    match &facts.cluster {
        Some(cluster) => {
            // A patch is looked at where fields are masked.
            let is_looked_at = |wanted: &kubernetes::Wanted| {
                *wanted != kubernetes::Wanted::Patch || !settings.mask.is_empty()
            };
            cluster.wanted().filter(is_looked_at).map(Wanted::Cluster)
        }
        None => body::wanted(facts, settings).map(Wanted::Http),
    }
}

/// Reads what a body says, where that is wanted; a request whose body cannot be read goes nowhere.
pub(super) fn hear(
    facts: &mut Facts,
    (plan, wanted): (&Plan, Option<Wanted<'_>>),
    body: (&Parts, &Bytes),
    room: Room,
) {
    if let Some(wanted) = wanted
        && let Err(wrong) = said(facts, (plan, wanted), body, room)
    {
        facts.wrong = Some(wrong);
    }
}

fn said(
    facts: &mut Facts,
    (plan, wanted): (&Plan, Wanted<'_>),
    (parts, bytes): (&Parts, &Bytes),
    room: Room,
) -> Result<(), Wrong> {
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Wrong::Unreadable(
            "the body is compressed, and has to be read",
        ));
    }
    if inject::is_in_pieces(&parts.headers) {
        return Err(Wrong::Unreadable(
            "the body comes in signed pieces, and has to be read",
        ));
    }
    let is_call = is_call(plan, facts);
    match (wanted, &mut facts.cluster) {
        (Wanted::Http(body::Wanted::Fields(read)), _) if is_call => {
            let how = How {
                direction: Direction::Sent,
                headers: &parts.headers,
                most: plan.http.judged_bytes,
                strict: true,
                room,
            };
            let call = called(&facts.http.path).and_then(|named| plan.called(&named));
            let call = call.ok_or(Wrong::Unreadable(UNKNOWN_CALL))?;
            let said = call.fields(&facts.http.content_type, bytes, (read, how));
            facts.http.fields = said.map_err(Wrong::Unreadable)?;
            Ok(())
        }
        (Wanted::Http(wanted), _) => body::read(facts, wanted, parts, bytes),
        (Wanted::Cluster(wanted), Some(cluster)) => {
            cluster.read_body(wanted, bytes).map_err(of_body)?;
            facts.around = cluster.copies.then_some(Wrong::NotOffered(
                "what is masked here would be copied, or asked for",
                "write values as they are to be: a merge patch, or apply",
            ));
            Ok(())
        }
        (Wanted::Cluster(_), None) => Ok(()),
    }
}

/// Whether messages are sent. A procedure that takes JSON beside them calls its fields as it likes: it is read by its
/// descriptor, or not at all.
fn is_call(plan: &Plan, facts: &Facts) -> bool {
    let is_known = || called(&facts.http.path).is_some_and(|named| plan.called(&named).is_some());
    is_grpc(&facts.http.content_type) || is_known()
}

/// Why a body of a cluster's goes nowhere.
pub(super) fn of_body(wrong: kubernetes::WrongBody) -> Wrong {
    match wrong {
        kubernetes::WrongBody::Masked => Wrong::NotOffered(
            "this would write a mask in the place of a value",
            "leave out what is masked, or write the value itself",
        ),
        kubernetes::WrongBody::Unreadable => {
            Wrong::Unreadable("the question of what is permitted is not JSON that can be read")
        }
    }
}

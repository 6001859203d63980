//! A body that is held: it has room that is bounded, for its agent and for all of them, and a time to come in.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use super::Wrong;
use crate::session::meter::Room;

/// How long a body may take to come in. A client that leaves its last byte out would keep its room for ever.
pub(super) const COMES: Duration = Duration::from_secs(30);

/// Bytes, and their room: both go together.
#[derive(Debug)]
struct Held {
    bytes: BytesMut,
    room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body that is to be judged, of at most so many bytes, that comes within this time.
pub(super) async fn collect<B>(
    body: B,
    (most, within): (usize, Duration),
    room: Room,
) -> Result<Bytes, Wrong>
where
    B: Body<Data = Bytes> + Unpin,
{
    let bytes = BytesMut::new();
    let held = whole(body, most, Held { bytes, room });
    let held = timeout(within, held).await;
    let held = held.unwrap_or(Err(Wrong::Late))?;
    Ok(Bytes::from_owner(held))
}

/// Holds bytes that were made of such a body, in its place.
pub(super) fn instead(bytes: &[u8], mut room: Room) -> Result<Bytes, Wrong> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    room.grow(length).map_err(|_full| Wrong::Crowded)?;
    let bytes = BytesMut::from(bytes);
    Ok(Bytes::from_owner(Held { bytes, room }))
}

async fn whole<B>(mut body: B, most: usize, mut held: Held) -> Result<Held, Wrong>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_broken| Wrong::Malformed("the body does not come to its end"))?;
        let Ok(bytes) = frame.into_data() else {
            return Err(Wrong::Unreadable(
                "the body has trailers, and has to be read",
            ));
        };
        if bytes.len() > most.saturating_sub(held.bytes.len()) {
            return Err(Wrong::Unreadable(
                "the body is longer than what is read of one (`http.judged`)",
            ));
        }
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        held.room.grow(more).map_err(|_full| Wrong::Crowded)?;
        held.bytes.extend_from_slice(&bytes);
    }
    Ok(held)
}

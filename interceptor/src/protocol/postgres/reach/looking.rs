//! Looking beside a session, on a connection of the daemon's own: few at a time, each for a bounded while,
//! whatever waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::CatalogReader;
use crate::protocol::postgres::inject::look;
use crate::protocol::postgres::touch::{self, Asked, Looker};
use crate::session::Touches;

/// Connections that look, at all targets together.
pub(super) const AT_ONCE: usize = 4;
/// How long one may take, its login included.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one waits for others.
const TURN: Duration = Duration::from_secs(30);

/// Looks by logging in as `reader` does.
pub(super) fn looker(reader: CatalogReader, room: Arc<Semaphore>) -> Looker {
    let reader = Arc::new(reader);
    Box::new(move |asked| {
        let (reader, room) = (Arc::clone(&reader), Arc::clone(&room));
        Box::pin(async move {
            let seen = at(&reader, &room, &asked).await;
            seen.unwrap_or_else(Touches::unknown)
        })
    })
}

async fn at(reader: &CatalogReader, room: &Semaphore, asked: &Asked) -> Result<Touches, String> {
    // Before anybody is dialled for it.
    let questions = touch::questions(asked)?;
    let place = timeout(TURN, room.acquire()).await;
    let Ok(Ok(_place)) = place else {
        return Err("too many others are looked at".to_owned());
    };
    let look = async {
        match reader.log_in().await {
            Ok(upstream) => Ok(look(upstream, asked, &questions).await),
            Err(_failed) => Err("the server takes no connection for it".to_owned()),
        }
    };
    let ended = timeout(PATIENCE, look).await;
    ended.unwrap_or_else(|_elapsed| Err("the server took too long".to_owned()))
}

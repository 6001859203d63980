//! What changes, as it changes: server-sent events, one stream for each page (HTML Standard section 9.2).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::control::Shared;
use crate::control::caller::Answer;
use crate::control::caller::logins::Session;
use crate::control::door::Stream;

/// How often a stream says that it stands, so that a page hears of a daemon that is gone.
const BEAT: Duration = Duration::from_secs(15);
/// How long one may last; the page opens another.
const LONGEST: Duration = Duration::from_mins(5);
/// The shortest time between two words: what changes meanwhile is one change.
const PACE: Duration = Duration::from_millis(500);

const CHANGED: &[u8] = b"event: approvals\ndata: {}\n\n";
const STANDS: &[u8] = b": stands\n\n";

/// `GET /api/events`.
///
/// # Errors
/// An answer where the session has too many streams already.
pub(super) async fn events(
    State(services): State<Shared>,
    Extension(session): Extension<Arc<Session>>,
) -> Result<Response, Answer> {
    let place = Arc::clone(&session.streams).try_acquire_owned();
    let place = place.map_err(|_full| Answer::bad("too many pages of this login are open"))?;
    let (sender, receiver) = mpsc::channel(1);
    let mut changes = services.approvals.changes();
    tokio::spawn(async move {
        let _place = place;
        let end = Instant::now() + LONGEST;
        let mut word = CHANGED;
        loop {
            // It is full where the page does not read: what was said last is enough.
            let sent = sender.send(Bytes::from_static(word));
            if timeout_at(end, sent).await.is_err() || sender.is_closed() {
                return;
            }
            sleep(PACE).await;
            word = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => CHANGED,
                    Err(_gone) => return,
                },
                () = sleep(BEAT) => STANDS,
                () = session.over.cancelled() => return,
                () = sender.closed() => return,
            };
            let lasts = session.is_open() && session.visitor.is_good(&services);
            if !lasts || Instant::now() > end {
                return;
            }
        }
    });
    let body = Body::new(Stream(receiver));
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

//! A session's terminals for a page: what was recorded of them so far, then what is recorded as it comes, one
//! JSON object a line. What was typed stays in the recording: a password may be among it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::Given;
use super::super::api::WhichSession;
use super::super::caller::logins::Session;
use super::super::caller::{Answer, Known};
use super::super::door::Stream;
use super::recorded;
use crate::clock::BootTime;
use crate::policy::{ControlObject, ControlVerb};
use crate::recording::{Error, Frame, Reader, Terminal, What};

/// How often it is looked whether there is more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one stream may last; the page opens another, which begins anew.
const LONGEST: Duration = Duration::from_mins(5);
/// Bytes of one piece, about.
const PIECE: usize = 256 << 10;
/// After so many looks that found nothing it is said that the stream stands.
const QUIET: u32 = 50;

/// `POST /api/sessions/watch`.
///
/// # Errors
/// An answer where policy refuses, there is no such recording or it cannot be read, the reading cannot be
/// written down, or too many pages of one login look on.
pub async fn watch(
    State(services): Given,
    Extension(session): Extension<Arc<Session>>,
    caller: Known,
    Json(asked): Json<WhichSession>,
) -> Result<Response, Answer> {
    let verb = ControlVerb::ReadSessions;
    caller.may(&services, verb, &ControlObject::Host).await?;
    let place = Arc::clone(&session.streams).try_acquire_owned();
    let place = place.map_err(|_full| Answer::bad("too many pages of this login are open"))?;
    let (directory, meta) = recorded(&services, &asked.session)?;
    // What cannot be written down is not read.
    let detail = json!({ "what": "recordings", "which": format!("watch {}", meta.session) });
    let written = caller.write(&services, "read", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    let reader = spawn_blocking(move || Reader::open(&directory)).await;
    let reader = reader.map_err(|error| Answer::failed(&error))?;
    let reader = reader.map_err(|error| Answer::failed(&error))?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let end = Instant::now() + LONGEST;
        let heading = line(&json!({ "session": meta }));
        if timeout_at(end, sender.send(heading)).await.is_err() {
            return;
        }
        let mut looks = Looks::new(reader);
        while Instant::now() < end && session.is_open() && session.visitor.is_good(&services) {
            let Ok((piece, now)) = spawn_blocking(move || looks.look()).await else {
                return;
            };
            looks = now;
            if !piece.is_empty() && !matches!(timeout_at(end, sender.send(piece)).await, Ok(Ok(())))
            {
                return;
            }
            if looks.over {
                return;
            }
            if looks.more {
                continue;
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = session.over.cancelled() => return,
                () = sender.closed() => return,
            }
        }
    });
    let body = Body::new(Stream(receiver));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A recording that is looked at again and again.
struct Looks {
    reader: Reader,
    /// There was more than one piece.
    more: bool,
    over: bool,
    quiet: u32,
}

impl Looks {
    fn new(reader: Reader) -> Self {
        Self {
            reader,
            more: false,
            over: false,
            quiet: 0,
        }
    }

    /// What is new.
    fn look(mut self) -> (Bytes, Self) {
        let mut piece = Vec::new();
        if !self.more
            && let Err(error) = self.reader.again()
        {
            return self.fails(piece, &error);
        }
        self.more = false;
        let begun = self.reader.meta().started_boot_ns;
        while let Some(frame) = self.reader.next() {
            match frame {
                Ok(Frame {
                    what: What::End(why),
                    ..
                }) => {
                    self.over = true;
                    piece.extend_from_slice(&line(&json!({ "over": why })));
                }
                Ok(frame) => {
                    if let Some(said) = said(&frame, begun) {
                        piece.extend_from_slice(&line(&said));
                    }
                }
                Err(Error::Torn { .. }) => break,
                Err(error) => return self.fails(piece, &error),
            }
            if piece.len() >= PIECE {
                self.more = true;
                return (piece.into(), self);
            }
        }
        // Of what a daemon left that died nobody wrote the end.
        if let (false, Some(ended)) = (self.over, &self.reader.meta().ended) {
            self.over = true;
            piece.extend_from_slice(&line(&json!({ "over": ended.reason })));
        }
        self.quiet = match piece.is_empty() {
            true => self.quiet.saturating_add(1),
            false => 0,
        };
        if self.quiet > QUIET {
            self.quiet = 0;
            piece.push(b'\n');
        }
        (piece.into(), self)
    }

    fn fails(mut self, mut piece: Vec<u8>, error: &Error) -> (Bytes, Self) {
        tracing::warn!(%error, "a recording that is watched cannot be read further");
        self.over = true;
        let said = json!({ "failed": error.to_string() });
        piece.extend_from_slice(&line(&said));
        (piece.into(), self)
    }
}

/// A frame for a page; none for what is no terminal's.
fn said(frame: &Frame, begun: BootTime) -> Option<Value> {
    let at = frame.at.since(begun).as_secs_f64();
    let What::Terminal(number, what) = &frame.what else {
        return None;
    };
    let mut said = match what {
        Terminal::Opened {
            columns,
            rows,
            command,
            ..
        } => json!({ "opened": command, "columns": columns, "rows": rows }),
        Terminal::Shown(bytes) | Terminal::Erred(bytes) => {
            json!({ "shown": BASE64_STANDARD.encode(bytes) })
        }
        Terminal::Resized { columns, rows } => json!({ "columns": columns, "rows": rows }),
        Terminal::Closed { status } => json!({ "closed": status.map_or(-1, i64::from) }),
        Terminal::Asked(request) => json!({ "asked": request }),
        Terminal::Carries(what) => json!({ "carries": what }),
        Terminal::Typed(_) | Terminal::Carried(..) | Terminal::Unrecorded { .. } => return None,
    };
    if let Value::Object(fields) = &mut said {
        fields.insert("at".to_owned(), json!(at));
        fields.insert("terminal".to_owned(), json!(number));
    }
    Some(said)
}

fn line(said: &Value) -> Bytes {
    let mut line = Vec::new();
    // Into memory, which does not fail.
    if writeln!(line, "{said}").is_err() {
        line.clear();
    }
    line.into()
}

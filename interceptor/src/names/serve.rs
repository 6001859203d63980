//! Where questions come in: datagrams at the name servers, connections by the redirect.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message::MOST_ASKED;
use super::{Asker, answer, identify};
use crate::audit::Sink as _;
use crate::audit::event::{Asked, Event};
use crate::capture::{Flow, NetnsCookie};
use crate::clock;
use crate::identity::ScopeOf;
use crate::policy::Refusal;
use crate::session::services::Services;

/// How long a connection may rest between two questions.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection.
const MOST: usize = 256;
/// How long the loop rests after an error such as a full table.
const REST: Duration = Duration::from_millis(100);

/// Answers what comes in at one name server until `stop`.
pub async fn by_datagram(
    services: Arc<Services>,
    (netns, socket): (NetnsCookie, UdpSocket),
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let socket = Arc::new(socket);
    let via = match socket.local_addr() {
        Ok(via) => via,
        Err(error) => {
            tracing::error!(%error, "cannot read a name server's address");
            return;
        }
    };
    let mut buffer = [0; MOST_ASKED + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stop.cancelled() => return,
        };
        let (bytes, client) = match received {
            Ok((length, client)) => (buffer.get(..length).unwrap_or_default(), client),
            Err(error) => {
                tracing::debug!(%error, "cannot read a question");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Whoever is in no scope has no record, and gets no answer.
        let Ok(flow) = services.capture.asked(netns, client, via) else {
            services.metrics.name_asked("unrecorded");
            continue;
        };
        if !admits(&services, &flow) {
            continue;
        }
        // A full house drops a question, as any resolver does; the client asks again.
        let Some(place) = services.names.place(flow.scope) else {
            services.metrics.name_asked("dropped");
            continue;
        };
        let (services, socket, bytes) =
            (Arc::clone(&services), Arc::clone(&socket), bytes.to_vec());
        tasks.spawn(async move {
            if let Some(asker) = proved(&services, flow).await
                && let Some(answer) = answer(&services, &asker, &bytes, false).await
                && let Err(error) = socket.send_to(&answer, client).await
            {
                tracing::debug!(%error, "cannot send an answer");
            }
            drop(place);
        });
    }
}

/// Answers the questions of one connection. Each is judged; who asks was proved when it was opened.
pub async fn by_stream(services: &Services, mut stream: TcpStream, flow: Flow) {
    let Some(asker) = proved(services, flow).await else {
        return drop(crate::socket::reset_on_close(&stream));
    };
    for _ in 0..MOST {
        let Ok(Some(bytes)) = timeout(IDLE, next(&mut stream)).await else {
            return;
        };
        if !admits(services, &asker.flow) {
            return;
        }
        let Some(place) = services.names.place(asker.flow.scope) else {
            return;
        };
        let answered = answer(services, &asker, &bytes, true).await;
        drop(place);
        let Some(answered) = answered else { return };
        let Ok(length) = u16::try_from(answered.len()) else {
            return;
        };
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(answered);
        if !matches!(timeout(IDLE, stream.write_all(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The next question of a connection; none at its end, or where it is longer than any question.
async fn next(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > MOST_ASKED {
        return None;
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// Whether its scope may ask one more question now.
fn admits(services: &Services, flow: &Flow) -> bool {
    let rate = services.config.load().names.queries_per_second;
    let admitted = services.names.limits.admit(flow.scope, rate, clock::boot());
    if !admitted {
        services.metrics.name_asked("limited");
    }
    admitted
}

/// Who asks; none where that cannot be proved, which the audit is told.
async fn proved(services: &Services, flow: Flow) -> Option<Asker> {
    let resolver = flow.destination.0;
    match identify(services, flow).await {
        Ok(asker) => Some(asker),
        Err((scope, cause)) => {
            services.metrics.name_asked("unproved");
            let agent = scope.as_ref().map_or("", |ScopeOf { agent, .. }| agent);
            let event = Event::NameRefused {
                asked: Asked {
                    agent,
                    principal: None,
                    name: None,
                    qtype: None,
                    resolver,
                    folded: 0,
                },
                refusal: &Refusal::identity(),
                cause: Some(cause),
            };
            if let Err(error) = services.audit.append(&event) {
                tracing::error!(%error, "cannot write a refused question to the audit log");
            }
            None
        }
    }
}

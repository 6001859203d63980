//! The client of the control socket: one request, one answer.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::control::api::Problem;
use crate::tokens::encoded;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// The number of the process that listens on the socket; none where none does, or it lives where this one
/// cannot see it.
pub(super) async fn daemon(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Asks for something.
///
/// # Errors
/// Where no daemon answers on the socket, or it refuses; the text says what to do.
pub(super) async fn get<A: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<A> {
    answer(&send(socket, Method::GET, path, Bytes::new()).await?)
}

/// Asks for something as text.
///
/// # Errors
/// As [`get`].
pub(super) async fn get_text(socket: &Path, path: &str) -> anyhow::Result<String> {
    let body = send(socket, Method::GET, path, Bytes::new()).await?;
    String::from_utf8(body.to_vec()).context("the daemon's answer is not UTF-8")
}

/// Tells the daemon to do something.
///
/// # Errors
/// As [`get`].
pub(super) async fn post<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    path: &str,
    asked: &Q,
) -> anyhow::Result<A> {
    let body = serde_json::to_vec(asked).context("cannot write the request as JSON")?;
    answer(&send(socket, Method::POST, path, Bytes::from(body)).await?)
}

/// Sends a form.
///
/// # Errors
/// As [`get`].
pub(super) async fn post_form<A: DeserializeOwned>(
    socket: &Path,
    path: &str,
    fields: &[(&str, &str)],
) -> anyhow::Result<A> {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value));
    let body = fields.iter().map(pair).collect::<Vec<_>>().join("&");
    let of_type = "application/x-www-form-urlencoded";
    let body = (Bytes::from(body), of_type);
    answer(&send_as(socket, Method::POST, path, body).await?)
}

fn answer<A: DeserializeOwned>(body: &[u8]) -> anyhow::Result<A> {
    serde_json::from_slice(body)
        .context("cannot read the daemon's answer; is it of another version?")
}

async fn send(socket: &Path, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    send_as(socket, method, path, (body, "application/json")).await
}

async fn send_as(
    socket: &Path,
    method: Method,
    path: &str,
    (body, of_type): (Bytes, &str),
) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return anyhow::anyhow!(
                "cannot reach {}: {error}; the control socket does not answer agents, and the kernel keeps them \
                 from it",
                socket.display()
            );
        }
        anyhow::anyhow!(
            "cannot reach the daemon on {}: {error}; is it running? Where `interceptor daemon` was \
             started it says what is wrong, or `systemctl status interceptor` does; `--config` or \
             `--socket` names another one",
            socket.display()
        )
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "interceptor")
        .header(CONTENT_TYPE, of_type)
        .body(Full::new(body))?;
    let response = sender
        .send_request(request)
        .await
        .context("the daemon closed the connection")?;
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await;
    let body = body
        .map_err(|error| anyhow::anyhow!("cannot read the daemon's answer: {error}"))?
        .to_bytes();
    drop(sender);
    driver.abort();
    if !status.is_success() {
        return Err(problem(status, &body));
    }
    Ok(body)
}

/// What a daemon said that refused or failed.
#[derive(Debug)]
pub(super) struct Told(pub(super) Problem);

impl std::error::Error for Told {}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(Problem { title, detail, .. }) = self;
        match detail {
            Some(detail) => write!(f, "{title}; {detail}"),
            None => f.write_str(title),
        }
    }
}

fn problem(status: hyper::StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Told(problem).into(),
        Err(_) => anyhow::anyhow!("{status}: {}", String::from_utf8_lossy(body)),
    }
}

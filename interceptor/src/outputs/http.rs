//! One request to a receiver, and its answer, both bounded; under TLS, or on loopback where that is allowed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::config::{Host, OutputWeb, Url};
use crate::socket;
use crate::tls::{self, Stream, Web};

/// How long an answer may take, from the look-up of the name to its last byte.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an address may take to be connected to.
const DIAL: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// A receiver.
pub(super) struct Http {
    url: Url,
    ca: Option<PathBuf>,
    allow_http: bool,
}

impl Http {
    pub(super) fn new(web: &OutputWeb) -> Self {
        Self {
            url: web.url.clone(),
            ca: web.ca.clone(),
            allow_http: web.allow_http,
        }
    }

    /// Sends a body; fails where it is not taken.
    pub(super) async fn post(
        &self,
        kind: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<Bytes, String> {
        let url = &self.url;
        url.may_be_spoken_to(self.allow_http)
            .map_err(|expected| format!("{} is not spoken to: {expected}", url.text))?;
        let asked = timeout(PATIENCE, self.exchange(kind, headers, body)).await;
        let asked = asked.unwrap_or_else(|_elapsed| {
            Err(format!("it did not answer in {} s", PATIENCE.as_secs()))
        });
        match asked {
            Ok((200..=299, body)) => Ok(body),
            Ok((status, _)) => Err(format!("{} answers {status}", url.text)),
            Err(error) => Err(format!("{} cannot be asked: {error}", url.text)),
        }
    }

    async fn exchange(
        &self,
        kind: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<(u16, Bytes), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let stream = connect(
            &self.url.host,
            self.url.port,
            self.url.secure.then_some(Web::new as Secured),
            self.ca.clone(),
        )
        .await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| said(&error))?;
        let _driver = Driver(tokio::spawn(connection).abort_handle());
        let host = match &self.url.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.url.port).to_string(),
            Host::Name(name) => format!("{name}:{}", self.url.port),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.url.path)
            .header(HOST, host)
            .header(CONTENT_TYPE, kind);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| said(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| said(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

/// How TLS is set up: with these roots, or the host's own.
pub(super) type Secured = fn(Option<&Path>) -> Result<Web, tls::Error>;

/// Connects to a receiver; with TLS its name is verified, always.
pub(super) async fn connect(
    host: &Host,
    port: u16,
    secure: Option<Secured>,
    ca: Option<PathBuf>,
) -> Result<Stream, String> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), port)).await;
            found.map_err(|error| error.to_string())?.collect()
        }
    };
    let mut failed = "its name has no address".to_owned();
    for address in addresses.into_iter().take(4) {
        match socket::dial(address, socket::From::Daemon, DIAL).await {
            Ok(stream) if secure.is_some() => {
                let secured = secure.unwrap_or(Web::new);
                let web = tokio::task::spawn_blocking(move || secured(ca.as_deref())).await;
                let web = web
                    .map_err(|error| error.to_string())?
                    .map_err(|error| error.to_string())?;
                let stream = web.connect(stream, host).await;
                return stream.map_err(|error| error.to_string());
            }
            Ok(stream) => return Ok(Stream::Plain(stream)),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}

/// Ends the connection with whoever waited for its answer.
struct Driver(tokio::task::AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

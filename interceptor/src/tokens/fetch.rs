//! Asking an issuer: one request, one answer, both bounded. Under TLS, or on loopback where that is
//! allowed; what would lead elsewhere is not followed.

pub mod clients;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::config::{Host, Issuer, Url};
use crate::socket;
use crate::tls::{Stream, Web};

/// How long an answer may take, from the look-up of the name to its last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one address of several may take to be connected to.
const DIAL: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes of an answer.
const MAX_ANSWER: usize = 256 << 10;
/// Bytes of its headers.
const MAX_HEAD: usize = 32 << 10;

/// How one issuer is asked.
#[derive(Debug)]
pub(crate) struct Asks {
    ca: Option<PathBuf>,
    allow_http: bool,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP's status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Bytes,
}

impl Asks {
    /// As the configuration says.
    pub(super) fn new(issuer: &Issuer) -> Self {
        Self {
            ca: issuer.ca.clone(),
            allow_http: issuer.allow_http,
        }
    }

    /// For a service that is no issuer.
    pub(crate) fn of(ca: Option<PathBuf>, allow_http: bool) -> Self {
        Self { ca, allow_http }
    }

    /// Sends something under headers of its own; the status of the answer. The address is in no error: it may be
    /// a secret.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn tell(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
        body: Bytes,
    ) -> Result<u16, String> {
        url.may_be_spoken_to(self.allow_http)?;
        let asked = timeout(PATIENCE, self.exchange(Method::POST, url, headers, body));
        let asked = asked.await.unwrap_or_else(|_elapsed| {
            Err(format!("it did not answer in {} s", PATIENCE.as_secs()))
        });
        asked.map(|answer| answer.status)
    }

    /// Gets a document.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn get(&self, url: &Url) -> Result<Bytes, String> {
        let answer = self.ask(Method::GET, url, &[], Bytes::new()).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!("{} answers {status}", url.text)),
        }
    }

    /// Sends a form.
    ///
    /// # Errors
    /// Why there is no answer; one that says no is an answer.
    pub(super) async fn post(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Answer, String> {
        self.post_as(url, None, fields).await
    }

    /// Sends a form with a header that says who asks.
    ///
    /// # Errors
    /// As [`Asks::post`].
    pub(super) async fn post_as(
        &self,
        url: &Url,
        who: Option<&str>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let who: Vec<_> = who
            .map(|who| (AUTHORIZATION, who.to_owned()))
            .into_iter()
            .collect();
        self.ask(Method::POST, url, &who, form(fields).into()).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        more: &[(HeaderName, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        url.may_be_spoken_to(self.allow_http)
            .map_err(|expected| format!("{} is not asked: {expected}", url.text))?;
        let form = "application/x-www-form-urlencoded".to_owned();
        let headers = [&[(CONTENT_TYPE, form)][..], more].concat();
        let asked = timeout(PATIENCE, self.exchange(method, url, &headers, body));
        let asked = asked.await.unwrap_or_else(|_elapsed| {
            Err(format!("it did not answer in {} s", PATIENCE.as_secs()))
        });
        asked.map_err(|error| format!("{} cannot be asked: {error}", url.text))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let stream = self.connect(url).await?;
        let handshake = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| said(&error))?;
        let _driver = Driver(tokio::spawn(connection).abort_handle());
        let host = match &url.host {
            Host::Ip(ip) => SocketAddr::new(*ip, url.port).to_string(),
            Host::Name(name) => format!("{name}:{}", url.port),
        };
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .method(method)
            .uri(&url.path)
            .header(HOST, host)
            .header(ACCEPT, "application/json")
            .body(Full::new(body))
            .map_err(|error| said(&error))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| said(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let body = body.await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body })
    }

    async fn connect(&self, url: &Url) -> Result<Stream, String> {
        let mut failed = "its name has no address".to_owned();
        for address in addresses(url).await?.into_iter().take(MAX_ADDRESSES) {
            match socket::dial(address, socket::From::Daemon, DIAL).await {
                Ok(stream) if url.secure => {
                    let ca = self.ca.clone();
                    let web = tokio::task::spawn_blocking(move || Web::new(ca.as_deref())).await;
                    let web = web.map_err(|error| error.to_string())?;
                    let web = web.map_err(|error| error.to_string())?;
                    let stream = web.connect(stream, &url.host).await;
                    return stream.map_err(|error| error.to_string());
                }
                Ok(stream) => return Ok(Stream::Plain(stream)),
                Err(error) => failed = error.to_string(),
            }
        }
        Err(failed)
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    fields.join("&")
}

/// Ends the connection with whoever waited for its answer.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, String> {
    match &url.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, url.port)]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), url.port)).await;
            Ok(found.map_err(|error| error.to_string())?.collect())
        }
    }
}

/// As a form carries it (`application/x-www-form-urlencoded`): all but letters, digits and four marks as
/// numbers.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

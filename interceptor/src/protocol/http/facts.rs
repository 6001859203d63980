//! What one request asks for: its head in policy's words, or why it is none.

// What a request asks for is written out for each kind of thing: a new one does not compile unread.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod body;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{Context as Digest, SHA256};
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Version};

use super::wire::{path, query};
use crate::config::{Host, Http};
use crate::policy::{Access, Action, Ask, Context, GrpcFacts, HttpFacts, Refusal, Resource};
use crate::protocol::kubernetes::facts as kubernetes;
use crate::session::Reading;

/// Headers by which a server may take a request for one of another method.
const OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];
/// Headers by which a server may take a request for one of another path.
const REWRITES: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// What a connection becomes for a WebSocket (RFC 6455).
pub const WEBSOCKET: &str = "websocket";
/// Bytes as they are, as container engines attach to a container.
const BYTES: &str = "tcp";
/// Streams in frames, as a cluster carries commands and ports: data is not compressed in it (SPDY/3.1, 2.2.2).
const SPDY: &str = "spdy/3.1";

/// A request that was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What is done; more than one thing where a server may take it for another.
    pub actions: BTreeSet<Action>,
    /// All that conditions look at.
    pub http: HttpFacts,
    /// Why it goes nowhere, whatever policy says.
    pub wrong: Option<Wrong>,
    /// What it is to a cluster, where the target is one: that is what is judged then.
    pub cluster: Option<Box<kubernetes::Facts>>,
    /// Why it goes nowhere where fields of its answer are masked.
    pub around: Option<Wrong>,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is no request that everybody reads alike: 400.
    Malformed(&'static str),
    /// It names a host that is none of the target's: 421.
    Misdirected,
    /// Its method is not spoken here: 501.
    Method,
    /// What its connection is to become is not carried: 501.
    Upgrade(&'static str),
    /// Its body cannot be read, and has to be: 403.
    Unreadable(&'static str),
    /// Its body does not come in: 408.
    Late,
    /// So many bodies are held that there is no room for it: 429.
    Crowded,
    /// A value of this kind stands in it that must not leave: 403.
    Leaving(&'static str),
    /// It is not offered, and what is offered instead: 403.
    NotOffered(&'static str, &'static str),
}

impl From<query::Unclear> for Wrong {
    fn from(_: query::Unclear) -> Self {
        Self::Unreadable("the query says what servers read differently")
    }
}

impl Wrong {
    /// The refusal that it is.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Malformed(why) => Refusal::malformed(why),
            Self::Misdirected => Refusal::not_offered(
                "the host of the request is none of this target's",
                "name a host that this target has; one connection is to one target",
            ),
            Self::Method => Refusal::not_offered(
                "this method is not forwarded",
                "CONNECT and TRACE are never forwarded",
            ),
            Self::Upgrade(why) => {
                Refusal::not_offered(why, "upgrade to websocket, or ask without an upgrade")
            }
            Self::Unreadable(why) => Refusal::unread(why),
            Self::Late => Refusal::malformed("the body has to be read, and does not come in"),
            Self::Crowded => Refusal::limit("bytes of bodies that are read to be judged"),
            Self::Leaving(kind) => Refusal::leaving(kind),
            Self::NotOffered(what, instead) => Refusal::not_offered(what, instead),
        }
    }
}

/// Reads the head of a request.
#[must_use]
pub fn read(parts: &Parts, settings: &Http, port: u16) -> Facts {
    let mut http = HttpFacts {
        method: parts.method.as_str().to_owned(),
        path: "/".to_owned(),
        headers: parts
            .headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect(),
        content_type: media_type(parts).unwrap_or_default(),
        upgrade: upgrade(parts).unwrap_or_default(),
        ..HttpFacts::default()
    };
    let wrong = fill(&mut http, parts, settings, port).err();
    if http.content_type.starts_with("application/grpc") {
        http.grpc = called(&http.path);
    }
    Facts {
        actions: actions(parts, &http),
        http,
        wrong,
        cluster: None,
        around: None,
    }
}

fn fill(http: &mut HttpFacts, parts: &Parts, settings: &Http, port: u16) -> Result<(), Wrong> {
    media_type(parts)?;
    let (host, named) = host(parts)?;
    http.host = host.trim_matches(['[', ']']).to_owned();
    http.path = path::read(parts.uri.path(), settings.path_parameters).map_err(Wrong::Malformed)?;
    let parameters =
        query::read(parts.uri.query().unwrap_or_default()).map_err(Wrong::Malformed)?;
    http.query = parameters.names;
    http.parameters = parameters.pairs;
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Wrong::Method);
    }
    framed(parts)?;
    let offered = settings.hosts.iter().any(|offered| match offered {
        Host::Name(name) => *name == http.host,
        Host::Ip(ip) => http
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|named| *ip == named),
    });
    if !(offered && named.is_none_or(|named| named == port)) {
        return Err(Wrong::Misdirected);
    }
    // The last of all: a cluster may become one thing more.
    upgraded(&http.upgrade, settings)
}

/// The host that a request names, lower case, and its port where it names one. Two that differ are none.
fn host(parts: &Parts) -> Result<(String, Option<u16>), Wrong> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let said = hosts.next();
    if hosts.next().is_some() {
        return Err(Wrong::Malformed("the request has two Host headers"));
    }
    let said = match said {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_not_text| Wrong::Malformed("the Host header is not text"))?,
        ),
        None => None,
    };
    let authority = match (parts.uri.authority(), said) {
        (Some(named), Some(said)) if !named.as_str().eq_ignore_ascii_case(said) => {
            return Err(Wrong::Malformed("the request names two hosts"));
        }
        (Some(named), _) => named.clone(),
        (None, Some(said)) => said
            .parse::<Authority>()
            .map_err(|_not_a_host| Wrong::Malformed("the Host header is no host"))?,
        (None, None) => return Err(Wrong::Malformed("the request names no host")),
    };
    if authority.as_str().contains('@') {
        return Err(Wrong::Malformed("the host has a user in it"));
    }
    let host = authority.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
    let is_bare = authority.as_str().len() == authority.host().len();
    match (authority.port_u16(), is_bare) {
        (None, false) => Err(Wrong::Malformed("the host has a port that is none")),
        (port, _) => Ok((host, port)),
    }
}

/// Whether everybody agrees on where the request ends. The parser has refused lengths that differ, lines that go on
/// on the next one, and a coding that is not chunked at its end; what it lets through is looked at here.
fn framed(parts: &Parts) -> Result<(), Wrong> {
    let codings: Vec<_> = parts
        .headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .collect();
    let is_chunked = match codings.as_slice() {
        [] => false,
        [one] if one.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => {
            return Err(Wrong::Malformed(
                "the request has a transfer coding that is not chunked",
            ));
        }
    };
    if is_chunked && parts.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Wrong::Malformed("the request has two lengths"));
    }
    let length = parts.headers.get(header::CONTENT_LENGTH);
    // Clients say of a POST that it has no body.
    let is_body = is_chunked || length.is_some_and(|length| length != "0");
    if parts.version == Version::HTTP_2 && is_chunked {
        return Err(Wrong::Malformed(
            "the request has a transfer coding, which HTTP/2 has none of",
        ));
    }
    if is_body && upgrade(parts).is_some() {
        return Err(Wrong::Malformed(
            "the request has a body and upgrades its connection",
        ));
    }
    match parts.headers.keys().any(|name| is_of(&REWRITES, name)) {
        true => Err(Wrong::Malformed(
            "the request has a header that names another path",
        )),
        false => Ok(()),
    }
}

/// Whether what the connection is to become is carried: never more requests, which nobody would judge, and beside a
/// credential only what it can be looked for in.
fn upgraded(to: &str, settings: &Http) -> Result<(), Wrong> {
    let is_http = ["h2", "http", "tls"]
        .iter()
        .any(|kind| to.starts_with(kind));
    match to {
        "" | WEBSOCKET | BYTES => Ok(()),
        _ if to.contains(',') => Err(Wrong::Malformed(
            "the request offers more than one thing for its connection to become",
        )),
        _ if is_http => Err(Wrong::Upgrade(
            "no connection becomes another version of HTTP, or TLS, in its middle",
        )),
        _ if settings.inject.is_some() => Err(Wrong::Upgrade(
            "what the connection is to become cannot be searched for the credential",
        )),
        _ => Ok(()),
    }
}

/// What the connection is to become, lower case.
#[must_use]
pub fn upgrade(parts: &Parts) -> Option<String> {
    let asks = parts.headers.get_all(header::CONNECTION).iter();
    let mut asks = asks
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    asks.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
        .then_some(())?;
    let to = parts.headers.get(header::UPGRADE)?.to_str().ok()?;
    Some(to.trim().to_ascii_lowercase())
}

/// The media type of a request. What cannot be read would hide what the body is.
fn media_type(parts: &Parts) -> Result<String, Wrong> {
    let mut said = parts.headers.get_all(header::CONTENT_TYPE).iter();
    let one = said.next();
    if said.next().is_some() || one.is_some_and(|one| one.to_str().is_err()) {
        return Err(Wrong::Malformed(
            "the request has a Content-Type that servers read differently",
        ));
    }
    Ok(media_type_of(&parts.headers))
}

/// The media type of a message, lower case, without parameters.
#[must_use]
pub fn media_type_of(headers: &hyper::HeaderMap) -> String {
    let said = content_type_of(headers);
    let kind = said.split(';').next();
    kind.unwrap_or_default().trim().to_owned()
}

/// The media type of a message, lower case, with its parameters.
#[must_use]
pub fn content_type_of(headers: &hyper::HeaderMap) -> String {
    let said = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    said.unwrap_or_default().trim().to_ascii_lowercase()
}

/// The procedure of gRPC that a path names: `/package.Service/Method`.
#[must_use]
pub fn called(path: &str) -> Option<GrpcFacts> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(GrpcFacts {
        service: service.to_owned(),
        method: method.to_owned(),
    })
}

/// Whether a header is one of these. Gateways to programs (CGI, WSGI) make no difference between `_` and `-`.
fn is_of(names: &[&str], name: &HeaderName) -> bool {
    names.contains(&name.as_str().replace('_', "-").as_str())
}

/// The methods that headers name in the place of the request's own.
fn overriding(parts: &Parts) -> impl Iterator<Item = String> {
    let headers = parts.headers.iter();
    let values = headers.filter(|(name, _)| is_of(&OVERRIDES, name));
    values.map(|(_, value)| {
        let method = value.to_str().unwrap_or_default();
        method.trim().to_ascii_uppercase()
    })
}

fn actions(parts: &Parts, http: &HttpFacts) -> BTreeSet<Action> {
    let mut actions = BTreeSet::new();
    if !http.upgrade.is_empty() {
        actions.insert(Action::HttpUpgrade);
    }
    // A server may leave the offer, and do what the method says.
    if http.upgrade.is_empty() || parts.method != Method::GET {
        actions.insert(action(parts.method.as_str()));
    }
    actions.extend(overriding(parts).map(|method| action(&method)));
    actions
}

fn action(method: &str) -> Action {
    match method {
        "GET" => Action::HttpGet,
        "HEAD" => Action::HttpHead,
        "OPTIONS" => Action::HttpOptions,
        "POST" => Action::HttpPost,
        "PUT" => Action::HttpPut,
        "PATCH" => Action::HttpPatch,
        "DELETE" => Action::HttpDelete,
        _ => Action::HttpOther,
    }
}

impl Facts {
    /// Whether it is answered with objects of a cluster.
    #[must_use]
    pub fn is_object(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.is_object())
    }

    /// What the connection is to become, if anything.
    #[must_use]
    pub fn upgrades_to(&self) -> Option<String> {
        let to = &self.http.upgrade;
        (!to.is_empty()).then(|| to.clone())
    }

    /// Reads what it is to a cluster.
    pub fn of_cluster(&mut self, parts: &Parts) {
        if self.http.upgrade == SPDY && matches!(self.wrong, Some(Wrong::Upgrade(_))) {
            self.wrong = None;
        }
        let (method, raw) = (parts.method.as_str(), parts.uri.query());
        let how = (self.http.upgrade.as_str(), self.http.content_type.as_str());
        let read = kubernetes::read(method, &self.http.path, raw.unwrap_or_default(), how);
        let read = match (self.wrong, read) {
            (None, Ok(read)) => read,
            (None, Err(why)) => {
                self.wrong = Some(Wrong::Malformed(why));
                kubernetes::Facts::unread()
            }
            (Some(_), _) => kubernetes::Facts::unread(),
        };
        if overriding(parts).any(|other| other != method) && self.wrong.is_none() {
            self.wrong = Some(Wrong::Malformed("the request names two methods"));
        }
        if read.is_list_of_rights() {
            self.wrong = Some(Wrong::NotOffered(
                "a list of all that is permitted cannot be given",
                "ask for one thing: kubectl auth can-i VERB KIND",
            ));
        }
        self.cluster = Some(Box::new(read));
    }

    /// The resource that it is about.
    #[must_use]
    pub fn resource(&self) -> Resource {
        if let Some(cluster) = &self.cluster {
            return cluster.resource();
        }
        Resource::Path {
            path: self.http.path.clone(),
        }
    }

    /// The request as the gate judges it, with its query as it was sent.
    #[must_use]
    pub fn reading(&self, raw_query: Option<&str>) -> Reading {
        let access = |action: &Action| Access {
            action: *action,
            resource: self.resource(),
        };
        let http = &self.http;
        let summary = format!("{} {}", http.method, http.path);
        let redacted = match raw_query {
            Some(raw) => format!("{summary}?{}", query::redacted(raw)),
            None => summary.clone(),
        };
        if let Some(cluster) = &self.cluster {
            return cluster.reading(&redacted, self.wrong.map(Wrong::refusal));
        }
        let mut digest = Digest::new(&SHA256);
        for part in [&http.method, &http.host, &http.path]
            .into_iter()
            .chain(&http.query)
        {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let digest = digest.finish();
        let mark = digest.as_ref().get(..8).unwrap_or_default();
        let ask = |http: HttpFacts| Ask {
            accesses: self.actions.iter().map(access).collect(),
            context: Context {
                http: Some(Box::new(http)),
                ..Context::default()
            },
        };
        // What some servers read in it has to be permitted as well, and forbids see it.
        let more = raw_query.and_then(query::lenient).map(|more| HttpFacts {
            query: more.names,
            parameters: more.pairs,
            ..http.clone()
        });
        Reading {
            asks: [http.clone()].into_iter().chain(more).map(ask).collect(),
            redacted: redacted.into(),
            fingerprint: hex::encode(mark).into(),
            summary: summary.into(),
            masked: Arc::new([]),
            veto: self.wrong.map(|wrong| Arc::new(wrong.refusal())),
        }
    }
}

#[cfg(test)]
mod tests;

//! `http`: what a target that speaks HTTP says, and what is made of it.

mod client;
mod fields;
pub mod hmac;
mod passing;
mod sigv4;

use std::path::PathBuf;

pub use self::client::{Client, Grant};
pub use self::fields::Fields;
use self::hmac::Hmac;
pub use self::passing::Undecrypted;
pub use self::sigv4::Sigv4;
use super::{Form, GIB, Held, KIB, Key, SECRET, SENSITIVE, Shape, detect, may, must};
use crate::config::document::{Entry, Node};
use crate::config::mistake::Report;
use crate::config::{Config, Host, SecretSource, Target, build, cross, scalar, sensitive};
use crate::masking::Mask;
use crate::masking::detect::Actions;

/// Masks of one target: each key of an answer is held against all of them.
const MASKS_MAX: usize = 256;

/// A target that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Hosts that requests may name. Default: those of the target's addresses.
    pub hosts: Vec<Host>,
    /// The credential that requests are given; none for requests without.
    pub inject: Option<Inject>,
    /// Headers of requests that hold credentials, beside those that everybody knows; lower case.
    pub credential_headers: Vec<String>,
    /// What becomes of cookies of requests. Default `Drop` where agents see no `set-cookie` beside a credential, else
    /// `Keep`.
    pub cookies: Cookies,
    /// Headers of answers that agents do not see; lower case.
    pub strip_response_headers: Vec<String>,
    /// Fields of JSON that are masked for whoever policy does not permit to `Reveal` the path.
    pub mask: Vec<(String, Mask)>,
    /// What is done about values that are found in requests by their form. Default nothing.
    pub detect_sent: Actions,
    /// What is done about what masks cannot read. Default `Refuse`.
    pub unread: Unread,
    /// What is done where a client asks for a part. Default `Pass` where requests are signed, else `Whole`.
    pub ranges: Ranges,
    /// What is known of the first lines of tables. Default what they say themselves.
    pub tables: Tables,
    /// The file of descriptors by which messages of gRPC are read; none where they are not.
    pub grpc: Option<PathBuf>,
    /// Paths whose requests are GraphQL.
    pub graphql: Vec<String>,
    /// Paths whose requests are of the Model Context Protocol.
    pub mcp: Vec<String>,
    /// Paths whose requests name a language model.
    pub models: Vec<String>,
    /// Paths of whose requests policy sees fields of the body.
    pub fields: Vec<Fields>,
    /// Most bytes of a body that is read to be judged. Default 1 MiB.
    pub judged_bytes: usize,
    /// Most bytes of each body that are recorded. Default 64 KiB.
    pub recorded_bytes: usize,
    /// Whether paths may hold parameters (`;`). Default false.
    pub path_parameters: bool,
    /// Whose TLS goes by undecrypted. Default nobody's.
    pub undecrypted: Undecrypted,
}

/// Where the credential stands in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inject {
    /// `Authorization: Bearer`.
    Bearer(SecretSource),
    /// `Authorization: Basic`.
    Basic {
        /// Who.
        user: String,
        /// With what.
        password: SecretSource,
    },
    /// A header.
    Header {
        /// Its name, lower case.
        name: String,
        /// What stands before the secret.
        prefix: String,
        /// The secret.
        value: SecretSource,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        name: String,
        /// The secret.
        value: SecretSource,
    },
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// The secret.
        value: SecretSource,
    },
    /// `Authorization: Bearer`, with a token that an authorization server issues for client credentials.
    Issued(Box<Client>),
    /// A signature of AWS's fourth version.
    Sigv4(Box<Sigv4>),
    /// A signature by a scheme of its own.
    Hmac(Box<Hmac>),
}

impl Inject {
    /// Where its secret comes from.
    #[must_use]
    pub fn secret(&self) -> &SecretSource {
        match self {
            Self::Bearer(source) => source,
            Self::Basic { password, .. } => password,
            Self::Issued(client) => &client.secret,
            Self::Hmac(hmac) => &hmac.secret,
            Self::Sigv4(sigv4) => &sigv4.secret,
            Self::Header { value, .. } | Self::Query { value, .. } | Self::Cookie { value, .. } => {
                value
            }
        }
    }

    /// Where all of its secrets come from.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretSource> {
        let beside = match self {
            Self::Sigv4(sigv4) => sigv4.token.as_ref(),
            Self::Issued(client) => client.grant.secret(),
            _ => None,
        };
        std::iter::once(self.secret()).chain(beside)
    }

    /// What it is called in the audit.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Bearer(_) => "bearer",
            Self::Basic { user, .. } => user,
            Self::Issued(client) => &client.id,
            Self::Sigv4(sigv4) => sigv4.id.as_deref().unwrap_or("sigv4"),
            Self::Hmac(_) => "hmac",
            Self::Header { name, .. } | Self::Query { name, .. } | Self::Cookie { name, .. } => {
                name
            }
        }
    }
}

/// What becomes of cookies of requests, but for the one that is the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// They go on.
    Keep,
    /// They are reported and dropped.
    Drop,
}

/// What is done about what cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It goes no farther.
    Refuse,
    /// It goes on as it is.
    Pass,
}

impl Unread {
    /// What `unread` below a key says.
    pub(super) fn said(node: Option<&Node>) -> Self {
        match build::text(node, "unread").as_deref() {
            Some("pass") => Self::Pass,
            _ => Self::Refuse,
        }
    }
}

/// What is done where a client asks for a part of what has to be looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The server is asked for the whole, but where the client says of what the part is.
    Whole,
    /// The request is.
    Refuse,
    /// The credential is looked for in each part by itself.
    Pass,
}

/// What is known of whether a table names its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// What its media type says.
    Said,
    /// The first line of each names them, but where it says otherwise.
    Named,
}

/// Whom requests may be for.
pub(super) const HOSTS: Key = may(
    "hosts",
    Shape::List(1, &Shape::Text(Form::ServerName)),
    "those of the addresses",
    "Hosts that requests may name; others are told 421.",
);

/// What is looked for on its way out.
pub(super) const DETECT_SENT: Key = may(
    "detect_sent",
    detect::KINDS,
    "off",
    "What is done about values that are found in requests by their form: in query, headers and body.",
);

/// What may stand below `http`.
pub(in crate::config) const HTTP: Shape = Shape::Keys(&[
    HOSTS,
    may(
        "inject",
        INJECT,
        "none",
        "The credential that each request is given.",
    ),
    may(
        "credential_headers",
        Shape::List(1, &Shape::Text(Form::Header)),
        "none",
        "Headers of requests that hold credentials, beside those that everybody knows: they are reported and \
         dropped.",
    ),
    may(
        "cookies",
        Shape::Word(&["keep", "drop"]),
        "`drop` with `inject` where `strip_response_headers` has set-cookie, else keep",
        "What becomes of cookies of requests: one may be a credential of the client's. Those that go on beside a \
         credential are reported as well.",
    ),
    may(
        "strip_response_headers",
        Shape::List(1, &Shape::Text(Form::Header)),
        "none",
        "Headers of answers that agents do not see, such as set-cookie.",
    ),
    may(
        "mask",
        Shape::Fields(&SENSITIVE),
        "none",
        "Fields of JSON that are masked for whoever policy does not permit to `Reveal` the path: keys with dots \
         between (`*` for any one, `**` for any number; elements of arrays have their array's name), each with a \
         mask or a tag.",
    ),
    may(
        "unread",
        Shape::Word(&["refuse", "pass"]),
        "refuse",
        "What is done about answers that masks cannot read, and requests that `detect_sent` cannot, where there are any.",
    ),
    DETECT_SENT,
    may(
        "ranges",
        Shape::Word(&["whole", "refuse", "pass"]),
        "`pass` where requests are signed (`sigv4`, `hmac`), else whole",
        "What is done where a client asks for a part (`Range`) of what is looked through: the whole is asked for, or \
         the request refused, or the credential looked for in each part by itself. Beside masks no part passes.",
    ),
    may(
        "tables",
        Shape::Word(&["said", "named"]),
        "said",
        "Which tables are read where fields are masked: those that say of themselves that their first line names their columns, or \
         all, where it always does, whatever a request asks for.",
    ),
    may(
        "grpc",
        Shape::Text(Form::Holds(Held::Descriptors)),
        "none",
        "A file of descriptors (`protoc --include_imports -o FILE`) by which messages of gRPC are read, so that they are \
         masked as JSON is, and policy sees their `fields`.",
    ),
    may(
        "graphql",
        Shape::List(1, &Shape::Text(Form::RequestPath)),
        "none",
        "Paths whose requests are read as GraphQL.",
    ),
    may(
        "mcp",
        Shape::List(1, &Shape::Text(Form::RequestPath)),
        "none",
        "Paths whose requests are read as the Model Context Protocol.",
    ),
    may(
        "models",
        Shape::List(1, &Shape::Text(Form::RequestPath)),
        "none",
        "Paths whose requests are JSON that names a language model (`model`).",
    ),
    fields::FIELDS,
    may(
        "judged",
        Shape::Size(KIB, GIB / 64),
        "1MiB",
        "Most bytes of a body that is read to be judged; a longer one is refused.",
    ),
    may(
        "recorded",
        Shape::Size(0, GIB),
        "64KiB",
        "Most bytes of each body that are recorded.",
    ),
    may(
        "path_parameters",
        Shape::Flag,
        "false",
        "Whether paths may hold parameters (`;`), which some servers take out of them.",
    ),
    passing::ON_UNTRUSTED,
    passing::PASSTHROUGH,
]);

const INJECT: Shape = Shape::Keys(&[
    must("secret", SECRET, "Where it comes from."),
    may(
        "as",
        Shape::Word(&[
            "bearer", "basic", "header", "query", "cookie", "client", "sigv4", "hmac",
        ]),
        "bearer",
        "Where it stands: `Authorization: Bearer` or `Basic`, a header, a parameter of the query, a cookie; or, for \
         `client`, where bearer tokens are asked for; or, for `sigv4` and `hmac`, what requests are signed with.",
    ),
    may(
        "client",
        client::CLIENT,
        "none",
        "Where bearer tokens are asked for, with `as: client`: the secret is the client's.",
    ),
    may(
        "sigv4",
        sigv4::SIGV4,
        "none",
        "As whom and for what requests are signed, with `as: sigv4`: the secret is the access key's.",
    ),
    may(
        "hmac",
        hmac::HMAC,
        "none",
        "What of requests is signed and where the signature stands, with `as: hmac`: the secret is the key.",
    ),
    may(
        "user",
        Shape::Text(Form::Identifier),
        "none",
        "Who logs in, for `basic`.",
    ),
    may(
        "name",
        Shape::Text(Form::Header),
        "none",
        "The name of the header, the parameter or the cookie.",
    ),
    may(
        "prefix",
        Shape::Text(Form::Identifier),
        "none",
        "What stands before the secret in a header.",
    ),
]);

/// Builds it; `target` is the map that it stands in.
pub(in crate::config) fn build(
    target: &Node,
    http: &Node,
    secret: &dyn Fn(&Node) -> Option<SecretSource>,
    path: &dyn Fn(&Node, &str) -> Option<PathBuf>,
) -> Http {
    let lower = |key: &str| -> Vec<String> {
        let names = build::texts(http, key).into_iter();
        names.map(|name| name.to_ascii_lowercase()).collect()
    };
    let bytes = |key: &str, default: usize| {
        let said = build::size(Some(http), key);
        said.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default)
    };
    let inject = http
        .under("inject")
        .and_then(|node| inject(node, secret, path));
    let is_signed = matches!(inject, Some(Inject::Sigv4(_) | Inject::Hmac(_)));
    let strip_response_headers = lower("strip_response_headers");
    let gives_none = strip_response_headers
        .iter()
        .any(|name| name == "set-cookie");
    let cookies = match build::text(Some(http), "cookies").as_deref() {
        Some("drop") => Cookies::Drop,
        // Whoever is given none has them from elsewhere.
        None if gives_none && inject.is_some() => Cookies::Drop,
        _ => Cookies::Keep,
    };
    Http {
        hosts: hosts(target, http),
        inject,
        cookies,
        credential_headers: lower("credential_headers"),
        strip_response_headers,
        mask: sensitive::fields(target, http.under("mask")),
        detect_sent: detect::actions(http.under("detect_sent")),
        unread: Unread::said(Some(http)),
        ranges: match build::text(Some(http), "ranges").as_deref() {
            Some("refuse") => Ranges::Refuse,
            Some("pass") => Ranges::Pass,
            // No secret that signs is in a request: no server can show it.
            None if is_signed => Ranges::Pass,
            _ => Ranges::Whole,
        },
        tables: match build::text(Some(http), "tables").as_deref() {
            Some("named") => Tables::Named,
            _ => Tables::Said,
        },
        grpc: path(http, "grpc"),
        graphql: build::texts(http, "graphql"),
        mcp: build::texts(http, "mcp"),
        models: build::texts(http, "models"),
        fields: fields::build(http),
        judged_bytes: bytes("judged", 1 << 20),
        recorded_bytes: bytes("recorded", 64 << 10),
        path_parameters: build::flag(http, "path_parameters", false),
        undecrypted: passing::build(http),
    }
}

pub(super) fn hosts(target: &Node, http: &Node) -> Vec<Host> {
    let said = build::hosts(http, "hosts");
    if !said.is_empty() {
        return said;
    }
    let mut hosts: Vec<Host> = Vec::new();
    for address in build::texts(target, "addresses") {
        if let Ok(address) = scalar::address(&address)
            && !hosts.contains(&address.host)
        {
            hosts.push(address.host);
        }
    }
    hosts
}

fn inject(
    node: &Node,
    secret: &dyn Fn(&Node) -> Option<SecretSource>,
    path: &dyn Fn(&Node, &str) -> Option<PathBuf>,
) -> Option<Inject> {
    let said = |key: &str| build::text(Some(node), key);
    let value = secret(node.under("secret")?)?;
    match said("as").as_deref() {
        None | Some("bearer") => Some(Inject::Bearer(value)),
        Some("basic") => Some(Inject::Basic {
            user: said("user")?,
            password: value,
        }),
        Some("header") => Some(Inject::Header {
            name: said("name")?.to_ascii_lowercase(),
            prefix: said("prefix").unwrap_or_default(),
            value,
        }),
        Some("query") => Some(Inject::Query {
            name: said("name")?,
            value,
        }),
        Some("cookie") => Some(Inject::Cookie {
            name: said("name")?,
            value,
        }),
        Some("client") => {
            let client = client::build(node.under("client")?, value, secret, path)?;
            Some(Inject::Issued(Box::new(client)))
        }
        Some("sigv4") => {
            let sigv4 = sigv4::build(node.under("sigv4")?, value, secret)?;
            Some(Inject::Sigv4(Box::new(sigv4)))
        }
        Some("hmac") => {
            let hmac = hmac::build(node.under("hmac")?, value)?;
            Some(Inject::Hmac(Box::new(hmac)))
        }
        Some(_) => None,
    }
}

/// What is wrong with where a credential is to stand.
fn placed(node: &Node) -> Option<&'static str> {
    let said = |key: &str| node.under(key).is_some();
    let kind = build::text(Some(node), "as");
    if (kind.as_deref() == Some("client")) != said("client") {
        return Some("expected `client` with `as: client`, and there only");
    }
    if (kind.as_deref() == Some("sigv4")) != said("sigv4") {
        return Some("expected `sigv4` with `as: sigv4`, and there only");
    }
    if (kind.as_deref() == Some("hmac")) != said("hmac") {
        return Some("expected `hmac` with `as: hmac`, and there only");
    }
    let wanted = match kind.as_deref() {
        None | Some("bearer" | "client" | "sigv4" | "hmac") => (false, false, false),
        Some("basic") => (true, false, false),
        Some("header") => (false, true, said("prefix")),
        Some(_) => (false, true, false),
    };
    match (said("user"), said("name"), said("prefix")) {
        found if found == wanted => None,
        _ => Some(
            "expected user with `as: basic`, name with `as: header`, `query` or `cookie`, and prefix with \
             `as: header` only",
        ),
    }
}

/// Headers that say where a message goes and ends: a credential in one of them would change that.
const FRAMING: [&str; 7] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
];

/// What is said where a credential might go to anybody.
pub(super) const UNPROVED: &str = "expected tls.mode verify-full, or verify-ca with tls.ca, or loopback addresses \
    only: the credential goes to whoever answers";

/// Whether whoever answers might be somebody else.
pub(super) fn is_unproved(target: &Target) -> bool {
    let is_loopback = |host: &Host| matches!(host, Host::Ip(ip) if ip.is_loopback());
    let mut dialled = target.addresses.iter().chain(&target.dial.hosts);
    let outside = dialled.any(|address| !is_loopback(&address.host));
    outside && !target.tls.proves_server()
}

/// Notes what is wrong between its keys.
pub(in crate::config) fn cross(
    entry: &Entry,
    target: &Target,
    config: &Config,
    report: &mut Report,
) {
    let (Some(http), Some(node)) = (target.http(), entry.node.under("http")) else {
        return;
    };
    let key = format!("targets.{}.http", entry.key);
    let mut wrong = |part: &str, expected: &str| {
        let place = node.under(part).map_or(node.place, |node| node.place);
        report.add(place, &format!("{key}.{part}"), expected);
    };
    if http.inject.is_some() && is_unproved(target) {
        wrong("inject", UNPROVED);
    }
    if let Some(expected) = node.under("inject").and_then(placed) {
        wrong("inject", expected);
    }
    if let Some(Inject::Issued(client)) = &http.inject
        && let Err(expected) = client.url.may_be_spoken_to(client.allow_http)
    {
        wrong("inject", expected);
    }
    if let Some(Inject::Header { name, .. }) = &http.inject
        && FRAMING.contains(&name.as_str())
    {
        wrong(
            "inject",
            "expected a header that says nothing of the connection",
        );
    }
    if let Some(inject) = node.under("inject") {
        for (under, found) in [
            (
                "hmac",
                inject
                    .under("hmac")
                    .and_then(|node| hmac::wrong(node, &FRAMING)),
            ),
            ("client", inject.under("client").and_then(client::wrong)),
        ] {
            if let Some((part, expected)) = found {
                wrong("inject", &format!("{under}.{part}: {expected}"));
            }
        }
    }
    for source in http.inject.iter().flat_map(Inject::secrets) {
        if let Err((part, expected)) = cross::secret(source, config) {
            wrong("inject", &format!("{part}: {expected}"));
        }
    }
    if let Some((part, expected)) = passing::wrong(http, node, target) {
        wrong(part, expected);
    }
    if let Some(expected) = fields::wrong(http) {
        wrong("fields", expected);
    }
    if http.mask.len() > MASKS_MAX {
        wrong("mask", "expected at most 256 fields");
    }
    if let Some(masks) = node.under("mask") {
        sensitive::cross_fields(entry, masks, &format!("{key}.mask"), report);
    }
    if let Some(node) = entry.node.under("sensitive") {
        let key = format!("targets.{}.sensitive", entry.key);
        report.add(node.place, &key, "expected http.mask; HTTP has no columns");
    }
}

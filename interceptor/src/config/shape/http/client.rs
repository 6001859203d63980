//! `client`: who is given tokens, where and for what.

use std::path::PathBuf;

use crate::config::document::Node;
use crate::config::shape::{Form, Held, Shape, may, must};
use crate::config::{SecretSource, Url, build as read};

/// Who is given tokens, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Where tokens are asked for.
    pub url: Url,
    /// The authorities that its certificate may come from. Default the host's own.
    pub ca: Option<PathBuf>,
    /// Whether it is spoken to in clear, on loopback. Default false.
    pub allow_http: bool,
    /// What it is called there.
    pub id: String,
    /// With what it proves that.
    pub secret: SecretSource,
    /// What the token is to be good for.
    pub scope: Option<String>,
    /// Whom the token is to be meant for.
    pub audience: Option<String>,
    /// Whether id and secret stand in the body rather than in a header. Default false.
    pub in_body: bool,
}

/// What may stand below `client`.
pub(super) const CLIENT: Shape = Shape::Keys(&[
    must(
        "url",
        Shape::Text(Form::Url),
        "Where tokens are asked for: https, or loopback with allow_http.",
    ),
    must(
        "id",
        Shape::Text(Form::Identifier),
        "What it is called there.",
    ),
    may(
        "scope",
        Shape::Text(Form::Identifier),
        "none",
        "What the token is to be good for.",
    ),
    may(
        "audience",
        Shape::Text(Form::Identifier),
        "none",
        "Whom the token is to be meant for.",
    ),
    may(
        "ca",
        Shape::Text(Form::Holds(Held::Certificates)),
        "the host's own",
        "A file with the authorities that its certificate may come from.",
    ),
    may(
        "in_body",
        Shape::Flag,
        "false",
        "Whether id and secret stand in the body rather than in a header.",
    ),
    may(
        "allow_http",
        Shape::Flag,
        "false",
        "Speak to it without TLS, on a loopback address.",
    ),
]);

/// Builds it.
pub(super) fn build(
    node: &Node,
    secret: SecretSource,
    path: &dyn Fn(&Node, &str) -> Option<PathBuf>,
) -> Option<Client> {
    let said = |key: &str| read::text(Some(node), key);
    Some(Client {
        url: Url::read(&said("url")?).ok()?,
        ca: path(node, "ca"),
        allow_http: read::flag(node, "allow_http", false),
        id: said("id")?,
        secret,
        scope: said("scope"),
        audience: said("audience"),
        in_body: read::flag(node, "in_body", false),
    })
}

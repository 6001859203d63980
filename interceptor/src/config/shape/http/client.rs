//! `client`: who is given tokens, where and for what.

use std::path::PathBuf;

use crate::config::document::Node;
use crate::config::shape::{Form, Held, SECRET, Shape, may, must};
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
    /// What tokens are asked for with: the client's own secret, or the first refresh token.
    pub secret: SecretSource,
    /// In whose name it asks. Default its own.
    pub grant: Grant,
    /// What the token is to be good for.
    pub scope: Option<String>,
    /// Whom the token is to be meant for.
    pub audience: Option<String>,
    /// Whether id and secret stand in the body rather than in a header. Default false.
    pub in_body: bool,
}

/// In whose name a client asks for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// In its own.
    ClientCredentials,
    /// In that of somebody who has agreed.
    RefreshToken {
        /// With what it proves who it is. None for one that proves nothing.
        client: Option<SecretSource>,
    },
}

impl Grant {
    /// What is needed beside the secret.
    pub(super) fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::ClientCredentials => None,
            Self::RefreshToken { client } => client.as_ref(),
        }
    }
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
        "grant",
        Shape::Word(&["client_credentials", "refresh_token"]),
        "client_credentials",
        "In whose name it asks: its own, and the secret of `inject` is the client's; or somebody's who has agreed, and \
         that secret is the refresh token.",
    ),
    may(
        "secret",
        SECRET,
        "none",
        "Where the client's own secret comes from, with `grant: refresh_token`.",
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
    source: &dyn Fn(&Node) -> Option<SecretSource>,
    path: &dyn Fn(&Node, &str) -> Option<PathBuf>,
) -> Option<Client> {
    let said = |key: &str| read::text(Some(node), key);
    let grant = match refreshes(node) {
        true => Grant::RefreshToken {
            client: node.under("secret").and_then(source),
        },
        false => Grant::ClientCredentials,
    };
    Some(Client {
        url: Url::read(&said("url")?).ok()?,
        ca: path(node, "ca"),
        allow_http: read::flag(node, "allow_http", false),
        id: said("id")?,
        secret,
        grant,
        scope: said("scope"),
        audience: said("audience"),
        in_body: read::flag(node, "in_body", false),
    })
}

fn refreshes(node: &Node) -> bool {
    read::text(Some(node), "grant").as_deref() == Some("refresh_token")
}

/// What is wrong between its keys; under which key.
pub(super) fn wrong(node: &Node) -> Option<(&'static str, String)> {
    let said = node.under("secret").is_some();
    (said && !refreshes(node)).then(|| {
        let expected =
            "expected it with `grant: refresh_token` only; else inject.secret is the client's";
        ("secret", expected.to_owned())
    })
}

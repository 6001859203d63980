//! `sigv4`: as whom, where and for what requests to AWS, and to what speaks as it does, are signed.

use crate::config::document::Node;
use crate::config::shape::{Form, SECRET, Shape, may, must};
use crate::config::{SecretSource, build as read};

/// What requests are signed with and for: AWS Signature Version 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigv4 {
    /// The secret access key; or all of a credential, as a `credential_process` prints it.
    pub secret: SecretSource,
    /// What the key is called. None where `secret` says it.
    pub id: Option<String>,
    /// The session token that belongs to it.
    pub token: Option<SecretSource>,
    /// Where requests are for.
    pub region: String,
    /// What they are for.
    pub service: String,
}

/// What may stand below `sigv4`.
pub(super) const SIGV4: Shape = Shape::Keys(&[
    may(
        "id",
        Shape::Text(Form::Identifier),
        "what the secret says",
        "The access key's id; left out where the secret is JSON with id, key and token, as a `credential_process` \
         prints it.",
    ),
    may(
        "token",
        SECRET,
        "none",
        "Where the session token of temporary credentials comes from.",
    ),
    must(
        "region",
        Shape::Text(Form::Identifier),
        "The region that requests are signed for.",
    ),
    must(
        "service",
        Shape::Text(Form::Identifier),
        "The service that they are signed for, by its name in signatures: s3, dynamodb, execute-api.",
    ),
]);

/// Builds it.
pub(super) fn build(
    node: &Node,
    secret: SecretSource,
    source: &dyn Fn(&Node) -> Option<SecretSource>,
) -> Option<Sigv4> {
    let said = |key: &str| read::text(Some(node), key);
    Some(Sigv4 {
        secret,
        id: said("id"),
        token: node.under("token").and_then(source),
        region: said("region")?,
        service: said("service")?,
    })
}

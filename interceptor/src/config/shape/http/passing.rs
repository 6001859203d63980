//! `http.on_untrusted` and `http.passthrough`: whose TLS goes by undecrypted.

use super::Http;
use crate::config::document::Node;
use crate::config::shape::{Key, Shape, may};
use crate::config::{Target, TlsMode, build};

/// Whose TLS goes by undecrypted, where policy permits it as well (`HttpPassThrough`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecrypted {
    /// Nobody's.
    #[default]
    Never,
    /// That of programs that have shown that they do not trust this host's authority, for the names for which they did.
    Untrusted,
    /// Everybody's.
    Always,
}

pub(super) const ON_UNTRUSTED: Key = may(
    "on_untrusted",
    Shape::Word(&["refuse", "passthrough"]),
    "refuse",
    "What is done about a program that does not trust this host's authority: with `passthrough` its next connections to \
     the same name go by undecrypted, where policy permits `HttpPassThrough`.",
);

pub(super) const PASSTHROUGH: Key = may(
    "passthrough",
    Shape::Flag,
    "false",
    "Whether every client's TLS goes by undecrypted, where policy permits `HttpPassThrough`.",
);

pub(super) fn build(http: &Node) -> Undecrypted {
    let untrusted = build::text(Some(http), "on_untrusted");
    match untrusted.as_deref() {
        _ if build::flag(http, "passthrough", false) => Undecrypted::Always,
        Some("passthrough") => Undecrypted::Untrusted,
        _ => Undecrypted::Never,
    }
}

/// What does not go together with it: the key below `http`, and what was expected.
pub(super) fn wrong(
    http: &Http,
    node: &Node,
    target: &Target,
) -> Option<(&'static str, &'static str)> {
    let key = match http.undecrypted {
        Undecrypted::Never => return None,
        Undecrypted::Untrusted => "on_untrusted",
        Undecrypted::Always => "passthrough",
    };
    let is_masked =
        !http.mask.is_empty() || !target.detect.is_empty() || !http.detect_sent.is_empty();
    let needs_sight = [
        "grpc",
        "fields",
        "graphql",
        "mcp",
        "models",
        "strip_response_headers",
        "credential_headers",
    ];
    let expected = match () {
        () if target.tls.mode == TlsMode::Disable => {
            "expected a server with TLS: without it nothing is encrypted"
        }
        () if target.tls.mode != TlsMode::VerifyFull || target.tls.server_name.is_some() => {
            "expected `tls.mode: verify-full` and no `tls.server_name`: the server must prove the name that is asked for"
        }
        () if http.inject.is_some() || target.tls.key.is_some() => {
            "expected no `inject` and no `tls.key` beside it: nobody can be given a credential undecrypted"
        }
        () if is_masked => {
            "expected no `mask`, `detect` and `detect_sent` beside it: nothing is masked undecrypted"
        }
        () if key == "passthrough" && needs_sight.iter().any(|key| node.under(key).is_some()) => {
            "expected nothing that is read in requests and answers beside it: nothing of them is seen"
        }
        () if key == "passthrough" && node.under("on_untrusted").is_some() => {
            "expected one of it and `on_untrusted`"
        }
        () => return None,
    };
    Some((key, expected))
}

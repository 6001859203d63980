//! `proxy`: a proxy of the network's, through which agents ask for other targets.

use super::{Form, Key, SECRET, Shape, may};
use crate::config::document::{Entry, Node};
use crate::config::mistake::Report;
use crate::config::{Config, Host, Namespace, SecretSource, Target, build, cross};

/// A target that is a proxy: of HTTP, by CONNECT, or of SOCKS 5, as the client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Who logs in at the proxy, and with what; none for one that asks for nobody.
    pub login: Option<(String, SecretSource)>,
}

/// `proxy`, at a target.
pub(super) const KEY: Key = may(
    "proxy",
    PROXY,
    "another protocol",
    "The target is a proxy of the network's (CONNECT of HTTP, and SOCKS 5), which agents ask for other targets.",
);

/// What may stand below it.
const PROXY: Shape = Shape::Keys(&[
    USER,
    may(
        "password",
        SECRET,
        "none",
        "With what: it goes to the proxy in clear.",
    ),
    may(
        "allow_clear",
        Shape::Flag,
        "false",
        "Whether the password may go to a proxy that is not on loopback, in clear, as proxies have it.",
    ),
]);

const USER: Key = may(
    "user",
    Shape::Text(Form::Identifier),
    "none",
    "Who logs in at the proxy.",
);

/// Builds it.
pub(in crate::config) fn build(
    node: &Node,
    secret: &dyn Fn(&Node) -> Option<SecretSource>,
) -> Proxy {
    let password = node.under("password").and_then(secret);
    Proxy {
        login: build::text(Some(node), "user").zip(password),
    }
}

/// Notes what is wrong between its keys.
pub(in crate::config) fn cross(
    entry: &Entry,
    target: &Target,
    config: &Config,
    report: &mut Report,
) {
    let (Some(proxy), Some(node)) = (target.proxy(), entry.node.under("proxy")) else {
        return;
    };
    let key = format!("targets.{}.proxy", entry.key);
    let mut wrong = |part: &str, expected: &str| {
        let place = node.under(part).map_or(node.place, |node| node.place);
        report.add(place, &format!("{key}.{part}"), expected);
    };
    if node.under("user").is_some() != node.under("password").is_some() {
        wrong("password", "expected user and password, or neither");
    }
    if let Some((user, _)) = &proxy.login
        && user.contains(':')
    {
        let expected = "expected no colon, which proxies read as the end of it";
        wrong("user", expected);
    }
    let is_outside = |host: &Host| !matches!(host, Host::Ip(ip) if ip.is_loopback());
    let mut dialled = target.addresses.iter().chain(&target.dial.hosts);
    if proxy.login.is_some()
        && dialled.any(|address| is_outside(&address.host))
        && !build::flag(node, "allow_clear", false)
    {
        let expected = "expected allow_clear: true: nothing proves who the proxy is, and the password goes to it in clear";
        wrong("password", expected);
    }
    if let Some((_, source)) = &proxy.login
        && let Err((part, expected)) = cross::secret(source, config)
    {
        wrong("password", &format!("{part}: {expected}"));
    }
    if target.namespace == Namespace::Client {
        let node = entry.node.under("namespace").unwrap_or(&entry.node);
        let expected = "expected namespace daemon: a proxy is spoken to in clear, and in a client's namespace it may be the client";
        report.add(
            node.place,
            &format!("targets.{}.namespace", entry.key),
            expected,
        );
    }
    for part in ["tls", "sensitive", "detect", "tags"] {
        if let Some(node) = entry.node.under(part) {
            let expected = "expected it at the targets that are asked for: a proxy is spoken to in clear, and sees no more";
            report.add(
                node.place,
                &format!("targets.{}.{part}", entry.key),
                expected,
            );
        }
    }
}

//! As whom requests to a cluster are made: the client's own headers of identity dropped, the token of an exec plugin
//! read, and the attested identity told to the server.

use hyper::header::{HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use crate::config::{Impersonate, Whom};
use crate::policy::{Refusal, RefusalKind};
use crate::secrets::Secret;

/// What a kubeconfig of ours has in the place of a token: without any, `kubectl` asks its user for a name. It opens
/// nothing anywhere, and says nothing of whom it comes from.
pub const NOBODY: &str = "no-credential";

/// Headers that say who asks begin so: of impersonation, and of a proxy in front that the server trusts.
const OWN: [&str; 2] = ["impersonate-", "x-remote-"];
/// A token that a browser puts among the protocols of a WebSocket begins so.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// Names of the cluster's own begin so.
const SYSTEM: &str = "system:";
/// Groups that are told of one identity.
const GROUPS_MAX: usize = 128;

/// Who asks, as far as a server is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The agent.
    pub(crate) agent: String,
    /// Whom its scope is bound to: a name, and groups.
    pub(crate) identity: Option<(String, Vec<String>)>,
}

/// Takes out what says who asks: where it stood, and what it was.
pub(crate) fn strip(headers: &mut HeaderMap) -> Vec<(String, Zeroizing<Vec<u8>>)> {
    let mut taken = Vec::new();
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            // Gateways to programs (CGI, WSGI) make no difference between the two.
            let name = name.as_str().replace('_', "-");
            OWN.iter().any(|own| name.starts_with(own))
        })
        .cloned()
        .collect();
    for name in own {
        for value in headers.get_all(&name) {
            let value = Zeroizing::new(value.as_bytes().to_vec());
            taken.push((name.as_str().to_owned(), value));
        }
        headers.remove(&name);
    }
    taken.extend(strip_protocols(headers, &[BEARER]));
    taken
}

/// Takes the tokens out that stand among a WebSocket's protocols and begin so.
pub(crate) fn strip_protocols(
    headers: &mut HeaderMap,
    begin: &[&str],
) -> Vec<(String, Zeroizing<Vec<u8>>)> {
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        for protocol in text.split(',').map(str::trim) {
            match begin.iter().find_map(|begin| protocol.strip_prefix(begin)) {
                Some(token) => {
                    let place = SEC_WEBSOCKET_PROTOCOL.as_str().to_owned();
                    taken.push((place, Zeroizing::new(token.as_bytes().to_vec())));
                }
                None => kept.push(protocol.to_owned()),
            }
        }
    }
    if taken.is_empty() {
        return taken;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    taken
}

/// Whether what a client presents is what our own kubeconfig has.
pub(crate) fn is_nobody(presented: &[u8]) -> bool {
    presented.strip_prefix(b"Bearer ") == Some(NOBODY.as_bytes())
}

/// What an exec plugin prints.
#[derive(Deserialize)]
struct ExecCredential {
    kind: String,
    status: ExecStatus,
}

#[derive(Deserialize)]
struct ExecStatus {
    token: String,
}

impl Drop for ExecStatus {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// The token that a secret is, or holds: no token begins as an object of JSON does.
pub(crate) fn token(secret: Secret) -> Option<Secret> {
    let text = secret.expose_secret();
    if !text.trim_start().starts_with('{') {
        return Some(secret);
    }
    let mut read: ExecCredential = serde_json::from_str(text).ok()?;
    let is_one = read.kind == "ExecCredential" && !read.status.token.is_empty();
    is_one.then(|| Secret::from(std::mem::take(&mut read.status.token)))
}

/// Tells the server as whom a request is made.
///
/// # Errors
/// A refusal, where nobody can be told or the name would be one of the cluster's own.
pub(crate) fn impersonate(
    headers: &mut HeaderMap,
    settings: &Impersonate,
    caller: &Caller,
) -> Result<(), Refusal> {
    let (name, own_groups) = match (settings.whom, &caller.identity) {
        (Whom::Agent, _) => (&caller.agent, &[][..]),
        (Whom::Identity, Some((name, groups))) => (name, groups.as_slice()),
        (Whom::Identity, None) => {
            return Err(refusal(
                "this cluster is used in somebody's name, and this scope is bound to nobody",
                "log in: `interceptor login`, or `interceptor run --as-token`",
            ));
        }
    };
    let prefixed = |name: &String| format!("{}{name}", settings.prefix);
    let user = prefixed(name);
    let own = own_groups.iter().filter(|_| settings.own_groups);
    let own: Vec<String> = own.map(prefixed).collect();
    if own.len() > GROUPS_MAX {
        return Err(refusal(
            "this identity is in too many groups to be told",
            "",
        ));
    }
    if own
        .iter()
        .chain([&user])
        .any(|name| name.starts_with(SYSTEM))
    {
        return Err(refusal(
            "this identity has a name or a group of the cluster's own (`system:`)",
            "whoever keeps the configuration of this host can set impersonate.prefix",
        ));
    }
    let value = |text: &str| {
        let value = HeaderValue::from_bytes(text.as_bytes());
        value.map_err(|_not_a_value| refusal("this identity's name cannot be told to a server", ""))
    };
    headers.insert(HeaderName::from_static("impersonate-user"), value(&user)?);
    for group in own.iter().chain(&settings.groups) {
        headers.append(HeaderName::from_static("impersonate-group"), value(group)?);
    }
    Ok(())
}

fn refusal(message: &str, hint: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Identity,
        rules: Vec::new(),
        message: message.to_owned(),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }
}

#[cfg(test)]
mod tests;

//! Where people see and answer what waits for them: the console, and the webhook.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::document::Node;
use super::super::mistake::Report;
use super::super::{Address, Config, Host, SecretSource, Url, scalar};
use super::{From, flag, text, texts};

/// By what name people of the webhook are known; no issuer of the console may have it.
pub const SLACK: &str = "slack";

/// The web page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Where it is served.
    pub listen: SocketAddr,
    /// As browsers name it. Default: by `listen`.
    pub url: Url,
    /// What it shows, where it is under TLS.
    pub tls: Option<ConsoleTls>,
    /// The issuer by which people log in, if any.
    pub issuer: Option<String>,
    /// Whether a person's first key takes a code of root's; else the login vouches for it.
    pub codes: bool,
}

/// A certificate of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleTls {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: SecretSource,
}

impl Console {
    /// Its origin, as browsers say it: no port where it is the scheme's own (RFC 6454 section 6.2).
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.url.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// The name that browsers make keys for; none where it is an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.url.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// What browsers say in `Host`.
    #[must_use]
    pub fn host(&self) -> String {
        let host = match &self.url.host {
            Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        };
        match (self.url.secure, self.url.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Who is told of questions, and may answer by the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where questions are sent.
    pub url: Url,
    /// What both ways are signed with.
    pub secret: SecretSource,
    /// Trusted roots; the host's own where absent.
    pub ca: Option<PathBuf>,
    /// Whether a loopback address may be spoken to in clear. Default false.
    pub allow_http: bool,
    /// The workspace that `people` are of; any where absent.
    pub team: Option<String>,
    /// Who may answer, by the chat's name for them.
    pub people: BTreeMap<String, Approver>,
}

/// Who may answer by the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: BTreeSet<String>,
}

/// A user of the host, and who that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPerson {
    /// Login name on the host.
    pub user: String,
    /// The same person, as policy names them: `staff:SUBJECT`, `slack:ID`.
    pub logins: BTreeSet<String>,
}

/// Who is who.
pub(in crate::config) fn people(root: &Node) -> Vec<KnownPerson> {
    let node = root
        .under("approvals")
        .and_then(|node| node.under("people"));
    let people = node.map(Node::elements).unwrap_or_default();
    let person = |node: &Node| {
        Some(KnownPerson {
            user: text(Some(node), "user")?,
            logins: texts(node, "logins").into_iter().collect(),
        })
    };
    people.iter().filter_map(person).collect()
}

/// The console, where there is one and it can be read.
pub(in crate::config) fn console(from: &From<'_>, root: &Node) -> Option<Console> {
    let node = root.under("console")?;
    let listen = scalar::socket(&text(Some(node), "listen")?).ok()?;
    let tls = node.under("tls").and_then(|tls| {
        Some(ConsoleTls {
            certificate: from.path(Some(tls), "certificate")?,
            key: from.secret(tls.under("key")?)?,
        })
    });
    let secure = node.under("tls").is_some();
    let url = match text(Some(node), "url") {
        Some(url) => Url::read(&url).ok()?,
        None => Url {
            text: format!("http{}://{listen}", if secure { "s" } else { "" }),
            secure,
            host: Host::Ip(listen.ip()),
            port: listen.port(),
            path: "/".to_owned(),
        },
    };
    Some(Console {
        listen,
        url,
        tls,
        issuer: text(node.under("login"), "issuer"),
        codes: text(Some(node), "enrol").as_deref() != Some("login"),
    })
}

/// The webhook, where there is one and it can be read.
pub(in crate::config) fn webhook(from: &From<'_>, root: &Node) -> Option<Webhook> {
    let node = root.under("approvals")?.under("webhook")?;
    let people = node.under("people").map(Node::elements).unwrap_or_default();
    let person = |node: &Node| {
        let approver = Approver {
            name: text(Some(node), "name")?,
            groups: texts(node, "groups").into_iter().collect(),
        };
        Some((text(Some(node), "id")?, approver))
    };
    Some(Webhook {
        url: Url::read(&text(Some(node), "url")?).ok()?,
        secret: from.secret(node.under("secret")?)?,
        ca: from.path(Some(node), "ca"),
        allow_http: flag(node, "allow_http", false),
        team: text(Some(node), "team"),
        people: people.iter().filter_map(person).collect(),
    })
}

/// What is wrong between the keys of both.
pub(in crate::config) fn cross(root: &Node, config: &Config, report: &mut Report) {
    if let (Some(node), Some(console)) = (root.under("console"), &config.console) {
        let mut wrong = |keys: &[&str], expected: &str| at(node, "console", keys, expected, report);
        of_console(console, config, &mut wrong);
    }
    let people = root
        .under("approvals")
        .and_then(|node| node.under("people"));
    for login in people
        .into_iter()
        .flat_map(Node::elements)
        .filter_map(|one| one.under("logins"))
        .flat_map(Node::elements)
    {
        let by = login.text().and_then(|text| text.split_once(':'));
        let is_known = |by: &str| by == SLACK || config.issuers.contains_key(by);
        if !by.is_some_and(|(by, _)| is_known(by)) {
            let expected =
                "expected the name of one of issuers, or slack, a colon, and who it is there";
            report.add(login.place, "approvals.people.logins", expected);
        }
    }
    let node = root
        .under("approvals")
        .and_then(|node| node.under("webhook"));
    if let (Some(node), Some(webhook)) = (node, &config.webhook) {
        let mut wrong =
            |keys: &[&str], expected: &str| at(node, "approvals.webhook", keys, expected, report);
        if let Err(expected) = webhook.url.may_be_spoken_to(webhook.allow_http) {
            wrong(&["url"], expected);
        }
        let people = node.under("people").map(Node::elements).unwrap_or_default();
        if webhook.people.len() < people.len() {
            wrong(&["people"], "expected each id once");
        }
        if !people.is_empty() && config.console.is_none() {
            wrong(
                &["people"],
                "expected console with it; answers come back to it",
            );
        }
    }
}

fn at(node: &Node, of: &str, keys: &[&str], expected: &str, report: &mut Report) {
    let found = keys.iter().try_fold(node, |node, key| node.under(key));
    let place = found.map_or(node.place, |node| node.place);
    report.add(place, &format!("{of}.{}", keys.join(".")), expected);
}

fn of_console(console: &Console, config: &Config, wrong: &mut dyn FnMut(&[&str], &str)) {
    let listen = console.listen;
    if !listen.ip().is_loopback() && console.tls.is_none() {
        wrong(&["listen"], "expected a loopback address, or tls with it");
    }
    let nowhere = matches!(console.url.host, Host::Ip(ip) if ip.is_unspecified());
    if nowhere {
        wrong(&["url"], "expected the address that browsers are told");
    }
    if console.url.secure != console.tls.is_some() {
        wrong(&["url"], "expected https with tls, and http without");
    }
    if console.url.path != "/" || console.url.text.ends_with('/') {
        wrong(&["url"], "expected an address without a path");
    }
    let at = Address {
        host: Host::Ip(listen.ip()),
        port: listen.port(),
    };
    let mut targets = config.targets.values();
    let taken = targets.any(|target| target.addresses.contains(&at));
    if taken || config.metrics == Some(listen) {
        wrong(&["listen"], "expected an address of its own");
    }
    let Some(name) = &console.issuer else {
        return;
    };
    match config.issuers.get(name) {
        None => wrong(&["login", "issuer"], "expected the name of one of issuers"),
        Some(issuer) if issuer.client.is_none() => {
            wrong(&["login", "issuer"], "expected an issuer with a client");
        }
        Some(_) if name == SLACK => {
            let expected = "expected another name; people of the webhook have this one";
            wrong(&["login", "issuer"], expected);
        }
        Some(_) => {}
    }
}

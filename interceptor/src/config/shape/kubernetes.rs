//! `kubernetes`: what a target that is a cluster's API server says, and what is made of it.

use std::sync::Arc;

use super::http::{
    self, Cookies, DETECT_SENT, HOSTS, Http, Inject, Ranges, Tables, Undecrypted, Unread,
};
use super::{Form, GIB, KIB, Key, SECRET, SENSITIVE, Shape, detect, may, must};
use crate::config::document::{Entry, Node};
use crate::config::mistake::Report;
use crate::config::{Config, SecretSource, Target, build, cross, sensitive};

/// Masks of one target: each key of an answer is held against all of them.
const MASKS_MAX: usize = 256;

/// A target that is a cluster's API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// What it is to HTTP.
    pub http: Arc<Http>,
    /// As whom the server is told that requests come; none for whom the credential is.
    pub impersonate: Option<Impersonate>,
}

/// As whom requests are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonate {
    /// Whose name it is.
    pub whom: Whom,
    /// What stands before the name, and before each group of the identity.
    pub prefix: String,
    /// Groups that everybody is in.
    pub groups: Vec<String>,
    /// Whether the identity's own groups are told as well. Default false.
    pub own_groups: bool,
}

/// Whose name requests are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whom the scope is bound to; who is bound to nobody is refused.
    Identity,
    /// The agent.
    Agent,
}

/// `kubernetes`, at a target.
pub(super) const KEY: Key = may(
    "kubernetes",
    KUBERNETES,
    "another protocol",
    "The target is a Kubernetes cluster's API server.",
);

/// What may stand below `kubernetes`.
const KUBERNETES: Shape = Shape::Keys(&[
    HOSTS,
    may(
        "token",
        SECRET,
        "none, where `tls.key` says a client certificate",
        "The token that each request is given: as it is, or as an exec plugin prints it (`ExecCredential`).",
    ),
    may(
        "impersonate",
        IMPERSONATE,
        "nobody",
        "As whom the server is told that requests come.",
    ),
    may(
        "mask",
        Shape::Fields(&SENSITIVE),
        "none",
        "Fields of objects that are masked beside those of Secrets, as in `http.mask`.",
    ),
    DETECT_SENT,
    may(
        "judged",
        Shape::Size(KIB, GIB / 64),
        "4MiB",
        "Most bytes of a body that is read to be judged; a longer one is refused.",
    ),
    may(
        "recorded",
        Shape::Size(0, GIB),
        "64KiB",
        "Most bytes of each body, and of each direction of a stream, that are recorded.",
    ),
]);

const IMPERSONATE: Shape = Shape::Keys(&[
    must(
        "as",
        Shape::Word(&["identity", "agent"]),
        "Whose name it is: of whom the scope is bound to, or the agent's.",
    ),
    may(
        "prefix",
        Shape::Text(Form::Identifier),
        "none",
        "What stands before the name, and before each of the identity's groups.",
    ),
    may(
        "groups",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "none",
        "Groups that everybody is in.",
    ),
    may(
        "own_groups",
        Shape::Flag,
        "false",
        "Whether the identity's own groups are told as well.",
    ),
]);

/// Builds it; `target` is the map that it stands in.
pub(in crate::config) fn build(
    target: &Node,
    cluster: &Node,
    secret: &dyn Fn(&Node) -> Option<SecretSource>,
) -> Kubernetes {
    let bytes = |key: &str, default: usize| {
        let said = build::size(Some(cluster), key);
        said.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default)
    };
    let http = Http {
        hosts: http::hosts(target, cluster),
        inject: cluster.under("token").and_then(secret).map(Inject::Bearer),
        credential_headers: Vec::new(),
        // No API server reads any; what stands before one may.
        cookies: Cookies::Drop,
        strip_response_headers: Vec::new(),
        mask: sensitive::fields(target, cluster.under("mask")),
        detect_sent: detect::actions(cluster.under("detect_sent")),
        unread: Unread::Refuse,
        ranges: Ranges::Whole,
        tables: Tables::Said,
        graphql: Vec::new(),
        mcp: Vec::new(),
        models: Vec::new(),
        fields: Vec::new(),
        judged_bytes: bytes("judged", 4 << 20),
        recorded_bytes: bytes("recorded", 64 << 10),
        grpc: None,
        path_parameters: false,
        undecrypted: Undecrypted::Never,
    };
    Kubernetes {
        http: Arc::new(http),
        impersonate: cluster.under("impersonate").map(impersonate),
    }
}

fn impersonate(node: &Node) -> Impersonate {
    Impersonate {
        whom: match build::text(Some(node), "as").as_deref() {
            Some("agent") => Whom::Agent,
            _ => Whom::Identity,
        },
        prefix: build::text(Some(node), "prefix").unwrap_or_default(),
        groups: build::texts(node, "groups"),
        own_groups: build::flag(node, "own_groups", false),
    }
}

/// Notes what is wrong between its keys.
pub(in crate::config) fn cross(
    entry: &Entry,
    target: &Target,
    config: &Config,
    report: &mut Report,
) {
    let (Some(cluster), Some(node)) = (target.kubernetes(), entry.node.under("kubernetes")) else {
        return;
    };
    let key = format!("targets.{}.kubernetes", entry.key);
    let mut wrong = |part: &str, expected: &str| {
        let place = node.under(part).map_or(node.place, |node| node.place);
        report.add(place, &format!("{key}.{part}"), expected);
    };
    let http = &cluster.http;
    if http.inject.is_none() && target.tls.key.is_none() {
        wrong(
            "token",
            "expected a token, or a client certificate in tls.key",
        );
    }
    if http.inject.is_some() && http::is_unproved(target) {
        wrong("token", http::UNPROVED);
    }
    if let Some(Err((part, expected))) =
        (http.inject.as_ref()).map(|inject| cross::secret(inject.secret(), config))
    {
        wrong("token", &format!("{part}: {expected}"));
    }
    if let Some(whom) = &cluster.impersonate {
        let own = |text: &String| text.starts_with("system:");
        if own(&whom.prefix) {
            wrong(
                "impersonate",
                "expected a prefix that is not the cluster's own (`system:`)",
            );
        }
        if whom.own_groups && whom.whom == Whom::Agent {
            wrong(
                "impersonate",
                "expected own_groups with `as: identity` only",
            );
        }
    }
    if http.mask.len() > MASKS_MAX {
        wrong("mask", "expected at most 256 fields");
    }
    if let Some(masks) = node.under("mask") {
        sensitive::cross_fields(entry, masks, &format!("{key}.mask"), report);
    }
    if let Some(node) = entry.node.under("sensitive") {
        let key = format!("targets.{}.sensitive", entry.key);
        report.add(
            node.place,
            &key,
            "expected kubernetes.mask; a cluster has no columns",
        );
    }
}

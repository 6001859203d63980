//! What one request to a cluster asks for, in policy's words.

// What a request asks for is written out for each kind of thing: a new one does not compile unread.
#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{Context as Digest, SHA256};

use super::mask;
use super::review::{self, Review};
use super::wire::query::Query;
use super::wire::{self, Asked};
use crate::policy::{Access, Action, Ask, Context, KubeFacts, Refusal, Resource};
use crate::session::Reading;

/// The group whose objects say who may do what.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The group whose objects become certificates of clients.
const CERTIFICATES: &str = "certificates.k8s.io";

/// Kinds of the cluster's own that an update makes where they are not there, beside roles and bindings: their group,
/// and what they are called.
const MADE_BY_UPDATE: [(&str, &str); 10] = [
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "podtemplates"),
    ("", "services"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    ("scheduling.k8s.io", "priorityclasses"),
];

/// A request to a cluster that was read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What the server computes.
    pub asked: Asked,
    /// What conditions look at.
    pub kube: KubeFacts,
    /// What is done.
    pub actions: BTreeSet<Action>,
    /// What its body asks of policy, where it is such a review.
    pub review: Option<Review>,
    /// Whether its body would copy a field to another, or ask what one holds.
    pub copies: bool,
    /// The words of the command that a stream runs.
    argv: Vec<String>,
    /// The ports that one is to reach.
    ports: Vec<String>,
}

/// A command whose streams become a connection, as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What runs, in words.
    pub words: String,
    /// Whether it has a terminal.
    pub is_terminal: bool,
    /// Whether what it says and hears are files: a copy is a command that packs or unpacks them.
    pub carries_files: bool,
}

/// How much of an answer masks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Objects.
    Objects,
    /// Secrets.
    Secrets,
    /// A token that is made.
    Token,
    /// What is no object: text, a stream, what a pod serves.
    Plain,
}

/// What a body is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A Secret: it must hold no mask.
    Secret,
    /// A JSON patch, which may copy what is masked.
    Patch,
    /// A question of what is permitted.
    Review,
}

/// Why a body goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongBody {
    /// It would write a mask.
    Masked,
    /// It cannot be read.
    Unreadable,
}

/// Reads a request's head; `path` as it is judged, escapes resolved.
///
/// # Errors
/// Why it is no request that everybody reads alike.
pub fn read(
    method: &str,
    path: &str,
    raw_query: &str,
    (upgrade, content_type): (&str, &str),
) -> Result<Facts, &'static str> {
    let query = Query::read(raw_query)?;
    let asked = wire::read(method, path, &query)?;
    // A kind's name has no dot: with one it would be judged as a kind of a group.
    if asked.resource.contains('.') {
        return Err("the path names a kind of object that cannot be");
    }
    let mut kube = of(&asked);
    kube.path = path.to_owned();
    let first = |name: &str| query.first(name).unwrap_or_default().to_owned();
    kube.container = first("container");
    kube.tty = query.first("tty").is_some_and(wire::is_true);
    kube.stdin = query.first("stdin").is_some_and(wire::is_true);
    kube.label_selector = first("labelSelector");
    kube.field_selector = first("fieldSelector");
    kube.dry_run = runs_dry(&asked) && query.all("dryRun").any(|one| one == "All");
    kube.patch = patch(method, content_type).to_owned();
    kube.parameters = query
        .pairs()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let command: Vec<&str> = query.all("command").collect();
    kube.command = command.join(" ");
    if let Some((program, arguments)) = command.split_first() {
        kube.program = (*program).to_owned();
        kube.arguments = arguments.iter().map(|part| (*part).to_owned()).collect();
    }
    let mut actions = actions(&asked);
    if kube.patch == "apply" && asked.subresource.is_empty() && actions.contains(&Action::KubePatch)
    {
        // What is not there is made by it.
        actions.insert(Action::KubeCreate);
    }
    match stream(&actions) {
        // One and the same request, however it is carried.
        Some(word) => kube.verb = word.to_owned(),
        None => {
            kube.upgrade = upgrade.to_owned();
            if !upgrade.is_empty() && kube.verb != "watch" {
                actions.insert(Action::KubeOther);
            }
        }
    }
    Ok(Facts {
        asked,
        kube,
        actions,
        argv: command.iter().map(|word| (*word).to_owned()).collect(),
        ports: query.all("ports").map(str::to_owned).collect(),
        ..Facts::default()
    })
}

/// Whether the server looks at `dryRun` in the query of what is asked, and changes nothing then.
fn runs_dry(asked: &Asked) -> bool {
    let verbs = ["create", "update", "patch", "delete", "deletecollection"];
    let others = ["exec", "attach", "portforward", "proxy", "token"];
    asked.is_resource
        && verbs.contains(&asked.verb.as_str())
        && !others.contains(&asked.subresource.as_str())
}

/// The facts that stand in the path alone.
pub(super) fn of(asked: &Asked) -> KubeFacts {
    KubeFacts {
        verb: asked.verb.clone(),
        group: asked.group.clone(),
        version: asked.version.clone(),
        resource: asked.resource.clone(),
        subresource: asked.subresource.clone(),
        namespace: asked.namespace.clone(),
        name: asked.name.clone(),
        ..KubeFacts::default()
    }
}

fn patch(method: &str, content_type: &str) -> &'static str {
    match (method, content_type) {
        ("PATCH", "application/json-patch+json") => "json",
        ("PATCH", "application/merge-patch+json") => "merge",
        ("PATCH", "application/strategic-merge-patch+json") => "strategic",
        ("PATCH", kind) if kind.starts_with("application/apply-patch+") => "apply",
        _ => "",
    }
}

/// What is done. An update of what may not be there makes it; writing a role or a binding, and approving a certificate, is that as well: the right to write is not
/// the right to give rights.
pub(super) fn actions(asked: &Asked) -> BTreeSet<Action> {
    if !asked.is_resource {
        let reads = matches!(asked.verb.as_str(), "get" | "head" | "options");
        let action = if reads {
            Action::KubeVisit
        } else {
            Action::KubeOther
        };
        return BTreeSet::from([action]);
    }
    let writes = matches!(asked.verb.as_str(), "create" | "update" | "patch");
    let named = match asked.subresource.as_str() {
        "exec" => Some(Action::KubeExec),
        "attach" => Some(Action::KubeAttach),
        "portforward" => Some(Action::KubePortForward),
        "proxy" => Some(Action::KubeProxy),
        "ephemeralcontainers" if writes => Some(Action::KubeDebug),
        "token" if writes => Some(Action::KubeToken),
        "eviction" if writes => Some(Action::KubeEvict),
        _ => None,
    };
    let action = named.unwrap_or(match asked.verb.as_str() {
        "get" => Action::KubeGet,
        "list" => Action::KubeList,
        "watch" => Action::KubeWatch,
        "create" => Action::KubeCreate,
        "update" => Action::KubeUpdate,
        "patch" => Action::KubePatch,
        "delete" => Action::KubeDelete,
        "deletecollection" => Action::KubeDeleteCollection,
        "proxy" => Action::KubeProxy,
        "bind" => Action::KubeBind,
        "escalate" => Action::KubeEscalate,
        "impersonate" => Action::KubeImpersonate,
        _ => Action::KubeOther,
    });
    let also = match (asked.group.as_str(), asked.resource.as_str()) {
        (RBAC, "rolebindings" | "clusterrolebindings") => Some(Action::KubeBind),
        (RBAC, "roles" | "clusterroles") => Some(Action::KubeEscalate),
        // What is approved becomes a certificate of whoever it names.
        (CERTIFICATES, "certificatesigningrequests") if asked.subresource == "approval" => {
            Some(Action::KubeToken)
        }
        _ => None,
    };
    let also = also.filter(|_| writes);
    let makes = action == Action::KubeUpdate
        && asked.subresource.is_empty()
        && (asked.group == RBAC
            || MADE_BY_UPDATE.contains(&(asked.group.as_str(), asked.resource.as_str())));
    let makes = makes.then_some(Action::KubeCreate);
    [action].into_iter().chain(also).chain(makes).collect()
}

/// The word of what is a stream or is passed through, whatever the method.
fn stream(actions: &BTreeSet<Action>) -> Option<&'static str> {
    let words = [
        (Action::KubeExec, "exec"),
        (Action::KubeAttach, "attach"),
        (Action::KubePortForward, "portforward"),
        (Action::KubeProxy, "proxy"),
    ];
    let found = words.iter().find(|(action, _)| actions.contains(action));
    found.map(|(_, word)| *word)
}

/// The resource of what is asked.
pub(super) fn resource(asked: &Asked, path: &str) -> Resource {
    if !asked.is_resource {
        return Resource::Path {
            path: path.to_owned(),
        };
    }
    let kind = match asked.group.as_str() {
        "" => asked.resource.clone(),
        group => format!("{}.{group}", asked.resource),
    };
    Resource::KubeObject {
        namespace: asked.namespace.clone(),
        resource: kind,
        name: asked.name.clone(),
    }
}

/// What is asked of policy.
pub(super) fn ask(asked: &Asked, kube: KubeFacts, actions: &BTreeSet<Action>) -> Ask {
    let resource = resource(asked, &kube.path);
    let access = |action: &Action| Access {
        action: *action,
        resource: resource.clone(),
    };
    Ask {
        accesses: actions.iter().map(access).collect(),
        context: Context {
            kubernetes: Some(Box::new(kube)),
            ..Context::default()
        },
    }
}

impl Facts {
    /// What is judged of a request that cannot be read.
    #[must_use]
    pub fn unread() -> Self {
        Self {
            kube: KubeFacts {
                path: "/".to_owned(),
                ..KubeFacts::default()
            },
            actions: BTreeSet::from([Action::KubeVisit]),
            ..Self::default()
        }
    }

    /// Notes that it has a body. Of a deletion that is where the server reads how, and not in the query.
    pub fn has_body(&mut self) {
        if self.asked.verb.starts_with("delete") {
            self.kube.dry_run = false;
        }
    }

    /// The resource that it is about.
    #[must_use]
    pub fn resource(&self) -> Resource {
        resource(&self.asked, &self.kube.path)
    }

    /// Whether it asks for a list of all that somebody may do, which the server does not know.
    #[must_use]
    pub fn is_list_of_rights(&self) -> bool {
        review::is_list(&self.asked)
    }

    /// Whether its answer is to be JSON, where it is masked.
    #[must_use]
    pub fn is_object(&self) -> bool {
        !self.asked.is_resource || self.class() != Class::Plain
    }

    /// Whether it becomes a stream to a container.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        let streams = [
            Action::KubeExec,
            Action::KubeAttach,
            Action::KubePortForward,
        ];
        streams.iter().any(|action| self.actions.contains(action))
    }

    /// What the streams are of that it becomes, where they are a command's.
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        let words = match stream(&self.actions)? {
            "exec" => {
                let words: Vec<_> = self.argv.iter().map(|word| quoted(word)).collect();
                words.join(" ")
            }
            "attach" => format!("attach {}", self.kube.name),
            _ => return None,
        };
        let program = self.kube.program.rsplit('/').next();
        Some(Command {
            words,
            is_terminal: self.kube.tty,
            carries_files: program == Some("tar") && !self.kube.tty,
        })
    }

    /// How much of its answer masks look at.
    #[must_use]
    pub fn class(&self) -> Class {
        let asked = &self.asked;
        let is_plain = !asked.is_resource
            || stream(&self.actions).is_some()
            || asked.resource == "pods" && asked.subresource == "log";
        match (asked.group.as_str(), asked.resource.as_str()) {
            _ if is_plain => Class::Plain,
            ("", "secrets") => Class::Secrets,
            ("", "serviceaccounts") if asked.subresource == "token" => Class::Token,
            _ => Class::Objects,
        }
    }

    /// What its body is read for.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let writes = matches!(self.asked.verb.as_str(), "create" | "update" | "patch");
        if !writes {
            return None;
        }
        match self.class() {
            Class::Secrets => Some(Wanted::Secret),
            Class::Objects | Class::Token | Class::Plain if review::is_one(&self.asked) => {
                Some(Wanted::Review)
            }
            Class::Objects if self.kube.patch == "json" => Some(Wanted::Patch),
            Class::Objects | Class::Token | Class::Plain => None,
        }
    }

    /// Reads a body for what it is wanted.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn read_body(&mut self, wanted: Wanted, body: &[u8]) -> Result<(), WrongBody> {
        self.copies = self.kube.patch == "json" && mask::copies(body);
        match wanted {
            Wanted::Secret if mask::is_in(body) => Err(WrongBody::Masked),
            Wanted::Secret | Wanted::Patch => Ok(()),
            Wanted::Review => {
                self.review = Some(review::read(body).ok_or(WrongBody::Unreadable)?);
                Ok(())
            }
        }
    }

    /// What a stream asks for, in one text for every way in which it may be carried; `None` for everything else. A
    /// client that is refused one way tries another, and nobody is to be asked twice.
    #[must_use]
    pub fn said(&self) -> Option<String> {
        let kube = &self.kube;
        self.is_stream().then(|| {
            let mut text = self.summary();
            if !kube.container.is_empty() {
                text.push_str(&format!(" container={}", quoted(&kube.container)));
            }
            for (word, set) in [("tty", kube.tty), ("stdin", kube.stdin)] {
                if set {
                    text.push_str(&format!(" {word}"));
                }
            }
            for (word, values) in [("ports", &self.ports), ("command", &self.argv)] {
                if !values.is_empty() {
                    let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
                    text.push_str(&format!(" {word}={}", values.join(" ")));
                }
            }
            text
        })
    }

    fn summary(&self) -> String {
        let kube = &self.kube;
        if !self.asked.is_resource {
            return format!("{} {}", kube.verb, kube.path);
        }
        let group = match kube.group.as_str() {
            "" => String::new(),
            group => format!(".{group}"),
        };
        let part = match (kube.subresource.as_str(), stream(&self.actions)) {
            ("", _) | (_, Some(_)) => String::new(),
            (part, None) => format!("/{part}"),
        };
        let name = match kube.name.as_str() {
            "" => String::new(),
            name => format!("/{name}"),
        };
        let within = match kube.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" in {namespace}"),
        };
        format!("{} {}{group}{name}{part}{within}", kube.verb, kube.resource)
    }

    /// The request as the gate judges it. `line` is its first line with what it holds taken out.
    #[must_use]
    pub fn reading(&self, line: &str, veto: Option<Refusal>) -> Reading {
        let summary = self.summary();
        let redacted = match (self.is_stream(), self.kube.program.as_str()) {
            (false, _) => line.to_owned(),
            (true, "") => summary.clone(),
            (true, program) => format!("{summary} command={program} ?"),
        };
        let mut digest = Digest::new(&SHA256);
        for part in [&summary, &self.kube.program] {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let digest = digest.finish();
        let mark = digest.as_ref().get(..8).unwrap_or_default();
        Reading {
            asks: vec![ask(&self.asked, self.kube.clone(), &self.actions)],
            redacted: redacted.into(),
            fingerprint: hex::encode(mark).into(),
            summary: summary.into(),
            masked: Arc::new([]),
            veto: veto.map(Arc::new),
        }
    }
}

/// A word as people tell it from two: in quotes where it has more than letters in it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => serde_json::Value::from(word).to_string(),
    }
}

#[cfg(test)]
mod tests;

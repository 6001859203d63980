//! Facts of one request to a cluster: attributes of Cedar's `context`, as the type `KubeRequest`.

use std::collections::BTreeSet;

use cedar_policy::RestrictedExpression;
use serde::{Deserialize, Serialize};

/// What conditions of a rule about a request to a cluster may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KubeFacts {
    /// The verb as the cluster's own rules name it: `list`, `deletecollection`, and of a path that is no object the
    /// method in lower case.
    pub verb: String,
    /// The group of the API; empty for the core.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The version of the API.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The kind of object as paths name it: `pods`; empty for a path that is no object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The part of the object: `log`, `exec`, `status`; empty for the object itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// The namespace; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name of the object; empty for all of a kind, and for one that is made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path, escapes resolved.
    pub path: String,
    /// The command that is run in a container, its parts with spaces between. Not written down with what is asked:
    /// it is what the target's `statement` says how much is kept of.
    #[serde(skip_serializing)]
    pub command: String,
    /// The first part of the command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// The other parts of the command. Not written down either.
    #[serde(skip_serializing)]
    pub arguments: BTreeSet<String>,
    /// The container; empty where the server is to choose.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Whether a terminal is asked for.
    pub tty: bool,
    /// Whether what the agent types goes to the container.
    pub stdin: bool,
    /// How a part is changed: `json`, `merge`, `strategic` or `apply`; empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub patch: String,
    /// Whether nothing is to be kept.
    pub dry_run: bool,
    /// Which objects, by their labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    /// Which objects, by their fields.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_selector: String,
    /// The parameters of the query: `name=value`. Not written down.
    #[serde(skip_serializing)]
    pub parameters: BTreeSet<String>,
    /// What the connection is to become: `websocket`, `spdy/3.1`; empty for an ordinary request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upgrade: String,
}

impl KubeFacts {
    /// How many things it names.
    pub(in crate::policy) fn size(&self) -> usize {
        self.arguments.len().saturating_add(self.parameters.len())
    }

    /// About how many bytes it takes.
    pub(in crate::policy) fn weight(&self) -> usize {
        let sets = self.arguments.iter().chain(&self.parameters);
        let sets = sets.map(|text| size_of_val(text).saturating_add(text.len()));
        let texts = self.texts().into_iter().map(|(_, text)| text.len());
        texts
            .chain(sets)
            .fold(size_of::<Self>(), usize::saturating_add)
    }

    fn texts(&self) -> [(&'static str, &str); 15] {
        [
            ("verb", &self.verb),
            ("group", &self.group),
            ("version", &self.version),
            ("resource", &self.resource),
            ("subresource", &self.subresource),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("path", &self.path),
            ("command", &self.command),
            ("program", &self.program),
            ("container", &self.container),
            ("patch", &self.patch),
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("upgrade", &self.upgrade),
        ]
    }

    /// As Cedar sees it.
    pub(in crate::policy) fn pairs(&self) -> Vec<(&'static str, RestrictedExpression)> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let set = |values: &BTreeSet<String>| {
            RestrictedExpression::new_set(values.iter().map(|value| text(value)))
        };
        let flag = RestrictedExpression::new_bool;
        let texts = self.texts().into_iter();
        let texts = texts.map(|(name, value)| (name, text(value)));
        let others = [
            ("arguments", set(&self.arguments)),
            ("parameters", set(&self.parameters)),
            ("tty", flag(self.tty)),
            ("stdin", flag(self.stdin)),
            ("dryRun", flag(self.dry_run)),
        ];
        texts.chain(others).collect()
    }
}

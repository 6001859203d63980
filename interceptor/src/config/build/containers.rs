//! Containers: whose they are by their labels, and where runtimes keep what they know of them.

use std::path::PathBuf;

use super::{text, texts};
use crate::config::document::Node;
use crate::config::mistake::Report;

/// A container with this label is an agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRule {
    /// The label's, or annotation's, name.
    pub label: String,
    /// Its value, where it must have a certain one.
    pub value: Option<String>,
    /// The agent's name.
    pub agent: String,
}

/// The rules about labels, which stand among the scopes.
pub(super) fn rules(root: &Node) -> Vec<LabelRule> {
    let scopes = root.under("scopes").map(Node::elements).unwrap_or_default();
    scopes.iter().filter_map(rule).collect()
}

fn rule(node: &Node) -> Option<LabelRule> {
    let label = text(node.under("match"), "container_label")?;
    let (label, value) = match label.split_once('=') {
        Some((label, value)) => (label.to_owned(), Some(value.to_owned())),
        None => (label, None),
    };
    let agent = text(Some(node), "agent")?;
    Some(LabelRule {
        label,
        value,
        agent,
    })
}

/// Directories of runtimes beside the usual ones.
pub(super) fn state(root: &Node) -> Vec<PathBuf> {
    let said = root.under("containers");
    let said = said.map(|node| texts(node, "state")).unwrap_or_default();
    said.into_iter().map(PathBuf::from).collect()
}

/// A scope is a cgroup, or whatever containers a rule fits.
pub(in crate::config) fn cross(root: &Node, report: &mut Report) {
    let scopes = root.under("scopes").map(Node::elements).unwrap_or_default();
    for (index, node) in scopes.iter().enumerate() {
        let is_one = node.under("cgroup").is_some() != node.under("match").is_some();
        if !is_one {
            let key = format!("scopes[{index}]");
            report.add(node.place, &key, "expected one of cgroup and match");
        }
    }
}

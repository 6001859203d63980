//! What requests of each family of protocols are judged by: an action's family says which facts its context has.

pub(super) mod http;
pub(super) mod kubernetes;

use super::Action;

/// Protocols whose requests have facts in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Statements of a database, and what no request does.
    Sql,
    /// Requests of HTTP.
    Http,
    /// Channels of SSH.
    Ssh,
    /// Requests to a cluster.
    Kubernetes,
}

impl Family {
    /// The family of an action.
    pub(super) fn of(action: Action) -> Self {
        let http = matches!(
            action,
            Action::HttpGet
                | Action::HttpHead
                | Action::HttpOptions
                | Action::HttpPost
                | Action::HttpPut
                | Action::HttpPatch
                | Action::HttpDelete
                | Action::HttpOther
                | Action::HttpUpgrade
                | Action::HttpPassThrough
        );
        if action.name().starts_with("Kube") {
            return Self::Kubernetes;
        }
        match (http, action.is_of_a_channel()) {
            (true, _) => Self::Http,
            (false, true) => Self::Ssh,
            (false, false) => Self::Sql,
        }
    }
}

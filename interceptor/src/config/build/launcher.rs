//! What the host's other doors are for scopes: UNIX sockets, and what `interceptor run` takes away.

use super::{flag, text, texts};
use crate::config::document::Node;

/// Which UNIX sockets scopes may reach that were made outside of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unix {
    /// Whether all may be reached. Default: none but the daemon's own for agents, and `allow`.
    pub others: bool,
    /// Paths as their makers named them, and abstract names behind an `@`.
    pub allow: Vec<String>,
}

/// What `interceptor run` takes away from a command before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// Whether the command may make user namespaces, and others in them. Default: it may not.
    pub user_namespaces: bool,
    /// Whether it has mounts of its own, on which what is none of its business is not to be seen; only root
    /// can make them. Default: it has.
    pub mounts: bool,
    /// Files, directories and sockets that it does not see either.
    pub hide: Vec<String>,
    /// Whether bundles of certificates that it reads hold the daemon's authority too, on those mounts.
    pub trust: bool,
    /// Such bundles, beside those that are known; as patterns.
    pub bundles: Vec<String>,
}

impl Default for Launcher {
    fn default() -> Self {
        Self {
            user_namespaces: false,
            mounts: true,
            hide: Vec::new(),
            trust: true,
            bundles: Vec::new(),
        }
    }
}

/// Reads it.
pub(super) fn unix(node: Option<&Node>) -> Unix {
    Unix {
        others: text(node, "others").as_deref() == Some("permit"),
        allow: node.map(|node| texts(node, "allow")).unwrap_or_default(),
    }
}

/// Reads it.
pub(super) fn launcher(node: Option<&Node>) -> Launcher {
    let default = Launcher::default();
    Launcher {
        user_namespaces: node
            .is_some_and(|node| flag(node, "user_namespaces", default.user_namespaces)),
        mounts: node.is_none_or(|node| flag(node, "mounts", default.mounts)),
        hide: node.map(|node| texts(node, "hide")).unwrap_or_default(),
        trust: node.is_none_or(|node| flag(node, "trust", default.trust)),
        bundles: node.map(|node| texts(node, "bundles")).unwrap_or_default(),
    }
}

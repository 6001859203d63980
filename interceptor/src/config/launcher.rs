//! What the host's other doors are for scopes: UNIX sockets, and what `interceptor run` takes away.

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
}

impl Default for Launcher {
    fn default() -> Self {
        Self {
            user_namespaces: false,
            mounts: true,
            hide: Vec::new(),
        }
    }
}

//! Which ways may be open on which host: limits that README states.

/// Why a way may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It may not.
    None,
    /// It is the launcher's to shut: a cgroup that is only tagged leaves it open.
    Launcher,
    /// It is the launcher's to shut, from Linux 6.12 on (Landlock's scopes).
    Scoped,
    /// The kernel's LSM shuts it, or else the launcher.
    LsmOrLauncher,
    /// Only the kernel's LSM shuts it.
    Lsm,
    /// The kernel's LSM shuts it, or else the guard of the host.
    LsmOrHost,
    /// Only the guard of the host shuts it.
    Host,
}

/// What may be shut on this host.
#[derive(Clone, Debug)]
pub(super) struct Guards {
    /// Who looks at UNIX sockets.
    pub(super) unix: String,
    /// Whether the whole host is guarded.
    pub(super) host: bool,
}

impl Limit {
    /// Whether a way may be open, in a scope of the launcher's or in one that is only tagged.
    pub(super) fn allows(self, guards: &Guards, is_launched: bool, has_landlock: bool) -> bool {
        let has_lsm = guards.unix == "lsm";
        match self {
            Self::None => false,
            Self::Launcher => !is_launched,
            Self::Scoped => !is_launched || !has_landlock,
            Self::LsmOrLauncher => !is_launched && !has_lsm,
            Self::Lsm => !has_lsm,
            Self::LsmOrHost => !has_lsm && !guards.host,
            Self::Host => !guards.host,
        }
    }
}

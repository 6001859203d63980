//! Which ways may be open on which host: limits that README states.

use crate::cli::run::apart;

/// Why a way may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It may not.
    None,
    /// It is the launcher's to shut: a cgroup that is only tagged leaves it open.
    Launcher,
    /// It is the launcher's to shut, by a domain of Landlock's (Linux 5.19).
    Domain,
    /// It is the launcher's to shut, by a domain's scopes (Linux 6.12).
    Scoped,
    /// What looks at UNIX sockets shuts it, or else the launcher, who hides them.
    Door,
    /// What looks at UNIX sockets shuts it, or else the launcher, by a domain's scopes: no name hides it.
    Nameless,
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
    /// Whether the launcher gives a command a domain of Landlock's.
    pub(super) domains: bool,
    /// Whether domains have scopes.
    pub(super) scopes: bool,
}

impl Guards {
    /// As the daemon says, on this kernel.
    pub(super) fn of(unix: String, host: bool) -> Self {
        Self {
            unix,
            host,
            domains: apart::domains(),
            scopes: apart::scopes(),
        }
    }
}

impl Limit {
    /// Whether a way may be open, in a scope of the launcher's or in one that is only tagged.
    pub(super) fn allows(self, guards: &Guards, is_launched: bool) -> bool {
        let has_lsm = guards.unix == "lsm";
        let is_open = guards.unix == "none";
        match self {
            Self::None => false,
            Self::Launcher => !is_launched,
            Self::Domain => !(is_launched && guards.domains),
            Self::Scoped => !(is_launched && guards.scopes),
            Self::Door => is_open && !is_launched,
            Self::Nameless => is_open && Self::Scoped.allows(guards, is_launched),
            Self::LsmOrLauncher => !is_launched && !has_lsm,
            Self::Lsm => !has_lsm,
            Self::LsmOrHost => !has_lsm && !guards.host,
            Self::Host => !guards.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(unix: &str, (domains, scopes): (bool, bool)) -> Guards {
        Guards {
            unix: unix.to_owned(),
            host: false,
            domains,
            scopes,
        }
    }

    #[test]
    fn a_kernel_that_looks_at_no_unix_socket_leaves_doors_to_the_launcher() {
        // Linux 5.10; 6.1 without an LSM; 6.12 with one, and with names alone.
        let old = guards("none", (false, false));
        let middle = guards("none", (true, false));
        let new = guards("names", (true, true));
        let best = guards("lsm", (true, true));
        let open = |limit: Limit, guards| [true, false].map(|run| limit.allows(guards, run));
        for (guards, door, nameless) in [
            (&old, [false, true], [true, true]),
            (&middle, [false, true], [true, true]),
            (&new, [false, false], [false, false]),
            (&best, [false, false], [false, false]),
        ] {
            assert_eq!(open(Limit::Door, guards), door, "{guards:?}");
            assert_eq!(open(Limit::Nameless, guards), nameless, "{guards:?}");
            assert_eq!(open(Limit::None, guards), [false, false]);
        }
        assert_eq!(open(Limit::Domain, &old), [true, true]);
        assert_eq!(open(Limit::Domain, &middle), [false, true]);
        assert_eq!(open(Limit::Scoped, &middle), [true, true]);
        assert_eq!(open(Limit::Scoped, &new), [false, true]);
        assert_eq!(open(Limit::Lsm, &new), [true, true]);
    }
}

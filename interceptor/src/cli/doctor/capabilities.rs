//! The capabilities that the daemon needs: what its unit grants it, and what doctor looks for.

use super::Check;

/// By bit number (`linux/capability.h`) and name.
const NEEDED: [(u8, &str); 10] = [
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (5, "CAP_KILL"),
    (10, "CAP_NET_BIND_SERVICE"),
    (12, "CAP_NET_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (24, "CAP_SYS_RESOURCE"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// Without this one the daemon runs, with fewer descriptors, and before Linux 5.11 only with room for its maps.
const USEFUL: &str = "CAP_SYS_RESOURCE";

/// Whose capabilities were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The daemon's, which answers.
    Daemon,
    /// This command's own: no daemon answers.
    Own,
}

/// What a process's `status` (proc_pid_status(5)) says of them.
pub(super) fn check(whose: Whose, status: &str) -> Check {
    let what = "capabilities";
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(held) = held else {
        return Check::bad(what, "the kernel does not tell them", "mount /proc");
    };
    let lacking: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, _)| held & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    let lacks = || format!("lacks {}", lacking.join(", "));
    match whose {
        _ if lacking.is_empty() => Check::good(what, "all that the daemon needs"),
        _ if lacking == [USEFUL] => Check::warning(
            what,
            format!("{}: the daemon cannot raise its limits", lacks()),
            "give it, or see that the daemon's limits are those of its unit (LimitNOFILE)",
        ),
        Whose::Daemon => Check::bad(
            what,
            format!("the daemon {}", lacks()),
            "grant them in its unit (CapabilityBoundingSet), and restart it",
        ),
        Whose::Own => Check::bad(
            what,
            format!("no daemon answers, and this command {}", lacks()),
            "run the daemon and doctor as root",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Found;

    const UNIT: &str = include_str!("../../../systemd/interceptor.service");

    #[test]
    fn the_unit_grants_what_is_needed_and_nothing_else() {
        let mut needed = NEEDED.map(|(_, name)| name);
        needed.sort_unstable();
        let granted = UNIT
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let mut granted: Vec<_> = granted.unwrap().split_whitespace().collect();
        granted.sort_unstable();
        assert_eq!(granted, needed);
    }

    #[test]
    fn whoever_lacks_one_is_told_which() {
        let all: u64 = NEEDED.iter().fold(0, |all, (bit, _)| all | 1 << bit);
        let status = |held: u64| format!("Name:\tx\nCapEff:\t{held:016x}\nCapBnd:\t0\n");
        for whose in [Whose::Daemon, Whose::Own] {
            let check = check(whose, &status(all | 1 << 40));
            assert!(matches!(check.found, Found::Good { .. }), "{check:?}");
            for (bit, name) in NEEDED {
                let check = super::check(whose, &status(all & !(1 << bit)));
                if name == USEFUL {
                    assert!(matches!(check.found, Found::Warning { .. }), "{check:?}");
                    continue;
                }
                let Found::Bad { is, .. } = &check.found else {
                    panic!("{check:?}");
                };
                assert!(is.ends_with(&format!("lacks {name}")), "{is}");
                assert_eq!(is.starts_with("the daemon"), whose == Whose::Daemon, "{is}");
            }
            let unread = super::check(whose, "Name:\tx\n");
            assert!(matches!(unread.found, Found::Bad { .. }), "{unread:?}");
        }
    }
}

//! Capabilities with which a container leads packets past the guard, or takes it away.
//!
//! Whoever administers a network writes rules behind the guard (tc, nftables' netdev chains), which lead what was on
//! its way to the daemon elsewhere; and frames are nobody's to see where no LSM looks at who makes their sockets. Whoever
//! administers the system detaches programs, loads others, or acts as a process of the host.

use std::collections::BTreeSet;
use std::fs;

use crate::capture::Guard;
use crate::control::caller::Answer;
use crate::session::services::Services;

const ADMIN: &str = "NET_ADMIN";
const RAW: &str = "NET_RAW";

/// Their bits (`linux/capability.h`).
const BITS: [(&str, u32); 7] = [
    (ADMIN, 12),
    (RAW, 13),
    ("SYS_MODULE", 16),
    ("SYS_RAWIO", 17),
    ("SYS_PTRACE", 19),
    ("SYS_ADMIN", 21),
    ("BPF", 39),
];

/// Refuses a container that may hold what leads past the guard. `held` is what its processes may hold; `None`
/// where that cannot be told.
///
/// # Errors
/// What to do about it.
pub(super) fn check(
    services: &Services,
    (agent, id): (&str, &str),
    held: Option<&BTreeSet<String>>,
) -> Result<(), Answer> {
    if services.config.load().agent(agent).allow_privileged {
        return Ok(());
    }
    let guard = services.capture.guard();
    too_much(guard, held).map_or(Ok(()), |what| {
        Err(Answer::bad(&format!(
            "container {id} may hold {what}, with which it gets past the guard: start it without \
             (--cap-drop {what}), or set agents.{agent}.allow_privileged"
        )))
    })
}

fn too_much(guard: Guard, held: Option<&BTreeSet<String>>) -> Option<&'static str> {
    let is_refused = |name: &&str| match guard {
        Guard::Lsm => *name != RAW,
        Guard::Names | Guard::None => true,
    };
    let holds = |name: &&str| held.is_none_or(|held| held.contains(*name));
    let mut names = BITS.into_iter().map(|(name, _)| name).filter(is_refused);
    names.find(holds)
}

/// What processes may hold of them.
pub(super) fn of(processes: &[u32]) -> BTreeSet<String> {
    let texts = processes.iter().map(|pid| format!("/proc/{pid}/status"));
    // Of one that has ended meanwhile there is none.
    let texts = texts.filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| in_status(&text)).collect()
}

/// What one may hold by its `status` (proc_pid_status(5)). What it has not, it gets from a file only without
/// `no_new_privs`.
fn in_status(text: &str) -> impl Iterator<Item = String> + use<> {
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let set = |name: &str| {
        let found = field(name).and_then(|set| u64::from_str_radix(&set, 16).ok());
        found.unwrap_or(u64::MAX)
    };
    let mut held = set("CapPrm:") | set("CapInh:") | set("CapAmb:");
    if field("NoNewPrivs:").as_deref() != Some("1") {
        held |= set("CapBnd:");
    }
    let names = BITS
        .into_iter()
        .filter(move |(_, bit)| held >> bit & 1 == 1);
    names.map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_may_command_packets_starts() {
        let held = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        for (guard, names, expected) in [
            (Guard::Lsm, &["CHOWN"][..], None),
            (Guard::Lsm, &["NET_RAW"], None),
            (Guard::Lsm, &["NET_ADMIN"], Some(ADMIN)),
            (Guard::Names, &["NET_RAW"], Some(RAW)),
            (Guard::None, &["NET_RAW", "CHOWN"], Some(RAW)),
            (Guard::None, &[], None),
            (Guard::Lsm, &["CHOWN", "BPF"], Some("BPF")),
            (Guard::Lsm, &["SYS_ADMIN"], Some("SYS_ADMIN")),
        ] {
            assert_eq!(too_much(guard, Some(&held(names))), expected, "{names:?}");
        }
        assert_eq!(too_much(Guard::Lsm, None), Some(ADMIN), "who knows");
    }

    #[test]
    fn a_process_may_hold_what_it_has_and_what_files_give_it() {
        let status = |permitted: &str, bounding: &str, bound: &str| {
            let text = format!(
                "Name:\tx\nNoNewPrivs:\t{bound}\nCapInh:\t0\nCapPrm:\t{permitted}\nCapEff:\t0\n\
                 CapBnd:\t{bounding}\nCapAmb:\t0\n"
            );
            in_status(&text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(status("0", "0", "0"), "");
        assert_eq!(status("1000", "0", "1"), ADMIN);
        assert_eq!(status("0", "3000", "0"), "NET_ADMIN NET_RAW");
        assert_eq!(status("0", "3000", "1"), "");
        assert_eq!(in_status("").count(), BITS.len(), "who knows");
    }
}

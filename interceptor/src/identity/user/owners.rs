//! Who else a process is of: whoever gave it its user namespace, and whose subordinate user it runs as.
//!
//! In a rootless container processes run as users of the host that nobody logs in as; they are still those of
//! whoever started it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Users beside the one that a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Users of the host that it can run as: the first, and how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<(u32, u32)>,
    /// Login names of those to whom its user was given (subuid(5)).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
}

impl Owners {
    /// Those of a process that runs as `uid`. Reads files; what cannot be read names nobody.
    #[must_use]
    pub fn of(pid: u32, uid: u32) -> Self {
        let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map"));
        let given = std::fs::read_to_string("/etc/subuid");
        Self::read(&map.unwrap_or_default(), &given.unwrap_or_default(), uid)
    }

    fn read(map: &str, given: &str, uid: u32) -> Self {
        let mut owners = Self::default();
        for line in map.lines() {
            let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
            // One that is mapped to itself says nothing: so is everybody in the host's own namespace.
            if let [inside, outside, count] = numbers.as_slice()
                && inside != outside
            {
                owners.spans.push((*outside, *count));
            }
        }
        for (name, span) in spans(given) {
            if !contains(span, uid) {
                continue;
            }
            match name.parse() {
                Ok(number) => owners.spans.push((number, 1)),
                Err(_) => drop(owners.names.insert(name.to_owned())),
            }
        }
        owners
    }

    /// Whether a user is among them.
    #[must_use]
    pub fn has(&self, uid: u32, name: Option<&str>) -> bool {
        self.spans.iter().any(|span| contains(*span, uid))
            || name.is_some_and(|name| self.names.contains(name))
    }
}

/// To whom a user was given as a subordinate one; itself where it was given to nobody. Whoever was given them runs as any
/// of them. Whom this host's own files do not know is the first of the users that were given to that one. Reads files;
/// where they cannot be read, there are none.
#[must_use]
pub fn given_to(uid: u32) -> u32 {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let given = read("/etc/subuid");
    match spans(&given).any(|(_, span)| contains(span, uid)) {
        true => owner(&given, &read("/etc/passwd"), uid),
        false => uid,
    }
}

fn owner(given: &str, users: &str, uid: u32) -> u32 {
    let Some((name, _)) = spans(given).find(|(_, span)| contains(*span, uid)) else {
        return uid;
    };
    // passwd(5)
    let known = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let is_it = parts.next() == Some(name);
        is_it.then(|| parts.nth(1)?.parse().ok()).flatten()
    });
    let first = || spans(given).find(|(other, _)| *other == name);
    let first = || first().map(|(_, (first, _))| first);
    known
        .or_else(|| name.parse().ok())
        .or_else(first)
        .unwrap_or(uid)
}

/// Who was given which users: each line of subuid(5) that can be read.
fn spans(given: &str) -> impl Iterator<Item = (&str, (u32, u32))> {
    given.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        let first = parts.next()?.parse().ok()?;
        let count = parts.next()?.trim().parse().ok()?;
        Some((name, (first, count)))
    })
}

fn contains((first, count): (u32, u32), uid: u32) -> bool {
    uid.checked_sub(first).is_some_and(|at| at < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rootless_container_is_of_whoever_started_it() {
        let given = "alice:100000:65536\nbob:165536:65536\n1002:300000:10\n# no line\n";
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        let owners = Owners::read(rootless, given, 100_032);
        assert!(owners.has(1_000, None) && owners.has(7, Some("alice")));
        assert!(!owners.has(1_001, Some("bob")));
        assert!(Owners::read("", given, 300_009).has(1_002, None));
        assert!(!Owners::read("", given, 300_010).has(1_002, None));
        let hosts_own = "         0          0 4294967295\n";
        assert_eq!(Owners::read(hosts_own, given, 1_000), Owners::default());
    }

    #[test]
    fn all_that_were_given_to_somebody_are_theirs() {
        let given = "alice:100000:65536\nbob:165536:65536\nalice:400000:10\n1002:300000:10\nldap:500000:10\nldap:600000:10\n";
        let users = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        for (uid, of) in [
            (100_032, 1_000),
            (400_009, 1_000),
            (165_536, 1_001),
            (300_009, 1_002),
            // Whose number is not known has one all the same.
            (500_001, 500_000),
            (600_001, 500_000),
            (300_010, 300_010),
            (1_000, 1_000),
            (7, 7),
        ] {
            assert_eq!(owner(given, users, uid), of, "{uid}");
        }
    }
}

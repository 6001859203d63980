//! What a kernel lacks: each thing that the program does only from some version on, and what that means before.

use super::Check;

/// The first two numbers of a release.
pub(super) type Version = (u32, u32);

/// The oldest kernel that has every hook and helper that cannot be done without.
const OLDEST: Version = (5, 10);

/// From here on what is lacking is not worth a warning.
const RECOMMENDED: Version = (6, 1);

/// From here on UNIX sockets of targets are led to the daemon.
pub(super) const CARRIES: Version = (6, 7);

/// From which version on something is there, and what holds before. Eldest first.
const LACKS: [(Version, &str); 6] = [
    (
        (5, 14),
        "executables on overlayfs and btrfs are not told apart, and connections from there refused",
    ),
    (
        (5, 18),
        "agents read EPERM whatever the reason of a refusal was",
    ),
    (
        (5, 19),
        "`interceptor run` keeps processes outside of the scope away by seccomp alone, and not their files in /proc",
    ),
    (
        (6, 0),
        "UNIX sockets that others made are shut by what `interceptor run` hides alone",
    ),
    (
        CARRIES,
        "UNIX sockets of targets are refused, and those that others made shut only with `bpf` among the security modules",
    ),
    (
        (6, 12),
        "agents can signal processes of their user outside of the scope",
    ),
];

/// The first two numbers of a kernel's release; zero where there are none.
pub(super) fn version(release: &str) -> Version {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What is to be known of a kernel; `tells_namespaces` is whether it names the network namespace of a socket.
pub(super) fn check(release: &str, tells_namespaces: bool) -> Check {
    let what = "kernel";
    let now = version(release);
    if now < OLDEST {
        return Check::bad(what, release, "needs Linux 5.10 or later");
    }
    let lacking = LACKS.iter().filter(|(since, _)| now < *since);
    let lacking =
        lacking.map(|((major, minor), means)| format!("before Linux {major}.{minor} {means}"));
    let untold = (!tells_namespaces).then(|| {
        "without SO_NETNS_COOKIE (Linux 5.14) targets with `namespace: client` are refused"
            .to_owned()
    });
    let lacking: Vec<_> = lacking.chain(untold).collect();
    match (lacking.is_empty(), now < RECOMMENDED) {
        (true, _) => Check::good(what, release),
        (false, false) => Check::good(what, format!("{release}; {}", lacking.join("; "))),
        (false, true) => {
            let is = format!("{release}\n{}", lacking.join("\n"));
            Check::warning(what, is, "use Linux 6.1 or later")
        }
    }
}

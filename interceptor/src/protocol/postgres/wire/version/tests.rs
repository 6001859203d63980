//! Versions of servers as they name themselves, and what depends on them.

use super::*;

#[test]
fn only_servers_that_are_known_to_keep_the_role_do() {
    let rows = [
        ("15.18 (Debian 15.18-0+deb12u1)", true),
        ("15.10", true),
        ("15.9", false),
        ("12.22", true),
        ("11.22", false),
        ("9.6.24", false),
        ("17.1", false),
        ("17.2", true),
        ("18.0", true),
        // Development versions and others' products.
        ("18beta1", false),
        ("8.0.2", false),
        ("", false),
        ("x.y", false),
    ];
    for (version, expected) in rows {
        assert_eq!(discard_keeps_role(version), expected, "{version}");
    }
}

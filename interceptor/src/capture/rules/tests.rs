//! The rows that the kernel is given say what the rules say: prefixes, families, protected addresses.

use std::net::{IpAddr, SocketAddr};

use interceptor_ebpf::rule::{DIRECT, DIRECT_IF_READY, NAMES, REDIRECT, SLOT};

use super::{Row, Slots, address, compile, endpoint, order, protect};
use crate::capture::{Rule, Verdict};

const DIRECTLY: Verdict = Verdict::Direct {
    needs_daemon: false,
};
const WHILE_READY: Verdict = Verdict::Direct { needs_daemon: true };
/// No resolver has a slot.
const NOBODY: Slots = [None; 4];

fn rule(network: &str, port: u16, verdict: Verdict) -> Rule {
    Rule {
        scope: None,
        network: network.parse().unwrap(),
        port: (port != 0).then_some(port),
        verdict,
    }
}

#[test]
fn a_row_says_what_the_wider_rows_over_it_say() {
    let rules = [
        rule("10.0.0.0/8", 5432, DIRECTLY),
        rule("10.1.2.3/32", 5432, Verdict::Redirect),
        rule("10.1.0.0/16", 5432, WHILE_READY),
        rule("10.1.2.3/32", 53, Verdict::Resolver),
    ];
    let resolver = endpoint("10.1.2.3:53".parse().unwrap());
    let rows = compile(&rules, &[None, None, Some(resolver), None]);
    let expected = [
        (0, DIRECT),
        (1, DIRECT | DIRECT_IF_READY | REDIRECT),
        (2, DIRECT | DIRECT_IF_READY),
        (3, NAMES | 2 << SLOT),
    ];
    for (index, bits) in expected {
        assert_eq!(rows[&Row::of(&rules[index])], bits, "{:?}", rules[index]);
    }
}

#[test]
fn where_the_daemon_dials_nobody_else_listens_and_nothing_else_changes() {
    let rules = [
        rule("127.0.0.1/32", 4318, Verdict::Dialled),
        rule("10.1.2.3/32", 443, Verdict::Dialled),
        rule("10.0.0.0/8", 443, DIRECTLY),
    ];
    let rows = compile(&rules, &NOBODY);
    let bits = rules.map(|rule| rows[&Row::of(&rule)]);
    assert_eq!(bits, [0, DIRECT, DIRECT]);
    let protected = protect(&rules, &[]);
    let expected = ["127.0.0.1:4318", "[::]:4318", "10.1.2.3:443"];
    let expected = expected.map(|at| order(&endpoint(at.parse().unwrap())));
    assert_eq!(protected.len(), expected.len());
    assert!(expected.iter().all(|at| protected.contains_key(at)));
}

#[test]
fn a_wide_redirect_is_not_undercut_by_a_narrow_direct_rule() {
    let narrow = rule("fd00::1/128", 443, DIRECTLY);
    let rows = compile(
        &[rule("fd00::/64", 443, Verdict::Redirect), narrow],
        &NOBODY,
    );
    assert_eq!(rows[&Row::of(&narrow)] & REDIRECT, REDIRECT);
}

#[test]
fn families_do_not_meet_in_the_trie() {
    let rows = compile(
        &[rule("0.0.0.0/0", 0, DIRECTLY), rule("::/0", 0, WHILE_READY)],
        &NOBODY,
    );
    let v4 = Row::of(&rule("1.2.3.4/32", 0, DIRECTLY));
    assert_eq!(v4.widened(96), Row::of(&rule("0.0.0.0/0", 0, DIRECTLY)));
    // Every IPv6 network holds the IPv4-mapped one: an explicit `::/0` covers both.
    assert_eq!(rows[&v4.widened(96)], DIRECT | DIRECT_IF_READY);
}

#[test]
fn targets_are_protected_and_local_ones_on_every_address() {
    let own: IpAddr = "192.0.2.2".parse().unwrap();
    let rows = [
        ("127.0.0.1/32", 5432, Verdict::Redirect, true, true),
        ("::1/128", 5432, Verdict::Redirect, true, true),
        ("192.0.2.2/32", 5432, Verdict::Redirect, true, true),
        ("10.0.0.1/32", 5432, Verdict::Redirect, true, false),
        ("10.0.0.1/32", 5432, DIRECTLY, false, false),
        ("127.0.0.1/32", 0, Verdict::Redirect, false, false),
    ];
    for (network, port, verdict, exact, every) in rows {
        let rule = rule(network, port, verdict);
        let found = protect(&[rule], &[own]);
        let at = endpoint(SocketAddr::new(rule.network.addr(), 5432));
        let all = endpoint("[::]:5432".parse().unwrap());
        assert_eq!(found.contains_key(&order(&at)), exact, "{network}");
        assert_eq!(found.contains_key(&order(&all)), every, "{network}");
    }
}

#[test]
fn addresses_survive_the_way_into_the_kernel_and_back() {
    for text in [
        "127.0.0.1:5432",
        "[2001:db8::1]:443",
        "255.1.2.3:65535",
        "[::1]:1",
    ] {
        let socket: SocketAddr = text.parse().unwrap();
        assert_eq!(address(&endpoint(socket)), socket);
    }
}

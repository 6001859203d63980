//! What is a host and port, and what only looks like it.

use super::*;

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

fn ip(text: &str) -> Host {
    Host::Ip(text.parse().unwrap())
}

#[test]
fn a_place_is_read_as_targets_have_it() {
    for (text, host, port) in [
        ("a.example:443", name("a.example"), 443),
        ("A.Example.:443", name("a.example"), 443),
        ("10.0.0.1:1", ip("10.0.0.1"), 1),
        ("[::1]:8443", ip("::1"), 8443),
        ("[::ffff:10.0.0.1]:1", ip("10.0.0.1"), 1),
        ("a:0", name("a"), 0),
    ] {
        assert_eq!(authority(text), Some((host, port)), "{text}");
    }
}

#[test]
fn what_servers_may_read_differently_is_no_place() {
    for odd in [
        "",
        "a",
        "a:",
        "a:x",
        "a:65536",
        "a:-1",
        ":443",
        "u@a:443",
        "u:p@a:443",
        "a..example:443",
        "a..:443",
        ".a:443",
        "a b:443",
        "a\0.example:443",
        "a\r\nb:443",
        "a/b:443",
        "http://a:443",
        "a:443/",
        "a:443?x",
        "[a.example]:443",
        "[::1:443",
        "::1:443",
        "[::1%25lo]:443",
        "127.1:443",
        "2130706433:443",
        "a%2eexample:443",
        "*.example:443",
        "\u{e9}.example:443",
    ] {
        assert_eq!(authority(odd), None, "{odd:?}");
    }
    let long = format!("{}:443", vec!["a".repeat(60); 5].join("."));
    assert_eq!(authority(&long), None);
}

#[test]
fn a_whole_address_is_one_in_clear() {
    for (text, expected) in [
        ("http://A.example/x?y", Some((name("a.example"), 80))),
        ("http://a:8080/", Some((name("a"), 8080))),
        ("http://[::1]:8080/", Some((ip("::1"), 8080))),
        ("HTTP://a/", Some((name("a"), 80))),
        ("https://a/", None),
        ("ftp://a/", None),
        ("http://u@a/", None),
        ("http:///x", None),
        ("/x", None),
        ("*", None),
        ("a:443", None),
    ] {
        assert_eq!(whole(text), expected, "{text}");
    }
}

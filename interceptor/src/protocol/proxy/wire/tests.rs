//! What is read, and what is taken for nothing.

use super::*;

#[test]
fn a_head_is_read_or_is_none() {
    let text = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nproxy-Authorization:  Basic x \r\n\r\n";
    let read = head(text).unwrap();
    assert_eq!((read.method, read.target), ("CONNECT", "a.example:443"));
    assert_eq!((read.login, read.has_body), (Some("Basic x"), false));
    let body = b"CONNECT a:1 HTTP/1.0\r\nContent-Length: 3\r\n\r\n";
    assert!(head(body).unwrap().has_body);
    for odd in [
        "CONNECT a:1\r\n\r\n",
        "CONNECT a:1 HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1 x\r\n\r\n",
        "CONNECT  a:1 HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nx\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n x: y\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nx: y\rz: 1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nx : y\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: a\r\nproxy-authorization: b\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
    ] {
        assert_eq!(head(odd.as_bytes()), None, "{odd:?}");
    }
}

#[test]
fn a_head_ends_where_all_agree() {
    for (bytes, expected) in [
        ("", Ok(None)),
        ("a\r\n", Ok(None)),
        ("a\r\n\r", Ok(None)),
        ("a\r\n\r\n", Ok(Some(5))),
        ("a\r\n\r\n\n", Ok(Some(5))),
        ("a\n", Err(Unclear)),
        ("\n", Err(Unclear)),
        ("a\r\nb\n\r\n\r\n", Err(Unclear)),
        ("a\r\n\n", Err(Unclear)),
    ] {
        assert_eq!(end(bytes.as_bytes(), 0), expected, "{bytes:?}");
        // In whatever pieces it comes.
        for seen in 1..bytes.len() {
            if end(&bytes.as_bytes()[..seen], 0) == Ok(None) {
                assert_eq!(end(bytes.as_bytes(), seen), expected, "{bytes:?} {seen}");
            }
        }
    }
    // What has been looked at is not looked at again.
    assert_eq!(end(b"\r\n\r\n\n345", 7), Ok(None));
}

#[test]
fn a_status_is_read_or_is_none() {
    for (head, expected) in [
        ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
        ("HTTP/1.0 407\r\n\r\n", Some(407)),
        ("HTTP/1.1 200\r\n\r\n", Some(200)),
        ("HTTP/1.1 2000\r\n\r\n", None),
        ("HTTP/1.1 2x0 OK\r\n\r\n", None),
        ("HTTP/1.1 +20 OK\r\n\r\n", None),
        ("HTTP/1.1 20", None),
        ("HTTP/2 200 OK\r\n\r\n", None),
        ("ICY 200 OK\r\n\r\n", None),
        ("x HTTP/1.1 200 OK\r\n\r\n", None),
    ] {
        assert_eq!(status(head.as_bytes()), expected, "{head:?}");
    }
}

#[test]
fn a_request_says_each_kind_of_host() {
    let rows: [(Host<'_>, &[u8]); 3] = [
        (Host::Name("a.b"), b"\x05\x01\x00\x03\x03a.b\x01\xbb"),
        (
            Host::Ip([10, 0, 0, 1].into()),
            b"\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb",
        ),
        (
            Host::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
            b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
        ),
    ];
    for (host, expected) in rows {
        assert_eq!(request(host, 443).unwrap(), expected, "{host:?}");
    }
    assert_eq!(request(Host::Name(&"a".repeat(256)), 1), None);
}

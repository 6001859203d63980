//! Clients that ask as they must, and such as do not.

use super::*;
use crate::tls::testing::pair;

/// What a client asks for that sends this at once, and what it hears before it is served; what is left of what it
/// sent.
async fn asked(sent: &[u8]) -> (Result<(Form, Host, u16), Option<&'static [u8]>>, Vec<u8>) {
    let (mut client, mut server) = pair().await;
    client.write_all(sent).await.unwrap();
    client.shutdown().await.unwrap();
    let asked = match ask(&mut server).await {
        Ok(asked) => Ok((asked.form, asked.host, asked.port)),
        Err(Wrong::Said(told, _)) => Err(Some(told)),
        Err(Wrong::Io(_)) => Err(None),
    };
    let mut left = Vec::new();
    server.read_to_end(&mut left).await.unwrap();
    (asked, left)
}

fn name(text: &str) -> Host {
    Host::Name(text.to_owned())
}

/// A request of SOCKS for a name, behind a greeting.
fn socks(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let head = [5, 1, 0, 5, 1, 0, 3, length];
    [&head[..], name, &[1, 0xbb]].concat()
}

#[tokio::test]
async fn what_stands_behind_what_is_asked_is_left_for_whoever_serves_it() {
    let hello = b"\x16\x03\x01 early";
    let connect = b"CONNECT A.example.:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    let (found, left) = asked(&[&connect[..], hello].concat()).await;
    assert_eq!(found, Ok((Form::Connect, name("a.example"), 443)));
    assert_eq!(left, hello);
    let (found, left) = asked(&[&socks(b"a.example"), &hello[..]].concat()).await;
    assert_eq!(found, Ok((Form::Socks, name("a.example"), 443)));
    assert_eq!(left, hello);
    let whole = b"POST http://a.example/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
    let (found, left) = asked(&[&whole[..], b"ab"].concat()).await;
    assert_eq!(found, Ok((Form::Whole, name("a.example"), 80)));
    assert_eq!(left, b"ab");
}

#[tokio::test]
async fn a_name_of_socks_is_one_that_all_read_alike_or_none() {
    for (text, host) in [
        (&b"a.example"[..], Some(name("a.example"))),
        (b"A.Example.", Some(name("a.example"))),
        (b"10.0.0.1", Some(Host::Ip([10, 0, 0, 1].into()))),
        (b"::1", Some(Host::Ip(std::net::Ipv6Addr::LOCALHOST.into()))),
        (b"evil.example\0.apps.example", None),
        (b"evil.example\r\n.apps.example", None),
        (b"evil.example/.apps.example", None),
        (b"evil.example:22.apps.example", None),
        (b"evil.example #.apps.example", None),
        (b"u@a.example", None),
        (b"a..example", None),
        (b".apps.example", None),
        (b"127.1", None),
        (b"0177.0.0.1", None),
        (b"\xff.apps.example", None),
        (b"", None),
        (&[b'a'; 255], None),
    ] {
        let (found, _) = asked(&socks(text)).await;
        let expected = host.map(|host| (Form::Socks, host, 443));
        let expected = expected.ok_or(Some(&refuse::FORBIDDEN[..]));
        assert_eq!(found, expected, "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_question_to_a_proxy_is_told_so() {
    let malformed = Err(Some(refuse::MALFORMED));
    let not_offered = Err(Some(refuse::NOT_OFFERED));
    for (sent, expected) in [
        (&b""[..], Err(None)),
        (b"CONNECT a:1 HTTP/1.1\r\n", Err(None)),
        (b"\x16\x03\x01\x02\x00", Err(Some(&b""[..]))),
        (b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00", Err(Some(b""))),
        (b"\x05\x01\x01", Err(Some(&[5, 0xff]))),
        (b"\x05\x00", Err(Some(&[5, 0xff]))),
        (
            b"\x05\x01\x00\x05\x02\x00\x01\x0a\x00\x00\x01\x00\x50",
            Err(Some(&refuse::NO_COMMAND)),
        ),
        (
            b"\x05\x01\x00\x05\x01\x00\x02\x0a",
            Err(Some(&refuse::NO_ADDRESS)),
        ),
        (b"\x05\x01\x00\x05\x01\x01\x01\x0a", Err(Some(b""))),
        (b"CONNECT u@a:443 HTTP/1.1\r\n\r\n", malformed),
        (b"CONNECT a HTTP/1.1\r\n\r\n", malformed),
        (b"CONNECT a:443 HTTP/1.1\n\n", malformed),
        (
            b"CONNECT a:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            malformed,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", malformed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", not_offered),
        (b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", not_offered),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", not_offered),
    ] {
        let (found, _) = asked(sent).await;
        assert_eq!(found.map(drop), expected, "{sent:?}");
    }
    let long = [
        &b"CONNECT a:443 HTTP/1.1\r\nx: "[..],
        &[b'y'; wire::HEAD_MAX],
    ]
    .concat();
    assert_eq!(asked(&long).await.0.map(drop), malformed);
}

#[tokio::test]
async fn a_login_is_read_and_reported() {
    let (mut client, mut server) = pair().await;
    let request = b"\x05\x01\x02\x01\x02me\x03own\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50";
    client.write_all(request).await.unwrap();
    let Ok(found) = ask(&mut server).await else {
        panic!("it was not asked")
    };
    let (user, password) = found.presented.unwrap();
    assert_eq!((user.as_str(), password.as_slice()), ("me", &b"own"[..]));
    assert_eq!(
        (found.host, found.port),
        (Host::Ip([10, 0, 0, 1].into()), 80)
    );
    let mut heard = [0; 4];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, [5, 2, 1, 0]);
    // Who may come as nobody is asked for nothing.
    let (mut client, mut server) = pair().await;
    client
        .write_all(b"\x05\x02\x02\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50")
        .await
        .unwrap();
    assert!(
        ask(&mut server)
            .await
            .is_ok_and(|found| found.presented.is_none())
    );
    let (mut client, mut server) = pair().await;
    let head = b"CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic b3du\r\n\r\n";
    client.write_all(head).await.unwrap();
    let presented = ask(&mut server).await.ok().unwrap().presented.unwrap();
    assert_eq!(presented.1.as_slice(), b"Basic b3du");
}

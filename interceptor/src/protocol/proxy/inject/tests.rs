//! Proxies that answer as they must, and such as do not.

use tokio::task::JoinHandle;

use super::*;
use crate::tls::testing::pair;

const NAME: &str = "api.example";

/// The pieces of an answer; what stands behind it, or why nothing is read there.
type Row<'a> = (&'a [&'a [u8]], Result<&'a str, &'a str>);

fn way(form: Form, login: Option<(&str, &str)>) -> Way {
    let login = login.map(|(user, password)| (user.to_owned(), Secret::from(password)));
    Way::new(form, login)
}

/// A way to a host behind a proxy that a test plays, once it is there.
async fn ask(way: Way, host: Host) -> (JoinHandle<io::Result<TcpStream>>, TcpStream) {
    let (client, proxy) = pair().await;
    let asking = tokio::spawn(async move { way.ask(client, (&host, 443)).await });
    (asking, proxy)
}

/// What comes of each answer: what the proxy was asked, and what can be read behind the answer, or why nothing can.
async fn answered(way: Way, pieces: &[&[u8]]) -> (Vec<u8>, Result<String, String>) {
    let (asking, mut proxy) = ask(way, Host::Name(NAME.to_owned())).await;
    let asked = head::read(&mut proxy).await.unwrap().to_vec();
    for piece in pieces {
        // The other side reads each by itself.
        proxy.set_nodelay(true).unwrap();
        proxy.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    proxy.shutdown().await.unwrap();
    let behind = match asking.await.unwrap() {
        Err(error) => Err(error.to_string()),
        Ok(mut opened) => {
            let mut behind = String::new();
            opened.read_to_string(&mut behind).await.unwrap();
            Ok(behind)
        }
    };
    (asked, behind)
}

#[tokio::test]
async fn an_answer_is_read_to_its_end_and_no_byte_further() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\nSSH", "y".repeat(9000));
    let rows: &[Row<'_>] = &[
        (&[b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0"], Ok("SSH-2.0")),
        (&[b"HTTP/1.0 200\r\n\r\n"], Ok("")),
        (&[b"HT", b"TP/1.1 2", b"00 OK\r\nx: y\r", b"\n\r", b"\nSS", b"H"], Ok("SSH")),
        (&[long.as_bytes()], Ok("SSH")),
        // No body: what stands behind the head is the server's.
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nSSH"], Ok("SSH")),
        (&[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nSSH"], Ok("SSH")),
        (&[b"HTTP/1.1 101 Switching\r\n\r\n"], Err("the proxy answered 101")),
        (&[b"HTTP/1.1 407 x\r\n\r\nlogin!"], Err("the proxy did not take the login")),
        (&[b"HTTP/1.1 403 \x1b[31m\r\n\r\n"], Err("the proxy answered 403")),
        (&[b"HTTP/1.1 302 x\r\nLocation: http://x/\r\n\r\n"], Err("the proxy answered 302")),
        (&[b"HTTP/2 200 OK\r\n\r\n"], Err("what the proxy answers is not HTTP")),
        (&[b"SSH-2.0-x\r\n\r\n"], Err("what the proxy answers is not HTTP")),
        (&[b"HTTP/1.1 200 OK\n\nSSH"], Err("a line of the head does not end")),
        (&[b"HTTP/1.1 200 OK\r\n"], Err("unexpected end of file")),
        (&[], Err("unexpected end of file")),
    ];
    for (pieces, expected) in rows {
        let (_, behind) = answered(way(Form::Connect, None), pieces).await;
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(behind, expected, "{pieces:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up() {
    let head = "HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX + 1);
    let (_, behind) = answered(way(Form::Connect, None), &[head.as_bytes()]).await;
    assert_eq!(
        behind,
        Err("the proxy does not come to an answer".to_owned())
    );
    let head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(wire::HEAD_MAX));
    let (_, behind) = answered(way(Form::Connect, None), &[head.as_bytes()]).await;
    assert_eq!(behind, Err("the head does not end".to_owned()));
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_place_and_given_the_login() {
    let rows = [
        (None, ""),
        (
            Some(("u", "p\u{e9}:x")),
            "Proxy-Authorization: Basic dTpww6k6eA==\r\n",
        ),
    ];
    for (login, expected) in rows {
        for form in [Form::Connect, Form::Whole] {
            let (asked, _) = answered(way(form, login), &[b"HTTP/1.1 200 x\r\n\r\n"]).await;
            let expected =
                format!("CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n{expected}\r\n");
            assert_eq!(String::from_utf8(asked).unwrap(), expected);
        }
    }
    let host = Host::Ip(std::net::Ipv6Addr::LOCALHOST.into());
    let (asking, mut proxy) = ask(way(Form::Connect, None), host).await;
    let asked = head::read(&mut proxy).await.unwrap();
    assert!(
        asked.starts_with(b"CONNECT [::1]:443 HTTP/1.1\r\n"),
        "{asked:?}"
    );
    drop(proxy);
    assert!(asking.await.unwrap().is_err());
}

/// What a proxy of SOCKS reads and says in turn; what can be read behind that.
async fn by_socks(login: Option<(&str, &str)>, turns: &[(&[u8], &[u8])]) -> Result<String, String> {
    let (asking, mut proxy) = ask(way(Form::Socks, login), Host::Name("a.b".to_owned())).await;
    for (expected, said) in turns {
        let mut read = vec![0; expected.len()];
        proxy.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *expected);
        proxy.write_all(said).await.unwrap();
    }
    proxy.shutdown().await.unwrap();
    match asking.await.unwrap() {
        Err(error) => Err(error.to_string()),
        Ok(mut opened) => {
            let mut behind = String::new();
            opened.read_to_string(&mut behind).await.unwrap();
            Ok(behind)
        }
    }
}

#[tokio::test]
async fn a_proxy_of_socks_is_logged_in_to_and_asked() {
    let asks: &[u8] = b"\x05\x01\x00\x03\x03a.b\x01\xbb";
    let opened: [&[u8]; 3] = [
        b"\x05\0\0\x01\0\0\0\0\0\0SSH",
        b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0SSH",
        b"\x05\0\0\x03\x02ab\0\0SSH",
    ];
    for said in opened {
        let turns: [(&[u8], &[u8]); 2] = [(b"\x05\x01\x00", b"\x05\x00"), (asks, said)];
        assert_eq!(by_socks(None, &turns).await, Ok("SSH".to_owned()));
        let turns: [(&[u8], &[u8]); 3] = [
            (b"\x05\x01\x02", b"\x05\x02"),
            (b"\x01\x01u\x01p", b"\x01\x00"),
            (asks, said),
        ];
        assert_eq!(
            by_socks(Some(("u", "p")), &turns).await,
            Ok("SSH".to_owned())
        );
    }
}

#[tokio::test]
async fn a_proxy_of_socks_that_does_otherwise_is_given_up() {
    let greeting: &[u8] = b"\x05\x01\x00";
    let asks: &[u8] = b"\x05\x01\x00\x03\x03a.b\x01\xbb";
    for (said, expected) in [
        (&b"\x05\x02"[..], "the proxy wants another login"),
        (b"\x05\xff", "the proxy wants another login"),
        (b"\x04\x00", "the proxy wants another login"),
    ] {
        let ended = by_socks(None, &[(greeting, said)]).await;
        assert_eq!(ended, Err(expected.to_owned()));
    }
    for (said, expected) in [
        (&b"\x05\x02\x00\x01"[..], "the proxy refused with 2"),
        (b"\x05\x00\x00\x09", "what the proxy answers is not SOCKS 5"),
        (b"HTTP", "what the proxy answers is not SOCKS 5"),
        (b"\x05\x00", "unexpected end of file"),
    ] {
        let ended = by_socks(None, &[(greeting, b"\x05\x00"), (asks, said)]).await;
        let ended = ended.unwrap_err();
        assert!(ended.contains(expected) || ended.contains("eof"), "{ended}");
    }
    let refused: [(&[u8], &[u8]); 2] = [
        (b"\x05\x01\x02", b"\x05\x02"),
        (b"\x01\x01u\x01p", b"\x01\x01"),
    ];
    let ended = by_socks(Some(("u", "p")), &refused).await;
    assert_eq!(ended, Err("the proxy did not take the login".to_owned()));
    let long = "p".repeat(256);
    let ended = by_socks(Some(("u", &long)), &[(b"\x05\x01\x02", b"\x05\x02")]).await;
    let expected = "the login at the proxy is longer than SOCKS has it";
    assert_eq!(ended, Err(expected.to_owned()));
}

//! Startups in clear and under TLS, whole, broken and hostile.

use bytes::Bytes;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio_rustls::{TlsConnector, TlsStream};

use super::*;
use crate::config::TlsMode;
use crate::protocol::postgres::wire::startup::{NEGOTIATE, version};
use crate::tls::testing::{LOOPBACK, authority, host, pair, upstream};

fn packet(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes);
    bytes.to_vec()
}

fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    startup_of(0, pairs, &[])
}

fn startup_of(minor: u16, pairs: &[(&str, &str)], options: &[&str]) -> Vec<u8> {
    packet(&Packet::Startup(StartupMessage {
        minor,
        parameters: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        options: options.iter().map(|name| (*name).to_owned()).collect(),
    }))
}

/// What `terminate` makes of a client, and all that the client was sent.
async fn with_client<F: Future<Output = Vec<u8>>>(
    client: impl FnOnce(TcpStream) -> F,
) -> (Result<Wish, Error>, Vec<u8>) {
    let (_state, authority) = authority();
    let (socket, accepted) = pair().await;
    let server = async {
        let ended = terminate(accepted, &authority, &LOOPBACK.into()).await;
        ended.map(|terminated| terminated.wish)
    };
    tokio::join!(server, client(socket))
}

/// A client that sends `bytes` in clear and reads to the end.
async fn after(bytes: &[u8]) -> (Result<Wish, Error>, Vec<u8>) {
    with_client(|mut socket| async move {
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        rest(&mut Stream::Plain(socket)).await
    })
    .await
}

async fn rest(stream: &mut Stream) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end, too: the other side closed with bytes of ours unread.
    let _end = stream.read_to_end(&mut read).await;
    read
}

fn fatal(read: &[u8]) -> Option<(String, String)> {
    let fields = ErrorFields::read(read.strip_prefix(b"E")?.get(4..)?).unwrap();
    let text = |code| String::from_utf8(fields.get(code).unwrap().to_vec()).unwrap();
    assert_eq!(text(b'V'), "FATAL");
    Some((text(b'C'), text(b'M')))
}

fn session(wish: Result<Wish, Error>) -> Startup {
    match wish {
        Ok(Wish::Session(startup)) => startup,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_startup_in_clear_says_who_what_and_how() {
    let (wish, sent) = after(&startup(&[
        ("user", "alice"),
        ("application_name", "psql"),
        ("options", "-c search_path=evil -c geqo=off"),
        ("search_path", "evil2"),
    ]))
    .await;
    let startup = session(wish);
    assert_eq!(startup.user, "alice");
    assert_eq!(startup.database, "alice");
    assert_eq!(startup.replication, None);
    let settings: Vec<_> = startup
        .settings
        .iter()
        .map(|s| (s.name.as_str(), s.value.as_str(), s.origin))
        .collect();
    assert_eq!(
        settings,
        [
            ("search_path", "evil", Origin::Options),
            ("geqo", "off", Origin::Options),
            ("application_name", "psql", Origin::Parameter),
            ("search_path", "evil2", Origin::Parameter),
        ]
    );
    assert_eq!(startup.asks().len(), 2);
    assert_eq!(sent, b"");
}

#[tokio::test]
async fn the_last_of_a_parameter_counts_as_for_the_server() {
    let (wish, _) = after(&startup(&[
        ("user", "alice"),
        ("database", "one"),
        ("user", "bob"),
        ("database", "two"),
        ("options", "-c role=x"),
        ("options", ""),
    ]))
    .await;
    let startup = session(wish);
    assert_eq!((&*startup.user, &*startup.database), ("bob", "two"));
    assert_eq!(startup.settings, []);
}

#[tokio::test]
async fn lengths_that_no_server_takes_end_the_connection_without_a_word() {
    for length in [0_u32, 3, 7, 10_005, 0x8000_0000, 0xffff_ffff] {
        let (wish, sent) = after(&length.to_be_bytes()).await;
        let error = wish.unwrap_err();
        assert!(
            matches!(error, Error::Wire(wire::Error::Length { .. })),
            "{length:#x}: {error}"
        );
        assert_eq!(sent, b"", "{length:#x}");
    }
    for bytes in [&b""[..], b"\0", b"\0\0\0\x08\x04"] {
        let (wish, sent) = after(bytes).await;
        assert!(
            matches!(wish, Err(Error::Silent | Error::Read(_))),
            "{wish:?}"
        );
        assert_eq!(sent, b"");
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_refused_in_its_words() {
    let of_version = |code: i32| {
        let body = [&code.to_be_bytes()[..], b"user\0u\0\0"].concat();
        let length = i32::try_from(body.len() + 4).unwrap();
        [&length.to_be_bytes()[..], &body].concat()
    };
    let gss = packet(&Packet::GssEnc);
    let rows: &[(Vec<u8>, &str, &str)] = &[
        (startup(&[]), "28000", "no PostgreSQL user name"),
        (startup(&[("user", "")]), "28000", "no PostgreSQL user name"),
        (
            startup(&[("database", "d")]),
            "28000",
            "no PostgreSQL user name",
        ),
        (
            of_version(2 << 16),
            "0A000",
            "unsupported frontend protocol 2.0",
        ),
        (
            of_version((4 << 16) | 1),
            "0A000",
            "unsupported frontend protocol 4.1",
        ),
        (
            startup(&[("user", "u"), ("options", "-c role")]),
            "42601",
            "invalid command-line argument",
        ),
        (
            startup(&[("user", "u"), ("options", "-x5")]),
            "42601",
            "invalid command-line argument",
        ),
        (
            startup(&[("user", "u"), ("replication", "x")]),
            "22023",
            "replication",
        ),
        (
            b"\0\0\0\x0c\0\x03\0\0user".to_vec(),
            "08P01",
            "invalid startup packet",
        ),
        (
            b"\0\0\0\x11\0\x03\0\0user\0\xff\0\0\0".to_vec(),
            "08P01",
            "invalid startup packet",
        ),
        (
            b"\0\0\0\x10\0\x03\0\0user\0\xff\0\0".to_vec(),
            "22021",
            "invalid byte sequence for encoding \"UTF8\" in a parameter value",
        ),
        ([gss.clone(), gss].concat(), "", ""),
    ];
    for (bytes, state, message) in rows {
        let (wish, sent) = after(bytes).await;
        assert!(wish.is_err(), "{bytes:?}");
        match fatal(&sent) {
            Some((told_state, told_message)) => {
                assert_eq!(told_state, *state);
                assert!(told_message.contains(message), "{told_message}");
            }
            None => assert_eq!(*state, "", "{bytes:?}"),
        }
    }
}

#[tokio::test]
async fn values_of_replication_are_read_as_the_server_reads_them() {
    let rows = [
        ("database", Some(Replication::Logical)),
        ("true", Some(Replication::Physical)),
        ("T", Some(Replication::Physical)),
        ("yes", Some(Replication::Physical)),
        ("on", Some(Replication::Physical)),
        ("1", Some(Replication::Physical)),
        ("false", None),
        ("no", None),
        ("off", None),
        ("of", None),
        ("0", None),
    ];
    for (value, expected) in rows {
        let (wish, _) = after(&startup(&[("user", "u"), ("replication", value)])).await;
        let startup = session(wish);
        assert_eq!(startup.replication, expected, "{value}");
        assert_eq!(startup.asks().len(), usize::from(expected.is_some()));
    }
    for value in ["", "o", "2", "DATABASE", "truely"] {
        assert!(replication(value).is_err(), "{value}");
    }
}

#[tokio::test]
async fn versions_and_options_that_are_not_known_are_negotiated_once() {
    let grease = "_pq_.test_protocol_negotiation";
    type Row<'a> = (u16, &'a [&'a str], u16, u16, Option<u16>);
    let rows: &[Row<'_>] = &[
        // asked, options, asked upstream, spoken upstream, told
        (0, &[], 0, 0, None),
        (2, &[], 2, 2, None),
        (2, &[], 2, 0, Some(0)),
        (1, &[], 0, 0, Some(0)),
        (9999, &[grease], 2, 0, Some(0)),
        (9999, &[grease], 2, 2, Some(2)),
        (0, &[grease], 0, 0, Some(0)),
    ];
    for (minor, options, asked, spoken, told) in rows {
        let (wish, sent) = after(&startup_of(*minor, &[("user", "u")], options)).await;
        assert_eq!(sent, b"");
        let startup = session(wish);
        assert_eq!(startup.upstream_minor(), *asked, "{minor}");
        let negotiate = startup.negotiate(*spoken);
        assert_eq!(negotiate.as_ref().map(|n| n.minor), *told, "{minor}");
        if let Some(negotiate) = negotiate {
            assert_eq!(negotiate.options, *options);
        }
    }
}

#[tokio::test]
async fn a_cancel_request_is_handed_on_without_an_answer() {
    for (length, taken) in [(3, false), (4, true), (32, true), (256, true), (257, false)] {
        let key = BackendKey {
            pid: 7,
            secret: zeroize::Zeroizing::new(vec![9; length]),
        };
        let (wish, sent) = after(&packet(&Packet::Cancel(key.clone()))).await;
        match wish {
            Ok(Wish::Cancel(read)) => assert_eq!(read, key),
            other => assert!(!taken, "{length}: {other:?}"),
        }
        assert_eq!(sent, b"", "{length}");
    }
}

/// Asks for TLS as libpq does, behind `first`, and goes on with `then` under it.
async fn under_tls(first: &[Packet], then: &[u8]) -> (Result<Wish, Error>, Vec<u8>) {
    with_client(|mut socket| async move {
        let mut answers = Vec::new();
        for asked in first {
            socket.write_all(&packet(asked)).await.unwrap();
            answers.push(socket.read_u8().await.unwrap());
        }
        assert_eq!(answers.last(), Some(&b'S'));
        let client = upstream(TlsMode::Require, None);
        let mut stream = client.connect(socket, &host("db.example")).await.unwrap();
        stream.write_all(then).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(&mut stream).await
    })
    .await
}

#[tokio::test]
async fn tls_is_begun_when_it_is_asked_for() {
    let startup = startup(&[("user", "u")]);
    let rows: &[&[Packet]] = &[&[Packet::Ssl], &[Packet::GssEnc, Packet::Ssl]];
    for first in rows {
        let (wish, sent) = under_tls(first, &startup).await;
        assert_eq!(session(wish).user, "u");
        assert_eq!(sent, b"");
    }
}

#[tokio::test]
async fn encryption_is_asked_for_once_only() {
    for again in [Packet::Ssl, Packet::GssEnc] {
        let (wish, sent) = under_tls(&[Packet::Ssl], &packet(&again)).await;
        assert!(
            matches!(wish, Err(Error::Repeated(_))),
            "{again:?}: {wish:?}"
        );
        assert_eq!(fatal(&sent).unwrap().0, "0A000");
    }
    let (wish, sent) = with_client(|mut socket| async move {
        let gss = packet(&Packet::GssEnc);
        socket.write_all(&gss).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'N');
        socket.write_all(&gss).await.unwrap();
        rest(&mut Stream::Plain(socket)).await
    })
    .await;
    assert!(matches!(wish, Err(Error::Repeated(_))), "{wish:?}");
    assert_eq!(fatal(&sent).unwrap().0, "0A000");
}

#[tokio::test]
async fn data_sent_before_the_answer_to_an_encryption_request_ends_the_connection() {
    for asked in [Packet::Ssl, Packet::GssEnc] {
        let early = [packet(&asked), startup(&[("user", "mallory")])].concat();
        let (wish, sent) = after(&early).await;
        assert!(matches!(wish, Err(Error::EarlyData)), "{asked:?}: {wish:?}");
        assert_eq!(sent, b"");
    }
}

#[tokio::test]
async fn data_in_clear_after_the_answer_is_not_a_startup() {
    let (wish, _) = with_client(|mut socket| async move {
        socket.write_all(&packet(&Packet::Ssl)).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'S');
        let startup = startup(&[("user", "mallory")]);
        socket.write_all(&startup).await.unwrap();
        socket.shutdown().await.unwrap();
        rest(&mut Stream::Plain(socket)).await
    })
    .await;
    assert!(matches!(wish, Err(Error::Tls(_))), "{wish:?}");
}

#[tokio::test]
async fn direct_tls_takes_the_protocols_name() {
    let rows: &[(&[&[u8]], bool)] = &[
        (&[b"postgresql"], true),
        (&[b"h2", b"postgresql"], true),
        (&[b"h2"], false),
        (&[], false),
    ];
    for (alpn, taken) in rows {
        let (wish, _) = with_client(|socket| direct(socket, alpn)).await;
        match wish {
            Ok(Wish::Session(_)) => assert!(taken, "{alpn:?}"),
            other => assert!(!taken, "{alpn:?}: {other:?}"),
        }
    }
}

async fn direct(socket: TcpStream, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = tls::testing::unverified();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "db.example".try_into().unwrap();
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await;
    let Ok(stream) = connected else {
        return Vec::new();
    };
    let mut stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
    // The other side may have hung up by now.
    let _sent = stream.write_all(&startup(&[("user", "u")])).await;
    rest(&mut stream).await
}

#[tokio::test]
async fn a_greeting_is_in_the_servers_order() {
    let (socket, accepted) = pair().await;
    let mut stream = Stream::Plain(accepted);
    let key = BackendKey {
        pid: 1,
        secret: zeroize::Zeroizing::new(vec![2; 4]),
    };
    let negotiate = Negotiate {
        minor: 0,
        options: vec!["_pq_.x".to_owned()],
    };
    let parameters = [("b", "2"), ("a", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    greet(
        &mut stream,
        Greeting {
            negotiate: Some(&negotiate),
            notices: &[Bytes::from_static(b"N\0\0\0\x05\0")],
            parameters: &parameters,
            key: &key,
            status: Status::Idle,
        },
    )
    .await
    .unwrap();
    drop(stream);
    let read = rest(&mut Stream::Plain(socket)).await;
    let expected: Vec<u8> = [
        &[NEGOTIATE][..],
        b"\0\0\0\x13",
        &version(0).to_be_bytes(),
        b"\0\0\0\x01_pq_.x\0",
        b"R\0\0\0\x08\0\0\0\0",
        b"N\0\0\0\x05\0",
        b"S\0\0\0\x08b\x002\0",
        b"S\0\0\0\x08a\x001\0",
        b"K\0\0\0\x0c\0\0\0\x01\x02\x02\x02\x02",
        b"Z\0\0\0\x05I",
    ]
    .concat();
    assert_eq!(read, expected);
}

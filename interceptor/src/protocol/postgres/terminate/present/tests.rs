//! What a client presents, and clients that do not keep to it.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::protocol::postgres::wire::put_string;
use crate::protocol::postgres::wire::startup::PASSWORD;
use crate::protocol::postgres::wire::write;
use crate::tls::testing::pair;

/// What is taken of a client that sends `bytes`, and what the client was told.
async fn sent(bytes: &[u8]) -> (Result<Zeroizing<Vec<u8>>, Unproved>, Vec<u8>) {
    let (mut socket, accepted) = pair().await;
    let mut server = Stream::Plain(accepted);
    let client = async {
        socket.write_all(bytes).await.unwrap();
        let mut told = vec![0; 9];
        socket.read_exact(&mut told).await.unwrap();
        assert_eq!(told, b"R\0\0\0\x08\0\0\0\x03");
        socket.shutdown().await.unwrap();
        told.clear();
        let _end = socket.read_to_end(&mut told).await;
        told
    };
    let server = async move { present(&mut server, "alice", None).await };
    tokio::join!(server, client)
}

fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    write(&mut bytes, tag, |to| to.extend_from_slice(body));
    bytes
}

#[tokio::test]
async fn a_password_is_taken_whole_and_nothing_else_is() {
    let mut whole = BytesMut::new();
    write(&mut whole, PASSWORD, |to| put_string(to, b"hunter2"));
    let (password, told) = sent(&whole).await;
    assert_eq!(password.unwrap().as_slice(), b"hunter2");
    assert!(told.is_empty(), "told {told:?}");
    let (password, _told) = sent(&message(PASSWORD, b"\0")).await;
    assert!(password.unwrap().is_empty());

    let rows: [(&str, BytesMut, bool); 4] = [
        ("nothing", BytesMut::new(), false),
        ("no end", message(PASSWORD, b"hunter2"), true),
        ("another message", message(b'Q', b"select 1\0"), true),
        ("too long", message(PASSWORD, &vec![b'a'; MOST + 1]), true),
    ];
    for (name, bytes, is_told) in rows {
        let (password, told) = sent(&bytes).await;
        password.expect_err(name);
        assert_eq!(told.first() == Some(&b'E'), is_told, "{name}: {told:?}");
    }
}

#[tokio::test]
async fn a_version_is_negotiated_before_the_password_is_asked_for() {
    let (mut socket, accepted) = pair().await;
    let mut server = Stream::Plain(accepted);
    let negotiate = Negotiate {
        minor: 2,
        options: vec!["_pq_.x".to_owned()],
    };
    let client = async {
        let expected = b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0R\0\0\0\x08\0\0\0\x03";
        assert_eq!(socket.read_u8().await.unwrap(), b'v');
        let mut told = vec![0; expected.len() - 1];
        socket.read_exact(&mut told).await.unwrap();
        assert_eq!(told, expected[1..]);
        socket.write_all(b"p\0\0\0\x05\0").await.unwrap();
    };
    let server = present(&mut server, "alice", Some(&negotiate));
    let (password, ()) = tokio::join!(server, client);
    assert!(password.unwrap().is_empty());
}

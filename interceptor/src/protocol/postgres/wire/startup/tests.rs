//! Startup packets are taken exactly where a server takes them.

use proptest::prelude::*;

use super::*;
use crate::protocol::postgres::wire::backend::make_ready;

fn bytes(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut to = BytesMut::new();
    write(&mut to);
    to.freeze()
}

fn body(message: &Bytes) -> (u8, Bytes) {
    (message[0], message.slice(5..))
}

fn startup(pairs: &[u8]) -> Vec<u8> {
    [&version(0).to_be_bytes(), pairs].concat()
}

fn key(length: usize) -> BackendKey {
    BackendKey {
        pid: 7,
        secret: Zeroizing::new(vec![1; length]),
    }
}

#[test]
fn a_packet_length_is_taken_only_where_a_server_would_take_it() {
    let rows: &[(u32, Option<usize>)] = &[
        (0, None),
        (3, None),
        (7, None),
        (8, Some(4)),
        (10_004, Some(10_000)),
        (10_005, None),
        (0x7fff_ffff, None),
        (0x8000_0000, None),
        (0xffff_ffff, None),
        (u32::from_be_bytes(*b"GET "), None),
    ];
    for (length, expected) in rows {
        let read = packet_length(length.to_be_bytes()).ok();
        assert_eq!(&read, expected, "{length:#x}");
    }
}

#[test]
fn a_startup_packet_is_read_as_the_server_reads_it() {
    let good = Packet::read(&startup(
        b"user\0u\0_pq_.x\0on\0options\0-c a=b\0user\0v\0\0",
    ));
    let Ok(Packet::Startup(message)) = good else {
        panic!("{good:?}")
    };
    let names: Vec<_> = message
        .parameters
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .collect();
    assert_eq!(names, [("user", "u"), ("options", "-c a=b"), ("user", "v")]);
    assert_eq!(message.options, ["_pq_.x"]);

    let bad: &[&[u8]] = &[
        b"",
        b"user\0u\0",
        b"user\0u\0\0x",
        b"user\0u",
        b"user\0\0",
        b"user\0u\0\0\0",
        b"user\0\xff\0\0",
        b"\xff\0u\0\0",
    ];
    for pairs in bad {
        assert!(Packet::read(&startup(pairs)).is_err(), "{pairs:?}");
    }
}

#[test]
fn other_packets_are_exactly_as_long_as_they_are() {
    let code = |code: i32, rest: &[u8]| [&code.to_be_bytes(), rest].concat();
    let rows: &[(Vec<u8>, bool)] = &[
        (code(SSL_REQUEST, b""), true),
        (code(SSL_REQUEST, b"x"), false),
        (code(GSSENC_REQUEST, b""), true),
        (code(GSSENC_REQUEST, b"\0"), false),
        (code(CANCEL_REQUEST, b"\0\0\0\x01abc"), false),
        (code(CANCEL_REQUEST, b"\0\0\0\x01abcd"), true),
        (code(CANCEL_REQUEST, &[0; 4 + 256]), true),
        (code(CANCEL_REQUEST, &[0; 4 + 257]), false),
        (code(2 << 16, b"\0"), false),
        (code(4 << 16, b"\0"), false),
        (code(80_877_105, b""), false),
        (code(-1, b""), false),
    ];
    for (packet, fits) in rows {
        assert_eq!(Packet::read(packet).is_ok(), *fits, "{packet:?}");
    }
}

#[test]
fn packets_are_read_as_they_were_written() {
    let message = StartupMessage {
        minor: 9999,
        parameters: vec![("user".into(), "u".into()), ("a".into(), String::new())],
        options: vec!["_pq_.test_protocol_negotiation".into()],
    };
    let rows = [
        Packet::Ssl,
        Packet::GssEnc,
        Packet::Cancel(key(32)),
        Packet::Startup(message),
    ];
    for packet in rows {
        let written = bytes(|to| packet.write(to));
        let (length, follows) = written.split_first_chunk::<4>().unwrap();
        assert_eq!(packet_length(*length), Ok(follows.len()));
        assert_eq!(Packet::read(follows), Ok(packet));
    }
}

#[test]
fn answers_are_read_as_they_were_written() {
    let sasl = Authentication::Sasl(vec!["SCRAM-SHA-256".into(), "X".into()]);
    let rows = [
        (
            bytes(|to| Authentication::Ok.write(to)),
            Answer::Authentication(Authentication::Ok),
        ),
        (
            bytes(|to| Authentication::Md5([1, 2, 3, 4]).write(to)),
            Answer::Authentication(Authentication::Md5([1, 2, 3, 4])),
        ),
        (bytes(|to| sasl.write(to)), Answer::Authentication(sasl)),
        (
            bytes(|to| Authentication::SaslFinal(Bytes::from_static(b"v=x")).write(to)),
            Answer::Authentication(Authentication::SaslFinal(Bytes::from_static(b"v=x"))),
        ),
        (
            bytes(|to| parameter_status(to, "TimeZone", "Etc/UTC")),
            Answer::Parameter("TimeZone".into(), "Etc/UTC".into()),
        ),
        (bytes(|to| key(256).write(to)), Answer::Key(key(256))),
        (make_ready(Status::Failed), Answer::Ready(Status::Failed)),
        (
            bytes(|to| {
                Negotiate {
                    minor: 0,
                    options: vec!["_pq_.x".into()],
                }
                .write(to);
            }),
            Answer::Negotiate(Negotiate {
                minor: 0,
                options: vec!["_pq_.x".into()],
            }),
        ),
    ];
    for (written, expected) in rows {
        let (tag, body) = body(&written);
        assert!(body_max(tag).unwrap() >= body.len());
        assert_eq!(Answer::read(tag, &body), Ok(expected));
    }
}

#[test]
fn answers_that_are_not_the_protocol_are_refused() {
    let rows: &[(u8, &[u8])] = &[
        (b'R', b""),
        (b'R', b"\0\0\0"),
        (b'R', b"\0\0\0\0x"),
        (b'R', b"\0\0\0\x05abc"),
        (b'R', b"\0\0\0\x05abcde"),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0"),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0x"),
        (b'v', b"\0\x03\0\0\xff\xff\xff\xff"),
        (b'v', b"\0\x03\0\0\0\0\0\x02a\0"),
        (b'v', b"\0\x04\0\0\0\0\0\0"),
        (b'v', b"\x01\x03\0\0\0\0\0\0"),
        (b'v', b"\0\0\0\0\0\0\0\0"),
        (b'K', b"\0\0\0\x01abc"),
        (b'S', b"a\0b"),
        (b'Z', b"X"),
        (b'Z', b""),
        (b'D', b"\0\0"),
    ];
    for (tag, body) in rows {
        let read = Answer::read(*tag, &Bytes::copy_from_slice(body));
        assert!(read.is_err(), "{} {body:?}: {read:?}", char::from(*tag));
    }
    let mechanisms = [b"\0\0\0\x0a".as_slice(), &b"M\0".repeat(17), b"\0"].concat();
    assert!(Answer::read(b'R', &mechanisms.into()).is_err());
}

#[test]
fn a_response_is_one_message_and_carries_its_parts() {
    assert_eq!(&**password(b"pw"), b"p\0\0\0\x07pw\0");
    assert_eq!(&**sasl_response(b"c=x"), b"p\0\0\0\x07c=x");
    assert_eq!(&**sasl_initial("M", b"n,,"), b"p\0\0\0\x0dM\0\0\0\0\x03n,,");
}

#[test]
fn a_key_does_not_print_its_secret() {
    let key = BackendKey {
        pid: 7,
        secret: Zeroizing::new(b"secret".to_vec()),
    };
    assert_eq!(format!("{key:?}"), "BackendKey { pid: 7, .. }");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        tag in prop::sample::select(b"RvSKZENX".to_vec()),
        code in prop::sample::select(vec![SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST, version(0), version(2), 5, 10]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let coded = Bytes::from([&code.to_be_bytes(), &bytes[..]].concat());
        let _packet = Packet::read(&bytes);
        let _packet = Packet::read(&coded);
        let _answer = Answer::read(tag, &Bytes::from(bytes));
        let _answer = Answer::read(tag, &coded);
    }

    #[test]
    fn every_startup_message_survives_the_wire(
        minor in any::<u16>(),
        parameters in prop::collection::vec(("[a-z_.A-Z]{1,12}", "[^\0]{0,20}"), 0..8),
    ) {
        prop_assume!(parameters.iter().all(|(name, _)| !name.starts_with(OPTION_PREFIX)));
        let packet = Packet::Startup(StartupMessage { minor, parameters, options: vec!["_pq_.o".into()] });
        let written = bytes(|to| packet.write(to));
        prop_assert_eq!(Packet::read(&written[4..]), Ok(packet));
    }
}

//! The exchange as bytes: with our own client's side, and with clients that do not keep to it.

use bytes::BufMut as _;
use tokio::net::TcpStream;

use super::*;
use crate::protocol::postgres::wire::startup::{password, sasl_initial, sasl_response, version};
use crate::protocol::postgres::wire::{put_string, write};
use crate::tls::testing::pair;

const RIGHT: &str = "correct horse";

/// What becomes of a client, and all that it was told from then on.
async fn with_client<F: Future<Output = TcpStream>>(
    negotiate: Option<&Negotiate>,
    client: impl FnOnce(TcpStream) -> F,
) -> (Result<(), Unproved>, Vec<u8>) {
    let (socket, accepted) = pair().await;
    let prover = Prover::new().unwrap();
    let secret = Secret::from(RIGHT);
    let server = async {
        let challenge = Challenge {
            user: "alice",
            password: &secret,
            end_point: None,
            negotiate,
        };
        prover.prove(&mut Stream::Plain(accepted), challenge).await
    };
    let client = async {
        let mut socket = client(socket).await;
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _end = socket.read_to_end(&mut rest).await;
        rest
    };
    tokio::join!(server, client)
}

async fn next(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; HEADER];
    socket.read_exact(&mut header).await.unwrap();
    let header = Header::read(&header).unwrap().unwrap();
    let mut body = vec![0; header.body];
    socket.read_exact(&mut body).await.unwrap();
    (header.tag, body)
}

/// Goes through the whole exchange; `first` in pieces where the server is to ask for it.
async fn log_in(mut socket: TcpStream, secret: &str, waits: bool) -> TcpStream {
    let (tag, offer) = next(&mut socket).await;
    assert_eq!(
        (tag, &offer[..]),
        (b'R', &b"\0\0\0\x0aSCRAM-SHA-256\0\0"[..])
    );
    let first = "n,,n=,r=nonce";
    if waits {
        let mut bytes = BytesMut::new();
        write(&mut bytes, PASSWORD, |to| {
            put_string(to, b"SCRAM-SHA-256");
            to.put_i32(-1);
        });
        socket.write_all(&bytes).await.unwrap();
        assert_eq!(next(&mut socket).await, (b'R', b"\0\0\0\x0b".to_vec()));
        let first = sasl_response(first.as_bytes());
        socket.write_all(&first).await.unwrap();
    } else {
        let first = sasl_initial("SCRAM-SHA-256", first.as_bytes());
        socket.write_all(&first).await.unwrap();
    }
    let (_, challenge) = next(&mut socket).await;
    let challenge = String::from_utf8(challenge[4..].to_vec()).unwrap();
    let part = |prefix: &str| {
        let mut parts = challenge.split(',');
        parts.find_map(|part| part.strip_prefix(prefix)).unwrap()
    };
    let (nonce, salt) = (part("r="), part("s="));
    assert!(nonce.starts_with("nonce") && nonce.len() == 5 + 24);
    let keys = {
        use base64::Engine as _;
        let salt = base64::engine::general_purpose::STANDARD
            .decode(salt)
            .unwrap();
        assert_eq!(salt.len(), SALT_BYTES);
        Keys::derive(secret.as_bytes(), &salt, NonZeroU32::new(4_096).unwrap())
    };
    let unproved = format!("c=biws,r={nonce}");
    let (proof, _) = keys.sign(&format!("n=,r=nonce,{challenge},{unproved}"));
    let proof = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(*proof)
    };
    let last = sasl_response(format!("{unproved},p={proof}").as_bytes());
    socket.write_all(&last).await.unwrap();
    socket
}

fn told(rest: &[u8]) -> (String, String) {
    let fields = ErrorFields::read(&rest[HEADER..]).unwrap();
    let text = |code| String::from_utf8(fields.get(code).unwrap().to_vec()).unwrap();
    assert_eq!((rest[0], text(b'V').as_str()), (b'E', "FATAL"));
    (text(b'C'), text(b'M'))
}

#[tokio::test]
async fn a_client_that_knows_the_password_is_let_in() {
    for waits in [false, true] {
        let (ended, rest) = with_client(None, |socket| log_in(socket, RIGHT, waits)).await;
        ended.unwrap();
        assert_eq!(&rest[..1], b"R");
        assert_eq!(&rest[5..11], b"\0\0\0\x0cv=");
    }
}

#[tokio::test]
async fn a_client_that_does_not_is_told_what_a_server_says() {
    let (ended, rest) = with_client(None, |socket| log_in(socket, "wrong", false)).await;
    assert!(matches!(
        ended,
        Err(Unproved::Scram(scram::Error::Password))
    ));
    let said = "password authentication failed for user \"alice\"";
    assert_eq!(told(&rest), ("28P01".to_owned(), said.to_owned()));
    assert!(!String::from_utf8_lossy(&rest).contains(RIGHT));
}

#[tokio::test]
async fn what_a_client_asked_for_too_much_is_negotiated_before_it_is_asked_for_its_password() {
    let negotiate = Negotiate {
        minor: 2,
        options: vec!["_pq_.x".to_owned()],
    };
    let (ended, _) = with_client(Some(&negotiate), |mut socket| async move {
        let (tag, body) = next(&mut socket).await;
        assert_eq!((tag, &body[..4]), (b'v', &version(2).to_be_bytes()[..]));
        log_in(socket, RIGHT, false).await
    })
    .await;
    ended.unwrap();
}

#[tokio::test]
async fn a_client_that_answers_anything_else_is_refused() {
    let header = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    let rows: Vec<(Vec<u8>, Option<&str>)> = vec![
        (Vec::new(), None),
        (b"p\0\0".to_vec(), None),
        (b"X\0\0\0\x04".to_vec(), Some("08P01")),
        (b"Q\0\0\0\x05\0".to_vec(), Some("08P01")),
        (header(b'p', 3), Some("08P01")),
        (header(b'p', 0x8000_0000), Some("08P01")),
        (header(b'p', 1 << 20), Some("08P01")),
        (password(b"hunter2").to_vec(), Some("08P01")),
        (sasl_initial("PLAIN", b"n,,n=,r=x").to_vec(), Some("08P01")),
        (
            sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x").to_vec(),
            Some("08P01"),
        ),
        (
            sasl_initial("SCRAM-SHA-256", b"n,a=root,n=,r=x").to_vec(),
            Some("0A000"),
        ),
        (sasl_initial("SCRAM-SHA-256", b"").to_vec(), Some("08P01")),
        (b"p\0\0\0\x09A\0\0\0\0\x09".to_vec(), Some("08P01")),
    ];
    for (sent, state) in rows {
        let (ended, rest) = with_client(None, |mut socket| async {
            next(&mut socket).await;
            socket.write_all(&sent).await.unwrap();
            socket.shutdown().await.unwrap();
            socket
        })
        .await;
        assert!(ended.is_err(), "{sent:?}");
        match state {
            Some(state) => assert_eq!(told(&rest).0, state, "{sent:?}"),
            None => assert_eq!(rest, b"", "{sent:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_read_that_belongs_behind_the_login() {
    let (socket, accepted) = pair().await;
    let prover = Prover::new().unwrap();
    let secret = Secret::from(RIGHT);
    let mut accepted = Stream::Plain(accepted);
    let challenge = Challenge {
        user: "alice",
        password: &secret,
        end_point: None,
        negotiate: None,
    };
    let client = async {
        let mut socket = log_in(socket, RIGHT, false).await;
        socket.write_all(b"behind").await.unwrap();
        socket.shutdown().await.unwrap();
        socket
    };
    let (ended, _socket) = tokio::join!(prover.prove(&mut accepted, challenge), client);
    ended.unwrap();
    let mut rest = Vec::new();
    accepted.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"behind");
}

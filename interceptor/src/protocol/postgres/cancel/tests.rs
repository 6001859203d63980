//! A cancel key works from its scope, while its session lives, over the way that the session took.

use super::*;
use crate::config::TlsMode;
use crate::protocol::postgres::wire::startup::packet_length;
use crate::tls::testing::{LOOPBACK, authority, host, pair, upstream};

fn key(pid: i32, secret: &[u8]) -> BackendKey {
    BackendKey {
        pid,
        secret: Zeroizing::new(secret.to_vec()),
    }
}

fn route(mode: TlsMode, key: Option<BackendKey>) -> Route<&'static str> {
    Route {
        way: "db",
        address: std::net::SocketAddr::new(LOOPBACK, 5432).into(),
        host: host("127.0.0.1"),
        tls: Arc::new(upstream(mode, None)),
        key,
    }
}

fn plain(pid: i32) -> Route<&'static str> {
    route(TlsMode::Disable, Some(key(pid, b"upstream")))
}

#[test]
fn a_key_works_from_its_own_scope_while_its_session_lives() {
    let registry = Arc::new(Registry::default());
    let minted = registry.mint(1, 0, plain(77)).unwrap();
    let right = minted.key().clone();
    let mut wrong = right.clone();
    wrong.secret[3] ^= 1;
    let mut long = right.clone();
    long.secret.push(0);
    let short = key(right.pid, &right.secret[..3]);
    let rows = [
        (right.clone(), 1, true),
        (right.clone(), 2, false),
        (wrong, 1, false),
        (long, 1, false),
        (short, 1, false),
        (key(78, &right.secret), 1, false),
        (key(77, b"upstream"), 1, false),
    ];
    for (n, (request, scope, taken)) in rows.iter().enumerate() {
        let found = registry.route(request, *scope);
        assert_eq!(found.is_ok(), *taken, "row {n}");
    }
    drop(minted);
    assert!(matches!(registry.route(&right, 1), Err(Error::Unknown)));
}

#[test]
fn a_process_id_is_the_upstreams_also_where_another_servers_is_the_same() {
    let registry = Arc::new(Registry::default());
    let at = |name: &'static str| Route {
        way: name,
        ..plain(77)
    };
    let first = registry.mint(1, 0, at("first")).unwrap();
    let second = registry.mint(2, 2, at("second")).unwrap();
    let third = registry.mint(1, 0, at("third")).unwrap();
    let none = registry.mint(1, 2, route(TlsMode::Disable, None)).unwrap();
    let negative = registry.mint(1, 0, plain(-5)).unwrap();
    assert_eq!([&first, &second, &third].map(|one| one.key().pid), [77; 3]);
    assert!(negative.key().pid > 0 && none.key().pid > 0);
    assert_eq!(first.key().secret.len(), 4);
    assert_eq!(second.key().secret.len(), 32);
    for (one, scope, name) in [
        (&first, 1, "first"),
        (&second, 2, "second"),
        (&third, 1, "third"),
    ] {
        assert_eq!(registry.route(one.key(), scope).unwrap().way, name);
        assert!(registry.route(one.key(), 3 - scope).is_err());
    }
    let (key, other) = (second.key().clone(), first.key().clone());
    drop(second);
    assert!(registry.route(&key, 2).is_err());
    assert!(registry.route(first.key(), 1).is_ok());
    drop((first, third, none, negative));
    assert!(registry.route(&other, 1).is_err());
    let left = registry.lock();
    assert!(left.by_pid.is_empty() && left.count == 0, "{left:?}");
}

#[test]
fn no_more_sessions_share_a_process_id_than_a_cancel_may_look_at() {
    let registry = Arc::new(Registry::default());
    let shared: Vec<_> = (0..SHARED_MAX)
        .map(|_| registry.mint(1, 0, plain(77)).unwrap())
        .collect();
    assert!(shared.iter().all(|one| one.key().pid == 77));
    let more = registry.mint(1, 0, plain(77)).unwrap();
    assert_ne!(more.key().pid, 77);
    assert!(registry.route(more.key(), 1).is_ok());
}

#[tokio::test]
async fn a_cancel_goes_upstream_with_the_upstreams_own_key() {
    let (_state, authority) = authority();
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let registry = Arc::new(Registry::default());
        let long = key(77, &[5; 256]);
        let minted = registry
            .mint(1, 2, route(mode, Some(long.clone())))
            .unwrap();
        let (socket, mut accepted) = pair().await;
        let server = async {
            let mut stream = if mode == TlsMode::Disable {
                tls::Stream::Plain(accepted)
            } else {
                let mut request = [0; 8];
                accepted.read_exact(&mut request).await.unwrap();
                accepted.write_all(b"S").await.unwrap();
                authority
                    .accept(accepted, &LOOPBACK.into())
                    .await
                    .unwrap()
                    .stream
            };
            let length = stream.read_u32().await.unwrap();
            let mut follows = vec![0; packet_length(length.to_be_bytes()).unwrap()];
            stream.read_exact(&mut follows).await.unwrap();
            Packet::read(&follows).unwrap()
        };
        let dial = |_| async { std::io::Result::Ok(socket) };
        let (cancelled, seen) = tokio::join!(registry.cancel(minted.key(), 1, dial), server);
        assert_eq!(cancelled.unwrap().way, "db");
        assert_eq!(seen, Packet::Cancel(long), "{mode:?}");
    }
}

#[tokio::test]
async fn a_cancel_that_is_not_allowed_dials_nobody() {
    let registry = Arc::new(Registry::default());
    let none = registry.mint(1, 0, route(TlsMode::Disable, None)).unwrap();
    let some = registry.mint(1, 0, plain(77)).unwrap();
    let rows = [(none.key(), 1), (some.key(), 2), (&key(5, b"none"), 1)];
    for (request, scope) in rows {
        let dial = async |_| -> std::io::Result<TcpStream> { panic!("dialled") };
        let cancelled = registry.cancel(request, scope, dial).await;
        assert!(matches!(cancelled, Err(Error::NotOffered | Error::Unknown)));
    }
}

#[tokio::test]
async fn a_cancel_is_not_sent_in_clear_where_the_session_was_not() {
    let registry = Arc::new(Registry::default());
    let secured = route(TlsMode::Require, Some(key(77, b"upstream")));
    let minted = registry.mint(1, 0, secured).unwrap();
    let (socket, mut accepted) = pair().await;
    let server = async {
        let mut request = [0; 8];
        accepted.read_exact(&mut request).await.unwrap();
        accepted.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        accepted.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let dial = |_| async { std::io::Result::Ok(socket) };
    let (cancelled, rest) = tokio::join!(registry.cancel(minted.key(), 1, dial), server);
    assert!(matches!(
        cancelled,
        Err(Error::Secure(inject::Error::NoTls))
    ));
    assert_eq!(rest, b"");
}

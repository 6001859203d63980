//! Logins to a real server, with each method and each way to verify it.

use bytes::{Bytes, BytesMut};
use interceptor::config::{Host, TlsMode};
use interceptor::protocol::postgres::inject::{Error, Injector, Upstream, secure};
use interceptor::protocol::postgres::terminate::{Origin, Setting, Startup};
use interceptor::protocol::postgres::wire::startup::{AUTHENTICATION, Packet};
use interceptor::protocol::postgres::wire::{Body, Header, put_string, write};
use interceptor::secrets::Secret;
use interceptor::tls::{self, Authority, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bridge::{Target, dial};
use crate::server::{PASSWORD, Server};

pub(crate) fn startup(settings: &[(&str, &str, Origin)]) -> Startup {
    Startup {
        user: "agent".to_owned(),
        database: "postgres".to_owned(),
        settings: settings
            .iter()
            .map(|(name, value, origin)| Setting {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                origin: *origin,
            })
            .collect(),
        minor: 0,
        options: Vec::new(),
        replication: None,
    }
}

async fn login(target: &Target) -> Result<Upstream, Error> {
    let injector = Injector::new().unwrap();
    target.login(&injector, &startup(&[])).await
}

async fn next(stream: &mut Stream) -> (u8, Bytes) {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.unwrap();
    let header = Header::read(&header).unwrap().unwrap();
    let mut body = vec![0; header.body];
    stream.read_exact(&mut body).await.unwrap();
    (header.tag, body.into())
}

/// The first column of the first row.
async fn ask(upstream: &mut Upstream, sql: &str) -> String {
    let mut query = BytesMut::new();
    write(&mut query, b'Q', |to| put_string(to, sql.as_bytes()));
    upstream.stream.write_all(&query).await.unwrap();
    let mut answer = String::new();
    loop {
        match next(&mut upstream.stream).await {
            (b'Z', _) => return answer,
            (b'D', row) => {
                let mut row = Body::new(&row);
                row.i16("columns").unwrap();
                let length = row.i32("length").unwrap();
                let text = row
                    .bytes("column", usize::try_from(length).unwrap())
                    .unwrap();
                answer = String::from_utf8(text.to_vec()).unwrap();
            }
            (b'E', error) => panic!("{sql}: {error:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn each_method_logs_in_where_it_is_allowed() {
    let server = Server::shared();
    let full = Some(server.ca());
    let rows = [
        ("trusted", TlsMode::Disable, false, Ok(())),
        ("scram", TlsMode::Disable, false, Ok(())),
        ("scram", TlsMode::Require, false, Ok(())),
        ("scram", TlsMode::VerifyFull, false, Ok(())),
        ("tls_only", TlsMode::VerifyCa, false, Ok(())),
        (
            "tls_only",
            TlsMode::Disable,
            false,
            Err("refused with 28000"),
        ),
        ("clear", TlsMode::VerifyFull, false, Ok(())),
        ("clear", TlsMode::VerifyCa, false, Ok(())),
        ("clear", TlsMode::Require, false, Err("password in clear")),
        ("clear", TlsMode::Disable, false, Err("password in clear")),
        ("md5", TlsMode::Disable, true, Ok(())),
        ("md5", TlsMode::VerifyFull, true, Ok(())),
        ("md5", TlsMode::VerifyFull, false, Err("asks for MD5")),
        (
            "nobody",
            TlsMode::VerifyFull,
            false,
            Err("refused with 28P01"),
        ),
    ];
    for (user, mode, md5, expected) in rows {
        let ca = full.clone().filter(|_| mode != TlsMode::Disable);
        let mut target = Target::new(&server, user).tls(mode, ca);
        target.postgres.allow_md5 = md5;
        match (login(&target).await, expected) {
            (Ok(mut upstream), Ok(())) => {
                assert_eq!(ask(&mut upstream, "SELECT current_user").await, user);
                let tls = ask(
                    &mut upstream,
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                )
                .await;
                assert_eq!(tls == "t", mode != TlsMode::Disable);
                assert_eq!(upstream.key.unwrap().secret.len(), 4);
            }
            (Err(error), Err(words)) => {
                assert!(
                    error.to_string().contains(words),
                    "{user} {mode:?}: {error}"
                );
            }
            (ended, _) => panic!("{user} {mode:?} {md5}: {ended:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_named_one_is_left_before_the_login() {
    let server = Server::shared();
    let other = tempfile::tempdir().unwrap();
    Authority::open(other.path(), None).unwrap();
    let foreign = other.path().join("ca.pem");
    let rows = [
        (TlsMode::VerifyFull, server.ca(), "127.0.0.1", true),
        (TlsMode::VerifyFull, server.ca(), "db.example", true),
        (TlsMode::VerifyFull, server.ca(), "else.example", false),
        (TlsMode::VerifyCa, server.ca(), "else.example", true),
        (TlsMode::VerifyCa, foreign.clone(), "127.0.0.1", false),
        (TlsMode::VerifyFull, foreign, "127.0.0.1", false),
    ];
    for (mode, ca, name, taken) in rows {
        let mut target = Target::new(&server, "scram").tls(mode, Some(ca));
        target.host = name
            .parse()
            .map_or_else(|_| Host::Name(name.to_owned()), Host::Ip);
        match login(&target).await {
            Ok(_) => assert!(taken, "{mode:?} {name}"),
            Err(error) => {
                assert!(!taken, "{mode:?} {name}: {error}");
                assert!(
                    matches!(error, Error::Tls(tls::Error::Upstream(_))),
                    "{error}"
                );
                assert_eq!(error.sqlstate(), "08006");
            }
        }
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in_alone_or_beside_a_password() {
    let server = Server::shared();
    let rows = [
        ("certified", "certified", false, Ok(())),
        ("twofold", "twofold", true, Ok(())),
        ("twofold", "twofold", false, Err("has none")),
        ("certified", "twofold", false, Err("refused with 28000")),
        ("twofold", "certified", true, Err("refused with 28P01")),
    ];
    for (user, shown, password, expected) in rows {
        let pem = server.certificate_of(shown);
        let mut target = Target::new(&server, user).showing(server.ca(), &pem);
        target.password = target.password.filter(|_| password);
        match (login(&target).await, expected) {
            (Ok(mut upstream), Ok(())) => {
                assert_eq!(ask(&mut upstream, "SELECT current_user").await, user);
                let sql = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                assert_eq!(ask(&mut upstream, sql).await, format!("/CN={user}"));
            }
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{user} {shown}: {error}");
            }
            (ended, _) => panic!("{user} {shown}: {ended:?}"),
        }
    }
    // Without one, the server does not take the role at all.
    let target = Target::new(&server, "certified").tls(TlsMode::VerifyFull, Some(server.ca()));
    let error = login(&target).await.unwrap_err().to_string();
    assert!(error.contains("refused with 28000"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_or_database_is_told_in_our_words() {
    let server = Server::shared();
    let injector = Injector::new().unwrap();
    let mut target = Target::new(&server, "scram");
    let mut elsewhere = startup(&[]);
    elsewhere.database = "nowhere".to_owned();
    let missing = target.login(&injector, &elsewhere).await.unwrap_err();
    assert_eq!(missing.sqlstate(), "3D000");
    let settings = startup(&[("timezone", "nowhere", Origin::Parameter)]);
    let setting = target.login(&injector, &settings).await.unwrap_err();
    assert_eq!(setting.sqlstate(), "22023");
    target.password = Some(Secret::from("wrong"));
    let wrong = target.login(&injector, &startup(&[])).await.unwrap_err();
    assert!(wrong.to_string().contains("28P01"), "{wrong}");
    assert_eq!(wrong.sqlstate(), "28000");
    for error in [missing, setting, wrong] {
        let told = format!("{:?}", error.refusal());
        assert!(
            !told.contains("scram") && !told.contains("nowhere"),
            "{told}"
        );
    }
    target.password = None;
    assert!(matches!(login(&target).await, Err(Error::NoSecret)));
}

#[tokio::test]
async fn a_rotated_password_is_used_at_once() {
    let server = Server::shared();
    let injector = Injector::new().unwrap();
    let mut target = Target::new(&server, "rotated");
    for _ in 0..2 {
        target.login(&injector, &startup(&[])).await.unwrap();
    }
    server.sql("ALTER ROLE rotated PASSWORD 'another'");
    assert!(target.login(&injector, &startup(&[])).await.is_err());
    target.password = Some(Secret::from("another"));
    target.login(&injector, &startup(&[])).await.unwrap();
}

#[tokio::test]
async fn settings_are_pinned_and_permitted_ones_override() {
    let server = Server::shared();
    let injector = Injector::new().unwrap();
    let mut target = Target::new(&server, "defaults");
    target.postgres.search_path = ["my schema", "$user", "public"].map(str::to_owned).to_vec();
    let pinned = "\"my schema\", \"$user\", public";
    let given = [
        ("search_path", "evil", Origin::Options),
        ("application_name", "a\\ b  c", Origin::Options),
        ("TimeZone", "Europe/Vienna", Origin::Parameter),
        ("statement_timeout", "1", Origin::Parameter),
        ("client_encoding", "SQL_ASCII", Origin::Parameter),
    ];
    let rows: &[(&[_], &str, &str)] = &[
        (&[], "search_path", pinned),
        (&[], "client_encoding", "UTF8"),
        (&[], "standard_conforming_strings", "on"),
        (&given, "search_path", "evil"),
        (&given, "application_name", "a\\ b  c"),
        (&given, "TimeZone", "Europe/Vienna"),
        (&given, "client_encoding", "SQL_ASCII"),
        (&given, "statement_timeout", "1ms"),
    ];
    for (settings, name, value) in rows {
        let mut upstream = target.login(&injector, &startup(settings)).await.unwrap();
        let shown = ask(&mut upstream, &format!("SHOW {name}")).await;
        assert_eq!(shown, *value, "{name} {settings:?}");
    }
}

#[tokio::test]
async fn the_catalog_is_the_servers_own_whatever_the_client_sets() {
    let server = Server::shared();
    let evil = [("search_path", "evil, pg_catalog", Origin::Options)];
    let count =
        server.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace");
    let rows = [
        ("scram", false, false),
        ("super", true, false),
        ("bypass", false, true),
    ];
    for (user, superuser, bypass_rls) in rows {
        let injector = Injector::new().unwrap();
        let target = Target::new(&server, user);
        let mut upstream = target.login(&injector, &startup(&evil)).await.unwrap();
        // The operator is in the way, as it is meant to be.
        let hijacked = ask(&mut upstream, "SELECT 1::oid = 1").await;
        assert_eq!(hijacked, "f");
        let catalog = &upstream.catalog;
        assert_eq!(catalog.relations.len().to_string(), count);
        assert!(catalog.relations.contains("pg_stat_activity"));
        assert_eq!(
            (catalog.superuser, catalog.bypass_rls),
            (superuser, bypass_rls),
            "{user}"
        );
    }
}

#[tokio::test]
async fn a_newer_protocol_is_negotiated_down() {
    let server = Server::shared();
    let injector = Injector::new().unwrap();
    let mut asked = startup(&[]);
    asked.minor = 9_999;
    let upstream = Target::new(&server, "scram")
        .login(&injector, &asked)
        .await
        .unwrap();
    // PostgreSQL 18 speaks 3.2.
    let newest = upstream
        .parameters
        .iter()
        .find(|(name, _)| name == "server_version")
        .and_then(|(_, version)| version.split('.').next()?.parse::<u32>().ok());
    let expected = if newest.unwrap() < 18 { 0 } else { 2 };
    assert_eq!(upstream.minor, expected);
    assert_eq!(asked.negotiate(upstream.minor).unwrap().minor, expected);
}

/// Somebody between who has a certificate of another authority; takes `SCRAM-SHA-256-PLUS` out of
/// the server's offer where `strip` says so.
async fn between(server: &Server, socket: TcpStream, strip: bool) {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::open(state.path(), None).unwrap();
    let mut socket = socket;
    let mut request = [0; 8];
    socket.read_exact(&mut request).await.unwrap();
    assert_eq!(Packet::read(&request[4..]), Ok(Packet::Ssl));
    socket.write_all(b"S").await.unwrap();
    let mut client = authority
        .accept(socket, &server.address().ip().into())
        .await
        .unwrap()
        .stream;
    let target = Target::new(server, "scram").tls(TlsMode::Require, None);
    let upstream = dial(server.address()).await.unwrap();
    let mut upstream = secure(upstream, &target.tls, &target.host).await.unwrap();
    let length = client.read_u32().await.unwrap();
    let mut follows = vec![0; usize::try_from(length).unwrap() - 4];
    client.read_exact(&mut follows).await.unwrap();
    upstream.write_u32(length).await.unwrap();
    upstream.write_all(&follows).await.unwrap();
    let (tag, mut offer) = next(&mut upstream).await;
    assert_eq!(tag, AUTHENTICATION);
    if strip {
        let kept = offer
            .windows(14)
            .position(|name| name == b"SCRAM-SHA-256\0");
        offer = [&offer[..4], &offer[kept.unwrap()..]].concat().into();
        assert!(!offer.windows(4).any(|name| name == b"PLUS"));
    }
    let mut bytes = BytesMut::new();
    write(&mut bytes, tag, |to| to.extend_from_slice(&offer));
    client.write_all(&bytes).await.unwrap();
    let _end = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
}

#[tokio::test]
async fn somebody_between_is_found_out_by_the_binding() {
    let server = Server::shared();
    for strip in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = Target::new(&server, "scram").tls(TlsMode::Require, None);
        target.address = listener.local_addr().unwrap();
        let attack = async {
            let (socket, _) = listener.accept().await.unwrap();
            between(&server, socket, strip).await;
        };
        let (ended, ()) = tokio::join!(login(&target), attack);
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::Denied(_)), "{strip}: {error}");
        let words = if strip {
            "channel binding negotiation error"
        } else {
            "channel binding check failed"
        };
        assert!(error.to_string().contains(words), "{strip}: {error}");
        assert_eq!(error.sqlstate(), "28000");
        assert!(!error.to_string().contains(PASSWORD));
    }
}

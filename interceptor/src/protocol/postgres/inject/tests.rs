//! Logging in, against a server of scripted bytes: honest ones, weak ones and hostile ones.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut as _;
use postgres_protocol::authentication::md5_hash;
use rustls::ServerConfig;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::*;
use crate::config::{Host, Pooler, Postgres, SessionAttrs, TlsMode};
use crate::policy::RefusalKind;
use crate::protocol::postgres::terminate::Origin;
use crate::protocol::postgres::wire::backend::make_ready;
use crate::protocol::postgres::wire::error::{ErrorFields, Severity};
use crate::protocol::postgres::wire::startup::{
    Authentication, Packet, StartupMessage, packet_length, parameter_status, version,
};
use crate::protocol::postgres::wire::write;
use crate::tls::testing::{Root, host, pair, upstream};

mod asked;
mod settling;

const PASSWORD: &str = "correct horse";

/// A server that says what a test lets it say, and keeps what it hears.
struct Fake {
    stream: Stream,
    heard: Vec<u8>,
    /// The search path that its sessions have.
    path: &'static str,
}

impl Fake {
    fn plain(socket: TcpStream) -> Self {
        Self::over(Stream::Plain(socket))
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            heard: Vec::new(),
            path: "public",
        }
    }

    async fn tls(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Self {
        let mut request = [0; 8];
        socket.read_exact(&mut request).await.unwrap();
        socket.write_all(b"S").await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let stream = acceptor.accept(socket).await.unwrap();
        Self::over(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }

    async fn startup(&mut self) -> StartupMessage {
        let length = self.stream.read_u32().await.unwrap();
        let mut follows = vec![0; packet_length(length.to_be_bytes()).unwrap()];
        self.stream.read_exact(&mut follows).await.unwrap();
        match Packet::read(&follows).unwrap() {
            Packet::Startup(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The body of the next message; empty where the client has gone.
    async fn hear(&mut self) -> Vec<u8> {
        let mut header = [0; 5];
        if self.stream.read_exact(&mut header).await.is_err() {
            return Vec::new();
        }
        let [tag, a, b, c, d] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        assert!(matches!(tag, b'p' | b'Q'));
        self.heard.extend_from_slice(&body);
        body
    }

    /// Says it, whether anybody still listens or not.
    async fn say(&mut self, bytes: &[u8]) {
        let _said = self.stream.write_all(bytes).await;
        let _said = self.stream.flush().await;
    }

    async fn ask(&mut self, request: Authentication) {
        self.say(&message(|to| request.write(to))).await;
    }

    async fn sasl(&mut self, mechanisms: &[&str]) -> String {
        let mechanisms = mechanisms.iter().map(|name| (*name).to_owned());
        self.ask(Authentication::Sasl(mechanisms.collect())).await;
        let first = self.hear().await;
        let text = first.splitn(2, |byte| *byte == 0).nth(1);
        String::from_utf8(text.map_or_else(Vec::new, |text| text[4..].to_vec())).unwrap()
    }

    /// A whole SCRAM exchange; `spoil` changes the last message.
    async fn scram(&mut self, mechanisms: &[&str], spoil: impl FnOnce(String) -> String) -> String {
        let first = self.sasl(mechanisms).await;
        let bare = first.splitn(3, ',').nth(2).unwrap().to_owned();
        let nonce = bare.split("r=").nth(1).unwrap();
        let challenge = format!("r={nonce}x,s={},i=4096", STANDARD.encode(b"salt"));
        let data = Bytes::from(challenge.clone());
        self.ask(Authentication::SaslContinue(data)).await;
        let last = String::from_utf8(self.hear().await).unwrap();
        let unproved = last.rsplit_once(",p=").map_or("", |(unproved, _)| unproved);
        let all = format!("{bare},{challenge},{unproved}");
        let signature = scram::tests::signature(PASSWORD, b"salt", &all);
        let data = Bytes::from(spoil(format!("v={}", STANDARD.encode(signature))));
        self.ask(Authentication::SaslFinal(data)).await;
        first
    }

    async fn welcome(&mut self) {
        self.ask(Authentication::Ok).await;
        self.welcomed().await;
    }

    /// What follows `AuthenticationOk`.
    async fn welcomed(&mut self) {
        self.say(&message(|to| {
            parameter_status(to, "server_version", "15.0")
        }))
        .await;
        self.say(&message(|to| key(4).write(to))).await;
        self.say(&make_ready(Status::Idle)).await;
        self.hear().await;
        self.say(&settled(&["7", self.path, "f", "off"])).await;
        self.hear().await;
        self.say(&catalog()).await;
        let mut rest = Vec::new();
        let _end = self.stream.read_to_end(&mut rest).await;
    }
}

fn message(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    bytes.freeze()
}

fn key(length: usize) -> BackendKey {
    BackendKey {
        pid: 7,
        secret: zeroize::Zeroizing::new(vec![1; length]),
    }
}

fn row(columns: &[&str]) -> Bytes {
    message(|to| {
        write(to, b'D', |to| {
            to.put_i16(i16::try_from(columns.len()).unwrap());
            for column in columns {
                to.put_i32(i32::try_from(column.len()).unwrap());
                to.put_slice(column.as_bytes());
            }
        });
    })
}

fn tag(tag: u8) -> Bytes {
    message(|to| write(to, tag, |to| to.put_slice(b"\0\0")))
}

/// The answer to what is asked of a session that was just opened.
fn settled(columns: &[&str]) -> Vec<u8> {
    let (begun, ended) = ([tag(b'C'), tag(b'C'), tag(b'T')], [tag(b'C'), tag(b'C')]);
    [
        begun.concat(),
        row(columns).to_vec(),
        ended.concat(),
        make_ready(Status::Idle).to_vec(),
    ]
    .concat()
}

/// All that an ordinary server says up to the question for its catalog.
fn greeting() -> Vec<u8> {
    let own = message(|to| key(4).write(to));
    let settled = settled(&["7", "public", "f", "off"]);
    [ok().to_vec(), own.to_vec(), ready().to_vec(), settled].concat()
}

fn catalog() -> Vec<u8> {
    [
        tag(b'C'),
        tag(b'T'),
        row(&["t", "f"]),
        tag(b'C'),
        tag(b'T'),
        row(&["pg_class"]),
        row(&["pg_type"]),
        tag(b'C'),
        tag(b'T'),
        row(&["wipe"]),
        tag(b'C'),
        make_ready(Status::Idle),
    ]
    .concat()
}

struct Client {
    tls: tls::Upstream,
    host: Host,
    postgres: Postgres,
    password: Option<Secret>,
    settings: Vec<Setting>,
    minor: u16,
    replication: Option<Replication>,
    attrs: SessionAttrs,
}

impl Client {
    fn new(tls: tls::Upstream) -> Self {
        Self {
            tls,
            host: host("db.example"),
            postgres: Postgres {
                user: "svc".to_owned(),
                password: None,
                databases: vec!["app".to_owned()],
                search_path: vec!["public".to_owned()],
                functions: std::collections::BTreeSet::new(),
                allow_md5: false,
                require_scram: false,
                warm: config::Warm::default(),
                client_auth: config::ClientAuth::Trust,
                ask_password: false,
                session_attrs: SessionAttrs::Any,
                pooler: Pooler::None,
            },
            password: Some(Secret::from(PASSWORD)),
            settings: Vec::new(),
            minor: 0,
            replication: None,
            attrs: SessionAttrs::Any,
        }
    }

    fn plain() -> Self {
        Self::new(upstream(TlsMode::Disable, None))
    }

    fn as_login(&self) -> Login<'_> {
        Login {
            target: "db",
            host: &self.host,
            apart: None,
            tls: &self.tls,
            postgres: &self.postgres,
            password: self.password.as_ref(),
            database: "app",
            settings: &self.settings,
            minor: self.minor,
            replication: self.replication,
            attrs: self.attrs,
            masked: None,
        }
    }

    /// Logs in to what `server` makes of the other end.
    async fn login<F: Future<Output = T>, T>(
        &self,
        injector: &Injector,
        server: impl FnOnce(TcpStream) -> F,
    ) -> (Result<Upstream, Error>, T) {
        let (socket, accepted) = pair().await;
        let login = self.as_login();
        let login = async {
            let mut ended = injector.login(socket, login).await;
            if let Ok(upstream) = &mut ended {
                let _end = upstream.stream.shutdown().await;
            }
            ended
        };
        // Only a guard: where both sides wait for each other, the test is to fail and not to hang.
        let both = async { tokio::join!(login, server(accepted)) };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .unwrap()
    }

    /// Logs in to what `server` makes of the next connection to `listener`.
    async fn login_at<F: Future<Output = ()>>(
        &self,
        injector: &Injector,
        listener: &tokio::net::TcpListener,
        server: impl FnOnce(Fake) -> F,
    ) -> Result<Upstream, Error> {
        let server = async |fake| server(fake).await;
        self.log_in_at(injector, listener, false, server).await
    }

    async fn log_in_at(
        &self,
        injector: &Injector,
        listener: &tokio::net::TcpListener,
        ahead: bool,
        server: impl AsyncFnOnce(Fake),
    ) -> Result<Upstream, Error> {
        let address = listener.local_addr().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let (socket, accepted) = tokio::join!(socket.connect(address), listener.accept());
        let login = self.as_login();
        let serve = async {
            let mut fake = Fake::plain(accepted.unwrap().0);
            fake.startup().await;
            server(fake).await;
        };
        let login = async {
            let mut ended = match ahead {
                false => injector.login(socket.unwrap(), login).await,
                true => injector.login_ahead(socket.unwrap(), login).await,
            };
            if let Ok(upstream) = &mut ended {
                let _end = upstream.stream.shutdown().await;
            }
            ended
        };
        let both = async { tokio::join!(login, serve) };
        let both = tokio::time::timeout(Duration::from_secs(60), both);
        both.await.unwrap().0
    }

    /// Logs in to a server that, after the startup message, does as `then` says.
    async fn after_startup(
        &self,
        then: impl AsyncFnOnce(&mut Fake),
    ) -> (Result<Upstream, Error>, Vec<u8>) {
        let injector = Injector::new().unwrap();
        self.login(&injector, |socket| async move {
            let mut fake = Fake::plain(socket);
            fake.startup().await;
            then(&mut fake).await;
            fake.heard
        })
        .await
    }

    /// Logs in to a server that says all of `bytes` after the startup message.
    async fn told(&self, bytes: &[u8]) -> Result<Upstream, Error> {
        let (ended, _) = self
            .after_startup(async |fake| {
                fake.say(bytes).await;
                fake.stream.shutdown().await.unwrap();
                while !fake.hear().await.is_empty() {}
            })
            .await;
        ended
    }
}

fn text(error: &Error) -> String {
    format!("{error:?} {error}")
}

#[tokio::test]
async fn a_login_sends_the_configured_user_and_what_was_permitted() {
    let mut client = Client::plain();
    client.postgres.search_path = ["my schema", "$user", "a\"b", "public"]
        .map(str::to_owned)
        .to_vec();
    client.minor = 2;
    client.settings = [
        ("TimeZone", "UTC", Origin::Parameter),
        ("geqo", "o ff", Origin::Options),
    ]
    .map(|(name, value, origin)| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin,
    })
    .to_vec();
    let injector = Injector::new().unwrap();
    let (ended, startup) = client
        .login(&injector, |socket| async move {
            let mut fake = Fake::plain(socket);
            fake.path = r#""my schema", "$user", "a""b", public"#;
            let startup = fake.startup().await;
            fake.welcome().await;
            startup
        })
        .await;
    let upstream = ended.unwrap();
    let options = r#"-c search_path="my\ schema",\ "$user",\ "a""b",\ public -c standard_conforming_strings=on -c client_encoding=UTF8 -c geqo=o\ ff"#;
    let expected = [
        ("user", "svc"),
        ("database", "app"),
        ("options", options),
        ("TimeZone", "UTC"),
    ];
    let sent: Vec<_> = startup
        .parameters
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .collect();
    assert_eq!(sent, expected);
    assert_eq!(startup.minor, 2);
    assert_eq!(
        upstream.parameters,
        [("server_version".to_owned(), "15.0".to_owned())]
    );
    assert_eq!(upstream.key, Some(key(4)));
    assert!(upstream.unread.is_empty());
    assert!(upstream.catalog.superuser && !upstream.catalog.bypass_rls);
    assert!(upstream.catalog.relations.contains("pg_class"));
    assert_eq!(upstream.catalog.relations.len(), 2);
    assert!(upstream.catalog.functions.contains("wipe"));
}

#[tokio::test]
async fn replication_is_asked_for_and_where_there_is_no_database_no_catalog_is() {
    for (replication, value, relations) in [
        (Replication::Logical, "database", 2),
        (Replication::Physical, "true", 0),
    ] {
        let mut client = Client::plain();
        client.replication = Some(replication);
        let injector = Injector::new().unwrap();
        let (ended, startup) = client
            .login(&injector, |socket| async move {
                let mut fake = Fake::plain(socket);
                let startup = fake.startup().await;
                fake.welcome().await;
                startup
            })
            .await;
        let upstream = ended.unwrap();
        let sent = ("replication".to_owned(), value.to_owned());
        assert!(startup.parameters.contains(&sent), "{startup:?}");
        assert_eq!(upstream.catalog.relations.len(), relations, "{value}");
    }
}

#[tokio::test]
async fn the_catalog_is_asked_for_once_at_each_server_and_anew_where_a_login_waits() {
    let injector = Injector::new().unwrap();
    let client = Client::plain();
    let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = (bind().await, bind().await);
    for (listener, ahead, expected) in [
        (&one, false, true),
        (&one, false, false),
        (&other, false, true),
        (&one, true, true),
        (&one, false, false),
    ] {
        let heard = std::cell::RefCell::new(Vec::new());
        let serve = async |mut fake: Fake| {
            fake.ask(Authentication::Ok).await;
            fake.welcomed().await;
            heard.replace(fake.heard);
        };
        let ended = client.log_in_at(&injector, listener, ahead, serve).await;
        assert_eq!(ended.unwrap().catalog.relations.len(), 2);
        let heard = String::from_utf8_lossy(&heard.into_inner()).into_owned();
        assert_eq!(heard.contains("pg_proc"), expected, "{ahead}");
    }
}

#[tokio::test]
async fn scram_succeeds_only_with_a_server_that_knows_the_password() {
    type Spoil = fn(String) -> String;
    let rows: &[(&str, Spoil, bool)] = &[
        ("right", |v| v, true),
        ("truncated", |v| v.chars().take(42).collect(), false),
        ("empty", |_| String::new(), false),
        ("none", |_| "v=".to_owned(), false),
        (
            "wrong",
            |_| format!("v={}", STANDARD.encode([0; 32])),
            false,
        ),
        ("more", |v| v + ",x=1", false),
        ("error", |_| "e=other-error".to_owned(), false),
    ];
    for (name, spoil, taken) in rows {
        let injector = Injector::new().unwrap();
        let (ended, heard) = Client::plain()
            .login(&injector, |socket| async move {
                let mut fake = Fake::plain(socket);
                fake.startup().await;
                fake.scram(&["SCRAM-SHA-256"], spoil).await;
                fake.welcome().await;
                fake.heard
            })
            .await;
        assert_eq!(ended.is_ok(), *taken, "{name}: {ended:?}");
        assert_eq!(injector.keys.count(), usize::from(*taken), "{name}");
        assert!(
            !heard
                .windows(PASSWORD.len())
                .any(|w| w == PASSWORD.as_bytes())
        );
        if let Err(error) = ended {
            assert!(matches!(error, Error::Scram(_)), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_challenge_that_costs_too_much_is_not_answered() {
    for (iterations, taken) in [
        ("2147483648", false),
        ("600001", false),
        ("4095", false),
        ("1", false),
        ("4096", true),
    ] {
        let (ended, heard) = Client::plain()
            .after_startup(async |fake| {
                let first = fake.sasl(&["SCRAM-SHA-256"]).await;
                let nonce = first.split("r=").nth(1).unwrap();
                let data = format!("r={nonce}x,s=c2FsdA==,i={iterations}");
                fake.heard.clear();
                fake.ask(Authentication::SaslContinue(data.into())).await;
                fake.hear().await;
            })
            .await;
        assert!(ended.is_err());
        assert_eq!(!heard.is_empty(), taken, "{iterations}");
    }
}

#[tokio::test]
async fn a_server_cannot_cut_an_exchange_short_or_change_its_method() {
    let rows: &[(&str, Authentication, &str)] = &[
        ("ok", Authentication::Ok, "Unproved"),
        ("clear", Authentication::Cleartext, "Order"),
        ("md5", Authentication::Md5([0; 4]), "Order"),
        (
            "final",
            Authentication::SaslFinal(Bytes::from_static(b"v=")),
            "Order",
        ),
        (
            "again",
            Authentication::Sasl(vec!["SCRAM-SHA-256".into()]),
            "Order",
        ),
    ];
    for (name, request, expected) in rows {
        let mut client = Client::plain();
        client.postgres.allow_md5 = true;
        let (ended, heard) = client
            .after_startup(async |fake| {
                fake.sasl(&["SCRAM-SHA-256"]).await;
                fake.heard.clear();
                fake.ask(request.clone()).await;
                fake.hear().await;
            })
            .await;
        let error = ended.unwrap_err();
        assert!(text(&error).starts_with(expected), "{name}: {error:?}");
        assert_eq!(heard, b"", "{name}");
    }
    let (ended, _) = Client::plain()
        .after_startup(async |fake| {
            let first = fake.sasl(&["SCRAM-SHA-256"]).await;
            let nonce = first.split("r=").nth(1).unwrap();
            let data = format!("r={nonce}x,s=c2FsdA==,i=4096");
            fake.ask(Authentication::SaslContinue(data.into())).await;
            fake.hear().await;
            fake.welcome().await;
        })
        .await;
    assert!(matches!(ended, Err(Error::Unproved)), "{ended:?}");
}

#[tokio::test]
async fn weak_methods_are_answered_only_where_they_are_allowed() {
    const SALT: [u8; 4] = [0x2a, 0x3d, 0x8f, 0xe0];
    let md5 = Authentication::Md5(SALT);
    let rows: &[(Authentication, bool, bool, bool, &str)] = &[
        // asked, allow_md5, with a password, answered, or refused as
        (Authentication::Cleartext, true, true, false, "Cleartext"),
        (md5.clone(), false, true, false, "Md5"),
        (md5.clone(), true, false, false, "NoSecret"),
        (md5, true, true, true, ""),
        (
            Authentication::Sasl(vec!["SCRAM-SHA-256".into()]),
            false,
            false,
            false,
            "NoSecret",
        ),
        (
            Authentication::Sasl(vec!["X".into()]),
            false,
            true,
            false,
            "Scram(Mechanism",
        ),
        (
            Authentication::Sasl(vec!["SCRAM-SHA-256-PLUS".into(), "SCRAM-SHA-256".into()]),
            false,
            true,
            false,
            "Scram(PlusWithoutTls",
        ),
        (Authentication::Other(7), true, true, false, "Method"),
        (Authentication::Other(99), true, true, false, "Method"),
    ];
    for (request, allow_md5, with_password, answered, refused) in rows {
        let mut client = Client::plain();
        client.postgres.allow_md5 = *allow_md5;
        if !with_password {
            client.password = None;
        }
        let (ended, heard) = client
            .after_startup(async |fake| {
                fake.ask(request.clone()).await;
                fake.hear().await;
            })
            .await;
        if *answered {
            let hash = md5_hash(b"svc", PASSWORD.as_bytes(), SALT);
            assert_eq!(heard, [hash.as_bytes(), b"\0"].concat());
        } else {
            assert_eq!(heard, b"", "{request:?}");
            let error = ended.unwrap_err();
            assert!(text(&error).starts_with(refused), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_password_goes_in_clear_only_to_a_server_that_was_verified() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let server = root.server("db.example");
    let rows = [
        (TlsMode::Require, false, false),
        (TlsMode::Require, true, false),
        (TlsMode::VerifyCa, true, true),
        (TlsMode::VerifyFull, true, true),
    ];
    for (mode, ca, answered) in rows {
        let client = Client::new(upstream(mode, ca.then_some(root.file.as_path())));
        let injector = Injector::new().unwrap();
        let (ended, heard) = client
            .login(&injector, |socket| async {
                let mut fake = Fake::tls(socket, &server).await;
                fake.startup().await;
                fake.ask(Authentication::Cleartext).await;
                if fake.hear().await.is_empty() {
                    return Vec::new();
                }
                let heard = std::mem::take(&mut fake.heard);
                fake.welcome().await;
                heard
            })
            .await;
        assert_eq!(ended.is_ok(), answered, "{mode:?} {ca}: {ended:?}");
        let sent = format!("{}\0", client.password.as_ref().unwrap().expose_secret());
        let expected = if answered { sent.as_bytes() } else { b"" };
        assert_eq!(heard, expected, "{mode:?} {ca}");
    }
}

#[tokio::test]
async fn an_exchange_under_tls_is_bound_or_says_that_it_could_be() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let server = root.server("db.example");
    let rows: &[(&[&str], &str)] = &[
        (
            &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
            "p=tls-server-end-point,,",
        ),
        (&["SCRAM-SHA-256"], "y,,"),
    ];
    for (mechanisms, header) in rows {
        let client = Client::new(upstream(TlsMode::Require, None));
        let injector = Injector::new().unwrap();
        let (ended, first) = client
            .login(&injector, |socket| async {
                let mut fake = Fake::tls(socket, &server).await;
                fake.startup().await;
                let first = fake.scram(mechanisms, |v| v).await;
                fake.welcome().await;
                first
            })
            .await;
        assert!(ended.is_ok(), "{ended:?}");
        assert!(first.starts_with(header), "{first}");
    }
}

#[tokio::test]
async fn tls_begins_with_the_first_byte_where_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let rows: &[(&[&[u8]], Option<&str>)] = &[
        (&[b"postgresql"], None),
        (&[b"h2", b"postgresql"], None),
        (&[], Some("Alpn")),
        (&[b"h2"], Some("Tls")),
    ];
    for (named, refused) in rows {
        let mut server = ServerConfig::clone(&root.server("db.example"));
        server.alpn_protocols = named.iter().map(|name| name.to_vec()).collect();
        let tls = config::UpstreamTls {
            ca: Some(root.file.clone()),
            direct: true,
            ..config::UpstreamTls::default()
        };
        let client = Client::new(tls::Upstream::new(&tls, None).unwrap());
        let injector = Injector::new().unwrap();
        let (ended, ()) = client
            .login(&injector, |socket| async move {
                let acceptor = TlsAcceptor::from(Arc::new(server));
                let Ok(stream) = acceptor.accept(socket).await else {
                    return;
                };
                let mut fake = Fake::over(Stream::Tls(Box::new(TlsStream::Server(stream))));
                if fake.stream.alpn().is_some() {
                    fake.startup().await;
                    fake.welcome().await;
                }
            })
            .await;
        match refused {
            None => assert!(ended.is_ok(), "{named:?}: {ended:?}"),
            Some(refused) => {
                let error = ended.unwrap_err();
                assert!(text(&error).starts_with(refused), "{named:?}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_begin_tls_is_left() {
    let rows: &[(&[u8], &str)] = &[
        (b"N", "NoTls"),
        (b"E\0\0\0\x10SFATAL\0Mx\0\0", "TlsAnswer"),
        (b"SR\0\0\0\x08\0\0\0\0", "EarlyData"),
        (b"S\x16", "EarlyData"),
        (b"\x15", "TlsAnswer"),
        (b"", "Closed"),
    ];
    for (answer, expected) in rows {
        let client = Client::new(upstream(TlsMode::Require, None));
        let injector = Injector::new().unwrap();
        let (ended, heard) = client
            .login(&injector, |mut socket| async move {
                let mut heard = vec![0; 8];
                socket.read_exact(&mut heard).await.unwrap();
                socket.write_all(answer).await.unwrap();
                socket.shutdown().await.unwrap();
                let _end = socket.read_to_end(&mut heard).await;
                heard
            })
            .await;
        let error = ended.unwrap_err();
        assert!(text(&error).starts_with(expected), "{answer:?}: {error:?}");
        assert_eq!(heard.len(), 8, "{answer:?}");
    }
}

fn ok() -> Bytes {
    message(|to| Authentication::Ok.write(to))
}

fn ready() -> Bytes {
    make_ready(Status::Idle)
}

fn negotiate(minor: u16, options: &[&str]) -> Bytes {
    message(|to| {
        Negotiate {
            minor,
            options: options.iter().map(|name| (*name).to_owned()).collect(),
        }
        .write(to);
    })
}

#[tokio::test]
async fn a_server_that_does_not_keep_to_the_protocol_is_left() {
    let long_key = message(|to| key(32).write(to));
    let short_key = message(|to| key(4).write(to));
    let status = message(|to| parameter_status(to, "a", "b"));
    let notice = message(|to| ErrorFields::default().write(to, NOTICE));
    let row = row(&["x"]);
    let failed = make_ready(Status::Failed);
    let rows: &[(u16, Vec<Bytes>, &str)] = &[
        (0, vec![], "Closed"),
        (0, vec![ok().slice(..7)], "Closed"),
        (0, vec![ready()], "Order"),
        (0, vec![status.clone()], "Order"),
        (0, vec![ok(), ok()], "Order"),
        (0, vec![ok(), failed], "Order"),
        (0, vec![ok(), row.clone()], "Message"),
        (0, vec![row], "Message"),
        (0, vec![Bytes::from_static(b"R\x3f\xff\xff\xff")], "Message"),
        (0, vec![Bytes::from_static(b"E\x00\x01\x00\x00")], "Message"),
        (0, vec![Bytes::from_static(b"R\xff\xff\xff\xff")], "Wire"),
        (0, vec![Bytes::from_static(b"R\0\0\0\x03")], "Wire"),
        (0, vec![Bytes::from_static(b"A\0\0\0\x04")], "Message"),
        (0, vec![ok(), long_key.clone()], "KeyLength"),
        (2, vec![ok(), long_key.clone(), ready()], "Closed"),
        (2, vec![negotiate(0, &[]), ok(), long_key], "KeyLength"),
        (0, vec![ok(), short_key.clone(), short_key], "Order"),
        (0, vec![negotiate(0, &[])], "Negotiate"),
        (2, vec![negotiate(2, &[])], "Negotiate"),
        (2, vec![negotiate(0, &["_pq_.x"])], "Negotiate"),
        (2, vec![negotiate(0, &[]), negotiate(0, &[])], "Negotiate"),
        (2, vec![ok(), negotiate(0, &[])], "Order"),
        (0, [vec![ok()], vec![status; 257]].concat(), "TooMany"),
        (0, vec![notice.clone(); 33], "TooMany"),
        (0, [vec![ok()], vec![notice; 33]].concat(), "TooMany"),
    ];
    for (n, (minor, said, expected)) in rows.iter().enumerate() {
        let mut client = Client::plain();
        client.minor = *minor;
        let error = client.told(&said.concat()).await.unwrap_err();
        assert!(text(&error).starts_with(expected), "row {n}: {error:?}");
    }
}

#[tokio::test]
async fn a_catalog_that_is_not_whole_ends_the_login() {
    let roles = row(&["t", "f"]);
    let t = || tag(b'T');
    let null = message(|to| write(to, b'D', |to| to.put_slice(b"\0\x01\xff\xff\xff\xff")));
    let bytes = message(|to| write(to, b'D', |to| to.put_slice(b"\0\x01\0\0\0\x01\xff")));
    let error = ErrorFields::new(Severity::Error, "42501", "no").response();
    let failed = make_ready(Status::Failed);
    let rows: &[(Vec<Bytes>, &str)] = &[
        (vec![ready()], "Catalog"),
        (vec![t(), roles.clone(), t(), ready()], "Catalog"),
        (vec![t(), t(), row(&["a"]), ready()], "Catalog"),
        (
            vec![t(), roles.clone(), roles.clone(), t(), row(&["a"]), ready()],
            "Catalog",
        ),
        (vec![t(), roles.clone(), t(), row(&["a", "b"])], "Catalog"),
        (vec![t(), roles.clone(), t(), null], "Catalog"),
        (vec![t(), roles.clone(), t(), bytes], "Catalog"),
        (
            vec![t(), roles.clone(), t(), row(&["a"]), failed],
            "Catalog",
        ),
        (vec![row(&["a"])], "Order"),
        (
            vec![t(), roles.clone(), t(), row(&["a"]), ready()],
            "Catalog",
        ),
        (
            vec![t(), roles.clone(), t(), t(), t(), row(&["a"])],
            "Order",
        ),
        (vec![error], "Catalog"),
        (vec![tag(b'G')], "Message"),
        (
            [vec![t(), roles, t()], vec![row(&["a"]); 20_001]].concat(),
            "",
        ),
    ];
    for (n, (said, expected)) in rows.iter().enumerate() {
        let bytes = [greeting(), said.concat()].concat();
        let error = Client::plain().told(&bytes).await.unwrap_err();
        assert!(text(&error).starts_with(expected), "row {n}: {error:?}");
    }
}

#[tokio::test]
async fn what_a_login_may_read_in_all_is_bounded() {
    let names: Vec<_> = (0..20_100).map(|n| row(&[&format!("r{n}")])).collect();
    let said = [vec![tag(b'T'), row(&["t", "f"]), tag(b'T')], names];
    let said = [greeting(), said.concat().concat()].concat();
    let error = Client::plain().told(&said).await;
    assert!(matches!(error, Err(Error::TooMany { .. })), "{error:?}");
    let same = vec![tag(b'C'); 700_000];
    let said = [greeting(), same.concat()].concat();
    let error = Client::plain().told(&said).await;
    assert!(
        matches!(error, Err(Error::TooMany { what: "bytes", .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_the_upstream_says_does_not_reach_the_agent() {
    let said = "password authentication failed for user \"svc\" at 10.0.0.5";
    let rows = [
        (Some("28P01"), "28000"),
        (Some("28000"), "28000"),
        (Some("53300"), "53300"),
        (Some("57P03"), "57P03"),
        (Some("57P01"), "57P03"),
        (Some("3D000"), "3D000"),
        (Some("22023"), "22023"),
        (Some("XX000"), "08006"),
        (Some("svc10"), "08006"),
        (None, "08006"),
    ];
    for (sent, told) in rows {
        let response = match sent {
            Some(state) => ErrorFields::new(Severity::Fatal, state, said).response(),
            None => ErrorFields::default().with(b'M', said).response(),
        };
        for first in [&b""[..], &ok()] {
            let error = Client::plain()
                .told(&[first, &response].concat())
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Denied(_)), "{error:?}");
            assert!(error.to_string().contains(said));
            assert_eq!(error.sqlstate(), told, "{sent:?}");
            let refusal = error.refusal();
            assert_eq!(refusal.kind, RefusalKind::Upstream);
            let heard = format!("{refusal:?}");
            assert!(
                !heard.contains("svc") && !heard.contains("10.0.0.5"),
                "{heard}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_is_of_the_password_where_one_was_sent() {
    let refusal = |state: &str| ErrorFields::new(Severity::Fatal, state, "no").response();
    for (state, before, after) in [
        ("28P01", true, true),
        // As PAM, LDAP and RADIUS have it; before that it is the server's list of hosts.
        ("28000", false, true),
        ("53300", false, false),
    ] {
        let error = Client::plain().told(&refusal(state)).await.unwrap_err();
        assert_eq!(error.is_wrong_password(), before, "{state}: {error}");
        let mut client = Client::plain();
        client.postgres.allow_md5 = true;
        let (ended, _heard) = client
            .after_startup(async |fake| {
                fake.ask(Authentication::Md5([1; 4])).await;
                fake.hear().await;
                fake.say(&refusal(state)).await;
            })
            .await;
        let error = ended.unwrap_err();
        assert_eq!(error.is_wrong_password(), after, "{state}: {error}");
        // A role that may not log in is no matter of its password.
        let error = Client::plain()
            .told(&[ok(), refusal("28000")].concat())
            .await;
        assert!(!error.unwrap_err().is_wrong_password());
    }
}

#[tokio::test]
async fn a_startup_that_no_server_takes_is_not_sent() {
    let mut client = Client::plain();
    client.settings = vec![Setting {
        name: "a".to_owned(),
        value: " ".repeat(6_000),
        origin: Origin::Options,
    }];
    let injector = Injector::new().unwrap();
    let (ended, heard) = client
        .login(&injector, |mut socket| async move {
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).await.unwrap();
            heard
        })
        .await;
    assert!(
        matches!(ended, Err(Error::StartupLength { .. })),
        "{ended:?}"
    );
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn what_follows_the_login_is_handed_on() {
    let notice = ErrorFields::new(Severity::Error, "01000", "later");
    let later = message(|to| notice.write(to, NOTICE));
    let early = message(|to| notice.write(to, NOTICE));
    let said = [
        early.clone(),
        ok(),
        early.clone(),
        message(|to| key(4).write(to)),
        ready(),
        settled(&["7", "public", "f", "off"]).into(),
        catalog().into(),
        later.clone(),
    ];
    let upstream = Client::plain().told(&said.concat()).await.unwrap();
    assert_eq!(upstream.notices, [early.clone(), early]);
    assert_eq!(upstream.unread, later);
    assert_eq!(upstream.minor, 0);
    assert_eq!(version(upstream.minor), 0x3_0000);
}

async fn by_scram(mut fake: Fake) {
    fake.scram(&["SCRAM-SHA-256"], |last| last).await;
    fake.welcome().await;
}

async fn by(mut fake: Fake, request: Authentication) {
    let done = request == Authentication::Ok;
    fake.ask(request).await;
    if done || !fake.hear().await.is_empty() {
        if !done {
            fake.ask(Authentication::Ok).await;
        }
        fake.say(&message(|to| key(4).write(to))).await;
        fake.say(&make_ready(Status::Idle)).await;
        fake.hear().await;
        fake.say(&settled(&["7", "public", "f", "off"])).await;
        fake.hear().await;
        fake.say(&catalog()).await;
    }
    let mut rest = Vec::new();
    let _end = fake.stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_server_that_asked_for_scram_gets_nothing_weaker_any_more() {
    let weaker = [Authentication::Ok, Authentication::Md5([1; 4])];
    for request in weaker {
        let injector = Injector::new().unwrap();
        let mut client = Client::plain();
        client.postgres.allow_md5 = true;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ask = || by_owned(request.clone());
        let login = client.login_at(&injector, &listener, ask()).await;
        login.unwrap();
        client
            .login_at(&injector, &listener, by_scram)
            .await
            .unwrap();
        let error = client.login_at(&injector, &listener, ask()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Downgrade { .. }), "{error}");
        assert_eq!(error.sqlstate(), "28000");
        client
            .login_at(&injector, &listener, by_scram)
            .await
            .unwrap();

        // Another server, another password, another configuration know nothing of it.
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        client.login_at(&injector, &other, ask()).await.unwrap();
        let mut rotated = Client::plain();
        rotated.postgres.allow_md5 = true;
        rotated.password = Some(Secret::from("rotated"));
        rotated.login_at(&injector, &listener, ask()).await.unwrap();
        injector.forget();
        client.login_at(&injector, &listener, ask()).await.unwrap();
    }
}

fn by_owned(
    request: Authentication,
) -> impl FnOnce(Fake) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    |fake| Box::pin(by(fake, request))
}

#[tokio::test]
async fn nothing_but_scram_is_answered_where_it_is_required() {
    let mut client = Client::plain();
    client.postgres.require_scram = true;
    client.postgres.allow_md5 = true;
    for request in [
        Authentication::Ok,
        Authentication::Cleartext,
        Authentication::Md5([1; 4]),
    ] {
        let (ended, heard) = client
            .after_startup(async |fake| {
                fake.ask(request.clone()).await;
                while !fake.hear().await.is_empty() {}
            })
            .await;
        let error = ended.unwrap_err();
        assert!(
            matches!(error, Error::NotScram { .. }),
            "{request:?}: {error}"
        );
        assert_eq!(heard, b"");
    }
    let injector = Injector::new().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    client
        .login_at(&injector, &listener, by_scram)
        .await
        .unwrap();
}

#[test]
fn servers_behind_one_proxy_are_told_from_each_other() {
    let client = Client::plain();
    let address: std::net::SocketAddr = "127.0.0.1:3128".parse().unwrap();
    let known = |apart| {
        let login = Login {
            apart,
            ..client.as_login()
        };
        login.server(address.into())
    };
    let all = [
        known(None),
        known(Some("db-a.internal 5432")),
        known(Some("db-b.internal 5432")),
        known(Some("db-a.internal 5433")),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:?}");
}

//! What waits is handed out once, to who asks for exactly the same, alive and not too old.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpStream;

use super::*;
use crate::config::{Config, Host, Target, TlsMode};
use crate::protocol::postgres::inject::Catalog;
use crate::protocol::postgres::wire::backend::Status;
use crate::protocol::postgres::wire::error::{ErrorFields, Severity};
use crate::protocol::postgres::wire::startup::parameter_status;
use crate::protocol::postgres::wire::write;
use crate::socket::Place;
use crate::tls::testing::{host, pair, upstream};

const LONG: Duration = Duration::from_secs(3_600);

/// What a test's server does, and the server's ends of what was logged in.
struct Server {
    ends: Mutex<Vec<TcpStream>>,
    logins: AtomicUsize,
    refuses: AtomicBool,
    is_current: AtomicBool,
    warm: config::Warm,
}

#[derive(Clone)]
struct Fake(Arc<Server>);

impl Fake {
    fn new(connections: u32, age: Duration) -> Self {
        Self(Arc::new(Server {
            ends: Mutex::default(),
            logins: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            is_current: AtomicBool::new(true),
            warm: config::Warm { connections, age },
        }))
    }

    fn logins(&self) -> usize {
        self.0.logins.load(Ordering::SeqCst)
    }

    /// The server's end of the connection that was logged in last.
    fn last(&self) -> TcpStream {
        self.0.ends.lock().unwrap().pop().unwrap()
    }
}

impl Supply for Fake {
    fn target(&self) -> &str {
        "db"
    }

    fn warm(&self) -> config::Warm {
        self.0.warm
    }

    fn is_current(&self) -> bool {
        self.0.is_current.load(Ordering::SeqCst)
    }

    async fn log_in(&self) -> Result<Option<Upstream>, Error> {
        self.0.logins.fetch_add(1, Ordering::SeqCst);
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        let (ours, theirs) = pair().await;
        self.0.ends.lock().unwrap().push(theirs);
        Ok(Some(logged_in(ours)))
    }
}

fn at(ip: &str) -> Place {
    std::net::SocketAddr::new(ip.parse().unwrap(), 5432).into()
}

fn logged_in(socket: TcpStream) -> Upstream {
    Upstream {
        address: socket.peer_addr().unwrap().into(),
        stream: Stream::Plain(socket),
        unread: BytesMut::new(),
        host: host("db.example"),
        parameters: Vec::new(),
        notices: Vec::new(),
        key: None,
        minor: 0,
        catalog: Arc::new(Catalog::default()),
        known: None,
        status: Status::Idle,
    }
}

fn target(name: &str) -> Arc<Target> {
    let text = format!(
        "version: 1\ntargets:\n  {name}:\n    addresses: ['db:5432']\n    postgres: {{ user: u, databases: [d] }}\n"
    );
    let path = std::path::Path::new("/etc/interceptor/config.yaml");
    let config: Config = config::parse(&text, path).unwrap();
    Arc::clone(&config.targets[name])
}

fn key_of(target: &Arc<Target>, startup: &str) -> Key {
    static TLS: LazyLock<Arc<tls::Upstream>> =
        LazyLock::new(|| Arc::new(upstream(TlsMode::Disable, None)));
    Key {
        target: Arc::clone(target),
        tls: Arc::clone(&TLS),
        places: Arc::new([(host("db.example"), at("127.0.0.1"))]),
        credential: [1; 32],
        startup: startup.as_bytes().into(),
    }
}

fn key(startup: &str) -> Key {
    key_of(&target("db"), startup)
}

/// Comes back when so many wait; the harness's own deadline bounds it.
async fn until_waiting(warm: &Warm<Fake>, count: usize) {
    let there = async {
        while warm.waiting() != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), there).await.unwrap();
}

/// Comes back when nothing of what is spawned here has anything to do any more.
async fn until_logins(server: &Fake, count: usize) {
    let there = async {
        while server.logins() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), there).await.unwrap();
}

async fn to_the_end(mut socket: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(60), socket.read_to_end(&mut all));
    read.await.unwrap().unwrap();
    all
}

fn fields(severity: Severity) -> ErrorFields {
    ErrorFields::new(severity, "57P01", "terminating connection")
}

#[tokio::test]
async fn a_connection_waits_for_what_was_asked_for_and_is_handed_out_once() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(2, LONG);
    let asked = key("a");
    assert!(warm.take(&asked, LONG).await.is_none());
    assert_eq!(server.logins(), 0, "nobody has used the key yet");

    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    let first = warm.take(&asked, LONG).await.unwrap();
    let to = first.stream.socket().local_addr().unwrap();
    assert_eq!(server.last().peer_addr().unwrap(), to);
    assert!(warm.take(&asked, LONG).await.is_none(), "handed out twice");

    // One that was missed is one more from now on, up to what the target may have.
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 2).await;
    for _ in 0..3 {
        assert!(warm.take(&asked, LONG).await.is_some());
        assert!(warm.take(&asked, LONG).await.is_some());
        assert!(warm.take(&asked, LONG).await.is_none());
        warm.ask(&asked, server.clone());
        until_waiting(&warm, 2).await;
    }
}

#[tokio::test]
async fn whoever_asks_for_anything_else_gets_nothing() {
    let warm = Arc::new(Warm::default());
    let asked = key("a");
    warm.ask(&asked, Fake::new(1, LONG));
    until_waiting(&warm, 1).await;
    let like = |change: fn(&mut Key)| {
        let mut other = asked.clone();
        change(&mut other);
        other
    };
    let others = [
        like(|key| key.startup = b"b".as_slice().into()),
        like(|key| key.credential = [2; 32]),
        like(|key| key.places = Arc::new([(host("db.example"), at("127.0.0.2"))])),
        like(|key| key.places = Arc::new([(Host::Name("x".into()), at("127.0.0.1"))])),
        // The same in words, of another configuration.
        like(|key| key.target = target("db")),
        like(|key| key.tls = Arc::new(upstream(TlsMode::Disable, None))),
    ];
    for (n, other) in others.iter().enumerate() {
        assert_ne!(*other, asked, "row {n}");
        assert!(warm.take(other, LONG).await.is_none(), "row {n}");
    }
    assert!(warm.take(&asked, LONG).await.is_some());
}

#[tokio::test]
async fn one_on_which_the_server_said_more_than_notices_is_not_handed_out() {
    let notice = |to: &mut BytesMut| fields(Severity::Error).write(to, NOTICE);
    let setting = |to: &mut BytesMut| parameter_status(to, "TimeZone", "UTC");
    let error = |to: &mut BytesMut| to.extend_from_slice(&fields(Severity::Fatal).response());
    let made = |parts: &[&dyn Fn(&mut BytesMut)]| {
        let mut bytes = BytesMut::new();
        parts.iter().for_each(|part| part(&mut bytes));
        bytes.to_vec()
    };
    let both = made(&[&notice, &setting]);
    let mut long = BytesMut::new();
    write(&mut long, NOTICE, |to| to.resize(40_000, b'x'));
    let rows = [
        (Vec::new(), false, true),
        (Vec::new(), true, false),
        (both.clone(), false, true),
        (both.clone(), true, false),
        (made(&[&error]), false, false),
        (made(&[&notice, &error]), false, false),
        (made(&[&notice, &error]), true, false),
        (both[..both.len() - 1].to_vec(), false, false),
        (b"N".to_vec(), false, false),
        (b"Z\0\0\0\x05I".to_vec(), false, false),
        (b"A\0\0\0\x06\0\0".to_vec(), false, false),
        (b"S\0\0\0\x03".to_vec(), false, false),
        (long.to_vec(), false, false),
        (made(&[&notice]).repeat(4_000), false, false),
    ];
    for (n, (said, closes, expected)) in rows.into_iter().enumerate() {
        let warm = Arc::new(Warm::default());
        let server = Fake::new(1, LONG);
        warm.ask(&key("a"), server.clone());
        until_waiting(&warm, 1).await;
        let asked = warm.state().rows.keys().next().cloned().unwrap();
        let mut end = server.last();
        end.write_all(&said).await.unwrap();
        if closes {
            end.shutdown().await.unwrap();
        }
        // What was said has come when it can be seen.
        if closes || !said.is_empty() {
            let state = || warm.state().rows.pulse();
            while state() == Pulse::Quiet {
                tokio::task::yield_now().await;
            }
        }
        let taken = warm.take(&asked, LONG).await;
        assert_eq!(taken.is_some(), expected, "row {n}");
        if let Some(upstream) = taken {
            assert_eq!(upstream.unread, said, "row {n}");
        }
        drop(end);
    }
}

#[tokio::test]
async fn what_is_too_old_is_closed_and_not_handed_out() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, Duration::ZERO);
    let asked = key("a");
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    assert!(warm.take(&asked, Duration::ZERO).await.is_none());
    assert_eq!(to_the_end(server.last()).await, b"X\0\0\0\x04");

    // Looked after, it goes without being asked for, and is made anew while it is of interest.
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    let logins = server.logins();
    assert!(warm.look_after().await);
    until_logins(&server, logins + 1).await;
    until_waiting(&warm, 1).await;
    assert!(server.logins() > logins);
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_closed() {
    let limits = Limits {
        interest: Duration::ZERO,
        ..Limits::default()
    };
    let warm = Arc::new(Warm::new(Limits::default()));
    let server = Fake::new(1, LONG);
    warm.ask(&key("a"), server.clone());
    until_waiting(&warm, 1).await;
    let old = warm.state().rows.expire(clock::boot(), limits);
    assert_eq!(old.len(), 1);
    assert!(warm.state().rows.is_empty());
    assert!(!warm.look_after().await);
}

#[tokio::test]
async fn no_target_gets_more_than_it_may_and_all_together_no_more_than_a_bound() {
    let warm = Arc::new(Warm::new(Limits {
        total: 3,
        keys: 4,
        ..Limits::default()
    }));
    let (one, other) = (target("one"), target("other"));
    let server = Fake::new(2, LONG);
    for startup in ["a", "b", "c"] {
        warm.ask(&key_of(&one, startup), server.clone());
    }
    until_waiting(&warm, 2).await;
    for startup in ["a", "b", "c"] {
        warm.ask(&key_of(&other, startup), server.clone());
    }
    until_waiting(&warm, 3).await;
    assert_eq!(server.logins(), 3);
    assert_eq!(warm.state().rows.keys().count(), 4);
    let none = Fake::new(0, LONG);
    warm.ask(&key("off"), none.clone());
    assert_eq!(warm.state().rows.keys().count(), 4);
    assert_eq!(none.logins(), 0);
}

#[tokio::test]
async fn a_login_that_fails_is_not_tried_again_before_a_session_asks_again() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, LONG);
    server.0.refuses.store(true, Ordering::SeqCst);
    let asked = key("a");
    for round in 1..3 {
        warm.ask(&asked, server.clone());
        until_logins(&server, round).await;
        while warm.state().rows.keys().count() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!warm.look_after().await);
        assert_eq!(server.logins(), round);
    }
}

#[tokio::test]
async fn what_a_reload_replaced_is_neither_made_nor_kept() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, LONG);
    let asked = key("a");
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    warm.forget();
    assert_eq!(warm.waiting(), 0);
    assert_eq!(to_the_end(server.last()).await, b"X\0\0\0\x04");

    server.0.is_current.store(false, Ordering::SeqCst);
    warm.ask(&asked, server.clone());
    assert_eq!(server.logins(), 1);
    assert!(warm.state().rows.is_empty());

    server.0.is_current.store(true, Ordering::SeqCst);
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    server.0.is_current.store(false, Ordering::SeqCst);
    assert!(!warm.look_after().await);
    assert_eq!(warm.waiting(), 0);
}

#[tokio::test]
async fn what_waits_under_a_credential_that_was_rotated_is_closed() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, LONG);
    let asked = key("a");
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    let end = server.last();
    let mut rotated = asked.clone();
    rotated.credential = [2; 32];
    warm.ask(&rotated, server.clone());
    assert_eq!(to_the_end(end).await, b"X\0\0\0\x04");
    until_waiting(&warm, 1).await;
    assert!(warm.take(&asked, LONG).await.is_none());
    assert!(warm.take(&rotated, LONG).await.is_some());
}

#[tokio::test]
async fn once_closed_nothing_waits_any_more() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, LONG);
    warm.ask(&key("a"), server.clone());
    until_waiting(&warm, 1).await;
    warm.close();
    assert_eq!(to_the_end(server.last()).await, b"X\0\0\0\x04");
    warm.ask(&key("a"), server.clone());
    assert_eq!(server.logins(), 1);
    assert!(warm.state().rows.is_empty());
}

#[tokio::test]
async fn a_server_without_room_gets_its_connections_back_and_is_left_alone() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, LONG);
    let asked = key("a");
    assert!(!warm.make_room("db").await);
    warm.state().paused.clear();
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    let end = tokio::spawn(to_the_end(server.last()));
    assert!(warm.make_room("db").await);
    assert_eq!(end.await.unwrap(), b"X\0\0\0\x04");
    warm.ask(&asked, server.clone());
    assert!(warm.look_after().await);
    assert_eq!((server.logins(), warm.waiting()), (1, 0));
}

#[tokio::test]
async fn a_target_whose_connections_wait_in_vain_must_be_asked_twice() {
    let warm = Arc::new(Warm::default());
    let server = Fake::new(1, Duration::ZERO);
    for n in 0..rows::IN_VAIN {
        warm.ask(&key(&n.to_string()), server.clone());
        until_waiting(&warm, 1).await;
        let all = Limits {
            interest: Duration::ZERO,
            ..Limits::default()
        };
        drop(warm.state().rows.expire(clock::boot(), all));
    }
    let logins = server.logins();
    let (server, asked) = (Fake::new(1, LONG), key("next"));
    warm.ask(&asked, server.clone());
    assert_eq!((warm.waiting(), server.logins()), (0, 0), "{logins}");
    warm.ask(&asked, server.clone());
    until_waiting(&warm, 1).await;
    assert!(warm.take(&asked, LONG).await.is_some());
    warm.ask(&key("another"), server.clone());
    until_waiting(&warm, 1).await;
}

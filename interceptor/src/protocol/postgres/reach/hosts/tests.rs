//! Servers of every kind in a row, and which of them a login ends at.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::config;
use crate::protocol::postgres::wire::backend::{Status, make_ready};
use crate::protocol::postgres::wire::error::{ErrorFields, Severity};
use crate::protocol::postgres::wire::startup::{Authentication, BackendKey};
use crate::protocol::postgres::wire::write;
use crate::tls::testing::upstream;

/// What a server does with who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Primary,
    Standby,
    /// Nobody listens.
    Gone,
    /// It listens and never says anything.
    Silent,
    /// It refuses with this SQLSTATE.
    Refuses(&'static str),
    /// It refuses newer versions so, or by going away.
    Old(Option<&'static str>),
}

struct Servers {
    places: Vec<(Host, Place)>,
    /// Kept, so that silent ones stay silent.
    _tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Servers {
    async fn new(kinds: &[Kind]) -> Self {
        let (mut places, mut tasks) = (Vec::new(), Vec::new());
        for (n, kind) in kinds.iter().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let name = Host::Name(format!("host-{n}"));
            places.push((name, listener.local_addr().unwrap().into()));
            if *kind != Kind::Gone {
                tasks.push(tokio::spawn(serve(listener, *kind)));
            }
        }
        Self {
            places,
            _tasks: tasks,
        }
    }
}

async fn serve(listener: TcpListener, kind: Kind) {
    let mut silent = Vec::new();
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        if kind == Kind::Silent {
            silent.push(socket);
            continue;
        }
        let length = socket.read_u32().await.unwrap();
        let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
        socket.read_exact(&mut startup).await.unwrap();
        let refuses = match kind {
            Kind::Refuses(state) => Some(Some(state)),
            Kind::Old(how) if !startup.starts_with(&[0, 3, 0, 0]) => Some(how),
            _ => None,
        };
        let _said = match refuses {
            Some(None) => Ok(()),
            Some(Some(state)) => {
                let fields = ErrorFields::new(Severity::Fatal, state, "no");
                socket.write_all(&fields.response()).await
            }
            None => welcome(&mut socket, kind == Kind::Standby).await,
        };
    }
}

async fn welcome(socket: &mut TcpStream, standby: bool) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    Authentication::Ok.write(&mut bytes);
    BackendKey {
        pid: 7,
        secret: zeroize::Zeroizing::new(vec![1; 4]),
    }
    .write(&mut bytes);
    bytes.extend_from_slice(&make_ready(Status::Idle));
    socket.write_all(&bytes).await?;
    let tables: [&[&[&str]]; 2] = [
        &[&["7", "public", if standby { "t" } else { "f" }, "off"]],
        &[&["f", "f"], &["pg_class"], &["wipe"]],
    ];
    for tables in tables {
        let mut header = [0; 5];
        socket.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut query = vec![0; usize::try_from(length).unwrap() - 4];
        socket.read_exact(&mut query).await?;
        let mut bytes = BytesMut::new();
        for columns in tables {
            write(&mut bytes, b'T', |to| to.put_i16(0));
            write(&mut bytes, b'D', |to| {
                to.put_i16(i16::try_from(columns.len()).unwrap());
                for column in *columns {
                    to.put_i32(i32::try_from(column.len()).unwrap());
                    to.put_slice(column.as_bytes());
                }
            });
        }
        bytes.extend_from_slice(&make_ready(Status::Idle));
        socket.write_all(&bytes).await?;
    }
    Ok(())
}

/// Dials, and remembers where to.
#[derive(Default)]
struct Loopback(Mutex<Vec<Place>>);

impl Dialler for Loopback {
    async fn dial(&self, to: Place) -> Result<TcpStream, Failed> {
        self.0.lock().unwrap().push(to);
        let dialled = TcpSocket::new_v4()
            .unwrap()
            .connect(to.inet().unwrap())
            .await;
        dialled.map_err(|source| Failed::Login(inject::Error::dial(source)))
    }
}

fn plan(servers: &Servers, attrs: &str, more: &str) -> Plan {
    let text = format!(
        "version: 1\ntargets:\n  db:\n    addresses: ['db:5432']\n    dial: {{ hosts: ['a:1', 'b:2'], {more} }}\n    \
         postgres: {{ user: u, databases: [app], session_attrs: {attrs} }}\n    tls: {{ mode: disable }}\n"
    );
    let path = std::path::Path::new("/etc/interceptor/config.yaml");
    let config = config::parse(&text, path).unwrap();
    let target = &config.targets["db"];
    Plan {
        target: Arc::clone(target),
        postgres: Arc::clone(target.postgres().unwrap()),
        tls: Arc::new(upstream(config::TlsMode::Disable, None)),
        places: servers.places.clone().into(),
        database: "app".to_owned(),
        settings: Vec::new(),
        minor: 0,
        replication: None,
        hash_key: Secret::from("key"),
        apart: None,
        learns: false,
    }
}

/// Which server a login ends at, and which were dialled for it, by their number.
async fn ends_at(
    servers: &Servers,
    plan: &Plan,
    seen: &Seen,
) -> (Result<usize, Failed>, Vec<usize>) {
    let injector = Injector::new().unwrap();
    let dialler = Loopback::default();
    let ended = plan.log_in(&injector, seen, &dialler, None, false).await;
    let number = |address: Place| {
        let mut places = servers.places.iter();
        places.position(|(_, place)| *place == address).unwrap()
    };
    let dialled = dialler.0.into_inner().unwrap();
    let ended = ended.map(|upstream| {
        let at = number(upstream.address);
        assert_eq!(upstream.host, servers.places[at].0);
        at
    });
    (ended, dialled.into_iter().map(number).collect())
}

/// What the server must be, the servers, the one it ends at, and those that were dialled.
type Row<'a> = (&'a str, &'a [Kind], Option<usize>, &'a [usize]);

#[tokio::test]
async fn a_login_ends_at_the_first_server_that_will_do() {
    use Kind::{Gone, Primary, Refuses, Silent, Standby};
    let rows: &[Row<'_>] = &[
        ("any", &[Primary, Standby], Some(0), &[0]),
        ("any", &[Gone, Primary], Some(1), &[0, 1]),
        ("any", &[Gone, Silent, Primary], Some(2), &[0, 1, 2]),
        ("any", &[Refuses("57P03"), Primary], Some(1), &[0, 1]),
        ("any", &[Refuses("53300"), Primary], Some(1), &[0, 1]),
        // As in libpq: who refuses the login is believed.
        ("any", &[Refuses("28P01"), Primary], None, &[0]),
        ("any", &[Refuses("3D000"), Primary], None, &[0]),
        ("primary", &[Standby, Primary], Some(1), &[0, 1]),
        (
            "read-write",
            &[Standby, Standby, Primary],
            Some(2),
            &[0, 1, 2],
        ),
        ("standby", &[Primary, Standby], Some(1), &[0, 1]),
        ("read-only", &[Primary, Standby], Some(1), &[0, 1]),
        ("prefer-standby", &[Primary, Standby], Some(1), &[0, 1]),
        ("prefer-standby", &[Primary, Gone], Some(0), &[0, 1, 0]),
        ("prefer-standby", &[Primary], Some(0), &[0]),
        ("primary", &[Standby, Standby], None, &[0, 1]),
        ("any", &[Gone, Gone], None, &[0, 1]),
        ("any", &[], None, &[]),
    ];
    for (n, (attrs, kinds, expected, dialled)) in rows.iter().enumerate() {
        let servers = Servers::new(kinds).await;
        // Only a silent one is not waited for.
        let patience = if kinds.contains(&Silent) { "3s" } else { "60s" };
        let plan = plan(&servers, attrs, &format!("timeout: {patience}"));
        let (ended, tried) = ends_at(&servers, &plan, &Seen::default()).await;
        assert_eq!(ended.ok(), *expected, "row {n}");
        assert_eq!(tried, *dialled, "row {n}");
    }
}

#[tokio::test]
async fn a_server_that_could_not_be_reached_is_tried_last_for_a_while() {
    let servers = Servers::new(&[Kind::Gone, Kind::Primary, Kind::Primary]).await;
    let plan = plan(&servers, "any", "order: listed");
    let seen = Seen::default();
    let (ended, tried) = ends_at(&servers, &plan, &seen).await;
    assert_eq!((ended.ok(), tried), (Some(1), vec![0, 1]));
    let (ended, tried) = ends_at(&servers, &plan, &seen).await;
    assert_eq!((ended.ok(), tried), (Some(1), vec![1]));
    // Where nothing else is left, it is tried all the same.
    let alone = Servers {
        places: servers.places[..1].to_vec(),
        _tasks: Vec::new(),
    };
    let two = Plan {
        places: [servers.places[0].clone(), servers.places[0].clone()].into(),
        ..plan.clone()
    };
    let (ended, tried) = ends_at(&alone, &two, &seen).await;
    assert!(ended.is_err());
    assert_eq!(tried, [0, 0]);
    // One that is of another kind is not dead.
    let servers = Servers::new(&[Kind::Standby, Kind::Primary]).await;
    let plan = Plan {
        places: servers.places.clone().into(),
        ..self::plan(&servers, "primary", "order: listed")
    };
    for _ in 0..2 {
        let (ended, tried) = ends_at(&servers, &plan, &seen).await;
        assert_eq!((ended.ok(), tried), (Some(1), vec![0, 1]));
    }
}

#[tokio::test]
async fn in_random_order_every_server_is_first_at_some_time() {
    let servers = Servers::new(&[Kind::Primary, Kind::Primary, Kind::Primary]).await;
    let plan = plan(&servers, "any", "order: random");
    let seen = Seen::default();
    let mut first = HashSet::new();
    while first.len() < 3 {
        let order = plan.order(&plan.places, &seen);
        first.insert(order[0].1);
        assert_eq!(order.len(), 3);
    }
    let (ended, tried) = ends_at(&servers, &plan, &seen).await;
    assert_eq!(tried, [ended.ok().unwrap()]);
}

#[tokio::test]
async fn servers_that_never_answer_take_no_longer_than_the_target_says() {
    let servers = Servers::new(&[Kind::Silent, Kind::Silent]).await;
    let plan = plan(&servers, "any", "timeout: 10ms");
    let (ended, tried) = ends_at(&servers, &plan, &Seen::default()).await;
    assert!(matches!(ended, Err(Failed::Refused(_))));
    assert_eq!(tried, [0, 1]);
}

#[tokio::test]
async fn a_server_that_cannot_negotiate_is_asked_for_the_oldest_version_and_remembered() {
    for how in [None, Some("0A000"), Some("08P01")] {
        let servers = Servers::new(&[Kind::Old(how)]).await;
        let plan = Plan {
            minor: 2,
            ..plan(&servers, "any", "order: listed")
        };
        let seen = Seen::default();
        for dialled in [&[0, 0][..], &[0]] {
            let (ended, tried) = ends_at(&servers, &plan, &seen).await;
            assert_eq!((ended.ok(), &*tried), (Some(0), dialled), "{how:?}");
        }
    }
    // What has nothing to do with the version is not tried twice.
    for state in ["28P01", "28000", "57P03"] {
        let servers = Servers::new(&[Kind::Refuses(state)]).await;
        let plan = Plan {
            minor: 2,
            ..plan(&servers, "any", "order: listed")
        };
        let (ended, tried) = ends_at(&servers, &plan, &Seen::default()).await;
        assert!(ended.is_err(), "{state}");
        assert_eq!(tried, [0], "{state}");
    }
}

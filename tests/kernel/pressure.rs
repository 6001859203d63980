//! A full table of pending records: the eldest is forgotten, and so its connection is refused and counted.

use std::net::SocketAddr;

use aya::maps::{HashMap as BpfMap, Map, MapData};
use interceptor::capture::{Error, Origin as _};
use interceptor_ebpf::MAX_PENDING;
use interceptor_ebpf::flow::{Endpoint, Flow, PendingKey};

use crate::scene::{Client, Scene, accept, is_idle, server};

/// Dials as often as its second argument says, from the address that its third names (to look for a free
/// port among those of all is slow), and holds what it dialled until its end. 24: IP_BIND_ADDRESS_NO_PORT.
const FLOOD: &str = "import resource; alone()
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192)); held = []
for _ in range(int(sys.argv[2])):
    s = socket.socket(); s.setblocking(False); s.setsockopt(0, 24, 1); s.bind((sys.argv[3], 0))
    s.connect_ex(('127.0.0.1', int(sys.argv[1]))); held.append(s)
say('dialled'); input()";

/// How many one process dials: fewer than the descriptors that any host lets it have.
const EACH: u32 = 6_000;

type Pending = BpfMap<MapData, PendingKey, Flow>;

fn pending(scene: &Scene) -> Pending {
    Map::LruHashMap(scene.pinned("PENDING")).try_into().unwrap()
}

fn flood(scene: &Scene, at: SocketAddr, connections: u32, from: u32) -> Client {
    let from = format!("127.0.{from}.1");
    let arguments = [at.port().to_string(), connections.to_string(), from];
    let mut client = scene.client(FLOOD, &arguments.each_ref().map(String::as_str));
    assert_eq!(client.line(), "dialled");
    client
}

/// What the listener may keep unaccepted, and some: from there on its SYNs are dropped, and records stay.
fn backlog() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    text.trim().parse::<u32>().unwrap().min(4_096) + 64
}

#[test]
fn a_record_that_a_full_table_forgot_is_a_refusal_that_is_counted() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let listener = &scene.listeners.as_ref().unwrap().v4;
    let queue = flood(&scene, at, backlog(), 1);
    let script =
        "alone(); s = tcp(); s.setblocking(False); s.connect_ex(('127.0.0.1', int(sys.argv[1])))
say(s.getsockname()[1]); s.settimeout(60); outcome(s.recv, 1)";
    let mut victim = scene.client(script, &[&at.port().to_string()]);
    let source: u16 = victim.line().parse().unwrap();
    // Ports alone would mix it up with one of the flood, which comes from other addresses.
    let victims = SocketAddr::from(([127, 0, 0, 1], source));
    let key = PendingKey {
        netns: scene.listeners.as_ref().unwrap().netns.0,
        client: Endpoint::v4(0x7f00_0001_u32.to_be(), source),
        listener: u32::from(scene.port()),
    };
    let table = pending(&scene);
    assert!(table.get(&key, 0).is_ok(), "its record waits");

    // Which of the old ones are forgotten first is the kernel's choice, and each processor keeps some of its own:
    // all of them are of one.
    let floods_of = MAX_PENDING.div_ceil(EACH);
    let mut floods: Vec<Client> = (0..floods_of)
        .map(|number| flood(&scene, at, EACH, number + 2))
        .collect();
    for number in floods_of..4 * floods_of {
        if table.get(&key, 0).is_err() {
            break;
        }
        floods.push(flood(&scene, at, EACH, number + 2));
    }
    let most = usize::try_from(MAX_PENDING).unwrap();
    let kept = table.keys().count();
    assert!(kept > most / 2 && kept <= most, "{kept} records");
    assert!(table.get(&key, 0).is_err(), "its record is forgotten");

    // They close, and with them go their records; the victim's SYN finds room when it is sent again.
    drop(floods);
    drop(queue);
    let refused = loop {
        let socket = accept(listener, None);
        // Those that waited have hung up.
        let from = socket.peer_addr().ok();
        match scene.capture.origin(&socket) {
            Ok(_) => assert_ne!(from, Some(victims), "a record out of nothing"),
            Err(Error::NoRecord) => break from,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(refused, Some(victims), "another's record is gone");
    assert_eq!(scene.capture.unrecorded().unwrap(), 1);
    assert!(is_idle(&target), "it went past the daemon");
    assert_eq!(victim.finish(), "ok b''");

    let client = scene.client(
        "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))",
        &[&at.port().to_string()],
    );
    assert_eq!(
        scene.accept().1.destination.0.inet().unwrap(),
        at,
        "the table has room again"
    );
    assert_eq!(client.finish(), "ok");
}

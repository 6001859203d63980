//! Tables that are full: one more is refused in words, what was before holds, and it works again once there is room.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::{HashMap as BpfMap, Map, MapData};
use interceptor::capture::{Capture, DenyReason, Error, Rule, Verdict};
use interceptor_ebpf::flow::{Endpoint, NamedKey};
use interceptor_ebpf::scope::{Listeners, Scope as Row};
use interceptor_ebpf::{MAX_NAMED, MAX_NAMESPACES, MAX_PROTECTED, MAX_SCOPES};

use crate::scene::{self, Namespace, Scene, accept, is_idle, rule, server, unique};

const DIAL: &str = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";

/// Rows of somebody else's in a table, until it is full.
struct Filled<K: Pod, V: Pod> {
    map: BpfMap<MapData, K, V>,
    rows: Vec<K>,
}

impl<K: Pod, V: Pod> Filled<K, V> {
    fn new(scene: &Scene, name: &str, most: u32, row: impl Fn(u32) -> (K, V)) -> Self {
        let map = Map::HashMap(scene.pinned(name));
        let mut map: BpfMap<MapData, K, V> = map.try_into().unwrap();
        let has = u32::try_from(map.keys().count()).unwrap();
        let mut rows = Vec::new();
        for number in has..most {
            let (key, value) = row(number);
            map.insert(key, value, 0).unwrap();
            rows.push(key);
        }
        let (key, value) = row(most);
        map.insert(key, value, 0)
            .expect_err("there is room for more");
        Self { map, rows }
    }

    fn empty(mut self) {
        for row in &self.rows {
            self.map.remove(row).unwrap();
        }
    }
}

fn is_full(refused: &Error, expected: u32) {
    let full = matches!(refused, Error::Full { most, .. } if *most == expected);
    let told = refused.to_string();
    assert!(
        full && told.contains(&format!("at most {expected} fit")),
        "{told}"
    );
}

/// A client of the scope that dials a target comes to the daemon.
fn is_redirected(scene: &Scene, cgroup: &str, at: SocketAddr) {
    let client = scene.client_at(cgroup, DIAL, &[&at.port().to_string()]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn one_scope_too_many_is_not_tagged() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let other = scene.cgroup(&unique("other"));
    let id = scene.capture.hierarchy().id(&other).unwrap();
    let row = Row { level: 1, going: 0 };
    let filled = Filled::new(&scene, "SCOPES", MAX_SCOPES, |number| {
        (u64::MAX - u64::from(number), row)
    });
    is_full(
        &scene.capture.tag(&other, "second").unwrap_err(),
        MAX_SCOPES,
    );
    assert!(!scene.layout().join(format!("scopes/{id}")).exists());
    let client = scene.client_at(&other, DIAL, &[&at.port().to_string()]);
    assert_eq!(client.finish(), "ok", "a program of the scope runs");
    assert!(!is_idle(&target), "it was redirected");
    // One that is tagged may get another name.
    scene.capture.tag(&scene.scope.path, "renamed").unwrap();
    is_redirected(&scene, &scene.scope.path, at);
    filled.empty();
    scene.capture.tag(&other, "second").unwrap();
    is_redirected(&scene, &other, at);
}

#[test]
fn one_namespace_too_many_is_not_served() {
    let scene = Scene::new();
    let (_target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let namespace = Namespace::new();
    let filled = Filled::new(&scene, "LISTENERS", MAX_NAMESPACES, |number| {
        (u64::MAX - u64::from(number), Listeners::default())
    });
    let script = format!("input(); {DIAL}; input(); {DIAL}");
    let mut client = scene.client_in(&namespace, &script, &[&at.port().to_string()]);
    let process = client.pidfd();
    let provision = || scene.capture.provision(process.as_fd());
    is_full(&provision().unwrap_err(), MAX_NAMESPACES);
    client.tell("");
    assert_eq!(client.line(), scene::told("EHOSTUNREACH"));
    is_redirected(&scene, &scene.scope.path, at);
    filled.empty();
    let listeners = provision().unwrap().unwrap();
    client.tell("");
    let socket = accept(&listeners.v4, listeners.v6.as_ref());
    drop(socket);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn targets_whose_addresses_cannot_be_protected_are_not_taken() {
    let scene = Scene::new();
    let (_target, at) = server("127.0.0.1:0");
    let (free, new) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let (high, low) = (MAX_PROTECTED >> 8, 0..=u8::MAX);
    let many = (0..high).flat_map(|high| {
        let of = move |low| SocketAddr::from(([10, 78, u8::try_from(high).unwrap(), low], 80));
        low.clone().map(of)
    });
    let many: Vec<Rule> = many.map(|to| rule(to, Verdict::Redirect)).collect();
    is_full(
        &scene.capture.set_rules(&many).unwrap_err(),
        MAX_PROTECTED / 2,
    );
    // A bit that this version does not know.
    let filled = Filled::new(&scene, "PROTECTED", MAX_PROTECTED, |number| {
        (Endpoint::v6([number; 4], 1), 1_u32 << 31)
    });
    let wanted = [rule(new, Verdict::Redirect)];
    let refused = [
        scene.capture.set_rules(&wanted).unwrap_err(),
        scene.capture.reserve(&[new]).unwrap_err(),
    ];
    for refused in refused {
        let told = refused.to_string();
        assert!(
            told.contains("PROTECTED") && told.contains("it is full"),
            "{told}"
        );
    }
    is_redirected(&scene, &scene.scope.path, at);
    assert_eq!(scene.run(DIAL, &[&new.port().to_string()]), "EPERM");
    assert!(is_idle(&free));
    filled.empty();
    scene.capture.set_rules(&wanted).unwrap();
    is_redirected(&scene, &scene.scope.path, new);
}

#[test]
fn an_address_too_many_is_not_known_by_a_name() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let (other, new) = server("127.0.0.1:0");
    scene.capture.name(scene.scope.id, &[at]).unwrap();
    let filled = Filled::new(&scene, "NAMED", MAX_NAMED, |number| {
        let key = NamedKey {
            scope: u64::MAX,
            at: Endpoint::v6([number; 4], 1),
            reserved: 0,
        };
        (key, 1_u32)
    });
    let name = || scene.capture.name(scene.scope.id, &[new]);
    is_full(&name().unwrap_err(), MAX_NAMED);
    assert_eq!(scene.run(DIAL, &[&new.port().to_string()]), "EPERM");
    is_redirected(&scene, &scene.scope.path, at);
    filled.empty();
    name().unwrap();
    is_redirected(&scene, &scene.scope.path, new);
    assert!(is_idle(&target) && is_idle(&other));
}

/// Takes up all of what a socket may have beside its buffers (`net.core.optmem_max`), by the longest filter that
/// it takes: loads from the packet, each of many instructions, and then of a constant, each of one.
pub(crate) const STUFF: &str = r"
import ctypes
def stuff(make):
    def attach(s, loads, constants):
        code = struct.pack('HBBI', 0x20, 0, 0, 0) * loads + struct.pack('HBBI', 0, 0, 0, 1) * constants
        code += struct.pack('HBBI', 6, 0, 0, 0xffff)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack('HxxxxxxQ', len(code) // 8, ctypes.addressof(buffer))
        try: s.setsockopt(1, 26, program)
        except OSError: return False
        return True
    def most(fits, high):
        low = 0
        while low < high:
            middle = (low + high + 1) // 2
            s = make()
            if fits(s, middle): low = middle
            else: high = middle - 1
            s.close()
        return low
    loads = most(lambda s, n: attach(s, n, 0), 3800)
    constants = most(lambda s, n: attach(s, loads, n), 200)
    s = make()
    if not attach(s, loads, constants): sys.exit('the same filter is not taken again')
    return s
";

/// That a client was told that there is no room, where the kernel can say so (Linux 5.18).
pub(crate) fn is_no_room(told: &str, capture: &Capture) {
    assert_eq!(told, scene::told("ENOBUFS"));
    assert!(
        capture.refused(DenyReason::Overflow).unwrap() > 0,
        "it is not counted"
    );
}

#[test]
fn a_socket_without_room_for_its_record_is_refused() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let (direct, by) = server("127.0.0.1:0");
    scene.rules(&[
        (at, Verdict::Redirect),
        (
            by,
            Verdict::Direct {
                needs_daemon: false,
            },
        ),
    ]);
    let mut events = scene.events();
    for to in [at, by] {
        let script =
            format!("{STUFF}\ns = stuff(tcp); outcome(s.connect, ('127.0.0.1', int(sys.argv[1])))");
        let told = scene.run(&script, &[&to.port().to_string()]);
        is_no_room(&told, &scene.capture);
        let denied = scene.denied(&mut events, DenyReason::Overflow);
        assert_eq!((denied.destination, denied.scope), (to, scene.scope.id));
    }
    assert!(is_idle(&target) && is_idle(&direct));
    is_redirected(&scene, &scene.scope.path, at);
}

#[test]
fn a_question_of_a_socket_without_room_for_its_record_is_not_asked() {
    let scene = Scene::new();
    let at: SocketAddr = "10.77.0.9:53".parse().unwrap();
    scene.rules(&[(at, Verdict::Resolver)]);
    let mut events = scene.events();
    let script = format!("{STUFF}\ns = stuff(udp); outcome(s.sendto, b'x', ('10.77.0.9', 53))");
    assert_eq!(scene.run(&script, &[]), "EPERM");
    scene.denied(&mut events, DenyReason::Overflow);
    let names = &scene.listeners.as_ref().unwrap().names;
    for name in names {
        assert!(name.socket.recv(&mut [0; 9]).is_err(), "it was asked");
    }
}

#[test]
fn a_socket_from_before_without_room_for_its_maker_is_bound_nowhere() {
    let mut scene = Scene::new();
    let path = scene.cgroup(&unique("late"));
    let script =
        format!("{STUFF}\ns = stuff(tcp); say('up'); input(); outcome(s.bind, ('127.0.0.1', 0))");
    let mut client = scene.client_at(&path, &script, &[]);
    assert_eq!(client.line(), "up");
    scene.capture.tag(&path, "late").unwrap();
    client.tell("");
    is_no_room(&client.line(), &scene.capture);
}

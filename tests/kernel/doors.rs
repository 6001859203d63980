//! UNIX sockets, odd families and passed sockets: what is outside of the scope stays there.

use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;

use aya::util::KernelVersion;
use interceptor::capture::{DenyReason, Guard, Settings};
use interceptor_ebpf::MAX_DOORS;

use crate::scene::{Scene, settings, unique};

/// A directory for sockets, open to everybody; gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = PathBuf::from(format!("/tmp/{}", unique("doors")));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn scene(guard: Guard) -> Scene {
    let pins = PathBuf::from("/tmp").join(unique("bpf"));
    let scene = Scene::with(&Settings {
        guard: Some(guard),
        ..settings(pins)
    });
    assert_eq!(scene.capture.guard(), guard);
    scene
}

/// Those that this kernel takes. One that lets no LSM be used has the other, which is tested then; the
/// kernel matrix has both, and a kernel before Linux 6.0, on which nothing looks at UNIX sockets.
fn guards() -> Vec<Guard> {
    let now = KernelVersion::current().unwrap();
    let mut found = Vec::new();
    if now >= KernelVersion::new(6, 7, 0) {
        found.push(Guard::Names);
    }
    if has_lsm() {
        found.push(Guard::Lsm);
    }
    let has_some = now >= KernelVersion::new(6, 0, 0);
    assert_eq!(has_some, !found.is_empty(), "{found:?}");
    found
}

/// Whether the best that this kernel has is its LSM. Where `bpf` is among its security modules nothing but a ban
/// on them keeps ours out: not the verifier, which takes what is too long for it on one kernel alone.
fn has_lsm() -> bool {
    static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *HAS.get_or_init(|| {
        let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        let has_bpf = modules.trim().split(',').any(|module| module == "bpf");
        let is_new = KernelVersion::current().unwrap() >= KernelVersion::new(6, 1, 0);
        let guard = Scene::new().capture.guard();
        assert_eq!(guard == Guard::Lsm, has_bpf && is_new, "{modules}");
        guard == Guard::Lsm
    })
}

/// Everything that can be written to a socket outside: by path, by link, by a path that is not absolute, by
/// an abstract name, as a stream, in packets, as datagrams.
const EVERY_NAME: &str = r"
path, door, drop, abstract, gram = sys.argv[1:]
os.chdir(path); os.symlink(door, 'link'); os.symlink(path, 'folder')
def stream(to, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind); s.settimeout(10); s.connect(to); s.send(b'stream')
def send(to):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'sent', to)
def connected(to):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(to); s.send(b'connected')
def fd(to):
    f = os.open(to, os.O_PATH); stream(f'/proc/self/fd/{f}')
for to in [door, 'link', './door', path + '/folder/door', path + '/../' + os.path.basename(path) + '/door']:
    outcome(stream, to)
outcome(fd, door)
outcome(stream, '\0' + abstract)
outcome(send, drop); outcome(connected, drop)
outcome(send, '\0' + gram); outcome(connected, '\0' + gram)
";

#[test]
fn no_unix_socket_outside_is_reached_by_any_name() {
    for guard in guards() {
        let scene = scene(guard);
        let mut events = scene.events();
        let place = Place::new();
        let (door, drop) = (place.at("door"), place.at("drop"));
        let (hidden, gram) = (unique("abstract"), unique("gram"));
        let listener = UnixListener::bind(&door).unwrap();
        let named = SocketAddr::from_abstract_name(&hidden).unwrap();
        let unnamed = UnixListener::bind_addr(&named).unwrap();
        let datagrams = UnixDatagram::bind(&drop).unwrap();
        let named = SocketAddr::from_abstract_name(&gram).unwrap();
        let abstracts = UnixDatagram::bind_addr(&named).unwrap();
        let path = place.0.to_string_lossy().into_owned();
        let args = [path.as_str(), &door, &drop, &hidden, &gram];
        let said = scene.run(EVERY_NAME, &args);
        assert_eq!(said, ["EPERM"; 11].join("\n"), "{guard:?}");
        listener.set_nonblocking(true).unwrap();
        unnamed.set_nonblocking(true).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        abstracts.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "{guard:?}");
        assert!(unnamed.accept().is_err(), "{guard:?}");
        assert!(datagrams.recv(&mut [0; 8]).is_err(), "{guard:?}");
        assert!(abstracts.recv(&mut [0; 8]).is_err(), "{guard:?}");
        // The interpreter's own start asks for nscd.
        let denied = loop {
            let denied = scene.denied(&mut events, DenyReason::Door);
            if denied.door.as_deref() != Some("/var/run/nscd/socket") {
                break denied;
            }
        };
        assert_eq!(denied.door.as_deref(), Some(&*door), "{guard:?}");
        assert_eq!(denied.scope, scene.scope.id);
        assert_eq!(denied.protocol, 1);
    }
}

#[test]
fn a_unix_socket_that_is_named_is_reached() {
    for guard in guards() {
        let scene = scene(guard);
        let place = Place::new();
        let (door, other) = (place.at("door"), place.at("other"));
        let hidden = unique("abstract");
        let listener = UnixListener::bind(&door).unwrap();
        let _shut = UnixListener::bind(&other).unwrap();
        let named = SocketAddr::from_abstract_name(&hidden).unwrap();
        let abstracts = UnixListener::bind_addr(&named).unwrap();
        let script = r"
for to in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX); s.settimeout(10)
    outcome(s.connect, to.replace('@', '\0')); outcome(s.sendall, b'hello') if to != sys.argv[2] else None; s.close()
";
        let names = [door.clone(), format!("@{hidden}")];
        scene.capture.set_doors(Some(&names)).unwrap();
        let args = [door.as_str(), &other, &names[1]];
        let said = scene.run(script, &args);
        assert_eq!(said, "ok\nok\nEPERM\nok\nok", "{guard:?}");
        for listener in [&listener, &abstracts] {
            let mut heard = String::new();
            let (mut client, _) = listener.accept().unwrap();
            client.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "hello");
        }
        scene.capture.set_doors(None).unwrap();
        assert_eq!(scene.run(script, &args), ["ok"; 5].join("\n"), "{guard:?}");
        scene.capture.set_doors(Some(&[])).unwrap();
        let said = scene.run(script, &args);
        assert!(said.starts_with("EPERM"), "{guard:?}: {said}");
    }
}

/// A server and a client in one scope, each kind of socket; pairs, and a descriptor that is handed over.
const AMONG_US: &str = r"
path = sys.argv[1]
for at in [path + '/own', '\0' + sys.argv[2]]:
    for kind in [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]:
        l = socket.socket(socket.AF_UNIX, kind); l.bind(at); l.listen()
        c = socket.socket(socket.AF_UNIX, kind); c.settimeout(10)
        outcome(c.connect, at)
        l.close(); at[0] == '/' and os.unlink(at)
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); d.bind(path + '/gram')
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
outcome(s.sendto, b'x', path + '/gram')
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
outcome(a.send, b'x')
a, b = socket.socketpair()
if os.fork() == 0:
    s = socket.socket(); socket.send_fds(a, [b'x'], [s.fileno()]); os._exit(0)
os.wait()
say(len(socket.recv_fds(b, 1, 1)[1]))
";

#[test]
fn within_a_scope_unix_sockets_work_where_both_ends_are_seen() {
    for guard in guards() {
        let scene = scene(guard);
        let place = Place::new();
        let path = place.0.to_string_lossy().into_owned();
        let said = scene.run(AMONG_US, &[&path, &unique("own")]);
        let expected = match guard {
            Guard::Lsm => "ok\nok\nok\nok\nok 1\nok 1\n1",
            _ => "EPERM\nEPERM\nEPERM\nEPERM\nEPERM\nok 1\n1",
        };
        assert_eq!(said, expected, "{guard:?}");
    }
}

#[test]
fn two_scopes_do_not_reach_each_others_unix_sockets() {
    for guard in guards() {
        let mut scene = scene(guard);
        let path = scene.cgroup(&unique("other"));
        scene.capture.tag(&path, "other").unwrap();
        let place = Place::new();
        let at = place.at("other");
        let serve = "l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(); say('up'); input()";
        let mut server = scene.client_at(&path, serve, &[&at]);
        assert_eq!(server.line(), "up");
        let dial =
            "s = socket.socket(socket.AF_UNIX); s.settimeout(10); outcome(s.connect, sys.argv[1])";
        assert_eq!(scene.run(dial, &[&at]), "EPERM", "{guard:?}");
        let expected = if guard == Guard::Lsm { "ok" } else { "EPERM" };
        let neighbour = scene.client_at(&path, dial, &[&at]);
        assert_eq!(neighbour.finish(), expected, "{guard:?}");
        server.tell("");
    }
}

/// What only an LSM sees is open without one, which is what the documentation says: vsock and packet
/// sockets are for the launcher to refuse.
#[test]
fn odd_families_are_refused_by_an_lsm() {
    for guard in guards() {
        let scene = scene(guard);
        let mut events = scene.events();
        let script = r"
for family, kind in [(17, 3), (38, 5), (44, 3), (31, 3), (29, 3), (15, 3), (5, 2)]:
    outcome(lambda: socket.socket(family, kind).close())
for family, kind in [(16, 3), (1, 1)]:
    outcome(lambda: socket.socket(family, kind).close())
";
        let said = scene.run(script, &[]);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(&lines[7..], ["ok", "ok"], "{guard:?}: {said}");
        if guard == Guard::Lsm {
            assert!(!lines[..7].contains(&"ok"), "{said}");
            assert_eq!(lines[0], "EPERM", "{said}");
            scene.denied(&mut events, DenyReason::SocketType);
        } else {
            assert_eq!(lines[0], "ok", "{said}");
        }
    }
}

/// Takes a descriptor of a socket in, and says what came.
const RECEIVE: &str = r"
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(); say('up')
c, _ = l.accept()
said, fds, _, _ = socket.recv_fds(c, 1, 4)
say(len(fds))
for fd in fds: os.write(fd, b'out')
";

/// Connects a socket outside and passes it in.
const PASS: &str = r"
s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1])))
u = socket.socket(socket.AF_UNIX); u.connect(sys.argv[2])
socket.send_fds(u, [b'x'], [s.fileno()])
";

#[test]
fn a_connected_socket_is_not_passed_in_past_an_lsm() {
    for guard in guards() {
        let scene = scene(guard);
        let mut events = scene.events();
        let (server, at) = crate::scene::server("127.0.0.1:0");
        let place = Place::new();
        let path = place.at("in");
        let mut inside = scene.client(RECEIVE, &[&path]);
        assert_eq!(inside.line(), "up");
        let port = at.port().to_string();
        crate::scene::Client::outside(PASS, &[&port, &path]).finish();
        let came = inside.finish();
        let mut heard = String::new();
        let (mut client, _) = server.accept().unwrap();
        client.read_to_string(&mut heard).unwrap();
        if guard == Guard::Lsm {
            assert_eq!((came.as_str(), heard.as_str()), ("0", ""));
            scene.denied(&mut events, DenyReason::Passed);
        } else {
            assert_eq!((came.as_str(), heard.as_str()), ("1", "out"));
        }
    }
}

#[test]
fn more_doors_than_fit_are_not_taken_and_those_before_are_open() {
    for guard in guards() {
        let scene = scene(guard);
        let place = Place::new();
        let door = place.at("door");
        let _listener = UnixListener::bind(&door).unwrap();
        let mut names = vec![door.clone()];
        scene.capture.set_doors(Some(&names)).unwrap();
        names.extend((0..MAX_DOORS / 2).map(|number| place.at(&number.to_string())));
        let refused = scene.capture.set_doors(Some(&names)).unwrap_err();
        let told = refused.to_string();
        assert!(
            told.contains(&format!("at most {} fit", MAX_DOORS / 2)),
            "{told}"
        );
        let dial = "outcome(socket.socket(socket.AF_UNIX).connect, sys.argv[1])";
        assert_eq!(scene.run(dial, &[&door]), "ok", "{guard:?}");
        assert_eq!(scene.run(dial, &[&place.at("0")]), "EPERM", "{guard:?}");
        names.pop();
        scene.capture.set_doors(Some(&names)).unwrap();
        assert_eq!(scene.run(dial, &[&door]), "ok", "{guard:?}");
    }
}

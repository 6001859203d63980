//! Every way in which a client can connect ends at the daemon, with its record, or is refused.

use std::net::SocketAddr;

use interceptor::capture::{DenyReason, Error, Origin as _, Rule, Verdict};

use crate::scene::{Client, Scene, accept, can_make, rule, server, unique};

/// An address that nothing answers on: what reaches it was not redirected.
const NOWHERE: &str = "10.77.0.1:5432";

/// io_uring from Python, by its system calls; one request at a time, on an async worker.
pub(crate) const URING: &str = r"
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
def v4(ip, port):
    return ctypes.create_string_buffer(struct.pack('=HH4s8x', socket.AF_INET, socket.htons(port), socket.inet_aton(ip)), 16)
def message(data, to):
    # A struct msghdr that names a destination, and what it points to.
    data = ctypes.create_string_buffer(data, len(data))
    vector = ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(data), len(data)))
    whole = ctypes.create_string_buffer(struct.pack('QI4xQQQQi4x', ctypes.addressof(to), 16, ctypes.addressof(vector), 1, 0, 0, 0), 56)
    whole.kept = (data, vector, to)
    return whole
class Ring:
    def __init__(self):
        p = ctypes.create_string_buffer(120)
        self.fd = libc.syscall(425, 8, p)
        if self.fd < 0: raise OSError(ctypes.get_errno(), 'io_uring_setup')
        w = struct.unpack_from('30I', p.raw)
        self.sq, self.cq = w[10:20], w[20:30]
        self.ring = mmap.mmap(self.fd, max(self.sq[6] + w[0] * 4, self.cq[5] + w[1] * 16), offset=0)
        self.sqes = mmap.mmap(self.fd, w[0] * 64, offset=0x10000000)
    def word(self, at): return struct.unpack_from('I', self.ring, at)[0]
    def connect(self, s, ip, port): self.submit(16, s, 16, v4(ip, port), 0, 0)
    def send(self, s, data): return self.submit(26, s, 0, ctypes.create_string_buffer(data), len(data), 0)
    def sendmsg(self, s, data, ip, port, flags=0):
        return self.submit(9, s, 0, message(data, v4(ip, port)), 1, flags)
    def submit(self, op, s, off, about, length, flags):
        at = ctypes.addressof(about)
        self.sqes[0:64] = struct.pack('=BBHiQQIIQ', op, 16, 0, s.fileno(), off, at, length, flags, 1).ljust(64, b'\0')
        tail = self.word(self.sq[1])
        struct.pack_into('I', self.ring, self.sq[6] + 4 * (tail & self.word(self.sq[2])), 0)
        struct.pack_into('I', self.ring, self.sq[1], tail + 1)
        libc.syscall(426, self.fd, 1, 1, 1, 0, 0)
        head = self.word(self.cq[0])
        _, res, _ = struct.unpack_from('=QiI', self.ring, self.cq[5] + 16 * (head & self.word(self.cq[2])))
        struct.pack_into('I', self.ring, self.cq[0], head + 1)
        if res < 0: raise OSError(-res, os.strerror(-res))
        return res
";

/// Ways to connect; each sends `hi` and waits for the end of the answer.
const WAYS: [(&str, &str); 11] = [
    ("blocking", "s = tcp(); s.connect(to)"),
    (
        "non-blocking",
        "import select\ns = tcp(); s.setblocking(False)\ns.connect_ex(to); select.select([], [s], [], 10); s.setblocking(True)",
    ),
    (
        "fast open",
        "s = tcp(); s.setblocking(True); s.sendto(b'hi', 0x20000000, to); sent = True",
    ),
    (
        "fast open with a message",
        "s = tcp(); s.setblocking(True); s.sendmsg([b'hi'], [], 0x20000000, to); sent = True",
    ),
    (
        "fast open by io_uring",
        // Without a cookie of the server's it is a connect that does not wait, and carries nothing.
        "import select\ns = tcp(); s.setblocking(True)\ntry: Ring().sendmsg(s, b'hi', *to, 0x20000000); sent = True\nexcept BlockingIOError: select.select([], [s], [], 10)",
    ),
    (
        "fast open at connect",
        "s = tcp(); s.setblocking(True); s.setsockopt(6, 30, 1); s.connect(to)",
    ),
    (
        "multipath",
        "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.connect(to)",
    ),
    (
        "io_uring",
        "s = tcp(); s.setblocking(True); Ring().connect(s, *to)",
    ),
    (
        "mapped",
        "s = tcp(socket.AF_INET6); s.connect(('::ffff:' + to[0], to[1]))",
    ),
    (
        "reconnect",
        "s = tcp(); s.connect(to); say(s.recv(2))\na = struct.pack('=H14x', 0)\nlibc.connect(s.fileno(), a, 16) == 0 or sys.exit(3)\ns.connect(to)",
    ),
    (
        "bound source",
        "s = tcp(); s.bind(('127.0.0.7', 0)); s.connect(to)",
    ),
];

#[test]
fn every_way_to_connect_ends_at_the_daemon_with_its_record() {
    let scene = Scene::new();
    let target: SocketAddr = NOWHERE.parse().unwrap();
    scene.redirect(&[target]);
    for (name, way) in WAYS.into_iter().filter(|(_, way)| can_make(way)) {
        let script = format!(
            "{URING}\nto = (sys.argv[1], int(sys.argv[2])); sent = False\n{way}\nif not sent: s.send(b'hi')\nsay(s.recv(5))"
        );
        let args = [target.ip().to_string(), target.port().to_string()];
        let client = scene.client(&script, &[&args[0], &args[1]]);
        let pid = client.pid();
        if name == "reconnect" {
            let (mut first, flow) = scene.accept();
            assert_eq!(flow.destination.0.inet().unwrap(), target, "{name}");
            std::io::Write::write_all(&mut first, b"up").unwrap();
        }
        let (mut socket, flow) = scene.accept();
        assert_eq!(flow.destination.0.inet().unwrap(), target, "{name}");
        assert_eq!(flow.process.tgid, pid, "{name}");
        assert_eq!(flow.process.comm, "python3", "{name}");
        let mut hi = [0; 2];
        std::io::Read::read_exact(&mut socket, &mut hi).expect(name);
        std::io::Write::write_all(&mut socket, b"hello").unwrap();
        drop(socket);
        assert!(client.finish().ends_with("b'hello'"), "{name}");
    }
}

/// Ways to connect where no rule leads; the argument is the port of the listener.
const REFUSED: [(&str, &str); 12] = [
    ("tcp, no rule", "tcp().connect(('10.77.0.9', 80))"),
    (
        "tcp, no rule, v6",
        "tcp(socket.AF_INET6).connect(('fd77::9', 80))",
    ),
    (
        "tcp, no rule, mapped",
        "tcp(socket.AF_INET6).connect(('::ffff:10.77.0.9', 80))",
    ),
    (
        "loopback is no exception",
        "tcp().connect(('127.0.0.1', 1))",
    ),
    (
        "the listener itself",
        "tcp().connect(('127.0.0.1', int(sys.argv[1])))",
    ),
    (
        "the listener itself, v6",
        "tcp(socket.AF_INET6).connect(('::1', int(sys.argv[1])))",
    ),
    (
        "the listener, as nobody",
        "tcp().connect(('0.0.0.0', int(sys.argv[1])))",
    ),
    (
        "fast open",
        "tcp().sendto(b'x', 0x20000000, ('10.77.0.9', 80))",
    ),
    (
        "fast open with a message",
        "tcp().sendmsg([b'x'], [], 0x20000000, ('10.77.0.9', 80))",
    ),
    ("io_uring", "Ring().connect(tcp(), '10.77.0.9', 80)"),
    (
        "fast open by io_uring",
        "Ring().sendmsg(tcp(), b'x', '10.77.0.9', 80, 0x20000000)",
    ),
    (
        "multipath",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('10.77.0.9', 80))",
    ),
];

#[test]
fn what_no_rule_covers_is_refused_at_once() {
    let scene = Scene::new();
    let mut events = scene.events();
    let port = scene.port().to_string();
    for (name, way) in REFUSED.into_iter().filter(|(_, way)| can_make(way)) {
        let printed = scene.run(&format!("{URING}\noutcome(lambda: {way})"), &[&port]);
        assert_eq!(printed, "EPERM", "{name}");
    }
    let denied = scene.denied(&mut events, DenyReason::NoRule);
    assert_eq!(denied.destination, "10.77.0.9:80".parse().unwrap());
    assert_eq!((denied.protocol, denied.scope), (6, scene.scope.id));
    assert_eq!(denied.process.comm, "python3");
    let denied = scene.denied(&mut events, DenyReason::Listener);
    assert_eq!(denied.destination.port(), scene.port());
}

#[test]
fn rules_of_one_scope_do_not_open_another() {
    let mut scene = Scene::new();
    let other = scene.cgroup(&unique("other"));
    let other = scene.capture.tag(&other, "other").unwrap();
    let target: SocketAddr = NOWHERE.parse().unwrap();
    let own = Rule {
        scope: Some(scene.scope.id),
        ..rule(target, Verdict::Redirect)
    };
    scene.capture.set_rules(&[own]).unwrap();
    let script = "outcome(tcp().connect, ('10.77.0.1', 5432))";
    let client = scene.client_at(&other.path, script, &[]);
    assert_eq!(client.finish(), "EPERM");
    let client = scene.client(script, &[]);
    assert_eq!(scene.accept().1.scope, scene.scope.id);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn the_deepest_scope_counts_and_nested_programs_agree() {
    let mut scene = Scene::new();
    let inner = scene.cgroup(&format!(
        "{}/inner",
        scene.scope.path.trim_start_matches('/')
    ));
    let deep = scene.cgroup(&format!("{inner}/deep"));
    let inner = scene.capture.tag(&inner, "inner").unwrap();
    let target: SocketAddr = NOWHERE.parse().unwrap();
    let v6: SocketAddr = "[fd77::1]:5432".parse().unwrap();
    scene.redirect(&[target, v6]);
    for (family, to) in [("socket.AF_INET", target), ("socket.AF_INET6", v6)] {
        let script = format!(
            "s = tcp({family}); outcome(s.connect, ('{}', {})); say(s.getpeername()[0])",
            to.ip(),
            to.port()
        );
        let client = scene.client_at(&deep, &script, &[]);
        let (_socket, flow) = scene.accept();
        assert_eq!(
            (flow.scope, flow.destination.0.inet().unwrap()),
            (inner.id, to)
        );
        assert_eq!(client.finish(), format!("ok\n{}", to.ip()));
    }
    let script = "outcome(tcp().connect, ('10.77.0.9', 80))";
    let client = scene.client_at(&deep, script, &[]);
    assert_eq!(client.finish(), "EPERM");
}

#[test]
fn outside_a_scope_nothing_changes() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let client = Client::outside(
        "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say(s.getpeername()[1])
u = udp(); u.bind(('127.0.0.1', 0)); v = udp(); v.sendto(b'x', u.getsockname()); say(u.recv(1))
socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        &[&at.port().to_string()],
    );
    target.accept().unwrap();
    assert_eq!(client.finish(), format!("{}\nb'x'", at.port()));
}

#[test]
fn a_stranger_at_the_listener_has_no_record() {
    let scene = Scene::new();
    let script = "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say('in'); s.recv(1)";
    let stranger = Client::outside(script, &[&scene.port().to_string()]);
    let socket = accept(&scene.listeners.as_ref().unwrap().v4, None);
    let unknown = scene.capture.origin(&socket).unwrap_err();
    assert!(matches!(unknown, Error::NoRecord), "{unknown}");
    assert_eq!(scene.capture.unrecorded().unwrap(), 1);
    drop(socket);
    assert_eq!(stranger.finish(), "in");
}

//! Ways out, one by one: each is tried from within a scope whose rules cover nothing, and the far end must have heard
//! nothing; and outside of every scope, where it must hear it, else the first would show nothing.
//!
//! What each does stands in `ways/ways.py` under its name.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aya::util::KernelVersion;
use interceptor::capture::Guard;
use interceptor::clock::boot;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use crate::scene::{Client, Namespace, Scene, run, unique};

const WAYS: &str = include_str!("ways/ways.py");

/// One scene for all that run at the same time: each only looks at its own far end.
fn scene() -> Arc<Scene> {
    static SHARED: Mutex<Weak<Scene>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let scene = Arc::new(Scene::new());
        *shared = Arc::downgrade(&scene);
        scene
    })
}

/// Who hears what comes: over TCP, over UDP, at UNIX sockets, and whatever is on the host's devices.
struct Far {
    tcp: TcpListener,
    udp: UdpSocket,
    door: UnixListener,
    letters: UnixDatagram,
    wire: OwnedFd,
    place: PathBuf,
    /// What only the one that is tried says.
    word: String,
}

impl Far {
    /// On a port that is free, on every address.
    fn new() -> Self {
        Self::at("[::]:0".parse().unwrap())
    }

    /// On a port of a service, on an address that nobody else has.
    fn service(port: u16) -> Self {
        let number = unique("").bytes().fold(7_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let [_, one, two, three] = number.to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 | (one & 0x3f), two, three.clamp(1, 254));
        Self::at(SocketAddr::from((ip, port)))
    }

    fn at(at: SocketAddr) -> Self {
        let place = PathBuf::from(format!("/tmp/{}", unique("far")));
        std::fs::create_dir(&place).unwrap();
        let open = |path: &std::path::Path| {
            let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(path, all).unwrap();
        };
        let (door, letters) = (place.join("accomplice"), place.join("letters"));
        let far = Self {
            tcp: TcpListener::bind(at).unwrap(),
            udp: UdpSocket::bind(at).unwrap(),
            door: UnixListener::bind(&door).unwrap(),
            letters: UnixDatagram::bind(&letters).unwrap(),
            wire: wire(),
            word: unique("word"),
            place,
        };
        for path in [&far.place, &door, &letters] {
            open(path);
        }
        far.tcp.set_nonblocking(true).unwrap();
        far.udp.set_nonblocking(true).unwrap();
        far.door.set_nonblocking(true).unwrap();
        far.letters.set_nonblocking(true).unwrap();
        far
    }

    /// The words that a way is tried with.
    fn words(&self, way: &str) -> [String; 6] {
        let tcp = self.tcp.local_addr().unwrap();
        let ip = match tcp.ip() {
            any if any.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            own => own.to_string(),
        };
        let udp = self.udp.local_addr().unwrap().port();
        let (word, place) = (self.word.clone(), self.place.display().to_string());
        let [tcp, udp] = [tcp.port().to_string(), udp.to_string()];
        [way.to_owned(), ip, tcp, udp, word, place]
    }

    /// Whether anything came of what was said. Whoever said it has ended.
    fn heard(&self) -> bool {
        let mut bytes = vec![0; 65_536];
        let mut came = false;
        while let Ok((mut client, _)) = self.tcp.accept() {
            client.set_nonblocking(true).unwrap();
            came |= matches!(client.read(&mut bytes), Ok(1..));
        }
        while let Ok((mut client, _)) = self.door.accept() {
            client.set_nonblocking(true).unwrap();
            came |= matches!(client.read(&mut bytes), Ok(1..));
        }
        came |= matches!(self.udp.recv(&mut bytes), Ok(1..));
        came |= matches!(self.letters.recv(&mut bytes), Ok(1..));
        let word = self.word.as_bytes();
        let flags = MsgFlags::MSG_DONTWAIT;
        while let Ok(length) = recv(self.wire.as_raw_fd(), &mut bytes, flags) {
            let packet = &bytes[..length];
            came |= packet.windows(word.len()).any(|part| part == word);
        }
        came
    }
}

impl Far {
    /// Whether it comes, on its way through devices.
    fn will_hear(&self) -> bool {
        let since = boot();
        while boot().since(since) < Duration::from_secs(10) {
            if self.heard() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.place);
    }
}

/// What hears every packet of this host.
fn wire() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let wire = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        flags,
        SockProtocol::EthAll,
    )
    .unwrap();
    setsockopt(&wire, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    wire
}

/// Who tries a way.
#[derive(Clone, Copy)]
enum By {
    /// An ordinary user.
    Anybody,
    /// Root, with all capabilities.
    Root,
}

/// What shuts it.
#[derive(Clone, Copy)]
enum Shut {
    /// The hooks that every kernel has.
    Always,
    /// What looks at UNIX sockets.
    Guard,
    /// The kernel's LSM; without one it is a limit, and the launcher's to shut.
    Lsm,
}

/// What comes of it outside of every scope.
#[derive(Clone, Copy)]
enum Free {
    /// It is heard.
    Heard,
    /// Not every host has it, or lets everybody.
    May,
}

fn script(by: By) -> String {
    let ordinary = match by {
        By::Anybody => "ordinary()",
        By::Root => "",
    };
    format!("{WAYS}\n{ordinary}\ntried()")
}

fn is_shut(scene: &Scene, shut: Shut) -> bool {
    let now = KernelVersion::current().unwrap();
    let has_some = scene.capture.guard() != Guard::None;
    assert_eq!(has_some, now >= KernelVersion::new(6, 0, 0));
    match (shut, scene.capture.guard()) {
        (Shut::Always, _) | (Shut::Guard, Guard::Lsm | Guard::Names) | (_, Guard::Lsm) => true,
        (Shut::Guard | Shut::Lsm, _) => false,
    }
}

fn shut(way: &str, far: impl Fn() -> Far, by: By, shut: Shut, free: Free) {
    let scene = scene();
    let script = script(by);
    let tried = far();
    let words = tried.words(way);
    let said = scene.run(&script, &words.each_ref().map(String::as_str));
    // An open way that is a limit of this kernel is none that is tried for nothing: see the other half.
    let must = is_shut(&scene, shut);
    assert!(!tried.heard() || !must, "the far end heard it: {said}");
    let tried = far();
    let words = tried.words(way);
    let said = Client::outside(&script, &words.each_ref().map(String::as_str)).finish();
    match free {
        Free::Heard => assert!(tried.will_hear(), "it is no way: {said}"),
        Free::May => {}
    }
}

/// A test for each.
macro_rules! ways {
    ($far:expr, $by:ident, $shut:ident: $($name:ident $free:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                shut(stringify!($name), $far, By::$by, Shut::$shut, Free::$free);
            }
        )*
    };
}

ways!(Far::new, Anybody, Always:
    tcp_over_ipv4 Heard,
    tcp_over_ipv6 Heard,
    tcp_to_a_mapped_address Heard,
    tcp_to_every_address Heard,
    tcp_to_every_address_of_ipv6 Heard,
    tcp_to_another_loopback_address Heard,
    tcp_that_does_not_wait Heard,
    fast_open_by_sendto Heard,
    fast_open_by_sendmsg Heard,
    fast_open_by_connect Heard,
    // Linux 5.10 of Debian has none.
    mptcp May,
    io_uring_connects Heard,
    io_uring_opens_fast Heard,
    a_socket_that_connects_again Heard,
    a_socket_bound_to_a_device Heard,
    a_socket_that_binds_to_what_is_not_there Heard,
    // Most hosts drop them (`accept_source_route`).
    a_source_route May,
    a_congestion_control_of_its_choice Heard,
    // Only sockets of one user share a port.
    a_port_that_is_shared May,
    a_thread Heard,
    a_child_of_a_child Heard,
    an_orphan Heard,
    another_program_after_connect Heard,
    a_preloaded_library Heard,
    // Made for one machine.
    a_static_program_out_of_memory May,
    calls_of_another_machine May,
    udp_by_sendto Heard,
    udp_by_sendmsg Heard,
    udp_many_at_once Heard,
    udp_connected Heard,
    udp_connected_then_sent_elsewhere Heard,
    udp_over_ipv6 Heard,
    udp_to_a_mapped_address Heard,
    udp_to_every_address Heard,
    udp_to_an_address_of_the_other_family Heard,
    udp_connected_to_an_address_of_the_other_family Heard,
    udp_in_segments Heard,
    udp_with_options Heard,
    udp_without_a_checksum Heard,
    udp_by_splice Heard,
    io_uring_sends_a_datagram Heard,
    io_uring_sends_on_a_connected_socket Heard,
    quic Heard,
    udplite May,
    // A group of users may (`net.ipv4.ping_group_range`).
    ping May,
    a_proxy_on_loopback Heard,
    a_user_namespace Heard,
    a_cgroup_namespace Heard,
    a_socket_taken_along_into_a_network_namespace Heard,
    a_network_stack_of_its_own Heard,
);

ways!(Far::new, Root, Always:
    a_socket_with_a_mark Heard,
    a_transparent_socket Heard,
    raw_ip Heard,
    raw_ip_with_a_header_of_its_own Heard,
    raw_ip_over_ipv6 Heard,
    raw_icmp Heard,
    raw_tcp Heard,
    // Many kernels have none of these.
    sctp May,
    sctp_in_packets May,
    dccp May,
    l2tp May,
    a_cgroup_below Heard,
    a_network_namespace_that_is_left_again Heard,
);

ways!(|| Far::service(53), Anybody, Always: dns_over_udp Heard, dns_over_tcp Heard);
ways!(|| Far::service(853), Anybody, Always: dns_over_tls Heard, dns_over_quic Heard);
ways!(|| Far::service(443), Anybody, Always: dns_over_https Heard);

ways!(Far::new, Anybody, Guard:
    a_unix_socket_of_somebody_outside Heard,
    a_unix_socket_by_a_link Heard,
    a_unix_datagram Heard,
);

ways!(Far::new, Root, Lsm:
    packets_on_a_device Heard,
    vsock May,
    smc May,
);

/// A client that offers a socket, and somebody outside who takes part.
fn handed(way: &str, accomplice: &str, shut: Shut) {
    let scene = scene();
    for is_free in [false, true] {
        let far = Far::new();
        let words = far.words(way);
        let words = words.each_ref().map(String::as_str);
        let script = script(By::Root);
        let mut client = match is_free {
            true => Client::outside(&script, &words),
            false => scene.client(&script, &words),
        };
        assert_eq!(client.line(), "ready");
        let helper = format!("{WAYS}\n{accomplice}");
        let helped = Client::outside(&helper, &words).finish();
        let said = client.finish();
        if is_free {
            assert!(far.will_hear(), "it is no way: {helped} {said}");
        } else if is_shut(&scene, shut) {
            assert!(!far.heard(), "the far end heard it: {helped} {said}");
        }
    }
}

#[test]
fn a_socket_handed_out() {
    let dials = "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(place + '/handed')
_, fds, _, _ = socket.recv_fds(s, 1, 1)
try_to(lambda: say_to(socket.socket(fileno=fds[0]), far)); s.send(b'x')";
    handed("a_socket_handed_out", dials, Shut::Always);
}

#[test]
fn a_connected_socket_handed_in() {
    let gives = "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(place + '/wanted')
c = socket.create_connection(far, 3); try_to(lambda: socket.send_fds(s, [b'x'], [c.fileno()]))";
    handed("a_connected_socket_handed_in", gives, Shut::Lsm);
}

#[test]
fn a_socket_taken_from_a_neighbour() {
    let scene = scene();
    let holds = "c = socket.create_connection(far, 3); say(os.getpid(), c.fileno()); input()";
    for is_free in [false, true] {
        let far = Far::new();
        let words = far.words("a_socket_taken_from_a_neighbour");
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut neighbour = Client::outside(&format!("{WAYS}\n{holds}"), &words);
        let line = neighbour.line();
        words.extend(line.split(' '));
        let script = script(By::Root);
        let client = match is_free {
            true => Client::outside(&script, &words),
            false => scene.client(&script, &words),
        };
        let said = client.finish();
        if is_free {
            assert!(far.heard(), "it is no way: {said}");
        } else if is_shut(&scene, Shut::Lsm) {
            assert!(!far.heard(), "the far end heard it: {said}");
        }
        neighbour.tell("");
        neighbour.finish();
    }
}

/// The end of a cable that is in the host's namespace.
struct Cable(String);

impl Cable {
    /// From this host's namespace, at 10.213.N.1, to another's, at 10.213.N.2.
    fn to(namespace: &Namespace) -> (Self, Ipv4Addr) {
        let own = unique("");
        let number = own
            .bytes()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let own = own.replace("ict-", "w").replace('-', "");
        let Namespace(inside) = namespace;
        let peer = ["peer", "name", "cable", "netns", inside];
        let add = ["link", "add", &own, "type", "veth"];
        run("ip", &[&add[..], &peer[..]].concat());
        let address = |last: u8| format!("10.213.{number}.{last}/24");
        run("ip", &["addr", "add", &address(1), "dev", &own]);
        run("ip", &["link", "set", &own, "up"]);
        let theirs = address(2);
        let theirs = ["-n", inside, "addr", "add", &theirs, "dev", "cable"];
        run("ip", &theirs);
        run("ip", &["-n", inside, "link", "set", "cable", "up"]);
        (Self(own), Ipv4Addr::new(10, 213, number, 1))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let Self(own) = self;
        let _gone = std::process::Command::new("ip")
            .args(["link", "del", own])
            .status();
    }
}

#[test]
fn a_cable_to_another_network_namespace() {
    let scene = scene();
    let namespace = Namespace::new();
    let (_cable, host) = Cable::to(&namespace);
    for way in ["tcp_over_ipv4", "udp_by_sendto", "udp_connected", "raw_ip"] {
        for is_free in [false, true] {
            let far = Far::new();
            let mut words = far.words(way);
            words[1] = host.to_string();
            let words = words.each_ref().map(String::as_str);
            let script = script(By::Root);
            let client = match is_free {
                true => Client::outside_in(&namespace, &script, &words),
                false => scene.client_in(&namespace, &script, &words),
            };
            let said = client.finish();
            match is_free {
                true => assert!(far.will_hear(), "{way} is no way: {said}"),
                false => assert!(!far.heard(), "the far end heard {way}: {said}"),
            }
        }
    }
}

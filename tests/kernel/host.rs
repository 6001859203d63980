//! The guard of the whole host: sockets from outside are no way out, and who has left a scope's cgroup has none.

use std::net::SocketAddr;

use interceptor::capture::{Capture, DenyReason, Settings, Verdict};

use crate::reuse::AS;
use crate::scene::{Client, Scene, is_idle, server, settings, unique, whole};

/// Goes where the file that its second argument names leads, with a socket from before, and dials.
const CARRY: &str = "s = tcp(); u = udp()
open(sys.argv[2], 'w').write('0'); to = ('127.0.0.1', int(sys.argv[1]))
outcome(s.connect, to); outcome(u.connect, to); outcome(u.sendto, b'x', to)";

/// Leaves for the cgroup that its second argument names, with a socket from before; a child of it does the same.
const LEAVE: &str = "held = tcp()
open(sys.argv[2], 'w').write('0'); to = ('127.0.0.1', int(sys.argv[1]))
outcome(held.connect, to)
def dial(): tcp().connect(to)
outcome(dial); outcome(udp); sys.stdout.flush()
if os.fork() == 0: outcome(dial); os._exit(0)
os.wait()
say('left'); input(); outcome(dial)";

/// Leaves likewise, and dials at each line that it is told, as does a child of it.
pub(crate) const ROAM: &str = "open(sys.argv[2], 'w').write('0'); say('left')
def dial(): tcp().connect(('127.0.0.1', int(sys.argv[1])))
for _ in sys.stdin:
    outcome(dial)
    if os.fork() == 0: outcome(dial); os._exit(0)
    os.wait()";

/// Has a child made right outside, in the cgroup whose directory its second argument is (`CLONE_INTO_CGROUP`, Linux
/// 5.7), which dials. Field 5 is the signal that its end sends, and the last the cgroup.
const BEAR: &str = "import ctypes
libc = ctypes.PyDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
outside = os.open(os.path.dirname(sys.argv[2]), os.O_RDONLY | os.O_DIRECTORY)
how = (ctypes.c_uint64 * 11)(0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, outside)
child = libc.syscall(435, how, ctypes.sizeof(how))
if child < 0: sys.exit('clone3: ' + os.strerror(ctypes.get_errno()))
if child == 0:
    say(open('/proc/self/cgroup').read().count('elsewhere'))
    outcome(lambda: tcp().connect(('127.0.0.1', int(sys.argv[1])))); os._exit(0)
os.waitpid(child, 0)";

/// As many numbers as there can be, for as long as this is kept.
struct Numbers {
    before: String,
    most: u32,
}

impl Numbers {
    const FILE: &str = "/proc/sys/kernel/pid_max";

    fn all() -> Self {
        let before = std::fs::read_to_string(Self::FILE).unwrap();
        let most = interceptor_ebpf::MAX_LINEAGE;
        std::fs::write(Self::FILE, most.to_string()).unwrap();
        Self { before, most }
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let _restored = std::fs::write(Self::FILE, &self.before);
    }
}

/// What one that roams and its child are told when they dial.
pub(crate) fn dials(client: &mut Client) -> [String; 2] {
    client.tell("go");
    [client.line(), client.line()]
}

/// A daemon that guards the host starts on the pins of the one before.
pub(crate) fn restart(scene: &mut Scene) {
    scene.kill();
    scene.capture = Capture::start(&Settings {
        host: true,
        ..settings(scene.pins.clone())
    })
    .unwrap();
}

pub(crate) fn guarded() -> Scene {
    let pins = std::env::temp_dir().join(unique("pins"));
    Scene::with(&Settings {
        host: true,
        ..settings(pins)
    })
}

pub(crate) fn words(scene: &Scene, at: SocketAddr, cgroup: &str) -> [String; 2] {
    let procs = scene.procs(cgroup).display().to_string();
    [at.port().to_string(), procs]
}

fn carried(scene: &Scene, at: SocketAddr) -> String {
    let words = words(scene, at, &scene.scope.path);
    let client = Client::outside(CARRY, &words.each_ref().map(String::as_str));
    client.finish().replace('\n', " ")
}

#[test]
fn a_socket_from_outside_connects_for_nobody_in_a_scope() {
    let scene = guarded();
    let mut events = scene.events();
    let (target, at) = server("127.0.0.1:0");
    assert_eq!(carried(&scene, at), "EPERM EPERM EPERM");
    assert!(is_idle(&target), "it was let out");
    let denied = scene.denied(&mut events, DenyReason::Passed);
    assert_eq!((denied.destination, denied.scope), (at, scene.scope.id));
}

#[test]
fn the_guard_of_the_host_is_there_while_no_daemon_is_and_goes_where_it_is_not_asked_for() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    scene.kill();
    assert_eq!(carried(&scene, at), "EPERM EPERM EPERM");
    assert!(is_idle(&target), "it was let out");
    // The next start is not told to guard the host: what is left is the limit that README states.
    scene.restart();
    assert_eq!(carried(&scene, at), "ok ok ok 1");
}

#[test]
fn who_is_moved_out_of_a_scope_and_its_children_have_no_sockets() {
    let mut scene = guarded();
    let mut events = scene.events();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let words = words(&scene, at, &elsewhere);
    let mut client = scene.client(LEAVE, &words.each_ref().map(String::as_str));
    let said: Vec<String> = (0..5).map(|_| client.line()).collect();
    assert_eq!(said, ["EPERM", "EPERM", "EPERM", "EPERM", "left"]);
    assert!(is_idle(&target), "it was let out");
    let denied = scene.denied(&mut events, DenyReason::Left);
    assert_eq!(denied.scope, scene.scope.id);
    // Its scope is no more: it is anybody's.
    let path = scene.scope.path.clone();
    scene.capture.untag(&path).unwrap();
    client.tell("go");
    assert_eq!(client.finish(), "ok");
}

#[test]
fn who_was_there_before_the_tag_is_known_when_it_leaves() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let (late, elsewhere) = (unique("late"), unique("elsewhere"));
    let (late, elsewhere) = (scene.cgroup(&late), scene.cgroup(&elsewhere));
    let script = format!("say('here'); input()\n{LEAVE}");
    let words = words(&scene, at, &elsewhere);
    let words = words.each_ref().map(String::as_str);
    let mut client = scene.client_at(&late, &script, &words);
    assert_eq!(client.line(), "here");
    scene.capture.tag(&late, "late").unwrap();
    client.tell("go");
    // What the scope's own hooks see is refused by them.
    let said: Vec<String> = (0..5).map(|_| client.line()).collect();
    assert_eq!(said, ["EPERM", "EPERM", "EPERM", "EPERM", "left"]);
    assert!(is_idle(&target), "it was let out");
}

#[test]
fn who_is_made_outside_by_who_is_inside_has_no_sockets_either() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let words = words(&scene, at, &elsewhere);
    let words = words.each_ref().map(String::as_str);
    assert_eq!(scene.run(BEAR, &words), "1\nEPERM");
    assert!(is_idle(&target), "it was let out");
    assert_eq!(Client::outside(BEAR, &words).finish(), "1\nok");
}

#[test]
fn who_has_left_is_held_when_its_scopes_cgroup_is_removed_and_by_the_next_daemon() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let gone = unique("gone");
    scene.capture.hierarchy().make(&gone).unwrap();
    scene.capture.tag(&gone, "gone").unwrap();
    let words = words(&scene, at, &elsewhere);
    let mut client = scene.client_at(&gone, ROAM, &words.each_ref().map(String::as_str));
    assert_eq!(client.line(), "left");
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    std::fs::remove_dir(scene.capture.hierarchy().directory(&gone)).unwrap();
    assert_eq!(scene.capture.scopes().unwrap().len(), 1, "it is forgotten");
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    scene.kill();
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    restart(&mut scene);
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    assert!(is_idle(&target), "it was let out");
    // Others there are as before.
    let mut other = scene.client_at(&elsewhere, ROAM, &words.each_ref().map(String::as_str));
    assert_eq!(other.line(), "left");
    assert_eq!(dials(&mut other), ["ok", "ok"]);
}

#[test]
fn who_has_left_a_scope_within_another_is_held_until_both_are_untagged() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let outer = scene.scope.path.clone();
    let inner = scene.cgroup(&format!("{outer}/inner"));
    scene.capture.tag(&inner, "inner").unwrap();
    let words = words(&scene, at, &elsewhere);
    let mut client = scene.client_at(&inner, ROAM, &words.each_ref().map(String::as_str));
    assert_eq!(client.line(), "left");
    scene.capture.untag(&inner).unwrap();
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    assert!(is_idle(&target), "it was let out");
    scene.capture.untag(&outer).unwrap();
    assert_eq!(dials(&mut client), ["ok", "ok"]);
}

#[test]
fn nobody_in_a_cgroup_is_refused_a_socket_while_it_is_untagged() {
    let scene = guarded();
    let (_target, at) = server("127.0.0.1:0");
    let direct = Verdict::Direct {
        needs_daemon: false,
    };
    scene.rules(&[(at, direct)]);
    let dials = "import threading
stop = threading.Event(); threading.Thread(target=lambda: (input(), stop.set())).start(); n = 0; seen = set()
say('here')
while not stop.is_set() or n <= 20:
    try: s = udp(); n += 1; s.close(); s = tcp(); s.close()
    except OSError as error: seen.add(errno.errorcode.get(error.errno))
say(sorted(seen))";
    let mut clients = [(); 2].map(|()| scene.client(dials, &[]));
    for client in &mut clients {
        assert_eq!(client.line(), "here");
    }
    scene.capture.untag(&scene.scope.path).unwrap();
    for mut client in clients {
        client.tell("");
        assert_eq!(client.finish(), "[]");
    }
}

#[test]
fn what_an_untag_that_was_cut_off_has_left_ends_with_the_next_start() {
    let mut scene = guarded();
    let (_target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let words = words(&scene, at, &elsewhere);
    let words = words.each_ref().map(String::as_str);
    let mut away = scene.client(ROAM, &words);
    assert_eq!(away.line(), "left");
    let mut inside = scene.client(
        &ROAM.replace("open(sys.argv[2], 'w').write('0'); ", ""),
        &words,
    );
    scene.kill();
    // The hooks are gone, and their daemon with them before it came to the rows.
    let hooks = scene.scope_pin("agent");
    std::fs::remove_dir_all(hooks.parent().unwrap()).unwrap();
    assert_eq!(dials(&mut away), ["EPERM", "EPERM"]);
    restart(&mut scene);
    assert_eq!(dials(&mut away), ["ok", "ok"]);
    assert_eq!(inside.line(), "left");
    assert_eq!(dials(&mut inside), ["ok", "ok"]);
}

#[test]
fn the_last_number_that_a_process_can_have_is_held_too() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let numbers = Numbers::all();
    let is_free = |number: &u32| !std::path::Path::new(&format!("/proc/{number}")).exists();
    let last = (1..numbers.most).rev().find(is_free).unwrap();
    let [port, procs] = words(&scene, at, &elsewhere);
    let script = whole(ROAM)
        .replace("sys.argv[2]", &format!("'{procs}'"))
        .replace("sys.argv[1]", &port);
    let mut client = scene.client(AS, &[&last.to_string(), &script]);
    assert_eq!(client.line(), "left");
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    assert!(is_idle(&target), "it was let out");
}

#[test]
fn whoever_has_the_number_of_one_that_has_ended_is_not_taken_for_it() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let late = scene.cgroup(&unique("late"));
    // One of whom a tracepoint has told, and one that the daemon has noted.
    let waits = "say('here'); input()";
    let [mut told, mut noted] = [scene.client(waits, &[]), scene.client_at(&late, waits, &[])];
    assert_eq!([told.line(), noted.line()], ["here", "here"]);
    scene.capture.tag(&late, "late").unwrap();
    for pid in [told.pid(), noted.pid()] {
        assert_ne!(scene.lineage(pid).scope, 0, "it is not known");
    }
    // /proc tells the start in hundredths of a second: the next begins in another of them.
    let since = interceptor::clock::boot();
    let long = std::time::Duration::from_millis(50);
    while interceptor::clock::boot().since(since) < long {
        std::thread::yield_now();
    }
    for client in [told, noted] {
        let number = client.pid().to_string();
        drop(client);
        let dial = whole("outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))");
        let dial = dial.replace("sys.argv[1]", &at.port().to_string());
        assert_eq!(Client::outside(AS, &[&number, &dial]).finish(), "ok");
    }
    assert!(!is_idle(&target));
}

#[test]
fn whoever_is_of_no_scope_has_its_sockets_as_before() {
    let scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let dial = "def dial(): tcp().connect(('127.0.0.1', int(sys.argv[1])))
outcome(dial)
if os.fork() == 0: outcome(dial); os._exit(0)
os.wait()";
    let port = at.port().to_string();
    assert_eq!(Client::outside(dial, &[&port]).finish(), "ok\nok");
    assert!(target.accept().is_ok());
    // And whoever is in one goes by its rules.
    let direct = Verdict::Direct {
        needs_daemon: false,
    };
    scene.rules(&[(at, direct)]);
    assert_eq!(scene.run(dial, &[&port]), "ok\nok");
    scene.redirect(&[at]);
    let client = scene.client(
        "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))",
        &[&port],
    );
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}

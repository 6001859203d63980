//! Death and return: without a daemon nothing reaches a target, and the next one takes over the pins.

#![expect(
    unsafe_code,
    reason = "a table of another version is made by the call itself"
)]

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::maps::{HashMap, Map, MapData};
use interceptor::capture::{Capture, Error, Guard, Settings, Verdict};
use interceptor_ebpf::LAYOUT;
use interceptor_ebpf::process::Lineage;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use crate::foreign::bpf;
use crate::host::{ROAM, dials, guarded, restart, words};
use crate::scene::{Client, Scene, can_say, is_idle, server, settings, told, unique};

const DIAL: &str = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";

#[test]
fn without_a_daemon_connects_to_targets_fail_at_once() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let port = at.port().to_string();
    scene.redirect(&[at]);
    scene.kill();
    assert_eq!(scene.run(DIAL, &[&port]), told("ECONNREFUSED"));
    let fast = "outcome(tcp().sendto, b'x', 0x20000000, ('127.0.0.1', int(sys.argv[1])))";
    assert_eq!(scene.run(fast, &[&port]), told("ECONNREFUSED"));
    assert!(is_idle(&target));
    scene.restart();
    let client = scene.client(DIAL, &[&port]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
    assert!(is_idle(&target));
}

/// Takes a link off its hook, as an untag does that ends there, and leaves its pin.
fn sever(pin: &std::path::Path) {
    const OBJ_GET: libc::c_int = 7;
    const LINK_DETACH: libc::c_int = 34;
    let path = std::ffi::CString::new(pin.to_str().unwrap()).unwrap();
    let mut get = [path.as_ptr().expose_provenance() as u64, 0];
    let fd = bpf(OBJ_GET, &mut get).unwrap();
    // SAFETY: the call has just made it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    bpf(LINK_DETACH, &mut link.as_raw_fd()).unwrap();
}

#[test]
fn a_scope_whose_untag_was_cut_off_between_hooks_and_pins_is_shut_by_the_next_daemon() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let port = at.port().to_string();
    scene.kill();
    let connect = scene.scope_pin("connect4");
    for entry in std::fs::read_dir(connect.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if !["agent", "configured"].contains(&path.file_name().unwrap().to_str().unwrap()) {
            sever(&path);
        }
    }
    assert_eq!(scene.run(DIAL, &[&port]), "ok", "nothing was taken off");
    assert!(target.accept().is_ok());
    scene.restart();
    assert_ne!(scene.run(DIAL, &[&port]), "ok");
    assert!(is_idle(&target));
}

#[test]
fn a_restart_finds_scopes_rules_and_ports_as_they_were() {
    let mut scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let (scopes, port) = (scene.capture.scopes().unwrap(), scene.port());
    scene.restart();
    assert_eq!(scene.capture.scopes().unwrap(), scopes);
    assert_eq!(scopes, std::slice::from_ref(&scene.scope));
    assert_eq!(scene.port(), port);
    let client = scene.client("outcome(tcp().connect, ('10.77.0.1', 5432))", &[]);
    assert_eq!(scene.accept().1.process.tgid, client.pid());
    assert_eq!(client.finish(), "ok");
}

#[test]
fn no_byte_reaches_a_target_while_daemons_come_and_go() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let script = "seen = set(); n = 0
import threading
stop = threading.Event()
threading.Thread(target=lambda: (input(), stop.set())).start()
while not stop.is_set():
    s = tcp(); n += 1
    try: s.connect(('127.0.0.1', int(sys.argv[1]))); s.send(b'secret'); seen.add('ok')
    except OSError as error: seen.add(errno.errorcode.get(error.errno))
    s.close()
say(n > 20, sorted(seen))";
    let mut client = scene.client(script, &[&at.port().to_string()]);
    for _ in 0..5 {
        let (socket, flow) = scene.accept();
        assert_eq!(flow.destination.0.inet().unwrap(), at);
        drop(socket);
        scene.restart();
    }
    client.tell("");
    let printed = client.finish();
    assert!(printed.starts_with("True"), "{printed}");
    for outcome in ["EPERM", "EHOSTUNREACH", "TimeoutError", "None"] {
        let is_told = !can_say() && outcome == "EPERM";
        assert!(is_told || !printed.contains(outcome), "{printed}");
    }
    assert!(is_idle(&target));
}

#[test]
fn an_upgrade_and_a_rollback_under_load_let_no_byte_pass_and_disturb_nobody_outside() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let port = at.port().to_string();
    scene.redirect(&[at]);
    let load = "import threading
stop = threading.Event(); threading.Thread(target=lambda: (input(), stop.set())).start(); n = 0
while not stop.is_set():
    s = tcp(); n += 1
    try: s.connect(('127.0.0.1', int(sys.argv[1]))); s.send(b'secret')
    except OSError: pass
    s.close()
say(n > 20)";
    // A session of somebody in no scope, who counts the answers.
    let (echo, to) = server("127.0.0.1:0");
    std::thread::spawn(move || {
        let (mut one, _) = echo.accept().unwrap();
        let mut other = one.try_clone().unwrap();
        std::io::copy(&mut one, &mut other)
    });
    let counts = "import threading
stop = threading.Event(); threading.Thread(target=lambda: (input(), stop.set())).start(); n = 0
s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1])))
while not stop.is_set():
    word = struct.pack('Q', n); s.sendall(word); n += 1
    if s.recv(8, socket.MSG_WAITALL) != word: sys.exit('another answer')
say(n > 20)";
    let mut clients = [
        scene.client(load, &[&port]),
        scene.client(load, &[&port]),
        Client::outside(counts, &[&to.port().to_string()]),
    ];
    for turn in 0..6 {
        let (socket, flow) = scene.accept();
        assert_eq!(flow.destination.0.inet().unwrap(), at);
        drop(socket);
        scene.kill();
        if turn % 2 == 0 {
            // The next is of a version with another layout, and so it is when the one before comes back.
            let other = scene.pins.join(format!("v{}", 900 + turn));
            std::fs::rename(scene.layout(), other).unwrap();
        }
        scene.restart();
        scene.redirect(&[at]);
    }
    for client in &mut clients {
        client.tell("");
    }
    for client in clients {
        assert_eq!(client.finish(), "True");
    }
    assert!(is_idle(&target), "a byte went past the daemons");
}

#[test]
fn who_has_left_is_held_by_a_daemon_of_another_layout() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let [gone, elsewhere] = ["gone", "elsewhere"].map(unique);
    let elsewhere = scene.cgroup(&elsewhere);
    scene.capture.hierarchy().make(&gone).unwrap();
    scene.capture.tag(&gone, "gone").unwrap();
    let words = words(&scene, at, &elsewhere);
    let words = words.each_ref().map(String::as_str);
    let mut clients = [
        scene.client(ROAM, &words),
        scene.client_at(&gone, ROAM, &words),
    ];
    for client in &mut clients {
        assert_eq!(client.line(), "left");
    }
    std::fs::remove_dir(scene.capture.hierarchy().directory(&gone)).unwrap();
    scene.kill();
    let other = scene.pins.join("v900");
    std::fs::rename(scene.layout(), &other).unwrap();
    for turn in ["before", "after"] {
        for client in &mut clients {
            assert_eq!(dials(client), ["EPERM", "EPERM"], "{turn}");
        }
        restart(&mut scene);
        assert!(!other.exists());
    }
    assert!(is_idle(&target), "it was let out");
}

#[test]
fn who_has_left_is_held_from_what_the_fifth_layout_knew() {
    let mut scene = guarded();
    let (target, at) = server("127.0.0.1:0");
    let elsewhere = scene.cgroup(&unique("elsewhere"));
    let words = words(&scene, at, &elsewhere);
    let words = words.each_ref().map(String::as_str);
    let mut client = scene.client(ROAM, &words);
    let [mut later, mut free] = [(); 2].map(|()| scene.client_at(&elsewhere, ROAM, &words));
    for client in [&mut client, &mut later, &mut free] {
        assert_eq!(client.line(), "left");
    }
    scene.kill();
    let other = scene.pins.join("v5");
    std::fs::rename(scene.layout(), &other).unwrap();
    let scope = scene.scope.id;
    let rows = [
        (client.pid(), Lineage { scope, started: 0 }),
        // It had the number of one that has ended.
        (later.pid(), Lineage { scope, started: 7 }),
        // Its scope was untagged.
        (
            free.pid(),
            Lineage {
                scope: 1,
                started: 0,
            },
        ),
    ];
    some_rows(&other.join("maps/LINEAGE"), &rows);
    restart(&mut scene);
    assert_eq!(dials(&mut client), ["EPERM", "EPERM"]);
    assert!(is_idle(&target), "it was let out");
    assert_eq!(dials(&mut later), ["ok", "ok"]);
    assert_eq!(dials(&mut free), ["ok", "ok"]);
}

/// Pins a table as layout 5 had it, with rows of some processes.
fn some_rows(pin: &std::path::Path, rows: &[(u32, Lineage)]) {
    // BPF_MAP_CREATE of a BPF_MAP_TYPE_HASH: sizes of keys and rows, and how many.
    let how: [u32; 5] = [1, 4, 16, 64, 0];
    // SAFETY: what the call takes, of the size that it is told.
    let made = unsafe { libc::syscall(libc::SYS_bpf, 0, how.as_ptr(), size_of_val(&how)) };
    let made = i32::try_from(made).unwrap();
    assert!(made >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given it to us alone.
    let map = MapData::from_fd(unsafe { OwnedFd::from_raw_fd(made) }).unwrap();
    std::fs::remove_file(pin).unwrap();
    map.pin(pin).unwrap();
    let mut map: HashMap<_, u32, Lineage> = Map::HashMap(map).try_into().unwrap();
    for (pid, row) in rows {
        map.insert(pid, row, 0).unwrap();
    }
}

#[test]
fn direct_rules_outlive_the_daemon_unless_they_need_it() {
    let mut scene = Scene::new();
    let (free, bound) = (server("127.0.0.1:0"), server("127.0.0.1:0"));
    scene.rules(&[
        (
            free.1,
            Verdict::Direct {
                needs_daemon: false,
            },
        ),
        (bound.1, Verdict::Direct { needs_daemon: true }),
    ]);
    let talk = "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say('up'); input(); s.send(b'x'); say('sent'); input()";
    let mut live = scene.client(talk, &[&bound.1.port().to_string()]);
    assert_eq!(live.line(), "up");
    let (mut socket, _) = bound.0.accept().unwrap();
    scene.kill();
    assert_eq!(scene.run(DIAL, &[&free.1.port().to_string()]), "ok");
    assert_eq!(
        scene.run(DIAL, &[&bound.1.port().to_string()]),
        told("ECONNREFUSED")
    );
    live.tell("");
    assert_eq!(live.line(), "sent");
    let moment = Some(std::time::Duration::from_millis(300));
    socket.set_read_timeout(moment).unwrap();
    assert!(std::io::Read::read(&mut socket, &mut [0]).is_err());
    scene.restart();
    assert_eq!(scene.run(DIAL, &[&bound.1.port().to_string()]), "ok");
}

#[test]
fn a_daemon_that_takes_leave_is_none_to_rules_that_need_one_although_it_still_listens() {
    let scene = Scene::new();
    let (free, bound, target) = (
        server("127.0.0.1:0"),
        server("127.0.0.1:0"),
        server("127.0.0.1:0"),
    );
    let direct = |needs_daemon| Verdict::Direct { needs_daemon };
    let rules = [
        (free.1, direct(false)),
        (bound.1, direct(true)),
        (target.1, Verdict::Redirect),
    ];
    scene.rules(&rules);
    let dial = |at: SocketAddr| scene.run(DIAL, &[&at.port().to_string()]);
    let is_led_on = || {
        let client = scene.client(DIAL, &[&target.1.port().to_string()]);
        assert_eq!(scene.accept().1.destination.0.inet().unwrap(), target.1);
        assert_eq!(client.finish(), "ok");
    };
    assert_eq!((dial(free.1), dial(bound.1)), ("ok".into(), "ok".into()));
    is_led_on();
    scene.capture.leave().unwrap();
    let both = (dial(free.1), dial(bound.1));
    assert_eq!(both, ("ok".into(), told("ECONNREFUSED").into()));
    // Who drains still refuses in words.
    is_led_on();
    scene.rules(&rules);
    assert_eq!((dial(free.1), dial(bound.1)), ("ok".into(), "ok".into()));
    assert!(is_idle(&target.0));
}

#[test]
fn a_second_daemon_on_the_same_pins_does_not_get_the_port() {
    let scene = Scene::new();
    let second = Capture::start(&settings(scene.pins.clone())).unwrap();
    let refused = second.listeners().unwrap_err();
    assert!(matches!(refused, Error::Listener { .. }), "{refused}");
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let client = scene.client("outcome(tcp().connect, ('10.77.0.1', 5432))", &[]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn pins_of_another_layout_are_taken_over() {
    let mut scene = Scene::new();
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.kill();
    // As a version of another layout would have left it: other maps, other programs, same scope.
    std::fs::rename(scene.layout(), scene.pins.join("v0")).unwrap();
    let dial = "outcome(tcp().connect, ('10.77.0.1', 5432))";
    assert_eq!(scene.run(dial, &[]), "EPERM");
    scene.restart();
    assert!(!scene.pins.join("v0").exists());
    assert_eq!(
        scene.capture.scopes().unwrap(),
        std::slice::from_ref(&scene.scope)
    );
    scene.redirect(&[at]);
    let client = scene.client(dial, &[]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn a_scope_whose_name_is_lost_stays_shut() {
    let mut scene = Scene::new();
    scene.kill();
    std::fs::remove_file(scene.scope_pin("agent")).unwrap();
    scene.restart();
    assert_eq!(scene.capture.scopes().unwrap()[0].agent, "unnamed");
    assert_eq!(
        scene.run("outcome(tcp().connect, ('10.77.0.9', 80))", &[]),
        "EPERM"
    );
}

#[test]
fn a_hook_that_cannot_be_attached_again_is_said_and_the_scope_stays_shut() {
    let scene = Scene::new();
    let pins = scene.scope_pin("agent");
    let pins = pins.parent().unwrap();
    let pinned = |path: &std::path::PathBuf| !path.ends_with("agent");
    let hooks = std::fs::read_dir(pins).unwrap();
    let mut hooks = hooks.map(|entry| entry.unwrap().path()).filter(pinned);
    let hook = hooks.next().unwrap();
    // Something else stands where a hook was.
    std::fs::remove_file(&hook).unwrap();
    std::fs::create_dir(&hook).unwrap();
    scene.capture.tag(&scene.scope.path, "tester").unwrap_err();
    assert_eq!(scene.capture.scopes().unwrap().len(), 1);
}

#[test]
fn processes_below_a_threaded_cgroup_are_listed_and_those_of_one_are_an_error() {
    let mut scene = Scene::new();
    let domain = scene.scope.path.clone();
    let threaded = scene.cgroup(&format!("{domain}/threaded"));
    let client = scene.client("sys.stdin.read()", &[]);
    let hierarchy = scene.capture.hierarchy();
    let kind = hierarchy.directory(&threaded).join("cgroup.type");
    std::fs::write(kind, "threaded").unwrap();
    assert_eq!(hierarchy.processes(&domain).unwrap(), [client.pid()]);
    hierarchy.processes(&threaded).unwrap_err();
}

#[test]
fn a_host_without_a_bpffs_gets_one() {
    let bare = || {
        // A view of the file system of its own, in which nothing is mounted on /sys/fs/bpf.
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        while nix::mount::umount("/sys/fs/bpf").is_ok() {}
        let pins = std::path::Path::new("/sys/fs/bpf").join(unique("pins"));
        let capture = Capture::start(&settings(pins.clone())).unwrap();
        assert!(pins.join(format!("v{LAYOUT}/maps/STATE")).exists());
        let path = unique("scope");
        capture.hierarchy().make(&path).unwrap();
        capture.tag(&path, "tester").unwrap();
        capture.untag(&path).unwrap();
        std::fs::remove_dir(capture.hierarchy().directory(&path)).unwrap();
    };
    std::thread::spawn(bare).join().unwrap();
}

#[test]
fn a_removed_cgroup_is_forgotten() {
    let mut scene = Scene::new();
    let path = scene.cgroup(&unique("gone"));
    scene.capture.tag(&path, "gone").unwrap();
    assert_eq!(scene.capture.scopes().unwrap().len(), 2);
    std::fs::remove_dir(scene.capture.hierarchy().directory(&path)).unwrap();
    assert_eq!(
        scene.capture.scopes().unwrap(),
        std::slice::from_ref(&scene.scope)
    );
    scene.restart();
    assert_eq!(
        scene.capture.scopes().unwrap(),
        std::slice::from_ref(&scene.scope)
    );
}

#[test]
fn what_cannot_be_a_scope_is_refused() {
    let scene = Scene::new();
    let home = scene.capture.home().to_owned();
    let rows = [
        (home.as_str(), "a", "the daemon itself lives in"),
        ("/", "a", "the daemon itself lives in"),
        ("ict-no-such-cgroup", "a", "No such file"),
        (&scene.scope.path, "", "the agent's name"),
        (&scene.scope.path, "a/b", "the agent's name"),
    ];
    for (path, agent, expected) in rows {
        let refused = scene.capture.tag(path, agent).unwrap_err().to_string();
        assert!(refused.contains(expected), "{path}: {refused}");
    }
    let unknown = scene.capture.untag("ict-no-such-cgroup").unwrap_err();
    assert!(matches!(unknown, Error::NotTagged(_)), "{unknown}");
    assert_eq!(
        scene.capture.scopes().unwrap(),
        std::slice::from_ref(&scene.scope)
    );
}

#[test]
fn without_btf_fields_are_absent_and_never_wrong() {
    let pins = std::env::temp_dir().join(unique("pins"));
    let mut scene = Scene::with(&Settings {
        btf: "/dev/null".into(),
        ..settings(pins)
    });
    // UNIX sockets are looked at no less, although no name can be read: all are refused then.
    let best = Scene::new().capture.guard();
    assert_eq!(scene.capture.guard(), best);
    let door = unique("door");
    let named =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            &door,
        )
        .unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&named).unwrap();
    let dial = "outcome(socket.socket(socket.AF_UNIX).connect, '\\0' + sys.argv[1])";
    let refused = scene.run(dial, &[&door]);
    assert_eq!(refused, if best == Guard::None { "ok" } else { "EPERM" });
    let at: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[at]);
    let client = scene.client("outcome(tcp().connect, ('10.77.0.1', 5432))", &[]);
    let (_socket, flow) = scene.accept();
    assert_eq!(
        (flow.destination.0.inet().unwrap(), flow.process.tgid),
        (at, client.pid())
    );
    assert_eq!(
        (flow.process.executable, flow.process.comm.as_str()),
        (None, "")
    );
    assert!(
        flow.process.started > flow.at,
        "an unknown start is later than any connect"
    );
    assert_eq!(client.finish(), "ok");
    // The programs of the next start are in force in the links of this one.
    scene.restart();
    let client = scene.client("outcome(tcp().connect, ('10.77.0.1', 5432))", &[]);
    let (_socket, flow) = scene.accept();
    assert!(flow.process.executable.is_some() && flow.process.started < flow.at);
    assert_eq!(client.finish(), "ok");
}

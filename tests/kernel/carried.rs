//! UNIX sockets of targets: whoever dials one is led to the daemon, which is told who it was.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use aya::maps::{HashMap as BpfMap, Map};
use interceptor::capture::{DenyReason, Error, Flow, Guard, Origin as _, Settings};
use interceptor::socket::{Place, SocketPath};
use interceptor_ebpf::door::Dial;
use interceptor_ebpf::{MAX_CARRIED, MAX_DIALS};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::full::{STUFF, is_no_room};
use crate::scene::{Namespace, Scene, alone, settings, unique};

/// A daemon's door, a target's socket with a server behind it that must hear nothing, and a directory that
/// agents can write.
struct Lab {
    scene: Scene,
    door: UnixListener,
    server: UnixListener,
    directory: PathBuf,
}

impl Lab {
    fn new(guard: Guard) -> Self {
        let scene = Scene::with(&Settings {
            guard: Some(guard),
            ..settings(PathBuf::from("/tmp").join(unique("bpf")))
        });
        let directory = PathBuf::from(format!("/tmp/{}", unique("carried")));
        std::fs::create_dir(&directory).unwrap();
        let bind = |name: &str| {
            let path = directory.join(name);
            let listener = UnixListener::bind(&path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (door, server) = (bind("door"), bind("target"));
        let lab = Self {
            scene,
            door,
            server,
            directory,
        };
        lab.carry(&["target"]);
        lab.scene
            .capture
            .set_doors(Some(&[lab.at("door")]))
            .unwrap();
        lab
    }

    fn carry(&self, targets: &[&str]) {
        let path = |name: &&str| SocketPath::new(&self.at(name)).unwrap();
        let targets: Vec<_> = targets.iter().map(path).collect();
        let capture = &self.scene.capture;
        capture.set_carried(&targets, &self.at("door")).unwrap();
    }

    fn at(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    /// What was led to the daemon, and who it was; the clients have connected already.
    fn accept(&self) -> (UnixStream, Result<Flow, Error>) {
        let (stream, _) = self.door.accept().expect("nobody was led here");
        stream.set_nonblocking(false).unwrap();
        let flow = self.scene.capture.origin(&stream);
        (stream, flow)
    }

    fn is_untouched(&self) {
        assert!(self.server.accept().is_err(), "the server was reached");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

/// Those that lead anybody anywhere on this kernel; where none can (before Linux 6.7), a target's socket is shut.
fn guards() -> Vec<Guard> {
    let scene = Scene::new();
    let (best, carries) = (scene.capture.guard(), scene.capture.carries());
    drop(scene);
    if !carries {
        if best != Guard::None {
            let lab = Lab::new(best);
            assert_eq!(lab.scene.run(DOOR, &[&lab.at("target")]), "EPERM");
            lab.is_untouched();
        }
        return Vec::new();
    }
    let mut found = vec![Guard::Names];
    found.extend((best == Guard::Lsm).then_some(best));
    found
}

/// Connects, says who it is, and stays.
const DIAL: &str = r"
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
outcome(s.connect, sys.argv[1])
say(os.getpid()); input()
outcome(lambda: say(s.recv(9).decode()))
";

#[test]
fn who_dials_a_targets_socket_is_led_to_the_daemon_and_named() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let target = lab.at("target");
        let mut client = lab.scene.client(DIAL, &[&target]);
        assert_eq!(client.line(), "ok", "{guard:?}");
        let pid: u32 = client.line().parse().unwrap();
        let (mut stream, flow) = lab.accept();
        let flow = flow.unwrap();
        let path = SocketPath::new(&target).unwrap();
        assert_eq!(flow.destination.0, Place::Unix(path), "{guard:?}");
        assert_eq!(flow.process.tgid, pid);
        assert_eq!(flow.scope, lab.scene.scope.id);
        assert_eq!(flow.process.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(flow.netns, lab.scene.listeners.as_ref().unwrap().netns);
        // A record is told once.
        assert!(matches!(
            lab.scene.capture.origin(&stream),
            Err(Error::NoRecord)
        ));
        stream.write_all(b"welcome").unwrap();
        client.tell("");
        assert_eq!(client.finish(), "welcome\nok");
        lab.is_untouched();
    }
}

/// Connects as one program, and becomes another, or hands the socket to a child and ends.
const BECOME: &str = r"
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
os.set_inheritable(s.fileno(), True)
if sys.argv[2] == 'fork':
    say(os.getpid())
    if os.fork(): os._exit(0)
    os.execv('/bin/cat', ['cat'])
say(os.getpid())
os.execv('/bin/cat', ['cat'])
";

#[test]
fn what_becomes_of_a_process_after_its_connect_makes_no_difference() {
    for guard in guards() {
        for way in ["exec", "fork"] {
            let lab = Lab::new(guard);
            let mut client = lab.scene.client(BECOME, &[&lab.at("target"), way]);
            let pid: u32 = client.line().parse().unwrap();
            // It is another program, or has ended, by the time that it is looked at.
            client.tell("cat");
            assert_eq!(client.line(), "cat");
            let (_stream, flow) = lab.accept();
            let process = flow.unwrap().process;
            assert_eq!((process.tgid, guard), (pid, guard), "{way}");
            assert!(process.comm.starts_with("python"), "{way}: {process:?}");
            lab.is_untouched();
        }
    }
}

/// Many at once, each with its own number; half of them end at once.
const CROWD: &str = r"
import threading
socks = []
def dial():
    s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]); s.send(str(os.getpid()).encode()); socks.append(s)
children = []
for n in range(8):
    child = os.fork()
    if child == 0:
        threads = [threading.Thread(target=dial) for _ in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)
say('done')
";

#[test]
fn each_of_a_crowd_is_named_although_it_has_ended() {
    for guard in guards() {
        let lab = Lab::new(guard);
        assert_eq!(lab.scene.run(CROWD, &[&lab.at("target")]), "done");
        for _ in 0..64 {
            let (mut stream, flow) = lab.accept();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            let flow = flow.unwrap();
            assert_eq!(flow.process.tgid.to_string(), said, "{guard:?}");
        }
        assert!(lab.door.accept().is_err(), "somebody else came");
        lab.is_untouched();
    }
}

#[test]
fn a_dial_whose_record_a_full_table_forgot_is_refused_and_counted() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let script = format!("alone()\n{DIAL}");
        let mut client = lab.scene.client(&script, &[&lab.at("target")]);
        assert_eq!(client.line(), "ok", "{guard:?}");
        alone();
        let map = Map::LruHashMap(lab.scene.pinned("DIALS"));
        let mut dials: BpfMap<_, u64, Dial> = map.try_into().unwrap();
        let own = dials.keys().next().unwrap().unwrap();
        let dial = dials.get(&own, 0).unwrap();
        let mut number = 0;
        while dials.get(&own, 0).is_ok() {
            number += 1;
            assert!(number < 8 * MAX_DIALS, "the table forgets nothing");
            dials.insert(u64::MAX - u64::from(number), dial, 0).unwrap();
        }
        let capture = &lab.scene.capture;
        assert_eq!(capture.unrecorded().unwrap(), 0);
        assert!(matches!(lab.accept().1, Err(Error::NoRecord)), "{guard:?}");
        assert_eq!(capture.unrecorded().unwrap(), 1, "it is not counted");
        drop(client);
        let client = lab.scene.client(DIAL, &[&lab.at("target")]);
        let pid = client.pid();
        wait_for(&lab.door);
        assert_eq!(lab.accept().1.unwrap().process.tgid, pid);
        lab.is_untouched();
    }
}

/// Waits until somebody is led to the daemon.
fn wait_for(door: &UnixListener) {
    let mut waiting = [PollFd::new(door.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut waiting, PollTimeout::from(20_000_u16)).unwrap();
    assert_ne!(ready, 0, "nobody was led here");
}

#[test]
fn more_targets_than_fit_are_not_taken_and_those_before_are_led_on() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let many: Vec<String> = (0..MAX_CARRIED / 2)
            .map(|number| format!("t{number}"))
            .collect();
        let many = many
            .iter()
            .map(|name| SocketPath::new(&lab.at(name)).unwrap());
        let many: Vec<_> = many.collect();
        let capture = &lab.scene.capture;
        let refused = capture.set_carried(&many, &lab.at("door")).unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        let told = refused.to_string();
        assert!(
            told.contains(&format!("at most {}", MAX_CARRIED / 2)),
            "{told}"
        );
        let mut client = lab.scene.client(DIAL, &[&lab.at("target")]);
        assert_eq!(client.line(), "ok", "{guard:?}");
        lab.accept().1.unwrap();
        let fewer = many.get(1..).unwrap();
        capture.set_carried(fewer, &lab.at("door")).unwrap();
        lab.is_untouched();
    }
}

#[test]
fn a_socket_without_room_for_its_record_is_not_led_on() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let mut events = lab.scene.events();
        let script = format!(
            "{STUFF}\nunix = lambda: socket.socket(socket.AF_UNIX)\ns = stuff(unix); outcome(s.connect, sys.argv[1])"
        );
        let target = lab.at("target");
        let told = lab.scene.run(&script, &[&target]);
        is_no_room(&told, &lab.scene.capture);
        let denied = lab.scene.denied(&mut events, DenyReason::Overflow);
        assert_eq!(denied.door.as_deref(), Some(&*target), "{guard:?}");
        assert!(lab.door.accept().is_err());
        lab.is_untouched();
    }
}

/// The daemon's own door, by whoever was not led there; and by a socket that was led there before.
const DOOR: &str = r"
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
outcome(s.connect, sys.argv[1])
";

#[test]
fn who_dials_the_daemons_own_door_is_nobody() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let said = lab.scene.run(DOOR, &[&lab.at("door")]);
        assert_eq!(said, "EPERM", "{guard:?}");
        assert!(lab.door.accept().is_err(), "{guard:?}");
        let outside = UnixStream::connect(lab.at("door")).unwrap();
        assert!(matches!(lab.accept().1, Err(Error::NoRecord)));
        drop(outside);
        lab.is_untouched();
    }
}

/// A first connect that finds nobody, then another program that dials the door itself with the same socket.
const AGAIN: &str = r"
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
outcome(s.connect, sys.argv[1])
os.set_inheritable(s.fileno(), True)
say('first'); input()
import shutil
code = 'import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.connect(sys.argv[2]); print(\'second\', flush=True); input()'
os.execv(sys.argv[3], ['other', '-c', code, str(s.fileno()), sys.argv[2]])
";

#[test]
fn a_socket_that_dials_again_is_whoever_dials_then() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let other = lab.directory.join("other-program");
        std::fs::copy("/usr/bin/python3", &other).unwrap();
        let other = other.to_string_lossy().into_owned();
        // The daemon is away at first.
        std::fs::rename(lab.at("door"), lab.at("away")).unwrap();
        let args = [lab.at("target"), lab.at("door"), other];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut client = lab.scene.client(AGAIN, &args);
        assert_eq!(client.line(), "ENOENT", "{guard:?}");
        assert_eq!(client.line(), "first");
        std::fs::rename(lab.at("away"), lab.at("door")).unwrap();
        client.tell("");
        assert_eq!(client.line(), "second");
        let (_stream, flow) = lab.accept();
        let flow = flow.unwrap();
        let path = SocketPath::new(&lab.at("target")).unwrap();
        assert_eq!(flow.destination.0, Place::Unix(path));
        assert!(flow.process.comm.starts_with("other"), "{flow:?}");
        client.tell("");
        lab.is_untouched();
    }
}

#[test]
fn without_a_daemon_a_targets_socket_is_shut() {
    for guard in guards() {
        let mut lab = Lab::new(guard);
        let target = lab.at("target");
        lab.scene.kill();
        let gone = UnixListener::bind(lab.at("gone")).unwrap();
        drop(std::mem::replace(&mut lab.door, gone));
        assert_eq!(lab.scene.run(DOOR, &[&target]), "ECONNREFUSED", "{guard:?}");
        lab.is_untouched();
    }
}

#[test]
fn a_socket_that_is_no_target_any_more_is_shut_like_any_other() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let mut events = lab.scene.events();
        lab.carry(&[]);
        let target = lab.at("target");
        assert_eq!(lab.scene.run(DOOR, &[&target]), "EPERM", "{guard:?}");
        let denied = loop {
            let denied = lab.scene.denied(&mut events, DenyReason::Door);
            if denied.door.as_deref() == Some(&*target) {
                break denied;
            }
        };
        assert_eq!(denied.scope, lab.scene.scope.id);
        lab.is_untouched();
    }
}

#[test]
fn other_spellings_of_a_targets_socket_lead_nowhere() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let script = r"
os.chdir(sys.argv[1]); os.symlink('target', 'link')
f = os.open('target', os.O_PATH)
for to in ['target', './target', sys.argv[1] + '/./target', sys.argv[1] + '/link', f'/proc/self/fd/{f}']:
    s = socket.socket(socket.AF_UNIX); s.settimeout(10)
    outcome(s.connect, to)
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
outcome(lambda: d.sendto(b'x', sys.argv[1] + '/target') and None)
";
        let directory = lab.directory.to_string_lossy().into_owned();
        let said = lab.scene.run(script, &[&directory]);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[..5], ["EPERM"; 5], "{guard:?}: {said}");
        assert_ne!(lines[5], "ok", "{guard:?}: {said}");
        assert!(lab.door.accept().is_err());
        lab.is_untouched();
    }
}

#[test]
fn who_has_a_network_namespace_of_his_own_is_named_with_it() {
    for guard in guards() {
        let lab = Lab::new(guard);
        let netns = Namespace::new();
        let mut client = lab.scene.client_in(&netns, DIAL, &[&lab.at("target")]);
        assert_eq!(client.line(), "ok");
        let (_stream, flow) = lab.accept();
        let own = lab.scene.listeners.as_ref().unwrap().netns;
        assert_ne!(flow.unwrap().netns, own, "{guard:?}");
        client.tell("");
        lab.is_untouched();
    }
}

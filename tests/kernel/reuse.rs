//! A number that is given to another process: what the kernel stamped of the first names nobody any more.

use std::net::SocketAddr;
use std::time::Duration;

use interceptor::capture::{Denied, DenyReason, Flow};
use interceptor::clock::boot;
use interceptor::identity::runtimes::Runtimes;
use interceptor::identity::{Identifier, ScopeOf};

use crate::scene::Scene;

/// Connects, is refused something, and stays.
const DIAL: &str = "s = tcp(); s.connect(('10.77.0.1', 5432))
outcome(tcp().connect, ('10.77.0.9', 80)); say(os.getpid()); input()";

/// Starts the same program under a number of its choice, as `clone3` lets root (Linux 5.5); field 5 is the
/// signal that its end sends, and the last two are the number. `PyDLL`, since a child without the thread that
/// holds the interpreter's lock could never take it.
pub(crate) const AS: &str = r"
import ctypes
libc = ctypes.PyDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
numbers = (ctypes.c_int32 * 1)(int(sys.argv[1]))
how = (ctypes.c_uint64 * 10)(0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(numbers), 1)
child = libc.syscall(435, how, ctypes.sizeof(how))
if child < 0: sys.exit('clone3: ' + os.strerror(ctypes.get_errno()))
if child == 0: os.execv('/usr/bin/python3', ['/usr/bin/python3', '-I', '-c', sys.argv[2]])
os.waitpid(child, 0)
";

/// What one process was stamped with, twice.
struct Stamped {
    flow: Flow,
    denied: Denied,
}

/// What identity says of a flow, and of a refusal: nothing where it names somebody.
fn told(identifier: &Identifier, stamped: &Stamped, scope: &ScopeOf) -> [Option<&'static str>; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let Stamped { flow, denied } = stamped;
    runtime.block_on(async {
        let connected = identifier.identify(flow, scope).await;
        let refused = identifier.of_refusal(denied, scope).await;
        [
            connected.err().map(|error| error.reason()),
            refused.err().map(|error| error.reason()),
        ]
    })
}

#[test]
fn a_number_that_is_another_processs_by_now_names_nobody() {
    let scene = Scene::new();
    let target: SocketAddr = "10.77.0.1:5432".parse().unwrap();
    scene.redirect(&[target]);
    let mut events = scene.events();
    let mut stamped = || {
        let (socket, flow) = scene.accept();
        let denied = scene.denied(&mut events, DenyReason::NoRule);
        (socket, Stamped { flow, denied })
    };
    let mount = scene.capture.hierarchy().mount();
    let of = || Identifier::new(mount, Runtimes::default()).unwrap();
    let (identifier, scope_of) = (of(), ScopeOf::from(&scene.scope));

    let mut first = scene.client(DIAL, &[]);
    let (_socket, before) = stamped();
    let pid = first.pid();
    assert_eq!(
        (before.flow.process.tgid, before.denied.process.tgid),
        (pid, pid)
    );
    assert_eq!(told(&identifier, &before, &scope_of), [None, None]);
    assert_eq!(first.line(), "EPERM");
    assert_eq!(first.line(), pid.to_string());
    drop(first);
    let gone = Some("gone");
    assert_eq!(told(&identifier, &before, &scope_of), [gone, gone]);

    // /proc tells the start in hundredths of a second: the second begins in another of them.
    while boot().since(before.flow.process.started) < Duration::from_millis(50) {
        std::thread::yield_now();
    }
    let script = crate::scene::whole(DIAL);
    let mut second = scene.client(AS, &[&pid.to_string(), &script]);
    let (_socket, after) = stamped();
    assert_eq!(second.line(), "EPERM");
    assert_eq!(second.line(), pid.to_string(), "another number");
    let (one, other) = (&before.flow.process, &after.flow.process);
    assert_eq!(
        (other.tgid, other.executable, other.cgroup, other.uid),
        (one.tgid, one.executable, one.cgroup, one.uid),
        "only the start tells them apart"
    );
    assert!(one.started < other.started);
    let replaced = Some("replaced");
    for identifier in [identifier, of()] {
        assert_eq!(told(&identifier, &before, &scope_of), [replaced, replaced]);
        assert_eq!(told(&identifier, &after, &scope_of), [None, None]);
    }
    second.tell("");
    second.finish();
}

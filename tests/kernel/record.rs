//! The record: what the kernel knew at `connect()` is what the accepted socket tells.

use crate::scene::{Scene, server};

#[test]
fn an_accepted_socket_tells_where_it_was_going_and_who_opened_it() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let client = scene.client(
        "s = tcp(); s.connect(('127.0.0.1', int(sys.argv[1]))); say(s.getpeername()); say(s.recv(5))",
        &[&at.port().to_string()],
    );
    let pid = client.pid();
    let (mut socket, flow) = scene.accept();
    std::io::Write::write_all(&mut socket, b"hello").unwrap();
    assert_eq!(flow.destination.0, at);
    assert_eq!(flow.process.tgid, pid);
    assert_eq!(flow.scope, scene.scope.id);
    assert_eq!(flow.process.cgroup, scene.scope.id);
    assert_eq!(flow.process.uid, 0);
    assert_eq!(flow.process.comm, "python3");
    assert_eq!(flow.netns, scene.listeners.as_ref().unwrap().netns);
    assert!(flow.process.executable.is_some());
    assert!(flow.process.started < flow.at);
    let printed = client.finish();
    assert_eq!(printed, format!("('127.0.0.1', {})\nb'hello'", at.port()));
    assert!(crate::scene::is_idle(&target));
}

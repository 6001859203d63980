//! Who is believed to be at the other end.

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::*;

#[test]
fn the_number_of_a_caller_that_has_been_reaped_is_not_believed() {
    // Whoever has the number lives, and is of the same user.
    let (pid, uid) = (std::process::id(), nix::unistd::Uid::effective().as_raw());
    for errno in [Errno::EINVAL, Errno::ESRCH, Errno::ENODATA, Errno::EMFILE] {
        assert!(hold(Err(errno), pid, uid).is_none(), "{errno}");
    }
    assert!(hold(Err(Errno::ENOPROTOOPT), pid, uid).is_some());
    assert!(hold(Err(Errno::ENOPROTOOPT), pid, uid + 1).is_none());
}

#[test]
fn a_caller_that_has_ended_is_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let script = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); os.set_inheritable(s.fileno(), True)
if os.fork() == 0: print('x', flush=True); sys.stdin.read()";
    let mut child = Command::new("/usr/bin/python3")
        .args(["-I", "-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _): (UnixStream, _) = listener.accept().unwrap();
    let input = child.stdin.take();
    child.wait().unwrap();
    // Its child has the socket still; who connected is gone.
    let given = getsockopt(&stream.as_fd(), PeerPidfd);
    let held = hold(given, child.id(), 0);
    assert!(held.is_none_or(|held| !pidfd::is_alive(&held)));
    drop(input);
}

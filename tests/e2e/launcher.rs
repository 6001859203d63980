//! `interceptor run`: what a command is left with, and what it is not.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Process, place};

use crate::lab::{Lab, has, refused};

/// Runs a script by `interceptor run`, as the agent's ordinary user or as root.
fn run(lab: &Lab, root: bool, script: &str, words: &[&str]) -> Result<Finished> {
    let user = nix::unistd::User::from_uid(lab.agent().uid().into())?;
    let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
    let mut line = vec!["run", "--agent", "passing"];
    if !root {
        line.extend(["--user", &user]);
    }
    line.extend(["--", "/usr/bin/python3", "-I", "-c", script]);
    line.extend(words);
    lab.daemon.cli(&line)
}

/// What a script printed last, which is JSON.
fn said(finished: Finished) -> Result<Value> {
    let output = finished.ok()?;
    let line = output.lines().last().context("it said nothing")?;
    serde_json::from_str(line).with_context(|| output.clone())
}

/// Everything that the kernel says of the process itself.
const STATUS: &str = r"
import json, os
status = dict(line.rstrip('\n').split(':\t', 1) for line in open('/proc/self/status') if ':\t' in line)
print(json.dumps({
    'capabilities': [status['Cap' + of].strip() for of in ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']],
    'privileges': status['NoNewPrivs'].strip(), 'filter': status['Seccomp'].strip(),
    'descriptors': sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3],
    'open': len(os.listdir('/proc/self/fd')),
    'namespace': os.readlink('/proc/self/ns/mnt'),
    'processes': sorted(int(pid) for pid in os.listdir('/proc') if pid.isdigit()), 'own': os.getpid(),
}))
";

#[test]
fn a_command_has_no_capability_no_new_privilege_and_a_filter() -> Result<()> {
    let lab = Lab::new()?;
    let outside = std::fs::read_link("/proc/self/ns/mnt")?;
    for root in [false, true] {
        let status = said(run(&lab, root, STATUS, &[])?)?;
        let none = "0000000000000000";
        ensure!(
            status["capabilities"] == serde_json::json!(vec![none; 5]),
            "{status}"
        );
        ensure!(
            status["privileges"] == "1" && status["filter"] == "2",
            "{status}"
        );
        // The fourth is the listing's own.
        ensure!(status["open"] == 4, "{status}");
        ensure!(
            status["namespace"] != *outside.to_string_lossy(),
            "{status}"
        );
        ensure!(
            status["processes"] == serde_json::json!([status["own"]]),
            "others' processes are seen: {status}"
        );
    }
    Ok(())
}

/// Tries what the filter, the mounts and the domain refuse; prints what came of each.
const TRY: &str = r"
import ctypes, errno, json, mmap, os, signal, socket, struct, sys, fcntl
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(number, *arguments)
    return 'done' if answer >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(f, *arguments):
    try:
        f(*arguments)
        return 'done'
    except OSError as error:
        return errno.errorcode[error.errno]
def old_call():
    # getpid() as a program of 32 bits would call it.
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')
    f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    answer = f()
    return 'done' if answer > 0 else errno.errorcode[-answer]
def make(family, kind, protocol=0):
    return attempt(lambda: socket.socket(family, kind, protocol).close())
neighbour, state, config, door, mine = int(sys.argv[1]), *sys.argv[2:6]
def into_cgroup():
    for line in open('/proc/self/mountinfo'):
        if ' - cgroup' in line:
            with open(line.split()[4] + '/cgroup.procs', 'w') as f: f.write('0')
def connect(to):
    s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(to)
print(json.dumps({
    'packet': make(17, 3), 'vsock': make(40, 1), 'raw': make(2, 3, 1), 'alg': make(38, 5),
    'netlink diag': make(16, 3, 4), 'route': make(16, 3, 0), 'sctp': make(2, 5, 132), 'tcp': make(2, 1), 'udp6': make(10, 2),
    'bpf': call(321, 0, 0, 0), 'uring': call(425, 4, ctypes.create_string_buffer(120)), 'perf': call(298, 0, 0, 0, 0, 0),
    'key': call(249, b'user', b'x', 0, 0), 'keyctl': call(250, 0, 0), 'fsopen': call(430, b'tmpfs', 0),
    'mount': call(165, b'x', b'/mnt', b'tmpfs', 0, 0), 'chroot': call(161, b'/'),
    'user namespace': call(272, 0x10000000), 'network namespace': call(272, 0x40000000), 'clone3': call(435, 0, 0),
    'setns': call(308, os.open('/proc/self/ns/net', 0), 0),
    'x32': call(0x40000000 + 39), 'i386': old_call(),
    'terminal': attempt(fcntl.ioctl, 0, 0x5412, b'x'),
    'attach': call(101, 16, neighbour, 0, 0), 'signal': attempt(os.kill, neighbour, signal.SIGTERM),
    'memory': attempt(open, f'/proc/{neighbour}/mem'), 'root': attempt(os.listdir, f'/proc/{neighbour}/root'),
    'descriptor': call(438, libc.syscall(434, neighbour, 0), 0, 0),
    'state': attempt(lambda: open(state + '/audit.key').read()), 'authority': attempt(lambda: open(state + '/ca.pem').read()),
    'config': len(open(config).read()) if os.access(config, os.R_OK) else 0,
    'cgroup': attempt(into_cgroup), 'door': attempt(connect, door),
}))
";

#[test]
fn a_command_finds_the_doors_shut() -> Result<()> {
    let lab = Lab::new()?;
    let place = place::temporary("door")?;
    let door = place.path().join("door");
    let listener = UnixListener::bind(&door)?;
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    for root in [false, true] {
        // A neighbour of the same user, outside of the scope.
        let uid = if root { 0 } else { lab.agent().uid() };
        let outside = support::Agent::outside().as_uid(uid);
        let neighbour = outside.start("/bin/cat", &[])?;
        let pid = neighbour.pid().to_string();
        let state = lab.daemon.state().to_string_lossy().into_owned();
        let config = lab.daemon.config().to_string_lossy().into_owned();
        let door = door.to_string_lossy().into_owned();
        let words = [pid.as_str(), &state, &config, &door, ""];
        let found = said(run(&lab, root, TRY, &words)?)?;
        for (what, expected) in [
            ("packet", "EAFNOSUPPORT"),
            ("vsock", "EAFNOSUPPORT"),
            ("raw", "EPERM"),
            ("alg", "EAFNOSUPPORT"),
            ("netlink diag", "EPROTONOSUPPORT"),
            ("route", "done"),
            ("sctp", "EPERM"),
            ("tcp", "done"),
            ("udp6", "done"),
            ("bpf", "EPERM"),
            ("uring", "EPERM"),
            ("perf", "EPERM"),
            ("key", "EPERM"),
            ("keyctl", "EPERM"),
            ("fsopen", "EPERM"),
            ("mount", "EPERM"),
            ("chroot", "EPERM"),
            ("user namespace", "EPERM"),
            ("network namespace", "EPERM"),
            ("clone3", "ENOSYS"),
            ("setns", "EPERM"),
            ("x32", "ENOSYS"),
            ("i386", "ENOSYS"),
            ("terminal", "EPERM"),
            ("attach", "EPERM"),
            ("signal", "EPERM"),
            ("memory", "ENOENT"),
            ("root", "ENOENT"),
            ("descriptor", "EPERM"),
            ("state", "ENOENT"),
            ("authority", "done"),
            ("cgroup", "EROFS"),
        ] {
            ensure!(found[what] == expected, "{what}, root {root}: {found}");
        }
        ensure!(found["config"] == 0, "the configuration is seen: {found}");
        ensure!(found["door"] != "done", "the door is open: {found}");
        ensure!(listener.accept().is_err(), "somebody came through the door");
        ensure!(!neighbour.is_over(), "the neighbour was ended");
    }
    Ok(())
}

/// Waits for a word, then tries what was hidden, and what the kernel would run or do.
const LATER: &str = r"
import errno, json, os, sys
print('up', flush=True)
sys.stdin.readline()
def attempt(path, flags):
    try:
        os.close(os.open(path, flags)); return 'done'
    except OSError as error:
        return errno.errorcode[error.errno]
write = os.O_WRONLY
print(json.dumps({
    'secret': attempt(sys.argv[1], os.O_RDONLY), 'pattern': attempt('/proc/sys/kernel/core_pattern', write),
    'trigger': attempt('/proc/sysrq-trigger', write), 'helper': attempt('/sys/kernel/rcu_expedited', write),
    'own': attempt('/proc/self/oom_score_adj', write),
}), flush=True)
";

#[test]
fn what_is_hidden_stays_so_when_it_is_replaced_and_the_kernel_takes_no_orders() -> Result<()> {
    let lab = Lab::new()?;
    let secret = lab.daemon.secret("shop");
    let socket = lab.daemon.run_directory().join("control.sock");
    let mut command = Command::new(place::interceptor()?);
    command
        .args(["run", "--agent", "passing", "--socket"])
        .arg(&socket)
        .args(["--", "/usr/bin/python3", "-I", "-c", LATER])
        .arg(&secret)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let mut process = Process::start(command)?;
    process.await_text("up", DEADLINE)?;
    let new = secret.with_extension("new");
    std::fs::write(&new, "rotated")?;
    std::fs::rename(&new, &secret)?;
    process.send("\n")?;
    let found = said(process.finish(DEADLINE)?)?;
    for (what, expected) in [
        ("secret", "ENOENT"),
        ("pattern", "EROFS"),
        ("helper", "EROFS"),
        ("own", "done"),
    ] {
        ensure!(found[what] == expected, "{what}: {found}");
    }
    // Not every kernel has it.
    ensure!(
        found["trigger"] == "EROFS" || found["trigger"] == "ENOENT",
        "{found}"
    );
    Ok(())
}

/// The same with what a program may do for its own purposes.
const OWN: &str = r"
import ctypes, json, multiprocessing, os, signal, subprocess, sys, threading
def work(queue): queue.put(os.getpid())
queue = multiprocessing.get_context('fork').Queue()
child = multiprocessing.get_context('fork').Process(target=work, args=(queue,)); child.start()
told = queue.get(timeout=20); child.join()
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
sleeper = subprocess.Popen(['/bin/cat'], stdin=subprocess.PIPE)
libc = ctypes.CDLL(None, use_errno=True)
attached = libc.ptrace(16, sleeper.pid, 0, 0)
os.waitpid(sleeper.pid, 0) if attached == 0 else None
if attached == 0: libc.ptrace(17, sleeper.pid, 0, 0)
sleeper.send_signal(signal.SIGTERM); sleeper.wait()
print(json.dumps({'child': told == child.pid, 'attached': attached, 'ended': sleeper.returncode}))
";

#[test]
fn a_command_does_with_its_own_processes_what_it_likes() -> Result<()> {
    let lab = Lab::new()?;
    let found = said(run(&lab, false, OWN, &[])?)?;
    ensure!(
        found == serde_json::json!({ "child": true, "attached": 0, "ended": -15 }),
        "{found}"
    );
    Ok(())
}

#[test]
fn a_door_that_is_allowed_is_open_to_commands() -> Result<()> {
    let place = place::temporary("door")?;
    let door = place.path().join("door");
    let name = door.to_string_lossy().into_owned();
    let allow = format!("unix:\n  allow: ['{name}']\n");
    let mut lab = Lab::with(|settings| settings.more.push_str(&allow))?;
    let listener = UnixListener::bind(&door)?;
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o777))?;
    let dial = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1]); s.sendall(b'in')";
    run(&lab, false, dial, &[&name])?.ok()?;
    let mut heard = String::new();
    listener.accept()?.0.read_to_string(&mut heard)?;
    ensure!(heard == "in", "it heard {heard:?}");
    lab.daemon
        .change(|settings| settings.more = settings.more.replace(&allow, ""))?;
    lab.daemon.reload()?.ok()?;
    refused(run(&lab, false, dial, &[&name])?)?;
    Ok(())
}

#[test]
fn user_namespaces_are_for_who_is_let() -> Result<()> {
    let lab = Lab::with(|settings| {
        settings
            .more
            .push_str("launcher:\n  user_namespaces: true\n");
    })?;
    let unshare = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000 | 0x20000))";
    run(&lab, false, unshare, &[])?.ok()?;
    Ok(())
}

#[test]
fn a_descriptor_is_left_open_where_that_is_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let mut command = Command::new("/bin/sh");
    let line = "exec 5</etc/passwd 6</etc/passwd; exec \"$0\" \"$@\"";
    command
        .args(["-c", line])
        .arg(place::interceptor()?)
        .args(["run", "--agent", "passing", "--keep-fd", "6", "--socket"])
        .arg(&socket)
        .args(["--", "/bin/sh", "-c", "echo /proc/self/fd/*"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let open = Process::run(command, DEADLINE)?.ok()?;
    has(&open, &["/proc/self/fd/6"])?;
    ensure!(!open.contains("/proc/self/fd/5"), "{open}");
    Ok(())
}

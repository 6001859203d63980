//! Executables on file systems whose stat(2) tells other numbers than the kernel's own: named by its hash all the
//! same, and not taken for another file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{DEADLINE, Process, place};

use crate::lab::{Lab, text};

/// A file system of the test's own, with programs on it.
struct Disk {
    /// Those that are mounted, the first first.
    mounts: Vec<PathBuf>,
    programs: PathBuf,
    _directory: tempfile::TempDir,
}

fn run(program: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let finished = Process::run(command, DEADLINE)?;
    finished
        .ok()
        .with_context(|| format!("{program} {words:?}"))
}

/// A Python and a `cat`, copied.
fn programs(into: &Path) -> Result<()> {
    for name in ["python3", "cat"] {
        let from = Path::new("/usr/bin").join(name);
        fs::copy(&from, into.join(name)).with_context(|| format!("copy {name}"))?;
    }
    Ok(())
}

impl Disk {
    fn mount(&mut self, words: &[&str], on: &Path) -> Result<()> {
        fs::create_dir_all(on)?;
        run("mount", &[words, &[&on.to_string_lossy()]].concat())?;
        self.mounts.push(on.to_owned());
        Ok(())
    }

    fn new() -> Result<Self> {
        let directory = place::temporary("disk")?;
        Ok(Self {
            mounts: Vec::new(),
            programs: directory.path().to_owned(),
            _directory: directory,
        })
    }

    /// A subvolume of a btrfs, which has a device number of its own that no mount tells.
    fn btrfs() -> Result<Self> {
        let mut disk = Self::new()?;
        let image = disk.programs.join("image");
        fs::File::create(&image)?.set_len(256 << 20)?;
        let file = image.to_string_lossy().into_owned();
        run("mkfs.btrfs", &["-q", &file])?;
        let on = disk.programs.join("mount");
        disk.mount(&["-o", "loop", "-t", "btrfs", &file], &on)?;
        disk.programs = on.join("volume");
        run(
            "btrfs",
            &["subvolume", "create", &disk.programs.to_string_lossy()],
        )?;
        programs(&disk.programs)?;
        Ok(disk)
    }

    /// An overlay whose layers lie on two devices.
    fn overlay() -> Result<Self> {
        let mut disk = Self::new()?;
        let [below, above, on] = ["below", "above", "mount"].map(|name| disk.programs.join(name));
        for layer in [&below, &above] {
            disk.mount(&["-t", "tmpfs", "none"], layer)?;
        }
        programs(&below)?;
        let [upper, work] = ["upper", "work"].map(|name| above.join(name));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={},xino=off",
            below.display(),
            upper.display(),
            work.display()
        );
        disk.mount(&["-t", "overlay", "-o", &options, "none"], &on)?;
        disk.programs = on;
        Ok(disk)
    }

    fn at(&self, name: &str) -> String {
        self.programs.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            if umount2(mount, MntFlags::MNT_DETACH).is_err() {
                // Whoever took it away before.
            }
        }
    }
}

/// Opens a connection; then speaks, or becomes the program that it is told.
const CLIENT: &str = r#"
import os, socket, struct, sys
def line():
    # No byte more: what follows is for whom it becomes.
    while os.read(0, 1) not in (b"", b"\n"): pass
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
print("connected", flush=True)
line()
if len(sys.argv) > 2:
    os.execv(sys.argv[2], ["cat"])
body = struct.pack("!i", 196608) + b"user\0anybody\0database\0shop\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
print("answered", s.recv(1), flush=True)
line()
"#;

/// Whether stat tells another device than the mount has.
fn stat_differs(disk: &Disk) -> Result<bool> {
    let file = disk.at("python3");
    let by_stat = run("stat", &["-c", "%Hd:%Ld", &file])?;
    let by_mount = run("findmnt", &["-n", "-o", "MAJ:MIN", "-T", &file])?;
    Ok(by_stat.trim() != by_mount.trim())
}

fn is_named(disk: &Disk, what: &str) -> Result<()> {
    ensure!(
        stat_differs(disk)?,
        "{what}: stat tells the kernel's numbers"
    );
    let lab = Lab::new()?;
    let port = lab.server.address().port().to_string();
    let python = disk.at("python3");
    // Its library is where the other one's is.
    let agent = lab.agent().with("PYTHONHOME", "/usr");
    let mut client = agent.start(&python, &["-c", CLIENT, &port])?;
    client.send("speak\n")?;
    client.await_text("answered b'R'", DEADLINE)?;
    let log = lab.daemon.audit();
    let line = log.wait_for("session.opened", DEADLINE, |_| true)?;
    let sum = run("sha256sum", &[&python])?;
    let sum = sum.split(' ').next().context("no sum")?;
    ensure!(
        text(&line, "/principal/process/executable/sha256")? == sum
            && text(&line, "/principal/process/executable/path")? == python,
        "{what}: {line}"
    );
    client.close_input();
    client.finish(DEADLINE)?;

    // Another file of the same file system has all the same but its inode.
    let daemon = lab.daemon.process().context("the daemon runs")?;
    daemon.signal(Signal::SIGSTOP);
    let cat = disk.at("cat");
    let mut client = agent.start(&python, &["-c", CLIENT, &port, &cat])?;
    client.await_text("connected", DEADLINE)?;
    client.send("become it\nnow it is cat\n")?;
    client.await_text("now it is cat", DEADLINE)?;
    daemon.signal(Signal::SIGCONT);
    let line = log.wait_for("connection.refused", DEADLINE, |_| true)?;
    ensure!(
        text(&line, "/refusal/kind")? == "identity",
        "{what}: {line}"
    );
    ensure!(
        line.get("principal").is_none_or(Value::is_null),
        "{what}: somebody is named: {line}"
    );
    crate::lab::has(text(&line, "/cause")?, &["executes another file"])
}

#[test]
fn an_executable_on_btrfs_is_named_by_its_bytes_and_no_other_is_taken_for_it() -> Result<()> {
    is_named(&Disk::btrfs()?, "btrfs")
}

#[test]
fn an_executable_on_overlayfs_is_named_by_its_bytes_and_no_other_is_taken_for_it() -> Result<()> {
    is_named(&Disk::overlay()?, "overlayfs")
}

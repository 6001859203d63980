//! `interceptor doctor --prove`: every way out of a scope is tried, against listeners of our own.
//!
//! Twice: as a command of `interceptor run`, and in a cgroup that is only tagged. What shows that a way is
//! shut is the far end, which heard nothing; what the tried call said is told beside it.

mod call;
mod far;
mod limit;
mod report;
mod ring;
mod ways;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::far::Far;
use self::limit::{Guards, Limit};
use self::report::{Outcome, Report, Row};
use self::ways::{Ends, INHERITED, Shown, WAYS, Way};
use crate::audit::checkpoint::sign::PUBLIC;
use crate::audit::{PublicKey, Signer};
use crate::capture::cgroup2::Hierarchy;
use crate::cli::{VIOLATION, block_on, client, complain, print};
use crate::config::{self, Config};
use crate::control::api::{Scope, Status, Tag, Which};

/// What is said when somebody waits for a socket that is connected, for one that is not, and to be moved out.
const GIVE: &str = "give\n";
const GIVE_FRESH: &str = "give fresh\n";
const MOVE: &str = "move\n";

/// The agent that the scopes are tagged as.
const AGENT: &str = "interceptor-proof";

/// What one way came to, as the process in the scope saw it.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    way: usize,
    /// What the kernel said; none where it said nothing.
    errno: Option<String>,
}

/// Runs inside the scope: tries every way and says what came of each.
pub(super) fn attempt(ends: &str) -> anyhow::Result<ExitCode> {
    let ends: Ends = serde_json::from_str(ends).context("no ends are given")?;
    for (way, Way { run, .. }) in WAYS.iter().enumerate() {
        let tried = run(&ends, words(&ends, way).as_bytes());
        let errno = tried.err().map(|error| named(&error));
        let line = serde_json::to_string(&Tried { way, errno })?;
        print(&format!("{line}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a way sends: nothing else at the far end begins so.
fn words(ends: &Ends, way: usize) -> String {
    format!("{}:{way};", ends.nonce)
}

fn named(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.kind().to_string(),
        |number| format!("{:?}", nix::errno::Errno::from_raw(number)),
    )
}

/// Tries every way, shows the table, and writes the report.
pub(super) fn prove(config: &Config, user: Option<&str>, to: &Path) -> anyhow::Result<ExitCode> {
    ensure!(Uid::effective().is_root(), "--prove is for root");
    let user = someone(user)?;
    let signer = Signer::open(&config.paths.state).context("cannot read the key that signs")?;
    let control = config.paths.run.join("control.sock");
    let status: Status = block_on(client::get(&control, "/v1/status"), false)?;
    let guards = Guards::of(status.guard, status.guards_host);
    let launched = tried(config, &user, &guards, |ends, exe| {
        launch(&control, &user, ends, exe)
    })?;
    let cgroup = format!("{}/prove-{}", config.run_parent, Uuid::now_v7().simple());
    let tagged = tagged(config, &control, &user, (&cgroup, &guards))?;
    let outcome = |found: &BTreeMap<usize, Outcome>, way: usize| {
        found.get(&way).cloned().unwrap_or(Outcome::Open)
    };
    let rows = WAYS.iter().enumerate().map(|(way, known)| Row {
        way: known.name.to_owned(),
        launched: judged(outcome(&launched, way), known.limit, &guards, true),
        tagged: judged(outcome(&tagged, way), known.limit, &guards, false),
    });
    let report = Report {
        ways: rows.collect(),
        ..about(&user, guards.clone())
    };
    print(&report.table());
    report::write(&report, &signer, to)?;
    print(&format!("signed report: {}\n", to.display()));
    Ok(match report.open() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(VIOLATION),
    })
}

/// Reads a report, and says what it said: this host's own, or one that was signed with a key of `keys`.
pub(super) fn verify(config: &Path, keys: Option<&Path>, from: &Path) -> anyhow::Result<ExitCode> {
    let keys = match keys {
        Some(keys) => PublicKey::read(keys)?,
        None => PublicKey::read(&config::load(config)?.paths.state.join(PUBLIC))?,
    };
    let report = report::read(&keys, from)?;
    print(&report.table());
    print(&format!("signed by {}, {}\n", report.host, report.time));
    Ok(match report.open() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(VIOLATION),
    })
}

/// An ordinary user: the one that is named, who called sudo, or nobody.
fn someone(name: Option<&str>) -> anyhow::Result<User> {
    let caller = std::env::var("SUDO_USER").ok();
    let name = name.or(caller.as_deref()).unwrap_or("nobody");
    let user = User::from_name(name)?.with_context(|| format!("no user is named {name}"))?;
    ensure!(!user.uid.is_root(), "name an ordinary user with --user");
    Ok(user)
}

fn about(user: &User, guards: Guards) -> Report {
    let kernel = nix::sys::utsname::uname();
    let text = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        kernel
            .as_ref()
            .map(|name| of(name).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    Report {
        v: 1,
        time: crate::clock::wall().to_string(),
        host: text(nix::sys::utsname::UtsName::nodename),
        kernel: format!(
            "{} {}",
            text(nix::sys::utsname::UtsName::release),
            text(nix::sys::utsname::UtsName::version)
        ),
        security: fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        guard: guards.unix,
        guards_host: guards.host,
        user: user.name.clone(),
        ways: Vec::new(),
    }
}

/// An open way is a limit where it is said to be one, and nowhere else.
fn judged(outcome: Outcome, limit: Limit, guards: &Guards, launched: bool) -> Outcome {
    match outcome {
        Outcome::Open if limit.allows(guards, launched) => Outcome::Limit,
        other => other,
    }
}

/// Starts what tries every way by `start`, and puts together what it says and what the far end heard.
fn tried(
    config: &Config,
    user: &User,
    guards: &Guards,
    start: impl FnOnce(&str, &Path) -> anyhow::Result<Command>,
) -> anyhow::Result<BTreeMap<usize, Outcome>> {
    let nonce = Uuid::new_v4().simple().to_string();
    let mut ends = Ends {
        nonce: nonce.clone(),
        tcp: 0,
        udp: 0,
        shared: (0, 0),
        directory: String::new(),
        neighbour: 0,
        control: config
            .paths
            .run
            .join("control.sock")
            .to_string_lossy()
            .into_owned(),
        state: config.paths.state.to_string_lossy().into_owned(),
        pins: config.paths.bpffs.to_string_lossy().into_owned(),
        guard: guards.unix.clone(),
    };
    let mut far = Far::open(&nonce, &ends.hidden(), user.uid)?;
    (ends.tcp, ends.udp) = far.ports()?;
    ends.shared = far.shared_ports()?;
    ends.directory = far.directory().to_string_lossy().into_owned();
    let mut neighbour = Command::new("/bin/sleep")
        .arg("300")
        .stdin(Stdio::from(far.connection()?))
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .spawn()
        .context("cannot start a neighbour")?;
    ends.neighbour = neighbour.id();
    let said = start(&serde_json::to_string(&ends)?, &std::env::current_exe()?)
        .and_then(|command| listen(command, &far));
    // It has served its purpose, and may have ended already.
    let _ended = neighbour.kill();
    let _reaped = neighbour.wait();
    let said = said?;
    ensure!(
        said.len() == WAYS.len(),
        "only {} of {} ways were tried; what tried them was ended",
        said.len(),
        WAYS.len()
    );
    let heard = far.heard();
    let one = |tried: Tried| {
        let arrived = heard.contains(&words(&ends, tried.way));
        let is_done = WAYS
            .get(tried.way)
            .is_none_or(|way| way.shown == Shown::Done && tried.errno.is_none());
        let is_host_own = WAYS.get(tried.way).is_some_and(|way| way.is_host_own);
        let outcome = match tried.errno {
            _ if arrived || is_done => Outcome::Open,
            Some(errno) if is_host_own && errno == "ENOENT" => Outcome::Absent,
            Some(errno) => Outcome::Refused { errno },
            None => Outcome::Silent,
        };
        (tried.way, outcome)
    };
    Ok(said.into_iter().map(one).collect())
}

/// Runs it to its end. A socket of ours is left to it, as one that was forgotten.
fn listen(mut command: Command, far: &Far) -> anyhow::Result<Vec<Tried>> {
    leave(&mut command, far.connection()?);
    let mut child = command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start what tries the ways")?;
    // The command holds a copy of what it leaves behind.
    drop(command);
    let output = child.stdout.take().context("it has no output")?;
    let mut said = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what was tried")?;
        let served = match line.as_str() {
            _ if line == GIVE.trim_end() => far.give(true),
            _ if line == GIVE_FRESH.trim_end() => far.give(false),
            _ if line == MOVE.trim_end() => move_out(child.id()),
            _ => {
                said.push(serde_json::from_str(&line).with_context(|| line.clone())?);
                continue;
            }
        };
        if let Err(error) = served {
            complain(&format!("cannot do for a way what it takes: {error}\n"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("what tries the ways failed: {status}");
    }
    Ok(said)
}

/// Into the root cgroup.
fn move_out(pid: u32) -> anyhow::Result<()> {
    Ok(Hierarchy::find()?.enter("/", pid)?)
}

#[expect(unsafe_code, reason = "a descriptor is moved between fork and exec")]
fn leave(command: &mut Command, socket: OwnedFd) {
    let number = i32::try_from(INHERITED).unwrap_or(i32::MAX);
    // SAFETY: one call, which may be made between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let moved = libc::dup2(socket.as_raw_fd(), number);
            if moved < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// By the launcher.
fn launch(control: &Path, user: &User, ends: &str, exe: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(exe);
    command
        .args(["run", "--agent", AGENT, "--user", &user.name, "--socket"])
        .arg(control)
        .arg("--")
        .arg(exe)
        .args(["doctor", "--attempt", ends]);
    Ok(command)
}

/// In a cgroup that is only tagged; gone afterwards.
fn tagged(
    config: &Config,
    control: &Path,
    user: &User,
    (cgroup, guards): (&str, &Guards),
) -> anyhow::Result<BTreeMap<usize, Outcome>> {
    let hierarchy = Hierarchy::find()?;
    hierarchy.make(cgroup)?;
    let which = Which {
        cgroup: Some(cgroup.to_owned()),
        ..Which::default()
    };
    let tag = Tag {
        which: which.clone(),
        agent: AGENT.to_owned(),
    };
    let tag = client::post::<_, Scope>(control, "/v1/scopes/tag", &tag);
    let tried = block_on(tag, false).and_then(|_scope| {
        tried(config, user, guards, |ends, exe| {
            let procs = hierarchy.directory(cgroup).join("cgroup.procs");
            enter(&procs, user, ends, exe)
        })
    });
    let untag = client::post::<_, Scope>(control, "/v1/scopes/untag", &which);
    let untagged = block_on(untag, false);
    let removed = fs::remove_dir(hierarchy.directory(cgroup));
    if let (Err(error), _) | (Ok(_), Err(error)) = (
        untagged.map_err(|error| error.to_string()),
        removed.map_err(|error| error.to_string()),
    ) {
        complain(&format!("{cgroup} stays: {error}\n"));
    }
    tried
}

#[expect(
    unsafe_code,
    reason = "a process enters its cgroup between fork and exec"
)]
fn enter(procs: &Path, user: &User, ends: &str, exe: &Path) -> anyhow::Result<Command> {
    let mut file = File::options().write(true).open(procs)?;
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    let mut command = Command::new(exe);
    command.args(["doctor", "--attempt", ends]);
    // SAFETY: system calls without memory of their own, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            file.write_all(b"0")?;
            nix::unistd::setgroups(&[gid])?;
            nix::unistd::setresgid(gid, gid, gid)?;
            nix::unistd::setresuid(uid, uid, uid)?;
            Ok(())
        });
    }
    Ok(command)
}

/// Where the report is written where nobody says.
pub(super) fn default_report() -> PathBuf {
    PathBuf::from("boundary.json")
}

//! `cargo xtask bench ssh`: what the hop costs SSH, direct and through the daemon side by side in one run: bulk
//! both ways with the same cipher, a login, and what sessions cost that do nothing.
//!
//! warpgate, which does the like, is not among them: see [`NO_WARPGATE`].

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::unistd::{Uid, chown};
use support::daemon::Settings;
use support::{Agent, Daemon, Process, Sshd, place};

use super::{Figure, OUT, keep, table};
use crate::guard::{Guard, Outer};
use crate::setup::{self, For};
use crate::shell::{self, cargo, run};
use crate::stage::Stage;

/// Bytes of one bulk transfer.
const BULK: u32 = 512 << 20;
/// A number by which these are divided, to see that all of it runs.
const PART: &str = "INTERCEPTOR_BENCH_PART";
/// Of each bulk transfer the best of so many counts, of logins the median.
const TRIES: usize = 3;
const LOGINS: usize = 21;
/// Sessions that do nothing.
const IDLE: u32 = 1_000;
/// How many of them begin at once.
const AT_ONCE: u32 = 20;
const DEADLINE: Duration = Duration::from_secs(180);
const CIPHERS: [&str; 2] = ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"];

/// Why the nearest of its kind is no subject.
const NO_WARPGATE: &str = "warpgate is not measured: its source (0.28.3) is in no registry (the crate of that name is \
    another program), and takes a nightly toolchain of its own and 920 crates";

/// One way to the server.
struct Subject {
    name: &'static str,
    client: Agent,
    options: Vec<String>,
}

struct Lab {
    daemon: Daemon,
    server: Sshd,
    _directory: tempfile::TempDir,
    subjects: [Subject; 2],
}

/// Sets up, builds, and starts the part that runs as root.
pub(crate) fn measure() -> anyhow::Result<()> {
    let ready = setup::servers(For::Bench)?;
    let release = ["build", "--workspace", "--release", "--bin", "interceptor"];
    run(cargo(&release))?;
    let outer = Outer::prepare("attach eBPF programs to a cgroup")?;
    let stage = Stage::set(&shell::target().join("release/interceptor"), &ready)?;
    let out = shell::target().join("bench");
    fs::create_dir_all(&out).context("make the directory of the figures")?;
    let mut variables = stage.variables(&ready);
    variables.push((OUT, shell::text(&out.join("ssh.json"))));
    outer.start(&["bench-ssh"], &variables)
}

/// The part that runs as root.
pub(crate) fn as_root() -> anyhow::Result<()> {
    let guard = Guard::watch()?;
    let out = env::var_os(OUT).map(PathBuf::from);
    let out = out.context("no place for the figures")?;
    let lab = Lab::put_up()?;
    let mut figures = Vec::new();
    for cipher in CIPHERS {
        for (case, is_up) in [("down", false), ("up", true)] {
            for subject in &lab.subjects {
                guard.go_on()?;
                let rate = bulk(subject, cipher, is_up)?;
                let case = format!("bulk {case}, {cipher}");
                note(&mut figures, subject, case, ("rate", rate, "MiB/s"));
            }
        }
    }
    for subject in &lab.subjects {
        guard.go_on()?;
        let time = login(subject)?;
        note(
            &mut figures,
            subject,
            "log in, run `true`".to_owned(),
            ("time", time, "ms"),
        );
    }
    let [_, through] = &lab.subjects;
    guard.go_on()?;
    let memory = idle(&lab, through)?;
    let case = format!("{} idle sessions", part(IDLE)?);
    note(
        &mut figures,
        through,
        case,
        ("memory of one", memory, "KiB"),
    );
    table::print(&figures);
    println!("{NO_WARPGATE}");
    keep(&figures, &out)
}

/// So much of it as is asked for.
pub(super) fn part(whole: u32) -> anyhow::Result<u32> {
    let part = env::var(PART).map_or(Ok(1), |part| part.parse::<u32>());
    let part = part.with_context(|| format!("{PART} is a number"))?;
    Ok(whole.checked_div(part).unwrap_or(whole).max(1))
}

fn note(
    figures: &mut Vec<Figure>,
    subject: &Subject,
    case: String,
    (metric, value, unit): (&'static str, f64, &'static str),
) {
    println!("{case:<40} {:<12} {value:.1} {unit}", subject.name);
    figures.push(Figure {
        subject: subject.name,
        case,
        metric,
        value,
        unit,
    });
}

impl Lab {
    fn put_up() -> anyhow::Result<Self> {
        let server = Sshd::start()?;
        let login = format!("key: {{ file: {} }}", server.key().display());
        let mut settings = Settings::new(Vec::new(), "");
        settings.policies = place::pack("allow-all")?;
        settings.more = server.target("web", &login, &[])?;
        settings.limits = vec![
            "connections: unlimited".into(),
            "sessions: unlimited".into(),
        ];
        let daemon = Daemon::start(settings)?;
        let directory = place::temporary("bench")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        // The direct client has a key, and believes the server by its own.
        let key = directory.path().join("key");
        fs::copy(server.key(), &key).context("give the direct client its key")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        chown(&key, Some(Uid::from_raw(Agent::outside().uid())), None)?;
        let direct = directory.path().join("direct");
        let port = server.address().port();
        fs::write(
            &direct,
            format!("[127.0.0.1]:{port} {}\n", server.host_key()?),
        )?;
        let mut shown = std::process::Command::new(place::interceptor()?);
        shown.args(["ssh-ca", "show", "--config"]);
        shown.arg(daemon.config()).env_clear();
        let through = directory.path().join("through");
        fs::write(&through, Process::run(shown, DEADLINE)?.ok()?)?;
        let options = |known: &PathBuf, user: &str, key: &str| {
            let pairs = [
                format!("UserKnownHostsFile={}", known.display()),
                "GlobalKnownHostsFile=none".to_owned(),
                "StrictHostKeyChecking=yes".to_owned(),
                "BatchMode=yes".to_owned(),
                format!("IdentityFile={key}"),
                format!("User={user}"),
                format!("Port={port}"),
            ];
            let mut words = vec!["-F".to_owned(), "none".to_owned()];
            words.extend(pairs.into_iter().flat_map(|pair| ["-o".to_owned(), pair]));
            words
        };
        let subjects = [
            Subject {
                name: "direct",
                client: Agent::outside(),
                options: options(&direct, server.user(), &key.display().to_string()),
            },
            Subject {
                name: "interceptor",
                client: daemon.agent(),
                options: options(&through, "anybody", "none"),
            },
        ];
        Ok(Self {
            daemon,
            server,
            _directory: directory,
            subjects,
        })
    }
}

/// Runs a script of the client's with `ssh` and its options as its words.
fn script(subject: &Subject, script: &str, more: &[&str]) -> anyhow::Result<String> {
    let mut words = vec!["-c", script, "sh", "ssh"];
    words.extend(subject.options.iter().map(String::as_str));
    words.extend(more);
    words.push("127.0.0.1");
    let command = subject.client.command("sh", &words);
    let output = Process::run(command, DEADLINE)?.ok();
    output.with_context(|| format!("{script} through {}", subject.name))
}

/// MiB a second, the best of a few.
fn bulk(subject: &Subject, cipher: &str, is_up: bool) -> anyhow::Result<f64> {
    let bytes = part(BULK)?;
    let words = match is_up {
        true => format!("head -c {bytes} /dev/zero | \"$@\" 'cat > /dev/null'"),
        false => format!("\"$@\" 'head -c {bytes} /dev/zero' > /dev/null"),
    };
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let begun = Instant::now();
        script(subject, &words, &["-c", cipher])?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(f64::from(bytes) / f64::from(1 << 20) / best)
}

/// Milliseconds from start to end of a client that runs nothing to speak of: the median.
fn login(subject: &Subject) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..LOGINS {
        let begun = Instant::now();
        script(subject, "\"$@\" true", &[])?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times.get(LOGINS / 2).copied().context("no login")
}

/// KiB of the daemon for a session that does nothing.
fn idle(lab: &Lab, subject: &Subject) -> anyhow::Result<f64> {
    script(subject, "\"$@\" true", &[])?;
    let before = resident(lab)?;
    // The next begin when these are in: a server takes few at once that are not.
    let wanted = part(IDLE)?;
    let words = r#"while read -r many; do n=0; while [ $n -lt "$many" ]; do "$@" 'echo in; exec sleep 600' & n=$((n+1)); done; done; wait"#;
    // Without a terminal their input is the script's own, which is not theirs to read.
    let mut line = vec!["-c", words, "sh", "ssh", "-n"];
    line.extend(subject.options.iter().map(String::as_str));
    line.push("127.0.0.1");
    let mut clients = Process::start(subject.client.command("sh", &line))?;
    let mut begun = 0;
    while begun < wanted {
        let more = AT_ONCE.min(wanted - begun);
        clients.send(&format!("{more}\n"))?;
        begun += more;
        support::wait::for_fact("the idle sessions", DEADLINE, || {
            ensure!(!clients.is_over(), "the clients ended: {}", clients.log());
            let open = clients.log().lines().filter(|line| *line == "in").count();
            Ok((open >= usize::try_from(begun)?).then_some(()))
        })?;
    }
    let more = resident(lab)?.saturating_sub(before);
    drop(clients);
    ensure!(!lab.server.log().is_empty(), "the server says nothing");
    Ok(f64::from(more) / f64::from(wanted))
}

/// Resident memory of the daemon, in KiB.
fn resident(lab: &Lab) -> anyhow::Result<u32> {
    let pid = lab.daemon.process().context("the daemon runs")?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .context("read its memory")
}

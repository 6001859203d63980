//! What comes from the server's side: `ssh -R`, agent forwarding, X11; and forwards that wait for people.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use support::{Agent, DEADLINE, Process, Sshd, place, port, wait};

use super::{ALL_BUT_RM, Lab};
use crate::lab::{has, lacks, text};

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

fn permitting(rules: &str) -> Result<Lab> {
    Lab::new(vec![("test.cedar".to_owned(), rules.to_owned())])
}

/// A client that goes on; options first, then the command.
fn start(lab: &Lab, agent: &Agent, more: &[&str]) -> Result<Process> {
    let (options, command): (Vec<&str>, Vec<&str>) =
        more.iter().partition(|word| word.starts_with('-'));
    let port = lab.server.address().port().to_string();
    let own = lab.options();
    let mut words: Vec<&str> = own.iter().map(String::as_str).collect();
    words.extend(options);
    words.extend(["-p", &port, "x@127.0.0.1"]);
    words.extend(command);
    agent.start("ssh", &words)
}

#[test]
fn a_server_listens_for_the_agent_where_that_is_permitted() -> Result<()> {
    let lab = permitting(ALL)?;
    let own = lab.own()?;
    let path = own.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let answers = thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut said = [0; 4];
        stream.read_exact(&mut said)?;
        stream.write_all(b"pong")?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    });
    let forward = format!("-R0:{}", path.display());
    let mut ssh = start(&lab, &lab.agent(), &["-v", &forward, "cat"])?;
    let port = wait::for_fact("the port", DEADLINE, || {
        let log = ssh.log();
        let said = log.rsplit_once("Allocated port ");
        Ok(said.and_then(|(_, rest)| rest.split(' ').next()?.parse::<u16>().ok()))
    })?;
    let mut stream = port::dial(("127.0.0.1", port))?;
    stream.write_all(b"ping")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "pong", "{answer:?}");
    drop(stream);
    let said = answers.join().ok().context("the listener failed")??;
    ensure!(said == "ping", "{said:?}");
    ssh.close_input();
    ssh.finish(DEADLINE)?;
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let permitted = serde_json::to_string(&permitted)?;
    has(&permitted, &["ForwardFrom", "forward from localhost:"])?;
    // Nothing listens any more.
    wait::for_fact("the end of the forward", DEADLINE, || {
        Ok(port::dial(("127.0.0.1", port)).is_err().then_some(()))
    })
}

#[test]
fn a_server_does_not_listen_for_the_agent_where_that_is_not_permitted() -> Result<()> {
    let lab = permitting(ALL_BUT_RM)?;
    let words = ["-oExitOnForwardFailure=yes", "-R0:127.0.0.1:1", "true"];
    let no = lab.ssh(&words)?;
    ensure!(!no.status.success(), "{no:?}");
    has(&no.stderr, &["remote port forwarding failed"])?;
    let refused = lab.daemon.audit().events("request.refused")?;
    has(&serde_json::to_string(&refused)?, &["ForwardFrom"])
}

/// Lists, on the server, what the agent's own ssh-agent has.
const KEYS: &str = r#"
ssh-keygen -q -t ed25519 -N '' -f "$OWN/key" && ssh-add -q "$OWN/key" && ssh-keygen -lf "$OWN/key" | cut -d' ' -f2
ssh -A "$@" 'if [ -n "$SSH_AUTH_SOCK" ]; then ssh-add -l; else echo none; fi'
"#;

fn keys(lab: &Lab) -> Result<(String, String)> {
    let out = with_keys(lab, KEYS)?;
    let (key, listed) = out.split_once('\n').context("no key")?;
    Ok((key.to_owned(), listed.to_owned()))
}

/// What a script says beside an ssh-agent of its own; its words are those of a client.
fn with_keys(lab: &Lab, script: &str) -> Result<String> {
    let own = lab.own()?;
    let agent = lab.agent().with("OWN", &own.path().display().to_string());
    let port = lab.server.address().port().to_string();
    let mut words = vec![
        "sh".to_owned(),
        "-c".to_owned(),
        script.to_owned(),
        "sh".to_owned(),
    ];
    words.extend(lab.options());
    // Its keys are for others: it logs in without one all the same.
    words.extend(["-p", &port, "x@127.0.0.1"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    agent.run("ssh-agent", &words)?.ok()
}

/// Goes on asking for the agent's keys when the command that began it is over.
const LATER: &str = r#"
ssh -A "$@" 'python3 -c "
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.connect(os.environ[\"SSH_AUTH_SOCK\"])
print(\"connected\", flush=True); os.close(1); os.close(2); time.sleep(1)
" < /dev/null & sleep 0.5; echo over'
"#;

#[test]
fn a_command_may_end_before_who_uses_the_agents_keys() -> Result<()> {
    let lab = permitting(ALL)?;
    let out = with_keys(&lab, LATER)?;
    has(&out, &["connected", "over"])
}

#[test]
fn the_agents_own_keys_are_reached_where_that_is_permitted_and_nowhere_else() -> Result<()> {
    let (key, listed) = keys(&permitting(ALL)?)?;
    ensure!(key.starts_with("SHA256:"), "{key}");
    has(&listed, &[&key])?;
    let lab = permitting(ALL_BUT_RM)?;
    let (key, listed) = keys(&lab)?;
    lacks(&listed, &[&key])?;
    ensure!(listed.trim() == "none", "{listed}");
    let refused = lab.daemon.audit().events("request.refused")?;
    has(&serde_json::to_string(&refused)?, &["ForwardAgent"])
}

#[test]
fn a_certificate_that_is_made_for_a_login_takes_the_agents_keys_along() -> Result<()> {
    let server = Sshd::start_with(&["AuthorizedKeysFile none", "TrustedUserCAKeys %ca"])?;
    let login = format!(
        "sign: {{ ca: {{ file: {} }} }}",
        server.authority().display()
    );
    let target = server.target("web", &login, &[])?;
    let rules = vec![("test.cedar".to_owned(), ALL.to_owned())];
    let (key, listed) = keys(&Lab::over(server, &target, rules)?)?;
    has(&listed, &[&key])
}

/// A server that forwards X11, from displays of its own: of two servers that try the same one at once, both bind its
/// port and the one that listens second gives up.
fn with_displays() -> Result<Sshd> {
    // A server tries those from the first to number 999.
    let first = 100 + port::free()?.port() % 85 * 10;
    Sshd::start_with(&[
        "X11Forwarding yes",
        "XAuthLocation /usr/bin/xauth",
        &format!("X11DisplayOffset {first}"),
    ])
}

#[test]
fn a_screen_is_reached_where_that_is_permitted() -> Result<()> {
    for (rules, expected) in [(ALL, "display localhost:"), (ALL_BUT_RM, "display none")] {
        let server = with_displays()?;
        let login = format!("key: {{ file: {} }}", server.key().display());
        let target = server.target("web", &login, &[])?;
        let rules = vec![("test.cedar".to_owned(), rules.to_owned())];
        let lab = Lab::over(server, &target, rules)?;
        let agent = lab.agent().with("DISPLAY", "localhost:99");
        let words = ["-Y", "echo display ${DISPLAY:-none}"];
        let mut ssh = start(&lab, &agent, &words)?;
        let finished = ssh.finish(DEADLINE)?;
        has(&finished.stdout, &[expected])?;
    }
    Ok(())
}

/// A screen that nobody sees, and its number.
fn screen() -> Result<(Process, String)> {
    let mut server = Command::new("Xvfb");
    server
        .args(["-displayfd", "1", "-nolisten", "tcp", "-ac"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let server = Process::start(server)?;
    let number = wait::for_fact("the screen", DEADLINE, || {
        let log = server.log();
        let line = log.lines().find(|line| line.parse::<u16>().is_ok());
        Ok(line.map(str::to_owned))
    })?;
    Ok((server, number))
}

#[test]
fn a_program_on_the_server_draws_on_the_agents_screen() -> Result<()> {
    let (_screen, number) = screen()?;
    for (rules, is_shown) in [(ALL, true), (ALL_BUT_RM, false)] {
        let server = with_displays()?;
        let login = format!("key: {{ file: {} }}", server.key().display());
        let target = server.target("web", &login, &[])?;
        let rules = vec![("test.cedar".to_owned(), rules.to_owned())];
        let lab = Lab::over(server, &target, rules)?;
        let agent = lab.agent().with("DISPLAY", &format!(":{number}"));
        let mut ssh = start(&lab, &agent, &["-Y", "xdpyinfo"])?;
        let finished = ssh.finish(DEADLINE)?;
        let shown = finished.stdout.contains("dimensions:");
        ensure!(shown == is_shown, "{finished:?} {}", lab.server.log());
        let permitted = lab.daemon.audit().events("request.permitted")?;
        let permitted = serde_json::to_string(&permitted)?;
        // Once when it was asked for, once when the program came.
        let times = permitted.matches("\"ForwardX11\"").count();
        ensure!((times >= 2) == is_shown, "{permitted}");
    }
    Ok(())
}

#[test]
fn a_forward_waits_for_people_and_its_client_for_the_forward() -> Result<()> {
    let rules = r#"
@id("all") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("forward") @approve("games") permit (principal is Agent, action == Action::"ForwardTo", resource);
@id("answers") permit (principal is User, action == Action::"Approve", resource in Agent::"demo");
"#;
    let lab = permitting(rules)?;
    let to = format!("-W127.0.0.1:{}", lab.server.address().port());
    let mut ssh = start(&lab, &lab.agent(), &[&to])?;
    let asked = lab
        .daemon
        .audit()
        .wait_for("approval.asked", DEADLINE, |_| true)?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let words = [
        "approvals",
        "approve",
        text(&asked, "/approval")?,
        "--socket",
        &socket.to_string_lossy(),
    ];
    Agent::outside()
        .as_uid(5)
        .run(&place::interceptor()?.to_string_lossy(), &words)?
        .ok()?;
    ssh.await_text("SSH-2.0-OpenSSH", DEADLINE)?;
    ssh.close_input();
    ssh.finish(DEADLINE)?;
    Ok(())
}

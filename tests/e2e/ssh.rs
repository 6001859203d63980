//! SSH: stock clients without any key reach Debian's own sshd, and do what policy lets them.

mod forwards;
mod hostile;
pub(crate) mod lab;
mod logins;
mod page;
mod peers;
mod replay;
mod searched;
mod ways;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use support::{Agent, DEADLINE, Finished, Sshd, place};

use self::lab::Lab;
use crate::lab::{has, lacks, refused, text};

/// Permits all but one program.
const ALL_BUT_RM: &str = r#"
@id("all") permit (principal is Agent, action, resource)
  unless { action in Action::"SshForward" };
@id("no-rm") @hint("leave it") forbid (principal is Agent, action == Action::"Exec", resource)
  when { context.isSimple && context.program == "rm" };
"#;

impl Lab {
    fn permitting() -> Result<Self> {
        Self::new(vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())])
    }

    /// Runs a program that is told where and how by `-P`, as scp and sftp are.
    fn copy(&self, program: &str, more: &[&str]) -> Result<Finished> {
        let port = self.server.address().port().to_string();
        let mut line = self.options();
        line.extend(["-P".to_owned(), port]);
        line.extend(more.iter().map(|&word| word.to_owned()));
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        self.agent().run(program, &words)
    }

    fn at(&self, name: &str) -> String {
        self.server.files().join(name).display().to_string()
    }

    /// What the agent may write into.
    fn own(&self) -> Result<tempfile::TempDir> {
        let directory = place::temporary("own")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
        Ok(directory)
    }
}

#[test]
fn a_client_without_a_key_runs_what_is_permitted_and_is_told_how_it_ended() -> Result<()> {
    let lab = Lab::permitting()?;
    let run = lab.ssh(&["id -un; echo err >&2; exit 7"])?;
    ensure!(run.status.code() == Some(7), "{run:?}");
    ensure!(run.stdout == format!("{}\n", lab.server.user()), "{run:?}");
    ensure!(run.stderr == "err\n", "{run:?}");
    let killed = lab.ssh(&["kill -TERM $$"])?;
    ensure!(killed.status.code() == Some(255), "{killed:?}");
    let tty = lab.ssh(&["-tt", "tty; stty size"])?;
    ensure!(
        tty.stdout.contains("/dev/pts/"),
        "{tty:?} {}",
        lab.server.log()
    );
    let finished = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line.pointer("/status")
                .is_some_and(|status| status == "exit 7")
        })?;
    ensure!(text(&finished, "/principal/process/executable/path")?.ends_with("/ssh"));
    let opened = lab.daemon.audit().events("session.opened")?;
    let opened = opened.first().context("no session")?;
    ensure!(text(opened, "/asked_user")? == "anybody");
    ensure!(text(opened, "/user")? == lab.server.user());
    ensure!(opened.get("database").is_none(), "{opened}");
    Ok(())
}

#[test]
fn a_command_of_run_knows_the_servers_that_the_daemon_stands_for() -> Result<()> {
    let lab = Lab::permitting()?;
    let port = lab.server.address().port().to_string();
    let strict = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes"];
    let words = [
        &["ssh"],
        &strict[..],
        &["-p", &port, "x@127.0.0.1", "echo here"],
    ]
    .concat();
    let run = ["run", "--agent", "demo", "--user", "nobody", "--"];
    let said = lab.daemon.cli(&[&run[..], &words].concat())?;
    ensure!(said.stdout == "here\n", "{said:?}");
    let outside = lab.agent().run(words[0], &words[1..])?;
    has(&outside.stderr, &["Host key verification failed"])
}

#[test]
fn what_is_refused_says_why_on_its_channel_and_leaves_the_others_alone() -> Result<()> {
    let lab = Lab::permitting()?;
    let no = lab.ssh(&["rm -rf /tmp/nothing"])?;
    ensure!(no.status.code() == Some(126), "{no:?}");
    let said = [
        "ERROR:  running rm is not permitted",
        "rule no-rm; request ",
        "HINT:  leave it",
    ];
    has(&no.stderr, &said)?;
    let own = lab.own()?;
    let socket = format!("-oControlPath={}/mux", own.path().display());
    let first = lab.ssh(&[
        "-oControlMaster=auto",
        "-oControlPersist=30",
        &socket,
        "echo one",
    ])?;
    ensure!(first.stdout == "one\n", "{first:?}");
    let no = lab.ssh(&[&socket, "rm x"])?;
    ensure!(no.status.code() == Some(126), "{no:?}");
    let again = lab.ssh(&[&socket, "echo two"])?;
    ensure!(again.stdout == "two\n", "{again:?}");
    let sessions = lab.daemon.audit().events("session.opened")?;
    ensure!(sessions.len() == 2, "{sessions:?}");
    drop(lab.ssh(&[&socket, "-Oexit"])?);
    Ok(())
}

#[test]
fn much_goes_both_ways_at_once_and_arrives_whole() -> Result<()> {
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    let (source, port) = (own.path().join("source"), lab.server.address().port());
    let mut words = lab.options();
    words.extend([
        "-p".to_owned(),
        port.to_string(),
        "x@127.0.0.1".to_owned(),
        "cat".to_owned(),
    ]);
    let script = format!(
        "head -c 50000000 /dev/urandom > {0}; ssh \"$@\" < {0} | cmp - {0} && echo same",
        source.display()
    );
    let mut line = vec!["-c", &script, "sh"];
    line.extend(words.iter().map(String::as_str));
    let run = lab.agent().run("sh", &line)?;
    ensure!(run.stdout == "same\n", "{run:?}");
    Ok(())
}

#[test]
fn files_are_copied_by_scp_sftp_and_rsync_and_each_operation_is_judged() -> Result<()> {
    let forbid = r#"
@id("all") permit (principal is Agent, action, resource);
@id("keep") forbid (principal is Agent, action in Action::"SshWrite", resource is File)
  when { resource.path like "*/kept*" };
@id("hidden") forbid (principal is Agent, action == Action::"ReadFile", resource is File)
  when { resource.path like "*/hidden*" };
"#;
    let lab = Lab::new(vec![("test.cedar".to_owned(), forbid.to_owned())])?;
    let own = lab.own()?;
    let local = own.path().join("local").display().to_string();
    fs::write(&local, "told\n")?;
    let remote = |name: &str| format!("x@127.0.0.1:{}", lab.at(name));
    lab.copy("scp", &[&local, &remote("new")])?.ok()?;
    ensure!(fs::read_to_string(lab.at("new"))? == "told\n");
    let back = own.path().join("back").display().to_string();
    lab.copy("scp", &["-O", &remote("new"), &back])?.ok()?;
    ensure!(fs::read_to_string(&back)? == "told\n");
    for name in ["kept", "kept-too"] {
        let no = refused(lab.copy("scp", &[&local, &remote(name)])?)?;
        has(&no, &["not permitted", "rule keep"])?;
        let no = refused(lab.copy("scp", &["-O", &local, &remote(name)])?)?;
        has(&no, &["not permitted", "rule keep"])?;
        ensure!(!PathBuf::from(lab.at(name)).exists(), "{name} was written");
    }
    fs::write(lab.at("hidden"), "secret\n")?;
    let batch = own.path().join("batch").display().to_string();
    fs::write(
        &batch,
        format!(
            "cd {}\nls -l\n-get hidden {back}-hidden\n-rm kept\n-rename new kept\nmkdir made\nget new {back}-2\n",
            lab.server.files().display()
        ),
    )?;
    let sftp = lab.copy("sftp", &["-b", &batch, "x@127.0.0.1"])?;
    ensure!(sftp.status.success(), "{sftp:?}");
    has(&sftp.stdout, &["hidden", "new"])?;
    has(&sftp.stderr, &["rule hidden", "rule keep"])?;
    ensure!(fs::read_to_string(format!("{back}-2"))? == "told\n");
    ensure!(
        !PathBuf::from(format!("{back}-hidden")).exists()
            || fs::read(format!("{back}-hidden"))?.is_empty()
    );
    ensure!(PathBuf::from(lab.at("made")).is_dir());
    let lines = lab.daemon.audit().lines()?;
    let all = serde_json::to_string(&lines)?;
    has(&all, &["sftp open", "sftp mkdir", "RemoveFile"])?;
    rsync(&lab, &local)
}

/// How each operation of sftp came out, as the audit has it.
fn came_out(lab: &Lab, said: &str) -> Result<Vec<(String, u64, u64)>> {
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let mut all = Vec::new();
    for line in permitted {
        if !text(&line, "/statement")?.starts_with(said) {
            continue;
        }
        let request = line.get("request").context("no request")?;
        let finished = lab
            .daemon
            .audit()
            .wait_for("request.finished", DEADLINE, |end| {
                end.get("request") == Some(request)
            })?;
        let number = |key: &str| finished.get(key).and_then(serde_json::Value::as_u64);
        let (read, written) = (number("bytes").unwrap_or(0), number("written").unwrap_or(0));
        all.push((text(&finished, "/status")?.to_owned(), read, written));
    }
    Ok(all)
}

#[test]
fn the_audit_says_of_each_file_whether_it_was_there_and_how_much_was_read_and_written() -> Result<()>
{
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    let local = own.path().join("local");
    fs::write(&local, "x".repeat(300_000))?;
    let (there, missing) = (lab.at("there"), lab.at("missing"));
    let local = local.display().to_string();
    lab.copy("scp", &[&local, &format!("x@127.0.0.1:{there}")])?
        .ok()?;
    let back = own.path().join("back").display().to_string();
    lab.copy("scp", &[&format!("x@127.0.0.1:{there}"), &back])?
        .ok()?;
    ensure!(fs::read(&back)?.len() == 300_000);
    let batch = own.path().join("batch").display().to_string();
    fs::write(
        &batch,
        format!("-rm {missing}\n-get {missing}\nmkdir {missing}\n"),
    )?;
    lab.copy("sftp", &["-b", &batch, "x@127.0.0.1"])?.ok()?;
    let opened = came_out(&lab, &format!("sftp open {there}"))?;
    let wanted = [("ok".to_owned(), 0, 300_000), ("ok".to_owned(), 300_000, 0)];
    ensure!(opened == wanted, "{opened:?}");
    for (said, wanted) in [("remove", "no such file"), ("mkdir", "ok")] {
        let out = came_out(&lab, &format!("sftp {said} {missing}"))?;
        ensure!(out == [(wanted.to_owned(), 0, 0)], "{said}: {out:?}");
    }
    Ok(())
}

fn rsync(lab: &Lab, local: &str) -> Result<()> {
    let mut words = lab.options();
    words.extend(["-p".to_owned(), lab.server.address().port().to_string()]);
    let shell = format!("ssh {}", words.join(" "));
    let remote = |name: &str| format!("x@127.0.0.1:{}", lab.at(name));
    let sync = |from: &str, to: &str| lab.agent().run("rsync", &["-a", "-e", &shell, from, to]);
    sync(local, &remote("synced"))?.ok()?;
    ensure!(fs::read_to_string(lab.at("synced"))? == "told\n");
    let no = refused(sync(local, &remote("kept"))?)?;
    has(&no, &["rule keep"])?;
    let no = refused(sync(&remote("hidden"), local)?)?;
    has(&no, &["rule hidden"])
}

#[test]
fn git_clones_and_pushes_where_its_verb_is_permitted() -> Result<()> {
    let rules = r#"
@id("all") permit (principal is Agent, action, resource);
@id("no-push") forbid (principal is Agent, action == Action::"Exec", resource)
  when { context.gitVerb == "push" && context.gitRepository like "*/closed.git" };
"#;
    let lab = Lab::new(vec![("test.cedar".to_owned(), rules.to_owned())])?;
    let make = format!(
        "for name in open closed; do git init -q --bare {}/$name.git; done",
        lab.server.files().display()
    );
    lab.ssh(&[&make])?.ok()?;
    let own = lab.own()?;
    let command = format!(
        "ssh -p {} {}",
        lab.server.address().port(),
        lab.options().join(" ")
    );
    let agent = lab
        .agent()
        .with("GIT_SSH_COMMAND", &command)
        .with("HOME", "/tmp");
    let push = |name: &str| {
        let script = format!(
            "set -e; cd {0}; git clone -q x@127.0.0.1:{1}/{2}.git {2}; cd {2}; \
             git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one; git push -q origin HEAD:main; echo pushed",
            own.path().display(),
            lab.server.files().display(),
            name
        );
        agent.run("sh", &["-c", &script])
    };
    has(&push("open")?.ok()?, &["pushed"])?;
    let no = refused(push("closed")?)?;
    has(&no, &["git push of ", "is not permitted", "rule no-push"])
}

#[test]
fn forwards_are_closed_unless_they_are_permitted() -> Result<()> {
    let lab = Lab::permitting()?;
    let port = lab.server.address().port();
    let to = format!("-W127.0.0.1:{port}");
    let no = refused(lab.ssh(&[&to])?)?;
    has(&no, &["administratively prohibited"])?;
    let refusals = lab.daemon.audit().events("request.refused")?;
    has(
        &serde_json::to_string(&refusals)?,
        &["ForwardTo", "127.0.0.1"],
    )?;
    let no = lab.ssh(&["-A", "ssh-add -l; echo ${SSH_AUTH_SOCK:-none}"])?;
    has(&no.stdout, &["none"])?;
    let no = lab.ssh(&["-oExitOnForwardFailure=yes", "-R0:127.0.0.1:1", "true"])?;
    ensure!(!no.status.success(), "{no:?}");
    let open = ALL_BUT_RM.replace("unless { action in Action::\"SshForward\" }", "");
    let lab = Lab::new(vec![("test.cedar".to_owned(), open)])?;
    let to = format!("-W127.0.0.1:{}", lab.server.address().port());
    let through = lab.ssh(&[&to])?;
    has(&through.stdout, &["SSH-2.0-OpenSSH"])
}

#[test]
fn a_server_with_another_key_than_the_configured_gets_no_login() -> Result<()> {
    let server = Sshd::start()?;
    let other = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let wrong = target.replace(&server.host_key()?, &other.host_key()?);
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    let lab = Lab::over(server, &wrong, all)?;
    let no = refused(lab.ssh(&["true"])?)?;
    has(&no, &["did not show the host key that is configured"])?;
    lacks(&lab.server.log(), &["Accepted publickey"])?;
    let refusals = lab.daemon.audit().events("connection.refused")?;
    has(
        &serde_json::to_string(&refusals)?,
        &["which is none of its own"],
    )
}

#[test]
fn a_certificate_that_is_made_for_each_login_logs_in() -> Result<()> {
    let server = Sshd::start_with(&["AuthorizedKeysFile none", "TrustedUserCAKeys %ca"])?;
    let login = format!(
        "sign: {{ ca: {{ file: {} }} }}",
        server.authority().display()
    );
    let target = server.target("web", &login, &[])?;
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    let lab = Lab::over(server, &target, all)?;
    let run = lab.ssh(&["id -un"])?.ok()?;
    ensure!(run.trim() == lab.server.user());
    has(&lab.server.log(), &["CERT", "interceptor"])
}

#[test]
fn the_starter_pack_lets_an_agent_look_and_no_more() -> Result<()> {
    let lab = Lab::new(place::pack("starter")?)?;
    lab.ssh(&["id"])?.ok()?;
    let no = lab.ssh(&["id | cat"])?;
    ensure!(no.status.code() == Some(126), "{no:?}");
    has(&no.stderr, &["a command with pipeline is not permitted"])?;
    let no = lab.ssh(&["sh -c id"])?;
    has(&no.stderr, &["running sh is not permitted"])?;
    let no = lab.ssh(&["-tt"])?;
    has(&no.stderr, &["an interactive shell is not permitted"])
}

/// The target of a daemon that learns its server's key.
fn learning(server: &Sshd) -> Result<String> {
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    Ok(target.replace(&server.host_key()?, "learn"))
}

#[test]
fn a_key_that_was_learned_stays_and_another_is_an_alarm() -> Result<()> {
    let mut server = Sshd::start()?;
    let target = learning(&server)?;
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    server.change_key()?;
    let mut lab = Lab::over(server, &target, all)?;
    lab.ssh(&["true"])?.ok()?;
    lab.ssh(&["true"])?.ok()?;
    let learned = lab.daemon.audit().events("host.learned")?;
    ensure!(learned.len() == 1, "{learned:?}");
    ensure!(text(&learned[0], "/key")?.starts_with("SHA256:"));
    lab.server.change_key()?;
    let no = refused(lab.ssh(&["true"])?)?;
    has(&no, &["did not show the host key"])?;
    let changed = lab.daemon.audit().events("host.changed")?;
    ensure!(changed.len() == 1, "{changed:?}");
    ensure!(text(&changed[0], "/known")? == text(&learned[0], "/key")?);
    ensure!(text(&changed[0], "/known")? != text(&changed[0], "/shown")?);
    let metrics = lab.daemon.cli(&["metrics"])?.ok()?;
    has(
        &metrics,
        &["interceptor_host_keys_changed_total{target=\"web\"} 1"],
    )?;
    Ok(())
}

#[test]
fn what_detectors_find_in_the_output_is_masked_and_counted() -> Result<()> {
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let mut target = server.target("web", &login, &[])?;
    target.push_str("    detect: { email: mask, jwt: refuse }\n");
    let all = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    let lab = Lab::over(server, &target, all)?;
    let run = lab.ssh(&[
        "printf 'to alice@exam'; sleep 0.2; echo 'ple.com now'; echo bob@example.com >&2",
    ])?;
    ensure!(run.stdout == "to ***************** now\n", "{run:?}");
    ensure!(run.stderr == "***************\n", "{run:?}");
    lab.daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line.pointer("/found/email").is_some_and(|found| found == 2)
        })?;
    Ok(())
}

/// Logs in as paramiko does: no authorities, keys by name, a password that is used for nothing.
const PARAMIKO: &str = r#"
import os, paramiko
client = paramiko.SSHClient()
client.load_host_keys(os.environ["KNOWN"])
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect("127.0.0.1", int(os.environ["PORT"]), "anybody", password=os.environ["SHOWN"],
               allow_agent=False, look_for_keys=False)
_, out, err = client.exec_command("echo out; echo err >&2; exit 3")
print(out.read().decode().strip(), err.read().decode().strip(), out.channel.recv_exit_status())
_, out, err = client.exec_command("rm x")
print(out.channel.recv_exit_status(), err.read().decode().split("\n")[0])
sftp = client.open_sftp()
with sftp.open(os.environ["FILE"], "w") as file:
    file.write("x" * 300000)
print(sftp.stat(os.environ["FILE"]).st_size)
with sftp.open(os.environ["FILE"]) as file:
    file.prefetch()
    print(len(file.read()))
"#;

#[test]
fn paramiko_logs_in_by_the_plain_key_and_its_password_is_only_reported() -> Result<()> {
    let lab = Lab::permitting()?;
    let agent = lab
        .agent()
        .with("KNOWN", &lab.known_hosts.display().to_string())
        .with("PORT", &lab.server.address().port().to_string())
        .with("FILE", &lab.at("by-paramiko"))
        .with("SHOWN", "hunter2");
    let python = place::python()?.display().to_string();
    let run = agent.run(&python, &["-c", PARAMIKO])?;
    let out = run.ok()?;
    let wanted = "out err 3\n126 ERROR:  running rm is not permitted\n300000\n300000\n";
    ensure!(out == wanted, "{out}");
    let presented = lab.daemon.audit().events("credential.presented")?;
    ensure!(presented.len() == 1, "{presented:?}");
    let all = serde_json::to_string(&lab.daemon.audit().lines()?)?;
    lacks(&all, &["hunter2"])
}

#[test]
fn nothing_of_the_credential_is_in_the_agents_reach() -> Result<()> {
    let lab = Lab::permitting()?;
    let mut client = lab.agent().start("sh", &["-c", "true"])?;
    client.finish(DEADLINE)?;
    let key = fs::read_to_string(lab.server.key())?;
    let line = key.lines().nth(2).context("a key has lines")?;
    let run = lab.ssh(&["-vvv", "env; cat /proc/self/environ; true"])?;
    lacks(&run.stdout, &[line, "SSH_AUTH_SOCK"])?;
    lacks(
        &run.stderr,
        &[
            line,
            "Authenticated to 127.0.0.1 ([127.0.0.1]:22) using \"publickey\"",
        ],
    )?;
    has(&run.stderr, &["using \"none\"", "strict KEX ordering"])?;
    let no = lab
        .agent()
        .run("cat", &[&lab.server.key().display().to_string()])?;
    ensure!(!no.status.success(), "the agent reads the key");
    let all = serde_json::to_string(&lab.daemon.audit().lines()?)?;
    lacks(&all, &[line])
}

#[test]
fn a_command_is_held_until_somebody_says_yes_and_a_shell_is_one_permit() -> Result<()> {
    let rules = r#"
@id("all") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("run") @approve("games") @shape("10m") permit (principal is Agent, action in [Action::"Exec", Action::"Shell"], resource);
@id("answers")
permit (principal is User, action == Action::"Approve", resource) when { principal.groups.contains("games") };
"#;
    let lab = Lab::new(vec![("test.cedar".to_owned(), rules.to_owned())])?;
    let mut line = lab.options();
    let port = lab.server.address().port().to_string();
    line.extend(["-p".to_owned(), port, "x@127.0.0.1".to_owned()]);
    for shell in [false, true] {
        let mut words: Vec<&str> = line.iter().map(String::as_str).collect();
        if shell {
            words.insert(0, "-tt");
        } else {
            words.push("cat; echo done");
        }
        let mut ssh = lab.agent().start("ssh", &words)?;
        ssh.send(if shell {
            "echo do''ne\nexit 4\n"
        } else {
            "sent\n"
        })?;
        if !shell {
            ssh.close_input();
        }
        ssh.await_text("waiting for approval", DEADLINE)?;
        let listed = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
        let one: serde_json::Value = serde_json::from_str(listed.trim())?;
        let socket = lab.daemon.run_directory().join("control.sock");
        let words = [
            "approvals",
            "approve",
            text(&one, "/id")?,
            "--socket",
            &socket.to_string_lossy(),
        ];
        let program = place::interceptor()?;
        let program = program.to_string_lossy();
        let answers = Agent::outside().as_uid(5);
        // What a command is made of is the deed: nothing else is of its shape.
        let wide = [&words[..], &["--shape", "5m"]].concat();
        let told = refused(answers.run(&program, &wide)?)?;
        has(&told, &["an answer covers what was shown"])?;
        answers.run(&program, &words)?.ok()?;
        let finished = ssh.finish(DEADLINE)?;
        has(&finished.stdout, &["done"])?;
        let code = if shell { 4 } else { 0 };
        ensure!(finished.status.code() == Some(code), "{finished:?}");
    }
    Ok(())
}

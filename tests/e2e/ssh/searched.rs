//! Where detectors look, and where they cannot: what is no text goes on whole or not at all, and nobody waits for ever
//! for what is held back.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use support::{DEADLINE, Finished, Sshd};

use super::Lab;
use crate::lab::{has, lacks, refused};

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;
/// A file that a mask would change.
const TEXT: &str = "to alice@example.com\n";

/// A lab whose target looks for addresses of mail.
fn looking(action: &str, more: &[&str]) -> Result<Lab> {
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let mut target = server.target("web", &login, more)?;
    target.push_str(&format!("    detect: {{ email: {action} }}\n"));
    let rules = vec![("test.cedar".to_owned(), ALL.to_owned())];
    Lab::over(server, &target, rules)
}

/// A client that goes on.
fn start(lab: &Lab, words: &[&str]) -> Result<support::Process> {
    let port = lab.server.address().port().to_string();
    let own = lab.options();
    let mut line: Vec<&str> = own.iter().map(String::as_str).collect();
    line.extend(["-p", &port]);
    let (options, command): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with('-'));
    line.extend(options);
    line.push("x@127.0.0.1");
    line.extend(command);
    lab.agent().start("ssh", &line)
}

/// Runs a script with `ssh` and its options in `$SSH`, where copies are made to and from `$AT`.
fn script(lab: &Lab, own: &str, text: &str) -> Result<Finished> {
    let port = lab.server.address().port();
    let ssh = format!("ssh -p {port} {}", lab.options().join(" "));
    let agent = lab
        .agent()
        .with("SSH", &ssh)
        .with("OPTIONS", &format!("-P {port} {}", lab.options().join(" ")))
        .with("GIT_SSH_COMMAND", &ssh)
        .with("HOME", "/tmp")
        .with("FILES", &lab.server.files().display().to_string())
        .with(
            "AT",
            &format!("x@127.0.0.1:{}", lab.server.files().display()),
        )
        .with("OWN", own);
    agent.run("sh", &["-ec", text])
}

const UPLOADS: &str = r#"
cd "$OWN"; printf 'to alice@example.com\n' > up
scp -q $OPTIONS up "$AT/by-sftp"
scp -q -O $OPTIONS up "$AT/by-scp"
rsync -e "$SSH" up "$AT/by-rsync"
$SSH x@127.0.0.1 "git init -q --bare $FILES/repo.git"
git init -q -b main made; cp up made/file; cd made; git add file
git -c user.name=a -c user.email=a@b commit -q -m 'by alice@example.com'
git push -q "$AT/repo.git" HEAD:main; echo uploaded
"#;

const DOWNLOADS: &str = r#"
cd "$OWN"; mkdir down
scp -q $OPTIONS "$AT/by-sftp" down/sftp
scp -q -O $OPTIONS "$AT/by-scp" down/scp
rsync -e "$SSH" "$AT/by-rsync" down/rsync
git clone -q -b main "$AT/repo.git" down/repo; cp down/repo/file down/git
cat down/sftp down/scp down/rsync down/git
"#;

#[test]
fn copies_git_and_forwards_go_on_whole_where_the_target_lets_them() -> Result<()> {
    let lab = looking("mask", &["unread: pass"])?;
    let own = lab.own()?;
    let own = own.path().display().to_string();
    has(&script(&lab, &own, UPLOADS)?.ok()?, &["uploaded"])?;
    let down = script(&lab, &own, DOWNLOADS)?.ok()?;
    ensure!(down == TEXT.repeat(4), "{down:?}");
    // Both ends of a forward wait for each other's word.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = format!("-W{}", listener.local_addr()?);
    let heard = thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"who is alice@exam")?;
        let mut said = [0; 3];
        stream.read_exact(&mut said)?;
        stream.write_all(b"ple.com")?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    });
    let mut ssh = start(&lab, &[&to])?;
    ssh.await_text("who is alice@exam", DEADLINE)?;
    ssh.send("me\n")?;
    ssh.await_text("alice@example.com", DEADLINE)?;
    let heard = heard.join().ok().context("the listener failed")??;
    ensure!(heard == "me\n", "{heard:?}");
    ssh.close_input();
    ssh.finish(DEADLINE)?;
    // What is text is looked at all the same.
    let shown = lab.ssh(&[&format!("cat {}", lab.at("by-scp"))])?;
    ensure!(shown.stdout == "to *****************\n", "{shown:?}");
    Ok(())
}

#[test]
fn who_speaks_with_a_command_without_a_terminal_is_not_left_waiting() -> Result<()> {
    let lab = looking("mask", &[])?;
    let mut ssh = start(&lab, &["printf name; read x; echo \"it is $x\""])?;
    ssh.await_text("name", DEADLINE)?;
    ssh.send("bob@example.com\n")?;
    ssh.close_input();
    let finished = ssh.finish(DEADLINE)?;
    has(&finished.stdout, &["it is ***************"])
}

#[test]
fn what_cannot_be_searched_is_refused_where_values_are_masked_and_not_where_they_are_reported()
-> Result<()> {
    let lab = looking("mask", &[])?;
    let own = lab.own()?;
    let own = own.path().display().to_string();
    // What goes to the server brings nothing.
    has(&script(&lab, &own, UPLOADS)?.ok()?, &["uploaded"])?;
    let said = "cannot be searched for the values that are masked here";
    for line in [
        r#"scp -q $OPTIONS "$AT/by-sftp" "$OWN/got""#,
        r#"scp -q -O $OPTIONS "$AT/by-scp" "$OWN/got""#,
        r#"rsync -e "$SSH" "$AT/by-rsync" "$OWN/got""#,
        r#"git clone -q "$AT/repo.git" "$OWN/got""#,
    ] {
        let no = script(&lab, &own, line)?;
        lacks(&no.stdout, &["alice"])?;
        has(&refused(no)?, &[said]).with_context(|| line.to_owned())?;
        let got = fs::read_to_string(format!("{own}/got")).unwrap_or_default();
        ensure!(got.is_empty(), "{line} brought {got:?}");
    }
    let to = format!("-W{}", lab.server.address());
    has(
        &refused(lab.ssh(&[&to])?)?,
        &["administratively prohibited"],
    )?;
    let refusals = lab.daemon.audit().events("request.refused")?;
    has(
        &serde_json::to_string(&refusals)?,
        &[said, "what a forward brings"],
    )?;
    let lab = looking("report", &[])?;
    let own = lab.own()?;
    let own = own.path().display().to_string();
    has(&script(&lab, &own, UPLOADS)?.ok()?, &["uploaded"])?;
    let down = script(&lab, &own, DOWNLOADS)?.ok()?;
    ensure!(down == TEXT.repeat(4), "{down:?}");
    Ok(())
}

//! Commands in containers as they were: masked however they are carried, shown, played, exported, watched and ended.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Process, port, wait};

use super::streams::Lab;
use crate::console::{is_content, root};
use crate::lab::{has, lacks, text};

const ALL: &str = r#"@id("all") permit (principal is Agent, action, resource);"#;

/// The session of the stream that was asked for last, when it is over.
fn ended(lab: &Lab) -> Result<String> {
    let permitted = lab.daemon.audit().events("request.permitted")?;
    let is_stream = |line: &&Value| {
        text(line, "/summary")
            .is_ok_and(|said| said.starts_with("exec") || said.starts_with("attach"))
    };
    let stream = permitted.iter().rfind(is_stream).context("no stream")?;
    let session = text(stream, "/session")?.to_owned();
    let is_its = |line: &Value| text(line, "/session").is_ok_and(|closed| closed == session);
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, is_its)?;
    Ok(session)
}

/// A command at a terminal of 90 columns; `client` before its words.
fn at_terminal(lab: &Lab, client: &str, words: &str) -> Result<Process> {
    let line = format!("stty cols 90 rows 20; exec {client} {words}");
    let spawn = "import pty, sys; sys.exit(pty.spawn(['sh', '-c', sys.argv[1]]) >> 8)";
    lab.agent().start("/usr/bin/python3", &["-c", spawn, &line])
}

#[test]
fn a_command_is_shown_played_and_exported_with_its_streams_told_apart() -> Result<()> {
    let lab = Lab::with(ALL, "")?;
    for client in lab.clients()? {
        let ran = lab.exec(&client, &["false", "b c"])?;
        ensure!(ran.status.code() == Some(7), "{ran:?}");
        let id = ended(&lab)?;
        let shown = lab.daemon.cli(&["sessions", "show", &id])?.ok()?;
        has(
            &shown,
            &[
                "101 Switching Protocols",
                "standard error",
                "and said so",
                "ran false|b c",
                "exit 7",
            ],
        )?;
        let play = ["sessions", "play", &id, "--instant"];
        let played = lab.daemon.cli(&play)?.ok()?;
        has(&played, &["ran false|b c", "and said so"])?;
        lacks(&played, &["HTTP/1.1"])?;
        for (format, wanted) in [
            (
                "asciicast-v2",
                ["\"version\":2", "\"command\":\"false \\\"b c\\\"\""],
            ),
            ("asciicast-v3", ["\"version\":3", "\"x\",\"7\""]),
        ] {
            let words = ["sessions", "export", &id, "--format", format];
            let cast = lab.daemon.cli(&words)?.ok()?;
            has(&cast, &wanted)?;
            has(
                &cast,
                &[
                    "\"o\",\"ran false|b c\\r\\n\"",
                    "\"o\",\"and said so\\r\\n\"",
                ],
            )?;
        }
    }
    lab.daemon.cli(&["audit", "verify"])?.ok().map(drop)
}

#[test]
fn what_a_command_shows_is_masked_in_whatever_frames_it_comes() -> Result<()> {
    let lab = Lab::with(ALL, "    detect: { email: mask, jwt: refuse }\n")?;
    for (index, client) in lab.clients()?.iter().enumerate() {
        let ran = lab.exec(client, &["leak"])?;
        ensure!(ran.status.code() == Some(7), "{ran:?}");
        ensure!(ran.stdout == "to ***************** now\n", "{ran:?}");
        ensure!(ran.stderr.contains("***************\n"), "{ran:?}");
        lacks(&ran.stderr, &["bob@", "example.com"])?;
        let id = ended(&lab)?;
        let play = ["sessions", "play", &id, "--instant"];
        let played = lab.daemon.cli(&play)?.ok()?;
        has(&played, &["to ***************** now"])?;
        lacks(&played, &["alice", "bob"])?;
        let found = |line: &&Value| line.pointer("/found/email").is_some_and(|found| found == 2);
        wait::for_fact("what was found", DEADLINE, || {
            let finished = lab.daemon.audit().events("request.finished")?;
            Ok((finished.iter().filter(found).count() > index).then_some(()))
        })?;
        let ran = lab.exec(client, &["token"])?;
        ensure!(!ran.status.success(), "{ran:?}");
        ensure!(!ran.stdout.contains("eyJ"), "{ran:?}");
        has(&ran.stderr, &["interceptor: ", "goes no farther: jwt"])?;
    }
    Ok(())
}

#[test]
fn a_terminal_is_kept_with_its_size_and_what_was_typed() -> Result<()> {
    let lab = Lab::with(ALL, "")?;
    let [spdy, websocket] = lab.clients()?;
    for (client, words) in [
        (&spdy, "exec -it web -- shell"),
        (&websocket, "exec -it web -- shell"),
        (&websocket, "attach -it web"),
    ] {
        let mut shell = at_terminal(&lab, client, words)?;
        shell.await_text("$ ", DEADLINE)?;
        shell.send("hello\r")?;
        shell.await_text("you said hello", DEADLINE)?;
        shell.send("exit\r")?;
        shell.finish(DEADLINE)?;
        let id = ended(&lab)?;
        let words = ["sessions", "export", &id, "--format", "asciicast-v3"];
        let cast = lab.daemon.cli(&words)?.ok()?;
        has(&cast, &["\"i\"", "you said hello", "\"x\",\"7\""])?;
        // Said before anything is shown, or after it.
        let sizes = ["\"cols\":90,\"rows\":20", "\"r\",\"90x20\""];
        ensure!(sizes.iter().any(|size| cast.contains(size)), "{cast}");
        let shown = lab.daemon.cli(&["sessions", "show", &id])?.ok()?;
        has(&shown, &["you said hello", "exit 7"])?;
    }
    Ok(())
}

#[test]
fn a_command_is_watched_in_the_page_and_ended_there() -> Result<()> {
    let at = port::free()?;
    let lab = Lab::with(ALL, &format!("console: {{ listen: '{at}' }}\n"))?;
    let [_, today] = lab.clients()?;
    let mut shell = at_terminal(&lab, &today, "exec -it web -- shell")?;
    shell.await_text("$ ", DEADLINE)?;
    shell.send("first\r")?;
    shell.await_text("you said first", DEADLINE)?;
    let opened = lab.daemon.audit().events("request.permitted")?;
    let is_exec = |line: &&Value| text(line, "/summary").is_ok_and(|said| said.starts_with("exec"));
    let exec = opened.iter().rfind(is_exec).context("nothing runs")?;
    let id = text(exec, "/session")?.to_owned();
    let mut browser = root(&lab.daemon)?;
    browser.value(&format!("location.hash = '#/sessions/{id}'"))?;
    browser.shows("terminal 1 opens: shell")?;
    let screen = "document.querySelector('#screen').textContent";
    browser.wait(&format!("{screen}.includes('you said first')"))?;
    shell.send("second\r")?;
    browser.wait(&format!("{screen}.includes('you said second')"))?;
    browser.click("#end")?;
    browser.click("#end")?;
    let finished = shell.finish(DEADLINE)?;
    ensure!(!finished.status.success(), "{finished:?}");
    browser.shows("over: killed")?;
    is_content(&browser)
}

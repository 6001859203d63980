//! A shell in the console: as it goes on, beside what was asked; ended from there; and afterwards, from any time.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Sshd, port, wait};

use super::{ALL_BUT_RM, Lab};
use crate::console::{is_content, root};
use crate::lab::{has, text};

fn lab() -> Result<Lab> {
    let (server, at) = (Sshd::start()?, port::free()?);
    let login = format!("key: {{ file: {} }}", server.key().display());
    let mut target = server.target("web", &login, &[])?;
    target.push_str("    statement: full\n");
    target.push_str(&format!("console: {{ listen: '{at}' }}\n"));
    let rules = vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())];
    Lab::over(server, &target, rules)
}

/// What the terminal in the page shows.
const SCREEN: &str = "document.querySelector('#screen').textContent";

#[test]
fn a_shell_is_watched_in_the_page_ended_there_and_played_again() -> Result<()> {
    let lab = lab()?;
    let mut ssh = super::replay::shell(&lab)?;
    ssh.await_text("$ ", DEADLINE)?;
    ssh.send("stty cols 60; printf 'a\\033[31mred\\033[0m one\\n'; echo fi''rst\n")?;
    ssh.await_text("first", DEADLINE)?;
    let mut browser = root(&lab.daemon)?;
    browser.press("3")?;
    browser.shows("Open sessions")?;
    browser.click("main a[href^='#/sessions/']")?;
    browser.shows("What happened when")?;
    browser.wait(&format!("{SCREEN}.includes('ared one')"))?;
    browser.wait("document.querySelector('#screen .ink1')?.textContent === 'red'")?;
    // It goes on by itself.
    ssh.send("echo li''ve\n")?;
    browser.wait(&format!("{SCREEN}.includes('live')"))?;
    // Beside it stands why that runs.
    browser.shows("terminal 0 opens: a shell")?;
    browser
        .wait("document.querySelector('#timeline').textContent.includes('request.permitted')")?;
    browser.wait("document.querySelector('#timeline').textContent.includes('rule all')")?;
    let opened = lab.daemon.audit().events("session.opened")?;
    let id = text(opened.first().context("no session")?, "/session")?.to_owned();
    browser.click("#end")?;
    browser.click("#end")?;
    let finished = ssh.finish(DEADLINE)?;
    has(&finished.stderr, &["the session was ended: killed"])?;
    browser.shows("over: killed")?;
    browser.wait("document.querySelector('#end') === null")?;
    // From its beginning on, and on to its end by itself.
    browser.value(
        "const seek = document.querySelector('#seek'); seek.value = 0; seek.dispatchEvent(new Event('input'))",
    )?;
    browser.wait(&format!("!{SCREEN}.includes('live')"))?;
    browser.value("document.querySelector('#speed').value = 8")?;
    browser.click("#play")?;
    browser.wait(&format!("{SCREEN}.includes('live')"))?;
    browser.wait("document.querySelector('#play').textContent === 'Play'")?;
    let read =
        |line: &Value| line["verb"] == "read" && line["detail"]["which"] == format!("watch {id}");
    lab.daemon.audit().wait_for("control", DEADLINE, read)?;
    is_content(&browser)
}

#[test]
fn commands_are_shown_as_they_printed_however_they_drew() -> Result<()> {
    let lab = lab()?;
    // What could become markup, or another's words, is text.
    lab.ssh(&[
        "printf '<b>bold</b>\\n\\033]0;title\\007\\033[2;3Hthere\\n'; echo err >&2; exit 3",
    ])?;
    let no = lab.ssh(&["rm x"])?;
    ensure!(no.status.code() == Some(126), "{no:?}");
    let ids = wait::for_fact("sessions that ended", DEADLINE, || {
        let closed = lab.daemon.audit().events("session.closed")?;
        let ids: Vec<_> = closed.iter().map(|line| line["session"].clone()).collect();
        Ok((ids.len() == 2).then_some(ids))
    })?;
    let mut browser = root(&lab.daemon)?;
    for (id, shows, happened) in [
        (&ids[0], ["<b>bold</b>", "  there", "err"], "exit 3"),
        (
            &ids[1],
            ["ERROR:  running rm", "rule no-rm", "HINT"],
            "exit 126",
        ),
    ] {
        let id = id.as_str().context("no id")?;
        browser.value(&format!("location.hash = '#/sessions/{id}'"))?;
        browser.shows("over: client")?;
        for shown in shows {
            browser.wait(&format!("{SCREEN}.includes('{shown}')"))?;
        }
        browser.shows(happened)?;
    }
    browser.wait("document.querySelector('#timeline').textContent.includes('rule no-rm')")?;
    is_content(&browser)
}

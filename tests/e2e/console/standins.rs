//! People of an issuer who stand in for each other, and for users of the host, named in the page.

use anyhow::{Result, ensure};
use serde_json::Value;
use support::{Agent, Browser, DEADLINE, Finished, place};

use super::{Scene, WATCHER, is_content, log_in};
use crate::lab::{has, refused, text};

/// Users of the host: one who may answer as one of a group, one who may not.
const GAMES: u32 = 5;
const MAIL: u32 = 8;

const HOST: &str = r#"
@id("games") permit (principal is User, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("games") };
"#;

/// `interceptor approvals …` of a user outside of every scope.
fn approvals(scene: &Scene, uid: u32, words: &[&str]) -> Result<Finished> {
    let socket = scene.lab.daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    let words = [&["approvals"], words, &["--socket", &socket]].concat();
    let program = place::interceptor()?;
    Agent::outside()
        .as_uid(uid)
        .run(&program.to_string_lossy(), &words)
}

/// Names a stand-in in the page.
fn name(browser: &mut Browser, kind: &str, who: &str, time: &str) -> Result<()> {
    browser.press("6")?;
    browser.shows("Name the stand-in")?;
    browser.value(&format!(
        "document.querySelector('#stand-in-kind').value = '{kind}'; \
         document.querySelector('#stand-in').value = '{who}'; \
         document.querySelector('#stand-in-time').value = '{time}'"
    ))?;
    browser.click("#delegate")
}

/// The approval that was answered last but `before`.
fn said(scene: &Scene, before: &[&str]) -> Result<Value> {
    let is_new = |line: &Value| {
        before
            .iter()
            .all(|id| line["approval"].as_str() != Some(*id))
    };
    scene
        .lab
        .daemon
        .audit()
        .wait_for("approval.answered", DEADLINE, is_new)
}

#[test]
fn people_of_an_issuer_stand_in_for_each_other_while_they_are_away() -> Result<()> {
    let (_provider, _issuer, scene) = Scene::by_issuer(HOST)?;
    let psql = scene.held()?;
    let mut joe = Browser::start(WATCHER)?;
    log_in(&mut joe, &scene.url, "intern-joe")?;
    joe.shows("Nothing waits for an approval.")?;

    let mut jane = Browser::start(WATCHER)?;
    log_in(&mut jane, &scene.url, "jane")?;
    for (kind, who, time, told) in [
        ("user", "idp:jane", "8h", "nobody stands in for himself"),
        ("group", "other:dba", "8h", "nobody comes in by an issuer"),
        ("group", "idp:interns", "8d", "at most 7d"),
    ] {
        name(&mut jane, kind, who, time)?;
        jane.shows(told)?;
    }
    jane.shows("Others name you as idp:jane")?;
    name(&mut jane, "group", "idp:interns", "8h")?;
    jane.shows("From now on: anybody of idp:interns.")?;
    jane.shows("anybody of idp:interns stands in for idp:jane")?;
    // She is away: her login is over.
    jane.click("#leave")?;
    jane.shows("You are logged out.")?;

    joe.press("2")?;
    joe.press("1")?;
    joe.click("a[href^='#/approvals/']")?;
    joe.click("#approve")?;
    psql.await_text("row arrived", DEADLINE)?;
    let first = said(&scene, &[])?;
    let subject = |line: &Value, at: &str| {
        text(line, &format!("{at}/login/identity/subject")).map(str::to_owned)
    };
    ensure!(
        subject(&first, "/answer/by")? == "intern-joe"
            && subject(&first, "/answer/in_place/of")? == "jane",
        "another answer: {first}"
    );
    joe.press("6")?;
    joe.shows("anybody of idp:interns stands in for idp:jane")?;
    // It is not his to take back.
    joe.click("main li button")?;
    joe.click("main li button")?;
    joe.shows("no delegation of yours")?;

    // Once it is taken back nothing is his to see.
    log_in(&mut jane, &scene.url, "jane")?;
    jane.press("6")?;
    jane.click("main li button")?;
    jane.click("main li button")?;
    jane.shows("It is taken back")?;
    let _psql = scene.held()?;
    joe.press("1")?;
    joe.shows("Nothing waits for an approval.")?;
    is_content(&jane)
}

#[test]
fn users_of_the_host_and_people_of_an_issuer_stand_in_for_one_another() -> Result<()> {
    let (_provider, _issuer, scene) = Scene::by_issuer(HOST)?;
    // A user of the host in the place of a person.
    let psql = scene.held()?;
    let mut jane = Browser::start(WATCHER)?;
    log_in(&mut jane, &scene.url, "jane")?;
    name(&mut jane, "user", "mail", "8h")?;
    jane.shows("From now on: mail.")?;
    let asked = scene.lab.daemon.audit();
    let asked = asked.wait_for("approval.asked", DEADLINE, |_| true)?;
    let first = text(&asked, "/approval")?;
    has(
        &approvals(&scene, MAIL, &["delegations"])?.ok()?,
        &["user mail for idp:jane"],
    )?;
    approvals(&scene, MAIL, &["approve", first])?.ok()?;
    psql.await_text("row arrived", DEADLINE)?;
    let line = said(&scene, &[])?;
    ensure!(
        line["answer"]["by"]["uid"] == MAIL
            && line["answer"]["in_place"]["of"]["login"]["identity"]["subject"] == "jane",
        "another answer: {line}"
    );

    // And a person in the place of a user.
    let psql = scene.held()?;
    let mut joe = Browser::start(WATCHER)?;
    log_in(&mut joe, &scene.url, "intern-joe")?;
    let words = ["delegate", "--to", "user:idp:intern-joe", "--for", "8h"];
    approvals(&scene, GAMES, &words)?.ok()?;
    let words = ["delegate", "--to", "ipd:interns", "--for", "8h"];
    has(&refused(approvals(&scene, GAMES, &words)?)?, &["named ipd"])?;
    joe.press("2")?;
    joe.press("1")?;
    joe.click("a[href^='#/approvals/']")?;
    joe.click("#approve")?;
    psql.await_text("row arrived", DEADLINE)?;
    let line = said(&scene, &[first])?;
    ensure!(
        line["answer"]["in_place"]["of"]["uid"] == GAMES
            && line["answer"]["by"]["login"]["identity"]["subject"] == "intern-joe",
        "another answer: {line}"
    );
    is_content(&joe)
}

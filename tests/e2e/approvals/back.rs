//! What people said and think better of: a yes that is taken back, with what goes on by it; and a no that is
//! for whoever asks, not for one program of theirs.

use std::fs;

use super::*;

/// A yes for the shape of [`DELETE`], which holds.
fn shaped(lab: &Lab) -> Result<String> {
    refused(lab.psql(&[DELETE])?)?;
    let id = text(&waits(lab, 0)?, "/id")?.to_owned();
    approvals(lab, GAMES, &["approve", &id, "--shape", "5m"])?.ok()?;
    lab.psql(&[DELETE])?.ok()?;
    Ok(id)
}

#[test]
fn a_yes_is_taken_back_by_who_may_say_it_and_by_nobody_else() -> Result<()> {
    let lab = patient("0s")?;
    let id = shaped(&lab)?;
    let told = refused(approvals(&lab, MAIL, &["revoke", &id])?)?;
    has(&told, &["is not permitted"])?;
    lab.psql(&["delete from orders where id = 102"])?.ok()?;
    // Another one of those who may.
    let told = approvals(&lab, MAN, &["revoke", &id, "--json"])?.ok()?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told["state"]["why"] == "revoked", "another state: {told}");
    has(
        &refused(lab.psql(&["delete from orders where id = 103"])?)?,
        &["waits for an approval"],
    )?;
    ensure_orders(&lab, "id = 103", 1)?;
    ensure!(ended(&lab, &id)?["why"] == "revoked", "another end");
    let by = |line: &Value| line["verb"] == "revoke" && line["detail"]["approval"] == *id;
    let line = lab.daemon.audit().wait_for("control", DEADLINE, by)?;
    ensure!(line["result"] == "ok", "another line: {line}");
    let told = refused(approvals(&lab, GAMES, &["revoke", &id])?)?;
    has(&told, &["nobody's yes to that holds"]).map(drop)
}

#[test]
fn what_goes_on_by_a_yes_ends_when_it_is_taken_back() -> Result<()> {
    const RUNNING: &str =
        "select count(*) from pg_stat_activity where usename = 'shop_app' and state = 'active'";
    let lab = lab()?;
    let long = "select sum(amount) from salaries, generate_series(1, 1000000000000)";
    let psql = held(&lab, long)?;
    let id = text(&waits(&lab, 1)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    let runs = |count: &'static str| {
        support::wait::for_fact("what runs", DEADLINE, || {
            Ok((lab.server.admin(RUNNING)?.trim() == count).then_some(()))
        })
    };
    runs("1")?;
    // It was used up by that, which goes on.
    approvals(&lab, GAMES, &["revoke", &id])?.ok()?;
    psql.await_text(
        "the approval that this session went on by was taken back",
        DEADLINE,
    )?;
    runs("0")?;
    let log = lab.daemon.audit();
    let closed = log.wait_for("session.closed", DEADLINE, |line| {
        line["reason"] == "approval"
    })?;
    text(&closed, "/session").map(drop)
}

#[test]
fn a_kill_takes_back_what_people_said_yes_to() -> Result<()> {
    let lab = patient("0s")?;
    let id = shaped(&lab)?;
    lab.daemon.cli(&["kill", "demo"])?.ok()?;
    ensure!(ended(&lab, &id)?["why"] == "revoked", "another end");
    // The scope is there still, and has to ask again.
    has(
        &refused(lab.psql(&["delete from orders where id = 102"])?)?,
        &["waits for an approval"],
    )?;
    ensure_orders(&lab, "id = 102", 1)
}

#[test]
fn who_said_yes_as_the_first_of_two_may_still_say_no() -> Result<()> {
    let lab = lab()?;
    let psql = held(&lab, "update orders set item = 'x' where id = 101")?;
    let id = text(&waits(&lab, 1)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["approve", &id])?.ok()?;
    approvals(
        &lab,
        GAMES,
        &["deny", &id, "--reason", "on second thoughts"],
    )?
    .ok()?;
    psql.await_text("was denied by games: on second thoughts", DEADLINE)?;
    ensure_orders(&lab, "item = 'x'", 0)
}

#[test]
fn a_copy_of_the_program_does_not_ask_again_what_was_denied() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let lab = lab()?;
    let psql = held(&lab, DELETE)?;
    let id = text(&waits(&lab, 1)?, "/id")?.to_owned();
    approvals(&lab, GAMES, &["deny", &id, "--reason", "never"])?.ok()?;
    psql.await_text("was denied by games: never", DEADLINE)?;
    // Another byte, another hash.
    let place = tempfile::tempdir()?;
    let copy = place.path().join("psql");
    let mut program = fs::read(place::postgres_programs()?.join("psql"))?;
    program.push(0);
    fs::write(&copy, program)?;
    for path in [place.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let conninfo = lab.dsn().conninfo();
    let words = ["-X", "-w", "-d", &conninfo, "-c", DELETE];
    let told = refused(lab.agent().run(&copy.to_string_lossy(), &words)?)?;
    has(&told, &["was denied by games: never"])?;
    lacks(&told, &["waiting for approval"])?;
    let asked = lab.daemon.audit().events("approval.asked")?.len();
    ensure!(asked == 1, "asked {asked} times");
    Ok(())
}

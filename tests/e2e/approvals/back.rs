//! What people said and think better of: a yes that is taken back, with what goes on by it.

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

//! Where there is no room for a grant: nobody is asked for it, and nobody's word is used up by it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::place;

use super::{ask, words_of};
use crate::lab::{Lab, has, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("orders") @grant("1h") @grant_scope
permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("pay") @grant("1h") @grant_scope @approve("games")
permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.salaries");
"#;

/// Asks for orders until there is no room for more.
const FILL: &str = r#"
import http.client, os, socket
def ask():
    while True:
        agent = http.client.HTTPConnection('x')
        agent.sock = socket.socket(socket.AF_UNIX)
        agent.sock.settimeout(30)
        try:
            agent.sock.connect(os.environ['SOCKET'])
            agent.request('POST', '/v1/grants', os.environ['FORM'], {'content-type': 'application/json'})
            return agent.getresponse().status
        except (ConnectionError, http.client.RemoteDisconnected):
            # Who comes too often within a second is turned away.
            continue
given = 0
while ask() == 200:
    given += 1
print('given', given)
"#;

fn pay(lab: &Lab) -> Result<support::Finished> {
    let on = "--table public.salaries";
    ask(lab, words_of(lab, on, "--action Select --for 5m --json"))
}

fn fill(lab: &Lab) -> Result<()> {
    let form = json!({
        "target": "shop", "database": "shop", "actions": ["Select"], "for": "1h", "reason": "a test",
        "resource": { "table": { "schema": "public", "table": "orders" } }, "passing": true,
    });
    let socket = lab.daemon.run_directory().join("agent.sock");
    let python = place::python()?;
    let agent = lab
        .agent()
        .with("FORM", &form.to_string())
        .with("SOCKET", &socket.to_string_lossy());
    let told = agent.run(&python.to_string_lossy(), &["-c", FILL])?.ok()?;
    has(&told, &["given 256"])
}

#[test]
fn a_yes_is_not_lost_to_a_grant_that_there_is_no_room_for() -> Result<()> {
    let lab = Lab::with(|settings| {
        settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
    })?;
    has(&refused(pay(&lab)?)?, &["waits for an approval"])?;
    let asked = lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
    let asked: Value = serde_json::from_str(asked.trim()).with_context(|| asked.clone())?;
    lab.daemon
        .cli(&["approvals", "approve", text(&asked, "/id")?])?
        .ok()?;
    fill(&lab)?;
    has(&refused(pay(&lab)?)?, &["256 live grants"])?;
    let all = lab.daemon.cli(&["grants", "--json"])?.ok()?;
    let first: Value = serde_json::from_str(all.lines().next().unwrap_or_default())?;
    lab.daemon.cli(&["revoke", text(&first, "/id")?])?.ok()?;
    // The same yes, and nobody is asked again.
    let granted: Value = serde_json::from_str(&pay(&lab)?.ok()?)?;
    ensure!(granted["word"][0].is_object(), "without a word: {granted}");
    let asked = lab.daemon.audit().events("approval.asked")?;
    ensure!(asked.len() == 1, "asked anew: {asked:?}");
    Ok(())
}

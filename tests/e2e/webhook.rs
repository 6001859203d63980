//! A chat is told of what waits for people, signed, and its answers come back, signed.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{DEADLINE, Process, port};

use crate::lab::{Lab, has, lacks, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("salaries") @approve("slack:dba")
permit (principal is Agent, action == Action::"Select", resource in Table::"shop/shop/public.salaries");
@id("orders") @approve("slack:dba") @escalate("slack:ops") @escalate_after("2s")
permit (principal is Agent, action == Action::"Select", resource in Table::"shop/shop/public.orders");
@id("chat") permit (principal is Person, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("slack:dba") || principal.groups.contains("slack:ops") };
"#;

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Says what it is sent, a line each, once it has verified it; the first that it is sent it fails to take.
const RECEIVER: &str = r#"
import hashlib, hmac, http.server, json, sys
port, secret = int(sys.argv[1]), sys.argv[2].encode()
failed = False
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global failed
        body = self.rfile.read(int(self.headers['Content-Length']))
        signed = b'v0:' + self.headers['X-Slack-Request-Timestamp'].encode() + b':' + body
        good = 'v0=' + hmac.new(secret, signed, hashlib.sha256).hexdigest()
        fine = hmac.compare_digest(good, self.headers['X-Slack-Signature'])
        self.send_response(200 if failed and fine else 503)
        self.send_header('Content-Length', '0')
        self.end_headers()
        print(json.dumps({'failed': not failed, 'fine': fine, 'path': self.path, 'body': json.loads(body), 'raw': body.decode(),
            'when': self.headers['X-Slack-Request-Timestamp'], 'signature': self.headers['X-Slack-Signature']}), flush=True)
        failed = True
    def log_message(self, *arguments):
        pass
print('ready', flush=True)
http.server.HTTPServer(('127.0.0.1', port), Receiver).serve_forever()
"#;

/// Presses a button: sends what the chat would, signed by a secret, so many seconds from now.
const PRESS: &str = r#"
import hashlib, hmac, http.client, json, sys, time, urllib.parse
at, secret, off, user, action, value, letters, times = sys.argv[1:]
payload = {'type': 'block_actions', 'user': {'id': user}, 'actions': [{'action_id': action, 'value': value}]}
body = urllib.parse.urlencode({'payload': json.dumps(payload)}).encode()
when = str(int(time.time()) + int(off))
signature = hmac.new(secret.encode(), b'v0:' + when.encode() + b':' + body, hashlib.sha256).hexdigest()
for turn in range(int(times)):
    sent = signature.upper() if turn and letters == 'upper' else signature
    connection = http.client.HTTPConnection(at, timeout=30)
    connection.request('POST', '/hooks/slack', body, {'Content-Type': 'application/x-www-form-urlencoded',
        'X-Slack-Request-Timestamp': when, 'X-Slack-Signature': 'v0=' + sent})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
"#;

/// Sends back what the receiver was sent, with its own signature.
const REFLECT: &str = r#"
import http.client, json, sys
at, told, kind = sys.argv[1:]
told = json.loads(told)
connection = http.client.HTTPConnection(at, timeout=30)
connection.request('POST', '/hooks/slack', told['raw'].encode(), {'Content-Type': kind,
    'X-Slack-Request-Timestamp': told['when'], 'X-Slack-Signature': told['signature']})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"#;

struct Scene {
    lab: Lab,
    at: String,
    receiver: Process,
    _directory: tempfile::TempDir,
}

fn python(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-c", program])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command
}

impl Scene {
    fn new() -> Result<Self> {
        let (at, hooks) = (port::free()?, port::free()?);
        let receiver = python(RECEIVER, &[&hooks.port().to_string(), SECRET]);
        let receiver = Process::start(receiver)?;
        receiver.await_text("ready", DEADLINE)?;
        let directory = support::place::temporary("webhook")?;
        let file = directory.path().join("secret");
        std::fs::write(&file, SECRET)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode)?;
        let more = format!(
            "console: {{ listen: '{at}' }}\napprovals:\n  webhook:\n    url: http://{hooks}/services/hidden-in-the-address\n    \
             secret: {{ file: {} }}\n    allow_http: true\n    people:\n      - {{ id: U1, name: jane, groups: [dba] }}\n      \
             - {{ id: U2, name: joe, groups: [ops] }}\n      - {{ id: U3, name: jack, groups: [mail] }}",
            file.display()
        );
        let lab = Lab::with(|settings| {
            settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
            settings.more = more;
        })?;
        Ok(Self {
            lab,
            at: at.to_string(),
            receiver,
            _directory: directory,
        })
    }

    /// What the receiver was sent the second time: the first it did not take.
    fn told(&self) -> Result<Value> {
        self.receiver.await_text("\"failed\": false", DEADLINE)?;
        let said = self.receiver.log();
        let line = said.lines().find(|line| line.contains("\"failed\": false"));
        Ok(serde_json::from_str(line.context("nothing was taken")?)?)
    }

    fn press(&self, secret: &str, off: &str, who: &str, what: (&str, &str)) -> Result<String> {
        self.press_again(secret, off, who, what, ("", "1"))
    }

    fn press_again(
        &self,
        secret: &str,
        off: &str,
        who: &str,
        (action, value): (&str, &str),
        (letters, times): (&str, &str),
    ) -> Result<String> {
        let arguments = [&self.at, secret, off, who, action, value, letters, times];
        Process::run(python(PRESS, &arguments), DEADLINE)?.ok()
    }
}

#[test]
fn a_chat_is_told_and_answers_and_nobody_else_does() -> Result<()> {
    let scene = Scene::new()?;
    let mut psql = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    psql.send("select 'row ' || 'arrived' from salaries limit 1;\n\\echo over :SQLSTATE\n")?;
    psql.await_text("waiting for approval", DEADLINE)?;
    let told = scene.told()?;
    ensure!(told["fine"] == true, "not signed: {told}");
    let blocks = &told["body"]["blocks"];
    has(
        text(&blocks[1], "/text/text")?,
        &["select 'row ' || 'arrived' from salaries"],
    )?;
    ensure!(blocks[1]["text"]["type"] == "plain_text", "mark-up: {told}");
    ensure!(
        blocks[3]["elements"][0]["action_id"] == "approve",
        "no button: {told}"
    );
    let id = text(&blocks[3], "/elements/0/value")?.to_owned();

    let approve = ("approve", id.as_str());
    for (secret, off, why) in [
        ("another secret", "0", "another secret"),
        (SECRET, "-400", "too old"),
        (SECRET, "400", "not yet"),
    ] {
        let said = scene.press(secret, off, "U1", approve)?;
        ensure!(said.starts_with("403"), "{why}: {said}");
    }
    has(
        &scene.press(SECRET, "0", "U9", approve)?,
        &["not among those"],
    )?;
    has(
        &scene.press(SECRET, "0", "U2", approve)?,
        &["this waits for slack:dba"],
    )?;
    has(
        &scene.press(SECRET, "0", "U3", approve)?,
        &["is not permitted"],
    )?;
    lacks(&psql.log(), &["arrived"])?;

    // The same again is a replay, also in other letters.
    let said = scene.press_again(SECRET, "0", "U1", approve, ("upper", "2"))?;
    let lines: Vec<_> = said.lines().collect();
    ensure!(
        lines[0].contains("your yes is written down") && lines[1].starts_with("403"),
        "{said}"
    );
    psql.await_text("row arrived", DEADLINE)?;
    let log = scene.lab.daemon.audit();
    let said = log.wait_for("approval.answered", DEADLINE, |_| true)?;
    ensure!(
        text(&said, "/caller/person/identity/subject")? == "U1"
            && said["answer"]["by"]["name"] == "jane",
        "another: {said}"
    );
    scene
        .receiver
        .await_text("approved by slack:jane", DEADLINE)?;
    lacks(&scene.lab.daemon.log(), &[SECRET, "hidden-in-the-address"])?;
    let metrics = scene.lab.daemon.cli(&["metrics"])?.ok()?;
    has(
        &metrics,
        &["interceptor_webhook_total{result=\"failed\"} 1"],
    )
}

#[test]
fn what_the_daemon_tells_the_chat_is_no_answer_to_it() -> Result<()> {
    let scene = Scene::new()?;
    let mut first = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    first.send("select 'row ' || 'arrived' from salaries limit 1;\n\\echo over :SQLSTATE\n")?;
    first.await_text("waiting for approval", DEADLINE)?;
    let listed = scene.lab.daemon.cli(&["approvals", "ls", "--json"])?.ok()?;
    let one: Value = serde_json::from_str(listed.trim())?;
    let pressed = json!({
        "type": "block_actions",
        "user": { "id": "U1" },
        "actions": [{ "action_id": "approve", "value": text(&one, "/id")? }],
    });
    let escaped = pressed.to_string();
    let escaped: String = escaped.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // The agent has a statement shown that is a form with a button in it.
    let mut second = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    second.send(&format!(
        "select '&payload={escaped}&' from salaries limit 1;\n"
    ))?;
    second.await_text("waiting for approval", DEADLINE)?;
    let told = support::wait::for_fact("the message with the form in it", DEADLINE, || {
        let said = scene.receiver.log();
        let line = said.lines().find(|line| line.contains("&payload=%7B"));
        Ok(line.map(str::to_owned))
    })?;
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let sent = python(REFLECT, &[&scene.at, &told, kind]);
        let said = Process::run(sent, DEADLINE)?.ok()?;
        ensure!(said.starts_with("400"), "{kind}: {said}");
    }
    lacks(&first.log(), &["arrived"])?;
    let answered = scene.lab.daemon.audit().events("approval.answered")?;
    ensure!(answered.is_empty(), "somebody answered: {answered:?}");
    Ok(())
}

#[test]
fn others_are_told_of_what_nobody_answers_and_may_answer_it() -> Result<()> {
    let scene = Scene::new()?;
    let mut psql = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    psql.send("select 'row ' || 'arrived' from orders limit 1;\n")?;
    psql.await_text("waiting for approval", DEADLINE)?;
    scene.receiver.await_text("now also slack:ops", DEADLINE)?;
    let log = scene.lab.daemon.audit();
    let escalated = log.wait_for("approval.escalated", DEADLINE, |_| true)?;
    ensure!(text(&escalated, "/groups/0")? == "slack:ops", "{escalated}");
    let id = text(&escalated, "/approval")?;
    let said = scene.press(SECRET, "0", "U2", ("approve", id))?;
    has(&said, &["your yes is written down"])?;
    psql.await_text("row arrived", DEADLINE)
}

#[test]
fn what_a_message_cannot_show_whole_is_not_approved_from_it() -> Result<()> {
    let scene = Scene::new()?;
    let mut psql = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    let long = "x".repeat(3_000);
    psql.send(&format!(
        "select '{long}' from salaries limit 1;\n\\echo over :SQLSTATE\n"
    ))?;
    psql.await_text("waiting for approval", DEADLINE)?;
    let told = scene.told()?;
    let buttons = &told["body"]["blocks"][3]["elements"];
    ensure!(
        buttons[0]["action_id"] == "deny" && buttons[1].is_null(),
        "{told}"
    );
    let id = text(&buttons[0], "/value")?.to_owned();
    let said = scene.press(SECRET, "0", "U1", ("approve", &id))?;
    ensure!(said.starts_with("400"), "{said}");
    has(
        &scene.press(SECRET, "0", "U1", ("deny", &id))?,
        &["your no"],
    )?;
    psql.await_text("over 42501", DEADLINE)?;
    let said = json!({ "log": psql.log() }).to_string();
    has(&said, &["denied by slack:jane"])
}

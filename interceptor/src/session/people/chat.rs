//! Tells a chat of what waits for people, in Slack's form, signed (`v0`: HMAC-SHA256 over time and body); and
//! knows what it signs by the same secret when answers come back.
//!
//! Nobody waits for this: what cannot be told is tried again, more and more slowly, as long as the question is
//! open. Neither address nor secret is in a log.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::approvals::{Question, Standing, State, who};
use crate::clock::{self, BootTime};
use crate::config::Webhook;
use crate::policy::ApprovalId;
use crate::secrets::Secret;
use crate::session::services::Services;
use crate::tokens::fetch::Asks;
use crate::unseen::is_unseen;

/// When it was signed, and the signature.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("x-slack-request-timestamp");
/// The same.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-slack-signature");
/// Messages that wait to be sent.
const SPOOL: usize = 256;
/// The first and the longest pause between two tries.
const FIRST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(60);
/// How long a question waits for what it would touch, before it is told without.
const TOUCHES: Duration = Duration::from_secs(2);
/// Characters of one block of text (Block Kit reference, section: 3,000).
const BLOCK: usize = 2_800;
/// Characters of a message that are shown as its head.
const HEAD: usize = 140;

/// A message that is to be sent.
#[derive(Debug)]
struct Message {
    /// The question, and whether it is its end that is told.
    about: ApprovalId,
    ended: bool,
    body: Bytes,
    pause: Duration,
    due: BootTime,
}

/// What was told.
#[derive(Debug, Default)]
struct Told {
    open: HashSet<ApprovalId>,
    /// How many groups that may answer after a while were told of, for each.
    escalated: HashMap<ApprovalId, usize>,
    spool: VecDeque<Message>,
}

/// Tells of each question, and of its end, until `stop`.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    let mut changes = services.approvals.changes();
    let mut told = Told::default();
    loop {
        let webhook = services.config.load().webhook.clone();
        let mut ripe = None;
        match webhook {
            Some(webhook) => {
                ripe = told.look(&services);
                tokio::select! {
                    () = told.send(&services, &webhook) => {}
                    () = stop.cancelled() => return,
                }
            }
            None => told = Told::default(),
        }
        let due = told.spool.iter().map(|message| message.due);
        let next = due.chain(ripe).min();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(clock::nap(clock::boot(), next)) => {}
        }
    }
}

impl Told {
    /// Looks which questions are new, and which are not open any more. One waits a moment for what it would touch;
    /// until when the first of those does.
    fn look(&mut self, services: &Services) -> Option<BootTime> {
        let (now, mut ripe) = (clock::boot(), None::<BootTime>);
        let all = services.approvals.all(None);
        let is_open = |one: &&Standing| one.state == State::Open;
        let open: HashSet<_> = all
            .iter()
            .filter(is_open)
            .map(|one| one.question.id)
            .collect();
        for standing in all.iter().filter(is_open) {
            let until = standing.question.from.after(TOUCHES);
            let is_told = self.open.contains(&standing.question.id);
            if !is_told && standing.touches.is_none() && now < until {
                ripe = Some(ripe.map_or(until, |ripe| ripe.min(until)));
                continue;
            }
            if self.open.insert(standing.question.id) {
                self.keep(services, standing.question.id, false, asks(standing));
            }
            self.escalate(services, standing);
        }
        let over: Vec<_> = self.open.difference(&open).copied().collect();
        for id in over {
            self.open.remove(&id);
            self.escalated.remove(&id);
            // One that was never told of is over without a word.
            let before = self.spool.len();
            self.spool.retain(|message| message.about != id);
            if self.spool.len() == before {
                let standing = services.approvals.last_of(id);
                self.keep(services, id, true, ends(id, standing.as_ref()));
            }
        }
        ripe
    }

    /// Tells of a question once more where others may answer it now.
    fn escalate(&mut self, services: &Services, standing: &Standing) {
        let question = &standing.question;
        let now = clock::boot();
        let groups = question.escalated(now);
        let told = self.escalated.entry(question.id).or_default();
        if groups.len() > *told {
            *told = groups.len();
            let waited = now.since(question.from).as_secs();
            let groups = groups.into_iter().collect::<Vec<_>>().join(", ");
            let words = format!("nobody has answered for {waited} s; now also {groups}");
            let mut body = asks(standing);
            if let Some(blocks) = body.get_mut("blocks").and_then(Value::as_array_mut) {
                blocks.push(json!({ "type": "section", "text": text(&words, BLOCK) }));
            }
            let head = format!("{words}: {}", head(question));
            if let Some(body) = body.as_object_mut() {
                body.insert("text".to_owned(), spelled(&head).into());
            }
            self.keep(services, question.id, false, body);
        }
    }

    fn keep(&mut self, services: &Services, about: ApprovalId, ended: bool, body: Value) {
        if self.spool.len() >= SPOOL {
            services.metrics.webhook("dropped");
            tracing::warn!("the webhook has 256 messages to send already; one is dropped");
            return;
        }
        self.spool.push_back(Message {
            about,
            ended,
            body: body.to_string().into(),
            pause: FIRST,
            due: clock::boot(),
        });
    }

    /// Sends what is due.
    async fn send(&mut self, services: &Services, webhook: &Webhook) {
        let now = clock::boot();
        for _ in 0..self.spool.len() {
            let Some(mut message) = self.spool.pop_front() else {
                return;
            };
            if now < message.due {
                self.spool.push_back(message);
                continue;
            }
            match sent(services, webhook, message.body.clone()).await {
                Ok(()) => services.metrics.webhook("sent"),
                // Its end is news for a while only.
                Err(_) if message.ended && message.pause >= SLOWEST => {
                    services.metrics.webhook("dropped");
                }
                Err(error) => {
                    services.metrics.webhook("failed");
                    tracing::warn!(%error, "cannot tell the webhook of what waits for people");
                    message.due = clock::boot().after(message.pause);
                    message.pause = message.pause.saturating_mul(2).min(SLOWEST);
                    self.spool.push_back(message);
                }
            }
        }
    }
}

async fn sent(services: &Services, webhook: &Webhook, body: Bytes) -> Result<(), String> {
    let secret = services.secrets.fetch(&webhook.secret).await;
    let secret = secret.map_err(|error| error.to_string())?;
    let time = clock::wall().as_second().to_string();
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (SIGNATURE, signature(&secret, &time, &body)),
        (TIMESTAMP, time),
    ];
    let asks = Asks::of(webhook.ca.clone(), webhook.allow_http);
    match asks.tell(&webhook.url, &headers, body).await? {
        200..=299 => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

/// What a body is signed with at a time.
fn signature(secret: &Secret, time: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&key(secret), &signed(time, body));
    format!("v0={}", hex::encode(tag))
}

/// Whether a body was signed so with the secret. Takes as long whatever is wrong.
#[must_use]
pub fn is_signed(secret: &Secret, time: &str, body: &[u8], signature: &str) -> bool {
    let tag = signature.strip_prefix("v0=").map(hex::decode);
    let Some(Ok(tag)) = tag else {
        return false;
    };
    hmac::verify(&key(secret), &signed(time, body), &tag).is_ok()
}

fn key(secret: &Secret) -> Key {
    Key::new(HMAC_SHA256, secret.expose_secret().as_bytes())
}

fn signed(time: &str, body: &[u8]) -> Vec<u8> {
    [b"v0:", time.as_bytes(), b":", body].concat()
}

/// All that a yes would cover, as it is shown; `None` where it is too long for a message.
fn whole(question: &Question) -> Option<String> {
    let mut text = question.text.clone();
    for (at, value) in question.values.iter().flatten().enumerate() {
        let value = value.as_deref().unwrap_or("NULL");
        // Writing to a string does not fail.
        write!(text, "\n${} = {value}", at.saturating_add(1)).ok()?;
    }
    for under in &question.under {
        write!(text, "\nunder {under}").ok()?;
    }
    let text = spelled(&text);
    (text.chars().count() <= BLOCK).then_some(text)
}

/// Whether a message shows all that a yes would cover.
#[must_use]
pub fn is_shown_whole(question: &Question) -> bool {
    whole(question).is_some()
}

/// A stranger's text: what would not be seen, or would turn the order of what is seen, is spelled out.
fn spelled(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for sign in text.chars() {
        match is_unseen(sign) && sign != '\n' {
            true => spelled.extend(sign.escape_unicode()),
            false => spelled.push(sign),
        }
    }
    spelled
}

/// No mark-up: nothing in a stranger's text calls anybody, or is a link. What does not fit is marked as cut.
fn text(text: &str, most: usize) -> Value {
    let text = spelled(text);
    let text = match text.chars().count() > most {
        true => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text,
    };
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

fn head(question: &Question) -> String {
    let Question {
        summary,
        target,
        database,
        ..
    } = question;
    format!(
        "{summary} on {target}/{database} for {}",
        question.holder.agent
    )
}

fn asks(standing: &Standing) -> Value {
    let question = &standing.question;
    let head = head(question);
    let id = question.id.0.to_string();
    let button = |action: &str, word: &str, style: &str| json!({ "type": "button", "action_id": action, "value": id, "style": style, "text": text(word, HEAD) });
    let (shown, buttons) = match whole(question) {
        Some(whole) => {
            let buttons = vec![
                button("approve", "Approve", "primary"),
                button("deny", "Deny", "danger"),
            ];
            (whole, buttons)
        }
        None => {
            let why = "It is too long to be shown here whole: `interceptor approvals show`, or the console.";
            (why.to_owned(), vec![button("deny", "Deny", "danger")])
        }
    };
    let at = |path: &str| {
        let found = question.principal.pointer(path);
        found.map_or_else(String::new, |value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let bound = match at("/identity/issuer").as_str() {
        "" => "nobody".to_owned(),
        issuer => match at("/identity/user").as_str() {
            "" => format!("{} of {issuer}", at("/identity/subject")),
            user => format!("{user} of {issuer}"),
        },
    };
    let behalf = question.on_behalf_of.as_ref().map(|of| {
        let name = of.user.as_ref().unwrap_or(&of.subject);
        format!("on behalf of {name} of {}", of.issuer)
    });
    let context = [
        format!("for {bound}"),
        behalf.unwrap_or_default(),
        format!("user {} ({})", question.uid, at("/user/name")),
        format!("{} {}", at("/process/executable/path"), question.sha256),
        format!("arguments {}", at("/process/argv")),
        ancestors(&question.principal),
        format!("in {}", question.holder.cgroup),
        touched(standing),
        format!("needs {}, until {}", who(&question.needs), question.expires),
        format!("approval {id}"),
    ];
    let context = context.iter().filter(|line| !line.is_empty());
    let context: Vec<_> = context.map(|line| text(line, BLOCK)).collect();
    json!({
        "text": spelled(&head),
        "blocks": [
            { "type": "header", "text": text(&head, HEAD) },
            { "type": "section", "text": text(&shown, BLOCK) },
            { "type": "context", "elements": context },
            { "type": "actions", "block_id": id, "elements": buttons },
        ],
    })
}

/// Who started it, the nearest first.
fn ancestors(principal: &Value) -> String {
    let all = principal.get("ancestors").and_then(Value::as_array);
    let each = all.into_iter().flatten().map(|one| {
        let path = one.pointer("/executable/path").and_then(Value::as_str);
        let pid = one.get("pid").and_then(Value::as_u64).unwrap_or_default();
        format!("{} [{pid}]", path.unwrap_or("?"))
    });
    let each: Vec<_> = each.collect();
    match each.is_empty() {
        true => String::new(),
        false => format!("started by {}", each.join(", by ")),
    }
}

/// How much it would touch, and how often it was asked.
fn touched(standing: &Standing) -> String {
    let rows = standing
        .touches
        .as_ref()
        .map(|touches| touches.rows.to_string());
    let rows = rows.map_or_else(
        || "what it would touch is not known".to_owned(),
        |rows| format!("would touch: {rows}"),
    );
    match standing.times {
        0 | 1 => rows,
        times => format!("{rows}; asked {times} times"),
    }
}

fn ends(id: ApprovalId, standing: Option<&Standing>) -> Value {
    let said = standing.and_then(|one| one.answers.last().map(|said| (one, said)));
    let words = match said {
        Some((one, said)) => {
            let word = match (said.yes, said.break_glass) {
                (true, true) => "approved in an emergency, alone,",
                (true, false) => "approved",
                (false, _) => "denied",
            };
            format!("{}: {word} by {}", head(&one.question), said.by.shown())
        }
        None => "a request waits no longer".to_owned(),
    };
    let words = format!("{words} ({})", id.0);
    json!({
        "text": spelled(&words),
        "blocks": [{ "type": "section", "text": text(&words, BLOCK) }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's "Verifying requests from Slack".
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
        channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&\
        command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F\
        T1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNED: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    #[test]
    fn signatures_are_slacks() {
        let secret = Secret::from("8f742231b10e8888abcd99yyyzzz85a5");
        let (time, body) = ("1531420618", BODY.as_bytes());
        assert_eq!(signature(&secret, time, body), SIGNED);
        assert!(is_signed(&secret, time, body, SIGNED));
        assert!(!is_signed(&secret, "1531420619", body, SIGNED));
        assert!(!is_signed(&secret, time, b"", SIGNED));
        assert!(!is_signed(&Secret::from("other"), time, body, SIGNED));
        let other = SIGNED.replace("v0=a2", "v0=a3");
        let bare = SIGNED.replace("v0=", "");
        for bad in ["", "v0=", "v0=00", "v0=zz", &other, &bare] {
            assert!(!is_signed(&secret, time, body, bad), "{bad}");
        }
    }

    #[test]
    fn whom_it_is_for_and_in_whose_name_is_told() {
        let identity = crate::identity::Identity {
            issuer: "https://idp.example".to_owned(),
            subject: "7".to_owned(),
            user: Some("analyst".to_owned()),
            groups: Default::default(),
            acr: None,
            amr: Default::default(),
            claims: Default::default(),
            expires: jiff::Timestamp::UNIX_EPOCH,
        };
        let question = Question {
            id: ApprovalId(uuid::Uuid::nil()),
            holder: crate::grants::Holder {
                agent: "claude".to_owned(),
                scope: 7,
                cgroup: "/agents/claude".to_owned(),
                root: None,
            },
            principal: json!({ "identity": { "issuer": "https://idp.example", "subject": "robot" } }),
            uid: 1_000,
            owners: Default::default(),
            sha256: "00".to_owned(),
            target: "shop".to_owned(),
            database: "shop".to_owned(),
            summary: "grant".to_owned(),
            fingerprint: String::new(),
            shape: String::new(),
            varies: false,
            text: "{}".to_owned(),
            values: None,
            digest: None,
            literals: None,
            under: Vec::new(),
            on_behalf_of: Some(Arc::new(identity)),
            needs: Vec::new(),
            asked: jiff::Timestamp::UNIX_EPOCH,
            expires: jiff::Timestamp::UNIX_EPOCH,
            from: BootTime(0),
            until: BootTime(0),
        };
        let told = asks(&Standing {
            question: Arc::new(question),
            waiting: 0,
            times: 1,
            state: State::Open,
            answers: Vec::new(),
            covers: 1,
            touches: None,
            version: 0,
            taken_back: Default::default(),
        });
        let told = told.to_string();
        assert!(told.contains("for robot of https://idp.example"), "{told}");
        let behalf = "on behalf of analyst of https://idp.example";
        assert!(told.contains(behalf), "{told}");
    }

    #[test]
    fn who_started_it_is_told_and_what_is_cut_is_marked() {
        let principal = json!({ "ancestors": [
            { "pid": 7, "executable": { "path": "/bin/sh" } }, { "pid": 3, "executable": { "path": "/opt/agent" } },
        ] });
        let told = ancestors(&principal);
        assert_eq!(told, "started by /bin/sh [7], by /opt/agent [3]");
        assert_eq!(ancestors(&json!({})), "");
        assert_eq!(text("abcdef", 6)["text"], "abcdef");
        assert_eq!(text("abcdefg", 6)["text"], "abcde…");
    }

    #[test]
    fn a_strangers_text_hides_nothing() {
        assert_eq!(spelled("a\nb\u{202e}c\u{0}"), "a\nb\\u{202e}c\\u{0}");
        assert_eq!(spelled("a\u{e0041}\u{fff9}"), "a\\u{e0041}\\u{fff9}");
        let block = text("<!channel> *x*", 100);
        assert_eq!(block["type"], "plain_text");
    }
}

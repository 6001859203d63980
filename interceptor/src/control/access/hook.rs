//! Answers that come back from a chat, in Slack's form: signed, fresh, and each taken once.
//!
//! Who pressed a button is whoever the configuration says, with that name and those groups; what they may is
//! asked as of everybody.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Given;
use super::super::api::Say;
use super::super::caller::logins::{self, Logins};
use super::super::caller::{Answer, As, Known, Visitor};
use super::approvals;
use crate::clock;
use crate::config::{Approver, SLACK};
use crate::identity::{Identity, LoggedIn};
use crate::policy::ApprovalId;
use crate::session::people::chat::{self, SIGNATURE, TIMESTAMP};
use crate::session::services::Services;

/// How far the sender's clock may be off, and how long one may take, in seconds.
const FRESH: u64 = 300;

/// What a button says (Slack, "Interaction payloads": `block_actions`).
#[derive(Debug, Deserialize)]
struct Pressed {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    #[serde(default)]
    team: Option<Team>,
    actions: Vec<Action>,
}

#[derive(Debug, Deserialize)]
struct Team {
    id: String,
}

impl Pressed {
    /// Whether it comes from the workspace that it must, where one is named.
    fn is_of(&self, team: Option<&str>) -> bool {
        team.is_none_or(|must| self.team.as_ref().is_some_and(|team| team.id == must))
    }
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    value: String,
}

/// `POST /hooks/slack` on the console.
///
/// # Errors
/// An answer where it is not signed, not fresh, not new, not from anybody who is configured, or may not be said.
pub async fn slack(
    State(services): Given,
    Extension(logins): Extension<Arc<Logins>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Answer> {
    // What is told to the chat is signed by the same secret, and never of this form: it is no answer to itself.
    let payload = payload(&headers, &body);
    let payload = payload.ok_or_else(|| Answer::bad("this is no form of a button"))?;
    verified(&services, &logins, &headers, &body).await?;
    let pressed =
        pressed(payload).ok_or_else(|| Answer::bad("this is no button that was pressed"))?;
    let config = services.config.load_full();
    let person = config
        .webhook
        .as_ref()
        .and_then(|webhook| webhook.people.get(&pressed.user.id));
    let team = config
        .webhook
        .as_ref()
        .and_then(|webhook| webhook.team.as_deref());
    let Some(person) = person.filter(|_| pressed.is_of(team)) else {
        tracing::warn!(user = %pressed.user.id.escape_debug(), "somebody answers in the chat who is not configured");
        return Ok(told("you are not among those who may answer here"));
    };
    let said = say(&services, &pressed)?;
    let caller = Known::visiting(visitor(&pressed.user.id, person));
    match approvals::answer(State(services), caller, Json(said)).await {
        Ok(Json(standing)) => {
            let word = if standing.answers.last().is_some_and(|said| said.yes) {
                "yes"
            } else {
                "no"
            };
            Ok(told(&format!("your {word} is written down")))
        }
        // The chat repeats what fails: this has been heard.
        Err(refused) => Ok(told(refused.title())),
    }
}

fn told(text: &str) -> Json<Value> {
    Json(json!({ "response_type": "ephemeral", "replace_original": false, "text": text }))
}

async fn verified(
    services: &Services,
    logins: &Logins,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Answer> {
    let wrong = || Answer::forbidden("this is not signed as it should be");
    let config = services.config.load_full();
    let webhook = config.webhook.as_ref().ok_or_else(wrong)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (time, signature) = text(TIMESTAMP).zip(text(SIGNATURE)).ok_or_else(wrong)?;
    let at: i64 = time.parse().map_err(|_not_a_number| wrong())?;
    if at.abs_diff(clock::wall().as_second()) > FRESH {
        return Err(wrong());
    }
    let secret = services.secrets.fetch(&webhook.secret).await;
    let secret = secret.map_err(|error| {
        tracing::error!(%error, "cannot verify what the chat answers");
        wrong()
    })?;
    if !chat::is_signed(&secret, time, body, signature) {
        tracing::debug!("an answer to the webhook is not signed with its secret");
        return Err(wrong());
    }
    // Written in other letters it is the same.
    let signature = signature.to_ascii_lowercase();
    logins.is_new(&signature).then_some(()).ok_or_else(wrong)
}

/// The one field of a form, which is all that there is in it.
fn payload<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<&'a [u8]> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next()?.trim();
    let is_form = kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let payload = body.strip_prefix(b"payload=").filter(|_| is_form)?;
    (!payload.contains(&b'&')).then_some(payload)
}

fn pressed(payload: &[u8]) -> Option<Pressed> {
    let payload = decoded(payload)?;
    let pressed: Pressed = serde_json::from_slice(&payload).ok()?;
    (pressed.actions.len() == 1 && pressed.kind == "block_actions").then_some(pressed)
}

/// A value as a form carries it (`application/x-www-form-urlencoded`).
fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.iter().copied();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                let [byte] = byte;
                byte
            }
            byte => byte,
        });
    }
    Some(decoded)
}

fn say(services: &Services, pressed: &Pressed) -> Result<Say, Answer> {
    let bad = || Answer::bad("this is no answer to a question");
    let action = pressed.actions.first().ok_or_else(bad)?;
    let approval: Uuid = action.value.parse().map_err(|_no_name| bad())?;
    let approval = ApprovalId(approval);
    let yes = match action.action_id.as_str() {
        "approve" => true,
        "deny" => false,
        _ => return Err(bad()),
    };
    let question = services.approvals.get(approval);
    let is_whole = question.is_none_or(|one| chat::is_shown_whole(&one.question));
    match yes && !is_whole {
        true => Err(Answer::bad("the chat did not show all of it")),
        false => Ok(Say {
            approval,
            yes,
            reason: None,
            shape: None,
            times: 1,
            break_glass: false,
            // The message has the question as it is, which does not change.
            shown: None,
            factor: None,
        }),
    }
}

/// A person as the configuration has them: no issuer says more of them.
fn visitor(id: &str, person: &Approver) -> Visitor {
    let until = clock::boot().after(logins::SESSION);
    let identity = Identity {
        issuer: SLACK.to_owned(),
        subject: id.to_owned(),
        user: Some(person.name.clone()),
        groups: person.groups.clone(),
        acr: None,
        amr: Default::default(),
        claims: Default::default(),
        expires: clock::wall(),
    };
    Visitor {
        login: Uuid::now_v7(),
        who: As::Person(LoggedIn {
            by: SLACK.to_owned(),
            identity: Arc::new(identity),
            until,
        }),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_button_is_of_the_workspace_that_is_named() {
        let of = |team: &str| {
            let text = format!(
                r#"{{ "type": "block_actions", "user": {{ "id": "U1" }}{team}, "actions": [] }}"#
            );
            serde_json::from_str::<Pressed>(&text).unwrap()
        };
        let (ours, other) = (
            of(r#", "team": { "id": "T1" }"#),
            of(r#", "team": { "id": "T2" }"#),
        );
        let (none, null) = (of(""), of(r#", "team": null"#));
        assert!(ours.is_of(Some("T1")));
        for other in [&other, &none, &null] {
            assert!(!other.is_of(Some("T1")), "{other:?}");
            assert!(other.is_of(None));
        }
    }

    #[test]
    fn a_button_is_read_as_a_form_carries_it() {
        let form = b"payload=%7B%22type%22%3A%22block_actions%22%2C%22user%22%3A%7B%22id%22%3A%22U1%22%7D%2C\
            %22actions%22%3A%5B%7B%22action_id%22%3A%22deny%22%2C%22value%22%3A%22a+b%22%7D%5D%7D";
        let is_form = "application/x-www-form-urlencoded; charset=utf-8";
        let of = |kind: &'static str, body: &[u8]| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            pressed(payload(&headers, body)?)
        };
        let read = of(is_form, form).unwrap();
        assert_eq!(
            (read.user.id.as_str(), read.actions[0].value.as_str()),
            ("U1", "a b")
        );
        for bad in [
            &b""[..],
            b"payload=%7",
            b"payload=%zz",
            b"payload={}",
            b"payload=[]&payload=[]",
        ] {
            assert!(of(is_form, bad).is_none(), "{bad:?}");
        }
        assert!(of("application/json", form).is_none());
        // A message of the daemon's own, in which somebody's statement is one.
        let told = [b"{\"text\":\"&", &form[..], b"&\"}"].concat();
        let more = [&form[..], b"&x=1"].concat();
        for body in [&told, &more] {
            assert!(of(is_form, body).is_none());
        }
    }
}

//! Requests that wait for people: seeing them, and saying yes or no.
//!
//! Nobody serves himself: a user whose processes run as an agent answers nothing, and nobody answers a
//! request that runs as the same user.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::super::Given;
use super::super::api::{Asked, Say, WhichApproval};
use super::super::caller::{Answer, Known};
use super::super::status::agent_of;
use super::delegating::Places;
use super::factors::proved;
use crate::approvals::{self, Choice, InPlace, Person, Standing};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::grants::Holder;
use crate::policy::{ControlCaller, ControlObject, ControlVerb, Needs};
use crate::session::EndReason;
use crate::session::services::Services;

/// Bytes of a reason.
const MAX_TEXT: usize = 1_024;
/// What is told to who names another question.
const UNKNOWN: &str =
    "no question of that name is kept in mind; `interceptor approvals ls` lists those that are";
/// How many earlier questions of the same shape are shown.
const BEFORE: usize = 5;

/// `GET /v1/approvals` on the control socket: all that are open or hold.
///
/// # Errors
/// An answer where policy refuses.
pub async fn all(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    let places = Places::of(&services, &caller).await?;
    let mut seen = Vec::new();
    for standing in services.approvals.all(None) {
        if may_see(&services, &caller, &places, &standing).await? {
            seen.push(standing);
        }
    }
    let detail = json!({ "approvals": seen.len() });
    let written = caller.write(&services, "read", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    Ok(Json(seen))
}

/// `POST /v1/approvals/show` on the control socket: one, with what was asked before.
///
/// # Errors
/// An answer where policy refuses, or there is no such question.
pub async fn show(
    State(services): Given,
    caller: Known,
    Json(which): Json<WhichApproval>,
) -> Result<Json<Asked>, Answer> {
    let standing = found(&services, which)?;
    let places = Places::of(&services, &caller).await?;
    if !may_see(&services, &caller, &places, &standing).await? {
        caller
            .may(&services, ControlVerb::Approve, &object(&standing))
            .await?;
    }
    let detail = json!({ "approval": which.approval });
    let written = caller.write(&services, "read", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    let before = services.approvals.before(&standing.question, BEFORE).await;
    let mut seen = Vec::new();
    for earlier in before.map_err(|error| Answer::failed(&error))? {
        if may_see(&services, &caller, &places, &earlier).await? {
            seen.push(earlier);
        }
    }
    let before = seen;
    Ok(Json(Asked {
        shown: standing.shown(),
        standing,
        before,
    }))
}

/// `GET /v1/approvals` on the agents' socket: those of the caller's own process tree and user.
///
/// # Errors
/// An answer where the caller is in no scope.
pub async fn own(State(services): Given, caller: Known) -> Result<Json<Vec<Standing>>, Answer> {
    let (scope, principal) = agent_of(&services, &caller).await?;
    let holder = Holder::of(&principal, scope.id);
    let uid = caller.process()?.uid;
    let mut own = services.approvals.all(Some(scope.id));
    own.retain(|standing| {
        let question = &standing.question;
        question.uid == uid && question.holder.is(&holder)
    });
    for standing in &mut own {
        // Who answered, and why, is told with the answer.
        standing.answers.clear();
        // What is masked for the agent can show in it, and what it may not read.
        standing.touches = None;
    }
    Ok(Json(own))
}

/// `POST /v1/approvals/answer` on the control socket.
///
/// # Errors
/// An answer where policy refuses, the question is not open, or not the caller's to answer.
pub async fn answer(
    State(services): Given,
    caller: Known,
    Json(say): Json<Say>,
) -> Result<Json<Standing>, Answer> {
    if say.yes && caller.visitor().is_some_and(|visitor| !visitor.is_fresh()) {
        return Err(Answer::bad(
            "a yes takes a login of the last 15 minutes: log out, and in again",
        ));
    }
    let which = WhichApproval {
        approval: say.approval,
    };
    let standing = found(&services, which)?;
    if say.yes
        && say
            .shown
            .as_ref()
            .is_some_and(|shown| *shown != standing.shown())
    {
        return Err(Answer::bad(
            "what is shown has changed meanwhile; look again, and answer then",
        ));
    }
    let verb = match say.break_glass {
        true => ControlVerb::BreakGlass,
        false => ControlVerb::Approve,
    };
    let (by, in_place) = speaker(&services, &caller, verb, &standing).await?;
    let choice = choice(&say).map_err(|mistake| Answer::bad(&mistake))?;
    if let Some(reason) = &say.reason
        && (reason.trim().is_empty()
            || reason.len() > MAX_TEXT
            || reason.chars().any(char::is_control))
    {
        return Err(Answer::bad(&format!(
            "a reason is 1 to {MAX_TEXT} bytes of text in one line"
        )));
    }
    if say.break_glass && say.reason.is_none() {
        return Err(Answer::bad("an emergency needs a reason"));
    }
    let factor = proved(&services, &caller, &say, &standing).await?;
    let answer = approvals::Answer {
        by,
        yes: say.yes,
        at: clock::wall(),
        reason: say.reason,
        break_glass: say.break_glass,
        in_place,
        factor,
    };
    // It goes on where the caller goes away.
    let said =
        tokio::spawn(async move { write(&services, &caller, answer, choice, standing).await });
    said.await
        .map_err(|error| Answer::failed(&error))?
        .map(Json)
}

/// `POST /v1/approvals/revoke` on the control socket: takes a yes back, and ends what goes on by it.
///
/// # Errors
/// An answer where the caller neither said it nor may answer for that scope, or nobody said yes.
pub async fn revoke(
    State(services): Given,
    caller: Known,
    Json(which): Json<WhichApproval>,
) -> Result<Json<Standing>, Answer> {
    let standing = services.approvals.last_of(which.approval);
    let standing = standing.ok_or_else(|| Answer::bad(UNKNOWN))?;
    may_take_back(&services, &caller, &standing).await?;
    // It goes on where the caller goes away.
    let taken = tokio::spawn(async move { take_back(&services, &caller, which).await });
    taken
        .await
        .map_err(|error| Answer::failed(&error))?
        .map(Json)
}

/// Who may say yes may take one back, and so may whoever said it.
async fn may_take_back(
    services: &Arc<Services>,
    caller: &Known,
    standing: &Standing,
) -> Result<(), Answer> {
    let (verb, object) = (ControlVerb::Approve, object(standing));
    if caller.judged(services, verb, &object).await?.is_ok() {
        return Ok(());
    }
    let places = Places::of(services, caller).await?;
    let by = person(services, &standing.question.needs, places.who.clone());
    if standing.is_answered_by(&by) || places.to(services, standing).is_some() {
        return Ok(());
    }
    caller.may(services, verb, &object).await.map(drop)
}

async fn take_back(
    services: &Services,
    caller: &Known,
    which: WhichApproval,
) -> Result<Standing, Answer> {
    let (verb, id) = (ControlVerb::Revoke.word(), which.approval);
    let Some(standing) = services.approvals.take_back(id) else {
        caller.audit(services, verb, "failed", json!({ "approval": id }));
        return Err(Answer::bad("nobody's yes to that holds"));
    };
    // What was about to begin sees that there is no word; what has begun is seen here.
    let sessions = services
        .registry
        .end(EndReason::Approval, |session| session.goes_on_by(id));
    let detail = json!({ "approval": id, "sessions": sessions });
    match services.approvals.keep(standing.clone()).await {
        Ok(()) => {
            caller.audit(services, verb, "ok", detail);
            Ok(standing)
        }
        Err(error) => {
            tracing::error!(%error, "a yes is taken back, but that cannot be kept yet");
            let error = "it is taken back, but that cannot be kept: a daemon that starts anew before it is, which is \
                         tried again, lets it count again";
            Err(caller.failed(services, verb, detail, error))
        }
    }
}

/// Who speaks, by an own right or, where that does not do, by that of somebody whom the caller stands in for.
///
/// # Errors
/// An answer where policy refuses.
async fn speaker(
    services: &Arc<Services>,
    caller: &Known,
    verb: ControlVerb,
    standing: &Standing,
) -> Result<(Person, Option<InPlace>), Answer> {
    let question = &standing.question;
    let waited = clock::boot().since(question.from);
    let person = |caller: ControlCaller| person(services, &question.needs, caller);
    let own = caller.judged(services, verb, &object(standing)).await?;
    let own = own.map(person);
    let speaks = |by: &Person| {
        let mut ways = question.needs.iter().flatten();
        ways.any(|need| by.speaks_for(need, waited))
    };
    let enough = verb == ControlVerb::BreakGlass || own.as_ref().is_ok_and(speaks);
    if !enough {
        let places = Places::of(services, caller).await?;
        let place = places.to(services, standing);
        if let Some(place) = place {
            return Ok((person(places.who), Some(place)));
        }
    }
    match own {
        Ok(by) => Ok((by, None)),
        Err(_refusal) => {
            let login = caller.may(services, verb, &object(standing)).await?;
            Ok((person(login), None))
        }
    }
}

async fn write(
    services: &Arc<Services>,
    caller: &Known,
    answer: approvals::Answer,
    choice: Choice,
    standing: Standing,
) -> Result<Standing, Answer> {
    let id = standing.question.id;
    let approvals = &services.approvals;
    let may = approvals.may_answer(id, &answer, choice, clock::boot());
    let shown = may.map_err(|error| refused(services, caller, &standing, &error))?;
    let event = Event::ApprovalAnswered {
        approval: id,
        holder: &standing.question.holder,
        touches: shown.touches.as_ref().map(|touches| &touches.rows),
        caller: caller.in_audit(),
        answer: &answer,
        shape: choice.shape.map(|shape| shape.as_secs()),
    };
    let written = services.audit.append_durable(&event).await;
    written.map_err(|error| Answer::failed(&error))?;
    let answered = approvals.answer(id, answer, choice, clock::boot()).await;
    answered.map_err(|error| refused(services, caller, &standing, &error))
}

fn refused(
    services: &Services,
    caller: &Known,
    standing: &Standing,
    error: &approvals::Error,
) -> Answer {
    let detail = json!({ "approval": standing.question.id, "error": error.to_string() });
    caller.audit(services, "approve", "refused", detail);
    match error {
        approvals::Error::Mistaken(why) => Answer::bad(why),
        approvals::Error::State(_)
        | approvals::Error::Untold(_)
        | approvals::Error::Full(_)
        | approvals::Error::Often { .. }
        | approvals::Error::Closed { .. } => Answer::failed(error),
    }
}

/// As whom somebody counts, and by which groups.
pub(super) fn person(services: &Services, needs: &[Needs], caller: ControlCaller) -> Person {
    let named: BTreeSet<&String> = needs
        .iter()
        .flatten()
        .flat_map(|need| {
            let later = need.later.iter().flat_map(|later| &later.groups);
            need.groups.iter().chain(later)
        })
        .collect();
    let mut groups = caller.groups();
    groups.retain(|name| named.contains(name));
    let session = match &caller {
        ControlCaller::User(user) => user.session.clone(),
        ControlCaller::Person(_) => None,
    };
    let person = match caller {
        ControlCaller::User(user) => Person {
            uid: Some(user.uid),
            login: None,
            name: user.name,
            groups,
            known_as: BTreeSet::new(),
        },
        ControlCaller::Person(login) => Person {
            uid: None,
            name: login.identity.user.clone(),
            login: Some(login),
            groups,
            known_as: BTreeSet::new(),
        },
    };
    person.also(session.as_ref(), &approvals::known(&services.config.load()))
}

fn choice(say: &Say) -> Result<Choice, String> {
    let shape = say.shape.as_deref().map(clock::duration).transpose()?;
    if shape.is_some() && !say.yes {
        return Err("a no covers nothing".to_owned());
    }
    match shape.is_some_and(|shape| shape.as_secs() == 0) {
        true => Err("cover the shape for some time".to_owned()),
        false => Ok(Choice {
            shape,
            times: say.times,
        }),
    }
}

/// Whether somebody may see a question: by an own right, or in the place of somebody who may.
async fn may_see(
    services: &Arc<Services>,
    caller: &Known,
    places: &Places,
    standing: &Standing,
) -> Result<bool, Answer> {
    let judged = caller
        .judged(services, ControlVerb::Approve, &object(standing))
        .await?;
    Ok(judged.is_ok() || places.to(services, standing).is_some())
}

pub(super) fn object(standing: &Standing) -> ControlObject {
    let holder = &standing.question.holder;
    ControlObject::Scope {
        agent: holder.agent.clone(),
        cgroup: holder.cgroup.clone(),
    }
}

fn found(services: &Services, which: WhichApproval) -> Result<Standing, Answer> {
    let found = services.approvals.get(which.approval);
    found.ok_or_else(|| Answer::bad(UNKNOWN))
}

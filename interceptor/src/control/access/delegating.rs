//! Delegating: an approver names a stand-in for a while, sees who stands in, and takes it back.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use uuid::Uuid;

use super::super::Given;
use super::super::api::{Delegate, WhichDelegation};
use super::super::caller::{Answer, As, Known, Visitor};
use super::approvals::{object, person};
use crate::approvals::{Delegation, InPlace, Person, StandIn, Standing};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::config::SLACK;
use crate::policy::ControlCaller;
use crate::session::people::standing_in::{self, Approver};
use crate::session::services::Services;

/// The longest delegation.
const LONGEST: Duration = Duration::from_hours(31 * 24);
/// The longest of somebody whom the host cannot look up: an issuer is not asked about who is not there.
const LONGEST_UNSEEN: Duration = Duration::from_hours(7 * 24);
/// Bytes of a name of a user or a group.
const MAX_NAME: usize = 255;

/// `POST /v1/approvals/delegate` on the control socket, and on the console.
///
/// # Errors
/// An answer where the caller has no right of its own to hand on, or the request makes no sense.
pub async fn delegate(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Delegate>,
) -> Result<Json<Delegation>, Answer> {
    let time = clock::duration(&asked.time).map_err(|mistake| Answer::bad(&mistake))?;
    named(&services, &asked.to).map_err(|mistake| Answer::bad(&mistake))?;
    let who = seen(&services, &caller).await?;
    let longest = handed_on(&caller, &who).map_err(Answer::bad)?;
    if time.as_secs() == 0 || time > longest {
        return Err(Answer::bad(&format!(
            "delegate for some time, and at most {}d",
            longest.as_secs() / 86_400
        )));
    }
    if asked.to == StandIn::User(who.name().unwrap_or_default()) {
        return Err(Answer::bad("nobody stands in for himself"));
    }
    let issued = clock::wall();
    let delegation = Delegation {
        id: Uuid::new_v4(),
        by: person(&services, &[], who),
        to: asked.to,
        issued,
        expires: issued.saturating_add(time).unwrap_or(issued),
        until: clock::boot().after(time),
    };
    // It goes on where the caller goes away.
    let made = tokio::spawn(async move {
        written(&services, &caller, &delegation, "delegated").await?;
        let kept = services.approvals.delegate(delegation.clone()).await;
        kept.map_err(|error| Answer::failed(&error))?;
        Ok(delegation)
    });
    made.await
        .map_err(|error| Answer::failed(&error))?
        .map(Json)
}

/// Whether somebody can have that name: of an issuer only where people come in by it.
fn named(services: &Services, to: &StandIn) -> Result<(), String> {
    let (StandIn::User(name) | StandIn::Group(name)) = to;
    if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err("name a user or a group, of the host or of an issuer".to_owned());
    }
    let Some((issuer, _)) = name.split_once(':') else {
        return Ok(());
    };
    let config = services.config.load();
    let logs_in = config.console.as_ref().and_then(|one| one.issuer.as_ref());
    let is_known =
        logs_in.is_some_and(|known| known == issuer) || issuer == SLACK && config.webhook.is_some();
    is_known
        .then_some(())
        .ok_or_else(|| format!("nobody comes in by an issuer that is named {issuer}"))
}

/// For how long somebody may hand a right on.
fn handed_on(caller: &Known, who: &ControlCaller) -> Result<Duration, &'static str> {
    match who {
        ControlCaller::User(user) if user.uid == 0 => {
            Err("root's right is not delegated: let a rule permit whoever is to answer")
        }
        ControlCaller::User(user) if user.runs_agent => {
            Err("processes of this user run as an agent: it has no answer to delegate")
        }
        ControlCaller::User(_) => Ok(LONGEST),
        ControlCaller::Person(_) if caller.visitor().is_some_and(Visitor::is_fresh) => {
            Ok(LONGEST_UNSEEN)
        }
        ControlCaller::Person(_) => {
            Err("this takes a login of the last 15 minutes: log out, and in again")
        }
    }
}

/// `GET /v1/approvals/delegations` on the control socket, and on the console: those by the caller and to the
/// caller; for root all.
///
/// # Errors
/// An answer where the caller cannot be looked up.
pub async fn all(
    State(services): Given,
    caller: Known,
) -> Result<Json<Vec<Arc<Delegation>>>, Answer> {
    let who = seen(&services, &caller).await?;
    let (name, groups) = (who.name(), who.groups());
    let groups: Vec<_> = groups.iter().map(String::as_str).collect();
    let mut all = services.approvals.delegations(clock::boot());
    all.retain(|one| is_of(&caller, one) || one.to.is(name.as_deref(), &groups));
    Ok(Json(all))
}

/// `POST /v1/approvals/undelegate` on the control socket, and on the console.
///
/// # Errors
/// An answer where there is no such delegation of the caller's.
pub async fn undelegate(
    State(services): Given,
    caller: Known,
    Json(which): Json<WhichDelegation>,
) -> Result<Json<Delegation>, Answer> {
    let all = services.approvals.delegations(clock::boot());
    let found = all.iter().find(|one| one.id == which.delegation);
    let found = found.filter(|one| is_of(&caller, one)).map(Arc::clone);
    let found = found.ok_or_else(|| {
        Answer::bad(
            "no delegation of yours has that name; `interceptor approvals delegations` lists them",
        )
    })?;
    let made = tokio::spawn(async move {
        let kept = services.approvals.undelegate(found.id).await;
        kept.map_err(|error| Answer::failed(&error))?;
        written(&services, &caller, &found, "revoked").await?;
        Ok(Delegation::clone(&found))
    });
    made.await
        .map_err(|error| Answer::failed(&error))?
        .map(Json)
}

/// Whether a delegation is the caller's own; all are root's. Nobody is looked up for it.
fn is_of(caller: &Known, delegation: &Delegation) -> bool {
    let by = &delegation.by;
    match (caller.process(), caller.visitor().map(|one| &one.who)) {
        (Ok(process), _) => process.uid == 0 || by.login.is_none() && by.uid == Some(process.uid),
        (Err(_), Some(As::Root(..))) => true,
        (Err(_), Some(As::Person(login))) => by.login.as_ref().is_some_and(|own| own.is_of(login)),
        (Err(_), None) => false,
    }
}

async fn written(
    services: &Services,
    caller: &Known,
    delegation: &Delegation,
    what: &str,
) -> Result<(), Answer> {
    let event = Event::ApprovalDelegated {
        caller: caller.in_audit(),
        delegation,
        what,
    };
    let written = services.audit.append_durable(&event).await;
    written.map(drop).map_err(|error| Answer::failed(&error))
}

/// The caller, as policy sees who that is.
async fn seen(services: &Arc<Services>, caller: &Known) -> Result<ControlCaller, Answer> {
    let seen = caller.as_caller(services).await;
    seen.map_err(|error| Answer::failed(&error))
}

/// In whose places somebody may speak, looked up once: each approver once.
#[derive(Debug)]
pub(super) struct Places {
    /// Who that is.
    pub(super) who: ControlCaller,
    of: Vec<(Arc<Delegation>, Approver)>,
}

impl Places {
    /// # Errors
    /// An answer where the caller cannot be looked up.
    pub(super) async fn of(services: &Arc<Services>, caller: &Known) -> Result<Self, Answer> {
        let who = seen(services, caller).await?;
        // The daemon's own view of users where the caller is no process.
        let pid = caller
            .process()
            .map_or_else(|_visitor| std::process::id(), |process| process.pid);
        let mut of: Vec<(Arc<Delegation>, Approver)> = Vec::new();
        for delegation in services.approvals.delegations(clock::boot()) {
            if of.iter().any(|(one, _)| is_same(&one.by, &delegation.by)) {
                continue;
            }
            if let Some(approver) =
                standing_in::approver_of(services, (&who, pid), &delegation).await
            {
                of.push((delegation, approver));
            }
        }
        Ok(Self { who, of })
    }

    /// In whose place he may speak to a question: the first of those who may answer it.
    pub(super) fn to(&self, services: &Services, standing: &Standing) -> Option<InPlace> {
        let question = &standing.question;
        let waited = clock::boot().since(question.from);
        let object = object(standing);
        let policy = services.policy.current();
        let mut places = self.of.iter().map(|(delegation, approver)| {
            let of = person(services, &question.needs, approver.right.clone());
            let mut ways = question.needs.iter().flatten();
            let speaks = ways.any(|need| of.speaks_for(need, waited))
                && standing_in::may(&policy, &self.who, approver, &object);
            speaks.then_some(InPlace {
                of,
                delegation: delegation.id,
            })
        });
        places.find_map(|place| place)
    }
}

/// Whether two delegations are by the same right.
fn is_same(one: &Person, other: &Person) -> bool {
    match (&one.login, &other.login) {
        (Some(one), Some(other)) => one.is_of(other),
        (None, None) => one.uid == other.uid,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

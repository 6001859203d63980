//! Delegating: an approver names a stand-in for a while, sees who stands in, and takes it back.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use uuid::Uuid;

use super::super::Given;
use super::super::api::{Delegate, WhichDelegation};
use super::super::caller::{Answer, Known};
use super::approvals::{object, person};
use crate::approvals::{Delegation, InPlace, Person, StandIn, Standing};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::policy::{ControlCaller, HostUser};
use crate::session::people::standing_in;
use crate::session::services::Services;

/// The longest delegation.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// Bytes of a name of a user or a group.
const MAX_NAME: usize = 255;

/// `POST /v1/approvals/delegate` on the control socket.
///
/// # Errors
/// An answer where the caller has no right of its own to hand on, or the request makes no sense.
pub async fn delegate(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Delegate>,
) -> Result<Json<Delegation>, Answer> {
    let time = clock::duration(&asked.time).map_err(|mistake| Answer::bad(&mistake))?;
    let (StandIn::User(name) | StandIn::Group(name)) = &asked.to;
    if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Answer::bad("name a user or a group of the host"));
    }
    if time.as_secs() == 0 || time > LONGEST {
        return Err(Answer::bad("delegate for some time, and at most 31d"));
    }
    let login = user(&services, &caller).await?;
    if login.uid == 0 {
        return Err(Answer::bad(
            "root's right is not delegated: let a rule permit whoever is to answer",
        ));
    }
    if login.runs_agent {
        return Err(Answer::bad(
            "processes of this user run as an agent: it has no answer to delegate",
        ));
    }
    if asked.to == StandIn::User(login.name.clone().unwrap_or_default()) {
        return Err(Answer::bad("nobody stands in for himself"));
    }
    let issued = clock::wall();
    let delegation = Delegation {
        id: Uuid::new_v4(),
        by: Person {
            uid: Some(login.uid),
            login: None,
            name: login.name,
            groups: Vec::new(),
            known_as: Default::default(),
        },
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

/// `GET /v1/approvals/delegations` on the control socket: those by the caller and to the caller; for root all.
///
/// # Errors
/// An answer where the caller cannot be looked up.
pub async fn all(
    State(services): Given,
    caller: Known,
) -> Result<Json<Vec<Arc<Delegation>>>, Answer> {
    let login = user(&services, &caller).await?;
    let groups = login
        .groups
        .iter()
        .filter_map(|group| group.name.as_deref());
    let groups: Vec<_> = groups.collect();
    let mut all = services.approvals.delegations(clock::boot());
    all.retain(|one| {
        login.uid == 0 || one.by.uid == Some(login.uid) || one.to.is(login.name.as_deref(), &groups)
    });
    Ok(Json(all))
}

/// `POST /v1/approvals/undelegate` on the control socket.
///
/// # Errors
/// An answer where there is no such delegation of the caller's.
pub async fn undelegate(
    State(services): Given,
    caller: Known,
    Json(which): Json<WhichDelegation>,
) -> Result<Json<Delegation>, Answer> {
    let all = services.approvals.delegations(clock::boot());
    let uid = caller.process()?.uid;
    let own = |one: &&Arc<Delegation>| uid == 0 || one.by.uid == Some(uid);
    let found = all.iter().find(|one| one.id == which.delegation);
    let found = found.filter(own).map(Arc::clone).ok_or_else(|| {
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

/// The caller, as policy sees users of the host: nobody else delegates, and nobody else stands in.
async fn user(services: &Arc<Services>, caller: &Known) -> Result<HostUser, Answer> {
    let process = caller.process()?;
    let user = services
        .caller(process.pid, (process.uid, process.gid))
        .await;
    user.map_err(|error| Answer::failed(&error))
}

/// In whose places somebody may speak, looked up once: each approver once.
#[derive(Debug)]
pub(super) struct Places {
    /// Who that is; nobody where it is no user of the host.
    pub(super) who: Option<HostUser>,
    of: Vec<(Arc<Delegation>, HostUser)>,
}

impl Places {
    /// # Errors
    /// An answer where the caller cannot be looked up.
    pub(super) async fn of(services: &Arc<Services>, caller: &Known) -> Result<Self, Answer> {
        let mut of: Vec<(Arc<Delegation>, HostUser)> = Vec::new();
        let Ok(process) = caller.process() else {
            return Ok(Self { who: None, of });
        };
        let who = user(services, caller).await?;
        for delegation in services.approvals.delegations(clock::boot()) {
            let by = delegation.by.uid;
            if of.iter().any(|(_, approver)| Some(approver.uid) == by) {
                continue;
            }
            let named = (&who, process.pid);
            if let Some(approver) = standing_in::approver_of(services, named, &delegation).await {
                of.push((delegation, approver));
            }
        }
        let who = Some(who);
        Ok(Self { who, of })
    }

    /// In whose place he may speak to a question: the first of those who may answer it.
    pub(super) fn to(&self, services: &Services, standing: &Standing) -> Option<InPlace> {
        let question = &standing.question;
        let waited = clock::boot().since(question.from);
        let object = object(standing);
        let who = self.who.as_ref()?;
        let mut places = self.of.iter().map(|(delegation, approver)| {
            let of = person(
                services,
                &question.needs,
                ControlCaller::User(approver.clone()),
            );
            let mut ways = question.needs.iter().flatten();
            let speaks = ways.any(|need| of.speaks_for(need, waited))
                && standing_in::may(services, who, approver, &object);
            speaks.then_some(InPlace {
                of,
                delegation: delegation.id,
            })
        });
        places.find_map(|place| place)
    }
}

//! Looks after questions to people: an answer is used once while it stands, and what is over is written.

use std::sync::Arc;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::standing_in;
use crate::approvals::{self, Answer, InPlace, Over, Person, Question, Standing, State, Word};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock::{self, BootTime};
use crate::grants::Holder;
use crate::policy::{ApprovalId, ControlCaller, ControlObject, ControlVerb, Refusal};
use crate::session::ending;
use crate::session::services::Services;

/// Ends questions whose time is over, and writes the end of each, until `stop`.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    let mut owed: Vec<Standing> = Vec::new();
    loop {
        let now = clock::boot();
        // An answer does not outlive the scope that it was given to.
        for scope in services.approvals.scopes() {
            if services.scopes.by_id(scope).is_none() {
                services.approvals.end_scope(scope);
            }
        }
        let (over, next) = services.approvals.ended(now);
        for standing in over {
            tell(&services, &standing);
            owed.push(standing);
        }
        let (escalated, later) = services.approvals.escalated(now);
        for question in escalated {
            escalate(&services, &question, now);
        }
        let mut pause = clock::nap(now, next.into_iter().chain(later).min());
        // What cannot be kept is tried again until it is: it would be open again after a restart.
        for standing in std::mem::take(&mut owed) {
            if let Err(error) = services.approvals.keep(standing.clone()).await {
                tracing::error!(%error, "a question is over, but that cannot be kept yet");
                owed.push(standing);
                pause = pause.min(ending::AGAIN);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = services.approvals.changed() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Writes that more people may answer now.
fn escalate(services: &Services, question: &Question, now: BootTime) {
    let event = Event::ApprovalEscalated {
        approval: question.id,
        holder: &question.holder,
        groups: question.escalated(now),
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write to the audit log who else may answer");
    }
}

fn tell(services: &Services, standing: &Standing) {
    let State::Over { why } = standing.state else {
        return;
    };
    services
        .metrics
        .approval_ended(&standing.question.target, word(why, standing));
    let event = Event::ApprovalEnded {
        approval: standing.question.id,
        holder: &standing.question.holder,
        why,
        answers: &standing.answers,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write the end of a question to the audit log");
    }
}

/// The metric's label: what came of it.
fn word(why: Over, standing: &Standing) -> &'static str {
    match why {
        Over::Used => "approved",
        Over::Expired if standing.answers.iter().any(|said| !said.yes) => "denied",
        Over::Expired => "expired",
        Over::Withdrawn => "withdrawn",
        Over::Void => "void",
        Over::Revoked => "revoked",
        Over::Scope => "scope",
        Over::Restarted => "restarted",
    }
}

/// Why there is no word of people.
#[derive(Debug)]
pub enum No {
    /// They could not be asked.
    Unasked(approvals::Error),
    /// Somebody said no.
    Denied(Box<Answer>),
    /// The question is over.
    Over(Option<Over>),
    /// This one said yes, and may not any more.
    Void(String),
}

impl No {
    /// As whoever asked is told, of what `summary` says in a word.
    #[must_use]
    pub fn refusal(&self, summary: &str) -> Refusal {
        match self {
            Self::Unasked(approvals::Error::Full(why)) => Refusal::too_many_questions(why),
            Self::Unasked(error @ approvals::Error::Often { .. }) => {
                Refusal::too_many_questions(&error.to_string())
            }
            Self::Unasked(error @ approvals::Error::Closed { .. }) => {
                Refusal::denied_by_people(&format!("{summary}: {error}"))
            }
            Self::Unasked(error @ approvals::Error::Untold(_)) => {
                tracing::error!(%error, "cannot ask people");
                Refusal::storage("the audit log cannot be written")
            }
            Self::Unasked(error) => {
                tracing::error!(%error, "cannot ask people");
                Refusal::storage("the question to people cannot be kept")
            }
            Self::Denied(answer) => {
                let mut message = format!("{summary} was denied by {}", answer.by.shown());
                if let Some(reason) = &answer.reason {
                    message.push_str(": ");
                    message.push_str(reason);
                }
                Refusal::denied_by_people(&message)
            }
            Self::Over(why) => Refusal::denied_by_people(&format!("{summary}: {}", said(*why))),
            Self::Void(name) => Refusal::approval_void(name),
        }
    }
}

fn said(why: Option<Over>) -> &'static str {
    match why {
        Some(Over::Void) => "policy asks for another approval now",
        Some(Over::Revoked) => "the approval was taken back",
        Some(Over::Scope) => "the scope is no more",
        Some(Over::Used) => "the approval was used up by another request",
        Some(Over::Expired | Over::Withdrawn | Over::Restarted) | None => {
            "nobody answered the question in time"
        }
    }
}

/// Uses a word once, where all who gave it may still give it. `pid` is the process that it is for.
///
/// # Errors
/// Where they may not, or it was used up meanwhile.
pub async fn use_up(
    services: &Arc<Services>,
    holder: &Holder,
    pid: u32,
    word: Word,
) -> Result<Word, No> {
    for said in &word.answers {
        if !stands(services, holder, pid, said).await {
            services.approvals.void(word.id);
            return Err(No::Void(said.by.shown()));
        }
    }
    let taken = services.approvals.take(word.id, clock::boot()).await;
    match taken.map_err(No::Unasked)? {
        true => Ok(word),
        false => Err(No::Over(Some(gone(services, word.id)))),
    }
}

/// Why a word that was there is none any more.
fn gone(services: &Services, id: ApprovalId) -> Over {
    match services.approvals.last_of(id).map(|last| last.state) {
        Some(State::Over { why }) => why,
        _ => Over::Used,
    }
}

/// Whether who said yes may still say it, by policy, groups and what else runs as the same user.
async fn stands(services: &Arc<Services>, holder: &Holder, pid: u32, said: &Answer) -> bool {
    let object = ControlObject::Scope {
        agent: holder.agent.clone(),
        cgroup: holder.cgroup.clone(),
    };
    let caller = match &said.in_place {
        Some(place) => approver(services, (&object, pid), (said, place)).await,
        None => now(services, pid, &said.by).await,
    };
    let Some(caller) = caller else {
        return false;
    };
    let verb = match said.break_glass {
        true => ControlVerb::BreakGlass,
        false => ControlVerb::Approve,
    };
    let (right, groups) = (said.right(), caller.groups());
    let policy = services.policy.current();
    policy.authorize_control(&caller, verb, &object).is_ok()
        && (right.is_root() || right.groups.iter().all(|name| groups.contains(name)))
}

/// In whose place somebody spoke, as of now; nobody where the one who spoke is not the one that is named for it, or
/// may not any more.
async fn approver(
    services: &Arc<Services>,
    (object, pid): (&ControlObject, u32),
    (said, place): (&Answer, &InPlace),
) -> Option<ControlCaller> {
    let all = services.approvals.delegations(clock::boot());
    let delegation = all.iter().find(|one| one.id == place.delegation)?;
    let who = now(services, pid, &said.by).await?;
    let approver = standing_in::approver_of(services, (&who, pid), delegation).await?;
    let policy = services.policy.current();
    standing_in::may(&policy, &who, &approver, object).then_some(approver.right)
}

/// Who said it, as of now; nobody where that cannot be told, or where a login is not good any more.
async fn now(services: &Arc<Services>, pid: u32, by: &Person) -> Option<ControlCaller> {
    match (&by.login, by.uid) {
        (Some(login), _) => {
            let is_good = services.is_good(login);
            is_good.then(|| ControlCaller::Person(login.clone()))
        }
        (None, Some(uid)) => {
            // The primary group is among the others.
            let user = services.user(pid, (uid, u32::MAX)).await;
            let user = user
                .inspect_err(|error| tracing::warn!(%error, uid, "cannot look up who approved"));
            user.ok().map(ControlCaller::User)
        }
        (None, None) => None,
    }
}

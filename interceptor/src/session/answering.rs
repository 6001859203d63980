//! Looks after questions to people: what is over is written, and kept so.

use std::sync::Arc;

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::services::Services;
use crate::approvals::{Over, Standing, State};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;

/// How long the watch sleeps at most: a boot clock goes on while the host sleeps, a timer does not.
const LONGEST: Duration = Duration::from_secs(60);

/// Ends questions whose time is over, and writes the end of each, until `stop`.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    loop {
        let now = clock::boot();
        // An answer does not outlive the scope that it was given to.
        for standing in services.approvals.all(None) {
            let scope = standing.question.holder.scope;
            if services.scopes.by_id(scope).is_none() {
                services.approvals.end_scope(scope);
            }
        }
        let (over, next) = services.approvals.ended(now);
        for standing in over {
            end(&services, standing).await;
        }
        let pause = next.map_or(LONGEST, |next| next.since(now).min(LONGEST));
        tokio::select! {
            () = stop.cancelled() => return,
            () = services.approvals.changed() => {}
            () = sleep(pause) => {}
        }
    }
}

async fn end(services: &Services, standing: Standing) {
    let State::Over { why } = standing.state else {
        return;
    };
    services
        .metrics
        .approval_ended(&standing.question.target, word(why, &standing));
    let event = Event::ApprovalEnded {
        approval: standing.question.id,
        holder: &standing.question.holder,
        why,
        answers: &standing.answers,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write the end of a question to the audit log");
    }
    if let Err(error) = services.approvals.keep(standing).await {
        tracing::error!(%error, "a question is over, but may be open again after a restart");
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
        Over::Scope => "scope",
        Over::Restarted => "restarted",
    }
}

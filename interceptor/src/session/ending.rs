//! The end of grants: by time, by use, with their process or scope, or by hand; and of what stands on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::EndReason;
use super::services::Services;
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::grants::{Ended, Grant, Holder, Root, Standing};
use crate::identity::Identity;
use crate::policy::GrantId;

/// How soon an end that could not be kept is tried again.
pub const AGAIN: Duration = Duration::from_secs(2);

/// Ends grants, and the sessions of their scopes that nothing else permits; how many were live.
pub async fn end(services: &Services, grants: &[(GrantId, Ended)]) -> usize {
    // All of them are gone before a session is asked what it stands on.
    let ended = services.grants.end(grants);
    if ended.is_empty() {
        return 0;
    }
    let sessions: Vec<_> = ended
        .iter()
        .map(|(standing, why)| match why {
            // Nothing stands on it; what is about to ask for some of it is refused.
            Ended::Used => 0,
            _ => fell_with(services, &standing.grant),
        })
        .collect();
    let ends = ended
        .iter()
        .map(|(standing, why)| (standing.grant.id, *why));
    if let Err(error) = services.grants.keep_ends(ends.collect()).await {
        tracing::error!(%error, "grants have ended, but that cannot be kept yet: they would be live again after a restart");
    }
    for ((standing, why), sessions) in ended.iter().zip(sessions) {
        tell(services, standing, *why, sessions);
    }
    ended.len()
}

/// Ends what stood on a grant; how many sessions.
fn fell_with(services: &Services, grant: &Grant) -> usize {
    services
        .registry
        .end(EndReason::Grant(grant.id), |session| {
            session.who().flow.scope == grant.holder.scope && !session.still_permitted()
        })
}

/// Writes the end of a grant.
fn tell(services: &Services, standing: &Standing, why: Ended, sessions: usize) {
    let event = Event::GrantEnded {
        grant: standing.grant.id,
        holder: &standing.grant.holder,
        why,
        used: standing.used,
        used_rows: standing.used_rows,
        used_bytes: standing.used_bytes,
        sessions,
    };
    if let Err(error) = services.audit.append(&event) {
        let grant = standing.grant.id.0;
        tracing::error!(%error, %grant, "cannot write the end of a grant to the audit log");
    }
}

/// Writes that a grant never came to be, though its issue is written.
pub fn unissued(services: &Services, grant: Grant) {
    let standing = Standing::unused(grant);
    tell(services, &standing, Ended::Unissued, 0);
}

/// Ends the grants of an agent.
pub async fn of_agent(services: &Services, agent: &str, why: Ended) -> usize {
    of_holders(services, why, |holder| holder.agent == agent).await
}

/// Ends the grants of scopes that are intercepted no longer, or as another agent.
pub async fn of_untagged(services: &Services) -> usize {
    let scopes = services.scopes.all();
    of_holders(services, Ended::Untagged, |holder| {
        let mut scopes = scopes.iter();
        !scopes.any(|scope| scope.id == holder.scope && scope.agent == holder.agent)
    })
    .await
}

/// Ends the grants of a scope that were asked for in the name of somebody who is not behind it any more.
pub async fn of_identity(services: &Services, scope: u64, identity: &Identity) -> usize {
    of_grants(services, Ended::Identity, |grant| {
        let behalf = grant.on_behalf_of.as_ref();
        grant.holder.scope == scope && behalf.is_some_and(|behalf| behalf.is_of(identity))
    })
    .await
}

async fn of_holders(services: &Services, why: Ended, which: impl Fn(&Holder) -> bool) -> usize {
    of_grants(services, why, |grant| which(&grant.holder)).await
}

async fn of_grants(services: &Services, why: Ended, which: impl Fn(&Grant) -> bool) -> usize {
    let all = services.grants.all(None).into_iter();
    let ended = all.filter(|standing| which(&standing.grant));
    let ended: Vec<_> = ended.map(|standing| (standing.grant.id, why)).collect();
    end(services, &ended).await
}

/// Ends grants that are used up or whose time is over, until `stop`. Those that it is late for cover nothing
/// meanwhile.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    loop {
        let changes = services.grants.changes();
        let now = clock::boot();
        let (due, next) = services.grants.due(now);
        end(&services, &due).await;
        let mut pause = clock::nap(now, next);
        if services.grants.unkept() > 0 {
            // What is owed is tried again until it is kept.
            match services.grants.keep_ends(Vec::new()).await {
                Ok(()) => tracing::info!("ends of grants that could not be kept are kept now"),
                Err(_) => pause = pause.min(AGAIN),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = services.grants.changed(changes) => {}
            () = sleep(pause) => {}
        }
    }
}

/// Ends a grant with the process that it hangs on. One that cannot be held has ended, or counts as ended.
pub fn hang(services: &Arc<Services>, id: GrantId, root: &Root) {
    let (services, pid) = (Arc::clone(services), root.pid);
    let held = services.identity.hold(pid, root.started);
    let Some(gone) = services.grants.gone(id) else {
        return;
    };
    tokio::spawn(async move {
        match held {
            Ok(held) => {
                tokio::select! {
                    // A pidfd is readable when its process has ended.
                    waited = held.readable() => if let Err(error) = waited {
                        tracing::warn!(%error, pid, "cannot wait for the process of a grant any more");
                    },
                    // Who has nothing to wait for any more holds no descriptor.
                    () = gone.cancelled() => return,
                }
            }
            Err(error) => tracing::info!(%error, "the process of a grant is not there"),
        }
        end(&services, &[(id, Ended::Exited)]).await;
    });
}

/// Looks after the grants that an earlier daemon issued, and tells of those that ended since.
pub async fn take_over(services: &Arc<Services>) {
    for (standing, why) in services.grants.ended_unseen() {
        tell(services, &standing, why, 0);
    }
    of_untagged(services).await;
    for Standing { grant, .. } in services.grants.all(None) {
        if let Some(root) = &grant.holder.root {
            hang(services, grant.id, root);
        }
    }
}

//! The end of grants: by time, by use, with their process, or by hand; and of the sessions on them.

use std::sync::Arc;

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::EndReason;
use super::services::Services;
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::clock;
use crate::grants::{Ended, Root, Standing};
use crate::policy::GrantId;

/// How long the watch sleeps at most: a boot clock goes on while the host sleeps, a timer does not.
const LONGEST: Duration = Duration::from_secs(60);

/// Ends a grant, and the sessions of its scope that nothing else permits; whether it was live.
pub async fn end(services: &Services, id: GrantId, why: Ended) -> bool {
    let Some(Standing { grant, used }) = services.grants.end(id, why) else {
        return false;
    };
    // What took the last use goes on.
    let sessions = match why {
        Ended::Used => 0,
        _ => services.registry.end(EndReason::Grant, |session| {
            session.who().flow.scope == grant.holder.scope && !session.still_permitted()
        }),
    };
    if let Err(error) = services.grants.keep_end(id, why).await {
        tracing::error!(%error, grant = %id.0, "a grant has ended, but may be live again after a restart");
    }
    let event = Event::GrantEnded {
        grant: id,
        holder: &grant.holder,
        why,
        used,
        sessions,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, grant = %id.0, "cannot write the end of a grant to the audit log");
    }
    true
}

/// Ends grants whose time is over, until `stop`. Those that it is late for cover nothing meanwhile.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    loop {
        let number = services.grants.number();
        let now = clock::boot();
        let (over, next) = services.grants.due(now);
        for id in over {
            end(&services, id, Ended::Expired).await;
        }
        let pause = next.map_or(LONGEST, |next| next.since(now).min(LONGEST));
        tokio::select! {
            () = stop.cancelled() => return,
            () = services.grants.changed(number) => {}
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
        end(&services, id, Ended::Exited).await;
    });
}

/// Looks after the grants that an earlier daemon issued.
pub fn take_over(services: &Arc<Services>) {
    for Standing { grant, .. } in services.grants.all(None) {
        if let Some(root) = &grant.holder.root {
            hang(services, grant.id, root);
        }
    }
}

//! Standing in: whether somebody may speak by the right of an approver who is away.

use std::sync::Arc;

use crate::approvals::Delegation;
use crate::policy::{ControlCaller, ControlObject, ControlVerb, RefusalKind};
use crate::session::services::Services;

/// The approver, as policy sees who that is now; `None` where `who` may not speak in that place: the approver
/// may not answer any more, `who` is not the one that was named, runs as an agent, or is forbidden to answer.
/// `pid` is a process whose view of users counts.
pub async fn right_of(
    services: &Arc<Services>,
    (who, pid): (&ControlCaller, u32),
    delegation: &Delegation,
    object: &ControlObject,
) -> Option<ControlCaller> {
    if who.runs_agent || who.agent.is_some() || who.uid == delegation.by.uid {
        return None;
    }
    let groups = who.groups.iter().filter_map(|group| group.name.as_deref());
    let groups: Vec<_> = groups.collect();
    if !delegation.to.is(who.name.as_deref(), &groups) {
        return None;
    }
    let policy = services.policy.current();
    let own = policy.authorize_control(who, ControlVerb::Approve, object);
    if own.is_err_and(|refusal| refusal.kind == RefusalKind::Forbidden) {
        return None;
    }
    // The primary group is among the others.
    let approver = services.user(pid, (delegation.by.uid, u32::MAX)).await;
    let approver = approver
        .inspect_err(|error| tracing::warn!(%error, "cannot look up who delegated"))
        .ok()?;
    let may = policy.authorize_control(&approver, ControlVerb::Approve, object);
    may.is_ok().then_some(approver)
}

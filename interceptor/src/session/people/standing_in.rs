//! Standing in: whether somebody may speak by the right of an approver who is away.

use std::sync::Arc;

use crate::approvals::Delegation;
use crate::policy::{ControlCaller, ControlObject, ControlVerb, HostUser, RefusalKind};
use crate::session::services::Services;

/// The approver, as policy sees who that is now; `None` where `who` is not the one that was named, or runs as
/// an agent. `pid` is a process whose view of users counts.
pub async fn approver_of(
    services: &Arc<Services>,
    (who, pid): (&HostUser, u32),
    delegation: &Delegation,
) -> Option<HostUser> {
    if who.runs_agent || who.agent.is_some() || Some(who.uid) == delegation.by.uid {
        return None;
    }
    let groups = who.groups.iter().filter_map(|group| group.name.as_deref());
    let groups: Vec<_> = groups.collect();
    if !delegation.to.is(who.name.as_deref(), &groups) {
        return None;
    }
    // The primary group is among the others.
    let approver = services.user(pid, (delegation.by.uid?, u32::MAX)).await;
    let approver =
        approver.inspect_err(|error| tracing::warn!(%error, "cannot look up who delegated"));
    approver.ok()
}

/// Whether `who` may answer in the approver's place: the approver may, and `who` is not forbidden to.
#[must_use]
pub fn may(
    services: &Services,
    who: &HostUser,
    approver: &HostUser,
    object: &ControlObject,
) -> bool {
    let policy = services.policy.current();
    let judged = |user: &HostUser| {
        let caller = ControlCaller::User(user.clone());
        policy.authorize_control(&caller, ControlVerb::Approve, object)
    };
    let forbidden = |refusal: &crate::policy::Refusal| refusal.kind == RefusalKind::Forbidden;
    !judged(who).is_err_and(|refusal| forbidden(&refusal)) && judged(approver).is_ok()
}

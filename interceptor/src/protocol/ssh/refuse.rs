//! How "no" sounds on a channel of SSH: three lines on standard error, and an exit status of its own.

use crate::policy::{ApprovalId, Refusal, RuleId};
use crate::session::Refused;

/// What a command that was refused "exits" with: a shell says so of what it may not run.
pub(super) const EXIT: u32 = 126;

/// What the agent is told of a refusal.
pub(super) fn refused(refused: &Refused) -> String {
    let refusal = &refused.refusal;
    let request = refused.request.0;
    let hint = match &refusal.hint {
        Some(hint) => hint.clone(),
        None => format!("ask the operator for access, and name the request {request}"),
    };
    let rules = rules(&refusal.rules).unwrap_or_else(|| "none".to_owned());
    let message = &refusal.message;
    format!("ERROR:  {message}\nDETAIL:  rule {rules}; request {request}\nHINT:  {hint}\n")
}

/// The same in one line, for an answer that has room for no more.
pub(super) fn in_a_line(refused: &Refused) -> String {
    let rules = rules(&refused.refusal.rules).unwrap_or_else(|| "none".to_owned());
    let (message, request) = (&refused.refusal.message, refused.request.0);
    format!("{message} (rule {rules}; request {request})")
}

/// What a client is told that gets no session.
pub(super) fn at_startup(refusal: &Refusal) -> String {
    let mut text = refusal.message.clone();
    if let Some(rules) = rules(&refusal.rules) {
        text.push_str(&format!(" (rule {rules})"));
    }
    if let Some(hint) = &refusal.hint {
        text.push_str(&format!("; {hint}"));
    }
    text
}

/// What the agent is told while its request waits for people.
pub(super) fn waits(approval: ApprovalId) -> String {
    let approval = approval.0;
    format!(
        "NOTICE:  waiting for approval {approval}\nDETAIL:  the request goes on by itself once \
         people have said yes\n"
    )
}

fn rules(rules: &[RuleId]) -> Option<String> {
    let rules: Vec<_> = rules.iter().map(|rule| rule.0.as_str()).collect();
    (!rules.is_empty()).then(|| rules.join(", "))
}

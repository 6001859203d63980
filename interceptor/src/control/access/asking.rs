//! Asking people before a grant is issued.
//!
//! Nobody waits here: the request is refused with the name of the question, and the same request finds the
//! answer.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::super::api::Request;
use crate::approvals::{self, Found, Question};
use crate::audit::Sink as _;
use crate::audit::event::{About, Event};
use crate::clock;
use crate::grants::Holder;
use crate::identity::Principal;
use crate::policy::{ApprovalId, Needs, Refusal};
use crate::session::people::answering::{self, No};
use crate::session::services::Services;
use crate::tokens::exchange::Behalf;

/// What is asked for, in a word.
const SUMMARY: &str = "grant";

/// Why there is no word of people for a grant.
#[derive(Debug)]
pub(super) enum Unmet {
    /// They said no, or cannot be asked.
    Refused(Refusal),
    /// They are asked.
    Waits {
        /// What whoever asks is told.
        refusal: Refusal,
        /// The question.
        id: ApprovalId,
        /// Whether it is a new one.
        new: bool,
    },
    /// Something failed.
    Failed(String),
}

/// The word of people for this request, which is used up by it: what of that is met.
///
/// # Errors
/// Why there is none.
pub(super) async fn consent(
    services: &Arc<Services>,
    principal: &Principal,
    (holder, needs): (&Holder, Vec<Needs>),
    (asked, behalf): (&Request, Option<&Behalf>),
) -> Result<Needs, Unmet> {
    let question = question(principal, (holder, needs), (asked, behalf))
        .map_err(|error| Unmet::Failed(error.to_string()))?;
    let who = approvals::who(&question.needs);
    let found = services.approvals.ask(question, clock::boot(), |new| {
        write(services, principal, asked, new)
    });
    let no = |no: No| Unmet::Refused(no.refusal(SUMMARY));
    let (found, ticket) = found.await.map_err(|error| no(No::Unasked(error)))?;
    if let Some(ticket) = ticket {
        // It stays for whoever comes back.
        ticket.leave();
    }
    match found {
        Found::Approved(word) => {
            let pid = principal.process.pid;
            let used = answering::use_up(services, holder, pid, word).await;
            used.map(|word| word.met()).map_err(no)
        }
        Found::Denied(answer) => Err(no(No::Denied(answer))),
        Found::Open { id, new } => {
            let refusal = Refusal::waits_for_people(SUMMARY, &who, id);
            Err(Unmet::Waits { refusal, id, new })
        }
    }
}

fn write(
    services: &Services,
    principal: &Principal,
    asked: &Request,
    question: &Question,
) -> Result<(), String> {
    let json = serde_json::value::to_raw_value(principal).map_err(|error| error.to_string())?;
    let event = Event::ApprovalAsked {
        about: About {
            connection: Uuid::nil(),
            session: None,
            target: Some(&asked.target),
            protocol: None,
            database: asked.database.as_deref(),
            principal: Some(&json),
        },
        approval: question.id,
        summary: SUMMARY,
        fingerprint: &question.fingerprint,
        needs: &question.needs,
    };
    let written = services.audit.append(&event);
    written.map(drop).map_err(|error| error.to_string())
}

fn question(
    principal: &Principal,
    (holder, needs): (&Holder, Vec<Needs>),
    (asked, behalf): (&Request, Option<&Behalf>),
) -> serde_json::Result<Question> {
    let text = serde_json::to_string_pretty(asked)?;
    Ok(Question {
        target: asked.target.clone(),
        database: asked.database.clone().unwrap_or_default(),
        summary: SUMMARY.to_owned(),
        fingerprint: given(asked),
        shape: text.clone(),
        text,
        literals: Some(String::new()),
        under: vec![tree(holder)],
        on_behalf_of: behalf.map(|behalf| Arc::clone(&behalf.identity)),
        ..Question::of(principal, holder.clone(), needs)?
    })
}

/// Whose the grant would be: another process tree asks for itself, and the same asks once, whatever its root has come
/// to execute.
fn tree(holder: &Holder) -> String {
    match &holder.root {
        Some(root) => format!("for {}", root.shown()),
        None => "for the whole scope".to_owned(),
    }
}

/// What would be given, whatever it is wanted for and for how long: another reason does not ask again what was denied.
fn given(asked: &Request) -> String {
    let given = json!([asked.target, asked.database, asked.actions, asked.resource]);
    given.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::grants::Root;

    #[test]
    fn a_process_tree_is_the_same_whatever_its_root_has_come_to_execute() {
        let of = |pid: u32, started: u64, sha256: &str| {
            let root = Root {
                pid,
                started: BootTime(started),
                sha256: sha256.to_owned(),
            };
            tree(&Holder {
                agent: "claude".to_owned(),
                scope: 1,
                cgroup: "/agents.slice/run".to_owned(),
                root: Some(root),
            })
        };
        let shell = of(7, 1_230_000_000, "shell");
        assert_eq!(shell, of(7, 1_230_000_000, "python"));
        // Of an ancestor it is known to a clock tick when it started.
        assert_eq!(shell, of(7, 1_234_567_890, "shell"));
        assert_ne!(shell, of(7, 1_240_000_000, "shell"));
        assert_ne!(shell, of(8, 1_230_000_000, "shell"));
    }

    #[test]
    fn the_same_wanted_for_another_reason_is_the_same() {
        let of = |more: &str| {
            let text = format!(
                r#"{{"target": "shop", "database": "shop", "actions": ["Insert", "Select"], {more}}}"#
            );
            given(&serde_json::from_str(&text).unwrap())
        };
        let orders = r#""resource": {"table": {"schema": "public", "table": "orders"}}"#;
        let one = of(&format!(r#"{orders}, "for": "5m", "reason": "test""#));
        let other =
            format!(r#"{orders}, "for": "1h", "reason": "please", "ticket": "T-1", "uses": 1"#);
        assert_eq!(one, of(&other));
        let elsewhere = r#""resource": {"table": {"schema": "public", "table": "salaries"}}, "for": "5m", "reason": "test""#;
        assert_ne!(one, of(elsewhere));
    }
}

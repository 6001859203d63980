//! Why masking does not let a statement through, in words for the agent.

use crate::masking::RULE;
use crate::policy::{Refusal, RefusalKind, RuleId};

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Veto {
    message: String,
    /// The masked column, or the part of masking, that it is about.
    about: String,
    hint: String,
}

impl Veto {
    pub(in super::super) fn new(
        message: impl Into<String>,
        about: impl Into<String>,
        hint: &str,
    ) -> Self {
        Self {
            message: message.into(),
            about: about.into(),
            hint: hint.to_owned(),
        }
    }

    /// Something that is never possible while columns are masked.
    pub(in super::super) fn never(what: &str) -> Self {
        Self::new(
            format!("{what} is not permitted while columns are masked"),
            "masking",
            "ask the operator for Reveal on the masked columns, or for an account without masks",
        )
    }

    /// Something whose meaning is not known well enough.
    pub(in super::super) fn unclear(why: impl Into<String>) -> Self {
        Self::new(
            why,
            "masking",
            "name tables with their schema, or ask for a plainer form of the same",
        )
    }

    pub(in super::super) fn refusal(self) -> Refusal {
        Refusal {
            kind: RefusalKind::NotPermitted,
            rules: vec![RuleId(format!("{RULE}{}", self.about))],
            message: self.message,
            hint: Some(self.hint),
        }
    }
}

//! A person who logged in to the daemon itself: at the console, or who is known in a chat.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::BootTime;
use crate::identity::Identity;

/// Who logged in, by whose word, and until when that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// Whose word it is: the name of an issuer in the configuration, or of a chat.
    pub by: String,
    /// Who, as that one says.
    pub identity: Arc<Identity>,
    /// Until when.
    pub until: BootTime,
}

impl LoggedIn {
    /// As policy names the person: `staff:248289`. No other issuer has the same.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.by, self.identity.subject)
    }

    /// The groups as rules name them, `staff:dba`: those of the host have no colon in them.
    pub fn groups(&self) -> impl Iterator<Item = String> {
        let groups = self.identity.groups.iter();
        groups.map(|group| format!("{}:{group}", self.by))
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> String {
        let name = self.identity.user.as_ref();
        format!("{}:{}", self.by, name.unwrap_or(&self.identity.subject))
    }

    /// Whether it is the same person by the same word.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        self.by == other.by && self.identity.is_of(&other.identity)
    }
}

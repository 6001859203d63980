//! What requests of each family of protocols are judged by: an action's family says which facts its context has.

pub(super) mod http;

use super::Action;

/// Protocols whose requests have facts in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Statements of a database, and what no request does.
    Sql,
    /// Requests of HTTP.
    Http,
}

impl Family {
    /// The family of an action.
    pub(super) const fn of(action: Action) -> Self {
        match action {
            Action::HttpGet
            | Action::HttpHead
            | Action::HttpOptions
            | Action::HttpPost
            | Action::HttpPut
            | Action::HttpPatch
            | Action::HttpDelete
            | Action::HttpOther
            | Action::HttpUpgrade => Self::Http,
            Action::Connect
            | Action::Open
            | Action::Select
            | Action::CopyOut
            | Action::Explain
            | Action::Show
            | Action::Insert
            | Action::Update
            | Action::Delete
            | Action::Merge
            | Action::Truncate
            | Action::CopyIn
            | Action::Lock
            | Action::Ddl
            | Action::Grant
            | Action::Maintain
            | Action::System
            | Action::Do
            | Action::Transaction
            | Action::Set
            | Action::Call
            | Action::Notify
            | Action::Replicate
            | Action::FastPath
            | Action::Reveal
            | Action::Unreadable => Self::Sql,
        }
    }
}

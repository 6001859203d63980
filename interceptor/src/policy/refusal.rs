//! The refusals that need no rule: who asks is not proved, a part is missing, the session was ended.
//!
//! What the caller reads says what it can do, never more than it may know of why.

use super::{Refusal, RefusalKind};

impl Refusal {
    fn plain(kind: RefusalKind, message: &str, hint: Option<&str>) -> Self {
        Self {
            kind,
            rules: Vec::new(),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    /// Who asks could not be proved.
    #[must_use]
    pub fn identity() -> Self {
        let message = "the process that connected could not be identified";
        Self::plain(RefusalKind::Identity, message, Some("connect again; the audit log says what was missing"))
    }

    /// The process holds capabilities of the host.
    #[must_use]
    pub fn privileged() -> Self {
        let message = "processes that hold host capabilities get no credentials";
        Self::plain(RefusalKind::Identity, message, Some("run the agent as an ordinary user: `interceptor run --user NAME`"))
    }

    /// Audit or recording cannot be written.
    #[must_use]
    pub fn storage(message: &str) -> Self {
        Self::plain(RefusalKind::Storage, message, Some("whoever runs this host must free disk space"))
    }

    /// The secret is not available.
    #[must_use]
    pub fn secret() -> Self {
        let message = "the credential for this server is not available";
        Self::plain(RefusalKind::Secret, message, Some("whoever runs this host finds the cause in the daemon's log"))
    }

    /// The upstream is not available or not acceptable.
    #[must_use]
    pub fn upstream(message: &str) -> Self {
        Self::plain(RefusalKind::Upstream, message, None)
    }

    /// What is asked for is not among what the target offers.
    #[must_use]
    pub fn not_offered(message: &str) -> Self {
        Self::plain(RefusalKind::NotPermitted, message, None)
    }

    /// The session was ended.
    #[must_use]
    pub fn ended() -> Self {
        Self::plain(RefusalKind::Ended, "the session was ended", Some("connect again"))
    }

    /// A defect of the daemon.
    #[must_use]
    pub fn internal(message: &str) -> Self {
        Self::plain(RefusalKind::Internal, message, None)
    }
}

impl RefusalKind {
    /// Its word in metrics and in the audit.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotPermitted => "not_permitted",
            Self::Forbidden => "forbidden",
            Self::Unreadable => "unreadable",
            Self::Identity => "identity",
            Self::Limit => "limit",
            Self::Storage => "storage",
            Self::Secret => "secret",
            Self::Upstream => "upstream",
            Self::Ended => "ended",
            Self::Internal => "internal",
        }
    }
}

//! What a channel asks, as policy and audit have it.

mod command;
pub(super) mod path;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::policy::{Access, Action, Ask, Context, Resource, SshFacts};
use crate::session::{Reading, Typed};

/// A request, with the text that stands for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) text: String,
    pub(super) reading: Arc<Reading>,
}

/// What is the same in all requests of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    /// The login on the server.
    pub(super) user: String,
    /// Whether a terminal was asked for.
    pub(super) pty: bool,
}

/// What a command and its arguments are called where what may be somebody's is left out, and in a word.
fn redacted(read: &command::Command) -> (String, String) {
    match read {
        command::Command::Simple(words) => {
            let program = words.first().cloned().unwrap_or_default();
            let arguments = words.len().saturating_sub(1);
            (format!("{program} ({arguments} arguments)"), program)
        }
        command::Command::Complex(constructs) => {
            let constructs: Vec<_> = constructs.iter().copied().collect();
            let summary = format!("a command with {}", constructs.join(", "));
            (summary.clone(), summary)
        }
    }
}

/// A line that was typed into a shell.
pub(super) fn typed(text: String) -> Typed {
    let (redacted, _) = redacted(&command::read(text.as_bytes()));
    Typed { text, redacted }
}

/// Whether a command is one whose bytes are files, not text: the server's side of a copy, or of git.
pub(super) fn carries_files(bytes: &[u8]) -> bool {
    let read = command::read(bytes);
    let mut facts = SshFacts::default();
    command::describe(&read, &mut facts);
    command::accesses(&read).is_some() || !facts.git_verb.is_empty()
}

/// A subsystem in words.
pub(super) fn subsystem(name: &str) -> String {
    format!("subsystem {name}")
}

impl Common {
    fn facts(&self) -> SshFacts {
        SshFacts {
            user: self.user.clone(),
            pty: self.pty,
            ..SshFacts::default()
        }
    }

    /// Runs a command.
    pub(super) fn exec(&self, bytes: &[u8]) -> Asked {
        let read = command::read(bytes);
        let mut facts = self.facts();
        facts.command = String::from_utf8_lossy(bytes).into_owned();
        command::describe(&read, &mut facts);
        let text = facts.command.clone();
        let (redacted, summary) = redacted(&read);
        let accesses = command::accesses(&read)
            .unwrap_or_else(|| vec![on_target(Action::Exec)])
            .into_iter()
            .collect();
        asked((facts, accesses), text, &redacted, &summary)
    }

    /// Opens a shell.
    pub(super) fn shell(&self) -> Asked {
        let accesses = BTreeSet::from([on_target(Action::Shell)]);
        asked(
            (self.facts(), accesses),
            "shell".to_owned(),
            "shell",
            "shell",
        )
    }

    /// Begins a subsystem.
    pub(super) fn subsystem(&self, name: &str) -> Asked {
        let facts = SshFacts {
            subsystem: name.to_owned(),
            ..self.facts()
        };
        let accesses = BTreeSet::from([on_target(Action::Subsystem)]);
        let text = subsystem(name);
        asked((facts, accesses), text.clone(), &text, &text)
    }

    /// Does something to files.
    pub(super) fn files(&self, operation: &str, said: &str, accesses: BTreeSet<Access>) -> Asked {
        let facts = SshFacts {
            operation: operation.to_owned(),
            ..self.facts()
        };
        let text = format!("sftp {operation} {said}");
        let summary = format!("sftp {operation}");
        asked((facts, accesses), text.clone(), &text, &summary)
    }

    /// Forwards.
    pub(super) fn forward(&self, action: Action, resource: Resource, said: &str) -> Asked {
        let accesses = BTreeSet::from([Access { action, resource }]);
        asked((self.facts(), accesses), said.to_owned(), said, said)
    }
}

/// What is asked of the target as a whole.
fn on_target(action: Action) -> Access {
    Access {
        action,
        resource: Resource::Target,
    }
}

fn asked(
    (facts, accesses): (SshFacts, BTreeSet<Access>),
    text: String,
    redacted: &str,
    summary: &str,
) -> Asked {
    let ask = Ask {
        accesses,
        context: Context {
            ssh: Some(Box::new(facts)),
            ..Context::default()
        },
    };
    let fingerprint = hex::encode(digest(&SHA256, text.as_bytes()));
    let reading = Reading {
        asks: vec![ask],
        redacted: Arc::from(redacted),
        fingerprint: Arc::from(fingerprint),
        summary: Arc::from(summary),
        masked: Arc::from([]),
        veto: None,
    };
    Asked {
        text,
        reading: Arc::new(reading),
    }
}

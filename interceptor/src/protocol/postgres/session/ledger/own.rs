//! A transaction block of the daemon's own around one write whose rows are counted: begun before it, and ended
//! by what the end of the write says.
//!
//! The client hears nothing of the block. Where it sent a `Query`, the end of the write is kept back until the
//! block is committed, as a server says so only then; in the extended protocol the block is committed in front
//! of the client's own `Sync`, and what a server says there of a commit is what the client hears. Whatever fails
//! is rolled back, and no `ReadyForQuery` tells of a transaction that the client has not opened.

use bytes::Bytes;

use super::super::super::refuse;
use super::super::super::wire::backend::{self, Status};
use super::super::super::wire::frontend::{self, Object};
use super::super::super::wire::{self, Header};
use super::super::account::{Account, UNDONE};
use super::super::entry::{Entry, Kind};
use super::super::table::Name;
use super::Ledger;
use super::limit::{Cut, Limited};
use super::replies::{Reply, Unexpected, misfit};
use crate::session::Gate;

/// The name of our own statements and portals, which are closed as soon as they have run. `Query` would take the
/// client's unnamed ones along.
const NAME: &str = "interceptor: transaction";

/// What an entry is to the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// Begins it.
    Begins,
    /// Runs in it: the write.
    Runs,
    /// Ends it.
    Ends {
        /// Or rolls it back.
        commits: bool,
    },
}

/// The block that is open, or opens.
#[derive(Debug)]
pub(super) struct Own<G: Gate> {
    /// By which protocol the client sent the write.
    simple: bool,
    stage: Part,
    /// The client has ended the batch of the write: what comes next waits for the end of the block.
    synced: bool,
    /// Of the write, once that has ended and nothing is committed.
    account: Option<Account<G>>,
    /// What the client gets in front of `ReadyForQuery`, where that was kept back.
    told: Option<Bytes>,
}

/// What the server is to be sent as soon as the client's half can.
#[derive(Debug)]
pub(super) enum Due<G: Gate> {
    /// What it must fail at, since it did not know of a cut.
    Fail { error: Bytes, kind: Kind },
    /// The end of our block.
    End { commits: bool },
    /// An `Execute` of what is left of a portal, whose end tells how many rows it touched.
    Drain { portal: Name, entry: Box<Entry<G>> },
}

impl<G: Gate> Ledger<G> {
    /// Begins a block around the write that comes next; what the server is sent.
    pub(in super::super) fn begin_own(&mut self, simple: bool) -> Vec<Bytes> {
        self.own = Some(Box::new(Own {
            simple,
            stage: Part::Begins,
            synced: false,
            account: None,
            told: None,
        }));
        match simple {
            true => self.by_query("BEGIN", Part::Begins, None),
            false => self.by_execute("BEGIN", Part::Begins, None),
        }
    }

    /// Whether our block is open, and the write can run in it; `None` where that is not known yet.
    pub(in super::super) fn has_begun(&self) -> Option<bool> {
        match self.own.as_deref() {
            Some(own) if own.stage == Part::Begins => None,
            own => Some(own.is_some()),
        }
    }

    /// Whether nothing else may run: our block is open.
    pub(in super::super) fn is_apart(&self) -> bool {
        self.own.is_some()
    }

    /// Whether the client's next message must wait for our block.
    pub(super) fn own_waits(&self) -> bool {
        let own = self.own.as_deref();
        own.is_some_and(|own| own.simple || own.synced || own.stage != Part::Runs)
    }

    /// The client has ended its batch.
    pub(super) fn sync_own(&mut self) {
        if let Some(own) = &mut self.own {
            own.synced = true;
        }
    }

    /// What goes in front of the client's `Sync`: the commit of what has run.
    pub(in super::super) fn commit_own(&mut self) -> Vec<Bytes> {
        match self.own.as_deref() {
            Some(own) if own.stage == Part::Runs && !self.skipping => self.end_own(true),
            _ => Vec::new(),
        }
    }

    /// Whether something is to be sent.
    pub(in super::super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// What is to be sent.
    pub(in super::super) fn take_due(&mut self) -> Vec<Bytes> {
        match self.due.take() {
            None => Vec::new(),
            Some(Due::Fail { error, kind }) => {
                self.owe(Entry::poison(kind, error));
                if kind == Kind::Query {
                    return vec![refuse::poison_query()];
                }
                self.skip_batch();
                vec![refuse::poison_parse(false)]
            }
            Some(Due::End { commits }) => self.end_own(commits),
            Some(Due::Drain { portal, entry }) => {
                self.owe(*entry);
                self.owe(Entry::silent(Kind::Close));
                vec![
                    frontend::make_execute_portal(&portal),
                    // Who asks for more of it hears that it is gone, and not that there is no more.
                    frontend::make_close_portal(&portal),
                    frontend::make_bare(frontend::FLUSH),
                ]
            }
        }
    }

    fn end_own(&mut self, commits: bool) -> Vec<Bytes> {
        let Some(own) = &mut self.own else {
            return Vec::new();
        };
        let simple = own.simple;
        own.stage = Part::Ends { commits };
        let mut account = own.account.take();
        if let Some(account) = &mut account {
            match commits {
                true => account.stands(),
                false => {
                    account.failed(UNDONE);
                    account.undone();
                }
            }
        }
        let part = Part::Ends { commits };
        match (simple, commits) {
            (true, true) => self.by_query("COMMIT", part, account),
            (true, false) => self.by_query("ROLLBACK", part, account),
            (false, true) => self.by_execute("COMMIT", part, account),
            (false, false) => {
                let mut messages = self.by_execute("ROLLBACK", part, account);
                self.owe(Entry::of_own(Kind::Sync, part));
                messages.push(frontend::make_bare(frontend::SYNC));
                messages
            }
        }
    }

    fn by_query(&mut self, text: &str, part: Part, account: Option<Account<G>>) -> Vec<Bytes> {
        let entry = Entry {
            account,
            ..Entry::of_own(Kind::Query, part)
        };
        self.owe(entry);
        vec![frontend::make_query(text)]
    }

    fn by_execute(&mut self, text: &str, part: Part, account: Option<Account<G>>) -> Vec<Bytes> {
        let mut account = account;
        let close = |object| frontend::make_about(frontend::CLOSE, object, NAME);
        let messages = [
            // One that a failure kept from being closed.
            (Kind::Close, close(Object::Statement)),
            (Kind::Parse, frontend::make_parse(NAME, text)),
            (Kind::Bind, frontend::make_bind(NAME, NAME)),
            (Kind::Execute, frontend::make_execute(NAME, 0)),
            (Kind::Close, close(Object::Portal)),
            (Kind::Close, close(Object::Statement)),
        ];
        for (kind, _) in &messages {
            let account = match kind {
                Kind::Execute => account.take(),
                _ => None,
            };
            self.owe(Entry {
                account,
                ..Entry::of_own(*kind, part)
            });
        }
        messages.map(|(_, message)| message).into()
    }

    /// The write has ended, and its block has not: the account stays open.
    pub(super) fn keep_account(&mut self, account: Account<G>) -> Option<Account<G>> {
        match &mut self.own {
            Some(own) => {
                own.account = Some(account);
                None
            }
            None => Some(account),
        }
    }

    /// A message of ours failed.
    pub(super) fn own_failed(&mut self, part: Option<Part>) {
        if part == Some(Part::Begins) {
            self.own = None;
        }
    }

    /// What becomes of the end of a statement that is a part of our block.
    pub(super) fn own_command(
        &mut self,
        part: Option<Part>,
        header: Header,
        body: &[u8],
    ) -> Result<Option<Reply>, Unexpected> {
        let (Some(part), Some(own)) = (part, &mut self.own) else {
            return Ok(None);
        };
        let said = backend::command(body)?;
        let expected = match part {
            Part::Begins => "BEGIN",
            Part::Ends { commits: true } => "COMMIT",
            Part::Ends { commits: false } => "ROLLBACK",
            Part::Runs if own.simple => {
                let told = wire::message(header.tag, |to| to.extend_from_slice(body));
                own.told = Some(told);
                return Ok(Some(Reply::Swallow));
            }
            Part::Runs => return Ok(None),
        };
        if said != expected {
            return Err(misfit(header.tag, "the end of a transaction's command"));
        }
        if part == Part::Begins {
            own.stage = Part::Runs;
        }
        Ok(Some(Reply::Swallow))
    }

    /// What becomes of a `ReadyForQuery` while our block is open. `failed` says whether the entry that it ends
    /// did.
    pub(super) fn own_ready(
        &mut self,
        (part, failed): (Option<Part>, bool),
        cut: Option<&Cut>,
    ) -> Result<Option<Reply>, Unexpected> {
        let status = self.status;
        let Some(own) = &mut self.own else {
            // Our block did not come to be, and the client has heard why.
            let passes = failed && part == Some(Part::Begins);
            return Ok(passes.then_some(Reply::Pass));
        };
        let commits = match (own.simple, part) {
            (true, Some(Part::Begins)) if status == Status::Open => {
                return Ok(Some(Reply::Swallow));
            }
            (true, Some(Part::Runs)) if status != Status::Idle => !failed && cut.is_none(),
            (_, Some(Part::Ends { commits })) if status == Status::Idle => {
                let told = own.told.take().filter(|_| !(commits && failed));
                self.own = None;
                return Ok(Some(match told {
                    Some(told) => {
                        let ready = backend::make_ready(status);
                        Reply::Instead([told.as_ref(), ready.as_ref()].concat().into())
                    }
                    None => Reply::Pass,
                }));
            }
            (false, None) if status != Status::Idle => false,
            (false, None) if own.stage == (Part::Ends { commits: true }) => {
                self.own = None;
                return Ok(Some(Reply::Pass));
            }
            _ => return Err(misfit(backend::READY, "the state of a transaction")),
        };
        if !commits {
            own.told = cut.map(Cut::failed);
        }
        own.stage = Part::Ends { commits };
        self.due = Some(Due::End { commits });
        Ok(Some(Reply::Swallow))
    }

    /// A portal has more rows than were asked for, and the end of its write is to be known: the rest is taken
    /// from the server, and nobody gets it. Nothing can be fetched from the portal any more.
    pub(super) fn drain(&mut self) {
        let Some((_, entry)) = self.pop() else {
            return;
        };
        let portal = entry.limited.as_deref().map(Limited::portal);
        let portal = portal.unwrap_or_default();
        self.portals.remove(&portal);
        let rest = Entry {
            account: entry.account,
            limited: entry.limited,
            own: entry.own,
            ..Entry::silent(Kind::Execute)
        };
        self.due = Some(Due::Drain {
            portal,
            entry: Box::new(rest),
        });
    }
}

impl<G: Gate> Entry<G> {
    /// A message of ours that is a part of our block.
    fn of_own(kind: Kind, part: Part) -> Self {
        Self {
            own: Some(part),
            ..Self::silent(kind)
        }
    }
}

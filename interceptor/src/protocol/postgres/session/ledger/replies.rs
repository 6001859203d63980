//! The server's side of the ledger: each message is held against the reply that is owed first.

use std::sync::Arc;

use bytes::Bytes;

use super::super::super::facts::Effect;
use super::super::super::refuse::hush;
use super::super::super::wire::backend::{self, Status};
use super::super::super::wire::error::{ErrorFields, Severity};
use super::super::super::wire::{self, Header, Tag};
use super::super::account::{LIMITED, SKIPPED, UNDONE};
use super::super::entry::{Change, Entry, Kind, Made, Statement};
use super::guard::MESSAGE_MAX;
use super::limit::{Cut, Limited};
use super::own::Part;
use super::{Data, Ledger};
use crate::session::Gate;

/// What becomes of a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Reply {
    /// The client gets it.
    Pass,
    /// The client gets this in its place.
    Instead(Bytes),
    /// The client gets nothing of it.
    Swallow,
    /// The client gets it, or this in its place, and it is the last: the server says that it ends the
    /// session.
    Last {
        /// Why, by its SQLSTATE.
        sqlstate: String,
        /// What the client gets, where that is not the server's own.
        instead: Option<Bytes>,
    },
}

/// A message that the server cannot have meant: it is hostile, or we have lost count. Never forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// It does not fit the reply that is owed.
    #[error("read a reply: {} does not fit what is owed ({owed})", Tag(*tag))]
    Misfit {
        /// Its tag.
        tag: u8,
        /// Which reply is owed.
        owed: &'static str,
    },
    /// What a refused request was replaced by did not fail.
    #[error("read a reply: {} is not the error that a refused request must give", Tag(*tag))]
    Succeeded {
        /// Its tag.
        tag: u8,
    },
    /// It describes rows that hold a masked column as it is: an alarm.
    #[error("read a reply: rows of relation {relation} hold column {attribute}, which is masked")]
    Unmasked {
        /// The relation's number.
        relation: u32,
        /// The column's; 0 for the whole row.
        attribute: i16,
    },
    /// It does not have its form.
    #[error(transparent)]
    Form(#[from] wire::Error),
}

impl Data {
    /// Whether a message is data. Of a server that reads data, others cannot be, but errors.
    fn takes(&mut self, tag: u8) -> Result<bool, Unexpected> {
        match (self, tag) {
            (Self::Both { server: true, .. }, backend::COPY_DATA) => Ok(true),
            (Self::Both { server, .. }, backend::COPY_DONE) if *server => {
                *server = false;
                Ok(true)
            }
            (
                Self::Both {
                    client: false,
                    server: false,
                },
                _,
            ) => Ok(false),
            (Self::In, tag) => Err(misfit(tag, "data of a COPY")),
            (Self::Both { .. }, tag) => Err(misfit(tag, "the end of the data of replication")),
        }
    }
}

impl<G: Gate> Ledger<G> {
    /// Takes one message of the server: its header, and as much of its body as [`Self::wanted`] says.
    ///
    /// # Errors
    /// [`Unexpected`], after which nothing of the server may be believed.
    pub(in super::super) fn reply(
        &mut self,
        header: Header,
        body: &[u8],
    ) -> Result<Reply, Unexpected> {
        match header.tag {
            // They come whenever the server likes, between rows too.
            backend::NOTICE => {
                return Ok(self.notice(header, body));
            }
            backend::NOTIFICATION => {
                self.passed_one(header);
                return self.notification(header, body);
            }
            backend::PARAMETER_STATUS => return self.parameter(body),
            backend::ERROR => return self.error(header, body),
            backend::ROW_DESCRIPTION => self.examine(header, body)?,
            backend::COMMAND_COMPLETE => self.touched(body)?,
            _ => {}
        }
        self.passed_one(header);
        let number = self.first;
        let Some(entry) = self.queue.front_mut() else {
            return Err(misfit(header.tag, "nothing"));
        };
        let cut = entry.cut().filter(|_| !entry.failed);
        let goes = cut.is_none() && !entry.silent;
        if let Some(account) = entry.account.as_mut().filter(|_| goes) {
            account.answered(header.whole());
        }
        let (part, has_failed) = (entry.own, entry.failed);
        let ends = header.tag == backend::READY;
        if entry.poison.is_some() && !(entry.failed && ends) {
            return Err(Unexpected::Succeeded { tag: header.tag });
        }
        if entry.failed && !ends {
            return Err(misfit(header.tag, "the end of a failed request"));
        }
        let silent = entry.silent;
        if let Some(data) = &mut self.copying
            && data.takes(header.tag)?
        {
            return Ok(Reply::Pass);
        }
        match header.tag {
            backend::DATA_ROW if matches!(entry.kind, Kind::Query | Kind::Execute) => {
                entry.rows = entry.rows.saturating_add(1);
            }
            backend::READY => {
                // What was set in a block that is rolled back is as before it.
                self.failed |= part == Some(Part::Ends { commits: false });
                self.ready(backend::ready(body)?)?;
                if let Some(reply) = self.own_ready((part, has_failed), cut.as_ref())? {
                    return Ok(reply);
                }
            }
            tag => self.other(tag, body)?,
        }
        if header.tag == backend::COMMAND_COMPLETE
            && cut.is_none()
            && let Some(reply) = self.own_command(part, header, body)?
        {
            return Ok(reply);
        }
        match cut {
            Some(cut) => Ok(self.after_cut(&cut, number, ends)),
            None if silent => Ok(Reply::Swallow),
            None => Ok(Reply::Pass),
        }
    }

    /// What becomes of a message that ends, or goes on with, an answer that was cut.
    fn after_cut(&mut self, cut: &Cut, number: u64, is_ready: bool) -> Reply {
        let status = is_ready.then_some(self.status);
        if !is_ready && !self.answered(number) {
            return Reply::Swallow;
        }
        match self.carried_out(cut, status) {
            Some(told) => Reply::Instead(told),
            None => Reply::Swallow,
        }
    }

    /// How many bytes of a message, header and body, [`Self::reply`] must see.
    pub(in super::super) fn wanted(&self, header: Header) -> usize {
        let watched = self.lookout.guard.is_some();
        match header.tag {
            backend::ROW_DESCRIPTION if watched => header.whole().min(backend::DESCRIPTION_MAX),
            backend::ERROR | backend::NOTICE | backend::NOTIFICATION if watched => {
                header.whole().min(MESSAGE_MAX)
            }
            backend::COMMAND_COMPLETE | backend::PARAMETER_STATUS | backend::READY => {
                header.whole()
            }
            // Severity and SQLSTATE stand in front; texts may be long.
            backend::ERROR => header.whole().min(512),
            _ => wire::HEADER,
        }
    }

    fn other(&mut self, tag: u8, body: &[u8]) -> Result<(), Unexpected> {
        let Some(entry) = self.queue.front_mut() else {
            return Err(misfit(tag, "nothing"));
        };
        match (entry.kind, tag) {
            (Kind::Parse, backend::PARSE_COMPLETE)
            | (Kind::Bind, backend::BIND_COMPLETE)
            | (Kind::Close, backend::CLOSE_COMPLETE)
            | (Kind::DescribePortal | Kind::DescribeStatement, backend::NO_DATA)
            | (Kind::DescribePortal | Kind::DescribeStatement, backend::ROW_DESCRIPTION)
            | (Kind::Execute, backend::EMPTY_QUERY) => self.succeed(),
            (Kind::Execute, backend::SUSPENDED) if entry.silent => {
                return Err(misfit(tag, owed(entry.kind)));
            }
            (Kind::Execute, backend::SUSPENDED) => self.suspend(),
            (Kind::Execute | Kind::Query, backend::COMMAND_COMPLETE) => self.command(body)?,
            (Kind::DescribeStatement, backend::PARAMETERS)
            | (Kind::Function, backend::FUNCTION_RESULT)
            | (Kind::Query, backend::ROW_DESCRIPTION | backend::EMPTY_QUERY)
            | (
                Kind::Query | Kind::Execute,
                backend::COPY_OUT | backend::COPY_DATA | backend::COPY_DONE,
            ) => {}
            (Kind::Query | Kind::Execute, backend::COPY_IN)
                if entry.may_copy && !entry.streams() =>
            {
                self.copying = Some(Data::In);
            }
            (Kind::Query, backend::COPY_BOTH)
                if entry.may_copy && entry.streams() && self.copying.is_none() =>
            {
                self.copying = Some(Data::Both {
                    client: true,
                    server: true,
                });
            }
            (kind, tag) => return Err(misfit(tag, owed(kind))),
        }
        Ok(())
    }

    /// Holds the origins of described rows against what is masked. One that cannot be read whole is not
    /// passed on either.
    fn examine(&self, header: Header, body: &[u8]) -> Result<(), Unexpected> {
        let Some(guard) = &self.lookout.guard else {
            return Ok(());
        };
        if body.len() < header.body {
            return Err(misfit(header.tag, "a description that can be read"));
        }
        match guard.look(body)? {
            None => Ok(()),
            Some((relation, attribute)) => Err(Unexpected::Unmasked {
                relation,
                attribute,
            }),
        }
    }

    /// Of a statement that touches what is masked a warning goes on, without its words: of others even the number
    /// may be data.
    fn notice(&mut self, header: Header, body: &[u8]) -> Reply {
        let hushed = self.hushed(header.tag, body);
        if hushed.is_some() && !hush::is_warning(body) {
            return Reply::Swallow;
        }
        self.passed_one(header);
        hushed.into()
    }

    /// An error or a notice without data, where it may hold what is masked.
    fn hushed(&self, tag: u8, body: &[u8]) -> Option<Bytes> {
        self.lookout.guard.as_ref()?;
        let about = self.queue.front().and_then(Entry::quiet);
        if about.is_none() && !self.lookout.touched {
            return None;
        }
        let own_text = about.is_none_or(|statement| statement.rewrite.is_none());
        Some(hush::message(tag, body, own_text))
    }

    /// A payload may be data, of whoever sent it.
    fn notification(&self, header: Header, body: &[u8]) -> Result<Reply, Unexpected> {
        if self.lookout.guard.is_none() {
            return Ok(Reply::Pass);
        }
        let told = hush::notification(body);
        let told = told.ok_or_else(|| misfit(header.tag, "a notification"))?;
        Ok(Reply::Instead(told))
    }

    fn parameter(&mut self, body: &[u8]) -> Result<Reply, Unexpected> {
        let (name, value) = backend::parameter(body)?;
        self.heed(name, value);
        let about = self.queue.front().and_then(Entry::quiet);
        let text = about.map(|statement| &statement.text);
        let text = text.or(self.lookout.text.as_ref()).cloned();
        let shown = match &text {
            Some(text) if self.lookout.guard.is_some() => {
                self.lookout.reports(Some(text), name, value)
            }
            _ => true,
        };
        if shown {
            self.lookout.settings.learn(name, value);
        }
        Ok(if shown { Reply::Pass } else { Reply::Swallow })
    }

    fn heed(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"client_encoding" => self.reported.utf8 = value.eq_ignore_ascii_case(b"UTF8"),
            b"standard_conforming_strings" => self.reported.conforming = value == b"on",
            // What it is worth is clear only with the ReadyForQuery that follows.
            b"search_path" => self.news = Some(value.into()),
            _ => {}
        }
        if !(self.reported.utf8 && self.reported.conforming) {
            self.scope.unreadable();
            if let Some((scope, _)) = &mut self.ahead {
                scope.unreadable();
            }
        }
    }

    fn command(&mut self, body: &[u8]) -> Result<(), Unexpected> {
        let tag = backend::command(body)?;
        let Some(entry) = self.queue.front_mut() else {
            return Ok(());
        };
        let is_cut = entry.is_cut();
        if let Some(account) = entry.account.as_mut().filter(|_| !is_cut) {
            account.counted(backend::rows(tag));
        }
        entry.tag = Some(tag.into());
        if entry.kind == Kind::Execute {
            self.succeed();
        }
        Ok(())
    }

    /// A portal has more rows than were asked for. No tag counts these.
    fn suspend(&mut self) {
        if let Some(entry) = self.queue.front_mut() {
            let limited = entry.limited.as_deref();
            if limited.is_some_and(Limited::counts_touched) && !entry.is_cut() {
                return self.drain();
            }
            let rows = entry.rows;
            let is_cut = entry.is_cut();
            if let Some(account) = entry.account.as_mut().filter(|_| !is_cut) {
                account.counted(rows);
            }
            entry.change = Change::Nothing;
        }
        self.succeed();
    }

    fn ready(&mut self, status: Status) -> Result<(), Unexpected> {
        match self.queue.front() {
            Some(entry) if entry.kind.is_ready() => {}
            Some(entry) => return Err(misfit(backend::READY, owed(entry.kind))),
            None => return Err(misfit(backend::READY, "nothing")),
        }
        self.copying = None;
        let failed = self.queue.front().is_some_and(|entry| entry.failed);
        if failed {
            self.lose();
        } else {
            self.succeed();
        }
        self.status = status;
        self.lookout.text = None;
        self.lookout.touched &= status != Status::Idle;
        let readable = self.reported.utf8 && self.reported.conforming;
        self.scope
            .ready(status, std::mem::take(&mut self.failed), readable);
        if let Some(raw) = self.news.take() {
            self.scope
                .reported(&raw, (&self.reported.search_path, &self.start));
        }
        if status == Status::Idle {
            self.changes.end();
            // Those that a rollback took along are asked of the server, which does not know them.
            self.portals.keep(|portal| portal.holds);
            self.forget_given();
        }
        Ok(())
    }

    fn error(&mut self, header: Header, body: &[u8]) -> Result<Reply, Unexpected> {
        let fields = ErrorFields::glance(body);
        let sqlstate = fields.sqlstate().unwrap_or("XX000");
        if fields.severity() != Severity::Error {
            for account in self
                .queue
                .iter_mut()
                .filter_map(|entry| entry.account.as_mut())
            {
                account.failed(sqlstate);
            }
            return Ok(Reply::Last {
                sqlstate: sqlstate.to_owned(),
                instead: self.hushed(header.tag, body),
            });
        }
        let cut = self.cut_error(header.whole());
        let hushed = self.hushed(header.tag, body);
        let Some(entry) = self.queue.front_mut() else {
            return match self.batched && !self.skipping {
                true => Ok(self.out_of_turn(hushed)),
                false => Err(misfit(header.tag, "nothing")),
            };
        };
        if entry.failed {
            return Err(misfit(header.tag, "the end of a failed request"));
        }
        self.copying = None;
        self.failed = true;
        entry.may_copy = false;
        if let Some(account) = &mut entry.account {
            account.answered(header.whole());
            account.failed(if cut.is_some() { LIMITED } else { sqlstate });
        }
        let reply = entry.poison.clone().or(cut).or(hushed).into();
        let part = entry.own;
        if entry.silent {
            // What was asked for would have failed by itself.
            let asked = self.queue.get_mut(1).and_then(|next| next.account.as_mut());
            if let Some(account) = asked {
                account.answered(header.whole());
                account.failed(sqlstate);
            }
        }
        self.own_failed(part);
        let Some(entry) = self.queue.front_mut() else {
            return Ok(reply);
        };
        if entry.kind.is_ready() {
            entry.failed = true;
        } else {
            // A Parse that fails has taken the unnamed statement along (`exec_parse_message`).
            let unnamed = match &entry.change {
                Change::Makes(Made::Statement(name, _)) | Change::DropsStatement(name) => {
                    entry.kind == Kind::Parse && name.is_empty()
                }
                _ => false,
            };
            if unnamed {
                self.statements.remove(b"");
            }
            self.lose();
            self.skip();
        }
        Ok(reply)
    }

    /// An error within a batch of which all is answered: `statement_timeout` goes on, and the server looks at it
    /// behind the next message, which may be a `Flush` (`start_xact_command`, `SocketBackend`, `postgres.c`).
    fn out_of_turn(&mut self, hushed: Option<Bytes>) -> Reply {
        self.failed = true;
        self.skipping = true;
        hushed.into()
    }

    /// What a server does after an error in the extended protocol: nothing, up to the next `Sync`.
    fn skip(&mut self) {
        while let Some(entry) = self.queue.front_mut() {
            if entry.kind == Kind::Sync {
                return;
            }
            if let Some(account) = &mut entry.account {
                // A commit that is skipped is that of a write which ran.
                account.failed(match entry.own {
                    Some(Part::Ends { .. }) => UNDONE,
                    Some(Part::Begins | Part::Runs) | None => SKIPPED,
                });
            }
            self.lose();
        }
        self.skipping = true;
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Entry<G>)> {
        let number = self.first;
        let entry = self.next_in_turn()?;
        self.note_given(&entry);
        if let Some(statement) = entry.quiet() {
            self.lookout.touched = true;
            self.lookout.text = Some(Arc::clone(&statement.text));
        }
        if self.ahead.as_ref().is_some_and(|(_, by)| *by == number) {
            self.ahead = None;
        }
        if self.unclear == Some(number) {
            self.unclear = None;
        }
        Some((number, entry))
    }

    /// The first entry succeeded.
    fn succeed(&mut self) {
        let Some((number, entry)) = self.pop() else {
            return;
        };
        match entry.change {
            Change::Nothing => {}
            Change::Makes(made) => {
                if let Made::Portal(name, _) = &made {
                    self.begin_given(name);
                }
                self.make(number, made);
            }
            Change::DropsStatement(name) => self.statements.remove(&name),
            Change::DropsPortal(name) => {
                self.begin_given(&name);
                self.portals.remove(&name);
            }
            Change::Runs(statement) => self.ran(number, &statement, entry.tag.as_deref()),
        }
        if entry.kind == Kind::Query {
            self.statements.remove(b"");
        }
        let is_over = entry.limited.as_deref().is_some_and(Limited::is_over);
        let account = match (entry.own, entry.account) {
            (Some(Part::Runs), Some(account)) if !is_over => self.keep_account(account),
            (_, account) => account,
        };
        if let Some(mut account) = account {
            account.stands();
            self.finished.push(account.close());
        }
    }

    fn make(&mut self, number: u64, made: Made) {
        match made {
            Made::Statement(name, meant) => self.statements.settle(name, number, meant),
            Made::Portal(name, meant) => self.portals.settle(name, number, meant),
        }
    }

    fn close_all(&mut self) {
        self.portals.clear();
        self.forget_all_given();
    }

    fn ran(&mut self, number: u64, statement: &Statement, tag: Option<&str>) {
        let tag = tag.filter(|_| statement.statements == 1);
        for effect in statement.effects.iter() {
            self.scope.apply(effect, tag, &self.start);
            match effect {
                Effect::Deallocates(Some(name)) => self.statements.remove(name.as_bytes()),
                // Neither touches the unnamed one (`DropAllPreparedStatements`, `prepare.c`).
                Effect::Deallocates(None) => self.statements.clear_named(),
                Effect::DiscardsAll => {
                    self.statements.clear_named();
                    self.close_all();
                }
                Effect::ClosesCursor(Some(name)) => {
                    self.begin_given(name.as_bytes());
                    self.portals.remove(name.as_bytes());
                }
                Effect::ClosesCursor(None) => self.close_all(),
                _ => {}
            }
        }
        for made in statement.makes() {
            self.make(number, made);
        }
    }

    /// The first entry failed or was skipped. Of a text of several statements some may have run.
    fn lose(&mut self) {
        let Some((number, entry)) = self.pop() else {
            return;
        };
        let partly = match &entry.change {
            Change::Runs(statement) => entry.kind == Kind::Query && statement.statements != 1,
            _ => false,
        };
        for made in entry.makes() {
            let (table, name) = match made {
                Made::Statement(name, _) => (&mut self.statements, name),
                Made::Portal(name, _) => (&mut self.portals, name),
            };
            table.give_up(&name, number);
            if partly {
                table.remove(&name);
            }
        }
        if partly && entry.heeds_scope() {
            self.scope.lose();
        }
        if entry.kind == Kind::Query && entry.failed {
            self.statements.remove(b"");
        }
        if let Some(mut account) = entry.account {
            account.undone();
            self.finished.push(account.close());
        }
    }
}

impl From<Option<Bytes>> for Reply {
    fn from(instead: Option<Bytes>) -> Self {
        instead.map_or(Self::Pass, Self::Instead)
    }
}

pub(super) fn misfit(tag: u8, owed: &'static str) -> Unexpected {
    Unexpected::Misfit { tag, owed }
}

fn owed(kind: Kind) -> &'static str {
    match kind {
        Kind::Query => "a query",
        Kind::Function => "a function call",
        Kind::Parse => "ParseComplete",
        Kind::Bind => "BindComplete",
        Kind::DescribeStatement => "the description of a statement",
        Kind::DescribePortal => "the description of a portal",
        Kind::Execute => "an execution",
        Kind::Close => "CloseComplete",
        Kind::Sync => "ReadyForQuery",
    }
}

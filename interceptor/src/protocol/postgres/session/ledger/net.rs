//! The net under the answers: what value detectors see of rows and copied data, and what comes of it.
//!
//! Nothing is held but what a detector cannot decide yet: at most two kilobytes, in the buffer that they
//! came in. Masks are put in place there and keep every length. Without detectors nothing of this runs.

mod columns;
mod copies;
mod rows;

use std::sync::{Arc, Weak};

use self::columns::Columns;
use self::copies::Copies;
use self::rows::Rows;
use super::super::super::wire::{HEADER, Header, backend};
use super::super::entry::{Entry, Kind, Statement};
use super::Ledger;
use crate::masking::detect::{self, Action, Detectors, Piece, cover};
use crate::session::Gate;

/// How many statements are known by what they answer.
const DESCRIBED_MAX: usize = 64;
/// Statements whose answer has the same columns each time that they run.
const CONSTANT: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];

/// What becomes of the front of what the server sent.
#[derive(Debug)]
pub(in super::super) enum Look {
    /// It is no data, or nobody looks at it.
    Elsewhere,
    /// So many bytes are decided, and counted as answered; with `inside`, a message goes on behind them.
    Decided { bytes: usize, inside: bool },
    /// So many bytes must be there.
    Need(usize),
    /// It holds what is not to be passed on.
    Refused(detect::Kind),
}

/// What was found.
#[derive(Debug, Default)]
struct Catch {
    kinds: Vec<detect::Kind>,
    masks: Vec<(usize, usize)>,
    refused: Option<detect::Kind>,
}

impl Catch {
    /// Notes a piece whose places are counted from `base`.
    fn note(&mut self, piece: Piece, base: usize) {
        if piece.begins {
            self.kinds.push(piece.kind);
        }
        match piece.action {
            Action::Report => {}
            Action::Mask => {
                let place = |place: usize| base.saturating_add(place);
                self.masks.push((place(piece.start), place(piece.end)));
            }
            Action::Refuse => self.refused = self.refused.or(Some(piece.kind)),
        }
    }

    /// Puts the masks in place.
    fn cover(&mut self, bytes: &mut [u8]) {
        for (start, end) in self.masks.drain(..) {
            cover(bytes.get_mut(start..end).unwrap_or_default());
        }
    }
}

/// What one session's answers are looked at with.
#[derive(Debug)]
pub(in super::super) struct Net {
    detectors: Arc<Detectors>,
    /// What statements were described to answer.
    described: Vec<(Weak<Statement>, Columns)>,
    /// The columns of the answer to a `Query`, as described before it.
    columns: Columns,
    /// Whether the data of a `COPY` is rows in their binary form.
    binary: bool,
    rows: Rows,
    copies: Copies,
    catch: Catch,
}

impl Net {
    pub(in super::super) fn new(detectors: Arc<Detectors>) -> Self {
        Self {
            detectors,
            described: Vec::new(),
            columns: Columns::default(),
            binary: false,
            rows: Rows::default(),
            copies: Copies::default(),
            catch: Catch::default(),
        }
    }

    /// Whether a message has been decided in part.
    fn is_inside(&self) -> bool {
        self.rows.is_inside() || self.copies.is_inside()
    }

    /// Remembers what a statement answers.
    fn describe(&mut self, about: &Arc<Statement>, columns: Columns) {
        if !CONSTANT.contains(&&*about.reading.summary) {
            return;
        }
        self.described.retain(|(known, _)| {
            known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(about))
        });
        if self.described.len() >= DESCRIBED_MAX {
            self.described.remove(0);
        }
        self.described.push((Arc::downgrade(about), columns));
    }

    /// The columns of what a statement answers, where it was described.
    fn of(&self, statement: &Arc<Statement>) -> Columns {
        let mut described = self.described.iter();
        let known =
            described.find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(statement)));
        known
            .map(|(_, columns)| columns.clone())
            .unwrap_or_default()
    }
}

impl<G: Gate> Ledger<G> {
    /// Looks answers over for values from now on.
    pub(in super::super) fn look_with(&mut self, detectors: Arc<Detectors>) {
        self.net = Some(Box::new(Net::new(detectors)));
    }

    /// Looks at the front of what the server sent, where the first owed reply has data.
    /// With `ends`, what comes behind it is not passed on with it.
    pub(in super::super) fn look(&mut self, front: &mut [u8], ends: bool) -> Look {
        let (Some(net), Some(tag)) = (&mut self.net, front.first().copied()) else {
            return Look::Elsewhere;
        };
        let Some(entry) = self.queue.front_mut() else {
            return Look::Elsewhere;
        };
        if entry.silent {
            // Nobody gets it.
            return Look::Elsewhere;
        }
        if !net.is_inside() {
            let whole = match preview(net, entry, front) {
                Ok(whole) => whole,
                Err(need) => return Look::Need(need),
            };
            if !whole || self.copying.is_some() || !entry.has_data() {
                return Look::Elsewhere;
            }
        }
        let rows = net.rows.is_inside()
            || !net.copies.is_inside() && (tag == backend::DATA_ROW || net.binary);
        let decided = if rows {
            let columns = match (entry.kind, entry.runs()) {
                (Kind::Execute, Some(statement)) => net.of(statement),
                _ => net.columns.clone(),
            };
            let (detectors, catch) = (&net.detectors, &mut net.catch);
            let run = net.rows.pass(front, &columns, detectors, catch);
            entry.rows = entry.rows.saturating_add(run.messages);
            run.bytes
        } else {
            net.copies
                .pass((front, ends), &net.detectors, &mut net.catch)
        };
        if let Some(account) = &mut entry.account {
            account.answered(decided);
            for kind in net.catch.kinds.drain(..) {
                account.found(kind);
            }
            if net.catch.refused.is_some() {
                account.failed("42501");
            }
        }
        if let Some(kind) = net.catch.refused.take() {
            return Look::Refused(kind);
        }
        if decided == 0 {
            return Look::Need(front.len().saturating_add(1));
        }
        let inside = net.is_inside();
        self.passed(decided);
        Look::Decided {
            bytes: decided,
            inside,
        }
    }
}

impl<G: Gate> Entry<G> {
    /// Whether rows or copied data may be its answer.
    fn has_data(&self) -> bool {
        matches!(self.kind, Kind::Query | Kind::Execute) && self.poison.is_none() && !self.failed
    }
}

/// Reads, ahead of the ledger, what says how data is to be read. Whether data is at the front; or how much
/// must be there.
fn preview<G: Gate>(net: &mut Net, entry: &Entry<G>, front: &[u8]) -> Result<bool, usize> {
    // What has no form is for the ledger to tell.
    let Ok(Some(header)) = backend::header(front) else {
        return Ok(false);
    };
    match header.tag {
        backend::DATA_ROW | backend::COPY_DATA => return Ok(true),
        backend::COPY_OUT => {
            let body = body(front, header, 1)?;
            net.binary = body.first() == Some(&1);
        }
        backend::COMMAND_COMPLETE => net.columns = Columns::default(),
        // What is longer describes nothing.
        backend::ROW_DESCRIPTION if header.whole() <= backend::DESCRIPTION_MAX => {
            let body = body(front, header, header.body)?;
            let columns = Columns::described(body);
            match (&entry.about, entry.kind) {
                (Some(about), _) => net.describe(about, columns),
                (None, Kind::Query) => net.columns = columns,
                (None, _) => {}
            }
        }
        backend::ROW_DESCRIPTION => net.columns = Columns::default(),
        _ => {}
    }
    Ok(false)
}

/// So much of a body.
fn body(front: &[u8], header: Header, size: usize) -> Result<&[u8], usize> {
    let need = HEADER.saturating_add(size.min(header.body));
    front.get(HEADER..need).ok_or(need)
}

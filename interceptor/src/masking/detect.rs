//! Value detectors: an extra net for what nobody configured. They know a value by its form: its check
//! digits, its beginning, its alphabet.
//!
//! One engine for all kinds and all protocols. It reads bytes as they come, keeps nothing of them but
//! the last few, and finds the same however they were cut: what cannot be decided yet is left to be
//! shown again with what follows. Masks keep the length, and touch nothing but ASCII.

mod key;
mod kind;
mod named;
mod national;
mod number;
mod open;
mod phone;
mod place;
mod token;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::kind::Kind;
use self::kind::Set;
use self::number::Shapes;
use self::open::Open;
use self::view::{BEHIND, Found, Next, View};

/// What stands in the place of a byte that is masked.
const MASK: u8 = b'*';
/// The shortest value of any kind: `a@b.cd`.
const SHORTEST: usize = 6;
/// Values up to this size are glanced at before anything is looked for.
const SMALL: usize = 64;

/// What happens to a value that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is counted.
    Report,
    /// It is counted, and masked.
    Mask,
    /// It is counted, and what it stands in goes no farther.
    Refuse,
}

impl Action {
    /// Its word in configuration and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Mask => "mask",
            Self::Refuse => "refuse",
        }
    }

    /// The action of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Report, Self::Mask, Self::Refuse];
        all.into_iter().find(|action| action.word() == word)
    }
}

/// What is done about which kinds; those that are absent are not looked for.
pub type Actions = BTreeMap<Kind, Action>;

/// A part of a value that was found, by places in the bytes that were shown. Short values come in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// What happens to it.
    pub action: Action,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last one.
    pub end: usize,
    /// It is the first part of its value.
    pub begins: bool,
    /// It is the last one.
    pub ends: bool,
}

/// Detectors for some kinds, made once and used for any number of texts.
#[derive(Clone, Debug)]
pub struct Detectors {
    actions: Actions,
    set: Set,
    shapes: Shapes,
    numbers: bool,
    tokens: bool,
}

impl Detectors {
    /// Detectors for these kinds; `None` where there is nothing to look for.
    #[must_use]
    pub fn new(actions: &Actions) -> Option<Self> {
        let set = actions
            .keys()
            .fold(Set::default(), |set, kind| set.with(*kind));
        let elsewhere = |kind: &Kind| {
            key::KINDS.contains(kind)
                || matches!(kind, Kind::PrivateKey | Kind::Email | Kind::Secret)
        };
        (!set.is_empty()).then(|| Self {
            actions: actions.clone(),
            set,
            shapes: Shapes::of(set),
            numbers: actions.keys().any(|kind| !elsewhere(kind)),
            tokens: token::wants(set),
        })
    }

    /// What is done about which kinds.
    #[must_use]
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Finds everything in a text that is there as a whole.
    pub fn find(&self, text: &[u8], each: impl FnMut(Piece)) {
        if text.len() < SHORTEST {
            return;
        }
        let nexts = self.glance(text);
        if nexts.contains(&None) {
            Scan::default().look(self, (text, true), nexts, each);
        }
    }

    /// Masks in a text that is there as a whole what is to be masked.
    pub fn mask(&self, text: &mut [u8], mut each: impl FnMut(Piece)) {
        let mut pieces = Vec::new();
        self.find(text, |piece| {
            each(piece);
            if piece.action == Action::Mask {
                pieces.push((piece.start, piece.end));
            }
        });
        for (start, end) in pieces {
            cover(text.get_mut(start..end).unwrap_or_default());
        }
    }

    /// The text with what is to be masked replaced; `token` says by what. `None` where nothing is.
    #[must_use]
    pub fn replace(&self, text: &[u8], token: impl Fn(Kind) -> String) -> Option<Vec<u8>> {
        let mut replaced = Vec::new();
        let mut from = 0;
        self.find(text, |piece| {
            if piece.action == Action::Mask {
                if piece.begins {
                    replaced.extend_from_slice(text.get(from..piece.start).unwrap_or_default());
                    replaced.extend_from_slice(token(piece.kind).as_bytes());
                }
                from = piece.end;
            }
        });
        (from > 0).then(|| {
            replaced.extend_from_slice(text.get(from..).unwrap_or_default());
            replaced
        })
    }

    /// Which passes have nothing to find in a text: a glance at what is small.
    fn glance(&self, text: &[u8]) -> Nexts {
        let mut nexts = [None; PASSES.len()];
        if text.len() > SMALL {
            return nexts;
        }
        let (mut digits, mut mails, mut colons) = (0_u8, 0_u8, 0_u8);
        for byte in text {
            digits += u8::from(byte.is_ascii_digit());
            mails += u8::from(*byte == b'@');
            colons += u8::from(*byte == b':');
        }
        let long = text.len() >= token::SHORT;
        let wanted = [digits >= 2, mails > 0, colons >= 2, long, long];
        for (next, wanted) in nexts.iter_mut().zip(wanted) {
            if !wanted {
                *next = Some(Next::Nothing);
            }
        }
        nexts
    }

    fn next(&self, pass: Pass, view: &View<'_>, from: usize) -> Next {
        match pass {
            Pass::Numbers if self.numbers => number::next((self.set, &self.shapes), view, from),
            Pass::Mail if self.set.has(Kind::Email) => place::next_mail(view, from),
            Pass::Hosts if self.set.has(Kind::Ip) => place::next_v6(view, from),
            Pass::Tokens if self.tokens => token::next(self.set, view, from),
            Pass::Keys if self.set.has(Kind::PrivateKey) => open::next(view, from),
            _ => Next::Nothing,
        }
    }
}

/// One way over the bytes: for each the kinds that are begun alike.
#[derive(Clone, Copy, Debug)]
enum Pass {
    Numbers,
    Mail,
    Hosts,
    Tokens,
    Keys,
}

/// What each pass finds next, where that is known.
type Nexts = [Option<Next>; PASSES.len()];

const PASSES: [Pass; 5] = [
    Pass::Numbers,
    Pass::Mail,
    Pass::Hosts,
    Pass::Tokens,
    Pass::Keys,
];

/// The state of one stream of bytes.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The last bytes that were decided.
    before: Vec<u8>,
    open: Option<Open>,
}

impl Scan {
    /// Whether nothing was looked at yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.before.is_empty() && self.open.is_none()
    }

    /// Looks at the bytes that are undecided, those that were left the last time in front, and says how many of
    /// them are decided now; with `last`, all are. Never leaves more than two kilobytes of what it has
    /// seen twice.
    pub fn step(
        &mut self,
        with: &Detectors,
        bytes: &[u8],
        last: bool,
        each: impl FnMut(Piece),
    ) -> usize {
        self.look(with, (bytes, last), [None; PASSES.len()], each)
    }

    fn look(
        &mut self,
        with: &Detectors,
        (bytes, last): (&[u8], bool),
        mut nexts: Nexts,
        mut each: impl FnMut(Piece),
    ) -> usize {
        let before = std::mem::take(&mut self.before);
        let view = View {
            before: &before,
            bytes,
            last,
        };
        let mut at = 0;
        let mut piece = |kind: Kind, (start, end), begins, ends| {
            if let Some(action) = with.actions.get(&kind) {
                each(Piece {
                    kind,
                    action: *action,
                    start,
                    end,
                    begins,
                    ends,
                });
            }
        };
        loop {
            if let Some(open) = self.open {
                let (end, rest) = open.follow(&view, at);
                piece(open.kind(), (at, end), false, rest.is_none());
                at = end;
                self.open = rest;
                if rest.is_some() {
                    break;
                }
            }
            match first(with, &view, at, &mut nexts) {
                Next::Nothing => {
                    at = bytes.len();
                    break;
                }
                Next::More(hold) => {
                    at = hold;
                    break;
                }
                Next::Found(found) => {
                    piece(
                        found.kind,
                        (found.start, found.end),
                        true,
                        found.open.is_none(),
                    );
                    at = found.end;
                    self.open = found.open;
                }
            }
        }
        if !last {
            self.remember(before, bytes.get(..at).unwrap_or_default());
        }
        at
    }

    fn remember(&mut self, mut before: Vec<u8>, decided: &[u8]) {
        let kept = decided.len().saturating_sub(BEHIND);
        before.extend_from_slice(decided.get(kept..).unwrap_or_default());
        let surplus = before.len().saturating_sub(BEHIND);
        before.drain(..surplus);
        self.before = before;
    }
}

/// The leftmost of what the passes find next; of those that begin together, the longest.
fn first(with: &Detectors, view: &View<'_>, at: usize, nexts: &mut Nexts) -> Next {
    let mut first: Option<Found> = None;
    let mut hold = usize::MAX;
    for (pass, next) in PASSES.into_iter().zip(nexts) {
        let stale = match next {
            Some(Next::Found(found)) => found.start < at,
            Some(Next::More(hold)) => *hold < at,
            Some(Next::Nothing) => false,
            None => true,
        };
        if stale {
            *next = Some(with.next(pass, view, at));
        }
        match next {
            Some(Next::Found(found)) => {
                let better = first.is_none_or(|first| {
                    let order = |found: Found| (found.start, usize::MAX - found.end, found.kind);
                    order(*found) < order(first)
                });
                if better {
                    first = Some(*found);
                }
            }
            Some(Next::More(start)) => hold = hold.min(*start),
            Some(Next::Nothing) | None => {}
        }
    }
    match first {
        Some(found) if found.start < hold => Next::Found(found),
        _ if hold < usize::MAX => Next::More(hold),
        _ => Next::Nothing,
    }
}

/// Masks bytes, and leaves the ends of lines: they part rows.
pub fn cover(bytes: &mut [u8]) {
    for byte in bytes {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = MASK;
        }
    }
}

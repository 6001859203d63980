//! The forms in which a credential comes back, and the automaton that finds them.
//!
//! A form is the credential as it is, in hexadecimal digits, or in base64 at each of its three alignments. Case,
//! and which of base64's two alphabets it is, do not count. A form is found as a whole, and so is a piece of it of
//! at least half its length or of what sixteen letters are: a server that cuts what it shows shows no more than
//! that.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::config::Inject;
use crate::secrets::Secret;

/// Shortest credential that is looked for: shorter ones stand in answers by chance.
pub(super) const LETTERS_MIN: usize = 8;
/// Longest one.
pub(super) const LETTERS_MAX: usize = 8 << 10;
/// Letters of the longest piece that may be seen, and one.
const PIECE_MAX: usize = 16;
/// Pieces that a form is looked for in; of a longer one they lie further from each other.
const PIECES: usize = 256;
/// Shortest signature of a token: what stands before it is read by everybody.
const SIGNATURE_MIN: usize = 32;
/// States with a table of their own are this near to the beginning.
const DENSE: usize = 3;

/// What is looked for.
pub(crate) struct Forms {
    automaton: NFA,
    /// How many letters lead to a state.
    depths: HashMap<StateID, usize>,
}

impl fmt::Debug for Forms {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Forms").finish_non_exhaustive()
    }
}

/// A credential, or what it is written as.
struct Value {
    bytes: Zeroizing<Vec<u8>>,
    /// From where on it is secret.
    from: usize,
}

impl Forms {
    /// The forms of credentials that are put in this way; `None` where no automaton can be made.
    pub(super) fn new<'a>(
        inject: &Inject,
        secrets: impl Iterator<Item = &'a Secret>,
    ) -> Option<Self> {
        let mut patterns = Vec::new();
        for secret in secrets {
            for value in values(inject, secret.expose_secret()) {
                value.forms(&mut patterns);
            }
        }
        let automaton = NFA::builder().dense_depth(DENSE).build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut depths = HashMap::new();
        for pattern in &patterns {
            let mut state = start;
            for (before, byte) in pattern.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.entry(state).or_insert(before.saturating_add(1));
            }
        }
        Some(Self { automaton, depths })
    }

    /// Tells all that is found in a text; how many letters at its end may be the beginning of more.
    pub(super) fn scan(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) -> usize {
        let Ok(mut state) = self.automaton.start_state(Anchored::No) else {
            return 0;
        };
        for (at, byte) in text.iter().enumerate() {
            state = self
                .automaton
                .next_state(Anchored::No, state, folded(*byte));
            if self.automaton.is_match(state) {
                let end = at.saturating_add(1);
                found(end.saturating_sub(self.longest(state))..end);
            }
        }
        self.depths.get(&state).copied().unwrap_or_default()
    }

    fn longest(&self, state: StateID) -> usize {
        let all = 0..self.automaton.match_len(state);
        let lengths = all.map(|index| {
            let pattern = self.automaton.match_pattern(state, index);
            self.automaton.pattern_len(pattern)
        });
        lengths.max().unwrap_or_default()
    }
}

/// A credential, and what it is written as in a request where that is another text.
fn values(inject: &Inject, secret: &str) -> Vec<Value> {
    let bytes = Zeroizing::new(secret.as_bytes().to_vec());
    let mut values = vec![Value {
        from: signature(secret),
        bytes,
    }];
    if let Inject::Basic { user, .. } = inject {
        let pair = Zeroizing::new(format!("{user}:{secret}"));
        let before = user.len().saturating_add(1);
        values.push(Value {
            bytes: Zeroizing::new(STANDARD_NO_PAD.encode(pair.as_bytes()).into_bytes()),
            from: before.saturating_mul(8).div_ceil(6),
        });
    }
    values
}

/// Where the signature of a JSON web token begins: all tokens of an issuer have much of the rest in common.
fn signature(secret: &str) -> usize {
    match secret.split('.').collect::<Vec<_>>().as_slice() {
        [head, _, signature] if head.starts_with("eyJ") && signature.len() >= SIGNATURE_MIN => {
            secret.len().saturating_sub(signature.len())
        }
        _ => 0,
    }
}

impl Value {
    fn forms(&self, into: &mut Vec<Zeroizing<Vec<u8>>>) {
        let secret = self.bytes.len().saturating_sub(self.from);
        let piece = (secret / 2).clamp(LETTERS_MIN, PIECE_MAX);
        pieces(&self.bytes, self.from, piece, into);
        let hex = Zeroizing::new(hex::encode(self.bytes.as_slice()).into_bytes());
        let twice = |count: usize| count.saturating_mul(2);
        pieces(&hex, twice(self.from), twice(piece), into);
        // Six bits a letter; what the neighbours have a part in is not known.
        let short = (piece.saturating_mul(8) / 6).saturating_sub(1);
        for before in 0..3_usize {
            let mut padded = Zeroizing::new(vec![0; before]);
            padded.extend_from_slice(&self.bytes);
            let coded = Zeroizing::new(STANDARD_NO_PAD.encode(padded.as_slice()).into_bytes());
            let letters = |bytes: usize| bytes.saturating_mul(8).div_ceil(6);
            let whole = padded.len().saturating_mul(8) / 6;
            let known = coded.get(letters(before)..whole).unwrap_or_default();
            let from = letters(before.saturating_add(self.from));
            pieces(known, from.saturating_sub(letters(before)), short, into);
        }
    }
}

/// A form as a whole, and its pieces of a length, which is longer where they lie far from each other.
fn pieces(form: &[u8], from: usize, length: usize, into: &mut Vec<Zeroizing<Vec<u8>>>) {
    let mut add = |piece: Option<&[u8]>| {
        let piece = piece.filter(|piece| !piece.is_empty());
        into.extend(piece.map(|piece| Zeroizing::new(piece.iter().copied().map(folded).collect())));
    };
    add(Some(form));
    let step = (form.len().saturating_sub(from) / PIECES).max(1);
    let length = length.max(step);
    let last = form.len().saturating_sub(length).max(from);
    for at in (from..last).step_by(step).chain([last]) {
        add(form.get(at..at.saturating_add(length)));
    }
}

/// Letters that are alike: in case, in the two alphabets of base64, a blank in a form and its plus.
fn folded(byte: u8) -> u8 {
    FOLDED.get(usize::from(byte)).copied().unwrap_or(byte)
}

const FOLDED: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
        {
            table[byte as usize] = match byte {
                b'-' | b' ' => b'+',
                b'_' => b'/',
                byte => byte.to_ascii_lowercase(),
            };
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

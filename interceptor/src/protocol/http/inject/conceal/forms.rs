//! The forms in which a credential comes back, and the automaton that finds them.
//!
//! A form is the credential as it is, in hexadecimal digits, or in base64 at each of its three alignments. Case,
//! and which of base64's two alphabets it is, do not count. A form is found as a whole, and so is a piece of it of
//! half its length, of twelve to sixteen letters: a server that cuts what it shows shows no more than that.
//!
//! Few texts have anything of it. Four letters here and there say where the automaton has to look: what it finds
//! is longer than the way from one such place to the next.

use std::collections::{HashMap, HashSet};
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
/// Letters of a piece that is covered: half the credential, within these. Fewer would tell who sends guesses, and
/// looks which of them are covered, more than a server that cuts what it shows tells.
const PIECE_MIN: usize = 12;
const PIECE_MAX: usize = 16;
/// Pieces that a form is looked for in; of a longer one they lie further from each other.
const PIECES: usize = 256;
/// Shortest signature of a token: what stands before it is read by everybody.
const SIGNATURE_MIN: usize = 32;
/// States with a table of their own are this near to the beginning.
const DENSE: usize = 3;

/// Letters that are looked at here and there.
const SAMPLE: usize = 4;
/// Bits of what is known of them, for each of those in a form, and in all.
const SAMPLE_BITS: usize = 64;
const BITS_MIN: usize = 1 << 16;
const BITS_MAX: usize = 1 << 20;

/// What is looked for.
pub(crate) struct Forms {
    automaton: NFA,
    /// How many letters lead to a state.
    depths: HashMap<StateID, usize>,
    /// Which four letters stand in a form: a bit of their hash.
    samples: Vec<u64>,
    /// From one look to the next.
    step: usize,
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
        let step = automaton.min_pattern_len().checked_sub(SAMPLE - 1)?;
        let mut forms = Self {
            automaton,
            depths,
            samples: Vec::new(),
            step: step.max(1),
        };
        forms.sample(&patterns);
        Some(forms)
    }

    fn sample(&mut self, patterns: &[Zeroizing<Vec<u8>>]) {
        let four = || patterns.iter().flat_map(|pattern| pattern.windows(SAMPLE));
        let distinct: HashSet<&[u8]> = four().collect();
        let bits = distinct
            .len()
            .saturating_mul(SAMPLE_BITS)
            .next_power_of_two();
        let bits = bits.clamp(BITS_MIN, BITS_MAX);
        self.samples = vec![0; bits / 64];
        for letters in distinct {
            let hash = hash(letters) & (bits - 1);
            if let Some(word) = self.samples.get_mut(hash / 64) {
                *word |= 1 << (hash % 64);
            }
        }
    }

    /// Whether four letters at a place may belong to a form.
    fn may_stand(&self, text: &[u8], at: usize) -> bool {
        let letters = text.get(at..at.saturating_add(SAMPLE));
        let hash = hash(letters.unwrap_or_default()) & (self.samples.len() * 64 - 1);
        let word = self.samples.get(hash / 64).copied().unwrap_or_default();
        word >> (hash % 64) & 1 == 1
    }

    /// Tells all that is found in a text; how many letters at its end may be the beginning of more.
    pub(super) fn scan(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) -> usize {
        let Ok(start) = self.automaton.start_state(Anchored::No) else {
            return 0;
        };
        // All before `at` is taken, all up to `until` has to be.
        let (mut state, mut at, mut until) = (start, 0, 0);
        let mut look = 0_usize;
        loop {
            let is_last = look.saturating_add(SAMPLE) > text.len();
            if is_last || self.may_stand(text, look) {
                // Whatever had begun before this would have been seen by the look before.
                let from = look.saturating_add(1).saturating_sub(self.step);
                if from > until {
                    self.run(text, at..until, &mut state, &mut found);
                    (state, at) = (start, from);
                }
                until = look.saturating_add(self.step).saturating_add(SAMPLE);
                until = until.min(text.len());
            }
            if is_last {
                break;
            }
            look = look.saturating_add(self.step);
        }
        self.run(text, at..text.len(), &mut state, &mut found);
        self.depths.get(&state).copied().unwrap_or_default()
    }

    /// Takes the automaton through a piece of a text.
    fn run(
        &self,
        text: &[u8],
        piece: Range<usize>,
        state: &mut StateID,
        found: &mut impl FnMut(Range<usize>),
    ) {
        let begin = piece.start;
        for (behind, byte) in text.get(piece).unwrap_or_default().iter().enumerate() {
            *state = self
                .automaton
                .next_state(Anchored::No, *state, folded(*byte));
            if self.automaton.is_match(*state) {
                let end = begin.saturating_add(behind).saturating_add(1);
                found(end.saturating_sub(self.longest(*state))..end);
            }
        }
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
        let piece = (secret / 2).clamp(PIECE_MIN, PIECE_MAX).min(secret);
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

/// A hash of a few letters, of twenty bits.
fn hash(letters: &[u8]) -> usize {
    let letters = letters.iter();
    let number = letters.fold(0_u32, |number, byte| number << 8 | u32::from(folded(*byte)));
    usize::try_from(number.wrapping_mul(0x9e37_79b1) >> 12).unwrap_or_default()
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

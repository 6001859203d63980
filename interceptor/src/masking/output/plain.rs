//! What is printed without what colours it: a value that `grep --color` has marked a part of is one all the
//! same. Only what changes how letters look, or clears the rest of a line, is left out; what moves the cursor
//! stays, and so does all that could carry a value itself.

/// What begins a sequence for a terminal.
const ESCAPE: u8 = 0x1b;
/// Bytes of a sequence that is left out, at most.
const LONGEST: usize = 24;

/// The letters among some bytes, and where each stands.
#[derive(Debug)]
pub(super) struct Plain {
    /// `None` where all are.
    letters: Option<(Vec<u8>, Vec<usize>)>,
    /// Where what has come whole ends.
    end: usize,
}

/// What a terminal makes of what begins with an escape.
enum Sequence {
    /// Colours, so many bytes.
    Colours(usize),
    /// Something else.
    Other,
    /// That cannot be told yet.
    Begun,
}

fn sequence(bytes: &[u8]) -> Sequence {
    let is_of_colours = |byte: &u8| matches!(byte, b'0'..=b'9' | b';' | b':');
    let mut rest = bytes.iter().enumerate().skip(1);
    match rest.next() {
        None => return Sequence::Begun,
        Some((_, b'[')) => {}
        Some(_) => return Sequence::Other,
    }
    for (at, byte) in rest {
        match byte {
            b'm' | b'K' => return Sequence::Colours(at.saturating_add(1)),
            byte if is_of_colours(byte) && at < LONGEST => {}
            _ => return Sequence::Other,
        }
    }
    Sequence::Begun
}

impl Plain {
    /// Of these; with `last`, nothing more comes.
    pub(super) fn of(bytes: &[u8], last: bool) -> Self {
        let mut end = bytes.len();
        if !bytes.contains(&ESCAPE) {
            return Self { letters: None, end };
        }
        let (mut letters, mut places) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some((byte, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) {
            let begun = bytes.get(at..).unwrap_or(rest);
            let sequence = match *byte {
                ESCAPE => sequence(begun),
                _ => Sequence::Other,
            };
            match sequence {
                Sequence::Colours(length) => at = at.saturating_add(length),
                Sequence::Begun if !last => {
                    end = at;
                    break;
                }
                Sequence::Begun | Sequence::Other => {
                    letters.push(*byte);
                    places.push(at);
                    at = at.saturating_add(1);
                }
            }
        }
        Self {
            letters: Some((letters, places)),
            end,
        }
    }

    /// The letters.
    pub(super) fn letters<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match &self.letters {
            None => bytes,
            Some((letters, _)) => letters,
        }
    }

    /// Where a letter stands; the end, behind the last.
    pub(super) fn place(&self, letter: usize) -> usize {
        match &self.letters {
            None => letter,
            Some((_, places)) => places.get(letter).copied().unwrap_or(self.end),
        }
    }
}

//! What a terminal showed, shown again: colours and the cursor's ways pass, all that would act on the
//! terminal of whoever looks does not.
//!
//! A terminal answers some sequences as if somebody had typed, and others set its title or clipboard. What
//! is not known to be harmless is left out, also where it is cut over several pieces.

/// Finals of control sequences (ECMA-48 §5.4) that only draw.
const DRAWS: &[u8] = b"@ABCDEFGHJKLMPSTXZ`abdefgmrsu";

/// Private modes that only draw: wrapping, cursor, the other screen.
const MODES: [&[u8]; 6] = [b"7", b"25", b"47", b"1047", b"1048", b"1049"];

/// More parameters than this no sequence has that draws.
const LONGEST: usize = 64;

/// A filter over what was shown; keeps what is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: State,
    /// The sequence so far.
    held: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// Behind ESC.
    Escape,
    /// In a control sequence.
    Control,
    /// In a text that the terminal would act on, up to BEL or ST.
    Text,
    /// The same, behind ESC.
    TextEscape,
}

/// What puts a terminal back as it was.
pub(super) const RESET: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?7h\x1b[?1049l\r\n";

impl Screen {
    /// What of these bytes may be shown.
    pub(super) fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes.iter().copied() {
            self.one(byte, &mut out);
        }
        out
    }

    fn one(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = match (&self.state, byte) {
            (State::Text, 0x07) => State::Plain,
            (State::Text, 0x1b) => State::TextEscape,
            (State::TextEscape, b'\\') => State::Plain,
            (State::Text | State::TextEscape, _) => State::Text,
            (_, 0x1b) => {
                self.held.clear();
                State::Escape
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text,
            // Where the cursor is, kept and put back; lines up and down.
            (State::Escape, b'7' | b'8' | b'D' | b'E' | b'M') => {
                out.extend_from_slice(&[0x1b, byte]);
                State::Plain
            }
            // Character sets and what else has a byte between: it ends with the next final.
            (State::Escape, 0x20..=0x2f) => State::Escape,
            (State::Escape, _) => State::Plain,
            (State::Control, 0x40..=0x7e) => {
                if self.draws(byte) {
                    out.extend_from_slice(b"\x1b[");
                    out.append(&mut self.held);
                    out.push(byte);
                }
                State::Plain
            }
            (State::Control, 0x20..=0x3f) if self.held.len() < LONGEST => {
                self.held.push(byte);
                State::Control
            }
            (State::Control, 0x20..=0x3f) => State::Control,
            (State::Control, _) => State::Plain,
            (State::Plain, 0x08..=0x0d | 0x20..=0x7e) => {
                out.push(byte);
                State::Plain
            }
            (State::Plain, 0x80..) => {
                self.high(byte, out);
                State::Plain
            }
            (State::Plain, _) => State::Plain,
        };
        if self.state == State::Plain && byte < 0x80 {
            self.held.clear();
        }
    }

    /// One byte of UTF-8. C1 controls are two bytes in it, 0xc2 and one below 0xa0; a terminal that reads bytes takes
    /// the second alone for one, so it passes only behind what begins another character.
    fn high(&mut self, byte: u8, out: &mut Vec<u8>) {
        let length = match self.held.first() {
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            _ => 0,
        };
        match byte {
            0xc0.. => {
                self.held = vec![byte];
                // It waits for what comes behind it.
                if byte != 0xc2 {
                    out.push(byte);
                }
            }
            0x80..=0x9f if self.held == [0xc2] || self.held.len() >= length => self.held.clear(),
            _ => {
                if self.held == [0xc2] {
                    out.push(0xc2);
                }
                self.held.push(byte);
                out.push(byte);
            }
        }
    }

    fn draws(&self, last: u8) -> bool {
        if self.held.len() >= LONGEST {
            return false;
        }
        match (self.held.split_first(), last) {
            (Some((b'?', modes)), b'h' | b'l') => modes
                .split(|byte| *byte == b';')
                .all(|mode| MODES.contains(&mode)),
            (Some((b'<' | b'=' | b'>' | b'?', _)), _) | (_, b'h' | b'l') => false,
            _ => DRAWS.contains(&last) && self.held.iter().all(|byte| (b'0'..=b';').contains(byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_draws_passes_and_what_acts_does_not_however_it_is_cut() {
        for (shown, passes) in [
            (&b"plain\r\n\ttext"[..], &b"plain\r\n\ttext"[..]),
            (
                b"\x1b[1;31mred\x1b[0m\x1b[2J\x1b[10;1H",
                b"\x1b[1;31mred\x1b[0m\x1b[2J\x1b[10;1H",
            ),
            (
                b"\x1b[?25l\x1b[?1049h\x1b7\x1b8",
                b"\x1b[?25l\x1b[?1049h\x1b7\x1b8",
            ),
            (b"a\x1b]0;title\x07b", b"ab"),
            (b"a\x1b]52;c;Zm9v\x1b\\b", b"ab"),
            (b"a\x1bPq\x1b\\b\x1b_x\x1b\\c", b"abc"),
            (b"a\x1b[6nb\x1b[cb\x1b[>c\x1b[?1000hc\x1b[21td", b"abbcd"),
            (b"a\x1b(0b\x1bcc", b"abc"),
            ("gr\u{fc}n \u{9b}31m".as_bytes(), "gr\u{fc}n 31m".as_bytes()),
            (b"\0\x05\x0e", b""),
            (b"a\x9b6nb", b"a6nb"),
            (b"a\x9d52;c;x\x9cb", b"a52;c;xb"),
            (
                "\u{c0}\u{df}\u{20ac}\u{1f600}".as_bytes(),
                "\u{c0}\u{df}\u{20ac}\u{1f600}".as_bytes(),
            ),
            (
                b"\xc3\xa9\x9b6n \xe2\x82\xac\x9b6n",
                b"\xc3\xa96n \xe2\x82\xac6n",
            ),
            (b"\xe9t\xe9", b"\xe9t\xe9"),
        ] {
            for cut in 0..=shown.len() {
                let mut screen = Screen::default();
                let (one, other) = shown.split_at(cut);
                let mut found = screen.show(one);
                found.extend(screen.show(other));
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    String::from_utf8_lossy(passes),
                    "{cut}"
                );
            }
            assert_eq!(Screen::default().show(shown), passes);
        }
    }
}

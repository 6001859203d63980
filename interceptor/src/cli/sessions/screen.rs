//! What a terminal showed, shown again: colours and the cursor's ways pass, all that would act on the
//! terminal of whoever looks does not.
//!
//! A terminal answers some sequences as if somebody had typed, and others set its title or clipboard. What
//! is not known to be harmless is left out, also where it is cut over several pieces.

use std::collections::BTreeMap;

use crate::cli::terminal;

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

/// The terminals of a session, each with its own filter. Where another than before shows something, its name stands
/// between them.
#[derive(Debug, Default)]
pub(super) struct Screens {
    /// The only one that is shown, where one was asked for.
    only: Option<u32>,
    terminals: BTreeMap<u32, Shown>,
    /// Which showed something last.
    last: Option<u32>,
}

#[derive(Debug, Default)]
struct Shown {
    screen: Screen,
    command: String,
    /// What it showed since it was cleared, while nobody looks yet.
    before: Vec<u8>,
}

/// What makes whatever was shown before of no matter: the other screen, and a screen that is cleared.
const CLEARS: [&[u8]; 5] = [
    b"\x1b[?1049h",
    b"\x1b[?1049l",
    b"\x1b[2J",
    b"\x1b[3J",
    b"\x1b[H\x1b[J",
];

/// More than this no screen is made of, in bytes.
const BEFORE_MAX: usize = 2 << 20;

impl Screens {
    pub(super) fn new(only: Option<u32>) -> Self {
        Self {
            only,
            ..Self::default()
        }
    }

    /// A terminal is opened.
    pub(super) fn opened(&mut self, number: u32, command: &str) {
        if self.is_wanted(number) {
            let shown = self.terminals.entry(number).or_default();
            command.clone_into(&mut shown.command);
        }
    }

    /// Whether any terminal was opened that is to be shown.
    pub(super) fn is_any(&self) -> bool {
        !self.terminals.is_empty()
    }

    fn is_wanted(&self, number: u32) -> bool {
        self.only.is_none_or(|only| only == number)
    }

    /// What of these bytes may be shown, behind the terminal's name where another showed something before.
    pub(super) fn show(&mut self, number: u32, bytes: &[u8]) -> Vec<u8> {
        if !self.is_wanted(number) {
            return Vec::new();
        }
        let shown = self.terminals.entry(number).or_default();
        let mut out = match self.last.replace(number) {
            Some(last) if last != number => heading(number, &shown.command),
            _ => Vec::new(),
        };
        out.append(&mut shown.before);
        out.extend(shown.screen.show(bytes));
        out
    }

    /// The same of what came before anybody looked: it is kept as far as it still stands on the screen.
    pub(super) fn pass_over(&mut self, number: u32, bytes: &[u8]) {
        if !self.is_wanted(number) {
            return;
        }
        self.last = Some(number);
        let shown = self.terminals.entry(number).or_default();
        let drawn = shown.screen.show(bytes);
        shown.before.extend_from_slice(&drawn);
        let clears = CLEARS.iter();
        let cleared = clears.filter_map(|clear| memchr::memmem::rfind(&shown.before, clear));
        let from = cleared.max().unwrap_or_default();
        let from = from.max(shown.before.len().saturating_sub(BEFORE_MAX));
        drop(shown.before.drain(..from));
    }

    /// What stands on the terminal that showed something last.
    pub(super) fn stands(&mut self) -> Vec<u8> {
        let shown = self.last.and_then(|last| self.terminals.get_mut(&last));
        shown.map_or_else(Vec::new, |shown| std::mem::take(&mut shown.before))
    }
}

/// The name of a terminal, on a screen as it is at first.
fn heading(number: u32, command: &str) -> Vec<u8> {
    let command = if command.is_empty() {
        "a shell"
    } else {
        command
    };
    let name = format!("[terminal {number}: {command}]");
    [RESET, terminal::line(&name).as_bytes(), b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_told_apart_and_cut_sequences_do_not_mix() {
        let mut screens = Screens::new(None);
        screens.opened(0, "");
        screens.opened(1, "ls -l");
        assert_eq!(screens.show(0, b"one\x1b[3"), b"one");
        let other = screens.show(1, b"two");
        let other = String::from_utf8(other).unwrap();
        assert!(other.ends_with("[terminal 1: ls -l]\r\ntwo"), "{other:?}");
        let again = String::from_utf8(screens.show(0, b"1mred")).unwrap();
        assert!(
            again.ends_with("[terminal 0: a shell]\r\n\x1b[31mred"),
            "{again:?}"
        );
        assert_eq!(screens.show(0, b"more"), b"more");
        let mut only = Screens::new(Some(1));
        only.opened(0, "");
        assert!(!only.is_any());
        only.opened(1, "ls");
        assert_eq!(only.show(0, b"one"), b"");
        assert_eq!(only.show(1, b"two"), b"two");
        assert!(only.is_any());
    }

    #[test]
    fn what_still_stands_on_a_screen_is_shown_where_one_begins_to_look() {
        let mut screens = Screens::new(None);
        for piece in [&b"old\x1b["[..], b"2Jnew ", b"text"] {
            screens.pass_over(0, piece);
        }
        assert_eq!(screens.stands(), b"\x1b[2Jnew text");
        assert_eq!(screens.show(0, b"!"), b"!");
        let mut long = Screens::new(None);
        for _ in 0..3 {
            long.pass_over(0, &vec![b'x'; BEFORE_MAX]);
        }
        assert_eq!(long.stands().len(), BEFORE_MAX);
        // One that did not show anything last is as it was where it does.
        let mut two = Screens::new(None);
        two.pass_over(0, b"first");
        two.pass_over(1, b"second");
        assert_eq!(two.stands(), b"second");
        assert!(two.show(0, b"!").ends_with(b"first!"));
    }

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

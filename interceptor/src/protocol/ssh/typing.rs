//! What was typed into a terminal, read off what it shows: an aid for whoever searches, and no boundary.
//!
//! Keys say little: lines are edited, completed, recalled. So a line is taken from the screen when it is
//! entered, from where the cursor was when its typing began. What is not shown, such as a password, is not
//! seen here; and a program that draws what it likes can have anything read.

use std::mem;

/// Characters of a line.
const MOST: usize = 4_096;
/// Lines that were entered and are not shown yet.
const ENTERED: usize = 64;
/// Bytes of a control sequence that are kept.
const SEQUENCE: usize = 32;

/// A terminal, as far as the line that its cursor is in.
#[derive(Debug)]
pub(super) struct Typing {
    columns: usize,
    line: Vec<char>,
    cursor: usize,
    /// Where the cursor was when something was typed first.
    from: Option<usize>,
    entered: usize,
    state: State,
    /// Of a character, or a control sequence, that is not whole.
    held: Vec<u8>,
    /// An editor, or another program that draws, has the screen.
    is_elsewhere: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    Escape,
    Control,
    Text,
    TextEscape,
}

impl Typing {
    pub(super) fn new(columns: u32) -> Self {
        let mut typing = Self {
            columns: 0,
            line: Vec::new(),
            cursor: 0,
            from: None,
            entered: 0,
            state: State::Plain,
            held: Vec::new(),
            is_elsewhere: false,
        };
        typing.resize(columns);
        typing
    }

    /// The terminal has another width.
    pub(super) fn resize(&mut self, columns: u32) {
        self.columns = match usize::try_from(columns) {
            Ok(0) | Err(_) => 80,
            Ok(columns) => columns,
        };
    }

    /// This was typed.
    pub(super) fn typed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.from.get_or_insert(self.cursor);
        let entered = bytes.iter().filter(|byte| matches!(byte, b'\r' | b'\n'));
        self.entered = self.entered.saturating_add(entered.count()).min(ENTERED);
    }

    /// This was shown; `line` is called for each line that was entered.
    pub(super) fn shown(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for byte in bytes {
            if let Some(text) = self.one(*byte) {
                line(text);
            }
        }
    }

    fn one(&mut self, byte: u8) -> Option<String> {
        self.state = match (self.state, byte) {
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
            (State::Escape, 0x20..=0x2f) => State::Escape,
            (State::Escape, _) => State::Plain,
            (State::Control, 0x40..=0x7e) => {
                let parameters = mem::take(&mut self.held);
                self.control(&parameters, byte);
                State::Plain
            }
            (State::Control, _) => {
                if self.held.len() < SEQUENCE {
                    self.held.push(byte);
                }
                State::Control
            }
            (State::Plain, b'\n') => return self.ends(),
            (State::Plain, _) => {
                self.plain(byte);
                State::Plain
            }
        };
        None
    }

    fn plain(&mut self, byte: u8) {
        match byte {
            b'\r' => self.cursor = self.row(),
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            0..=0x1f | 0x7f => {}
            0x20..=0x7e => {
                self.held.clear();
                self.put(char::from(byte));
            }
            0x80.. => {
                self.held.push(byte);
                match std::str::from_utf8(&self.held) {
                    Ok(text) => {
                        let whole = text.chars().next();
                        self.held.clear();
                        whole.into_iter().for_each(|c| self.put(c));
                    }
                    Err(error) if error.error_len().is_some() => {
                        self.held.clear();
                        self.put(char::REPLACEMENT_CHARACTER);
                    }
                    Err(_unfinished) => {}
                }
            }
        }
    }

    fn put(&mut self, c: char) {
        if self.cursor >= MOST {
            return;
        }
        if self.line.len() <= self.cursor {
            self.line.resize(self.cursor.saturating_add(1), ' ');
        }
        if let Some(cell) = self.line.get_mut(self.cursor) {
            *cell = c;
        }
        self.cursor = self.cursor.saturating_add(1);
    }

    /// Where the row of the screen begins that the cursor is in.
    fn row(&self) -> usize {
        let into = self.cursor.checked_rem(self.columns).unwrap_or_default();
        self.cursor.saturating_sub(into)
    }

    /// A control sequence (ECMA-48, 8.3).
    fn control(&mut self, parameters: &[u8], last: u8) {
        if let Some(modes) = parameters.strip_prefix(b"?") {
            let is_other = |mode: &[u8]| matches!(mode, b"47" | b"1047" | b"1049");
            if modes.split(|byte| *byte == b';').any(is_other) {
                self.is_elsewhere = last == b'h';
                self.begin();
            }
            return;
        }
        let said = std::str::from_utf8(parameters).ok();
        let said = said.and_then(|text| text.split(';').next()?.parse::<usize>().ok());
        let count = said.unwrap_or(1).clamp(1, MOST);
        let rows = count.saturating_mul(self.columns);
        match last {
            b'A' => self.cursor = self.cursor.saturating_sub(rows),
            b'B' => self.cursor = self.cursor.saturating_add(rows).min(MOST),
            b'C' => self.cursor = self.cursor.saturating_add(count).min(MOST),
            b'D' => self.cursor = self.cursor.saturating_sub(count),
            b'G' => self.cursor = self.row().saturating_add(count).saturating_sub(1).min(MOST),
            b'H' | b'f' => self.begin(),
            b'J' | b'K' if said.unwrap_or(0) == 0 => self.line.truncate(self.cursor),
            b'J' | b'K' => self.line.fill(' '),
            b'P' => {
                let from = self.cursor.min(self.line.len());
                let to = from.saturating_add(count).min(self.line.len());
                self.line.drain(from..to);
            }
            b'@' => {
                let at = self.cursor.min(self.line.len());
                let room = MOST.saturating_sub(self.line.len());
                let blanks = std::iter::repeat_n(' ', count.min(room));
                self.line.splice(at..at, blanks);
            }
            _ => {}
        }
    }

    /// Another line begins.
    fn begin(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.from = None;
    }

    /// The cursor leaves its line: what was typed in it, where that was entered.
    fn ends(&mut self) -> Option<String> {
        let is_entered = self.entered > 0 && !self.is_elsewhere;
        self.entered = self.entered.saturating_sub(1);
        let from = self.from.unwrap_or_default();
        let text: String = self.line.iter().skip(from).collect();
        self.begin();
        let text = text.trim();
        (is_entered && !text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of keys and what they make the terminal show, one after the other.
    fn read(steps: &[(&str, &str)]) -> Vec<String> {
        let mut typing = Typing::new(20);
        let mut lines = Vec::new();
        for (typed, shown) in steps {
            typing.typed(typed.as_bytes());
            for byte in shown.as_bytes() {
                typing.shown(&[*byte], |line| lines.push(line));
            }
        }
        lines
    }

    /// What it is about, what is typed and what that shows, and the lines that are read.
    type Row<'a> = (&'a str, &'a [Step<'a>], &'a [&'a str]);
    type Step<'a> = (&'a str, &'a str);

    const PROMPT: Step<'_> = ("", "$ ");

    #[test]
    fn a_line_is_read_as_it_stood_on_the_screen_when_it_was_entered() {
        let rows: [Row<'_>; 10] = [
            ("plain", &[PROMPT, ("ls\r", "ls\r\n")], &["ls"]),
            (
                "prompt again",
                &[PROMPT, ("ls\r", "ls\r\nout\r\n$ "), ("id\r", "id\r\n")],
                &["ls", "id"],
            ),
            (
                "a character that was taken back",
                &[
                    PROMPT,
                    ("lx", "lx"),
                    ("\x7f", "\x08 \x08"),
                    ("s\r", "s\r\n"),
                ],
                &["ls"],
            ),
            (
                "inserted",
                &[
                    PROMPT,
                    ("s", "s"),
                    ("\x01", "\x08"),
                    ("l", "\x1b[1@l"),
                    ("\r", "\x1b[C\r\n"),
                ],
                &["ls"],
            ),
            (
                "recalled",
                &[PROMPT, ("\x1b[A", "cat /etc/passwd"), ("\r", "\r\n")],
                &["cat /etc/passwd"],
            ),
            (
                "deleted to the end",
                &[
                    PROMPT,
                    ("abc", "abc"),
                    ("\x15", "\x08\x08\x08\x1b[K"),
                    ("x\r", "x\r\n"),
                ],
                &["x"],
            ),
            (
                "a password",
                &[("", "Password: "), ("hunter2\r", "\r\n")],
                &[],
            ),
            ("nothing typed", &[("", "out\r\n"), ("", "more\r\n")], &[]),
            (
                "longer than the screen is wide",
                &[
                    PROMPT,
                    ("echo 0123456789abcdefg\r", "echo 0123456789abc \rdefg\r\n"),
                ],
                &["echo 0123456789abcdefg"],
            ),
            (
                "in an editor",
                &[
                    PROMPT,
                    ("vi\r", "vi\r\n\x1b[?1049h"),
                    ("secret\r", "secret\r\n"),
                ],
                &["vi"],
            ),
        ];
        for (what, steps, expected) in rows {
            assert_eq!(read(steps), expected, "{what}");
        }
    }

    #[test]
    fn whatever_is_shown_nothing_grows() {
        let mut typing = Typing::new(0);
        for shown in [
            &b"\x1b[9999999999@"[..],
            b"\x1b[4000C\x1b[4000Cx",
            b"\x1b[9B\xc3",
            b"a",
        ] {
            for _ in 0..1000 {
                typing.typed(b"\r");
                typing.shown(shown, drop);
            }
        }
        assert!(typing.line.len() <= MOST && typing.cursor <= MOST);
        assert!(typing.held.len() <= SEQUENCE && typing.entered <= ENTERED);
    }
}

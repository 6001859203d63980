//! A text's shape: the text with its plain literals taken out, for those who ask the same with other values.
//!
//! Two texts of one shape have the same tokens but for the values of numbers and strings, so the grammar
//! makes the same tree of them. What is not plain has no shape, and is read each time: comments,
//! strings with a prefix or a backslash, dollar quotes, letters that are not ASCII, numbers in other
//! notations. Follows the server's lexer (`src/backend/parser/scan.l`, PostgreSQL 18).

/// What every shape begins with and no text can hold: the protocol ends texts with it.
const BEGIN: char = '\0';

/// Stand for literals.
const INTEGER: char = '\u{1}';
const DECIMAL: char = '\u{2}';
const STRING: char = '\u{3}';

/// Writes the shape of `text` into `shape`, which is cleared first. False where it has none. A shape is
/// never equal to a text.
///
/// Right only where `standard_conforming_strings` is on, as [`read`](super::read) is.
pub fn shape(text: &str, shape: &mut String) -> bool {
    ends(text, shape, &mut Vec::new())
}

/// [`shape`], and where in the text the literals end that were taken out.
pub fn ends(text: &str, shape: &mut String, ends: &mut Vec<usize>) -> bool {
    shape.clear();
    shape.push(BEGIN);
    ends.clear();
    let mut lexer = Lexer {
        bytes: text.as_bytes(),
        at: 0,
        shape,
        ends,
    };
    lexer.run().is_some()
}

/// The values of the literals in a text, in order, each as it is spelled and with the sign before it; `None`
/// where the text is not plain, as for [`shape`]. Comments are left out.
pub fn literals(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut plain = String::with_capacity(text.len());
    let mut at: usize = 0;
    // Comments first: the lexer knows none. A quote keeps what looks like one.
    while let Some(byte) = bytes.get(at) {
        let rest = text.get(at..)?;
        let length = match byte {
            b'\'' | b'"' => {
                let quote = char::from(*byte);
                rest.get(1..)?.find(quote)?.saturating_add(2)
            }
            b'-' if rest.starts_with("--") => {
                plain.push(' ');
                at = at.saturating_add(rest.find('\n').unwrap_or(rest.len()));
                continue;
            }
            b'/' if rest.starts_with("/*") => {
                let inside = rest.get(2..)?;
                let end = inside.find("*/")?;
                // They nest.
                if inside.get(..end)?.contains("/*") {
                    return None;
                }
                plain.push(' ');
                at = at.saturating_add(end).saturating_add(4);
                continue;
            }
            _ => rest.chars().next()?.len_utf8(),
        };
        plain.push_str(rest.get(..length)?);
        at = at.saturating_add(length);
    }
    spelled(&plain)
}

fn spelled(text: &str) -> Option<String> {
    let (mut shape, mut ends, mut all) = (String::new(), Vec::new(), String::new());
    if !self::ends(text, &mut shape, &mut ends) {
        return None;
    }
    let is_literal = |c: char| matches!(c, INTEGER | DECIMAL | STRING);
    let between = shape.trim_start_matches(BEGIN).split(is_literal);
    let mut from: usize = 0;
    for (between, end) in between.zip(ends) {
        let literal = text.get(from.saturating_add(between.len())..end)?;
        let is_negative = between.trim_end().ends_with('-');
        all.push_str(if is_negative { "-" } else { "" });
        all.push_str(literal);
        all.push('\0');
        from = end;
    }
    Some(all)
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    shape: &'a mut String,
    ends: &'a mut Vec<usize>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn after(&self) -> Option<u8> {
        self.bytes.get(self.at.saturating_add(1)).copied()
    }

    /// Copies one byte, which the caller knows to be ASCII.
    fn copy(&mut self, byte: u8) {
        self.shape.push(char::from(byte));
        self.at = self.at.saturating_add(1);
    }

    fn copy_while(&mut self, goes_on: impl Fn(u8) -> bool) {
        while let Some(byte) = self.peek().filter(|byte| goes_on(*byte)) {
            self.copy(byte);
        }
    }

    /// All tokens; `None` where one has no shape.
    fn run(&mut self) -> Option<()> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.copy(byte),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word()?,
                b'0'..=b'9' => self.number()?,
                b'\'' => self.string()?,
                b'"' => self.quoted()?,
                b'$' => self.parameter()?,
                // A point before a digit begins a number, or ends one.
                b'.' if self.after().is_some_and(|next| next.is_ascii_digit()) => return None,
                b'-' if self.after() == Some(b'-') => return None,
                b'/' if self.after() == Some(b'*') => return None,
                b'\\' => return None,
                b'!'..=b'~' => self.copy(byte),
                _ => return None,
            }
        }
        Some(())
    }

    /// An identifier or key word. With a quote behind it, it may be the prefix of a literal.
    fn word(&mut self) -> Option<()> {
        let from = self.at;
        self.copy_while(is_inner);
        let word = self.bytes.get(from..self.at)?;
        let prefixes = match self.peek() {
            Some(b'\'' | b'"') => true,
            Some(b'&') => matches!(self.after(), Some(b'\'' | b'"')),
            Some(byte) => !byte.is_ascii(),
            None => false,
        };
        // `FLOAT(n)` is another type for another number.
        (!prefixes && !word.eq_ignore_ascii_case(b"float")).then_some(())
    }

    /// Digits, with at most one point and digits behind it.
    fn number(&mut self) -> Option<()> {
        let from = self.at;
        self.skip_digits();
        let mut is_integer = self
            .bytes
            .get(from..self.at)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            // As the server's lexer: what does not fit is a number of another kind.
            .is_some_and(|digits| digits.parse::<i32>().is_ok());
        if self.peek() == Some(b'.') {
            self.at = self.at.saturating_add(1);
            self.peek().filter(u8::is_ascii_digit)?;
            self.skip_digits();
            is_integer = false;
        }
        let goes_on = self
            .peek()
            .is_some_and(|next| is_inner(next) || next == b'.' || !next.is_ascii());
        let stands = if is_integer { INTEGER } else { DECIMAL };
        self.shape.push(stands);
        self.ends.push(self.at);
        (!goes_on).then_some(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at = self.at.saturating_add(1);
        }
    }

    /// A string without prefix; a doubled quote in it is a quote.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at = self.at.saturating_add(1);
            match self.peek()? {
                b'\\' => return None,
                b'\'' if self.after() == Some(b'\'') => self.at = self.at.saturating_add(1),
                b'\'' => break,
                _ => {}
            }
        }
        self.at = self.at.saturating_add(1);
        self.shape.push(STRING);
        self.ends.push(self.at);
        Some(())
    }

    /// A name in double quotes, which is no literal. A doubled quote in it reads as two names here,
    /// letter by letter the same.
    fn quoted(&mut self) -> Option<()> {
        self.copy(b'"');
        self.copy_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
        self.peek().filter(|byte| *byte == b'"')?;
        self.copy(b'"');
        Some(())
    }

    /// `$1`. A dollar before anything else quotes.
    fn parameter(&mut self) -> Option<()> {
        self.copy(b'$');
        self.peek().filter(u8::is_ascii_digit)?;
        self.copy_while(|byte| byte.is_ascii_digit());
        let goes_on = self
            .peek()
            .is_some_and(|next| is_inner(next) || !next.is_ascii());
        (!goes_on).then_some(())
    }
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

#[cfg(test)]
mod tests;

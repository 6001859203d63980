//! Tables of texts (`text/csv`, RFC 4180): the first line names the columns, and fields of a column are masked by its
//! name. A field is held until it ends; what readers take apart in different ways ends the answer, and so does what is
//! no name where names are to come: of a table without them the first row would name the columns, and no mask fit.

use std::collections::HashSet;
use std::sync::Arc;

use super::apply::{Keys, Scalar, shown};
use super::rules::Rules;
use super::{Broken, Found, Looked, Masks};
use crate::config::Tables;
use crate::masking::Mask;

/// Bytes of a field, and of the line that names the columns.
const HELD_MAX: usize = 1 << 20;
/// Columns of a table.
const COLUMNS_MAX: usize = 16 << 10;
/// What stands between fields: one of these, in all of a table.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// What may stand before the first field.
const MARK: &[u8] = b"\xef\xbb\xbf";

const LONG: Broken = Broken("it has a field longer than 1 MiB");
const QUOTES: Broken = Broken("it has quotes that readers take apart in different ways");
const LINES: Broken = Broken("it has lines that readers take apart in different ways");
const UNNAMED: Broken = Broken("it has a field in a column without a name");
const NO_NAMES: Broken = Broken("its first line holds what is no name of a column");
const TABLES: Broken = Broken("it may be more than one table");
const SEPARATED: Broken = Broken("its fields may be separated in more than one way");

/// Whether its first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Present,
    /// Columns are called by where they stand, from 1.
    Absent,
}

impl Header {
    /// What the parameters of a media type say, and what is known where they say nothing.
    ///
    /// # Errors
    /// Where nothing says whether columns are named: a row would be taken for their names, and the masks fit none.
    pub(super) fn of(parameters: &str, tables: Tables) -> Result<Self, &'static str> {
        let mut header = None;
        for (name, value) in Parameters(parameters) {
            let said = match (name, value.as_str()) {
                ("header", "present") => Self::Present,
                ("header", "absent") => Self::Absent,
                ("header", _) => return Err(UNSAID),
                _ => continue,
            };
            if header.replace(said).is_some_and(|before| before != said) {
                return Err(UNSAID);
            }
        }
        match (header, tables) {
            (Some(header), _) => Ok(header),
            (None, Tables::Named) => Ok(Self::Present),
            (None, Tables::Said) => Err(UNSAID),
        }
    }
}

const UNSAID: &str =
    "it does not say that its first line names its columns (`header=present`, or `http.tables`)";

/// Parameters of a media type, lower case (RFC 9110, 5.6.6), also where spaces stand around `=`.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, String);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['=', ';']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let (mut value, mut quoted, mut escaped) = (String::new(), false, false);
        let mut ends = rest.len();
        for (at, letter) in rest.char_indices() {
            match letter {
                _ if std::mem::take(&mut escaped) => value.push(letter),
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ';' if !quoted => {
                    ends = at;
                    break;
                }
                _ => value.push(letter),
            }
        }
        self.0 = rest.get(ends..).unwrap_or_default();
        Some((name.trim(), value.trim().to_owned()))
    }
}

/// A table being masked.
#[derive(Debug)]
pub(super) struct Csv {
    rules: Arc<Rules>,
    keys: Arc<Keys>,
    masks: Masks,
    found: Found,
    header: Header,
    /// The first line, until it is there as a whole and says how fields are separated.
    first: Option<Vec<u8>>,
    separator: u8,
    /// The masks of the columns that are known.
    columns: Vec<Option<Mask>>,
    names_come: bool,
    /// What the columns are called, and the same lower case.
    names: Vec<String>,
    known: HashSet<String>,
    /// So far this line says what the first one said.
    repeats: bool,
    /// A line came that was not empty.
    is_begun: bool,
    /// An empty one came behind it.
    is_over: bool,
    state: State,
    field: Vec<u8>,
    at: usize,
    /// Something of this line was written.
    written: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begins,
    Plain,
    Quoted,
    /// Behind a quote in quotes: the end of them, or the first of two.
    Quote,
    /// Behind a carriage return.
    Return,
}

impl Csv {
    /// # Errors
    /// Where nothing says what its columns are.
    pub(super) fn new(masks: &Masks, header: Header) -> Result<Self, &'static str> {
        if header == Header::Absent && !masks.rules.are_positions() {
            return Err("it has no line that names its columns, and a mask goes by a name");
        }
        Ok(Self {
            rules: Arc::clone(&masks.rules),
            keys: Arc::clone(&masks.keys),
            masks: masks.clone(),
            found: Found::default(),
            header,
            first: Some(Vec::new()),
            separator: b',',
            columns: Vec::new(),
            names_come: header == Header::Present,
            names: Vec::new(),
            known: HashSet::new(),
            repeats: true,
            is_begun: false,
            is_over: false,
            state: State::Begins,
            field: Vec::new(),
            at: 0,
            written: false,
        })
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if bytes.contains(&0) {
            return Err(Broken("it is written in other letters than are read here"));
        }
        let Some(mut first) = self.first.take() else {
            return self.read(bytes, out);
        };
        let before = first.len();
        first.extend_from_slice(bytes);
        match line(&first) {
            Some(length) => self.begin(&first, length, out),
            None if before.saturating_add(bytes.len()) > HELD_MAX => Err(LONG),
            None => {
                self.first = Some(first);
                Ok(())
            }
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if let Some(first) = self.first.take() {
            self.begin(&first, first.len(), out)?;
        }
        match self.state {
            State::Quoted => Err(QUOTES),
            State::Return => Err(LINES),
            State::Begins if self.at == 0 => Ok(()),
            State::Begins | State::Plain | State::Quote => self.end_field(out),
        }
    }

    /// Begins with the first line, which is so long.
    fn begin(&mut self, bytes: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        let (bytes, length) = match bytes.strip_prefix(MARK) {
            Some(rest) => {
                out.extend_from_slice(MARK);
                (rest, length.saturating_sub(MARK.len()))
            }
            None => (bytes, length),
        };
        let line = bytes.get(..length).unwrap_or_default();
        let mut quoted = false;
        let mut separators = SEPARATORS.iter().filter(|separator| {
            quoted = false;
            line.iter().any(|byte| {
                quoted ^= *byte == b'"';
                !quoted && byte == *separator
            })
        });
        if let Some(separator) = separators.next() {
            self.separator = *separator;
        }
        if separators.next().is_some() {
            return Err(SEPARATED);
        }
        self.read(bytes, out)
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for byte in bytes {
            self.byte(*byte, out)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
        let is_separator = byte == self.separator;
        self.state = match (self.state, byte) {
            // Some take a quote behind a backslash for one that is meant.
            (State::Quoted, b'"') if self.field.ends_with(b"\\") => return Err(QUOTES),
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) => State::Quoted,
            (State::Quote, b'"') => State::Quoted,
            (State::Begins, b'"') => State::Quoted,
            (State::Begins | State::Plain | State::Quote, b'\r') => {
                self.state = State::Return;
                return Ok(());
            }
            (State::Return, b'\n') => return self.end_line(b"\r\n", out),
            (State::Return, _) => return Err(LINES),
            (_, b'\n') => return self.end_line(b"\n", out),
            _ if is_separator => {
                self.end_field(out)?;
                return Ok(());
            }
            (State::Quote, _) | (State::Plain, b'"') => return Err(QUOTES),
            (State::Begins | State::Plain, _) => State::Plain,
        };
        if self.field.len() >= HELD_MAX {
            return Err(LONG);
        }
        self.field.push(byte);
        Ok(())
    }

    /// Takes a field that is there as a whole.
    fn end_field(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.is_over {
            return Err(TABLES);
        }
        let raw = std::mem::take(&mut self.field);
        let said = said(&raw);
        if self.names_come {
            self.name(&said)?;
        } else if self.header == Header::Absent && self.at >= self.columns.len() {
            self.column(&(self.at + 1).to_string())?;
        }
        let mask = self.columns.get(self.at).ok_or(UNNAMED)?.clone();
        let name = self.names.get(self.at);
        self.repeats &= name.is_some_and(|name| name == said.trim());
        if mask == Some(Mask::Hide) {
            return self.next(raw);
        }
        if self.written {
            out.push(self.separator);
        }
        self.written = true;
        match mask.filter(|_| !self.names_come) {
            Some(mask) => {
                let value = match raw.is_empty() {
                    true => Scalar::Nothing,
                    false => Scalar::Text(said.as_str().into()),
                };
                let shown = shown(&mask, &value, &self.keys).unwrap_or_default();
                self.write(shown.as_bytes(), out);
            }
            None => match self.masks.look(said.as_bytes(), &mut self.found) {
                Looked::Same => out.extend_from_slice(&raw),
                Looked::Covered(shown) => self.write(&shown, out),
                Looked::Refused(_) => {
                    return Err(Broken("a value was found in it that goes no farther"));
                }
            },
        }
        self.next(raw)
    }

    /// Another field comes.
    fn next(&mut self, mut field: Vec<u8>) -> Result<(), Broken> {
        field.clear();
        self.field = field;
        self.at += 1;
        self.state = State::Begins;
        Ok(())
    }

    /// A column that the first line calls so. What cannot be a name, or stands there twice, is a row's: then it is no
    /// line of names, and what follows would go by masks of other columns.
    fn name(&mut self, said: &str) -> Result<(), Broken> {
        let name = said.trim();
        let is_number =
            name.bytes().any(|byte| byte.is_ascii_digit()) && name.parse::<f64>().is_ok();
        let lower = name.to_lowercase();
        if name.is_empty() || name.starts_with('#') || is_number || !self.known.insert(lower) {
            return Err(NO_NAMES);
        }
        self.names.push(name.to_owned());
        self.column(name)
    }

    /// A column of this name.
    fn column(&mut self, name: &str) -> Result<(), Broken> {
        if self.columns.len() >= COLUMNS_MAX {
            return Err(Broken("it has more than 16384 columns"));
        }
        let (start, name) = (self.rules.start(), name.trim());
        // Names with dots in them are those of fields in fields.
        let (mut here, mut mask) = (start.clone(), None);
        for part in name.split('.') {
            (here, mask) = self.rules.step(&here, part);
        }
        let mask = match self.rules.step(&start, name) {
            (_, Some(whole)) => Some(whole),
            (_, None) => mask,
        };
        self.columns.push(mask.cloned());
        Ok(())
    }

    fn end_line(&mut self, ending: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        // An empty line is none of the table. Behind the first row it ends it: what follows may be another one.
        if self.at > 0 || !self.field.is_empty() {
            self.end_field(out)?;
            if self.repeats && !self.names_come && self.at == self.names.len() {
                return Err(TABLES);
            }
            self.names_come = false;
            self.is_begun = true;
        } else {
            self.is_over = self.is_begun;
        }
        out.extend_from_slice(ending);
        (self.at, self.written, self.state) = (0, false, State::Begins);
        self.repeats = true;
        Ok(())
    }

    /// Writes a field, in quotes where it needs them.
    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let needs = |byte: &u8| matches!(byte, b'"' | b'\r' | b'\n') || SEPARATORS.contains(byte);
        let spaced = text.trim_ascii().len() != text.len();
        if !(spaced || text.iter().any(needs)) {
            return out.extend_from_slice(text);
        }
        out.push(b'"');
        for byte in text {
            if *byte == b'"' {
                out.push(b'"');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
}

/// How long the first line is that holds anything, once it is there as a whole.
fn line(bytes: &[u8]) -> Option<usize> {
    let (mut quoted, mut holds) = (false, false);
    let ends = |byte: &u8| {
        quoted ^= *byte == b'"';
        let ends = !quoted && *byte == b'\n';
        let is_end = ends && holds;
        holds |= !matches!(byte, b'\r' | b'\n');
        is_end
    };
    bytes.iter().position(ends).map(|at| at + 1)
}

/// What a field says.
fn said(raw: &[u8]) -> String {
    let quoted = raw
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    match quoted {
        Some(inner) => String::from_utf8_lossy(inner).replace("\"\"", "\""),
        None => String::from_utf8_lossy(raw).into_owned(),
    }
}

#[cfg(test)]
mod tests;

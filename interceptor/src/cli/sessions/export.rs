//! Exports: a terminal as asciicast (versions 2 and 3), requests as JSON lines.
//!
//! asciicast, <https://docs.asciinema.org/manual/asciicast/v2/> and `/v3/`: a header, then one array a line:
//! when, what kind, and what. Times of version 2 count from the start, those of version 3 from the line before.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Place, Read};
use crate::cli::terminal;
use crate::clock::BootTime;
use crate::protocol::postgres::transcript::Limits;
use crate::recording::{Meta, Reader, Terminal, What};

/// As what a session is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON lines: the session, then each request with its answer.
    Jsonl,
    /// A terminal, for asciinema: version 2.
    AsciicastV2,
    /// A terminal, for asciinema: version 3.
    AsciicastV3,
}

/// Exports a session; of several terminals the one that is named, or the first.
pub(super) fn export(
    id: &str,
    (format, number, input): (Format, Option<u32>, bool),
    place: &Place,
    out: &mut impl Write,
) -> Result<u8> {
    match format {
        Format::Jsonl => requests(id, place, out),
        Format::AsciicastV2 => cast(place.open(id)?, Cast::new(2, input), number, out),
        Format::AsciicastV3 => cast(place.open(id)?, Cast::new(3, input), number, out),
    }
}

fn requests(id: &str, place: &Place, out: &mut impl Write) -> Result<u8> {
    let read = Read::open(place, id, Limits::default())?;
    let session = serde_json::to_string(&json!({ "session": read.meta }))?;
    writeln!(out, "{}", terminal::json(&session))?;
    for exchange in &read.transcript.exchanges {
        let text = serde_json::to_string(exchange)?;
        writeln!(out, "{}", terminal::json(&text))?;
    }
    for remark in read.remarks() {
        writeln!(
            out,
            "{}",
            terminal::json(&json!({ "remark": remark }).to_string())
        )?;
    }
    Ok(read.code())
}

/// What an asciicast is made with.
struct Cast {
    version: u8,
    before: BootTime,
    /// Bytes of a character whose end is still to come.
    shown: Text,
    typed: Text,
    /// There is no terminal that would begin lines at their beginning.
    is_plain: bool,
    /// Whether what was typed is told, too.
    input: bool,
}

impl Cast {
    fn new(version: u8, input: bool) -> Self {
        Self {
            version,
            input,
            before: BootTime(0),
            shown: Text::default(),
            typed: Text::default(),
            is_plain: false,
        }
    }

    fn header(&self, meta: &Meta, opened: &Terminal) -> Value {
        let Terminal::Opened {
            columns,
            rows,
            term,
            command,
        } = opened
        else {
            return Value::Null;
        };
        let [columns, rows] = match (columns, rows) {
            (0, _) | (_, 0) => [&80, &24],
            size => [size.0, size.1],
        };
        let mut header = match self.version {
            2 => json!({
                "version": 2, "width": columns, "height": rows, "env": { "TERM": term },
            }),
            _ => json!({
                "version": 3, "term": { "cols": columns, "rows": rows, "type": term },
            }),
        };
        if let Value::Object(fields) = &mut header {
            fields.insert("timestamp".to_owned(), meta.started.as_second().into());
            fields.insert("title".to_owned(), meta.session.to_string().into());
            if !command.is_empty() {
                fields.insert("command".to_owned(), command.as_str().into());
            }
        }
        header
    }

    /// A line; none where nothing of it is whole yet.
    fn line(&mut self, at: BootTime, what: &Terminal) -> Option<Value> {
        let (kind, text) = match what {
            Terminal::Opened { .. }
            | Terminal::Asked(_)
            | Terminal::Carries(_)
            | Terminal::Carried(..)
            | Terminal::Unrecorded { .. } => return None,
            // A password is typed where nothing is shown.
            Terminal::Typed(_) if !self.input => return None,
            Terminal::Shown(bytes) | Terminal::Erred(bytes) => {
                let text = self.shown.take(bytes);
                let text = match self.is_plain {
                    true => text.replace('\n', "\r\n"),
                    false => text,
                };
                ("o", text)
            }
            Terminal::Typed(bytes) => ("i", self.typed.take(bytes)),
            Terminal::Resized { columns, rows } => ("r", format!("{columns}x{rows}")),
            Terminal::Closed { status } if self.version == 3 => {
                ("x", status.unwrap_or_default().to_string())
            }
            Terminal::Closed { .. } => return None,
        };
        if text.is_empty() {
            return None;
        }
        let since = at.since(self.before);
        if self.version == 3 {
            self.before = at;
        }
        Some(json!([seconds(since), kind, text]))
    }
}

/// To the microsecond, as others write it.
fn seconds(time: Duration) -> f64 {
    let micros = time.subsec_micros().saturating_mul(1000);
    Duration::new(time.as_secs(), micros).as_secs_f64()
}

/// UTF-8 that comes in pieces; what is none is shown as such.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn take(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = std::mem::take(&mut self.0);
        loop {
            match std::str::from_utf8(&rest) {
                Ok(all) => {
                    text.push_str(all);
                    return text;
                }
                Err(error) => {
                    let (whole, behind) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    match error.error_len() {
                        Some(wrong) => {
                            text.push('\u{fffd}');
                            rest = behind.get(wrong..).unwrap_or_default().to_vec();
                        }
                        None => {
                            self.0 = behind.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }
}

fn cast(
    mut reader: Reader,
    mut cast: Cast,
    number: Option<u32>,
    out: &mut impl Write,
) -> Result<u8> {
    let meta = reader.meta().clone();
    let mut chosen = None;
    let mut code = 0;
    for frame in reader.by_ref() {
        let frame = match frame {
            Ok(frame) => frame,
            Err(crate::recording::Error::Torn { .. }) => break,
            Err(error) => {
                crate::cli::complain(&format!("{}\n", super::in_full(&error)));
                code = 1;
                break;
            }
        };
        let What::Terminal(of, what) = frame.what else {
            continue;
        };
        if chosen.is_none()
            && number.is_none_or(|number| number == of)
            && matches!(what, Terminal::Opened { .. })
        {
            chosen = Some(of);
            cast.is_plain = matches!(&what, Terminal::Opened { columns: 0, .. });
            cast.before = frame.at;
            let header = cast.header(&meta, &what).to_string();
            writeln!(out, "{}", terminal::json(&header))?;
        }
        if chosen == Some(of)
            && let Some(line) = cast.line(frame.at, &what)
        {
            writeln!(out, "{}", terminal::json(&line.to_string()))?;
        }
    }
    if chosen.is_none() {
        bail!(
            "cannot export the session: no such terminal is in it; its requests are exported with --format jsonl"
        );
    }
    Ok(code)
}

//! Events of a server (`text/event-stream`) with JSON in them: each `data` is masked as the JSON that it is.

use super::json::Json;
use super::{Broken, Found};

/// Bytes of one line.
const LINE_MAX: usize = 1 << 20;
/// What ends a stream of some language models, and is no JSON.
const DONE: &[u8] = b"[DONE]";

/// Events being masked.
#[derive(Debug)]
pub(super) struct Lines {
    json: Json,
    line: Vec<u8>,
    /// An event's data has begun.
    open: bool,
}

impl Lines {
    pub(super) fn new(json: Json) -> Self {
        Self {
            json,
            line: Vec::new(),
            open: false,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(piece.len()) > LINE_MAX {
                return Err(Broken("an event has a line longer than 1 MiB"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(&line, out)?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take(&line, out)?;
        }
        self.close()
    }

    pub(super) fn found(&self) -> &Found {
        self.json.found()
    }

    fn take(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let ending = line.get(text.len()..).unwrap_or_default();
        if text.contains(&b'\r') {
            // Readers take it for the end of a line, too.
            return Err(Broken("an event has a carriage return within a line"));
        }
        match text.strip_prefix(b"data:") {
            Some(data) => self.data(data, out)?,
            None if text.is_empty() => self.close()?,
            None if text == b"data" => {}
            None => {
                let name = text.split(|byte| *byte == b':').next().unwrap_or_default();
                if !matches!(name, b"" | b"event" | b"id" | b"retry") {
                    return Err(Broken(
                        "an event has a field of another name than events have",
                    ));
                }
                out.extend_from_slice(text);
            }
        }
        if text == b"data" {
            out.extend_from_slice(text);
        }
        out.extend_from_slice(ending);
        Ok(())
    }

    fn data(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        out.extend_from_slice(b"data:");
        if !self.open && data.trim_ascii() == DONE {
            out.extend_from_slice(data);
            return Ok(());
        }
        self.open = true;
        let mut masked = Vec::with_capacity(data.len());
        self.json.feed(data, &mut masked)?;
        // The end of a line is white space of JSON: it ends a number.
        self.json.feed(b" ", &mut masked)?;
        out.extend_from_slice(masked.trim_ascii_end());
        Ok(())
    }

    /// The end of an event.
    fn close(&mut self) -> Result<(), Broken> {
        self.open = false;
        let mut rest = Vec::new();
        self.json.end(&mut rest)
    }
}

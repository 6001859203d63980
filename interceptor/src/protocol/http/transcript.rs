//! What was asked and what came back: the pieces of a recording as requests and answers, for people. Off the path;
//! in the shape that statements and their results have, so that one command shows both.

use std::sync::Arc;

use super::wire::envelope::{self, Kind};
use crate::clock::BootTime;
use crate::protocol::postgres::transcript::{Cell, Exchange, Limits, Piece, ResultSet, Transcript};
use crate::session::{Direction, Phase, RequestId};

/// Characters of one row.
const WIDTH: usize = 80;

/// A recording being read.
pub struct Reading {
    limits: Limits,
    sent: Vec<u8>,
    received: Vec<u8>,
    messages: Vec<Messages>,
    remark: Option<&'static str>,
}

/// A request and its answer.
#[derive(Clone)]
struct Messages {
    request: [u8; 16],
    at: BootTime,
    ended: Option<BootTime>,
    sent: Vec<u8>,
    received: Vec<u8>,
    sent_bytes: u64,
    received_bytes: u64,
    over: bool,
}

impl Reading {
    /// Before the first piece.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sent: Vec::new(),
            received: Vec::new(),
            messages: Vec::new(),
            remark: None,
        }
    }

    /// Takes the next piece. After a remark nothing is taken.
    pub fn take(&mut self, at: BootTime, piece: &Piece<'_>) {
        let Piece::Bytes(direction, bytes) = piece else {
            return;
        };
        if self.remark.is_some() {
            return;
        }
        let mut buffer = match direction {
            Direction::Sent => std::mem::take(&mut self.sent),
            Direction::Received => std::mem::take(&mut self.received),
        };
        buffer.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match envelope::read(buffer.get(from..).unwrap_or_default()) {
                Ok(Some((piece, taken))) => {
                    self.note(at, *direction, &piece);
                    from = from.saturating_add(taken);
                }
                Ok(None) => break,
                Err(why) => {
                    self.remark = Some(why);
                    return;
                }
            }
        }
        buffer.drain(..from.min(buffer.len()));
        match direction {
            Direction::Sent => self.sent = buffer,
            Direction::Received => self.received = buffer,
        }
    }

    fn note(&mut self, at: BootTime, direction: Direction, piece: &envelope::Piece<'_>) {
        let known = self
            .messages
            .iter()
            .rposition(|one| one.request == piece.request);
        if known.is_none() {
            if self.messages.len() >= self.limits.exchanges {
                self.remark = Some("more requests than are shown");
                return;
            }
            self.messages.push(Messages {
                request: piece.request,
                at,
                ended: None,
                sent: Vec::new(),
                received: Vec::new(),
                sent_bytes: 0,
                received_bytes: 0,
                over: false,
            });
        }
        let index = known.unwrap_or_else(|| self.messages.len().saturating_sub(1));
        let Some(messages) = self.messages.get_mut(index) else {
            return;
        };
        if direction == Direction::Received {
            messages.ended = Some(at);
        }
        let (bytes, total) = match direction {
            Direction::Sent => (&mut messages.sent, &mut messages.sent_bytes),
            Direction::Received => (&mut messages.received, &mut messages.received_bytes),
        };
        match piece.kind {
            Kind::End => {
                messages.over |= direction == Direction::Received;
                let read = <[u8; 8]>::try_from(piece.bytes);
                *total = read.map_or(*total, u64::from_le_bytes);
            }
            Kind::Head | Kind::Body | Kind::Trailers | Kind::Tunnel => {
                let room = self.limits.value.saturating_sub(bytes.len());
                bytes.extend_from_slice(piece.bytes.get(..room).unwrap_or(piece.bytes));
            }
        }
    }

    /// What was asked from the `from`th on, and answered, up to the first that is not.
    #[must_use]
    pub fn answered(&self, from: usize) -> Vec<Exchange> {
        let after = self.messages.get(from..).unwrap_or_default();
        let over = after.iter().take_while(|one| one.over).cloned();
        over.map(|one| one.exchange(self.limits.rows)).collect()
    }

    /// What was read.
    #[must_use]
    pub fn finish(self) -> Transcript {
        let rows = self.limits.rows;
        let exchanges = self.messages.into_iter().map(|one| one.exchange(rows));
        Transcript {
            exchanges: exchanges.collect(),
            remark: self.remark,
        }
    }
}

impl Messages {
    fn exchange(self, most: usize) -> Exchange {
        let request = RequestId(uuid::Uuid::from_bytes(self.request));
        let statement: Arc<str> = String::from_utf8_lossy(&self.sent).trim_end().into();
        let text = String::from_utf8_lossy(&self.received).replace('\r', "");
        let tag = text.lines().next().map(Arc::from);
        let rows: Vec<_> = text.trim_end().lines().skip(1).flat_map(pieces).collect();
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let result = ResultSet {
            columns: Vec::new(),
            rows: rows
                .into_iter()
                .take(most)
                .map(|row| vec![Cell::Text(row.into())])
                .collect(),
            count,
            bytes: self.received_bytes,
            tag,
        };
        Exchange {
            at: self.at,
            ended: self.ended,
            requests: vec![(request, Phase::Execute)],
            executed: true,
            copied_in: self.sent_bytes,
            results: if self.received.is_empty() {
                Vec::new()
            } else {
                vec![result]
            },
            ..Exchange::new(self.at, statement)
        }
    }
}

/// A line as rows that are as wide as rows are shown.
fn pieces(line: &str) -> Vec<String> {
    let letters: Vec<char> = line.chars().collect();
    match letters.is_empty() {
        true => vec![String::new()],
        false => letters
            .chunks(WIDTH)
            .map(|piece| piece.iter().collect())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_lie_between_each_other_are_told_apart() {
        let (one, two) = ([1; 16], [2; 16]);
        let sent = [
            envelope::piece(Kind::Head, &one, b"POST /a HTTP/2.0\r\n\r\n"),
            envelope::piece(Kind::Head, &two, b"GET /b HTTP/2.0\r\n\r\n"),
            envelope::piece(Kind::Body, &one, b"body"),
            envelope::piece(Kind::End, &one, &4_u64.to_le_bytes()),
        ]
        .concat();
        let received = [
            envelope::piece(Kind::Head, &two, b"HTTP/2.0 200 OK\r\nx: y\r\n\r\n"),
            envelope::piece(Kind::Body, &two, b"{}"),
        ]
        .concat();
        let mut reading = Reading::new(Limits::default());
        for piece in sent.chunks(5) {
            reading.take(BootTime(1), &Piece::Bytes(Direction::Sent, piece));
        }
        reading.take(BootTime(2), &Piece::Bytes(Direction::Received, &received));
        let read = reading.finish();
        assert_eq!(read.remark, None);
        let said: Vec<_> = read.exchanges.iter().map(|one| &*one.statement).collect();
        assert_eq!(said, ["POST /a HTTP/2.0\r\n\r\nbody", "GET /b HTTP/2.0"]);
        let result = &read.exchanges[1].results[0];
        assert_eq!(result.tag.as_deref(), Some("HTTP/2.0 200 OK"));
        assert_eq!(result.rows.last().unwrap(), &vec![Cell::Text("{}".into())]);
        assert!(read.exchanges[0].results.is_empty());
    }
}

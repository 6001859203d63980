//! The replies as they come: each belongs to the message in front of the queue.

use std::sync::{Arc, PoisonError};

use super::super::exchange::{Cell, Column, Exchange, Notice};
use super::super::message::{Body, Fields};
use super::super::text;
use super::{Expect, Follow, Followed, is_binary};
use crate::clock::BootTime;

impl Follow {
    /// A message of the server (§54.7, "(B)").
    pub(in super::super) fn received(&mut self, at: BootTime, tag: u8, body: Body<'_>) -> Followed {
        let limit = self.limits.value;
        match tag {
            b'1' | b'2' | b'3' => self.answered(at),
            b'n' if matches!(self.expected.front(), Some(Expect::Describe(_))) => self.answered(at),
            b'T' => self.described_as(at, Column::read(body, limit)),
            b'D' => self.row(body),
            b'C' => self.ended(
                at,
                text(Fields(body.bytes).string().unwrap_or_default(), limit),
            ),
            b'I' => self.ended(at, Arc::from("")),
            b's' => self.ended(at, Arc::from("portal suspended")),
            b'E' => self.error(at, Notice::read(body, limit))?,
            b'N' => {
                if let Some(exchange) = self.front() {
                    exchange.notice(false, Notice::read(body, limit));
                }
            }
            b'G' | b'H' | b'W' => self.copying = self.front_index(),
            b'd' => self.copied(body),
            b'Z' => self.ready(at),
            // Settings, notifications, keys, the end of COPY data, parameters: nobody's result.
            _ => {}
        }
        Ok(())
    }

    fn front_index(&self) -> Option<usize> {
        match self.expected.front()? {
            Expect::Query(exchange)
            | Expect::Parse(exchange)
            | Expect::Execute { exchange, .. } => Some(*exchange),
            Expect::Bind(exchange) => *exchange,
            Expect::Describe(_) | Expect::Close | Expect::Sync => None,
        }
    }

    /// The exchange that is being answered.
    fn front(&mut self) -> Option<&mut Exchange> {
        let front = self.front_index()?;
        self.exchanges.get_mut(front)
    }

    /// The message in front has its reply.
    fn answered(&mut self, at: BootTime) {
        if let Some(exchange) = self.front() {
            exchange.ended = Some(at);
        }
        if !matches!(self.expected.front(), Some(Expect::Query(_) | Expect::Sync)) {
            self.expected.pop_front();
        }
    }

    fn described_as(&mut self, at: BootTime, columns: Vec<Column>) {
        if let Some(Expect::Describe(shape)) = self.expected.front() {
            *shape.lock().unwrap_or_else(PoisonError::into_inner) = columns;
            self.answered(at);
        } else if let Some(result) = self.front().and_then(Exchange::result) {
            result.columns = columns;
        }
    }

    /// Gives the result in front the columns that its statement was described with.
    fn shape(&mut self) {
        let Some(Expect::Execute {
            exchange,
            shape,
            formats,
        }) = self.expected.front()
        else {
            return;
        };
        let result = self.exchanges.get_mut(*exchange).and_then(Exchange::result);
        if let Some(result) = result.filter(|result| result.columns.is_empty()) {
            result.columns = shape.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (index, column) in result.columns.iter_mut().enumerate() {
                column.binary = is_binary(formats, index);
            }
        }
    }

    fn row(&mut self, body: Body<'_>) {
        self.shape();
        let fallback = match self.expected.front() {
            Some(Expect::Execute { formats, .. }) => formats.clone(),
            _ => Vec::new(),
        };
        let (rows, value) = (self.limits.rows, self.limits.value);
        let keeps = self.values > 0;
        let Some(result) = self.front().and_then(Exchange::result) else {
            return;
        };
        result.count += 1;
        result.bytes += u64::try_from(body.length).unwrap_or(0);
        if result.rows.len() >= rows || !keeps {
            return;
        }
        let mut fields = Fields(body.bytes);
        let count = usize::from(fields.short().unwrap_or(0));
        let cells: Vec<Cell> = (0..count)
            .map_while(|index| {
                let binary = result.columns.get(index).map(|column| column.binary);
                let binary = binary.unwrap_or_else(|| is_binary(&fallback, index));
                Some(Cell::read(fields.value()?, binary, value))
            })
            .collect();
        let cells = self.afford(cells);
        if let Some(result) = self.front().and_then(Exchange::result) {
            result.rows.push(cells);
        }
    }

    /// Data of `COPY … TO STDOUT`.
    fn copied(&mut self, body: Body<'_>) {
        let (rows, value) = (self.limits.rows, self.limits.value);
        let keeps = self.values > 0;
        let Some(result) = self.front().and_then(Exchange::result) else {
            return;
        };
        result.count += 1;
        result.bytes += u64::try_from(body.length).unwrap_or(0);
        if result.rows.len() < rows && keeps {
            let line = body.bytes.strip_suffix(b"\n").unwrap_or(body.bytes);
            let cell = Cell::read(Some(line), false, value);
            let cells = self.afford(vec![cell]);
            if let Some(result) = self.front().and_then(Exchange::result) {
                result.rows.push(cells);
            }
        }
    }

    /// A statement came to its end.
    fn ended(&mut self, at: BootTime, tag: Arc<str>) {
        self.shape();
        self.copying = None;
        if let Some(exchange) = self.front() {
            exchange.ended = Some(at);
            if let Some(result) = exchange.result() {
                result.tag = Some(tag);
            }
        }
        if matches!(self.expected.front(), Some(Expect::Execute { .. })) {
            self.expected.pop_front();
        }
    }

    fn error(&mut self, at: BootTime, notice: Notice) -> Followed {
        self.copying = None;
        // A reply that no statement waits for stands with the last one that was answered; an error
        // out of nothing stands alone.
        let waiting = self.expected.iter().find_map(|expected| match expected {
            Expect::Query(exchange)
            | Expect::Parse(exchange)
            | Expect::Execute { exchange, .. } => Some(*exchange),
            Expect::Bind(exchange) => *exchange,
            Expect::Describe(_) | Expect::Close | Expect::Sync => None,
        });
        let at_sync = matches!(self.expected.front(), Some(Expect::Sync));
        let last = self.exchanges.len().checked_sub(1).filter(|_| at_sync);
        let whose = match last.or(waiting) {
            Some(whose) => whose,
            None => self.begin(at, Arc::from(""), false)?,
        };
        if let Some(exchange) = self.exchanges.get_mut(whose) {
            exchange.ended = Some(at);
            exchange.notice(true, notice);
        }
        let extended = !matches!(
            self.expected.front(),
            None | Some(Expect::Query(_) | Expect::Sync)
        );
        if extended {
            self.skip(whose);
        }
        Ok(())
    }

    /// After an error the server passes over what was sent up to the Sync (§54.2.3).
    fn skip(&mut self, failed: usize) {
        loop {
            match self.expected.front() {
                Some(Expect::Sync) => return,
                None => {
                    self.skipping = true;
                    return;
                }
                Some(_) => {}
            }
            let skipped = self.front_index().filter(|skipped| *skipped != failed);
            if let Some(exchange) = skipped.and_then(|index| self.exchanges.get_mut(index)) {
                exchange.skipped = exchange.ended.is_none();
            }
            self.expected.pop_front();
        }
    }

    /// `ReadyForQuery` ends a simple query or a pipeline.
    fn ready(&mut self, at: BootTime) {
        self.copying = None;
        while let Some(expected) = self.expected.pop_front() {
            match expected {
                Expect::Query(exchange) => {
                    if let Some(exchange) = self.exchanges.get_mut(exchange) {
                        exchange.ended = Some(at);
                    }
                    return;
                }
                Expect::Sync => return,
                _ => {}
            }
        }
    }
}

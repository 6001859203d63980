//! Who is answered: the queue of messages that the server owes a reply to, and the replies as they come.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::exchange::{Cell, Column, Exchange, Notice};
use super::message::{Body, Fields};
use super::{Limits, text};
use crate::clock::BootTime;
use crate::session::{Phase, RequestId};

/// Prepared statements, portals and outstanding messages that are followed.
const FOLLOWED: usize = 100_000;

/// Bytes of values kept of a whole recording.
const VALUES: usize = 64 << 20;

/// The columns of a statement, once they are described.
type Shape = Arc<Mutex<Vec<Column>>>;

/// A prepared statement.
#[derive(Clone)]
struct Statement {
    text: Arc<str>,
    shape: Shape,
    /// The exchange that its Parse began, until an Execute takes it over.
    exchange: Option<usize>,
}

/// A portal.
#[derive(Clone)]
struct Portal {
    statement: Statement,
    name: Vec<u8>,
    formats: Vec<bool>,
    parameters: Vec<Cell>,
}

/// A message that is owed a reply.
enum Expect {
    Query(usize),
    Parse(usize),
    Bind(Option<usize>),
    Describe(Shape),
    Execute {
        exchange: usize,
        shape: Shape,
        formats: Vec<bool>,
    },
    Close,
    Sync,
}

/// What is known while both directions are read.
pub(super) struct Follow {
    limits: Limits,
    exchanges: Vec<Exchange>,
    expected: VecDeque<Expect>,
    statements: HashMap<Vec<u8>, Statement>,
    portals: HashMap<Vec<u8>, Portal>,
    /// The server passes over everything up to the next Sync.
    skipping: bool,
    /// Exchanges before this one have their requests.
    named: usize,
    /// The exchange that `COPY` data goes to.
    copying: Option<usize>,
    /// Bytes of values that may still be kept.
    values: usize,
}

type Followed = Result<(), &'static str>;

impl Follow {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            exchanges: Vec::new(),
            expected: VecDeque::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            named: 0,
            copying: None,
            values: VALUES,
        }
    }

    /// A message of the agent (§54.7, "(F)").
    pub(super) fn sent(&mut self, at: BootTime, tag: u8, body: Body<'_>) -> Followed {
        if self.expected.len() >= FOLLOWED {
            return Err("more is outstanding than can be followed");
        }
        let mut fields = Fields(body.bytes);
        match tag {
            b'Q' => {
                let text = text(fields.string().unwrap_or_default(), self.limits.value);
                let exchange = self.begin(at, text, true)?;
                self.expect(Expect::Query(exchange));
            }
            b'P' => self.parse(at, fields)?,
            b'B' => self.bind(fields),
            b'D' => {
                let shape = self.described(&mut fields);
                self.expect(Expect::Describe(shape));
            }
            b'E' => self.execute(at, fields)?,
            b'C' => {
                let kind = fields.byte();
                let name = fields.string().unwrap_or_default();
                if kind == Some(b'S') {
                    self.statements.remove(name);
                } else {
                    self.portals.remove(name);
                }
                self.expect(Expect::Close);
            }
            b'F' => {
                let exchange = self.begin(at, Arc::from("(function call)"), true)?;
                self.expect(Expect::Query(exchange));
            }
            b'S' => {
                self.skipping = false;
                self.expected.push_back(Expect::Sync);
            }
            b'd' => {
                let last = self.copying.or_else(|| self.exchanges.len().checked_sub(1));
                if let Some(exchange) = last.and_then(|last| self.exchanges.get_mut(last)) {
                    exchange.copied_in += u64::try_from(body.length).unwrap_or(0);
                }
            }
            // Flush, Terminate, the ends of COPY: no reply of their own. A password has no place here
            // and no reader.
            _ => {}
        }
        Ok(())
    }

    /// Begins an exchange, skipped where the server is skipping.
    fn begin(
        &mut self,
        at: BootTime,
        text: Arc<str>,
        executed: bool,
    ) -> Result<usize, &'static str> {
        if self.exchanges.len() >= self.limits.exchanges {
            return Err("the recording has more exchanges than are kept");
        }
        let mut exchange = Exchange::new(at, text);
        exchange.executed = executed;
        exchange.prepared = !executed;
        exchange.skipped = self.skipping;
        self.exchanges.push(exchange);
        Ok(self.exchanges.len() - 1)
    }

    fn expect(&mut self, message: Expect) {
        if !self.skipping {
            self.expected.push_back(message);
        }
    }

    fn parse(&mut self, at: BootTime, mut fields: Fields<'_>) -> Followed {
        let name = fields.string().unwrap_or_default().to_vec();
        let text = text(fields.string().unwrap_or_default(), self.limits.value);
        let exchange = self.begin(at, Arc::clone(&text), false)?;
        self.expect(Expect::Parse(exchange));
        if self.statements.len() < FOLLOWED {
            let statement = Statement {
                text,
                shape: Shape::default(),
                exchange: Some(exchange),
            };
            self.statements.insert(name, statement);
        }
        Ok(())
    }

    fn bind(&mut self, mut fields: Fields<'_>) {
        let portal = fields.string().unwrap_or_default().to_vec();
        let name = fields.string().unwrap_or_default().to_vec();
        let statement = self.statement(&name);
        let forms = fields.formats().unwrap_or_default();
        let count = fields.short().unwrap_or(0);
        let limit = self.limits.value;
        let parameters: Vec<Cell> = (0..usize::from(count))
            .map_while(|index| Some(Cell::read(fields.value()?, is_binary(&forms, index), limit)))
            .collect();
        self.expect(Expect::Bind(statement.exchange));
        if self.portals.len() < FOLLOWED {
            let portal_is = Portal {
                statement,
                name,
                formats: fields.formats().unwrap_or_default(),
                parameters: self.afford(parameters),
            };
            self.portals.insert(portal, portal_is);
        }
    }

    fn statement(&self, name: &[u8]) -> Statement {
        self.statements
            .get(name)
            .cloned()
            .unwrap_or_else(|| Statement {
                text: Arc::from(""),
                shape: Shape::default(),
                exchange: None,
            })
    }

    fn described(&self, fields: &mut Fields<'_>) -> Shape {
        let is_statement = fields.byte() == Some(b'S');
        let name = fields.string().unwrap_or_default();
        let portal = self.portals.get(name).filter(|_| !is_statement);
        match portal {
            Some(portal) => Arc::clone(&portal.statement.shape),
            None => self.statement(name).shape,
        }
    }

    fn execute(&mut self, at: BootTime, mut fields: Fields<'_>) -> Followed {
        let name = fields.string().unwrap_or_default();
        let portal = self.portals.get(name).cloned();
        let portal = portal.unwrap_or_else(|| Portal {
            statement: self.statement(b""),
            name: Vec::new(),
            formats: Vec::new(),
            parameters: Vec::new(),
        });
        // The first Execute behind a Parse goes on with its exchange, as long as both are one pipeline.
        let open = self.statements.get_mut(&portal.name).and_then(|statement| {
            let same = Arc::ptr_eq(&statement.shape, &portal.statement.shape);
            statement.exchange.take().filter(|_| same)
        });
        let open = open.filter(|open| *open >= self.named && !self.expected.is_empty());
        let exchange = match open {
            Some(open) => open,
            None => self.begin(at, Arc::clone(&portal.statement.text), true)?,
        };
        if let Some(exchange) = self.exchanges.get_mut(exchange) {
            exchange.executed = true;
            exchange.parameters = portal.parameters;
        }
        self.expect(Expect::Execute {
            exchange,
            shape: portal.statement.shape,
            formats: portal.formats,
        });
        Ok(())
    }

    /// A message of the server (§54.7, "(B)").
    pub(super) fn received(&mut self, at: BootTime, tag: u8, body: Body<'_>) -> Followed {
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

    /// Counts what is kept.
    fn afford(&mut self, cells: Vec<Cell>) -> Vec<Cell> {
        let bytes: usize = cells
            .iter()
            .map(|cell| match cell {
                Cell::Null => 0,
                Cell::Text(text) | Cell::Binary(text) => text.len(),
            })
            .sum();
        let overhead = cells.len() * size_of::<Cell>();
        self.values = self.values.saturating_sub(bytes + overhead);
        cells
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

    /// Ties requests to exchanges, whenever everything is answered.
    pub(super) fn name(&mut self, marks: &mut VecDeque<(RequestId, Phase)>) {
        if !self.expected.is_empty() || self.named == self.exchanges.len() {
            return;
        }
        let open = self.exchanges.get_mut(self.named..).unwrap_or_default();
        self.named += open.len();
        let marks: Vec<_> = mem::take(marks).into();
        if let [one] = open {
            one.requests = marks;
            return;
        }
        let count = |phase| marks.iter().filter(|mark| mark.1 == phase).count();
        let prepared = open.iter().filter(|exchange| exchange.prepared).count();
        let executed = open.iter().filter(|exchange| exchange.executed).count();
        if count(Phase::Prepare) != prepared || count(Phase::Execute) != executed {
            if let Some(first) = open.first_mut() {
                first.requests = marks;
            }
            return;
        }
        for phase in [Phase::Prepare, Phase::Execute] {
            let marks = marks.iter().filter(|mark| mark.1 == phase);
            let asked = open.iter_mut().filter(|exchange| match phase {
                Phase::Prepare => exchange.prepared,
                Phase::Execute => exchange.executed,
            });
            for (exchange, mark) in asked.zip(marks) {
                exchange.requests.push(*mark);
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Exchange> {
        self.exchanges
    }
}

/// One code stands for all columns, none for text (§54.7, Bind).
fn is_binary(formats: &[bool], index: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(false),
    }
}

//! Who is answered: what the agent sends, as a queue of messages that the server owes a reply to.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex};

use super::exchange::{Cell, Column, Exchange};
use super::message::{Body, Fields};
use super::{Limits, text};
use crate::clock::BootTime;
use crate::session::{Phase, RequestId};

mod replies;

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

    /// Exchanges from the `from`th on that are over, up to the first that is not.
    pub(super) fn over(&self, from: usize) -> &[Exchange] {
        let rest = self.exchanges.get(from..).unwrap_or_default();
        let open = rest.iter().position(|exchange| exchange.ended.is_none());
        rest.get(..open.unwrap_or(rest.len())).unwrap_or_default()
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

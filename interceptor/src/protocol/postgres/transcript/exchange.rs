//! One thing asked, and all that came back for it.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::message::{Body, Fields};
use super::text;
use crate::clock::BootTime;
use crate::session::{Phase, RequestId};

/// Errors and notices kept of one exchange.
const NOTICES: usize = 100;

/// One statement text as it was asked, once, and what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// When it was asked.
    #[serde(rename = "boot_ns")]
    pub at: BootTime,
    /// When the last of its answer came; absent where none came.
    #[serde(rename = "ended_boot_ns", skip_serializing_if = "Option::is_none")]
    pub ended: Option<BootTime>,
    /// The audit's requests. Of a pipeline whose requests cannot be told apart all stand with its
    /// first exchange.
    #[serde(serialize_with = "requests", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<(RequestId, Phase)>,
    /// The text. Empty where it was prepared before the recording.
    pub statement: Arc<str>,
    /// The values of its parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Cell>,
    /// Whether it was run, or only prepared.
    pub executed: bool,
    /// Whether it began with a Parse.
    #[serde(skip)]
    pub(crate) prepared: bool,
    /// Whether the server passed over it, after an error before it.
    pub skipped: bool,
    /// One for each statement in the text that came to an end or gave rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ResultSet>,
    /// Bytes of `COPY … FROM STDIN`.
    pub copied_in: u64,
    /// Errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Notice>,
    /// Notices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
}

fn requests<S: Serializer>(requests: &[(RequestId, Phase)], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named {
        request: RequestId,
        phase: Phase,
    }
    to.collect_seq(requests.iter().map(|(request, phase)| Named {
        request: *request,
        phase: *phase,
    }))
}

impl Exchange {
    /// Nothing has come back yet.
    #[must_use]
    pub fn new(at: BootTime, statement: Arc<str>) -> Self {
        Self {
            at,
            ended: None,
            requests: Vec::new(),
            statement,
            parameters: Vec::new(),
            executed: false,
            prepared: false,
            skipped: false,
            results: Vec::new(),
            copied_in: 0,
            errors: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// The result that is coming in; begins one where none is.
    pub(super) fn result(&mut self) -> Option<&mut ResultSet> {
        if self.results.last().is_none_or(|last| last.tag.is_some()) {
            self.results.push(ResultSet::default());
        }
        self.results.last_mut()
    }

    pub(super) fn notice(&mut self, is_error: bool, notice: Notice) {
        let notices = if is_error {
            &mut self.errors
        } else {
            &mut self.notices
        };
        if notices.len() < NOTICES {
            notices.push(notice);
        }
    }
}

/// What one statement gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResultSet {
    /// Its columns, where it was described.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// The rows that are kept. Of `COPY … TO STDOUT` a row is what came in one piece, a line as a rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Vec<Cell>>,
    /// All rows that came.
    pub count: u64,
    /// All bytes of them.
    pub bytes: u64,
    /// `SELECT 2`, `portal suspended`, `` for an empty text; absent where the statement did not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Arc<str>>,
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// The type's oid.
    pub oid: u32,
    /// Whether its values are in the binary form.
    pub binary: bool,
}

impl Column {
    /// Reads a `RowDescription`.
    pub(super) fn read(body: Body<'_>, limit: usize) -> Vec<Self> {
        let mut fields = Fields(body.bytes);
        let count = fields.short().unwrap_or(0);
        (0..count)
            .map_while(|_| {
                let name = text(fields.string()?, limit);
                let (_table, _attribute) = (fields.long()?, fields.short()?);
                let oid = fields.long()?;
                let (_length, _modifier) = (fields.short()?, fields.long()?);
                let binary = fields.short()? == 1;
                Some(Self { name, oid, binary })
            })
            .collect()
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL's null.
    Null,
    /// In the text form, lossily decoded.
    Text(Arc<str>),
    /// In the binary form, in hex.
    Binary(Arc<str>),
}

impl Cell {
    pub(super) fn read(value: Option<&[u8]>, binary: bool, limit: usize) -> Self {
        match value {
            None => Self::Null,
            Some(bytes) if binary => {
                Self::Binary(Arc::from(hex::encode(bytes.get(..limit).unwrap_or(bytes))))
            }
            Some(bytes) => Self::Text(text(bytes, limit)),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_none(),
            Self::Text(text) => to.serialize_str(text),
            Self::Binary(hex) => to.collect_str(&format_args!("\\x{hex}")),
        }
    }
}

/// An error or a notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// `ERROR`, `FATAL`, `NOTICE`, ….
    pub severity: Arc<str>,
    /// SQLSTATE.
    pub code: Arc<str>,
    /// In one line.
    pub message: Arc<str>,
    /// More of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Arc<str>>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Arc<str>>,
}

impl Notice {
    /// Reads an `ErrorResponse` or a `NoticeResponse` (§54.8).
    pub(super) fn read(body: Body<'_>, limit: usize) -> Self {
        let mut fields = Fields(body.bytes);
        let mut notice = Self::default();
        while let Some(kind) = fields.byte().filter(|kind| *kind != 0) {
            let value = text(fields.string().unwrap_or_default(), limit);
            match kind {
                b'S' => notice.severity = value,
                b'C' => notice.code = value,
                b'M' => notice.message = value,
                b'D' => notice.detail = Some(value),
                b'H' => notice.hint = Some(value),
                _ => {}
            }
        }
        notice
    }
}

//! What a terminal shows and is told, as frames: for shells, and for commands with a pty.
//!
//! A session may have several at once; each has a number of its own. So have channels that carry what is no
//! text: files, and connections that are forwarded.

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::format::Fields;
use crate::session::{Direction, RequestId};

/// Something that happened on a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// It was opened, with this size; without any where it is no terminal, but the two streams of a command.
    Opened {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
        /// What kind it is: `TERM`.
        term: String,
        /// What runs on it; empty for a shell.
        command: String,
    },
    /// It showed this.
    Shown(#[serde(skip)] Bytes),
    /// This was typed.
    Typed(#[serde(skip)] Bytes),
    /// Its size is another.
    Resized {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// It was closed.
    Closed {
        /// The exit status, where there was one.
        status: Option<u32>,
    },
    /// It showed this, on standard error.
    Erred(#[serde(skip)] Bytes),
    /// What was asked for last was permitted as this request.
    Asked(RequestId),
    /// It is no terminal: a channel was opened that carries this.
    Carries(String),
    /// Bytes of a channel that is no terminal.
    Carried(Direction, #[serde(skip)] Bytes),
    /// So many bytes of a channel that is no terminal were not recorded.
    Unrecorded {
        /// Of what was sent.
        sent: u64,
        /// Of what was received.
        received: u64,
    },
}

/// Longer names are cut, in bytes.
const NAME_MAX: usize = 4096;

impl Terminal {
    /// The body of its frame.
    pub(super) fn encode(&self, number: u32) -> Vec<u8> {
        let mut body = number.to_le_bytes().to_vec();
        let size = |body: &mut Vec<u8>, columns: u16, rows: u16| {
            body.extend_from_slice(&columns.to_le_bytes());
            body.extend_from_slice(&rows.to_le_bytes());
        };
        match self {
            Self::Opened {
                columns,
                rows,
                term,
                command,
            } => {
                body.push(1);
                size(&mut body, *columns, *rows);
                let (term, _) = term.split_at(term.floor_char_boundary(NAME_MAX));
                let (command, _) = command.split_at(command.floor_char_boundary(NAME_MAX));
                let length = u32::try_from(term.len()).unwrap_or(0);
                body.extend_from_slice(&length.to_le_bytes());
                body.extend_from_slice(term.as_bytes());
                body.extend_from_slice(command.as_bytes());
            }
            Self::Shown(bytes) => {
                body.push(2);
                body.extend_from_slice(bytes);
            }
            Self::Typed(bytes) => {
                body.push(3);
                body.extend_from_slice(bytes);
            }
            Self::Resized { columns, rows } => {
                body.push(4);
                size(&mut body, *columns, *rows);
            }
            Self::Closed { status } => {
                body.push(5);
                if let Some(status) = status {
                    body.extend_from_slice(&status.to_le_bytes());
                }
            }
            Self::Erred(bytes) => {
                body.push(6);
                body.extend_from_slice(bytes);
            }
            Self::Asked(request) => {
                body.push(7);
                body.extend_from_slice(request.0.as_bytes());
            }
            Self::Carries(what) => {
                body.push(8);
                let (what, _) = what.split_at(what.floor_char_boundary(NAME_MAX));
                body.extend_from_slice(what.as_bytes());
            }
            Self::Carried(direction, bytes) => {
                body.push(match direction {
                    Direction::Sent => 9,
                    Direction::Received => 10,
                });
                body.extend_from_slice(bytes);
            }
            Self::Unrecorded { sent, received } => {
                body.push(11);
                body.extend_from_slice(&sent.to_le_bytes());
                body.extend_from_slice(&received.to_le_bytes());
            }
        }
        body
    }

    /// Reads the body of a frame: which terminal, and what.
    pub(super) fn decode(body: &Bytes) -> Option<(u32, Self)> {
        let (number, rest) = body.split_first_chunk::<4>()?;
        let (what, rest) = rest.split_first()?;
        let mut fields = Fields(rest);
        let mut short = || u16::from_le_bytes(fields.take());
        let terminal = match (what, rest.len()) {
            (1, 8..) => {
                let (columns, rows) = (short(), short());
                let length = usize::try_from(u32::from_le_bytes(fields.take())).ok()?;
                let (term, command) = fields.0.split_at_checked(length)?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                Self::Opened {
                    columns,
                    rows,
                    term: text(term),
                    command: text(command),
                }
            }
            (2, _) => Self::Shown(body.slice_ref(rest)),
            (3, _) => Self::Typed(body.slice_ref(rest)),
            (4, 4) => Self::Resized {
                columns: short(),
                rows: short(),
            },
            (5, 0) => Self::Closed { status: None },
            (5, 4) => Self::Closed {
                status: Some(u32::from_le_bytes(fields.take())),
            },
            (6, _) => Self::Erred(body.slice_ref(rest)),
            (7, 16) => Self::Asked(RequestId(Uuid::from_bytes(fields.take()))),
            (8, _) => Self::Carries(String::from_utf8_lossy(rest).into_owned()),
            (9, _) => Self::Carried(Direction::Sent, body.slice_ref(rest)),
            (10, _) => Self::Carried(Direction::Received, body.slice_ref(rest)),
            (11, 16) => Self::Unrecorded {
                sent: u64::from_le_bytes(fields.take()),
                received: u64::from_le_bytes(fields.take()),
            },
            _ => return None,
        };
        Some((u32::from_le_bytes(*number), terminal))
    }
}

//! A recording as requests and answers, by its protocol.

use anyhow::{Result, bail};

use crate::cli::terminal;
use crate::clock::BootTime;
use crate::protocol::http::transcript as http;
use crate::protocol::postgres::transcript::{Exchange, Limits, Piece, Reading, Transcript};
use crate::protocol::ssh::transcript as ssh;
use crate::recording::{Meta, What};

/// A recording being read.
pub(super) enum Transcribing {
    Postgres(Box<Reading>),
    Http(http::Reading),
    Ssh(ssh::Reading),
}

impl Transcribing {
    /// Before the first frame.
    pub(super) fn of(meta: &Meta, limits: Limits) -> Result<Self> {
        match meta.protocol.as_str() {
            "postgres" => Ok(Self::Postgres(Box::new(Reading::new(limits)))),
            "http" | "kubernetes" => Ok(Self::Http(http::Reading::new(limits))),
            "ssh" => Ok(Self::Ssh(ssh::Reading::new(limits))),
            other => bail!(
                "cannot show the session: nothing here reads {}",
                terminal::line(other)
            ),
        }
    }

    /// Takes what was recorded next.
    pub(super) fn take(&mut self, at: BootTime, what: &What) {
        let piece = match what {
            What::Bytes(direction, bytes) => Piece::Bytes(*direction, bytes),
            What::Mark(request, phase) => Piece::Mark(*request, *phase),
            What::Terminal(number, what) => {
                if let Self::Ssh(reading) = self {
                    reading.take(at, *number, what);
                }
                return;
            }
            What::End(_) => return,
        };
        match self {
            Self::Postgres(reading) => reading.take(at, &piece),
            Self::Http(reading) => reading.take(at, &piece),
            // All that it has is a channel's.
            Self::Ssh(_) => {}
        }
    }

    /// What was asked from the `from`th on, and answered, up to the first that is not.
    pub(super) fn answered(&self, from: usize) -> Vec<Exchange> {
        match self {
            Self::Postgres(reading) => reading.answered(from).to_vec(),
            Self::Http(reading) => reading.answered(from),
            Self::Ssh(reading) => reading.answered(from),
        }
    }

    /// All of it.
    pub(super) fn finish(self) -> Transcript {
        match self {
            Self::Postgres(reading) => reading.finish(),
            Self::Http(reading) => reading.finish(),
            Self::Ssh(reading) => reading.finish(),
        }
    }
}

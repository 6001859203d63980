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
    /// Requests, and the commands that some of them ran.
    Http(Box<http::Reading>, Box<ssh::Reading>),
    Ssh(ssh::Reading),
}

impl Transcribing {
    /// Before the first frame.
    pub(super) fn of(meta: &Meta, limits: Limits) -> Result<Self> {
        match meta.protocol.as_str() {
            "postgres" => Ok(Self::Postgres(Box::new(Reading::new(limits)))),
            "http" | "kubernetes" => {
                let commands = ssh::Reading::new(limits);
                Ok(Self::Http(
                    Box::new(http::Reading::new(limits)),
                    Box::new(commands),
                ))
            }
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
                match self {
                    Self::Ssh(reading) => reading.take(at, *number, what),
                    Self::Http(_, commands) => commands.take(at, *number, what),
                    Self::Postgres(_) => {}
                }
                return;
            }
            What::End(_) => return,
        };
        match self {
            Self::Postgres(reading) => reading.take(at, &piece),
            Self::Http(reading, _) => reading.take(at, &piece),
            // All that it has is a channel's.
            Self::Ssh(_) => {}
        }
    }

    /// What was asked from the `from`th on, and answered, up to the first that is not.
    pub(super) fn answered(&self, from: usize) -> Vec<Exchange> {
        match self {
            Self::Postgres(reading) => reading.answered(from).to_vec(),
            Self::Http(reading, commands) => {
                let mut exchanges = reading.answered(from);
                run(&mut exchanges, &commands.answered(0));
                exchanges
            }
            Self::Ssh(reading) => reading.answered(from),
        }
    }

    /// All of it.
    pub(super) fn finish(self) -> Transcript {
        match self {
            Self::Postgres(reading) => reading.finish(),
            Self::Http(reading, commands) => {
                let mut transcript = reading.finish();
                let commands = commands.finish();
                run(&mut transcript.exchanges, &commands.exchanges);
                transcript.remark = transcript.remark.or(commands.remark);
                transcript
            }
            Self::Ssh(reading) => reading.finish(),
        }
    }
}

/// Puts what a command showed to the request that ran it.
fn run(requests: &mut [Exchange], commands: &[Exchange]) {
    for command in commands {
        let id = command.requests.first();
        let asked = requests
            .iter_mut()
            .find(|one| id.is_some() && one.requests.first() == id);
        if let Some(asked) = asked {
            asked.results.extend(command.results.iter().cloned());
            asked.notices.extend(command.notices.iter().cloned());
            asked.ended = command.ended.or(asked.ended);
            asked.copied_in = asked.copied_in.saturating_add(command.copied_in);
        }
    }
}

//! A session as it goes on, and what can be done about it: hold its recording, release it, end it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::screen::{RESET, Screens};
use super::transcribing::Transcribing;
use super::{Place, in_full, render};
use crate::cli::{Daemon, block_on, client, terminal};
use crate::control::api::{Done, WhichSession};
use crate::protocol::postgres::transcript::Limits;
use crate::recording::{Error, Reader, Terminal, What};

/// How often it is looked whether there is more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which session, and where the daemon is.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The session's id, or its beginning.
    pub id: String,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

impl Which {
    /// Has the daemon do it, and says what came of it.
    pub(super) fn ask(
        &self,
        verb: &str,
        reason: Option<&str>,
        [changed, unchanged]: [&str; 2],
        out: &mut impl Write,
    ) -> Result<u8> {
        let asked = WhichSession {
            session: self.id.clone(),
            reason: reason.map(str::to_owned),
        };
        let path = format!("/v1/sessions/{verb}");
        let control = self.daemon.control()?;
        let done: Done = block_on(client::post(&control, &path, &asked), false)?;
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&done)?)?,
            false => {
                let words = if done.changed { changed } else { unchanged };
                writeln!(out, "{} {words}", done.session)?;
            }
        }
        Ok(0)
    }
}

/// Shows a session as it goes on, until it ends or whoever reads goes away.
pub(super) fn follow(
    id: &str,
    only: Option<u32>,
    place: &Place,
    out: &mut impl Write,
) -> Result<u8> {
    let mut reader = place.open(id)?;
    if !place.json {
        writeln!(out, "{}", render::heading(reader.meta()))?;
    }
    let reading = Transcribing::of(reader.meta(), Limits::default())?;
    let mut view = View::new(reading, Screens::new(only));
    loop {
        let stopped = view.take(&mut reader);
        view.show(&reader, place, out)?;
        out.flush()?;
        match stopped {
            Some(Error::Torn { .. }) | None => {}
            Some(error) => bail!("{}", in_full(&error)),
        }
        if reader.is_over() || reader.meta().ended.is_some() {
            view.end(out)?;
            return Ok(0);
        }
        if !terminal::pause(LOOK_EVERY)? {
            return Ok(0);
        }
        reader.again()?;
    }
}

/// What was shown of it, and what is ready to be.
struct View {
    reading: Transcribing,
    /// Exchanges that were shown.
    told: usize,
    screens: Screens,
    shown: Vec<u8>,
    is_terminal: bool,
}

impl View {
    fn new(reading: Transcribing, screens: Screens) -> Self {
        Self {
            reading,
            told: 0,
            screens,
            shown: Vec::new(),
            is_terminal: false,
        }
    }

    /// Takes what there is; why it goes no further.
    fn take(&mut self, reader: &mut Reader) -> Option<Error> {
        for frame in reader.by_ref() {
            match frame {
                Ok(frame) => match &frame.what {
                    What::Terminal(of, Terminal::Shown(bytes) | Terminal::Erred(bytes)) => {
                        self.is_terminal = true;
                        self.shown.extend(self.screens.show(*of, bytes));
                    }
                    // What is shown as it is needs no exchange.
                    What::Terminal(of, Terminal::Opened { command, .. }) => {
                        self.screens.opened(*of, command);
                    }
                    what => self.reading.take(frame.at, what),
                },
                Err(error) => return Some(error),
            }
        }
        None
    }

    fn show(&mut self, reader: &Reader, place: &Place, out: &mut impl Write) -> Result<()> {
        out.write_all(&std::mem::take(&mut self.shown))?;
        let answered = self.reading.answered(self.told);
        for exchange in &answered {
            if place.json {
                let text = serde_json::to_string(exchange)?;
                writeln!(out, "{}", terminal::json(&text))?;
                continue;
            }
            writeln!(out)?;
            render::asked(exchange, reader.meta().started_boot_ns, out)?;
            render::answered(exchange, out)?;
        }
        self.told += answered.len();
        Ok(())
    }

    fn end(&self, out: &mut impl Write) -> Result<()> {
        if self.is_terminal {
            out.write_all(RESET)?;
        }
        Ok(())
    }
}

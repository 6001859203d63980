//! A session in its own time: what its terminals showed, or what was asked and answered.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use super::screen::{RESET, Screens};
use super::{Place, Read, finish, in_full, render};
use crate::cli::terminal;
use crate::clock::BootTime;
use crate::protocol::postgres::transcript::Limits;
use crate::recording::{self, Frame, Reader, Terminal, What};

/// How time passes in a replay.
pub(super) struct Pace {
    /// Seconds shown for each second that passed; zero for none.
    factor: f64,
    longest: Duration,
}

impl Pace {
    pub(super) fn new(speed: f64, instant: bool, max_pause: f64) -> Result<Self> {
        if !(speed.is_finite() && speed > 0.0) {
            bail!("cannot replay at speed {speed}: give a number above zero");
        }
        let longest = Duration::try_from_secs_f64(max_pause)
            .map_err(|error| anyhow::anyhow!("cannot pause for {max_pause} seconds: {error}"))?;
        let factor = if instant { 0.0 } else { 1.0 / speed };
        Ok(Self { factor, longest })
    }

    /// How long to wait for what came `later`.
    pub(super) fn pause(&self, later: Duration) -> Duration {
        let seconds = later.as_secs_f64() * self.factor;
        Duration::try_from_secs_f64(seconds).map_or(self.longest, |pause| pause.min(self.longest))
    }
}

/// Plays a terminal where there is one, requests otherwise; from `seek` after the start on.
pub(super) fn play(
    id: &str,
    only: Option<u32>,
    (pace, seek): (&Pace, Duration),
    place: &Place,
    out: &mut impl Write,
) -> Result<u8> {
    let reader = place.open(id)?;
    let from = reader.meta().started_boot_ns.after(seek);
    let is_terminal =
        |frame: &Frame| matches!(frame.what, What::Terminal(_, Terminal::Opened { .. }));
    // A first terminal may come behind whatever else.
    if reader
        .map_while(Result::ok)
        .any(|frame| is_terminal(&frame))
    {
        return watch(place.open(id)?, only, (pace, from), out);
    }
    requests(id, (pace, from), place, out)
}

/// Plays what terminals showed. What was before `from` is read as well: a screen is made of all that was shown.
fn watch(
    reader: Reader,
    only: Option<u32>,
    (pace, from): (&Pace, BootTime),
    out: &mut impl Write,
) -> Result<u8> {
    let (mut screens, mut now) = (Screens::new(only), from);
    let mut code = 0;
    for frame in reader {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                code = u8::from(!matches!(error, recording::Error::Torn { .. }));
                writeln!(out, "{}", terminal::line(&in_full(&error)))?;
                break;
            }
        };
        let (of, bytes) = match &frame.what {
            What::Terminal(of, Terminal::Opened { command, .. }) => {
                screens.opened(*of, command);
                continue;
            }
            What::Terminal(of, Terminal::Shown(bytes) | Terminal::Erred(bytes)) => (*of, bytes),
            _ => continue,
        };
        if frame.at < from {
            screens.pass_over(of, bytes);
            continue;
        }
        out.write_all(&screens.stands())?;
        out.flush()?;
        let pause = pace.pause(frame.at.since(now));
        if !pause.is_zero() && !terminal::pause(pause)? {
            return Ok(0);
        }
        now = frame.at;
        out.write_all(&screens.show(of, bytes))?;
    }
    if !screens.is_any() {
        bail!(
            "cannot play terminal {}: it is not in the session",
            only.unwrap_or_default()
        );
    }
    out.write_all(&screens.stands())?;
    out.write_all(RESET)?;
    Ok(code)
}

/// Plays requests and answers.
fn requests(
    id: &str,
    (pace, from): (&Pace, BootTime),
    place: &Place,
    out: &mut impl Write,
) -> Result<u8> {
    let read = Read::open(place, id, Limits::default())?;
    let exchanges = &read.transcript.exchanges;
    // What happened when: asked (false) and answered (true), in the order of time.
    let mut events: Vec<_> = exchanges
        .iter()
        .flat_map(|exchange| {
            [
                (exchange.at, false, exchange),
                (exchange.ended.unwrap_or(exchange.at), true, exchange),
            ]
        })
        .collect();
    events.retain(|(at, ..)| *at >= from);
    events.sort_by_key(|(at, ..)| *at);
    let mut now = from;
    if !place.json {
        writeln!(out, "{}\n", render::heading(&read.meta))?;
    }
    for (at, is_answer, exchange) in events {
        out.flush()?;
        let pause = pace.pause(at.since(now));
        if !pause.is_zero() && !terminal::pause(pause)? {
            return Ok(0);
        }
        now = at;
        match (place.json, is_answer) {
            (true, true) => {
                let text = serde_json::to_string(exchange)?;
                writeln!(out, "{}", terminal::json(&text))?;
            }
            (true, false) => {}
            (false, false) => render::prompt(&read.meta, exchange, out)?,
            (false, true) => {
                render::answered(exchange, out)?;
                writeln!(out)?;
            }
        }
    }
    if place.json {
        return Ok(read.code());
    }
    finish(&read, out)
}

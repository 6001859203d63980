//! Where the log stands, under its lock; and the lines that wait for the next one.

use std::fs::File;
use std::sync::Arc;

use super::super::chain::Chain;
use super::super::segment::Segment;
use super::super::stamp::{Face, Stamp};
use super::super::{Error, Reservation};
use crate::clock::BootTime;

/// Where the log stands.
pub(in super::super) struct State {
    pub(in super::super) segment: Segment,
    pub(in super::super) chain: Chain,
    /// Since when there are lines that are not on disk.
    pub(in super::super) unsynced: Option<BootTime>,
    /// Segments that are full and not yet on disk.
    pub(in super::super) retired: Vec<Arc<File>>,
    /// Whether the directory has entries that are not on disk.
    pub(in super::super) entries: bool,
    /// Somebody waits for the disk.
    pub(in super::super) urgent: bool,
    pub(in super::super) closing: bool,
    /// Why nothing more is taken.
    pub(in super::super) broken: Option<Arc<str>>,
    /// What is written before the next line.
    pub(super) later: Vec<Later>,
    /// The lines being made.
    pub(super) lines: Vec<u8>,
    pub(super) face: Face,
    /// Lines that the full disk did not take.
    pub(super) lost: u64,
    /// The last line that vouches for those before it.
    pub(super) vouched: u64,
}

/// A line that is taken and not written.
pub(super) struct Later {
    pub(super) stamp: Stamp,
    pub(super) body: Box<[u8]>,
    pub(super) room: Reservation,
}

/// A line to write now: its fields, and how many of the promised bytes are its own.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) body: &'a [u8],
    pub(super) held: u64,
}

impl State {
    pub(super) fn new(segment: Segment, chain: Chain) -> Self {
        Self {
            segment,
            chain,
            unsynced: None,
            retired: Vec::new(),
            entries: false,
            urgent: false,
            closing: false,
            broken: None,
            later: Vec::new(),
            lines: Vec::new(),
            face: Face::default(),
            lost: 0,
            vouched: chain.next - 1,
        }
    }

    /// Makes the lines that were put off and that of `now`; the chain behind them.
    pub(super) fn make(&mut self, now: Option<Now<'_>>) -> Result<Chain, Error> {
        self.lines.clear();
        let mut chain = self.chain;
        for later in &self.later {
            let when = (&mut self.face, later.stamp);
            chain.add(&mut self.lines, when, &later.body)?;
        }
        if let Some(Now { body, .. }) = now {
            let when = (&mut self.face, Stamp::now());
            chain.add(&mut self.lines, when, body)?;
        }
        Ok(chain)
    }

    /// Whether there are lines that no line of the log vouches for.
    pub(in super::super) fn is_unvouched(&self) -> bool {
        !self.later.is_empty() || self.vouched + 1 < self.chain.next
    }

    /// Fails where nothing is taken any more.
    pub(super) fn usable(&self) -> Result<(), Error> {
        match &self.broken {
            None if self.closing => Err(Error::Broken {
                why: Arc::from("the log was closed"),
            }),
            None => Ok(()),
            Some(why) => Err(Error::Broken {
                why: Arc::clone(why),
            }),
        }
    }
}

//! `interceptor sessions search`: which requests had these words in them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cli::audit::since;
use crate::cli::{Daemon, reading, terminal};
use crate::search::{Hit, Index, Query};

/// Find requests.
#[derive(Clone, Debug, Args)]
pub struct Search {
    /// Words that must all be there; one that ends with `*` begins so.
    words: Vec<String>,
    /// Not before: a time (RFC 3339), or how long ago (`90m`).
    #[arg(long)]
    since: Option<String>,
    /// Not after.
    #[arg(long)]
    until: Option<String>,
    /// Of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// With this target.
    #[arg(long)]
    target: Option<String>,
    /// How many, the newest first.
    #[arg(short = 'n', long, default_value_t = 50)]
    most: u32,
    /// The state directory; by default the one of the daemon.
    #[arg(long)]
    state: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer in JSON, one a line.
    #[arg(long)]
    json: bool,
}

impl Search {
    /// What is about to be read, in words for the audit.
    pub(super) fn reads(&self) -> String {
        format!("sessions search {}", self.words.join(" "))
            .trim_end()
            .to_owned()
    }

    /// Tells the audit what is about to be read, then does it, on standard output.
    pub(super) fn main(mut self) -> Result<ExitCode> {
        let state = reading::announce(
            &self.daemon,
            self.state.as_deref(),
            "recordings",
            &self.reads(),
        )?;
        self.state.get_or_insert(state);
        self.run(&mut io::stdout().lock()).map(ExitCode::from)
    }

    /// Does it.
    pub(super) fn run(&self, out: &mut impl Write) -> Result<u8> {
        let state = self
            .state
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/interceptor"));
        let mut index = Index::open(&state.join("search.db"))?;
        // The daemon does so once a second; without one, nobody else has.
        index.catch_up(&state.join("audit"))?;
        let query = Query {
            words: self.words.clone(),
            since: self.since.as_deref().map(since).transpose()?,
            until: self.until.as_deref().map(since).transpose()?,
            agent: self.agent.clone(),
            target: self.target.clone(),
            most: self.most,
        };
        for hit in index.search(&query)? {
            match self.json {
                true => writeln!(out, "{}", terminal::json(&serde_json::to_string(&hit)?))?,
                false => writeln!(out, "{}", terminal::line(&in_words(&hit)))?,
            }
        }
        Ok(0)
    }
}

fn in_words(hit: &Hit) -> String {
    let id = |id: Option<uuid::Uuid>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    format!(
        "{:.3}  {}  {}  {}  {}  {}",
        hit.time,
        id(hit.session),
        hit.agent.as_deref().unwrap_or("-"),
        hit.target.as_deref().unwrap_or("-"),
        hit.event,
        hit.said
    )
}

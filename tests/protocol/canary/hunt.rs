//! A run: statements of a source through the engine into a server, every answer searched, all of it counted.

use std::fmt;
use std::sync::Arc;

use interceptor::protocol::postgres::session::Why;

use super::grammar::{Grammar, Script};
use super::mutate;
use super::random::Random;
use super::run::{Client, Tally, Way};
use super::schema;
use super::search::Search;
use super::smith;
use crate::loop_rig::{Front, Parted};
use crate::server::Server;

/// So many statements share a session.
const SESSION: u64 = 100;
/// More leaks are not told one by one.
const TOLD: usize = 20;

/// Where statements come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Grammar,
    /// Known ways around masks, changed.
    Ways(Vec<Script>),
    /// The regression SQL, changed.
    Regress(Vec<Script>),
    /// These as they are.
    Plain(Vec<Script>),
}

impl Source {
    pub(super) fn script(&self, grammar: &mut Grammar) -> Script {
        let random = &mut grammar.random;
        match self {
            Self::Grammar => grammar.script(),
            Self::Ways(scripts) => {
                let script = random.pick(scripts);
                mutate::way(script, random)
            }
            Self::Regress(scripts) => {
                let script = random.pick(scripts);
                mutate::regress(script, random)
            }
            Self::Plain(scripts) => random.pick(scripts).clone(),
        }
    }
}

/// What was asked and found so far.
pub(super) struct Hunt {
    front: Front,
    database: String,
    search: Arc<Search>,
    sessions: u64,
    tally: Tally,
    pub(super) found: Vec<String>,
    more: usize,
    /// Whether one leak is enough.
    pub(super) stops: bool,
}

impl Hunt {
    pub(super) async fn new(server: &Server, database: &str, parted: Parted) -> Self {
        let masks = schema::masks(false);
        let front = Front::parted(server, &[database], masks, parted).await;
        Self {
            stops: false,
            front,
            database: database.to_owned(),
            search: Arc::new(Search::new(&schema::cells('a'))),
            sessions: 0,
            tally: Tally::default(),
            found: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn assert_clean(&self) {
        assert!(
            self.found.is_empty(),
            "{} leaks: {:#?}",
            self.found.len() + self.more,
            self.found
        );
    }

    fn is_over(&self) -> bool {
        self.stops && !self.found.is_empty()
    }

    /// Asks so many statements; what became of them.
    pub(super) async fn statements(&mut self, source: &Source, seed: u64, count: u64) -> Tally {
        let mut grammar = Grammar::new(seed, Vec::new());
        let mut ways = Random::new(!seed);
        let mut all = Tally::default();
        while all.statements < count && !self.is_over() {
            let mut client = Client::connect(self.front.address, &self.database).await;
            self.sessions += 1;
            let (mut ended, mut last) = (false, String::new());
            while !ended
                && !self.is_over()
                && client.tally.statements < SESSION
                && all.statements + client.tally.statements < count
            {
                let script = source.script(&mut grammar);
                let (mut lost, in_block) = (false, script[0] == "BEGIN");
                for text in &script {
                    if lost && in_block && !text.starts_with("ROLLBACK") {
                        continue;
                    }
                    let way = Way::any(&mut ways);
                    let answer = client.ask(text, way).await;
                    if let Some(leak) = self.search.find(&answer.bytes) {
                        self.note(format!("seed {seed}, {way:?}: {leak}\n  in {script:?}"));
                    }
                    lost |= answer.failed || answer.refused;
                    if answer.ended {
                        ended = true;
                        last = format!("{way:?} in {script:?}");
                        break;
                    }
                }
            }
            all.add(&client.tally);
            drop(client);
            let why = self.front.ended().await.end.why;
            if ended {
                self.note(format!("seed {seed}: a session ended, {why:?}: {last}"));
            }
        }
        self.tally.add(&all);
        all
    }

    /// sqlsmith for so many seconds; how many requests it made of it.
    pub(super) async fn smith(&mut self, seconds: u64, seed: u64) -> u64 {
        let search = Arc::clone(&self.search);
        let seen = smith::run(self.front.address, &self.database, search, seconds, seed).await;
        let mut requests = 0;
        for _ in 0..seen.sessions {
            let end = self.front.ended().await.end;
            requests += end.requests + end.refused;
            if !matches!(end.why, Why::Client | Why::ClientLost(_)) {
                self.note(format!(
                    "sqlsmith, seed {seed}: a session ended, {:?}",
                    end.why
                ));
            }
        }
        self.sessions += seen.sessions;
        self.tally.bytes += seen.bytes;
        for leak in seen.leaks {
            self.note(format!("sqlsmith, seed {seed}: {leak}"));
        }
        requests
    }

    fn note(&mut self, leak: String) {
        if self.found.len() < TOLD {
            if !self.stops {
                println!("LEAK {leak}");
            }
            self.found.push(leak);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Hunt {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{}; {} sessions, {} forms looked for, {} leaks",
            self.tally,
            self.sessions,
            self.search.len(),
            self.found.len() + self.more
        )
    }
}

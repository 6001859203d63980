//! Two databases that differ in nothing but what is masked, and mask to the same: whatever is asked, every
//! byte of both answers is the same, in text and in binary. What holds here gives no answer about a
//! masked value either, which is more than that it is not shown.

use std::net::SocketAddr;

use super::grammar::{Grammar, Script};
use super::hunt::Source;
use super::random::Random;
use super::run::{Client, Tally, Way};
use super::schema::{self, Value};
use crate::loop_rig::{Front, Parted};
use crate::masking::strip;
use crate::server::Server;

/// What tells sessions, databases or times apart, and nothing of what is masked.
const UNSTEADY: [&str; 9] = [
    "txid_current",
    "pg_database_size",
    "pg_prepared_statements",
    "pg_cursors",
    "pg_locks",
    "pg_export_snapshot",
    "pg_stat_",
    "pg_relation_filepath",
    "SHOW ALL",
];
/// So many statements share a session.
const SESSION: usize = 100;

/// Two fronts' databases.
pub(super) struct Twins {
    pub(super) front: Front,
    databases: [String; 2],
    pub(super) tally: Tally,
    pub(super) found: Vec<String>,
}

impl Twins {
    /// Makes them anew, under names that begin with `name`.
    pub(super) fn make(server: &Server, name: &str) -> [String; 2] {
        let databases = ["a", "b"].map(|which| format!("{name}_{which}"));
        let [one, other] = &databases;
        schema::make(server, &[(one, 'a'), (other, 'b')]);
        databases
    }

    pub(super) async fn new(server: &Server, databases: [String; 2], parted: Parted) -> Self {
        let [one, other] = &databases;
        let masks = schema::masks(true);
        let front = Front::parted(server, &[one, other], masks, parted).await;
        Self {
            front,
            databases,
            tally: Tally::default(),
            found: Vec::new(),
        }
    }

    /// Asks both so many statements; the grammar guesses what the first holds.
    pub(super) async fn statements(&mut self, source: &Source, seed: u64, count: u64) {
        let mut grammar = Grammar::new(seed, guesses());
        let mut ways = Random::new(!seed);
        let until = self.tally.statements + count;
        while self.tally.statements < until {
            let mut scripts: Vec<Script> = Vec::new();
            for _ in 0..SESSION / 2 {
                scripts.push(source.script(&mut grammar));
            }
            scripts.retain(is_steady);
            self.scripts(&scripts, &mut ways).await;
        }
    }

    /// Asks both these scripts, in one session each.
    pub(super) async fn scripts(&mut self, scripts: &[Script], ways: &mut Random) {
        let address = self.front.address;
        let mut one = Client::connect(address, &self.databases[0]).await;
        let mut other = Client::connect(address, &self.databases[1]).await;
        for script in scripts {
            let way = Way::any(ways);
            let told = differs(&mut one, &mut other, script, way).await;
            if let Some(told) = told {
                println!("TOLD APART {told}\n  in {script:?}");
                self.found.push(told);
            }
        }
        self.tally.add(&one.tally);
    }

    /// Whether a script tells the two apart where nothing is masked.
    pub(super) async fn differ_directly(&self, direct: SocketAddr, script: &Script) -> bool {
        let mut one = Client::connect(direct, &self.databases[0]).await;
        let mut other = Client::connect(direct, &self.databases[1]).await;
        differs(&mut one, &mut other, script, Way::Text)
            .await
            .is_some()
    }
}

async fn differs(
    one: &mut Client,
    other: &mut Client,
    script: &Script,
    way: Way,
) -> Option<String> {
    let (mut lost, in_block) = (false, script[0] == "BEGIN");
    let mut found = None;
    for text in script {
        if lost && in_block && !text.starts_with("ROLLBACK") {
            continue;
        }
        lost &= !text.starts_with("ROLLBACK");
        let (left, right) = tokio::join!(one.ask(text, way), other.ask(text, way));
        lost |= (left.failed || left.refused) && !text.starts_with("ROLLBACK");
        let [left, right] = [left.bytes, right.bytes].map(|bytes| alike(strip(bytes)));
        if left != right && found.is_none() {
            found = Some(format!("{way:?} of {text}: {}", apart(&left, &right)));
        }
    }
    found
}

/// Without the name of the database, and the number of the session's temporary schema.
fn alike(mut bytes: Vec<u8>) -> Vec<u8> {
    const TEMPORARY: &[u8] = b"pg_temp_";
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"twin") {
            if let Some(end) = bytes[at..].windows(2).take(24).position(|two| two == b"_b") {
                bytes[at + end + 1] = b'a';
            }
        } else if bytes[at..].starts_with(TEMPORARY)
            && let Some(digit) = bytes.get_mut(at + TEMPORARY.len())
        {
            *digit = b'#';
        }
    }
    bytes
}

/// What stands where two answers part.
fn apart(left: &[u8], right: &[u8]) -> String {
    let at = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let from = at.saturating_sub(60).min(bytes.len());
        bytes[from..bytes.len().min(at + 60)]
            .escape_ascii()
            .to_string()
    };
    format!("{} <> {}", around(left), around(right))
}

fn is_steady(script: &Script) -> bool {
    let all = script.join(";");
    !UNSTEADY.iter().any(|word| all.contains(word))
}

/// Some of what the first holds, and fronts of it.
fn guesses() -> Vec<String> {
    let cells = schema::cells('a');
    let tokens = cells.iter().filter_map(|cell| match &cell.value {
        Value::Token(text) => Some(text),
        _ => None,
    });
    let some: Vec<&String> = tokens.step_by(7).collect();
    let fronts = some.iter().map(|text| text[..5].to_owned());
    let whole = some.iter().map(|text| (*text).clone());
    whole.chain(fronts).collect()
}

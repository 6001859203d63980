//! The canary: every masked cell of a rich schema holds what stands nowhere else, thousands of statements
//! ask for it in every way that there is, and nothing of it is in any byte that comes back.
//!
//! `cargo xtask fuzz canary` runs it for as long as one likes.
#![expect(
    clippy::string_slice,
    reason = "what is cut is of ASCII letters, or cut where one was found"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "how long it asks is told in seconds"
)]

mod grammar;
mod hunt;
mod layers;
mod mutate;
pub(crate) mod random;
mod run;
mod schema;
mod search;
mod smith;
mod twins;
mod words;

use std::time::{Duration, Instant};

use self::hunt::{Hunt, Source};
use self::run::Tally;
use self::twins::Twins;
use crate::loop_rig::WHOLE;
use crate::server::Server;

/// How much every run of the tests asks, of the grammar and of the known ways.
const SLICE: [u64; 2] = [3_000, 700];
/// How much `cargo xtask fuzz canary` asks at a time, the regression SQL at last.
const ROUND: [u64; 3] = [1_000, 300, 400];

/// A number that `cargo xtask fuzz canary` sets.
fn set(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_masked_byte_is_in_any_answer_whatever_is_asked() {
    let server = Server::shared();
    schema::make(&server, &[("canary_a", 'a')]);
    let mut hunt = Hunt::new(&server, "canary_a", WHOLE).await;
    let seed = set("INTERCEPTOR_CANARY_SEED").unwrap_or(1);
    match set("INTERCEPTOR_CANARY_SECONDS") {
        None => slice(&mut hunt, &server, seed).await,
        Some(seconds) => long(&mut hunt, seed, Duration::from_secs(seconds)).await,
    }
    hunt.assert_clean();
}

async fn slice(hunt: &mut Hunt, server: &Server, seed: u64) {
    let [of_grammar, of_ways] = SLICE;
    let tally = hunt.statements(&Source::Grammar, seed, of_grammar).await;
    println!("the grammar: {tally}");
    assert!(tally.rows * 100 > tally.statements * 40, "{tally}");
    assert!(tally.refused > 100 && tally.failed > 50, "{tally}");
    let ways = Source::Ways(mutate::ways());
    let tally = hunt.statements(&ways, seed, of_ways).await;
    println!("known ways, changed: {tally}");
    // A server that has more ways refuses more of those that are changed.
    let least = if server.major() < 18 { 15 } else { 10 };
    assert!(tally.rows * 100 > tally.statements * least, "{tally}");
    println!("all: {hunt}");
}

async fn long(hunt: &mut Hunt, seed: u64, time: Duration) {
    let begun = Instant::now();
    let regress = mutate::regression();
    println!(
        "{} statements of the regression SQL are changed, too",
        regress.len()
    );
    let sources = [
        (Source::Grammar, "the grammar"),
        (Source::Ways(mutate::ways()), "known ways, changed"),
        (Source::Regress(regress), "the regression SQL, changed"),
    ];
    let mut tallies = [Tally::default(); 3];
    let mut requests = 0;
    if smith::program().is_some() {
        requests = hunt.smith(time.as_secs() / 10 + 1, seed).await;
    }
    println!("sqlsmith: {requests} requests");
    for round in seed.. {
        for ((source, _), (tally, count)) in sources.iter().zip(tallies.iter_mut().zip(ROUND)) {
            if !matches!(source, Source::Regress(none) if none.is_empty()) {
                tally.add(&hunt.statements(source, round, count).await);
            }
        }
        println!("{:?}, seed {round}: {hunt}", begun.elapsed());
        if begun.elapsed() > time {
            break;
        }
    }
    for ((_, name), tally) in sources.iter().zip(&tallies) {
        println!("{name}: {tally}");
    }
    println!("sqlsmith: {requests} requests");
    println!("all: {hunt}");
    // A database that answers nothing shows nothing: a table may be closed for a mask that does not fit.
    let [grammar, ..] = tallies;
    assert!(grammar.rows * 100 > grammar.statements * 40, "{grammar}");
}

/// What every run of the tests asks the twins.
const TWINS: [u64; 3] = [1_000, 300, 300];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_asked_tells_one_masked_value_from_another() {
    let server = Server::shared();
    let databases = Twins::make(&server, "twin");
    let mut twins = Twins::new(&server, databases, WHOLE).await;
    let seed = set("INTERCEPTOR_CANARY_SEED").unwrap_or(1);
    let mut sources = vec![Source::Grammar, Source::Ways(mutate::ways())];
    let regress = mutate::regression();
    if !regress.is_empty() {
        sources.push(Source::Regress(regress));
    }
    let time = Duration::from_secs(set("INTERCEPTOR_CANARY_SECONDS").unwrap_or(0));
    let begun = Instant::now();
    for round in seed.. {
        for (source, count) in sources.iter().zip(TWINS) {
            twins.statements(source, round, count).await;
        }
        println!(
            "twins, seed {round}: {}, {} told apart",
            twins.tally,
            twins.found.len()
        );
        if begun.elapsed() >= time {
            break;
        }
    }
    assert!(twins.found.is_empty(), "{:#?}", twins.found);
}

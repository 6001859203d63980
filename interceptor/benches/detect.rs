//! What value detectors cost: bytes a second of one thread, over text of three sorts, beside the same kinds
//! as a set of regular expressions without check digits.
//!
//! Prints `SUBJECT CASE MB/S FINDS`, a line each; `cargo xtask bench detect` makes a table of them.
#![expect(clippy::print_stdout, reason = "what it is for")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use interceptor::masking::detect::{Action, Actions, Detectors, Kind, Scan};
use nix::time::{ClockId, clock_gettime};
use regex::bytes::{RegexSet, RegexSetBuilder};

/// How much text there is of each sort.
const SIZE: usize = 8 << 20;
/// How much is shown at once: what a session reads.
const PIECE: usize = 64 << 10;
/// How often each is measured; the best counts.
const TIMES: usize = 7;

/// The same kinds as a careless reader would write them.
const PATTERNS: &[&str] = &[
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"\beyJ[\w-]{8,}\.eyJ[\w-]+\.[\w-]*",
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    r"\bAIza[\w-]{35}\b",
    r"AccountKey=[A-Za-z0-9+/]{86}==",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"\bglpat-[\w-]{20,}\b",
    r"\bxox[abprs]-[\w-]{20,}\b",
    r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}\b",
    r"\bsk-(?:ant-|proj-)?[\w-]{40,}\b",
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bpypi-AgE[\w-]{50,}\b",
    r"\b(?:AC|SK)[0-9a-f]{32}\b",
    r"\bSG\.[\w-]{22}\.[\w-]{43}\b",
    r"\b(?:\d[ -]?){13,19}\b",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}\b",
    r"\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b",
    r"\b\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}\b",
    r"\b\d{3}\.?\d{3}\.?\d{3}-?\d{2}\b",
    r"\b\d{11}\b",
    r"\b\d{4}[ -]?\d{4}[ -]?\d{4}\b",
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\b[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b",
    r"\b[XYZ\d]\d{7}-?[A-Z]\b",
    r"\b[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b",
    r"\+\d[\d ().-]{7,16}\d\b",
    r"\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b",
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    r"\b(?:[0-9A-Fa-f]{1,4}:){2,7}[0-9A-Fa-f]{1,4}\b",
    r"\b[A-Za-z0-9+/_-]{20,200}\b",
];

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let count = u64::try_from(of.len()).unwrap_or(1);
        let index = usize::try_from(self.roll(count)).unwrap_or(0);
        of.get(index).copied().unwrap_or_default()
    }
}

const WORDS: &[&str] = &[
    "the",
    "request",
    "was",
    "answered",
    "by",
    "worker",
    "after",
    "a",
    "retry",
    "connection",
    "to",
    "warehouse",
    "and",
    "customer",
    "order",
    "shipment",
    "delayed",
    "because",
    "inventory",
    "is",
    "not",
    "available",
    "at",
    "this",
    "location",
    "please",
    "contact",
    "support",
    "for",
    "details",
];

/// Lines as a service writes them.
fn prose() -> String {
    let (mut dice, mut text) = (Dice(1), String::new());
    while text.len() < SIZE {
        let (hour, minute, second) = (dice.roll(24), dice.roll(60), dice.roll(60));
        let millis = dice.roll(1_000);
        let level = dice.one(&["INFO", "WARN", "DEBUG"]);
        let _written = write!(
            text,
            "2026-11-27T{hour:02}:{minute:02}:{second:02}.{millis:03}Z {level} orders.api: "
        );
        for _ in 0..8 + dice.roll(12) {
            text.push_str(dice.one(WORDS));
            text.push(' ');
        }
        let _written = writeln!(
            text,
            "took {} ms, status {}",
            dice.roll(500),
            200 + dice.roll(4)
        );
    }
    text
}

/// Rows as a dump has them: numbers, times, names, short texts.
fn rows() -> String {
    let (mut dice, mut text) = (Dice(2), String::new());
    let mut id = 100_000;
    while text.len() < SIZE {
        id += 1;
        let (day, cents) = (dice.roll(28) + 1, dice.roll(100));
        let _written = writeln!(
            text,
            "{id}\t{} {}\t2026-11-{day:02} 08:{:02}:{:02}.{:06}+00\t{}.{cents:02}\t{}\t{} {} {}\t{{\"sku\": \"{}-{}\", \"count\": {}}}\tt",
            dice.one(&["Ada", "Grace", "Edsger", "Barbara", "Donald"]),
            dice.one(&["Lovelace", "Hopper", "Dijkstra", "Liskov", "Knuth"]),
            dice.roll(60),
            dice.roll(60),
            dice.roll(1_000_000),
            dice.roll(10_000),
            dice.one(&["shipped", "open", "cancelled"]),
            dice.one(WORDS),
            dice.one(WORDS),
            dice.one(WORDS),
            dice.one(&["BOX", "PALLET", "CRATE"]),
            dice.roll(10_000),
            dice.roll(50),
        );
    }
    text
}

/// Rows in which nearly every value is one that is looked for.
fn hits() -> String {
    let (mut dice, mut text) = (Dice(3), String::new());
    while text.len() < SIZE {
        let _written = writeln!(
            text,
            "{}.{}@example.org\t{}\t{}\t(415) 555-{:04}\t{:03}-{:02}-{:04}\t10.{}.{}.{}\t{}",
            dice.one(&["ada", "grace", "edsger"]),
            dice.roll(10_000),
            dice.one(&["4111 1111 1111 1111", "5555555555554444", "378282246310005"]),
            dice.one(&["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"]),
            dice.roll(10_000),
            dice.roll(600) + 1,
            dice.roll(99) + 1,
            dice.roll(9_999) + 1,
            dice.roll(256),
            dice.roll(256),
            dice.roll(256),
            dice.one(&[
                "529.982.247-25",
                "44051401359",
                "12345678Z",
                "AKIAIOSFODNN7EXAMPLE"
            ]),
        );
    }
    text
}

/// The engine, as a session uses it: what is undecided is shown again.
fn detect(with: &Detectors, text: &[u8]) -> usize {
    let (mut scan, mut found, mut decided) = (Scan::default(), 0, 0);
    for end in (PIECE..text.len()).step_by(PIECE).chain([text.len()]) {
        let shown = text.get(decided..end).unwrap_or_default();
        let last = end == text.len();
        decided += scan.step(with, shown, last, |piece| {
            found += usize::from(piece.begins)
        });
    }
    found
}

/// Values one by one, as a row's columns come.
fn detect_values(with: &Detectors, values: &[&[u8]]) -> usize {
    let mut found = 0;
    for value in values {
        with.find(value, |piece| found += usize::from(piece.begins));
    }
    found
}

fn match_set(set: &RegexSet, text: &[u8]) -> usize {
    let lines = text.split(|byte| *byte == b'\n');
    lines.map(|line| set.matches(line).iter().count()).sum()
}

fn measure(subject: &str, case: &str, text: &str, run: impl Fn() -> usize) {
    let (mut best, mut found) = (f64::MAX, 0);
    for _ in 0..TIMES {
        let since = spent();
        found = black_box(run());
        best = best.min(spent() - since);
    }
    let size = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    println!("{subject} {case} {:.0} {found}", size / best / 1e6);
}

/// Seconds of a processor that this thread has had: others on the machine do not count.
fn spent() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

fn main() {
    let actions: Actions = Kind::ALL
        .iter()
        .map(|kind| (*kind, Action::Report))
        .collect();
    let set = RegexSetBuilder::new(PATTERNS)
        .unicode(false)
        .size_limit(64 << 20)
        .build();
    let (Some(with), Ok(set)) = (Detectors::new(&actions), set) else {
        println!("no detectors, or no set");
        return;
    };
    for (case, text) in [("prose", prose()), ("rows", rows()), ("hits", hits())] {
        let bytes = text.as_bytes();
        let values: Vec<&[u8]> = bytes.split(|byte| matches!(byte, b'\t' | b'\n')).collect();
        measure("stream", case, &text, || detect(&with, bytes));
        measure("values", case, &text, || detect_values(&with, &values));
        let front = text.get(..SIZE / 8).unwrap_or_default();
        measure("regex-set", case, front, || {
            match_set(&set, front.as_bytes())
        });
    }
}

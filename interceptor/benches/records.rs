//! What records cost to look into: a place in a long recording of a terminal, and words among a million requests.
//!
//! Prints `SUBJECT CASE VALUE UNIT`, a line each; `cargo xtask bench records` makes a table of them. With
//! `INTERCEPTOR_BENCH_PART=N` the recording and the log have an Nth of that: to see that it runs.
#![expect(clippy::print_stdout, reason = "what it is for")]

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use interceptor::audit::{self, Signer};
use interceptor::clock::{self, BootTime};
use interceptor::config::Keep;
use interceptor::recording::{Reader, Recorder, Settings, Subject, Terminal, find};
use interceptor::search::{Index, Query};
use uuid::Uuid;

/// Bytes that a terminal showed.
const SHOWN: u64 = 1 << 30;
/// Bytes that it shows at once.
const PIECE: usize = 16 << 10;
/// Requests in the log.
const REQUESTS: u64 = 1_000_000;
/// How often each is done; the median counts, and the longest is told.
const TIMES: usize = 21;

fn main() -> Result<()> {
    let part = env::var("INTERCEPTOR_BENCH_PART").ok();
    let part = part.map_or(Ok(1), |part| part.parse::<u64>());
    let part = part.context("INTERCEPTOR_BENCH_PART is a number")?.max(1);
    let directory = tempfile::tempdir().context("make a directory")?;
    seek(&directory.path().join("recorded"), SHOWN / part)?;
    search(&directory.path().join("logged"), REQUESTS / part)
}

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next().checked_rem(most).unwrap_or_default()
    }
}

fn told(subject: &str, case: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let median = milliseconds(times.get(times.len() / 2));
    println!("{subject} {case} {median:.2} ms");
    println!(
        "{subject} {case},longest {:.2} ms",
        milliseconds(times.last())
    );
}

/// What a log of lines looks like, piece by piece.
fn text(numbers: &mut Numbers) -> Bytes {
    let mut text = String::with_capacity(PIECE + 100);
    while text.len() < PIECE {
        let (at, of, word) = (numbers.next(), numbers.below(5000), numbers.below(400));
        text.push_str(&format!(
            "\u{1b}[32mINFO\u{1b}[0m {at:016x} request {of} of service-{word} done\r\n"
        ));
    }
    text.into()
}

/// Records a terminal, then goes to places in it.
fn seek(state: &Path, shown: u64) -> Result<()> {
    fs::create_dir_all(state)?;
    let signer = Signer::open(state)?;
    let log = audit::Log::open(&state.join("audit"), signer, &audit::Settings::default())?;
    let settings = Settings {
        segment_bytes: 16 << 20,
        session_bytes: None,
        recipients: Vec::new(),
        keep: Keep::default(),
    };
    let root = state.join("recordings");
    let recorder = Recorder::open(&root, &settings, Arc::new(log))?;
    let session = Uuid::now_v7();
    let writer = recorder.begin(&Subject {
        session,
        connection: Uuid::nil(),
        protocol: "ssh",
        target: "web",
        database: None,
        principal: None,
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    let begun = clock::boot();
    let mut numbers = Numbers(88_172_645_463_325_252);
    runtime.block_on(async {
        let opened = Terminal::Opened {
            columns: 120,
            rows: 40,
            term: "xterm".to_owned(),
            command: String::new(),
        };
        writer.terminal(0, &opened).await?;
        let mut written = 0;
        while written < shown {
            let piece = text(&mut numbers);
            written += u64::try_from(piece.len())?;
            writer.terminal(0, &Terminal::Shown(piece)).await?;
        }
        writer.close("client").await?;
        anyhow::Ok(())
    })?;
    let took = clock::boot().since(begun);
    let mebibytes = u32::try_from(shown >> 20)?;
    println!(
        "recording written {:.1} MiB/s",
        f64::from(mebibytes) / took.as_secs_f64()
    );
    let dir = find(&root, &session.to_string())?;
    let length = u64::try_from(took.as_nanos())?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begun = clock::boot();
        let mut reader = Reader::open(&dir)?;
        let at = BootTime(reader.meta().started_boot_ns.0 + numbers.below(length * 9 / 10));
        reader.seek(at)?;
        let frame = reader.next().context("nothing is there")??;
        times.push(clock::boot().since(begun));
        ensure!(frame.at >= at, "another place");
    }
    told("seek", &format!("{mebibytes}MiB"), times);
    Ok(())
}

/// Writes a log, makes its index, and looks for words.
fn search(state: &Path, requests: u64) -> Result<()> {
    let dir = state.join("audit");
    fs::create_dir_all(&dir)?;
    let mut numbers = Numbers(2_463_534_242);
    let mut out = BufWriter::new(File::create(dir.join("audit-000000000001.jsonl"))?);
    for seq in 1..=requests {
        let (session, table, value) = (numbers.below(20_000), numbers.below(400), numbers.next());
        let (agent, target) = (numbers.below(50), numbers.below(20));
        let second = seq / 20;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        writeln!(
            out,
            r#"{{"v":1,"seq":{seq},"time":"2026-11-27T{hour:02}:{minute:02}:{second:02}.000000Z","event":"request.permitted","session":"00000000-0000-7000-8000-{session:012}","principal":{{"agent":"agent{agent}","process":{{"executable":{{"path":"/usr/bin/psql"}},"argv":["psql","-h","db"]}}}},"target":"target{target}","statement":"SELECT name, value{value:x} FROM table_{table} WHERE id = $1 ORDER BY created","asks":[{{"accesses":[{{"resource":{{"table":{{"schema":"public","table":"table_{table}"}}}}}}]}}]}}"#
        )?;
    }
    out.into_inner().context("write the log")?.sync_all()?;
    let mut index = Index::open(&state.join("search.db"))?;
    let begun = clock::boot();
    let read = index.catch_up(&dir)?;
    let rate = f64::from(u32::try_from(read)?) / clock::boot().since(begun).as_secs_f64();
    println!("index made {rate:.0} lines/s");
    // What few have, what many have, what all have, and what one agent has.
    let query = |words: &[&str], agent: Option<&str>| Query {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        agent: agent.map(str::to_owned),
        most: 50,
        ..Query::default()
    };
    for (case, query) in [
        ("few", query(&["table_7", "psql"], None)),
        ("prefix", query(&["table_1*"], None)),
        ("all", query(&["SELECT"], None)),
        ("agent", query(&["table_7"], Some("agent7"))),
    ] {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let begun = clock::boot();
            let hits = index.search(&query)?;
            times.push(clock::boot().since(begun));
            ensure!(!hits.is_empty(), "nothing was found: {case}");
        }
        told("search", &format!("{requests},{case}"), times);
    }
    Ok(())
}

//! What a statement costs before it goes upstream: read, masked and judged under a hundred rules, the first time
//! and again, when it differs from the one before in a literal.
//!
//! Prints `SUBJECT CASE VALUE UNIT`, a line each; `cargo xtask bench judge` makes a table of them.
#![expect(clippy::print_stdout, reason = "what it is for")]

#[path = "shared/principal.rs"]
mod principal;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use interceptor::masking::{Mask, Masks, Relation};
use interceptor::policy::{Generation, NoGrants, NotApproved, Policy, PrincipalFacts, Verdicts};
use interceptor::protocol::postgres::facts::Names;
use interceptor::protocol::postgres::mask::schema::{Column, Table};
use interceptor::protocol::postgres::mask::{Masking, Schema};
use interceptor::protocol::postgres::session::Alone;
use nix::time::{ClockId, clock_gettime};

use self::principal::principal;

/// How many rules there are, and how many tables.
const RULES: usize = 100;
const TABLES: u32 = 10;
/// How often a statement is read for the first time, and again.
const FIRST: usize = 300;
const AGAIN: u32 = 100_000;
/// How often the second is measured; the best counts.
const TIMES: usize = 5;

fn main() -> anyhow::Result<()> {
    let rules = tempfile::tempdir().context("make a directory for the rules")?;
    std::fs::write(rules.path().join("rules.cedar"), self::rules()).context("write the rules")?;
    let policy = Policy::load(rules.path(), Generation(1))
        .map_err(|mistakes| anyhow::anyhow!("load the rules: {mistakes}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("start a runtime")?;
    for masked in [true, false] {
        for (subject, text) in [
            ("pgbench", pgbench as fn(u32) -> String),
            ("ten-joins", joins),
        ] {
            runtime.block_on(measure(&policy, (subject, text), masked))?;
        }
    }
    Ok(())
}

/// What `pgbench -S` asks.
fn pgbench(number: u32) -> String {
    format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};")
}

fn joins(number: u32) -> String {
    let mut text = "SELECT t0.id, t0.name, t1.ssn, t9.name FROM t0".to_owned();
    for table in 1..TABLES {
        let _ok = write!(text, " JOIN t{table} ON t{table}.id = t{}.next", table - 1);
    }
    let _ok = write!(
        text,
        " WHERE t0.id = {number} AND t9.name <> 'x' ORDER BY t0.id"
    );
    text
}

/// A permit for all that is asked for, among others that are about something else.
fn rules() -> String {
    let mut text =
        "@id(\"read\")\npermit (principal, action in [Action::\"Connect\", Action::\"Open\", \
         Action::\"Select\"], resource in Target::\"crm\");\n"
            .to_owned();
    for number in 1..RULES {
        let _ok = writeln!(
            text,
            "@id(\"rule-{number}\")\npermit (principal is Agent, action == Action::\"Update\", \
             resource == Table::\"crm/app/public.table_{number}\") when {{ context.hasWhere }};"
        );
    }
    text
}

async fn measure(
    policy: &Policy,
    (subject, text): (&str, fn(u32) -> String),
    masked: bool,
) -> anyhow::Result<()> {
    let names = names(masked);
    let facts = PrincipalFacts::new(&principal(1)).context("tell who asks")?;
    let facts = Arc::new(facts);
    let verdicts = || {
        let verdicts = Verdicts::new(&facts, "crm", "app");
        verdicts.map_err(|refusal| anyhow::anyhow!("begin a session: {}", refusal.message))
    };
    let texts: Vec<Arc<str>> = (1..=1_000).map(|number| text(number).into()).collect();
    let one = texts.first().context("a text")?;
    let how = if masked { "masked" } else { "plain" };
    let mut took = Vec::new();
    for _ in 0..FIRST {
        let (mut judge, verdicts) = (Alone::new(names.clone()), verdicts()?);
        let since = spent();
        let reading = judge.first(black_box(one)).await;
        let permit = verdicts.authorize(policy, &reading.asks, &NoGrants, &NotApproved);
        took.push(spent() - since);
        anyhow::ensure!(permit.is_ok() && reading.veto.is_none(), "{one} is refused");
    }
    took.sort_by(f64::total_cmp);
    let median = took.get(FIRST / 2).copied().unwrap_or_default();
    show(subject, &format!("{how}-first"), median);
    let (mut judge, verdicts) = (Alone::new(names), verdicts()?);
    drop(judge.first(one).await);
    let mut best = f64::MAX;
    for _ in 0..TIMES {
        let since = spent();
        for text in texts.iter().cycle().take(usize::try_from(AGAIN)?) {
            let reading = judge
                .again(black_box(text))
                .context("it is not remembered")?;
            let permit = verdicts.authorize(policy, &reading.asks, &NoGrants, &NotApproved);
            anyhow::ensure!(black_box(permit).is_ok(), "{text} is refused");
        }
        best = best.min((spent() - since) / f64::from(AGAIN));
    }
    show(subject, &format!("{how}-again"), best);
    Ok(())
}

fn names(masked: bool) -> Names {
    let column = |number, name: &str, type_oid, type_name: &str| Column {
        number,
        name: name.to_owned(),
        type_oid,
        type_name: type_name.to_owned(),
        ..Column::default()
    };
    let table = |oid, name: String, columns| Table {
        oid,
        schema: "public".to_owned(),
        name,
        kind: b'r',
        columns,
        ..Table::default()
    };
    let mut schema = Schema::default();
    let accounts = vec![
        column(1, "aid", 23, "pg_catalog.int4"),
        column(2, "bid", 23, "pg_catalog.int4"),
        column(3, "abalance", 23, "pg_catalog.int4"),
        column(4, "filler", 25, "pg_catalog.text"),
    ];
    schema.add(table(20_000, "pgbench_accounts".to_owned(), accounts));
    let mut masks = Masks::default();
    let mut mask = |name: &str, column: &str| {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert(column.to_owned(), Mask::Last4);
    };
    mask("pgbench_accounts", "filler");
    for number in 0..TABLES {
        let columns = vec![
            column(1, "id", 23, "pg_catalog.int4"),
            column(2, "next", 23, "pg_catalog.int4"),
            column(3, "name", 25, "pg_catalog.text"),
            column(4, "ssn", 25, "pg_catalog.text"),
        ];
        let name = format!("t{number}");
        mask(&name, "ssn");
        schema.add(table(20_001 + number, name, columns));
    }
    let catalog: Arc<HashSet<String>> = Arc::new(HashSet::from(["pg_class".to_owned()]));
    let masking = Masking::new(Some(Arc::new(schema)), masks.into(), Arc::clone(&catalog));
    Names {
        search_path: Some(vec!["public".to_owned()]),
        utf8: true,
        catalog,
        masking: masked.then(|| Arc::new(masking)),
        ..Names::default()
    }
}

/// Seconds of a processor that this thread has had: others on the machine do not count.
fn spent() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

fn show(subject: &str, case: &str, seconds: f64) {
    println!("{subject} {case} {:.3} µs", seconds * 1e6);
}

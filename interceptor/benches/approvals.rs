//! What a thousand requests cost that wait for people at once: memory, and how soon each goes on.
//!
//! Prints `SUBJECT CASE VALUE UNIT`, a line each; `cargo xtask bench approvals` makes a table of them.
#![expect(clippy::print_stdout, reason = "what it is for")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use interceptor::approvals::{Answer, Approvals, Choice, Found, Outcome, Person, Question};
use interceptor::clock::{self, BootTime};
use interceptor::grants::Holder;
use interceptor::identity::{Cgroup, Executable, Principal, Process, User};
use interceptor::policy::{ApprovalId, Need, RuleId};
use tokio::task::JoinSet;

/// Requests that wait, and how many of each scope: no scope may have more.
const WAITING: u64 = 1_000;
const EACH: u64 = 16;

/// Who asks: with as many ancestors and arguments as an agent in a shell has.
fn principal(scope: u64) -> Principal {
    let process = |pid: u32| Process {
        pid,
        started: BootTime(u64::from(pid)),
        executable: Executable {
            path: PathBuf::from("/usr/lib/postgresql/15/bin/psql"),
            sha256: "0".repeat(64),
        },
        argv: ["psql", "-X", "-d", "host=127.0.0.1 dbname=shop"]
            .map(str::to_owned)
            .to_vec(),
        uid: 1_000,
    };
    Principal {
        identity: None,
        // Of one fewer questions are taken.
        agent: format!("agent-{scope}"),
        user: User {
            uid: 1_000,
            gid: 1_000,
            name: None,
        },
        process: process(4),
        ancestors: (1..4).rev().map(process).collect(),
        cgroup: Cgroup {
            id: scope,
            path: format!("/agents.slice/run-{scope}"),
            scope: format!("/agents.slice/run-{scope}"),
        },
        container: None,
        workload: None,
        privileged: false,
    }
}

fn question(number: u64) -> anyhow::Result<Question> {
    let scope = number / EACH;
    let principal = principal(scope);
    let needs = vec![BTreeSet::from([Need {
        rule: RuleId("deletes".to_owned()),
        groups: BTreeSet::from(["dba".to_owned()]),
        count: 1,
        later: None,
        second_factor: false,
        shape: None,
    }])];
    let asked = Question::of(&principal, Holder::of(&principal, scope), needs)?;
    Ok(Question {
        target: "shop".to_owned(),
        database: "shop".to_owned(),
        summary: "DELETE".to_owned(),
        fingerprint: "delete".to_owned(),
        text: format!("delete from orders where customer = 'somebody' and id = {number}"),
        ..asked
    })
}

/// KiB of memory that this process has.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse()?)
}

fn show(subject: &str, case: &str, value: f64, unit: &str) {
    println!("{subject} {case} {value:.3} {unit}");
}

/// Asks one, and waits for it in a task of its own.
async fn hold(
    approvals: &Arc<Approvals>,
    tasks: &mut JoinSet<Outcome>,
    number: u64,
) -> anyhow::Result<ApprovalId> {
    let (question, waits) = (question(number)?, Arc::clone(approvals));
    let id = question.id;
    tasks.spawn(async move {
        match waits.ask(question, clock::boot(), |_| Ok(())).await {
            Ok((_, Some(mut ticket))) => ticket.answered().await,
            _ => Outcome::Over(None),
        }
    });
    while approvals.get(id).is_none() {
        tokio::task::yield_now().await;
    }
    Ok(id)
}

/// Asks all of it again: what is open, or was answered, is found among all of them.
async fn find(approvals: &Approvals, case: &str, is_it: fn(&Found) -> bool) -> anyhow::Result<()> {
    let again: Vec<_> = (0..WAITING).map(question).collect::<Result<_, _>>()?;
    let count = f64::from(u32::try_from(again.len())?);
    let since = clock::boot();
    for question in again {
        let (found, _ticket) = approvals.ask(question, clock::boot(), |_| Ok(())).await?;
        ensure!(is_it(&found), "{case}: {found:?}");
    }
    let micros = clock::boot().since(since).as_secs_f64() * 1e6;
    show("find", case, micros / count, "µs");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let approvals = Arc::new(Approvals::open(&directory.path().join("approvals.db"))?);
    let mut tasks = JoinSet::new();
    // What the first one needs is not the others'.
    let mut ids = vec![hold(&approvals, &mut tasks, 0).await?];
    let before = resident()?;
    for number in 1..WAITING {
        ids.push(hold(&approvals, &mut tasks, number).await?);
    }
    let count = f64::from(u32::try_from(approvals.open_now())?);
    show("hold", "waiting", count, "requests");
    show("hold", "resident", resident()? / 1_024.0, "MiB");
    show(
        "hold",
        "each",
        (resident()? - before) / (count - 1.0),
        "KiB",
    );
    let is_open = |found: &Found| matches!(found, Found::Open { new: false, .. });
    find(&approvals, "open_of_1000", is_open).await?;
    let since = clock::boot();
    for id in ids {
        let answer = Answer {
            by: Person {
                uid: Some(1),
                login: None,
                name: Some("dba".to_owned()),
                groups: vec!["dba".to_owned()],
                known_as: Default::default(),
            },
            yes: true,
            at: clock::wall(),
            reason: None,
            break_glass: false,
            in_place: None,
            factor: None,
        };
        let answered = approvals.answer(id, answer, Choice::default(), clock::boot());
        answered.await?;
    }
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome?;
        ensure!(matches!(outcome, Outcome::Approved(_)), "{outcome:?}");
    }
    let millis = clock::boot().since(since).as_secs_f64() * 1e3;
    show("answer", "each", millis / count, "ms");
    let is_approved = |found: &Found| matches!(found, Found::Approved(_));
    find(&approvals, "approved_of_1000", is_approved).await?;
    Ok(())
}

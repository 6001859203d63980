//! What grants cost with ten thousand of them alive: looking one up for a request, taking what is not
//! counted, and taking what is, which is on disk before it is given.
//!
//! Prints `SUBJECT CASE VALUE UNIT`, a line each; `cargo xtask bench grants` makes a table of them.
#![expect(clippy::print_stdout, reason = "what it is for")]

#[path = "shared/principal.rs"]
mod principal;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use interceptor::clock::{self, BootTime};
use interceptor::grants::{Grant, Grants, Holder, Holding, Take};
use interceptor::policy::{
    Access, Action, Budget, Counted, GrantId, Held as _, Needs, Offer, Place, Resource, Terms, Want,
};
use nix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use self::principal::principal;

/// Scopes, and live grants of each.
const SCOPES: u64 = 100;
const EACH: u64 = 100;
/// Grants that are issued at once: the store takes so many into one transaction.
const AT_ONCE: usize = 500;
/// How often a lookup is done, and how often the whole is measured; the best counts.
const LOOKUPS: u32 = 200_000;
const TIMES: usize = 5;
/// How often something is kept, one after another and by many at once.
const KEPT: u32 = 500;
const CLIENTS: u32 = 64;

fn table(number: u64) -> Resource {
    Resource::Table {
        schema: "public".to_owned(),
        table: format!("table_{number}"),
    }
}

fn path(number: u64) -> Resource {
    Resource::Path {
        path: format!("/v1/customers/{number}"),
    }
}

fn grant(scope: u64, number: u64, budget: Budget) -> Grant {
    let (now, wall) = (clock::boot(), clock::wall());
    Grant {
        id: GrantId(Uuid::new_v4()),
        holder: Holder::of(&principal(scope), scope),
        target: "crm".to_owned(),
        database: Some("app".to_owned()),
        actions: BTreeSet::from([Action::Select, Action::CopyOut]),
        resource: table(number),
        issued: wall,
        begins: None,
        expires: wall,
        from: now,
        until: BootTime(now.0.saturating_add(3_600_000_000_000)),
        budget,
        reason: "a bench".to_owned(),
        ticket: None,
        word: Needs::new(),
        on_behalf_of: None,
    }
}

async fn issue(grants: &Arc<Grants>, all: Vec<Grant>) -> anyhow::Result<()> {
    let mut waiting = all.into_iter().peekable();
    while waiting.peek().is_some() {
        let mut tasks = tokio::task::JoinSet::new();
        for grant in waiting.by_ref().take(AT_ONCE) {
            let grants = Arc::clone(grants);
            tasks.spawn(async move {
                let reserved = grants.reserve(grant.holder.scope)?;
                let coming = grants.prepare(reserved, grant).await?;
                grants.issue(coming).await.map(drop)
            });
        }
        while let Some(issued) = tasks.join_next().await {
            issued??;
        }
    }
    Ok(())
}

/// Seconds of a processor that this thread has had: others on the machine do not count.
fn spent() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

fn show(subject: &str, case: &str, value: f64, unit: &str) {
    println!("{subject} {case} {value:.3} {unit}");
}

fn offers() -> [Offer; 1] {
    [Offer {
        terms: Terms {
            longest: Duration::from_secs(7_200),
            most: Budget::default(),
        },
        need: None,
        scope: true,
    }]
}

fn want<'a>(access: &'a Access, offers: &'a [Offer]) -> Want<'a> {
    Want {
        place: Place {
            target: "crm",
            database: "app",
        },
        access,
        offers,
        counted: Counted::InAnswer,
    }
}

/// A lookup of the grant for one table of the first scope.
fn lookup(grants: &Grants, case: &str, number: u64) {
    lookup_of(grants, case, 0, table(number));
}

/// A lookup of the grant for something in a scope.
fn lookup_of(grants: &Grants, case: &str, scope: u64, resource: Resource) {
    let principal = principal(scope);
    let holding = Holding::new(grants, &principal, scope);
    let access = Access {
        action: Action::Select,
        resource,
    };
    let offers = offers();
    let want = want(&access, &offers);
    let mut best = f64::MAX;
    for _ in 0..TIMES {
        let since = spent();
        for _ in 0..LOOKUPS {
            black_box(holding.cover(black_box(&want)));
        }
        best = best.min((spent() - since) / f64::from(LOOKUPS));
    }
    show("lookup", case, best * 1e6, "µs");
}

/// All that a request under a grant costs of which nothing is counted: finding it, taking it, letting go of it.
async fn check(grants: &Grants, number: u64) -> anyhow::Result<()> {
    let principal = principal(0);
    let holding = Holding::new(grants, &principal, 0);
    let access = Access {
        action: Action::Select,
        resource: table(number),
    };
    let offers = offers();
    let want = want(&access, &offers);
    let mut best = f64::MAX;
    for _ in 0..TIMES {
        let since = spent();
        for _ in 0..LOOKUPS {
            let found = holding.cover(black_box(&want)).context("no grant")?;
            for taken in grants.take(&[found.grant], Take::Answer(None)).await? {
                grants.settle(taken, 1, 1);
            }
        }
        best = best.min((spent() - since) / f64::from(LOOKUPS));
    }
    show("check", "uncounted", best * 1e6, "µs");
    Ok(())
}

/// Takes what is not counted, as a request does and lets go of it.
async fn take_free(grants: &Grants, id: GrantId) -> anyhow::Result<()> {
    let mut best = f64::MAX;
    for _ in 0..TIMES {
        let since = spent();
        for _ in 0..LOOKUPS {
            for taken in grants.take(&[id], Take::Answer(None)).await? {
                grants.settle(taken, 1, 1);
            }
        }
        best = best.min((spent() - since) / f64::from(LOOKUPS));
    }
    show("take", "uncounted", best * 1e6, "µs");
    Ok(())
}

/// Takes what is counted, one after another: how long each waits for the disk.
async fn take_counted(grants: &Grants, case: &str, id: GrantId) -> anyhow::Result<()> {
    let mut waits = Vec::new();
    for _ in 0..KEPT {
        let since = clock::boot();
        for taken in grants.take(&[id], Take::Answer(None)).await? {
            grants.settle(taken, 1, 1);
        }
        waits.push(clock::boot().since(since));
    }
    waits.sort();
    let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
    show("take", case, median.as_secs_f64() * 1e6, "µs");
    Ok(())
}

/// The same by many at once: how many a second.
async fn take_together(grants: &Arc<Grants>, id: GrantId) -> anyhow::Result<()> {
    let since = clock::boot();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let grants = Arc::clone(grants);
        tasks.spawn(async move {
            for _ in 0..KEPT {
                drop(grants.take(&[id], Take::Use).await?);
            }
            Ok::<_, interceptor::grants::Error>(())
        });
    }
    while let Some(taken) = tasks.join_next().await {
        taken??;
    }
    let seconds = clock::boot().since(since).as_secs_f64();
    show(
        "take",
        "counted_by_64",
        f64::from(CLIENTS * KEPT) / seconds,
        "1/s",
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let grants = Arc::new(Grants::open(&directory.path().join("grants.db"))?);
    let free = (0..SCOPES)
        .flat_map(|scope| (0..EACH).map(move |number| grant(scope, number, Budget::default())));
    issue(&grants, free.collect()).await?;
    show(
        "grants",
        "live",
        f64::from(u32::try_from(grants.count())?),
        "grants",
    );
    lookup(&grants, "first_of_100", 0);
    lookup(&grants, "last_of_100", EACH - 1);
    lookup(&grants, "none", EACH);
    check(&grants, EACH - 1).await?;
    // What lies in no part of a database is not passed over by that.
    let paths = (0..EACH).map(|number| Grant {
        resource: path(number),
        ..grant(SCOPES, number, Budget::default())
    });
    issue(&grants, paths.collect()).await?;
    lookup_of(&grants, "last_of_100_paths", SCOPES, path(EACH - 1));
    let first = grants.all(Some(0));
    let first = first.first().context("no grant")?.grant.id;
    take_free(&grants, first).await?;
    let counted = [
        Budget {
            uses: Some(1 << 40),
            ..Budget::default()
        },
        Budget {
            rows: Some(1 << 40),
            bytes: Some(1 << 50),
            uses: None,
        },
    ];
    let counted = counted.map(|budget| grant(1, 0, budget));
    let [uses, rows] = [0, 1].map(|at: usize| counted.get(at).map(|grant| grant.id));
    issue(&grants, counted.into()).await?;
    let (uses, rows) = (uses.context("no grant")?, rows.context("no grant")?);
    take_counted(&grants, "counted_uses", uses).await?;
    take_counted(&grants, "counted_rows", rows).await?;
    take_together(&grants, uses).await
}

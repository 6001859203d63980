//! Drivers, their pools and an ORM do a day's work under the packs as they are shipped.
//!
//! Each file of `drivers/` is one driver's day, a function for each thing that it does; those whose names
//! end in `_write` run only where the pack lets agents write.

use anyhow::{Context as _, Result};
use support::place;

use crate::lab::{Lab, has};

/// What they share, before each of them.
const COMMON: &str = include_str!("drivers/common.py");

/// Types, tables and names that make drivers ask the catalog.
const EXTRA: &str = include_str!("drivers/extra.sql");

fn a_day_of(name: &str, program: &str) -> Result<()> {
    for pack in ["starter", "read-write"] {
        let rules = place::pack(pack)?;
        let lab = Lab::with(|settings| settings.policies = rules)?;
        lab.server.admin(EXTRA)?;
        let program = format!("{COMMON}\n{program}\nrun(globals())\n");
        let output = lab
            .agent()
            .with("PACK", pack)
            .python(&lab.dsn(), &program)?
            .ok()
            .with_context(|| {
                let log = lab.daemon.log();
                let cancels = lab.daemon.audit().events("request.cancelled");
                format!("{name} under {pack}; the daemon: {log}{cancels:?}")
            })?;
        has(&output, &["done"])?;
    }
    Ok(())
}

#[test]
fn psycopg2_and_its_pool_do_a_days_work() -> Result<()> {
    a_day_of("psycopg2", include_str!("drivers/psycopg2.py"))
}

#[test]
fn psycopg3_and_psycopg_pool_do_a_days_work() -> Result<()> {
    a_day_of("psycopg3", include_str!("drivers/psycopg3.py"))
}

#[test]
fn asyncpg_and_its_pool_do_a_days_work() -> Result<()> {
    a_day_of("asyncpg", include_str!("drivers/asyncpg.py"))
}

#[test]
fn sqlalchemy_reflects_and_maps_over_each_driver() -> Result<()> {
    a_day_of("sqlalchemy", include_str!("drivers/sqlalchemy.py"))
}

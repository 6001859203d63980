//! `interceptor discover`: which columns of a target look sensitive and are not configured so, or which role
//! can do there what policy may ever permit and no more. Prints; changes nothing, anywhere.
//!
//! Logs in as the daemon does, with the target's own credential. Values are looked at and not kept: what is
//! printed of them is how many, never which.

mod grants;
mod look;
mod propose;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::{CONFIG, Daemon, block_on, print, reading, terminal, upstream};
use crate::config::{self, Config, Target};
use crate::masking::Masks;
use crate::policy::{Generation, Policy};
use crate::protocol::postgres::inject::survey::Survey;
use crate::protocol::postgres::mask::Schema;

/// `interceptor discover`.
#[derive(Debug, Args)]
pub struct Discover {
    /// The target's name.
    target: String,
    /// One of its databases; all of them by default.
    #[arg(long)]
    database: Option<String>,
    /// How many rows of a table to look at.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000), conflicts_with = "grants")]
    rows: u32,
    /// Print SQL for a role that can do what policy may ever permit, instead of looking at values.
    #[arg(long)]
    grants: bool,
    /// The name of that role.
    #[arg(long, requires = "grants")]
    role: Option<String>,
    /// The configuration file.
    #[arg(long, default_value = CONFIG)]
    config: PathBuf,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// A database that is looked into.
struct Database {
    name: String,
    survey: Survey,
    schema: Arc<Schema>,
    /// What is configured for it.
    masks: Masks,
}

impl Discover {
    /// Carries the command out.
    ///
    /// # Errors
    /// Where the configuration does not load, the target is not known or cannot be logged in to, or the audit
    /// cannot be told.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let config =
            config::load(&self.config).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        let target = upstream::named(&config, &self.target)?;
        upstream::postgres(target)?;
        let databases = upstream::databases(target, self.database.as_deref())?;
        let said = match self.grants {
            true => {
                let policy = Policy::load(&config.paths.policies, Generation(0))?;
                let grants = grants::Grants::new(target, self.role.as_deref(), policy.ever());
                block_on(self.grants(grants, target, &databases), false)?
            }
            false => {
                let daemon = Daemon {
                    socket: None,
                    config: Some(self.config.clone()),
                };
                let which = format!("{}: {}", target.name, databases.join(", "));
                reading::announce(&daemon, None, "samples", &which)?;
                block_on(self.columns(&config, target, &databases), false)?
            }
        };
        print(&said);
        Ok(ExitCode::SUCCESS)
    }

    async fn columns(
        &self,
        config: &Config,
        target: &Target,
        databases: &[&str],
    ) -> anyhow::Result<String> {
        let mut reports = Vec::new();
        for name in databases {
            let mut database = open(target, name).await?;
            let looked = look::at(&mut database.survey, &database.schema, self.rows);
            let looked = looked.await.with_context(|| place(target, name))?;
            reports.push(propose::report(target, &database, looked));
        }
        Ok(match self.json {
            true => json(&serde_json::to_string(&reports)?),
            false => text::fragment(config, target, &reports),
        })
    }

    async fn grants(
        &self,
        mut grants: grants::Grants<'_>,
        target: &Target,
        databases: &[&str],
    ) -> anyhow::Result<String> {
        for name in databases {
            let mut database = open(target, name).await?;
            let rights = database.survey.rights().await;
            let rights = rights.with_context(|| place(target, name))?;
            grants.add(&database, &rights);
        }
        Ok(match self.json {
            true => json(&serde_json::to_string(&grants.script())?),
            false => grants.script().to_string(),
        })
    }
}

fn json(text: &str) -> String {
    format!("{}\n", terminal::json(text))
}

fn place(target: &Target, database: &str) -> String {
    format!("target {}, database {database}", target.name)
}

async fn open(target: &Target, name: &str) -> anyhow::Result<Database> {
    let upstream = upstream::log_in(target, name, true).await;
    let upstream = upstream.with_context(|| {
        format!(
            "{}: cannot log in; `interceptor doctor` says more",
            place(target, name)
        )
    })?;
    let schema = upstream.known.as_ref().and_then(|known| known.current());
    let schema = schema.with_context(|| {
        format!(
            "{}: the catalog cannot be read, because something in it is being changed; try again",
            place(target, name)
        )
    })?;
    Ok(Database {
        name: name.to_owned(),
        survey: Survey::new(upstream),
        schema,
        masks: Masks::of_database(&target.sensitive, name),
    })
}

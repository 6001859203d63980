//! `interceptor request`, `grants` and `revoke`: access for a while, asked for, looked at, taken back.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use uuid::Uuid;

use super::bind::TokenIn;
use super::client;
use super::operate::{lines, show};
use super::{Daemon, complain, print, terminal};
use crate::control::api;
use crate::grants::{Grant, Holder, Standing};
use crate::policy::{self, Action, ApprovalId, Budget, GrantId, Resource};

/// How often a waiting request looks for the answer of people.
const AGAIN: Duration = Duration::from_secs(1);

/// `interceptor request`.
#[derive(Debug, Args)]
pub struct Request {
    /// The target.
    #[arg(long)]
    target: String,
    /// The database; without it, all that the target offers.
    #[arg(long)]
    database: Option<String>,
    /// What is to be done: Select, Insert, …, or Read and Write for their groups; as often as needed.
    #[arg(long = "action", required = true)]
    actions: Vec<String>,
    #[command(flatten)]
    on: On,
    /// For how long: 10m.
    #[arg(long = "for")]
    time: String,
    /// In how long it begins: 2h, at most a day; without it, at once.
    #[arg(long)]
    after: Option<String>,
    /// How many requests; without it, any number.
    #[arg(long)]
    uses: Option<u64>,
    /// How many rows their answers may have, and writes touch, together; without it, any number.
    #[arg(long)]
    rows: Option<u64>,
    /// How many bytes those rows may have: 4096, 64MiB; without it, any number.
    #[arg(long, value_parser = policy::size)]
    bytes: Option<u64>,
    /// What for.
    #[arg(long)]
    reason: String,
    /// The ticket that it belongs to.
    #[arg(long)]
    ticket: Option<String>,
    /// In whose name: a token that `interceptor exchange` gave, a file or ENV:NAME for a variable.
    #[arg(long, value_name = "FILE|ENV:NAME")]
    on_behalf_of: Option<TokenIn>,
    /// Wait for people, where it takes their approval.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// To what; without any of them, to the whole database, or to the target where none is named.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct On {
    /// A schema.
    #[arg(long)]
    schema: Option<String>,
    /// A table: public.orders.
    #[arg(long)]
    table: Option<String>,
    /// A column: public.customers.email.
    #[arg(long)]
    column: Option<String>,
    /// A function: public.report.
    #[arg(long)]
    function: Option<String>,
    /// A path of HTTP: /v1/customers.
    #[arg(long)]
    path: Option<String>,
    /// A file or a directory on a server: /etc/motd, ~/notes.
    #[arg(long)]
    file: Option<String>,
    /// Where a forward goes: db.internal:5432.
    #[arg(long, value_name = "HOST:PORT")]
    forward: Option<String>,
    /// A namespace of a cluster.
    #[arg(long)]
    namespace: Option<String>,
    /// Objects of a cluster: payments/pods/web-0, payments/pods for all of them; '""/nodes' where there is no namespace.
    #[arg(long, value_name = "NAMESPACE/KIND[/NAME]")]
    object: Option<String>,
}

impl Request {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut actions = BTreeSet::new();
        for word in &self.actions {
            actions.extend(named(word)?);
        }
        let behalf = self.on_behalf_of.as_ref();
        let behalf = behalf.map(TokenIn::read).transpose()?;
        let asked = api::Request {
            resource: self.on.resource(self.database.is_some())?,
            target: self.target,
            database: self.database,
            actions,
            time: self.time,
            after: self.after,
            uses: self.uses,
            rows: self.rows,
            bytes: self.bytes,
            reason: self.reason,
            ticket: self.ticket,
            passing: true,
            on_behalf_of: behalf,
        };
        let granted = granted(&self.daemon.agent()?, &asked, self.wait).await?;
        Ok(show(self.json, &granted, &line(&granted)))
    }
}

/// Asks, and asks again while people are asked the same question.
async fn granted(socket: &Path, asked: &api::Request, wait: bool) -> anyhow::Result<Standing> {
    let mut waits_for: Option<ApprovalId> = None;
    loop {
        let error = match client::post(socket, "/v1/grants", asked).await {
            Ok(granted) => return Ok(granted),
            Err(error) => error,
        };
        let told = error
            .downcast_ref()
            .and_then(|client::Told(told)| told.approval);
        let Some(approval) = told.filter(|_| wait) else {
            return Err(error);
        };
        match waits_for {
            Some(first) if first != approval => {
                bail!("nobody answered approval {} in time", first.0)
            }
            Some(_) => {}
            None => complain(&format!("waiting for approval {}\n", approval.0)),
        }
        waits_for = Some(approval);
        tokio::time::sleep(AGAIN).await;
    }
}

impl On {
    fn resource(self, database: bool) -> anyhow::Result<Resource> {
        let read = |kind: &str, text: &str| {
            Resource::named(kind, text).with_context(|| {
                format!("{text} is no {kind}; a name that holds a dot stands in double quotes")
            })
        };
        let Self {
            schema,
            table,
            column,
            function,
            path,
            file,
            forward,
            namespace,
            object,
        } = self;
        let named = [
            ("schema", schema),
            ("table", table),
            ("column", column),
            ("function", function),
            ("path", path),
            ("file", file),
            ("forward", forward),
            ("namespace", namespace),
            ("object", object),
        ];
        let mut named = named.into_iter();
        match named.find_map(|(kind, text)| Some((kind, text?))) {
            Some((kind, text)) => read(kind, &text),
            None if database => Ok(Resource::Database),
            None => Ok(Resource::Target),
        }
    }
}

/// An action, or a group of them, by its name in the schema.
fn named(word: &str) -> anyhow::Result<Vec<Action>> {
    let found: Vec<_> = Action::ALL
        .into_iter()
        .filter(|action| action.name() == word || action.group() == Some(word))
        .collect();
    if found.is_empty() {
        let names: Vec<_> = Action::ALL.into_iter().map(Action::name).collect();
        bail!(
            "{word} is no action; known are Read, Write, Admin, Session, {}",
            names.join(", ")
        );
    }
    Ok(found)
}

/// `interceptor grants`.
#[derive(Debug, Args)]
pub struct Grants {
    /// Those of the caller's own scope: what an agent may ask.
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON, one grant a line.
    #[arg(long)]
    json: bool,
}

impl Grants {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let socket = match self.own {
            true => self.daemon.agent()?,
            false => self.daemon.control()?,
        };
        let grants: Vec<Standing> = client::get(&socket, "/v1/grants").await?;
        let text = lines(self.json, &grants, line)?;
        if grants.is_empty() && !self.json {
            complain("nothing is granted\n");
        }
        print(&text);
        Ok(ExitCode::SUCCESS)
    }
}

/// `interceptor revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The grant, as `interceptor grants` names it.
    grant: Uuid,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked = api::Revoke {
            grant: GrantId(self.grant),
        };
        let revoked: Standing =
            client::post(&self.daemon.control()?, "/v1/grants/revoke", &asked).await?;
        let text = format!("revoked: {}", line(&revoked));
        Ok(show(self.json, &revoked, &text))
    }
}

/// One grant for people.
fn line(standing: &Standing) -> String {
    let grant = &standing.grant;
    let actions: Vec<_> = grant.actions.iter().map(|action| action.name()).collect();
    format!(
        "{}  {} {}  {} on {} of {}  {}until {}  {}  {}{}\n",
        grant.id.0,
        grant.holder.agent,
        whose(&grant.holder),
        actions.join(","),
        terminal::line(&grant.resource.shown()),
        match &grant.database {
            Some(database) => format!("{}/{database}", grant.target),
            None => grant.target.clone(),
        },
        grant
            .begins
            .map_or_else(String::new, |begins| format!("from {begins} ")),
        grant.expires,
        taken(standing),
        terminal::line(&grant.reason),
        behalf(grant)
    )
}

/// Which of the agent's processes have it.
fn whose(holder: &Holder) -> String {
    match &holder.root {
        Some(root) => format!("(process {} and what it starts)", root.pid),
        None => "(the whole scope)".to_owned(),
    }
}

/// In whose name it was asked for.
fn behalf(grant: &Grant) -> String {
    grant.on_behalf_of.as_ref().map_or_else(String::new, |of| {
        let name = of.user.as_ref().unwrap_or(&of.subject);
        let (name, issuer) = (terminal::line(name), terminal::line(&of.issuer));
        format!("  for {name} of {issuer}")
    })
}

/// What was taken of it, and of how much.
fn taken(standing: &Standing) -> String {
    let Budget { uses, rows, bytes } = standing.grant.budget;
    let part = |used: u64, most: Option<u64>, what: &str| match most {
        Some(most) => format!("{used} of {most} {what}"),
        None => format!("{used} {what}"),
    };
    let counted = [
        standing.used_rows.map(|used| part(used, rows, "rows")),
        standing.used_bytes.map(|used| part(used, bytes, "bytes")),
    ];
    std::iter::once(part(standing.used, uses, "uses"))
        .chain(counted.into_iter().flatten())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;

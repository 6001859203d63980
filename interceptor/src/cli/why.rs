//! `interceptor why`: which rules decide about a statement, for a given agent, and what it would be
//! told; or about requests that an audit log holds, and whether the daemon did the same.
//!
//! Judges with the policy files, by the same code as the daemon, and needs no daemon. Facts that are not
//! given are empty, so that a rule about them may decide otherwise in the daemon. Where the configuration
//! calls something sensitive, the target's catalog is read as well, which takes its credential.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use clap::Args;
use nix::unistd::{Uid, User};
use serde_json::json;

use super::policy::cases::Person;
use super::{VIOLATION, client, terminal};
use crate::clock::BootTime;
use crate::config::{self, Target};
use crate::control::api;
use crate::identity::{self, Identity, Principal};
use crate::policy::{
    Effect, ExplainedAccess, Explanation, Generation, Limits, NoGrants, Policy, PrincipalFacts,
};

mod masks;
pub(super) mod recorded;

/// Where policies are when nothing else says so.
const POLICIES: &str = "/etc/interceptor/policies";

/// Say which rule decides about a statement.
#[derive(Clone, Debug, Args)]
pub struct Why {
    /// Inside a scope: ask the daemon as the agent that this is.
    #[arg(long, conflicts_with_all = ["agent", "user", "executable", "recorded", "policies"])]
    own: bool,
    /// The agent's socket, for `--own`; by default the one of the daemon.
    #[arg(long, requires = "own")]
    socket: Option<PathBuf>,
    /// The agent's name.
    #[arg(long, required_unless_present_any = ["recorded", "own"])]
    agent: Option<String>,
    /// The user that the agent runs as: a name or a number. Default: the caller.
    #[arg(long)]
    user: Option<String>,
    /// The program that connects; its hash is taken where it can be read.
    #[arg(long)]
    executable: Option<PathBuf>,
    /// Whom the scope is bound to, as cases state it: "{ issuer: https://…, subject: alice, groups: [dba] }".
    #[arg(long, conflicts_with_all = ["own", "recorded"], value_parser = stated)]
    identity: Option<Stated>,
    /// The target.
    #[arg(long, required_unless_present = "recorded")]
    target: Option<String>,
    /// The database.
    #[arg(long, required_unless_present = "recorded")]
    database: Option<String>,
    /// The directory with the `*.cedar` files; by default the one that the configuration names.
    #[arg(long)]
    policies: Option<PathBuf>,
    /// The configuration, which names the policies and the target's search path.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Lines of the audit log instead of a statement; `-` for standard input.
    #[arg(long, conflicts_with = "statement")]
    recorded: Option<PathBuf>,
    /// Of the recorded lines only this request's.
    #[arg(long, requires = "recorded")]
    request: Option<uuid::Uuid>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// The statement.
    #[arg(required_unless_present = "recorded")]
    statement: Option<String>,
}

/// An identity as it is stated on the command line.
#[derive(Clone, Debug)]
struct Stated(Arc<Identity>);

fn stated(text: &str) -> Result<Stated, String> {
    let stated: Person = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(Stated(Arc::new(stated.into())))
}

/// What a statement is judged by.
struct Ground {
    policy: Policy,
    search_path: Vec<String>,
    /// As the configuration has it, where one is named.
    target: Option<Arc<Target>>,
}

impl Why {
    /// Carries the command out, on standard output.
    ///
    /// # Errors
    /// Where configuration or policy do not load, the user is not known, a line cannot be read, or
    /// the answer cannot be written.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        let code = self.write(&mut out)?;
        out.flush()?;
        Ok(ExitCode::from(code))
    }

    /// Carries the command out: 0 permitted, or done as the rules say; 1 otherwise.
    ///
    /// # Errors
    /// As [`Why::run`].
    pub fn write(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.own {
            return self.ask(out);
        }
        let ground = self.ground()?;
        let agreed = match &self.recorded {
            Some(log) => recorded::compare(&ground.policy, log, self.request, (self.json, out))?,
            None => self.explain(&ground, out)?,
        };
        Ok(if agreed { 0 } else { VIOLATION })
    }

    /// Asks the daemon, as the agent that this process is.
    fn ask(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let daemon = super::Daemon {
            socket: self.socket.clone(),
            config: self.config.clone(),
        };
        let asked = api::Why {
            target: self.target.clone().unwrap_or_default(),
            database: self.database.clone().unwrap_or_default(),
            statement: self.statement.clone().unwrap_or_default(),
        };
        let socket = daemon.agent()?;
        let answer = client::post(&socket, "/v1/why", &asked);
        let answer: serde_json::Value = super::block_on(answer, false)?;
        let permitted = answer.get("permitted").is_some_and(|word| word == true);
        if self.json {
            writeln!(out, "{}", terminal::json(&answer.to_string()))?;
        } else if permitted {
            let masked = answer.get("masked").and_then(serde_json::Value::as_array);
            for column in masked.into_iter().flatten() {
                let part = |name| column.get(name).and_then(serde_json::Value::as_str);
                let parts = ["schema", "relation", "column"].map(|name| part(name).unwrap_or("?"));
                let (name, by) = (parts.join("."), part("by").unwrap_or("?"));
                writeln!(out, "  mask    {} by {by}", terminal::line(&name))?;
            }
            writeln!(out, "permitted")?;
            let limits = answer.get("limits").cloned().unwrap_or_default();
            let limits: Limits = serde_json::from_value(limits).unwrap_or_default();
            for (limit, what) in limits.said() {
                writeln!(out, "limit: {} {what}, by {}", limit.most, limit.rule.0)?;
            }
        } else {
            let said = |pointer| answer.pointer(pointer).and_then(serde_json::Value::as_str);
            let message = said("/refusal/message").unwrap_or("none");
            let hint = said("/refusal/hint").unwrap_or("none");
            writeln!(out, "refused: {message}\nhint: {hint}")?;
        }
        Ok(if permitted { 0 } else { VIOLATION })
    }

    fn ground(&self) -> anyhow::Result<Ground> {
        let mut dir = PathBuf::from(POLICIES);
        let mut search_path = vec!["public".to_owned()];
        let mut named = None;
        if let Some(path) = &self.config {
            let config = config::load(path).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
            if let Some(name) = &self.target {
                let target = config.targets.get(name);
                let target = target.with_context(|| format!("target {name} is not configured"))?;
                if let Some(postgres) = target.postgres() {
                    search_path.clone_from(&postgres.search_path);
                }
                named = Some(Arc::clone(target));
            }
            dir = config.paths.policies;
        }
        let dir = self.policies.as_ref().unwrap_or(&dir);
        let policy = Policy::load(dir, Generation(0))?;
        Ok(Ground {
            policy,
            search_path,
            target: named,
        })
    }

    fn explain(&self, ground: &Ground, out: &mut dyn Write) -> anyhow::Result<bool> {
        let given = |value: &Option<String>, name: &str| {
            value
                .clone()
                .with_context(|| format!("{name} is not given"))
        };
        let principal = self.principal(given(&self.agent, "--agent")?)?;
        let facts = Arc::new(PrincipalFacts::new(&principal)?);
        let statement = given(&self.statement, "the statement")?;
        let target = given(&self.target, "--target")?;
        let database = given(&self.database, "--database")?;
        let masking = masks::answer(&masks::Question {
            policy: &ground.policy,
            principal: &facts,
            target: ground.target.as_deref(),
            database: &database,
            statement: &statement,
        });
        let asks = match &masking {
            masks::Answer::Whole(whole) => whole.asks.clone(),
            _ => super::policy::read_with(&statement, &ground.search_path),
        };
        let mut explanation = ground
            .policy
            .explain(&NoGrants, &facts, &target, &database, &asks);
        if let masks::Answer::Whole(whole) = &masking
            && explanation.permitted
            && let Some(refusal) = &whole.refusal
        {
            explanation.permitted = false;
            explanation.limits = None;
            explanation.refusal = Some(refusal.clone());
        }
        if self.json {
            let answer =
                json!({"principal": principal, "explanation": explanation, "masking": masking});
            writeln!(out, "{}", terminal::json(&answer.to_string()))?;
        } else {
            tell_accesses(&explanation, out)?;
            masking.tell(out)?;
            tell_verdict(&explanation, masking.is_unknown(), out)?;
        }
        Ok(explanation.permitted)
    }

    fn principal(&self, agent: String) -> anyhow::Result<Principal> {
        let user = account(self.user.as_deref())?;
        let executable = match &self.executable {
            None => identity::Executable {
                path: PathBuf::new(),
                sha256: String::new(),
            },
            Some(path) => identity::Executable {
                path: path.clone(),
                sha256: sha256(path).unwrap_or_default(),
            },
        };
        Ok(Principal {
            agent,
            process: identity::Process {
                pid: 0,
                started: BootTime(0),
                executable,
                argv: Vec::new(),
                uid: user.uid,
            },
            user,
            ancestors: Vec::new(),
            cgroup: identity::Cgroup {
                id: 0,
                path: String::new(),
                scope: String::new(),
            },
            container: None,
            workload: None,
            privileged: false,
            identity: self.identity.clone().map(|Stated(identity)| identity),
        })
    }
}

/// Says an explanation in lines.
fn tell(explanation: &Explanation, out: &mut dyn Write) -> anyhow::Result<()> {
    tell_accesses(explanation, out)?;
    tell_verdict(explanation, false, out)
}

fn tell_accesses(explanation: &Explanation, out: &mut dyn Write) -> anyhow::Result<()> {
    for (index, ask) in explanation.asks.iter().enumerate() {
        if explanation.asks.len() > 1 {
            writeln!(out, "statement {}", index.saturating_add(1))?;
        }
        for access in &ask.accesses {
            tell_access(access, out)?;
        }
    }
    Ok(())
}

/// `by_rules` alone: masking may refuse it all the same.
fn tell_verdict(
    explanation: &Explanation,
    by_rules: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match &explanation.refusal {
        None => {
            let by_rules = if by_rules { " by the rules" } else { "" };
            writeln!(out, "permitted{by_rules}")?;
            for (limit, what) in explanation.limits.iter().flat_map(|limits| limits.said()) {
                writeln!(out, "limit: {} {what}, by {}", limit.most, limit.rule.0)?;
            }
        }
        Some(refusal) => {
            writeln!(out, "refused: {}", refusal.message)?;
            if let Some(hint) = &refusal.hint {
                writeln!(out, "hint: {hint}")?;
            }
        }
    }
    Ok(())
}

fn tell_access(access: &ExplainedAccess, out: &mut dyn Write) -> anyhow::Result<()> {
    let verdict = if access.permitted { "permit" } else { "refuse" };
    writeln!(
        out,
        "  {verdict}  {} on {}",
        access.access.action.name(),
        access.id
    )?;
    if access.rules.is_empty() {
        writeln!(out, "          no rule permits it")?;
    }
    for rule in &access.rules {
        let effect = match rule.effect {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        };
        let file = rule.file.display();
        writeln!(
            out,
            "          {effect} {}  {file}:{}",
            rule.id.0, rule.line
        )?;
    }
    for error in &access.errors {
        writeln!(out, "          cannot be evaluated: {error}")?;
    }
    Ok(())
}

/// The user by name or number; the caller where none is given.
fn account(given: Option<&str>) -> anyhow::Result<identity::User> {
    let found = match given {
        None => User::from_uid(Uid::current())?,
        Some(given) => match given.parse::<u32>() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid))?,
            Err(_) => User::from_name(given)?,
        },
    };
    match (found, given.map(str::parse::<u32>)) {
        (Some(user), _) => Ok(identity::User {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            name: Some(user.name),
        }),
        // A number needs no entry in the host's list of users.
        (None, Some(Ok(uid))) => Ok(identity::User {
            uid,
            gid: uid,
            name: None,
        }),
        (None, Some(Err(_))) => bail!(
            "user {} is not known on this host: give its number",
            given.unwrap_or_default()
        ),
        (None, None) => bail!("this user has no name on this host: give --user"),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = Digesting(Digest::new(&SHA256));
    io::copy(&mut file, &mut digest)?;
    Ok(hex::encode(digest.0.finish()))
}

/// Takes the hash of what is written to it.
struct Digesting(Digest);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

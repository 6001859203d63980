//! `interceptor doctor`: what this host, this configuration and this daemon lack, and how to mend it.

mod authority;
mod capabilities;
mod host;
mod kernel;
mod masked;
mod prove;
mod upstream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::capabilities::Whose;
use super::{CONFIG, VIOLATION, block_on, client, counted, operate, print, terminal, told};
use crate::capture::Guard;
use crate::config::{self, Config};
use crate::control::api::{Distrusting, Status};
use crate::control::apply::files;
use crate::policy;

/// `interceptor doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The configuration file.
    #[arg(long, default_value = CONFIG)]
    config: PathBuf,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
    /// Try every way out of a scope, and write a signed report of what came of it. For root.
    #[arg(long)]
    prove: bool,
    /// The ordinary user to try it as; by default who called sudo, or nobody.
    #[arg(long, requires = "prove")]
    user: Option<String>,
    /// Where the report is written: boundary.json.
    #[arg(long, requires = "prove", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Say whether this host has signed a report, and what it says.
    #[arg(long, value_name = "FILE", conflicts_with = "prove")]
    verify: Option<PathBuf>,
    /// Whether another host has: with the `audit.pub` of its state directory. Needs nothing of that host.
    #[arg(long, value_name = "FILE", requires = "verify")]
    key: Option<PathBuf>,
    /// What `--prove` has run in a scope.
    #[arg(long, hide = true)]
    attempt: Option<String>,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    what: String,
    #[serde(flatten)]
    found: Found,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Found {
    /// As it should be.
    Good { is: String },
    /// It works, but somebody should know.
    Warning { is: String, mend: String },
    /// It does not work.
    Bad { is: String, mend: String },
}

impl Check {
    fn good(what: &str, is: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            found: Found::Good { is: is.into() },
        }
    }

    fn warning(what: &str, is: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            found: Found::Warning {
                is: is.into(),
                mend: mend.into(),
            },
        }
    }

    fn bad(what: &str, is: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            found: Found::Bad {
                is: is.into(),
                mend: mend.into(),
            },
        }
    }

    fn line(&self) -> String {
        // Servers' own words are in it: no line but the first begins with a result.
        let shown = |text: &str| terminal::block(text).replace('\n', "\n         ");
        let what = shown(&self.what);
        match &self.found {
            Found::Good { is } => format!("ok       {what}: {}\n", shown(is)),
            Found::Warning { is, mend } => {
                let (is, mend) = (shown(is), shown(mend));
                format!("warning  {what}: {is}\n         → {mend}\n")
            }
            Found::Bad { is, mend } => {
                let (is, mend) = (shown(is), shown(mend));
                format!("BAD      {what}: {is}\n         → {mend}\n")
            }
        }
    }
}

impl Doctor {
    /// Does what it is asked for.
    ///
    /// # Errors
    /// Where ways out cannot be tried, or a report is none.
    pub fn main(self) -> anyhow::Result<ExitCode> {
        if let Some(ends) = &self.attempt {
            return prove::attempt(ends);
        }
        if !self.prove && self.verify.is_none() {
            return block_on(self.run(), false);
        }
        if let Some(report) = &self.verify {
            return prove::verify(&self.config, self.key.as_deref(), report);
        }
        let config = config::load(&self.config)?;
        let report = self.report.clone().unwrap_or_else(prove::default_report);
        prove::prove(&config, self.user.as_deref(), &report)
    }

    /// Looks at everything; exit code 1 where something is bad.
    ///
    /// # Errors
    /// None of its own: what cannot be looked at is a finding.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut checks = host::checks();
        match files::load(&self.config) {
            Ok(config) => {
                checks.push(Check::good(
                    "configuration",
                    self.config.display().to_string(),
                ));
                checks.extend(of(&config).await);
            }
            Err(mistakes) => {
                let (is, policies) = (mistakes.to_string(), mistakes.policies);
                checks.push(Check::bad("configuration", is, self.mend()));
                checks.push(capabilities::check(Whose::Own, &status_of("self")));
                checks.extend(policies.map(|from| policies_in(&from).0));
            }
        }
        let bad = checks
            .iter()
            .any(|check| matches!(check.found, Found::Bad { .. }));
        if self.json {
            let checks = serde_json::to_string(&checks)?;
            print(&format!("{}\n", terminal::json(&checks)));
        } else {
            checks.iter().for_each(|check| print(&check.line()));
        }
        Ok(if bad {
            ExitCode::from(VIOLATION)
        } else {
            ExitCode::SUCCESS
        })
    }

    /// What to do about a configuration that cannot be used.
    fn mend(&self) -> String {
        if self.config.exists() {
            return "correct the file".to_owned();
        }
        format!(
            "write {}: the README has a short one to begin with (\"Trying it on a host\"), and \
             `interceptor config schema` prints every key",
            self.config.display()
        )
    }
}

async fn of(config: &Config) -> Vec<Check> {
    let (policies, ever) = policies_in(&config.paths.policies);
    let mut checks = vec![policies];
    checks.extend(host::of(config));
    checks.extend(authority::checks(config));
    checks.extend(daemon(&config.paths.run.join("control.sock")).await);
    checks.extend(upstream::checks(config, ever.as_ref()).await);
    checks
}

/// Whether they load, and what they ever permit.
fn policies_in(directory: &Path) -> (Check, Option<policy::Ever>) {
    match policy::Policy::load(directory, policy::Generation(1)) {
        Ok(policy) => {
            let check = Check::good("policy", directory.display().to_string());
            (check, Some(policy.ever()))
        }
        Err(mistakes) => {
            let mend = "correct the files; `interceptor policy check` shows the same";
            (Check::bad("policy", mistakes.to_string(), mend), None)
        }
    }
}

/// Whether it answers, and what it may do.
async fn daemon(socket: &Path) -> Vec<Check> {
    let pid = client::daemon(socket).await;
    let capabilities = match pid {
        Some(pid) => capabilities::check(Whose::Daemon, &status_of(&pid.to_string())),
        None => capabilities::check(Whose::Own, &status_of("self")),
    };
    let answered = client::get::<Status>(socket, "/v1/status").await;
    let mut checks = vec![capabilities];
    checks.extend(answers(answered.map_err(|error| told(&error))));
    checks
}

/// What the kernel says of a process; empty where it says nothing.
fn status_of(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default()
}

fn answers(answered: Result<Status, String>) -> Vec<Check> {
    match answered {
        Ok(status) => {
            let is = format!(
                "version {}, policy generation {}, {}, {}",
                status.version,
                status.generation,
                counted(status.scopes.len(), "scope", "scopes"),
                operate::guarded(&status)
            );
            let distrusting = status.distrusting.iter().map(distrusting);
            std::iter::once(Check::good("daemon", is))
                .chain(lesser(&status.guard, Guard::best()))
                .chain(distrusting)
                .collect()
        }
        Err(error) => vec![Check::bad(
            "daemon",
            error,
            "start it: `systemctl start interceptor`, or `interceptor daemon`",
        )],
    }
}

/// That less looks at UNIX sockets than this kernel has for it.
fn lesser(guard: &str, best: Guard) -> Option<Check> {
    let is = format!(
        "looked at by {guard:?}, though this kernel has {:?}",
        best.word()
    );
    let mend = "the daemon's log has the kernel's words for it (`does not take what looks at UNIX sockets`): a host \
                that keeps BPF out of its security module loses what README's table gives to an LSM";
    (guard != best.word()).then(|| Check::warning("UNIX sockets", is, mend))
}

/// A program that does not take this host's certificates.
fn distrusting(one: &Distrusting) -> Check {
    let Distrusting {
        executable,
        name,
        how,
        times,
        ..
    } = one;
    Check::warning(
        &format!("trust of {executable}"),
        format!(
            "it ended {} to {name} (target {}) at this host's certificate: {how}",
            counted(
                usize::try_from(*times).unwrap_or(usize::MAX),
                "connection",
                "connections"
            ),
            one.target
        ),
        "`sudo interceptor ca install` is read by most programs at their next start; one with a bundle of its own \
         has to be told of `ca.pem`, as by NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE or its own setting; one that trusts nobody else may pass undecrypted \
         where the target says `http.on_untrusted: passthrough`",
    )
}

#[cfg(test)]
mod tests;

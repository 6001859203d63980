//! `interceptor policy check|test`: what is wrong with a policy directory, and whether it decides as
//! its cases say. Needs no daemon and no root.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{FAILED, VIOLATION};
use crate::policy::{self, Generation, Mistake};

pub mod cases;
mod statement;

pub use statement::{read, read_with};

/// Check and test policies.
#[derive(Clone, Debug, Subcommand)]
pub enum Policy {
    /// Say every mistake and warning of a policy directory.
    Check {
        /// The directory with the `*.cedar` files.
        dir: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the `*.cases.yaml` files of a policy directory.
    Test {
        /// The directory with the `*.cedar` and `*.cases.yaml` files.
        dir: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Policy {
    /// Carries the command out, on standard output.
    ///
    /// # Errors
    /// Where the answer cannot be written.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout().lock();
        let code = self.write(&mut out)?;
        out.flush()?;
        Ok(ExitCode::from(code))
    }

    /// Carries the command out: 0 all is well, 1 it is not, 2 there is nothing to check or test.
    ///
    /// # Errors
    /// Where the answer cannot be written to `out`.
    pub fn write(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Check { dir, json } => check(dir, *json, out),
            Self::Test { dir, json } => test(dir, *json, out),
        }
    }
}

fn check(dir: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
    let loaded = policy::Policy::load(dir, Generation(0));
    let (rules, mistakes, warnings) = match &loaded {
        Ok(policy) => (policy.rules(), &[][..], policy.warnings()),
        Err(mistakes) => (Vec::new(), mistakes.0.as_slice(), &[][..]),
    };
    if json {
        let ok = mistakes.is_empty();
        let answer = json!({"ok": ok, "rules": rules, "mistakes": mistakes, "warnings": warnings});
        writeln!(out, "{answer}")?;
    } else {
        for warning in warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for mistake in mistakes {
            writeln!(out, "{mistake}")?;
        }
        match mistakes.len() {
            0 => writeln!(out, "{} rules, no mistakes", rules.len())?,
            count => writeln!(out, "{}: this directory does not load", said(count))?,
        }
    }
    Ok(match mistakes.is_empty() {
        true => 0,
        false if dir.is_dir() => VIOLATION,
        false => FAILED,
    })
}

fn said(mistakes: usize) -> String {
    let plural = if mistakes == 1 { "" } else { "s" };
    format!("{mistakes} mistake{plural}")
}

/// What a run of cases came to.
#[derive(Clone, Debug, Serialize)]
struct Tested<'a> {
    ok: bool,
    passed: usize,
    failed: usize,
    mistakes: &'a [Mistake],
    cases: &'a [cases::Outcome],
}

fn test(dir: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
    let policy = match policy::Policy::load(dir, Generation(0)) {
        Ok(policy) => policy,
        Err(mistakes) => return broken(&mistakes.0, json, out),
    };
    let cases = match cases::load(dir) {
        Ok(cases) => cases,
        Err(mistakes) => return broken(&mistakes.0, json, out),
    };
    let outcomes: Vec<_> = cases.iter().map(|case| case.run(&policy, &read)).collect();
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    if json {
        let tested = Tested {
            ok: failed == 0,
            passed: outcomes.len().saturating_sub(failed),
            failed,
            mistakes: &[],
            cases: &outcomes,
        };
        writeln!(out, "{}", serde_json::to_string(&tested)?)?;
    } else {
        for outcome in outcomes.iter().filter(|outcome| !outcome.ok) {
            writeln!(out, "{outcome}")?;
        }
        writeln!(out, "{} cases, {failed} failed", outcomes.len())?;
    }
    Ok(if failed == 0 { 0 } else { VIOLATION })
}

fn broken(mistakes: &[Mistake], json: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
    if json {
        let tested = Tested {
            ok: false,
            passed: 0,
            failed: 0,
            mistakes,
            cases: &[],
        };
        writeln!(out, "{}", serde_json::to_string(&tested)?)?;
    } else {
        for mistake in mistakes {
            writeln!(out, "{mistake}")?;
        }
        writeln!(out, "{}: nothing was tested", said(mistakes.len()))?;
    }
    Ok(FAILED)
}

#[cfg(test)]
mod tests;

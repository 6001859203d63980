//! Requests of an audit log, judged again: what decided, and whether the daemon did the same.
//!
//! Takes lines as `interceptor audit` prints them, so that who reads the log stays in the log. Lines
//! of other events are passed over; a request's line that cannot be read is an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::terminal;
use crate::clock::BootTime;
use crate::identity::Principal;
use crate::masking;
use crate::policy::{
    Ask, Covering, Explanation, GrantId, Held, Policy, PrincipalFacts, RuleId, Want,
};
use crate::protocol::ssh;

/// Refusals that rules decide; the others come from limits, secrets, storage and servers.
const BY_RULES: [&str; 4] = ["not_permitted", "needs_grant", "forbidden", "unreadable"];

/// Just enough of a line to tell whether it is a request's.
#[derive(Deserialize)]
struct Line {
    event: String,
    request: Option<Uuid>,
}

/// A request that was judged.
#[derive(Deserialize)]
struct Judged {
    principal: Principal,
    target: String,
    /// Targets without databases have none.
    #[serde(default)]
    database: String,
    summary: String,
    statement: Option<String>,
    #[serde(default)]
    fingerprint: String,
    asks: Vec<Ask>,
    #[serde(default)]
    rules: Vec<RuleId>,
    #[serde(default)]
    grants: Recorded,
    #[serde(default)]
    masked: Vec<Masked>,
    refusal: Option<Refused>,
}

impl Judged {
    /// Gives commands back what is written down only in the statement; whether that is all of it.
    fn recall(&mut self) -> bool {
        let text = self.statement.as_deref().unwrap_or_default();
        let mut is_whole = true;
        for ask in &mut self.asks {
            if let Some(facts) = &mut ask.context.ssh {
                is_whole &= ssh::recall(facts, text, &self.fingerprint);
            }
        }
        is_whole
    }
}

/// The grants that it stood on: what wanted one had one, or it would have been refused.
#[derive(Default, Deserialize)]
struct Recorded(Vec<GrantId>);

impl Held for Recorded {
    fn cover(&self, _want: &Want<'_>) -> Option<Covering> {
        let grant = *self.0.first()?;
        let until = BootTime(u64::MAX);
        Some(Covering { grant, until })
    }
}

/// A column that was masked, and by what.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::cli) struct Masked {
    schema: String,
    relation: String,
    column: String,
    by: String,
}

/// Why it was refused.
#[derive(Deserialize)]
struct Refused {
    kind: String,
    rules: Vec<RuleId>,
}

/// One request with both answers.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Compared {
    pub(in crate::cli) request: Uuid,
    pub(in crate::cli) summary: String,
    /// What the daemon did: `permitted`, or the kind of refusal.
    pub(in crate::cli) done: String,
    /// By which rules.
    pub(in crate::cli) rules: Vec<RuleId>,
    /// Which columns of what it touched were masked, by what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masked: Vec<Masked>,
    /// Whether these policies say the same, by the same rules; absent where rules did not decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) agrees: Option<bool>,
    /// Whether the log has not all of what rules may look at: a command whose arguments were not kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::cli) partly: bool,
    pub(in crate::cli) explanation: Explanation,
}

/// Judges the requests of `log` again and tells of each; whether all came out as they did then.
pub(super) fn compare(
    policy: &Policy,
    log: &Path,
    only: Option<Uuid>,
    (json, out): (bool, &mut dyn Write),
) -> anyhow::Result<bool> {
    let from: Box<dyn BufRead> = if log == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(log).with_context(|| format!("cannot open {}", log.display()))?;
        Box::new(BufReader::new(file))
    };
    let (mut told, mut agreed) = (0_usize, true);
    for (index, line) in from.lines().enumerate() {
        let place = || format!("{}:{}", log.display(), index.saturating_add(1));
        let line = line.with_context(place)?;
        let Some(compared) = compare_line(policy, &line, only).with_context(place)? else {
            continue;
        };
        told = told.saturating_add(1);
        agreed &= compared.agrees != Some(false);
        tell(&compared, json, out)?;
    }
    if let (Some(request), 0) = (only, told) {
        anyhow::bail!(
            "request {request} is not among the lines of {}",
            log.display()
        );
    }
    Ok(agreed)
}

pub(in crate::cli) fn compare_line(
    policy: &Policy,
    line: &str,
    only: Option<Uuid>,
) -> anyhow::Result<Option<Compared>> {
    let head: Line = serde_json::from_str(line).context("cannot read the line")?;
    let judged = matches!(head.event.as_str(), "request.permitted" | "request.refused");
    let Some(request) = head.request.filter(|_| judged) else {
        return Ok(None);
    };
    if only.is_some_and(|only| only != request) {
        return Ok(None);
    }
    let mut judged: Judged = serde_json::from_str(line).context("cannot read the request")?;
    let partly = !judged.recall();
    let facts = Arc::new(PrincipalFacts::new(&judged.principal)?);
    let explanation = policy.explain(
        &judged.grants,
        &facts,
        &judged.target,
        &judged.database,
        &judged.asks,
    );
    let (done, rules) = match judged.refusal {
        None => ("permitted".to_owned(), judged.rules),
        Some(refusal) => (refusal.kind, refusal.rules),
    };
    let by_masking = rules.iter().any(|rule| rule.0.starts_with(masking::RULE));
    let by_rules = done == "permitted" || BY_RULES.contains(&done.as_str()) && !by_masking;
    let agrees = by_rules.then(|| agree(&explanation, &done, &rules));
    Ok(Some(Compared {
        request,
        summary: judged.summary,
        done,
        rules,
        masked: judged.masked,
        agrees,
        partly,
        explanation,
    }))
}

/// Whether an explanation says what was done, by the same rules.
fn agree(explanation: &Explanation, done: &str, rules: &[RuleId]) -> bool {
    let same = match &explanation.refusal {
        None => {
            let accesses = explanation.asks.iter().flat_map(|ask| &ask.accesses);
            let decided = accesses.flat_map(|access| &access.rules);
            let mut decided: Vec<_> = decided.map(|rule| &rule.id).collect();
            decided.sort();
            decided.dedup();
            decided.into_iter().eq(rules)
        }
        Some(refusal) => refusal.rules == rules,
    };
    same && explanation.permitted == (done == "permitted")
}

fn tell(compared: &Compared, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(compared)?)?;
        return Ok(());
    }
    let rules: Vec<_> = compared.rules.iter().map(|rule| rule.0.as_str()).collect();
    let by = if rules.is_empty() {
        String::new()
    } else {
        format!(" by {}", rules.join(", "))
    };
    let Compared {
        request,
        summary,
        done,
        ..
    } = compared;
    writeln!(out, "{request} {summary}: {done}{by}")?;
    for Masked {
        schema,
        relation,
        column,
        by,
    } in &compared.masked
    {
        let name = format!("{schema}.{relation}.{column}");
        writeln!(out, "  mask    {} by {by}", terminal::line(&name))?;
    }
    super::tell(&compared.explanation, out)?;
    if compared.partly {
        writeln!(
            out,
            "judged without the command's arguments, which the log does not have: `statement: full` keeps them"
        )?;
    }
    if compared.agrees == Some(false) {
        writeln!(out, "these policies decide otherwise than the daemon did")?;
    }
    Ok(())
}

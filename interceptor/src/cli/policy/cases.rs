//! Cases of a policy directory: who asks what where, and what must come of it.
//!
//! Written beside the rules, as `*.cases.yaml`, and read strictly: a misspelt key would otherwise be a
//! case that tests something else. A statement is turned into asks by whoever runs the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::clock::BootTime;
use crate::identity::{self, Identity, LoggedIn, Principal, Workload};
use crate::policy::{
    Ask, ControlCaller, ControlObject, ControlVerb, Group, HostUser, Mistake, Mistakes, Policy,
    PrincipalFacts, Question, Refusal, RefusalKind, RuleId, is_plain,
};

/// Most bytes of one file of cases.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Turns a statement into what it asks for.
pub type Reader<'a> = &'a dyn Fn(&str) -> anyhow::Result<Vec<Ask>>;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    database: Option<String>,
    cases: Vec<Spanned<Written>>,
}

/// One case as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    user: User,
    #[serde(default)]
    executable: Option<Executable>,
    #[serde(default)]
    ancestors: Vec<Executable>,
    #[serde(default)]
    cgroup: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    workload: Option<Workload>,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    identity: Option<Person>,
    /// The issuer by which the caller of a verb has logged in as `identity`: no user of the host.
    #[serde(default)]
    login: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    statement: Option<String>,
    #[serde(default)]
    asks: Option<Vec<Ask>>,
    #[serde(default)]
    verb: Option<String>,
    #[serde(default)]
    resolve: Option<Asked>,
    expect: Expect,
    #[serde(default)]
    rule: Option<String>,
}

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// It goes upstream.
    Permit,
    /// It does not, whatever for.
    Refuse,
    /// It does not, unless people say yes.
    Approve,
    /// It does not without a grant.
    Grant,
}

impl Expect {
    /// Whether a refusal of this kind is what was expected.
    fn is(self, kind: RefusalKind) -> bool {
        match self {
            Self::Permit => false,
            Self::Refuse => true,
            Self::Approve => kind == RefusalKind::NeedsApproval,
            Self::Grant => kind == RefusalKind::NeedsGrant,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Refuse => "refuse",
            Self::Approve => "approve",
            Self::Grant => "grant",
        }
    }
}

/// The user of a case: of the process, or of the caller of a verb.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct User {
    uid: u32,
    gid: u32,
    name: Option<String>,
    groups: Vec<NamedGroup>,
}

impl Default for User {
    fn default() -> Self {
        Self {
            uid: 1000,
            gid: 1000,
            name: None,
            groups: Vec::new(),
        }
    }
}

/// A question to a resolver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The name, as rules write it.
    qname: String,
    /// The type of the records.
    #[serde(default = "address")]
    qtype: String,
    /// Whether the configuration names it.
    #[serde(default)]
    known: bool,
}

fn address() -> String {
    "A".to_owned()
}

/// Whom a scope is bound to, as a case or a question states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    issuer: String,
    subject: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    acr: Option<String>,
    #[serde(default)]
    amr: BTreeSet<String>,
    #[serde(default)]
    claims: BTreeMap<String, String>,
    #[serde(default)]
    expires: Option<Timestamp>,
}

impl From<Person> for Identity {
    fn from(stated: Person) -> Self {
        Self {
            issuer: stated.issuer,
            subject: stated.subject,
            user: stated.user,
            groups: stated.groups,
            acr: stated.acr,
            amr: stated.amr,
            claims: stated.claims,
            expires: stated.expires.unwrap_or(Timestamp::MAX),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedGroup {
    gid: u32,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Executable {
    path: PathBuf,
    #[serde(default)]
    sha256: String,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    file: PathBuf,
    line: u32,
    written: Written,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Statement(Place, String),
    Asks(Place, Vec<Ask>),
    Verb(ControlVerb),
    Resolve(Asked),
}

#[derive(Clone, Debug)]
struct Place {
    target: String,
    database: String,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The file that it stands in.
    pub file: PathBuf,
    /// Its line.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// Whether it came out as expected.
    pub ok: bool,
    /// What was expected.
    pub expect: Expect,
    /// The rules that decided.
    pub rules: Vec<RuleId>,
    /// What was said where it was refused, or why it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok" } else { "FAILED" };
        let expect = self.expect.word();
        write!(
            f,
            "{}:{}: {verdict}: {}: expected {expect}",
            self.file.display(),
            self.line,
            self.name
        )?;
        let rules: Vec<_> = self.rules.iter().map(|rule| rule.0.as_str()).collect();
        if !rules.is_empty() {
            write!(f, "; decided by {}", rules.join(", "))?;
        }
        match &self.message {
            Some(message) => write!(f, "; {message}"),
            None => Ok(()),
        }
    }
}

/// Reads every `*.cases.yaml` file of `dir`, by name.
///
/// # Errors
/// Every file that cannot be read or understood, and every case that is not whole.
pub fn load(dir: &Path) -> Result<Vec<Case>, Mistakes> {
    let mut mistakes = Vec::new();
    let mut cases = Vec::new();
    let mut paths = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
        Err(error) => mistakes.push(mistake(dir, None, format!("cannot list it: {error}"))),
    }
    paths.retain(|path| path.to_string_lossy().ends_with(".cases.yaml"));
    paths.sort();
    for path in paths {
        match load_file(&path) {
            Ok(loaded) => cases.extend(loaded),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() && cases.is_empty() {
        mistakes.push(mistake(dir, None, "holds no case in a *.cases.yaml file"));
    }
    if mistakes.is_empty() {
        Ok(cases)
    } else {
        Err(Mistakes(mistakes))
    }
}

fn load_file(path: &Path) -> Result<Vec<Case>, Vec<Mistake>> {
    let whole = |text: String| vec![mistake(path, None, text)];
    let size = fs::metadata(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    if size.len() > FILE_BYTES {
        return Err(whole(format!("is larger than {FILE_BYTES} bytes")));
    }
    let text =
        fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let document: Document = serde_saphyr::from_str(&text).map_err(|error| {
        let line = error
            .location()
            .and_then(|at| u32::try_from(at.line()).ok());
        vec![mistake(path, line, error.without_snippet().to_string())]
    })?;
    if document.version != 1 {
        return Err(whole("`version: 1` expected".to_owned()));
    }
    let mut cases = Vec::new();
    let mut mistakes = Vec::new();
    for written in &document.cases {
        let line = u32::try_from(written.referenced.line()).unwrap_or(u32::MAX);
        match whole_case(&document, &written.value) {
            Ok((written, what)) => cases.push(Case {
                file: path.to_owned(),
                line,
                written,
                what,
            }),
            Err(text) => mistakes.push(mistake(path, Some(line), text)),
        }
    }
    if mistakes.is_empty() {
        Ok(cases)
    } else {
        Err(mistakes)
    }
}

/// Fills in what the file says for all its cases, and refuses a case that is not whole.
fn whole_case(document: &Document, written: &Written) -> Result<(Written, What), String> {
    let mut written = written.clone();
    let lacks = |key: &str| format!("case `{}` has no `{key}`, nor has the file", written.name);
    let agent = written.agent.clone().or_else(|| document.agent.clone());
    let agent = agent.ok_or_else(|| lacks("agent"))?;
    let place = || {
        let target = written.target.clone().or_else(|| document.target.clone());
        let database = written
            .database
            .clone()
            .or_else(|| document.database.clone());
        Ok::<_, String>(Place {
            target: target.ok_or_else(|| lacks("target"))?,
            database: database.ok_or_else(|| lacks("database"))?,
        })
    };
    let Written {
        statement,
        asks,
        verb,
        resolve,
        ..
    } = &written;
    let what = match (statement, asks, verb, resolve) {
        (Some(statement), None, None, None) => What::Statement(place()?, statement.clone()),
        (None, Some(asks), None, None) => What::Asks(place()?, asks.clone()),
        (None, None, None, Some(asked)) if !is_plain(&asked.qname) => {
            let text = "is no name of DNS in lower case, without a dot at its end";
            return Err(format!("`qname` of case `{}` {text}", written.name));
        }
        (None, None, None, Some(asked)) => What::Resolve(asked.clone()),
        (None, None, Some(verb), None) => {
            let named = ControlVerb::ALL
                .into_iter()
                .find(|known| known.name() == verb);
            What::Verb(named.ok_or_else(|| format!("verb `{verb}` is not known"))?)
        }
        _ => {
            return Err(format!(
                "case `{}` takes one of `statement`, `asks`, `verb` and `resolve`",
                written.name
            ));
        }
    };
    if written.login.is_some() && (written.verb.is_none() || written.identity.is_none()) {
        return Err(format!(
            "`login` of case `{}` takes a `verb`, and the `identity` that logged in",
            written.name
        ));
    }
    written.agent = Some(agent);
    Ok((written, what))
}

impl Case {
    /// The statement, where the case has one.
    #[must_use]
    pub fn statement(&self) -> Option<&str> {
        match &self.what {
            What::Statement(_, statement) => Some(statement),
            What::Asks(..) | What::Verb(_) | What::Resolve(_) => None,
        }
    }

    /// Runs the case against `policy`. A statement that `read` cannot turn into asks fails it.
    #[must_use]
    pub fn run(&self, policy: &Policy, read: Reader<'_>) -> Outcome {
        let (ok, rules, message) = match self.decide(policy, read) {
            Err(error) => (false, Vec::new(), Some(format!("{error:#}"))),
            Ok(Ok(rules)) => {
                let ok = self.written.expect == Expect::Permit && self.names(&rules);
                (ok, rules, None)
            }
            Ok(Err(refusal)) => {
                let ok = self.written.expect.is(refusal.kind) && self.names(&refusal.rules);
                (ok, refusal.rules, Some(refusal.message))
            }
        };
        Outcome {
            file: self.file.clone(),
            line: self.line,
            name: self.written.name.clone(),
            ok,
            expect: self.written.expect,
            rules,
            message,
        }
    }

    /// Whether the rule that the case names, where it does, is among these.
    fn names(&self, rules: &[RuleId]) -> bool {
        let named = self.written.rule.as_ref();
        named.is_none_or(|rule| rules.iter().any(|decided| decided.0 == *rule))
    }

    fn decide(
        &self,
        policy: &Policy,
        read: Reader<'_>,
    ) -> anyhow::Result<Result<Vec<RuleId>, Refusal>> {
        let (place, asks) = match &self.what {
            What::Verb(verb) => {
                let (caller, object) = self.caller(*verb);
                return Ok(policy.authorize_control(&caller, *verb, &object));
            }
            What::Resolve(asked) => {
                let facts = Arc::new(PrincipalFacts::new(&self.principal())?);
                let question = Question {
                    name: &asked.qname,
                    qtype: &asked.qtype,
                    known: asked.known,
                };
                return Ok(policy.resolve(&facts, question));
            }
            What::Statement(place, statement) => (place, read(statement)?),
            What::Asks(place, asks) => (place, asks.clone()),
        };
        let facts = Arc::new(PrincipalFacts::new(&self.principal())?);
        let decided = policy.authorize(&facts, &place.target, &place.database, &asks);
        Ok(decided.map(|permit| permit.rules().to_vec()))
    }

    fn agent(&self) -> String {
        self.written.agent.clone().unwrap_or_default()
    }

    fn caller(&self, verb: ControlVerb) -> (ControlCaller, ControlObject) {
        let user = &self.written.user;
        let group = |group: &NamedGroup| Group {
            gid: group.gid,
            name: group.name.clone(),
        };
        let caller = match (&self.written.login, &self.written.identity) {
            (Some(by), Some(identity)) => ControlCaller::Person(LoggedIn {
                by: by.clone(),
                identity: Arc::new(identity.clone().into()),
                until: BootTime(u64::MAX),
            }),
            _ => ControlCaller::User(HostUser {
                uid: user.uid,
                gid: user.gid,
                name: user.name.clone(),
                groups: user.groups.iter().map(group).collect(),
                agent: None,
                runs_agent: false,
                session: None,
            }),
        };
        let object = match (verb.is_about_scopes(), &self.written.cgroup) {
            (false, _) => ControlObject::Host,
            (true, None) => ControlObject::Agent(self.agent()),
            (true, Some(cgroup)) => ControlObject::Scope {
                agent: self.agent(),
                cgroup: cgroup.clone(),
            },
        };
        (caller, object)
    }

    fn principal(&self) -> Principal {
        let written = &self.written;
        let unknown = Executable {
            path: PathBuf::from("/usr/bin/agent"),
            sha256: String::new(),
        };
        let process = |file: &Executable| identity::Process {
            pid: 1,
            started: BootTime(0),
            executable: identity::Executable {
                path: file.path.clone(),
                sha256: file.sha256.clone(),
            },
            argv: Vec::new(),
            uid: written.user.uid,
        };
        let agents = format!("/agents.slice/{}", self.agent());
        let scope = written.scope.clone().unwrap_or(agents);
        Principal {
            agent: self.agent(),
            user: identity::User {
                uid: written.user.uid,
                gid: written.user.gid,
                name: written.user.name.clone(),
            },
            process: process(written.executable.as_ref().unwrap_or(&unknown)),
            ancestors: written.ancestors.iter().map(process).collect(),
            cgroup: identity::Cgroup {
                id: 1,
                path: written.cgroup.clone().unwrap_or_else(|| scope.clone()),
                scope,
            },
            container: written.container.clone(),
            workload: written.workload.clone().map(Arc::new),
            privileged: written.privileged,
            identity: written
                .identity
                .clone()
                .map(|stated| Arc::new(stated.into())),
        }
    }
}

fn mistake(file: &Path, line: Option<u32>, text: impl Into<String>) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests;

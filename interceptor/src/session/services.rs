//! What sessions and the intercept path stand on: every part of the daemon, built once.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::distrust::Distrust;
use super::meter::Meters;
use super::opening::folding::{Fate, Folds};
use super::registry::Registry;
use crate::approvals::Approvals;
use crate::audit::event::{About, Event};
use crate::audit::{self, Sink as _};
use crate::capture::{Capture, NetnsCookie, Scope};
use crate::clock;
use crate::config::{Config, SLACK};
use crate::factors::Factors;
use crate::grants::Grants;
use crate::hosts::Hosts;
use crate::identity::{self, LoggedIn, Login, Owners, ScopeOf};
use crate::names::Names;
use crate::outputs::Board;
use crate::policy::{self, Group, HostUser, Refusal, SessionUser};
use crate::recording::Recorder;
use crate::scopes::Scopes;
use crate::secrets::Secrets;
use crate::socket::Place;
use crate::targets::{Anew, Targets};
use crate::telemetry::Metrics;
use crate::tls::Authority;
use crate::tokens::Tokens;
use crate::tokens::fetch::clients::Clients;

/// What stands for a scope where there is none; no cgroup has this number.
const NOBODY: u64 = 0;
/// A process whose network namespace is to have listeners before it connects for the first time.
#[derive(Debug)]
pub struct Provision {
    /// The process, by its pidfd.
    pub process: OwnedFd,
    /// Its scope's cgroup id.
    pub scope: u64,
    /// What came of it.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// The parts, each built once by the daemon.
#[derive(Debug)]
pub struct Services {
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// The programs and their maps.
    pub capture: Arc<Capture>,
    /// The daemon's own network namespace.
    pub netns: NetnsCookie,
    /// Where namespaces are asked for that need listeners.
    pub provisions: mpsc::Sender<Provision>,
    /// Where its listeners are in it.
    pub listeners: Vec<SocketAddr>,
    /// The tagged cgroups.
    pub scopes: Scopes,
    /// Who is behind a flow.
    pub identity: identity::Identifier,
    /// The policy in force.
    pub policy: policy::Handle,
    /// What is granted for a while.
    pub grants: Grants,
    /// Who stands behind which scope.
    pub tokens: Tokens,
    /// Tokens of our own, for targets that take no other credential.
    pub clients: Clients,
    /// What waits for people, and what they said.
    pub approvals: Approvals,
    /// The keys by which people prove that it is they who answer.
    pub factors: Factors,
    /// The audit log.
    pub audit: Arc<audit::Log>,
    /// Where sessions are recorded.
    pub recorder: Recorder,
    /// Recordings of ended sessions that are being closed; a drain waits for them.
    pub closings: TaskTracker,
    /// The keys of servers that were believed when they were first seen.
    pub hosts: Hosts,
    /// Where credentials come from.
    pub secrets: Arc<Secrets>,
    /// The local authority.
    pub authority: Authority,
    /// Counts the reloads that took, for whoever must forget what stood on the configuration before.
    pub reloads: watch::Sender<u64>,
    /// Held while configuration or targets are replaced: a reload and a look-up of names that overlap
    /// would undo each other.
    pub replacing: tokio::sync::Mutex<()>,
    /// Held while a recording is purged, or comes to be held or released: what was held in time is not purged.
    pub keeping: tokio::sync::Mutex<()>,
    /// Held while the kernel's rules are made and written: the last written are the newest.
    pub writing: Mutex<()>,
    /// What names scopes were told, and what they use up by asking.
    pub names: Names,
    /// Destinations and the targets behind them.
    pub targets: ArcSwap<Targets>,
    /// Who wants the targets' names looked up now.
    pub anew: Anew,
    /// What each agent uses up.
    pub meters: Meters,
    /// The sessions open now.
    pub registry: Registry,
    /// Refused connections that are told together.
    pub folds: Folds,
    /// How the outputs of the audit are doing.
    pub outputs: Board,
    /// Clients that do not take this host's certificates.
    pub distrust: Distrust,
    /// Counters.
    pub metrics: Metrics,
}

/// Where a refused connection was going, and whose it is, as far as that is known.
#[derive(Debug, Default)]
pub struct Going {
    /// The scope that it is of.
    pub scope: Option<u64>,
    /// Where it went.
    pub destination: Option<Place>,
    /// Which host and port a proxy there was asked for.
    pub asked: Option<String>,
}

impl Services {
    /// A scope, with whom it is bound to now.
    #[must_use]
    pub fn scope_of(&self, scope: &Scope) -> ScopeOf {
        ScopeOf {
            identity: self.tokens.bindings.of(scope),
            ..ScopeOf::from(scope)
        }
    }

    /// Counts a connection that is refused, and writes why to the audit. What no scope is known of, and what a
    /// scope has no lines left for, is written once a second, without a name but with how many there were.
    pub fn refused(
        self: &Arc<Self>,
        about: About<'_>,
        Going {
            scope,
            destination,
            asked,
        }: Going,
        refusal: &Refusal,
        cause: Option<String>,
    ) {
        self.metrics.connection_refused(refusal.kind);
        let scope = scope.and_then(|id| self.scopes.by_id(id));
        let name = about.principal.map_or(0, |json| json.get().len());
        let said = [&cause, &asked].into_iter().flatten().map(String::len);
        let bytes = said.sum::<usize>().saturating_add(name);
        if let Some(scope) = &scope
            && self.identity.affords_line(scope.id, bytes)
        {
            let event = Event::ConnectionRefused {
                about,
                destination,
                asked: asked.as_deref(),
                refusal,
                cause,
                agent: None,
                unproven: None,
                folded: None,
            };
            return self.write_refused(&event);
        }
        let (connection, id) = (about.connection, scope.as_ref().map(|scope| scope.id));
        let (services, refusal) = (Arc::clone(self), refusal.clone());
        let tell = move |folded: u64| {
            let about = About {
                connection,
                session: None,
                target: None,
                protocol: None,
                database: None,
                principal: None,
            };
            services.write_refused(&Event::ConnectionRefused {
                about,
                destination,
                asked: asked.as_deref(),
                refusal: &refusal,
                cause,
                agent: scope.as_ref().map(|scope| scope.agent.as_str()),
                unproven: scope.as_ref().map(|_busy| "busy"),
                folded: (folded > 0).then_some(folded),
            });
        };
        let folds = Arc::clone(self);
        let key = id.unwrap_or(NOBODY);
        match self.folds.add(key, clock::boot()) {
            Fate::Told => tell(0),
            Fate::Waits(time) => drop(tokio::spawn(async move {
                tokio::time::sleep(time).await;
                let waited = folds.folds.take(key, clock::boot());
                tell(waited.saturating_sub(1));
            })),
            Fate::Counted => {}
        }
    }

    fn write_refused(&self, event: &Event<'_>) {
        if let Err(error) = self.audit.append(event) {
            tracing::error!(%error, "cannot write a refusal to the audit log");
        }
    }

    /// A user outside of every scope, as policy sees whoever steers the daemon. Names and groups are not asked for
    /// root, who may do all: a name service that fails must not keep him out. `pid` is whose slot it takes.
    ///
    /// # Errors
    /// Where it cannot be looked up: a rule may forbid by name or group.
    pub async fn user(
        self: &Arc<Self>,
        pid: u32,
        (uid, gid): (u32, u32),
    ) -> Result<HostUser, String> {
        let login = match uid {
            0 => Login::default(),
            uid => {
                let login = self.identity.login(pid, uid).await;
                login.map_err(|error| error.to_string())?
            }
        };
        let looked = Arc::clone(self);
        let named = login.name.clone();
        let runs = move || uid != 0 && looked.runs_an_agent(uid, named.as_deref());
        let runs_agent = tokio::task::spawn_blocking(runs).await;
        let groups = login.groups.into_iter();
        Ok(HostUser {
            uid,
            gid,
            name: login.name,
            groups: groups.map(|(gid, name)| Group { gid, name }).collect(),
            agent: None,
            runs_agent: runs_agent.map_err(|error| error.to_string())?,
            session: None,
        })
    }

    /// The same of a process that asks for something, with who logged in to its session.
    ///
    /// # Errors
    /// As of [`Services::user`]. A name of the session's user that cannot be looked up is left aside: its
    /// number counts, and it must not keep root out.
    pub async fn caller(self: &Arc<Self>, pid: u32, ids: (u32, u32)) -> Result<HostUser, String> {
        let user = self.user(pid, ids).await?;
        let session = match identity::session_of(pid) {
            Some(uid) => {
                let login = self.identity.login(pid, uid).await;
                let name = login.ok().and_then(|login| login.name);
                Some(SessionUser { uid, name })
            }
            None => None,
        };
        Ok(HostUser { session, ..user })
    }

    /// Whether a login of somebody who is no user of the host counts still: who vouches for it is asked for that
    /// by the configuration in force, and its time is not over.
    #[must_use]
    pub fn is_good(&self, login: &LoggedIn) -> bool {
        let config = self.config.load();
        clock::boot() < login.until && vouches(&config, login)
    }

    /// Whether the word of whoever vouched for a login counts still, however long ago the login was.
    #[must_use]
    pub fn is_vouched_for(&self, login: &LoggedIn) -> bool {
        vouches(&self.config.load(), login)
    }

    /// Whether a process of this user, or in a namespace of theirs, lives in any scope. Reads files.
    fn runs_an_agent(&self, uid: u32, name: Option<&str>) -> bool {
        self.scopes.all().iter().any(|scope| {
            let processes = self.capture.hierarchy().processes(&scope.path);
            let processes = processes.inspect_err(|error| {
                tracing::warn!(%error, cgroup = %scope.path, "cannot tell whose processes are in a scope");
            });
            let is_of = |pid| {
                identity::uid_of(pid)
                    .is_some_and(|of| of == uid || Owners::of(pid, of).has(uid, name))
            };
            holds_any(processes, is_of)
        })
    }
}

fn vouches(config: &Config, login: &LoggedIn) -> bool {
    let identity = &login.identity;
    if login.by == SLACK {
        let person = config
            .webhook
            .as_ref()
            .and_then(|webhook| webhook.people.get(&identity.subject));
        return person.is_some_and(|person| {
            identity.user.as_ref() == Some(&person.name) && identity.groups == person.groups
        });
    }
    let named = config
        .console
        .as_ref()
        .and_then(|console| console.issuer.as_ref());
    let issuer = config.issuers.get(&login.by);
    named == Some(&login.by) && issuer.is_some_and(|issuer| issuer.url.text == identity.issuer)
}

/// Whether one of the processes is meant. Whoever was given a cgroup can keep it from being read: one that
/// cannot be counts as holding one.
fn holds_any<E>(processes: Result<Vec<u32>, E>, is_meant: impl Fn(u32) -> bool) -> bool {
    processes.map_or(true, |processes| processes.into_iter().any(is_meant))
}

#[cfg(test)]
mod tests {
    use super::holds_any;

    #[test]
    fn a_scope_that_cannot_be_read_may_hold_anybodys_processes() {
        let own = |pid| pid == 7;
        assert!(holds_any::<()>(Ok(vec![6, 7]), own));
        assert!(!holds_any::<()>(Ok(vec![6]), own));
        assert!(!holds_any::<()>(Ok(Vec::new()), own));
        assert!(holds_any(Err(()), own));
    }
}

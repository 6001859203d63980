//! Names: every question of a scope to a resolver goes through here.
//!
//! `capture → identify → limit → authorize → ask → sift → bind → record → answer`. The kernel sends a
//! scope's questions to the daemon and says who asks; policy is asked before anything leaves the host; an
//! answer binds (scope, name, address) in the kernel before it is given. Anything that fails is a refusal.

mod bindings;
mod journal;
mod limits;
pub mod message;
mod reach;
mod serve;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use self::bindings::{Bindings, Told};
use self::journal::{Entry, Journal};
use self::limits::Limits;
use self::message::{Answer, No, Question};
pub use self::serve::{by_datagram, by_stream};
use crate::audit::Sink as _;
use crate::audit::event::{Asked, Event};
use crate::capture::{Flow, OriginalDestination};
use crate::clock;
use crate::config::{Config, Host, NameRefusal, Target, TlsMode};
use crate::identity::{Identified, ScopeOf};
use crate::policy::{PrincipalFacts, Question as AskedOfPolicy, Refusal, RuleId, is_plain};
use crate::session::services::Services;

/// Questions under way at once, of all scopes.
const AT_ONCE: usize = 512;
/// How often what is known no more is taken back.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long the daemon's own look-up of a target's name may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one answer that its audit line names.
const MOST_TOLD: usize = 16;

/// What is known of names, and what questions use up.
#[derive(Debug)]
pub struct Names {
    bindings: Bindings,
    limits: Limits,
    journal: Journal,
    places: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            bindings: Bindings::default(),
            limits: Limits::default(),
            journal: Journal::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Names {
    /// The target behind an address that a scope was told for its name, and that name.
    #[must_use]
    pub fn target(
        &self,
        config: &Config,
        scope: u64,
        at: SocketAddr,
    ) -> Option<(Arc<Target>, String)> {
        self.bindings.of(config, scope, at)
    }

    /// A place for one more question, of the scope's and of all.
    fn place(&self, scope: u64) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = self.limits.place(scope, clock::boot())?;
        let shared = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some([own, shared])
    }
}

/// Where the daemon dials for a name that an agent was told an address of: where its own look-up says,
/// the address that the agent dialled first where that is one of them.
///
/// # Errors
/// A refusal of kind `upstream` where the name does not resolve here.
pub async fn places(
    services: &Services,
    name: &str,
    dialled: SocketAddr,
) -> Result<Arc<[(Host, SocketAddr)]>, Refusal> {
    let known = services.targets.load().of_name(name);
    let mut found = match known.is_empty() {
        false => known,
        true => {
            let looked = crate::targets::lookup(name.to_owned());
            let looked = tokio::time::timeout(PATIENCE, looked).await;
            match looked {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::warn!(%error, %name, "cannot resolve the name of a target");
                    Vec::new()
                }
                Err(_elapsed) => Vec::new(),
            }
        }
    };
    if found.is_empty() {
        return Err(Refusal::upstream("the target's name does not resolve"));
    }
    let config = services.config.load();
    if found
        .iter()
        .any(|ip| is_astray(services, &config, name, *ip))
    {
        return Err(Refusal::rebinding(name));
    }
    let first = dialled.ip().to_canonical();
    found.sort_by_key(|ip| *ip != first);
    let place = |ip| {
        (
            Host::Name(name.to_owned()),
            SocketAddr::new(ip, dialled.port()),
        )
    };
    Ok(found.into_iter().map(place).collect())
}

/// Takes back, until `stop`, what is known no more.
pub async fn sweep(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let scopes = services.scopes.all();
        let is_tagged = |id: u64| scopes.iter().any(|scope| scope.id == id);
        let Names {
            bindings, limits, ..
        } = &services.names;
        limits.keep(is_tagged);
        let config = services.config.load();
        let swept = bindings.sweep(&*services.capture, &config, is_tagged, clock::boot());
        if let Err(error) = swept {
            tracing::warn!(%error, "cannot take back the addresses of names");
        }
    }
}

/// Who asks: proved, in the ways that policy and the audit want it.
struct Asker {
    flow: Flow,
    scope: ScopeOf,
    facts: Arc<PrincipalFacts>,
    json: Arc<RawValue>,
    /// Held as long as its questions are answered.
    _identified: Identified,
}

/// A question that may be asked, and what it came to.
struct Given {
    answer: Answer,
    rules: Vec<RuleId>,
}

/// Proves who asks.
async fn identify(services: &Services, flow: Flow) -> Result<Asker, (Option<ScopeOf>, String)> {
    let scope = services.scopes.by_id(flow.scope);
    let scope = scope.ok_or_else(|| (None, "its scope is not tagged any more".to_owned()))?;
    let scope = services.scope_of(&scope);
    let failed = |error: &dyn std::fmt::Display| {
        let cause = format!("{error}; stamped: {:?}", flow.process);
        (Some(scope.clone()), cause)
    };
    let identified = services.identity.identify(&flow, &scope).await;
    let identified = identified.map_err(|error| failed(&error))?;
    let principal = &identified.principal;
    let facts = PrincipalFacts::new(principal).map_err(|error| failed(&error))?;
    let json = serde_json::value::to_raw_value(&**principal).map_err(|error| failed(&error))?;
    Ok(Asker {
        facts: Arc::new(facts),
        json: Arc::from(json),
        _identified: identified,
        scope,
        flow,
    })
}

/// One question of one who was proved, from its bytes to those of the answer; none where nothing is
/// answered.
async fn answer(services: &Services, asker: &Asker, bytes: &[u8], whole: bool) -> Option<Vec<u8>> {
    let question = match Question::read(bytes) {
        Ok(question) => question,
        Err(malformed) => {
            services.metrics.name_asked("malformed");
            return malformed.reply;
        }
    };
    let given = decide(services, asker, &question).await;
    match given {
        Ok(given) => {
            if !record(services, asker, &question, &given) {
                return question.refuse(No::Failed, whole);
            }
            services.metrics.name_asked(given.answer.code());
            question.reply(&given.answer, whole)
        }
        Err((refusal, cause)) => {
            services.metrics.name_asked("refused");
            refuse(services, asker, &question, (&refusal, cause));
            let words = said(&refusal);
            let no = match services.config.load().names.refusal {
                _ if refusal.kind.is_a_failure() => No::Failed,
                NameRefusal::Refused => No::Refused(&words),
                NameRefusal::Nxdomain => No::NoSuchName(&words),
            };
            question.refuse(no, whole)
        }
    }
}

/// Everything that may say no, and the asking.
async fn decide(
    services: &Services,
    asker: &Asker,
    question: &Question,
) -> Result<Given, (Refusal, Option<String>)> {
    let config = services.config.load_full();
    let (scope, name) = (asker.flow.scope, question.name.as_str());
    let plain = |refusal| (refusal, None);
    if !config.names.types.contains(&question.qtype) {
        return Err(plain(Refusal::record_type(&question.qtype)));
    }
    if !is_plain(name) {
        return Err(plain(Refusal::tunnel("it is no name of a host")));
    }
    let is_target = config.named(name).next().is_some();
    let known = is_target || config.names.is_private(name);
    let is_anybodys = config.is_anybodys(name);
    let policy = services.policy.current();
    let asked = AskedOfPolicy {
        name,
        qtype: &question.qtype,
        known,
    };
    let rules = policy.resolve(&asker.facts, asked).map_err(plain)?;
    let now = clock::boot();
    if is_anybodys && let Some(why) = services.names.limits.tunnels(scope, name, now) {
        return Err(plain(Refusal::tunnel(why)));
    }
    let resolver = asker.flow.destination.0;
    let nowhere = || plain(Refusal::upstream("the resolver has no address"));
    let resolver = resolver.inet().ok_or_else(nowhere)?;
    let answer = upstream::ask(resolver, question).await.map_err(|error| {
        let refusal = Refusal::upstream("the resolver does not answer");
        (refusal, Some(error.to_string()))
    })?;
    let mut addresses = answer.addresses.iter();
    let strange = addresses.find(|ip| match known {
        true => is_astray(services, &config, name, **ip),
        false => !reach::is_public(**ip),
    });
    if let Some(ip) = strange {
        return Err((Refusal::rebinding(name), Some(ip.to_string())));
    }
    if is_target {
        let told = Told {
            scope,
            name,
            addresses: &answer.addresses,
            ttl: Duration::from_secs(answer.ttl.into()),
            now,
        };
        let bound = services
            .names
            .bindings
            .bind(&*services.capture, &config, told);
        bound.map_err(|error| {
            let refusal = Refusal::internal("the answer cannot be taken into the kernel");
            (refusal, Some(error.to_string()))
        })?;
    }
    Ok(Given { answer, rules })
}

/// Whether a name that anybody may make leads where its maker must not lead the daemon: to this host and its
/// links, or to another target's address under the rules of its own. That is nothing to a server that must prove
/// the name.
fn is_astray(services: &Services, config: &Config, name: &str, ip: IpAddr) -> bool {
    if !config.is_anybodys(name) {
        return false;
    }
    let targets = services.targets.load();
    let is_anothers = |(target, port): (&Arc<Target>, u16)| {
        let at = OriginalDestination(SocketAddr::new(ip, port).into());
        let found = targets.at(at);
        found.is_some_and(|(found, _)| found.name != target.name)
            && target.tls.mode != TlsMode::VerifyFull
    };
    reach::is_near(ip) || config.named(name).any(is_anothers)
}

/// Writes an answer to the audit before it is given; false where that cannot be.
fn record(services: &Services, asker: &Asker, question: &Question, given: &Given) -> bool {
    let Some(asked) = asked(services, asker, question, given.answer.code()) else {
        return true;
    };
    let addresses: &[IpAddr] = &given.answer.addresses;
    let event = Event::NameResolved {
        asked,
        code: given.answer.code(),
        addresses: addresses.get(..MOST_TOLD).unwrap_or(addresses),
        ttl: given.answer.ttl,
        rules: &given.rules,
    };
    let written = services.audit.append(&event);
    written
        .inspect_err(|error| tracing::error!(%error, "cannot write an answer to the audit log"))
        .is_ok()
}

fn refuse(
    services: &Services,
    asker: &Asker,
    question: &Question,
    (refusal, cause): (&Refusal, Option<String>),
) {
    let Some(asked) = asked(services, asker, question, &refusal.message) else {
        return;
    };
    let event = Event::NameRefused {
        asked,
        refusal,
        cause,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write a refused question to the audit log");
    }
}

/// The head of a line; none where this question is folded into a later one.
fn asked<'a>(
    services: &Services,
    asker: &'a Asker,
    question: &'a Question,
    ended: &str,
) -> Option<Asked<'a>> {
    let process = &asker.flow.process;
    let entry = Entry {
        scope: asker.flow.scope,
        process: (process.tgid, process.started.0),
        name: question.name.clone(),
        qtype: question.qtype.clone(),
        ended: ended.to_owned(),
    };
    let folded = services.names.journal.tells(entry, clock::boot())?;
    Some(Asked {
        agent: &asker.scope.agent,
        principal: Some(&asker.json),
        name: Some(&question.name),
        qtype: Some(&question.qtype),
        resolver: asker.flow.destination.0,
        folded,
    })
}

/// A refusal as a client may show it.
fn said(refusal: &Refusal) -> String {
    match refusal.rules.first() {
        Some(RuleId(rule)) => format!("{} (rule {rule})", refusal.message),
        None => refusal.message.clone(),
    }
}

//! THE INTERCEPT PATH: what happens to one connection, one line per step.
//!
//! `capture → identify → admit → terminate → authorize → dial → relay → close`. The first three are
//! here; the rest is the engine's, through the [`Opening`] that it is handed. Anything that fails
//! before admission is a refusal: written to the audit, then told in the target's protocol, or by a reset.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::audit::Sink as _;
use crate::audit::event::{About, Event};
use crate::capture::{Flow, Origin as _};
use crate::config::{Host, Target};
use crate::grants::{Footing, Holding, Take};
use crate::identity::Identified;
use crate::names;
use crate::policy::{PrincipalFacts, Refusal, RuleId};
use crate::protocol::Engines;
use crate::session::meter::Slot;
use crate::session::opening::{Opening, Who};
use crate::session::services::{Going, Services};
use crate::socket::{self, Place};

/// Takes one redirected connection from its accept to its close.
pub async fn run(services: Arc<Services>, engines: Arc<Engines>, stream: TcpStream) {
    let connection = Uuid::now_v7();
    if let Err(error) = socket::tune(&stream) {
        tracing::warn!(%error, %connection, "cannot set the options of a client's connection");
    }
    let flow = match services.capture.origin(&stream) {
        Ok(flow) => flow,
        Err(error) => {
            let nobody = Seen::default();
            nobody.refused(
                &services,
                connection,
                &Refusal::identity(),
                Some(error.to_string()),
            );
            return drop(socket::reset_on_close(&stream));
        }
    };
    let mut seen = Seen {
        scope: Some(flow.scope),
        destination: Some(flow.destination.0),
        ..Seen::default()
    };
    let dialled = flow.destination.0.inet();
    let to_a_resolver = dialled.is_some_and(|at| services.config.load().is_resolver(at));
    let arrival = match arrive(&services, &flow) {
        Ok(arrival) => arrival,
        Err(No { refusal, cause }) => {
            seen.refused(&services, connection, &refusal, cause);
            return drop(socket::reset_on_close(&stream));
        }
    };
    if to_a_resolver {
        Box::pin(names::by_stream(&services, stream, flow)).await;
        return drop(arrival);
    }
    match admit(&services, connection, flow, &mut seen).await {
        Ok((who, slot)) => {
            drop(arrival);
            engines.serve(Opening::new(who, services), stream).await;
            drop(slot);
        }
        Err(No { refusal, cause }) => {
            seen.refused(&services, connection, &refusal, cause);
            let authority = &services.authority;
            engines.refuse(authority, seen.to(), stream, &refusal).await;
            drop(arrival);
        }
    }
}

/// What is known of a connection so far; a refusal tells the audit all of it.
#[derive(Default)]
struct Seen {
    scope: Option<u64>,
    destination: Option<Place>,
    target: Option<Arc<Target>>,
    principal: Option<Arc<RawValue>>,
}

/// Why a connection goes no further, and what only the audit may know of it.
struct No {
    refusal: Refusal,
    cause: Option<String>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            cause: None,
        }
    }
}

impl No {
    fn untagged(flow: &Flow) -> Self {
        Self::identity(&"its scope is not tagged any more", flow)
    }

    fn identity(cause: &dyn std::fmt::Display, flow: &Flow) -> Self {
        let cause = Some(format!("{cause}; stamped: {:?}", flow.process));
        Self {
            refusal: Refusal::identity(),
            cause,
        }
    }
}

/// A place among the agent's connections that nobody has looked at yet; before anything is read of it.
fn arrive(services: &Services, flow: &Flow) -> Result<Slot, No> {
    let scope = services.scopes.by_id(flow.scope);
    let scope = scope.ok_or_else(|| No::untagged(flow))?;
    let limits = services.config.load().agent(&scope.agent);
    let arrival = services.meters.of(&scope.agent).arrival(&limits);
    arrival.map_err(|refusal| No {
        refusal,
        cause: Some(format!("stamped: {:?}", flow.process)),
    })
}

/// Who it is, where it goes, and whether it may; before any packet goes upstream.
async fn admit(
    services: &Arc<Services>,
    connection: Uuid,
    flow: Flow,
    seen: &mut Seen,
) -> Result<(Who, Slot), No> {
    let config = services.config.load_full();
    // What the scope itself was told of a name comes first.
    let dialled = flow.destination.0.inet();
    let told = dialled.and_then(|at| services.names.target(&config, flow.scope, at));
    let (found, name) = match told {
        Some((target, name)) => (Some((target, Host::Name(name.clone()))), Some(name)),
        None => (services.targets.load().at(flow.destination).cloned(), None),
    };
    seen.target = found.as_ref().map(|(target, _)| Arc::clone(target));
    let identified = identify(services, &flow).await?;
    let principal = Arc::clone(&identified.principal);
    let json = serde_json::value::to_raw_value(&*principal)
        .map_err(|error| No::identity(&error, &flow))?;
    let json: Arc<RawValue> = Arc::from(json);
    seen.principal = Some(Arc::clone(&json));
    // The kernel's rules and the targets differ only between two reloads.
    let (target, host) =
        found.ok_or_else(|| Refusal::upstream("no target has this address any more"))?;
    let limits = services.config.load().agent(&principal.agent);
    let meter = services.meters.of(&principal.agent);
    let slot = meter.connection(&limits)?;
    let facts = PrincipalFacts::new(&principal).map_err(|error| No::identity(&error, &flow))?;
    let facts = Arc::new(facts);
    let policy = services.policy.current();
    let permit = {
        let held = Holding::new(&services.grants, &principal, flow.scope);
        policy.connect(&held, &facts, &target.name)?
    };
    let places = match name.zip(dialled) {
        Some((name, dialled)) => Some(names::places(services, &name, dialled).await?),
        None => None,
    };
    let taken = services.grants.take(permit.grants(), Take::Use).await;
    let footing = Footing::from(taken.map_err(Refusal::from)?);
    let identified = Arc::new(identified);
    let who = Who {
        connection,
        principal,
        identified,
        json,
        facts,
        target,
        host,
        places,
        through: None,
        flow,
        meter,
        footing: Arc::new(footing),
    };
    write_opened(services, &who, permit.rules())?;
    Ok((who, slot))
}

async fn identify(services: &Services, flow: &Flow) -> Result<Identified, No> {
    let scope = services.scopes.by_id(flow.scope);
    let scope = scope.ok_or_else(|| No::untagged(flow))?;
    let scope = services.scope_of(&scope);
    let identified = services.identity.identify(flow, &scope).await;
    identified.map_err(|error| No::identity(&error, flow))
}

fn write_opened(services: &Services, who: &Who, rules: &[RuleId]) -> Result<(), Refusal> {
    let destination = who.flow.destination.0;
    let event = Event::ConnectionOpened {
        about: who.about(),
        destination,
        through: None,
        asked: None,
        rules,
        grants: who.footing.grants(),
    };
    services.metrics.connection_opened();
    services.audit.append(&event).map(drop).map_err(|error| {
        tracing::error!(%error, "cannot write a connection to the audit log");
        Refusal::storage("the audit log cannot be written")
    })
}

impl Seen {
    fn to(&self) -> Option<(&Target, IpAddr)> {
        Some((self.target.as_deref()?, self.destination?.ip()))
    }

    fn refused(
        &self,
        services: &Arc<Services>,
        connection: Uuid,
        refusal: &Refusal,
        cause: Option<String>,
    ) {
        let about = About {
            connection,
            session: None,
            target: self.target.as_ref().map(|target| target.name.as_str()),
            protocol: self.target.as_ref().map(|target| target.protocol.word()),
            database: None,
            principal: self.principal.as_deref(),
        };
        let going = Going {
            scope: self.scope,
            destination: self.destination,
            asked: None,
        };
        services.refused(about, going, refusal, cause);
    }
}

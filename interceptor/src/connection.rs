//! THE INTERCEPT PATH: what happens to one connection, one line per step.
//!
//! `capture → identify → admit → terminate → authorize → dial → relay → close`. The first three are
//! here; the rest is the engine's, through the [`Opening`] that it is handed. Anything that fails
//! before admission is a refusal: written to the audit, and the socket is reset.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::audit::Sink as _;
use crate::audit::event::{About, Event};
use crate::capture::{Flow, Origin as _};
use crate::config::{self, Target};
use crate::identity::{Identified, ScopeOf};
use crate::policy::{PrincipalFacts, Refusal, RuleId};
use crate::protocol::Engines;
use crate::session::meter::Slot;
use crate::session::opening::{Opening, Who};
use crate::session::services::Services;
use crate::socket;

/// Takes one redirected connection from its accept to its close.
pub async fn run(services: Arc<Services>, engines: Arc<Engines>, stream: TcpStream) {
    let connection = Uuid::now_v7();
    let admitted = admit(&services, connection, &stream).await;
    match admitted {
        Ok(Admitted { who, slot }) => {
            let opening = Opening::new(who, services);
            engines.serve(opening, stream).await;
            drop(slot);
        }
        Err(refused) => {
            refused.write(&services, connection);
            drop(socket::reset_on_close(&stream));
        }
    }
}

/// A connection that policy let in.
struct Admitted {
    who: Who,
    slot: Slot,
}

/// A connection that is refused before an engine sees it.
struct Refused {
    destination: Option<SocketAddr>,
    target: Option<Arc<Target>>,
    principal: Option<Arc<RawValue>>,
    refusal: Refusal,
    cause: Option<String>,
}

async fn admit(
    services: &Arc<Services>,
    connection: Uuid,
    stream: &TcpStream,
) -> Result<Admitted, Refused> {
    let flow = services
        .capture
        .origin(stream)
        .map_err(|error| Refused::unknown(&error))?;
    let refused = |refusal: Refusal, cause: Option<String>| Refused::at(&flow, refusal, cause);
    let identified = identify(services, &flow)
        .await
        .map_err(|(refusal, cause)| refused(refusal, Some(cause)))?;
    let json = to_json(&identified).map_err(|cause| refused(Refusal::identity(), Some(cause)))?;
    let found = services.targets.load().at(flow.destination).cloned();
    let target = found.as_ref().map(|(target, _)| Arc::clone(target));
    let known = |refusal: Refusal| Refused {
        target: target.clone(),
        principal: Some(Arc::clone(&json)),
        ..Refused::at(&flow, refusal, None)
    };
    let Some((target, host)) = found else {
        // The kernel's rules and the targets differ only between two reloads.
        return Err(known(Refusal::upstream(
            "no target has this address any more",
        )));
    };
    let identified = Arc::new(identified);
    let principal = Arc::clone(&identified.principal);
    let limits = limits_of(services, &principal.agent);
    let meter = services.meters.of(&principal.agent);
    let slot = meter.connection(&limits).map_err(known)?;
    let facts = PrincipalFacts::new(&principal).map(Arc::new);
    let facts = facts.map_err(|error| refused(Refusal::identity(), Some(error.to_string())))?;
    let rules = may_connect(services, &facts, &target).map_err(known)?;
    let who = Who {
        connection,
        principal,
        identified,
        json,
        facts,
        target,
        host,
        flow,
        limits,
        meter,
    };
    write_opened(services, &who, &rules).map_err(|refusal| Refused {
        target: Some(Arc::clone(&who.target)),
        principal: Some(Arc::clone(&who.json)),
        ..Refused::at(&who.flow, refusal, None)
    })?;
    Ok(Admitted { who, slot })
}

async fn identify(services: &Services, flow: &Flow) -> Result<Identified, (Refusal, String)> {
    let scope = services.scopes.by_id(flow.scope).ok_or_else(|| {
        (
            Refusal::identity(),
            format!("scope {} is not tagged any more", flow.scope),
        )
    })?;
    let scope = ScopeOf {
        agent: scope.agent,
        cgroup: scope.path,
        id: flow.scope,
    };
    services
        .identity
        .identify(flow, &scope)
        .await
        .map_err(|error| (Refusal::identity(), error.to_string()))
}

fn to_json(identified: &Identified) -> Result<Arc<RawValue>, String> {
    serde_json::value::to_raw_value(&*identified.principal)
        .map(Arc::from)
        .map_err(|error| format!("cannot write the principal as JSON: {error}"))
}

fn limits_of(services: &Services, agent: &str) -> config::Agent {
    services.config.load().agent(agent)
}

fn may_connect(
    services: &Services,
    facts: &Arc<PrincipalFacts>,
    target: &Target,
) -> Result<Arc<[RuleId]>, Refusal> {
    let permit = services.policy.current().connect(facts, &target.name)?;
    Ok(Arc::clone(permit.rules()))
}

fn write_opened(services: &Services, who: &Who, rules: &[RuleId]) -> Result<(), Refusal> {
    let destination = who.flow.destination.0;
    let event = Event::ConnectionOpened {
        about: who.about(),
        destination,
        rules,
    };
    services.metrics.connection_opened();
    services.audit.append(&event).map(drop).map_err(|error| {
        tracing::error!(%error, "cannot write a connection to the audit log");
        Refusal::storage("the audit log cannot be written")
    })
}

impl Refused {
    /// A connection without a record: somebody dialled the listener itself, or the record was evicted.
    fn unknown(error: &dyn std::fmt::Display) -> Self {
        Self {
            destination: None,
            target: None,
            principal: None,
            refusal: Refusal::identity(),
            cause: Some(error.to_string()),
        }
    }

    fn at(flow: &Flow, refusal: Refusal, cause: Option<String>) -> Self {
        Self {
            destination: Some(flow.destination.0),
            target: None,
            principal: None,
            refusal,
            cause: cause.map(|cause| format!("{cause}; stamped: {:?}", flow.process)),
        }
    }

    fn write(&self, services: &Services, connection: Uuid) {
        services.metrics.connection_refused(self.refusal.kind);
        let event = Event::ConnectionRefused {
            about: About {
                connection,
                session: None,
                target: self.target.as_ref().map(|target| target.name.as_str()),
                database: None,
                principal: self.principal.as_deref(),
            },
            destination: self.destination,
            refusal: &self.refusal,
            cause: self.cause.clone(),
        };
        if let Err(error) = services.audit.append(&event) {
            tracing::error!(%error, "cannot write a refusal to the audit log");
        }
    }
}

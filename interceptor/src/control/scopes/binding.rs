//! Binding: whom a scope stands for. By a token or a login that is verified, never by what somebody says.
//!
//! Who brought what is not believed is told no more than that; the audit says why. An agent may log a
//! person in for its own scope; tokens come from outside of it only.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{describe, path_of, scope as object};
use crate::audit::Sink as _;
use crate::audit::event::{Event, ScopeNamed};
use crate::capture;
use crate::clock;
use crate::control::Given;
use crate::control::api::{Begin, Begun, Bind, Login, Proof, Scope, Waited, Which};
use crate::control::caller::{Answer, Known};
use crate::control::status::scope_of;
use crate::policy::{ControlObject, ControlVerb};
use crate::secrets::Secret;
use crate::session::services::Services;
use crate::session::{EndReason, ending};
use crate::tokens::bindings::{Binding, Unbound};
use crate::tokens::login::Progress;
use crate::tokens::{Error, Verified};

/// The scope that something is brought for; it may be about to be made.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Place<'a> {
    /// The agent's name.
    pub(in crate::control) agent: &'a str,
    /// Path of its root.
    pub(in crate::control) cgroup: &'a str,
}

/// What was shown to be good, and how.
#[derive(Debug)]
pub(in crate::control) struct Proved {
    verified: Verified,
    how: &'static str,
}

/// `POST /v1/scopes/bind`.
///
/// # Errors
/// An answer where there is no such scope, policy refuses, or who is behind it cannot be verified.
pub async fn bind_scope(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Bind>,
) -> Result<Json<Scope>, Answer> {
    let scope = named(&services, &caller, &asked.which).await?;
    let judged = object(&scope.agent, &scope.path);
    caller.may(&services, ControlVerb::Bind, &judged).await?;
    bind_to(&services, &caller, &scope, &asked.proof).await
}

/// `POST /v1/bind` on `agent.sock`: to whom has logged in, the caller's own scope.
///
/// # Errors
/// As [`bind_scope`].
pub async fn bind_own(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Login>,
) -> Result<Json<Scope>, Answer> {
    let scope = scope_of(&services, &caller)?;
    bind_to(&services, &caller, &scope, &Proof::Login(asked.login)).await
}

async fn bind_to(
    services: &Arc<Services>,
    caller: &Known,
    scope: &capture::Scope,
    proof: &Proof,
) -> Result<Json<Scope>, Answer> {
    let to = Place {
        agent: &scope.agent,
        cgroup: &scope.path,
    };
    let proved = prove(services, caller, to, proof).await?;
    bind(services, caller, scope, proved).await?;
    Ok(Json(describe(services, scope)))
}

/// `POST /v1/scopes/unbind`.
///
/// # Errors
/// An answer where there is no such scope, it is bound to nobody, or policy refuses.
pub async fn unbind(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Which>,
) -> Result<Json<Scope>, Answer> {
    let scope = named(&services, &caller, &asked).await?;
    let judged = object(&scope.agent, &scope.path);
    caller.may(&services, ControlVerb::Bind, &judged).await?;
    let before = describe(&services, &scope);
    let detail = json!({ "cgroup": scope.path, "agent": scope.agent });
    // It goes on where the caller goes away.
    let (ends, id) = (Arc::clone(&services), scope.id);
    let ended = tokio::spawn(async move {
        let mut was_bound = false;
        for binding in of_scope(&ends, id) {
            was_bound |= end(&ends, &binding, Unbound::Revoked).await;
        }
        was_bound
    });
    let was_bound = ended.await.map_err(|error| Answer::failed(&error))?;
    if services.tokens.bindings.owes(scope.id) {
        let error = "it has ended, but that cannot be kept: a daemon that starts anew before it is, which is tried \
                     again, binds the scope as before";
        return Err(caller.failed(&services, "unbind", detail, error));
    }
    let result = if was_bound { "ok" } else { "failed" };
    caller.audit(&services, "unbind", result, detail);
    match was_bound {
        true => Ok(Json(before)),
        false => Err(Answer::bad("the scope is bound to nobody")),
    }
}

/// `POST /v1/login`: begins a login, for who may then bind the scope or run the agent that it is for.
///
/// # Errors
/// An answer where policy refuses, the issuer does not take part, or too many logins are under way.
pub async fn begin(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Begin>,
) -> Result<Json<Begun>, Answer> {
    match (&asked.agent, &asked.which) {
        (Some(agent), None) => {
            let judged = ControlObject::Agent(agent.clone());
            caller.may(&services, ControlVerb::Run, &judged).await?;
        }
        (None, Some(which)) => {
            let scope = named(&services, &caller, which).await?;
            let judged = object(&scope.agent, &scope.path);
            caller.may(&services, ControlVerb::Bind, &judged).await?;
        }
        _ => {
            return Err(Answer::bad(
                "name the agent or the scope that a login is for",
            ));
        }
    }
    start(&services, &caller, &asked.issuer).await
}

/// `POST /v1/login` on `agent.sock`: begins a login for the caller's own scope.
///
/// # Errors
/// An answer where the caller is in no scope, or as for [`begin`].
pub async fn begin_own(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Begin>,
) -> Result<Json<Begun>, Answer> {
    scope_of(&services, &caller)?;
    let config = services.config.load_full();
    let issuer = config.issuers.get(&asked.issuer);
    // Who shows its code to somebody else would be them.
    if issuer.is_some_and(|issuer| !issuer.from_scope) {
        let what = format!(
            "a scope begins no login by {}: its issuer does not say `from_scope: true`; begin it outside, with \
             `interceptor run --login {0}` or `interceptor login --issuer {0} CGROUP`",
            asked.issuer
        );
        refuse(
            &services,
            &caller,
            None,
            ("login", &Error::Login(what.clone())),
        );
        return Err(Answer::bad(&what));
    }
    start(&services, &caller, &asked.issuer).await
}

async fn start(services: &Services, caller: &Known, issuer: &str) -> Result<Json<Begun>, Answer> {
    let config = services.config.load_full();
    let begun = services
        .tokens
        .begin(&config.issuers, issuer, caller.process()?.owner(services))
        .await;
    let begun = begun.map_err(|error| {
        refuse(services, caller, None, ("login", &error));
        match error {
            // It says nothing of any token.
            Error::Login(what) => Answer::bad(&what),
            _ => Answer::unbelieved(),
        }
    })?;
    Ok(Json(Begun {
        login: begun.id,
        address: begun.address,
        code: begun.code,
        complete: begun.complete,
        seconds: begun.seconds,
    }))
}

/// `POST /v1/login/wait`, on both sockets: waits for the person, for less than half a minute.
///
/// # Errors
/// An answer where the login is none of the caller's, or came to nothing.
pub async fn wait(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Login>,
) -> Result<Json<Waited>, Answer> {
    let waited = services
        .tokens
        .wait(asked.login, &caller.process()?.owner(&services))
        .await;
    let progress = waited.map_err(|error| {
        refuse(&services, &caller, None, ("login", &error));
        Answer::unbelieved()
    })?;
    let done = progress == Progress::Done;
    Ok(Json(Waited { done }))
}

/// Verifies what was brought for a scope; a refusal is written to the audit here.
///
/// # Errors
/// The answer for the caller, which does not say why.
pub(in crate::control) async fn prove(
    services: &Services,
    caller: &Known,
    to: Place<'_>,
    proof: &Proof,
) -> Result<Proved, Answer> {
    let verified = match proof {
        Proof::Token(token) => {
            let config = services.config.load_full();
            let token = Secret::from(token.0.as_str());
            services.tokens.verify(&config.issuers, &token).await
        }
        Proof::Login(login) => {
            let owner = caller.process()?.owner(services);
            services.tokens.logged_in(*login, &owner).await
        }
        Proof::Saml(assertion) => {
            let config = services.config.load_full();
            let assertion = Secret::from(assertion.0.as_str());
            services.tokens.verify_saml(&config.saml, &assertion).await
        }
    };
    let how = proof.word();
    match verified {
        Ok(verified) => Ok(Proved { verified, how }),
        Err(error) => {
            refuse(services, caller, Some(to), (how, &error));
            Err(Answer::unbelieved())
        }
    }
}

/// Binds a scope: written first, then in force. Goes on where the caller goes away.
///
/// # Errors
/// The answer for the caller, where the scope is bound to somebody else or the token was used elsewhere.
pub(in crate::control) async fn bind(
    services: &Arc<Services>,
    caller: &Known,
    scope: &capture::Scope,
    proved: Proved,
) -> Result<(), Answer> {
    let (services, caller, scope) = (Arc::clone(services), caller.clone(), scope.clone());
    let bound = tokio::spawn(async move {
        let done = bind_now(&services, &caller, &scope, &proved).await;
        if let Err(error) = &done {
            let to = Place {
                agent: &scope.agent,
                cgroup: &scope.path,
            };
            refuse(&services, &caller, Some(to), (proved.how, error));
        }
        done
    });
    let bound = bound.await.map_err(|error| Answer::failed(&error))?;
    bound.map_err(|_told_to_the_audit| Answer::unbelieved())
}

async fn bind_now(
    services: &Services,
    caller: &Known,
    scope: &capture::Scope,
    proved: &Proved,
) -> Result<(), Error> {
    let Verified {
        identity,
        token,
        until,
        once,
    } = &proved.verified;
    let binding = Binding {
        scope: scope.id,
        cgroup: scope.path.clone(),
        agent: scope.agent.clone(),
        identity: Arc::clone(identity),
        token: token.clone(),
        until: *until,
    };
    // What is over, and has not been told yet, is told before somebody else has the scope.
    for over in of_scope(services, scope.id) {
        if over.until <= clock::boot() {
            end(services, &over, Unbound::Expired).await;
        }
    }
    let binder = services.tokens.bindings.binder().await;
    let before = binder.may(&binding, *once).await?;
    // What was said of the same subject before, and is not said any more.
    let changed = before
        .as_ref()
        .is_some_and(|before| !before.identity.is_as(identity));
    let of_before = |session: &crate::session::Session| {
        session.who().flow.scope == scope.id && session.who().principal.identity.is_some()
    };
    let sessions = match changed {
        true => services
            .registry
            .all()
            .iter()
            .filter(|one| of_before(one))
            .count(),
        false => 0,
    };
    let event = Event::IdentityBound {
        caller: caller.named(),
        scope: ScopeNamed {
            agent: &scope.agent,
            cgroup: &scope.path,
        },
        identity,
        how: proved.how,
        token,
        renewed: before.is_some(),
        sessions,
    };
    let written = services.audit.append_durable(&event).await;
    written.map_err(|error| Error::Store(error.to_string()))?;
    binder.bind(binding).await?;
    let is_other = |session: &crate::session::Session| {
        session.who().flow.scope == scope.id && !session.who().is_bound(services)
    };
    services.registry.end(EndReason::Identity, is_other);
    Ok(())
}

/// Ends identities whose time is over, whose scope is no more or whose issuer is not configured any more,
/// until `stop`. Those that it is late for count for nothing meanwhile.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    let bindings = &services.tokens.bindings;
    let mut reloads = services.reloads.subscribe();
    let mut looks = true;
    loop {
        let number = bindings.number();
        let now = clock::boot();
        let (over, next) = bindings.due(now);
        for binding in over {
            end(&services, &binding, Unbound::Expired).await;
        }
        let all = if looks { bindings.all() } else { Vec::new() };
        for binding in all {
            if let Some(why) = lapsed(&services, &binding) {
                end(&services, &binding, why).await;
            }
        }
        let mut pause = clock::nap(now, next);
        // What is owed is tried again until it is kept.
        if bindings.owes_any() && bindings.keep_ends().await.is_err() {
            pause = pause.min(ending::AGAIN);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = bindings.changed(number) => looks = false,
            // The sender lives in `services`: an error cannot be, and would be no reason to spin.
            changed = reloads.changed() => match changed {
                Ok(()) => looks = true,
                Err(_gone) => sleep(pause).await,
            },
            () = sleep(pause) => looks = true,
        }
    }
}

/// Ends what a scope is bound to: it is no more.
pub(in crate::control) async fn gone(services: &Services, scope: u64) {
    for binding in of_scope(services, scope) {
        end(services, &binding, Unbound::Scope).await;
    }
}

/// Ends what a scope is bound to where that does not fit it any more.
pub(in crate::control) async fn lapse(services: &Services, scope: u64) {
    for binding in of_scope(services, scope) {
        if let Some(why) = lapsed(services, &binding) {
            end(services, &binding, why).await;
        }
    }
}

fn of_scope(services: &Services, scope: u64) -> Vec<Arc<Binding>> {
    let mut all = services.tokens.bindings.all();
    all.retain(|binding| binding.scope == scope);
    all
}

fn lapsed(services: &Services, binding: &Binding) -> Option<Unbound> {
    let scope = services.scopes.by_id(binding.scope);
    let fits =
        scope.is_some_and(|scope| scope.agent == binding.agent && scope.path == binding.cgroup);
    if !fits {
        return Some(Unbound::Scope);
    }
    let config = services.config.load();
    let mut issuers = config.issuers.values();
    let mut providers = config.saml.values();
    let said = &binding.identity.issuer;
    let is_known = issuers.any(|issuer| issuer.url.text == *said)
        || providers.any(|provider| provider.entity == *said);
    (!is_known).then_some(Unbound::Issuer)
}

/// Ends a binding and the sessions that were opened under it; whether it was live.
async fn end(services: &Services, binding: &Arc<Binding>, why: Unbound) -> bool {
    let ended = services.tokens.bindings.end(binding).await;
    let was_live = ended.unwrap_or_else(|error| {
        tracing::error!(%error, cgroup = %binding.cgroup,
            "an identity has ended, but that cannot be kept yet: it would be bound again after a restart");
        true
    });
    if !was_live {
        return false;
    }
    ending::of_identity(services, binding.scope, &binding.identity).await;
    let sessions = services.registry.end(EndReason::Identity, |session| {
        session.who().flow.scope == binding.scope && !session.who().is_bound(services)
    });
    let event = Event::IdentityEnded {
        scope: ScopeNamed {
            agent: &binding.agent,
            cgroup: &binding.cgroup,
        },
        identity: &binding.identity,
        why,
        sessions,
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write the end of an identity to the audit log");
    }
    true
}

/// Writes that something was not believed.
pub(in crate::control) fn refuse(
    services: &Services,
    caller: &Known,
    to: Option<Place<'_>>,
    (how, error): (&str, &Error),
) {
    let event = Event::IdentityRefused {
        caller: caller.named(),
        scope: to.map(|to| ScopeNamed {
            agent: to.agent,
            cgroup: to.cgroup,
        }),
        how,
        reason: error.reason(),
        cause: error.to_string(),
    };
    if let Err(error) = services.audit.append(&event) {
        tracing::error!(%error, "cannot write a refusal to the audit log");
    }
}

/// The scope that is meant: the one that a cgroup is the root of, or that a process lives in.
pub(super) async fn named(
    services: &Arc<Services>,
    caller: &Known,
    which: &Which,
) -> Result<capture::Scope, Answer> {
    let path = path_of(services, (caller, ControlVerb::Bind), which).await?;
    let around = services.scopes.around(&path);
    let around = around.map_err(|error| Answer::failed(&error))?;
    around.ok_or_else(|| {
        Answer::bad(&format!(
            "cgroup {path} is in no scope; `interceptor status` lists those there are"
        ))
    })
}

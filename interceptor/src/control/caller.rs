//! Who speaks to the daemon: on a control socket by the kernel's peer credentials and the cgroup that it is in,
//! elsewhere by a login.
//!
//! A caller inside a scope gets nothing on `control.sock`, whatever its uid. Root outside every scope
//! may do all; others what policy permits, and never on the strength of a uid that also runs an agent.

pub mod codes;
pub mod guest;
pub mod logins;
mod visitor;

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;
use serde_json::{Value, json};

pub use self::visitor::{As, Visitor};
use super::api::Problem;
use super::door::Door;
use crate::audit::event::{Caller, Event};
use crate::audit::{self, Sink as _};
use crate::capture::{self, Scope};
use crate::identity::{self, pidfd};
use crate::policy::{ApprovalId, Refusal};
use crate::policy::{ControlCaller, ControlObject, ControlVerb, HostUser};
use crate::session::services::Services;
use crate::tokens::login::Owner;

/// The process on the other end of a control connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who; absent where the kernel or /proc could not tell for sure.
    pub known: Option<Known>,
}

/// Somebody who is known for sure.
#[derive(Clone, Debug)]
pub struct Known {
    who: Who,
    /// As the audit names it.
    caller: Caller,
}

#[derive(Clone, Debug)]
enum Who {
    Process(Process),
    Visitor(Visitor),
}

/// A process on the other end of a socket.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// User id, by the kernel's peer credentials.
    pub uid: u32,
    /// Group id, by the same.
    pub gid: u32,
    held: Arc<OwnedFd>,
    /// Its cgroup, below the cgroup v2 mount.
    pub cgroup: String,
}

impl Process {
    /// Whether it still lives: only then is it the one that /proc tells about under its number.
    #[must_use]
    pub fn lives(&self) -> bool {
        pidfd::is_alive(&self.held)
    }

    /// As whoever begins a login: nobody else goes on with it.
    #[must_use]
    pub fn owner(&self, services: &Services) -> Owner {
        Owner {
            pid: self.pid,
            uid: self.uid,
            scope: services.scopes.known_around(&self.cgroup),
            held: Arc::clone(&self.held),
        }
    }

    /// As policy sees it. Names and groups are not asked for root, who may do all: a name service that
    /// fails must not keep him out.
    async fn as_caller(&self, services: &Arc<Services>) -> Result<ControlCaller, String> {
        let user = services.caller(self.pid, (self.uid, self.gid)).await?;
        let (looked, cgroup) = (Arc::clone(services), self.cgroup.clone());
        let found = tokio::task::spawn_blocking(move || looked.scopes.around(&cgroup)).await;
        let found = found.map_err(|error| error.to_string())?;
        let scope = found.map_err(|error: capture::Error| error.to_string())?;
        Ok(ControlCaller::User(HostUser {
            agent: scope.map(|scope| scope.agent),
            ..user
        }))
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        let visit = stream.io();
        let stream = visit.stream();
        let known = stream.peer_cred().ok().and_then(|cred| {
            let pid = u32::try_from(cred.pid()?).ok()?;
            let given = getsockopt(&stream.as_fd(), PeerPidfd);
            let pidfd = hold(given, pid, cred.uid())?;
            let cgroup = visit.held().hierarchy().of(Some(pid)).ok()?;
            let known = Known::new(pid, (cred.uid(), cred.gid()), cgroup, pidfd);
            known.process().ok()?.lives().then_some(known)
        });
        Self { known }
    }
}

/// Holds the process on the other end. Of one that has been reaped the kernel has no pidfd, or one that says so:
/// its number may be another's by now, and is trusted only by kernels that give none at all (before Linux 6.5),
/// where whoever has it is of the same user.
fn hold(given: Result<OwnedFd, Errno>, pid: u32, uid: u32) -> Option<OwnedFd> {
    match given {
        Err(Errno::ENOPROTOOPT) => {
            let found = pidfd::open(pid).ok()?;
            (identity::user_of(pid).ok()? == uid).then_some(found)
        }
        given => given.ok(),
    }
}

impl Known {
    fn new(pid: u32, ids: (u32, u32), cgroup: String, held: OwnedFd) -> Self {
        let (uid, gid) = ids;
        Self {
            caller: Caller::bare(pid, ids, "not asked for".to_owned()),
            who: Who::Process(Process {
                pid,
                uid,
                gid,
                held: Arc::new(held),
                cgroup,
            }),
        }
    }

    /// Somebody who logged in.
    #[must_use]
    pub fn visiting(visitor: Visitor) -> Self {
        Self {
            caller: visitor.named(),
            who: Who::Visitor(visitor),
        }
    }

    /// The process that it is.
    ///
    /// # Errors
    /// The answer for who is none.
    pub fn process(&self) -> Result<&Process, Answer> {
        match &self.who {
            Who::Process(process) => Ok(process),
            Who::Visitor(_) => Err(Answer::unknown()),
        }
    }

    /// The login that it is; none of a process.
    #[must_use]
    pub fn visitor(&self) -> Option<&Visitor> {
        match &self.who {
            Who::Visitor(visitor) => Some(visitor),
            Who::Process(_) => None,
        }
    }

    /// Looks at it as closely as at whoever opens a connection, for the audit; nothing is decided by it.
    async fn described(mut self, services: &Services, scope: Option<&Scope>) -> Self {
        let Who::Process(process) = &self.who else {
            return self;
        };
        let (pid, ids) = (process.pid, (process.uid, process.gid));
        let found = match scope {
            Some(scope) => {
                let agent = services
                    .identity
                    .of_process(pid, ids, &services.scope_of(scope))
                    .await;
                agent.map(Caller::Agent)
            }
            None => {
                let operator = services.identity.of_operator(pid, ids).await;
                operator.map(|operator| Caller::Operator(Arc::new(operator)))
            }
        };
        self.caller = match found {
            Ok(caller) if process.lives() => caller,
            Ok(_) => Caller::bare(pid, ids, "it has ended".to_owned()),
            Err(error) => Caller::bare(pid, ids, error.to_string()),
        };
        self
    }

    /// As the audit names it.
    #[must_use]
    pub fn named(&self) -> Caller {
        self.caller.clone()
    }

    /// May this caller use this verb on this object? Who it is, as policy sees it.
    ///
    /// # Errors
    /// The answer for the caller; the refusal is written to the audit here. Whoever cannot be looked up
    /// is refused: a rule may forbid by name or group.
    pub async fn may(
        &self,
        services: &Arc<Services>,
        verb: ControlVerb,
        object: &ControlObject,
    ) -> Result<ControlCaller, Answer> {
        let judged = self.judged(services, verb, object).await?;
        judged.map_err(|refusal| {
            let detail = json!({ "object": about(object), "refusal": refusal });
            self.audit(services, verb.word(), "refused", detail);
            Answer::refused(&refusal)
        })
    }

    /// The same where a no is no answer: nothing is written of it.
    ///
    /// # Errors
    /// Where the caller cannot be looked up, which is written to the audit.
    pub async fn judged(
        &self,
        services: &Arc<Services>,
        verb: ControlVerb,
        object: &ControlObject,
    ) -> Result<Result<ControlCaller, Refusal>, Answer> {
        let caller = self.as_caller(services).await.map_err(|error| {
            let detail = json!({ "object": about(object), "error": error });
            self.audit(services, verb.word(), "refused", detail);
            Answer::failed(&error)
        })?;
        let policy = services.policy.current();
        let judged = policy.authorize_control(&caller, verb, object);
        Ok(judged.map(|_rules| caller))
    }

    /// May this caller use this verb on anything at all? For what costs too much to be done for everybody.
    ///
    /// # Errors
    /// As for [`Known::may`].
    pub async fn may_somewhere(
        &self,
        services: &Arc<Services>,
        verb: ControlVerb,
    ) -> Result<(), Answer> {
        let caller = self.as_caller(services).await;
        let policy = services.policy.current();
        match caller {
            Ok(caller) if policy.could_control(&caller, verb) => Ok(()),
            // Nor on the host as a whole, then: that says and writes why.
            _ => {
                let judged = self.may(services, verb, &ControlObject::Host);
                judged.await.map(drop)
            }
        }
    }

    /// As the audit names it.
    #[must_use]
    pub fn in_audit(&self) -> Caller {
        self.caller.clone()
    }

    /// Writes what was tried and failed, and why; the answer that says so.
    #[must_use]
    pub fn failed(
        &self,
        services: &Services,
        verb: &str,
        mut detail: Value,
        error: &str,
    ) -> Answer {
        if let Value::Object(fields) = &mut detail {
            fields.insert("error".to_owned(), error.into());
        }
        self.audit(services, verb, "failed", detail);
        Answer::failed(&error)
    }

    /// Writes what was done to the audit; a line that cannot be written is logged.
    pub fn audit(&self, services: &Services, verb: &str, result: &str, detail: Value) {
        if let Err(error) = self.write(services, verb, result, detail) {
            tracing::error!(%error, verb, "cannot write a control verb to the audit log");
        }
    }

    /// Writes what is about to be done to the audit.
    ///
    /// # Errors
    /// Where the line cannot be written.
    pub fn write(
        &self,
        services: &Services,
        verb: &str,
        result: &str,
        detail: Value,
    ) -> Result<(), audit::Error> {
        let generation = services.policy.generation();
        let caller = Some(self.caller.clone());
        let event = Event::Control {
            verb,
            caller,
            result,
            detail,
            generation,
        };
        services.audit.append(&event).map(drop)
    }

    /// As policy sees it.
    ///
    /// # Errors
    /// Where it cannot be looked up, or its login does not count any more.
    pub(super) async fn as_caller(
        &self,
        services: &Arc<Services>,
    ) -> Result<ControlCaller, String> {
        match &self.who {
            Who::Process(process) => process.as_caller(services).await,
            Who::Visitor(visitor) if visitor.is_good(services) => Ok(visitor.as_caller()),
            Who::Visitor(_) => Err("the login does not count any more".to_owned()),
        }
    }
}

/// Refuses callers that are unknown, and callers inside a scope.
pub async fn outside_scopes(
    State(services): State<Arc<Services>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(known) = peer.known else {
        return Answer::unknown().into_response();
    };
    let Ok(process) = known.process() else {
        return Answer::unknown().into_response();
    };
    let cgroup = process.cgroup.clone();
    let scope = services.scopes.around(&cgroup);
    let inside = scope.as_ref().ok().and_then(Option::as_ref);
    let known = known.described(&services, inside).await;
    // What cannot be looked up counts as inside.
    if !matches!(scope, Ok(None)) {
        let detail = json!({ "path": request.uri().path(), "cgroup": cgroup });
        known.audit(&services, "connect", "refused", detail);
        return Answer::inside().into_response();
    }
    let known = Some(known);
    request.extensions_mut().insert(ConnectInfo(Peer { known }));
    next.run(request).await
}

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Answer> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        peer.and_then(|ConnectInfo(peer)| peer.known.clone())
            .ok_or_else(Answer::unknown)
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Answer(Problem);

impl Answer {
    /// The caller could not be identified.
    #[must_use]
    pub fn unknown() -> Self {
        let title = "the caller is not known: it ended, or hides from /proc";
        Self::new(StatusCode::FORBIDDEN, title, None)
    }

    /// The caller is inside a scope.
    #[must_use]
    pub fn inside() -> Self {
        let hint = "processes of a scope use agent.sock".to_owned();
        Self::new(
            StatusCode::FORBIDDEN,
            "the control socket does not answer agents",
            Some(hint),
        )
    }

    /// Policy said no.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            &refusal.message,
            refusal.hint.clone(),
        )
    }

    /// A token or a login was not believed; the audit says why.
    #[must_use]
    pub fn unbelieved() -> Self {
        let hint = "the audit log of the host says why".to_owned();
        let title = "who is behind this could not be verified";
        Self::new(StatusCode::FORBIDDEN, title, Some(hint))
    }

    /// People are asked; the same request finds their answer.
    #[must_use]
    pub fn waits(refusal: &Refusal, approval: ApprovalId) -> Self {
        let Self(problem) = Self::refused(refusal);
        Self(Problem {
            approval: Some(approval),
            ..problem
        })
    }

    /// It does not come from where it should.
    #[must_use]
    pub fn forbidden(title: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, title, None)
    }

    /// Nobody is logged in.
    #[must_use]
    pub fn logged_out() -> Self {
        let title = "nobody is logged in, or the login is over";
        Self::new(StatusCode::UNAUTHORIZED, title, None)
    }

    /// Too many have tried.
    #[must_use]
    pub fn too_often() -> Self {
        let title = "too many have tried to log in; wait a moment";
        Self::new(StatusCode::TOO_MANY_REQUESTS, title, None)
    }

    /// What was asked for makes no sense.
    #[must_use]
    pub fn bad(title: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, None)
    }

    /// It was tried and failed.
    #[must_use]
    pub fn failed(error: &dyn std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string(), None)
    }

    /// What went wrong, in words.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.0.title
    }

    fn new(status: StatusCode, title: &str, detail: Option<String>) -> Self {
        Self(Problem {
            status: status.as_u16(),
            title: title.to_owned(),
            detail,
            approval: None,
        })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (
            status,
            [(CONTENT_TYPE, "application/problem+json")],
            axum::Json(self.0),
        )
            .into_response()
    }
}

/// What a verb is about, for the audit.
fn about(object: &ControlObject) -> Value {
    match object {
        ControlObject::Host => json!("host"),
        ControlObject::Agent(agent) => json!({ "agent": agent }),
        ControlObject::Scope { agent, cgroup } => json!({ "agent": agent, "cgroup": cgroup }),
    }
}

#[cfg(test)]
mod tests;

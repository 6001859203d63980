//! Who speaks on a control socket: by the kernel's peer credentials, and by the cgroup it is in.
//!
//! A caller inside a scope gets nothing on `control.sock`, whatever its uid. Root outside every scope
//! may do all; others what policy permits, and never on the strength of a uid that also runs an agent.

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
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;
use nix::unistd::{Gid, Group, Uid, User};

use super::api::Problem;
use super::door::Door;
use super::scopes::cgroup;
use crate::audit::Sink as _;
use crate::audit::event::{Caller, Event};
use crate::capture::Scope;
use crate::capture::cgroup2::Hierarchy;
use crate::identity::pidfd;
use crate::policy::Refusal;
use crate::policy::{ControlCaller, ControlObject, ControlVerb, Group as HostGroup};
use crate::session::services::Services;

/// The process on the other end of a control connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who; absent where the kernel or /proc could not tell for sure.
    pub known: Option<Known>,
}

/// A peer that is known for sure.
#[derive(Clone, Debug)]
pub struct Known {
    /// Process id.
    pub pid: u32,
    /// User id, by the kernel's peer credentials.
    pub uid: u32,
    /// Group id, by the same.
    pub gid: u32,
    /// As the audit names it.
    caller: Caller,
    held: Arc<OwnedFd>,
    /// Login name.
    pub name: Option<String>,
    /// Its groups.
    pub groups: Vec<HostGroup>,
    /// Its cgroup, below the cgroup v2 mount.
    pub cgroup: String,
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        let stream = stream.io().stream();
        let known = stream.peer_cred().ok().and_then(|cred| {
            let pid = u32::try_from(cred.pid()?).ok()?;
            let pidfd = getsockopt(&stream.as_fd(), PeerPidfd)
                .or_else(|_| pidfd::open(pid))
                .ok()?;
            let cgroup = Hierarchy::find()
                .and_then(|hierarchy| hierarchy.of(Some(pid)))
                .ok()?;
            let known = Known::new(pid, (cred.uid(), cred.gid()), cgroup, pidfd);
            known.lives().then_some(known)
        });
        Self { known }
    }
}

impl Known {
    fn new(pid: u32, ids: (u32, u32), cgroup: String, held: OwnedFd) -> Self {
        let (uid, gid) = ids;
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = user.as_ref().map(groups_of).unwrap_or_default();
        Self {
            pid,
            uid,
            gid,
            caller: Caller::bare(pid, ids, "not asked for".to_owned()),
            held: Arc::new(held),
            name: user.map(|user| user.name),
            groups,
            cgroup,
        }
    }

    /// Whether it still lives: only then is it the one that /proc tells about under its number.
    #[must_use]
    pub fn lives(&self) -> bool {
        pidfd::is_alive(&self.held)
    }

    /// Looks at it as closely as at whoever opens a connection, for the audit; nothing is decided by it.
    async fn described(mut self, services: &Services, scope: Option<&Scope>) -> Self {
        let (pid, ids) = (self.pid, (self.uid, self.gid));
        let found = match scope {
            Some(scope) => {
                let agent = services.identity.of_process(pid, ids, &scope.into()).await;
                agent.map(Caller::Agent)
            }
            None => {
                let operator = services.identity.of_operator(pid, ids).await;
                operator.map(|operator| Caller::Operator(Arc::new(operator)))
            }
        };
        self.caller = match found {
            Ok(caller) if self.lives() => caller,
            Ok(_) => Caller::bare(pid, ids, "it has ended".to_owned()),
            Err(error) => Caller::bare(pid, ids, error.to_string()),
        };
        self
    }

    /// Whether it is root of the host.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// May this caller use this verb on this object?
    ///
    /// # Errors
    /// The answer for the caller; the refusal is written to the audit here.
    pub fn may(
        &self,
        services: &Services,
        verb: ControlVerb,
        object: &ControlObject,
    ) -> Result<(), Answer> {
        let judged =
            services
                .policy
                .current()
                .authorize_control(&self.as_caller(services), verb, object);
        judged.map(drop).map_err(|refusal| {
            let detail = serde_json::json!({ "object": format!("{object:?}"), "refusal": refusal });
            self.audit(services, verb.word(), "refused", detail);
            Answer::refused(&refusal)
        })
    }

    /// Writes what was done to the audit; a line that cannot be written is logged.
    pub fn audit(&self, services: &Services, verb: &str, result: &str, detail: serde_json::Value) {
        let generation = services.policy.generation();
        let caller = Some(self.caller.clone());
        let event = Event::Control {
            verb,
            caller,
            result,
            detail,
            generation,
        };
        if let Err(error) = services.audit.append(&event) {
            tracing::error!(%error, verb, "cannot write a control verb to the audit log");
        }
    }

    fn as_caller(&self, services: &Services) -> ControlCaller {
        let (uid, gid) = (self.uid, self.gid);
        ControlCaller {
            uid,
            gid,
            name: self.name.clone(),
            groups: self.groups.clone(),
            agent: services
                .scopes
                .around(&self.cgroup)
                .ok()
                .flatten()
                .map(|scope| scope.agent),
            runs_agent: uid != 0 && runs_an_agent(services, uid),
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
    let scope = services.scopes.around(&known.cgroup);
    let inside = scope.as_ref().ok().and_then(Option::as_ref);
    let known = known.described(&services, inside).await;
    // What cannot be looked up counts as inside.
    if !matches!(scope, Ok(None)) {
        let detail = serde_json::json!({ "path": request.uri().path(), "cgroup": known.cgroup });
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

    fn new(status: StatusCode, title: &str, detail: Option<String>) -> Self {
        Self(Problem {
            status: status.as_u16(),
            title: title.to_owned(),
            detail,
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

fn groups_of(user: &User) -> Vec<HostGroup> {
    let Ok(name) = std::ffi::CString::new(user.name.as_bytes()) else {
        return Vec::new();
    };
    let ids: Vec<Gid> = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
    let named = |id: Gid| HostGroup {
        gid: id.as_raw(),
        name: Group::from_gid(id).ok().flatten().map(|group| group.name),
    };
    ids.into_iter().map(named).collect()
}

/// Whether a process of this uid lives in any scope.
fn runs_an_agent(services: &Services, uid: u32) -> bool {
    services.scopes.all().iter().any(|scope| {
        let processes = services.capture.hierarchy().processes(&scope.path);
        processes
            .unwrap_or_default()
            .into_iter()
            .any(|pid| cgroup::uid_of(pid) == Some(uid))
    })
}

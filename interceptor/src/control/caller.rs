//! Who speaks on a control socket: by the kernel's peer credentials, and by the cgroup it is in.
//!
//! A caller inside a scope gets nothing on `control.sock`, whatever its uid. Root outside every scope
//! may do all; others what policy permits, and never on the strength of a uid that also runs an agent.

use std::os::fd::AsFd as _;
use std::path::Path;
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
    /// Its credentials.
    pub caller: Caller,
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
            let caller = Caller {
                pid,
                uid: cred.uid(),
                gid: cred.gid(),
                executable: executable(pid),
            };
            let cgroup = Hierarchy::find()
                .and_then(|hierarchy| hierarchy.of(Some(pid)))
                .ok()?;
            // Only a process that still lives is the one that /proc told about.
            pidfd::is_alive(&pidfd).then(|| Known::new(caller, cgroup))
        });
        Self { known }
    }
}

impl Known {
    fn new(caller: Caller, cgroup: String) -> Self {
        let user = User::from_uid(Uid::from_raw(caller.uid)).ok().flatten();
        let groups = user.as_ref().map(groups_of).unwrap_or_default();
        Self {
            name: user.map(|user| user.name),
            groups,
            cgroup,
            caller,
        }
    }

    /// Whether it is root of the host.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.caller.uid == 0
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
        let Caller { uid, gid, .. } = self.caller;
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
    request: Request,
    next: Next,
) -> Response {
    let Some(known) = &peer.known else {
        return Answer::unknown().into_response();
    };
    // What cannot be looked up counts as inside.
    if !matches!(services.scopes.around(&known.cgroup), Ok(None)) {
        let detail = serde_json::json!({ "path": request.uri().path(), "cgroup": known.cgroup });
        known.audit(&services, "connect", "refused", detail);
        return Answer::inside().into_response();
    }
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

fn executable(pid: u32) -> Option<String> {
    let path = std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).ok()?;
    Some(path.to_string_lossy().into_owned())
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

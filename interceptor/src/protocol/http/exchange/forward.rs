//! A request that is permitted on its way: given the credential, sent, and once more with another one where the
//! server takes the first for no good any more.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::time::timeout;

use super::lane::lane;
use super::sent::Leaving;
use super::{Exchange, Plan, extended, ranges};
use crate::config::Inject;
use crate::policy::{Permit, Refusal};
use crate::protocol::http::answer::{self, Passing};
use crate::protocol::http::inject::sigv4::Key;
use crate::protocol::http::inject::{Chunks, Credential, Payload};
use crate::protocol::http::mask::Masker;
use crate::protocol::http::reach::{Failed, Socket, Way};
use crate::protocol::http::record::Track;
use crate::protocol::http::{Answer, Body, Spoken, empty, inject, never};
use crate::protocol::kubernetes;
use crate::secrets::Secret;
use crate::session::{Direction, Gate};

/// Headers between two neighbours, which do not go on.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    // The client was told to go on where it asked, so its server has nothing to wait with.
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::UPGRADE,
];
/// Headers by which a client asks for a part.
const PARTS: [&str; 2] = ["range", "if-range"];
/// Headers by which it asks for what cannot be read as it goes by: other letters, a difference.
const UNASKED: [&str; 3] = ["accept-charset", "a-im", "sec-websocket-extensions"];
/// Headers by which it says which compression of messages it reads.
const COMPRESSIONS: [&str; 2] = ["grpc-accept-encoding", "connect-accept-encoding"];

/// A request that is permitted, before it has a credential.
pub(super) struct Outgoing {
    pub(super) parts: Parts,
    pub(super) body: Body,
    /// What looks at the body on its way, where that was not done before.
    pub(super) masker: Option<Masker>,
    /// The body, where it is there as a whole: it can be sent again.
    pub(super) whole: Option<Bytes>,
}

/// Why a request has no answer.
enum Unanswered {
    Failed(Failed),
    Late,
}

impl<G: Gate, W: Way> Exchange<G, W> {
    /// Sends it, with the credential in it.
    pub(super) async fn forward(
        &self,
        permit: Permit,
        outgoing: Outgoing,
        mut passing: Passing<G>,
    ) -> Result<Answer, Box<Answer>> {
        let Outgoing {
            mut parts,
            body,
            masker,
            whole,
        } = outgoing;
        let plan = Arc::clone(&passing.plan);
        let recorded = self.record(&parts, &passing).await;
        recorded.map_err(|refusal| self.told(&refusal))?;
        let socket = match self.socket(&plan, &parts).await {
            Ok(socket) => socket,
            Err(why) => return Err(unanswered(why, passing)),
        };
        let own = socket.as_ref().map(Socket::spoken);
        let spoken = own.unwrap_or_else(|| self.spoken());
        prepare(&mut parts, &passing, spoken);
        if let Some(place) = self.way.made_by_proxy() {
            whole_address(&mut parts, &place).map_err(|refusal| self.told(&refusal))?;
        }
        let again = whole
            .clone()
            .filter(|_| renews(&plan) && passing.upgraded.is_none())
            .map(|whole| (parts.clone(), whole));
        let payload = match &whole {
            _ if passing.upgraded.is_some() => Payload::Whole(&[]),
            Some(whole) => Payload::Whole(whole),
            None => Payload::Comes {
                covered: masker.is_some(),
            },
        };
        let used = self.give(&mut parts, &mut passing, payload, None).await;
        let (used, chunks) = match used {
            Ok(used) => used,
            Err(refusal) => return Err(passing.ending.not_forwarded(&refusal)),
        };
        let body = self.leaving(body, (masker, chunks), &passing);
        let answered = self.begin(permit, &plan, (parts, body), socket);
        let (mut response, permit) = match answered.await {
            Ok(answered) => answered,
            Err(why) => return Err(unanswered(why, passing)),
        };
        if response.status() == StatusCode::UNAUTHORIZED
            && renews(&plan)
            && let Some(used) = used
        {
            // What cannot be sent again is answered as it is; the next one has the new token.
            let renewed = self.renewed(&plan, &used).await;
            if let (true, Some((mut parts, whole))) = (renewed, again) {
                let payload = Payload::Whole(&whole);
                let given = self.give(&mut parts, &mut passing, payload, Some(&used));
                if let Err(refusal) = given.await {
                    return Err(passing.ending.not_forwarded(&refusal));
                }
                let body = match whole.is_empty() {
                    true => empty(),
                    false => Full::new(whole).map_err(never).boxed_unsync(),
                };
                let answered = self.send(permit, &plan, Request::from_parts(parts, body));
                response = match answered.await {
                    Ok((response, _permit)) => response,
                    Err(why) => return Err(unanswered(why, passing)),
                };
            }
        }
        Ok(answer::pass(response, passing).await)
    }

    /// Records a head as it was judged.
    async fn record(&self, parts: &Parts, passing: &Passing<G>) -> Result<(), Refusal> {
        let most = passing.plan.http.recorded_bytes;
        let request = passing.ending.request;
        let track = Track::new(&*self.gate, Direction::Sent, request, most);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let first = format!("{} {path} {:?}", parts.method, parts.version);
        track.head(&first, &parts.headers).await
    }

    /// The way of its own that a WebSocket of HTTP/2 has.
    async fn socket(&self, plan: &Plan, parts: &Parts) -> Result<Option<Socket>, Unanswered> {
        if !extended::is(parts) {
            return Ok(None);
        }
        let socket = self.reach.socket(&self.way, is_signed(plan)).await;
        socket.map(Some).map_err(Unanswered::Failed)
    }

    /// Sends a request for the first time, by the way of its own that a WebSocket of HTTP/2 has.
    async fn begin(
        &self,
        permit: Permit,
        plan: &Plan,
        (mut parts, body): (Parts, Body),
        socket: Option<Socket>,
    ) -> Result<(Response<Incoming>, Permit), Unanswered> {
        let Some(socket) = socket else {
            return self
                .send(permit, plan, Request::from_parts(parts, body))
                .await;
        };
        let failed = |cause: &str| {
            Unanswered::Failed(Failed {
                refusal: Refusal::upstream("the server does not take a WebSocket as it should"),
                cause: cause.to_owned(),
            })
        };
        let proof = extended::sent(&mut parts, socket.spoken());
        let proof = proof.ok_or_else(|| failed("there is no key for it"))?;
        let opened = self
            .reach
            .open(permit, socket, Request::from_parts(parts, body));
        let (mut response, permit) = within(plan, opened).await?;
        match extended::answered(&mut response, &proof) {
            true => Ok((response, permit)),
            false => Err(failed("it has not read the key")),
        }
    }

    /// Sends a request; its permit comes back with the answer, for the same request.
    async fn send(
        &self,
        permit: Permit,
        plan: &Plan,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Permit), Unanswered> {
        within(plan, self.reach.send(permit, &self.way, request)).await
    }

    /// Whether there is another token than the one that was refused.
    async fn renewed(&self, plan: &Plan, refused: &Secret) -> bool {
        use secrecy::ExposeSecret as _;
        let Some(injected) = &plan.http.inject else {
            return false;
        };
        let token = self.way.credential(injected, Some(refused)).await;
        token.is_some_and(|token| token.expose_secret() != refused.expose_secret())
    }

    /// Puts in the credential, where the target has one, and as whom it is used.
    async fn give(
        &self,
        parts: &mut Parts,
        passing: &mut Passing<G>,
        payload: Payload<'_>,
        refused: Option<&Secret>,
    ) -> Result<(Option<Secret>, Option<Chunks>), Refusal> {
        let plan = Arc::clone(&passing.plan);
        let cluster = plan.cluster.as_ref();
        let (mut used, mut chunks) = (None, None);
        if let Some(injected) = &plan.http.inject {
            let mut secret = self.way.credential(injected, refused).await;
            if cluster.is_some() {
                secret = secret.and_then(kubernetes::inject::token);
            }
            let secret = secret.ok_or_else(Refusal::secret)?;
            let target = &plan.target.name;
            let credential = self.credential(injected, &secret).await.ok_or_else(|| {
                tracing::error!(%target, "a credential is not used: it is no key");
                Refusal::secret()
            })?;
            let forms = self.given.forms(target, injected, &credential.secrets());
            let forms = forms.map_err(|why| {
                tracing::error!(%target, "a credential is not used: {why}");
                Refusal::secret()
            })?;
            passing.forms = Some(forms);
            passing.is_sent = credential.is_sent(injected);
            chunks = inject::inject(parts, injected, &credential, payload)?;
            used = Some(secret);
        }
        if let Some(whom) = cluster.and_then(|cluster| cluster.settings.impersonate.as_ref()) {
            kubernetes::inject::impersonate(&mut parts.headers, whom, &self.caller)?;
        }
        Ok((used, chunks))
    }

    /// A credential as it is used; `None` where a secret is none.
    async fn credential(&self, injected: &Inject, secret: &Secret) -> Option<Credential> {
        let Inject::Sigv4(settings) = injected else {
            return Some(Credential::Secret(secret.clone()));
        };
        let token = match &settings.token {
            Some(source) => Some(self.way.secret(source).await?),
            None => None,
        };
        Key::of(settings, secret.clone(), token).map(Credential::Key)
    }

    /// The body as it is looked at and recorded on its way; one that is empty goes on as it is.
    fn leaving(
        &self,
        body: Body,
        (masker, chunks): (Option<Masker>, Option<Chunks>),
        passing: &Passing<G>,
    ) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let leaving = Leaving {
            gate: Arc::clone(&self.gate),
            request: passing.ending.request,
            settings: Arc::clone(&passing.plan.http),
            sent: passing.ending.sent.clone(),
            masker,
            chunks: chunks.map(|chunks| chunks.within(self.gate.room())),
        };
        let (to, carried) = lane();
        self.tasks.run(leaving.carry(body, to));
        carried
    }
}

/// Waits for an answer as long as the target says.
async fn within<T>(
    plan: &Plan,
    sent: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Unanswered> {
    let sent = match plan.target.timeouts.statement {
        Some(most) => timeout(most, sent).await,
        None => Ok(sent.await),
    };
    match sent {
        Ok(answered) => answered.map_err(Unanswered::Failed),
        Err(_elapsed) => Err(Unanswered::Late),
    }
}

/// Whether requests are signed.
fn is_signed(plan: &Plan) -> bool {
    matches!(plan.http.inject, Some(Inject::Sigv4(_) | Inject::Hmac(_)))
}

/// Whether the credential is a token that can be asked for anew.
pub(super) fn renews(plan: &Plan) -> bool {
    matches!(plan.http.inject, Some(Inject::Issued(_)))
}

fn unanswered<G: Gate>(why: Unanswered, mut passing: Passing<G>) -> Box<Answer> {
    if let Some(refusal) = passing.ending.sent.cut() {
        passing.ending.outcome.status = format!("cut off: {}", refusal.message);
        return passing.ending.told(&refusal);
    }
    let (status, refusal) = match why {
        Unanswered::Failed(failed) => {
            let target = &passing.plan.target.name;
            tracing::warn!(cause = %failed.cause, %target, "an upstream gave no answer");
            ("no answer", failed.refusal)
        }
        Unanswered::Late => {
            let message = "the upstream did not answer in time";
            ("timed out", Refusal::upstream(message))
        }
    };
    passing.ending.outcome.status = status.to_owned();
    passing.ending.told(&refusal)
}

/// What of the head is the connection's own is made anew; what cannot be read as it goes by is not asked for.
fn prepare<G: Gate>(parts: &mut Parts, passing: &Passing<G>, spoken: Spoken) {
    let upgrade = parts.headers.get(header::UPGRADE).cloned();
    for name in &HOP {
        parts.headers.remove(name);
    }
    if let Some(upgrade) = upgrade.filter(|_| passing.upgraded.is_some()) {
        let word = HeaderValue::from_static("Upgrade");
        parts.headers.insert(header::CONNECTION, word);
        parts.headers.insert(header::UPGRADE, upgrade);
    }
    if passing.command.is_some() {
        // Its frames are read.
        parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    if passing.masks.has_fields() && matches!(parts.method, Method::GET | Method::HEAD) {
        // They ask whether a guess of the whole is right.
        parts.headers.remove(header::IF_MATCH);
        parts.headers.remove(header::IF_NONE_MATCH);
    }
    if !passing.masks.is_empty() || passing.plan.http.inject.is_some() {
        plainly(&mut parts.headers);
        if !ranges::pass(&passing.plan.http, &passing.masks) {
            for name in PARTS {
                parts.headers.remove(name);
            }
        }
        if passing.json_only && !passing.masks.is_empty() {
            kubernetes::mask::ask_for_json(&mut parts.headers);
        }
    }
    if spoken == Spoken::One {
        parts.version = Version::HTTP_11;
        relative(parts);
    }
}

/// The request's line names a path; the host that stood in it alone goes where servers look for it.
pub(super) fn relative(parts: &mut Parts) {
    if let Some(named) = parts.uri.authority()
        && let Ok(named) = HeaderValue::from_str(named.as_str())
        && !parts.headers.contains_key(header::HOST)
    {
        parts.headers.insert(header::HOST, named);
    }
    if let Some(path) = parts.uri.path_and_query().cloned() {
        parts.uri = path.into();
    }
}

/// The request's line names the whole of its address, as a proxy reads it that makes the request itself.
fn whole_address(parts: &mut Parts, place: &str) -> Result<(), Refusal> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme("http")
        .authority(place)
        .path_and_query(path);
    parts.uri = uri.build().map_err(|_no_address| {
        Refusal::malformed("the request has no address that a proxy could read")
    })?;
    Ok(())
}

/// Asks for an answer as it is.
fn plainly(headers: &mut HeaderMap) {
    for name in UNASKED {
        headers.remove(name);
    }
    let identity = HeaderValue::from_static("identity");
    for name in COMPRESSIONS.map(HeaderName::from_static) {
        if let header::Entry::Occupied(mut said) = headers.entry(name) {
            said.insert(identity.clone());
        }
    }
    headers.insert(header::ACCEPT_ENCODING, identity);
    let reads_trailers = headers.get_all(header::TE).iter().any(|value| {
        let words = value.to_str().unwrap_or_default().split(',');
        let mut words = words.map(|word| word.split(';').next().unwrap_or_default().trim());
        words.any(|word| word.eq_ignore_ascii_case("trailers"))
    });
    match reads_trailers {
        true => drop(headers.insert(header::TE, HeaderValue::from_static("trailers"))),
        false => drop(headers.remove(header::TE)),
    }
}

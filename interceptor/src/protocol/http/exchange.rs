//! THE REQUEST LOOP: what happens to one request, in order.
//!
//! `read → judge → strip → inject → forward`, and what comes back goes through `answer`. The request that goes on is
//! the one that was judged: nothing of it is read again.

mod extended;
mod forward;
mod held;
pub(super) mod lane;
mod plan;
pub(super) mod ranges;
pub(super) mod rest;
mod sent;
mod wanted;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use tokio::sync::Semaphore;

use self::forward::Outgoing;
pub(super) use self::plan::Plan;
use self::plan::Plans;
use self::rest::Rest;
use self::sent::Sent;
use self::wanted::{Wanted, hear, of_body, wanted};
use super::answer::Passing;
use super::facts::{self, Facts, Wrong};
use super::inject::conceal::Given;
use super::mask::Masker;
use super::mask::grpc::{self, Schemas};
use super::reach::{Lease, Reach, Tasks, Way};
use super::{Answer, Body, Spoken, empty, inject, mask, refuse};
use crate::clock::{self, BootTime};
use crate::config::Unread;
use crate::policy::Refusal;
use crate::protocol::kubernetes;
use crate::protocol::kubernetes::facts::WrongBody;
use crate::secrets::Secret;
use crate::session::{Gate, Hold, Outcome, Phase, RequestId, Said, Shown, Values};

/// Headers that people are not shown: they change from one sending to the next, or say nothing.
const UNSHOWN: [&str; 17] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "connect-timeout-ms",
    "connection",
    "content-length",
    "date",
    "grpc-timeout",
    "host",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-request-id",
];
/// Credentials that one request may present: each is a line of the audit.
const CREDENTIALS: usize = 16;
/// Answers of one connection that come compressed at a time: each has a window of up to 8 MiB.
const DECODERS: usize = 8;

/// What the requests of one connection share.
pub(crate) struct Exchange<G, W> {
    gate: Arc<G>,
    way: W,
    reach: Reach,
    tasks: Tasks,
    plans: Plans,
    given: Arc<Given>,
    port: u16,
    caller: kubernetes::inject::Caller,
    /// Room for answers that come compressed.
    decoders: Arc<Semaphore>,
}

/// A request that is ready to be judged.
struct Ready {
    parts: Parts,
    facts: Facts,
    body: Body,
    /// What looks at the body on its way, where that was not done before.
    masker: Option<Masker>,
    /// The body, where it is there as a whole.
    whole: Option<Bytes>,
    sent: Sent,
    shown: Result<Shown, &'static str>,
    text: String,
}

/// The end of a request: it is written whatever becomes of it.
pub(super) struct Ending<G: Gate> {
    pub(super) gate: Arc<G>,
    pub(super) request: RequestId,
    pub(super) began: BootTime,
    pub(super) outcome: Outcome,
    /// What was looked for in the request.
    pub(super) sent: Sent,
}

impl<G: Gate> Ending<G> {
    /// Refuses what was permitted already, before anything of it has gone on.
    fn not_forwarded(mut self, refusal: &Refusal) -> Box<Answer> {
        self.outcome.status = "not forwarded".to_owned();
        self.told(refusal)
    }

    /// An answer of our own in the server's place.
    fn told(&self, refusal: &Refusal) -> Box<Answer> {
        let request = self.request.0.to_string();
        Box::new(refuse::told(refusal, Some(&request), None))
    }
}

impl<G: Gate> Drop for Ending<G> {
    fn drop(&mut self) {
        self.outcome.found_sent = self.sent.found();
        self.outcome.took = clock::boot().since(self.began);
        self.gate.finish(self.request, &self.outcome);
    }
}

impl<G: Gate, W: Way> Exchange<G, W> {
    /// Over a connection that is dialled.
    pub(crate) fn new(
        gate: Arc<G>,
        way: W,
        (reach, tasks): (Reach, Tasks),
        (hash_key, port, given, schemas): (Secret, u16, Arc<Given>, Arc<Schemas>),
        caller: kubernetes::inject::Caller,
    ) -> Self {
        Self {
            gate,
            way,
            reach,
            tasks,
            plans: Plans::new(hash_key, schemas),
            given,
            port,
            caller,
            decoders: Arc::new(Semaphore::new(DECODERS)),
        }
    }

    /// What is spoken.
    pub(crate) fn spoken(&self) -> Spoken {
        self.reach.spoken()
    }

    /// Lets the upstream's connection go: to the next client where everything has come to its end.
    pub(crate) async fn leave(&self, is_over: bool) {
        self.reach.leave(is_over).await;
    }

    /// What runs for it.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let words = refuse::Words::of(&request, self.reach.is_cluster());
        let is_socket = extended::taken(&mut request);
        let upgraded = hyper::upgrade::on(&mut request);
        let answer = match self.judge(request, upgraded).await {
            Ok(answer) => answer,
            Err(refused) => *refused,
        };
        match is_socket {
            true => extended::given(words.tell(answer)),
            false => words.tell(answer),
        }
    }

    async fn judge(
        &self,
        request: Request<Incoming>,
        upgraded: OnUpgrade,
    ) -> Result<Answer, Box<Answer>> {
        let (mut parts, incoming) = request.into_parts();
        let incoming = Rest::new(incoming, &parts.headers, &self.tasks);
        let plan = self.plan().map_err(|refusal| self.closing(&refusal))?;
        let odd = self.present(&plan, &mut parts);
        let odd = odd.map_err(|refusal| self.told(&refusal))?;
        let Ready {
            parts,
            mut facts,
            body,
            masker,
            whole,
            sent,
            shown,
            text,
        } = self.read(&plan, parts, incoming).await;
        facts.wrong = facts.wrong.or(odd);
        let reading = Arc::new(facts.reading(parts.uri.query()));
        let hold = Hold::default();
        let said = Said::alone(&text, shown.as_ref().map_err(|why| *why), &hold);
        let authorized = self.gate.authorize(Phase::Execute, said, &reading).await;
        let authorized =
            authorized.map_err(|refused| Box::new(refuse::refused(&refused, facts.wrong)))?;
        let ending = Ending {
            gate: Arc::clone(&self.gate),
            request: authorized.request,
            began: clock::boot(),
            outcome: Outcome {
                status: "unanswered".to_owned(),
                ..Outcome::default()
            },
            sent,
        };
        if let Some(answer) = self.reviewed(&facts) {
            return Ok(told_of_policy(answer, ending));
        }
        // Fields may be masked since it was judged.
        let masks = self.masks(&plan, &facts);
        let unread = facts.around.filter(|_| masks.has_fields());
        let unread = unread.or_else(|| self.uncalled(&plan, &facts));
        let unread = unread.or_else(|| ranges::refused(&parts, &plan.http, &masks));
        if let Some(unread) = unread {
            return Err(ending.not_forwarded(&unread.refusal()));
        }
        let limits = authorized.permit.limits();
        let passing = Passing {
            masks,
            call: plan.call(&facts),
            json_only: facts.is_object(),
            plan,
            spoken: self.spoken(),
            is_head: parts.method == hyper::Method::HEAD,
            forms: None,
            is_sent: false,
            is_told: false,
            upgraded: facts.upgrades_to().map(|to| (to, upgraded)),
            command: facts.cluster.as_ref().and_then(|cluster| cluster.command()),
            limit: limits.and_then(|limits| limits.max_bytes.clone()),
            lease: Lease::default(),
            ending,
            tasks: self.tasks.clone(),
            decoders: Arc::clone(&self.decoders),
        };
        let outgoing = Outgoing {
            parts,
            body,
            masker,
            whole,
        };
        self.forward(authorized.permit, outgoing, passing).await
    }

    /// Writes what the client presents, and takes it out; what is wrong with it.
    fn present(&self, plan: &Plan, parts: &mut Parts) -> Result<Option<Wrong>, Refusal> {
        let mut presented = inject::strip(parts, &plan.http);
        if plan.cluster.is_some() {
            presented.retain(|(_, value)| !kubernetes::inject::is_nobody(value));
            presented.extend(kubernetes::inject::strip(&mut parts.headers));
        }
        for (place, value) in presented.iter().take(CREDENTIALS) {
            self.gate.presented(place, value)?;
        }
        let why = "the request presents more credentials than anybody has";
        let odd = (presented.len() > CREDENTIALS).then_some(Wrong::Malformed(why));
        Ok(odd.or_else(|| inject::odd(plan.http.inject.as_ref(), &parts.headers)))
    }

    /// What is masked for whoever asks.
    fn masks(&self, plan: &Plan, facts: &Facts) -> Arc<mask::Masks> {
        match plan.masks(facts) {
            masks if masks.has_fields() && !self.gate.reveals(&facts.resource()) => {
                Arc::clone(masks)
            }
            _ => Arc::clone(&plan.values),
        }
    }

    /// Why it goes nowhere where fields are masked for whoever asks.
    fn around(&self, plan: &Plan, facts: &Facts) -> Option<Wrong> {
        facts
            .around
            .filter(|_| self.masks(plan, facts).has_fields())
    }

    /// Why a call goes nowhere whose answer could not be read.
    fn uncalled(&self, plan: &Plan, facts: &Facts) -> Option<Wrong> {
        let is_unknown = plan.http.unread == Unread::Refuse
            && grpc::is_grpc(&facts.http.content_type)
            && plan.call(facts).is_none();
        let is_unread = is_unknown && self.masks(plan, facts).keeps();
        is_unread.then_some(Wrong::Unreadable(grpc::UNKNOWN_CALL))
    }

    /// The target's settings in force; a connection that leads elsewhere by now is closed.
    fn plan(&self) -> Result<Arc<Plan>, Refusal> {
        let target = self.gate.target().ok_or_else(Refusal::ended)?;
        if !self.reach.is_for(&target) {
            return Err(Refusal::ended());
        }
        self.plans.of(&target).ok_or_else(Refusal::ended)
    }

    fn told(&self, refusal: &Refusal) -> Box<Answer> {
        Box::new(refuse::told(refusal, None, None))
    }

    /// Tells it, and closes the connection.
    fn closing(&self, refusal: &Refusal) -> Box<Answer> {
        let mut answer = self.told(refusal);
        if self.spoken() == Spoken::One {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        answer
    }

    /// Reads what is judged of a request: its head, and its body where rules or people need to know it.
    async fn read(&self, plan: &Plan, mut parts: Parts, incoming: Rest) -> Ready {
        let sent = Sent::new(plan);
        let looked = sent.head(&mut parts);
        let mut facts = facts::read(&parts, &plan.http, self.port);
        if plan.cluster.is_some() {
            facts.of_cluster(&parts);
        }
        if let Some(cluster) = facts.cluster.as_mut().filter(|_| !incoming.is_end_stream()) {
            cluster.has_body();
        }
        let is_empty = incoming.is_end_stream() && facts.http.upgrade.is_empty();
        let masker = looked.and_then(|()| match is_empty {
            true => Ok(None),
            false => sent.body(&parts, &facts, (plan.call(&facts), self.gate.room())),
        });
        let mut masker = masker.unwrap_or_else(|wrong| {
            facts.wrong = facts.wrong.or(Some(wrong));
            None
        });
        let wanted = wanted(&facts, &plan.http);
        let asks = self.gate.asks_people();
        // What is longer goes on as it comes, unless it has to be read.
        let is_short = is_short(&incoming, plan.http.judged_bytes);
        let mut shown = Err("its body is longer than what people are shown");
        let text = text(&parts, &facts);
        let mut whole = incoming.is_end_stream().then(Bytes::new);
        let waits = forward::renews(plan) || masker.is_some() && sent.waits();
        let is_signed = facts.http.upgrade.is_empty()
            && inject::needs_whole(plan.http.inject.as_ref(), &parts.headers, masker.is_some());
        // A client that does not say how much comes may send no end for as long as it hears nothing.
        let is_open = asks && incoming.size_hint().upper().is_none() && self.leaves(&parts, &facts);
        let waits = waits || self.written(plan, &facts).is_some();
        let is_read = wanted.is_some() || is_signed || (asks || waits) && is_short || is_open;
        let body = if is_read && facts.wrong.is_none() {
            let bounds = (plan.http.judged_bytes, held::COMES);
            let read = held::collect(incoming, bounds, self.gate.room()).await;
            let masker = masker.take();
            match read.and_then(|bytes| self.looked_at(&sent, masker, &mut parts, bytes)) {
                Ok(bytes) => {
                    self.says(plan, &mut facts, wanted, (&parts, &bytes));
                    shown = Ok(shows(&parts, &facts, &bytes));
                    whole = Some(bytes.clone());
                    Full::new(bytes).map_err(super::never).boxed_unsync()
                }
                Err(wrong) => {
                    facts.wrong = Some(wrong);
                    empty()
                }
            }
        } else if incoming.is_end_stream() {
            shown = Ok(shows(&parts, &facts, &Bytes::new()));
            empty()
        } else {
            if masker.is_some() {
                // It may come to be shorter, or longer.
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            self.streamed(incoming)
        };
        Ready {
            parts,
            facts,
            body,
            masker,
            whole,
            sent,
            shown,
            text,
        }
    }

    /// Whether people have to be shown it whose word it needs.
    fn leaves(&self, parts: &Parts, facts: &Facts) -> bool {
        facts.wrong.is_none()
            && facts.http.upgrade.is_empty()
            && self.gate.leaves(&facts.reading(parts.uri.query()).asks)
    }

    /// Reads what a body says, where it has to be known, and whether it may go on.
    fn says(
        &self,
        plan: &Plan,
        facts: &mut Facts,
        wanted: Option<Wanted<'_>>,
        (parts, bytes): (&Parts, &Bytes),
    ) {
        hear(facts, (plan, wanted), (parts, bytes), self.gate.room());
        facts.wrong = facts.wrong.or_else(|| self.around(plan, facts));
        if let Some(write) = self.written(plan, facts)
            && self.masks(plan, facts).is_written(bytes, write)
        {
            let masked = || Some(of_body(WrongBody::Masked));
            facts.wrong = facts.wrong.or_else(masked);
        }
    }

    /// How a body stands for what is written, where it may hold masks in the place of values.
    fn written(&self, plan: &Plan, facts: &Facts) -> Option<mask::Write> {
        let write = match facts.http.method.as_str() {
            "PUT" => mask::Write::Whole,
            "PATCH" if facts.http.content_type == "application/json-patch+json" => {
                mask::Write::Steps
            }
            "POST" | "PATCH" => mask::Write::Merge,
            _ => return None,
        };
        let is_json = mask::is_json(&facts.http.content_type);
        (is_json && self.masks(plan, facts).has_fields()).then_some(write)
    }

    /// Looks at a body that was read; what it is now, and how long.
    fn looked_at(
        &self,
        sent: &Sent,
        masker: Option<Masker>,
        parts: &mut Parts,
        bytes: Bytes,
    ) -> Result<Bytes, Wrong> {
        let Some(masker) = masker.filter(|_| !bytes.is_empty()) else {
            return Ok(bytes);
        };
        let made = sent.whole(masker, &bytes)?;
        if let header::Entry::Occupied(mut said) = parts.headers.entry(header::CONTENT_LENGTH) {
            said.insert(made.len().into());
        }
        held::instead(&made, self.gate.room())
    }

    /// A body that goes on as it comes.
    fn streamed(&self, incoming: Rest) -> Body {
        incoming.map_err(std::io::Error::other).boxed_unsync()
    }

    /// What a cluster's client is told that asks what is permitted, where policy says no.
    fn reviewed(&self, facts: &Facts) -> Option<String> {
        let review = facts.cluster.as_ref()?.review.as_ref()?;
        if review.asks.is_empty() {
            return Some(review.denied(None));
        }
        let refusal = self.gate.would(&review.asks).err()?;
        Some(review.denied(Some(&refusal)))
    }
}

/// Whether a body says that it is no longer than `most`.
fn is_short(incoming: &Rest, most: usize) -> bool {
    let length = incoming.size_hint().upper();
    length.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length <= most))
}

/// A request in a line.
fn text(parts: &Parts, facts: &Facts) -> String {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let stream = facts.cluster.as_ref().and_then(|facts| facts.said());
    stream.unwrap_or_else(|| format!("{} {path}", parts.method))
}

/// Answers a question of what is permitted.
fn told_of_policy<G: Gate>(answer: String, mut ending: Ending<G>) -> Answer {
    ending.outcome.status = "201, answered by policy".to_owned();
    let mut answer = super::whole(answer.into());
    *answer.status_mut() = hyper::StatusCode::CREATED;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

/// What people are shown beside the first line.
fn shows(parts: &Parts, facts: &Facts, bytes: &Bytes) -> Shown {
    let is_stream = facts
        .cluster
        .as_ref()
        .is_some_and(|facts| facts.is_stream());
    let headers = parts.headers.iter().filter(|_| !is_stream);
    let headers = headers.filter(|(name, _)| !UNSHOWN.contains(&name.as_str()));
    let under = headers
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    // One name of a target may be for trying things out, and another not.
    let host = format!("host: {}", facts.http.host);
    let body = digest(&SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(body.as_ref());
    Shown {
        values: (!bytes.is_empty()).then(|| Values {
            types: facts.http.content_type.clone(),
            shown: vec![Some(String::from_utf8_lossy(bytes).into_owned())],
            digest: hash,
        }),
        under: std::iter::once(host).chain(under).collect(),
        literals: None,
        // What is sent in a body, a query or a header is the deed itself.
        varies: false,
    }
}

#[cfg(test)]
mod tests;

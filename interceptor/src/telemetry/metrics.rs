//! Counters, one name each; README lists them. Labels come from closed lists and from configuration,
//! never from an agent.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::policy::RefusalKind;

/// Every counter of the daemon.
#[derive(Debug, Default)]
pub struct Metrics {
    opened: Counter,
    refused: Family<Kind, Counter>,
    permitted: Family<Target, Counter>,
    requests_refused: Family<TargetKind, Counter>,
    logins: Family<TargetHow, Counter>,
    masks_missed: Family<Target, Counter>,
    detected: Family<TargetKind, Counter>,
    detected_sent: Family<TargetKind, Counter>,
    credentials_returned: Family<Target, Counter>,
    host_keys_changed: Family<Target, Counter>,
    clients_distrusting: Family<TargetHow, Counter>,
    approvals: Family<TargetResult, Counter>,
    names: Family<Result, Counter>,
    webhook: Family<WebhookResult, Counter>,
    purged: Family<Target, Counter>,
    quiet_doors: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Target {
    target: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetKind {
    target: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetHow {
    target: String,
    how: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetResult {
    target: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WebhookResult {
    result: &'static str,
}

/// How a session came by its upstream connection, or that one was logged in for none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginHow {
    /// Logged in for the session.
    Fresh,
    /// Logged in before any session asked.
    Ahead,
    /// Taken from those.
    Warm,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Output {
    output: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What is looked up when the metrics are asked for, rather than counted as it happens.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Outputs of the audit: lines that were sent, lines that are behind, attempts that failed.
    pub outputs: Vec<(String, [u64; 3])>,
    /// The policy in force.
    pub generation: u64,
    /// Open sessions.
    pub sessions: usize,
    /// Live grants.
    pub grants: usize,
    /// Requests that wait for people.
    pub approvals: usize,
    /// Tagged scopes.
    pub scopes: usize,
    /// Syncs of the audit log that came late, and after how long the latest of all came.
    pub audit_waits: (u64, Duration),
    /// What the kernel counts itself; none where it does not tell.
    pub kernel: Option<Kernel>,
}

/// Counts of the kernel since its programs were first attached.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Refusals by reason.
    pub denied: Vec<(&'static str, u64)>,
    /// Refusals whose event was lost.
    pub lost: u64,
    /// Connections without a record.
    pub unrecorded: u64,
}

impl Metrics {
    /// A connection was admitted.
    pub fn connection_opened(&self) {
        self.opened.inc();
    }

    /// A connection was refused.
    pub fn connection_refused(&self, kind: RefusalKind) {
        self.refused
            .get_or_create(&Kind { kind: kind.word() })
            .inc();
    }

    /// What counts the permitted requests of a target; looked up once a session.
    pub fn requests_permitted(&self, target: &str) -> Counter {
        let target = target.to_owned();
        self.permitted.get_or_create(&Target { target }).clone()
    }

    /// A request was refused.
    pub fn request_refused(&self, target: &str, kind: RefusalKind) {
        let labels = TargetKind {
            target: target.to_owned(),
            kind: kind.word(),
        };
        self.requests_refused.get_or_create(&labels).inc();
    }

    /// An upstream took a login, or a session found one.
    pub fn logged_in(&self, target: &str, how: LoginHow) {
        let labels = TargetHow {
            target: target.to_owned(),
            how: match how {
                LoginHow::Fresh => "fresh",
                LoginHow::Ahead => "ahead",
                LoginHow::Warm => "warm",
            },
        };
        self.logins.get_or_create(&labels).inc();
    }

    /// A result named a masked column as it is.
    pub fn mask_missed(&self, target: &str) {
        let target = target.to_owned();
        self.masks_missed.get_or_create(&Target { target }).inc();
    }

    /// Detectors found values of a kind in answers.
    pub fn detected(&self, target: &str, kind: &'static str, count: u64) {
        let target = target.to_owned();
        self.detected
            .get_or_create(&TargetKind { target, kind })
            .inc_by(count);
    }

    /// Detectors found values of a kind in requests that went on.
    pub fn detected_sent(&self, target: &str, kind: &'static str, count: u64) {
        let target = target.to_owned();
        self.detected_sent
            .get_or_create(&TargetKind { target, kind })
            .inc_by(count);
    }

    /// An upstream showed the credential that it was given.
    pub fn credential_returned(&self, target: &str) {
        let target = target.to_owned();
        self.credentials_returned
            .get_or_create(&Target { target })
            .inc();
    }

    /// A server showed another key than it was known by.
    pub fn host_key_changed(&self, target: &str) {
        let target = target.to_owned();
        self.host_keys_changed
            .get_or_create(&Target { target })
            .inc();
    }

    /// A client did not take this host's certificate.
    pub fn client_distrusted(&self, target: &str, how: &'static str) {
        let target = target.to_owned();
        self.clients_distrusting
            .get_or_create(&TargetHow { target, how })
            .inc();
    }

    /// Counts what became of a message to the webhook: `sent`, `failed` (it is tried again), `dropped`.
    pub fn webhook(&self, result: &'static str) {
        self.webhook.get_or_create(&WebhookResult { result }).inc();
    }

    /// A question to people is over.
    pub fn approval_ended(&self, target: &str, result: &'static str) {
        let labels = TargetResult {
            target: target.to_owned(),
            result,
        };
        self.approvals.get_or_create(&labels).inc();
    }

    /// An agent asked for a name.
    pub fn name_asked(&self, result: &'static str) {
        self.names.get_or_create(&Result { result }).inc();
    }

    /// A recording was purged.
    pub fn recording_purged(&self, target: &str) {
        let target = target.to_owned();
        self.purged.get_or_create(&Target { target }).inc();
    }

    /// The kernel refused a library what it asks for on its own, `count` times.
    pub fn quiet_door(&self, count: u64) {
        self.quiet_doors.inc_by(count);
    }

    /// All of them in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self, now: Now) -> String {
        let mut registry = Registry::with_prefix("interceptor");
        registry.register(
            "connections_opened",
            "Connections admitted",
            self.opened.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused, by kind",
            self.refused.clone(),
        );
        registry.register(
            "requests_permitted",
            "Requests permitted, by target",
            self.permitted.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests refused, by target and kind",
            self.requests_refused.clone(),
        );
        registry.register(
            "logins",
            "Logins upstream, by target and how a session came by them",
            self.logins.clone(),
        );
        self.answers(&mut registry);
        registry.register("webhook", "Messages to the webhook", self.webhook.clone());
        registry.register(
            "approvals",
            "Questions to people that are over, by target and result",
            self.approvals.clone(),
        );
        registry.register(
            "names",
            "Questions of agents to resolvers, by result",
            self.names.clone(),
        );
        registry.register(
            "recordings_purged",
            "Recordings that were purged, by target",
            self.purged.clone(),
        );
        registry.register(
            "quiet_doors",
            "Refusals of UNIX sockets that libraries knock at on their own: counted and not written",
            self.quiet_doors.clone(),
        );
        looked_up(&mut registry, &now);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }

    /// What was found in answers.
    fn answers(&self, registry: &mut Registry) {
        registry.register(
            "masks_missed",
            "Results that named a masked column as it is; each ended its session: an alarm",
            self.masks_missed.clone(),
        );
        registry.register(
            "detected",
            "Values that detectors found in answers, by target and kind",
            self.detected.clone(),
        );
        registry.register(
            "detected_sent",
            "Values that detectors found in requests that went on, by target and kind",
            self.detected_sent.clone(),
        );
        registry.register(
            "credentials_returned",
            "Answers in which an upstream showed the credential that it was given, by target",
            self.credentials_returned.clone(),
        );
        registry.register(
            "host_keys_changed",
            "Servers that showed another key than they were known by; they were not logged in to: an alarm",
            self.host_keys_changed.clone(),
        );
        registry.register(
            "clients_distrusting",
            "Handshakes that a client ended at this host's certificate, by target and what it said",
            self.clients_distrusting.clone(),
        );
    }
}

/// What is known only at the moment that it is asked for.
fn looked_up(registry: &mut Registry, now: &Now) {
    registry.register(
        "policy_generation",
        "The policy in force",
        gauge(now.generation),
    );
    registry.register("sessions", "Open sessions", gauge(now.sessions));
    registry.register("grants", "Live grants", gauge(now.grants));
    registry.register(
        "approvals_open",
        "Questions that people have not answered",
        gauge(now.approvals),
    );
    registry.register("scopes", "Tagged cgroups", gauge(now.scopes));
    outputs(registry, &now.outputs);
    let (late, longest) = now.audit_waits;
    registry.register(
        "audit_syncs_late",
        "Syncs of the audit log that came later than 50 ms after a line that they brought to the disk",
        counter(late),
    );
    registry.register(
        "audit_sync_longest_seconds",
        "How long a line of the audit log waited for the disk, the longest since the start",
        seconds_gauge(longest),
    );
    if let Some(kernel) = &now.kernel {
        counted_by_kernel(registry, kernel);
    }
}

/// What outlives the daemon.
fn counted_by_kernel(registry: &mut Registry, kernel: &Kernel) {
    let denied = Family::<Reason, Counter>::default();
    for (reason, count) in &kernel.denied {
        denied.get_or_create(&Reason { reason }).inc_by(*count);
    }
    registry.register("kernel_denied", "Refusals in the kernel, by reason", denied);
    registry.register(
        "kernel_lost",
        "Refusals in the kernel whose event was lost",
        counter(kernel.lost),
    );
    registry.register(
        "connections_unrecorded",
        "Connections without a record of the kernel",
        counter(kernel.unrecorded),
    );
}

/// How the outputs of the audit are doing.
fn outputs(registry: &mut Registry, all: &[(String, [u64; 3])]) {
    let lines = Family::<Output, Counter>::default();
    let gauges = Family::<Output, Gauge<u64, AtomicU64>>::default();
    let failures = Family::<Output, Counter>::default();
    for (output, [sent, lag, failed]) in all {
        let labels = Output {
            output: output.clone(),
        };
        lines.get_or_create(&labels).inc_by(*sent);
        gauges.get_or_create(&labels).set(*lag);
        failures.get_or_create(&labels).inc_by(*failed);
    }
    registry.register(
        "output_lines",
        "Lines of the audit that an output took",
        lines,
    );
    registry.register(
        "output_behind",
        "Lines of the audit that an output has not taken yet",
        gauges,
    );
    registry.register(
        "output_failures",
        "Attempts to send to an output that failed",
        failures,
    );
}

/// One that is counted elsewhere.
fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn seconds_gauge(now: Duration) -> Gauge<f64, AtomicU64> {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(now.as_secs_f64());
    gauge
}

fn gauge(value: impl TryInto<u64>) -> Gauge<u64, AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(value.try_into().unwrap_or(u64::MAX));
    gauge
}

#[cfg(test)]
mod tests;

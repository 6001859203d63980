//! The keys of what is kept: the audit log, where it goes besides, and the recordings.

use super::{DAY, Form, GIB, Held, KIB, Key, Shape, may, must};

// What every receiver has to say.
const URL: Key = must("url", Shape::Text(Form::Url), "Its address, with the path.");
const CA: Key = may(
    "ca",
    Shape::Text(Form::Holds(Held::Certificates)),
    "the host's own roots",
    "Trusted roots, PEM.",
);
const ALLOW_HTTP: Key = may(
    "allow_http",
    Shape::Flag,
    "false",
    "Whether one on a loopback address may be spoken to without TLS.",
);

static OUTPUT: Shape = Shape::Keys(&[
    may(
        "events",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "all",
        "Which events, by name or how that begins: `request`.",
    ),
    may(
        "format",
        Shape::Word(&["json", "ocsf"]),
        "json",
        "As they stand in the log, or as events of OCSF 1.8.",
    ),
    must("to", TO, "Where to."),
]);

const TO: Shape = Shape::OneKey(&[
    must("stdout", Shape::Keys(&[]), "The daemon's standard output."),
    must(
        "file",
        Shape::Text(Form::Path),
        "A file, which is appended to.",
    ),
    must(
        "syslog",
        SYSLOG,
        "A receiver of syslog (RFC 5424) over TLS.",
    ),
    must(
        "otlp",
        OTLP,
        "A collector of OpenTelemetry: OTLP/HTTP logs.",
    ),
    must(
        "webhook",
        WEBHOOK,
        "A receiver of JSON lines that checks their signature.",
    ),
]);

const SHARED: Shape = Shape::OneKey(&[
    must(
        "file",
        Shape::Text(Form::Path),
        "A file, mode 0600 or tighter, owned by root or the daemon's user.",
    ),
    must(
        "credential",
        Shape::Text(Form::Credential),
        "A systemd credential (`LoadCredential=`).",
    ),
]);

const SYSLOG: Shape = Shape::Keys(&[
    must("address", Shape::Text(Form::Address), "Where it is."),
    CA,
]);

const OTLP: Shape = Shape::Keys(&[
    URL,
    CA,
    ALLOW_HTTP,
    may("token", SHARED, "none", "What it is shown, as a bearer."),
]);

const WEBHOOK: Shape = Shape::Keys(&[
    URL,
    CA,
    ALLOW_HTTP,
    must(
        "secret",
        SHARED,
        "What it shares with the daemon: signatures are made with it.",
    ),
]);

pub(super) const AUDIT: Shape = Shape::Keys(&[
    may(
        "outputs",
        Shape::Names(&OUTPUT),
        "none",
        "Where its lines go besides, by name; each is sent to at least once, from where it was.",
    ),
    may(
        "checkpoint",
        Shape::Duration(1_000, DAY),
        "1m",
        "How often a line of the log vouches, signed, for those before it.",
    ),
    may(
        "durability",
        Shape::Word(&["relaxed", "strict"]),
        "relaxed",
        "Strict: a request's record is on disk before the request goes upstream.",
    ),
    may(
        "segment",
        Shape::Size(64 * KIB, 16 * GIB),
        "64MiB",
        "Size at which the next segment is begun.",
    ),
]);

pub(super) const KEEP: Shape = Shape::Keys(&[
    may(
        "age",
        Shape::Duration(60_000, 36_500 * DAY),
        "for ever",
        "How long a recording is kept after its end.",
    ),
    may(
        "size",
        Shape::Size(KIB, 1 << 60),
        "unlimited",
        "How many bytes of recordings a target keeps together; the oldest go first.",
    ),
]);

pub(super) const RECORDING: Shape = Shape::Keys(&[
    may(
        "keep",
        KEEP,
        "for ever",
        "How long recordings are kept whose target says nothing; one that is held stays.",
    ),
    may(
        "recipients",
        Shape::List(1, &Shape::Text(Form::Recipient)),
        "not encrypted",
        "Whom recordings are encrypted to: recipients of age; the daemon itself cannot read them any more.",
    ),
    may(
        "segment",
        Shape::Size(64 * KIB, 16 * GIB),
        "16MiB",
        "Size at which the next segment is begun.",
    ),
    may(
        "session",
        Shape::SizeLimit(KIB, 1024 * GIB),
        "unlimited",
        "Size at which a session is ended.",
    ),
]);

//! `console` and `approvals`: where people see and answer what waits for them.

use super::{Form, Held, SECRET, Shape, may, must};

/// The web page.
pub(super) const CONSOLE: Shape = Shape::Keys(&[
    must(
        "listen",
        Shape::Text(Form::Socket),
        "Where it is served; loopback, or any address with `tls`. Never reachable from a scope.",
    ),
    may(
        "url",
        Shape::Text(Form::Url),
        "what `listen` says",
        "As browsers name it; requests that name another host are refused.",
    ),
    may("tls", TLS, "none", "The certificate that it shows."),
    may(
        "login",
        LOGIN,
        "by a link that `interceptor console` prints for root",
        "How people log in beside that.",
    ),
    may(
        "enrol",
        Shape::Word(&["code", "login"]),
        "code",
        "What vouches for the first key of who logs in by the issuer: a code that root prints \
         (`interceptor console --enrol`), or the login alone.",
    ),
]);

const TLS: Shape = Shape::Keys(&[
    must(
        "certificate",
        Shape::Text(Form::Holds(Held::Certificates)),
        "The certificate and its chain, PEM; read at start.",
    ),
    must("key", SECRET, "Its key, PEM."),
]);

const LOGIN: Shape = Shape::Keys(&[must(
    "issuer",
    Shape::Text(Form::Name),
    "One of `issuers`, by its name; its `client` may be sent back to `/login/done`.",
)]);

/// How people are asked.
pub(super) const APPROVALS: Shape = Shape::Keys(&[
    may(
        "webhook",
        WEBHOOK,
        "none",
        "Who else is told of what waits for people, in Slack's form, and may send answers back.",
    ),
    may(
        "people",
        Shape::List(1, &KNOWN),
        "whoever has the same name is the same",
        "Which user of the host is who elsewhere: nobody answers their own requests, or twice, by another word.",
    ),
]);

static KNOWN: Shape = Shape::Keys(&[
    must(
        "user",
        Shape::Text(Form::Identifier),
        "Login name on this host.",
    ),
    must(
        "logins",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "The same person, as rules name them: `staff:SUBJECT` of an issuer, `slack:ID` of the chat.",
    ),
]);

const WEBHOOK: Shape = Shape::Keys(&[
    must(
        "url",
        Shape::Text(Form::Url),
        "Where each question is sent.",
    ),
    must(
        "secret",
        SECRET,
        "The signing secret: both ways are signed with it.",
    ),
    may(
        "ca",
        Shape::Text(Form::Holds(Held::Certificates)),
        "the host's own roots",
        "Trusted roots for the receiver's TLS, PEM.",
    ),
    may(
        "allow_http",
        Shape::Flag,
        "false",
        "Whether a receiver on a loopback address may be spoken to without TLS.",
    ),
    may(
        "team",
        Shape::Text(Form::Identifier),
        "any",
        "The workspace that answers must come from: T0123ABCD. Names of users are of one workspace.",
    ),
    may(
        "people",
        Shape::List(1, &PERSON),
        "none: nobody answers by it",
        "Who may answer, at `/hooks/slack` of the console.",
    ),
]);

static PERSON: Shape = Shape::Keys(&[
    must(
        "id",
        Shape::Text(Form::Identifier),
        "The user, as the chat names them: U012AB3CD.",
    ),
    must(
        "name",
        Shape::Text(Form::Identifier),
        "Their name; who has the same name elsewhere is the same person.",
    ),
    must(
        "groups",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "Their groups; rules name them with `slack:` before.",
    ),
]);

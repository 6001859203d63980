//! `hmac`: a signature of a request by a scheme of its own, as a template of what is signed says it.

mod template;

pub use self::template::{Coding, Part, Template};
use crate::config::document::Node;
use crate::config::shape::{Form, Shape, may, must};
use crate::config::{SecretSource, build as read, check};

/// How requests are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hmac {
    /// The key.
    pub secret: SecretSource,
    /// How the key is written. Default `Text`: its bytes are the key.
    pub key: Written,
    /// What is signed.
    pub sign: Template,
    /// By which hash. Default `Sha256`.
    pub algorithm: Hash,
    /// How the signature is written. Default `Hex`.
    pub output: Coding,
    /// How the time is written. Default `Unix`.
    pub time: Time,
    /// Headers that are put in: names in lower case.
    pub headers: Vec<(String, Template)>,
    /// Parameters of the query that are put in.
    pub query: Vec<(String, Template)>,
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As it is.
    Text,
    /// In this coding.
    In(Coding),
}

/// Which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// As RFC 3339 has it, in UTC.
    Iso,
    /// As HTTP has it (RFC 9110 §5.6.7).
    Http,
}

impl Hmac {
    /// Whether it is signed what the body is.
    #[must_use]
    pub fn signs_body(&self) -> bool {
        let mut all = self.headers.iter().chain(&self.query);
        self.sign.has_body() || all.any(|(_, template)| template.has_body())
    }
}

const WORDS: &str = "with {method}, {host}, {path}, {query}, {target}, {time}, {nonce}, {body}, {body_sha256}, \
    {body_sha256_base64}, {body_sha512}, {body_sha512_base64} and {header:NAME} in it; a brace is written twice";

/// What may stand below `hmac`.
pub(super) const HMAC: Shape = Shape::Keys(&[
    must(
        "sign",
        Shape::Text(Form::Argument),
        "What is signed: text with words in braces, such as {method}, {path} or {body_sha256}, that stand for parts \
         of the request.",
    ),
    may(
        "algorithm",
        Shape::Word(&["sha256", "sha512"]),
        "sha256",
        "The hash of the HMAC.",
    ),
    may(
        "output",
        Shape::Word(&["hex", "base64"]),
        "hex",
        "How the signature is written.",
    ),
    may(
        "key",
        Shape::Word(&["text", "hex", "base64"]),
        "text",
        "How the secret is written: its bytes are the key, or what they stand for is.",
    ),
    may(
        "time",
        Shape::Word(&["unix", "unix_ms", "iso", "http"]),
        "unix",
        "How {time} is written: in seconds or milliseconds since 1970, as RFC 3339 or as HTTP has it.",
    ),
    may(
        "headers",
        Shape::List(1, &Shape::Text(Form::Argument)),
        "none",
        "Headers that are put in, each `Name: text`, with {signature} where the signature stands.",
    ),
    may(
        "query",
        Shape::List(1, &Shape::Text(Form::Argument)),
        "none",
        "Parameters of the query that are put in, each `name=text`.",
    ),
]);

/// Builds it.
pub(super) fn build(node: &Node, secret: SecretSource) -> Option<Hmac> {
    let said = |key: &str| read::text(Some(node), key);
    let all = |key: &str, between: char| -> Option<Vec<_>> {
        let texts = read::texts(node, key).into_iter();
        texts.map(|text| put(&text, between).ok()).collect()
    };
    let headers = all("headers", ':')?.into_iter();
    Some(Hmac {
        secret,
        key: match said("key").as_deref() {
            Some("hex") => Written::In(Coding::Hex),
            Some("base64") => Written::In(Coding::Base64),
            _ => Written::Text,
        },
        sign: Template::read(&said("sign")?)?,
        algorithm: match said("algorithm").as_deref() {
            Some("sha512") => Hash::Sha512,
            _ => Hash::Sha256,
        },
        output: match said("output").as_deref() {
            Some("base64") => Coding::Base64,
            _ => Coding::Hex,
        },
        time: match said("time").as_deref() {
            Some("unix_ms") => Time::UnixMs,
            Some("iso") => Time::Iso,
            Some("http") => Time::Http,
            _ => Time::Unix,
        },
        headers: headers
            .map(|(name, template)| (name.to_ascii_lowercase(), template))
            .collect(),
        query: all("query", '=')?,
    })
}

/// A name, and what stands under it.
fn put(text: &str, between: char) -> Result<(String, Template), &'static str> {
    let (name, template) = text
        .split_once(between)
        .ok_or("expected a name and a text: `X-Signature: {signature}`, `sig={signature}`")?;
    let is_name = check::is_header(name);
    let template = Template::read(template.trim_start());
    match (is_name, template) {
        (false, _) => Err("expected the name of a header or a parameter before the text"),
        (true, None) => Err("expected words that are known between braces"),
        (true, Some(template)) => Ok((name.to_owned(), template)),
    }
}

/// What is wrong between its keys; under which key.
pub(super) fn wrong(node: &Node, framing: &[&str]) -> Option<(&'static str, String)> {
    let sign = read::text(Some(node), "sign").unwrap_or_default();
    match Template::read(&sign) {
        None => return Some(("sign", format!("expected text {WORDS}"))),
        Some(template) if template.has_signature() => {
            return Some((
                "sign",
                "expected no {signature} in what is signed".to_owned(),
            ));
        }
        Some(_) => {}
    }
    let mut signed = 0_usize;
    for (key, between) in [("headers", ':'), ("query", '=')] {
        for text in read::texts(node, key) {
            match put(&text, between) {
                Err(expected) => return Some((key, expected.to_owned())),
                Ok((name, _)) if framing.contains(&name.to_ascii_lowercase().as_str()) => {
                    let expected = "expected a header that says nothing of the connection";
                    return Some((key, expected.to_owned()));
                }
                Ok((_, template)) => signed += usize::from(template.has_signature()),
            }
        }
    }
    (signed == 0).then(|| {
        let expected = "expected {signature} in one of `headers` or `query`";
        ("headers", expected.to_owned())
    })
}

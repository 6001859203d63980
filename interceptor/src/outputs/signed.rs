//! A webhook: JSON lines with a signature that only who shares the secret can make.
//!
//! `x-interceptor-signature: t=<seconds since 1970>,v1=<hex>`: HMAC-SHA256 (RFC 2104) of the time, a dot and
//! the body. The time is inside, so that a receiver may refuse what is old; `x-interceptor-lines` names the
//! first and the last line, so that it can tell what it has already.

use aws_lc_rs::hmac;
use secrecy::ExposeSecret as _;

use super::Line;
use super::http::Http;
use crate::clock;
use crate::secrets::Secret;

/// Sends a batch; taken where the answer is 2xx.
pub(super) async fn send(
    http: &Http,
    key: Option<&Secret>,
    lines: &[Line],
    made: &[String],
) -> Result<(), String> {
    let mut body = String::new();
    for line in made {
        body.push_str(line);
        body.push('\n');
    }
    let Some(key) = key else {
        return Err("it has no secret".to_owned());
    };
    let time = clock::wall().as_second();
    let signature = sign(key.expose_secret().as_bytes(), time, &body);
    let (first, last) = (lines.first(), lines.last());
    let seq = |line: Option<&Line>| line.map_or(0, |line| line.seq);
    let headers = [
        (
            "x-interceptor-signature",
            format!("t={time},v1={signature}"),
        ),
        (
            "x-interceptor-lines",
            format!("{}-{}", seq(first), seq(last)),
        ),
    ];
    let sent = http
        .post("application/x-ndjson", &headers, body.into_bytes())
        .await;
    sent.map(drop)
}

/// The signature of a body.
pub(super) fn sign(key: &[u8], time: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{time}.").as_bytes());
    context.update(body.as_bytes());
    hex::encode(context.sign().as_ref())
}

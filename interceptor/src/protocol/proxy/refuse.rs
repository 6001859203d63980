//! How "no" sounds to a client of a proxy: a status and a sentence, or a number of SOCKS.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::facts::Form;
use super::wire;
use crate::policy::{Refusal, RefusalKind};

pub(super) const MALFORMED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
pub(super) const NOT_OFFERED: &[u8] = b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 74\r\n\r\n\
    interceptor: this proxy is asked for connections, and for http: addresses\n";
pub(super) const FORBIDDEN: [u8; 10] = wire::reply(wire::FORBIDDEN);
pub(super) const NO_COMMAND: [u8; 10] = wire::reply(wire::NO_COMMAND);
pub(super) const NO_ADDRESS: [u8; 10] = wire::reply(wire::NO_ADDRESS);
/// Bytes that are taken in of a client that is told so: a reset for what is not read would overtake what it is told.
const LEFT_MAX: u64 = 64 << 10;

/// What a client is told of a refusal.
pub(super) fn told(form: Form, refusal: &Refusal) -> Vec<u8> {
    let is_ours = matches!(
        refusal.kind,
        RefusalKind::Upstream
            | RefusalKind::Storage
            | RefusalKind::Secret
            | RefusalKind::Internal
            | RefusalKind::Ended
    );
    if form == Form::Socks {
        let code = match is_ours {
            true => wire::FAILED,
            false => wire::FORBIDDEN,
        };
        return wire::reply(code).to_vec();
    }
    let status = match refusal.kind {
        RefusalKind::Limit => "429 Too Many Requests",
        RefusalKind::Upstream => "502 Bad Gateway",
        _ if is_ours => "503 Service Unavailable",
        _ => "403 Forbidden",
    };
    let why = refusal.sentence(None);
    let length = why.len().saturating_add(1);
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    format!("{head}{why}\n").into_bytes()
}

/// Tells a client the last that it hears, and waits until it has gone. The caller bounds time.
pub(super) async fn tell(mut client: TcpStream, told: &[u8]) -> io::Result<()> {
    client.write_all(told).await?;
    client.shutdown().await?;
    let mut left = client.take(LEFT_MAX);
    tokio::io::copy(&mut left, &mut tokio::io::sink())
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_as_long_as_it_says() {
        let refusal = Refusal::upstream("x \u{e9}");
        let whole = told(Form::Connect, &refusal);
        for told in [MALFORMED, NOT_OFFERED, &whole] {
            let text = std::str::from_utf8(told).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = format!("Content-Length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{text}");
        }
        assert!(whole.starts_with(b"HTTP/1.1 502 "));
        assert_eq!(told(Form::Socks, &refusal), wire::reply(wire::FAILED));
        let refusal = Refusal::not_offered("x", "y");
        assert!(told(Form::Whole, &refusal).starts_with(b"HTTP/1.1 403 "));
        assert_eq!(told(Form::Socks, &refusal), FORBIDDEN);
    }
}

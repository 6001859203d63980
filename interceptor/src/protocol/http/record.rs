//! One message on its way into the recording, as the agent sent or saw it: no credential that it presented, none
//! that it was given, nothing that was masked.

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::wire::envelope::{self, Kind, PIECE_MAX};
use crate::policy::Refusal;
use crate::session::{Direction, Gate, RequestId};

/// One direction of one request.
pub(super) struct Track<'a, G> {
    gate: &'a G,
    direction: Direction,
    request: RequestId,
    /// Bytes of the body that are still recorded.
    left: usize,
    total: u64,
}

impl<'a, G: Gate> Track<'a, G> {
    pub(super) fn new(gate: &'a G, direction: Direction, request: RequestId, most: usize) -> Self {
        Self {
            gate,
            direction,
            request,
            left: most,
            total: 0,
        }
    }

    /// Bytes of the body so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The first line and the headers.
    pub(super) async fn head(&self, first: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = format!("{first}\r\n{}\r\n", lines(headers));
        self.write(Kind::Head, text.as_bytes()).await
    }

    pub(super) async fn body(&mut self, bytes: &Bytes) -> Result<(), Refusal> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(length);
        let kept = bytes.get(..self.left).unwrap_or(bytes);
        self.left = self.left.saturating_sub(kept.len());
        match kept.is_empty() {
            true => Ok(()),
            false => self.write(Kind::Body, kept).await,
        }
    }

    pub(super) async fn trailers(&self, trailers: &HeaderMap) -> Result<(), Refusal> {
        self.write(Kind::Trailers, lines(trailers).as_bytes()).await
    }

    pub(super) async fn tunnel(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(length);
        let kept = bytes.get(..self.left).unwrap_or(bytes);
        self.left = self.left.saturating_sub(kept.len());
        match kept.is_empty() {
            true => Ok(()),
            false => self.write(Kind::Tunnel, kept).await,
        }
    }

    pub(super) async fn end(&self) -> Result<(), Refusal> {
        self.write(Kind::End, &self.total.to_le_bytes()).await
    }

    async fn write(&self, kind: Kind, bytes: &[u8]) -> Result<(), Refusal> {
        for piece in bytes.chunks(PIECE_MAX) {
            let piece = envelope::piece(kind, self.request.0.as_bytes(), piece);
            self.gate.record(self.direction, piece.into()).await?;
        }
        Ok(())
    }
}

fn lines(headers: &HeaderMap) -> String {
    let mut text = String::new();
    for (name, value) in headers {
        let value = match value.is_sensitive() {
            true => "?".into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        let value = match name.as_str() {
            "cookie" => value
                .split(';')
                .map(unsaid)
                .collect::<Vec<_>>()
                .join(";")
                .into(),
            "set-cookie" => match value.split_once(';') {
                Some((cookie, rest)) => format!("{};{rest}", unsaid(cookie)).into(),
                None => unsaid(&value).into(),
            },
            _ => value,
        };
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text
}

/// A cookie without what it holds: that may be a session of somebody's.
fn unsaid(cookie: &str) -> String {
    match cookie.split_once('=') {
        Some((name, _)) => format!("{name}=?"),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cookie_is_kept_with_what_it_holds() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=one; b=two=2;three".parse().unwrap());
        headers.append("set-cookie", "s=four; Path=/; HttpOnly".parse().unwrap());
        headers.append("set-cookie", "t=five".parse().unwrap());
        headers.append("x-kept", "a=b".parse().unwrap());
        let expected = "cookie: a=?; b=?;?\r\nset-cookie: s=?; Path=/; HttpOnly\r\nset-cookie: t=?\r\nx-kept: a=b\r\n";
        assert_eq!(lines(&headers), expected);
    }
}

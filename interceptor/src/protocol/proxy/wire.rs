//! What clients and proxies say: heads of HTTP/1 (RFC 9112), and the numbers of SOCKS 5 (RFC 1928, 1929).

use std::net::IpAddr;

/// Bytes of a head.
pub const HEAD_MAX: usize = 16 << 10;
/// The version of SOCKS.
pub const SOCKS: u8 = 5;
/// The version of its login.
pub const LOGIN: u8 = 1;
/// Nobody logs in.
pub const BY_NOTHING: u8 = 0;
/// User and password do.
pub const BY_PASSWORD: u8 = 2;
/// None of the ways to log in is known.
pub const BY_NONE: u8 = 0xff;
/// The one command that is spoken here.
pub const CONNECT: u8 = 1;
/// What an address is.
pub const IPV4: u8 = 1;
/// What an address is.
pub const NAME: u8 = 3;
/// What an address is.
pub const IPV6: u8 = 4;
/// The longest name, or word of a login.
pub const WORD_MAX: usize = 255;
/// Succeeded.
pub const DONE: u8 = 0;
/// It went wrong.
pub const FAILED: u8 = 1;
/// Not allowed by the rules.
pub const FORBIDDEN: u8 = 2;
/// Command not supported.
pub const NO_COMMAND: u8 = 7;
/// Type of address not supported.
pub const NO_ADDRESS: u8 = 8;

/// An answer of SOCKS.
#[must_use]
pub const fn reply(code: u8) -> [u8; 10] {
    [SOCKS, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// A host, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// An address.
    Ip(IpAddr),
    /// A name.
    Name(&'a str),
}

/// A request of SOCKS for a connection; `None` where the name is longer than one may be.
#[must_use]
pub fn request(host: Host<'_>, port: u16) -> Option<Vec<u8>> {
    let mut asked = vec![SOCKS, CONNECT, 0];
    match host {
        Host::Ip(IpAddr::V4(ip)) => {
            asked.push(IPV4);
            asked.extend(ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            asked.push(IPV6);
            asked.extend(ip.octets());
        }
        Host::Name(name) => {
            asked.push(NAME);
            word(&mut asked, name.as_bytes())?;
        }
    }
    asked.extend(port.to_be_bytes());
    Some(asked)
}

/// Appends a word behind its length; `None` where it is longer than one may be.
pub fn word(to: &mut Vec<u8>, word: &[u8]) -> Option<()> {
    to.push(u8::try_from(word.len()).ok()?);
    to.extend_from_slice(word);
    Some(())
}

/// The lines of a head end otherwise than all agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// Where a head ends; `None` where that is not there yet. The first `seen` bytes have been looked at before, and had no
/// end: however small the pieces of a head, no byte of it is looked at often.
///
/// # Errors
/// [`Unclear`] where a line ends with less than CR and LF: some would see the head's end there.
pub fn end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Unclear> {
    const END: &[u8] = b"\r\n\r\n";
    // All but the last byte of an end may have been there.
    let from = seen.saturating_sub(END.len().saturating_sub(1));
    let unseen = bytes.get(from..).unwrap_or_default();
    let end = unseen.windows(END.len()).position(|four| four == END);
    let end = end.map(|at| at.saturating_add(END.len()));
    let lines = unseen.get(..end.unwrap_or(unseen.len()));
    let lines = lines.unwrap_or_default();
    let end = end.map(|end| end.saturating_add(from));
    let is_bare = |pair: &[u8]| matches!(pair, [before, b'\n'] if *before != b'\r');
    match bytes.first() == Some(&b'\n') || lines.windows(2).any(is_bare) {
        true => Err(Unclear),
        false => Ok(end),
    }
}

/// A request to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// What is to be done.
    pub method: &'a str,
    /// With what.
    pub target: &'a str,
    /// What it presents to the proxy.
    pub login: Option<&'a str>,
    /// Whether a body comes behind it.
    pub has_body: bool,
}

/// Reads a head, to its empty line; `None` where it is none.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    if !matches!(words.next(), Some("HTTP/1.1" | "HTTP/1.0")) || words.next().is_some() {
        return None;
    }
    let mut head = Head {
        method,
        target,
        login: None,
        has_body: false,
    };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || name.contains([' ', '\t', '\r', '\n']) || value.contains('\r') {
            return None;
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "proxy-authorization" if head.login.is_some() => return None,
            "proxy-authorization" => head.login = Some(value),
            "content-length" => head.has_body |= value != "0",
            "transfer-encoding" => head.has_body = true,
            _ => {}
        }
    }
    Some(head)
}

/// The status of an answer's head; `None` where it is none of HTTP/1.
#[must_use]
pub fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    match line {
        [b'0' | b'1', b' ', code @ ..] => {
            let (code, rest) = (code.get(..3)?, code.get(3..)?);
            let code = std::str::from_utf8(code).ok()?;
            let is_whole = matches!(rest, [b' ' | b'\r', ..]);
            let is_code = code.bytes().all(|byte| byte.is_ascii_digit()) && is_whole;
            is_code.then(|| code.parse().ok())?
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

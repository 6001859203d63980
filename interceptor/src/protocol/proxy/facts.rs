//! What one client asks a proxy for: a host and port as targets have them, or why they are none.

#![warn(clippy::wildcard_enum_match_arm)]

use hyper::http::uri::{Authority, Uri};
use zeroize::Zeroizing;

use crate::config::Host;

/// The port of addresses that name none.
const HTTP: u16 = 80;

/// How a proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// HTTP's CONNECT (RFC 9110, 9.3.6).
    Connect,
    /// SOCKS 5 (RFC 1928).
    Socks,
    /// A request that the proxy is to make itself, its address in one piece (RFC 9112, 3.2.2).
    Whole,
}

/// What a client asks a proxy for.
pub struct Asked {
    /// How.
    pub form: Form,
    /// For which host.
    pub host: Host,
    /// And port.
    pub port: u16,
    /// As whom, and with what.
    pub presented: Option<(String, Zeroizing<Vec<u8>>)>,
    /// The head that was read of it.
    pub first: Vec<u8>,
}

/// The host and port of a CONNECT.
#[must_use]
pub fn authority(text: &str) -> Option<(Host, u16)> {
    let (host, port) = place(&text.parse().ok()?)?;
    Some((host, port?))
}

/// Those of a request that the proxy is to make itself; `None` where it is none in clear.
#[must_use]
pub fn whole(text: &str) -> Option<(Host, u16)> {
    let uri: Uri = text.parse().ok()?;
    if uri.scheme_str()? != "http" {
        return None;
    }
    let (host, port) = place(uri.authority()?)?;
    Some((host, port.unwrap_or(HTTP)))
}

fn place(place: &Authority) -> Option<(Host, Option<u16>)> {
    if place.as_str().contains('@') {
        return None;
    }
    let (text, port) = (place.host(), place.port_u16());
    // A port that is there and is no number.
    if port.is_none() && place.as_str().len() != text.len() {
        return None;
    }
    let address = (text.strip_prefix('['))
        .map(|text| text.strip_suffix(']').and_then(Host::read))
        .map(|host| host.filter(|host| matches!(host, Host::Ip(_))));
    let host = address.unwrap_or_else(|| Host::read(text))?;
    Some((host, port))
}

#[cfg(test)]
mod tests;

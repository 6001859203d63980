//! Where a connection leads: an address and port, or a UNIX socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Serialize, Serializer};

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// An address and port.
    Inet(SocketAddr),
    /// A UNIX socket that has a path.
    Unix(SocketPath),
}

impl Place {
    /// The address and port, where it is that.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Its address; a UNIX socket is on this host, so it has that of loopback.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Inet(address) => address.ip(),
            Self::Unix(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Its port; zero where it has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inet().map_or(0, |address| address.port())
    }

    /// The same with an IPv4-mapped address as what it means.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Inet(at) => Self::Inet(SocketAddr::new(at.ip().to_canonical(), at.port())),
            Self::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<SocketPath> for Place {
    fn from(path: SocketPath) -> Self {
        Self::Unix(path)
    }
}

/// As the configuration writes it.
impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(to),
            Self::Unix(path) => write!(to, "unix:{path}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Bytes of a path: `sun_path` has one more, for its zero (unix(7)).
const MOST: usize = 107;

/// The whole path of a UNIX socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketPath {
    bytes: [u8; MOST],
    length: u8,
}

impl SocketPath {
    /// A path that begins at the root and that a socket can have; none for any other text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len()).ok()?;
        if !text.starts_with('/') || text.contains('\0') || text.len() > MOST {
            return None;
        }
        let mut bytes = [0; MOST];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Some(Self { bytes, length })
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length));
        // It was made of a text, and is as long.
        bytes.map_or("", |bytes| std::str::from_utf8(bytes).unwrap_or_default())
    }

    /// The same by the other name that the host has for the directory of what runs, where it starts with one
    /// of them: clients are built with either.
    #[must_use]
    pub fn other_name(&self) -> Option<Self> {
        let text = self.as_str();
        let other = match text.strip_prefix("/var/run/") {
            Some(rest) => format!("/run/{rest}"),
            None => format!("/var{}", text.strip_prefix("/run/").map(|_| text)?),
        };
        Self::new(&other)
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

impl fmt::Debug for SocketPath {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_a_socket_can_have() {
        let longest = format!("/{}", "x".repeat(106));
        for text in ["/run/x", "/tmp/.s.PGSQL.5432", &longest] {
            assert_eq!(SocketPath::new(text).unwrap().as_str(), text);
        }
        let long = format!("{longest}x");
        for text in ["", "run/x", "@x", "/a\0b", &long] {
            assert!(SocketPath::new(text).is_none(), "{text:?}");
        }
        let place = Place::from(SocketPath::new("/run/x").unwrap());
        assert_eq!(place.to_string(), "unix:/run/x");
    }

    #[test]
    fn the_directory_of_what_runs_has_two_names() {
        let other = |text| SocketPath::new(text).unwrap().other_name();
        let named = |text| SocketPath::new(text).unwrap();
        assert_eq!(other("/var/run/pg/s"), Some(named("/run/pg/s")));
        assert_eq!(other("/run/pg/s"), Some(named("/var/run/pg/s")));
        assert_eq!(other("/tmp/s"), None);
        // One that is too long by its other name has none.
        assert_eq!(other(&format!("/run/{}", "x".repeat(102))), None);
    }
}

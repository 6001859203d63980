//! Values written as people write them: `10s`, `64MiB`, `10.0.0.0/8`, `db.internal:5432`.
//!
//! Each function answers the value or what it expected, in the words of a mistake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::{Address, Below, Host};
use crate::masking::{Joinable, Mask, Relation};
use crate::policy::{self, Resource};
use crate::socket::SocketPath;

/// Bytes of a label of a DNS name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;
/// Bytes of a DNS name in text form (RFC 1035 §2.3.4 less length octets).
const MAX_NAME: usize = 253;

/// A size in bytes: a number and `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB`, `GB` or `TB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a size with its unit, such as 512KiB, 64MiB or 1GiB";
    let (number, unit) = number(text).ok_or(EXPECTED)?;
    let unit: u64 = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(EXPECTED.into()),
    };
    number.checked_mul(unit).ok_or_else(|| EXPECTED.into())
}

/// A recipient of `age`: who holds the identity to it can read what is encrypted to it.
pub(super) fn recipient(text: &str) -> Result<(), String> {
    let read = text.parse::<age::x25519::Recipient>();
    read.map(drop)
        .map_err(|_why| "expected a recipient of age (X25519), such as age1…".into())
}

/// A mask that needs no more than a word: all but `constant`.
pub(super) fn mask(text: &str) -> Option<Mask> {
    let partial = |text: &str| {
        let digits = text.strip_prefix("partial(")?.strip_suffix(')')?;
        let shown: u8 = digits.parse().ok()?;
        (shown > 0 && shown.to_string() == digits).then_some(Mask::Partial(shown.into()))
    };
    match text {
        "null" => Some(Mask::Null),
        "hash" => Some(Mask::Hash(Joinable::Session)),
        "last4" => Some(Mask::Last4),
        "email" => Some(Mask::Email),
        "year" => Some(Mask::Year),
        "hide" => Some(Mask::Hide),
        text => partial(text),
    }
}

/// A column, as policy names it, without the target: the database where one is named, and the rest.
pub(super) fn column(text: &str) -> Result<(Option<String>, Relation, String), String> {
    const EXPECTED: &str = "expected schema.table.column, or database/schema.table.column; \
                            a part that is no plain word stands in double quotes";
    let (database, [schema, name, column]) = policy::column(text).ok_or(EXPECTED)?;
    Ok((database, Relation { schema, name }, column))
}

/// A function, as policy names it, without target and database: its schema and its name.
pub(super) fn function(text: &str) -> Result<(String, String), String> {
    const EXPECTED: &str =
        "expected schema.function; a part that is no plain word stands in double quotes";
    match Resource::named("function", text) {
        Some(Resource::Function { schema, function }) => Ok((schema, function)),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// Digits at the front of a text, and what follows them.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(digits)?;
    Some((digits.parse().ok()?, rest))
}

/// A network, or a single address. IPv4-mapped networks become what they mean.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text
            .parse()
            .map_err(|_ignored| "expected a network such as 10.0.0.0/8 or fd00::/8")?,
    };
    if network.addr() != network.network() {
        return Err(format!(
            "expected a network without host bits: {} or {}",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(unmapped(network))
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`: the kernel sees the IPv4 address.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
        .map_or(network, IpNet::V4)
}

/// A literal address and a port: `127.0.0.1:9464`, `[::1]:53`.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "expected an address and port such as 127.0.0.1:9464 or [::1]:53";
    let address: SocketAddr = text.parse().map_err(|_ignored| EXPECTED)?;
    if address.port() == 0 {
        return Err("expected a port from 1 to 65535".into());
    }
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A host and port: `db.internal:5432`, `10.0.0.5:5432`, `[fd00::5]:5432`.
pub(super) fn address(text: &str) -> Result<Address, String> {
    const EXPECTED: &str =
        "expected a host and port such as db.internal:5432, 10.0.0.5:5432 or [fd00::5]:5432";
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    let port: u16 = port.parse().map_err(|_ignored| EXPECTED)?;
    if port == 0 {
        return Err("expected a port from 1 to 65535".into());
    }
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(Some(v6)) => Host::Ip(v6.parse::<IpAddr>().map_err(|_ignored| EXPECTED)?),
        Some(None) => return Err(EXPECTED.into()),
        None if host.contains(':') => return Err(EXPECTED.into()),
        None => match host.parse::<Ipv4Addr>() {
            Ok(v4) => Host::Ip(v4.into()),
            Err(_) => Host::Name(name(host).ok_or(EXPECTED)?),
        },
    };
    let Host::Ip(ip) = host else {
        return Ok(Address { host, port });
    };
    let ip = ip.to_canonical();
    let nowhere = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
    if nowhere {
        return Err("expected the address of one host".into());
    }
    Ok(Address {
        host: Host::Ip(ip),
        port,
    })
}

/// Where agents dial a target.
pub(super) enum Dialled {
    /// A host and port.
    At(Address),
    /// Every host below a domain.
    Below(Below),
    /// A UNIX socket.
    Socket(SocketPath),
}

impl Dialled {
    pub(super) fn at(self) -> Option<Address> {
        match self {
            Self::At(address) => Some(address),
            Self::Below(_) | Self::Socket(_) => None,
        }
    }

    pub(super) fn below(self) -> Option<Below> {
        match self {
            Self::Below(below) => Some(below),
            Self::At(_) | Self::Socket(_) => None,
        }
    }

    pub(super) fn socket(self) -> Option<SocketPath> {
        match self {
            Self::Socket(path) => Some(path),
            Self::At(_) | Self::Below(_) => None,
        }
    }
}

/// As [`address`], or a UNIX socket: `unix:/run/postgresql/.s.PGSQL.5432`.
pub(super) fn server(text: &str) -> Result<Dialled, String> {
    let Some(path) = text.strip_prefix("unix:") else {
        return address(text).map(Dialled::At);
    };
    let is_plain = !path.split('/').any(|part| part == ".." || part == ".");
    let path = SocketPath::new(path).filter(|_| is_plain);
    path.map(Dialled::Socket).ok_or_else(|| {
        "expected a whole path of at most 107 bytes behind unix:, without `..`".to_owned()
    })
}

/// As [`server`], or every host below a domain.
pub(super) fn addresses(text: &str) -> Result<Dialled, String> {
    let Some(below) = text.strip_prefix("*.") else {
        return server(text);
    };
    match address(below)? {
        Address {
            host: Host::Name(domain),
            port,
        } => Ok(Dialled::Below(Below { domain, port })),
        Address { .. } => Err("expected a domain behind *. such as *.db.internal:5432".into()),
    }
}

/// A DNS name in lower case, without the root's dot.
pub(super) fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    // A name of digits and dots alone is an address written wrongly.
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (name.len() <= MAX_NAME && !numeric && name.split('.').all(label)).then_some(name)
}

//! Who is at the other end of a connection to the console, before anybody has logged in: so that none of them keeps
//! the others out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;

use crate::identity;
use crate::socket;

/// Connections at once of all of them.
pub const AT_ONCE: usize = 128;
/// Connections at once of one of them: three who take what they can get leave as many for others.
const OF_ONE: usize = AT_ONCE / 4;

/// Who comes to the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guest {
    /// A user of this host; of subordinate users whom they were given to (subuid(5)).
    User(u32),
    /// Somebody elsewhere, by the address; of IPv6 by the network, of which one has as many addresses as they like.
    Address(IpAddr),
}

impl Guest {
    /// Whose the other end of a connection is, as far as that can be told. Reads files.
    #[must_use]
    pub fn of(stream: &TcpStream, peer: SocketAddr) -> Self {
        let user = stream
            .local_addr()
            .and_then(|own| socket::owner(own, peer))
            .inspect_err(|error| tracing::warn!(%error, "cannot tell whose a connection is"));
        match user {
            Ok(Some(uid)) => Self::User(identity::given_to(uid)),
            Ok(None) | Err(_) => Self::address(peer.ip()),
        }
    }

    /// Somebody elsewhere.
    #[must_use]
    pub fn address(ip: IpAddr) -> Self {
        Self::Address(match ip.to_canonical() {
            // This host's own, of which there are many: who cannot be told there is one.
            IpAddr::V4(ip) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        })
    }
}

/// How many connections each of them has.
#[derive(Clone, Debug, Default)]
pub struct Inside(Arc<Mutex<HashMap<Guest, usize>>>);

/// A connection's place. Dropped, it is another's.
#[derive(Debug)]
pub struct Place {
    inside: Inside,
    guest: Guest,
}

impl Inside {
    /// A place for one more; none where this one has too many.
    #[must_use]
    pub fn enter(&self, guest: Guest) -> Option<Place> {
        let mut all = self.lock();
        let count = all.entry(guest).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        drop(all);
        let inside = self.clone();
        Some(Place { inside, guest })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Guest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.inside.lock();
        if let Some(count) = all.get_mut(&self.guest) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_so_many_connections_and_leaves_room_for_others() {
        let inside = Inside::default();
        let own: Vec<_> = (0..100)
            .filter_map(|_| inside.enter(Guest::User(1)))
            .collect();
        assert_eq!(own.len(), OF_ONE);
        // As many as three of them have is not all that there is.
        assert!(3 * own.len() < AT_ONCE);
        let other = inside.enter(Guest::User(2));
        assert!(other.is_some());
        drop(own);
        assert!(inside.enter(Guest::User(1)).is_some());
        drop(other);
        assert!(inside.lock().is_empty());
    }
}

//! The kernel's rules: written beside the old ones, then made to hold by one word.
//!
//! Each set of rules is a generation of rows; the programs ask for rows of the generation that
//! `STATE` names. A set is there whole or not at all.

mod doors;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::maps::lpm_trie::Key;
use interceptor_ebpf::flow::Endpoint;
use interceptor_ebpf::rule::{
    DAEMON, DIRECT, DIRECT_IF_READY, EXACT_BITS, NAMES, READY, REDIRECT, RuleKey, SLOT, State,
    TARGET,
};
use interceptor_ebpf::{MAX_PROTECTED, MAX_RESOLVERS, MAX_RULES};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use super::{Capture, Error, Rule, Tables, Verdict, map_error};

pub use doors::Guard;
pub(super) use doors::{row, text};

/// Rows of one set: two sets are in the map while one takes over from the other.
const MOST: u32 = MAX_RULES / 2;

impl Capture {
    /// Replaces every rule at once. Live direct flows that the new rules do not cover are cut off by
    /// the guard with their next packet.
    ///
    /// # Errors
    /// Where they do not fit, or the kernel refuses; the rules before then still hold.
    pub fn set_rules(&self, rules: &[Rule]) -> Result<(), Error> {
        let mut tables = self.tables();
        let resolvers = tables.resolvers(rules)?;
        let rows = compile(rules, &resolvers);
        if rows.len() > usize::try_from(MOST).unwrap_or(0) {
            return Err(Error::Full {
                what: "hold all rules",
                most: MOST,
            });
        }
        let protected = protect(rules, &own_addresses());
        let state = tables.read_state()?;
        let next = state.generation.checked_add(1).unwrap_or(1);
        tables.purge(|generation| generation != state.generation)?;
        tables.write_resolvers(&resolvers)?;
        let before = tables.protected(TARGET)?;
        let state = State {
            generation: next,
            ready: READY,
            ..state
        };
        if let Err(error) = tables.replace(state, &rows, &protected) {
            // What was written of the new set is taken back; the error that led here is the one to tell.
            let _purged = tables.purge(|generation| generation == next);
            let _freed = tables.clear_bit(TARGET, &before);
            return Err(error);
        }
        tables.purge(|generation| generation != next)?;
        tables.clear_bit(TARGET, &protected)
    }

    /// Keeps scopes from addresses of the daemon's own, such as its metrics: they may neither dial
    /// nor bind them, whatever the rules say. Kept until other addresses are given, or the pins go.
    ///
    /// # Errors
    /// Where the kernel refuses; addresses of before are kept, too, then.
    pub fn reserve(&self, addresses: &[SocketAddr]) -> Result<(), Error> {
        let mut tables = self.tables();
        let mut wanted = BTreeMap::new();
        for address in addresses {
            let mut at = endpoint(*address);
            if at.is_unspecified() {
                at.address = [0; 4];
            }
            wanted.insert(order(&at), at);
            tables.set_bit(&at, DAEMON)?;
        }
        tables.clear_bit(DAEMON, &wanted)
    }

    /// Takes leave: rules that need a daemon refuse from now on. A killed daemon cannot say so; for
    /// it the programs look whether its listeners are still there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn leave(&self) -> Result<(), Error> {
        let mut tables = self.tables();
        let state = tables.read_state()?;
        tables.write_state(State { ready: 0, ..state })
    }
}

impl Tables {
    /// Writes a set beside the one that holds, then has it hold instead.
    fn replace(
        &mut self,
        state: State,
        rows: &HashMap<Row, u32>,
        protected: &BTreeMap<[u32; 5], Endpoint>,
    ) -> Result<(), Error> {
        self.protect(protected)?;
        for (row, bits) in rows {
            self.add(state.generation, row, *bits)?;
        }
        self.write_state(state)
    }

    /// Which slot each resolver of a set has: the one that it has now, or a free one.
    fn resolvers(&self, rules: &[Rule]) -> Result<Slots, Error> {
        let mut wanted = Vec::new();
        for rule in rules
            .iter()
            .filter(|rule| rule.verdict == Verdict::Resolver)
        {
            let at = endpoint(SocketAddr::new(rule.network.addr(), rule.port.unwrap_or(0)));
            if !wanted.contains(&at) {
                wanted.push(at);
            }
        }
        let mut slots = Slots::default();
        for (slot, row) in slots.iter_mut().enumerate() {
            let slot = u32::try_from(slot).unwrap_or(0);
            let now = self.resolvers.get(&slot, 0);
            let now = now.map_err(map_error("read", "RESOLVERS"))?;
            if let Some(at) = wanted.iter().position(|wanted| wanted.same(&now)) {
                *row = Some(wanted.swap_remove(at));
            }
        }
        for at in wanted {
            let free = slots.iter_mut().find(|row| row.is_none());
            let free = free.ok_or(Error::Full {
                what: "ask one more resolver",
                most: MAX_RESOLVERS,
            })?;
            *free = Some(at);
        }
        Ok(slots)
    }

    /// A slot that nobody has keeps what it had: rules of before may still name it.
    fn write_resolvers(&mut self, slots: &Slots) -> Result<(), Error> {
        for (slot, at) in (0_u32..).zip(slots) {
            let Some(at) = at else { continue };
            self.resolvers
                .set(slot, *at, 0)
                .map_err(map_error("write", "RESOLVERS"))?;
        }
        Ok(())
    }

    fn add(&mut self, generation: u32, row: &Row, bits: u32) -> Result<(), Error> {
        self.rules
            .insert(&row.key(generation), bits, 0)
            .map_err(map_error("write", "RULES"))
    }

    /// Removes the rows of generations that `is_old` names.
    fn purge(&mut self, is_old: impl Fn(u32) -> bool) -> Result<(), Error> {
        let keys: Result<Vec<_>, _> = self.rules.keys().collect();
        let keys = keys.map_err(map_error("read", "RULES"))?;
        for key in keys {
            let RuleKey { generation, .. } = key.data();
            if is_old(generation) {
                self.rules
                    .remove(&key)
                    .map_err(map_error("write", "RULES"))?;
            }
        }
        Ok(())
    }

    fn protect(&mut self, wanted: &BTreeMap<[u32; 5], Endpoint>) -> Result<(), Error> {
        if wanted.len() > usize::try_from(MAX_PROTECTED / 2).unwrap_or(0) {
            return Err(Error::Full {
                what: "protect all targets' addresses",
                most: MAX_PROTECTED / 2,
            });
        }
        for at in wanted.values() {
            self.set_bit(at, TARGET)?;
        }
        Ok(())
    }

    /// The addresses that are protected as `bit` says.
    fn protected(&self, bit: u32) -> Result<BTreeMap<[u32; 5], Endpoint>, Error> {
        let rows: Result<Vec<_>, _> = self.protected.iter().collect();
        let rows = rows.map_err(map_error("read", "PROTECTED"))?;
        let found = rows.into_iter().filter(|(_, bits)| bits & bit != 0);
        Ok(found.map(|(at, _)| (order(&at), at)).collect())
    }

    fn set_bit(&mut self, at: &Endpoint, bit: u32) -> Result<(), Error> {
        let bits = self.protected.get(at, 0).unwrap_or(0) | bit;
        let set = self.protected.insert(at, bits, 0);
        set.map_err(map_error("write", "PROTECTED"))
    }

    /// Frees addresses that are protected as `bit` says, and not wanted so any more.
    fn clear_bit(&mut self, bit: u32, wanted: &BTreeMap<[u32; 5], Endpoint>) -> Result<(), Error> {
        for (order, at) in self.protected(bit)? {
            if wanted.contains_key(&order) {
                continue;
            }
            let left = self.protected.get(&at, 0).unwrap_or(0) & !bit;
            let done = if left == 0 {
                self.protected.remove(&at)
            } else {
                self.protected.insert(at, left, 0)
            };
            done.map_err(map_error("write", "PROTECTED"))?;
        }
        Ok(())
    }
}

/// The resolvers, each in its slot.
type Slots = [Option<Endpoint>; MAX_RESOLVERS as usize];

/// One row: which scope and port, and which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    /// Zero for every scope.
    scope: u64,
    /// Zero for every port.
    port: u16,
    /// IPv4 as IPv4-mapped.
    address: u128,
    /// Of 128.
    prefix: u8,
}

impl Row {
    fn of(rule: &Rule) -> Self {
        let (address, prefix) = match rule.network.trunc() {
            IpNet::V4(network) => (
                network.network().to_ipv6_mapped(),
                96 + network.prefix_len(),
            ),
            IpNet::V6(network) => (network.network(), network.prefix_len()),
        };
        Self {
            scope: rule.scope.unwrap_or(0),
            port: rule.port.unwrap_or(0),
            address: address.to_bits(),
            prefix,
        }
    }

    /// The same with a shorter prefix.
    fn widened(self, prefix: u8) -> Self {
        let kept = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        Self {
            address: self.address & kept,
            prefix,
            ..self
        }
    }

    fn key(&self, generation: u32) -> Key<RuleKey> {
        let [low, high] = halves(self.scope);
        let rule = RuleKey {
            generation,
            scope_low: low,
            scope_high: high,
            port: u32::from(self.port),
            address: words(Ipv6Addr::from_bits(self.address)),
        };
        Key::new(EXACT_BITS + u32::from(self.prefix), rule)
    }
}

/// The rows of a set. The trie tells only the longest match, and a redirect must beat any other rule
/// whatever its length, so each row also says what the wider ones over it say.
fn compile(rules: &[Rule], resolvers: &Slots) -> HashMap<Row, u32> {
    let mut own: HashMap<Row, u32> = HashMap::new();
    for rule in rules {
        *own.entry(Row::of(rule)).or_default() |= bits(rule, resolvers);
    }
    let whole = |row: &Row| {
        (0..=row.prefix)
            .filter_map(|prefix| own.get(&row.widened(prefix)))
            .fold(0, |all, bits| all | bits)
    };
    own.keys().map(|row| (*row, whole(row))).collect()
}

fn bits(rule: &Rule, resolvers: &Slots) -> u32 {
    match rule.verdict {
        Verdict::Redirect => REDIRECT,
        Verdict::Direct {
            needs_daemon: false,
        } => DIRECT,
        Verdict::Direct { needs_daemon: true } => DIRECT_IF_READY,
        Verdict::Dialled => 0,
        Verdict::Resolver => {
            let at = endpoint(SocketAddr::new(rule.network.addr(), rule.port.unwrap_or(0)));
            let slots = (0_u32..).zip(resolvers);
            let mut slots = slots.filter(|(_, row)| row.is_some_and(|row| row.same(&at)));
            // Without a slot it is a rule that opens nothing.
            slots.next().map_or(0, |(slot, _)| NAMES | slot << SLOT)
        }
    }
}

/// What scopes may not bind: the targets' addresses and whatever else the daemon dials, and where that is on
/// this host, its port on every address.
fn protect(rules: &[Rule], own: &[IpAddr]) -> BTreeMap<[u32; 5], Endpoint> {
    let mut found = BTreeMap::new();
    for rule in rules {
        let Rule {
            scope: _,
            network,
            port,
            verdict,
        } = rule;
        let (Verdict::Redirect | Verdict::Resolver | Verdict::Dialled, Some(port)) =
            (verdict, *port)
        else {
            continue;
        };
        if network.prefix_len() != network.max_prefix_len() {
            continue;
        }
        let address = network.addr();
        let at = endpoint(SocketAddr::new(address, port));
        found.insert(order(&at), at);
        if at.is_loopback() || own.contains(&address) {
            let all = Endpoint::v6([0; 4], port);
            found.insert(order(&all), all);
        }
    }
    found
}

/// Addresses of this host; none where the kernel does not say, which protects loopback all the same.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(found) = getifaddrs() else {
        return Vec::new();
    };
    found
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// An address as the programs keep it.
pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    let v6 = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Endpoint::v6(words(v6), address.port())
}

/// What an [`Endpoint`] says, IPv4-mapped addresses as IPv4.
pub(super) fn address(endpoint: &Endpoint) -> SocketAddr {
    let Endpoint {
        address,
        port,
        reserved: _,
    } = endpoint;
    let [one, two, three, four] = address.map(|word| u128::from(u32::from_be(word)));
    let bits = one << 96 | two << 64 | three << 32 | four;
    SocketAddr::new(Ipv6Addr::from_bits(bits).to_canonical(), *port)
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    let (words, _) = octets.as_chunks::<4>();
    let mut found = [0; 4];
    for (to, from) in found.iter_mut().zip(words) {
        *to = u32::from_ne_bytes(*from);
    }
    found
}

fn halves(scope: u64) -> [u32; 2] {
    let low = u32::try_from(scope & u64::from(u32::MAX)).unwrap_or(0);
    [low, u32::try_from(scope >> 32).unwrap_or(0)]
}

fn order(endpoint: &Endpoint) -> [u32; 5] {
    let [one, two, three, four] = endpoint.address;
    [one, two, three, four, u32::from(endpoint.port)]
}

#[cfg(test)]
mod tests;

//! Destinations and the targets behind them: which address, as dialled, belongs to which target.
//!
//! Host names are resolved by the daemon, never by the agent: what an agent's resolver answers decides
//! nothing. Resolved anew every minute and at reload; a name that does not resolve keeps what it had.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::capture::{OriginalDestination, Rule, Verdict};
use crate::config::{Config, Host, Target};

/// Addresses of one name that are used; more are ignored, and said.
const MAX_ADDRESSES: usize = 64;

/// The targets by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    by_address: HashMap<SocketAddr, (Arc<Target>, Host)>,
    names: HashMap<String, Vec<IpAddr>>,
    /// Where the daemon dials for a target, where that is not where the agent dialled.
    places: HashMap<String, Arc<[(Host, SocketAddr)]>>,
}

impl Targets {
    /// Resolves every target's addresses. Names that do not resolve keep their addresses in `before`.
    pub async fn resolve(config: &Config, before: &Self) -> Self {
        let mut resolved = Self::default();
        for target in config.targets.values() {
            for address in &target.addresses {
                for ip in resolved.addresses(&address.host, before).await {
                    let at = SocketAddr::new(ip, address.port);
                    let (first, _) = resolved
                        .by_address
                        .entry(at)
                        .or_insert_with(|| (Arc::clone(target), address.host.clone()));
                    if first.name != target.name {
                        tracing::error!(%at, target = %target.name, taken = %first.name,
                            "two targets resolve to one address; the first in name order keeps it");
                    }
                }
            }
            let mut places = Vec::new();
            for address in &target.dial.hosts {
                let found = resolved.addresses(&address.host, before).await;
                let at = |ip| (address.host.clone(), SocketAddr::new(ip, address.port));
                places.extend(found.into_iter().map(at));
            }
            if !target.dial.hosts.is_empty() {
                resolved.places.insert(target.name.clone(), places.into());
            }
        }
        resolved
    }

    /// Where the daemon dials for a target; `None` for where the agent dialled.
    #[must_use]
    pub fn places(&self, target: &str) -> Option<Arc<[(Host, SocketAddr)]>> {
        self.places.get(target).map(Arc::clone)
    }

    /// The target behind a destination, and its host there as the configuration names it.
    #[must_use]
    pub fn at(&self, destination: OriginalDestination) -> Option<&(Arc<Target>, Host)> {
        self.by_address.get(&canonical(destination.0))
    }

    /// The kernel's rows for them: every address is redirected.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        self.by_address.keys().map(|at| Rule {
            scope: None,
            network: at.ip().into(),
            port: Some(at.port()),
            verdict: Verdict::Redirect,
        })
    }

    /// Addresses that a `direct` rule covers, a sentence each: such a rule would lead around the
    /// daemon as soon as the address is no longer the target's.
    #[must_use]
    pub fn ways_around(&self, config: &Config) -> Vec<String> {
        let dialled = self.by_address.iter();
        let dialled = dialled.map(|(at, (target, _))| (&target.name, at));
        let beyond = self.places.iter();
        let beyond = beyond.flat_map(|(name, places)| places.iter().map(move |(_, at)| (name, at)));
        let said = |(name, at): (&String, &SocketAddr)| {
            let network = config.direct_over(*at)?.network;
            Some(format!(
                "target {name} resolves to {at}, which the direct rule {network} covers; narrow the rule"
            ))
        };
        dialled.chain(beyond).filter_map(said).collect()
    }

    /// Addresses of one target, sorted.
    #[must_use]
    pub fn of(&self, target: &str) -> Vec<SocketAddr> {
        let mut of: Vec<_> = self
            .by_address
            .iter()
            .filter(|(_, (at, _))| at.name == target)
            .map(|(address, _)| *address)
            .collect();
        of.sort();
        of
    }

    async fn addresses(&mut self, host: &Host, before: &Self) -> Vec<IpAddr> {
        match host {
            Host::Ip(ip) => vec![ip.to_canonical()],
            Host::Name(name) => {
                if let Some(known) = self.names.get(name) {
                    return known.clone();
                }
                let found = lookup(name).await.unwrap_or_else(|error| {
                    let kept = before.names.get(name).cloned().unwrap_or_default();
                    tracing::warn!(%error, %name, kept = kept.len(), "cannot resolve a target's name");
                    kept
                });
                self.names.insert(name.clone(), found.clone());
                found
            }
        }
    }
}

async fn lookup(name: &str) -> std::io::Result<Vec<IpAddr>> {
    let mut found: Vec<_> = tokio::net::lookup_host((name, 0))
        .await?
        .map(|address| address.ip().to_canonical())
        .collect();
    found.sort();
    found.dedup();
    if found.len() > MAX_ADDRESSES {
        tracing::warn!(%name, addresses = found.len(), used = MAX_ADDRESSES, "a name has too many addresses");
        found.truncate(MAX_ADDRESSES);
    }
    Ok(found)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

//! Destinations and the targets behind them: which address, as dialled, belongs to which target.
//!
//! Host names are resolved by the daemon, never by the agent: what an agent's resolver answers decides
//! nothing. Resolved anew every minute, at reload, and where nobody answers at any address of a target; a name
//! that does not resolve keeps what it had.

mod anew;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::anew::Anew;
use crate::capture::{OriginalDestination, Rule, Verdict};
use crate::config::{Config, Dial, Host, Target};
use crate::socket::{Place, SocketPath};

/// Addresses of one name that are used; more are ignored, and said.
const MAX_ADDRESSES: usize = 64;
/// How long names may take to be resolved.
const PATIENCE: Duration = Duration::from_secs(5);

/// The targets by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    by_address: HashMap<Place, (Arc<Target>, Host)>,
    names: HashMap<String, Vec<IpAddr>>,
    /// Where the daemon dials for a target, where that is not where the agent dialled.
    places: HashMap<String, Arc<[(Host, Place)]>>,
}

impl Targets {
    /// Resolves every target's addresses. Names that do not resolve keep their addresses in `before`.
    pub async fn resolve(config: &Config, before: &Self) -> Self {
        let mut resolved = Self {
            names: resolve_all(config, before, lookup, PATIENCE).await,
            ..Self::default()
        };
        for target in config.targets.values() {
            for address in &target.addresses {
                for ip in resolved.addresses(&address.host) {
                    let at = SocketAddr::new(ip, address.port);
                    resolved.lead(target, at.into(), address.host.clone());
                }
            }
            for path in &target.sockets {
                let other = path.other_name().filter(|_| is_one_directory());
                for path in std::iter::once(*path).chain(other) {
                    resolved.lead(target, path.into(), HERE);
                }
            }
            let places = resolved.beyond(&target.dial);
            if !target.dial.is_where_dialled() {
                resolved.places.insert(target.name.clone(), places.into());
            }
        }
        resolved
    }

    /// Has a place be a target's, unless it is another's already.
    fn lead(&mut self, target: &Arc<Target>, at: Place, host: Host) {
        let (first, _) = self
            .by_address
            .entry(at)
            .or_insert_with(|| (Arc::clone(target), host));
        if first.name != target.name {
            tracing::error!(%at, target = %target.name, taken = %first.name,
                "two targets resolve to one address; the first in name order keeps it");
        }
    }

    /// Where the daemon dials, where that is said: hosts first, then sockets.
    fn beyond(&self, dial: &Dial) -> Vec<(Host, Place)> {
        let hosts = dial.hosts.iter().flat_map(|address| {
            let at = |ip| SocketAddr::new(ip, address.port).into();
            let found = self.addresses(&address.host).into_iter();
            found.map(move |ip| (address.host.clone(), at(ip)))
        });
        let sockets = dial.sockets.iter().map(|path| (HERE, (*path).into()));
        hosts.chain(sockets).collect()
    }

    /// Where the daemon dials for a target; `None` for where the agent dialled.
    #[must_use]
    pub fn places(&self, target: &str) -> Option<Arc<[(Host, Place)]>> {
        self.places.get(target).map(Arc::clone)
    }

    /// The target behind a destination, and its host there as the configuration names it.
    #[must_use]
    pub fn at(&self, destination: OriginalDestination) -> Option<&(Arc<Target>, Host)> {
        self.by_address.get(&destination.0.canonical())
    }

    /// Addresses of a name that the configuration has, as last resolved.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).cloned().unwrap_or_default()
    }

    /// The kernel's rows for them: every address is redirected.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        let addresses = self.by_address.keys().filter_map(Place::inet);
        addresses.map(|at| Rule {
            scope: None,
            network: at.ip().into(),
            port: Some(at.port()),
            verdict: Verdict::Redirect,
        })
    }

    /// Where the daemon dials for targets, where that is not where agents dial.
    pub fn dialled(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let places = self.places.values().flat_map(|places| places.iter());
        places.filter_map(|(_, at)| at.inet())
    }

    /// The UNIX sockets that are targets'.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketPath> {
        let path = |at: &Place| match at {
            Place::Unix(path) => Some(*path),
            Place::Inet(_) => None,
        };
        self.by_address.keys().filter_map(path).collect()
    }

    /// Addresses that a `direct` rule covers, a sentence each: such a rule would lead around the
    /// daemon as soon as the address is no longer the target's.
    #[must_use]
    pub fn ways_around(&self, config: &Config) -> Vec<String> {
        let dialled = self.by_address.iter();
        let dialled = dialled.map(|(at, (target, _))| (&target.name, at));
        let beyond = self.places.iter();
        let beyond = beyond.flat_map(|(name, places)| places.iter().map(move |(_, at)| (name, at)));
        let said = |(name, at): (&String, &Place)| {
            let network = config.direct_over(at.inet()?)?.network;
            Some(format!(
                "target {name} resolves to {at}, which the direct rule {network} covers; narrow the rule"
            ))
        };
        dialled.chain(beyond).filter_map(said).collect()
    }

    /// Addresses of one target, sorted.
    #[must_use]
    pub fn of(&self, target: &str) -> Vec<Place> {
        let mut of: Vec<_> = self
            .by_address
            .iter()
            .filter(|(_, (at, _))| at.name == target)
            .map(|(address, _)| *address)
            .collect();
        of.sort();
        of
    }

    fn addresses(&self, host: &Host) -> Vec<IpAddr> {
        match host {
            Host::Ip(ip) => vec![ip.to_canonical()],
            Host::Name(name) => self.names.get(name).cloned().unwrap_or_default(),
        }
    }
}

/// Every name of a configuration, looked up at once and for a bounded time; one that does not resolve keeps
/// its addresses in `before`.
async fn resolve_all<F>(
    config: &Config,
    before: &Targets,
    lookup: impl Fn(String) -> F,
    patience: Duration,
) -> HashMap<String, Vec<IpAddr>>
where
    F: Future<Output = std::io::Result<Vec<IpAddr>>> + Send + 'static,
{
    let targets = config.targets.values();
    let hosts = targets.flat_map(|target| target.addresses.iter().chain(&target.dial.hosts));
    let names: HashSet<_> = hosts
        .filter_map(|address| match &address.host {
            Host::Name(name) => Some(name.clone()),
            Host::Ip(_) => None,
        })
        .collect();
    let mut lookups = JoinSet::new();
    for name in names.iter().cloned() {
        let found = timeout(patience, lookup(name.clone()));
        lookups.spawn(async move { (name, found.await) });
    }
    let mut resolved = HashMap::new();
    while let Some(ended) = lookups.join_next().await {
        match ended {
            Ok((name, Ok(Ok(found)))) => drop(resolved.insert(name, found)),
            Ok((name, Ok(Err(error)))) => {
                tracing::warn!(%error, %name, "cannot resolve a target's name; it keeps its addresses");
            }
            Ok((name, Err(_elapsed))) => {
                tracing::warn!(%name, "a target's name was not resolved in time; it keeps its addresses");
            }
            Err(error) => tracing::error!(%error, "a look-up of a target's name ended"),
        }
    }
    for name in names {
        let kept = || before.names.get(&name).cloned().unwrap_or_default();
        let kept = resolved.remove(&name).unwrap_or_else(kept);
        resolved.insert(name, kept);
    }
    resolved
}

/// Addresses of a name as the host's own resolver has them now, sorted.
///
/// # Errors
/// Where it does not resolve.
pub async fn lookup(name: String) -> std::io::Result<Vec<IpAddr>> {
    let mut found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0))
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

/// The host that UNIX sockets are on.
const HERE: Host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Whether `/var/run` is `/run`, as nearly everywhere.
fn is_one_directory() -> bool {
    let found = std::fs::canonicalize("/var/run");
    found.is_ok_and(|found| found == std::path::Path::new("/run"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::path::Path;

    use super::*;

    const CONFIG: &str = "version: 1
targets:
  one:
    addresses: ['hangs:5432', 'answers:5432']
    postgres: { user: u, databases: [d] }
  two:
    addresses: ['fails:5432', 'hangs-too:5432']
    postgres: { user: u, databases: [d] }
";

    #[tokio::test]
    async fn a_name_that_is_not_resolved_in_time_keeps_what_it_had_and_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, CONFIG).unwrap();
        let config = crate::config::load(Path::new(&path)).unwrap();
        let (old, new) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let names = ["hangs", "answers", "fails"].map(|name| (name.to_owned(), vec![old]));
        let before = Targets {
            names: HashMap::from(names),
            ..Targets::default()
        };
        let lookup = move |name: String| async move {
            match name.as_str() {
                "answers" => Ok(vec![new]),
                "fails" => Err(std::io::ErrorKind::NotFound.into()),
                _ => pending().await,
            }
        };
        let patience = Duration::from_millis(10);
        let found = resolve_all(&config, &before, lookup, patience).await;
        let of = |name: &str| found[name].as_slice();
        assert_eq!(of("answers"), [new]);
        assert_eq!(of("fails"), [old]);
        assert_eq!(of("hangs"), [old]);
        assert!(of("hangs-too").is_empty());
    }

    #[tokio::test]
    async fn a_unix_socket_leads_to_its_target_by_either_name() {
        let text = "version: 1
targets:
  one:
    addresses: ['unix:/run/pg/s']
    dial: { hosts: ['unix:/srv/s', '127.0.0.1:5433'] }
    postgres: { user: u, databases: [d] }
  two:
    addresses: ['127.0.0.1:5432']
    postgres: { user: u, databases: [d] }
";
        let config = crate::config::parse(text, Path::new("/etc/interceptor/config.yaml")).unwrap();
        let targets = Targets::resolve(&config, &Targets::default()).await;
        let path = |text| Place::Unix(SocketPath::new(text).unwrap());
        let of = |at| {
            targets
                .at(OriginalDestination(at))
                .map(|(target, _)| target.name.as_str())
        };
        assert_eq!(of(path("/run/pg/s")), Some("one"));
        let other = is_one_directory().then_some("one");
        assert_eq!(of(path("/var/run/pg/s")), other);
        assert_eq!(of(path("/srv/s")), None);
        // The kernel's rules are about addresses alone.
        assert_eq!(targets.rules().count(), 1);
        let places = targets.places("one").unwrap();
        let places: Vec<_> = places.iter().map(|(_, at)| at.to_string()).collect();
        assert_eq!(places, ["127.0.0.1:5433", "unix:/srv/s"]);
        assert!(targets.places("two").is_none());
        let dialled: Vec<_> = targets.dialled().collect();
        assert_eq!(dialled, ["127.0.0.1:5433".parse().unwrap()]);
    }
}

//! For which names the authority makes certificates: its own certificate says so (RFC 5280, 4.2.1.10), so that whoever
//! should come to have its key can pretend to be none but this host's targets, to clients that trust it.
//!
//! Targets come and go: the certificate is then made anew, with the same key and name. A client that trusts the one
//! before goes on to trust for the names that stood in that one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::config::{Config, Host, Protocol, Target};

/// A name that is nobody's (RFC 6761, 6.4). It is always permitted: a kind of which nothing is permitted at all has to be
/// named to be confined, and a certificate without a name would be held against its subject's.
pub(super) const NOBODY: &str = "interceptor.invalid";
/// An address that is nobody's (RFC 5737), for the same.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Names and addresses that certificates may be for: each domain with all that lies in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    domains: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Confined {
    /// Those of all targets whose TLS ends here, and those that the configuration adds. `None` where it adds none
    /// and a target may be dialled by names that it does not know, which is [`unnamed`].
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let added = config.authority_names.as_deref();
        if added.is_none() && unnamed(config).is_some() {
            return None;
        }
        let mut confined = Self::default();
        for target in config.targets.values().filter(|target| ends_here(target)) {
            let addresses = target.addresses.iter().map(|address| &address.host);
            let hosts = target.http().into_iter().flat_map(|http| &http.hosts);
            addresses.chain(hosts).for_each(|host| confined.add(host));
            for below in &target.below {
                confined.domains.insert(below.domain.clone());
            }
        }
        added
            .into_iter()
            .flatten()
            .for_each(|host| confined.add(host));
        Some(confined)
    }

    pub(super) fn add(&mut self, host: &Host) {
        match host {
            Host::Ip(ip) => drop(self.addresses.insert(ip.to_canonical())),
            Host::Name(name) => drop(self.domains.insert(name.to_ascii_lowercase())),
        }
    }

    /// Whether a certificate may be for this.
    #[must_use]
    pub fn permits(&self, host: &Host) -> bool {
        match host {
            Host::Ip(ip) => self.addresses.contains(&ip.to_canonical()),
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                let mut domains = self.domains.iter();
                domains.any(|domain| crate::config::is_below(&name, domain))
            }
        }
    }

    /// One of these that `other` does not permit.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Option<String> {
        let domain = |domain: &&String| !other.permits(&Host::Name((*domain).clone()));
        let address = |ip: &&IpAddr| !other.addresses.contains(ip);
        let domain = self.domains.iter().find(domain).cloned();
        domain.or_else(|| self.addresses.iter().find(address).map(IpAddr::to_string))
    }

    /// How many names and addresses it is.
    #[must_use]
    pub fn count(&self) -> usize {
        self.domains.len().saturating_add(self.addresses.len())
    }

    /// As a certificate says it.
    pub(super) fn constraints(&self) -> NameConstraints {
        let domains = self.domains.iter().map(String::as_str);
        let domains = domains.chain([NOBODY]).map(str::to_owned);
        let addresses = self.addresses.iter().copied();
        let nowhere = self.addresses.is_empty().then_some(NOWHERE);
        let network = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => CidrSubnet::V4(ip.octets(), [0xff; 4]),
            IpAddr::V6(ip) => CidrSubnet::V6(ip.octets(), [0xff; 16]),
        };
        let addresses = addresses.chain(nowhere).map(network);
        NameConstraints {
            permitted_subtrees: domains
                .map(GeneralSubtree::DnsName)
                .chain(addresses.map(GeneralSubtree::IpAddress))
                .collect(),
            excluded_subtrees: Vec::new(),
        }
    }

    /// As it stands in a certificate in PEM, if it is one: none where that is for every name.
    #[must_use]
    pub fn in_pem(text: &str) -> Option<Option<Self>> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).ok()?;
        Some(Self::read(&pem.parse_x509().ok()?))
    }

    /// As it stands in a certificate; `None` where that is for every name. What this does not write is no name here.
    #[must_use]
    pub(super) fn read(certificate: &X509Certificate<'_>) -> Option<Self> {
        let constraints = certificate.name_constraints().ok()??.value;
        let mut confined = Self::default();
        for subtree in constraints.permitted_subtrees.iter().flatten() {
            match &subtree.base {
                GeneralName::DNSName(NOBODY) => {}
                GeneralName::DNSName(name) => drop(confined.domains.insert((*name).to_owned())),
                GeneralName::IPAddress(network) => confined.addresses.extend(address(network)),
                _ => {}
            }
        }
        confined.addresses.remove(&NOWHERE);
        Some(confined)
    }
}

/// The address of a network of one: it stands before its mask.
fn address(network: &[u8]) -> Option<IpAddr> {
    let (ip, mask) = network.split_at_checked(network.len() / 2)?;
    if mask.iter().any(|byte| *byte != 0xff) {
        return None;
    }
    let four = <[u8; 4]>::try_from(ip).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(ip).ok().map(IpAddr::from))
}

/// Whether the daemon shows a certificate for it.
fn ends_here(target: &Target) -> bool {
    match target.protocol {
        Protocol::Postgres(_) | Protocol::Http(_) | Protocol::Kubernetes(_) => true,
        Protocol::Ssh(_) | Protocol::Proxy(_) => false,
    }
}

/// A target that agents may dial under names that stand nowhere in the configuration: of a database an alias, a short
/// name or an address is as good as its name, and its clients say which they have.
#[must_use]
pub fn unnamed(config: &Config) -> Option<&str> {
    let mut targets = config.targets.values();
    let target = targets.find(|target| target.postgres().is_some())?;
    Some(&target.name)
}

#[cfg(test)]
mod tests;

//! Which target's name an address is, for whom: what the answers said that scopes were given.
//!
//! An answer that an agent is given binds the name, whatever else the address is: the daemon's own look-up
//! may differ, or be of another minute. Where the daemon dials is not decided here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::{self, Capture};
use crate::clock::BootTime;
use crate::config::{Config, Target};

/// How long an address is known after its answer has expired: clients keep what they were told.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Addresses, each with a port, that one scope knows at once; the first to expire makes room.
const MOST: usize = 1024;
/// Addresses of one answer that are bound.
const OF_ONE: usize = 64;

/// Answers, by scope.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    scopes: Mutex<HashMap<u64, HashMap<SocketAddr, Bound>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    name: String,
    /// When it may make room for others.
    expires: BootTime,
}

/// An answer that a scope is about to be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) scope: u64,
    pub(super) name: &'a str,
    pub(super) addresses: &'a [IpAddr],
    pub(super) ttl: Duration,
    pub(super) now: BootTime,
}

/// What takes the addresses into the kernel and out of it. A trait so that tests can bring a table.
pub(super) trait Kernel {
    fn name(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error>;
    fn unname(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error>;
}

impl Kernel for Capture {
    fn name(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error> {
        Self::name(self, scope, addresses)
    }

    fn unname(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error> {
        Self::unname(self, scope, addresses)
    }
}

impl Bindings {
    /// Binds an answer before it is given: when this returns, the kernel redirects what it leads to.
    ///
    /// # Errors
    /// Where the kernel does not take it; the answer must then not be given.
    pub(super) fn bind(
        &self,
        kernel: &impl Kernel,
        config: &Config,
        told: Told<'_>,
    ) -> Result<(), capture::Error> {
        let ports: Vec<u16> = config.named(told.name).map(|(_, port)| port).collect();
        let addresses = told.addresses.iter().take(OF_ONE);
        let at: Vec<_> = addresses
            .flat_map(|ip| {
                let ip = ip.to_canonical();
                ports.iter().map(move |port| SocketAddr::new(ip, *port))
            })
            .take(MOST)
            .collect();
        if at.is_empty() {
            return Ok(());
        }
        let mut scopes = self.scopes();
        let known = scopes.entry(told.scope).or_default();
        let fresh: Vec<_> = at
            .iter()
            .filter(|at| !known.contains_key(at))
            .copied()
            .collect();
        let over = (known.len() + fresh.len()).saturating_sub(MOST);
        let mut eldest: Vec<_> = known
            .iter()
            .filter(|(address, _)| !at.contains(address))
            .map(|(address, bound)| (bound.expires, *address))
            .collect();
        eldest.sort_unstable();
        let eldest: Vec<_> = eldest.into_iter().take(over).map(|(_, at)| at).collect();
        kernel.unname(told.scope, &eldest)?;
        for address in &eldest {
            known.remove(address);
        }
        kernel.name(told.scope, &fresh)?;
        let expires = told.now.after(told.ttl).after(GRACE);
        known.extend(at.into_iter().map(|at| {
            let name = told.name.to_owned();
            (at, Bound { name, expires })
        }));
        Ok(())
    }

    /// The target behind an address that a scope was told, and the name that it asked for.
    pub(super) fn of(
        &self,
        config: &Config,
        scope: u64,
        at: SocketAddr,
    ) -> Option<(Arc<Target>, String)> {
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        let name = self.scopes().get(&scope)?.get(&at)?.name.clone();
        let target = config
            .named(&name)
            .find(|(_, port)| *port == at.port())
            .map(|(target, _)| Arc::clone(target))?;
        Some((target, name))
    }

    /// Takes back what is known no more: of scopes that are not tagged, of names that are no target's, and
    /// what has expired.
    pub(super) fn sweep(
        &self,
        kernel: &impl Kernel,
        config: &Config,
        is_tagged: impl Fn(u64) -> bool,
        now: BootTime,
    ) -> Result<(), capture::Error> {
        let mut scopes = self.scopes();
        for (scope, known) in scopes.iter_mut() {
            let stays = |at: &SocketAddr, bound: &Bound| {
                is_tagged(*scope)
                    && now < bound.expires
                    && config.named(&bound.name).any(|(_, port)| port == at.port())
            };
            let gone: Vec<_> = known
                .iter()
                .filter(|(at, bound)| !stays(at, bound))
                .map(|(at, _)| *at)
                .collect();
            kernel.unname(*scope, &gone)?;
            known.retain(|at, _| !gone.contains(at));
        }
        scopes.retain(|_, known| !known.is_empty());
        Ok(())
    }

    fn scopes(&self) -> MutexGuard<'_, HashMap<u64, HashMap<SocketAddr, Bound>>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

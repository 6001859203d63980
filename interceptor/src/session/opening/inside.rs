//! Inside: a client's connection to another target through the one that it has, which is a proxy of the network's.
//! That target is judged as though it had been dialled, and logged in to through the same proxy. The proxy is spoken to in
//! clear and leads where it likes: nothing goes behind it but to a server that proves itself.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpStream;
use uuid::Uuid;

use super::{Opening, Who};
use crate::audit::Sink as _;
use crate::audit::event::Event;
use crate::config::{Config, Host, Namespace, Target, TlsMode, is_below};
use crate::grants::{Footing, Take};
use crate::policy::Refusal;

/// The port of addresses of `http:` that name none.
const HTTP: u16 = 80;

/// A connection that a proxy is asked for.
pub type Asking<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + 'a>>;

/// How a proxy is asked. Its engine knows.
pub trait Ask: Debug + Send + Sync {
    /// Asks a proxy that was connected to for a host and port. The caller bounds time.
    fn ask<'a>(&'a self, proxy: TcpStream, place: (&'a Host, u16)) -> Asking<'a>;

    /// Whether it is to make a request in clear itself, where it is given no login with it.
    fn makes_requests(&self) -> bool;
}

/// A way through a proxy.
#[derive(Debug)]
pub struct Through {
    /// The proxy, as it was when the client connected to it.
    pub(super) proxy: Arc<Target>,
    /// The grants by which that was permitted.
    pub(super) footing: Arc<Footing>,
    /// That connection's id in the audit.
    connection: Uuid,
    /// For which host, and port.
    pub host: Host,
    /// See `host`.
    pub port: u16,
    way: Box<dyn Ask>,
}

impl Through {
    /// Asks a proxy that was connected to. The caller bounds time.
    pub(super) async fn open(&self, proxy: TcpStream) -> io::Result<TcpStream> {
        self.way.ask(proxy, (&self.host, self.port)).await
    }

    /// What it is asked for.
    pub(super) fn place(&self) -> String {
        place(&self.host, self.port)
    }
}

/// A host and port as people write them.
pub(super) fn place(host: &Host, port: u16) -> String {
    match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Ip(ip) => SocketAddr::new(*ip, port).to_string(),
    }
}

/// The target that is dialled by this host and port.
fn target(config: &Config, host: &Host, port: u16) -> Option<Arc<Target>> {
    match host {
        Host::Name(name) => {
            let mut named = config.named(name);
            named.find_map(|(target, at)| (at == port).then(|| Arc::clone(target)))
        }
        Host::Ip(_) => {
            let is_there = |target: &&Arc<Target>| {
                let mut addresses = target.addresses.iter();
                addresses.any(|address| address.port == port && address.host == *host)
            };
            config.targets.values().find(is_there).cloned()
        }
    }
}

/// Whether a target may be asked for by this host behind a proxy, which may lead anywhere.
fn fits(config: &Config, target: &Target, host: &Host) -> Result<(), Refusal> {
    if target.proxy().is_some() {
        return Err(Refusal::not_offered(
            "a proxy is asked for behind a proxy",
            "ask the first one for the target itself",
        ));
    }
    if target.namespace == Namespace::Client {
        return Err(Refusal::upstream(
            "a target of the client's network namespace is not asked for behind a proxy",
        ));
    }
    if !target.dial.hosts.is_empty() {
        return Err(Refusal::upstream(
            "a target whose `dial.hosts` say where it is has no other place behind a proxy",
        ));
    }
    // A page that is everybody's may come from anybody; what else there is, keeps what it was told by a server for others.
    let is_everybodys = target.http().is_some() && target.gives_nothing();
    if !target.proves_server() && !is_everybodys {
        return Err(Refusal::upstream(
            "behind a proxy only servers are reached that prove who they are, by TLS or by a host key that is configured",
        ));
    }
    // Whoever may make such names leads the proxy to whatever it can reach; of the others each host has its own.
    let is_unclear = match host {
        Host::Name(name) => config.is_anybodys(name) || is_below(name, "localhost"),
        Host::Ip(ip) => is_own(*ip),
    };
    let proves_it = target.ssh().is_some() || target.tls.mode == TlsMode::VerifyFull;
    match is_unclear && !proves_it {
        true => Err(Refusal::upstream(
            "behind a proxy a name below a domain, and a host's own address, lead only to a server that proves to have it",
        )),
        false => Ok(()),
    }
}

/// Whether each host and each link has such an address: the proxy's is another than the daemon's.
fn is_own(ip: IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.octets().starts_with(&[0]),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()
}

impl Who {
    /// What tells the server from all others that are behind the same proxy, whose address is all that a socket shows.
    #[must_use]
    pub fn apart(&self) -> Option<Arc<str>> {
        let through = self.through.as_ref()?;
        let host = match &through.host {
            Host::Name(name) => name.to_ascii_lowercase(),
            Host::Ip(ip) => ip.to_string(),
        };
        Some(format!("{host} {}", through.port).into())
    }

    /// The host and port of a request that the proxy is to make itself: nothing is asked of it before that.
    pub(in crate::session) fn made_by_proxy(&self) -> Option<String> {
        let through = self.through.as_ref();
        let through = through.filter(|through| through.way.makes_requests())?;
        let is_clear = self.target.tls.mode == TlsMode::Disable;
        is_clear.then(|| match (&through.host, through.port) {
            (Host::Name(name), HTTP) => name.clone(),
            (host, port) => place(host, port),
        })
    }

    /// Whether it goes through no proxy, or through one that is still as it was, to what may still be asked for there.
    pub(in crate::session) fn leads_through(&self, config: &Config) -> bool {
        let Some(through) = &self.through else {
            return true;
        };
        let is_same = |now: &Arc<Target>| {
            now.addresses == through.proxy.addresses
                && now.dial == through.proxy.dial
                && now.proxy() == through.proxy.proxy()
        };
        let proxy = config.targets.get(&through.proxy.name);
        let now = config.targets.get(&self.target.name);
        proxy.is_some_and(is_same)
            && now.is_some_and(|now| fits(config, now, &through.host).is_ok())
    }
}

impl Opening {
    /// The same client's connection to the target of a host, through this target. What does not go there is written
    /// here.
    ///
    /// # Errors
    /// The refusal that the client is told.
    pub async fn inside(self, place: (Host, u16), way: Box<dyn Ask>) -> Result<Self, Refusal> {
        let config = self.services.config.load_full();
        let (host, port) = place;
        let Some((target, host)) = self.found(&config, &host, port) else {
            let name = match &host {
                Host::Name(name) => name.clone(),
                Host::Ip(ip) => ip.to_string(),
            };
            let message =
                format!("the proxy is asked for {name}, port {port}, which is no target's");
            let hint =
                "ask for a target by a name or address of its own: nothing else is behind a proxy";
            let refusal = Refusal::not_offered(&message, hint);
            self.refuse(&refusal, None);
            return Err(refusal);
        };
        let places = self.addresses();
        let places = places.iter().map(|(_, at)| (host.clone(), *at)).collect();
        let Who {
            target: proxy,
            footing,
            connection,
            ..
        } = self.who.clone();
        let through = Through {
            proxy,
            footing,
            connection,
            host: host.clone(),
            port,
            way,
        };
        let who = Who {
            connection: Uuid::now_v7(),
            target,
            host,
            places: Some(places),
            through: Some(Arc::new(through)),
            ..self.who
        };
        let mut inside = Self::new(who, self.services);
        match inside.enter(&config).await {
            Ok(()) => Ok(inside),
            Err(refusal) => {
                inside.refuse(&refusal, None);
                Err(refusal)
            }
        }
    }

    /// The target that is asked for, and by which host: where its scope was told what the address is of, by that name.
    /// Many clients of SOCKS look names up themselves.
    fn found(&self, config: &Config, host: &Host, port: u16) -> Option<(Arc<Target>, Host)> {
        let told = match host {
            Host::Name(_) => None,
            Host::Ip(ip) => {
                let (names, scope) = (&self.services.names, self.who.flow.scope);
                names.target(config, scope, SocketAddr::new(*ip, port))
            }
        };
        match told {
            Some((target, name)) => Some((target, Host::Name(name))),
            None => target(config, host, port).map(|target| (target, host.clone())),
        }
    }

    /// May this principal use the target that is asked for? Written before anything goes there.
    async fn enter(&mut self, config: &Config) -> Result<(), Refusal> {
        let target = &self.who.target;
        fits(config, target, &self.who.host)?;
        let (rules, grants) = {
            let policy = self.services.policy.current();
            let held = self.who.holding(&self.services);
            let permit = policy.connect(&held, &self.who.facts, &target.name)?;
            (permit.rules().to_vec(), permit.grants().to_vec())
        };
        let footing: Footing = self.services.grants.take(&grants, Take::Use).await?.into();
        self.who.footing = Arc::new(footing);
        let through = self.who.through.as_ref();
        let asked = through.map(|through| through.place());
        let event = Event::ConnectionOpened {
            about: self.who.about(),
            destination: self.who.flow.destination.0,
            through: through.map(|through| through.connection),
            asked: asked.as_deref(),
            rules: &rules,
            grants: self.who.footing.grants(),
        };
        let written = self.services.audit.append(&event);
        written
            .map(drop)
            .map_err(|error| crate::session::storage(&error))
    }
}

//! The target of a verb: a session on it with its own credential, as the daemon opens one.
//!
//! Takes who may read the configuration and its secrets, which is root.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use crate::config::{self, Config, Host, Postgres, Target};
use crate::protocol::postgres::inject::{Injector, Login, Masked, Upstream};
use crate::secrets::Secrets;
use crate::socket::{self, SocketPath};
use crate::tls;

/// How long a login may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A target of the configuration, by its name.
///
/// # Errors
/// Where there is none of that name; the text has those that there are.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a Target> {
    let known = || {
        let names: Vec<_> = config.targets.keys().map(String::as_str).collect();
        match names.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", names.join(", ")),
        }
    };
    let target = config.targets.get(name);
    target.map(|target| &**target).with_context(|| {
        format!(
            "no target is named {name} in {}; {}",
            config.paths.config.display(),
            known()
        )
    })
}

/// The databases of a target, without the name that stands for a whole server; one of them alone where it is
/// asked for.
///
/// # Errors
/// Where the target does not offer the one that is asked for.
pub(super) fn databases<'a>(
    target: &'a Target,
    only: Option<&str>,
) -> anyhow::Result<Vec<&'a str>> {
    let all = target.protocol.databases().iter().map(String::as_str);
    let all: Vec<_> = all.filter(|name| *name != "replication").collect();
    match only {
        None => Ok(all),
        Some(only) if all.contains(&only) => {
            Ok(all.into_iter().filter(|name| *name == only).collect())
        }
        Some(only) => bail!(
            "database {only} is not offered by target {}; it has {}",
            target.name,
            all.join(", ")
        ),
    }
}

/// Logs in as the daemon does; with `schema`, what masking needs to know of the database is asked as well.
///
/// # Errors
/// Where no server of the target can be reached, or it does not take the credential.
pub(super) async fn log_in(
    target: &Target,
    database: &str,
    schema: bool,
) -> anyhow::Result<Upstream> {
    let postgres = postgres(target)?;
    let secrets = Secrets::default();
    let password = match &postgres.password {
        Some(source) => Some(secrets.fetch(source).await?),
        None => None,
    };
    let key = match &target.tls.key {
        Some(source) => Some(secrets.fetch(source).await?),
        None => None,
    };
    let tls = tls::Upstream::new(&target.tls, key.as_ref())?;
    let mut last = anyhow::anyhow!("it has no address");
    for server in servers(target) {
        let login = Login {
            apart: None,
            target: &target.name,
            host: server.host(),
            tls: &tls,
            postgres,
            password: password.as_ref(),
            database,
            settings: &[],
            minor: 0,
            replication: None,
            attrs: config::SessionAttrs::Any,
            masked: schema.then_some(Masked {
                target_key: None,
                sensitive: &target.sensitive,
            }),
        };
        match timeout(PATIENCE, at(&server, login)).await {
            Ok(Ok(upstream)) => return Ok(upstream),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = anyhow::anyhow!("no answer in 10 s"),
        }
    }
    Err(last)
}

/// One of a target's servers, as the configuration has it.
enum Server<'a> {
    At(&'a config::Address),
    Unix(SocketPath),
}

impl Server<'_> {
    fn host(&self) -> &Host {
        match self {
            Self::At(address) => &address.host,
            Self::Unix(_) => &Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }
}

/// Where the daemon dials.
fn servers(target: &Target) -> Vec<Server<'_>> {
    let (hosts, sockets) = match target.dial.is_where_dialled() {
        true => (&target.addresses, &target.sockets),
        false => (&target.dial.hosts, &target.dial.sockets),
    };
    let sockets = sockets.iter().copied().map(Server::Unix);
    hosts.iter().map(Server::At).chain(sockets).collect()
}

/// A server's name that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the address of {host}: {cause}")]
pub(super) struct Unknown {
    /// The name.
    pub(super) host: String,
    /// What the host's resolver says.
    pub(super) cause: String,
}

async fn at(server: &Server<'_>, login: Login<'_>) -> anyhow::Result<Upstream> {
    let socket = match server {
        Server::At(server) => {
            let address = address(server).await?;
            socket::dial(address, socket::From::Daemon, PATIENCE).await?
        }
        Server::Unix(path) => socket::dial_path(*path, PATIENCE).await?,
    };
    Ok(Injector::new()?.login(socket, login).await?)
}

async fn address(server: &config::Address) -> Result<SocketAddr, Unknown> {
    let name = match &server.host {
        Host::Ip(ip) => return Ok((*ip, server.port).into()),
        Host::Name(name) => name,
    };
    let unknown = |cause: String| Unknown {
        host: name.clone(),
        cause,
    };
    let found = tokio::net::lookup_host((name.as_str(), server.port)).await;
    let mut found = found.map_err(|error| unknown(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| unknown("it has none".to_owned()))
}

/// Who logs in; nobody where there are no databases.
pub(super) fn role(target: &Target) -> &str {
    let postgres = target.postgres();
    postgres.map_or("", |postgres| &postgres.user)
}

/// What only PostgreSQL needs.
///
/// # Errors
/// Where the target speaks something else.
pub(super) fn postgres(target: &Target) -> anyhow::Result<&Postgres> {
    let postgres = target.postgres();
    let postgres = postgres.map(|postgres| &**postgres);
    postgres.with_context(|| format!("target {} does not speak SQL", target.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_named() {
        // No label may be this long: nobody is asked.
        let name = "a".repeat(64);
        let server = config::Address {
            host: Host::Name(name.clone()),
            port: 5432,
        };
        let unknown = address(&server).await.unwrap_err();
        assert!(unknown.to_string().contains(&name), "{unknown}");
    }
}

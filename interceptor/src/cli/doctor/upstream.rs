//! What the login roles of the targets can do upstream: more than policy ever permits is a warning.

use std::time::Duration;

use tokio::time::timeout;

use super::Check;
use crate::config::{self, Config, Host, Postgres, Protocol, Target};
use crate::protocol::postgres::inject::{Catalog, Injector, Login};
use crate::secrets::Secrets;
use crate::socket;
use crate::tls;

/// How long one target may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Logs in to each target once, as the daemon does.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for target in config.targets.values() {
        let what = format!("target {}", target.name);
        let Protocol::Postgres(postgres) = &target.protocol;
        checks.push(match timeout(PATIENCE, catalog(target, postgres)).await {
            Ok(Ok(catalog)) => role(&what, postgres, &catalog),
            Ok(Err(error)) => Check::bad(
                &what,
                format!("{error:#}"),
                "see that the server runs and takes the credential",
            ),
            Err(_elapsed) => Check::bad(
                &what,
                "no answer in 10 s",
                "see that the server runs and can be reached",
            ),
        });
    }
    checks
}

fn role(what: &str, postgres: &Postgres, catalog: &Catalog) -> Check {
    let user = &postgres.user;
    let mend = format!(
        "log in as a role that can do no more than the agents need: `ALTER ROLE {user} NOSUPERUSER NOBYPASSRLS`"
    );
    match (catalog.superuser, catalog.bypass_rls) {
        (true, _) => Check::warning(what, format!("its role {user} is a superuser"), mend),
        (false, true) => Check::warning(
            what,
            format!("row-level security does not bind its role {user}"),
            mend,
        ),
        (false, false) => Check::good(what, format!("logged in as {user}, an ordinary role")),
    }
}

async fn catalog(target: &Target, postgres: &Postgres) -> anyhow::Result<Catalog> {
    let mut places = target.dial.hosts.iter().chain(&target.addresses);
    let address = places
        .next()
        .ok_or_else(|| anyhow::anyhow!("it has no address"))?;
    let at = match &address.host {
        Host::Ip(ip) => (*ip, address.port).into(),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), address.port))
            .await?
            .next()
            .ok_or_else(|| anyhow::anyhow!("{name} has no address"))?,
    };
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
    let database = postgres
        .databases
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let login = Login {
        target: &target.name,
        host: &address.host,
        tls: &tls,
        postgres,
        password: password.as_ref(),
        database,
        settings: &[],
        minor: 0,
        replication: None,
        attrs: config::SessionAttrs::Any,
        masked: None,
    };
    let socket = socket::dial(at, socket::From::Daemon, PATIENCE).await?;
    let upstream = Injector::new()?.login(socket, login).await?;
    Ok(Catalog::clone(&upstream.catalog))
}

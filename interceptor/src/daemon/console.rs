//! Where the console is served: its address, and the certificate that it shows.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::config::Console;
use crate::secrets::Secrets;
use crate::tls;

/// Binds the address and reads the certificate, where a console is configured.
pub(super) async fn listen(
    console: Option<&Console>,
    secrets: &Secrets,
) -> anyhow::Result<Option<(TcpListener, Option<Arc<ServerConfig>>)>> {
    let Some(console) = console else {
        return Ok(None);
    };
    let acceptor = match &console.tls {
        None => None,
        Some(tls) => {
            let path = &tls.certificate;
            let chain = tokio::fs::read(path).await;
            let chain =
                chain.with_context(|| format!("cannot read the console's {}", path.display()))?;
            let key = secrets.fetch(&tls.key).await;
            let key = key.context("cannot read the key of the console's certificate")?;
            let acceptor = tls::serving(&chain, &key);
            Some(acceptor.context("cannot use the console's certificate")?)
        }
    };
    let at = console.listen;
    let listener = TcpListener::bind(at).await;
    let listener = listener.with_context(|| {
        format!("cannot listen on {at} for the console; is the port of `console.listen` taken?")
    })?;
    Ok(Some((listener, acceptor)))
}

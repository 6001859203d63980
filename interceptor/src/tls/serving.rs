//! TLS as a server with a certificate of the operator's: for the console.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret as _;

use super::{Error, provider};
use crate::secrets::Secret;

/// The protocol's name in ALPN (RFC 7301 section 6).
const ALPN_HTTP: &[u8] = b"http/1.1";

/// How connections are accepted under this certificate and its chain, PEM, and its key, PEM.
///
/// # Errors
/// [`Error`] where they cannot be read, or do not belong together.
pub fn serving(chain: &[u8], key: &Secret) -> Result<Arc<ServerConfig>, Error> {
    let unread = |reason: &str| Error::Identity {
        reason: reason.to_owned(),
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|_pem| unread("its certificate is no PEM"))?;
    // What the library says of a key may hold some of it.
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_pem| unread("its key is no PEM"))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(Error::Setup)?;
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    Ok(Arc::new(config))
}

//! TLS to one upstream, as its `tls` settings say: built once per target, used for each dial and
//! for each cancel.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::verify::{Check, Verifier};
use super::{ALPN_POSTGRESQL, Error, Stream, provider};
use crate::config::{Host, TlsMode, UpstreamTls};
use crate::secrets::Secret;

const ROOTS_MAX: u64 = 16 * 1024 * 1024;

/// Where hosts keep their roots, in one file: Debian and Alpine, Red Hat, SUSE, Red Hat's older
/// place, BSD-like.
const HOST_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How one upstream is spoken to.
#[derive(Debug)]
pub struct Upstream {
    mode: TlsMode,
    client: Option<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
    proves_server: bool,
    direct: bool,
    made_of: Vec<u8>,
}

impl Upstream {
    /// Reads roots and certificates and prepares the client's side; blocks on the disk. As in libpq,
    /// `require` with a file of roots verifies the chain against it. `key` is the secret that the
    /// settings name as the client certificate's.
    ///
    /// # Errors
    /// [`Error`] where roots are missing or unreadable, the name cannot be verified, or the client
    /// certificate cannot be used.
    pub fn new(tls: &UpstreamTls, key: Option<&Secret>) -> Result<Self, Error> {
        let server_name = tls.server_name.as_deref().map(name).transpose()?;
        let check = match (tls.mode, &tls.ca) {
            (TlsMode::Disable, _) => None,
            (TlsMode::Require, None) => Some((Check::Nothing, Vec::new())),
            (mode, ca) => Some(chain(ca.as_deref(), mode == TlsMode::VerifyFull)?),
        };
        let (check, mut made_of) = check.unzip();
        let identity = match key {
            Some(key) => Some(identity(tls.certificate.as_deref(), key)?),
            None => None,
        };
        if let (Some(made_of), Some(identity)) = (&mut made_of, &identity) {
            made_of.extend(digest_of(&identity.cert));
        }
        let client = check
            .map(|check| client(check, identity, ALPN_POSTGRESQL))
            .transpose()?;
        Ok(Self {
            mode: tls.mode,
            made_of: made_of.unwrap_or_default(),
            client,
            server_name,
            proves_server: tls.proves_server(),
            direct: tls.direct,
        })
    }

    /// Whether `other`, made of the same settings, found the same in the files that they name.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }

    /// The configured mode.
    #[must_use]
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Whether TLS is asked of the upstream; without it, it is never spoken to.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.client.is_some()
    }

    /// Whether a finished handshake proves who the server is, so that a password may be shown to it.
    #[must_use]
    pub fn proves_server(&self) -> bool {
        self.proves_server
    }

    /// Whether it begins with the first byte, where a protocol has it asked for otherwise.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The same for a protocol that is named otherwise in ALPN; what both sides chose is the stream's to tell.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub async fn connect_as(
        &self,
        stream: TcpStream,
        host: &Host,
        protocols: &[&[u8]],
    ) -> Result<Stream, Error> {
        let mut client = ClientConfig::clone(self.client.as_ref().ok_or(Error::Disabled)?);
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        self.begin(Arc::new(client), stream, host).await
    }

    /// Begins TLS as the client, on a connection whose server has agreed to it, and finishes the
    /// handshake; `host` is verified where the settings name no other. The caller bounds time.
    ///
    /// # Errors
    /// [`Error::Disabled`] where the mode is `disable`, [`Error::Upstream`] where the handshake or
    /// the verification fails.
    pub async fn connect(&self, stream: TcpStream, host: &Host) -> Result<Stream, Error> {
        let client = self.client.as_ref().ok_or(Error::Disabled)?;
        self.begin(Arc::clone(client), stream, host).await
    }

    async fn begin(
        &self,
        client: Arc<ClientConfig>,
        stream: TcpStream,
        host: &Host,
    ) -> Result<Stream, Error> {
        let name = match (&self.server_name, host) {
            (Some(name), _) => name.clone(),
            (None, Host::Ip(ip)) => ServerName::IpAddress((*ip).into()),
            (None, Host::Name(host)) => name(host)?,
        };
        let stream = TlsConnector::from(client)
            .connect(name, stream)
            .await
            .map_err(Error::Upstream)?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

pub(super) fn name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|_not_a_name| Error::Name {
        name: name.to_owned(),
    })
}

/// The client certificate with its chain, and its key.
fn identity(certificate: Option<&Path>, key: &Secret) -> Result<CertifiedKey, Error> {
    let pem = key.expose_secret().as_bytes();
    let wrong = |reason: &str| Error::Identity {
        reason: reason.to_owned(),
    };
    let chain = match certificate {
        Some(path) => certificates(path).map_err(|error| wrong(&error.to_string()))?,
        None => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_not_pem| wrong("its certificate is not PEM"))?,
    };
    let Some(leaf) = chain.first() else {
        return Err(wrong("there is no certificate with it"));
    };
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_not_pem| wrong("it holds no private key in PEM"))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|_refused| wrong("its kind of key is not supported"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|_not_der| wrong("its certificate cannot be read"))?;
    match key.public_key() {
        Some(public) if public.as_ref() != parsed.public_key().raw => {
            Err(wrong("the key is not that of the certificate"))
        }
        // What else is wrong with a certificate is for the server to say.
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

pub(super) fn client(
    check: Check,
    identity: Option<CertifiedKey>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Verifier {
        check,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => config.with_no_client_auth(),
    };
    // PostgreSQL resumes no sessions, the web is asked too seldom; and each dial verifies anew.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Digest of certificates, each whole.
fn digest_of(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for certificate in certificates {
        let length = u64::try_from(certificate.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(certificate);
    }
    context.finish().as_ref().to_vec()
}

/// What to check, and a digest of the certificates that it was made of.
pub(super) fn chain(ca: Option<&Path>, name: bool) -> Result<(Check, Vec<u8>), Error> {
    let (path, certificates) = match ca {
        Some(path) => (path.to_owned(), certificates(path)?),
        None => host_roots()?,
    };
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
    // The host's bundle may hold what cannot be used; a file that was named may not.
    if roots.is_empty() || (ca.is_some() && unusable != 0) {
        return Err(Error::Roots { path });
    }
    let made_of = digest_of(&certificates);
    let pins = if ca.is_some() {
        certificates
    } else {
        Vec::new()
    };
    Ok((Check::Chain { roots, pins, name }, made_of))
}

fn host_roots() -> Result<(PathBuf, Vec<CertificateDer<'static>>), Error> {
    for path in HOST_ROOTS.iter().map(Path::new) {
        if path.exists() {
            return Ok((path.to_owned(), certificates(path)?));
        }
    }
    Err(Error::NoRoots)
}

/// Whether a file holds certificates, and nothing but such as can be read; blocks on the disk.
///
/// # Errors
/// Where it does not.
pub fn holds_certificates(path: &Path) -> Result<(), Error> {
    let found = certificates(path)?;
    let is_good = |one: &CertificateDer<'_>| x509_parser::parse_x509_certificate(one).is_ok();
    match !found.is_empty() && found.iter().all(is_good) {
        true => Ok(()),
        false => Err(Error::Roots {
            path: path.to_owned(),
        }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut pem = Vec::new();
    fs::File::open(path)
        .map_err(failed)?
        .take(ROOTS_MAX)
        .read_to_end(&mut pem)
        .map_err(failed)?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_not_pem| Error::Roots {
            path: path.to_owned(),
        })
}

#[cfg(test)]
mod tests;

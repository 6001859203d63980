//! What tests of TLS share: loopback connections, authorities, certificates of any kind.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, SigningKey};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use super::{Authority, Upstream, provider};
use crate::config::{Host, TlsMode, UpstreamTls};

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Both ends of a fresh connection: who dialled, who accepted.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own loopback connection"
)]
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// An authority in a directory of its own.
pub(crate) fn authority() -> (tempfile::TempDir, Authority) {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::open(state.path(), None).unwrap();
    (state, authority)
}

pub(crate) fn host(name: &str) -> Host {
    name.parse()
        .map_or_else(|_| Host::Name(name.to_owned()), Host::Ip)
}

/// The client's side, trusting `ca`.
pub(crate) fn upstream(mode: TlsMode, ca: Option<&Path>) -> Upstream {
    let tls = UpstreamTls {
        mode,
        ca: ca.map(Path::to_owned),
        ..UpstreamTls::default()
    };
    Upstream::new(&tls, None).unwrap()
}

/// A certificate authority that lives in memory and in one file.
pub(crate) struct Root {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Root {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = directory.join(name);
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.as_ref().der().clone()
    }

    /// A certificate for `name`, and its key.
    pub(crate) fn leaf(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (certificate, key) = self.made(name);
        (
            certificate.der().clone(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// The same as PEM.
    pub(crate) fn pem(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.made(name);
        (certificate.pem(), key.serialize_pem())
    }

    fn made(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server whose certificate is for `name`.
    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        signed(&params, &self.issuer)
    }
}

fn signed<S: SigningKey>(params: &CertificateParams, issuer: &Issuer<'_, S>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    serve(&certificate, &key)
}

/// A server that shows `certificate`.
pub(crate) fn serve(certificate: &rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        );
    Arc::new(config.unwrap())
}

/// A verifier that takes every certificate.
pub(crate) fn unverified() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(super::verify::Verifier {
        check: super::verify::Check::Nothing,
        algorithms: provider().signature_verification_algorithms,
    })
}

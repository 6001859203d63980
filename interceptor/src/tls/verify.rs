//! How an upstream's certificate is verified, in libpq's steps: not at all, the chain, the chain
//! and the name.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What is asked of a certificate.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing: `require` promises secrecy against those who only listen, no more, and exists for
    /// servers whose certificate nobody can verify. What is sent under it is chosen accordingly:
    /// no password in clear (`Upstream::proves_server`).
    Nothing,
    /// That it leads to a root, and perhaps that it names the server.
    Chain {
        /// Trusted authorities.
        roots: RootCertStore,
        /// Certificates that are trusted as they are: a server's self-signed certificate is often
        /// given as its own root, and path building refuses an authority as an end entity.
        pins: Vec<CertificateDer<'static>>,
        /// Whether the name must match.
        name: bool,
    },
}

/// A [`Check`] as rustls asks for it. The handshake's signature is verified in every case.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Check::Chain { roots, pins, name } = &self.check {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            if pins.iter().any(|pin| pin == end_entity) {
                alive(end_entity, now)?;
            } else {
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    roots,
                    intermediates,
                    now,
                    algorithms,
                )?;
            }
            if *name {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn alive(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let wrong = |error| Err(rustls::Error::InvalidCertificate(error));
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return wrong(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        wrong(CertificateError::NotValidYet)
    } else if now > validity.not_after.timestamp() {
        wrong(CertificateError::Expired)
    } else {
        Ok(())
    }
}

//! TLS on both sides: the local authority, a leaf per host, and how upstreams are verified.
//!
//! Downstream, the agent meets a certificate of this host's own [`Authority`]; upstream, the
//! daemon is an ordinary client that verifies as libpq does. One provider of cryptography,
//! aws-lc-rs, named at each configuration so that none is ever taken from the process.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::AlertDescription;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

mod authority;
mod binding;
mod hello;
mod roots;
mod serving;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod upstream;
mod verify;
mod web;

pub use authority::{Accepted, Authority, CERTIFICATE, Confined, Dialled, Seal, unnamed};
pub use binding::server_end_point;
pub use hello::{Hello, Shape};
pub use roots::Roots;
pub use serving::serving;
pub use stream::{Pulse, Stream, has_unread, pulse};
pub use upstream::{Upstream, holds_certificates};
pub use web::Web;

/// The protocol's name in ALPN (PostgreSQL 17, `PG_ALPN_PROTOCOL`).
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";
/// HTTP/1.1 in ALPN (RFC 7301).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// HTTP/2 in ALPN (RFC 9113).
pub const ALPN_HTTP2: &[u8] = b"h2";

/// Why TLS is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The authority's key could have been read or changed by others.
    #[error(
        "read {path}: its owner or mode ({mode:o}) lets others read it; make a new authority by removing ca.pem and ca.key beside it"
    )]
    Exposed {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The authority's certificate is there and its key is not.
    #[error(
        "read {path}: the authority's key is missing; restore it, or remove ca.pem beside it for a new authority"
    )]
    KeyMissing {
        /// Where it is expected.
        path: PathBuf,
    },
    /// The authority's files do not belong together, or are not an authority.
    #[error("read {path}: {reason}; remove ca.pem and ca.key for a new authority")]
    Authority {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The authority's key is sealed otherwise.
    #[error("read {path}: {reason}")]
    Sealed {
        /// The key.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The secret of the seal cannot be had.
    #[error("open the authority's key: `authority.seal`: {0}")]
    NoSeal(crate::secrets::Error),
    /// The secret of the seal is none that seals.
    #[error("open the authority's key: `authority.seal`: {reason}")]
    Seal {
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate cannot be made.
    #[error("make a certificate for {name}: {source}")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// No randomness.
    #[error("make a serial number: the system gives no random bytes")]
    Random,
    /// A file of roots has no certificate that can be used.
    #[error("read {path}: no certificate in it that can be used; expected PEM")]
    Roots {
        /// Which.
        path: PathBuf,
    },
    /// The host has no roots of its own.
    #[error("find the host's trusted roots: none is in the usual places; name a file in `tls.ca`")]
    NoRoots,
    /// A client certificate that cannot be used.
    #[error("show the client certificate of `tls.key`: {reason}")]
    Identity {
        /// Why.
        reason: String,
    },
    /// A name that no certificate can carry.
    #[error("verify {name}: it is not a name that a certificate can carry; set `tls.server_name`")]
    Name {
        /// As configured.
        name: String,
    },
    /// TLS was asked of an upstream for which it is disabled.
    #[error("begin TLS upstream: `tls.mode` is disable")]
    Disabled,
    /// A configuration that the library refuses.
    #[error("set up TLS: {0}")]
    Setup(rustls::Error),
    /// The handshake with the client failed.
    #[error("finish the client's TLS handshake: {0}")]
    Client(std::io::Error),
    /// The handshake with the upstream failed.
    #[error("finish the upstream's TLS handshake: {0}")]
    Upstream(std::io::Error),
}

impl Error {
    /// What a client says, or does, that does not take the certificate that it is shown.
    #[must_use]
    pub fn distrust(&self) -> Option<&'static str> {
        let Self::Client(error) = self else {
            return None;
        };
        if matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ) {
            return Some("closed");
        }
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::AlertReceived(AlertDescription::UnknownCA) => Some("unknown_ca"),
            rustls::Error::AlertReceived(AlertDescription::BadCertificate) => {
                Some("bad_certificate")
            }
            rustls::Error::AlertReceived(AlertDescription::CertificateUnknown) => {
                Some("certificate_unknown")
            }
            _ => None,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

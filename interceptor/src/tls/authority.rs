//! This host's own certificate authority, made at first start, and a leaf for each name that an
//! agent dials. The key never leaves the daemon; leaves live a week and are made as they are asked for.

mod confined;
mod sealed;

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use lru::LruCache;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, NoServerSessionStorage};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};
use zeroize::Zeroizing;

pub use self::confined::{Confined, unnamed};
pub use self::sealed::Seal;
use super::{ALPN_POSTGRESQL, Error, Hello, Stream, provider, server_end_point};
use crate::clock;
use crate::config::{Host, Target};

/// The file of the authority's certificate, in the state directory.
pub const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Room for some ten thousand names in the certificate.
const FILE_MAX: u64 = 1 << 20;
/// What its own name begins with.
const NAME: &str = "interceptor local authority";

const DAY: i64 = 24 * 60 * 60;
const AUTHORITY_DAYS: i64 = 3_653;
const RENEW_DAYS: i64 = 90;
const LEAF_DAYS: i64 = 7;
/// A leaf with less than this left is made anew.
const LEAF_LEFT: i64 = DAY;
/// Clocks of clients in virtual machines lag.
const BACKDATE: i64 = 60 * 60;
/// An agent chooses the names (SNI): what it can make grow is bounded.
const LEAVES_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// The longest `commonName` (X.520, `ub-common-name`).
const COMMON_NAME_MAX: usize = 64;

/// The local certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What keys for other purposes are derived from: its own key.
    root: hmac::Key,
    /// The file of its certificate.
    path: PathBuf,
    shown: ArcSwap<Shown>,
    leaves: Mutex<LruCache<Vec<Host>, Leaf>>,
}

/// Its certificate.
struct Shown {
    certificate: CertificateDer<'static>,
    /// Seconds since 1970.
    expires: i64,
    /// The names that it is for; none where it is for every name.
    confined: Option<Confined>,
    /// Its own name, where it is one that was made here.
    name: Option<String>,
}

/// A client's connection whose TLS is up.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// What a login over it can be bound to: `tls-server-end-point` of the leaf that was shown.
    pub end_point: Option<Vec<u8>>,
}

/// Where a client went, for the certificate that it is shown where it sends no name: some drivers send
/// none for a name without a dot, and still look for it.
#[derive(Clone, Debug)]
pub struct Dialled {
    /// What it asked for: an address, or a name where that is what it told somebody else.
    pub host: Host,
    /// More names that lead there, as the configuration has them.
    pub names: Vec<String>,
}

impl Dialled {
    /// An address of a target, and the target's names.
    #[must_use]
    pub fn at(target: &Target, ip: IpAddr) -> Self {
        let hosts = target.addresses.iter().map(|address| &address.host);
        let mut names: Vec<_> = hosts
            .filter_map(|host| match host {
                Host::Name(name) => Some(name.to_ascii_lowercase()),
                Host::Ip(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let host = Host::Ip(ip.to_canonical());
        Self { host, names }
    }

    /// A name and no address: a client that had somebody else dial looks for no other.
    #[must_use]
    pub fn by_name(name: &str) -> Self {
        Self {
            host: Host::Name(name.to_owned()),
            names: Vec::new(),
        }
    }

    /// All of them.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let names = self.names.iter().cloned().map(Host::Name);
        std::iter::once(self.host.clone()).chain(names).collect()
    }
}

impl From<IpAddr> for Dialled {
    fn from(ip: IpAddr) -> Self {
        Self {
            host: Host::Ip(ip.to_canonical()),
            names: Vec::new(),
        }
    }
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    /// Seconds since 1970.
    expires: i64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Authority")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads `ca.pem` (0644) and `ca.key` (0600) from `state`, or makes them where there is no
    /// `ca.pem`; blocks on the disk. An authority that ends within 90 days is warned of. With a `seal` the key is
    /// written encrypted by it, also where it lies there in clear.
    ///
    /// # Errors
    /// [`Error`] where a file cannot be read or written, where the key is missing, open to
    /// others or sealed otherwise, where the two do not belong together, or where the certificate has expired.
    pub fn open(state: &Path, seal: Option<&Seal>) -> Result<Self, Error> {
        let certificate = state.join(CERTIFICATE);
        let key = state.join(KEY);
        match fs::symlink_metadata(&certificate) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => make(&certificate, &key, seal)?,
            Err(source) => {
                return Err(Error::Read {
                    path: certificate,
                    source,
                });
            }
        }
        let authority = Self::read(&certificate, &key, seal)?;
        let left = authority.shown.load().expires.saturating_sub(now()) / DAY;
        if left < RENEW_DAYS {
            tracing::warn!(
                days = left,
                path = %certificate.display(),
                "the local certificate authority expires soon; remove ca.pem and ca.key for a new one"
            );
        }
        Ok(authority)
    }

    fn read(certificate_path: &Path, key_path: &Path, seal: Option<&Seal>) -> Result<Self, Error> {
        let wrong = |path: &Path, reason| Error::Authority {
            path: path.to_owned(),
            reason,
        };
        let text_of_key = key_text(key_path)?;
        let is_sealed = sealed::is_sealed(&text_of_key);
        let opened = match (is_sealed, seal) {
            (false, _) => text_of_key,
            (true, Some(seal)) => seal.open(&text_of_key).ok_or_else(|| Error::Sealed {
                path: key_path.to_owned(),
                reason: "it was sealed by another secret than that of `authority.seal`, or changed since",
            })?,
            (true, None) => {
                return Err(Error::Sealed {
                    path: key_path.to_owned(),
                    reason: "it is sealed; name the secret in `authority.seal`",
                });
            }
        };
        let key = KeyPair::from_pem(&opened)
            .map_err(|_not_pem| wrong(key_path, "not a private key in PEM"))?;
        let pem = text(certificate_path, &open(certificate_path)?)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_not_pem| wrong(certificate_path, "not a certificate in PEM"))?;
        let shown = Shown::of(&certificate, &key).map_err(|why| wrong(certificate_path, why))?;
        if let Some(seal) = seal.filter(|_| !is_sealed) {
            replace(key_path, on_disk(&opened, Some(seal))?.as_bytes(), 0o600)?;
        }
        let root = hmac::Key::new(hmac::HMAC_SHA256, &Zeroizing::new(key.serialize_der()));
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_not_der| wrong(certificate_path, "not a certificate that can be read"))?;
        Ok(Self {
            issuer,
            root,
            path: certificate_path.to_owned(),
            shown: ArcSwap::from_pointee(shown),
            leaves: Mutex::new(LruCache::new(LEAVES_MAX)),
        })
    }

    /// A key for one purpose and one thing, which lives as long as the authority does and tells nothing
    /// of it.
    #[must_use]
    pub fn derive(&self, purpose: &str, of: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut context = hmac::Context::with_key(&self.root);
        for part in std::iter::once(&purpose.as_bytes()).chain(of) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut key = Zeroizing::new([0; 32]);
        for (key, byte) in key.iter_mut().zip(tag.as_ref()) {
            *key = *byte;
        }
        key
    }

    /// The certificate that clients must trust, DER.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.shown.load().certificate.clone()
    }

    /// The names that its certificate is for; `None` where it is for every name.
    #[must_use]
    pub fn confined(&self) -> Option<Confined> {
        self.shown.load().confined.clone()
    }

    /// Has its certificate say that it is for these names alone, or for every name: where it says otherwise it is made
    /// anew, with the same key and name. Blocks on the disk. Whether it was made anew; one that was not made here is
    /// left as it is.
    ///
    /// # Errors
    /// [`Error`] where it cannot be made or written: the one before stays in force.
    pub fn confine(&self, confined: Option<&Confined>) -> Result<bool, Error> {
        let before = self.shown.load_full();
        let name = match &before.name {
            Some(name) if before.confined.as_ref() != confined => name,
            _ => return Ok(false),
        };
        let mut params = params(name)?;
        params.name_constraints = confined.map(Confined::constraints);
        let certificate = params
            .self_signed(self.issuer.key())
            .map_err(no_authority)?;
        let made = Shown::of(certificate.der(), self.issuer.key());
        let made = made.map_err(|reason| Error::Authority {
            path: self.path.clone(),
            reason,
        })?;
        let pem = certificate.pem();
        if u64::try_from(pem.len()).is_ok_and(|length| length > FILE_MAX) {
            // It would not be read at the next start.
            return Err(Error::Authority {
                path: self.path.clone(),
                reason: "the names that it would be for are too many for one certificate",
            });
        }
        replace(&self.path, pem.as_bytes(), 0o644)?;
        self.shown.store(Arc::new(made));
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.clear();
        Ok(true)
    }

    /// When it ends, for `doctor`.
    #[must_use]
    pub fn expires(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.shown.load().expires).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The server's side of TLS for `host`: a leaf of this authority, valid for a week, made anew
    /// a day before its end. Takes under a millisecond where it is not at hand.
    ///
    /// # Errors
    /// [`Error::Make`] where the name cannot stand in a certificate.
    pub fn leaf(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        self.leaf_of(std::slice::from_ref(host))
            .map(|leaf| leaf.config)
    }

    fn leaf_of(&self, hosts: &[Host]) -> Result<Leaf, Error> {
        let now = now();
        {
            let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(leaf) = leaves.get(hosts)
                && leaf.expires.saturating_sub(now) > LEAF_LEFT
            {
                return Ok(leaf.clone());
            }
        }
        let shown = self.shown.load_full();
        let leaf = self.make_leaf(&shown, hosts, now)?;
        self.keep_leaf(&shown, hosts, leaf.clone());
        Ok(leaf)
    }

    /// One that was made for a certificate that has been replaced since is not kept: the others were thrown away then.
    fn keep_leaf(&self, shown: &Arc<Shown>, hosts: &[Host], leaf: Leaf) {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(shown, &self.shown.load_full()) {
            leaves.put(hosts.to_vec(), leaf);
        }
    }

    fn make_leaf(&self, shown: &Shown, hosts: &[Host], now: i64) -> Result<Leaf, Error> {
        let hosts = &*shown.fitting(hosts);
        let name = match hosts.first() {
            Some(Host::Ip(ip)) => ip.to_string(),
            Some(Host::Name(name)) => name.clone(),
            None => String::new(),
        };
        let failed = |source| Error::Make {
            name: name.clone(),
            source,
        };
        let expires = now
            .saturating_add(LEAF_DAYS.saturating_mul(DAY))
            .min(shown.expires);
        let mut params = CertificateParams::default();
        for host in hosts {
            params.subject_alt_names.push(match host {
                Host::Ip(ip) => SanType::IpAddress(*ip),
                Host::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
            });
        }
        dates(&mut params, now, expires);
        params.serial_number = Some(serial()?);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let common = Some(name.as_str()).filter(|name| name.len() <= COMMON_NAME_MAX);
        subject(&mut params, common.unwrap_or("interceptor"));
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let config = server_config(certificate.der().clone(), &key)?;
        Ok(Leaf {
            config,
            end_point: server_end_point(certificate.der()),
            expires,
        })
    }

    /// Finishes the TLS handshake that `stream`'s client begins, with the leaf for the name that
    /// it sends, or for all by which it can have dialled where it sends none. The caller bounds time.
    ///
    /// # Errors
    /// [`Error::Client`] where the handshake fails; the client has had its alert.
    pub async fn accept(&self, stream: TcpStream, dialled: &Dialled) -> Result<Accepted, Error> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(Error::Client)?;
        let hosts = match start.client_hello().server_name() {
            // A name with a final dot is the same name, but stands so in no certificate.
            Some(name) => vec![Host::Name(name.trim_end_matches('.').to_ascii_lowercase())],
            None => dialled.hosts(),
        };
        let leaf = self.leaf_of(&hosts)?;
        let stream = start
            .into_stream(leaf.config)
            .await
            .map_err(Error::Client)?;
        Ok(Accepted {
            stream: Stream::Tls(Box::new(TlsStream::Server(stream))),
            end_point: leaf.end_point,
        })
    }
}

impl Authority {
    /// Hears the beginning of a client's handshake; nothing is answered yet. The caller bounds time.
    ///
    /// # Errors
    /// [`Error::Client`] where it is none.
    pub async fn hear(&self, stream: TcpStream) -> Result<Hello, Error> {
        Hello::hear(stream).await
    }

    /// Finishes a handshake as these hosts, with this protocol or none. The caller bounds time.
    ///
    /// # Errors
    /// [`Error::Client`] where it fails; the client has had its alert.
    pub async fn answer(
        &self,
        hello: Hello,
        hosts: &[Host],
        protocol: Option<&[u8]>,
    ) -> Result<Stream, Error> {
        let leaf = self.leaf_of(hosts)?;
        let mut config = ServerConfig::clone(&leaf.config);
        config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
        let stream = hello.start.into_stream(Arc::new(config)).await;
        let stream = stream.map_err(Error::Client)?;
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}

fn server_config(leaf: CertificateDer<'static>, key: &KeyPair) -> Result<Arc<ServerConfig>, Error> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .map_err(Error::Setup)?;
    // PostgreSQL servers do not resume sessions either (`be-secure-openssl.c`).
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    Ok(Arc::new(config))
}

fn now() -> i64 {
    clock::wall().as_second()
}

fn dates(params: &mut CertificateParams, now: i64, expires: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let after = |seconds: i64| epoch + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = after(now.saturating_sub(BACKDATE));
    params.not_after = after(expires);
}

fn subject(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

// Random, positive, 16 bytes: clients that keep certificates by issuer and serial refuse a second
// one with the same (NSS).
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| Error::Random)?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn no_authority(source: rcgen::Error) -> Error {
    Error::Make {
        name: "the local authority".to_owned(),
        source,
    }
}

fn make(certificate_path: &Path, key_path: &Path, seal: Option<&Seal>) -> Result<(), Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(no_authority)?;
    // Each host's authority has a name of its own, so that a client may trust several.
    let mark = hex::encode(serial()?.to_bytes().get(..4).unwrap_or_default());
    let params = params(&format!("{NAME} {mark}"))?;
    let certificate = params.self_signed(&key).map_err(no_authority)?;
    // The key first: a key without a certificate is trusted by nobody and made anew.
    let pem = Zeroizing::new(key.serialize_pem());
    replace(key_path, on_disk(&pem, seal)?.as_bytes(), 0o600)?;
    replace(certificate_path, certificate.pem().as_bytes(), 0o644)
}

/// The key as it is written.
fn on_disk(pem: &str, seal: Option<&Seal>) -> Result<Zeroizing<String>, Error> {
    let text = match seal {
        Some(seal) => seal.seal(pem).ok_or(Error::Random)?,
        None => pem.to_owned(),
    };
    Ok(Zeroizing::new(text))
}

/// What its certificate says, but for the names that it is for.
fn params(name: &str) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    subject(&mut params, name);
    let now = now();
    dates(
        &mut params,
        now,
        now.saturating_add(AUTHORITY_DAYS.saturating_mul(DAY)),
    );
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let new = path.with_extension("new");
    write(&new, path, bytes, mode).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn write(new: &Path, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(new)?;
    // The mode above is cut by the umask.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })
}

fn text(path: &Path, file: &File) -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(text)
}

fn key_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let file = match open(path) {
        Err(Error::Read { path, source }) if source.kind() == ErrorKind::NotFound => {
            return Err(Error::KeyMissing { path });
        }
        file => file?,
    };
    let meta = file.metadata().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let ours = [0, nix::unistd::geteuid().as_raw()].contains(&meta.uid());
    if !ours || meta.mode() & 0o077 != 0 {
        return Err(Error::Exposed {
            path: PathBuf::from(path),
            mode: meta.mode() & 0o7777,
        });
    }
    text(path, &file)
}

impl Shown {
    /// A certificate that is an authority's, is alive, and has this key.
    fn of(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<Self, &'static str> {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return Err("not a certificate that can be read");
        };
        if !parsed.is_ca() {
            return Err("not the certificate of an authority");
        }
        if &*parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("the key beside it is another certificate's");
        }
        let expires = parsed.validity().not_after.timestamp();
        if expires <= now() {
            return Err("expired");
        }
        let is_its_own = parsed.subject() == parsed.issuer();
        let mut names = parsed.subject().iter_attributes();
        let name = names.next().and_then(|name| name.as_str().ok());
        let name = name.filter(|name| is_its_own && name.starts_with(NAME));
        Ok(Self {
            certificate: certificate.clone().into_owned(),
            expires,
            confined: Confined::read(&parsed),
            name: name.filter(|_| names.next().is_none()).map(str::to_owned),
        })
    }

    /// Those of the hosts that the certificate is for; all where that is none, which no client takes.
    fn fitting<'a>(&self, hosts: &'a [Host]) -> Cow<'a, [Host]> {
        let Some(confined) = &self.confined else {
            return Cow::Borrowed(hosts);
        };
        let fit = hosts.iter().filter(|host| confined.permits(host));
        let mut fit: Vec<_> = fit.cloned().collect();
        if fit.is_empty() {
            return Cow::Borrowed(hosts);
        }
        if !fit.iter().any(|host| matches!(host, Host::Name(_))) {
            // Without a name its subject's would be held against the names that are permitted.
            fit.push(Host::Name(confined::NOBODY.to_owned()));
        }
        Cow::Owned(fit)
    }
}

#[cfg(test)]
mod tests;

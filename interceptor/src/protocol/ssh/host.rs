//! Who the daemon is to an SSH client: a key for each target that stays the same, and a certificate
//! for it from an authority of this host's own. Both come from the secret of the TLS authority, so
//! that nothing more is kept.

use std::time::Duration;

use aws_lc_rs::rand;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey, PublicKey, ssh_key};

use crate::clock;
use crate::config::{Address, Host, Target};
use crate::tls::Authority;

/// How long a host certificate is valid; one is made for each connection.
const VALID: Duration = Duration::from_hours(7 * 24);
/// Clocks of clients in virtual machines lag.
const BACKDATE: Duration = Duration::from_hours(1);

/// What a client is shown.
pub(super) struct Identity {
    pub(super) key: PrivateKey,
    pub(super) certificate: Certificate,
}

impl Identity {
    /// Of a target.
    pub(super) fn of(authority: &Authority, target: &Target) -> Result<Self, ssh_key::Error> {
        let key = key(authority, "ssh host key", &[target.name.as_bytes()])?;
        let signs = signs(authority)?;
        let now = seconds();
        let nonce = random::<16>()?;
        let mut builder = Builder::new(
            nonce.to_vec(),
            key.public_key(),
            now.saturating_sub(BACKDATE.as_secs()),
            now.saturating_add(VALID.as_secs()),
        )?;
        builder.cert_type(CertType::Host)?;
        builder.key_id(format!("interceptor {}", target.name))?;
        for address in &target.addresses {
            builder.valid_principal(name(&address.host))?;
        }
        let certificate = builder.sign(&signs)?;
        Ok(Self { key, certificate })
    }
}

/// Lines for `known_hosts`: the authority, and each target's own key for clients that know no
/// authorities. Two blanks before the authority's key make paramiko's reader pass over a line that it
/// cannot read.
///
/// # Errors
/// Where no key can be made.
pub fn known_hosts<'a>(
    authority: &Authority,
    targets: impl Iterator<Item = &'a Target>,
) -> Result<Vec<String>, ssh_key::Error> {
    let signs = openssh(signs(authority)?.public_key())?;
    let mut lines = Vec::new();
    for target in targets.filter(|target| target.ssh().is_some()) {
        let names: Vec<_> = target.addresses.iter().map(known_as).collect();
        let names = names.join(",");
        let own = key(authority, "ssh host key", &[target.name.as_bytes()])?;
        lines.push(format!("@cert-authority {names}  {signs}"));
        lines.push(format!("{names} {}", openssh(own.public_key())?));
    }
    Ok(lines)
}

/// Who the daemon is to those who sign certificates for a target's logins.
pub(super) fn user(authority: &Authority, target: &Target) -> Result<PrivateKey, ssh_key::Error> {
    key(authority, "ssh user key", &[target.name.as_bytes()])
}

/// A key and nothing behind it: dropbear takes a comment for a part of the key.
pub(super) fn openssh(key: &PublicKey) -> Result<String, ssh_key::Error> {
    PublicKey::from(key.key_data().clone()).to_openssh()
}

/// A host as `known_hosts` has it.
fn known_as(address: &Address) -> String {
    let name = name(&address.host);
    match address.port {
        22 => name,
        port => format!("[{name}]:{port}"),
    }
}

/// A host as its certificate has it.
pub(super) fn name(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn signs(authority: &Authority) -> Result<PrivateKey, ssh_key::Error> {
    key(authority, "ssh host authority", &[])
}

fn key(authority: &Authority, purpose: &str, of: &[&[u8]]) -> Result<PrivateKey, ssh_key::Error> {
    from_seed(&authority.derive(purpose, of))
}

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    u64::try_from(clock::wall().as_second()).unwrap_or(0)
}

/// A key pair from its seed.
pub(super) fn from_seed(seed: &[u8; 32]) -> Result<PrivateKey, ssh_key::Error> {
    let pair = Ed25519Keypair::from_seed(seed);
    PrivateKey::new(KeypairData::Ed25519(pair), "interceptor")
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], ssh_key::Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_error| ssh_key::Error::Crypto)?;
    Ok(bytes)
}

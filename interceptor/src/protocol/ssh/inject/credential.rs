//! What a target's logins show: fetched for the first, and again for others where it does not last, or is not taken
//! any more.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Certificate, PrivateKey, decode_secret_key};
use secrecy::ExposeSecret as _;

use super::No;
use crate::config::{SecretSource, SshLogin, signed_by};
use crate::policy::Refusal;
use crate::protocol::ssh::host;
use crate::secrets::Secret;
use crate::session::beside::Beside;
use crate::session::opening::Opening;

/// Clocks differ.
const BACKDATE: Duration = Duration::from_mins(1);

/// What is shown.
pub(super) enum Credential {
    Password(Secret),
    Key(Arc<PrivateKey>),
    Certificate(Arc<PrivateKey>, Box<Certificate>),
    Sign {
        authority: Box<PrivateKey>,
        principals: Vec<String>,
        valid: Duration,
    },
}

/// Where it comes from, and what it is now.
pub(super) struct Login {
    beside: Beside,
    target: String,
    said: SshLogin,
    /// The daemon's own key for the target, where somebody makes certificates for it.
    own: Option<Arc<PrivateKey>>,
    now: RwLock<Arc<Credential>>,
}

impl Login {
    /// Fetches it.
    pub(super) async fn new(opening: &Opening, said: &SshLogin) -> Result<Self, No> {
        let target = &opening.who().target;
        let own = match said {
            SshLogin::Signed(_) => {
                let key = host::user(opening.authority(), target);
                let key = key.map_err(|_error| wrong(&target.name, "the key"))?;
                Some(Arc::new(key))
            }
            SshLogin::Password(_) | SshLogin::Key { .. } | SshLogin::Sign { .. } => None,
        };
        let beside = opening.beside();
        let credential = fetch(&beside, &target.name, said, own.as_ref()).await?;
        Ok(Self {
            beside,
            target: target.name.clone(),
            said: said.clone(),
            own,
            now: RwLock::new(Arc::new(credential)),
        })
    }

    /// What is shown now.
    pub(super) fn now(&self) -> Arc<Credential> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether what logged in once does so later: somebody else's certificate is good for minutes.
    pub(super) fn lasts(&self) -> bool {
        !matches!(self.said, SshLogin::Signed(_))
    }

    /// Fetches it again.
    pub(super) async fn renew(&self) -> Result<(), No> {
        let fetched = fetch(&self.beside, &self.target, &self.said, self.own.as_ref()).await?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fetched);
        Ok(())
    }
}

async fn fetch(
    beside: &Beside,
    target: &str,
    said: &SshLogin,
    own: Option<&Arc<PrivateKey>>,
) -> Result<Credential, No> {
    let secret = async |source: &SecretSource| {
        let secret = beside.secret(source).await;
        secret.ok_or_else(|| (Refusal::secret(), None))
    };
    let wrong = |what: &str| wrong(target, what);
    Ok(match said {
        SshLogin::Password(source) => Credential::Password(secret(source).await?),
        SshLogin::Key {
            key,
            passphrase,
            certificate,
        } => {
            let key = secret(key).await?;
            let passphrase = match passphrase {
                Some(source) => Some(secret(source).await?),
                None => None,
            };
            let passphrase = passphrase.as_ref().map(|secret| secret.expose_secret());
            let key = decode_secret_key(key.expose_secret(), passphrase)
                .map_err(|_error| wrong("the key"))?;
            match certificate {
                None => Credential::Key(Arc::new(key)),
                Some(path) => {
                    let read = tokio::fs::read_to_string(path).await;
                    let certificate = read
                        .ok()
                        .and_then(|text| Certificate::from_openssh(text.trim()).ok())
                        .ok_or_else(|| wrong("the certificate"))?;
                    Credential::Certificate(Arc::new(key), Box::new(certificate))
                }
            }
        }
        SshLogin::Signed(by) => {
            let key = own.ok_or_else(|| wrong("the key"))?;
            let public = host::openssh(key.public_key()).map_err(|_error| wrong("the key"))?;
            let answer = secret(&signed_by(by, &public)).await?;
            let certificate = Certificate::from_openssh(answer.expose_secret().trim());
            let certificate = certificate.map_err(|_error| wrong("the certificate"))?;
            let is_for_it = certificate.public_key() == key.public_key().key_data();
            if !is_for_it || certificate.cert_type() != CertType::User {
                return Err(wrong("the certificate, which is for another key,"));
            }
            Credential::Certificate(Arc::clone(key), Box::new(certificate))
        }
        SshLogin::Sign {
            authority,
            principals,
            valid,
        } => {
            let key = secret(authority).await?;
            let key = decode_secret_key(key.expose_secret(), None)
                .map_err(|_error| wrong("the authority's key"))?;
            Credential::Sign {
                authority: Box::new(key),
                principals: principals.clone(),
                valid: *valid,
            }
        }
    })
}

fn wrong(target: &str, what: &str) -> No {
    let cause = format!("{what} of target {target} cannot be used");
    (Refusal::secret(), Some(cause))
}

/// A key of its own for one login, and the certificate for it.
pub(super) fn sign(
    authority: &PrivateKey,
    principals: &[String],
    valid: Duration,
) -> Result<(PrivateKey, Certificate), russh::keys::Error> {
    let key = host::from_seed(&host::random::<32>()?)?;
    let now = host::seconds();
    let nonce = host::random::<16>()?.to_vec();
    let (from, to) = (
        now.saturating_sub(BACKDATE.as_secs()),
        now.saturating_add(valid.as_secs()),
    );
    let mut builder = Builder::new(nonce, key.public_key(), from, to)?;
    builder.cert_type(CertType::User)?;
    builder.key_id("interceptor")?;
    for principal in principals {
        builder.valid_principal(principal.as_str())?;
    }
    // What of these is used is judged when it is asked for.
    for extension in [
        "permit-pty",
        "permit-port-forwarding",
        "permit-agent-forwarding",
        "permit-X11-forwarding",
    ] {
        builder.extension(extension, "")?;
    }
    Ok((key, builder.sign(authority)?))
}

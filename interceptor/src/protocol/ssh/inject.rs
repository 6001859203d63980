//! As whom upstream: the server is known by its key before anything is said to it, then the target's
//! credential logs in. What the client presented is not among what is shown.

pub(super) mod arrivals;
pub(super) mod backlog;
mod credential;
pub(super) mod lanes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::ChannelOpenHandle;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{
    Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg, PublicKey,
    PublicKeyOrCertificate,
};
use russh::{Channel, ChannelId, MethodKind, Preferred};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::arrivals::{Arrivals, Door, Place, What};
use self::backlog::{Backlog, Line, WAITING};
use self::credential::{Credential, Login};
use super::cut::Cut;
use super::host;
use crate::config::{Host, HostKey, HostKeys, Ssh};
use crate::policy::Refusal;
use crate::secrets::Secret;
use crate::session::opening::Opening;

/// A channel's window, towards the server.
const WINDOW: u32 = 2 << 20;
/// How often a quiet server is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Questions of a dialogue that are answered.
const QUESTIONS: usize = 8;

/// Why there is no connection: what the agent may read, and what only the audit may know.
pub(super) type No = (Refusal, Option<String>);

/// What a login failed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server let nobody speak to it: it may have too many at its door.
    Door,
    /// It did not take the credential.
    Credential,
    /// Something that stays as it is.
    Other,
}

/// What it takes to log in to one target.
pub(super) struct Plan {
    target: String,
    user: String,
    host_keys: HostKeys,
    login: Login,
    config: Arc<client::Config>,
    /// Whether what is dialled is a proxy, whose address is not the server's.
    through: bool,
    /// The key that an unpinned server showed first.
    learned: Arc<Mutex<Option<PublicKey>>>,
    /// What it was known by and what it showed, where these differ.
    changed: Changed,
}

type Changed = Arc<Mutex<Option<(String, String)>>>;

/// A connection that is logged in.
pub(super) struct Upstream {
    pub(super) handle: Handle<Guard>,
    pub(super) address: SocketAddr,
    pub(super) arrivals: Arrivals,
    pub(super) backlog: Arc<Backlog>,
    /// It ends with this, whatever the server does.
    pub(super) ends: DropGuard,
}

/// Looks at what a server shows.
pub(super) struct Guard {
    host_keys: HostKeys,
    names: Vec<String>,
    learned: Arc<Mutex<Option<PublicKey>>>,
    changed: Changed,
    seen: Arc<Mutex<Option<String>>>,
    door: Door,
    backlog: Arc<Backlog>,
}

impl Plan {
    /// Fetches what it takes.
    pub(super) async fn new(opening: &Opening, settings: &Ssh) -> Result<Self, No> {
        Ok(Self {
            target: opening.who().target.name.clone(),
            user: settings.user.clone(),
            host_keys: settings.host_keys.clone(),
            login: Login::new(opening, &settings.login).await?,
            config: Arc::new(config(&settings.host_keys)),
            through: opening.who().through.is_some(),
            learned: Arc::default(),
            changed: Arc::default(),
        })
    }

    /// Logs in for the first time: what the server was known by is looked up, and kept where it is new.
    pub(super) async fn log_in_first(
        &self,
        opening: &Opening,
        host: &Host,
        address: SocketAddr,
    ) -> Result<Upstream, No> {
        let plain = |refusal| (refusal, None);
        let known = match self.host_keys {
            HostKeys::Learn => opening.host_key(address),
            HostKeys::Pinned(_) => None,
        };
        let read = known.as_deref().map(PublicKey::from_openssh).transpose();
        *lock(&self.learned) = read.map_err(|_error| {
            let cause = "the key that was learned cannot be read".to_owned();
            (Refusal::upstream("the server cannot be known"), Some(cause))
        })?;
        let stream = opening.dial(address).await.map_err(plain)?;
        let result = self.log_in(stream, host, address).await;
        if let Some((known, shown)) = lock(&self.changed).take() {
            opening.host_changed(address, &known, &shown);
        }
        let upstream = result.map_err(|(_cause, no)| no)?;
        let learned = lock(&self.learned).clone();
        if let (None, Some(key)) = (known, learned) {
            let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
            let key = key.to_openssh().map_err(|error| {
                let cause = Some(error.to_string());
                (Refusal::internal("the server's key cannot be kept"), cause)
            })?;
            let kept = opening.host_learned(address, &key, &fingerprint).await;
            kept.map_err(plain)?;
        }
        Ok(upstream)
    }

    /// What the certificate of a server's key may be for.
    fn names(&self, host: &Host, address: SocketAddr) -> Vec<String> {
        let dialled = (!self.through).then(|| address.ip().to_canonical().to_string());
        std::iter::once(host::name(host)).chain(dialled).collect()
    }

    /// Speaks to a server over a connection to it.
    pub(super) async fn log_in(
        &self,
        stream: TcpStream,
        host: &Host,
        address: SocketAddr,
    ) -> Result<Upstream, (Cause, No)> {
        let seen = Arc::default();
        let backlog = Arc::<Backlog>::default();
        let (door, arrivals) = arrivals::door(&backlog);
        let guard = Guard {
            host_keys: self.host_keys.clone(),
            names: self.names(host, address),
            learned: Arc::clone(&self.learned),
            changed: Arc::clone(&self.changed),
            seen: Arc::clone(&seen),
            door,
            backlog: Arc::clone(&backlog),
        };
        let config = Arc::clone(&self.config);
        let over = CancellationToken::new();
        let stream = Line::new(Cut::new(stream, &over), &backlog);
        let ends = over.drop_guard();
        let connected = client::connect_stream(config, stream, guard).await;
        let mut handle = connected.map_err(|error| {
            let cause = lock(&seen).take().unwrap_or_else(|| error.to_string());
            let target = &self.target;
            let (kind, message) = match error {
                russh::Error::UnknownKey => (
                    Cause::Other,
                    format!(
                        "the server of target {target} did not show the host key that is configured"
                    ),
                ),
                _ => (
                    Cause::Door,
                    format!("the server of target {target} does not speak SSH as it must"),
                ),
            };
            (kind, (Refusal::upstream(&message), Some(cause)))
        })?;
        let target = &self.target;
        let failed = |kind: Cause, cause: String| {
            let message = format!("the server of target {target} did not take the login");
            (kind, (Refusal::upstream(&message), Some(cause)))
        };
        match self.authenticate(&mut handle).await {
            Ok(true) => Ok(Upstream {
                handle,
                address,
                arrivals,
                backlog,
                ends,
            }),
            Ok(false) => {
                let cause = "the server refused the credential".to_owned();
                Err(failed(Cause::Credential, cause))
            }
            Err(error) => Err(failed(Cause::Other, error.to_string())),
        }
    }

    async fn authenticate(&self, handle: &mut Handle<Guard>) -> Result<bool, russh::Error> {
        let user = self.user.as_str();
        let credential = self.login.now();
        let result = match &*credential {
            Credential::Password(password) => return self.password(handle, password).await,
            Credential::Key(key) => {
                let hash = match key.algorithm() {
                    Algorithm::Rsa { .. } => {
                        let best = handle.best_supported_rsa_hash().await?.flatten();
                        Some(best.unwrap_or(HashAlg::Sha256))
                    }
                    _ => None,
                };
                let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
                handle.authenticate_publickey(user, key).await?
            }
            Credential::Certificate(key, certificate) => {
                let certificate = Certificate::clone(certificate);
                let key = Arc::clone(key);
                handle
                    .authenticate_openssh_cert(user, key, certificate)
                    .await?
            }
            Credential::Sign {
                authority,
                principals,
                valid,
            } => {
                let (key, certificate) = credential::sign(authority, principals, *valid)?;
                handle
                    .authenticate_openssh_cert(user, Arc::new(key), certificate)
                    .await?
            }
        };
        Ok(result.success())
    }

    async fn password(
        &self,
        handle: &mut Handle<Guard>,
        password: &Secret,
    ) -> Result<bool, russh::Error> {
        let shown = password.expose_secret();
        let result = handle
            .authenticate_password(self.user.as_str(), shown)
            .await?;
        let AuthResult::Failure {
            remaining_methods, ..
        } = result
        else {
            return Ok(true);
        };
        if !remaining_methods.contains(&MethodKind::KeyboardInteractive) {
            return Ok(false);
        }
        let user = self.user.as_str();
        let mut said = handle
            .authenticate_keyboard_interactive_start(user, None)
            .await?;
        for _ in 0..QUESTIONS {
            said = match said {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    // A password answers one hidden question, and no other.
                    let answers = match prompts.as_slice() {
                        [] => Vec::new(),
                        [prompt] if !prompt.echo => vec![shown.to_owned()],
                        _ => return Ok(false),
                    };
                    handle
                        .authenticate_keyboard_interactive_respond(answers)
                        .await?
                }
            };
        }
        Ok(false)
    }
}

fn config(host_keys: &HostKeys) -> client::Config {
    let mut preferred = Preferred::DEFAULT;
    let mut kinds = preferred.key.into_owned();
    // SHA-1 proves nothing.
    kinds.retain(|kind| !matches!(kind, Algorithm::Rsa { hash: None }));
    preferred.key = kinds.into();
    if let HostKeys::Pinned(keys) = host_keys {
        let of = |authority: bool| {
            let keys = keys.iter().filter(move |key| key.authority == authority);
            keys.map(|key| key.key.algorithm()).collect::<Vec<_>>()
        };
        let plain = of(false);
        // A server has keys of many kinds, and shows the one that is asked for first.
        if !plain.is_empty() {
            let kinds = preferred.key.iter();
            let kinds = kinds.filter(|kind| plain.iter().any(|plain| is_same_kind(plain, kind)));
            preferred.key = kinds.cloned().collect();
        }
        if !of(true).is_empty() {
            let curves = [
                EcdsaCurve::NistP256,
                EcdsaCurve::NistP384,
                EcdsaCurve::NistP521,
            ];
            let curves = curves.map(|curve| Algorithm::Ecdsa { curve });
            let rsa = [HashAlg::Sha512, HashAlg::Sha256];
            let rsa = rsa.map(|hash| Algorithm::Rsa { hash: Some(hash) });
            let kinds = std::iter::once(Algorithm::Ed25519).chain(curves).chain(rsa);
            preferred.host_key_certificates = kinds.collect();
        }
    }
    client::Config {
        client_id: russh::SshId::Standard("SSH-2.0-interceptor".into()),
        window_size: WINDOW,
        channel_buffer_size: WAITING,
        keepalive_interval: Some(KEEPALIVE),
        // Who is not read is not heard: whether a server is there is seen where it is read.
        keepalive_max: 0,
        nodelay: true,
        preferred,
        ..client::Config::default()
    }
}

fn is_same_kind(one: &Algorithm, other: &Algorithm) -> bool {
    match (one, other) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (one, other) => one == other,
    }
}

impl Guard {
    /// Why what a server shows is not believed.
    fn doubt(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        let HostKeys::Pinned(keys) = &self.host_keys else {
            return self.learn(shown);
        };
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                let is_pinned =
                    |one: &HostKey| !one.authority && one.key.key_data() == key.key_data();
                let fingerprint = key.fingerprint(HashAlg::Sha256);
                let unknown =
                    || format!("the server shows the key {fingerprint}, which is none of its own");
                keys.iter().any(is_pinned).then_some(()).ok_or_else(unknown)
            }
            PublicKeyOrCertificate::Certificate(certificate) => self.certified(keys, certificate),
        }
    }

    fn certified(&self, keys: &[HostKey], certificate: &Certificate) -> Result<(), String> {
        let authorities = keys.iter().filter(|key| key.authority);
        let authorities: Vec<_> = authorities
            .map(|one| one.key.fingerprint(HashAlg::Sha256))
            .collect();
        if certificate.cert_type() != CertType::Host {
            return Err("the server shows a user's certificate".to_owned());
        }
        if !certificate.critical_options().is_empty() {
            return Err("the server's certificate has options that are not known".to_owned());
        }
        let for_it = certificate
            .valid_principals()
            .iter()
            .any(|principal| self.names.contains(principal));
        if !for_it {
            let names = certificate.valid_principals().join(", ");
            return Err(format!("the server's certificate is for {names}"));
        }
        certificate
            .validate(authorities.iter())
            .map_err(|error| format!("the server's certificate is not valid here: {error}"))
    }

    fn learn(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        let key = shown.public_key();
        let mut learned = lock(&self.learned);
        match &*learned {
            Some(known) if known.key_data() == key.key_data() => Ok(()),
            Some(known) => {
                let known = known.fingerprint(HashAlg::Sha256).to_string();
                let shown = key.fingerprint(HashAlg::Sha256).to_string();
                let cause = format!("the server shows the key {shown}, and was known by {known}");
                *lock(&self.changed) = Some((known, shown));
                Err(cause)
            }
            None => {
                *learned = Some(key);
                Ok(())
            }
        }
    }
}

/// What no server opens: the library would let it, and keep each.
macro_rules! refuses {
    ($($opens:ident($($what:ty),*);)*) => {$(
        async fn $opens(
            &mut self,
            _channel: Channel<client::Msg>,
            $(_: $what,)*
            reply: ChannelOpenHandle,
            _session: &mut client::Session,
        ) -> Result<(), Self::Error> {
            arrivals::no(reply).await;
            Ok(())
        }
    )*};
}

impl client::Handler for Guard {
    type Error = russh::Error;

    refuses! {
        server_channel_open_session();
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_direct_streamlocal(&str);
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet: u32,
        _window: u32,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.backlog.opens(id);
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.backlog.comes(id, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _kind: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.backlog.comes(id, data.len());
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.door.knock(What::Agent, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<client::Msg>,
        from: &str,
        port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let screen = What::Screen((from.to_owned(), port));
        self.door.knock(screen, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        at: &str,
        at_port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let at = Place::Tcp(at.to_owned(), at_port);
        let connection = What::Connection(at, (from.to_owned(), from_port));
        self.door.knock(connection, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<client::Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let at = Place::Socket(path.to_owned());
        let connection = What::Connection(at, (String::new(), 0));
        self.door.knock(connection, channel, reply).await;
        Ok(())
    }

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        match self.doubt(shown) {
            Ok(()) => Ok(true),
            Err(cause) => {
                *lock(&self.seen) = Some(cause);
                Ok(false)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

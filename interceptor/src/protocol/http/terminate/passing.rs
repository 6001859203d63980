//! TLS that goes by undecrypted: where the target says so and policy permits it (`HttpPassThrough`), the client's first
//! message and all that follows goes on byte by byte. The name that it sends is one of the target's, and the server has
//! proved to have that name. Nobody is given a credential, and what is asked for is not seen: name, fingerprint and sizes
//! are what is written.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::Heard;
use crate::clock::{self, BootTime};
use crate::config::{Host, Http, Undecrypted};
use crate::policy::{
    Access, Action, Ask, Context, HttpFacts, Limit, Permit, Refusal, Resource, TlsFacts,
};
use crate::protocol::http::Engine;
use crate::protocol::http::facts::Wrong;
use crate::session::opening::{Opened, Opening};
use crate::session::{
    Direction, Gate as _, Hold, Outcome, Phase, Reading, RequestId, Said, Session, Shown,
};
use crate::tls::{ALPN_HTTP1, ALPN_HTTP2, Hello};

/// Bytes that are carried at a time.
const PIECE: usize = 64 << 10;
/// How long a server that has proved its name is not asked again.
const PROVED: Duration = Duration::from_secs(300);
/// Servers that are remembered.
const SERVERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Servers that have proved a name lately: by target, name and address.
#[derive(Debug)]
pub(in crate::protocol::http) struct Proved(
    Mutex<LruCache<(String, String, SocketAddr), BootTime>>,
);

impl Default for Proved {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SERVERS)))
    }
}

impl Proved {
    /// A reload may have changed how they prove it.
    pub(in crate::protocol::http) fn forget(&self) {
        self.with(LruCache::clear);
    }

    fn with<T>(
        &self,
        does: impl FnOnce(&mut LruCache<(String, String, SocketAddr), BootTime>) -> T,
    ) -> T {
        does(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that is to go by undecrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::http) struct Asked {
    name: String,
    fingerprint: String,
    untrusted: bool,
}

impl Asked {
    /// What a first message asks for; a refusal where it does not say it in clear.
    fn of(
        hello: &Hello,
        opening: &Opening,
        settings: &Http,
        untrusted: bool,
    ) -> Result<Self, Refusal> {
        let shape = hello.shape().ok_or_else(|| {
            Refusal::malformed("the first message of its TLS cannot be read to its end")
        })?;
        if shape.is_encrypted() {
            return Err(Refusal::not_offered(
                "the first message of its TLS may hold another name, encrypted",
                "switch Encrypted Client Hello off in the client: some browsers send such a message even where it holds \
                 no name (GREASE), which nobody can tell from one that does",
            ));
        }
        let name = hello.server_name().ok_or_else(|| {
            Refusal::not_offered(
                "a connection that goes by undecrypted has to say which name it is for",
                "dial a name, and not an address; clients send it in the first message of TLS (SNI)",
            )
        })?;
        let sent = Host::Name(name.clone());
        // Behind a proxy the bytes go to what that was asked for, and to no other name of the target.
        let through = opening.who().through.as_ref();
        let asked = through.map(|through| &through.host);
        let is_another =
            asked.is_some_and(|asked| matches!(asked, Host::Name(_)) && *asked != sent);
        if is_another || !settings.hosts.contains(&sent) {
            return Err(Wrong::Misdirected.refusal());
        }
        Ok(Self {
            name,
            fingerprint: shape.fingerprint(),
            untrusted,
        })
    }

    fn ask(&self) -> Ask {
        let access = Access {
            action: Action::HttpPassThrough,
            resource: Resource::Target,
        };
        let http = HttpFacts {
            host: self.name.clone(),
            tls: Some(TlsFacts {
                fingerprint: self.fingerprint.clone(),
                untrusted: self.untrusted,
            }),
            ..HttpFacts::default()
        };
        Ask {
            accesses: BTreeSet::from([access]),
            context: Context {
                http: Some(Box::new(http)),
                ..Context::default()
            },
        }
    }

    fn text(&self) -> String {
        format!(
            "TLS undecrypted to {}, client {}",
            self.name, self.fingerprint
        )
    }

    fn reading(&self) -> Reading {
        let text = self.text();
        let digest = digest(&SHA256, text.as_bytes());
        let mark = digest.as_ref().get(..8).unwrap_or_default();
        Reading {
            asks: vec![self.ask()],
            redacted: text.into(),
            fingerprint: hex::encode(mark).into(),
            summary: format!("TLS to {}", self.name).into(),
            masked: Arc::new([]),
            veto: None,
        }
    }
}

/// Whether a connection is to go by undecrypted: an error with its first message where it is, or must not go at all.
pub(in crate::protocol::http) fn asked(
    opening: &Opening,
    heard: Heard,
    settings: &Http,
) -> Result<Heard, (Box<Hello>, Result<Asked, Refusal>)> {
    let hello = match (heard, settings.undecrypted) {
        (Heard::Tls(hello), Undecrypted::Untrusted | Undecrypted::Always) => hello,
        (heard, _) => return Ok(heard),
    };
    if settings.undecrypted == Undecrypted::Always {
        let asked = Asked::of(&hello, opening, settings, false);
        return Err((hello, asked));
    }
    // One that trusts after all, or is not to pass, is answered as everybody is.
    let name = hello.server_name().map(Host::Name);
    if !name.is_some_and(|name| opening.distrusts(&name)) {
        return Ok(Heard::Tls(hello));
    }
    match Asked::of(&hello, opening, settings, true) {
        Ok(asked) if opening.would(&[asked.ask()]) => Err((hello, Ok(asked))),
        _ => Ok(Heard::Tls(hello)),
    }
}

/// The end of what went by: it is written whatever becomes of it.
struct Passed<'a> {
    session: &'a Session,
    request: RequestId,
    began: BootTime,
    outcome: Outcome,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        self.outcome.took = clock::boot().since(self.began);
        self.session.finish(self.request, &self.outcome);
    }
}

impl Engine {
    /// Carries a connection that goes by undecrypted, from its first message to its close.
    pub(in crate::protocol::http) async fn pass(
        &self,
        mut opening: Opening,
        hello: Hello,
        asked: Result<Asked, Refusal>,
    ) {
        let ready = match asked {
            Ok(asked) => self.ready(&mut opening, asked).await,
            Err(refusal) => Err((refusal, None)),
        };
        let (asked, upstream, address) = match ready {
            Ok(ready) => ready,
            Err((refusal, cause)) => {
                opening.refuse(&refusal, cause);
                return hello.deny().await;
            }
        };
        let opened = Opened {
            upstream: address.into(),
            database: None,
            user: "",
            asked_user: None,
        };
        let Ok(session) = opening.open(opened).await else {
            return hello.deny().await;
        };
        let (text, hold) = (asked.text(), Hold::default());
        let shown = Shown {
            values: None,
            under: Vec::new(),
            literals: None,
            varies: false,
        };
        let said = Said::alone(&text, Ok(&shown), &hold);
        let reading = Arc::new(asked.reading());
        let Ok(authorized) = session.authorize(Phase::Execute, said, &reading).await else {
            return hello.deny().await;
        };
        let mut passed = Passed {
            session: &session,
            request: authorized.request,
            began: clock::boot(),
            outcome: Outcome {
                status: "passed".to_owned(),
                ..Outcome::default()
            },
        };
        let carried = carry(
            authorized.permit,
            (&*session, &mut passed.outcome.bytes),
            (hello, upstream),
        );
        let ended = tokio::select! {
            ended = carried => ended,
            _reason = session.ended() => Ok(()),
        };
        if let Err(error) = ended {
            passed.outcome.status = format!("passed, cut off: {error}");
        }
    }

    /// May this principal use the target, and is the server that is dialled for it the one of that name?
    async fn ready(
        &self,
        opening: &mut Opening,
        asked: Asked,
    ) -> Result<(Asked, TcpStream, SocketAddr), (Refusal, Option<String>)> {
        let authorized = opening.authorize(None, &[]).await;
        authorized.map_err(|refusal| (refusal, None))?;
        opening.ahead().map_err(|refusal| (refusal, None))?;
        let target = Arc::clone(&opening.who().target);
        let patience = target.timeouts.dial;
        let mut last = "it has no address".to_owned();
        for (_, address) in opening.addresses().iter() {
            let reached = async {
                self.prove(opening, &asked, *address).await?;
                let stream = opening.dial_at(*address).await;
                stream.map_err(|error| error.to_string())
            };
            match timeout(patience, reached).await {
                Ok(Ok(stream)) => return Ok((asked, stream, *address)),
                Ok(Err(cause)) => last = cause,
                Err(_elapsed) => "it did not answer in time".clone_into(&mut last),
            }
        }
        let message = format!("the server of target {} gave no answer", target.name);
        Err((Refusal::upstream(&message), Some(last)))
    }

    /// Asks a server for its name, by a handshake of our own: that of the client cannot be looked into.
    async fn prove(
        &self,
        opening: &Opening,
        asked: &Asked,
        address: SocketAddr,
    ) -> Result<(), String> {
        let target = &opening.who().target;
        let key = (target.name.clone(), asked.name.clone(), address);
        let through = opening.who().through.as_ref();
        let known = self.proved.with(|known| known.get(&key).copied());
        // A proxy may lead elsewhere each time, and its address says nothing of where.
        let known = known.filter(|_| through.is_none());
        if known.is_some_and(|then| clock::boot().since(then) < PROVED) {
            return Ok(());
        }
        let tls = self.roots.of(target, None).await?;
        let stream = opening.dial_at(address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let host = Host::Name(asked.name.clone());
        let shaken = tls.connect_as(stream, &host, &[ALPN_HTTP2, ALPN_HTTP1]);
        drop(shaken.await.map_err(|error| error.to_string())?);
        if through.is_none() {
            self.proved.with(|known| known.put(key, clock::boot()));
        }
        Ok(())
    }
}

/// Carries bytes both ways until both sides have ended; what went to the agent is counted.
async fn carry(
    permit: Permit,
    (session, received): (&Session, &mut u64),
    (hello, upstream): (Hello, TcpStream),
) -> io::Result<()> {
    let limits = permit.limits();
    let limit = limits.and_then(|limits| limits.max_bytes.clone());
    let (client, first) = hello.into_parts();
    let (from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = upstream.into_split();
    to_server.write_all(&first).await?;
    let length = u64::try_from(first.len()).unwrap_or(u64::MAX);
    session.carried(Direction::Sent, length);
    let mut sent = length;
    let there = (session, Direction::Sent, None);
    let back = (session, Direction::Received, limit);
    let there = copy(from_client, to_server, &mut sent, there);
    let back = copy(from_server, to_client, received, back);
    tokio::try_join!(there, back).map(drop)
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    total: &mut u64,
    (session, direction, limit): (&Session, Direction, Option<Limit>),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        *total = total.saturating_add(count);
        if limit.as_ref().is_some_and(|limit| *total > limit.most) {
            return Err(io::Error::other("it has more bytes than it may"));
        }
        session.carried(direction, count);
        to.write_all(bytes).await?;
    }
}

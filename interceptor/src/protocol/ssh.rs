//! SSH 2: one connection from its first byte to its last.
//!
//! `terminate` the client's transport and login (whoever the kernel says it is, is in), `authorize` the
//! target, `dial` and log in with the target's credential, `relay` the channels. The transport is the
//! library's (`russh`) on both sides; what is said on a channel is judged here.

mod channel;
mod cut;
mod facts;
pub mod host;
mod inject;
mod refuse;
mod server;
mod sftp;
pub mod transcript;
mod typing;

pub(crate) use self::facts::recall;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::Disconnect;
use russh::server::{self as library, Handle, RunningSession};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::channel::{Shared, arrive};
use self::host::Identity;
use self::inject::Plan;
use self::inject::lanes::{self, Lanes};
use self::server::heard::Heard;
use self::server::pressure::{Line, Pressure, WINDOW};
use self::server::{Entered, Face, Global, Opened as OpenedChannel};
use crate::config::{Ssh, Target, Unread};
use crate::masking::detect::{Action as Found, Detectors};
use crate::policy::Refusal;
use crate::session::opening::{Opened, Opening};
use crate::session::{Gate as _, Session};
use crate::telemetry::metrics::LoginHow;
use crate::tls::Authority;

/// Channels of one client at once.
const CHANNELS: usize = 32;
/// What a client asks of no channel, and nobody has heard yet.
const GLOBAL: usize = 4;
/// Packets that wait for a client, for all channels of its connection.
const WAITING: usize = 16;
/// How often a quiet client is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client's connection.
struct Client {
    running: RunningSession<Face>,
    entered: oneshot::Receiver<(Entered, Handle)>,
    opened: mpsc::Receiver<OpenedChannel>,
    global: mpsc::Receiver<Global>,
    heard: Arc<Heard>,
    over: CancellationToken,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Serves one admitted connection to its close.
pub async fn serve(opening: Opening, stream: TcpStream, settings: &Arc<Ssh>) {
    let patience = opening.who().target.timeouts.startup;
    let until = Instant::now() + patience;
    let begun = begin(opening.authority(), &opening.who().target, settings, stream);
    let (mut client, entered, handle) = match timeout_at(until, enter(begun)).await {
        Ok(Ok(entered)) => entered,
        Ok(Err(cause)) => return opening.gave_up(&cause),
        Err(_elapsed) => return opening.gave_up("the client did not finish its startup in time"),
    };
    match Box::pin(join(opening, &entered, settings)).await {
        Ok((session, lanes)) => relay(&mut client, handle, session, lanes, settings).await,
        Err(refusal) => {
            goodbye(
                &mut client,
                &handle,
                &refuse::at_startup(&refusal),
                patience,
            )
            .await
        }
    }
}

/// Tells a client that is not admitted why. Nothing is dialled for it. The caller bounds time.
pub async fn tell(
    stream: TcpStream,
    authority: &Authority,
    target: &Target,
    settings: &Arc<Ssh>,
    refusal: &Refusal,
) {
    let begun = begin(authority, target, settings, stream);
    match enter(begun).await {
        Ok((mut client, _, handle)) => {
            let text = refuse::at_startup(refusal);
            goodbye(&mut client, &handle, &text, target.timeouts.startup).await;
        }
        Err(cause) => tracing::debug!(%cause, "a refused client was gone before it was told"),
    }
}

/// Begins to speak to a client.
async fn begin(
    authority: &Authority,
    target: &Target,
    settings: &Arc<Ssh>,
    stream: TcpStream,
) -> Result<Client, String> {
    let identity = Identity::of(authority, target).map_err(|error| error.to_string())?;
    let config = library::Config {
        server_id: russh::SshId::Standard("SSH-2.0-interceptor".into()),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![identity.key],
        certificates: vec![identity.certificate],
        window_size: WINDOW,
        event_buffer_size: WAITING,
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 0,
        nodelay: true,
        ..library::Config::default()
    };
    let pressure = Arc::new(Pressure::default());
    let over = CancellationToken::new();
    let line = Line::new(stream, &pressure, &over);
    let (entry, entered) = oneshot::channel();
    let (open, opened) = mpsc::channel(CHANNELS);
    let (ask, global) = mpsc::channel(GLOBAL);
    let heard = Heard::new(&pressure);
    let face = Face {
        settings: Arc::clone(settings),
        pressure,
        entered: Entered::default(),
        entry: Some(entry),
        opened: open,
        heard: Arc::clone(&heard),
        global: ask,
    };
    let running = library::run_stream(Arc::new(config), line, face).await;
    let running = running.map_err(|error| error.to_string())?;
    Ok(Client {
        running,
        entered,
        opened,
        global,
        heard,
        over,
    })
}

/// Waits until a client is in.
async fn enter(
    begun: impl Future<Output = Result<Client, String>>,
) -> Result<(Client, Entered, Handle), String> {
    let mut client = begun.await?;
    tokio::select! {
        entered = &mut client.entered => match entered {
            Ok((entered, handle)) => Ok((client, entered, handle)),
            Err(_) => Err("the client left before it was in".to_owned()),
        },
        ended = &mut client.running => Err(match ended {
            Ok(()) => "the client left before it was in".to_owned(),
            Err(error) => error.to_string(),
        }),
    }
}

/// Judges, dials, logs in, opens the session. A refusal is in the audit when this returns it.
async fn join(
    mut opening: Opening,
    entered: &Entered,
    settings: &Arc<Ssh>,
) -> Result<(Arc<Session>, Lanes), Refusal> {
    let lanes = match log_in(&mut opening, entered, settings).await {
        Ok(lanes) => lanes,
        Err((refusal, cause)) => {
            opening.refuse(&refusal, cause);
            return Err(refusal);
        }
    };
    let opened = Opened {
        upstream: lanes.address().into(),
        database: None,
        user: &settings.user,
        asked_user: Some(&entered.user),
    };
    let session = opening.open(opened).await?;
    Ok((session, lanes))
}

async fn log_in(
    opening: &mut Opening,
    entered: &Entered,
    settings: &Arc<Ssh>,
) -> Result<Lanes, inject::No> {
    let plain = |refusal| (refusal, None);
    for presented in &entered.presented {
        let presented = opening.presented(&entered.user, presented.as_bytes());
        presented.map_err(plain)?;
    }
    opening.authorize(None, &[]).await.map_err(plain)?;
    let plan = Arc::new(Plan::new(opening, settings).await?);
    let lanes = lanes::first(opening, plan).await?;
    opening.logged_in(LoginHow::Fresh);
    Ok(lanes)
}

/// Serves the channels of a client to the end of either side.
async fn relay(
    client: &mut Client,
    handle: Handle,
    session: Arc<Session>,
    lanes: Lanes,
    settings: &Arc<Ssh>,
) {
    let detect = &session.who().target.detect;
    let detectors = Detectors::new(detect).map(Arc::new);
    let withholds = detect.values().any(|action| *action != Found::Report);
    let shared = Arc::new(Shared {
        session: Arc::clone(&session),
        lanes,
        user: settings.user.clone(),
        recorded: settings.recorded_bytes,
        handle: handle.clone(),
        detectors,
        searches: withholds && settings.unread == Unread::Refuse,
        heard: Arc::clone(&client.heard),
        listening: Mutex::default(),
        channels: AtomicU32::new(0),
    });
    let mut channels = JoinSet::new();
    loop {
        tokio::select! {
            ended = &mut client.running => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a client's connection ended");
                }
                break;
            }
            Some(opened) = client.opened.recv() => {
                channels.spawn(channel::serve(Arc::clone(&shared), opened));
            }
            Some(asked) = client.global.recv() => match asked {
                Global::Listen(place, reply) => {
                    channels.spawn(arrive::listen(Arc::clone(&shared), place, reply));
                }
                Global::Unlisten(place, reply) => {
                    if arrive::unlisten(&shared, &place) {
                        server::answers(reply, ());
                    }
                }
            },
            Some(_) = channels.join_next() => {}
            reason = session.ended() => {
                channels.abort_all();
                let text = format!("the session was ended: {}", reason.word());
                goodbye(client, &handle, &text, Duration::from_millis(50)).await;
                return;
            }
        }
    }
    // What runs ends with its client, as at the server itself; what it was is written with the session.
    channels.shutdown().await;
    session.closes("client");
}

/// Says why it is over.
async fn goodbye(client: &mut Client, handle: &Handle, text: &str, patience: Duration) {
    let told = async {
        let text = text.to_owned();
        let said = handle.disconnect(Disconnect::ByApplication, text, String::new());
        if said.await.is_ok() {
            drop((&mut client.running).await);
        }
    };
    if timeout(patience, told).await.is_err() {
        tracing::debug!("a client did not wait to be told why its connection ends");
    }
}

//! One channel: what it asks for is judged, then runs on the server, and what is said either way passes
//! until both have ended.

pub(super) mod arrive;
mod keep;
mod pass;
mod thin;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelMsg, ChannelOpenFailure, ChannelWriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::keep::Kept;
use self::pass::{Passage, Passes};
use super::facts::{self, Asked, Common};
use super::inject::arrivals::{Expected, Place};
use super::inject::backlog::Messages;
use super::inject::lanes::{Halves, Lane, Lanes};
use super::refuse;
use super::server::heard::Heard;
use super::server::queue::Queue;
use super::server::{Event, Opened, Purpose, Screen, Terminal, answers};
use crate::clock::{self, BootTime};
use crate::masking::detect::Detectors;
use crate::policy::{Action, Permit, Resource};
use crate::session::{
    Authorized, Gate as _, Hold, Outcome, Phase, RequestId, Said, Session, Shown,
};

/// The extended data that is standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;
/// Variables of one channel.
const VARIABLES: usize = 64;
/// What a command "exits" with that could not be begun, as `ssh` itself would say it.
const FAILED: u32 = 255;
/// How long a server may take to say whether it gives a terminal.
const PATIENCE: Duration = Duration::from_secs(8);
/// Times that a channel may ask to reach the client's side.
const FORWARDS: usize = 4;

/// What all channels of one connection share.
pub(super) struct Shared {
    pub(super) session: Arc<Session>,
    pub(super) lanes: Lanes,
    pub(super) user: String,
    /// Bytes of each direction that are recorded of what is no terminal.
    pub(super) recorded: usize,
    pub(super) handle: Handle,
    pub(super) detectors: Option<Arc<Detectors>>,
    /// Whether nothing goes to the client in which they do not look.
    pub(super) searches: bool,
    pub(super) heard: Arc<Heard>,
    /// Where the server listens for the client.
    pub(super) listening: Mutex<Vec<(Place, CancellationToken)>>,
    /// Channels so far: each has a number in the recording.
    pub(super) channels: AtomicU32,
}

impl Shared {
    /// What is the same in all that is asked.
    fn common(&self) -> Common {
        Common {
            user: self.user.clone(),
            pty: false,
            searches: self.searches,
        }
    }
}

/// A channel at work.
pub(super) struct Channel {
    shared: Arc<Shared>,
    id: ChannelId,
    out: ChannelWriteHalf<Msg>,
    events: Events,
    gone: CancellationToken,
    common: Common,
    terminal: Option<Terminal>,
    variables: Vec<(String, String)>,
    forwards: usize,
    /// What was permitted to reach the client's side while it runs.
    agent: Option<RequestId>,
    screen: Option<(RequestId, Screen)>,
    kept: Kept,
    /// Whether the client may be told anything on it.
    is_open: bool,
}

/// What the client says; what is left unheard at the end waits no longer.
struct Events(Arc<Queue>);

impl Events {
    async fn next(&self) -> Event {
        self.0.next().await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What is to run.
enum Start {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

/// The client, or the server, is not there any more.
struct Gone;

impl<E: std::error::Error> From<E> for Gone {
    fn from(_error: E) -> Self {
        Self
    }
}

/// Serves a channel that the client opens, to its end.
pub(super) async fn serve(shared: Arc<Shared>, opened: Opened) {
    let Opened {
        purpose,
        id,
        out,
        reply,
        events,
        gone,
    } = opened;
    let mut channel = Channel {
        id,
        out,
        events: Events(events),
        gone,
        common: shared.common(),
        terminal: None,
        variables: Vec::new(),
        forwards: 0,
        agent: None,
        screen: None,
        kept: Kept::new(
            shared.channels.fetch_add(1, Ordering::Relaxed),
            shared.recorded,
        ),
        is_open: false,
        shared,
    };
    match purpose {
        Purpose::Session => {
            reply.accept().await;
            channel.is_open = true;
            if channel.session().await.is_err() {
                tracing::debug!("a channel ended with its client or its server");
            }
            drop(channel.out.close().await);
        }
        purpose => match channel.reach(purpose).await {
            Err(why) => reply.reject(why).await,
            Ok((mut lane, authorized, halves)) => {
                reply.accept().await;
                channel.is_open = true;
                let (_, lives) = lane.parts();
                let is_closed = tokio::select! {
                    is_closed = channel.carry(authorized, halves) => is_closed,
                    never = lives => match never {},
                };
                if is_closed {
                    channel.shared.lanes.give_back(lane);
                }
                drop(channel.out.close().await);
            }
        },
    }
}

impl Channel {
    /// A channel that runs something.
    async fn session(&mut self) -> Result<(), Gone> {
        let start = loop {
            match self.events.next().await {
                Event::Terminal(terminal) => {
                    self.common.pty = true;
                    self.terminal = Some(terminal);
                }
                Event::Variable(name, value) if self.variables.len() < VARIABLES => {
                    self.variables.push((name, value));
                }
                Event::Resize(size) => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.size = size;
                    }
                }
                Event::Agent(reply) => {
                    let permitted = self.forwards(Action::ForwardAgent, "forward agent").await;
                    self.agent = self.agent.or(permitted);
                    answers(reply, permitted.is_some());
                }
                Event::Screen(screen, reply) => {
                    let permitted = self.forwards(Action::ForwardX11, "forward X11").await;
                    answers(reply, permitted.is_some());
                    self.screen = permitted
                        .map(|request| (request, screen))
                        .or_else(|| self.screen.take());
                }
                Event::Shell => break Start::Shell,
                Event::Exec(command) => break Start::Exec(command),
                Event::Subsystem(name) => break Start::Subsystem(name),
                Event::Close => return Err(Gone),
                Event::Variable(..) | Event::Signal(_) => {}
                // Nothing runs that could have it.
                Event::Data(_) | Event::Eof => return Err(Gone),
            }
        };
        let asked = match &start {
            Start::Shell => self.common.shell(),
            Start::Exec(command) => self.common.exec(command),
            Start::Subsystem(name) => self.common.subsystem(name),
        };
        let shared = Arc::clone(&self.shared);
        let terminal = self.terminal.as_ref();
        self.kept.starts(&shared, &start, terminal).await?;
        let since = clock::boot();
        let begun = self.begin(&asked, start).await;
        let screen = self.screen.take().map(|(request, _)| request);
        for request in self.agent.take().into_iter().chain(screen) {
            self.finish(request, since, "ok".to_owned(), 0);
        }
        begun.and(self.kept.closed(&shared).await)
    }

    /// Runs what was asked for, where it is permitted.
    async fn begin(&mut self, asked: &Asked, start: Start) -> Result<(), Gone> {
        let Some(authorized) = self.authorize(asked).await? else {
            return self.exit(refuse::EXIT).await;
        };
        let request = authorized.request;
        let begun = clock::boot();
        let run = self.run(authorized.permit, start, request, begun).await;
        if run.is_err() {
            self.finish(request, begun, "lost".to_owned(), 0);
        }
        run
    }

    /// Runs on the server what was permitted.
    async fn run(
        &mut self,
        permit: Permit,
        start: Start,
        request: RequestId,
        begun: BootTime,
    ) -> Result<(), Gone> {
        let passes = match &start {
            Start::Subsystem(name) if name == "sftp" => Passes::Files,
            Start::Exec(command) if facts::carries_files(command) => Passes::Copy,
            _ => Passes::Command,
        };
        let opened = match self.shared.lanes.lane(&self.shared.session).await {
            Ok(lane) => {
                lane.arrivals.expect(Expected {
                    agent: self.agent.is_some(),
                    screen: self.screen.is_some(),
                    listens: None,
                });
                let opened = begin(permit, &lane, self, start).await;
                let opened = opened.map(|halves| (lane, halves));
                opened.map_err(str::to_owned)
            }
            Err((refusal, cause)) => {
                let cause = cause.unwrap_or_default();
                tracing::warn!(%cause, "cannot log in upstream for another channel");
                Err(refusal.message)
            }
        };
        let (mut lane, (read, write)) = match opened {
            Ok(opened) => opened,
            Err(message) => {
                self.finish(request, begun, "not begun".to_owned(), 0);
                self.tell(&format!("ERROR:  {message}\n")).await?;
                return self.exit(FAILED).await;
            }
        };
        let shared = Arc::clone(&self.shared);
        let (arrivals, lives) = lane.parts();
        let ended = tokio::select! {
            ended = Passage::new(self, passes).run(read, write) => ended,
            never = arrive::serve(&shared, arrivals) => match never {},
            never = lives => match never {},
        };
        if ended.is_closed {
            self.shared.lanes.give_back(lane);
        }
        let outcome = Outcome {
            bytes: ended.bytes,
            took: clock::boot().since(begun),
            status: ended.status,
            found: ended.found,
            ..Outcome::default()
        };
        self.shared.session.finish(request, &outcome);
        Ok(())
    }

    /// Whether something is permitted; the client has been told where it is not. Waits for people where
    /// policy leaves it to them.
    async fn authorize(&self, asked: &Asked) -> Result<Option<Authorized>, Gone> {
        match self.judge(asked).await? {
            Ok(authorized) => Ok(Some(authorized)),
            Err(refused) => {
                self.tell(&refuse::refused(&refused)).await?;
                Ok(None)
            }
        }
    }

    async fn judge(
        &self,
        asked: &Asked,
    ) -> Result<Result<Authorized, crate::session::Refused>, Gone> {
        let hold = Hold::default();
        let set = self.variables.iter();
        let set = set.map(|(name, value)| format!("{name}={value}"));
        let shown = Shown {
            under: asked.under().into_iter().chain(set).collect(),
            ..Shown::default()
        };
        let said = Said::alone(&asked.text, Ok(&shown), &hold);
        let session = &self.shared.session;
        let mut judged = pin!(session.authorize(Phase::Execute, said, &asked.reading));
        let (mut waits, mut gone) = (false, false);
        loop {
            tokio::select! {
                judged = &mut judged => {
                    if let (Ok(authorized), false) = (&judged, gone) {
                        let request = authorized.request;
                        self.kept.permitted(&self.shared, request).await?;
                    }
                    return match gone {
                        true => Err(Gone),
                        false => Ok(judged),
                    };
                }
                approval = hold.begun(), if !waits => {
                    waits = true;
                    self.tell(&refuse::waits(approval)).await?;
                }
                () = self.gone.cancelled(), if !gone => {
                    gone = true;
                    hold.give_up();
                }
            }
        }
    }

    /// Whether something of the client's side may be reached while this channel runs. People are not waited
    /// for: the client waits for the answer, and for nothing else.
    async fn forwards(&mut self, action: Action, said: &str) -> Option<RequestId> {
        self.forwards = self.forwards.saturating_add(1);
        if self.forwards > FORWARDS {
            return None;
        }
        let asked = self.common.forward(action, Resource::Target, said);
        let authorized = arrive::at_once(&self.shared, &asked).await?;
        Some(authorized.request)
    }

    /// Opens a way to where the client wants to reach.
    async fn reach(
        &self,
        purpose: Purpose,
    ) -> Result<(Lane, Authorized, Halves), ChannelOpenFailure> {
        let (resource, said) = match &purpose {
            Purpose::Session => return Err(ChannelOpenFailure::UnknownChannelType),
            Purpose::Tcp {
                to: (host, port), ..
            } => {
                let resource = Resource::Forward {
                    host: facts::host(host),
                    port: *port,
                };
                (resource, format!("forward to {host}:{port}"))
            }
            Purpose::Socket(path) => {
                let host = facts::socket(path).ok_or(ChannelOpenFailure::ConnectFailed)?;
                let said = format!("forward to {host}");
                (Resource::Forward { host, port: 0 }, said)
            }
        };
        let asked = self.common.forward(Action::ForwardTo, resource, &said);
        let kept = self.kept.carries(&self.shared, said).await;
        kept.map_err(|Gone| ChannelOpenFailure::ConnectFailed)?;
        let no = ChannelOpenFailure::AdministrativelyProhibited;
        let Ok(Ok(authorized)) = self.judge(&asked).await else {
            return Err(no);
        };
        let begun = clock::boot();
        let not_begun = || {
            self.finish(authorized.request, begun, "not begun".to_owned(), 0);
            ChannelOpenFailure::ConnectFailed
        };
        let lane = self.shared.lanes.lane(&self.shared.session).await;
        let lane = lane.map_err(|_no| not_begun())?;
        let opened = match purpose {
            Purpose::Tcp { to, from } => {
                let opened = lane
                    .handle
                    .channel_open_direct_tcpip(to.0, to.1, from.0, from.1);
                opened.await
            }
            Purpose::Socket(path) => lane.handle.channel_open_direct_streamlocal(path).await,
            Purpose::Session => return Err(no),
        };
        let opened = opened.map_err(|_error| not_begun())?;
        let halves = lane.halves(opened);
        Ok((lane, authorized, halves))
    }

    /// Carries a forward; whether the server has closed it.
    async fn carry(&mut self, authorized: Authorized, (read, write): Halves) -> bool {
        let begun = clock::boot();
        let request = authorized.request;
        // The way was opened on the strength of this permit.
        drop(authorized.permit);
        let ended = Passage::new(self, Passes::Forward).run(read, write).await;
        self.finish(request, begun, "ok".to_owned(), ended.bytes);
        if self.kept.closed(&self.shared).await.is_err() {
            tracing::debug!("the end of a forward was not recorded");
        }
        ended.is_closed
    }

    fn finish(&self, request: RequestId, begun: BootTime, status: String, bytes: u64) {
        let outcome = Outcome {
            bytes,
            took: clock::boot().since(begun),
            status,
            ..Outcome::default()
        };
        self.shared.session.finish(request, &outcome);
    }

    /// Says something to the people behind the client.
    async fn tell(&self, text: &str) -> Result<(), Gone> {
        if !self.is_open {
            return Ok(());
        }
        let text = match self.common.pty {
            true => text.replace('\n', "\r\n"),
            false => text.to_owned(),
        };
        let text = Bytes::from(text);
        self.kept.shown(&self.shared, text.clone(), true).await?;
        let told = self.out.extended_data_bytes(STDERR, text);
        tokio::select! {
            told = told => told.map_err(Gone::from),
            () = self.gone.cancelled() => Err(Gone),
        }
    }

    /// Ends what never ran.
    async fn exit(&self, status: u32) -> Result<(), Gone> {
        self.kept.exited(status);
        self.out.exit_status(status).await?;
        self.out.eof().await?;
        Ok(())
    }

    /// What an operation on files asks.
    fn files(
        &self,
        operation: &'static str,
        said: &str,
        on: BTreeSet<crate::policy::Access>,
    ) -> Asked {
        self.common.files(operation, said, on)
    }
}

/// Begins on the server what was permitted; the only place where anything begins there.
async fn begin(
    permit: Permit,
    lane: &Lane,
    channel: &Channel,
    start: Start,
) -> Result<Halves, &'static str> {
    // It was judged for this, and is used up by it.
    drop(permit);
    let no = |_error| "the server does not run it";
    let opened = lane.handle.channel_open_session().await.map_err(no)?;
    let (mut read, write) = lane.halves(opened);
    for (name, value) in &channel.variables {
        let set = write.set_env(false, name.as_str(), value.as_str());
        set.await.map_err(no)?;
    }
    if let Some(terminal) = &channel.terminal {
        let [columns, rows, width, height] = terminal.size;
        let (name, modes) = (terminal.name.as_str(), terminal.modes.as_slice());
        let asked = write.request_pty(true, name, columns, rows, width, height, modes);
        asked.await.map_err(no)?;
        // The client believes that it has one, and draws and types accordingly.
        if !is_given(&mut read).await {
            return Err("the server gives no terminal; ask for none (`ssh -T`)");
        }
    }
    if let Some((_, screen)) = &channel.screen {
        let (protocol, cookie) = (screen.protocol.as_str(), screen.cookie.as_str());
        let asked = write.request_x11(true, screen.once, protocol, cookie, screen.number);
        asked.await.map_err(no)?;
        if !is_given(&mut read).await {
            let told = channel.tell("NOTICE:  the server does not forward X11\n");
            told.await.map_err(|Gone| "the client is gone")?;
        }
    }
    if channel.agent.is_some() {
        write.agent_forward(false).await.map_err(no)?;
    }
    let begun = match start {
        Start::Shell => write.request_shell(true).await,
        Start::Exec(command) => write.exec(true, command).await,
        Start::Subsystem(name) => write.request_subsystem(true, name).await,
    };
    begun.map_err(no)?;
    Ok((read, write))
}

/// Whether a server gives what it was asked for just now.
async fn is_given(read: &mut Messages) -> bool {
    let answered = timeout(PATIENCE, async {
        loop {
            match read.next().await {
                Some(ChannelMsg::Success) => return true,
                Some(ChannelMsg::Failure | ChannelMsg::Close) | None => return false,
                Some(_) => {}
            }
        }
    });
    answered.await.unwrap_or(false)
}

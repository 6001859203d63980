//! The face towards the client: whoever the kernel says it is, is in; everything else is handed to the
//! task of its channel. Nothing here waits but what has to answer in its turn: whether something is forwarded.

pub(super) mod heard;
pub(super) mod pressure;
pub(super) mod queue;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::heard::Heard;
use self::pressure::{EVENT, Pressure};
use self::queue::Queue;
use super::facts;
use super::inject::arrivals::Place;
use crate::config::Ssh;

/// How long a client waits to hear whether something is forwarded. Nothing else of it is heard meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Passwords of one client that are reported.
const PRESENTED: usize = 3;

/// Bytes of a variable.
const VARIABLE: usize = 4 << 10;
/// Bytes of the name of a terminal, or of a subsystem.
const NAME: usize = 256;
/// Modes of a terminal (RFC 4254, 8 has fewer).
const MODES: usize = 256;

/// Whether a name has what no name has.
fn is_odd(name: &str) -> bool {
    name.chars().any(char::is_control)
}

/// Whether it is a word: servers hand it on to a program that has verbs of its own.
fn is_word(text: &str) -> bool {
    let is_of_words = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= NAME && text.bytes().all(is_of_words)
}

/// Whether a port is one to every server: some have no room for more.
fn is_port(port: u32) -> bool {
    u16::try_from(port).is_ok()
}

/// What is said of a place that servers read differently.
const UNREAD: ChannelOpenFailure = ChannelOpenFailure::AdministrativelyProhibited;

/// Who came in, and with what.
#[derive(Debug, Default)]
pub(super) struct Entered {
    /// The login that it asked for.
    pub(super) user: String,
    /// Passwords that it showed; they are used for nothing.
    pub(super) presented: Vec<Zeroizing<String>>,
}

/// What a client says on a channel.
#[derive(Debug)]
pub(super) enum Event {
    Terminal(Terminal),
    Variable(String, String),
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
    Resize([u32; 4]),
    Signal(Sig),
    /// The client's ssh-agent is to be reachable; the reply says whether it is.
    Agent(oneshot::Sender<bool>),
    /// Its screen.
    Screen(Screen, oneshot::Sender<bool>),
    Data(BytesMut),
    Eof,
    Close,
}

impl Event {
    /// What it counts for while it waits.
    pub(super) fn weight(&self) -> usize {
        let held = match self {
            Self::Data(data) => data.len(),
            Self::Exec(command) => command.len(),
            Self::Variable(name, value) => name.len().saturating_add(value.len()),
            Self::Subsystem(name) => name.len(),
            Self::Terminal(terminal) => terminal.modes.len().saturating_mul(8),
            _ => 0,
        };
        held.saturating_add(EVENT)
    }
}

/// A terminal that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    pub(super) name: String,
    pub(super) size: [u32; 4],
    pub(super) modes: Vec<(Pty, u32)>,
}

/// A client's screen (X11).
#[derive(Clone, Debug)]
pub(super) struct Screen {
    pub(super) once: bool,
    pub(super) protocol: String,
    pub(super) cookie: String,
    pub(super) number: u32,
}

/// What a client asks of no channel.
#[derive(Debug)]
pub(super) enum Global {
    /// That the server listens; the reply has the port.
    Listen(Place, oneshot::Sender<u32>),
    /// That it does no longer.
    Unlisten(Place, oneshot::Sender<()>),
}

/// Answers a client that waits; whether it still does.
pub(super) fn answers<T>(reply: oneshot::Sender<T>, answer: T) -> bool {
    let waits = reply.send(answer).is_ok();
    if !waits {
        tracing::debug!("a client did not wait to hear whether something is forwarded");
    }
    waits
}

/// What a channel is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Session,
    /// To a host and port.
    Tcp {
        to: (String, u32),
        from: (String, u32),
    },
    /// To a socket.
    Socket(String),
}

/// A channel that a client wants to open.
pub(super) struct Opened {
    pub(super) purpose: Purpose,
    pub(super) id: ChannelId,
    pub(super) out: ChannelWriteHalf<Msg>,
    pub(super) reply: ChannelOpenHandle,
    pub(super) events: Arc<Queue>,
    /// The client has closed it.
    pub(super) gone: CancellationToken,
}

/// One client.
pub(super) struct Face {
    pub(super) settings: Arc<Ssh>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) heard: Arc<Heard>,
    pub(super) global: mpsc::Sender<Global>,
    pub(super) entered: Entered,
    pub(super) entry: Option<oneshot::Sender<(Entered, Handle)>>,
    pub(super) opened: mpsc::Sender<Opened>,
}

impl Face {
    fn enter(&mut self, user: &str) -> Result<Auth, russh::Error> {
        if is_odd(user) || user.len() > NAME {
            return Ok(Auth::reject());
        }
        user.clone_into(&mut self.entered.user);
        Ok(Auth::Accept)
    }

    fn say(&self, channel: ChannelId, event: Event) -> Result<(), russh::Error> {
        let Some(events) = self.heard.of(channel) else {
            return Ok(());
        };
        if !events.say(event) {
            tracing::warn!("a client sent more than its windows allow");
            return Err(russh::Error::Disconnect);
        }
        Ok(())
    }

    /// Waits for an answer, which whoever is asked gives soon, or not at all.
    async fn answer<T>(answered: oneshot::Receiver<T>) -> Option<T> {
        timeout(PATIENCE, answered).await.ok()?.ok()
    }

    async fn listen(&self, place: Place) -> Option<u32> {
        let (reply, answered) = oneshot::channel();
        self.global.try_send(Global::Listen(place, reply)).ok()?;
        Self::answer(answered).await
    }

    async fn unlisten(&self, place: Place) -> Option<()> {
        let (reply, answered) = oneshot::channel();
        self.global.try_send(Global::Unlisten(place, reply)).ok()?;
        Self::answer(answered).await
    }

    async fn open(&self, channel: Channel<Msg>, purpose: Purpose, reply: ChannelOpenHandle) {
        let id = channel.id();
        let (_, out) = channel.split();
        let Some((events, gone)) = self.heard.listen(id) else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        let opened = Opened {
            purpose,
            id,
            out,
            reply,
            events,
            gone,
        };
        if let Err(
            mpsc::error::TrySendError::Full(opened) | mpsc::error::TrySendError::Closed(opened),
        ) = self.opened.try_send(opened)
        {
            self.heard.closes(id);
            opened
                .reply
                .reject(ChannelOpenFailure::ResourceShortage)
                .await;
        }
    }
}

impl Handler for Face {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.enter(user)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        if self.entered.presented.len() < PRESENTED {
            let password = Zeroizing::new(password.to_owned());
            self.entered.presented.push(password);
        }
        self.enter(user)
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.enter(user)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        self.enter(user)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.enter(user)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Some(entry) = self.entry.take() {
            let entered = std::mem::take(&mut self.entered);
            drop(entry.send((entered, session.handle())));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.open(channel, Purpose::Session, reply).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let is_plain = facts::is_host(host) && !is_odd(from) && from.len() <= NAME;
        if !is_plain || !is_port(port) {
            reply.reject(UNREAD).await;
            return Ok(());
        }
        let purpose = Purpose::Tcp {
            to: (host.to_owned(), port),
            from: (from.to_owned(), from_port),
        };
        self.open(channel, purpose, reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if facts::socket(path).is_none() {
            reply.reject(UNREAD).await;
            return Ok(());
        }
        let purpose = Purpose::Socket(path.to_owned());
        self.open(channel, purpose, reply).await;
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Data(BytesMut::from(data)))
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.pressure.window()
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Eof)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Close)?;
        self.heard.closes(channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if is_odd(term) || term.len() > NAME || modes.len() > MODES {
            return session.channel_failure(channel);
        }
        let terminal = Terminal {
            name: term.to_owned(),
            size: [columns, rows, width, height],
            modes: modes.to_vec(),
        };
        self.say(channel, Event::Terminal(terminal))?;
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let is_short = name.len().saturating_add(value.len()) <= VARIABLE;
        let is_plain = !is_odd(name) && !name.contains('=') && !value.contains('\0');
        if !is_short || !is_plain || !self.settings.passes_on(name) {
            return session.channel_failure(channel);
        }
        let event = Event::Variable(name.to_owned(), value.to_owned());
        self.say(channel, event)?;
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Shell)?;
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Exec(command.to_vec()))?;
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // What ends with a zero, or draws, is another name to some servers, and to whoever reads of it.
        if is_odd(name) || name.len() > NAME {
            return session.channel_failure(channel);
        }
        self.say(channel, Event::Subsystem(name.to_owned()))?;
        session.channel_success(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Resize([columns, rows, width, height]))
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Sig::Custom(name) = &signal
            && (is_odd(name) || name.len() > NAME)
        {
            return Ok(());
        }
        self.say(channel, Event::Signal(signal))
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        once: bool,
        protocol: &str,
        cookie: &str,
        number: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let is_plain = [protocol, cookie].into_iter().all(is_word);
        let screen = Screen {
            once,
            protocol: protocol.to_owned(),
            cookie: cookie.to_owned(),
            number,
        };
        let (reply, answered) = oneshot::channel();
        if is_plain {
            self.say(channel, Event::Screen(screen, reply))?;
        }
        match is_plain && Self::answer(answered).await == Some(true) {
            true => session.channel_success(channel),
            false => session.channel_failure(channel),
        }
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let (reply, answered) = oneshot::channel();
        self.say(channel, Event::Agent(reply))?;
        Ok(Self::answer(answered).await == Some(true))
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet: u32,
        _window: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // What is said from here on is heard, also before whoever asked for it looks. Where there are too
        // many, whoever asked closes it.
        drop(self.heard.listen(id));
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        if !is_port(*port) || !facts::is_host(address) {
            return Ok(false);
        }
        let bound = self.listen(Place::Tcp(address.to_owned(), *port)).await;
        *port = bound.unwrap_or(*port);
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let place = Place::Tcp(address.to_owned(), port);
        Ok(self.unlisten(place).await.is_some())
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        if facts::socket(path).is_none() {
            return Ok(false);
        }
        let bound = self.listen(Place::Socket(path.to_owned())).await;
        Ok(bound.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let place = Place::Socket(path.to_owned());
        Ok(self.unlisten(place).await.is_some())
    }
}

//! The face towards the client: whoever the kernel says it is, is in; everything else is handed to the
//! task of its channel. Nothing here waits: what it cannot say at once, the channel says.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::CHANNELS;
use super::pressure::{EVENT, Pressure};
use crate::config::Ssh;

/// Passwords of one client that are reported.
const PRESENTED: usize = 3;

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
    /// Something that is not carried: its action and its name.
    Forward(crate::policy::Action),
    Data(Bytes),
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
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// The client has closed it.
    pub(super) gone: CancellationToken,
}

/// One client.
pub(super) struct Face {
    pub(super) settings: Arc<Ssh>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) entered: Entered,
    pub(super) entry: Option<oneshot::Sender<(Entered, Handle)>>,
    pub(super) opened: mpsc::Sender<Opened>,
    pub(super) channels: HashMap<ChannelId, (mpsc::UnboundedSender<Event>, CancellationToken)>,
}

impl Face {
    fn enter(&mut self, user: &str) -> Result<Auth, russh::Error> {
        user.clone_into(&mut self.entered.user);
        Ok(Auth::Accept)
    }

    fn say(&mut self, channel: ChannelId, event: Event) -> Result<(), russh::Error> {
        let Some((events, _)) = self.channels.get(&channel) else {
            return Ok(());
        };
        let weight = event.weight();
        if !self.pressure.add(weight) {
            tracing::warn!("a client sent more than its windows allow");
            return Err(russh::Error::Disconnect);
        }
        if events.send(event).is_err() {
            self.pressure.remove(weight);
        }
        Ok(())
    }

    async fn open(&mut self, channel: Channel<Msg>, purpose: Purpose, reply: ChannelOpenHandle) {
        self.channels.retain(|_, (events, _)| !events.is_closed());
        let id = channel.id();
        let (_, out) = channel.split();
        let (say, events) = mpsc::unbounded_channel();
        let gone = CancellationToken::new();
        if self.channels.len() >= CHANNELS {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        self.channels.insert(id, (say, gone.clone()));
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
            self.channels.remove(&id);
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
        self.say(channel, Event::Data(Bytes::copy_from_slice(data)))
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
        if let Some((_, gone)) = self.channels.remove(&channel) {
            gone.cancel();
        }
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
        if !self.settings.passes_on(name) {
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
        self.say(channel, Event::Signal(signal))
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.say(channel, Event::Forward(crate::policy::Action::ForwardX11))?;
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.say(channel, Event::Forward(crate::policy::Action::ForwardAgent))?;
        Ok(false)
    }
}

//! The channels of one client that somebody listens to, whoever opened them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio_util::sync::CancellationToken;

use super::pressure::Pressure;
use super::queue::Queue;
use crate::protocol::ssh::CHANNELS;

/// What a channel says, and that its client has closed it.
pub(in crate::protocol::ssh) type Ear = (Arc<Queue>, CancellationToken);

/// All of one client.
#[derive(Debug)]
pub(in crate::protocol::ssh) struct Heard {
    pressure: Arc<Pressure>,
    channels: Mutex<HashMap<ChannelId, Ear>>,
}

impl Heard {
    pub(in crate::protocol::ssh) fn new(pressure: &Arc<Pressure>) -> Arc<Self> {
        Arc::new(Self {
            pressure: Arc::clone(pressure),
            channels: Mutex::default(),
        })
    }

    /// Listens to a channel; `None` where there are too many.
    pub(in crate::protocol::ssh) fn listen(&self, id: ChannelId) -> Option<Ear> {
        let mut channels = self.lock();
        channels.retain(|_, (events, _)| !events.is_closed());
        if let Some((events, gone)) = channels.get(&id) {
            return Some((Arc::clone(events), gone.clone()));
        }
        if channels.len() >= CHANNELS {
            return None;
        }
        let ear = (Queue::new(&self.pressure), CancellationToken::new());
        channels.insert(id, (Arc::clone(&ear.0), ear.1.clone()));
        Some(ear)
    }

    /// A channel's ear.
    pub(super) fn of(&self, id: ChannelId) -> Option<Arc<Queue>> {
        self.lock().get(&id).map(|(events, _)| Arc::clone(events))
    }

    /// A channel is closed.
    pub(super) fn closes(&self, id: ChannelId) {
        if let Some((_, gone)) = self.lock().remove(&id) {
            gone.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Ear>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

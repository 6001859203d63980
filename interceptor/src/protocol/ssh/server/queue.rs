//! What a client has said on one channel and nobody has heard yet. Small data that waits is put together:
//! what it takes is what it holds. How much may wait is [`Pressure`]'s to say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Event;
use super::pressure::Pressure;

/// Bytes up to which data is put together.
const PUT_TOGETHER: usize = 64 << 10;

/// One channel's.
#[derive(Debug)]
pub(in crate::protocol::ssh) struct Queue {
    waiting: Mutex<Waiting>,
    said: Notify,
    pressure: Arc<Pressure>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    is_closed: bool,
}

impl Queue {
    pub(in crate::protocol::ssh) fn new(pressure: &Arc<Pressure>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            said: Notify::new(),
            pressure: Arc::clone(pressure),
        })
    }

    /// Says something; `false` where the client has said more than it may.
    pub(in crate::protocol::ssh) fn say(&self, event: Event) -> bool {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return true;
        }
        if let (Event::Data(more), Some(Event::Data(last))) = (&event, waiting.events.back_mut())
            && last.len().saturating_add(more.len()) <= PUT_TOGETHER
        {
            last.extend_from_slice(more);
            return self.pressure.add(more.len());
        }
        let is_within = self.pressure.add(event.weight());
        waiting.events.push_back(event);
        drop(waiting);
        self.said.notify_one();
        is_within
    }

    /// What was said next.
    pub(in crate::protocol::ssh) async fn next(&self) -> Event {
        loop {
            let next = self.lock().events.pop_front();
            if let Some(event) = next {
                self.pressure.remove(event.weight());
                return event;
            }
            self.said.notified().await;
        }
    }

    /// Whether nobody listens any more.
    pub(in crate::protocol::ssh) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Nobody listens any more: what waits is let go.
    pub(in crate::protocol::ssh) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        for event in waiting.events.drain(..) {
            self.pressure.remove(event.weight());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

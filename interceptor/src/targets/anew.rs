//! Look-ups of the targets' names out of turn: whoever has found nobody at any address asks for one, and waits
//! for it.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::PATIENCE;
use crate::clock::{self, BootTime};

/// Nobody is asked again within so long, however many sessions fail.
const FRESH: Duration = Duration::from_secs(1);

/// Who wants names looked up, and when that was done last.
#[derive(Debug)]
pub struct Anew {
    wanted: Notify,
    done: watch::Sender<BootTime>,
}

impl Default for Anew {
    fn default() -> Self {
        Self {
            wanted: Notify::new(),
            done: watch::Sender::new(BootTime(0)),
        }
    }
}

impl Anew {
    /// Has the names looked up, and waits until they were, or cannot be; a look-up of a moment ago is as good.
    pub async fn want(&self) {
        let mut done = self.done.subscribe();
        if is_fresh(*done.borrow_and_update()) {
            return;
        }
        self.wanted.notify_one();
        // A little more than the look-ups may take.
        if timeout(PATIENCE + FRESH, done.changed()).await.is_err() {
            tracing::warn!("the targets' names were not looked up again in time");
        }
    }

    /// Comes back when somebody wants a look-up, and there was none a moment ago.
    pub async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            if !is_fresh(*self.done.borrow()) {
                return;
            }
        }
    }

    /// The names were looked up, and what was found is in force.
    pub fn done(&self) {
        self.done.send_replace(clock::boot());
    }
}

fn is_fresh(done: BootTime) -> bool {
    done != BootTime(0) && clock::boot().since(done) < FRESH
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_who_want_names_looked_up_wait_for_one_look_up() {
        let anew = Arc::new(Anew::default());
        let wants: Vec<_> = (0..10)
            .map(|_| {
                let anew = Arc::clone(&anew);
                tokio::spawn(async move { anew.want().await })
            })
            .collect();
        anew.wanted().await;
        tokio::task::yield_now().await;
        assert!(wants.iter().all(|want| !want.is_finished()));
        anew.done();
        for want in wants {
            want.await.unwrap();
        }
        // Those who come now have what was found, and nobody is asked again for them.
        anew.want().await;
        let again = timeout(Duration::from_millis(50), anew.wanted()).await;
        assert!(again.is_err(), "it was looked up again at once");
    }
}

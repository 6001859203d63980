//! A listener in front of a real server that counts what reaches it: the witness of "not one byte".

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;

use crate::{DEADLINE, wait};

/// A counting relay to one server. Closed when dropped; what is relayed then, ends.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Who was accepted, in the order of arrival.
    accepted: Mutex<Vec<SocketAddr>>,
    bytes: AtomicU64,
    open: AtomicU64,
    closed: AtomicBool,
}

impl Tap {
    /// Listens on a free port of 127.0.0.1 and relays to `server`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn before(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("bind a tap")?;
        let address = listener.local_addr().context("read a tap's address")?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            while let Ok((client, from)) = listener.accept() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                // Open before it is known, so that nobody finds it known and over too early.
                shared.open.fetch_add(2, Ordering::SeqCst);
                shared.accepted().push(from);
                relay(client, server, &shared);
            }
        });
        Ok(Self { address, counts })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that reached it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.accepted().len()
    }

    /// Bytes that came for the server.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }

    /// Waits until all that had come by now, accepted or still in the listener's queue, is over.
    /// A connection of its own, which counts as one, is the last of the queue.
    ///
    /// # Errors
    /// When something is still relayed at the deadline of tests.
    pub fn settle(&self) -> anyhow::Result<()> {
        let last = TcpStream::connect(self.address).context("connect to a tap")?;
        let from = last.local_addr().context("read an address")?;
        drop(last);
        wait::for_fact("the end of what a tap relays", DEADLINE, || {
            let arrived = self.counts.accepted().contains(&from);
            Ok((arrived && self.counts.open.load(Ordering::SeqCst) == 0).then_some(()))
        })
    }
}

impl Counts {
    fn accepted(&self) -> std::sync::MutexGuard<'_, Vec<SocketAddr>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One direction of a connection is over.
    fn end(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.counts.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

fn relay(client: TcpStream, server: SocketAddr, counts: &Arc<Counts>) {
    let halves = TcpStream::connect(server)
        .and_then(|upstream| Ok((client.try_clone()?, upstream.try_clone()?, upstream)));
    let Ok((client_too, upstream_too, upstream)) = halves else {
        counts.end();
        counts.end();
        return;
    };
    let (up, down) = (Arc::clone(counts), Arc::clone(counts));
    thread::spawn(move || {
        copy(client, upstream, Some(&up.bytes));
        up.end();
    });
    thread::spawn(move || {
        copy(upstream_too, client_too, None);
        down.end();
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: Option<&AtomicU64>) {
    let mut buffer = [0_u8; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(count) = count {
            count.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::SeqCst);
        }
        if to
            .write_all(buffer.get(..read).unwrap_or_default())
            .is_err()
        {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}

//! A listener in front of a real server that counts what reaches it: the witness of "not one byte".

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::Context as _;

/// A counting relay to one server. Closed when dropped; what is relayed then, ends.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
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
            while let Ok((client, _)) = listener.accept() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
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
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Bytes that came for the server.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }

    /// Directions of connections that are still relayed: 0 means that nothing more can come.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::SeqCst)
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
    let Ok(upstream) = TcpStream::connect(server) else {
        return;
    };
    let (Ok(client_too), Ok(upstream_too)) = (client.try_clone(), upstream.try_clone()) else {
        return;
    };
    counts.open.fetch_add(2, Ordering::SeqCst);
    let (up, down) = (Arc::clone(counts), Arc::clone(counts));
    thread::spawn(move || {
        copy(client, upstream, Some(&up.bytes));
        up.open.fetch_sub(1, Ordering::SeqCst);
    });
    thread::spawn(move || {
        copy(upstream_too, client_too, None);
        down.open.fetch_sub(1, Ordering::SeqCst);
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

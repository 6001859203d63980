//! Asks a resolver: from a port and with an id and letters that nobody can guess, and believes only what
//! repeats all three.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use hickory_proto::op::Query;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::message::{Answer, Question, Wrong};
use super::reach;
use crate::socket;

/// How long each of the tries by UDP waits.
const TRIES: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(3)];
/// How long TCP may take.
const BY_TCP: Duration = Duration::from_secs(5);
/// Datagrams that are looked at in one try: who floods the port must not keep us reading.
const MOST: usize = 64;

/// Why a resolver gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It did not answer in time.
    #[error("no answer from {0} in time")]
    Silent(SocketAddr),
    /// It could not be asked.
    #[error("ask {0}: {1}")]
    Io(SocketAddr, #[source] io::Error),
    /// What it answers is no answer to what was asked.
    #[error("{0} answers something else")]
    Wrong(SocketAddr),
}

/// Asks one resolver: by UDP, and by TCP where that does not do.
pub(super) async fn ask(resolver: SocketAddr, question: &Question) -> Result<Answer, Error> {
    let io = |error| Error::Io(resolver, error);
    for patience in TRIES {
        let asked = Asked::new(question, true).map_err(io)?;
        match timeout(patience, by_udp(resolver, question, &asked)).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            // Cut off, or by a server that does not repeat letters.
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(io(error)),
            Err(_elapsed) => {}
        }
    }
    let asked = Asked::new(question, false).map_err(io)?;
    let answered = timeout(BY_TCP, by_tcp(resolver, question, &asked)).await;
    answered.map_err(|_elapsed| Error::Silent(resolver))?
}

/// A question as it was sent.
struct Asked {
    bytes: Vec<u8>,
    id: u16,
    query: Query,
}

impl Asked {
    fn new(question: &Question, by_datagram: bool) -> io::Result<Self> {
        let mut id = [0; 2];
        rand::fill(&mut id).map_err(|_none| io::Error::other("no random numbers"))?;
        let id = u16::from_ne_bytes(id);
        let written = question.ask(id, by_datagram);
        let (bytes, query) = written.ok_or_else(|| io::Error::other("it cannot be written"))?;
        Ok(Self { bytes, id, query })
    }

    fn sift(&self, question: &Question, bytes: &[u8]) -> Result<Answer, Wrong> {
        question.sift(bytes, (self.id, &self.query), reach::is_reachable)
    }
}

/// None where TCP must be asked.
async fn by_udp(
    resolver: SocketAddr,
    question: &Question,
    asked: &Asked,
) -> io::Result<Option<Answer>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The kernel chooses a random port, and keeps datagrams of others from a socket that is connected.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&asked.bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    for _ in 0..MOST {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        match asked.sift(question, bytes) {
            Ok(answer) => return Ok(Some(answer)),
            Err(Wrong::Truncated | Wrong::Recased) => return Ok(None),
            Err(Wrong::Strange) => {}
        }
    }
    Ok(None)
}

async fn by_tcp(resolver: SocketAddr, question: &Question, asked: &Asked) -> Result<Answer, Error> {
    let io = |error| Error::Io(resolver, error);
    let dialled = socket::dial(resolver, socket::From::Daemon, BY_TCP).await;
    let mut stream = dialled.map_err(|error| io(io::Error::other(error)))?;
    let length = u16::try_from(asked.bytes.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(&asked.bytes);
    stream.write_all(&bytes).await.map_err(io)?;
    let length = stream.read_u16().await.map_err(io)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(io)?;
    match asked.sift(question, &answer) {
        Ok(answer) => Ok(answer),
        Err(_not_an_answer) => Err(Error::Wrong(resolver)),
    }
}

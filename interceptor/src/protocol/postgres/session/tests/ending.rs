//! What still reaches a client once what its session stood on is gone.

use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::task::coop::poll_proceed;

use super::super::{Doing, EndReason, LAST_WORDS, Shared, Why, complete, ledger_of, pipe, relay};
use super::gate::FakeGate;
use super::rig::{self, Rig};
use crate::policy::GrantId;

const COLUMNS: &[u8] = b"T\0\0\0\x06\0\0";
const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x01x";
/// A row of a gigabyte.
const LONG: &[u8] = b"D\x3f\xff\xff\xff\0\x01\x3f\xff\xff\xf5";

/// In the middle of an answer; the server's side of it.
async fn asked() -> (Rig, DuplexStream) {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against(upstream);
    rig.send("Q rows 3 t").await;
    // What it says before it was asked anything is another case.
    server.read_exact(&mut [0; 1]).await.unwrap();
    server.write_all(COLUMNS).await.unwrap();
    (rig, server)
}

/// Ends the session, and waits for the cancel.
async fn ended(rig: &Rig) {
    let cancel = Arc::clone(&rig.log.lock().unwrap().cancel);
    rig.gate.end.notify_one();
    cancel.notified().await;
}

#[tokio::test]
async fn the_cancel_goes_out_before_anybody_waits_for_the_rest_of_a_message() {
    let start = rig::start(&Arc::default(), &Arc::default());
    let shared = Shared::<FakeGate>::new(ledger_of(&start), Arc::default());
    let sent = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&sent);
    let cancelling: Doing = Box::pin(async move { noted.store(true, Ordering::SeqCst) });
    let why = Why::Ended(EndReason::Killed);
    // Neither the server nor the client ever lets it be whole.
    let (never, mut seen) = (pin!(pending::<Why>()), 0);
    let mut ending = pin!(complete(&shared, &why, never, Some(cancelling)));
    while !sent.load(Ordering::SeqCst) {
        seen += 1;
        assert!(seen < 2, "it waits for something else");
        assert!(pipe::poll_once(ending.as_mut()).await.is_pending());
    }
    // And it comes to an end by itself, with nothing more to cancel.
    ending.await.unwrap().await;
}

#[test]
fn what_is_taken_away_comes_for_no_tenth_of_a_second() {
    let grant = EndReason::Grant(GrantId(uuid::Uuid::nil()));
    let taken = [
        EndReason::Policy,
        grant,
        EndReason::Identity,
        EndReason::Approval,
        EndReason::Killed,
        EndReason::Limit,
        EndReason::Storage,
    ];
    for reason in taken {
        let most = Why::Ended(reason).patience();
        assert!(most < Duration::from_millis(100), "{reason:?}: {most:?}");
    }
    for reason in [EndReason::Drain, EndReason::Idle, EndReason::Statement] {
        assert_eq!(Why::Ended(reason).patience(), LAST_WORDS, "{reason:?}");
    }
}

#[tokio::test]
async fn of_a_message_without_an_end_nothing_comes_any_more_and_no_word_in_it() {
    let (mut rig, mut server) = asked().await;
    server.write_all(LONG).await.unwrap();
    let mut some = [0; COLUMNS.len() + LONG.len()];
    rig.client.read_exact(&mut some).await.unwrap();
    ended(&rig).await;
    let fed = tokio::spawn(async move { while server.write_all(&[b'x'; 64]).await.is_ok() {} });
    let mut rest = Vec::new();
    rig.client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.iter().all(|byte| *byte == b'x'), "a word in a row");
    rig.relay.await.unwrap();
    fed.await.unwrap();
    rig.gate.assert_balanced();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_cancel() {
    let (mut rig, mut server) = asked().await;
    server.write_all(&ROW.repeat(1_000)).await.unwrap();
    // More than the pipe to it takes.
    while rig.gate.received.lock().unwrap().len() < 2 * rig::SLACK {
        tokio::task::yield_now().await;
    }
    ended(&rig).await;
    rig.relay.await.unwrap();
    let mut rest = Vec::new();
    rig.client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= rig::SLACK, "{} bytes", rest.len());
    rig.gate.assert_balanced();
}

/// A peer that always has more to say, and always takes more, as long as the task may go on at all.
struct Hurried {
    says: &'static [u8],
    at: usize,
    /// How often it is read; then it is at its end.
    left: usize,
    /// What waits until something was written.
    waits: Option<Waker>,
    written: bool,
}

impl AsyncRead for Hurried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.written {
            self.waits = Some(context.waker().clone());
            return Poll::Pending;
        }
        let budget = ready!(poll_proceed(context));
        budget.made_progress();
        if self.left > 0 {
            self.left -= 1;
            let byte = self.says[self.at..].len().min(buffer.remaining());
            buffer.put_slice(&self.says[self.at..self.at + byte]);
            self.at += byte;
            if self.at == self.says.len() {
                (self.says, self.at) = (ROW, 0);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Hurried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(context));
        budget.made_progress();
        self.written = true;
        self.waits.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Asks once, and takes whatever comes.
struct Greedy(Option<bytes::Bytes>);

impl AsyncRead for Greedy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.take() {
            Some(bytes) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Greedy {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(context));
        budget.made_progress();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_answer_that_never_waits_for_anybody_hides_no_end() {
    let gate = Arc::new(FakeGate::default());
    let client = Greedy(rig::messages("Q rows 3 t").pop());
    let server = Hurried {
        says: COLUMNS,
        at: 0,
        left: 100_000,
        waits: None,
        written: false,
    };
    let start = rig::start(&Arc::new(Mutex::new(0)), &Arc::default());
    let relay = tokio::spawn(relay(Arc::clone(&gate), client, server, start));
    while gate.received.lock().unwrap().len() < 10 * ROW.len() {
        tokio::task::yield_now().await;
    }
    gate.end.notify_one();
    let end = relay.await.unwrap();
    assert!(
        matches!(end.why, Why::Ended(EndReason::Killed)),
        "{:?}",
        end.why
    );
}

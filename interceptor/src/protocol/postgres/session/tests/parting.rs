//! What comes of the cancel with which a session ends, and what the client hears of it.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::Rig;
use crate::session::Answered;

const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x01x";
const DONE: &[u8] = b"C\0\0\0\x0dSELECT 2\0";
const ROLLED_BACK: &[u8] = b"C\0\0\0\x0dROLLBACK\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const OPEN: &[u8] = b"Z\0\0\0\x05T";
const FAILED: &[u8] = b"Z\0\0\0\x05E";

fn error(state: &str) -> Vec<u8> {
    let mut message = b"E\0\0\0\x12SERROR\0C".to_vec();
    message.extend_from_slice(state.as_bytes());
    message.extend_from_slice(b"\0\0");
    let length = u32::try_from(message.len() - 1).unwrap();
    message[1..5].copy_from_slice(&length.to_be_bytes());
    message
}

/// Ends a session in the middle of an answer; only then the server says `more`. What the client hears after
/// its first row, and what the audit does.
async fn ended_before(more: &[u8], closes: bool) -> (String, Vec<Answered>) {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against(upstream);
    let cancel = Arc::clone(&rig.log.lock().unwrap().cancel);
    rig.send("Q rows 3 t").await;
    // What it says before it was asked anything is another case.
    server.read_exact(&mut [0; 1]).await.unwrap();
    server.write_all(b"T\0\0\0\x06\0\0").await.unwrap();
    server.write_all(ROW).await.unwrap();
    assert_eq!(rig.read_until("D").await, "T D");
    rig.gate.end.notify_one();
    // The end comes before the cancel, and the cancel before all that follows.
    cancel.notified().await;
    server.write_all(more).await.unwrap();
    // It hears that nothing more comes.
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    let kept = (!closes).then_some(server);
    let told = rig.read_until("never").await;
    rig.relay.await.unwrap();
    drop(kept);
    rig.gate.assert_balanced();
    let answered = rig.gate.answered.lock().unwrap().clone();
    (told, answered)
}

#[tokio::test]
async fn what_comes_after_the_end_is_for_the_audit_and_reaches_no_client() {
    let cancelled = error("57014");
    let failed = error("23505");
    let rows: &[(&[&[u8]], Answered)] = &[
        (&[ROW, ROW, &cancelled, READY], Answered::Cancelled),
        (&[ROW, ROW, DONE, READY], Answered::Finished),
        (&[ROW, &failed, READY], Answered::Failed),
        (&[ROW], Answered::Closed),
        (&[], Answered::Closed),
        // A message before it was done, and stays so.
        (&[DONE, READY, &cancelled, READY], Answered::Finished),
        (&[DONE, READY, &failed, READY], Answered::Finished),
        (&[&failed, READY, &cancelled, READY], Answered::Cancelled),
        // But not in a transaction that is left open.
        (&[DONE, OPEN, &cancelled, OPEN], Answered::Cancelled),
        // Another statement of the same batch had run before.
        (&[DONE, &cancelled, READY], Answered::Cancelled),
        // A transaction that has failed is rolled back, whatever its client asked for then: nothing is done by that.
        (
            &[&cancelled, FAILED, ROLLED_BACK, READY],
            Answered::Cancelled,
        ),
        (&[&failed, FAILED, ROLLED_BACK, READY], Answered::Failed),
        (&[b"X\0\0\0\x04", &cancelled, READY], Answered::Silent),
    ];
    for (more, answered) in rows {
        let (told, heard) = ended_before(&more.concat(), true).await;
        assert_eq!(told, "E:57P01", "{more:?}");
        assert_eq!(heard, [*answered], "{more:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_close_may_run_on() {
    for more in [DONE, b""] {
        let (told, heard) = ended_before(more, false).await;
        assert_eq!(told, "E:57P01");
        assert_eq!(heard, [Answered::Silent]);
    }
}

#[tokio::test]
async fn what_is_ended_while_nothing_runs_has_nothing_to_answer() {
    let rig = Rig::new();
    rig.gate.end.notify_one();
    rig.relay.await.unwrap();
    assert!(rig.gate.answered.lock().unwrap().is_empty());
}

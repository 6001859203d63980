//! Peers that break the protocol, servers that go away, and ends that nobody asked for.

use std::pin::pin;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{End, EndReason, Unexpected, Why, pipe};
use super::rig::{self, Rig, exchange};

#[tokio::test]
async fn the_end_of_the_server_reaches_the_client() {
    let (told, end, _, _) = exchange("Q die t|Q insert a").await;
    assert_eq!(told, "E:57P01");
    assert!(
        matches!(&end.why, Why::Fatal(state) if state == "57P01"),
        "{:?}",
        end.why
    );
    let mut rig = Rig::new();
    rig.send("Q crash t").await;
    assert_eq!(rig.read_until("never").await, "");
    let end = rig.relay.await.unwrap();
    assert!(matches!(end.why, Why::Upstream), "{:?}", end.why);
}

#[tokio::test]
async fn the_daemon_ends_a_session_with_a_reason_and_a_cancel() {
    for (script, cancelled) in [("", false), ("Q copyin t", true)] {
        let mut rig = Rig::new();
        rig.send(script).await;
        if cancelled {
            rig.read_until("G").await;
        }
        rig.gate.end.notify_one();
        assert_eq!(rig.read_until("never").await, "E:57P01");
        let end = rig.relay.await.unwrap();
        assert!(matches!(end.why, Why::Ended(EndReason::Killed)));
        assert_eq!(*rig.cancelled.lock().unwrap(), usize::from(cancelled));
        rig.gate.assert_balanced();
    }
}

#[tokio::test]
async fn nothing_is_forwarded_that_cannot_be_recorded() {
    let mut rig = Rig::new();
    rig.gate.full.store(true, Ordering::SeqCst);
    rig.send("Q insert a").await;
    assert_eq!(rig.read_until("never").await, "E:58030");
    let end = rig.relay.await.unwrap();
    assert!(matches!(end.why, Why::Storage(_)));
    rig.server.await.unwrap();
    assert!(rig.log.lock().unwrap().came.is_empty());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_left() {
    let rows: &[&[u8]] = &[
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"S\0\0\x27\x15x",
        b"E\0\0\x27\x15x",
        b"p\0\0\0\x05\0",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"D\0\x01\0\0",
    ];
    for bytes in rows {
        let mut rig = Rig::new();
        rig.client.write_all(bytes).await.unwrap();
        assert_eq!(rig.read_until("never").await, "E:08P01", "{bytes:?}");
        let end = rig.relay.await.unwrap();
        assert!(matches!(end.why, Why::ClientViolation(_)), "{bytes:?}");
        assert!(rig.log.lock().unwrap().came.is_empty(), "{bytes:?}");
    }
}

/// A server that answers `script` with `replies`, whatever came.
async fn hostile(script: &str, replies: &[u8]) -> (String, End) {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against(upstream);
    rig.send(script).await;
    // What it says before it was asked anything is another case.
    let mut some = [0; 1];
    server.read_exact(&mut some).await.unwrap();
    server.write_all(replies).await.unwrap();
    let told = rig.read_until("never").await;
    let end = rig.relay.await.unwrap();
    rig.gate.assert_balanced();
    (told, end)
}

#[tokio::test]
async fn replies_that_do_not_fit_what_is_owed_end_the_session() {
    let rows: &[(&str, &[u8])] = &[
        ("Q insert a", b"1\0\0\0\x04"),
        ("Q insert a", b"2\0\0\0\x04"),
        ("Q insert a", b"V\0\0\0\x08\xff\xff\xff\xff"),
        ("Q insert a", b"G\0\0\0\x07\0\0\0"),
        ("Q insert a", b"W\0\0\0\x07\0\0\0"),
        ("Q insert a", b"R\0\0\0\x08\0\0\0\0"),
        ("Q insert a", b"K\0\0\0\x0c12345678"),
        ("Q insert a", b"Z\0\0\0\x05X"),
        ("Q insert a", b"C\0\0\0\x05x"),
        ("Q insert a", b"x\0\0\0\x04"),
        ("Q insert a", b"D\0\0\0\x03"),
        ("Q insert a", b"D\xff\xff\xff\xff"),
        ("Q insert a", b"E\0\0\0\x05\0E\0\0\0\x05\0"),
        ("Q insert a", b"E\0\0\0\x05\0D\0\0\0\x06\0\0"),
        ("Q insert a", b"Z\0\0\0\x05IZ\0\0\0\x05I"),
        ("P - insert a|S", b"Z\0\0\0\x05I"),
        ("P - insert a|S", b"D\0\0\0\x06\0\0"),
        ("P - insert a|S", b"1\0\0\0\x041\0\0\0\x04"),
        (
            "P - insert a|B - -|E -|S",
            b"1\0\0\0\x042\0\0\0\x04G\0\0\0\x07\0\0\0",
        ),
        ("Q copyin a", b"G\0\0\0\x07\0\0\0D\0\0\0\x06\0\0"),
        ("Q copyin a", b"G\0\0\0\x07\0\0\0Z\0\0\0\x05I"),
        ("S", b"E\0\0\0\x05\0E\0\0\0\x05\0"),
        ("Q stream a", b"G\0\0\0\x07\0\0\0"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0W\0\0\0\x07\0\0\0"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0D\0\0\0\x06\0\0"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0C\0\0\0\x05\0"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0Z\0\0\0\x05I"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0c\0\0\0\x04d\0\0\0\x04"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0c\0\0\0\x04c\0\0\0\x04"),
        ("Q stream a", b"W\0\0\0\x07\0\0\0c\0\0\0\x04C\0\0\0\x05\0"),
        (
            "P - stream a|B - -|E -|S",
            b"1\0\0\0\x042\0\0\0\x04W\0\0\0\x07\0\0\0",
        ),
    ];
    for (script, replies) in rows {
        let (told, end) = hostile(script, replies).await;
        assert!(
            matches!(end.why, Why::UpstreamViolation(_)),
            "{script} {replies:?}: {:?}",
            end.why
        );
        assert!(told.ends_with("E:08006"), "{script} {replies:?}: {told}");
    }
}

/// Were the poison to succeed, its rows must not be taken for an answer.
#[tokio::test]
async fn a_server_that_takes_the_poison_ends_the_session() {
    let rows: &[(&str, &[u8])] = &[
        (
            "Q insert a|Q insert denied",
            b"C\0\0\0\x05\0Z\0\0\0\x05IC\0\0\0\x05\0",
        ),
        (
            "Q insert a|Q insert denied",
            b"C\0\0\0\x05\0Z\0\0\0\x05ID\0\0\0\x06\0\0",
        ),
        (
            "Q insert a|Q insert denied",
            b"C\0\0\0\x05\0Z\0\0\0\x05IZ\0\0\0\x05I",
        ),
        (
            "P - insert a|P - insert denied|S",
            b"1\0\0\0\x041\0\0\0\x04",
        ),
    ];
    for (script, replies) in rows {
        let (_, end) = hostile(script, replies).await;
        assert!(
            matches!(
                end.why,
                Why::UpstreamViolation(Unexpected::Succeeded { .. })
            ),
            "{script} {replies:?}: {:?}",
            end.why
        );
    }
}

#[tokio::test]
async fn an_error_without_a_sqlstate_is_passed_on_and_counted_as_internal() {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against(upstream);
    rig.send("Q insert a").await;
    server.read_exact(&mut [0; 1]).await.unwrap();
    server
        .write_all(b"E\0\0\0\x08Mx\0\0Z\0\0\0\x05I")
        .await
        .unwrap();
    assert_eq!(rig.read_until("Z:I").await, "E:none Z:I");
    assert_eq!(rig.gate.statuses(), ["insert a: XX000"]);
}

/// A batch of which all is answered is timed all the same.
#[tokio::test]
async fn an_error_in_a_batch_that_owes_nothing_fails_the_batch_and_nothing_else() {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let mut rig = Rig::against(upstream);
    let mut says = async |rig: &mut Rig, sends: &str, replies: &[u8], last: &str| {
        rig.send(sends).await;
        let size: usize = rig::messages(sends).iter().map(bytes::Bytes::len).sum();
        server.read_exact(&mut vec![0; size]).await.unwrap();
        server.write_all(replies).await.unwrap();
        rig.read_until(last).await
    };
    let timed_out = b"E\0\0\0\x13SERROR\0C57014\0\0";
    let begun = "P - insert a|B - -|H";
    let told = says(&mut rig, begun, b"1\0\0\0\x042\0\0\0\x04", "2").await;
    assert_eq!(told, "1 2");
    let told = says(&mut rig, "H", timed_out, "E:57014").await;
    assert_eq!(told, "E:57014");
    // What the server skips is not sent to it, and the next batch begins anew.
    rig.send("E -|P s insert a").await;
    let told = says(&mut rig, "S", b"Z\0\0\0\x05I", "Z:I").await;
    assert_eq!(told, "Z:I");
    let told = says(
        &mut rig,
        "P s insert a|S",
        b"1\0\0\0\x04Z\0\0\0\x05I",
        "Z:I",
    )
    .await;
    assert_eq!(told, "1 Z:I");

    // Only once, and only within a batch.
    says(&mut rig, begun, b"1\0\0\0\x042\0\0\0\x04", "2").await;
    let told = says(
        &mut rig,
        "H",
        &[&timed_out[..], timed_out].concat(),
        "never",
    )
    .await;
    assert!(told.ends_with("E:08006"), "{told}");
    let (told, end) = hostile(
        "Q insert a",
        &[b"C\0\0\0\x05\0Z\0\0\0\x05I", &timed_out[..]].concat(),
    )
    .await;
    assert!(matches!(end.why, Why::UpstreamViolation(_)), "{told}");
}

/// The bounds are the daemon's own: what most clients use is not under them.
#[tokio::test]
async fn what_has_no_name_is_taken_however_many_names_there_are() {
    let mut rig = Rig::new();
    for names in 0..64 {
        let begin = names * 64;
        let batch = (begin..begin + 64).map(|n| format!("P s{n} rows 1 t|"));
        rig.send(&(batch.collect::<String>() + "S")).await;
        rig.read_until("Z:I").await;
    }
    for (script, replies) in [
        ("P more rows 1 t|S", "E:53400 Z:I"),
        ("P - rows 1 t|B - -|E -|S", "1 2 D C:SELECT_1 Z:I"),
        ("P - insert a|B - -|E -|S", "1 2 C:INSERT_0_1 Z:I"),
        ("C S s0|P s0 rows 1 t|S", "3 1 Z:I"),
        ("C S s1|S", "3 Z:I"),
        ("P more rows 1 t|S", "1 Z:I"),
    ] {
        rig.send(script).await;
        assert_eq!(rig.read_until("Z:I").await, replies, "{script}");
    }
    rig.finish().await;
}

/// Nobody answers, and the client goes on: sooner or later nothing more is read of it.
#[tokio::test]
async fn what_is_owed_is_bounded() {
    let (upstream, mut server) = tokio::io::duplex(1 << 16);
    let rig = Rig::against(upstream);
    let (_reads, mut writes) = tokio::io::split(rig.client);
    let many = rig::messages("P - insert a").concat().repeat(40_000);
    let writing = tokio::spawn(async move { drop(writes.write_all(&many).await) });
    let mut got = 0;
    let mut quiet = 0;
    let mut buffer = vec![0; 1 << 16];
    while quiet < 1_000 {
        let mut read = pin!(server.read(&mut buffer));
        match pipe::poll_once(read.as_mut()).await {
            std::task::Poll::Ready(count) => {
                got += count.unwrap();
                quiet = 0;
            }
            std::task::Poll::Pending => {
                quiet += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    let each = rig::messages("P - insert a").concat().len();
    assert!(got / each <= 8_192, "{} messages", got / each);
    assert!(got / each > 1_000, "{} messages", got / each);
    assert!(!writing.is_finished());
    writing.abort();
    rig.gate.end.notify_one();
    drop(server);
    drop(rig.relay.await.unwrap());
    rig.gate.assert_balanced();
}

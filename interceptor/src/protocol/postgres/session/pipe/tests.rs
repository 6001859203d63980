//! The pipe passes on what it was given, whole, and bounds what waits in it.

use tokio::io::{AsyncWriteExt as _, duplex};

use super::*;

fn goes(decided: &Decided) -> Vec<&[u8]> {
    decided.goes.iter().map(|bytes| &bytes[..]).collect()
}

#[test]
fn untouched_bytes_go_on_in_runs() {
    let mut pipe = Pipe::new(BytesMut::from(&b"aabbccdd"[..]));
    pipe.decide(2, Fate::Pass);
    pipe.decide(2, Fate::Pass);
    pipe.decide(2, Fate::Drop);
    pipe.put(Bytes::from_static(b"xx"));
    assert_eq!(pipe.front(), b"dd");
    let decided = pipe.take();
    assert_eq!(&*decided.came, b"aabbcc");
    assert_eq!(goes(&decided), [&b"aabb"[..], b"xx"]);
    pipe.decide(2, Fate::Pass);
    assert_eq!(goes(&pipe.take()), [&b"dd"[..]]);
    let decided = pipe.take();
    assert!(decided.came.is_empty() && decided.goes.is_empty());
}

#[tokio::test]
async fn the_rest_of_a_long_message_shares_its_fate() {
    for (fate, expected) in [(Fate::Pass, &b"aabbcc"[..]), (Fate::Drop, b"")] {
        let (mut writes, mut reads) = duplex(64);
        let mut pipe = Pipe::new(BytesMut::from(&b"aa"[..]));
        pipe.decide(6, fate);
        assert!(!pipe.is_whole());
        for more in [b"bb", b"cc"] {
            writes.write_all(more).await.unwrap();
            assert!(pipe.read(&mut reads, 1).await.unwrap());
        }
        writes.write_all(b"next").await.unwrap();
        assert!(pipe.is_whole());
        assert!(pipe.read(&mut reads, 1).await.unwrap());
        assert_eq!(pipe.front(), b"next");
        let decided = pipe.take();
        assert_eq!(&*decided.came, b"aabbcc");
        assert_eq!(goes(&decided).concat(), expected);
        drop(writes);
        assert!(!pipe.read(&mut reads, 1).await.unwrap());
    }
}

#[tokio::test]
async fn a_long_message_is_read_whole_where_it_is_needed_and_its_buffer_given_back() {
    let (mut writes, mut reads) = duplex(1 << 20);
    let mut pipe = Pipe::new(BytesMut::new());
    writes.write_all(&vec![7; 300_000]).await.unwrap();
    while pipe.front().len() < 300_000 {
        assert!(pipe.read(&mut reads, 300_000).await.unwrap());
    }
    pipe.decide(300_000, Fate::Pass);
    assert!(pipe.is_ripe());
    drop(pipe.take());
    assert_eq!(pipe.buffer.capacity(), 0);
}

#[tokio::test]
async fn who_waits_keeps_little_whatever_came_before() {
    let (mut writes, mut reads) = duplex(1 << 20);
    let mut pipe = Pipe::new(BytesMut::with_capacity(1 << 20));
    for burst in [10, 70_000, 300_000, 10, 1 << 20, 65_000, 3_000, 10] {
        let waits = poll_once(std::pin::pin!(pipe.await_more(&mut reads, 5))).await;
        assert!(waits.is_pending());
        assert!(pipe.buffer.capacity() <= READ_IDLE, "before {burst}");
        assert!(pipe.small);
        writes.write_all(&vec![7; burst]).await.unwrap();
        assert!(pipe.await_more(&mut reads, 5).await.unwrap());
        let mut kept = Vec::new();
        let mut came = 0;
        loop {
            let here = pipe.front().len();
            pipe.decide(here, Fate::Pass);
            let decided = pipe.take();
            came += decided.came.len();
            // Whoever records or writes still has it.
            kept.push(decided.came);
            if came == burst {
                break;
            }
            assert!(pipe.read(&mut reads, 5).await.unwrap());
        }
    }
}

/// What is small stays small: the memory behind it is no larger than it looks.
#[tokio::test]
async fn a_small_buffer_is_used_up_and_made_anew_not_grown() {
    let (mut writes, mut reads) = duplex(1 << 20);
    let mut pipe = Pipe::new(BytesMut::new());
    let mut kept = Vec::new();
    for _ in 0..100 {
        writes.write_all(&[7; 100]).await.unwrap();
        assert!(pipe.await_more(&mut reads, 5).await.unwrap());
        assert!(pipe.buffer.capacity() <= READ_IDLE && pipe.small);
        pipe.decide(100, Fate::Pass);
        kept.push(pipe.take().came);
    }
}

#[tokio::test]
async fn everything_is_written_whatever_is_taken_at_once() {
    let (mut writes, mut reads) = duplex(3);
    let parts = [&b"abcd"[..], b"", b"e", b"fghijk"];
    let mut goes: VecDeque<Bytes> = parts.iter().map(|part| Bytes::from_static(part)).collect();
    let write = async {
        write(&mut writes, &mut goes).await.unwrap();
        drop(writes);
    };
    let mut got = Vec::new();
    let ((), count) = tokio::join!(write, reads.read_to_end(&mut got));
    count.unwrap();
    assert_eq!(got, b"abcdefghijk");
}

//! What the ledger keeps, once nothing is owed any more.

use super::super::super::wire::Header;
use super::super::tests::gate::FakeGate;
use super::*;

#[test]
fn a_burst_gives_its_room_back() {
    let reported = Reported {
        search_path: Box::default(),
        utf8: true,
        conforming: true,
    };
    let mut ledger = Ledger::<FakeGate>::new(None, Status::Idle, reported, None);
    for _ in 0..5_000 {
        ledger.owe(Entry::new(Kind::Sync));
    }
    assert!(ledger.queue.capacity() >= 5_000 && ledger.weight > 0);
    let ready = Header {
        tag: backend::READY,
        body: 1,
    };
    for _ in 0..5_000 {
        assert_eq!(ledger.reply(ready, b"I"), Ok(Reply::Pass));
    }
    assert!(ledger.is_settled() && ledger.answered(4_999));
    assert!(ledger.queue.capacity() <= 2 * KEPT);
    assert_eq!(ledger.weight, 0);
}

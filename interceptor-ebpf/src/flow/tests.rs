//! Loopback is known in both families, and a seal covers every word of a record.

use super::{Endpoint, Flow};

#[test]
fn loopback_is_known_in_both_families() {
    let rows = [
        (Endpoint::v4(0x7f00_0001_u32.to_be(), 1), true, false),
        (Endpoint::v4(0x7fff_fffe_u32.to_be(), 1), true, false),
        (Endpoint::v4(0x8000_0000_u32.to_be(), 1), false, false),
        (Endpoint::v4(0, 1), false, true),
        (Endpoint::v6([0, 0, 0, 1_u32.to_be()], 1), true, false),
        (Endpoint::v6([0; 4], 1), false, true),
        (Endpoint::v6([1, 0, 0, 1_u32.to_be()], 1), false, false),
    ];
    for (endpoint, loopback, unspecified) in rows {
        assert_eq!(endpoint.is_loopback(), loopback, "{endpoint:?}");
        assert_eq!(endpoint.is_unspecified(), unspecified, "{endpoint:?}");
        assert!(endpoint.on_loopback().is_loopback(), "{endpoint:?}");
    }
}

#[test]
fn a_seal_covers_every_word_of_the_record() {
    let flow = Flow::default();
    let seal = flow.sealed();
    assert_ne!(seal, 0);
    let changed = [
        Flow { netns: 1, ..flow },
        Flow { scope: 1, ..flow },
        Flow { at: 1, ..flow },
        Flow {
            generation: 1,
            ..flow
        },
        Flow {
            needs_daemon: 1,
            ..flow
        },
        Flow {
            client: Endpoint::v4(1, 1),
            ..flow
        },
        Flow {
            destination: Endpoint::v4(1, 1),
            ..flow
        },
    ];
    for changed in changed {
        assert_ne!(changed.sealed(), seal, "{changed:?}");
    }
    assert_eq!(Flow { seal: 7, ..flow }.sealed(), seal);
}

//! Fingerprints as others make them, and messages that are none.

use super::*;

fn sized(width: usize, body: &[u8]) -> Vec<u8> {
    let length = u64::try_from(body.len()).unwrap().to_be_bytes();
    [&length[8 - width..], body].concat()
}

fn pairs(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// As Chrome sends it, with values that stand for nothing; in records of so many bytes.
fn chrome(more: &[u16], record: usize) -> Vec<u8> {
    let ciphers = [
        0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let signatures = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
    ];
    let mut extensions = Vec::new();
    let plain = [
        0x2a2a, 0x0000, 0x0017, 0xff01, 0x000a, 0x000b, 0x0023, 0x0010, 0x0005, 0x000d, 0x0012,
        0x0033, 0x002d, 0x002b, 0x001b, 0x4469, 0x0015,
    ];
    for kind in plain.iter().chain(more) {
        let body = match kind {
            0x000d => sized(2, &pairs(&signatures)),
            0x0010 => sized(2, &[sized(1, b"h2"), sized(1, b"http/1.1")].concat()),
            0x002b => sized(1, &pairs(&[0x3a3a, 0x0304, 0x0303])),
            _ => Vec::new(),
        };
        extensions.extend(pairs(&[*kind]));
        extensions.extend(sized(2, &body));
    }
    let body = [
        pairs(&[0x0303]),
        vec![7; 32],
        sized(1, &[9; 32]),
        sized(2, &pairs(&ciphers)),
        sized(1, &[0]),
        sized(2, &extensions),
    ]
    .concat();
    let message = [vec![1], sized(3, &body)].concat();
    let records = message.chunks(record);
    records
        .flat_map(|part| [vec![22, 3, 1], sized(2, part)].concat())
        .collect()
}

#[test]
fn a_fingerprint_is_that_of_others() {
    // The example of the description of JA4.
    let whole = "t13d1516h2_8daaf6152771_e5627efa2ab1";
    for record in [1 << 14, 100, 1] {
        let shape = Shape::of(&chrome(&[], record)).unwrap();
        assert_eq!(shape.fingerprint(), whole, "{record}");
        assert!(!shape.is_encrypted());
    }
    for kind in [0xfe0d, 0xfe08, 0xfe0c, 0xffce] {
        let shape = Shape::of(&chrome(&[kind], 1 << 14)).unwrap();
        assert!(shape.is_encrypted(), "{kind:x}");
        assert_ne!(shape.fingerprint(), whole);
    }
}

#[test]
fn what_is_cut_off_or_changed_is_read_as_nothing_or_as_something_else() {
    let records = chrome(&[], 1 << 14);
    for end in 0..records.len() {
        assert_eq!(Shape::of(&records[..end]), None, "{end}");
    }
    for at in 0..records.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut other = records.clone();
            other[at] = value;
            if let Some(shape) = Shape::of(&other) {
                assert_eq!(shape.fingerprint().split('_').count(), 3);
            }
        }
    }
}

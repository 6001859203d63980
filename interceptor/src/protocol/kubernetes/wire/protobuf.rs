//! Objects as clients of clusters write them in protobuf, as far as a question of what is permitted is read: the
//! envelope (`runtime.Unknown`) and messages of strings in messages. Pure; nothing is allocated but what is read.

/// What begins every such body.
const MAGIC: &[u8] = b"k8s\0";
/// Fields of one message.
const FIELDS_MAX: usize = 64;

/// The message that an envelope holds; `None` where it is none, or is encoded once more.
#[must_use]
pub fn enveloped(body: &[u8]) -> Option<&[u8]> {
    let envelope = body.strip_prefix(MAGIC)?;
    match last(envelope, 3)?.is_empty() {
        true => last(envelope, 2),
        false => None,
    }
}

/// A field of a message that holds bytes, the last of its number as readers take it; empty where it is not there.
/// `None` where the message is none.
#[must_use]
pub fn last(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut rest = message;
    let mut found: &[u8] = &[];
    for _ in 0..FIELDS_MAX {
        if rest.is_empty() {
            return Some(found);
        }
        let (tag, after) = varint(rest)?;
        rest = match tag & 7 {
            0 => varint(after)?.1,
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                if tag >> 3 == number {
                    found = bytes;
                }
                after
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    None
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut rest = bytes;
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_found_behind_others() {
        let message = b"\x08\x96\x01\x12\x02hi\x1a\x00\x12\x02yo\x25\0\0\0\0";
        assert_eq!(last(message, 2), Some(&b"yo"[..]));
        assert_eq!(last(message, 3), Some(&b""[..]));
        assert_eq!(last(message, 9), Some(&b""[..]));
        assert_eq!(last(b"\x12\x05hi", 2), None);
        assert_eq!(last(b"\x13", 2), None);
        assert_eq!(last(&[0x08, 0x01].repeat(65), 2), None);
        assert_eq!(
            enveloped(b"k8s\0\x0a\x00\x12\x02hi\x1a\x00"),
            Some(&b"hi"[..])
        );
        assert_eq!(enveloped(b"k8s\0\x12\x02hi\x1a\x04gzip"), None);
        assert_eq!(enveloped(b"{}"), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(bytes in any::<Vec<u8>>(), number in 0_u64..20) {
            let _found = last(&bytes, number);
            let _length = enveloped(&[MAGIC, &bytes].concat()).map(<[u8]>::len);
        }
    }
}

//! The values of `Bind`, for people: read only where they may be asked about a request.
//!
//! PostgreSQL documentation, "Message Formats", `Bind (F)`.

use super::{Body, Error};

/// A value and the form that it is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The bytes; `None` for a null.
    pub bytes: Option<&'a [u8]>,
    /// Whether they are the binary form of its type, not text.
    pub binary: bool,
}

/// The values of a whole `Bind`, and the bytes that say them.
///
/// # Errors
/// Where the body does not have the form of one.
pub fn values(body: &[u8]) -> Result<(Vec<Bound<'_>>, &[u8]), Error> {
    let mut body = Body::new(body);
    body.string("portal name")?;
    body.string("statement name")?;
    let whole = body.rest();
    let mut body = Body::new(whole);
    let count = usize::from(body.i16("number of formats")?.cast_unsigned());
    let mut formats = Vec::new();
    for _ in 0..count {
        formats.push(body.i16("format")? == 1);
    }
    let count = usize::from(body.i16("number of values")?.cast_unsigned());
    let mut values = Vec::new();
    for at in 0..count {
        let length = body.i32("length of a value")?;
        let bytes = match usize::try_from(length) {
            Ok(length) => Some(body.bytes("value", length)?),
            Err(_) => None,
        };
        // One format is that of all, none is text for all.
        let binary = match formats.as_slice() {
            [all] => *all,
            each => each.get(at).copied().unwrap_or(false),
        };
        values.push(Bound { bytes, binary });
    }
    Ok((values, whole))
}

#[cfg(test)]
mod tests {
    use super::{Bound, values};

    #[test]
    fn values_are_read_in_their_forms() {
        let body = b"p\0s\0\0\x02\0\x00\0\x01\0\x03\0\0\0\x01a\0\0\0\x02\0\x07\xff\xff\xff\xff\0\0";
        let (found, whole) = values(body).unwrap();
        let bound = |bytes, binary| Bound { bytes, binary };
        assert_eq!(
            found,
            [
                bound(Some(b"a".as_slice()), false),
                bound(Some(b"\0\x07".as_slice()), true),
                bound(None, false)
            ]
        );
        assert_eq!(whole, &body[4..]);
        assert!(values(b"p\0s\0\0\x02\0\x00\0\x01\0\x03\0\0\0\x09a").is_err());
        let all = b"\0\0\0\x01\0\x01\0\x01\0\0\0\x01a\0\0";
        assert_eq!(values(all).unwrap().0, [bound(Some(b"a".as_slice()), true)]);
    }
}

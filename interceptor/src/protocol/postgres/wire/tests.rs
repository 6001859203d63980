//! Frames: headers, bodies, written lengths.

use super::*;

#[test]
fn a_header_is_read_only_where_its_length_can_be_true() {
    // `None` is a length that cannot be.
    type Read = Option<Option<(u8, usize)>>;
    let rows: &[(&[u8], Read)] = &[
        (b"", Some(None)),
        (b"Q\0\0\0", Some(None)),
        (b"S\0\0\0\x04", Some(Some((b'S', 0)))),
        (b"Q\0\0\0\x09rest", Some(Some((b'Q', 5)))),
        (b"Q\0\0\0\x03", None),
        (b"Q\0\0\0\0", None),
        (b"Q\xff\xff\xff\xff", None),
        (b"Q\x80\0\0\0", None),
        (b"d\x3f\xff\xff\xff", Some(Some((b'd', 0x3fff_fffb)))),
        (b"d\x40\0\0\0", None),
    ];
    for (bytes, expected) in rows {
        let read = Header::read(bytes)
            .ok()
            .map(|header| header.map(|header| (header.tag, header.body)));
        assert_eq!(&read, expected, "{bytes:?}");
    }
}

#[test]
fn a_body_never_gives_more_than_it_has() {
    let mut body = Body::new(b"\x01\0\x02\0\0\0\x03ab\0cd");
    assert_eq!(body.u8("a"), Ok(1));
    assert_eq!(body.i16("b"), Ok(2));
    assert_eq!(body.i32("c"), Ok(3));
    assert_eq!(body.string("d"), Ok(&b"ab"[..]));
    assert_eq!(body.string("e"), Err(Error::Short { field: "e" }));
    assert_eq!(body.rest(), b"cd");
    assert_eq!(body.i32("f"), Err(Error::Short { field: "f" }));
    assert_eq!(body.end(), Err(Error::Long { extra: 2 }));
    assert_eq!(body.bytes("g", 2), Ok(&b"cd"[..]));
    assert_eq!(
        body.bytes("h", usize::MAX),
        Err(Error::Short { field: "h" })
    );
    assert_eq!(body.end(), Ok(()));
    assert_eq!(
        Body::new(b"\xff\0").text("i"),
        Err(Error::Text { field: "i" })
    );
}

#[test]
fn a_written_message_counts_its_own_length() {
    assert_eq!(&*message(b'S', |_| ()), b"S\0\0\0\x04");
    let query = message(b'Q', |to| put_string(to, b"select 1"));
    assert_eq!(&*query, b"Q\0\0\0\x0dselect 1\0");
    assert_eq!(
        &*message(b'Q', |to| put_string(to, b"a\0b")),
        b"Q\0\0\0\x06a\0"
    );
}

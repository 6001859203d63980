//! The client's messages are read back as made; other forms are refused.

use super::super::HEADER;
use super::*;

#[test]
fn messages_that_are_made_are_read_back() {
    assert_eq!(query(&make_query("a")[HEADER..]), Ok(&b"a"[..]));
    let made = make_parse("s", "select 1");
    assert_eq!(parse(&made[HEADER..]), Ok((&b"s"[..], &b"select 1"[..])));
    let made = make_bind("p", "s");
    assert_eq!(bind(&made[HEADER..]), Ok((&b"p"[..], &b"s"[..])));
    assert_eq!(execute(&make_execute("p", 5)[HEADER..]), Ok(&b"p"[..]));
    let made = make_about(CLOSE, Object::Portal, "p");
    assert_eq!(object(&made[HEADER..]), Ok((Object::Portal, &b"p"[..])));
}

#[test]
fn bodies_of_another_form_are_refused() {
    for body in [&b""[..], b"no end", b"two\0ends\0"] {
        assert!(query(body).is_err(), "{body:?}");
    }
    let rows: [&[u8]; 5] = [
        b"s\0text\0",
        b"s\0text\0\0",
        b"s\0t\0\0\x01\0\0\0",
        b"s\0t\0\0\0x",
        b"s",
    ];
    for body in rows {
        assert!(parse(body).is_err(), "{body:?}");
    }
    assert!(parse(b"s\0t\0\0\x01\0\0\0\x17").is_ok());
    assert!(object(b"Xname\0").is_err());
    assert!(object(b"Sname\0more").is_err());
    assert!(execute(b"p\0\0\0\0").is_err());
    assert!(bind(b"p\0s").is_err());
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    let long = [b'n'; 70];
    assert_eq!(cut(&long), [b'n'; 63]);
    assert_eq!(cut(&long[..63]), [b'n'; 63]);
    assert_eq!(cut(b"s"), b"s");
}

#[test]
fn headers_are_held_against_the_cap_of_their_kind() {
    let rows: &[(&[u8], bool)] = &[
        (b"S\0\0\0\x04", true),
        (b"S\0\0\x27\x15", false),
        (b"E\0\0\x27\x15", false),
        (b"E\0\0\x27\x14", true),
        (b"d\x3f\xff\xff\xff", true),
        (b"p\0\0\0\x04", false),
        (b"\0\0\0\0\x04", false),
        (b"Z", false),
    ];
    for (bytes, fine) in rows {
        assert_eq!(header(bytes).is_ok(), *fine, "{bytes:?}");
    }
    assert_eq!(header(b""), Ok(None));
}

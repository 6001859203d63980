//! The server's messages: tags, states, caps.

use super::super::HEADER;
use super::*;

#[test]
fn a_command_tag_counts_the_rows_that_its_last_word_says() {
    let rows_of = [
        ("SELECT 3", 3),
        ("INSERT 0 5", 5),
        ("COPY 18446744073709551615", u64::MAX),
        ("COPY 18446744073709551616", 0),
        ("BEGIN", 0),
        ("CREATE TABLE", 0),
        ("", 0),
    ];
    for (tag, expected) in rows_of {
        assert_eq!(rows(tag), expected, "{tag}");
    }
}

#[test]
fn only_three_states_of_a_transaction_are_known() {
    for status in [Status::Idle, Status::Open, Status::Failed] {
        assert_eq!(ready(&make_ready(status)[HEADER..]), Ok(status));
    }
    for body in [&b""[..], b"X", b"II"] {
        assert!(ready(body).is_err(), "{body:?}");
    }
}

#[test]
fn headers_are_held_against_the_cap_of_their_kind() {
    let rows: &[(&[u8], bool)] = &[
        (b"Z\0\0\0\x05", true),
        (b"Z\0\0\0\x06", false),
        (b"1\0\0\0\x04", true),
        (b"1\0\0\0\x05", false),
        (b"D\x3f\xff\xff\xff", true),
        (b"S\x00\x01\0\0", false),
        (b"R\0\0\0\x08", false),
        (b"K\0\0\0\x0c", false),
        (b"W\0\0\0\x07", true),
        (b"W\0\x02\0\x06", false),
    ];
    for (bytes, fine) in rows {
        assert_eq!(header(bytes).is_ok(), *fine, "{bytes:?}");
    }
}

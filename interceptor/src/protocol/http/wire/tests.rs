//! First bytes, as a client may begin.

use super::*;

#[test]
fn the_first_bytes_decide_however_they_are_cut() {
    let rows: [(&[u8], Sniffed); 8] = [
        (b"GET / HTTP/1.1\r\n", Sniffed::One),
        (b"PRINT / HTTP/1.1\r\n", Sniffed::One),
        (b"PRI * HTTP/1.1\r\n", Sniffed::One),
        (b"\r\nGET / HTTP/1.1\r\n", Sniffed::One),
        (PREFACE, Sniffed::Two),
        (b"SSH-2.0-x\r\n", Sniffed::Neither),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Sniffed::Neither),
        (b"GETGETGETGETGETGETGETGETGETGETGETGET / ", Sniffed::Neither),
    ];
    for (bytes, expected) in rows {
        let decided = (0..=bytes.len()).find_map(|end| sniff(&bytes[..end]));
        assert_eq!(decided, Some(expected), "{}", bytes.escape_ascii());
    }
}

//! The streams of a command, over SPDY and WebSocket, between a client and a server that say anything: what goes on to
//! the client is what clients read, and holds nothing of what must not go on.
#![no_main]

use interceptor::protocol::kubernetes::facts::Command;
use interceptor::protocol::kubernetes::stream::{Broken, Look, Stream};
use libfuzzer_sys::fuzz_target;

/// What is covered: a byte that stands nowhere else in what goes on.
const CANARY: u8 = 0xa7;

struct Covers;

impl Look for Covers {
    fn pass(&mut self, bytes: &[u8], _last: bool) -> Result<Vec<u8>, Broken> {
        let cover = |byte: &u8| if *byte == CANARY { b'*' } else { *byte };
        Ok(bytes.iter().map(cover).collect())
    }

    fn holds(&self) -> bool {
        false
    }
}

const PROTOCOLS: [(&str, &str); 3] = [
    ("spdy/3.1", ""),
    ("websocket", "v4.channel.k8s.io"),
    ("websocket", "v5.channel.k8s.io"),
];
/// A client of SPDY opens errors, input, output and error output: 1, 3, 5, 7.
const OPENED: &[&[u8]] = &[
    b"\x80\x03\x00\x01\x00\x00\x00\x28\x00\x00\x00\x01\0\0\0\0\0\0\x78\xf9\xe3\xc6\xa7\xc2\x02\xa6\x23\x46\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\x80\x06\x00\x00\x00\xff\xff",
    b"\x80\x03\x00\x01\x00\x00\x00\x17\x00\x00\x00\x03\0\0\0\0\0\0\xc2\x2e\x55\x5c\x02\xcc\x2e\x00\x00\x00\xff\xff",
    b"\x80\x03\x00\x01\x00\x00\x00\x19\x00\x00\x00\x05\0\0\0\0\0\0\xc2\x2a\x05\x4c\xe7\x29\xf9\xa5\x25\x00\x00\x00\xff\xff",
];

fn stream(protocol: (&str, &str)) -> Stream<Covers> {
    let command = Command {
        words: "sh".to_owned(),
        ..Command::default()
    };
    let mut stream = Stream::new(command, protocol, Some([Covers, Covers, Covers]))
        .expect("a protocol that is known");
    if protocol.0.starts_with("spdy") {
        for frame in OPENED {
            drop(stream.sent(frame));
        }
    }
    stream
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, said)) = bytes.split_first() else {
        return;
    };
    let protocol = PROTOCOLS[usize::from(how % 3)];
    let (mut heard, mut again) = (stream(protocol), stream(protocol));
    if how & 0x80 != 0 {
        // The client's side by itself.
        for piece in said.chunks(usize::from(how >> 2 & 7) + 1) {
            if heard.sent(piece).is_err() {
                return;
            }
        }
        return;
    }
    for piece in said.chunks(usize::from(how >> 2) + 1) {
        let (mut rest, mut out) = (piece, Vec::new());
        while !rest.is_empty() {
            match heard.received(rest, &mut out) {
                Ok((_, behind)) => rest = behind,
                Err(_broken) => return,
            }
        }
        for frame in out {
            let data =
                protocol.0 == "websocket" || frame.first().is_some_and(|first| first & 0x80 == 0);
            let words = frame
                .get(if data { 8 } else { frame.len() }..)
                .unwrap_or_default();
            assert!(!words.contains(&CANARY), "{frame:?}");
            let (mut rest, mut shown) = (frame.as_slice(), Vec::new());
            while !rest.is_empty() {
                let read = again.received(rest, &mut shown);
                (_, rest) = read.expect("what goes on is what a client reads");
            }
        }
    }
});

//! Streams as clients and servers carry them, whole and in pieces.

use std::sync::Arc;

use super::*;
use crate::masking::detect::{Action, Detectors, Kind};
use crate::masking::output::{self, Found};

struct Emails(output::Stream);

impl Look for Emails {
    fn pass(&mut self, bytes: &[u8], last: bool) -> Result<Vec<u8>, Broken> {
        let bytes = Bytes::copy_from_slice(bytes);
        let passed = self.0.pass(bytes, last, &mut Found::new());
        passed.map(Into::into).map_err(|kind| Broken(kind.word()))
    }

    fn holds(&self) -> bool {
        self.0.holds()
    }
}

fn looks(action: Action) -> Option<[Emails; 3]> {
    let actions = [(Kind::of("email").unwrap(), action)].into();
    let detectors = Detectors::new(&actions).map(Arc::new);
    Some([(); 3].map(|()| Emails(output::Stream::new(detectors.as_ref()))))
}

fn command(is_terminal: bool) -> Command {
    Command {
        words: "sh".to_owned(),
        is_terminal,
        carries_files: false,
    }
}

/// Gives it what the server said, frame by frame.
fn hear(stream: &mut Stream<Emails>, mut bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Vec<Terminal> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (kept, rest) = stream.received(bytes, out).unwrap();
        all.extend(kept);
        bytes = rest;
    }
    all
}

/// A client's frame.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mask = [1, 2, 3, 4];
    let masked = payload.iter().zip(mask.iter().cycle());
    let mut out = vec![first, 0x80 | length];
    out.extend(mask);
    out.extend(masked.map(|(byte, by)| byte ^ by));
    out
}

fn server(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, u8::try_from(payload.len()).unwrap()];
    out.extend(payload);
    out
}

/// What a client that reads `WebSocket` sees of each channel.
fn seen(bytes: &[u8], coded: bool) -> [String; 4] {
    let mut channels = [(); 4].map(|()| String::new());
    let mut frames = Frames::new(false, coded);
    let mut rest = bytes;
    while !rest.is_empty() {
        let read = frames.feed(rest, |event| {
            if let websocket::Event::Data { channel, bytes, .. } = event {
                channels[usize::from(channel)].push_str(std::str::from_utf8(bytes).unwrap());
            }
            Ok(())
        });
        rest = read.unwrap();
    }
    channels
}

/// What is kept of either output, and of the input.
fn kept(all: &[Terminal]) -> [String; 3] {
    let mut kept = [(); 3].map(|()| String::new());
    for one in all {
        let (at, bytes) = match one {
            Terminal::Typed(bytes) => (0, bytes),
            Terminal::Shown(bytes) => (1, bytes),
            Terminal::Erred(bytes) => (2, bytes),
            _ => continue,
        };
        kept[at].push_str(std::str::from_utf8(bytes).unwrap());
    }
    kept
}

const STATUS: &[u8] =
    br#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;

/// An address in two messages, one of them in two frames with a ping in between, and another on the other output.
fn said() -> Vec<u8> {
    [
        server(0x82, b"\x01"),
        server(0x82, b"\x01mail alice@exa"),
        server(0x02, b"\x01mple"),
        server(0x89, b"ping"),
        server(0x80, b".com now"),
        server(0x82, b"\x02bob@example."),
        server(0x82, b"\x02com"),
        server(0x82, &[b"\x03", STATUS].concat()),
        server(0x88, &[3, 0xe8]),
    ]
    .concat()
}

#[test]
fn what_a_web_socket_shows_is_masked_however_it_is_cut() {
    let said = said();
    for at in 0..=said.len() {
        let protocol = ("websocket", "v5.channel.k8s.io");
        let mut stream = Stream::new(command(false), protocol, looks(Action::Mask)).unwrap();
        let (mut out, mut all) = (Vec::new(), Vec::new());
        let (first, second) = said.split_at(at);
        for bytes in [first, second] {
            all.extend(hear(&mut stream, bytes, &mut out));
        }
        let [_, output, errors, status] = seen(&out.concat(), false);
        assert_eq!(output, "mail ***************** now", "cut at {at}");
        assert_eq!(errors, "***************", "cut at {at}");
        assert_eq!(status.as_bytes(), STATUS);
        let [_, shown, erred] = kept(&all);
        assert_eq!([shown, erred], [output, errors]);
        assert_eq!(stream.exit(), Some(7));
        assert!(out.ends_with(&[vec![0x88, 2, 3, 0xe8]]), "cut at {at}");
    }
}

#[test]
fn what_nothing_looks_at_goes_on_as_it_is_and_is_kept() {
    let said = said();
    let protocol = ("websocket", "v4.channel.k8s.io");
    let mut stream = Stream::<Emails>::new(command(false), protocol, None).unwrap();
    let (mut all, mut out) = (Vec::new(), Vec::new());
    for bytes in said.chunks(3) {
        all.extend(hear(&mut stream, bytes, &mut out));
    }
    assert_eq!(out.concat(), said);
    let [_, shown, erred] = kept(&all);
    assert_eq!(
        [&*shown, &*erred],
        ["mail alice@example.com now", "bob@example.com"]
    );
    let opened = matches!(&all[0], Terminal::Opened { columns: 0, command, .. } if command == "sh");
    assert!(opened, "{all:?}");
}

#[test]
fn base64_is_read_and_written_as_such() {
    let said = [
        server(0x81, b"1"),
        server(0x81, b"1bWFpbCBhbGljZUBl"),
        server(0x81, b"1eGFtcGxlLmNvbSBub3c="),
        server(0x81, b"3eyJzdGF0dXMiOiJTdWNjZXNzIn0="),
    ]
    .concat();
    let protocol = ("websocket", "base64.channel.k8s.io");
    for size in 1..9 {
        let mut stream = Stream::new(command(false), protocol, looks(Action::Mask)).unwrap();
        let mut out = Vec::new();
        for bytes in said.chunks(size) {
            hear(&mut stream, bytes, &mut out);
        }
        let [_, output, _, status] = seen(&out.concat(), true);
        assert_eq!(output, "mail ***************** now");
        assert_eq!(status, r#"{"status":"Success"}"#);
        assert_eq!(stream.exit(), Some(0));
    }
}

#[test]
fn a_terminal_is_opened_with_the_size_that_is_said_first() {
    let protocol = ("websocket", "v5.channel.k8s.io");
    let mut stream = Stream::<Emails>::new(command(true), protocol, None).unwrap();
    let sent = [
        client(0x82, b"\x04{\"Width\":120,\"Height\":40}\n"),
        client(0x82, b"\x00ls\r"),
        client(0x82, b"\x04{\"Width\":100,\"Height\":30}"),
        client(0x82, b"\xff\x00"),
    ]
    .concat();
    let mut all = Vec::new();
    for bytes in sent.chunks(5) {
        all.extend(stream.sent(bytes).unwrap());
    }
    let opened = matches!(
        all[0],
        Terminal::Opened {
            columns: 120,
            rows: 40,
            ..
        }
    );
    assert!(opened, "{all:?}");
    assert_eq!(kept(&all)[0], "ls\r");
    let resized = Terminal::Resized {
        columns: 100,
        rows: 30,
    };
    assert_eq!(all.last(), Some(&resized));
}

/// A frame that opens a stream; of the headers as Go's client compresses them.
fn opens(stream: u8, headers: &str) -> Vec<u8> {
    let block = hex::decode(headers).unwrap();
    let length = u8::try_from(10 + block.len()).unwrap();
    let mut out = vec![0x80, 3, 0, 1, 0, 0, 0, length, 0, 0, 0, stream];
    out.extend([0; 6]);
    out.extend(block);
    out
}

/// Streams of errors, input, output, error output, and sizes: 1, 3, 5, 7, 9.
fn opened() -> Vec<u8> {
    [
        opens(
            1,
            "78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff",
        ),
        opens(3, "c22e555c02cc2e00000000ffff"),
        opens(5, "c22a054ce729f9a52500000000ffff"),
        opens(7, "c229073414000000ffff"),
        opens(9, "c22e072c9a806901000000ffff"),
    ]
    .concat()
}

fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    spdy::data(stream, bytes, last)
}

/// What a client is shown of both outputs, and which streams ended, in order.
fn shown_by_spdy(out: &[Vec<u8>]) -> ([String; 2], Vec<u32>) {
    let mut shown = [String::new(), String::new()];
    let mut ends = Vec::new();
    let mut client = Spdy::default();
    let opened = opened();
    let mut rest = opened.as_slice();
    while !rest.is_empty() {
        rest = client.sent(rest, |_, _| Ok(())).unwrap();
    }
    for frame in out {
        let mut take = |stream: u32, bytes: &[u8], last: bool| {
            let text = std::str::from_utf8(bytes).unwrap();
            match stream {
                5 => shown[0].push_str(text),
                7 => shown[1].push_str(text),
                _ => {}
            }
            ends.extend(last.then_some(stream));
        };
        let rest = client.received(frame, |_, event| {
            if let spdy::Event::Data {
                stream,
                bytes,
                last,
                ..
            } = event
            {
                take(stream, bytes, last);
            }
            Ok(())
        });
        assert_eq!(rest.unwrap(), b"");
    }
    (shown, ends)
}

#[test]
fn what_spdy_shows_is_masked_however_it_is_cut() {
    let sent = [
        opened(),
        data(9, b"{\"Width\":90,\"Height\":20}\n", false),
        data(3, b"id\n", true),
    ]
    .concat();
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1].to_vec();
    let said = [
        data(5, b"mail alice@exa", false),
        ping,
        data(7, b"bob@exam", false),
        data(5, b"mple.com now", false),
        data(7, b"ple.com", true),
        data(1, STATUS, true),
        data(5, b"", true),
        data(3, b"", true),
    ]
    .concat();
    for at in 0..=said.len() {
        let protocol = ("spdy/3.1", "");
        let mut stream = Stream::new(command(true), protocol, looks(Action::Mask)).unwrap();
        let (mut out, mut all) = (Vec::new(), Vec::new());
        for bytes in sent.chunks(at.max(1)) {
            all.extend(stream.sent(bytes).unwrap());
        }
        let (first, second) = said.split_at(at);
        for bytes in [first, second] {
            all.extend(hear(&mut stream, bytes, &mut out));
        }
        let (shown, ends) = shown_by_spdy(&out);
        assert_eq!(shown[0], "mail ***************** now", "cut at {at}");
        assert_eq!(shown[1], "***************", "cut at {at}");
        assert_eq!(ends, [7, 1, 5, 3], "cut at {at}");
        let [typed, output, errors] = kept(&all);
        assert_eq!(
            [typed.as_str(), &output, &errors],
            ["id\n", &shown[0], &shown[1]]
        );
        assert_eq!(stream.exit(), Some(7));
        assert!(matches!(all[0], Terminal::Opened { columns: 90, .. }));
    }
}

#[test]
fn what_is_said_of_the_end_is_read_as_one_however_many_frames_it_comes_in() {
    let status = br#"{"status":"Failure","message":"mail alice@example.com","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
    let reset = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5].to_vec();
    let away = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0].to_vec();
    let lasts = [data(1, b"", true), reset, away, Vec::new()];
    for (at, last) in (0..status.len()).zip(lasts.iter().cycle()) {
        let protocol = ("spdy/3.1", "");
        let mut stream = Stream::new(command(false), protocol, looks(Action::Mask)).unwrap();
        stream.sent(&opened()).unwrap();
        let (first, second) = status.split_at(at);
        let said = [data(1, first, false), data(1, second, false), last.clone()].concat();
        let (mut out, mut kept) = (Vec::new(), Vec::new());
        hear(&mut stream, &said, &mut out);
        stream.finish(&mut kept, &mut out).unwrap();
        assert_eq!(stream.exit(), Some(7), "cut at {at}");
        let out = String::from_utf8_lossy(&out.concat()).into_owned();
        assert!(
            out.contains("mail *****************\""),
            "cut at {at}: {out}"
        );
        let more = data(1, b"alice@example.com", true);
        let more = stream.received(&more, &mut Vec::new()).is_err();
        assert!(more, "cut at {at}");
    }
    let twice = [
        server(0x82, &[b"\x03", STATUS].concat()),
        server(0x82, b"\x03more"),
    ];
    let protocol = ("websocket", "v4.channel.k8s.io");
    let mut stream = Stream::<Emails>::new(command(false), protocol, None).unwrap();
    let [once, more] = twice.map(|said| stream.received(&said, &mut Vec::new()).is_ok());
    assert!(once && !more);
}

#[test]
fn a_servers_control_frames_hold_no_words() {
    let frame = |kind: [u8; 2], body: &[u8]| {
        let length = u8::try_from(body.len()).unwrap();
        [&[0x80, 3, kind[0], kind[1], 0, 0, 0, length], body].concat()
    };
    let said = |bytes: &[u8]| {
        let mut stream =
            Stream::new(command(false), ("spdy/3.1", ""), looks(Action::Mask)).unwrap();
        stream.sent(&opened()).unwrap();
        let mut out = Vec::new();
        stream.received(bytes, &mut out).map(|_| out.concat())
    };
    // Headers of an answer are written anew: none.
    let block =
        hex::decode("78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff").unwrap();
    let reply = frame([0, 2], &[&[0, 0, 0, 1], block.as_slice()].concat());
    let out = said(&reply).unwrap();
    assert_eq!(out[..12], [0x80, 3, 0, 2, 0, 0, 0, 24, 0, 0, 0, 1]);
    assert!(!out.ends_with(&block));
    for (kind, length) in [(3, 8), (6, 4), (7, 8), (9, 8), (4, 4), (4, 12)] {
        let whole = frame([0, kind], &vec![0; length]);
        assert_eq!(said(&whole).as_deref(), Ok(whole.as_slice()), "kind {kind}");
    }
    let settings = frame([0, 4], &[0; 76]);
    let headers = frame([0, 8], &[&[0, 0, 0, 1], block.as_slice()].concat());
    let nobodys = frame([0, 2], &[&[0, 0, 0, 99], block.as_slice()].concat());
    for odd in [
        settings,
        headers,
        nobodys,
        frame([0, 3], &[0; 9]),
        frame([0, 6], b"token"),
        frame([0, 5], b"words"),
        frame([0, 77], b"words"),
        frame([1, 3], &[0; 8]),
    ] {
        assert!(said(&odd).is_err(), "{odd:?}");
    }
}

#[test]
fn what_must_go_no_farther_does_not_and_the_client_is_told() {
    let protocol = ("websocket", "v4.channel.k8s.io");
    let mut stream = Stream::new(command(false), protocol, looks(Action::Refuse)).unwrap();
    let mut out = Vec::new();
    let said = server(0x82, b"\x01mail alice@example.com now");
    let broken = stream.received(&said, &mut out).unwrap_err();
    assert_eq!(broken, Broken("email"));
    stream.refuse("it holds a value", &mut out);
    let [_, output, _, status] = seen(&out.concat(), false);
    assert_eq!(output, "");
    assert!(status.contains("it holds a value"), "{status}");
}

#[test]
fn what_a_server_says_of_a_closed_channel_is_its_number() {
    let heard = |payload: &[u8]| {
        let protocol = ("websocket", "v5.channel.k8s.io");
        let mut stream = Stream::new(command(false), protocol, looks(Action::Mask)).unwrap();
        let mut out = Vec::new();
        let said = server(0x82, payload);
        let read = stream.received(&said, &mut out).map(drop);
        read.map(|()| out.concat())
    };
    assert_eq!(heard(&[CLOSED, 1]), Ok(server(0x82, &[CLOSED, 1])));
    assert_eq!(heard(&[CLOSED]), Ok(Vec::new()));
    for payload in [&b"\xffann@example.com"[..], b"\xff\x01\x01", b"\xffa"] {
        assert!(heard(payload).is_err(), "{payload:?}");
    }
}

#[test]
fn what_is_no_stream_of_a_command_goes_no_farther() {
    let websocket = |bytes: &[u8], from_client: bool| {
        let protocol = ("websocket", "v4.channel.k8s.io");
        let mut stream = Stream::<Emails>::new(command(false), protocol, None).unwrap();
        match from_client {
            true => stream.sent(bytes).map(drop),
            false => stream.received(bytes, &mut Vec::new()).map(drop),
        }
    };
    for (bytes, from_client) in [
        (server(0x82, b"\x00x"), true),
        (client(0x82, b"\x01x"), false),
        (client(0x82, b"\x01x"), true),
        (client(0x82, b"\x09x"), true),
        (client(0xc2, b"\x00x"), true),
        (client(0x80, b"\x00x"), true),
        (client(0x82, b"\x04nothing}"), true),
        (server(0x82, b"\x00x"), false),
        (server(0x82, b"\xff\x01"), false),
        (server(0x09, b"x"), false),
        (server(0x83, b"x"), false),
    ] {
        assert!(websocket(&bytes, from_client).is_err(), "{bytes:?}");
    }
    let spdy = |sent: &[u8], received: &[u8]| {
        let mut stream = Stream::<Emails>::new(command(false), ("spdy/3.1", ""), None).unwrap();
        stream.sent(sent)?;
        stream.received(received, &mut Vec::new()).map(drop)
    };
    let twice = [opened(), opens(11, "c22a054ce729f9a52500000000ffff")].concat();
    for (sent, received) in [
        (data(3, b"x", false), Vec::new()),
        (twice, Vec::new()),
        (opens(1, "0000"), Vec::new()),
        (vec![0x80, 2, 0, 1, 0, 0, 0, 0], Vec::new()),
        (opened(), data(11, b"x", false)),
        (opened(), data(3, b"x", false)),
        (opened(), opens(2, "00")),
        ([opened(), data(5, b"x", false)].concat(), Vec::new()),
    ] {
        assert!(spdy(&sent, &received).is_err(), "{sent:?} {received:?}");
    }
    for protocol in [("websocket", "v6.channel.k8s.io"), ("tcp", "")] {
        assert!(Stream::<Emails>::new(command(false), protocol, None).is_err());
    }
}

#[test]
fn a_command_that_is_quiet_shows_what_is_held_back_at_a_terminal_soonest() {
    let protocol = ("websocket", "v4.channel.k8s.io");
    for (is_terminal, patience) in [(true, QUIET), (false, LULL)] {
        let command = command(is_terminal);
        let mut stream = Stream::new(command, protocol, looks(Action::Mask)).unwrap();
        assert_eq!(stream.patience(), None);
        let mut out = Vec::new();
        let said = server(0x82, b"\x01login: alice");
        stream.received(&said, &mut out).unwrap();
        assert_eq!(stream.patience(), Some(patience));
        stream.flush(&mut Vec::new(), &mut out).unwrap();
        assert_eq!(seen(&out.concat(), false)[1], "login: alice");
        assert_eq!(stream.patience(), None);
    }
}

//! Channels that lie between each other, as requests.

use uuid::Uuid;

use super::*;

fn read(steps: &[(u32, Terminal)]) -> Transcript {
    let mut reading = Reading::new(Limits::default());
    for (at, (number, what)) in (1..).zip(steps) {
        reading.take(BootTime(at), *number, what);
    }
    reading.finish()
}

fn opened(columns: u16, command: &str) -> Terminal {
    Terminal::Opened {
        columns,
        rows: columns,
        term: String::new(),
        command: command.to_owned(),
    }
}

fn shown(text: &'static str) -> Terminal {
    Terminal::Shown(Bytes::from_static(text.as_bytes()))
}

fn request(number: u128) -> RequestId {
    RequestId(Uuid::from_u128(number))
}

fn rows(exchange: &Exchange) -> Vec<String> {
    let rows = exchange.results.iter().flat_map(|result| &result.rows);
    let text = rows.flatten().map(|cell| match cell {
        Cell::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    });
    text.collect()
}

#[test]
fn channels_that_lie_between_each_other_are_told_apart() {
    let read = read(&[
        (0, opened(0, "make")),
        (1, opened(80, "")),
        (1, Terminal::Asked(request(2))),
        (0, Terminal::Asked(request(1))),
        (1, shown("$ ")),
        (0, shown("built\n")),
        (0, Terminal::Erred(Bytes::from_static(b"warned\n"))),
        (1, Terminal::Typed(Bytes::from_static(b"id\r"))),
        (1, shown("id\r\nuid=1\r\n")),
        (0, Terminal::Closed { status: Some(2) }),
    ]);
    assert_eq!(read.remark, None);
    let [make, shell] = read.exchanges.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(&*make.statement, "make");
    assert_eq!(make.requests, [(request(1), Phase::Execute)]);
    assert_eq!(rows(make), ["warned", "built"]);
    let tags: Vec<_> = make.results.iter().map(|one| one.tag.as_deref()).collect();
    assert_eq!(tags, [Some(""), Some("exit 2")]);
    assert_eq!(&*shell.statement, "shell");
    assert_eq!(shell.requests, [(request(2), Phase::Execute)]);
    assert_eq!(&*shell.notices[0].message, "id");
    assert_eq!(shell.ended, None);
    assert_eq!(shell.results[0].tag, None);
}

#[test]
fn operations_of_sftp_are_shown_with_what_became_of_them() {
    let packet = |kind: u8, id: u32, rest: &[u8]| {
        let body = [&[kind][..], &id.to_be_bytes(), rest].concat();
        wire::framed(&body)
    };
    let path = |path: &str| {
        let length = u32::try_from(path.len()).unwrap().to_be_bytes();
        [&length[..], path.as_bytes()].concat()
    };
    let sent = |bytes| Terminal::Carried(Direction::Sent, bytes);
    let received = |bytes| Terminal::Carried(Direction::Received, bytes);
    let read = read(&[
        (4, Terminal::Carries("subsystem sftp".to_owned())),
        (4, Terminal::Asked(request(1))),
        (4, sent(packet(kind::INIT, 3, b""))),
        (4, received(packet(kind::VERSION, 3, b""))),
        (4, sent(packet(kind::REMOVE, 7, &path("/kept")))),
        (4, sent(packet(kind::STAT, 8, &path("/seen")))),
        (4, Terminal::Asked(request(2))),
        (4, received(wire::status(7, wire::PERMISSION_DENIED, "no"))),
        (4, received(packet(105, 8, b""))),
        (4, Terminal::Closed { status: None }),
    ]);
    let said: Vec<_> = read.exchanges.iter().map(|one| &*one.statement).collect();
    assert_eq!(
        said,
        ["subsystem sftp", "sftp remove /kept", "sftp stat /seen"]
    );
    let tags = read.exchanges.iter().map(|one| {
        let tag = one.results.last().and_then(|result| result.tag.as_deref());
        (tag, one.requests.len())
    });
    let expected = [(Some("closed"), 1), (Some("no (3)"), 0), (Some("ok"), 1)];
    assert_eq!(tags.collect::<Vec<_>>(), expected);
}

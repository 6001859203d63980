//! What is judged of sftp, and what is not.

use bytes::BufMut as _;

use super::*;

fn packet(kind: u8, id: u32, fields: &[&str]) -> BytesMut {
    let mut packet = BytesMut::new();
    packet.put_u8(kind);
    packet.put_u32(id);
    for field in fields {
        packet.put_u32(u32::try_from(field.len()).unwrap());
        packet.put_slice(field.as_bytes());
    }
    packet
}

/// Greets, and has the server say where the home is.
async fn home(files: &Files, path: &str) -> Bytes {
    let greeting = packet(kind::INIT, 3, &[]);
    assert_eq!(files.step(&greeting).await.unwrap().1, Step::Greet);
    let mut name = BytesMut::new();
    name.put_u8(kind::NAME);
    name.put_u32(OURS);
    name.put_u32(1);
    name.put_u32(u32::try_from(path.len()).unwrap());
    name.put_slice(path.as_bytes());
    Answers::default()
        .pass(&wire::framed(&name), files, None)
        .unwrap()
}

async fn judged(files: &Files, packet: &[u8]) -> String {
    match files.step(packet).await.unwrap().1 {
        Step::Judge {
            operation,
            accesses,
            ..
        } => {
            let said = accesses.iter().map(|access| match &access.resource {
                Resource::File { path } => format!("{:?} /{}", access.action, path.join("/")),
                other => panic!("{other:?}"),
            });
            format!("{operation}: {}", said.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_request_names_is_judged_from_the_home_on() {
    let files = Files::new();
    assert!(
        home(&files, "/home/u").await.is_empty(),
        "the client did not ask that"
    );
    let mut open = packet(kind::OPEN, 1, &["x"]);
    open.put_u32(1);
    assert_eq!(judged(&files, &open).await, "open: ReadFile /home/u/x");
    let mut open = packet(kind::OPEN, 2, &["/x"]);
    open.put_u32(2 | 8);
    assert_eq!(judged(&files, &open).await, "open: WriteFile /x");
    for (id, flags) in [(7, 4), (8, 8), (9, 16), (10, 8 | 32)] {
        let mut open = packet(kind::OPEN, id, &["/x"]);
        open.put_u32(flags);
        assert_eq!(
            judged(&files, &open).await,
            "open: ReadFile /x, WriteFile /x",
            "{flags}"
        );
    }
    let symlink = packet(kind::SYMLINK, 3, &["b", "/a/link"]);
    assert_eq!(
        judged(&files, &symlink).await,
        "symlink: ReadFile /a/b, ReadFile /a/link, WriteFile /a/b, WriteFile /a/link"
    );
    // Where `/a` is a link, this is not `/b`.
    let symlink = packet(kind::SYMLINK, 6, &["../b", "/a/link"]);
    assert!(judged(&files, &symlink).await.starts_with("Refuse"));
    let remove = packet(kind::REMOVE, 4, &["../v/y"]);
    assert_eq!(
        judged(&files, &remove).await,
        "remove: RemoveFile /home/v/y"
    );
    let odd = packet(kind::STAT, 5, &["/~/y"]);
    assert!(judged(&files, &odd).await.starts_with("Refuse"));
}

#[tokio::test]
async fn a_handle_stands_for_what_was_opened() {
    let files = Files::new();
    home(&files, "/home/u").await;
    let fsetstat = |id| packet(kind::FSETSTAT, id, &["h1"]);
    assert!(judged(&files, &fsetstat(7)).await.starts_with("Refuse"));
    let mut open = packet(kind::OPEN, 1, &["/etc/x"]);
    open.put_u32(1);
    judged(&files, &open).await;
    let handle = packet(kind::HANDLE, 1, &["h1"]);
    Answers::default()
        .pass(&wire::framed(&handle), &files, None)
        .unwrap();
    assert_eq!(
        judged(&files, &fsetstat(8)).await,
        "setstat: WriteFile /etc/x"
    );
    judged(&files, &packet(kind::CLOSE, 2, &["h1"])).await;
    assert!(judged(&files, &fsetstat(9)).await.starts_with("Refuse"));
}

/// Has the server answer.
fn answer(files: &Files, packet: &[u8]) {
    let framed = wire::framed(packet);
    Answers::default().pass(&framed, files, None).unwrap();
}

/// How what was permitted under these numbers came out since this was asked.
fn out(done: Vec<Done>) -> Vec<(u128, String, u64, u64)> {
    let out = done.into_iter().map(|done| {
        let request = done.request.0.as_u128();
        (request, done.status, done.read, done.written)
    });
    out.collect()
}

#[tokio::test]
async fn a_request_ends_with_its_answer_and_an_open_file_with_its_close() {
    let files = Files::new();
    home(&files, "/home/u").await;
    let goes = |id: u32| files.goes(id, RequestId(uuid::Uuid::from_u128(u128::from(id))));
    judged(&files, &packet(kind::REMOVE, 1, &["/x"])).await;
    goes(1);
    assert_eq!(out(files.done()), []);
    answer(&files, &wire::status(1, 2, "gone")[4..]);
    let gone = "no such file".to_owned();
    assert_eq!(out(files.done()), [(1, gone, 0, 0)]);
    let mut open = packet(kind::OPEN, 2, &["/x"]);
    open.put_u32(3);
    judged(&files, &open).await;
    goes(2);
    answer(&files, &packet(kind::HANDLE, 2, &["h1"]));
    for (id, count) in [(3, 100), (4, LOOKED_INTO)] {
        files.step(&packet(kind::READ, id, &["h1"])).await.unwrap();
        answer(
            &files,
            &packet(kind::DATA, id, &["x".repeat(count).as_str()]),
        );
    }
    for (id, code) in [(5, 0), (6, 4)] {
        let mut write = packet(kind::WRITE, id, &["h1"]);
        write.put_u64(0);
        write.put_u32(7);
        write.put_slice(b"written");
        files.step(&write).await.unwrap();
        answer(&files, &wire::status(id, code, "")[4..]);
    }
    files.step(&packet(kind::CLOSE, 7, &["h1"])).await.unwrap();
    assert_eq!(out(files.done()), [], "it is open");
    answer(&files, &wire::status(7, 0, "")[4..]);
    let read = u64::try_from(LOOKED_INTO + 100).unwrap();
    assert_eq!(out(files.done()), [(2, "ok".to_owned(), read, 7)]);
    judged(&files, &packet(kind::STAT, 8, &["/y"])).await;
    goes(8);
    assert_eq!(out(files.left()), [(8, UNFINISHED.to_owned(), 0, 0)]);
    assert_eq!(out(files.left()), []);
}

#[tokio::test]
async fn an_answer_is_to_one_request_and_names_no_other() {
    let files = Files::new();
    home(&files, "/home/u").await;
    // Its handle would come to stand for the second.
    let mut read = packet(kind::OPEN, 5, &["/read-only"]);
    read.put_u32(1);
    judged(&files, &read).await;
    let mut write = packet(kind::OPEN, 5, &["/writable"]);
    write.put_u32(2);
    assert_eq!(files.step(&write).await, Err(Broken));
    // Nor is an open forgotten for the answer to another request of its id.
    assert!(
        judged(&files, &packet(kind::STAT, 6, &["/x"]))
            .await
            .starts_with("stat")
    );
    let mut read = packet(kind::OPEN, 6, &["/read-only"]);
    read.put_u32(1);
    assert_eq!(files.step(&read).await, Err(Broken));
}

#[tokio::test]
async fn the_home_is_the_servers_word_and_nothing_is_asked_before_the_greeting() {
    let files = Files::new();
    let mine = packet(kind::REALPATH, OURS, &["/etc"]);
    assert_eq!(files.step(&mine).await, Err(Broken), "before the greeting");
    let greeting = packet(kind::INIT, 3, &[]);
    assert_eq!(files.step(&greeting).await.unwrap().1, Step::Greet);
    assert_eq!(files.step(&mine).await, Err(Broken), "by the daemon's id");
    assert_eq!(files.step(&greeting).await, Err(Broken), "twice");
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_by_itself() {
    let files = Files::new();
    home(&files, "/home/u").await;
    let mut latin = packet(kind::STAT, 1, &[]);
    latin.put_slice(&[0, 0, 0, 2, b'/', 0xe9]);
    assert!(judged(&files, &latin).await.starts_with("Refuse"));
    let next = packet(kind::STAT, 2, &["/x"]);
    assert_eq!(judged(&files, &next).await, "stat: ListFiles /x");
}

#[test]
fn a_greeting_offers_no_version_that_is_not_read() {
    for (said, passed) in [(2, 2), (3, 3), (6, 3)] {
        let greeting = packet(kind::INIT, said, &["ext"]);
        let wanted = wire::framed(&packet(kind::INIT, passed, &["ext"]));
        assert_eq!(wire::greeting(&greeting), Ok(wanted));
    }
}

fn passed(files: &Files, packet: &[u8]) -> Result<Bytes, Broken> {
    Answers::default().pass(&wire::framed(packet), files, None)
}

#[test]
fn a_server_offers_what_is_carried_and_no_more() {
    let files = Files::new();
    let said = [
        "posix-rename@openssh.com",
        "1",
        "check-file",
        "",
        "copy-data",
        "1",
    ];
    let carried = ["posix-rename@openssh.com", "1", "copy-data", "1"];
    let wanted = wire::framed(&packet(kind::VERSION, 3, &carried));
    assert_eq!(passed(&files, &packet(kind::VERSION, 3, &said)), Ok(wanted));
    let half = packet(kind::VERSION, 3, &["copy-data"]);
    assert_eq!(passed(&files, &half), Err(Broken));
    // What is too long to be looked into is no version.
    let long = "x".repeat(LOOKED_INTO);
    let long = packet(kind::VERSION, 6, &["x", &long]);
    assert_eq!(passed(&files, &long), Err(Broken));
}

#[tokio::test]
async fn a_server_takes_no_more_at_once_than_is_taken_here() {
    let files = Files::new();
    home(&files, "/home/u").await;
    let answers = |id, limits: [u64; 4]| {
        let mut packet = packet(kind::EXTENDED_REPLY, id, &[]);
        for limit in limits {
            packet.put_u64(limit);
        }
        packet
    };
    let ours = answers(1, [256 << 10, 255 << 10, 255 << 10, 1_024]);
    for theirs in [[4 << 20; 4], [0; 4]] {
        let asks = packet(kind::EXTENDED, 1, &["limits@openssh.com"]);
        assert_eq!(files.step(&asks).await.unwrap().1, Step::Pass);
        assert_eq!(
            passed(&files, &answers(1, theirs)),
            Ok(wire::framed(&ours)),
            "{theirs:?}"
        );
    }
    // What was not asked for is none of it.
    let other = answers(2, [4 << 20; 4]);
    assert_eq!(passed(&files, &other), Ok(wire::framed(&other)));
}

#[test]
fn answers_pass_as_they_are_however_they_are_cut() {
    let files = Files::new();
    let mut data = BytesMut::from(&[103_u8, 0, 0, 0, 1][..]);
    data.resize(LOOKED_INTO + 100, 7);
    let mut bytes = wire::framed(&data).to_vec();
    bytes.extend_from_slice(&wire::status(3, 0, "ok"));
    for size in [1, 3, 1000, bytes.len()] {
        let mut answers = Answers::default();
        let mut out = Vec::new();
        for chunk in bytes.chunks(size) {
            out.extend_from_slice(&answers.pass(chunk, &files, None).unwrap());
        }
        assert_eq!(out, bytes);
        assert_eq!(answers.gone_by(), 2);
    }
    let newer = [&[kind::VERSION][..], &6_u32.to_be_bytes()].concat();
    assert_eq!(
        Answers::default().pass(&wire::framed(&newer), &files, None),
        Err(Broken)
    );
}

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

fn home(files: &Files, path: &str) -> Bytes {
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
        home(&files, "/home/u").is_empty(),
        "the client did not ask that"
    );
    let mut open = packet(kind::OPEN, 1, &["x"]);
    open.put_u32(1);
    assert_eq!(judged(&files, &open).await, "open: ReadFile /home/u/x");
    let mut open = packet(kind::OPEN, 2, &["/x"]);
    open.put_u32(2 | 8);
    assert_eq!(judged(&files, &open).await, "open: WriteFile /x");
    let symlink = packet(kind::SYMLINK, 3, &["../b", "/a/link"]);
    assert_eq!(
        judged(&files, &symlink).await,
        "symlink: ReadFile /b, WriteFile /a/link, WriteFile /b"
    );
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
    home(&files, "/home/u");
    let fsetstat = packet(kind::FSETSTAT, 9, &["h1"]);
    assert!(judged(&files, &fsetstat).await.starts_with("Refuse"));
    let mut open = packet(kind::OPEN, 1, &["/etc/x"]);
    open.put_u32(1);
    judged(&files, &open).await;
    let handle = packet(kind::HANDLE, 1, &["h1"]);
    Answers::default()
        .pass(&wire::framed(&handle), &files, None)
        .unwrap();
    assert_eq!(judged(&files, &fsetstat).await, "setstat: WriteFile /etc/x");
    judged(&files, &packet(kind::CLOSE, 2, &["h1"])).await;
    assert!(judged(&files, &fsetstat).await.starts_with("Refuse"));
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

//! What is read in a session: every reader of the wire, on any body, whatever its tag.
#![no_main]

use bytes::BytesMut;
use interceptor::protocol::postgres::wire::error::ErrorFields;
use interceptor::protocol::postgres::wire::{self, HEADER, MESSAGE_MAX, backend, frontend};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for header in [frontend::header(bytes), backend::header(bytes)] {
        if let Ok(Some(header)) = header {
            assert!(header.body <= MESSAGE_MAX && header.whole() == header.body + HEADER);
            let cap = frontend::cap(header.tag).max(backend::cap(header.tag));
            assert!(cap.is_some_and(|cap| header.body <= cap));
        }
    }
    let body = bytes.get(HEADER..).unwrap_or_default();
    if let Ok(text) = frontend::query(body) {
        assert!(!text.contains(&0) && text.len() + 1 == body.len());
    }
    if let Ok((name, text)) = frontend::parse(body) {
        assert!(name.len() + text.len() + 4 <= body.len());
        assert!(body.starts_with(name) && frontend::cut(name).len() <= 63);
    }
    if let Ok((portal, name)) = frontend::bind(body) {
        assert!(portal.len() + name.len() + 2 <= body.len());
    }
    if let Ok((_, name)) = frontend::object(body) {
        assert_eq!(name.len() + 2, body.len());
    }
    if let Ok(portal) = frontend::execute(body) {
        assert_eq!(portal.len() + 5, body.len());
    }
    if let Ok(status) = backend::ready(body) {
        assert_eq!(&backend::make_ready(status)[HEADER..], body);
    }
    if let Ok(tag) = backend::command(body) {
        let _rows = backend::rows(tag);
    }
    if let Ok((name, value)) = backend::parameter(body) {
        assert_eq!(name.len() + value.len() + 2, body.len());
    }
    let glance = ErrorFields::glance(body);
    if let Ok(fields) = ErrorFields::read(body) {
        assert_eq!(glance.sqlstate(), fields.sqlstate());
        assert_eq!(glance.severity(), fields.severity());
        let mut written = BytesMut::new();
        fields.write(&mut written, b'E');
        assert_eq!(ErrorFields::read(&written[HEADER..]), Ok(fields));
    }
    assert!(
        wire::Header::read(bytes).is_ok_and(|header| header.is_some()) <= (bytes.len() >= HEADER)
    );
});

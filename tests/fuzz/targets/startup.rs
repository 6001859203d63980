//! What is read before a session: startup packets of clients, and what servers say to a login.
//!
//! What is read is written back, and reads the same again.
#![no_main]

use bytes::{Bytes, BytesMut};
use interceptor::protocol::postgres::wire::HEADER;
use interceptor::protocol::postgres::wire::startup::{Answer, Packet, body_max, packet_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    if let Some(field) = rest.first_chunk::<4>() {
        let _length = packet_length(*field);
    }
    if let Ok(packet) = Packet::read(rest) {
        let mut written = BytesMut::new();
        packet.write(&mut written);
        assert_eq!(Packet::read(&written[4..]).as_ref(), Ok(&packet));
    }
    let body = Bytes::copy_from_slice(rest);
    if body_max(*first).is_none_or(|most| body.len() > most) {
        return;
    }
    match Answer::read(*first, &body) {
        Ok(Answer::Authentication(request)) => {
            let mut written = BytesMut::new();
            request.write(&mut written);
            let again = Answer::read(*first, &written.freeze().slice(HEADER..));
            assert_eq!(again, Ok(Answer::Authentication(request)));
        }
        Ok(Answer::Negotiate(negotiate)) => {
            let mut written = BytesMut::new();
            negotiate.write(&mut written);
            let again = Answer::read(*first, &written.freeze().slice(HEADER..));
            assert_eq!(again, Ok(Answer::Negotiate(negotiate)));
        }
        Ok(_) | Err(_) => {}
    }
});

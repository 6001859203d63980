//! Errors and notices are read back as written; broken ones as what they are.

use super::*;

#[test]
fn an_error_is_read_back_as_it_was_written() {
    let fields = ErrorFields::new(Severity::Error, "42501", "no")
        .detail("rule a")
        .hint("ask")
        .with(code::DETAIL, "rule b");
    let bytes = fields.response();
    assert_eq!(
        &*bytes,
        b"E\0\0\0\x2bSERROR\0VERROR\0C42501\0Mno\0Drule b\0Hask\0\0"
    );
    let read = ErrorFields::read(&bytes[super::super::HEADER..]).unwrap();
    assert_eq!(read, fields);
    assert_eq!(read.sqlstate(), Some("42501"));
    assert_eq!(read.severity(), Severity::Error);
    assert_eq!(read.get(code::POSITION), None);
}

#[test]
fn errors_that_no_server_makes_are_read_as_what_they_are() {
    let rows: &[(&[u8], Option<&str>, Severity)] = &[
        (b"\0", None, Severity::Error),
        (b"MC\0\0", None, Severity::Error),
        (b"C4250\0\0", None, Severity::Error),
        (b"C\xff\xff\xff\xff\xff\0\0", None, Severity::Error),
        (b"SFATAL\0C57P01\0\0", Some("57P01"), Severity::Fatal),
        (
            b"SFATAL\0VERROR\0C57P01\0\0",
            Some("57P01"),
            Severity::Error,
        ),
        (b"SPANIK\0VPANIC\0\0", None, Severity::Panic),
    ];
    for (body, sqlstate, severity) in rows {
        let fields = ErrorFields::read(body).unwrap();
        assert_eq!(fields.sqlstate(), *sqlstate, "{body:?}");
        assert_eq!(fields.severity(), *severity, "{body:?}");
    }
}

#[test]
fn lists_that_are_not_closed_or_too_long_are_no_errors() {
    let many = [b"Xx\0".repeat(65), vec![0]].concat();
    let rows: &[&[u8]] = &[b"", b"M", b"Mtext", b"Mtext\0", b"Mtext\0\0more", &many];
    for body in rows {
        assert!(ErrorFields::read(body).is_err(), "{body:?}");
    }
    let most = [b"Xx\0".repeat(64), vec![0]].concat();
    assert!(ErrorFields::read(&most).is_ok());
}

#[test]
fn a_glance_at_the_front_of_an_error_sees_its_severity_and_sqlstate() {
    let rows: &[(&[u8], Option<&str>, Severity)] = &[
        (
            b"SERREUR\0VERROR\0C22P02\0Mcut of",
            Some("22P02"),
            Severity::Error,
        ),
        (b"SFATAL\0VFATAL\0C57P01\0", Some("57P01"), Severity::Fatal),
        (b"SERROR\0VERROR\0C22P", None, Severity::Error),
        (b"", None, Severity::Error),
        (b"\0", None, Severity::Error),
    ];
    for (front, sqlstate, severity) in rows {
        let fields = ErrorFields::glance(front);
        assert_eq!(fields.sqlstate(), *sqlstate, "{front:?}");
        assert_eq!(fields.severity(), *severity, "{front:?}");
    }
}

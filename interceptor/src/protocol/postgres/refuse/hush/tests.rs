//! What stays of a message, and what does not.

use super::*;

fn body(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, text) in fields {
        body.push(*code);
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    body
}

fn told(tag: u8, fields: &[(u8, &str)], own_text: bool) -> ErrorFields {
    let told = message(tag, &body(fields), own_text);
    assert_eq!(told[0], tag);
    ErrorFields::read(&told[wire::HEADER..]).unwrap()
}

const LOUD: &[(u8, &str)] = &[
    (b'S', "FEHLER"),
    (b'V', "ERROR"),
    (b'C', "22P02"),
    (b'M', "invalid input syntax for type integer: \"SECRET\""),
    (b'D', "Failing row contains (SECRET)."),
    (b'H', "SECRET"),
    (b'P', "8"),
    (b'p', "9"),
    (b'q', "select SECRET"),
    (b'W', "PL/pgSQL function f(SECRET)"),
    (b's', "public"),
    (b't', "people"),
    (b'c', "ssn"),
    (b'd', "text"),
    (b'n', "people_pkey"),
    (b'F', "int.c"),
    (b'~', "SECRET"),
];

#[test]
fn names_and_the_condition_stay_and_texts_do_not() {
    let fields = told(ERROR, LOUD, true);
    let expected: &[(u8, &[u8])] = &[
        (b'S', b"FEHLER"),
        (b'V', b"ERROR"),
        (b'C', b"22P02"),
        (b'M', b"invalid text representation"),
        (b'P', b"8"),
        (b's', b"public"),
        (b't', b"people"),
        (b'c', b"ssn"),
        (b'd', b"text"),
        (b'n', b"people_pkey"),
    ];
    for (code, text) in expected {
        assert_eq!(fields.get(*code), Some(*text), "{}", char::from(*code));
    }
    let whole = message(ERROR, &body(LOUD), true);
    assert!(!String::from_utf8_lossy(&whole).contains("SECRET"));
    for code in *b"DqWpF~" {
        assert_eq!(fields.get(code), None, "{}", char::from(code));
    }
    assert_eq!(told(ERROR, LOUD, false).get(b'P'), None);
}

#[test]
fn a_state_that_no_server_has_is_data() {
    for state in ["ZZ123", "AB12Z", "no"] {
        let fields = told(ERROR, &[(b'V', "ERROR"), (b'C', state), (b'M', "x")], true);
        assert_eq!(fields.sqlstate(), Some("P0001"), "{state}");
        let fields = told(b'N', &[(b'V', "NOTICE"), (b'C', state), (b'M', "x")], true);
        assert_eq!(fields.sqlstate(), Some("00000"), "{state}");
    }
}

#[test]
fn of_the_front_of_a_long_one_the_front_stays() {
    let mut long = body(&[
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "22012"),
        (b'M', "SECRET"),
    ]);
    long.truncate(long.len() - 4);
    let told = message(ERROR, &long, true);
    let fields = ErrorFields::read(&told[wire::HEADER..]).unwrap();
    assert_eq!(fields.get(code::MESSAGE), Some(&b"division by zero"[..]));
    assert!(!String::from_utf8_lossy(&told).contains("SEC"));
}

#[test]
fn a_notification_tells_its_channel_only() {
    let told = notification(b"\0\0\0\x07jobs\0SECRET\0").unwrap();
    assert_eq!(&told[wire::HEADER..], b"\0\0\0\x07jobs\0\0");
    assert_eq!(notification(b"\0\0"), None);
}

#[test]
fn conditions_are_known_by_their_whole_state() {
    assert_eq!(condition("00000"), Some("successful completion"));
    assert_eq!(condition("42P01"), Some("undefined table"));
    assert_eq!(condition("4"), None);
    assert_eq!(condition(""), None);
}

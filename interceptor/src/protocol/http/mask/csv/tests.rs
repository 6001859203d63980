//! Columns of tables are masked by their names, however their fields are written.

use proptest::prelude::*;

use super::*;
use crate::masking::detect::{Action, Kind};
use crate::secrets::Secret;

const NAMED: &str = "text/csv; header=present";

fn masks(fields: &[(&str, Mask)], detect: &[(Kind, Action)]) -> Masks {
    let fields: Vec<_> = fields
        .iter()
        .map(|(field, mask)| ((*field).to_owned(), mask.clone()))
        .collect();
    let detect = detect.iter().copied().collect();
    Masks::new(&fields, &detect, &Secret::from("key")).unwrap()
}

fn through(masks: &Masks, media: &str, text: &[u8], cut: usize) -> Result<String, Broken> {
    let mut masker = masks.masker(media).unwrap().unwrap();
    let mut out = Vec::new();
    for piece in text.chunks(cut.max(1)) {
        masker.feed(piece, &mut out)?;
    }
    masker.end(&mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn read(masks: &Masks, text: &str) -> String {
    let whole = through(masks, NAMED, text.as_bytes(), text.len());
    for cut in [1, 2, 5] {
        assert_eq!(
            through(
                masks,
                "text/csv; charset=utf-8; header=present",
                text.as_bytes(),
                cut
            ),
            whole
        );
    }
    whole.unwrap()
}

#[test]
fn columns_are_masked_by_the_names_of_the_first_line() {
    let masks = masks(
        &[
            ("**.email", Mask::Email),
            ("ssn", Mask::Last4),
            ("address.street", Mask::Null),
            ("note", Mask::Constant("a \"b\", c".into())),
            ("gone", Mask::Hide),
        ],
        &[],
    );
    let rows = [
        (
            "name,EMAIL,ssn\r\nAnn,ann@example.com,078-05-1120\r\n\"Bob, B.\",bob@x.y,\r\n",
            "name,EMAIL,ssn\r\nAnn,a***@example.com,*******1120\r\n\"Bob, B.\",b***@x.y,\r\n",
        ),
        // Quotes, with what separates fields and lines in them; no end of the last line.
        (
            "\"email\",\"x\"\n\"a,\"\"\nn\"\"@b.c\",\"1\n2\"",
            "\"email\",\"x\"\na***@b.c,\"1\n2\"",
        ),
        // Other separators, and a mark before all of it.
        (
            "\u{feff}x;ssn\n1,5;078-05-1120\n",
            "\u{feff}x;ssn\n1,5;*******1120\n",
        ),
        (
            "\u{feff}ssn;x\n078-05-1120;1\n",
            "\u{feff}ssn;x\n*******1120;1\n",
        ),
        ("x\tssn\n\t078-05-1120\n", "x\tssn\n\t*******1120\n"),
        // Names of fields in fields, spaces around them, and empty lines.
        (
            "\n a , address.street \n1,Main\n\n",
            "\n a , address.street \n1,\n\n",
        ),
        ("note,x\n1,2\n", "note,x\n\"a \"\"b\"\", c\",2\n"),
        // What is hidden has no column.
        ("gone,a\n1,2\n\"4\",5\n", "a\n2\n5\n"),
        ("a,gone\n1,2", "a\n1"),
        ("ssn\n078-05-1120", "ssn\n*******1120"),
        ("", ""),
        ("name", "name"),
    ];
    for (text, wanted) in rows {
        assert_eq!(read(&masks, text), wanted, "{text}");
    }
}

#[test]
fn what_readers_take_apart_in_different_ways_goes_no_farther() {
    let masks = masks(&[("ssn", Mask::Last4)], &[]);
    let rows = [
        "a,ssn\n1,2,078-05-1120\n",
        "a,ssn\n1\r078-05-1120\n",
        "a,ssn\nx\"y,078-05-1120\n",
        "a,ssn\n\"x\"y,078-05-1120\n",
        "a,ssn\n\"x\\\",078-05-1120\n",
        "a,ssn\n\"x,078-05-1120\n",
        "a,ssn;b\n1,2;3\n",
        "a,ssn\n1,0\u{0}78\n",
        "# a table\na,ssn\n1,078-05-1120\n",
        "a,ssn\n1,078-05-1120\r",
    ];
    for text in rows {
        for cut in [1, 7, 100] {
            let out = through(&masks, NAMED, text.as_bytes(), cut);
            assert!(out.is_err(), "{text:?}: {out:?}");
        }
    }
    let long = format!("a,ssn\n{},1\n", "x".repeat(HELD_MAX + 1));
    assert_eq!(through(&masks, NAMED, long.as_bytes(), 4096), Err(LONG));
    let long = "x".repeat(HELD_MAX + 1);
    assert_eq!(through(&masks, NAMED, long.as_bytes(), 4096), Err(LONG));
}

#[test]
fn a_table_without_names_is_masked_by_position_or_not_passed_on() {
    let absent = "text/csv; charset=utf-8; header=absent";
    let by_name = masks(&[("ssn", Mask::Last4)], &[]);
    assert!(by_name.masker(absent).is_err());
    // One by number beside it leaves the others without a column.
    for by_name in [
        &[("2", Mask::Last4), ("**.email", Mask::Email)][..],
        &[("*", Mask::Last4), ("2.3", Mask::Email)],
        &[("**.*.2", Mask::Email)],
    ] {
        assert!(masks(by_name, &[]).masker(absent).is_err());
    }
    for all in ["*", "**", "**.2"] {
        assert!(masks(&[(all, Mask::Null)], &[]).masker(absent).is_ok());
    }
    let by_position = masks(&[("2", Mask::Last4), ("3", Mask::Hide)], &[]);
    let text = b"Ann,078-05-1120,x\nBob,219-09-9999,y,z\n";
    let out = through(&by_position, absent, text, 5).unwrap();
    assert_eq!(out, "Ann,*******1120\nBob,*******9999,z\n");
}

#[test]
fn a_table_is_read_where_something_says_that_its_columns_are_named() {
    let said = masks(&[("**.email", Mask::Email)], &[]);
    let named = said.clone().with_tables(Tables::Named);
    let text = b"name,email\nAnn,ann@example.com\n";
    // What says nothing may have a row in its first line.
    for media in [
        "text/csv",
        "text/tab-separated-values; charset=utf-8",
        "text/csv; x=header=present",
        "text/csv; x=\"; header=present\"",
        "text/csv; x=\"\\\"; header=present\"",
        "application/csv; header",
    ] {
        assert!(said.masker(media).is_err(), "{media}");
        let out = match media.ends_with("; header") {
            true => continue,
            false => through(&named, media, text, 3),
        };
        assert_eq!(
            out.unwrap(),
            "name,email\nAnn,a***@example.com\n",
            "{media}"
        );
    }
    for media in [
        "text/csv;header=present",
        "text/csv ; charset=utf-8 ; header = \"present\" ;",
        "text/csv; x=\"\\\"\"; header=\"p\\resent\"",
    ] {
        let out = through(&said, media, text, 3);
        assert_eq!(
            out.unwrap(),
            "name,email\nAnn,a***@example.com\n",
            "{media}"
        );
    }
    for media in [
        "text/csv; header=absent",
        "text/csv; header=\"absent\"",
        "text/csv; header = absent",
        "text/csv; charset=\"utf-8\";header=\"abse\\nt\"",
        "text/csv; header=present; header=absent",
        "text/csv; header=none",
        "text/csv; header",
    ] {
        assert!(named.masker(media).is_err(), "{media}");
    }
}

#[test]
fn what_may_be_a_row_or_another_table_goes_no_farther() {
    let masks = masks(&[("**.email", Mask::Email)], &[]);
    let rows = [
        "Ann,,ann@example.com\nBob,x,bob@example.com\n",
        "1,ann@example.com\n2,bob@example.com\n",
        "-1.5e3\tann@example.com\n2\tbob@example.com\n",
        "no,ann@example.com,No\nyes,bob@example.com,no\n",
        "#datatype,string\nx,email\ny,bob@example.com\n",
        // Two tables, the second with names of its own.
        "a,b\n1,2\n\nc,email\n3,bob@example.com\n",
        "a,b\r\n\r\nc,email\r\n3,bob@example.com\r\n",
        "a\n\nbob@example.com\n",
        "email,b\nx,2\nemail,b\nbob@example.com,2\n",
    ];
    for text in rows {
        for cut in [1, 7, 100] {
            let mut masker = masks.masker(NAMED).unwrap().unwrap();
            let mut out = Vec::new();
            let mut pieces = text.as_bytes().chunks(cut);
            let broken = pieces.any(|piece| masker.feed(piece, &mut out).is_err());
            assert!(
                broken && !out.windows(4).any(|at| at == b"bob@"),
                "{text:?}"
            );
        }
    }
    let absent = "text/csv; header=absent";
    let by_position = self::masks(&[("1", Mask::Email)], &[]);
    assert!(through(&by_position, absent, b"a,b\n\nc,d\n", 3).is_err());
}

#[test]
fn detectors_look_at_what_is_not_masked() {
    let found = [(Kind::Email, Action::Mask)];
    let both = masks(&[("ssn", Mask::Null)], &found);
    let out = read(&both, "a,ssn\n\"x \"\"ann@example.com\"\"\",078-05-1120\n");
    assert_eq!(out, "a,ssn\n\"x \"\"***************\"\"\",\n");
    // Without masks of fields it is looked at as text.
    let values = masks(&[], &found);
    assert_eq!(
        read(&values, "x;y,ann@example.com\"\n"),
        "x;y,***************\"\n"
    );
    let refused = masks(&[("ssn", Mask::Null)], &[(Kind::Email, Action::Refuse)]);
    assert!(through(&refused, NAMED, b"a\nann@example.com\n", 3).is_err());
}

proptest! {
    /// Whatever a table says, nothing of a column that is hidden comes out of it.
    #[test]
    fn no_canary_comes_out_of_a_hidden_column(
        rows in prop::collection::vec(("[a-z,;\"\n\r ]{0,6}", "[a-z,;\"\n\r ]{0,6}"), 0..6),
        cut in 1..9_usize,
    ) {
        let hidden = masks(&[("secret", Mask::Hide)], &[]);
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut text = "a,secret,b\n".to_owned();
        let mut wanted = "a,b\n".to_owned();
        for (a, b) in rows {
            let canary = quoted(&format!("{a}CANARY{b}"));
            text.push_str(&format!("{},{canary},{}\n", quoted(&a), quoted(&b)));
            wanted.push_str(&format!("{},{}\n", quoted(&a), quoted(&b)));
        }
        prop_assert_eq!(through(&hidden, NAMED, text.as_bytes(), cut).unwrap(), wanted);
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, cut in 1..9_usize) {
        let masked = masks(&[("*", Mask::Last4)], &[]);
        let mut masker = masked.masker(NAMED).unwrap().unwrap();
        let mut out = Vec::new();
        for piece in bytes.chunks(cut) {
            if masker.feed(piece, &mut out).is_err() {
                return Ok(());
            }
        }
        // An end in the middle of something is told as well as any other.
        let is_whole = masker.end(&mut out).is_ok();
        prop_assert!(is_whole || !bytes.is_empty());
    }
}

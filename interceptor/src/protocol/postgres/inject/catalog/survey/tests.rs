//! Rows of a server that may be hostile.

use super::*;

fn row(count: i16, columns: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = count.to_be_bytes().to_vec();
    for column in columns {
        match column {
            None => row.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                row.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
                row.extend_from_slice(bytes);
            }
        }
    }
    row
}

#[test]
fn a_row_is_read_with_its_nulls_and_one_that_is_torn_or_too_wide_is_not() {
    let good = row(2, &[Some(b"a"), None]);
    assert_eq!(cells(&good).unwrap(), [Some(&b"a"[..]), None]);
    for (what, bad) in [
        ("torn", good.get(..good.len() - 1).unwrap().to_vec()),
        ("more than it says", row(1, &[Some(b"a"), Some(b"b")])),
        ("fewer than it says", row(3, &[Some(b"a"), None])),
        ("too wide", row(65, &[None; 65])),
    ] {
        assert!(cells(&bad).is_err(), "{what}");
    }
    assert!(cells(&row(-1, &[])).unwrap().is_empty());
}

#[test]
fn texts_are_as_many_as_they_must_be_none_null_and_in_utf8() {
    assert_eq!(texts::<2>(&[Some(b"a"), Some(b"b")]).unwrap(), ["a", "b"]);
    assert!(texts::<2>(&[Some(b"a")]).is_err());
    assert!(texts::<1>(&[None]).is_err());
    assert!(texts::<1>(&[Some(b"\xff")]).is_err());
}

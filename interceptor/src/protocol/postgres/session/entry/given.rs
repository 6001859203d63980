//! What the protocol carries beside a text: types and values of its parameters, as people are shown them.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};

use super::super::super::wire::bound::{self, Bound};
use super::super::super::wire::{self, frontend};
use crate::session::{Values, Word};

/// The longest `Bind` whose values are read: people are not shown more.
pub(in super::super) const BOUND_MAX: usize = 64 << 10;

/// What comes with a text.
#[derive(Debug)]
pub(in super::super) struct Given {
    /// The types that `Parse` names, as it says them.
    pub(in super::super) types: Arc<[u8]>,
    /// What `Bind` says of values and their forms, where they are known.
    pub(in super::super) bound: Option<Arc<[u8]>>,
    /// The values that `Bind` binds, or why they are not known.
    pub(in super::super) values: Result<Values, &'static str>,
    /// People's word for it, as a portal: what is fetched of it later asks nobody again.
    pub(in super::super) word: OnceLock<Arc<Word>>,
}

impl Given {
    /// Of a statement, by its `Parse`.
    pub(in super::super) fn parsed(body: &[u8]) -> Result<Self, wire::Error> {
        let types = frontend::parse_types(body)?.into();
        Ok(Self::new(types, Err("it has no values yet"), None))
    }

    /// Of a portal that is made of it, by its `Bind`; without a body it is too long.
    pub(in super::super) fn bound(
        of: Option<&Self>,
        body: Option<&[u8]>,
    ) -> Result<Self, wire::Error> {
        let types = of.map(|of| Arc::clone(&of.types));
        let values = match (&types, body) {
            (None, _) => Err("it was prepared before policy asked for approvals: prepare it again"),
            (Some(_), None) => Err("its values are longer than what people are shown"),
            (Some(types), Some(body)) => {
                let (values, whole) = values(types, body)?;
                return Ok(Self::new(Arc::clone(types), Ok(values), Some(whole)));
            }
        };
        Ok(Self::new(types.unwrap_or_default(), values, None))
    }

    fn new(
        types: Arc<[u8]>,
        values: Result<Values, &'static str>,
        bound: Option<Arc<[u8]>>,
    ) -> Self {
        Self {
            types,
            values,
            bound,
            word: OnceLock::new(),
        }
    }
}

fn values(types: &[u8], body: &[u8]) -> Result<(Values, Arc<[u8]>), wire::Error> {
    let (values, whole) = bound::values(body)?;
    let mut digest = Context::new(&SHA256);
    digest.update(&u64::try_from(types.len()).unwrap_or(u64::MAX).to_be_bytes());
    digest.update(types);
    digest.update(whole);
    let mut sum = [0; 32];
    sum.copy_from_slice(digest.finish().as_ref());
    let values = Values {
        types: hex::encode(types),
        shown: values.iter().map(shown).collect(),
        digest: sum,
    };
    Ok((values, whole.into()))
}

/// A value as text. Of a binary one the type is the server's to know: its bytes, and what they are as a
/// number or as text.
fn shown(value: &Bound<'_>) -> Option<String> {
    let bytes = value.bytes?;
    let text = std::str::from_utf8(bytes).ok();
    if !value.binary {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let number = match *bytes {
        [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    };
    let plain = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    let hex = format!("\\x{}", hex::encode(bytes));
    Some(match (number, plain) {
        (Some(number), None) => format!("{hex} ({number})"),
        (Some(number), Some(text)) => format!("{hex} ({number}, or {text:?})"),
        (None, Some(text)) => format!("{hex} ({text:?})"),
        (None, None) => hex,
    })
}

#[cfg(test)]
mod tests {
    use super::{Bound, Given, shown};

    #[test]
    fn people_are_shown_values_as_text_and_binary_ones_in_each_reading() {
        let bound = |bytes, binary| Bound {
            bytes: Some(bytes),
            binary,
        };
        let rows: [(Bound<'_>, &str); 5] = [
            (bound(b"it's", false), "it's"),
            (bound(b"\0\0\0\x05", true), "\\x00000005 (5)"),
            (
                bound(b"abcd", true),
                "\\x61626364 (1633837924, or \"abcd\")",
            ),
            (bound(b"abc", true), "\\x616263 (\"abc\")"),
            (bound(b"\xff", true), "\\xff"),
        ];
        for (value, expected) in rows {
            assert_eq!(shown(&value).as_deref(), Some(expected));
        }
        assert_eq!(
            shown(&Bound {
                bytes: None,
                binary: true
            }),
            None
        );
    }

    #[test]
    fn types_forms_and_bytes_make_a_value_another_one() {
        let parse =
            |types: &[u8]| Given::parsed(&[b"\0select $1\0\0\x01".as_slice(), types].concat());
        let (int, text) = (
            parse(&[0, 0, 0, 23]).unwrap(),
            parse(&[0, 0, 0, 25]).unwrap(),
        );
        let bind = |form: u8, value: u8| [0, 0, 0, 1, 0, form, 0, 1, 0, 0, 0, 1, value, 0, 0];
        let digest = |of, body: &[u8]| {
            Given::bound(Some(of), Some(body))
                .unwrap()
                .values
                .unwrap()
                .digest
        };
        let one = digest(&int, &bind(0, b'1'));
        assert_eq!(one, digest(&int, &bind(0, b'1')));
        for other in [
            digest(&int, &bind(0, b'2')),
            digest(&int, &bind(1, b'1')),
            digest(&text, &bind(0, b'1')),
        ] {
            assert_ne!(one, other);
        }
        assert!(
            Given::bound(None, Some(&bind(0, b'1')))
                .unwrap()
                .values
                .is_err()
        );
        assert!(Given::bound(Some(&int), None).unwrap().values.is_err());
    }
}

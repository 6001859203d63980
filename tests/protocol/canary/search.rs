//! Looks for what must not be there in everything that a client was told, in all the forms in which it
//! may come: as text, turned round, as hexadecimal digits, in base64, as the server's own binary values.

use std::collections::HashMap;

use super::schema::{Cell, Value};

/// Nothing is told apart by less.
const GRAM: usize = 6;

/// One form of one value.
#[derive(Debug)]
struct Needle {
    /// Which it is, for people.
    what: String,
    bytes: Vec<u8>,
    /// So many bytes of it in a row are as good as all of it.
    enough: usize,
    /// Whether it counts only where no digit stands beside it: masks by a hash are digits, too.
    alone: bool,
}

/// All forms of all masked cells.
#[derive(Debug, Default)]
pub(super) struct Search {
    needles: Vec<Needle>,
    /// Where each six bytes in a row are, by needle and place.
    grams: HashMap<u64, Vec<(usize, usize)>>,
    /// Whether any have this hash: most of what is looked at has not.
    maybe: Vec<bool>,
}

impl Search {
    pub(super) fn new(cells: &[Cell]) -> Self {
        let mut search = Self {
            maybe: vec![false; 1 << 20],
            ..Self::default()
        };
        for cell in cells {
            for (form, bytes, enough) in forms(&cell.value) {
                search.add(format!("{} as {form}", cell.name), bytes, enough);
            }
        }
        search
    }

    /// How many forms are looked for.
    pub(super) fn len(&self) -> usize {
        self.needles.len()
    }

    fn add(&mut self, what: String, bytes: Vec<u8>, enough: usize) {
        assert!(enough >= GRAM && bytes.len() >= enough, "{what}: {bytes:?}");
        for start in 0..=bytes.len() - enough {
            let gram = gram(&bytes[start..start + GRAM]);
            self.maybe[slot(gram)] = true;
            let places = self.grams.entry(gram).or_default();
            places.push((self.needles.len(), start));
        }
        self.needles.push(Needle {
            alone: what.ends_with(" alone"),
            what,
            bytes,
            enough,
        });
    }

    /// The first that is found, with what stands around it.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<String> {
        let mut rolling = 0_u64;
        for (at, byte) in bytes.iter().enumerate() {
            rolling = (rolling << 8 | u64::from(*byte)) & 0xffff_ffff_ffff;
            if at + 1 < GRAM || !self.maybe[slot(rolling)] {
                continue;
            }
            let from = at + 1 - GRAM;
            for (needle, start) in self.grams.get(&rolling).into_iter().flatten() {
                let needle = &self.needles[*needle];
                let expected = &needle.bytes[*start..*start + needle.enough];
                let behind = bytes.get(from + needle.enough);
                let before = from.checked_sub(1).map(|before| &bytes[before]);
                let inside = [before, behind].into_iter().flatten();
                let inside = inside.into_iter().any(u8::is_ascii_hexdigit);
                if bytes[from..].starts_with(expected) && !(needle.alone && inside) {
                    let around = &bytes[from.saturating_sub(40)..bytes.len().min(from + 60)];
                    return Some(format!("{}: {}", needle.what, around.escape_ascii()));
                }
            }
        }
        None
    }
}

fn gram(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn slot(gram: u64) -> usize {
    usize::try_from(gram.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).unwrap()
}

type Form = (&'static str, Vec<u8>, usize);

fn forms(value: &Value) -> Vec<Form> {
    let mut forms = Vec::new();
    match value {
        Value::Token(text) => worded(text, &mut forms),
        Value::Int(number) => {
            let text = number.to_string();
            whole("digits alone", text.clone().into_bytes(), &mut forms);
            let three = [&text[..3], &text[3..6], &text[6..]].join(",");
            whole("digits in groups", three.into_bytes(), &mut forms);
            let power = format!("{}.{}", &text[..1], &text[1..]);
            whole("a power of ten", power.into_bytes(), &mut forms);
            let bytes = number.to_be_bytes();
            whole(
                "a binary value",
                [&[0, 0, 0, 4], &bytes[..]].concat(),
                &mut forms,
            );
            whole("hexadecimal alone", hex(&bytes).into_bytes(), &mut forms);
        }
        Value::Big(number) => {
            digits(&number.to_string(), 12, &mut forms);
            let bytes = number.to_be_bytes();
            forms.push(("a binary value", bytes.to_vec(), 6));
            forms.push(("hexadecimal", hex(&bytes).into_bytes(), 12));
        }
        Value::Numeric(text) => {
            digits(text, 12, &mut forms);
            forms.push(("a binary numeric", groups(text), 6));
        }
        Value::Float(number) => {
            digits(&number.to_string(), 10, &mut forms);
            let bytes = number.to_be_bytes();
            forms.push(("a binary value", bytes.to_vec(), 6));
            forms.push(("hexadecimal", hex(&bytes).into_bytes(), 12));
        }
        Value::Date(date) => dated(date, &mut forms),
        Value::Stamp(stamp) => {
            for (form, text) in [
                ("a time", stamp.time.clone()),
                ("a fraction", stamp.time[6..].to_owned()),
                ("seconds", stamp.epoch()),
            ] {
                whole(form, text.into_bytes(), &mut forms);
            }
            let bytes = stamp.microseconds().to_be_bytes();
            whole("a binary time", bytes.to_vec(), &mut forms);
            dated(&stamp.date, &mut forms);
        }
        Value::Bytes(bytes) => raw(bytes, &mut forms),
        Value::Uuid(bytes) => {
            raw(bytes, &mut forms);
            let text = uuid::Uuid::from_bytes(*bytes).to_string();
            forms.push(("a uuid", text.clone().into_bytes(), 12));
            forms.push(("a uuid in capitals", text.to_uppercase().into_bytes(), 12));
        }
        Value::Ip(bytes) => {
            forms.push(("binary", bytes.to_vec(), 6));
            forms.push(("hexadecimal", hex(bytes).into_bytes(), 12));
            let address = std::net::Ipv6Addr::from(*bytes).to_string();
            forms.push(("an address", address.into_bytes(), 12));
        }
    }
    forms
}

fn whole(form: &'static str, bytes: Vec<u8>, forms: &mut Vec<Form>) {
    let enough = bytes.len();
    forms.push((form, bytes, enough));
}

fn worded(text: &str, forms: &mut Vec<Form>) {
    let lower = text.to_lowercase();
    for (form, turned, text) in [
        ("text", "turned round", text),
        ("small letters", "small letters turned round", &lower),
    ] {
        forms.push((form, text.as_bytes().to_vec(), 6));
        let reversed: String = text.chars().rev().collect();
        forms.push((turned, reversed.into_bytes(), 6));
        encoded(text.as_bytes(), forms);
    }
}

fn digits(text: &str, enough: usize, forms: &mut Vec<Form>) {
    forms.push(("digits", text.as_bytes().to_vec(), enough));
    let reversed: String = text.chars().rev().collect();
    forms.push(("digits turned round", reversed.into_bytes(), enough));
    let long = hex(text.as_bytes());
    forms.push(("digits in hexadecimal", long.into_bytes(), enough * 2));
}

fn raw(bytes: &[u8], forms: &mut Vec<Form>) {
    forms.push(("bytes", bytes.to_vec(), 6));
    forms.push((
        "bytes turned round",
        bytes.iter().rev().copied().collect(),
        6,
    ));
    encoded(bytes, forms);
}

fn encoded(bytes: &[u8], forms: &mut Vec<Form>) {
    let digits = hex(bytes);
    forms.push((
        "hexadecimal in capitals",
        digits.to_uppercase().into_bytes(),
        12,
    ));
    forms.push(("hexadecimal", digits.into_bytes(), 12));
    // What stands before it moves it by a byte or two.
    for skipped in 0..3 {
        forms.push(("base64", base64(&bytes[skipped..]), 8));
    }
}

fn dated(date: &super::schema::Date, forms: &mut Vec<Form>) {
    let (year, month, day) = (date.year, date.month, date.day);
    for text in [
        format!("{year}-{month:02}-{day:02}"),
        format!("{year}/{month:02}/{day:02}"),
        format!("{year}{month:02}{day:02}"),
        format!("{day:02}.{month:02}.{year}"),
        format!("{day:02}/{month:02}/{year}"),
        format!("{month:02}/{day:02}/{year}"),
        format!("{month:02}-{day:02}-{year}"),
        format!("{day:02}-{month:02}-{year}"),
        (date.days() * 86_400 + 946_684_800).to_string(),
    ] {
        let reversed: String = text.chars().rev().collect();
        whole("a date turned round", reversed.into_bytes(), forms);
        whole("a date", text.into_bytes(), forms);
    }
    let days = i32::try_from(date.days()).unwrap().to_be_bytes();
    whole("a binary date", [&[0, 0, 0, 4], &days[..]].concat(), forms);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digits of a numeric as the server sends them: four in two bytes.
fn groups(text: &str) -> Vec<u8> {
    let (front, back) = text.split_once('.').unwrap();
    assert!(
        front.len().is_multiple_of(4) && back.len().is_multiple_of(4),
        "{text}"
    );
    let digits = [front, back].concat();
    let groups = digits.as_bytes().chunks(4);
    groups
        .flat_map(|four| {
            let number: u16 = std::str::from_utf8(four).unwrap().parse().unwrap();
            number.to_be_bytes()
        })
        .collect()
}

/// Whole groups only: what follows the last one would change it.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3);
    groups
        .flat_map(|three| {
            let joined = gram(three);
            [18, 12, 6, 0].map(|by| LETTERS[usize::try_from(joined >> by & 63).unwrap()])
        })
        .collect()
}

#[test]
fn every_form_of_every_value_is_found_and_its_mask_is_not() {
    let cells = super::schema::cells('a');
    let search = Search::new(&cells);
    for needle in &search.needles {
        let front = &needle.bytes[..needle.enough];
        let back = &needle.bytes[needle.bytes.len() - needle.enough..];
        for part in [front, back] {
            let told = [b"told ", part, b" so"].concat();
            assert!(search.find(&told).is_some(), "{needle:?}");
        }
    }
    for kept in [
        "****",
        "not shown",
        "@example.com",
        "invalid input syntax",
        "2131-01-01",
    ] {
        assert_eq!(search.find(kept.as_bytes()), None);
    }
    assert!(search.len() > 3_000, "{}", search.len());
    for (one, other) in cells.iter().zip(super::schema::cells('b')) {
        let same = match (&one.value, &other.value) {
            (Value::Token(one), Value::Token(other)) => {
                let shown = |text: &str| (text[..3].to_owned(), text[16..].to_owned());
                assert_eq!(shown(one), shown(other));
                one == other
            }
            (one, other) => format!("{one:?}") == format!("{other:?}"),
        };
        assert!(!same, "{one:?}");
    }
}

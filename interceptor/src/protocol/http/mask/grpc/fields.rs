//! What a call says in fields that policy sees, by their descriptors. What two readers could take for different things is
//! refused: whoever judges sees what the server will.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::message::said;
use super::schema::{Count, Field, Kind, MessageId, Number, Schema, Sort};
use super::wire::{self, Item, Wire};
use super::{Broken, Call, Form, Grpc, HEAD, How, Masker, coding};

/// Values of one request.
const VALUES_MAX: usize = 256;

const NOT_ONE: &str = "fields of it have to be read, and it is not one message";
const UNNAMED: &str = "its descriptor does not have a field that has to be read";
const TWICE: &str = "a field that has to be read stands in it twice";
const ODD: &str = "a field that has to be read is of a kind that is not read";
const MANY: &str = "it has more values in fields than are read";

impl From<Broken> for &'static str {
    fn from(broken: Broken) -> Self {
        broken.0
    }
}

impl Call {
    /// What a call says in these fields: each as `name=value`, and what readers find where nothing is written.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub fn fields(
        &self,
        media_type: &str,
        body: &[u8],
        (wanted, how): (&[String], How<'_>),
    ) -> Result<BTreeSet<String>, &'static str> {
        if !matches!(media_type, "application/grpc" | "application/grpc+proto") {
            return Err("its messages are no protocol buffers");
        }
        coding(&how)?;
        let mut plain = Vec::with_capacity(body.len());
        let mut unpacking = Masker(Form::Grpc(Box::new(Grpc::unpacking(how)?)));
        unpacking.feed(body, &mut plain)?;
        unpacking.end(&mut plain)?;
        let (head, message) = plain.split_first_chunk::<HEAD>().ok_or(NOT_ONE)?;
        let [_, length @ ..] = *head;
        if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
            return Err(NOT_ONE);
        }
        let mut said = BTreeSet::new();
        for name in wanted {
            let keys: Vec<&str> = name.split('.').collect();
            let mut reading = Reading {
                schema: &self.schema,
                bytes: message,
                name,
                said: &mut said,
            };
            reading.message(0..message.len(), self.asked, &keys)?;
        }
        Ok(said)
    }
}

/// One field being looked for.
struct Reading<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    name: &'a str,
    said: &'a mut BTreeSet<String>,
}

impl<'a> Reading<'a> {
    /// Looks for what the keys lead to in a message.
    fn message(
        &mut self,
        range: Range<usize>,
        of: MessageId,
        keys: &[&str],
    ) -> Result<(), &'static str> {
        let (key, below) = keys.split_first().ok_or(ODD)?;
        let (number, field) = self.called(of, key)?;
        let mut written = 0_usize;
        let mut at = range.start;
        while at < range.end {
            let item = wire::item(self.bytes, at..range.end)?;
            if matches!(item.wire, Wire::Open | Wire::Close) {
                return Err(ODD);
            }
            at = item.value.end;
            if item.number == number && self.value(&item, field, below)? {
                written = written.saturating_add(1);
            }
        }
        match (field.count, written) {
            (_, 2..) if field.count != Count::Many || self.is_map(field) => Err(TWICE),
            (Count::Many, _) | (_, 1..) => Ok(()),
            (_, 0) => self.absent(field, below),
        }
    }

    /// Whether it holds keys and values: of two of one key readers take the last.
    fn is_map(&self, field: &Field) -> bool {
        matches!(field.kind, Kind::Message(of) if self.schema.sort(of) == Sort::Entry)
    }

    /// The field of a message that is called so: the one, in the file or in JSON.
    fn called(&self, of: MessageId, name: &str) -> Result<(u32, &'a Field), &'static str> {
        if !matches!(self.schema.sort(of), Sort::Plain | Sort::Wrapper) {
            return Err(ODD);
        }
        let mut called = self
            .schema
            .fields(of)
            .filter(|(_, field)| field.is_called(name));
        match (called.next(), called.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(UNNAMED),
        }
    }

    /// Reads the value of a field; whether it is the one that is looked for.
    fn value(&mut self, item: &Item, field: &Field, below: &[&str]) -> Result<bool, &'static str> {
        let value = item.value.clone();
        let read = match (field.kind, item.wire) {
            (Kind::Message(inner), Wire::Length) => match self.schema.sort(inner) {
                Sort::Entry => return self.entry(value, inner, below),
                Sort::Wrapper if below.is_empty() => self.message(value, inner, &["value"]),
                _ if below.is_empty() => Err(ODD),
                _ => self.message(value, inner, below),
            },
            (Kind::Message(_), _) => Err(ODD),
            _ if !below.is_empty() => Err(UNNAMED),
            (Kind::Text, Wire::Length) => {
                let text = String::from_utf8(self.read(value)?.to_vec());
                self.says(&text.map_err(|_not_text| ODD)?)
            }
            (Kind::Bytes, Wire::Length) => self.says(&BASE64_STANDARD.encode(self.read(value)?)),
            (Kind::Number(number), wire) if wire == number.wire() => {
                self.number(value, number, field)
            }
            // Many of them, without what stands before each.
            (Kind::Number(number), Wire::Length) if field.count == Count::Many => {
                let mut at = value.start;
                while at < value.end {
                    let next = match number.wire() {
                        Wire::Varint => wire::varint(self.bytes, at..value.end)?.1,
                        Wire::Fixed32 => at.saturating_add(4),
                        _ => at.saturating_add(8),
                    };
                    if next > value.end {
                        return Err(wire::MALFORMED.0);
                    }
                    self.number(at..next, number, field)?;
                    at = next;
                }
                Ok(())
            }
            _ => Err(ODD),
        };
        read.map(|()| true)
    }

    fn number(
        &mut self,
        value: Range<usize>,
        number: Number,
        field: &Field,
    ) -> Result<(), &'static str> {
        if !field.is_narrow {
            let text = said(number, self.read(value)?)?;
            return self.says(&text);
        }
        // As readers have it: what does not fit is left out.
        let low = low(wire::varint(self.bytes, value)?.0);
        let unsigned = u32::from_le_bytes(low);
        let signed = match number {
            Number::Unsigned => return self.says(&unsigned.to_string()),
            Number::Zigzag if unsigned & 1 == 0 => (unsigned >> 1).cast_signed(),
            Number::Zigzag => !(unsigned >> 1).cast_signed(),
            _ => i32::from_le_bytes(low),
        };
        let Some(words) = &field.words else {
            return self.says(&signed.to_string());
        };
        let mut called = words.iter().filter(|(known, _)| *known == signed);
        // Some readers keep a number without a name, and some take it for none.
        let (_, first) = called.next().ok_or(ODD)?;
        self.says(first)?;
        called.try_for_each(|(_, word)| self.says(word))
    }

    /// A key and its value: the key is a name on the way. Whether it is the one that is looked for.
    fn entry(
        &mut self,
        range: Range<usize>,
        of: MessageId,
        keys: &[&str],
    ) -> Result<bool, &'static str> {
        let (wanted, below) = keys.split_first().ok_or(ODD)?;
        let of_key = self.schema.field(of, 1).ok_or(ODD)?;
        let of_value = self.schema.field(of, 2).ok_or(ODD)?;
        let (mut key, mut value) = (None, None);
        let mut at = range.start;
        while at < range.end {
            let item = wire::item(self.bytes, at..range.end)?;
            at = item.value.end;
            let place = match item.number {
                1 => &mut key,
                2 => &mut value,
                _ => return Err(ODD),
            };
            if place.replace(item).is_some() {
                return Err(TWICE);
            }
        }
        let named = match (&key, of_key.kind) {
            (Some(key), Kind::Text) => {
                let key = self.read(key.value.clone())?;
                key == wanted.as_bytes()
            }
            (None, Kind::Text) => wanted.is_empty(),
            // Keys that are numbers have no names.
            _ => return Err(ODD),
        };
        match (named, value) {
            (false, _) => Ok(false),
            (true, Some(value)) => self.value(&value, of_value, below),
            (true, None) => self.absent(of_value, below).map(|()| true),
        }
    }

    /// What readers find in the place of a field that is not written.
    fn absent(&mut self, field: &Field, below: &[&str]) -> Result<(), &'static str> {
        match (below.split_first(), field.kind) {
            _ if field.is_chosen => Ok(()),
            (None, _) => match &field.absent {
                Some(absent) => self.says(absent),
                None => Ok(()),
            },
            (Some((key, below)), Kind::Message(inner))
                if self.schema.sort(inner) == Sort::Plain =>
            {
                let (_, field) = self.called(inner, key)?;
                match field.count {
                    Count::Many => Ok(()),
                    Count::AtMostOnce | Count::Once => self.absent(field, below),
                }
            }
            _ => Ok(()),
        }
    }

    fn read(&self, range: Range<usize>) -> Result<&[u8], &'static str> {
        self.bytes.get(range).ok_or(wire::MALFORMED.0)
    }

    fn says(&mut self, value: &str) -> Result<(), &'static str> {
        if self.said.len() >= VALUES_MAX {
            return Err(MANY);
        }
        self.said.insert(format!("{}={value}", self.name));
        Ok(())
    }
}

/// The lower half of a number.
fn low(bits: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests;

//! One message, read field by field as its descriptor has it: what is masked, and what detectors find, is written
//! anew, and with it the length of whatever it stands in; every other byte stays as it is.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::schema::{Count, Field, Kind, MessageId, Number, Schema, Sort};
use super::wire::{self, DEPTH_MAX, Item, MALFORMED, Wire};
use super::{Broken, Found, Keys, Looked, Masks, Reached, Rules};
use crate::masking::Mask;
use crate::masking::detect::Detectors;
use crate::protocol::http::mask::apply::{Scalar, shown};
use crate::protocol::http::mask::form;

/// Places in messages whose fields are remembered; at others they are looked at each time.
const PLANS_MAX: usize = 512;
/// Places of one message at which something else is written, and bytes of that.
const EDITS_MAX: usize = 1 << 18;
const WRITTEN_MAX: usize = 8 << 20;

const UNKNOWN: Broken = Broken("it holds a field that its descriptor does not have");
const UNNAMED: Broken = Broken("it holds a message that the descriptors do not have");
const FOUND: Broken = Broken("a value was found in it that goes no farther");
const MANY: Broken = Broken("more of it is masked than is kept of one message");
const DEEP: Broken = Broken("its messages are nested deeper than 100 levels");

/// Messages of one kind being read.
#[derive(Debug)]
pub(super) struct Reader {
    schema: Arc<Schema>,
    message: MessageId,
    rules: Arc<Rules>,
    keys: Arc<Keys>,
    detectors: Option<Arc<Detectors>>,
    /// What no descriptor has goes no farther.
    strict: bool,
    plans: HashMap<(MessageId, Reached), Arc<Plan>>,
    found: Found,
}

/// What the fields of a message are under the rules, by their numbers.
type Plan = HashMap<u32, Step>;

/// How far rules are at a field's value, and its mask.
#[derive(Clone, Debug, Default)]
struct Step {
    here: Reached,
    mask: Option<Mask>,
}

/// A message at its place.
struct Place {
    message: MessageId,
    step: Step,
    depth: usize,
}

/// Bytes that are written in the place of others, by where they stand among all that is written.
struct Edit {
    place: Range<usize>,
    with: Range<usize>,
}

impl Reader {
    pub(super) fn new(
        schema: Arc<Schema>,
        message: MessageId,
        masks: &Masks,
        strict: bool,
    ) -> Self {
        Self {
            schema,
            message,
            rules: Arc::clone(&masks.rules),
            keys: Arc::clone(&masks.keys),
            detectors: masks.detectors.clone(),
            strict,
            plans: HashMap::new(),
            found: Found::default(),
        }
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Adds what of a message goes on.
    pub(super) fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let schema = Arc::clone(&self.schema);
        let place = Place {
            message: self.message,
            step: Step {
                here: self.rules.start(),
                mask: None,
            },
            depth: 0,
        };
        let mut walk = Walk {
            schema: &schema,
            of: self,
            bytes,
            edits: Vec::new(),
            written: Vec::new(),
            grown: 0,
        };
        walk.message(0..bytes.len(), None, &place)?;
        let (mut edits, written) = (walk.edits, walk.written);
        // A length is known behind what it is the length of.
        edits.sort_by_key(|edit| edit.place.start);
        let mut at = 0;
        for Edit { place, with } in edits {
            out.extend_from_slice(bytes.get(at..place.start).ok_or(MALFORMED)?);
            out.extend_from_slice(written.get(with).ok_or(MALFORMED)?);
            at = place.end;
        }
        out.extend_from_slice(bytes.get(at..).ok_or(MALFORMED)?);
        Ok(())
    }

    /// What the fields of a message are at a place.
    fn plan(&mut self, message: MessageId, here: &Reached) -> Arc<Plan> {
        let key = (message, here.clone());
        if let Some(plan) = self.plans.get(&key) {
            return Arc::clone(plan);
        }
        let step = |(number, field): (u32, &Field)| {
            let [name, in_json] = &field.names;
            let (here, mask) = self.rules.step_of(here, &[name, in_json]);
            let mask = mask.cloned();
            (number, Step { here, mask })
        };
        let plan: Arc<Plan> = Arc::new(self.schema.fields(message).map(step).collect());
        if self.plans.len() < PLANS_MAX {
            self.plans.insert(key, Arc::clone(&plan));
        }
        plan
    }
}

/// One message and its edits.
struct Walk<'a> {
    schema: &'a Schema,
    of: &'a mut Reader,
    bytes: &'a [u8],
    edits: Vec<Edit>,
    written: Vec<u8>,
    /// By how much it is longer than it was, so far.
    grown: i64,
}

impl<'a> Walk<'a> {
    fn bytes(&self, range: Range<usize>) -> Result<&'a [u8], Broken> {
        self.bytes.get(range).ok_or(MALFORMED)
    }

    /// Writes something in the place of something.
    fn edit(&mut self, place: Range<usize>, with: &[u8]) -> Result<(), Broken> {
        let from = self.written.len();
        if self.edits.len() >= EDITS_MAX || from.saturating_add(with.len()) > WRITTEN_MAX {
            return Err(MANY);
        }
        let signed = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        self.grown += signed(with.len()) - signed(place.len());
        self.written.extend_from_slice(with);
        let with = from..self.written.len();
        self.edits.push(Edit { place, with });
        Ok(())
    }

    /// Reads the fields of a message; where it ends. A group ends by itself, with its number.
    fn message(
        &mut self,
        range: Range<usize>,
        group: Option<u32>,
        place: &Place,
    ) -> Result<usize, Broken> {
        if place.depth >= DEPTH_MAX {
            return Err(DEEP);
        }
        let plan = match (self.schema.sort(place.message), group) {
            (Sort::Any, None) => {
                self.any(range.clone(), place)?;
                return Ok(range.end);
            }
            (Sort::Any | Sort::Entry, _) => return Err(MALFORMED),
            (Sort::Plain, _) => self.of.plan(place.message, &place.step.here),
            (Sort::Struct | Sort::Value | Sort::Wrapper, _) => Arc::default(),
        };
        let mut at = range.start;
        while at < range.end {
            let item = wire::item(self.bytes, at..range.end)?;
            at = match item.wire {
                Wire::Close if group == Some(item.number) => return Ok(item.value.end),
                Wire::Close => return Err(MALFORMED),
                _ => self.field(&item, range.end, (place, &plan))?,
            };
        }
        match group {
            None => Ok(at),
            Some(_) => Err(MALFORMED),
        }
    }

    /// Reads one field; where it ends.
    fn field(
        &mut self,
        item: &Item,
        end: usize,
        (place, plan): (&Place, &Plan),
    ) -> Result<usize, Broken> {
        let schema = self.schema;
        let known = schema.field(place.message, item.number);
        let Some(field) = known.filter(|field| field.kind.is_written(item.wire)) else {
            self.unknown(UNKNOWN)?;
            return self.end_of(item, end);
        };
        let sort = schema.sort(place.message);
        let step = match sort {
            // Its keys, not its fields, have names.
            Sort::Struct | Sort::Value | Sort::Wrapper => place.step.clone(),
            _ => plan.get(&item.number).cloned().unwrap_or_default(),
        };
        let within = Within {
            item,
            end,
            field,
            of: sort,
            depth: place.depth,
        };
        self.value(&within, step)
    }

    /// Where a field ends that nobody looks into.
    fn end_of(&self, item: &Item, end: usize) -> Result<usize, Broken> {
        match item.wire {
            Wire::Open => wire::group_end(self.bytes, item, end),
            _ => Ok(item.value.end),
        }
    }

    /// What no descriptor has.
    fn unknown(&self, why: Broken) -> Result<(), Broken> {
        match self.of.strict {
            true => Err(why),
            false => Ok(()),
        }
    }

    /// Reads the value of a field; where it ends.
    fn value(&mut self, within: &Within<'_>, step: Step) -> Result<usize, Broken> {
        let item = within.item;
        let inner = match within.field.kind {
            Kind::Message(inner) => Some((inner, self.schema.sort(inner))),
            _ => None,
        };
        match (within.field.kind, inner, &step.mask) {
            // What is masked of these is what they hold.
            (_, Some((inner, Sort::Value | Sort::Wrapper)), _) | (_, Some((inner, _)), None) => {
                return self.descend(within, inner, step);
            }
            (_, _, None) if self.of.detectors.is_none() => {}
            (Kind::Number(number), _, None) => self.look_at_numbers(item, number)?,
            (_, _, None) => self.look_at(item.value.clone())?,
            (Kind::Text | Kind::Bytes, _, Some(mask)) => {
                let mask = mask.clone();
                self.replace(within, &mask)?;
            }
            (_, _, Some(_)) => return self.leave_out(within, false),
        }
        Ok(item.value.end)
    }

    /// Reads the message that a field holds, and says its length anew where it changes.
    fn descend(
        &mut self,
        within: &Within<'_>,
        inner: MessageId,
        step: Step,
    ) -> Result<usize, Broken> {
        let (item, before) = (within.item, self.grown);
        let place = Place {
            message: inner,
            step,
            depth: within.depth + 1,
        };
        match (self.schema.sort(inner), item.wire) {
            (Sort::Entry, Wire::Length) => {
                if !self.entry(within, place)? {
                    return Ok(item.value.end);
                }
            }
            (_, Wire::Open) => {
                let range = item.value.end..within.end;
                return self.message(range, Some(item.number), &place);
            }
            _ => {
                self.message(item.value.clone(), None, &place)?;
            }
        }
        self.say_length(item, before)?;
        Ok(item.value.end)
    }

    /// Writes the length of a value in which something was written, where it is another one.
    fn say_length(&mut self, item: &Item, before: i64) -> Result<(), Broken> {
        let grown = self.grown - before;
        if grown == 0 {
            return Ok(());
        }
        let length = u64::try_from(item.value.len()).unwrap_or(u64::MAX);
        let mut with = Vec::new();
        wire::write_varint(length.saturating_add_signed(grown), &mut with);
        self.edit(item.length.clone(), &with)
    }

    /// A key and its value: the key is a name on the way to the value. Whether anything is left of them.
    fn entry(&mut self, within: &Within<'_>, entry: Place) -> Result<bool, Broken> {
        let schema = self.schema;
        let [key, value] = self.both(within.item.value.clone(), entry.message)?;
        let of_key = schema.field(entry.message, 1).ok_or(MALFORMED)?;
        let name = match (&key, of_key.kind) {
            (Some(key), Kind::Number(number)) => said(number, self.bytes(key.value.clone())?)?,
            (None, Kind::Number(Number::Flag)) => "false".to_owned(),
            (None, Kind::Number(_)) => "0".to_owned(),
            (Some(key), _) => text(self.bytes(key.value.clone())?),
            (None, _) => String::new(),
        };
        let (here, mask) = self.of.rules.step_of(&entry.step.here, &[&name]);
        let step = Step {
            here,
            mask: mask.cloned(),
        };
        if step.mask == Some(Mask::Hide) {
            self.edit(within.item.whole(), &[])?;
            return Ok(false);
        }
        if let Some(key) = &key {
            match of_key.kind {
                Kind::Number(number) => self.look_at_numbers(key, number)?,
                _ => self.look_at(key.value.clone())?,
            }
        }
        if let Some(value) = &value {
            let of_value = Within {
                item: value,
                end: value.value.end,
                field: schema.field(entry.message, 2).ok_or(MALFORMED)?,
                of: Sort::Entry,
                depth: entry.depth,
            };
            self.value(&of_value, step)?;
        }
        Ok(true)
    }

    /// A message of a type that it names.
    fn any(&mut self, range: Range<usize>, place: &Place) -> Result<(), Broken> {
        let [name, value] = self.both(range, place.message)?;
        let Some(value) = value else {
            return Ok(());
        };
        let name = match &name {
            Some(name) => text(self.bytes(name.value.clone())?),
            None => String::new(),
        };
        let name = name.rsplit('/').next().unwrap_or_default();
        let Ok(inner) = self.schema.named(name) else {
            return self.unknown(UNNAMED);
        };
        let before = self.grown;
        let place = Place {
            message: inner,
            step: place.step.clone(),
            depth: place.depth + 1,
        };
        self.message(value.value.clone(), None, &place)?;
        self.say_length(&value, before)
    }

    /// The fields 1 and 2 of a message that has no others. Of one that stands in it twice readers take the last, and
    /// it is what the other says what it is: that is refused.
    fn both(&self, range: Range<usize>, message: MessageId) -> Result<[Option<Item>; 2], Broken> {
        let mut found = [None, None];
        let mut at = range.start;
        while at < range.end {
            let item = wire::item(self.bytes, at..range.end)?;
            at = item.value.end;
            let known = self.schema.field(message, item.number);
            let known = known.filter(|field| match field.kind {
                Kind::Number(number) => number.wire() == item.wire,
                _ => item.wire == Wire::Length,
            });
            let place = match (item.number, known) {
                (1, Some(_)) => found.first_mut(),
                (2, Some(_)) => found.last_mut(),
                _ => None,
            };
            match place {
                Some(place @ None) => *place = Some(item),
                Some(Some(_)) => return Err(MALFORMED),
                None if matches!(item.wire, Wire::Open | Wire::Close) => return Err(MALFORMED),
                None => self.unknown(UNKNOWN)?,
            }
        }
        Ok(found)
    }

    /// A text, or bytes, that is masked.
    fn replace(&mut self, within: &Within<'_>, mask: &Mask) -> Result<(), Broken> {
        let bytes = self.bytes(within.item.value.clone())?;
        let value = match (within.field.kind, std::str::from_utf8(bytes)) {
            (_, Ok(text)) => Scalar::Text(text.into()),
            (Kind::Text, Err(_)) => Scalar::Text(String::from_utf8_lossy(bytes)),
            _ => Scalar::Nothing,
        };
        let Some(shown) = shown(mask, &value, &self.of.keys) else {
            return self.leave_out(within, *mask != Mask::Hide).map(drop);
        };
        let mut with = Vec::new();
        wire::write_varint(u64::try_from(shown.len()).unwrap_or(u64::MAX), &mut with);
        with.extend_from_slice(shown.as_bytes());
        self.edit(within.item.length.start..within.item.value.end, &with)
    }

    /// Leaves a value out: all of its field where that may be, else a value that says nothing. `counts` says that a
    /// list stays as long as it is. Where the field ends.
    fn leave_out(&mut self, within: &Within<'_>, counts: bool) -> Result<usize, Broken> {
        let item = within.item;
        let ends = self.end_of(item, within.end)?;
        let stays = match within.field.count {
            Count::AtMostOnce => false,
            Count::Once => true,
            Count::Many => counts,
        };
        match item.wire {
            // `null_value`, in the place of another kind of value.
            _ if within.of == Sort::Value => self.edit(item.start..ends, &[0x08, 0])?,
            _ if !stays => self.edit(item.start..ends, &[])?,
            Wire::Length => self.edit(item.length.start..item.value.end, &[0])?,
            Wire::Open => {
                // The tag of its end is that of its beginning, but for what it does.
                let mut close = self.bytes(item.tag())?.to_vec();
                if let Some(first) = close.first_mut() {
                    *first = *first & !7 | 4;
                }
                self.edit(item.value.end..ends, &close)?;
            }
            wire => {
                let zero = wire::zero(wire, item.value.len());
                self.edit(item.value.clone(), &zero)?;
            }
        }
        Ok(ends)
    }

    /// Looks at a text that is not masked: what is covered of it is as long as it was.
    fn look_at(&mut self, value: Range<usize>) -> Result<(), Broken> {
        let Some(detectors) = &self.of.detectors else {
            return Ok(());
        };
        let text = self.bytes.get(value.clone()).ok_or(MALFORMED)?;
        match form::look(detectors, text, &mut self.of.found) {
            Looked::Same => {}
            Looked::Covered(with) => self.edit(value, &with)?,
            Looked::Refused(_) => return Err(FOUND),
        }
        Ok(())
    }

    /// Looks at a number, or at many: one that is covered is nothing, as long as it was.
    fn look_at_numbers(&mut self, item: &Item, number: Number) -> Result<(), Broken> {
        if number == Number::Flag || self.of.detectors.is_none() {
            return Ok(());
        }
        let Range { start, end } = item.value;
        let mut at = start;
        while at < end {
            let next = match number.wire() {
                Wire::Varint => wire::varint(self.bytes, at..end)?.1,
                Wire::Fixed32 => at + 4,
                _ => at + 8,
            };
            if next > end {
                return Err(MALFORMED);
            }
            let said = said(number, self.bytes(at..next)?)?;
            let detectors = self.of.detectors.as_ref().ok_or(MALFORMED)?;
            match form::look(detectors, said.as_bytes(), &mut self.of.found) {
                Looked::Same => {}
                Looked::Covered(_) => self.edit(at..next, &wire::zero(number.wire(), next - at))?,
                Looked::Refused(_) => return Err(FOUND),
            }
            at = next;
        }
        Ok(())
    }
}

/// One field in its message.
struct Within<'a> {
    item: &'a Item,
    /// Where its message ends.
    end: usize,
    field: &'a Field,
    /// What its message is.
    of: Sort,
    depth: usize,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a number says, as people write it.
pub(super) fn said(number: Number, bytes: &[u8]) -> Result<String, Broken> {
    let varint = || wire::varint(bytes, 0..bytes.len()).map(|(number, _)| number);
    let four = || <[u8; 4]>::try_from(bytes).map_err(|_short| MALFORMED);
    let eight = || <[u8; 8]>::try_from(bytes).map_err(|_short| MALFORMED);
    Ok(match number {
        Number::Flag => (varint()? != 0).to_string(),
        Number::Signed => varint()?.cast_signed().to_string(),
        Number::Unsigned => varint()?.to_string(),
        Number::Zigzag => {
            let folded = varint()?;
            let half = (folded >> 1).cast_signed();
            (if folded & 1 == 0 { half } else { !half }).to_string()
        }
        Number::Fixed32 => u32::from_le_bytes(four()?).to_string(),
        Number::SignedFixed32 => i32::from_le_bytes(four()?).to_string(),
        Number::Fixed64 => u64::from_le_bytes(eight()?).to_string(),
        Number::SignedFixed64 => i64::from_le_bytes(eight()?).to_string(),
        Number::Float => f32::from_le_bytes(four()?).to_string(),
        Number::Double => f64::from_le_bytes(eight()?).to_string(),
    })
}

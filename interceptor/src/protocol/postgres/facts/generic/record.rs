//! A parse tree as a flat list of named items, made by serialising it.
//!
//! Knows nothing of SQL: a serde serializer whose output is a list in which each item knows its
//! parent, the field it hangs in, and where its own part of the list ends.

use pg_query::protobuf::ParseResult;
use serde::ser::{self, Impossible, Serialize};

/// A place in the list.
pub(super) type Index = usize;

/// Scalar values that are kept; zero, false and empty are left out, as protobuf does.
#[derive(Debug)]
enum Value {
    /// Not a scalar: a message.
    Message,
    True,
    Text(Box<str>),
}

#[derive(Debug)]
struct Item {
    /// The root is its own.
    parent: Index,
    /// Name of the message; empty for a scalar.
    kind: &'static str,
    /// The field of the parent that it hangs in.
    field: &'static str,
    value: Value,
    /// One past the last item below this one.
    end: Index,
}

/// The list. A `Node` is only a wrapper: it is counted, and what it wraps takes its place.
#[derive(Debug, Default)]
pub(super) struct Tree {
    items: Vec<Item>,
    wrappers: usize,
    /// Where the next item hangs.
    parent: Index,
    field: &'static str,
}

impl Tree {
    /// The tree of a parsed text. `None` cannot happen with the messages of `pg_query`, which hold
    /// nothing but messages, lists and scalars.
    pub(super) fn of(parsed: &ParseResult) -> Option<Self> {
        let mut tree = Self::default();
        parsed.serialize(&mut tree).ok()?;
        Some(tree)
    }

    /// Every message, each before what is below it.
    pub(super) fn messages(&self) -> impl Iterator<Item = Index> + '_ {
        (0..self.items.len()).filter(|at| !self.kind(*at).is_empty())
    }

    /// How many `Node` there were.
    pub(super) fn wrappers(&self) -> usize {
        self.wrappers
    }

    pub(super) fn kind(&self, at: Index) -> &'static str {
        self.items.get(at).map(|item| item.kind).unwrap_or_default()
    }

    /// The field that an item hangs in.
    pub(super) fn field(&self, at: Index) -> &'static str {
        self.items
            .get(at)
            .map(|item| item.field)
            .unwrap_or_default()
    }

    /// The item above.
    pub(super) fn parent(&self, at: Index) -> Option<Index> {
        self.items
            .get(at)
            .map(|item| item.parent)
            .filter(|parent| *parent != at)
    }

    /// Whether a field holds anything but its default.
    pub(super) fn has(&self, at: Index, field: &str) -> bool {
        self.children(at, field).next().is_some()
    }

    pub(super) fn text(&self, at: Index, field: &str) -> Option<&str> {
        self.children(at, field)
            .find_map(|child| match &self.items.get(child)?.value {
                Value::Text(text) => Some(&**text),
                Value::True | Value::Message => None,
            })
    }

    pub(super) fn flag(&self, at: Index, field: &str) -> bool {
        let mut values = self
            .children(at, field)
            .filter_map(|child| self.items.get(child));
        values.any(|item| matches!(item.value, Value::True))
    }

    /// The strings of a list of `String` nodes; other nodes in it are left out.
    pub(super) fn words(&self, at: Index, field: &str) -> Vec<&str> {
        let strings = self
            .children(at, field)
            .filter(|child| self.kind(*child) == "String");
        strings
            .map(|child| self.text(child, "sval").unwrap_or_default())
            .collect()
    }

    /// The items right below `at` in a field, jumping over what is below them.
    fn children<'a>(&'a self, at: Index, field: &'a str) -> impl Iterator<Item = Index> + 'a {
        let end = self.items.get(at).map_or(0, |item| item.end);
        let mut next = at.saturating_add(1);
        let siblings = std::iter::from_fn(move || {
            let here = next;
            let item = self.items.get(here).filter(|_| here < end)?;
            next = item.end;
            Some((here, item.field))
        });
        siblings.filter_map(move |(here, name)| (name == field).then_some(here))
    }

    fn push(&mut self, kind: &'static str, value: Value) -> Index {
        let at = self.items.len();
        let end = at.saturating_add(1);
        self.items.push(Item {
            parent: self.parent,
            kind,
            field: self.field,
            value,
            end,
        });
        at
    }
}

/// The serialiser's only error: something that messages of `pg_query` do not hold.
#[derive(Debug, thiserror::Error)]
#[error("serialise a parse tree: {0}")]
pub(super) struct Strange(String);

impl ser::Error for Strange {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn strange<T>(what: &str) -> Result<T, Strange> {
    Err(Strange(what.to_owned()))
}

/// The inside of one message; closed by `end`. A wrapper has no place of its own.
pub(super) struct Open<'a> {
    tree: &'a mut Tree,
    at: Option<Index>,
    outer: (Index, &'static str),
}

impl ser::SerializeStruct for Open<'_> {
    type Ok = ();
    type Error = Strange;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Strange> {
        if let Some(at) = self.at {
            self.tree.parent = at;
            self.tree.field = key;
        }
        value.serialize(&mut *self.tree)
    }

    fn end(self) -> Result<(), Strange> {
        let end = self.tree.items.len();
        if let Some(item) = self.at.and_then(|at| self.tree.items.get_mut(at)) {
            item.end = end;
        }
        (self.tree.parent, self.tree.field) = self.outer;
        Ok(())
    }
}

impl ser::SerializeSeq for &mut Tree {
    type Ok = ();
    type Error = Strange;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Strange> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Strange> {
        Ok(())
    }
}

/// Numbers say nothing that is looked for.
macro_rules! skipped {
    ($($method:ident($kind:ty))*) => { $(
        fn $method(self, _: $kind) -> Result<(), Strange> {
            Ok(())
        }
    )* };
}

impl<'a> ser::Serializer for &'a mut Tree {
    type Ok = ();
    type Error = Strange;
    type SerializeSeq = &'a mut Tree;
    type SerializeTuple = Impossible<(), Strange>;
    type SerializeTupleStruct = Impossible<(), Strange>;
    type SerializeTupleVariant = Impossible<(), Strange>;
    type SerializeMap = Impossible<(), Strange>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Impossible<(), Strange>;

    skipped! {
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_f32(f32) serialize_f64(f64) serialize_char(char)
    }

    fn serialize_bool(self, value: bool) -> Result<(), Strange> {
        if value {
            self.push("", Value::True);
        }
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Strange> {
        if !value.is_empty() {
            self.push("", Value::Text(value.into()));
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Strange> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Strange> {
        value.serialize(self)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Open<'a>, Strange> {
        let outer = (self.parent, self.field);
        let at = if name == "Node" {
            self.wrappers = self.wrappers.saturating_add(1);
            None
        } else {
            Some(self.push(name, Value::Message))
        };
        Ok(Open {
            tree: self,
            at,
            outer,
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Strange> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<&'a mut Tree, Strange> {
        Ok(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<(), Strange> {
        strange(name)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Strange> {
        strange("bytes")
    }

    fn serialize_unit(self) -> Result<(), Strange> {
        strange("unit")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Strange> {
        strange(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Strange> {
        strange(name)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Strange> {
        strange("tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTuple, Strange> {
        strange(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTuple, Strange> {
        strange(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Strange> {
        strange("map")
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTuple, Strange> {
        strange(name)
    }
}

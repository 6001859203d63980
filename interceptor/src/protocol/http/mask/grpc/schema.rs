//! What messages hold, by the descriptors that the compiler of protocol buffers writes
//! (`protoc --include_imports -o FILE`).

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto,
};

use super::wire::Wire;

/// Bytes of a file of descriptors.
const FILE_MAX: u64 = 16 << 20;

/// A message among those of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MessageId(usize);

/// Messages and procedures.
#[derive(Debug, Default)]
pub struct Schema {
    messages: Vec<Message>,
    by_name: HashMap<String, MessageId>,
    /// By name, the words for the numbers of an enumeration; the first is what is read where none is written.
    words: HashMap<String, Arc<Vec<(i32, String)>>>,
    /// By service and method, with a slash between, what is asked and what is answered.
    methods: HashMap<String, (MessageId, MessageId)>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sort: Sort,
    fields: HashMap<u32, Field>,
}

/// What readers of JSON take a message for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// An object.
    Plain,
    /// An object with the keys of the message that it holds, whatever that is.
    Any,
    /// A key and its value.
    Entry,
    /// An object with keys of its own.
    Struct,
    /// Any value.
    Value,
    /// The value that it holds, or the list.
    Wrapper,
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// What it is called, in the file and in JSON.
    pub(super) names: [String; 2],
    pub(super) kind: Kind,
    pub(super) count: Count,
    /// What a number of an enumeration is called.
    pub(super) words: Option<Arc<Vec<(i32, String)>>>,
    /// What readers find where it is not written; none where they find nothing, or a message.
    pub(super) absent: Option<String>,
    /// At most one of some fields is written.
    pub(super) is_chosen: bool,
    /// Readers keep 32 bits of its number, whatever is written.
    pub(super) is_narrow: bool,
}

impl Field {
    /// Whether people call it so.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bytes,
    Number(Number),
    Message(MessageId),
}

/// What a number is, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Flag,
    Signed,
    Unsigned,
    Zigzag,
    Fixed32,
    Fixed64,
    SignedFixed32,
    SignedFixed64,
    Float,
    Double,
}

/// How often a field may stand in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    AtMostOnce,
    Once,
    Many,
}

impl Kind {
    /// Whether readers take a field that is written like this for one of this kind.
    pub(super) fn is_written(self, wire: Wire) -> bool {
        match self {
            Self::Text | Self::Bytes => wire == Wire::Length,
            Self::Message(_) => matches!(wire, Wire::Length | Wire::Open),
            Self::Number(number) => wire == number.wire() || wire == Wire::Length,
        }
    }
}

impl Number {
    /// How one is written.
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Flag | Self::Signed | Self::Unsigned | Self::Zigzag => Wire::Varint,
            Self::Fixed32 | Self::SignedFixed32 | Self::Float => Wire::Fixed32,
            Self::Fixed64 | Self::SignedFixed64 | Self::Double => Wire::Fixed64,
        }
    }
}

impl Schema {
    /// Reads a file of descriptors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
            return Err("it is longer than 16 MiB".to_owned());
        }
        Self::of(&bytes)
    }

    /// The same of bytes that were read.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        let set = FileDescriptorSet::decode(bytes).map_err(|_other| "it holds none".to_owned())?;
        let mut schema = Self::default();
        let mut seen = BTreeSet::new();
        let mut files: Vec<_> = set.file.into_iter().collect();
        // Sets that were put together hold what they share twice.
        files.retain(|file| seen.insert(file.name().to_owned()));
        for file in &files {
            for message in &file.message_type {
                schema.name(&prefix(file.package()), message)?;
            }
            for words in &file.enum_type {
                schema.call(&prefix(file.package()), words);
            }
        }
        for file in &files {
            schema.fill_of(file)?;
        }
        match schema.methods.is_empty() {
            true => Err("it names no service".to_owned()),
            false => Ok(schema),
        }
    }

    /// Takes a message, and those in it, in without their fields: fields may be of any of them.
    fn name(&mut self, prefix: &str, message: &DescriptorProto) -> Result<(), String> {
        let name = format!("{prefix}{}", message.name());
        let id = MessageId(self.messages.len());
        let is_entry = message
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry());
        self.messages.push(Message {
            sort: sort(&name, is_entry),
            fields: HashMap::new(),
        });
        for nested in &message.nested_type {
            self.name(&format!("{name}."), nested)?;
        }
        for words in &message.enum_type {
            self.call(&format!("{name}."), words);
        }
        match self.by_name.insert(name, id) {
            None => Ok(()),
            Some(_) => Err(format!("it has two messages {prefix}{}", message.name())),
        }
    }

    fn call(&mut self, prefix: &str, words: &EnumDescriptorProto) {
        let called = words.value.iter();
        let called = called.map(|value| (value.number(), value.name().to_owned()));
        let name = format!("{prefix}{}", words.name());
        self.words.insert(name, Arc::new(called.collect()));
    }

    fn fill_of(&mut self, file: &FileDescriptorProto) -> Result<(), String> {
        let package = prefix(file.package());
        for message in &file.message_type {
            self.fill(&package, message)?;
        }
        self.extend(&file.extension)?;
        for service in &file.service {
            for method in &service.method {
                let types = self.types(method)?;
                let name = format!("{package}{}/{}", service.name(), method.name());
                self.methods.insert(name, types);
            }
        }
        Ok(())
    }

    fn types(&self, method: &MethodDescriptorProto) -> Result<(MessageId, MessageId), String> {
        Ok((
            self.named(method.input_type())?,
            self.named(method.output_type())?,
        ))
    }

    fn fill(&mut self, prefix: &str, message: &DescriptorProto) -> Result<(), String> {
        let name = format!("{prefix}{}", message.name());
        for field in &message.field {
            self.add(&name, field)?;
        }
        self.extend(&message.extension)?;
        for nested in &message.nested_type {
            self.fill(&format!("{name}."), nested)?;
        }
        Ok(())
    }

    /// Fields of messages that stand elsewhere.
    fn extend(&mut self, extensions: &[FieldDescriptorProto]) -> Result<(), String> {
        for extension in extensions {
            let name = extension.extendee().trim_start_matches('.').to_owned();
            self.add(&name, extension)?;
        }
        Ok(())
    }

    fn add(&mut self, message: &str, field: &FieldDescriptorProto) -> Result<(), String> {
        let kind = self.kind(field)?;
        let words = (field.r#type() == Type::Enum).then(|| field.type_name());
        let words = words.and_then(|name| self.words.get(name.trim_start_matches('.')));
        let words = words.map(Arc::clone);
        let made = Field {
            names: [field.name().to_owned(), json_name(field)],
            absent: absent(field, kind, words.as_deref()),
            is_chosen: is_chosen(field),
            is_narrow: matches!(
                field.r#type(),
                Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum
            ),
            words,
            kind,
            count: match field.label() {
                Label::Optional => Count::AtMostOnce,
                Label::Required => Count::Once,
                Label::Repeated => Count::Many,
            },
        };
        let id = self.named(message)?;
        let number = u32::try_from(field.number());
        let number = number.map_err(|_negative| format!("{message} has a field without number"))?;
        if let Some(message) = self.messages.get_mut(id.0) {
            message.fields.insert(number, made);
        }
        Ok(())
    }

    fn kind(&self, field: &FieldDescriptorProto) -> Result<Kind, String> {
        let number = match field.r#type() {
            Type::String => return Ok(Kind::Text),
            Type::Bytes => return Ok(Kind::Bytes),
            Type::Message | Type::Group => return self.named(field.type_name()).map(Kind::Message),
            Type::Bool => Number::Flag,
            Type::Int32 | Type::Int64 | Type::Enum => Number::Signed,
            Type::Uint32 | Type::Uint64 => Number::Unsigned,
            Type::Sint32 | Type::Sint64 => Number::Zigzag,
            Type::Fixed32 => Number::Fixed32,
            Type::Fixed64 => Number::Fixed64,
            Type::Sfixed32 => Number::SignedFixed32,
            Type::Sfixed64 => Number::SignedFixed64,
            Type::Float => Number::Float,
            Type::Double => Number::Double,
        };
        Ok(Kind::Number(number))
    }

    /// The message of this name, as the compiler writes it or as it is.
    pub(super) fn named(&self, name: &str) -> Result<MessageId, String> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let id = self.by_name.get(name).copied();
        id.ok_or_else(|| format!("it names the message {name:?}, and does not say what that is; make it with --include_imports"))
    }

    /// What is asked and what is answered; `None` where the procedure is not known.
    pub(super) fn method(&self, service: &str, method: &str) -> Option<(MessageId, MessageId)> {
        self.methods.get(&format!("{service}/{method}")).copied()
    }

    /// The messages that it has.
    pub(super) fn sort(&self, id: MessageId) -> Sort {
        self.messages
            .get(id.0)
            .map_or(Sort::Plain, |message| message.sort)
    }

    /// A field of one.
    pub(super) fn field(&self, id: MessageId, number: u32) -> Option<&Field> {
        self.messages.get(id.0)?.fields.get(&number)
    }

    /// All of its fields.
    pub(super) fn fields(&self, id: MessageId) -> impl Iterator<Item = (u32, &Field)> {
        let message = self.messages.get(id.0).into_iter();
        message.flat_map(|message| {
            message
                .fields
                .iter()
                .map(|(number, field)| (*number, field))
        })
    }
}

/// What readers find in the place of a field that is not written: what it says of itself, or nothing of its kind.
fn absent(
    field: &FieldDescriptorProto,
    kind: Kind,
    words: Option<&Vec<(i32, String)>>,
) -> Option<String> {
    if field.label() != Label::Optional || is_chosen(field) {
        return None;
    }
    match (kind, &field.default_value, words) {
        (Kind::Message(_), ..) | (Kind::Bytes, Some(_), _) => None,
        (_, Some(said), _) => Some(said.clone()),
        (Kind::Text | Kind::Bytes, None, _) => Some(String::new()),
        (Kind::Number(Number::Flag), None, _) => Some("false".to_owned()),
        (Kind::Number(_), None, Some(words)) => words.first().map(|(_, word)| word.clone()),
        (Kind::Number(_), None, None) => Some("0".to_owned()),
    }
}

/// Whether it is one of some of which at most one is written. One that is `optional` is written as such a choice.
fn is_chosen(field: &FieldDescriptorProto) -> bool {
    field.oneof_index.is_some() && !field.proto3_optional()
}

/// What stands before the names of a package.
fn prefix(package: &str) -> String {
    match package {
        "" => String::new(),
        package => format!("{package}."),
    }
}

/// The name of a field in JSON, as the compiler makes it.
fn json_name(field: &FieldDescriptorProto) -> String {
    if let Some(said) = &field.json_name {
        return said.clone();
    }
    let mut name = String::new();
    let mut raises = false;
    for letter in field.name().chars() {
        match letter {
            '_' => raises = true,
            letter if std::mem::take(&mut raises) => name.push(letter.to_ascii_uppercase()),
            letter => name.push(letter),
        }
    }
    name
}

fn sort(name: &str, is_entry: bool) -> Sort {
    let Some(known) = name.strip_prefix("google.protobuf.") else {
        return if is_entry { Sort::Entry } else { Sort::Plain };
    };
    match known {
        _ if is_entry => Sort::Entry,
        "Any" => Sort::Any,
        "Struct" => Sort::Struct,
        "Value" => Sort::Value,
        "ListValue" | "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value"
        | "Int32Value" | "UInt32Value" | "BoolValue" | "StringValue" | "BytesValue" => {
            Sort::Wrapper
        }
        _ => Sort::Plain,
    }
}

/// The schemas of the configuration in force, each read once.
#[derive(Debug, Default)]
pub(in crate::protocol::http) struct Schemas(Mutex<HashMap<PathBuf, Arc<Schema>>>);

impl Schemas {
    /// Forgets what was read.
    pub(in crate::protocol::http) fn forget(&self) {
        self.known().clear();
    }

    /// What a file says; `None` where it cannot be read, so that nothing is known of any message.
    pub(in crate::protocol::http) fn of(&self, path: &Path) -> Option<Arc<Schema>> {
        let mut known = self.known();
        if let Some(schema) = known.get(path) {
            return Some(Arc::clone(schema));
        }
        match Schema::read(path) {
            Ok(schema) => {
                let schema = Arc::new(schema);
                known.insert(path.to_owned(), Arc::clone(&schema));
                Some(schema)
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "descriptors of messages cannot be read");
                None
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Arc<Schema>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

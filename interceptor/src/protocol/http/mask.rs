//! Masking answers as they go by: fields of JSON by their keys, values by their form.
//!
//! What is not understood goes no farther: whatever comes out was either read as what it is, or nobody asked for
//! masks. Nothing is kept of an answer but the token that is being read.

mod apply;
mod csv;
pub(super) mod decode;
mod form;
pub mod grpc;
mod json;
mod lines;
mod rules;
mod text;
mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::apply::{Keys, key_of};
use self::csv::{Csv, Header};
use self::form::Form as Parameters;
pub(crate) use self::form::said;
use self::grpc::Grpc;
use self::json::Json;
use self::lines::Lines;
pub use self::rules::Rules;
use self::text::Text;
pub(crate) use self::written::Write;
use crate::config::Tables;
use crate::masking::Mask;
use crate::masking::detect::{Action, Actions, Detectors, Piece};
use crate::secrets::Secret;

/// Why an answer goes no farther.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// What is masked of a target's answers.
#[derive(Clone, Debug)]
pub struct Masks {
    rules: Arc<Rules>,
    tables: Tables,
    detectors: Option<Arc<Detectors>>,
    keys: Arc<Keys>,
}

/// What detectors found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(BTreeMap<&'static str, u64>);

impl Found {
    /// How many of which kinds.
    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }

    /// Adds what was found elsewhere.
    pub(crate) fn add(&mut self, more: &BTreeMap<&'static str, u64>) {
        for (kind, count) in more {
            let sum = self.0.entry(kind).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many of all kinds.
    fn total(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }

    fn note(&mut self, piece: &Piece) {
        if piece.begins {
            let count = self.0.entry(piece.kind.word()).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// One answer being masked.
#[derive(Debug)]
pub struct Masker(Form);

#[derive(Debug)]
enum Form {
    /// JSON, one value or many.
    Json(Box<Json>),
    /// Messages of gRPC.
    Grpc(Box<Grpc>),
    /// A table.
    Csv(Box<Csv>),
    /// Events, each with JSON in it.
    Lines(Box<Lines>),
    /// Parameters of a form.
    Parameters(Box<Parameters>),
    /// Text.
    Text(Box<Text>),
}

impl Masks {
    /// Masks by these settings; `None` where no key can be made. Hashes that are equal in all sessions are keyed by
    /// `hash_key`.
    #[must_use]
    pub fn new(fields: &[(String, Mask)], detect: &Actions, hash_key: &Secret) -> Option<Self> {
        Some(Self {
            rules: Arc::new(Rules::new(fields)),
            tables: Tables::Said,
            detectors: Detectors::new(detect).map(Arc::new),
            keys: Arc::new(Keys::new(hash_key)?),
        })
    }

    /// The same, where this is known of what the first lines of tables are.
    #[must_use]
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// Whether any fields are masked.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The same without masks of fields, for whoever may see them.
    #[must_use]
    pub fn revealed(&self) -> Self {
        Self {
            rules: Arc::default(),
            ..self.clone()
        }
    }

    /// The same with masks of more fields.
    #[must_use]
    pub fn and(&self, more: &[(&'static [&'static str], Mask)]) -> Self {
        Self {
            rules: Arc::new(self.rules.and(more)),
            ..self.clone()
        }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.detectors.is_none()
    }

    /// What finds values by their form.
    pub(crate) fn detectors(&self) -> Option<&Arc<Detectors>> {
        self.detectors.as_ref()
    }

    /// Whether something may have to be kept from the agent.
    pub(crate) fn keeps(&self) -> bool {
        let acts = |with: &Arc<Detectors>| {
            let mut actions = with.actions().values();
            actions.any(|action| *action != Action::Report)
        };
        !self.rules.is_empty() || self.detectors.as_ref().is_some_and(acts)
    }

    /// What masks an answer of this media type, parameters of it behind it; `None` where nothing has to.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn masker(&self, media_type: &str) -> Result<Option<Masker>, &'static str> {
        let json = || Json::new(self);
        let (media_type, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
        let media_type = media_type.trim();
        let form = match (kind(media_type), self.rules.is_empty()) {
            (Kind::Json, _) => Form::Json(Box::new(json())),
            (Kind::Events, false) => Form::Lines(Box::new(Lines::new(json()))),
            (Kind::Csv, false) => {
                let header = Header::of(parameters, self.tables)?;
                Form::Csv(Box::new(Csv::new(self, header)?))
            }
            (Kind::Events | Kind::Text | Kind::Csv, true) => match &self.detectors {
                Some(with) => Form::Text(Box::new(Text::new(Arc::clone(with)))),
                None => return Ok(None),
            },
            (Kind::Form, true) => match &self.detectors {
                Some(with) => Form::Parameters(Box::new(Parameters::new(Arc::clone(with)))),
                None => return Ok(None),
            },
            (Kind::Text | Kind::Form, false) => return Err("it is neither JSON nor a table"),
            (Kind::Other, _) if self.keeps() => return Err("it is neither JSON nor text"),
            (Kind::Other, _) => return Ok(None),
        };
        Ok(Some(Masker(form)))
    }
}

/// What a short text is under the detectors.
#[derive(Debug)]
pub(crate) enum Looked {
    /// As it was.
    Same,
    /// With values covered.
    Covered(Vec<u8>),
    /// It holds a value of this kind that goes no farther.
    Refused(&'static str),
}

impl Masks {
    /// Looks at a text that is there as a whole.
    pub(crate) fn look(&self, text: &[u8], found: &mut Found) -> Looked {
        match &self.detectors {
            Some(with) => form::look(with, text, found),
            None => Looked::Same,
        }
    }

    /// Of what was found, a kind that goes no farther.
    pub(crate) fn refuses(&self, found: &BTreeMap<&'static str, u64>) -> Option<&'static str> {
        let actions = self.detectors.as_ref()?.actions();
        let mut refused = actions
            .iter()
            .filter(|(_, action)| **action == Action::Refuse);
        refused.find_map(|(kind, _)| found.contains_key(kind.word()).then(|| kind.word()))
    }
}

impl Masker {
    /// Masks nothing of messages of gRPC that come compressed, and gives what they say.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn unpacking(how: grpc::How<'_>) -> Result<Self, &'static str> {
        Grpc::unpacking(how).map(|grpc| Self(Form::Grpc(Box::new(grpc))))
    }

    /// Whether it reads what comes packed in its messages.
    #[must_use]
    pub fn unpacks(&self) -> bool {
        matches!(self.0, Form::Grpc(_))
    }

    /// Takes the next bytes, and gives what of them goes on.
    ///
    /// # Errors
    /// Where the answer goes no farther; what was given before is all that goes on.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.0 {
            Form::Json(json) => json.feed(bytes, out),
            Form::Grpc(grpc) => grpc.feed(bytes, out),
            Form::Csv(csv) => csv.feed(bytes, out),
            Form::Lines(lines) => lines.feed(bytes, out),
            Form::Parameters(form) => form.feed(bytes, out),
            Form::Text(text) => text.feed(bytes, out),
        }
    }

    /// Gives what is left.
    ///
    /// # Errors
    /// Where it ends in the middle of something.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.0 {
            Form::Json(json) => json.end(out),
            Form::Grpc(grpc) => grpc.end(),
            Form::Csv(csv) => csv.end(out),
            Form::Lines(lines) => lines.end(out),
            Form::Parameters(form) => form.end(out),
            Form::Text(text) => text.end(out),
        }
    }

    /// How many values of which kinds were found.
    #[must_use]
    pub fn found(&self) -> BTreeMap<&'static str, u64> {
        let found = match &self.0 {
            Form::Json(json) => json.found(),
            Form::Grpc(grpc) => grpc.found(),
            Form::Csv(csv) => csv.found(),
            Form::Lines(lines) => lines.found(),
            Form::Parameters(form) => form.found(),
            Form::Text(text) => text.found(),
        };
        found.0.clone()
    }
}

/// What a media type is read as.
#[derive(Clone, Copy)]
enum Kind {
    Json,
    Csv,
    Events,
    Form,
    Text,
    Other,
}

/// Whether a media type is JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    matches!(kind(media_type), Kind::Json)
}

fn kind(media_type: &str) -> Kind {
    match media_type {
        // By its own ways, where its messages are known.
        kind if grpc::is_grpc(kind) => Kind::Other,
        "text/event-stream" => Kind::Events,
        "application/json"
        | "text/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/json-seq"
        // What most services of AWS speak.
        | "application/x-amz-json-1.0"
        | "application/x-amz-json-1.1" => Kind::Json,
        kind if kind.ends_with("+json") => Kind::Json,
        "text/csv" | "application/csv" | "text/tab-separated-values" => Kind::Csv,
        "application/x-www-form-urlencoded" => Kind::Form,
        "application/xml"
        | "application/javascript"
        | "application/yaml"
        | "application/x-yaml"
        | "application/sql" => Kind::Text,
        kind if kind.starts_with("text/") => Kind::Text,
        kind if kind.ends_with("+xml") || kind.ends_with("+yaml") => Kind::Text,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests;

//! Compares the tree with the table of shapes and notes every difference.
//!
//! What passes here has only known keys, all that must be said, and scalars that can be read; so the
//! building that follows never reports anything, and `cross` looks only at how values concern each other.

use std::collections::HashSet;
use std::path::PathBuf;

use super::document::{Entry, Node, Value};
use super::issuers::{self, Url};
use super::mistake::{Named, Report};
use super::scalar;
use super::shape::{Form, Key, Shape, ssh};

/// Bytes of a name of an agent or target.
const MAX_NAME: usize = 63;
/// Bytes of a path, less its NUL (`PATH_MAX`).
const MAX_PATH: usize = 4_095;
/// Bytes of a database, role or schema.
const MAX_IDENTIFIER: usize = 255;
/// The word that lifts a limit.
pub(super) const UNLIMITED: &str = "unlimited";

/// Notes in `report` everything below `node` that is not of this shape.
pub(super) fn check(node: &Node, shape: &Shape, path: &str, report: &mut Report) {
    match shape {
        Shape::List(least, element) => list(node, *least, element, path, report),
        Shape::Names(value) => names(node, (Form::Name, value), path, report),
        Shape::Columns(value) => names(node, (Form::Column, value), path, report),
        Shape::Fields(value) => names(node, (Form::Field, value), path, report),
        Shape::TextOr(form, known) => text_or(node, *form, known, path, report),
        Shape::Keys(known) => {
            if keys(node, known, path, report) {
                missing(node, known, path, report);
            }
        }
        Shape::OneKey(known) => one_key(node, known, path, report),
        Shape::KeyOr(alone, known) => match node.under(alone.name) {
            Some(_) => {
                keys(node, std::slice::from_ref(alone), path, report);
            }
            None => check(node, &Shape::Keys(known), path, report),
        },
        Shape::Flag
        | Shape::Count(..)
        | Shape::Limit(..)
        | Shape::Duration(..)
        | Shape::Size(..)
        | Shape::SizeLimit(..)
        | Shape::Text(_)
        | Shape::Word(_) => match leaf(node, shape) {
            Err(expected) => report.add(node.place, path, expected),
            Ok(()) => named(node, shape, path, report),
        },
    }
}

/// Notes a file that is read later.
fn named(node: &Node, shape: &Shape, key: &str, report: &mut Report) {
    if let (Shape::Text(Form::Holds(held)), Some(path)) = (shape, node.text()) {
        report.name(Named {
            place: node.place,
            key: key.to_owned(),
            path: PathBuf::from(path),
            held: *held,
        });
    }
}

fn list(node: &Node, least: usize, element: &Shape, path: &str, report: &mut Report) {
    let Value::List(elements) = &node.value else {
        return wrong_kind(node, "a list", path, report);
    };
    if elements.len() < least {
        report.add(
            node.place,
            path,
            "expected at least one element, or no key at all where it has a default",
        );
    }
    for (index, node) in elements.iter().enumerate() {
        check(node, element, &format!("{path}[{index}]"), report);
    }
}

fn names(node: &Node, (form, shape): (Form, &Shape), path: &str, report: &mut Report) {
    if !matches!(node.value, Value::Map(_)) {
        let expected = match form {
            Form::Column => "a map from columns",
            Form::Field => "a map from fields",
            _ => "a map from names",
        };
        return wrong_kind(node, expected, path, report);
    }
    repeated(node, path, report);
    for entry in node.entries() {
        let path = join(path, &entry.key);
        if let Err(expected) = text_form(&entry.key, form) {
            report.add(entry.place, &path, expected);
        }
        // `claude:` without anything below it is an entry with all defaults.
        match (&entry.node.value, shape) {
            (Value::Null, Shape::Keys(known) | Shape::KeyOr(_, known)) => {
                missing_of(entry, known, &path, report)
            }
            _ => check(&entry.node, shape, &path, report),
        }
    }
}

fn text_or(node: &Node, form: Form, known: &[Key], path: &str, report: &mut Report) {
    match &node.value {
        Value::Null => {}
        Value::Text(text) => {
            if let Err(expected) = text_form(text, form) {
                report.add(node.place, path, expected);
            }
        }
        Value::Map(_) => {
            keys(node, known, path, report);
        }
        Value::Flag(_) | Value::Integer(_) | Value::Number | Value::List(_) => {
            wrong_kind(node, "text or a map", path, report);
        }
    }
}

/// Checks the keys that are there; whether it is a map at all.
fn keys(node: &Node, known: &[Key], path: &str, report: &mut Report) -> bool {
    if !matches!(node.value, Value::Map(_)) {
        wrong_kind(node, "a map", path, report);
        return false;
    }
    repeated(node, path, report);
    for entry in node.entries() {
        let path = join(path, &entry.key);
        let Some(key) = known.iter().find(|key| key.name == entry.key) else {
            report.add(entry.place, &path, unknown(&entry.key, known));
            continue;
        };
        match entry.node.value {
            // A key with nothing under it is a key left out, where it may be.
            Value::Null if key.default.is_some() => {}
            _ => check(&entry.node, &key.shape, &path, report),
        }
    }
    true
}

fn one_key(node: &Node, known: &[Key], path: &str, report: &mut Report) {
    let one = || format!("expected exactly one of {}", list_of(known));
    if !matches!(node.value, Value::Map(_)) {
        // What stands here may be the secret itself: say its kind, never the value.
        let kind = node.value.kind();
        return report.add(
            node.place,
            path,
            format!("{} as a map, found {kind}", one()),
        );
    }
    keys(node, known, path, report);
    if node.entries().len() != 1 {
        report.add(node.place, path, one());
    }
}

fn missing(node: &Node, known: &[Key], path: &str, report: &mut Report) {
    for key in known.iter().filter(|key| key.default.is_none()) {
        if !node.entries().iter().any(|entry| entry.key == key.name) {
            report.add(
                node.place,
                &join(path, key.name),
                format!("missing: {}", key.about),
            );
        }
    }
}

fn missing_of(entry: &Entry, known: &[Key], path: &str, report: &mut Report) {
    for key in known.iter().filter(|key| key.default.is_none()) {
        report.add(
            entry.place,
            &join(path, key.name),
            format!("missing: {}", key.about),
        );
    }
}

fn repeated(node: &Node, path: &str, report: &mut Report) {
    let mut seen = HashSet::new();
    for entry in node.entries() {
        if !seen.insert(&entry.key) {
            report.add(
                entry.place,
                &join(path, &entry.key),
                "expected once, is said again here",
            );
        }
    }
}

fn wrong_kind(node: &Node, expected: &str, path: &str, report: &mut Report) {
    report.add(
        node.place,
        path,
        format!("expected {expected}, found {}", node.value.kind()),
    );
}

/// Checks one value without parts.
pub(super) fn leaf(node: &Node, shape: &Shape) -> Result<(), String> {
    let found = node.value.kind();
    match (shape, &node.value) {
        (Shape::Flag, Value::Flag(_)) => Ok(()),
        (Shape::Flag, _) => Err(format!("expected true or false, found {found}")),
        (Shape::Limit(..) | Shape::SizeLimit(..), Value::Text(text)) if text == UNLIMITED => Ok(()),
        (Shape::Count(least, most) | Shape::Limit(least, most), value) => {
            let within = |number: &i64| (i64::from(*least)..=i64::from(*most)).contains(number);
            let or = if matches!(shape, Shape::Limit(..)) {
                ", or unlimited"
            } else {
                ""
            };
            match value {
                Value::Integer(number) if within(number) => Ok(()),
                Value::Integer(0) if matches!(shape, Shape::Limit(..)) => Err(format!(
                    "expected a number from {least} to {most}; `{UNLIMITED}` lifts the limit"
                )),
                _ if least == most => Err(format!("expected {least}")),
                _ => Err(format!("expected a number from {least} to {most}{or}")),
            }
        }
        (_, Value::Text(text)) => in_text(text, shape),
        (Shape::Text(_) | Shape::Word(_), Value::Flag(_) | Value::Integer(_) | Value::Number) => {
            Err(format!("expected text, found {found}; put it in quotes"))
        }
        (_, Value::Integer(_) | Value::Number) => Err("expected a unit after the number".into()),
        _ => Err(format!("expected text, found {found}")),
    }
}

fn in_text(text: &str, shape: &Shape) -> Result<(), String> {
    match shape {
        Shape::Duration(least, most) => {
            let millis = crate::clock::duration(text)?.as_millis();
            let within = (u128::from(*least)..=u128::from(*most)).contains(&millis);
            let said = || format!("expected a duration from {least} ms to {} s", most / 1_000);
            within.then_some(()).ok_or_else(said)
        }
        Shape::Size(least, most) | Shape::SizeLimit(least, most) => {
            let within = (*least..=*most).contains(&scalar::size(text)?);
            let said = || format!("expected a size from {least} to {most} bytes");
            within.then_some(()).ok_or_else(said)
        }
        Shape::Text(form) => text_form(text, *form),
        Shape::Word(words) => {
            let said = || format!("expected one of {}", words.join(", "));
            words.contains(&text).then_some(()).ok_or_else(said)
        }
        _ => Err("expected something else than text".into()),
    }
}

/// Whether a text can name an agent or a target: 1 to 63 of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(name)
}

/// What is expected where it is not there.
const A_NAME: &str = "expected a name of 1 to 63 of a-z, 0-9 and -";
const A_VARIABLE: &str = "expected the name of a variable: letters, digits and _";
const A_FIELD: &str = "expected keys with dots between, such as customers.email, *.email or **.ssn";
const A_HEADER: &str = "expected the name of a header, lower or upper case";
/// Checks the form of a text that names something of the host's.
fn host_form(text: &str, form: Form) -> Result<(), String> {
    let (fine, expected) = match form {
        Form::Door => (
            is_door(text),
            "expected a whole path of at most 107 bytes without `..`, or an abstract name behind an `@`",
        ),
        Form::EnvPattern => (
            ssh::is_env_pattern(text),
            "expected the name of a variable, or its beginning and `*`",
        ),
        Form::Label => (
            !text.is_empty() && !text.starts_with('=') && !text.contains(char::is_control),
            "expected the name of a label, or NAME=VALUE",
        ),
        _ => (
            text.starts_with('/')
                && text.len() <= MAX_PATH
                && !text.contains('\0')
                && no_parents(text),
            "expected a whole path without `..`",
        ),
    };
    if fine {
        Ok(())
    } else {
        Err(expected.to_owned())
    }
}

/// Whether a UNIX socket can be called so: `sun_path` has 108 bytes, and a path's zero is one of them.
fn is_door(text: &str) -> bool {
    let is_short = text.len() <= 107 && !text.contains('\0');
    let is_path = text.starts_with('/') && no_parents(text);
    is_short && (is_path || text.len() > 1 && text.starts_with('@'))
}

/// Checks the form of a text.
pub(super) fn text_form(text: &str, form: Form) -> Result<(), String> {
    let (fine, expected) = match form {
        Form::Address => return scalar::address(text).map(drop),
        Form::Server => return scalar::server(text).map(drop),
        Form::Addresses => return scalar::addresses(text).map(drop),
        Form::Socket => return scalar::socket(text).map(drop),
        Form::Network => return scalar::network(text).map(drop),
        Form::Url => return Url::read(text).map(drop),
        Form::Recipient => return scalar::recipient(text),
        Form::Claim => return issuers::claim(text).map(drop),
        Form::HostKey => return ssh::host_key(text).map(drop).map_err(str::to_owned),
        Form::Column => return scalar::column(text).map(drop),
        Form::Function => return scalar::function(text).map(drop),
        Form::Domain => (
            scalar::name(text).is_some(),
            "expected a domain such as internal or corp.example",
        ),
        Form::RecordType => (
            crate::names::message::is_type(text),
            "expected a type of DNS records such as A or TXT",
        ),
        Form::Door | Form::WholePath | Form::EnvPattern | Form::Label => {
            return host_form(text, form);
        }
        Form::Name => (is_name(text), A_NAME),
        Form::Path | Form::Holds(_) => (
            (1..=MAX_PATH).contains(&text.len()) && !text.contains('\0') && no_parents(text),
            "expected a path without `..`",
        ),
        Form::Cgroup => (
            (1..=MAX_PATH).contains(&text.len()) && is_cgroup(text),
            "expected a path below the cgroup v2 mount: no leading slash, no `..`, no empty part",
        ),
        Form::ServerName => (
            text.parse::<std::net::IpAddr>().is_ok() || scalar::name(text).is_some(),
            "expected a DNS name or an address",
        ),
        Form::Identifier => (
            (1..=MAX_IDENTIFIER).contains(&text.len()) && !text.contains('\0'),
            "expected 1 to 255 bytes of text",
        ),
        Form::Variable => (is_variable(text), A_VARIABLE),
        Form::Credential => (
            is_credential(text),
            "expected the name of a credential, without a slash",
        ),
        Form::Argument => (!text.contains('\0'), "expected text without NUL"),
        Form::Mask => (is_mask(text), MASKS),
        Form::Field => (is_field(text), A_FIELD),
        Form::Header => (is_header(text), A_HEADER),
        Form::RequestPath => (
            text.starts_with('/') && text.len() <= MAX_PATH && !text.contains(['?', '#', '\0']),
            "expected a path that begins with a slash, without query",
        ),
        Form::MaskOrTag => (
            is_mask(text) || is_name(text),
            "expected a mask (null, constant, hash, last4, email, year, partial(N), hide) or the name \
             of a tag",
        ),
    };
    fine.then_some(()).ok_or_else(|| expected.into())
}

/// Whether a text is the name of a variable.
fn is_variable(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.bytes().all(word) && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// Whether a text is the name of a credential of systemd.
fn is_credential(text: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&text.len())
        && !text.contains(['/', '\0'])
        && text != "."
        && text != ".."
}

const MASKS: &str = "expected one of null, constant, hash, last4, email, year, partial(N) with N from 1 to \
                     255, hide";

/// Whether a text is a mask's word.
pub(super) fn is_mask(text: &str) -> bool {
    text == "constant" || scalar::mask(text).is_some()
}

/// Whether a text is keys of JSON.
fn is_field(text: &str) -> bool {
    text.len() <= MAX_IDENTIFIER && text.split('.').all(|part| !part.is_empty())
}

/// Whether a text is a header's name (RFC 9110, `token`).
pub(super) fn is_header(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=MAX_IDENTIFIER).contains(&text.len()) && text.bytes().all(token)
}

fn no_parents(path: &str) -> bool {
    path.split('/').all(|part| part != "..")
}

fn is_cgroup(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(part) && !path.contains(['\0', '\n'])
}

fn unknown(key: &str, known: &[Key]) -> String {
    format!(
        "unknown key `{}`; expected one of {}",
        shown(key),
        list_of(known)
    )
}

/// A key as it may be printed: short, and without control characters.
fn shown(key: &str) -> String {
    key.chars().take(64).filter(|c| !c.is_control()).collect()
}

fn list_of(known: &[Key]) -> String {
    known
        .iter()
        .map(|key| key.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A key below another.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = shown(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

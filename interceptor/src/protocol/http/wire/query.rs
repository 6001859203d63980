//! The query of a request: what its parameters are called and hold, and how one is taken out or put in.

use std::collections::BTreeSet;

/// Parameters of one query.
const PARAMETERS_MAX: usize = 256;

/// The parameters of a query as policy sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Their names.
    pub names: BTreeSet<String>,
    /// `name=value`.
    pub pairs: BTreeSet<String>,
}

/// Reads a query. What is not UTF-8 is replaced: it can equal nothing that a rule names.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(raw: &str) -> Result<Parameters, &'static str> {
    let mut parameters = Parameters::default();
    for (index, part) in parts(raw).enumerate() {
        if index >= PARAMETERS_MAX {
            return Err("the query has more than 256 parameters");
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let text = |raw: &str| {
            let bytes = super::unescape(raw.as_bytes(), true);
            // Servers leave an escape that is none as it is.
            bytes.map_or_else(
                || raw.to_owned(),
                |bytes| String::from_utf8_lossy(&bytes).into_owned(),
            )
        };
        let name = text(name);
        parameters.pairs.insert(format!("{name}={}", text(value)));
        parameters.names.insert(name);
    }
    Ok(parameters)
}

/// The query with its values replaced, safe to keep.
#[must_use]
pub fn redacted(raw: &str) -> String {
    let redact = |part: &str| match part.split_once('=') {
        Some((name, _)) => format!("{name}=?"),
        None => part.to_owned(),
    };
    parts(raw).map(redact).collect::<Vec<_>>().join("&")
}

/// The query without the parameters of this name, and their values.
#[must_use]
pub fn without(raw: &str, name: &str) -> (String, Vec<String>) {
    let mut taken = Vec::new();
    let kept: Vec<&str> = raw
        .split('&')
        .filter(|part| {
            let (own, value) = part.split_once('=').unwrap_or((part, ""));
            let bytes = super::unescape(own.as_bytes(), true);
            let is_it = bytes.is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()));
            if is_it {
                taken.push(value.to_owned());
            }
            !is_it
        })
        .collect();
    (kept.join("&"), taken)
}

/// The query with one more parameter.
#[must_use]
pub fn with(raw: &str, name: &str, value: &str) -> String {
    let separator = if raw.is_empty() { "" } else { "&" };
    format!("{raw}{separator}{}={}", escaped(name), escaped(value))
}

/// A text with all escaped that is not unreserved (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn parts(raw: &str) -> impl Iterator<Item = &str> {
    raw.split('&').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_by_name_and_value() {
        let read = read("state=open&q=a+b%26c&flag&&state=closed").unwrap();
        let names: Vec<_> = read.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["flag", "q", "state"]);
        let pairs: Vec<_> = read.pairs.iter().map(String::as_str).collect();
        assert_eq!(pairs, ["flag=", "q=a b&c", "state=closed", "state=open"]);
        assert!(super::read(&"a&".repeat(257)).is_err());
    }

    #[test]
    fn values_are_not_kept() {
        assert_eq!(redacted("a=1&b&c=x=y"), "a=?&b&c=?");
    }

    #[test]
    fn a_parameter_is_taken_out_however_it_is_written() {
        let (kept, taken) = without("a=1&api%5Fkey=s1&API_KEY=s2&b=2", "api_key");
        assert_eq!(kept, "a=1&b=2");
        assert_eq!(taken, ["s1", "s2"]);
        assert_eq!(with("a=1", "k", "s/&"), "a=1&k=s%2F%26");
        assert_eq!(with("", "k", "s"), "k=s");
    }
}

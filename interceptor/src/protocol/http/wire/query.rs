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

/// Servers may read another value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

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

/// The query as it is to servers that read more: names without blanks, brackets and a zero, in lower case and with `_`,
/// and parameters behind a semicolon; beside those that every server reads. `None` where it is the same.
#[must_use]
pub fn lenient(raw: &str) -> Option<Parameters> {
    let strict = read(raw).ok()?;
    let mut all = strict.clone();
    for part in parts(raw).flat_map(|part| part.split(';')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let text = |raw: &str| {
            let bytes = super::unescape(raw.as_bytes(), true);
            let bytes = bytes.unwrap_or_else(|| raw.as_bytes().to_vec());
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let name = String::from_utf8_lossy(&folded(text(name).as_bytes())).into_owned();
        if !name.is_empty() {
            all.pairs.insert(format!("{name}={}", text(value)));
            all.names.insert(name);
        }
    }
    (all != strict).then_some(all)
}

/// A name as servers have it that take several for one: without blanks around it, up to a bracket or a zero, and with
/// `.` and blanks for `_`.
fn folded(name: &[u8]) -> Vec<u8> {
    let own = name.trim_ascii();
    let end = own.iter().position(|byte| matches!(byte, b'[' | b'\0'));
    let own = own.get(..end.unwrap_or(own.len())).unwrap_or_default();
    let fold = |byte: &u8| match byte {
        b'.' | b' ' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    own.iter().map(fold).collect()
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

/// The query without the parameters of this name, and their values. Some servers begin the next parameter behind a
/// semicolon, too.
#[must_use]
pub fn without(raw: &str, name: &str) -> (String, Vec<Vec<u8>>) {
    let mut taken = Vec::new();
    let mut is_kept = |part: &str| match value_of(part.as_bytes(), name) {
        Some(value) => {
            taken.push(value);
            false
        }
        None => true,
    };
    let mut kept = Vec::new();
    for part in raw.split('&') {
        let inner: Vec<&str> = part.split(';').filter(|part| is_kept(part)).collect();
        if !inner.is_empty() {
            kept.push(inner.join(";"));
        }
    }
    (kept.join("&"), taken)
}

/// The value of a parameter or a cookie, escapes resolved, where some server takes it for one of this name.
#[must_use]
pub fn value_of(part: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let text = |raw: &[u8]| super::unescape(raw, true).unwrap_or_else(|| raw.to_vec());
    let own = text(halves.next().unwrap_or_default());
    // A name that is asked for has no brackets.
    let is_it = folded(&own) == folded(name.as_bytes());
    is_it.then(|| {
        text(halves.next().unwrap_or_default())
            .trim_ascii()
            .to_vec()
    })
}

/// The value of the one parameter of this name.
///
/// # Errors
/// Where servers may read different ones: it is there twice, or in other letters, or a semicolon may begin it.
pub fn only(raw: &str, name: &str) -> Result<Option<String>, Unclear> {
    if raw.contains(';') {
        return Err(Unclear);
    }
    let mut found = None;
    for part in parts(raw) {
        if value_of(part.as_bytes(), name).is_none() {
            continue;
        }
        let (own, value) = part.split_once('=').unwrap_or((part, ""));
        let value = super::unescape(value.as_bytes(), true).ok_or(Unclear)?;
        let value = String::from_utf8(value).map_err(|_not_text| Unclear)?;
        if own != name || found.replace(value).is_some() {
            return Err(Unclear);
        }
    }
    Ok(found)
}

/// The query with one more parameter.
#[must_use]
pub fn with(raw: &str, name: &str, value: &str) -> String {
    let separator = if raw.is_empty() { "" } else { "&" };
    format!(
        "{raw}{separator}{}={}",
        escaped(name.as_bytes()),
        escaped(value.as_bytes())
    )
}

/// A text with all escaped that is not unreserved (RFC 3986 §2.3).
#[must_use]
pub fn escaped(text: &[u8]) -> String {
    escaped_but(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    })
}

/// A text with all escaped but the bytes that stay as they are.
#[must_use]
pub fn escaped_but(text: &[u8], stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        if stays(*byte) {
            out.push(char::from(*byte));
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
    fn a_query_that_servers_read_differently_is_read_in_both_ways() {
        assert_eq!(lenient("a=1&b_c=2&d"), None);
        let rows = [
            ("x=1;admin=true", "admin", "admin=true"),
            ("admin%5B%5D=1", "admin", "admin=1"),
            ("admin%00x=1", "admin", "admin=1"),
            ("Admin=1", "admin", "admin=1"),
            ("is.admin=1", "is_admin", "is_admin=1"),
            ("+admin=1", "admin", "admin=1"),
        ];
        for (raw, name, pair) in rows {
            let strict = read(raw).unwrap();
            assert!(!strict.names.contains(name), "{raw}");
            let lenient = lenient(raw).unwrap();
            assert!(lenient.names.contains(name), "{raw}");
            assert!(lenient.pairs.contains(pair), "{raw}");
            assert!(lenient.names.is_superset(&strict.names), "{raw}");
        }
    }

    #[test]
    fn values_are_not_kept() {
        assert_eq!(redacted("a=1&b&c=x=y"), "a=?&b&c=?");
    }

    #[test]
    fn a_parameter_is_taken_out_however_it_is_written() {
        let raw = "a=1&api%5Fkey=s1&API_KEY=s%322&b=2;api_key=s3;c=3&&api.key[]=s4&api_key%00=s5&api_keys=6";
        let (kept, taken) = without(raw, "api_key");
        assert_eq!(kept, "a=1&b=2;c=3&&api_keys=6");
        assert_eq!(taken, [&b"s1"[..], b"s22", b"s3", b"s4", b"s5"]);
        assert_eq!(without("a=%zz&api_key", "api_key").0, "a=%zz");
        assert_eq!(with("a=1", "k", "s/&"), "a=1&k=s%2F%26");
        assert_eq!(with("", "k", "s"), "k=s");
    }

    #[test]
    fn a_parameter_is_read_where_every_server_reads_the_same() {
        assert_eq!(
            only("a=1&query=%7Bme%7D&b", "query"),
            Ok(Some("{me}".to_owned()))
        );
        assert_eq!(only("a=1&queries=x", "query"), Ok(None));
        for raw in [
            "a=1;query=x",
            "query=x&query=x",
            "query=x&Query=y",
            "%71uery=x",
            "query[]=x",
            "+query=x",
            "query%00=x",
            "query=%ff",
            "query=%",
        ] {
            assert_eq!(only(raw, "query"), Err(Unclear), "{raw}");
        }
    }
}

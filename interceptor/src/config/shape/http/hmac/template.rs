//! Text with words in braces that stand for parts of a request.

/// A text that is made anew for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// The method.
    Method,
    /// The host, with its port where it is named.
    Host,
    /// The path, as it is sent.
    Path,
    /// The query, as it is sent, without its question mark.
    Query,
    /// Path and query.
    Target,
    /// When it is signed.
    Time,
    /// Another text each time.
    Nonce,
    /// The body itself.
    Body,
    /// The SHA-256 of the body.
    Sha256(Coding),
    /// The SHA-512 of the body.
    Sha512(Coding),
    /// A header's value; nothing where there is none.
    Header(String),
    /// The signature.
    Signature,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// In hexadecimal digits, lower case.
    Hex,
    /// In base64 (RFC 4648 §4).
    Base64,
}

impl Template {
    /// Reads it; `None` where a brace is not closed, or what stands between two is not known.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at_checked(at)?;
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.extend(from.chars().next());
                rest = after;
                continue;
            }
            let (word, after) = from.strip_prefix('{')?.split_once('}')?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part(word)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Some(Self { parts })
    }

    /// Its pieces.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether the signature stands in it.
    #[must_use]
    pub fn has_signature(&self) -> bool {
        self.parts.contains(&Part::Signature)
    }

    /// Whether the body is needed for it.
    #[must_use]
    pub fn has_body(&self) -> bool {
        let is_body = |part: &Part| matches!(part, Part::Body | Part::Sha256(_) | Part::Sha512(_));
        self.parts.iter().any(is_body)
    }
}

fn part(word: &str) -> Option<Part> {
    Some(match word {
        "method" => Part::Method,
        "host" => Part::Host,
        "path" => Part::Path,
        "query" => Part::Query,
        "target" => Part::Target,
        "time" => Part::Time,
        "nonce" => Part::Nonce,
        "body" => Part::Body,
        "body_sha256" => Part::Sha256(Coding::Hex),
        "body_sha256_base64" => Part::Sha256(Coding::Base64),
        "body_sha512" => Part::Sha512(Coding::Hex),
        "body_sha512_base64" => Part::Sha512(Coding::Base64),
        "signature" => Part::Signature,
        word => {
            let name = word
                .strip_prefix("header:")
                .filter(|name| !name.is_empty())?;
            Part::Header(name.to_ascii_lowercase())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_stand_for_parts_of_a_request() {
        let read = Template::read("{method}\n{{x}}{header:X-A}{body_sha512_base64}").unwrap();
        let text = Part::Text("\n{x}".to_owned());
        let header = Part::Header("x-a".to_owned());
        let expected = [Part::Method, text, header, Part::Sha512(Coding::Base64)];
        assert_eq!(read.parts(), expected);
        assert!(read.has_body() && !read.has_signature());
        for wrong in ["{", "}", "{methods}", "{header:}", "a{method", "{}", "{{}"] {
            assert_eq!(Template::read(wrong), None, "{wrong}");
        }
    }
}

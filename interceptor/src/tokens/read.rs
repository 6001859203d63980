//! A token's form: three parts of base64, a header and claims, nothing believed yet (RFC 7515 section 7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Error, document, shown};
use crate::config::Algorithm;

/// Bytes of a token.
pub(super) const MAX_TOKEN: usize = 16 << 10;

/// What a token says before anything of it is proved.
#[derive(Debug)]
pub(super) struct Unproved<'a> {
    /// With what it says that it is signed: one that has a public key.
    pub(super) algorithm: Algorithm,
    /// Which key it says that it is signed with.
    pub(super) key: Option<String>,
    /// Its claims.
    pub(super) claims: Map<String, Value>,
    /// What is signed.
    pub(super) signed: &'a str,
    /// The signature, as it stands there.
    pub(super) signature: &'a str,
}

impl<'a> Unproved<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// Where it is too long, or not of the form.
    pub(super) fn read(token: &'a str) -> Result<Self, Error> {
        if token.len() > MAX_TOKEN {
            return Err(Error::Oversized {
                bytes: token.len(),
                most: MAX_TOKEN,
            });
        }
        let form = || Error::Malformed("it does not have three parts".to_owned());
        let (signed, signature) = token.rsplit_once('.').ok_or_else(form)?;
        let (header, claims) = signed.split_once('.').ok_or_else(form)?;
        if claims.contains('.') {
            return Err(form());
        }
        let header = part("header", header)?;
        let algorithm = algorithm(&header)?;
        kind(&header)?;
        // An extension that must be understood: none is (RFC 7515 section 4.1.11).
        if header.contains_key("crit") {
            return Err(Error::Malformed(
                "its header names extensions that must be understood".to_owned(),
            ));
        }
        let key = match header.get("kid") {
            None => None,
            Some(Value::String(key)) => Some(key.clone()),
            Some(_) => return Err(Error::Malformed("its `kid` is no text".to_owned())),
        };
        Ok(Self {
            algorithm,
            key,
            claims: part("claims", claims)?,
            signed,
            signature,
        })
    }

    /// A claim that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

fn part(which: &str, text: &str) -> Result<Map<String, Value>, Error> {
    let wrong = |what: &str| Error::Malformed(format!("its {which} cannot be read: {what}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_not_base64| wrong("it is no base64url"))?;
    document::object(&bytes).map_err(|what| wrong(&what))
}

/// One that is signed with a key whose other half the issuer publishes: never `none`, never a shared secret.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Error> {
    let said = header.get("alg").and_then(Value::as_str);
    said.and_then(Algorithm::named)
        .ok_or_else(|| Error::Algorithm {
            said: said.map_or_else(|| "nothing".to_owned(), shown),
        })
}

/// Tokens of other kinds, such as those that end a login, say nothing of who asks (RFC 8725 section 3.11).
fn kind(header: &Map<String, Value>) -> Result<(), Error> {
    let Some(said) = header.get("typ") else {
        return Ok(());
    };
    let said = said.as_str().unwrap_or_default().to_ascii_lowercase();
    let said = said.strip_prefix("application/").unwrap_or(&said);
    match said {
        "jwt" | "at+jwt" => Ok(()),
        other => Err(Error::Kind { said: shown(other) }),
    }
}

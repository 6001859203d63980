//! Assertions of SAML 2.0: the other way to show who stands behind an agent (SAML Core, and Profiles section 4.1).
//!
//! One tree is made of what was brought, once; what was signed is found in it, held against its signature
//! and read, as nodes of that tree and never by a name or a place that a second reading could take
//! otherwise. What a well-made assertion has no need of is refused before a signature is looked at:
//! a document type, comments, a second assertion, a signature anywhere but in its place, encryption.

mod assertion;
mod signature;
mod trust;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use self::xml::{ASSERTION, DSIG, Element, PROTOCOL};
use super::claims::Claimed;
use super::{Error, Tokens, Verified, bindings, shown};
use crate::clock;
use crate::config::Saml;
use crate::secrets::Secret;

/// Bytes of what is brought, as XML.
const MAX_XML: usize = 128 << 10;
/// Bytes of it as a browser would post it.
const MAX_BASE64: usize = MAX_XML / 3 * 4 + 4;

const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";

/// Whether assertions of a provider can be verified by what the configuration names, were it still good; blocks
/// on the disk.
///
/// # Errors
/// Where they cannot.
pub fn has_keys(provider: &Saml) -> Result<(), Error> {
    trust::keys_at(provider, i64::MIN).map(drop)
}

/// The identity providers as the configuration has them.
pub type Providers = BTreeMap<String, Arc<Saml>>;

impl Tokens {
    /// Holds an assertion, or the response that has it, against its identity provider.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify_saml(
        &self,
        providers: &Providers,
        brought: &Secret,
    ) -> Result<Verified, Error> {
        let providers = providers.clone();
        let text = text(brought.expose_secret())?;
        let read = tokio::task::spawn_blocking(move || {
            let now = clock::wall().as_second();
            verify(&providers, &text, now)
        });
        let claimed = read
            .await
            .map_err(|error| Error::Keys(error.to_string()))??;
        Ok(Verified {
            identity: Arc::new(claimed.identity),
            token: claimed.name.unwrap_or_default(),
            until: bindings::after(claimed.left),
            once: true,
        })
    }
}

/// The XML: as it is, or in base64, which is how a browser posts it (SAML Bindings section 3.5.4).
fn text(brought: &str) -> Result<Zeroizing<String>, Error> {
    let brought = brought.trim();
    let most = match brought.starts_with('<') {
        true => MAX_XML,
        false => MAX_BASE64,
    };
    if brought.len() > most {
        let bytes = brought.len();
        return Err(Error::Oversized { bytes, most });
    }
    if brought.starts_with('<') {
        return Ok(Zeroizing::new(brought.to_owned()));
    }
    let no_xml = || Error::Malformed("it is neither XML nor XML in base64".to_owned());
    let brought: Zeroizing<String> = Zeroizing::new(brought.split_ascii_whitespace().collect());
    let bytes = STANDARD
        .decode(brought.as_bytes())
        .map_err(|_not_base64| no_xml())?;
    let text = String::from_utf8(bytes).map_err(|_not_text| no_xml())?;
    match text.trim_start().starts_with('<') {
        true => Ok(Zeroizing::new(text)),
        false => Err(no_xml()),
    }
}

/// Everything but what lasts: `now` is the time in seconds since 1970.
fn verify(providers: &Providers, text: &str, now: i64) -> Result<Claimed, Error> {
    let document = xml::read(text)?;
    let root = Element::root(&document)?;
    let all = root.all();
    encrypted(&all)?;
    let assertion = only_assertion(root, &all)?;
    let said = assertion.one(ASSERTION, "Issuer")?.text()?;
    let provider = providers.values().find(|one| one.entity == said);
    let provider = provider.ok_or_else(|| Error::Issuer { said: shown(&said) })?;
    unambiguous(&all)?;
    let signatures = signatures(root, assertion, &all)?;
    let keys = trust::keys(provider)?;
    for signature in signatures {
        signature::verify(signature, provider, &keys)?;
    }
    // From here on all that is read is `assertion`, or what has it: one of the two was signed as a whole.
    if root.is(PROTOCOL, "Response") {
        response(root, provider)?;
    }
    assertion::read(assertion, provider, now)
}

/// What is encrypted may be anything: no key to open it is ours.
fn encrypted(all: &[Element<'_>]) -> Result<(), Error> {
    const SEALED: [&str; 5] = [
        "EncryptedAssertion",
        "EncryptedID",
        "EncryptedAttribute",
        "EncryptedData",
        "EncryptedKey",
    ];
    let sealed = all.iter().find(|one| SEALED.contains(&one.name()));
    sealed.map_or(Ok(()), |one| Err(Error::Encrypted(one.name().to_owned())))
}

/// The assertion: the one that there is, and where it must stand.
fn only_assertion<'d>(root: Element<'d>, all: &[Element<'d>]) -> Result<Element<'d>, Error> {
    let mut assertions = all.iter().filter(|one| one.name() == "Assertion");
    let (first, others) = (assertions.next(), assertions.count());
    let assertion = *first.ok_or_else(|| Error::Malformed("it has no assertion".to_owned()))?;
    if others > 0 {
        let count = others + 1;
        return Err(Error::Wrapped(format!("it has {count} assertions")));
    }
    let whole = root.is(PROTOCOL, "Response") && assertion.parent() == Some(root);
    match assertion.is(ASSERTION, "Assertion") && (assertion == root || whole) {
        true => Ok(assertion),
        false => Err(Error::Wrapped(
            "its assertion is neither all of it nor directly in a response".to_owned(),
        )),
    }
}

/// No two elements are called the same, by whatever attribute somebody may take for the name.
fn unambiguous(all: &[Element<'_>]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let mut names = all.iter().flat_map(|one| one.names());
    match names.find(|name| !seen.insert((*name).to_owned())) {
        Some(twice) => Err(Error::Wrapped(format!(
            "two of its elements are called {}",
            shown(twice)
        ))),
        None => Ok(()),
    }
}

/// All signatures, each in its place: directly in the assertion, or in the response.
fn signatures<'d>(
    root: Element<'d>,
    assertion: Element<'d>,
    all: &[Element<'d>],
) -> Result<Vec<Element<'d>>, Error> {
    let found: Vec<_> = all
        .iter()
        .copied()
        .filter(|one| one.name() == "Signature")
        .collect();
    if found.is_empty() {
        return Err(Error::Unsigned);
    }
    let mut places = HashSet::new();
    for one in &found {
        let place = one
            .parent()
            .filter(|place| *place == root || *place == assertion);
        let fits = one.is(DSIG, "Signature") && place.is_some_and(|place| places.insert(place));
        if !fits {
            let text = "it has a signature where none belongs";
            return Err(Error::Wrapped(text.to_owned()));
        }
    }
    Ok(found)
}

/// What stands around an assertion.
fn response(root: Element<'_>, provider: &Saml) -> Result<(), Error> {
    if root.attribute("Version") != Some("2.0") {
        return Err(Error::Malformed("it is not of SAML 2.0".to_owned()));
    }
    let code = root
        .one(PROTOCOL, "Status")?
        .one(PROTOCOL, "StatusCode")?
        .attribute("Value");
    if code != Some(SUCCESS) {
        let said = shown(code.unwrap_or_default());
        return Err(Error::Claim(format!("it reports no success but {said}")));
    }
    if let Some(to) = root.attribute("Destination")
        && to != provider.recipient
    {
        return Err(Error::Recipient { said: shown(to) });
    }
    if let Some(issuer) = root.maybe(ASSERTION, "Issuer")? {
        let said = issuer.text()?;
        if said != provider.entity {
            return Err(Error::Issuer { said: shown(&said) });
        }
    }
    Ok(())
}

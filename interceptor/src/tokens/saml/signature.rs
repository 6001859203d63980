//! Signatures of XML (XML Signature section 3.2), in the one form that SAML gives them (SAML Core section 5.4):
//! of the very element that they stand in, all of it but themselves.

use aws_lc_rs::digest::{self, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::NodeSet;

use super::trust::Key;
use super::xml::{DSIG, Element};
use crate::config::{Saml, SignedBy};
use crate::tokens::{Error, shown};

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// What stands before an algorithm's word in its name (RFC 9231 section 2.3).
const MORE: &str = "http://www.w3.org/2001/04/xmldsig-more#";

/// Holds a signature against the element that it stands in, and against the keys of whom it must be.
///
/// # Errors
/// Where it is of another form, of something else, made in another way or by another key.
pub(super) fn verify(signature: Element<'_>, provider: &Saml, keys: &[Key]) -> Result<(), Error> {
    let wrapped = |what: &str| Error::Wrapped(format!("its signature {what}"));
    let signed = signature
        .parent()
        .ok_or_else(|| wrapped("stands in nothing"))?;
    if let Some(other) = signature
        .children()
        .find(|one| !["SignedInfo", "SignatureValue", "KeyInfo"].contains(&one.name()))
    {
        let text = format!("holds {}", shown(other.name()));
        return Err(wrapped(&text));
    }
    let info = signature.one(DSIG, "SignedInfo")?;
    let by = info.one(DSIG, "SignatureMethod")?;
    let by = method(by.attribute("Algorithm").unwrap_or_default(), provider)?;
    let reference = info.one(DSIG, "Reference")?;
    let name = signed.attribute("ID").unwrap_or_default();
    if name.is_empty() || reference.attribute("URI") != Some(&format!("#{name}")) {
        return Err(wrapped("is of something else than it stands in"));
    }
    let canonical = info.one(DSIG, "CanonicalizationMethod")?;
    let info_prefixes = exclusive(canonical)?;
    let prefixes = transforms(reference)?;
    // What is digested are nodes of the tree that is read afterwards, not text that is found anew.
    let mut nodes = NodeSet::tree_without_comments(signed.id, signed.document);
    nodes.remove_id(signature.id);
    for below in signed.document.descendants(signature.id) {
        nodes.remove_id(below);
    }
    let bytes = canonicalize(signed, &nodes, &prefixes)?;
    let how = hash(reference.one(DSIG, "DigestMethod")?)?;
    let said = base64(reference.one(DSIG, "DigestValue")?)?;
    if digest(how, &bytes).as_ref() != said {
        return Err(Error::Signature);
    }
    let nodes = NodeSet::tree_without_comments(info.id, info.document);
    let bytes = canonicalize(info, &nodes, &info_prefixes)?;
    let value = base64(signature.one(DSIG, "SignatureValue")?)?;
    let mut fitting = keys.iter().filter(|key| key.fits(by)).peekable();
    if fitting.peek().is_none() {
        let by = by.word();
        let text = format!("the identity provider has no key for {by}");
        return Err(Error::Key(text));
    }
    match fitting.any(|key| key.has_signed(by, &bytes, &value)) {
        true => Ok(()),
        false => Err(Error::Signature),
    }
}

fn method(said: &str, provider: &Saml) -> Result<SignedBy, Error> {
    let word = said.strip_prefix(MORE);
    let mut pinned = provider.algorithms.iter().copied();
    let found = pinned.find(|by| word == Some(by.word()));
    found.ok_or_else(|| Error::Algorithm { said: shown(said) })
}

fn hash(method: Element<'_>) -> Result<&'static digest::Algorithm, Error> {
    match method.attribute("Algorithm").unwrap_or_default() {
        "http://www.w3.org/2001/04/xmlenc#sha256" => Ok(&digest::SHA256),
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => Ok(&digest::SHA384),
        "http://www.w3.org/2001/04/xmlenc#sha512" => Ok(&digest::SHA512),
        other => Err(Error::Algorithm { said: shown(other) }),
    }
}

/// The two transforms that SAML knows (SAML Core section 5.4.4), in their order; what others there are could
/// leave something out of what is signed.
fn transforms(reference: Element<'_>) -> Result<Vec<String>, Error> {
    let all: Vec<_> = reference.one(DSIG, "Transforms")?.children().collect();
    let [enveloped, canonical] = all.as_slice() else {
        let said = format!("{} transforms", all.len());
        return Err(Error::Algorithm { said });
    };
    if enveloped.attribute("Algorithm") != Some(ENVELOPED) {
        let said = shown(enveloped.attribute("Algorithm").unwrap_or_default());
        return Err(Error::Algorithm { said });
    }
    exclusive(*canonical)
}

/// Exclusive canonical form; the prefixes that are treated as in the other one.
fn exclusive(method: Element<'_>) -> Result<Vec<String>, Error> {
    let said = method.attribute("Algorithm").unwrap_or_default();
    if said != EXCLUSIVE {
        return Err(Error::Algorithm { said: shown(said) });
    }
    let inclusive = method.maybe(EXCLUSIVE, "InclusiveNamespaces")?;
    let prefixes = inclusive.and_then(|one| one.attribute("PrefixList"));
    let prefixes = prefixes.unwrap_or_default().split_ascii_whitespace();
    Ok(prefixes.map(str::to_owned).collect())
}

fn canonicalize(of: Element<'_>, nodes: &NodeSet, prefixes: &[String]) -> Result<Vec<u8>, Error> {
    canonicalize_doc(of.document, C14nMode::Exclusive, Some(nodes), prefixes)
        .map_err(|error| Error::Malformed(format!("it has no canonical form: {error}")))
}

fn base64(element: Element<'_>) -> Result<Vec<u8>, Error> {
    let text: String = element.text()?.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_not_base64| {
        let name = element.name();
        Error::Malformed(format!("its {name} is no base64"))
    })
}

//! An identity provider of the test's own. What it signs is written in canonical form by hand, so that the
//! form that the code makes of it is held against another one than its own.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use tempfile::TempDir;

use crate::config::{ClaimNames, Saml, SignedBy, Trust};
use crate::tokens::saml::Providers;

pub(super) const ENTITY: &str = "https://idp.example/saml";
pub(super) const RECIPIENT: &str = "https://interceptor.example/acs";
/// The time of the tests, in seconds since 1970.
pub(super) const NOW: i64 = 1_800_000_000;

const SAML_NS: &str = "xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
const DSIG_NS: &str = "xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// The time so many seconds after the tests' own, as SAML writes it.
pub(super) fn at(seconds: i64) -> String {
    Timestamp::from_second(NOW + seconds).unwrap().to_string()
}

/// One key and its certificate.
pub(super) struct Signer {
    pub(super) pem: String,
    key: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    pub(super) fn rsa() -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self {
            pem: certificate(&pair),
            key: Pair::Rsa(RsaKeyPair::from_pkcs8(pair.serialized_der()).unwrap()),
        }
    }

    pub(super) fn ec() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let by = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            pem: certificate(&pair),
            key: Pair::Ec(EcdsaKeyPair::from_pkcs8(by, pair.serialized_der()).unwrap()),
        }
    }

    fn word(&self) -> &'static str {
        match self.key {
            Pair::Rsa(_) => "rsa-sha256",
            Pair::Ec(_) => "ecdsa-sha256",
        }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Pair::Ec(key) => key.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let by = &RSA_PKCS1_SHA256;
                key.sign(by, &random, bytes, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The signature of what has this name and these canonical bytes.
    pub(super) fn signature(&self, id: &str, canonical: &str) -> String {
        let method = format!("http://www.w3.org/2001/04/xmldsig-more#{}", self.word());
        self.signature_with(id, canonical, &method, &[ENVELOPED, EXCLUSIVE])
    }

    pub(super) fn signature_with(
        &self,
        id: &str,
        canonical: &str,
        method: &str,
        transforms: &[&str],
    ) -> String {
        let transforms: String = transforms
            .iter()
            .map(|one| format!("<ds:Transform Algorithm=\"{one}\"></ds:Transform>"))
            .collect();
        let digest = STANDARD.encode(digest(&SHA256, canonical.as_bytes()));
        let info = format!(
            "><ds:CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"></ds:CanonicalizationMethod>\
             <ds:SignatureMethod Algorithm=\"{method}\"></ds:SignatureMethod>\
             <ds:Reference URI=\"#{id}\"><ds:Transforms>{transforms}</ds:Transforms>\
             <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></ds:DigestMethod>\
             <ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        );
        let signed = format!("<ds:SignedInfo {DSIG_NS}{info}");
        let value = STANDARD.encode(self.sign(signed.as_bytes()));
        format!(
            "<ds:Signature {DSIG_NS}><ds:SignedInfo{info}\
             <ds:SignatureValue>{value}</ds:SignatureValue></ds:Signature>"
        )
    }
}

fn certificate(pair: &KeyPair) -> String {
    let params = CertificateParams::new(vec!["idp.example".to_owned()]).unwrap();
    params.self_signed(pair).unwrap().pem()
}

/// An assertion, in canonical form, in parts that a test may change.
#[derive(Clone)]
pub(super) struct Said {
    pub(super) id: &'static str,
    pub(super) issuer: &'static str,
    pub(super) issued: i64,
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) recipient: &'static str,
    pub(super) confirmed: i64,
    pub(super) from: i64,
    pub(super) until: i64,
    /// What else stands in the conditions.
    pub(super) audience: String,
    pub(super) logins: String,
    pub(super) attributes: String,
}

impl Default for Said {
    fn default() -> Self {
        let context = "<saml:AuthnContext><saml:AuthnContextClassRef>urn:mfa\
            </saml:AuthnContextClassRef></saml:AuthnContext>";
        Self {
            id: "_a1",
            issuer: ENTITY,
            issued: -5,
            name: "jane@corp",
            method: "urn:oasis:names:tc:SAML:2.0:cm:bearer",
            recipient: RECIPIENT,
            confirmed: 300,
            from: -5,
            until: 300,
            audience: audience("interceptor"),
            logins: format!(
                "<saml:AuthnStatement AuthnInstant=\"{}\">{context}</saml:AuthnStatement>",
                at(-5)
            ),
            attributes: [
                attribute("uid", &["jane"]),
                attribute("groups", &["dba", "staff"]),
                attribute("department", &["R&amp;D"]),
                attribute("unused", &["x"]),
            ]
            .concat(),
        }
    }
}

pub(super) fn audience(to: &str) -> String {
    format!(
        "<saml:AudienceRestriction><saml:Audience>{to}</saml:Audience></saml:AudienceRestriction>"
    )
}

pub(super) fn attribute(name: &str, values: &[&str]) -> String {
    let value = |value: &&str| format!("<saml:AttributeValue>{value}</saml:AttributeValue>");
    let values: String = values.iter().map(value).collect();
    format!("<saml:Attribute Name=\"{name}\">{values}</saml:Attribute>")
}

impl Said {
    /// The whole of it, with this where its signature belongs.
    pub(super) fn with(&self, signature: &str) -> String {
        format!(
            "<saml:Assertion {SAML_NS} ID=\"{}\" IssueInstant=\"{}\" Version=\"2.0\">\
             <saml:Issuer>{}</saml:Issuer>{signature}\
             <saml:Subject><saml:NameID>{}</saml:NameID>\
             <saml:SubjectConfirmation Method=\"{}\">\
             <saml:SubjectConfirmationData NotOnOrAfter=\"{}\" Recipient=\"{}\">\
             </saml:SubjectConfirmationData></saml:SubjectConfirmation></saml:Subject>\
             <saml:Conditions NotBefore=\"{}\" NotOnOrAfter=\"{}\">{}</saml:Conditions>\
             {}<saml:AttributeStatement>{}</saml:AttributeStatement></saml:Assertion>",
            self.id,
            at(self.issued),
            self.issuer,
            self.name,
            self.method,
            at(self.confirmed),
            self.recipient,
            at(self.from),
            at(self.until),
            self.audience,
            self.logins,
            self.attributes,
        )
    }

    pub(super) fn signed(&self, by: &Signer) -> String {
        self.with(&by.signature(self.id, &self.with("")))
    }
}

/// A response with this inside, in canonical form where what is inside is.
pub(super) fn response(signature: &str, inside: &str) -> String {
    response_as("_r1", signature, inside)
}

pub(super) fn response_as(id: &str, signature: &str, inside: &str) -> String {
    format!(
        "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         Destination=\"{RECIPIENT}\" ID=\"{id}\" Version=\"2.0\">{signature}\
         <samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\">\
         </samlp:StatusCode></samlp:Status>{inside}</samlp:Response>"
    )
}

/// As a configuration has it.
pub(super) struct Idp {
    pub(super) signer: Signer,
    pub(super) directory: TempDir,
}

impl Idp {
    pub(super) fn new() -> Self {
        let idp = Self {
            signer: Signer::rsa(),
            directory: tempfile::tempdir().unwrap(),
        };
        idp.publishes(&idp.signer.pem);
        idp
    }

    pub(super) fn publishes(&self, pem: &str) {
        std::fs::write(self.directory.path().join("idp.pem"), pem).unwrap();
    }

    pub(super) fn provider(&self) -> Saml {
        Saml {
            name: "office".to_owned(),
            entity: ENTITY.to_owned(),
            trust: Trust::Certificates(self.directory.path().join("idp.pem")),
            audiences: vec!["interceptor".to_owned()],
            recipient: RECIPIENT.to_owned(),
            algorithms: SignedBy::ALL.to_vec(),
            claims: ClaimNames {
                user: "uid".to_owned(),
                groups: "groups".to_owned(),
                keep: vec!["department".to_owned(), "absent".to_owned()],
            },
            max_age: Duration::from_secs(3_600),
            skew: Duration::from_secs(30),
        }
    }

    pub(super) fn providers(&self) -> Providers {
        self.providers_with(|_| ())
    }

    pub(super) fn providers_with(&self, change: impl FnOnce(&mut Saml)) -> Providers {
        let mut provider = self.provider();
        change(&mut provider);
        Providers::from([("office".to_owned(), std::sync::Arc::new(provider))])
    }
}

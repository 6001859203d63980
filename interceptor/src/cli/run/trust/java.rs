//! Key stores of Java: a JDK trusts the certificates in its `cacerts`, and reads no other bundle.
//!
//! Two formats are in use: JKS (the JDK's own, until 17 and of Debian's packages), whose digest hangs on a word that
//! everybody knows, and PKCS #12 (RFC 7292) without a password, which JDKs of 18 and later bring. A store with a password
//! of somebody's own is left alone.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use memchr::memmem;
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, DERWriter, Tag};

/// Why a store stays as it is.
type Why = &'static str;

/// What the entry is called.
const ALIAS: &str = "interceptor";

/// What JKS begins with, and its newest version.
const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: [u8; 4] = [0, 0, 0, 2];
/// Where it has the number of its entries.
const COUNT: std::ops::Range<usize> = 8..12;
/// An entry that is a certificate.
const CERTIFICATE: [u8; 4] = [0, 0, 0, 2];
/// The password that every JDK has, and what is digested behind it (`sun.security.provider.JavaKeyStore`).
const PASSWORD: &str = "changeit";
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// The first byte of a sequence in DER: PKCS #12.
const SEQUENCE: u8 = 0x30;

/// `data` (RFC 5652 section 4).
const DATA: [u64; 7] = [1, 2, 840, 113_549, 1, 7, 1];
/// A bag with a certificate, and its kind (RFC 7292 section 4.2.3).
const CERT_BAG: [u64; 9] = [1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509: [u64; 8] = [1, 2, 840, 113_549, 1, 9, 22, 1];
/// `friendlyName` (RFC 2985 section 5.5.1).
const FRIENDLY_NAME: [u64; 7] = [1, 2, 840, 113_549, 1, 9, 20];
/// What JDKs ask of a certificate that is to be trusted (`TrustedKeyUsage` of Oracle), and for what: anything.
const TRUSTED: [u64; 8] = [2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANY_USAGE: [u64; 5] = [2, 5, 29, 37, 0];

/// Whether it is one of the two.
pub(super) fn is_store(content: &[u8]) -> bool {
    content.starts_with(&MAGIC) || content.first() == Some(&SEQUENCE)
}

/// The store with one more certificate (DER); none where it is there.
pub(super) fn with(content: &[u8], certificate: &[u8]) -> Result<Option<Vec<u8>>, Why> {
    if memmem::find(content, certificate).is_some() {
        return Ok(None);
    }
    match content.starts_with(&MAGIC) {
        true => jks(content, certificate),
        false => pkcs12(content, certificate),
    }
    .map(Some)
}

fn jks(content: &[u8], certificate: &[u8]) -> Result<Vec<u8>, Why> {
    const BROKEN: Why = "it is no whole JKS store";
    let end = content.len().checked_sub(SHA1_OUTPUT_LEN).ok_or(BROKEN)?;
    let (body, digest) = content.split_at_checked(end).ok_or(BROKEN)?;
    if digest != sealed(body) {
        return Err("it is not sealed with the password of every JDK");
    }
    if body.get(4..8) != Some(&VERSION) {
        return Err("it is a JKS store of another version");
    }
    let count = body.get(COUNT).and_then(|count| count.try_into().ok());
    let count = u32::from_be_bytes(count.ok_or(BROKEN)?);
    let mut made = body.to_vec();
    if let Some(room) = made.get_mut(COUNT) {
        room.copy_from_slice(&count.checked_add(1).ok_or(BROKEN)?.to_be_bytes());
    }
    made.extend(CERTIFICATE);
    text(&mut made, ALIAS);
    // When it was made: nobody asks.
    made.extend(0_u64.to_be_bytes());
    text(&mut made, "X.509");
    let length = u32::try_from(certificate.len()).map_err(|_huge| BROKEN)?;
    made.extend(length.to_be_bytes());
    made.extend(certificate);
    let digest = sealed(&made);
    made.extend(digest);
    Ok(made)
}

/// As Java writes a short text (`DataOutput.writeUTF`): its length, then its letters, which are ASCII here.
fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend(text.as_bytes());
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        digest.update(&unit.to_be_bytes());
    }
    digest.update(WHITENER);
    digest.update(body);
    digest.finish().as_ref().to_vec()
}

fn pkcs12(content: &[u8], certificate: &[u8]) -> Result<Vec<u8>, Why> {
    const BROKEN: Why = "it is neither PEM nor a key store that is read here";
    let (version, safes, has_seal) = yasna::parse_der(content, |reader| {
        reader.read_sequence(|reader| {
            let version = reader.next().read_u8()?;
            let safes = reader.next().read_sequence(|reader| {
                let _kind = reader.next().read_oid()?;
                reader
                    .next()
                    .read_tagged(Tag::context(0), |reader| reader.read_bytes())
            })?;
            let seal = reader.read_optional(|reader| reader.read_der())?;
            Ok((version, safes, seal.is_some()))
        })
    })
    .map_err(|_broken| BROKEN)?;
    if has_seal {
        return Err(
            "it is sealed with a password (`keytool -importcert` adds the certificate by hand)",
        );
    }
    let parts: ASN1Result<Vec<Vec<u8>>> = yasna::parse_der(&safes, |reader| {
        reader.collect_sequence_of(|reader| reader.read_der())
    });
    let mut parts = parts.map_err(|_broken| BROKEN)?;
    parts.push(yasna::construct_der(|to| data(to, &bags(certificate))));
    let safes = yasna::construct_der(|to| {
        to.write_sequence(|to| parts.iter().for_each(|part| to.next().write_der(part)));
    });
    Ok(yasna::construct_der(|to| {
        to.write_sequence(|to| {
            to.next().write_u8(version);
            data(to.next(), &safes);
        });
    }))
}

/// `ContentInfo` of plain data (RFC 5652 section 3).
fn data(to: DERWriter<'_>, content: &[u8]) {
    to.write_sequence(|to| {
        oid(to.next(), &DATA);
        to.next()
            .write_tagged(Tag::context(0), |to| to.write_bytes(content));
    });
}

/// `SafeContents` of one certificate that is trusted.
fn bags(certificate: &[u8]) -> Vec<u8> {
    yasna::construct_der(|to| {
        to.write_sequence(|to| {
            to.next().write_sequence(|to| {
                oid(to.next(), &CERT_BAG);
                to.next().write_tagged(Tag::context(0), |to| {
                    to.write_sequence(|to| {
                        oid(to.next(), &X509);
                        to.next()
                            .write_tagged(Tag::context(0), |to| to.write_bytes(certificate));
                    });
                });
                to.next().write_set_of(|to| {
                    attribute(to.next(), &FRIENDLY_NAME, |to| to.write_bmp_string(ALIAS));
                    attribute(to.next(), &TRUSTED, |to| oid(to, &ANY_USAGE));
                });
            });
        });
    })
}

fn attribute(to: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    to.write_sequence(|to| {
        oid(to.next(), name);
        to.next().write_set_of(|to| value(to.next()));
    });
}

fn oid(to: DERWriter<'_>, numbers: &[u64]) {
    to.write_oid(&ObjectIdentifier::from_slice(numbers));
}

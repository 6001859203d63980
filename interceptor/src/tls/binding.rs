//! Channel binding: what of a server's certificate a login is bound to.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// `tls-server-end-point` of the server's certificate: its hash by the hash of its own signature,
/// SHA-256 where that is MD5 or SHA-1 (RFC 5929, section 4.1). `None` where the signature has no
/// hash of its own (Ed25519) or an unknown one: then there is nothing to bind to.
#[must_use]
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let hash = hash_of_signature(&parsed.signature_algorithm)?;
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

fn hash_of_signature(algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static digest::Algorithm> {
    match algorithm.algorithm.to_id_string().as_str() {
        // RFC 8017, appendix C: PKCS #1 v1.5 with MD5, SHA-1, SHA-256, -384, -512, -224, and PSS.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => {
            Some(&digest::SHA256)
        }
        "1.2.840.113549.1.1.12" => Some(&digest::SHA384),
        "1.2.840.113549.1.1.13" => Some(&digest::SHA512),
        "1.2.840.113549.1.1.14" => Some(&digest::SHA224),
        "1.2.840.113549.1.1.10" => {
            let params = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
            hash(params.hash_algorithm_oid().to_id_string().as_str())
        }
        // RFC 5758, section 3.2: ECDSA with SHA-1, SHA-224, -256, -384, -512.
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "1.2.840.10045.4.3.1" => Some(&digest::SHA224),
        "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        _ => None,
    }
}

// RFC 5754, section 2, and SHA-1, which counts as SHA-256 here.
fn hash(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        "2.16.840.1.101.3.4.2.4" => Some(&digest::SHA224),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

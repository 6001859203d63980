//! The channel binding's hash follows the certificate's own signature algorithm.

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::pki_types::pem::PemObject as _;

use super::*;

fn made(algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    certificate.der().clone()
}

fn kept(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

#[test]
fn the_hash_is_that_of_the_certificates_own_signature() {
    let rows = [
        (made(&rcgen::PKCS_ECDSA_P256_SHA256), Some(&digest::SHA256)),
        (made(&rcgen::PKCS_ECDSA_P384_SHA384), Some(&digest::SHA384)),
        (made(&rcgen::PKCS_ED25519), None),
        // Made with `openssl req -x509 -newkey rsa:1024`, and `-sha1`, `-sha512`, or
        // `-sha384 -sigopt rsa_padding_mode:pss`.
        (kept(include_bytes!("sha1.pem")), Some(&digest::SHA256)),
        (kept(include_bytes!("sha512.pem")), Some(&digest::SHA512)),
        (kept(include_bytes!("pss384.pem")), Some(&digest::SHA384)),
        (CertificateDer::from(vec![0x30, 0]), None),
    ];
    for (n, (certificate, hash)) in rows.into_iter().enumerate() {
        let expected = hash.map(|hash| digest::digest(hash, &certificate).as_ref().to_vec());
        assert_eq!(server_end_point(&certificate), expected, "row {n}");
    }
}

//! Signatures by templates, against such as were made elsewhere.

use std::path::PathBuf;

use hyper::Request;

use super::*;
use crate::config::SecretSource;

fn settings(sign: &str, headers: &[(&str, &str)], query: &[(&str, &str)]) -> Hmac {
    let all = |put: &[(&str, &str)]| {
        put.iter()
            .map(|(name, text)| ((*name).to_owned(), Template::read(text).unwrap()))
            .collect()
    };
    Hmac {
        secret: SecretSource::File(PathBuf::from("/key")),
        key: Written::Text,
        sign: Template::read(sign).unwrap(),
        algorithm: Hash::Sha256,
        output: Coding::Hex,
        time: Time::Unix,
        headers: all(headers),
        query: all(query),
    }
}

fn request(target: &str) -> Parts {
    let request = Request::builder().method("POST").uri(target);
    let request = request
        .header("Host", "api.internal")
        .header("X-Kind", "a")
        .header("X-Kind", "b");
    request.body(()).unwrap().into_parts().0
}

fn value(parts: &Parts, name: &str) -> String {
    parts
        .headers
        .get(name)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn signed(settings: &Hmac, secret: &str, target: &str, body: Option<&[u8]>) -> Option<Parts> {
    let mut parts = request(target);
    let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
    sign(&mut parts, settings, &Secret::from(secret), body, now).ok()?;
    Some(parts)
}

#[test]
fn a_signature_is_that_of_the_standard() {
    // RFC 4231, test case 2.
    let mut settings = settings("{body}", &[("x-sign", "v1={signature}")], &[]);
    let body = Some(&b"what do ya want for nothing?"[..]);
    let parts = signed(&settings, "Jefe", "/", body).unwrap();
    let expected = "v1=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(value(&parts, "x-sign"), expected);
    for (written, secret) in [(Coding::Hex, "4a656665"), (Coding::Base64, "SmVmZQ==")] {
        settings.key = Written::In(written);
        let parts = signed(&settings, secret, "/", body).unwrap();
        assert_eq!(value(&parts, "x-sign"), expected);
        assert!(signed(&settings, "no key!", "/", body).is_none());
    }
    settings.key = Written::Text;
    settings.output = Coding::Base64;
    let parts = signed(&settings, "Jefe", "/", body).unwrap();
    assert_eq!(
        value(&parts, "x-sign"),
        "v1=W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
    );
    settings.output = Coding::Hex;
    settings.algorithm = Hash::Sha512;
    let parts = signed(&settings, "Jefe", "/", body).unwrap();
    assert!(
        value(&parts, "x-sign")
            .starts_with("v1=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea25")
    );
}

#[test]
fn words_stand_for_what_goes_on() {
    let said = "{method} {host} {path} {query} {target} {time} {header:X-Kind} {header:none} {body_sha256}";
    let settings = settings(said, &[("x-said", said), ("x-sign", "{signature}")], &[]);
    let parts = signed(&settings, "key", "/a%20b?c=d", Some(b"")).unwrap();
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = format!("POST api.internal /a%20b c=d /a%20b?c=d 1767323045 a, b  {hash}");
    assert_eq!(value(&parts, "x-said"), expected);
}

#[test]
fn times_are_written_as_servers_want_them() {
    let rows = [
        (Time::Unix, "1767323045"),
        (Time::UnixMs, "1767323045678"),
        (Time::Iso, "2026-01-02T03:04:05Z"),
        (Time::Http, "Fri, 02 Jan 2026 03:04:05 GMT"),
    ];
    let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
    for (written, expected) in rows {
        assert_eq!(time(written, now), expected);
    }
}

#[test]
fn a_signature_in_the_query_takes_the_place_of_the_clients() {
    let settings = settings("{target}", &[], &[("sig", "{signature}"), ("at", "{time}")]);
    let mut parts = request("/x?sig=own&a=b&SIG=own");
    let mut presented = Vec::new();
    strip(&mut parts, &settings, &mut presented);
    assert_eq!(
        (parts.uri.to_string().as_str(), presented.len()),
        ("/x?a=b", 2)
    );
    let parts = signed(&settings, "key", "/x?a=b", None).unwrap();
    let query = parts.uri.query().unwrap();
    assert!(
        query.starts_with("a=b&sig=") && query.ends_with("&at=1767323045"),
        "{query}"
    );
}

#[test]
fn nothing_is_signed_of_a_body_that_is_not_there() {
    let of_body = settings("{body_sha512_base64}", &[("x-sign", "{signature}")], &[]);
    assert!(signed(&of_body, "key", "/", None).is_none());
    let without = settings("{method}", &[("x-sign", "{signature}")], &[]);
    assert!(signed(&without, "key", "/", None).is_some());
    // What would end the header stands nowhere.
    let broken = settings("{method}", &[("x-sign", "{signature}{body}")], &[]);
    assert!(signed(&broken, "key", "/", Some(b"\r\nx: y")).is_none());
}

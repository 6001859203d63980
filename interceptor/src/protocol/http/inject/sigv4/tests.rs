//! Signatures against the worked examples of AWS's documentation, and what clients put in their place.

use std::path::PathBuf;

use hyper::Request;
use proptest::prelude::*;

use super::*;

const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn settings(service: &str) -> Sigv4 {
    Sigv4 {
        secret: crate::config::SecretSource::File(PathBuf::from("/secret")),
        id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        token: None,
        region: "us-east-1".to_owned(),
        service: service.to_owned(),
    }
}

fn key(token: Option<&str>) -> Key {
    Key::of(&settings("s3"), Secret::from(KEY), token.map(Secret::from)).unwrap()
}

fn now() -> Timestamp {
    "2013-05-24T00:00:00Z".parse().unwrap()
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn value<'a>(parts: &'a Parts, name: &str) -> &'a str {
    let value = parts.headers.get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// Signs as a target of this service does; what is said of it.
fn signed(service: &str, parts: &mut Parts, payload: Payload<'_>) -> (String, String) {
    let made = sign_head(parts, &settings(service), &key(None), payload, now());
    assert!(made.is_ok());
    let text = value(parts, "authorization");
    let (names, signature) = text
        .split_once("SignedHeaders=")
        .and_then(|(_, rest)| rest.split_once(", Signature="))
        .unwrap();
    (names.to_owned(), signature.to_owned())
}

#[test]
fn a_request_is_signed_as_aws_documents_it() {
    let rows = [
        (
            "/?lifecycle",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
        (
            "/?prefix=J&max-keys=2",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (target, expected) in rows {
        let host = ("Host", "examplebucket.s3.amazonaws.com");
        let mut parts = request("GET", target, &[host, ("Accept", "*/*")]);
        let (names, signature) = signed("s3", &mut parts, Payload::Whole(b""));
        assert_eq!(names, "host;x-amz-content-sha256;x-amz-date");
        assert_eq!(signature, expected, "{target}");
        assert_eq!(value(&parts, "x-amz-date"), "20130524T000000Z");
        let scope =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, ";
        assert!(value(&parts, "authorization").starts_with(scope));
    }
}

#[test]
fn paths_are_escaped_twice_but_for_stores() {
    let sign = |service, target| {
        let mut parts = request("GET", target, &[("Host", "h")]);
        signed(service, &mut parts, Payload::Whole(b"")).1
    };
    // However a client has written it, a store reads it the same.
    assert_eq!(sign("s3", "/a%3Ab/%61"), sign("s3", "/a:b/a"));
    assert_ne!(sign("dynamodb", "/a%3Ab"), sign("dynamodb", "/a:b"));
    assert_ne!(sign("s3", "/a%2520"), sign("s3", "/a%20"));
}

#[test]
fn what_the_body_is_stands_in_the_head() {
    let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let other = "0".repeat(64);
    let comes = |covered| Payload::Comes { covered };
    let rows = [
        (
            "s3",
            Some(other.as_str()),
            Payload::Whole(b"Welcome to Amazon S3."),
            Some(hash),
        ),
        ("s3", Some(UNSIGNED), Payload::Whole(b"x"), Some(UNSIGNED)),
        ("s3", Some(hash), comes(false), Some(hash)),
        ("s3", Some(hash), comes(true), Some(UNSIGNED)),
        ("s3", None, comes(false), Some(UNSIGNED)),
        ("s3", Some("nothing"), comes(false), Some(UNSIGNED)),
        (
            "s3",
            Some(UNSIGNED_PIECES),
            comes(false),
            Some(UNSIGNED_PIECES),
        ),
        (
            "s3",
            Some(SIGNED_PIECES),
            Payload::Whole(b"x"),
            Some(SIGNED_PIECES),
        ),
        (
            "s3",
            Some(SIGNED_TRAILER),
            comes(false),
            Some(SIGNED_TRAILER),
        ),
        ("s3", Some("STREAMING-OTHER"), comes(false), None),
        ("kms", Some(hash), comes(false), Some(hash)),
        ("kms", Some(hash), comes(true), None),
        ("kms", None, comes(false), None),
    ];
    for (service, said, payload, expected) in rows {
        let mut parts = request("PUT", "/k", &[("Host", "h")]);
        if let Some(said) = said {
            parts
                .headers
                .insert(HASH, HeaderValue::from_str(said).unwrap());
        }
        let made = sign_head(&mut parts, &settings(service), &key(None), payload, now());
        assert_eq!(made.is_ok(), expected.is_some(), "{service} {said:?}");
        if let Some(expected) = expected {
            assert_eq!(value(&parts, HASH.as_str()), expected, "{service} {said:?}");
        }
    }
}

#[test]
fn what_the_client_signed_with_is_taken_out_and_reported() {
    let presigned = "/k?versionId=1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDOWN%2F20150830%2Feu%2Fs3%2F\
                     aws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
                     &X-Amz-Security-Token=a%2Fb&X-Amz-Signature=00&x-id=GetObject";
    let before = "/k?AWSAccessKeyId=AKIDOWN&Signature=x%2F&Expires=12&a=b";
    let rows = [
        (
            presigned,
            "/k?versionId=1&x-id=GetObject",
            vec![
                ("query X-Amz-Credential", "AKIDOWN"),
                ("query X-Amz-Security-Token", "a/b"),
            ],
        ),
        (before, "/k?a=b", vec![("query AWSAccessKeyId", "AKIDOWN")]),
        (
            "/k?Signature=own&Expires=1",
            "/k?Signature=own&Expires=1",
            vec![],
        ),
    ];
    for (target, expected, reported) in rows {
        let mut parts = request(
            "GET",
            target,
            &[("X-Amz-Date", "x"), ("x-amz-region-set", "*")],
        );
        let mut presented = Vec::new();
        strip(&mut parts, &mut presented);
        assert_eq!(parts.uri, expected);
        assert!(parts.headers.is_empty());
        let presented: Vec<_> = presented
            .iter()
            .map(|(place, value)| (place.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(presented, reported, "{target}");
    }
}

#[test]
fn whose_a_signature_is_is_reported_and_not_the_signature() {
    let rows = [
        (
            "AWS4-HMAC-SHA256 Credential=AKID/x/y/s3/aws4_request, SignedHeaders=host, Signature=0",
            "AKID",
        ),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=AKID/x/s3/aws4_request",
            "AKID",
        ),
        ("AWS4-HMAC-SHA256 Credential=", ""),
        ("Bearer Credential=x", ""),
        ("AWS4", ""),
    ];
    for (said, expected) in rows {
        let found = key_id(said.as_bytes()).map(|id| id.to_vec());
        assert_eq!(found.unwrap_or_default(), expected.as_bytes(), "{said}");
    }
}

#[test]
fn a_credential_process_says_all_of_a_key() {
    let mut settings = settings("s3");
    settings.id = None;
    let printed =
        r#"{"Version":1,"AccessKeyId":"ASIA","SecretAccessKey":"secret","SessionToken":"token"}"#;
    let key = Key::of(&settings, Secret::from(printed), None).unwrap();
    let said: Vec<_> = key.secrets().map(|secret| secret.expose_secret()).collect();
    assert_eq!((key.id.as_str(), said), ("ASIA", vec!["secret", "token"]));
    let mut parts = request("GET", "/", &[("Host", "h")]);
    let made = sign_head(&mut parts, &settings, &key, Payload::Whole(b""), now());
    assert!(made.is_ok_and(|chunks| chunks.is_none()));
    assert_eq!(value(&parts, "x-amz-security-token"), "token");
    assert!(value(&parts, "authorization").contains("x-amz-date;x-amz-security-token, "));
    for wrong in [
        "secret",
        "{}",
        r#"{"Version":2,"AccessKeyId":"a","SecretAccessKey":"b"}"#,
    ] {
        assert!(
            Key::of(&settings, Secret::from(wrong), None).is_none(),
            "{wrong}"
        );
    }
}

/// The pieces of the documentation's example: 64 KiB, 1 KiB, and nothing.
const PIECES: [usize; 3] = [65_536, 1_024, 0];

fn framed(signatures: &[&str; 3], trailer: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    for (length, signature) in PIECES.iter().zip(signatures) {
        body.extend_from_slice(format!("{length:x};chunk-signature={signature}\r\n").as_bytes());
        body.resize(body.len() + length, b'a');
        if *length > 0 || trailer.is_none() {
            body.extend_from_slice(b"\r\n");
        }
    }
    if let Some(signature) = trailer {
        let lines = "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:";
        body.extend_from_slice(format!("{lines}{signature}\r\n\r\n").as_bytes());
    }
    body
}

fn chunks(seed: &str, trailer: bool) -> Chunks {
    let chain = Chain::new(&settings("s3"), &key(None), now(), seed.to_owned());
    Chunks::new(chain, trailer)
}

fn through(mut chunks: Chunks, body: &[u8], size: usize) -> Result<Vec<u8>, Wrong> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        chunks.feed(piece, &mut out)?;
    }
    chunks.end().map(|()| out)
}

const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const SEED_OF_TRAILER: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";

#[test]
fn pieces_are_signed_as_aws_documents_it_however_they_are_cut() {
    let zeros = "0".repeat(64);
    let none = [zeros.as_str(); 3];
    let expected = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    let of_trailer = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let trailer = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    for size in [1, 7, 64, 70_000] {
        let made = through(chunks(SEED, false), &framed(&none, None), size).unwrap();
        assert!(made == framed(&expected, None), "in pieces of {size}");
        let sent = framed(&none, Some(&zeros));
        let made = through(chunks(SEED_OF_TRAILER, true), &sent, size).unwrap();
        assert!(
            made == framed(&of_trailer, Some(trailer)),
            "in pieces of {size}"
        );
    }
}

#[test]
fn a_body_that_is_not_in_signed_pieces_goes_no_farther() {
    let zeros = "0".repeat(64);
    let piece = |text: &str| text.replace('S', &format!("chunk-signature={zeros}"));
    let end = piece("0;S\r\n\r\n");
    let rows = [
        (false, String::new()),
        (false, piece("1;S\r\na\r\n")),
        (false, end.clone() + "x"),
        (false, piece("1;S\r\nab\r\n") + &end),
        (false, "1\r\na\r\n".to_owned() + &end),
        (false, "1;chunk-signature=00\r\na\r\n".to_owned() + &end),
        (false, piece("1;x=y;S\r\na\r\n") + &end),
        (false, piece("-1;S\r\na\r\n") + &end),
        (false, piece("100001;S\r\n")),
        (false, "1".repeat(400)),
        (true, end),
        (true, piece("0;S\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n")),
        (
            true,
            piece("0;S\r\nno name\r\nx-amz-trailer-signature:0\r\n\r\n"),
        ),
        (true, piece("0;S\r\n") + &"x".repeat(20_000)),
    ];
    for (trailer, body) in rows {
        let made = through(chunks(SEED, trailer), body.as_bytes(), 3);
        assert!(matches!(made, Err(Wrong::Malformed(_))), "{trailer} {body}");
    }
}

proptest! {
    #[test]
    fn no_body_makes_more_of_itself(
        body in prop::collection::vec(prop_oneof![
            Just(b"0;chunk-signature=".to_vec()), Just(b"\r\n".to_vec()), Just(vec![b'a'; 64]), any::<[u8; 3]>().prop_map(|x| x.to_vec())
        ], 0..20),
        trailer: bool,
    ) {
        let body = body.concat();
        let mut chunks = chunks(SEED, trailer);
        let mut out = Vec::new();
        for piece in body.chunks(5) {
            if chunks.feed(piece, &mut out).is_err() {
                break;
            }
        }
        prop_assert!(out.len() <= body.len());
    }
}

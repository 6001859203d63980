//! A credential is covered however it is written and cut, and nothing else is.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::config::{Inject, SecretSource};
use crate::secrets::Secret;

const CREDENTIAL: &str = "tok/en+9f3c\"<ab>=77e1.Zq";

fn source() -> SecretSource {
    SecretSource::Env("X".into())
}

fn forms(inject: &Inject, secret: &str) -> Arc<Forms> {
    let given = Given::default();
    given
        .forms("api", inject, &[&Secret::from(secret)])
        .unwrap()
}

fn bearer(secret: &str) -> Arc<Forms> {
    forms(&Inject::Bearer(source()), secret)
}

/// What an agent is given of a text that comes in pieces.
fn through(forms: &Arc<Forms>, media_type: &str, text: &[u8], cut: usize) -> Vec<u8> {
    let mut covered = Covered::answer(Arc::clone(forms), media_type);
    let mut out = Vec::new();
    for piece in text.chunks(cut.max(1)) {
        covered.feed(piece, &mut out).unwrap();
    }
    covered.end(&mut out).unwrap();
    out
}

/// The ways in which servers write a text.
fn written(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let each = |write: &dyn Fn(u8) -> String| text.bytes().map(write).collect::<String>();
    let odd = |write: &dyn Fn(u8) -> String| {
        each(&|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => write(byte),
        })
    };
    let json = serde_json::to_string(text).unwrap();
    let json = json.get(1..json.len() - 1).unwrap().to_owned();
    let nested = serde_json::to_string(&json.replace('/', "\\/")).unwrap();
    let wide: Vec<u8> = text.bytes().flat_map(|byte| [byte, 0]).collect();
    let wrapped: String = text.as_bytes().chunks(7).fold(String::new(), |all, line| {
        all + std::str::from_utf8(line).unwrap() + "\r\n"
    });
    let texts = [
        ("itself", text.to_owned()),
        ("upper", text.to_ascii_uppercase()),
        ("percent", odd(&|byte| format!("%{byte:02X}"))),
        ("percent, lower", odd(&|byte| format!("%{byte:02x}"))),
        ("percent, all", each(&|byte| format!("%{byte:02X}"))),
        ("percent, twice", odd(&|byte| format!("%25{byte:02X}"))),
        ("percent, wide", odd(&|byte| format!("%u00{byte:02x}"))),
        ("json", json.clone()),
        ("json, slashes", json.replace('/', "\\/")),
        ("json, numbers", odd(&|byte| format!("\\u00{byte:02x}"))),
        ("json in json", nested),
        ("bytes", each(&|byte| format!("\\x{byte:02x}"))),
        ("html", odd(&|byte| format!("&#{byte};"))),
        ("html, hex", odd(&|byte| format!("&#x{byte:X};"))),
        ("html in json", odd(&|byte| format!("\\u0026#x{byte:X};"))),
        ("hex", hex::encode(text)),
        ("hex, upper", hex::encode_upper(text)),
        ("base64", STANDARD.encode(text)),
        ("base64, 1", STANDARD.encode(format!("a{text}"))),
        ("base64, 2", STANDARD.encode(format!("ab{text}"))),
        (
            "base64, url",
            URL_SAFE_NO_PAD.encode(format!("user:{text}")),
        ),
        (
            "base64, percent",
            STANDARD.encode(format!("u:{text}")).replace('/', "%2F"),
        ),
        ("lines", wrapped),
    ];
    let mut all: Vec<_> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    all.push(("wide", wide));
    all
}

#[test]
fn a_credential_is_covered_in_every_form_however_it_is_cut() {
    let forms = bearer(CREDENTIAL);
    for (name, form) in written(CREDENTIAL) {
        let whole = [b"{\"seen\": \"Bearer ", form.as_slice(), b"\"} and on\n"].concat();
        let first = through(&forms, "", &whole, whole.len());
        assert_eq!(first.len(), whole.len(), "{name}");
        assert!(first.starts_with(b"{\"seen\": \"Bearer "), "{name}");
        assert!(first.ends_with(b"\"} and on\n"), "{name}");
        let middle = &first[17..first.len() - 10];
        // At the edges of base64 stand letters that belong to the neighbours as well.
        let shown = middle.iter().zip(&form).enumerate();
        let shown = shown.filter(|(at, (now, was))| {
            now == was && !matches!(was, b'\r' | b'\n' | 0) && (8..form.len() - 4).contains(at)
        });
        assert_eq!(shown.count(), 0, "{name}: {}", middle.escape_ascii());
        for cut in [1, 2, 3, 5, 7, 16] {
            let cut_up = through(&forms, "", &whole, cut);
            assert_eq!(cut_up.len(), whole.len(), "{name} {cut}");
            let differs = cut_up.iter().zip(&first).filter(|(a, b)| a != b).count();
            // What was given before it was more than a few letters.
            assert!(differs <= 3 * 6, "{name} {cut}: {}", cut_up.escape_ascii());
        }
    }
}

#[test]
fn a_piece_of_a_credential_is_covered_and_a_few_letters_are_not() {
    let secret = "0a1b2c3d4e5f6071829304a5b6c7d8e9f0112233";
    let forms = bearer(secret);
    for length in [0, 4, 8, 12, 15, 16, 17, 24, 40] {
        for from in [0, 3, 40 - length] {
            let Some(piece) = secret.get(from..from + length) else {
                continue;
            };
            let text = format!("<{piece}>");
            let out = through(&forms, "", text.as_bytes(), 64);
            let is_covered = out.iter().filter(|byte| **byte == b'*').count() == length;
            assert_eq!(is_covered, length == 0 || length >= 16, "{text}");
        }
    }
}

#[test]
fn how_much_of_a_credential_may_be_seen_goes_by_its_length() {
    let secret = "R7kQz2mXw9LpTn5vBc8YdJf3HsGa6EuK1oMi4ZtV";
    for (length, piece) in [(9, 9), (12, 12), (14, 12), (24, 12), (28, 14), (40, 16)] {
        let forms = bearer(secret.get(..length).unwrap());
        for from in [0, length - piece] {
            let text = secret.get(from..from + piece).unwrap();
            let out = through(&forms, "", text.as_bytes(), 64);
            assert_eq!(out, vec![b'*'; piece], "{length} {from}");
            let text = secret.get(from..from + piece - 1).unwrap();
            let out = through(&forms, "", text.as_bytes(), 64);
            assert_eq!(out, text.as_bytes(), "{length} {from}");
        }
    }
}

#[test]
fn a_piece_is_covered_wherever_it_stands_and_in_both_alphabets_of_base64() {
    let secret = "???>>>???>>>R7kQz2mXw9LpTn5vBc8YdJf3HsGa";
    let forms = bearer(secret);
    for before in 0..40 {
        let piece = &secret.as_bytes()[before % 24..before % 24 + 16];
        let text = [&vec![b'.'; before], piece, &[b'.'; 64]].concat();
        let out = through(&forms, "", &text, text.len());
        assert_eq!(
            out.iter().filter(|byte| **byte == b'*').count(),
            16,
            "{before}"
        );
    }
    for coded in [STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
        assert!(coded.contains(['/', '_']), "{coded}");
        let out = through(&forms, "", coded.as_bytes(), 64);
        let shown = out.iter().filter(|byte| **byte != b'*').count();
        assert!(shown <= 3, "{}", out.escape_ascii());
    }
}

#[test]
fn the_name_in_a_basic_credential_and_the_claims_of_a_token_are_no_secrets() {
    let basic = Inject::Basic {
        user: "someone-with-a-long-name".to_owned(),
        password: source(),
    };
    let forms = forms(&basic, "correct horse battery");
    let name = STANDARD.encode("someone-with-a-long-name:other password here");
    for text in ["someone-with-a-long-name", name.as_str()] {
        assert_eq!(through(&forms, "", text.as_bytes(), 64), text.as_bytes());
    }
    let coded = STANDARD.encode("someone-with-a-long-name:correct horse battery");
    let out = through(&forms, "", coded.as_bytes(), 5);
    assert!(!out.ends_with(&coded.as_bytes()[coded.len() - 8..]));
    let claims =
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.";
    let (own, other) = ("x7Q".repeat(20), "Zz9".repeat(20));
    let forms = bearer(&format!("{claims}{own}"));
    let text = format!("{claims}{other}");
    assert_eq!(through(&forms, "", text.as_bytes(), 64), text.as_bytes());
    let text = format!("{claims}{own}");
    let out = through(&forms, "", text.as_bytes(), text.len());
    assert_eq!(out, vec![b'*'; text.len()]);
    let out = through(&forms, "", own.as_bytes(), 9);
    assert!(out.iter().filter(|byte| **byte != b'*').count() <= 3);
}

#[test]
fn credentials_before_it_are_covered_too_and_short_ones_are_not_given() {
    let (given, inject) = (Given::default(), Inject::Bearer(source()));
    let mut last = None;
    for turn in 0..3 {
        let secret = Secret::from(format!("credential-number-{turn}-of-many"));
        last = Some(given.forms("api", &inject, &[&secret]).unwrap());
        let again = given.forms("api", &inject, &[&secret]).unwrap();
        assert!(Arc::ptr_eq(last.as_ref().unwrap(), &again));
    }
    for turn in 0..3 {
        let text = format!("credential-number-{turn}-of-many");
        let out = through(last.as_ref().unwrap(), "", text.as_bytes(), 64);
        assert_eq!(out, vec![b'*'; text.len()], "{turn}");
    }
    for secret in ["", "short", "1234567"] {
        assert!(
            given
                .forms("api", &inject, &[&Secret::from(secret)])
                .is_err()
        );
    }
    assert!(
        given
            .forms("api", &inject, &[&Secret::from("12345678")])
            .is_ok()
    );
    let long = "0123456789abcdef".repeat(513);
    assert!(given.forms("api", &inject, &[&Secret::from(long)]).is_err());
}

#[test]
fn long_credentials_are_covered_whole_and_but_for_their_edges_in_pieces() {
    let mut seed = 7_u32;
    let mut letter = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((seed >> 16) % 26).unwrap())
    };
    let secret: String = (0..8192).map(|_| letter()).collect();
    let forms = bearer(&secret);
    let out = through(&forms, "", secret.as_bytes(), 1000);
    assert_eq!(out, vec![b'*'; secret.len()]);
    let out = through(&forms, "", &secret.as_bytes()[1003..5001], 1000);
    let edges = out.iter().filter(|byte| **byte != b'*').count();
    assert!(edges < 2 * 32, "{edges}");
}

#[test]
fn whoever_waits_for_a_message_gets_all_of_it() {
    let forms = bearer("abcdefghijklmnopqrstuvwxyz");
    let give = |covered: &mut Covered, bytes: &[u8]| {
        let mut out = Vec::new();
        covered.feed(bytes, &mut out).unwrap();
        out
    };
    // A few letters of it, a line, a message of gRPC, a frame.
    let mut lines = Covered::answer(Arc::clone(&forms), "text/event-stream");
    assert_eq!(give(&mut lines, b"data: xabc"), b"data: xabc");
    assert_eq!(give(&mut lines, b"data: abcdef"), b"data: ");
    assert_eq!(give(&mut lines, b"\n\n"), b"abcdef\n\n");
    let mut messages = Covered::answer(Arc::clone(&forms), "application/grpc+proto");
    assert_eq!(give(&mut messages, b"\0\0\0\0\x08abcdef"), b"\0\0\0\0\x08");
    assert_eq!(give(&mut messages, b"gh\0\0\0\0\0"), b"abcdefgh\0\0\0\0\0");
    let mut frames = Covered::connection(Arc::clone(&forms), true);
    assert_eq!(give(&mut frames, b"\x81\x08abcdef"), b"\x81\x08");
    assert_eq!(give(&mut frames, b"gh"), b"abcdefgh");
    assert_eq!(give(&mut frames, b"\x01\x06abcdef"), b"\x01\x06");
    assert_eq!(give(&mut frames, b"\x80\x02gh"), b"abcdef\x80\x02gh");
    // What was given counts on: only that much of it is ever seen.
    let mut bytes = Covered::connection(forms, false);
    let mut out = Vec::new();
    for byte in b"abcdefghijklmnopqrstuvwxyz" {
        out.extend(give(&mut bytes, &[*byte]));
    }
    bytes.end(&mut out).unwrap();
    assert_eq!(out, b"abc***********************");
}

#[test]
fn frames_are_looked_at_across_each_other_and_for_themselves() {
    let forms = bearer("abcdefghijklmnopqrstuvwxyz");
    let through = |bytes: &[u8], cut: usize| {
        let mut covered = Covered::connection(Arc::clone(&forms), true);
        let mut out = Vec::new();
        for piece in bytes.chunks(cut) {
            covered.feed(piece, &mut out)?;
        }
        covered.end(&mut out)?;
        Ok::<_, Broken>(out)
    };
    let two = b"\x01\x0dabcdefghijklm\x89\x02hi\x80\x0dnopqrstuvwxyz\x81\x02ok";
    let covered = b"\x01\x0d*************\x89\x02hi\x80\x0d*************\x81\x02ok";
    assert_eq!(through(two, two.len()).unwrap(), covered);
    let ping = b"\x89\x1aabcdefghijklmnopqrstuvwxyz\x81\x02ok";
    let covered = b"\x89\x1a**************************\x81\x02ok";
    for cut in [1, 4, 64] {
        assert_eq!(through(ping, cut).unwrap(), covered, "{cut}");
    }
    let long = [&b"\x82\x7f\0\0\0\0\0\x01\x11\x70"[..], &[b'.'; 70_000][..]].concat();
    assert_eq!(through(&long, 4096).unwrap(), long);
    for wrong in [
        &b"\xc1\x01a"[..],
        b"\x81\x81abcda",
        b"\x89\x7e\x00\xff",
        b"\x09\x01a",
    ] {
        assert!(through(wrong, 1).is_err(), "{}", wrong.escape_ascii());
    }
    // Frames without end that hold nothing do not make what waits grow without end.
    let begun = [b"\x01\x05abcde".to_vec(), b"\0\0".repeat(WINDOW_MAX)].concat();
    assert!(through(&begun, 4096).is_err());
}

#[test]
fn heads_are_covered_in_status_names_and_values() {
    let forms = bearer(CREDENTIAL);
    let answer = hyper::Response::builder()
        .header(
            "location",
            "https://x.example/?token=tok%2Fen%2b9f3c%22%3Cab%3e%3D77e1.Zq&a=b",
        )
        .header("x-kept", "yes")
        .header("x-0123456789abcdef0123", "1")
        .extension(ReasonPhrase::try_from(format!("no {CREDENTIAL}").as_bytes()).unwrap());
    let mut parts = answer.body(()).unwrap().into_parts().0;
    assert!(head(&forms, &mut parts));
    let location = parts.headers.get("location").unwrap().to_str().unwrap();
    assert_eq!(
        location,
        "https://x.example/?token=************************************&a=b"
    );
    assert_eq!(parts.headers.get("x-kept").unwrap(), "yes");
    let reason = parts.extensions.get::<ReasonPhrase>().unwrap();
    assert_eq!(
        reason.as_bytes(),
        format!("no {}", "*".repeat(CREDENTIAL.len())).as_bytes()
    );
    assert!(!head(&forms, &mut parts));
    assert!(headers(&bearer("0123456789ABCDEF0123"), &mut parts.headers));
    assert!(parts.headers.get("x-0123456789abcdef0123").is_none());
}

proptest! {
    #[test]
    fn no_letter_is_lost_and_nothing_else_is_covered(
        text in "[a-f%&\\\\;u0-3x\r\n\0]{0,200}",
        cut in 1_usize..40,
        media in prop::sample::select(vec!["text/plain", "application/grpc"]),
    ) {
        let forms = bearer("ghijklmnopqrstuvwxyz");
        let out = through(&forms, media, text.as_bytes(), cut);
        prop_assert_eq!(out, text.into_bytes());
    }

    #[test]
    fn however_it_is_cut_no_piece_of_it_is_seen(
        before in "[a-z%&\\\\;0-9\r\n\0]{0,40}",
        after in "[a-z%&\\\\;0-9\r\n\0]{0,40}",
        cuts in prop::collection::vec(1_usize..9, 1..60),
    ) {
        let secret = "K3y9Zp2LwQx7Tn5Rb8Vd";
        let forms = bearer(secret);
        let text = format!("{before}{secret}{after}");
        let mut covered = Covered::answer(forms, "");
        let (mut out, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            if at >= text.len() {
                break;
            }
            let end = (at + cut).min(text.len());
            covered.feed(&text.as_bytes()[at..end], &mut out).unwrap();
            at = end;
        }
        covered.end(&mut out).unwrap();
        prop_assert_eq!(out.len(), text.len());
        let shown = String::from_utf8(out).unwrap();
        for piece in secret.as_bytes().windows(4) {
            prop_assert!(!shown.contains(std::str::from_utf8(piece).unwrap()), "{}", shown);
        }
    }
}

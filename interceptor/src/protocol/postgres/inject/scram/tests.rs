//! SCRAM against the RFC's own example, and against servers that cheat.

use super::*;

fn keys(password: &str, salt: &str, iterations: u32) -> Keys {
    let salt = STANDARD.decode(salt).unwrap();
    Keys::derive(
        &prepare(password),
        &salt,
        NonZeroU32::new(iterations).unwrap(),
    )
}

fn begun(binding: Binding) -> Exchange {
    Exchange {
        binding,
        nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
    }
}

/// The signature of a server that knows `password`.
pub(in super::super) fn signature(password: &str, salt: &[u8], all: &str) -> [u8; KEY] {
    let iterations = NonZeroU32::new(4_096).unwrap();
    *Keys::derive(&prepare(password), salt, iterations)
        .sign(all)
        .1
}

const FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

#[test]
fn proof_and_signature_are_those_of_rfc_7677() {
    let keys = keys("pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4_096);
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let all = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{FIRST},c=biws,r={nonce}");
    let (proof, signature) = keys.sign(&all);
    assert_eq!(
        STANDARD.encode(*proof),
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(
        STANDARD.encode(*signature),
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn a_message_says_what_it_is_bound_to() {
    let rows = [
        (Binding::Unable, "n,,", "biws"),
        (Binding::NotOffered, "y,,", "eSws"),
        (
            Binding::EndPoint(b"hash".to_vec()),
            "p=tls-server-end-point,,",
            "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsaGFzaA==",
        ),
    ];
    let keys = keys("pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4_096);
    for (binding, header, bound) in rows {
        let exchange = begun(binding);
        assert_eq!(
            exchange.first(),
            format!("{header}n=,r=rOprNGfwEbeRWgbNEkqO")
        );
        let challenge = exchange.challenge(FIRST.as_bytes()).unwrap();
        let (last, _) = exchange.prove(&challenge, &keys);
        assert!(
            last.starts_with(&format!("c={bound},r=rOprNGfwEbe")),
            "{}",
            *last
        );
    }
}

#[test]
fn the_strongest_mechanism_that_can_be_is_chosen() {
    let hash = || Some(b"hash".to_vec());
    let plus = SCRAM_SHA_256_PLUS;
    let plain = SCRAM_SHA_256;
    type Row<'a> = (
        &'a [&'a str],
        bool,
        Option<Vec<u8>>,
        Result<(&'a str, Binding), Error>,
    );
    let rows: &[Row<'_>] = &[
        (&[plain], false, None, Ok((plain, Binding::Unable))),
        (
            &[plain, plus],
            true,
            hash(),
            Ok((plus, Binding::EndPoint(b"hash".to_vec()))),
        ),
        (
            &[plus, plain],
            true,
            hash(),
            Ok((plus, Binding::EndPoint(b"hash".to_vec()))),
        ),
        (
            &[plus],
            true,
            hash(),
            Ok((plus, Binding::EndPoint(b"hash".to_vec()))),
        ),
        (&[plain], true, hash(), Ok((plain, Binding::NotOffered))),
        (&[plain, plus], true, None, Ok((plain, Binding::Unable))),
        (&[plus], true, None, Err(Error::Mechanism)),
        (&[plain, plus], false, None, Err(Error::PlusWithoutTls)),
        (&["OAUTHBEARER"], true, hash(), Err(Error::Mechanism)),
        (&["scram-sha-256"], false, None, Err(Error::Mechanism)),
        (&[], false, None, Err(Error::Mechanism)),
    ];
    for (offered, tls, end_point, expected) in rows {
        let offered: Vec<_> = offered.iter().map(|name| (*name).to_owned()).collect();
        let chosen = choose(&offered, *tls, end_point.clone());
        assert_eq!(&chosen, expected, "{offered:?} tls {tls}");
    }
}

#[test]
fn a_hostile_challenge_costs_nothing() {
    let ours = "rOprNGfwEbeRWgbNEkqO";
    let long = "x".repeat(NONCE_MAX);
    let salt = STANDARD.encode([0; SALT_MAX + 1]);
    let iterations = |count: u64| Err(Error::Iterations { iterations: count });
    let malformed = |field| Err(Error::Malformed { field });
    let rows: &[(String, Result<(), Error>)] = &[
        (format!("r={ours}x,s=AAAA,i=4096"), Ok(())),
        (format!("r={ours}x,s=AAAA,i=600000"), Ok(())),
        (format!("r={ours}x,s=AAAA,i=4095"), iterations(4_095)),
        (format!("r={ours}x,s=AAAA,i=600001"), iterations(600_001)),
        (
            format!("r={ours}x,s=AAAA,i=2147483648"),
            iterations(1 << 31),
        ),
        (format!("r={ours}x,s=AAAA,i=0"), iterations(0)),
        (
            format!("r={ours}x,s=AAAA,i=99999999999999"),
            malformed("iterations"),
        ),
        (format!("r={ours}x,s=AAAA,i=-1"), malformed("iterations")),
        (format!("r={ours}x,s=AAAA,i=+4096"), malformed("iterations")),
        (
            format!("r={ours}x,s=AAAA,i=4096,x=1"),
            malformed("iterations"),
        ),
        (format!("r={ours}x,s=AAAA,i="), malformed("iterations")),
        (format!("r={ours}x,s=AAAA"), malformed("iterations")),
        (format!("r={ours},s=AAAA,i=4096"), Err(Error::Nonce)),
        ("r=other,s=AAAA,i=4096".to_owned(), Err(Error::Nonce)),
        (format!("r={ours}{long},s=AAAA,i=4096"), Err(Error::Nonce)),
        (format!("r={ours}\u{e9},s=AAAA,i=4096"), Err(Error::Nonce)),
        (format!("r={ours}x,s=,i=4096"), malformed("salt")),
        (format!("r={ours}x,s=?,i=4096"), malformed("salt")),
        (format!("r={ours}x,s={salt},i=4096"), malformed("salt")),
        (format!("m=x,r={ours}x,s=AAAA,i=4096"), malformed("nonce")),
        (String::new(), malformed("nonce")),
    ];
    for (message, expected) in rows {
        let read = begun(Binding::Unable).challenge(message.as_bytes());
        assert_eq!(&read.map(|_| ()), expected, "{message}");
    }
    let read = begun(Binding::Unable).challenge(b"r=\xff");
    assert_eq!(read.map(|_| ()), malformed("text"));
}

#[test]
fn only_the_whole_signature_proves_the_server() {
    let expected = Expected(Zeroizing::new([7; KEY]));
    let whole = STANDARD.encode([7; KEY]);
    let malformed = Err(Error::Malformed { field: "signature" });
    let refused = |reason: &str| {
        Err(Error::Refused {
            reason: reason.to_owned(),
        })
    };
    let rows: &[(String, Result<(), Error>)] = &[
        (format!("v={whole}"), Ok(())),
        (
            format!("v={}", STANDARD.encode([8; KEY])),
            Err(Error::Signature),
        ),
        (
            format!("v={}", STANDARD.encode([7; KEY - 1])),
            malformed.clone(),
        ),
        (
            format!("v={}", STANDARD.encode([7; KEY + 1])),
            malformed.clone(),
        ),
        (
            format!("v={}", whole.trim_end_matches('=')),
            malformed.clone(),
        ),
        (format!("v={whole},x=1"), malformed.clone()),
        ("v=".to_owned(), malformed.clone()),
        (String::new(), malformed),
        ("e=invalid-proof".to_owned(), refused("invalid-proof")),
        ("e=\u{1b}[2Jx".to_owned(), refused("[2Jx")),
    ];
    for (message, outcome) in rows {
        assert_eq!(&expected.verify(message.as_bytes()), outcome, "{message}");
    }
}

#[test]
fn a_password_is_prepared_where_it_can_be() {
    // RFC 4013, section 3; the last cannot be prepared and is taken as it is.
    let rows = [
        ("I\u{ad}X", "IX"),
        ("user", "user"),
        ("\u{aa}", "a"),
        ("\u{2168}", "IX"),
        ("a\u{7}b", "a\u{7}b"),
    ];
    for (password, prepared) in rows {
        assert_eq!(prepare(password).as_slice(), prepared.as_bytes());
    }
}

#[test]
fn keys_do_not_print() {
    let keys = keys("pencil", "AAAA", 4_096);
    assert_eq!(format!("{keys:?}"), "Keys([REDACTED])");
}

//! The server's side of SCRAM: the RFC's own exchange, and clients that cheat or are cheated.

use std::num::NonZeroU32;

use super::*;

const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const END: &[u8] = b"hash of the leaf";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";

fn keys() -> Keys {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    Keys::derive(b"pencil", &salt, NonZeroU32::new(4_096).unwrap())
}

fn begin(mechanism: &str, first: &str, end_point: Option<&[u8]>) -> Result<Exchange, Error> {
    Exchange::with_nonce(mechanism, first.as_bytes(), end_point, OURS)
}

/// The last message of a client that knows the password, and says `unproved` before its proof.
fn last(exchange: &Exchange, challenge: &str, unproved: &str) -> String {
    let all = format!("{},{challenge},{unproved}", exchange.bare);
    let (proof, _) = keys().sign(&all);
    format!("{unproved},p={}", STANDARD.encode(*proof))
}

#[test]
fn the_exchange_of_rfc_7677_succeeds_with_its_own_signature() {
    let exchange = begin(SCRAM_SHA_256, FIRST, None).unwrap();
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let challenge = exchange.challenge(&salt);
    assert_eq!(
        challenge,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let signature = exchange.end(&challenge, last.as_bytes(), &keys());
    assert_eq!(
        signature.unwrap(),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn the_binding_is_offered_where_there_is_something_to_bind_to() {
    assert_eq!(mechanisms(None), [SCRAM_SHA_256]);
    assert_eq!(mechanisms(Some(END)), [SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
}

/// A mechanism, a first message, the end point of the connection, and why it is not taken.
type First<'a> = (&'a str, &'a str, Option<&'a [u8]>, Option<Error>);

#[test]
fn a_first_message_is_taken_as_the_server_takes_it() {
    let (plain, plus) = (SCRAM_SHA_256, SCRAM_SHA_256_PLUS);
    let p = "p=tls-server-end-point,,n=,r=x";
    let malformed = |what| Some(Error::Malformed(what));
    let without = malformed("SCRAM-SHA-256-PLUS without channel binding data");
    let authzid = Error::Unsupported("client uses authorization identity, but it is not supported");
    let rows: Vec<First<'_>> = vec![
        (plain, "n,,n=,r=x", None, None),
        (plain, "n,,n=,r=x", Some(END), None),
        (plain, "y,,n=anybody,r=x,z=extension", None, None),
        (plain, "y,,n=,r=x", Some(END), Some(Error::Negotiation)),
        (plus, p, Some(END), None),
        (plus, p, None, Some(Error::Mechanism)),
        (plus, "n,,n=,r=x", Some(END), without),
        (plus, "y,,n=,r=x", Some(END), without),
        (
            plain,
            p,
            Some(END),
            malformed("channel binding data without SCRAM-SHA-256-PLUS"),
        ),
        (
            plus,
            "p=tls-unique,,n=,r=x",
            Some(END),
            Some(Error::Unsupported("unsupported SCRAM channel-binding type")),
        ),
        (
            plain,
            "x,,n=,r=x",
            None,
            malformed("unexpected channel binding flag"),
        ),
        (
            plain,
            "n",
            None,
            malformed("comma expected after the channel binding flag"),
        ),
        (plain, "n,a=other,n=,r=x", None, Some(authzid)),
        (
            plain,
            "n,b,n=,r=x",
            None,
            malformed("unexpected attribute in client-first-message"),
        ),
        (
            plain,
            "n,,m=x,n=,r=x",
            None,
            Some(Error::Unsupported(
                "client requires an unsupported SCRAM extension",
            )),
        ),
    ];
    are_taken_so(rows);
    let long = format!("n,,n=,r={}", "x".repeat(2_000));
    let error = Exchange::begin(plain, long.as_bytes(), None).unwrap_err();
    assert_eq!(error, Error::Malformed("the length of the message"));
}

#[test]
fn a_first_message_has_a_nonce_a_mechanism_and_is_text() {
    let plain = SCRAM_SHA_256;
    let malformed = |what| Some(Error::Malformed(what));
    let nonce = malformed("no printable nonce");
    are_taken_so(vec![
        (plain, "n,,n=,r=", None, nonce),
        (plain, "n,,n=,r=a b", None, nonce),
        (plain, "n,,n=,r=\u{e9}", None, nonce),
        (plain, "n,,r=x", None, nonce),
        (plain, "n,,n=", None, nonce),
        ("SCRAM-SHA-1", "n,,n=,r=x", None, Some(Error::Mechanism)),
        ("PLAIN", "n,,n=,r=x", Some(END), Some(Error::Mechanism)),
        (plain, "", None, malformed("the length of the message")),
        (
            plain,
            "n,,n=\0,r=x",
            None,
            malformed("the message is no text"),
        ),
    ]);
}

fn are_taken_so(rows: Vec<First<'_>>) {
    for (mechanism, first, end_point, expected) in rows {
        let ended = begin(mechanism, first, end_point);
        assert_eq!(ended.err(), expected, "{mechanism} {first:?}");
    }
}

#[test]
fn a_last_message_proves_the_password_the_nonce_and_the_binding() {
    let (plain, plus) = (SCRAM_SHA_256, SCRAM_SHA_256_PLUS);
    let bound = |header: &str, data: &[u8]| STANDARD.encode([header.as_bytes(), data].concat());
    let p = "p=tls-server-end-point,,";
    let rows = [
        (plain, "n,,", bound("n,,", b""), None),
        (plain, "y,,", bound("y,,", b""), None),
        (plus, p, bound(p, END), None),
        // Somebody between, who has another leaf.
        (plus, p, bound(p, b"another leaf"), Some(Error::Binding)),
        (plus, p, bound(p, b""), Some(Error::Binding)),
        // A flag that somebody between has changed.
        (plain, "n,,", bound("y,,", b""), Some(Error::Binding)),
        (plain, "y,,", bound("n,,", b""), Some(Error::Binding)),
    ];
    for (mechanism, header, bound, expected) in rows {
        let end_point = (mechanism == plus).then_some(END);
        let exchange = begin(mechanism, &format!("{header}n=,r=x"), end_point).unwrap();
        let challenge = exchange.challenge(b"salt");
        let unproved = format!("c={bound},r=x{OURS}");
        let last = last(&exchange, &challenge, &unproved);
        let ended = exchange.end(&challenge, last.as_bytes(), &keys());
        assert_eq!(ended.err(), expected, "{mechanism} {header} {bound}");
    }
}

#[test]
fn a_last_message_that_is_not_right_in_every_part_is_refused() {
    let exchange = || begin(SCRAM_SHA_256, "n,,n=,r=x", None).unwrap();
    let challenge = exchange().challenge(b"salt");
    let good = last(&exchange(), &challenge, &format!("c=biws,r=x{OURS}"));
    let signed = |unproved: &str| last(&exchange(), &challenge, unproved);
    let malformed = Error::Malformed;
    let nonce = malformed("nonce does not match");
    let proof = malformed("malformed proof in client-final-message");
    let other = Keys::derive(b"pencils", b"salt", NonZeroU32::new(4_096).unwrap());
    let wrong = format!(
        "c=biws,r=x{OURS},p={}",
        STANDARD.encode(*other.sign(&good).0)
    );
    let short = format!("c=biws,r=x{OURS},p={}", STANDARD.encode(b"short"));
    let rows = [
        (good.clone(), None),
        (signed(&format!("c=biws,r=x{OURS},z=extension")), None),
        (wrong, Some(Error::Password)),
        (short, Some(Error::Password)),
        (format!("c=biws,r=x{OURS},p="), Some(Error::Password)),
        (format!("{good}x"), Some(proof)),
        (format!("{good},z=more"), Some(proof)),
        (signed(&format!("c=biws,r=y{OURS}")), Some(nonce)),
        (signed("c=biws,r=x"), Some(nonce)),
        (signed(&format!("c=biws,z=1,r=x{OURS}")), Some(nonce)),
        (
            format!("c=biws,r=x{OURS}"),
            Some(malformed("no proof in client-final-message")),
        ),
        (
            signed(&format!("r=x{OURS},c=biws")),
            Some(malformed("no channel binding in client-final-message")),
        ),
        (signed(&format!("c=n,r=x{OURS}")), Some(Error::Binding)),
    ];
    for (message, expected) in rows {
        let ended = exchange().end(&challenge, message.as_bytes(), &keys());
        assert_eq!(ended.err(), expected, "{message}");
    }
}

//! Tokens that are good, and every kind that is not; an issuer that turns its keys, lies, or is down.

mod bad;
mod codes;
mod issuers;
mod logins;
mod rig;

use std::time::Duration;

use self::rig::{Idp, Signer, claims};
use super::*;

/// Somebody of an issuer.
pub(super) fn identity(subject: &str) -> Identity {
    Identity {
        issuer: "https://idp.example".to_owned(),
        subject: subject.to_owned(),
        user: None,
        groups: Default::default(),
        acr: None,
        amr: Default::default(),
        claims: Default::default(),
        expires: clock::wall(),
    }
}

/// What the daemon has, without a place on disk that lasts.
fn tokens(believed: Believed) -> (tempfile::TempDir, Tokens) {
    let directory = tempfile::tempdir().unwrap();
    let mut tokens = Tokens::open(&directory.path().join("i.db")).unwrap();
    tokens.believed = believed;
    (directory, tokens)
}

#[tokio::test]
async fn a_good_token_says_who_it_is_whatever_it_is_signed_with() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    for by in ["RS256", "PS256", "ES256", "EdDSA"] {
        let mut said = claims(&idp);
        said["jti"] = format!("token-{by}").into();
        let token = idp.signer().sign(by, &said);
        let verified = tokens.verify(&idp.issuers(), &token).await;
        let verified = verified.unwrap_or_else(|error| panic!("{by}: {error}"));
        assert_eq!(verified.token, format!("token-{by}"));
        let who = &verified.identity;
        assert_eq!(who.issuer, idp.url());
        assert_eq!(
            (who.subject.as_str(), who.user.as_deref()),
            ("sub-1", Some("jane"))
        );
        let groups: Vec<_> = who.groups.iter().map(String::as_str).collect();
        assert_eq!(groups, ["dba", "staff"]);
        assert_eq!(who.acr.as_deref(), Some("phr"));
        assert!(who.amr.contains("hwk"));
        assert_eq!(
            who.claims.get("ref").map(String::as_str),
            Some("refs/heads/main")
        );
        assert_eq!(
            who.claims.get("/nested/a~1b").map(String::as_str),
            Some("7")
        );
        assert!(!who.claims.contains_key("absent"));
        // It ends with its token, and not later by any clock.
        let left = verified.until.since(clock::boot());
        assert!(
            left <= Duration::from_secs(300) && left > Duration::from_secs(270),
            "{left:?}"
        );
    }
}

#[test]
fn a_clock_that_is_off_lets_in_and_makes_nothing_longer() {
    use super::claims::ends;

    assert_eq!(ends(100, 90, 30), 100);
    assert_eq!(ends(100, 100, 30), 130);
    assert_eq!(ends(100, 129, 30), 130);
}

#[tokio::test]
async fn a_token_without_a_name_is_known_by_what_is_signed_of_it() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let name = async |said: &serde_json::Value| {
        let token = idp.signer().sign("ES256", said);
        tokens.verify(&idp.issuers(), &token).await.unwrap().token
    };
    let mut said = claims(&idp);
    let first = name(&said).await;
    assert!(first.starts_with("sha256:"), "{first}");
    // Signed anew, since such a signature is another one each time.
    assert_eq!(name(&said).await, first);
    said["sub"] = "sub-2".into();
    assert_ne!(name(&said).await, first);
}

#[tokio::test]
async fn a_key_is_used_for_the_algorithm_that_it_is_for() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let mut keys = idp.signer().jwks();
    keys["keys"][0]["alg"] = "PS256".into();
    idp.says("/jwks", 200, &keys);
    let token = idp.signer().sign("RS256", &claims(&idp));
    let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
    assert_eq!(error.reason(), "key", "{error}");
    let token = idp.signer().sign("PS256", &claims(&idp));
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    // One that is for encryption signs nothing.
    keys["keys"][0]["use"] = "enc".into();
    idp.says("/jwks", 200, &keys);
    let (_directory, tokens) = self::tokens(Believed::default());
    let token = idp.signer().sign("PS256", &claims(&idp));
    let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
    assert_eq!(error.reason(), "key", "{error}");
}

#[tokio::test]
async fn an_issuer_that_is_configured_anew_is_asked_anew() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let token = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    assert_eq!(idp.asked("/jwks"), 1);
    let mut issuers = idp.issuers();
    let mut changed = Issuer::clone(&issuers["idp"]);
    changed.audiences = vec!["nobody".to_owned()];
    issuers.insert("idp".to_owned(), Arc::new(changed));
    let error = tokens.verify(&issuers, &token).await.unwrap_err();
    assert_eq!(error.reason(), "audience");
    assert_eq!(idp.asked("/jwks"), 2);
}

#[test]
fn what_strangers_say_is_shown_short_and_in_one_line() {
    assert_eq!(shown("a\nb"), "`a\\nb`");
    assert!(shown(&"x".repeat(10_000)).len() < 200);
    assert!(Signer::new().jwks()["keys"].is_array());
}

//! Every kind of token that proves nothing, each refused for what is wrong with it.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::rig::{Idp, Signer, base64url, claims};
use super::{Believed, tokens};
use crate::clock;
use crate::config::Algorithm;
use crate::secrets::Secret;

/// A token whose claims were changed.
fn changed(idp: &Idp, change: impl FnOnce(&mut Value)) -> Secret {
    let mut said = claims(idp);
    change(&mut said);
    idp.signer().sign("ES256", &said)
}

fn without(idp: &Idp, name: &str) -> Secret {
    changed(idp, |said| drop(said.as_object_mut().unwrap().remove(name)))
}

/// Tokens that are wrong in their form or their signature.
fn forged(idp: &Idp) -> Vec<(&'static str, Secret, &'static str)> {
    let (good, signer) = (claims(idp), idp.signer());
    let none = format!(
        "{}.{}.",
        base64url(json!({ "alg": "none" }).to_string()),
        base64url(good.to_string())
    );
    let by_public_key = {
        let header = json!({ "alg": "HS256", "kid": "rsa" });
        let signed = format!(
            "{}.{}",
            base64url(header.to_string()),
            base64url(good.to_string())
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &signer.public());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    };
    let text = good.to_string();
    let twice = text.replacen('{', "{\"sub\":\"root\",", 1);
    let header = |header: Value| signer.sign_as("ES256", &header, &good);
    vec![
        ("alg none", none.into(), "algorithm"),
        (
            "an HMAC by the public key",
            by_public_key.into(),
            "algorithm",
        ),
        ("no algorithm", header(json!({ "kid": "ec" })), "algorithm"),
        (
            "another's key",
            Signer::new().sign("ES256", &good),
            "signature",
        ),
        (
            "another's RSA key",
            Signer::new().sign("RS256", &good),
            "signature",
        ),
        (
            "a key of another kind",
            signer.sign_as("RS256", &json!({ "alg": "RS256", "kid": "ec" }), &good),
            "key",
        ),
        (
            "one algorithm said, another used",
            signer.sign_as("PS256", &json!({ "alg": "RS256", "kid": "rsa" }), &good),
            "signature",
        ),
        (
            "a shared secret's name",
            header(json!({ "alg": "ES256", "kid": "shared" })),
            "key",
        ),
        (
            "a kid of numbers",
            header(json!({ "alg": "ES256", "kid": 7 })),
            "malformed",
        ),
        (
            "an extension",
            header(json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false })),
            "malformed",
        ),
        (
            "a token that ends logins",
            header(json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" })),
            "type",
        ),
        (
            "a claim that stands twice",
            signer.sign_text("ES256", "{\"alg\":\"ES256\",\"kid\":\"ec\"}", &twice),
            "malformed",
        ),
        (
            "a header that stands twice",
            signer.sign_text(
                "ES256",
                "{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"ec\"}",
                &text,
            ),
            "malformed",
        ),
        ("two parts", Secret::from("e30.e30"), "malformed"),
        ("four parts", Secret::from("e30.e30.e30.e30"), "malformed"),
        ("no base64", Secret::from("{}.{}.{}"), "malformed"),
        ("no JSON", Secret::from("AAAA.AAAA.AAAA"), "malformed"),
        ("nothing", Secret::from(""), "malformed"),
        ("too long", "a.".repeat(9_000).into(), "oversized"),
    ]
}

/// Tokens that are signed well and claim what is not good.
fn claimed(idp: &Idp) -> Vec<(&'static str, Secret, &'static str)> {
    let now = clock::wall().as_second();
    let text = "x".repeat(300);
    let many: Vec<_> = (0..300).map(|group| group.to_string()).collect();
    vec![
        (
            "expired",
            changed(idp, |said| said["exp"] = (now - 31).into()),
            "expired",
        ),
        (
            "not yet",
            changed(idp, |said| said["nbf"] = (now + 100).into()),
            "early",
        ),
        (
            "from the future",
            changed(idp, |said| said["iat"] = (now + 100).into()),
            "early",
        ),
        (
            "issued long ago",
            changed(idp, |said| said["iat"] = (now - 3_700).into()),
            "old",
        ),
        (
            "for others",
            changed(idp, |said| said["aud"] = "others".into()),
            "audience",
        ),
        ("for nobody", without(idp, "aud"), "audience"),
        (
            "of another issuer",
            changed(idp, |said| said["iss"] = "https://evil.example".into()),
            "issuer",
        ),
        ("of no issuer", without(idp, "iss"), "issuer"),
        (
            "of nearly the same issuer",
            changed(idp, |said| said["iss"] = format!("{}/", idp.url()).into()),
            "issuer",
        ),
        ("about nobody", without(idp, "sub"), "claim"),
        (
            "about a number",
            changed(idp, |said| said["sub"] = 7.into()),
            "claim",
        ),
        (
            "about nothing",
            changed(idp, |said| said["sub"] = "".into()),
            "claim",
        ),
        (
            "of two lines",
            changed(idp, |said| said["sub"] = "a\nb".into()),
            "claim",
        ),
        ("without an end", without(idp, "exp"), "claim"),
        ("without a beginning", without(idp, "iat"), "claim"),
        (
            "with words for an end",
            changed(idp, |said| said["exp"] = "never".into()),
            "claim",
        ),
        (
            "with an end beyond time",
            changed(idp, |said| said["exp"] = 1e300.into()),
            "claim",
        ),
        (
            "before time",
            changed(idp, |said| said["iat"] = (-1).into()),
            "claim",
        ),
        (
            "a long user",
            changed(idp, |said| said["preferred_username"] = text.into()),
            "claim",
        ),
        (
            "groups of groups",
            changed(idp, |said| said["groups"] = json!([["a"]])),
            "claim",
        ),
        (
            "too many groups",
            changed(idp, |said| said["groups"] = many.into()),
            "claim",
        ),
        (
            "a kept claim of parts",
            changed(idp, |said| said["ref"] = json!({})),
            "claim",
        ),
    ]
}

#[tokio::test]
async fn what_proves_nothing_is_refused_for_what_is_wrong_with_it() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let good = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&idp.issuers(), &good).await.unwrap();
    for (name, token, reason) in forged(&idp).into_iter().chain(claimed(&idp)) {
        let refused = tokens.verify(&idp.issuers(), &token).await;
        let error = refused.expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_pinned_is_not_taken_though_the_key_is_there() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let issuers = idp.issuers_with(|issuer| issuer.algorithms = vec![Algorithm::Es256]);
    let token = idp.signer().sign("RS256", &claims(&idp));
    let error = tokens.verify(&issuers, &token).await.unwrap_err();
    assert_eq!(error.reason(), "algorithm", "{error}");
    assert_eq!(idp.asked("/jwks"), 0, "it was not worth a question");
    let token = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&issuers, &token).await.unwrap();
}

#[tokio::test]
async fn which_of_several_keys_is_meant_is_not_guessed() {
    let idp = Idp::start().await;
    let good = claims(&idp);
    let mut keys = idp.signer().jwks();
    let other = Signer::new().jwks()["keys"][1].clone();
    keys["keys"].as_array_mut().unwrap().push(other);
    idp.says("/jwks", 200, &keys);
    let (_directory, tokens) = tokens(Believed::default());
    for header in [
        json!({ "alg": "ES256", "kid": "ec" }),
        json!({ "alg": "ES256" }),
    ] {
        let token = idp.signer().sign_as("ES256", &header, &good);
        let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
        assert_eq!(error.reason(), "key", "{error}");
        assert!(error.to_string().contains("more than one"), "{error}");
    }
    // Of one kind there is only one.
    let token = idp
        .signer()
        .sign_as("EdDSA", &json!({ "alg": "EdDSA" }), &good);
    tokens.verify(&idp.issuers(), &token).await.unwrap();
}

#[tokio::test]
async fn clocks_may_differ_as_far_as_is_configured() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let now = clock::wall().as_second();
    let token = changed(&idp, |said| {
        said["exp"] = (now - 10).into();
        said["iat"] = (now - 100).into();
    });
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    let ahead = changed(&idp, |said| said["iat"] = (now + 20).into());
    tokens.verify(&idp.issuers(), &ahead).await.unwrap();
    let strict = idp.issuers_with(|issuer| issuer.skew = std::time::Duration::ZERO);
    let error = tokens.verify(&strict, &token).await.unwrap_err();
    assert_eq!(error.reason(), "expired", "{error}");
}

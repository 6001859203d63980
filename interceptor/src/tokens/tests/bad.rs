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

type Rows = Vec<(&'static str, Secret, &'static str)>;

/// Tokens whose signature proves nothing.
fn forged(idp: &Idp) -> Rows {
    let (good, signer) = (claims(idp), idp.signer());
    let none = format!(
        "{}.{}.",
        base64url(json!({ "alg": "none" }).to_string()),
        base64url(good.to_string())
    );
    let by_public_key = {
        let header = json!({ "alg": "HS256", "kid": "rsa" }).to_string();
        let signed = format!("{}.{}", base64url(header), base64url(good.to_string()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &signer.public());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    };
    let as_rsa = |by, kid: &str| {
        let header = json!({ "alg": "RS256", "kid": kid });
        signer.sign_as(by, &header, &good)
    };
    let nameless = json!({ "kid": "ec" });
    let shared = json!({ "alg": "ES256", "kid": "shared" });
    let other = Signer::new();
    let (by_another, by_anothers_rsa) = (other.sign("ES256", &good), other.sign("RS256", &good));
    let other_use = as_rsa("PS256", "rsa");
    vec![
        ("alg none", none.into(), "algorithm"),
        (
            "an HMAC by the public key",
            by_public_key.into(),
            "algorithm",
        ),
        (
            "no algorithm",
            signer.sign_as("ES256", &nameless, &good),
            "algorithm",
        ),
        ("another's key", by_another, "signature"),
        ("another's RSA key", by_anothers_rsa, "signature"),
        ("a key of another kind", as_rsa("RS256", "ec"), "key"),
        ("one algorithm said, another used", other_use, "signature"),
        (
            "a shared secret's name",
            signer.sign_as("ES256", &shared, &good),
            "key",
        ),
    ]
}

/// Tokens that are wrong in their form.
fn misshapen(idp: &Idp) -> Rows {
    let (good, signer) = (claims(idp), idp.signer());
    let header = |header: Value| signer.sign_as("ES256", &header, &good);
    let text = good.to_string();
    let twice = text.replacen('{', "{\"sub\":\"root\",", 1);
    let plain = "{\"alg\":\"ES256\",\"kid\":\"ec\"}";
    let two_algorithms = "{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"ec\"}";
    let critical = json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false });
    let ends_logins = json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" });
    let numbered = json!({ "alg": "ES256", "kid": 7 });
    vec![
        ("a kid of numbers", header(numbered), "malformed"),
        ("an extension", header(critical), "malformed"),
        ("a token that ends logins", header(ends_logins), "type"),
        (
            "a claim that stands twice",
            signer.sign_text("ES256", plain, &twice),
            "malformed",
        ),
        (
            "a header that stands twice",
            signer.sign_text("ES256", two_algorithms, &text),
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

/// Tokens that are signed well and are not good for us now.
fn claimed(idp: &Idp) -> Rows {
    let now = clock::wall().as_second();
    let with = |name: &str, value: Value| changed(idp, |said| said[name] = value);
    let nearly = format!("{}/", idp.url());
    vec![
        ("expired", with("exp", (now - 31).into()), "expired"),
        ("not yet", with("nbf", (now + 100).into()), "early"),
        ("from the future", with("iat", (now + 100).into()), "early"),
        ("issued long ago", with("iat", (now - 3_700).into()), "old"),
        ("for others", with("aud", "others".into()), "audience"),
        ("for nobody", without(idp, "aud"), "audience"),
        (
            "of another issuer",
            with("iss", "https://evil.example".into()),
            "issuer",
        ),
        ("of no issuer", without(idp, "iss"), "issuer"),
        (
            "of nearly the same issuer",
            with("iss", nearly.into()),
            "issuer",
        ),
    ]
}

/// Tokens that say what cannot be used.
fn garbled(idp: &Idp) -> Rows {
    let with = |name: &str, value: Value| (changed(idp, |said| said[name] = value), "claim");
    let text = "x".repeat(300);
    let many: Vec<_> = (0..300).map(|group| group.to_string()).collect();
    let rows = [
        ("about nobody", (without(idp, "sub"), "claim")),
        ("about a number", with("sub", 7.into())),
        ("about nothing", with("sub", "".into())),
        ("of two lines", with("sub", "a\nb".into())),
        ("without an end", (without(idp, "exp"), "claim")),
        ("without a beginning", (without(idp, "iat"), "claim")),
        ("with words for an end", with("exp", "never".into())),
        ("with an end beyond time", with("exp", 1e300.into())),
        ("before time", with("iat", (-1).into())),
        ("a name that is no text", with("jti", 7.into())),
        ("a long user", with("preferred_username", text.into())),
        ("groups of groups", with("groups", json!([["a"]]))),
        ("too many groups", with("groups", many.into())),
        ("a kept claim of parts", with("ref", json!({}))),
    ];
    let row = |(name, (token, reason))| (name, token, reason);
    rows.into_iter().map(row).collect()
}

#[tokio::test]
async fn what_proves_nothing_is_refused_for_what_is_wrong_with_it() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let good = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&idp.issuers(), &good).await.unwrap();
    let rows = [forged(&idp), misshapen(&idp), claimed(&idp), garbled(&idp)];
    for (name, token, reason) in rows.into_iter().flatten() {
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

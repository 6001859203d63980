//! People who come back from an issuer with a code, and issuers that answer it with what proves nothing.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::rig::{Idp, Signer, base64url, claims};
use super::{Believed, tokens};
use crate::clock;
use crate::secrets::Secret;
use crate::tokens::{Error, Tokens, Verified};

const BACK: &str = "http://127.0.0.1:9466/login/done";

/// An issuer that offers the code flow.
async fn idp() -> Idp {
    let idp = Idp::start().await;
    let mut says = idp.discovery();
    says["authorization_endpoint"] = format!("{}/authorize", idp.url()).into();
    idp.says("/.well-known/openid-configuration", 200, &says);
    idp
}

/// Where a browser was sent: the state and the nonce in that.
async fn sent(idp: &Idp, tokens: &Tokens) -> (String, String) {
    let (location, state) = tokens.send(&idp.issuers(), "idp", BACK).await.unwrap();
    let mut fields = location.split(['?', '&']);
    let nonce = fields.find_map(|field| field.strip_prefix("nonce="));
    (state, nonce.unwrap().to_owned())
}

/// What a good issuer says of who came back.
fn said(idp: &Idp, nonce: &str) -> Value {
    let mut said = claims(idp);
    said["aud"] = "cli".into();
    said["nonce"] = nonce.into();
    said["auth_time"] = clock::wall().as_second().into();
    said
}

/// A login whose issuer answers the code with this token.
async fn answered(
    idp: &Idp,
    tokens: &Tokens,
    token: impl FnOnce(&str) -> Secret,
) -> Result<Verified, Error> {
    let (state, nonce) = sent(idp, tokens).await;
    let token = token(&nonce);
    let answer = json!({ "id_token": token.expose_secret(), "access_token": "x" });
    idp.says("/token", 200, &answer);
    tokens.returned(&state, "code", Some(idp.url())).await
}

#[tokio::test]
async fn who_comes_back_with_a_good_answer_is_known_once() {
    let idp = idp().await;
    let (_directory, tokens) = tokens(Believed::default());
    let good = |nonce: &str| idp.signer().sign("ES256", &said(&idp, nonce));
    let verified = answered(&idp, &tokens, good).await.unwrap();
    assert_eq!(verified.identity.user.as_deref(), Some("jane"));
    let (state, _) = sent(&idp, &tokens).await;
    drop(tokens.returned(&state, "code", None).await);
    let again = tokens.returned(&state, "code", None).await.unwrap_err();
    assert_eq!(again.reason(), "login", "{again}");
}

#[tokio::test]
async fn who_did_not_log_in_for_it_is_not_believed() {
    let idp = idp().await;
    let (_directory, tokens) = tokens(Believed::default());
    let (location, _) = tokens.send(&idp.issuers(), "idp", BACK).await.unwrap();
    assert!(
        location.contains("prompt=login") && location.contains("max_age="),
        "{location}"
    );
    let now = clock::wall().as_second();
    for (at, reason) in [
        (json!(now - 3_600), "old"),
        (json!("now"), "claim"),
        (Value::Null, "claim"),
    ] {
        let token = |nonce: &str| {
            let mut said = said(&idp, nonce);
            said["auth_time"] = at.clone();
            idp.signer().sign("ES256", &said)
        };
        let error = answered(&idp, &tokens, token).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
    }
}

#[tokio::test]
async fn an_issuer_that_lies_to_a_login_is_refused_for_what_is_wrong() {
    type Lie = fn(&Idp, &mut Value);
    let now = clock::wall().as_second();
    let idp = idp().await;
    let (_directory, tokens) = tokens(Believed::default());
    let lies: [(&str, Lie, &str); 8] = [
        (
            "no nonce",
            |_, said| drop(said.as_object_mut().unwrap().remove("nonce")),
            "nonce",
        ),
        (
            "another's nonce",
            |_, said| said["nonce"] = "other".into(),
            "nonce",
        ),
        (
            "a nonce that is none",
            |_, said| said["nonce"] = json!(["x"]),
            "nonce",
        ),
        (
            "an empty nonce",
            |_, said| said["nonce"] = "".into(),
            "nonce",
        ),
        (
            "for another client",
            |_, said| said["aud"] = "interceptor".into(),
            "audience",
        ),
        (
            "given to another",
            |_, said| said["azp"] = "other".into(),
            "audience",
        ),
        (
            "of another issuer",
            |_, said| said["iss"] = "https://evil.example".into(),
            "issuer",
        ),
        (
            "about nobody",
            |_, said| drop(said.as_object_mut().unwrap().remove("sub")),
            "claim",
        ),
    ];
    for (name, lie, reason) in lies {
        let token = |nonce: &str| {
            let mut said = said(&idp, nonce);
            lie(&idp, &mut said);
            idp.signer().sign("ES256", &said)
        };
        let error = answered(&idp, &tokens, token).await.expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
    for (name, claim, value, reason) in [
        ("ended", "exp", now - 100, "expired"),
        ("not good yet", "nbf", now + 100, "early"),
        ("from the future", "iat", now + 100, "early"),
    ] {
        let token = |nonce: &str| {
            let mut said = said(&idp, nonce);
            said[claim] = value.into();
            idp.signer().sign("ES256", &said)
        };
        let error = answered(&idp, &tokens, token).await.expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_login_takes_no_token_that_its_issuer_did_not_sign() {
    let idp = idp().await;
    let (_directory, tokens) = tokens(Believed::default());
    let none = |nonce: &str| {
        let header = base64url(json!({ "alg": "none" }).to_string());
        format!("{header}.{}.", base64url(said(&idp, nonce).to_string())).into()
    };
    let error = answered(&idp, &tokens, none).await.unwrap_err();
    assert_eq!(error.reason(), "algorithm", "{error}");
    let other = |nonce: &str| Signer::new().sign("ES256", &said(&idp, nonce));
    let error = answered(&idp, &tokens, other).await.unwrap_err();
    assert_eq!(error.reason(), "signature", "{error}");
    let confused = |nonce: &str| {
        let header = json!({ "alg": "ES256", "kid": "ed" });
        idp.signer().sign_as("ES256", &header, &said(&idp, nonce))
    };
    let error = answered(&idp, &tokens, confused).await.unwrap_err();
    assert_eq!(error.reason(), "key", "{error}");
    let large = |nonce: &str| {
        let mut said = said(&idp, nonce);
        said["more"] = "x".repeat(64 << 10).into();
        idp.signer().sign("ES256", &said)
    };
    let error = answered(&idp, &tokens, large).await.unwrap_err();
    assert!(matches!(error.reason(), "oversized" | "login"), "{error}");
}

#[tokio::test]
async fn a_login_whose_issuer_is_down_or_another_one_comes_to_nothing() {
    let idp = idp().await;
    let (_directory, tokens) = tokens(Believed::default());
    // Nobody is sent to one that does not say which keys it has.
    idp.says_text("/jwks", &[(503, String::new())]);
    let down = tokens.send(&idp.issuers(), "idp", BACK).await.unwrap_err();
    assert_eq!(down.reason(), "keys", "{down}");
    idp.says("/jwks", 200, &idp.signer().jwks());
    let (_directory, tokens) = self::tokens(Believed::default());
    let (state, _) = sent(&idp, &tokens).await;
    let other = tokens
        .returned(&state, "code", Some("https://evil.example"))
        .await;
    assert_eq!(other.unwrap_err().reason(), "login");
    // It was that login's only try, whoever answered.
    let own = tokens.returned(&state, "code", Some(idp.url())).await;
    assert_eq!(own.unwrap_err().reason(), "login");
    for (status, body) in [
        (400, r#"{"error":"invalid_grant"}"#),
        (200, r#"{"access_token":"x"}"#),
        (200, "<html>"),
        (302, ""),
    ] {
        let (state, _) = sent(&idp, &tokens).await;
        idp.says_text("/token", &[(status, body.to_owned())]);
        let error = tokens.returned(&state, "code", None).await.unwrap_err();
        assert_eq!(error.reason(), "login", "{status} {body}: {error}");
    }
}

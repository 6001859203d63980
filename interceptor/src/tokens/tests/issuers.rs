//! Issuers that turn their keys, lie about themselves, say too much, or do not answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::rig::{Idp, Signer, claims};
use super::{Believed, tokens};
use crate::tls::testing::Root;

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

fn at_once() -> Believed {
    Believed {
        again: Duration::ZERO,
        ..Believed::default()
    }
}

#[tokio::test]
async fn keys_that_were_turned_are_found_and_invented_ones_cost_one_question() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(at_once());
    let token = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    let new = Signer::new();
    let mut keys = new.jwks();
    keys["keys"][1]["kid"] = "next".into();
    idp.says("/jwks", 200, &keys);
    let header = json!({ "alg": "ES256", "kid": "next" });
    let turned = new.sign_as("ES256", &header, &claims(&idp));
    tokens.verify(&idp.issuers(), &turned).await.unwrap();
    let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
    assert_eq!(error.reason(), "key", "the old key is no longer one");

    // Asked a moment ago, it is not asked again, whatever comes.
    let (_directory, tokens) = super::tokens(Believed::default());
    let before = idp.asked("/jwks");
    for number in 0..50 {
        let header = json!({ "alg": "ES256", "kid": format!("invented-{number}") });
        let token = new.sign_as("ES256", &header, &claims(&idp));
        let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
        assert_eq!(error.reason(), "key", "{error}");
        assert!(error.to_string().contains("a moment ago"), "{error}");
    }
    assert_eq!(idp.asked("/jwks") - before, 1);
    // Those who bring a good one are not held up by it.
    tokens.verify(&idp.issuers(), &turned).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_down_is_believed_for_a_while_and_not_for_ever() {
    let idp = Idp::start().await;
    let stale = Believed {
        fresh: Duration::ZERO,
        ..at_once()
    };
    let (_directory, tokens) = tokens(stale);
    let token = idp.signer().sign("ES256", &claims(&idp));
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    idp.says("/jwks", 503, &json!({}));
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    assert!(idp.asked("/jwks") >= 2, "it was not asked again");
    let never = Believed {
        fresh: Duration::ZERO,
        stale: Duration::ZERO,
        again: Duration::ZERO,
    };
    for believed in [never, Believed::default()] {
        let (_directory, tokens) = super::tokens(believed);
        for _ in 0..3 {
            let error = tokens.verify(&idp.issuers(), &token).await.unwrap_err();
            assert_eq!(error.reason(), "keys", "{error}");
            assert!(error.to_string().contains("answers 503"), "{error}");
        }
    }
    let before = idp.asked("/jwks");
    let (_directory, tokens) = super::tokens(Believed::default());
    for _ in 0..20 {
        tokens.verify(&idp.issuers(), &token).await.unwrap_err();
    }
    assert_eq!(
        idp.asked("/jwks") - before,
        1,
        "one that is down is not asked on and on"
    );
}

#[tokio::test]
async fn an_issuer_that_lies_or_says_too_much_is_not_believed() {
    let idp = Idp::start().await;
    let token = idp.signer().sign("ES256", &claims(&idp));
    let other = |name: &str, value: &str| {
        let mut document = idp.discovery();
        document[name] = value.into();
        (200, document.to_string())
    };
    let good = (200, idp.discovery().to_string());
    let keys = |count: usize| {
        let key = idp.signer().jwks()["keys"][1].clone();
        json!({ "keys": vec![key; count] }).to_string()
    };
    let one = (200, keys(1));
    let elsewhere = |url: &str| (other("jwks_uri", url), one.clone());
    let rows = [
        (
            "another issuer",
            (other("issuer", "https://evil.example"), one.clone()),
        ),
        ("expected https", elsewhere("http://10.0.0.1/jwks")),
        ("expected an address", elsewhere("file:///etc/passwd")),
        ("answers 404", ((404, String::new()), one.clone())),
        ("no strict JSON", ((200, "hello".to_owned()), one.clone())),
        ("answers 302", (good.clone(), (302, keys(1)))),
        ("more than 64", (good.clone(), (200, keys(65)))),
        ("no list of keys", (good.clone(), (200, "{}".to_owned()))),
        ("cannot be asked", (good, (200, " ".repeat(300 << 10)))),
    ];
    for (why, (discovery, keys)) in rows {
        idp.says_text(WELL_KNOWN, &[discovery]);
        idp.says_text("/jwks", &[keys]);
        let (_directory, tokens) = tokens(Believed::default());
        let error = tokens.verify(&idp.issuers(), &token).await.expect_err(why);
        assert_eq!(error.reason(), "keys", "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    assert_eq!(idp.asked("/elsewhere"), 0);
}

#[tokio::test]
async fn an_issuer_is_known_by_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "root.pem");
    let other = Root::new(directory.path(), "other.pem");
    let idp = Idp::secure(
        TlsAcceptor::from(root.server("127.0.0.1")),
        root.file.clone(),
    )
    .await;
    let token = idp.signer().sign("ES256", &claims(&idp));
    let (_state, tokens) = tokens(at_once());
    tokens.verify(&idp.issuers(), &token).await.unwrap();
    let wrong = idp.issuers_with(|issuer| issuer.ca = Some(other.file.clone()));
    let error = tokens.verify(&wrong, &token).await.unwrap_err();
    assert_eq!(error.reason(), "keys", "{error}");
    // Nor is it one for another name.
    let named = Idp::secure(
        TlsAcceptor::from(root.server("elsewhere.example")),
        root.file.clone(),
    )
    .await;
    let token = named.signer().sign("ES256", &claims(&named));
    let error = tokens.verify(&named.issuers(), &token).await.unwrap_err();
    assert_eq!(error.reason(), "keys", "{error}");
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_question() {
    let idp = Idp::start().await;
    let (_directory, tokens) = tokens(Believed::default());
    let tokens = Arc::new(tokens);
    let issuers = Arc::new(idp.issuers());
    let token = Arc::new(idp.signer().sign("ES256", &claims(&idp)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (tokens, issuers, token) = (
            Arc::clone(&tokens),
            Arc::clone(&issuers),
            Arc::clone(&token),
        );
        tasks.spawn(async move { tokens.verify(&issuers, &token).await.map(drop) });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(idp.asked("/jwks"), 1);
}

//! People who log in at a terminal, and whoever would use their login.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use serde_json::json;

use super::rig::{Idp, claims};
use super::{Believed, tokens};
use crate::identity::pidfd;
use crate::tokens::Tokens;
use crate::tokens::login::{Owner, Progress};

fn owner() -> Owner {
    let pid = std::process::id();
    Owner {
        pid,
        uid: 1000,
        scope: None,
        held: Arc::new(pidfd::open(pid).unwrap()),
    }
}

/// An issuer whose person answers after these answers of the token's endpoint.
async fn idp(answers: &[(u16, &str)]) -> Idp {
    let idp = Idp::start().await;
    let begun = json!({
        "device_code": "d&c=1", "user_code": "ABCD-EFGH", "verification_uri": "https://idp.example/device",
        "expires_in": 600, "interval": 1,
    });
    idp.says("/device", 200, &begun);
    let mut said = claims(&idp);
    said["aud"] = "cli".into();
    said["azp"] = "cli".into();
    let token = idp.signer().sign("ES256", &said);
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    let mut answers: Vec<_> = answers
        .iter()
        .map(|(status, text)| (*status, (*text).to_owned()))
        .collect();
    answers.push((
        200,
        json!({ "id_token": token, "access_token": "x" }).to_string(),
    ));
    idp.says_text("/token", &answers);
    idp
}

async fn to_the_end(tokens: &Tokens, id: uuid::Uuid, owner: &Owner) -> Result<(), String> {
    loop {
        match tokens.wait(id, owner).await {
            Ok(Progress::Done) => return Ok(()),
            Ok(Progress::Waiting) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[tokio::test]
async fn a_person_who_answers_is_known_to_who_began_and_to_nobody_else() {
    let idp = idp(&[(400, r#"{"error":"authorization_pending"}"#)]).await;
    let (_directory, tokens) = tokens(Believed::default());
    let owner = owner();
    let begun = tokens
        .begin(&idp.issuers(), "idp", owner.clone())
        .await
        .unwrap();
    assert_eq!(begun.code, "ABCD-EFGH");
    assert_eq!(
        idp.bodies("/device"),
        ["client_id=cli&scope=openid%20profile"]
    );
    // Not done, and not another's.
    tokens.logged_in(begun.id, &owner).await.unwrap_err();
    let other = Owner {
        pid: 1,
        ..owner.clone()
    };
    tokens.wait(begun.id, &other).await.unwrap_err();
    assert_eq!(
        tokens.wait(begun.id, &owner).await.unwrap(),
        Progress::Waiting
    );
    to_the_end(&tokens, begun.id, &owner).await.unwrap();
    let asked = idp.bodies("/token");
    assert_eq!(asked.len(), 2);
    assert!(asked[0].contains("device_code=d%26c%3D1"), "{}", asked[0]);
    tokens.logged_in(begun.id, &other).await.unwrap_err();
    let verified = tokens.logged_in(begun.id, &owner).await.unwrap();
    assert_eq!(verified.identity.user.as_deref(), Some("jane"));
    // A login is used once.
    tokens.logged_in(begun.id, &owner).await.unwrap_err();
    assert!(owner.held.as_fd().try_clone_to_owned().is_ok());
}

#[tokio::test]
async fn an_issuer_that_asks_for_patience_gets_it() {
    let slow = (400, r#"{"error":"slow_down"}"#);
    let idp = idp(&[slow]).await;
    let (_directory, tokens) = tokens(Believed::default());
    let owner = owner();
    let begun = tokens
        .begin(&idp.issuers(), "idp", owner.clone())
        .await
        .unwrap();
    assert_eq!(
        tokens.wait(begun.id, &owner).await.unwrap(),
        Progress::Waiting
    );
    let before = crate::clock::boot();
    to_the_end(&tokens, begun.id, &owner).await.unwrap();
    // One second, and five more.
    assert!(crate::clock::boot().since(before).as_secs() >= 5);
}

#[tokio::test]
async fn a_login_that_comes_to_nothing_says_why() {
    let rows = [
        (
            (400, r#"{"error":"access_denied"}"#.to_owned()),
            "access_denied",
        ),
        (
            (400, r#"{"error":"expired_token"}"#.to_owned()),
            "expired_token",
        ),
        (
            (200, r#"{"access_token":"x"}"#.to_owned()),
            "without an identity token",
        ),
        (
            (200, r#"{"id_token":"e30.e30.e30"}"#.to_owned()),
            "signed with",
        ),
    ];
    for (answer, why) in rows {
        let idp = idp(&[]).await;
        idp.says_text("/token", &[answer]);
        let (_directory, tokens) = tokens(Believed::default());
        let owner = owner();
        let begun = tokens
            .begin(&idp.issuers(), "idp", owner.clone())
            .await
            .unwrap();
        let ended = to_the_end(&tokens, begun.id, &owner).await.unwrap_err();
        assert!(ended.contains(why), "{why}: {ended}");
        tokens.wait(begun.id, &owner).await.unwrap_err();
    }
    // A token for another client is nobody's login here.
    let idp = idp(&[]).await;
    let token = idp.signer().sign("ES256", &claims(&idp));
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    idp.says("/token", 200, &json!({ "id_token": token }));
    let (_directory, tokens) = tokens(Believed::default());
    let owner = owner();
    let begun = tokens
        .begin(&idp.issuers(), "idp", owner.clone())
        .await
        .unwrap();
    let ended = to_the_end(&tokens, begun.id, &owner).await.unwrap_err();
    assert!(ended.contains("meant for others"), "{ended}");
}

#[tokio::test]
async fn logins_are_begun_where_they_are_offered_and_not_too_many() {
    let idp = idp(&[]).await;
    let (_directory, tokens) = tokens(Believed::default());
    let unknown = tokens.begin(&idp.issuers(), "other", owner()).await;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("no issuer has this name")
    );
    let closed = idp.issuers_with(|issuer| issuer.client = None);
    let closed = tokens.begin(&closed, "idp", owner()).await;
    assert!(closed.unwrap_err().to_string().contains("no `client`"));
    tokens.begin(&idp.issuers(), "idp", owner()).await.unwrap();
    let again = tokens.begin(&idp.issuers(), "idp", owner()).await;
    assert!(again.unwrap_err().to_string().contains("too many"));
    let other = Owner {
        uid: 1001,
        ..owner()
    };
    tokens.begin(&idp.issuers(), "idp", other).await.unwrap();
    // The same user's agents, each in a scope of its own.
    let in_scope = |scope| Owner {
        scope: Some(scope),
        ..owner()
    };
    for scope in [1, 2] {
        let begun = tokens.begin(&idp.issuers(), "idp", in_scope(scope)).await;
        begun.unwrap();
    }
    let again = tokens.begin(&idp.issuers(), "idp", in_scope(1)).await;
    assert!(again.unwrap_err().to_string().contains("too many"));
    assert_eq!(idp.asked("/device"), 4);
}

#[tokio::test]
async fn of_logins_that_are_begun_at_once_no_more_come_through() {
    let idp = idp(&[]).await;
    let (_directory, tokens) = tokens(Believed::default());
    let issuers = idp.issuers();
    let begin = || tokens.begin(&issuers, "idp", owner());
    let (one, two, three) = tokio::join!(begin(), begin(), begin());
    let begun = [one, two, three];
    let good = begun.iter().filter(|begun| begun.is_ok()).count();
    assert_eq!((good, idp.asked("/device")), (1, 1), "{begun:?}");
}

#[tokio::test]
async fn logins_that_nobody_comes_back_from_keep_nobody_out() {
    let idp = idp(&[]).await;
    let (_directory, tokens) = tokens(Believed::default());
    let issuers = idp.issuers();
    let send = || tokens.send(&issuers, "idp", "https://console.example/login");
    let (_, first) = send().await.unwrap();
    for _ in 0..1_024 {
        send().await.unwrap();
    }
    let over = tokens.returned(&first, "code", None).await.unwrap_err();
    assert!(over.to_string().contains("no such login"), "{over}");
    let (_, last) = send().await.unwrap();
    let tried = tokens.returned(&last, "code", None).await;
    if let Err(error) = tried {
        assert!(!error.to_string().contains("no such login"), "{error}");
    }
}

//! Who asks: what is dropped, and what is told.

use super::*;

fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in rows {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

#[test]
fn what_says_who_asks_is_taken_out_wherever_it_stands() {
    let mut sent = headers(&[
        ("impersonate-user", "admin"),
        ("impersonate-group", "system:masters"),
        ("impersonate-group", "b"),
        ("impersonate-extra-scopes", "all"),
        ("impersonate-uid", "0"),
        ("x-remote-user", "admin"),
        ("x-remote-extra-a", "b"),
        ("x_remote_user", "admin"),
        ("impersonate_group", "system:masters"),
        (
            "sec-websocket-protocol",
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
        ),
        ("accept", "application/json"),
    ]);
    let taken = strip(&mut sent);
    assert_eq!(taken.len(), 10);
    assert!(
        taken
            .iter()
            .any(|(_, value)| value.as_slice() == b"c2VjcmV0")
    );
    let left: Vec<_> = sent
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let mut left = left;
    left.sort_unstable();
    assert_eq!(
        left,
        [
            ("accept", "application/json"),
            ("sec-websocket-protocol", "v5.channel.k8s.io")
        ]
    );
}

#[test]
fn what_our_own_kubeconfig_has_is_nobodys_credential() {
    assert!(is_nobody(b"Bearer no-credential"));
    for other in [&b"Bearer no-credential2"[..], b"no-credential", b"Bearer "] {
        assert!(!is_nobody(other));
    }
}

#[test]
fn a_token_is_taken_as_it_is_or_as_a_plugin_prints_it() {
    let read =
        |text: &str| token(Secret::from(text.to_owned())).map(|one| one.expose_secret().to_owned());
    assert_eq!(read("abc.def").as_deref(), Some("abc.def"));
    let printed = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t","expirationTimestamp":"2030-01-01T00:00:00Z"}}"#;
    assert_eq!(read(printed).as_deref(), Some("t"));
    for broken in [
        "{}",
        r#"{"kind":"ExecCredential","status":{}}"#,
        r#"{"kind":"ExecCredential","status":{"token":""}}"#,
        r#"{"kind":"Secret","status":{"token":"t"}}"#,
    ] {
        assert_eq!(read(broken), None, "{broken}");
    }
}

#[test]
fn the_server_is_told_the_identity_and_nothing_of_the_clusters_own() {
    let settings = Impersonate {
        whom: Whom::Identity,
        prefix: "oidc:".to_owned(),
        groups: vec!["agents".to_owned()],
        own_groups: true,
    };
    let caller = Caller {
        agent: "claude".to_owned(),
        identity: Some(("alice".to_owned(), vec!["dba".to_owned()])),
    };
    let told = |settings: &Impersonate, caller: &Caller| {
        let mut sent = HeaderMap::new();
        impersonate(&mut sent, settings, caller)?;
        Ok::<_, Refusal>(sent)
    };
    assert_eq!(
        told(&settings, &caller).unwrap(),
        headers(&[
            ("impersonate-user", "oidc:alice"),
            ("impersonate-group", "oidc:dba"),
            ("impersonate-group", "agents"),
        ])
    );
    let nobody = Caller {
        identity: None,
        ..caller.clone()
    };
    assert_eq!(
        told(&settings, &nobody).unwrap_err().kind,
        RefusalKind::Identity
    );
    let agent = Impersonate {
        whom: Whom::Agent,
        prefix: String::new(),
        own_groups: false,
        ..settings.clone()
    };
    let sent = told(&agent, &nobody).unwrap();
    assert_eq!(sent.get("impersonate-user").unwrap(), "claude");
    let bare = Impersonate {
        prefix: String::new(),
        ..settings
    };
    for (name, group) in [
        ("system:admin", "a"),
        ("a", "system:masters"),
        ("a\nb", "a"),
    ] {
        let caller = Caller {
            identity: Some((name.to_owned(), vec![group.to_owned()])),
            ..caller.clone()
        };
        assert!(told(&bare, &caller).is_err(), "{name} {group}");
    }
}

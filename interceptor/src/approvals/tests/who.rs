//! Who counts as one person, and as nobody for their own requests.

use super::*;
use crate::policy::SessionUser;

type Change = fn(&mut Question);

fn session(uid: u32, name: &str) -> SessionUser {
    SessionUser {
        uid,
        name: Some(name.to_owned()),
    }
}

/// What the configuration says of alice.
fn known() -> [BTreeSet<String>; 1] {
    [BTreeSet::from(
        ["name alice", "subject slack U1"].map(str::to_owned),
    )]
}

fn alice() -> Person {
    Person {
        name: Some("alice".to_owned()),
        ..person(1_001, &["dba"])
    }
}

fn root(session: Option<&SessionUser>) -> Person {
    let root = Person {
        name: None,
        ..person(0, &[])
    };
    root.also(session, &known())
}

/// alice in the chat, where she has another name.
fn in_chat() -> Person {
    let mut one = logged_in("U1", "al", &["slack:dba"]);
    if let Some(login) = &mut one.login {
        "slack".clone_into(&mut login.by);
        Arc::make_mut(&mut login.identity).issuer = "slack".to_owned();
    }
    one.also(None, &known())
}

fn all_of_alice() -> [Person; 4] {
    [
        alice(),
        root(Some(&session(1_001, "alice"))),
        logged_in("7", "Alice@corp.example", &["staff:dba"]),
        in_chat(),
    ]
}

#[tokio::test]
async fn who_comes_by_several_words_is_one_person() {
    let scene = Scene::new();
    let ways = [need(&["dba", "staff:dba", "slack:dba"], 2)];
    let id = scene.open("update = 1", &ways).await;
    scene.yes(id, alice(), 0).await.unwrap();
    for again in all_of_alice() {
        let error = scene.yes(id, again, 0).await.unwrap_err();
        assert!(error.to_string().contains("answered already"), "{error}");
    }
    // Another one's session is another person.
    let said = scene.yes(id, root(Some(&session(1_002, "bob"))), 0).await;
    assert!(matches!(said.unwrap().state, State::Approved { .. }));
}

#[tokio::test]
async fn nobody_answers_for_himself_by_another_word() {
    let scene = Scene::new();
    let asked: [(&str, Change); 4] = [
        ("same user", |one| {
            one.uid = 1_001;
            one.principal = serde_json::json!({ "user": { "name": "alice" } });
        }),
        ("same user", |one| {
            one.uid = 100_032;
            one.owners.names = BTreeSet::from(["alice".to_owned()]);
            one.owners.spans = vec![(1_001, 1)];
        }),
        ("own behalf", |one| {
            one.principal = serde_json::json!({ "identity": { "user": "alice@corp.example" } });
        }),
        ("own behalf", |one| {
            let identity =
                serde_json::json!({ "issuer": "slack", "subject": "U1", "user": "alice" });
            one.principal = serde_json::json!({ "identity": identity });
        }),
    ];
    for (number, (told, change)) in asked.into_iter().enumerate() {
        let mut one = question(&format!("delete = {number}"), &[need(&["dba"], 1)]);
        change(&mut one);
        let id = one.id;
        scene.approvals.asks(one, at(0)).await.unwrap();
        for by in all_of_alice() {
            let error = scene.yes(id, by.clone(), 0).await.unwrap_err();
            assert!(error.to_string().contains(told), "{number} {by:?}: {error}");
        }
        scene.yes(id, root(None), 0).await.unwrap();
    }
}

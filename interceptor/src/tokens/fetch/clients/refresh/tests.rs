//! The newest token of a grant outlives the daemon, and belongs to the token that the grant began with.

use std::path::PathBuf;

use super::*;
use crate::config::{Grant, SecretSource, Url};

fn client(id: &str) -> Client {
    Client {
        url: Url::read("https://login.example.com/token").unwrap(),
        ca: None,
        allow_http: false,
        id: id.to_owned(),
        secret: SecretSource::File(PathBuf::from("/refresh")),
        grant: Grant::RefreshToken { client: None },
        scope: None,
        audience: None,
        in_body: false,
    }
}

async fn newest(refreshes: &Refreshes, id: &str, first: &str) -> String {
    let first = Secret::from(first);
    let begun = Begun::with(&client(id), &first);
    let newest = refreshes.newest(&begun, first).await.unwrap();
    newest.as_ref().unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn a_newer_token_is_used_from_then_on_and_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("refresh.db");
    let refreshes = Refreshes::open(&file).unwrap();
    assert_eq!(newest(&refreshes, "a", "first").await, "first");
    let first = Secret::from("first");
    let begun = Begun::with(&client("a"), &first);
    let mut held = refreshes.newest(&begun, first).await.unwrap();
    refreshes
        .keep(&begun, &mut held, Secret::from("second"))
        .await;
    drop(held);
    assert_eq!(newest(&refreshes, "a", "first").await, "second");
    drop(refreshes);
    let refreshes = Refreshes::open(&file).unwrap();
    assert_eq!(newest(&refreshes, "a", "first").await, "second");
    // Another client, and a grant that was begun anew.
    assert_eq!(newest(&refreshes, "b", "first").await, "first");
    assert_eq!(newest(&refreshes, "a", "anew").await, "anew");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

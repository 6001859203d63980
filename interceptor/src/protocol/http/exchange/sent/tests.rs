//! What must not leave does not, wherever in a request it stands.

use hyper::Request;

use super::*;
use crate::masking::detect::{Action, Kind};
use crate::secrets::Secret;

const KEY: &str = "AKIAQYLPMN5HHHFPZAM2";

fn sent(actions: &[(Kind, Action)], unread: Unread) -> Sent {
    let actions = actions.iter().copied().collect();
    Sent {
        masks: Arc::new(Masks::new(&[], &actions, &Secret::from("key")).unwrap()),
        unread,
        most: 1 << 20,
        state: Arc::default(),
    }
}

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let builder = Request::builder().method("POST").uri(uri);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder.body(()).unwrap().into_parts().0
}

fn facts(parts: &Parts) -> Facts {
    let text = "version: 1\ntargets:\n  api:\n    addresses: ['api.internal:443']\n    http: {}\n";
    let config = crate::config::parse(text, std::path::Path::new("/c.yaml")).unwrap();
    crate::protocol::http::facts::read(parts, config.targets["api"].http().unwrap(), 443)
}

#[test]
fn query_and_headers_are_masked_before_they_are_judged() {
    let sent = sent(
        &[(Kind::Email, Action::Mask), (Kind::AwsKey, Action::Report)],
        Unread::Refuse,
    );
    let headers = [
        ("x-note", "mail ann@example.com now"),
        ("cookie", "who=ann@example.com"),
        ("user-agent", "bot (ann@example.com)"),
        ("x-key", KEY),
    ];
    let mut parts = parts("/v1/a?to=ann%40example.com&b=c%20d", &headers);
    assert_eq!(sent.head(&mut parts), Ok(()));
    assert_eq!(
        parts.uri.query(),
        Some(format!("to={}&b=c%20d", "%2A".repeat(15)).as_str())
    );
    let said = |name: &str| {
        parts
            .headers
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(said("x-note"), "mail *************** now");
    assert_eq!(said("cookie"), "who=***************");
    assert_eq!(said("user-agent"), "bot (ann@example.com)");
    assert_eq!(said("x-key"), KEY);
    assert_eq!(sent.found(), BTreeMap::from([("aws_key", 1), ("email", 3)]));
}

#[test]
fn what_is_refused_is_refused_wherever_it_stands() {
    let refuses = || sent(&[(Kind::AwsKey, Action::Refuse)], Unread::Refuse);
    let escaped = KEY.replace('A', "%41");
    for (uri, header) in [
        (format!("/v1/{escaped}"), "none"),
        (format!("/v1?k={escaped}"), "none"),
        ("/v1".to_owned(), KEY),
    ] {
        let mut parts = parts(&uri, &[("x-k", header)]);
        assert_eq!(
            refuses().head(&mut parts),
            Err(Wrong::Leaving("aws_key")),
            "{uri}"
        );
    }
    // A path that was masked would be another one.
    let masks = sent(&[(Kind::AwsKey, Action::Mask)], Unread::Pass);
    let mut masked = parts(&format!("/v1/{KEY}"), &[]);
    assert!(matches!(masks.head(&mut masked), Err(Wrong::Unreadable(_))));
    let sent = refuses();
    let json = parts("/v1", &[("content-type", "application/json")]);
    let masker = sent
        .body(&json, &facts(&json), (None, Room::default()))
        .unwrap()
        .unwrap();
    let body = format!(r#"{{"k":"\u0041{}"}}"#, KEY.trim_start_matches('A'));
    assert_eq!(
        sent.whole(masker, body.as_bytes()),
        Err(Wrong::Leaving("aws_key"))
    );
    let masker = sent
        .body(&json, &facts(&json), (None, Room::default()))
        .unwrap()
        .unwrap();
    let whole = sent.whole(masker, b"{\"k\":");
    assert!(matches!(whole, Err(Wrong::Unreadable(_))), "{whole:?}");
}

#[test]
fn what_cannot_be_read_follows_the_settings() {
    let rows: [&[(&str, &str)]; 4] = [
        &[("content-type", "image/png")],
        &[],
        &[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
        &[("connection", "upgrade"), ("upgrade", "websocket")],
    ];
    for headers in rows {
        let parts = parts("/v1", headers);
        let made = |action, unread| {
            sent(&[(Kind::Email, action)], unread).body(
                &parts,
                &facts(&parts),
                (None, Room::default()),
            )
        };
        assert!(
            matches!(
                made(Action::Mask, Unread::Refuse),
                Err(Wrong::Unreadable(_))
            ),
            "{headers:?}"
        );
        assert!(
            matches!(made(Action::Mask, Unread::Pass), Ok(None)),
            "{headers:?}"
        );
        assert!(made(Action::Report, Unread::Refuse).is_ok(), "{headers:?}");
    }
    let form = parts(
        "/v1",
        &[("content-type", "multipart/form-data; boundary=x")],
    );
    let sent = sent(&[(Kind::Email, Action::Mask)], Unread::Refuse);
    assert!(
        sent.body(&form, &facts(&form), (None, Room::default()))
            .unwrap()
            .is_some()
    );
}

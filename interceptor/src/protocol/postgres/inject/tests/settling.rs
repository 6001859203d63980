//! What a fresh session is looked at for, straight at a server and behind a pooler.

use super::*;

/// Logs in to a server whose session answers `settled` to the question, and then its catalog; what it
/// was asked.
async fn asked(client: &Client, settled: Vec<u8>) -> (Result<Upstream, Error>, String) {
    let (ended, heard) = client
        .after_startup(async |fake| {
            fake.say(&ok()).await;
            fake.say(&message(|to| parameter_status(to, "TimeZone", "UTC")))
                .await;
            fake.say(&message(|to| key(4).write(to))).await;
            fake.say(&ready()).await;
            fake.hear().await;
            fake.say(&settled).await;
            if client.postgres.pooler == Pooler::Session && !client.settings.is_empty() {
                fake.hear().await;
                fake.say(&message(|to| {
                    parameter_status(to, "TimeZone", "Asia/Tokyo")
                }))
                .await;
                fake.say(&message(|to| {
                    parameter_status(to, "IntervalStyle", "iso_8601")
                }))
                .await;
                fake.say(&super::settled(&["x"])).await;
            }
            fake.hear().await;
            fake.say(&catalog()).await;
            let mut rest = Vec::new();
            let _end = fake.stream.read_to_end(&mut rest).await;
        })
        .await;
    (ended, String::from_utf8_lossy(&heard).into_owned())
}

fn setting(name: &str, value: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: Origin::Parameter,
    }
}

#[tokio::test]
async fn a_session_that_is_not_the_servers_own_or_not_as_asked_for_is_not_used() {
    let error = ErrorFields::new(Severity::Error, "42501", "no").response();
    let rows: Vec<(Vec<u8>, Option<&str>)> = vec![
        (settled(&["7", "public", "f", "off"]), None),
        (settled(&["7", "public", "t", "on"]), None),
        (settled(&["8", "public", "f", "off"]), Some("Pooled")),
        (settled(&["07", "public", "f", "off"]), Some("Pooled")),
        (
            settled(&["7", "\"$user\", public", "f", "off"]),
            Some("SearchPath"),
        ),
        (settled(&["7", "", "f", "off"]), Some("SearchPath")),
        (settled(&["7", "public", "f"]), Some("Catalog")),
        (ready().to_vec(), Some("Unanswered")),
        (
            [tag(b'T'), row(&["7"]), row(&["7"])].concat(),
            Some("Order"),
        ),
        (make_ready(Status::Failed).to_vec(), Some("Order")),
        (error.to_vec(), Some("Denied")),
        (tag(b'G').to_vec(), Some("Message")),
        (b"D\0\x02\0\0".to_vec(), Some("Message")),
    ];
    for (n, (settled, expected)) in rows.into_iter().enumerate() {
        let (ended, _) = asked(&Client::plain(), settled).await;
        match (ended, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                assert!(text(&error).starts_with(expected), "row {n}: {error:?}");
                assert_eq!(error.refusal().kind, RefusalKind::Upstream);
            }
            (ended, _) => panic!("row {n}: {ended:?}"),
        }
    }
    // A path that the client was permitted to bring is its own.
    let mut client = Client::plain();
    client.settings = vec![setting("Search_Path", "other")];
    let (ended, _) = asked(&client, settled(&["7", "other", "f", "off"])).await;
    ended.unwrap();
    // Without a key nobody can say whose session it is.
    let said = [
        ok().to_vec(),
        ready().to_vec(),
        settled(&["7", "public", "f", "off"]),
    ];
    let error = Client::plain().told(&said.concat()).await.unwrap_err();
    assert!(matches!(error, Error::Pooled), "{error}");
}

#[tokio::test]
async fn a_server_of_another_kind_than_is_asked_for_is_not_used() {
    use SessionAttrs::{Any, Primary, ReadOnly, ReadWrite, Standby};
    let rows = [
        ("f", "off", [true, true, false, true, false]),
        ("f", "on", [true, false, true, true, false]),
        ("t", "off", [true, false, true, false, true]),
        ("t", "on", [true, false, true, false, true]),
    ];
    for (standby, read_only, expected) in rows {
        let kinds = [Any, ReadWrite, ReadOnly, Primary, Standby];
        for (attrs, expected) in kinds.into_iter().zip(expected) {
            let mut client = Client::plain();
            client.attrs = attrs;
            let settled = settled(&["7", "public", standby, read_only]);
            let (ended, _) = asked(&client, settled).await;
            assert_eq!(ended.is_ok(), expected, "{standby} {read_only} {attrs:?}");
            if let Err(error) = ended {
                assert!(matches!(error, Error::Attrs { .. }) && error.is_of_the_host());
            }
        }
    }
}

fn behind_a_pooler() -> Client {
    let mut client = Client::plain();
    client.postgres.pooler = Pooler::Session;
    client
}

#[tokio::test]
async fn a_pooler_is_sent_what_it_knows_and_asked_for_the_rest() {
    let mut client = behind_a_pooler();
    client.settings = vec![
        setting("Application_Name", "psql"),
        setting("client_encoding", "utf-8"),
        setting("intervalstyle", "iso_8601"),
        setting("my.setting", "it's \\"),
        setting("search_path", "other"),
    ];
    let packet = startup(&client.as_login()).unwrap();
    let Packet::Startup(sent) = Packet::read(&packet[4..]).unwrap() else {
        panic!("no startup packet");
    };
    let sent: Vec<_> = sent.parameters.iter().map(|(n, v)| (&**n, &**v)).collect();
    let expected = [
        ("user", "svc"),
        ("database", "app"),
        ("standard_conforming_strings", "on"),
        ("client_encoding", "UTF8"),
        ("Application_Name", "psql"),
    ];
    assert_eq!(sent, expected);
    let clean = settled(&["public", "public", "f", "off", "svc", "svc", "0"]);
    let (ended, heard) = asked(&client, clean).await;
    let parameters = ended.unwrap().parameters;
    let calls = "SELECT pg_catalog.set_config('intervalstyle', 'iso_8601', false), \
        pg_catalog.set_config('my.setting', 'it''s \\', false), \
        pg_catalog.set_config('search_path', 'other', false)";
    assert!(heard.contains(calls), "{heard}");
    let said = [("TimeZone", "Asia/Tokyo"), ("IntervalStyle", "iso_8601")];
    assert_eq!(parameters, said.map(|(n, v)| (n.to_owned(), v.to_owned())));

    // What is set later is part of what was asked for.
    let first = super::super::asked(&client.as_login()).unwrap();
    client.settings[2].value = "postgres".to_owned();
    assert_ne!(super::super::asked(&client.as_login()).unwrap(), first);
}

#[tokio::test]
async fn a_pooled_session_that_others_have_used_is_not_used() {
    let rows = [
        (["public", "public", "f", "off", "svc", "svc", "0"], None),
        (
            ["public", "public", "f", "off", "svc", "svc", "1"],
            Some("Unclean"),
        ),
        (
            ["public", "public", "f", "off", "root", "svc", "0"],
            Some("Unclean"),
        ),
        (
            ["public", "public", "f", "off", "svc", "root", "0"],
            Some("Unclean"),
        ),
        (
            ["evil", "public", "f", "off", "svc", "svc", "0"],
            Some("RoleSearchPath"),
        ),
        (
            ["public", "evil", "f", "off", "svc", "svc", "0"],
            Some("SearchPath"),
        ),
    ];
    for (columns, expected) in rows {
        let (ended, _) = asked(&behind_a_pooler(), settled(&columns)).await;
        match expected {
            None => drop(ended.unwrap()),
            Some(expected) => {
                let error = ended.unwrap_err();
                assert!(text(&error).starts_with(expected), "{columns:?}: {error:?}");
            }
        }
    }
    // A path of the client's own does not make another's right.
    let mut client = behind_a_pooler();
    client.settings = vec![setting("search_path", "other")];
    let columns = ["public", "evil", "f", "off", "svc", "svc", "0"];
    let (ended, _) = asked(&client, settled(&columns)).await;
    assert!(matches!(ended, Err(Error::SearchPath { .. })));
}

//! What a login asks for tells it from every other: a connection that waits is for the very same alone.

use super::*;

type Change = fn(&mut Client);

fn with(change: Change) -> Client {
    let mut client = Client::plain();
    client.settings = vec![
        setting("TimeZone", "UTC", Origin::Parameter),
        setting("geqo", "off", Origin::Options),
    ];
    change(&mut client);
    client
}

fn setting(name: &str, value: &str, origin: Origin) -> Setting {
    Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin,
    }
}

#[test]
fn logins_that_differ_in_anything_ask_for_different_things() {
    let rows: &[(&str, Change)] = &[
        ("as it is", |_| {}),
        ("user", |client| client.postgres.user = "other".to_owned()),
        ("search path", |client| {
            client.postgres.search_path.push("other".to_owned());
        }),
        ("behind a pooler", |client| {
            client.postgres.pooler = Pooler::Session;
        }),
        ("version", |client| client.minor = 2),
        ("physical replication", |client| {
            client.replication = Some(Replication::Physical);
        }),
        ("logical replication", |client| {
            client.replication = Some(Replication::Logical);
        }),
        ("no settings", |client| client.settings.clear()),
        ("another value", |client| {
            client.settings[0].value = "CET".to_owned();
        }),
        ("another name", |client| {
            client.settings[0].name = "DateStyle".to_owned();
        }),
        ("another place", |client| {
            client.settings[0].origin = Origin::Options;
        }),
        ("another order", |client| client.settings.reverse()),
        ("one more", |client| {
            client
                .settings
                .push(setting("jit", "off", Origin::Parameter));
        }),
    ];
    let bytes = |client: &Client, database| {
        let login = Login {
            database,
            ..client.as_login()
        };
        asked(&login).unwrap()
    };
    let mut all: Vec<_> = rows
        .iter()
        .map(|(name, change)| (*name, bytes(&with(*change), "app")))
        .collect();
    all.push(("database", bytes(&with(|_| {}), "other")));
    // What a pooler is told only once somebody is logged in counts as well.
    all.push((
        "another value behind a pooler",
        bytes(
            &with(|client| {
                client.postgres.pooler = Pooler::Session;
                client.settings[1].value = "on".to_owned();
            }),
            "app",
        ),
    ));
    for (n, (name, one)) in all.iter().enumerate() {
        for (other_name, other) in &all[n + 1..] {
            let same = one == other;
            // Parameters stand behind options wherever they are listed.
            let means_the_same = (*name, *other_name) == ("as it is", "another order");
            assert_eq!(same, means_the_same, "{name}: {other_name}");
        }
    }
    // The same is the same, and who logs in is told by the credential.
    let mut client = with(|_| {});
    let once = bytes(&client, "app");
    client.password = None;
    client.attrs = SessionAttrs::Primary;
    assert_eq!(bytes(&client, "app"), once);
}

//! Which settings of a startup are judged, and as what.

use super::*;

fn setting(name: &str, value: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: Origin::Parameter,
    }
}

#[test]
fn a_setting_that_policy_stands_on_is_judged() {
    let rows = [
        ("application_name", "x", true),
        ("TimeZone", "Europe/Vienna", true),
        ("DATESTYLE", "ISO", true),
        ("extra_float_digits", "3", true),
        ("client_encoding", "UTF8", true),
        ("client_encoding", "utf-8", true),
        ("client_encoding", "UNICODE", true),
        ("client_encoding", "SJIS", false),
        ("client_encoding", "utf8é", false),
        ("client_encoding", "SQL_ASCII", false),
        ("client_min_messages", "WARNING", true),
        ("client_min_messages", "debug5", false),
        ("standard_conforming_strings", "on", true),
        ("standard_conforming_strings", "off", false),
        ("search_path", "public", false),
        ("Search_Path", "evil", false),
        ("role", "postgres", false),
        ("session_authorization", "postgres", false),
        ("session_preload_libraries", "x", false),
        ("default_transaction_read_only", "on", false),
        ("row_security", "off", false),
        ("statement_timeout", "5s", false),
        ("my.own", "1", false),
    ];
    for (name, value, harmless) in rows {
        let judged = setting(name, value);
        assert_eq!(judged.is_harmless(), harmless, "{name}={value}");
    }
}

#[test]
fn a_judged_setting_asks_as_a_set_statement_does() {
    let ask = setting("Search_Path", "x").ask();
    assert_eq!(ask.accesses.len(), 1);
    let access = ask.accesses.first().unwrap();
    assert_eq!(access.action, Action::Set);
    assert_eq!(access.resource, Resource::Database);
    assert!(ask.context.has_where);
    assert!(ask.context.settings.contains("search_path"));
}

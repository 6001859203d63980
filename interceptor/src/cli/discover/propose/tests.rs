//! What is proposed, by name and by what was seen, and with which mask.

use super::*;
use crate::masking::detect::Kind;

fn column(name: &str, type_oid: u32, type_name: &str) -> Column {
    Column {
        number: 1,
        name: name.to_owned(),
        type_oid,
        type_name: type_name.to_owned(),
        ..Column::default()
    }
}

fn seen(values: u32, found: &[(Kind, u32)]) -> Seen {
    Seen {
        values,
        found: found.iter().copied().collect(),
    }
}

fn said(name: &str, type_name: &str, seen: Option<&Seen>) -> String {
    match opinion(&column(name, 25, type_name), seen) {
        None => "nothing".to_owned(),
        Some(Opinion::Proposed(sense, _)) => format!("proposed {}", sense.word()),
        Some(Opinion::Doubted(sense, _)) => format!("doubted {}", sense.word()),
    }
}

fn check<const N: usize>(rows: [(&str, &str, Option<Seen>, &str); N]) {
    for (name, kind, seen, expected) in rows {
        let said = said(name, kind, seen.as_ref());
        assert_eq!(said, expected, "{name} {kind} {seen:?}");
    }
}

/// Of 200 values.
fn of(kind: Kind, count: u32) -> Option<Seen> {
    Some(seen(200, &[(kind, count)]))
}

#[test]
fn a_name_proposes_where_its_type_can_hold_it_and_its_values_do_not_say_otherwise() {
    check([
        ("email", "text", None, "proposed email"),
        ("email", "boolean", None, "nothing"),
        ("born", "date", None, "proposed birth"),
        ("email", "date", None, "nothing"),
        ("x", "text", None, "nothing"),
        ("card", "text", Some(seen(200, &[])), "doubted card"),
        ("card", "text", Some(seen(19, &[])), "proposed card"),
        ("card", "text", of(Kind::Card, 1), "proposed card"),
        ("password", "text", Some(seen(200, &[])), "proposed secret"),
        ("email", "text", of(Kind::Jwt, 200), "proposed secret"),
    ]);
}

#[test]
fn enough_values_propose_and_less_is_a_doubt() {
    check([
        ("x", "text", of(Kind::Email, 200), "proposed email"),
        ("x", "text", of(Kind::Email, 10), "proposed email"),
        ("x", "text", of(Kind::Email, 9), "doubted email"),
        ("x", "text", of(Kind::CaSin, 99), "nothing"),
        ("x", "text", of(Kind::CaSin, 100), "proposed national id"),
        ("x", "bigint", of(Kind::Card, 20), "doubted card"),
        ("x", "bigint", of(Kind::Card, 150), "proposed card"),
        ("x", "text", Some(seen(0, &[])), "nothing"),
    ]);
}

#[test]
fn a_mask_stands_for_the_type_and_a_tag_of_the_target_comes_first() {
    let config = "version: 1\nscopes: [{ cgroup: a, agent: a }]\ntargets:\n  t:\n    addresses: [\"127.0.0.1:1\"]\n    tls: { mode: disable }\n    postgres: { user: u, databases: [d] }\n";
    let target = |more: &str| Target::clone(load(config, more).targets.get("t").unwrap());
    let plain = target("");
    let tagged = target("    tags: { pii: last4, secret: \"null\" }\n");
    for (target, sense, oid, name, expected) in [
        (&plain, Sense::NationalId, 25, "text", "{ mask: last4 }"),
        (&plain, Sense::NationalId, 20, "bigint", "{ mask: hash }"),
        (&plain, Sense::NationalId, 21, "smallint", "{ mask: null }"),
        (&plain, Sense::Birth, 1082, "date", "{ mask: year }"),
        (&plain, Sense::Birth, 25, "text", "{ mask: null }"),
        (&plain, Sense::Email, 25, "text", "{ mask: email }"),
        (&plain, Sense::Email, 3802, "jsonb", "{ mask: null }"),
        (&plain, Sense::Person, 25, "text", "{ mask: partial(1) }"),
        (&plain, Sense::Secret, 17, "bytea", "{ mask: hide }"),
        (&tagged, Sense::Email, 25, "text", "pii"),
        (&tagged, Sense::Email, 3802, "jsonb", "{ mask: null }"),
        (&tagged, Sense::Secret, 17, "bytea", "secret"),
    ] {
        let (_, word) = choose(target, sense, &column("c", oid, name));
        assert_eq!(word, expected, "{sense:?} {name}");
        let more = format!(
            "{}    sensitive: {{ public.t.c: {word} }}\n",
            match word.starts_with('{') {
                true => "",
                false => "    tags: { pii: last4, secret: \"null\" }\n",
            }
        );
        load(config, &more);
    }
}

fn load(config: &str, more: &str) -> crate::config::Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{config}{more}")).unwrap();
    crate::config::load(file.path()).unwrap_or_else(|mistakes| panic!("{more}: {mistakes}"))
}

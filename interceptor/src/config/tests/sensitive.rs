//! Sensitive columns as people write them, and every mistake in them with its line.

use super::*;
use crate::masking::{Joinable, Mask, Masks, Relation};

fn with(more: &str) -> String {
    format!(
        "version: 1
targets:
  t:
    addresses: ['db.internal:5432']
    postgres: {{ user: u, databases: [d, e] }}
{more}"
    )
}

#[test]
fn masks_are_words_maps_or_tags() {
    let constant = Mask::Constant("not shown".into());
    let rows: &[(&str, Mask)] = &[
        ("last4", Mask::Last4),
        ("email", Mask::Email),
        ("year", Mask::Year),
        ("hide", Mask::Hide),
        ("null", Mask::Null),
        ("", Mask::Null),
        ("'null'", Mask::Null),
        ("{}", Mask::Null),
        ("{ mask: null }", Mask::Null),
        ("partial(12)", Mask::Partial(12)),
        ("{ mask: partial(1) }", Mask::Partial(1)),
        ("hash", Mask::Hash(Joinable::Session)),
        ("{ mask: hash }", Mask::Hash(Joinable::Session)),
        (
            "{ mask: hash, joinable: target }",
            Mask::Hash(Joinable::Target),
        ),
        ("{ mask: constant, text: not shown }", constant.clone()),
        ("pii", Mask::Hash(Joinable::Target)),
        ("{ mask: pii }", Mask::Hash(Joinable::Target)),
        ("secret", Mask::Hide),
        ("told", constant),
        ("nothing", Mask::Null),
    ];
    let tags = "    tags:
      pii: { mask: hash, joinable: target }
      secret: hide
      told: { mask: constant, text: not shown }
      nothing:
";
    for (said, mask) in rows {
        let config = good(&with(&format!(
            "{tags}    sensitive: {{ public.people.ssn: {said} }}\n"
        )));
        let sensitive = &config.targets["t"].sensitive;
        assert_eq!(sensitive.len(), 1, "{said}");
        assert_eq!(sensitive[0].mask, *mask, "{said}");
    }
}

#[test]
fn columns_are_named_as_policy_names_them() {
    let rows = [
        ("public.people.ssn", None, ["public", "people", "ssn"]),
        (
            "e/public.people.ssn",
            Some("e"),
            ["public", "people", "ssn"],
        ),
        (
            "'\"a.b\".People.\"the ssn\"'",
            None,
            ["a.b", "People", "the ssn"],
        ),
        ("'d/\"x/y\".\"q\"\"\".c'", Some("d"), ["x/y", "q\"", "c"]),
    ];
    for (said, database, [schema, name, column]) in rows {
        let config = good(&with(&format!("    sensitive: {{ {said}: hide }}\n")));
        let one = &config.targets["t"].sensitive[0];
        let relation = Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(one.database.as_deref(), database, "{said}");
        assert_eq!(one.relation, relation, "{said}");
        assert_eq!(one.column, column, "{said}");
        let masks = Masks::of_database(&config.targets["t"].sensitive, "d");
        assert_eq!(masks.is_empty(), database == Some("e"), "{said}");
    }
}

/// Mistakes from line 7 on.
const WRONG: &str = "    tags:
      last4: hide
      Pii: hash
      odd: last5
      loud: constant
    sensitive:
      people.ssn: last4
      public.people.ssn: unknown
      public.people.a: 4
      public.people.b: partial(0)
      public.people.c: { mask: last4, text: x }
      public.people.d: { mask: last4, joinable: target }
      public.people.e: { mask: hash, joinable: host }
      public.people.f: constant
      x/public.people.g: hide
      public.people.h: { mask: loud, joinable: target }
      public.people.i: { kind: hide }
      public.people.j: [hide]
      '\"public\".people.k': hide
      public.people.l: hide
      public.people.l: hide
";

/// Where each is said, and what.
const SAID: &[(&str, &str)] = &[
    ("7:7: targets.t.tags.last4:", "no mask has"),
    ("8:7: targets.t.tags.Pii:", "a-z, 0-9 and -"),
    (
        "9:12: targets.t.tags.odd:",
        "expected one of null, constant",
    ),
    (
        "10:13: targets.t.tags.loud:",
        "expected the text that is shown",
    ),
    (
        "12:7: targets.t.sensitive.people.ssn:",
        "schema.table.column",
    ),
    (
        "13:26: targets.t.sensitive.public.people.ssn:",
        "a tag that `tags` has",
    ),
    (
        "14:24: targets.t.sensitive.public.people.a:",
        "found a number",
    ),
    (
        "15:24: targets.t.sensitive.public.people.b:",
        "expected a mask",
    ),
    (
        "16:45: targets.t.sensitive.public.people.c.text:",
        "mask: constant",
    ),
    (
        "17:49: targets.t.sensitive.public.people.d.joinable:",
        "mask: hash",
    ),
    (
        "18:48: targets.t.sensitive.public.people.e.joinable:",
        "session, target",
    ),
    (
        "19:24: targets.t.sensitive.public.people.f:",
        "the text that is shown",
    ),
    (
        "20:7: targets.t.sensitive.x/public.people.g:",
        "postgres.databases",
    ),
    (
        "21:48: targets.t.sensitive.public.people.h.joinable:",
        "mask: hash",
    ),
    (
        "22:26: targets.t.sensitive.public.people.i.kind:",
        "expected one of mask, text, joinable",
    ),
    (
        "23:24: targets.t.sensitive.public.people.j:",
        "found a list",
    ),
    (
        "24:7: targets.t.sensitive.\"public\".people.k:",
        "schema.table.column",
    ),
    ("26:7: targets.t.sensitive.public.people.l:", "said again"),
];

#[test]
fn every_mistake_is_said_with_its_line() {
    let found = lines(&with(WRONG));
    for (found, (at, says)) in found.iter().zip(SAID) {
        assert!(found.starts_with(at), "{found} does not start with {at}");
        assert!(found.contains(says), "{found} does not say {says}");
    }
    assert_eq!(found.len(), SAID.len(), "{found:#?}");
}

#[test]
fn what_a_tag_says_cannot_be_changed_where_it_is_used() {
    let text = with(
        "    tags: { pii: hash }
    sensitive: { public.people.ssn: { mask: pii, joinable: target } }",
    );
    let at = "7:60: targets.t.sensitive.public.people.ssn.joinable:";
    check_one(&text, at, "expected it with the tag");
}

//! Masks of one database among those of a target, and what remains where something is revealed.

use super::*;

fn relation(name: &str) -> Relation {
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
    }
}

fn sensitive(database: Option<&str>, name: &str, column: &str, mask: Mask) -> Sensitive {
    Sensitive {
        database: database.map(str::to_owned),
        relation: relation(name),
        column: column.to_owned(),
        mask,
    }
}

fn some() -> Vec<Sensitive> {
    vec![
        sensitive(Some("app"), "people", "ssn", Mask::Hide),
        sensitive(None, "people", "ssn", Mask::Last4),
        sensitive(None, "people", "email", Mask::Email),
        sensitive(Some("other"), "cards", "number", Mask::Null),
    ]
}

#[test]
fn what_is_said_of_one_database_counts_before_what_is_said_of_all() {
    let all = some();
    let app = Masks::of_database(&all, "app");
    assert_eq!(app.of(&relation("people"), "ssn"), Some(&Mask::Hide));
    assert_eq!(app.of(&relation("people"), "email"), Some(&Mask::Email));
    assert_eq!(app.of(&relation("cards"), "number"), None);
    let other = Masks::of_database(&all, "other");
    assert_eq!(other.of(&relation("people"), "ssn"), Some(&Mask::Last4));
    assert_eq!(other.of(&relation("cards"), "number"), Some(&Mask::Null));
}

#[test]
fn what_is_revealed_is_gone_and_an_empty_relation_with_it() {
    let masks = Masks::of_database(&some(), "other");
    let less = masks.without(|relation, _| relation.name == "cards");
    assert!(!less.relations.contains_key(&relation("cards")));
    assert!(less.is_within(&masks));
    assert!(!masks.is_within(&less));
    assert!(masks.without(|_, _| true).is_empty());
}

#[test]
fn another_mask_of_the_same_column_is_not_within() {
    let (app, other) = (
        Masks::of_database(&some(), "app"),
        Masks::of_database(&some(), "else"),
    );
    assert!(!app.is_within(&other));
    let columns: Vec<_> = app.columns().map(|(_, column, _)| column).collect();
    assert_eq!(columns, ["email", "ssn"]);
}

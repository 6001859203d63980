//! What goes on to be masked though what that hung on is gone: on the same server, on another, and no more than
//! that.

use super::*;
use crate::protocol::postgres::mask::schema::Column;

/// A table with these columns, in this order.
fn table(oid: u32, name: &str, columns: &[&str]) -> Table {
    let numbered = columns.iter().zip(1..);
    let columns = numbered.map(|(name, number)| Column {
        number,
        name: (*name).to_owned(),
        ..Column::default()
    });
    Table {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: b'r',
        columns: columns.collect(),
        ..Table::default()
    }
}

fn name(of: &str) -> (String, String) {
    ("public".to_owned(), of.to_owned())
}

fn schema(tables: &[Table]) -> Schema {
    let mut schema = Schema {
        sensitive: [(name("person"), ["ssn".to_owned()].into())].into(),
        ..Schema::default()
    };
    tables.iter().cloned().for_each(|table| schema.add(table));
    schema
}

/// `refers.s` refers to `person.ssn`.
fn tied() -> Schema {
    let mut refers = table(20, "refers", &["id", "s"]);
    refers.references = vec![(2, 10, 2)];
    schema(&[table(10, "person", &["id", "ssn"]), refers])
}

fn hung(schema: &Schema, name: &str) -> Hung {
    schema.find("public", name).unwrap().hung.clone()
}

#[test]
fn what_a_server_said_holds_for_another_one_by_number_and_by_name() {
    let before = tied();
    // A standby, or the same one under another address.
    let mut standby = schema(&[
        table(10, "person", &["id", "ssn"]),
        table(20, "refers", &["id", "s"]),
    ]);
    assert!(standby.keep(None, Some(&before)).is_empty());
    assert_eq!(hung(&standby, "refers").references, [(2, 10, 2)].into());
    // One that was loaded again: other numbers, another order of columns.
    let mut copy = schema(&[
        table(20, "person", &["ssn", "id"]),
        table(10, "refers", &["s", "id"]),
    ]);
    assert!(copy.keep(None, Some(&before)).is_empty());
    assert_eq!(hung(&copy, "refers").references, [(1, 20, 1)].into());
    assert_eq!(hung(&copy, "person"), Hung::default());
    // What the copy says is of use to the first again.
    let mut first = schema(&[
        table(10, "person", &["id", "ssn"]),
        table(20, "refers", &["id", "s"]),
    ]);
    assert!(first.keep(None, Some(&copy)).is_empty());
    assert_eq!(hung(&first, "refers").references, [(2, 10, 2)].into());
}

#[test]
fn what_is_called_otherwise_or_gone_elsewhere_is_found_too() {
    let before = tied();
    let mut renamed = schema(&[
        table(10, "person", &["id", "ssn"]),
        table(20, "other", &["id", "s"]),
        // Somebody has made another one of its name.
        table(30, "refers", &["id", "s"]),
    ]);
    assert!(renamed.keep(None, Some(&before)).is_empty());
    for name in ["other", "refers"] {
        assert_eq!(hung(&renamed, name).references, [(2, 10, 2)].into());
    }
    // Its number is another's here.
    let mut gone = schema(&[
        table(10, "refers", &["id", "s"]),
        table(11, "else", &["id"]),
    ]);
    assert!(gone.keep(None, Some(&before)).is_empty());
    let on = hung(&gone, "refers").references;
    let (column, person, referred) = on.first().copied().unwrap();
    assert_eq!((column, referred), (2, 2));
    assert_eq!(gone.gone.get(&person).unwrap().name, "person");
    assert!(gone.tables.values().all(|table| table.oid != person));
}

#[test]
fn only_what_leads_to_something_sensitive_is_kept() {
    let mut before = tied();
    let mut loose = table(40, "loose", &["id", "t"]);
    loose.references = vec![(2, 50, 1)];
    loose.parents = vec![50];
    before.add(loose);
    before.add(table(50, "plain", &["id"]));
    let mut after = schema(&[
        table(20, "refers", &["id", "s"]),
        table(40, "renamed", &["id", "t"]),
    ]);
    assert!(after.keep(Some(&before), None).is_empty());
    assert_eq!(hung(&after, "renamed"), Hung::default());
    assert_eq!(after.gone.keys().copied().collect::<Vec<_>>(), [10]);
    assert_eq!(hung(&after, "refers").references, [(2, 10, 2)].into());
}

#[test]
fn what_referred_to_a_column_that_nobody_calls_sensitive_is_not_kept() {
    let mut before = tied();
    let refers = before.tables.get_mut(&20).unwrap();
    refers.references.push((1, 10, 1));
    let mut above = table(30, "above", &["s"]);
    above.references = vec![(1, 20, 2)];
    before.add(above);
    let mut aside = table(31, "aside", &["id"]);
    aside.references = vec![(1, 20, 1)];
    before.add(aside);
    let mut after = schema(&[
        table(10, "person", &["id", "ssn"]),
        table(20, "refers", &["id", "s"]),
        table(30, "above", &["s"]),
        table(31, "aside", &["id"]),
    ]);
    assert!(after.keep(Some(&before), None).is_empty());
    assert_eq!(hung(&after, "refers").references, [(2, 10, 2)].into());
    assert_eq!(hung(&after, "above").references, [(1, 20, 2)].into());
    assert_eq!(hung(&after, "aside"), Hung::default());
}

/// `tied`, with so many tables that `refers.s` refers to, and that refer to `person.ssn` in turn.
fn tied_to(others: u32) -> Schema {
    let mut schema = tied();
    let mut refers = schema.tables[&20].clone();
    for oid in 1_000..1_000 + others {
        let mut other = table(oid, &format!("t{oid}"), &["id"]);
        other.references = vec![(1, 10, 2)];
        schema.add(other);
        refers.references.push((2, oid, 1));
    }
    schema.add(refers);
    schema
}

#[test]
fn a_relation_that_hangs_on_more_than_there_is_room_for_is_closed_and_no_other() {
    let mut kept = tied();
    assert!(kept.keep(Some(&tied_to(2_000)), None).is_empty());
    assert_eq!(kept.gone.len(), 2_000);
    let mut closed = tied();
    assert_eq!(closed.keep(Some(&tied_to(6_000)), None), [20]);
    assert_eq!(hung(&closed, "refers"), Hung::closed());
    assert!(closed.gone.is_empty());
    // It stays so, and is not told again.
    let mut later = tied();
    assert!(later.keep(Some(&closed), None).is_empty());
    assert_eq!(hung(&later, "refers"), Hung::closed());
}

#[test]
fn where_none_has_more_than_its_share_those_that_are_new_are_closed() {
    let (mut before, mut after) = (tied(), tied());
    for oid in 1_000..11_010 {
        let mut one = table(oid, &format!("t{oid}"), &["s"]);
        after.add(one.clone());
        one.references = vec![(1, 10, 2)];
        before.add(one);
    }
    let closed = after.keep(Some(&before), None);
    assert_eq!(closed, (11_000..11_010).rev().collect::<Vec<_>>());
}

/// `person`, and a table that inherits from it, or does not any more.
fn split(columns: &[&str], inherits: bool) -> Schema {
    let mut low = table(30, "low", columns);
    low.parents = Vec::from_iter(inherits.then_some(10));
    schema(&[table(10, "person", &["id", "ssn"]), low])
}

#[test]
fn a_column_that_was_one_with_a_parents_stays_so_whatever_it_is_called() {
    let before = split(&["id", "ssn"], true);
    let mut renamed = split(&["id", "tax"], false);
    assert!(renamed.keep(Some(&before), None).is_empty());
    assert_eq!(hung(&renamed, "low").parents, [(2, 10, 2)].into());
    // In two steps, and for good.
    let mut parted = split(&["id", "ssn"], false);
    assert!(parted.keep(Some(&before), None).is_empty());
    let mut later = split(&["id", "tax"], false);
    assert!(later.keep(Some(&parted), None).is_empty());
    assert_eq!(hung(&later, "low").parents, [(2, 10, 2)].into());
    // On another server, where columns have other numbers.
    let mut copy = split(&["ssn", "id"], false);
    assert!(copy.keep(None, Some(&before)).is_empty());
    assert_eq!(hung(&copy, "low").parents, [(1, 10, 2)].into());
    // It is so again.
    let mut again = split(&["id", "ssn"], true);
    assert!(again.keep(Some(&parted), None).is_empty());
    assert_eq!(hung(&again, "low"), Hung::default());
    // Another column has its name.
    let mut other = split(&["id", "tax", "ssn"], true);
    assert!(other.keep(Some(&later), None).is_empty());
    assert_eq!(hung(&other, "low").parents, [(2, 10, 2)].into());
}

#[test]
fn what_there_is_no_room_for_is_closed_at_once() {
    let (mut before, mut after) = (tied(), tied());
    for oid in 1_000..21_000 {
        let mut one = table(oid, &format!("t{oid}"), &["s"]);
        after.add(one.clone());
        one.references = vec![(1, 10, 2)];
        before.add(one);
    }
    let closed = after.keep(Some(&before), None);
    assert_eq!(closed, (11_000..21_000).rev().collect::<Vec<_>>());
}

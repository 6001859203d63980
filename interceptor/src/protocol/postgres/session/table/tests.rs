//! Names of statements and portals: taken, replaced, undone.

use super::*;

#[derive(Debug, PartialEq, Eq)]
struct Heavy(usize);

impl Weigh for Heavy {
    fn weight(&self) -> usize {
        self.0
    }
}

fn heavy(weight: usize) -> Arc<Heavy> {
    Arc::new(Heavy(weight))
}

fn name(name: &str) -> Name {
    name.as_bytes().into()
}

#[test]
fn a_name_is_certain_in_its_own_batch_and_after_its_answer() {
    let mut table = Table::new();
    assert_eq!(table.find(b"s", 0), Found::Unknown);
    table.expect(name("s"), 4, heavy(1));
    assert_eq!(table.find(b"s", 4), Found::Known(heavy(1)));
    assert_eq!(table.find(b"s", 5), Found::Until(4));
    assert_eq!(table.uncertain(4), None);
    assert_eq!(table.uncertain(5), Some(4));
    table.settle(name("s"), 4, heavy(1));
    assert_eq!(table.find(b"s", 9), Found::Known(heavy(1)));
}

#[test]
fn a_name_that_was_not_made_means_what_it_meant_before() {
    let mut table = Table::new();
    table.settle(name("s"), 1, heavy(1));
    table.expect(name("s"), 4, heavy(2));
    table.expect(name("s"), 6, heavy(3));
    table.give_up(b"s", 4);
    assert_eq!(table.find(b"s", 0), Found::Known(heavy(3)));
    table.give_up(b"s", 6);
    assert_eq!(table.find(b"s", 9), Found::Known(heavy(1)));
    table.remove(b"s");
    assert_eq!(table.find(b"s", 9), Found::Unknown);
}

#[test]
fn an_earlier_success_does_not_hide_what_is_still_to_come() {
    let mut table = Table::new();
    table.expect(name("s"), 4, heavy(2));
    table.expect(name("s"), 6, heavy(3));
    table.settle(name("s"), 4, heavy(2));
    assert_eq!(table.find(b"s", 7), Found::Until(6));
    let all: Vec<_> = table.iter().map(|(name, meant)| (name, meant.0)).collect();
    assert_eq!(all, [(&b"s"[..], 3)]);
}

#[test]
fn clearing_the_named_ones_leaves_the_unnamed_one() {
    let mut table = Table::new();
    table.settle(name(""), 1, heavy(1));
    table.settle(name("s"), 2, heavy(1));
    table.clear_named();
    assert_eq!(table.find(b"", 9), Found::Known(heavy(1)));
    assert_eq!(table.find(b"s", 9), Found::Unknown);
    table.clear();
    assert_eq!(table.find(b"", 9), Found::Unknown);
    assert_eq!(table.weight, 0);
}

#[test]
fn room_ends_with_too_many_names_and_with_too_much_weight() {
    let mut table = Table::new();
    for number in 0..4_095_u64 {
        table.settle(name(&number.to_string()), number, heavy(1));
    }
    assert!(table.room(b"new"));
    table.expect(name("more"), 5_000, heavy(1));
    assert!(!table.room(b"new"));
    // What takes another's place needs no more, and what has no name takes that of what had none.
    assert!(table.room(b"0") && table.room(b"more") && table.room(b""));
    table.give_up(b"more", 5_000);
    assert!(table.room(b"new"));
    table.settle(name("0"), 5_001, heavy(16 << 20));
    assert!(!table.room(b"new") && !table.room(b"1"));
    assert!(table.room(b"0") && table.room(b""));
    table.remove(b"0");
    assert!(table.room(b"new"));
}

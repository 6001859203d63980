//! Which indexes show the order of something masked: those that are read by themselves alone, and those by which the
//! server may find rows for a condition, or an order, of a column that is not masked.

use std::collections::{BTreeMap, BTreeSet};

use crate::masking::Mask;
use crate::protocol::postgres::mask::schema::{Index, Table, TiedBy};

/// What an index of a table shows.
pub(super) struct Shows<'a> {
    /// All that it holds: a query that asks for no more may read the index alone.
    pub(super) holds: BTreeSet<&'a str>,
    /// The columns that are not masked and by which rows may be found in its order.
    pub(super) by: BTreeSet<&'a str>,
}

/// What the indexes of a table show that are in the order of something masked.
pub(super) fn shown<'a>(
    table: &'a Table,
    masks: Option<&'a BTreeMap<i16, Mask>>,
) -> impl Iterator<Item = Shows<'a>> {
    let indexes = table.indexes.values();
    let of = move |index: &Index| shows(table, index, masks.filter(|masks| !masks.is_empty())?);
    indexes.filter_map(of)
}

fn shows<'a>(table: &'a Table, index: &Index, masks: &BTreeMap<i16, Mask>) -> Option<Shows<'a>> {
    let is_masked = |number: &i16| *number == 0 || masks.contains_key(number);
    let mut all = index.keys.values().chain(&index.others);
    let has_expression = index.keys.values().any(|number| *number == 0);
    // An expression is of some of the others.
    let is_ordered = match has_expression {
        true => all.any(|number| masks.contains_key(number)) || index.others.contains(&0),
        false => index.keys.values().any(is_masked),
    };
    if !is_ordered || !has_expression && is_told_before(table, index, masks) {
        return None;
    }
    let whole = index.others.contains(&0);
    let is_held = |number: &i16| {
        whole || index.keys.values().any(|key| key == number) || index.others.contains(number)
    };
    let held = table.columns.iter();
    let held = held.filter(|column| is_held(&column.number));
    let is_beside = |number: &i16| {
        let is_key = index.keys.values().any(|key| key == number);
        // Of one that is in no expression and no condition nothing is found.
        let may_be_key = is_key || has_expression && index.keys.len() > 1 || index.is_partial;
        may_be_key && !masks.contains_key(number)
    };
    let by = held.clone().filter(|column| is_beside(&column.number));
    Some(Shows {
        by: by.map(|column| column.name.as_str()).collect(),
        holds: held.map(|column| column.name.as_str()).collect(),
    })
}

/// Whether the primary key comes before all that is masked: no two rows are left to be put into an order.
fn is_told_before(table: &Table, index: &Index, masks: &BTreeMap<i16, Mask>) -> bool {
    let keys = index.keys.values().copied();
    let before: BTreeSet<i16> = keys
        .take_while(|number| !masks.contains_key(number))
        .collect();
    let mut ties = table.ties.values();
    ties.any(|tie| {
        tie.by == TiedBy::PrimaryKey && !tie.columns.is_empty() && tie.columns.is_subset(&before)
    })
}

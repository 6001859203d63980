//! What is configured and does not fit the database: a name that is not there masks nothing, and a mask
//! that cannot keep a type is null instead. The operator is told, as nobody else would notice.

use super::cover::subject;
use super::expression;
use super::schema::Schema;
use crate::masking::{Mask, Masks};

/// More are not named, only counted.
const NAMED_MAX: usize = 8;

/// A sentence for the log; `None` where all of it fits.
pub(super) fn said(schema: &Schema, masks: &Masks) -> Option<String> {
    let columns = masks.relations.iter().flat_map(|(relation, columns)| {
        let place = format!("{}.{}", relation.schema, relation.name);
        let table = schema.find(&relation.schema, &relation.name);
        let misfit = move |(name, mask): (&String, &Mask)| {
            let Some(table) = table else {
                return Some(format!("there is no {place} ({place}.{name})"));
            };
            let Some(column) = table.column(name) else {
                return Some(format!("{place} has no column {name}"));
            };
            let objection = expression::objection(mask, subject(column))?;
            Some(format!(
                "{place}: {objection}, which stands there meanwhile"
            ))
        };
        columns.iter().filter_map(misfit)
    });
    let mut found: Vec<String> = columns.collect();
    let more = found.len().saturating_sub(NAMED_MAX);
    found.truncate(NAMED_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

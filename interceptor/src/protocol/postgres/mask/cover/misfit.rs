//! What is configured and does not fit the database. A table whose column has another name by now, or a mask
//! that cannot keep the type of its column, is closed: what it would show is not known. A table that is not
//! there masks nothing. The operator is told, as nobody else would notice.

use super::super::expression;
use super::super::schema::Schema;
use super::subject;
use crate::masking::{Mask, Masks, Relation};

/// More are not named, only counted.
const NAMED_MAX: usize = 8;

/// A configured column that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit<'a> {
    /// Its relation.
    pub relation: &'a Relation,
    /// Its name.
    pub column: &'a str,
    /// Why, in words; what would fit is among them where that is known.
    pub why: String,
    /// The relation, where there is one: it is closed.
    pub closes: Option<u32>,
}

/// All that do not fit.
pub(super) fn all<'a>(schema: &Schema, masks: &'a Masks) -> impl Iterator<Item = Misfit<'a>> {
    masks
        .columns()
        .filter_map(|(relation, column, mask)| one(schema, relation, (column, mask)))
}

fn one<'a>(
    schema: &Schema,
    relation: &'a Relation,
    (name, mask): (&'a str, &Mask),
) -> Option<Misfit<'a>> {
    let table = schema.find(&relation.schema, &relation.name);
    let misfit = |why| Misfit {
        relation,
        column: name,
        why,
        closes: table.map(|table| table.oid),
    };
    let Some(table) = table else {
        return Some(misfit("there is no such relation".to_owned()));
    };
    match table.column(name) {
        None => Some(misfit(format!("it has no column {name}"))),
        Some(column) => expression::objection(mask, subject(column)).map(misfit),
    }
}

/// A sentence for the log; `None` where all of it fits.
pub(super) fn said(schema: &Schema, masks: &Masks) -> Option<String> {
    let mut found: Vec<String> = all(schema, masks)
        .map(|misfit| misfit.to_string())
        .collect();
    let more = found.len().saturating_sub(NAMED_MAX);
    found.truncate(NAMED_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

impl std::fmt::Display for Misfit<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Relation { schema, name } = self.relation;
        write!(
            to,
            "sensitive.{schema}.{name}.{}: {}",
            self.column, self.why
        )?;
        match self.closes {
            Some(_) => write!(to, "; {schema}.{name} is closed meanwhile"),
            None => Ok(()),
        }
    }
}

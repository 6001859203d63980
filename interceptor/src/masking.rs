//! Masking: which columns are sensitive, and what stands in the place of what they hold.
//!
//! Knows no protocol. Engines put a mask in the place of a column before anything computes with it, so
//! that neither a value nor an answer about one comes out; [`Masks`] says where and what.

pub mod detect;
pub(crate) mod output;
pub mod sense;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// What the name of the rule begins with, by which masking refuses a request: no rule of policy has it.
pub const RULE: &str = "mask of ";

/// What stands in the place of a value. Each keeps the column's type; an engine that cannot do so for
/// a type says so when the target is loaded, and not later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mask {
    /// `NULL`, for every type.
    Null,
    /// The same text for all values.
    Constant(Arc<str>),
    /// A keyed hash: equal values stay equal within its [`Joinable`], and cannot be computed without the key.
    Hash(Joinable),
    /// All but the last four characters hidden.
    Last4,
    /// An e-mail address: its domain, and the first letter before it.
    Email,
    /// A date or a time: the first instant of its year.
    Year,
    /// All but the first so many characters hidden.
    Partial(u16),
    /// The column cannot be named, and `*` does not hold it.
    Hide,
}

impl Serialize for Masked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Masked", 4)?;
        fields.serialize_field("schema", &self.relation.schema)?;
        fields.serialize_field("relation", &self.relation.name)?;
        fields.serialize_field("column", &self.column)?;
        fields.serialize_field("by", &self.by.to_string())?;
        fields.end()
    }
}

impl fmt::Display for Mask {
    /// As the configuration writes it; of a constant not its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Constant(_) => f.write_str("constant"),
            Self::Hash(_) => f.write_str("hash"),
            Self::Last4 => f.write_str("last4"),
            Self::Email => f.write_str("email"),
            Self::Year => f.write_str("year"),
            Self::Partial(shown) => write!(f, "partial({shown})"),
            Self::Hide => f.write_str("hide"),
        }
    }
}

/// Where equal values have equal hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Joinable {
    /// Within one session.
    #[default]
    Session,
    /// In all sessions of a target, as long as its key is the same.
    Target,
}

/// A relation's name: schema and name as the server writes them, not as a statement does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// A column that a target's configuration calls sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensitive {
    /// The database; none for all of the target's.
    pub database: Option<String>,
    /// The relation.
    pub relation: Relation,
    /// The column.
    pub column: String,
    /// What stands in its place for whoever may not see it.
    pub mask: Mask,
}

/// A masked column that a request touches, and by what it is masked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Masked {
    /// Where the column is.
    pub relation: Relation,
    /// Its name.
    pub column: String,
    /// What stands in its place.
    pub by: Mask,
}

/// The sensitive columns of one database, each with its mask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masks {
    /// By relation, then by the column's name.
    pub relations: BTreeMap<Relation, BTreeMap<String, Mask>>,
    /// Functions, by schema and name, that the configuration vouches for: they compute from their arguments.
    pub functions: BTreeSet<(String, String)>,
}

impl Masks {
    /// Those of `database` among all of its target. What is said of this database counts before what
    /// is said of all.
    #[must_use]
    pub fn of_database(sensitive: &[Sensitive], database: &str) -> Self {
        let mut masks = Self::default();
        let general = sensitive.iter().filter(|one| one.database.is_none());
        let own = sensitive
            .iter()
            .filter(|one| one.database.as_deref() == Some(database));
        for one in general.chain(own) {
            let columns = masks.relations.entry(one.relation.clone()).or_default();
            columns.insert(one.column.clone(), one.mask.clone());
        }
        masks
    }

    /// The same without the columns for which `revealed` is true.
    #[must_use]
    pub fn without(&self, mut revealed: impl FnMut(&Relation, &str) -> bool) -> Self {
        let mut masks = self.clone();
        for (relation, columns) in &mut masks.relations {
            columns.retain(|column, _| !revealed(relation, column));
        }
        masks.relations.retain(|_, columns| !columns.is_empty());
        masks
    }

    /// Whether every column that is masked here is masked in `other` too, by the same mask, and no function is
    /// vouched for there only.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let mut columns = self.columns();
        std::ptr::eq(self, other)
            || self.is_empty()
            || other.functions.is_subset(&self.functions)
                && columns.all(|(relation, column, mask)| other.of(relation, column) == Some(mask))
    }

    /// Every column with its mask, in the order of their names.
    pub fn columns(&self) -> impl Iterator<Item = (&Relation, &str, &Mask)> {
        self.relations.iter().flat_map(|(relation, columns)| {
            columns
                .iter()
                .map(move |(column, mask)| (relation, column.as_str(), mask))
        })
    }

    /// Whether nothing is sensitive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.relations.is_empty()
    }

    /// The mask of a column; `None` where it is not sensitive.
    #[must_use]
    pub fn of(&self, relation: &Relation, column: &str) -> Option<&Mask> {
        self.relations.get(relation)?.get(column)
    }
}

#[cfg(test)]
mod tests;

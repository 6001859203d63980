//! Masking: which columns are sensitive, and what stands in the place of what they hold.
//!
//! Knows no protocol. Engines put a mask in the place of a column before anything computes with it, so
//! that neither a value nor an answer about one comes out; [`Masks`] says where and what.

pub mod detect;

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// The sensitive columns of one database, each with its mask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masks {
    /// By relation, then by the column's name.
    pub relations: BTreeMap<Relation, BTreeMap<String, Mask>>,
}

impl Masks {
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

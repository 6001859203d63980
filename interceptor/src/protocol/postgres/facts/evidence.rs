//! What each of the two walks saw in a text, in a form that can be compared.
//!
//! Each walk fills one of its own. Equal means agreed; the smallest difference makes the text
//! `Unreadable`. Holds no meaning: what an ask is made of is the typed walk's.

use std::collections::BTreeMap;

/// How a statement names a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Role {
    /// In `FROM`, `USING` and their like.
    Read,
    /// In the same places, but it is a `WITH` query in scope.
    Cte,
    /// The target of `INSERT`, `UPDATE`, `DELETE` or `MERGE`.
    Written,
    /// A word that is not looked up as a relation: `FOR UPDATE OF x`, tables on a foreign server.
    Label,
    /// Anything else: the object of a utility statement.
    Named,
}

/// A relation as the text names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Relation {
    pub(super) role: Role,
    /// Empty where unqualified.
    pub(super) schema: Box<str>,
    pub(super) name: Box<str>,
}

/// What one walk saw in the whole text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// How many statements.
    pub(super) statements: usize,
    /// How many nodes of each kind, at every depth.
    pub(super) kinds: BTreeMap<&'static str, usize>,
    pub(super) relations: Vec<Relation>,
    /// Functions that are called, attached or used as one, and operators that name a schema.
    pub(super) functions: Vec<String>,
    /// Field names of expressions, which may be function calls to the server.
    pub(super) fields: Vec<Box<str>>,
    /// Settings that `SET`, `RESET` and `SHOW` name.
    pub(super) settings: Vec<Box<str>>,
    /// `UPDATE` and `DELETE` without a `WHERE`.
    pub(super) unbounded: usize,
    /// `COPY` with a file or a program on the server.
    pub(super) server_files: usize,
}

impl Evidence {
    pub(super) fn saw(&mut self, kind: &'static str) {
        let count = self.kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn relation(&mut self, role: Role, schema: &str, name: &str) {
        self.relations.push(Relation {
            role,
            schema: schema.into(),
            name: name.into(),
        });
    }

    /// Whether both saw the same, in whatever order.
    pub(super) fn agrees(&mut self, other: &mut Self) -> bool {
        self.sort();
        other.sort();
        self == other
    }

    fn sort(&mut self) {
        self.relations.sort_unstable();
        self.functions.sort_unstable();
        self.fields.sort_unstable();
        self.settings.sort_unstable();
    }
}

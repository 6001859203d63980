//! What the masks of a target find in one of its databases: columns that are not there, or are of a type that
//! their mask cannot keep, and columns that the login role may read for nothing.

use std::path::Path;
use std::sync::Arc;

use super::Check;
use crate::cli::{terminal, upstream};
use crate::config::Target;
use crate::masking::{Masks, Relation};
use crate::protocol::postgres::inject::survey::Readable;
use crate::protocol::postgres::mask::schema::Table;
use crate::protocol::postgres::mask::{Masking, Misfit, Schema};

/// A database with what is configured for it.
pub(super) struct Masked<'a> {
    pub(super) target: &'a Target,
    pub(super) database: &'a str,
    pub(super) masks: Masks,
    pub(super) schema: Arc<Schema>,
    pub(super) readable: Readable,
}

impl Masked<'_> {
    fn masking(&self, masks: Masks) -> Masking {
        Masking::new(Some(Arc::clone(&self.schema)), masks.into(), Arc::default())
    }

    /// What does not fit, and with which key of `file`.
    pub(super) fn misfits(&self, file: &Path) -> Vec<Check> {
        let masking = self.masking(self.masks.clone());
        let misfits = masking.each_misfit();
        let told = misfits.filter(|misfit| misfit.closes.is_some() || self.is_nowhere_else(misfit));
        told.map(|misfit| self.misfit(&misfit, file)).collect()
    }

    /// Relations that are closed for the order in which their rows come.
    pub(super) fn unordered(&self) -> Vec<String> {
        let masking = self.masking(self.masks.clone());
        let tables = masking.unordered().into_iter();
        tables
            .map(|table| format!("{}.{}", table.schema, table.name))
            .collect()
    }

    /// Whether no other database of the target can be meant.
    fn is_nowhere_else(&self, misfit: &Misfit<'_>) -> bool {
        let mut said = self.target.sensitive.iter();
        let is_named = said.any(|one| {
            one.relation == *misfit.relation
                && one.column == misfit.column
                && one.database.as_deref() == Some(self.database)
        });
        is_named || upstream::databases(self.target, None).is_ok_and(|all| all.len() == 1)
    }

    fn misfit(&self, misfit: &Misfit<'_>, file: &Path) -> Check {
        let what = format!("target {}", self.target.name);
        let is = format!("database {}: {misfit}", self.database);
        let is = terminal::line(&is).into_owned();
        let mend = format!(
            "change it below `targets.{}` in {}",
            self.target.name,
            file.display()
        );
        match misfit.closes {
            Some(_) => Check::bad(&what, is, mend),
            None => Check::warning(&what, is, mend),
        }
    }

    /// Masked columns that the role may read for nothing, where `revealed` says which are shown to somebody.
    pub(super) fn readable(&self, revealed: impl FnMut(&Relation, &str) -> bool) -> Vec<String> {
        let masking = self.masking(self.masks.without(revealed));
        let mut tables: Vec<&Table> = self.schema.tables.values().collect();
        tables.sort_unstable_by_key(|table| (&table.schema, &table.name));
        let mut names = Vec::new();
        for table in tables {
            let needed = masking.reads(table);
            let for_nothing = table.columns.iter().filter(|column| {
                let mut needed = needed.iter();
                self.readable.has(table.oid, column.number)
                    && !needed.any(|needed| needed.number == column.number)
            });
            let name = |column: &str| format!("{}.{}.{column}", table.schema, table.name);
            names.extend(for_nothing.map(|column| name(&column.name)));
        }
        names
    }
}

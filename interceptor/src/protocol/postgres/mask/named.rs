//! The objects of utility statements: what is made, changed, copied, looked after.

use pg_query::protobuf::RangeVar;
use pg_query::protobuf::node::Node as Kind;

use super::resolve::{Meaning, Pin, Veto};
use super::{ATTRIBUTES, Order, Way, Work, cover, expression, functions, indirect, lost, schema};
use crate::protocol::postgres::facts::draft::Draft;

impl<'a> Work<'a> {
    /// The object of a utility statement. True where it is masked.
    pub(super) fn named(
        &mut self,
        draft: &Draft<'a>,
        relation: &'a RangeVar,
        path: Option<&[String]>,
    ) -> Result<bool, Veto> {
        let masking = self.masking;
        let copy = copy_of(draft, relation);
        let makes_temporary = relation.relpersistence == "t" || is_temporary(&relation.schemaname);
        if makes_temporary && masking.names.contains(&relation.relname) {
            return Err(Veto::never(&format!(
                "a temporary relation of the name of a masked one, {},",
                relation.relname
            )));
        }
        if relation.relpersistence == "t" {
            return Ok(false);
        }
        match (masking.resolve(relation, path), copy) {
            (Ok(Meaning::Masked(table, cover)), Some(copy)) if !copy.is_from => {
                self.copied(copy, relation, (table, cover))?;
                self.masked.extend(cover.masked.iter().cloned());
                Ok(true)
            }
            (Ok(Meaning::Masked(table, cover)), Some(_)) => {
                self.masked_write(draft, relation, table, cover)
            }
            (Ok(Meaning::Masked(table, cover)), None) if draft.names_harmlessly => {
                if relation.schemaname.is_empty() {
                    self.pin(relation, &table.schema)?;
                }
                // What its indexes and triggers run may speak of it.
                self.masked.extend(cover.masked.iter().cloned());
                Ok(false)
            }
            (Ok(Meaning::Masked(table, cover)), None) => {
                let column = cover.masked.first().map(|masked| masked.column.clone());
                Err(Veto::new(
                    format!(
                        "{} on {}.{}, which has masked columns, is not permitted",
                        draft.summary, table.schema, table.name
                    ),
                    format!(
                        "{}.{}.{}",
                        table.schema,
                        table.name,
                        column.unwrap_or_default()
                    ),
                    "ask the operator for Reveal on its masked columns",
                ))
            }
            (Ok(Meaning::Plain(table, pin)), copy) => {
                self.plain(draft, relation, (table, pin), copy)
            }
            (Ok(Meaning::System(ATTRIBUTES)), Some(_)) => {
                Err(Veto::never(&format!("COPY of {ATTRIBUTES}")))
            }
            (Ok(Meaning::System(name)), Some(_)) => functions::shows(masking, name).map(|()| false),
            (Ok(Meaning::Elsewhere(Some(schema))), Some(_)) => {
                self.pin(relation, schema).map(|()| false)
            }
            (Err(veto), Some(_)) => Err(veto),
            (Err(veto), None) if masking.names.contains(&relation.relname) => Err(veto),
            // What it names is being made, or is of no relation that was there before.
            (Ok(Meaning::System(_) | Meaning::Elsewhere(_)), _) | (Err(_), None) => Ok(false),
        }
    }

    /// The same, where nothing of it is masked.
    fn plain(
        &mut self,
        draft: &Draft<'a>,
        relation: &'a RangeVar,
        (table, pin): (&schema::Table, Pin),
        copy: Option<&pg_query::protobuf::CopyStmt>,
    ) -> Result<bool, Veto> {
        // What is made is made in the first schema of the path.
        if pin == Pin::Needed && !self.makes(relation) {
            self.pin(relation, &table.schema)?;
        }
        if copy.is_some_and(|copy| copy.is_from) {
            indirect(self.masking, (draft, relation), table)?;
            return Ok(self.reaches(table));
        }
        if copy.is_some() && self.masking.is_laid(table) {
            let name = format!("{}.{}", table.schema, table.name);
            return Err(Veto::new(
                format!("rows of {name} lie in the order of what is masked"),
                "masking",
                &format!("COPY (SELECT * FROM {name}) TO sorts them"),
            ));
        }
        self.changed(table)?;
        if copy.is_none() && draft.names_harmlessly {
            self.reaches(table);
        }
        Ok(false)
    }

    /// Whether the statement makes a relation of this name.
    fn makes(&self, relation: &RangeVar) -> bool {
        let made = match self.kind {
            Some(Kind::CreateStmt(create)) => create.relation.as_ref(),
            Some(Kind::ViewStmt(create)) => create.view.as_ref(),
            Some(Kind::CreateSeqStmt(create)) => create.sequence.as_ref(),
            Some(Kind::CreateTableAsStmt(create)) => {
                create.into.as_deref().and_then(|into| into.rel.as_ref())
            }
            Some(Kind::SelectStmt(select)) => {
                let into = select.into_clause.as_deref();
                into.and_then(|into| into.rel.as_ref())
            }
            _ => None,
        };
        made.is_some_and(|made| std::ptr::eq(made, relation))
    }

    /// Nothing is made otherwise, or anew, of which masked values decide whether that works, or which shows some.
    fn changed(&self, table: &schema::Table) -> Result<(), Veto> {
        let masking = self.masking;
        let (what, is_shut) = match self.kind {
            Some(Kind::AlterTableStmt(_)) => ("ALTER TABLE", masking.bound.contains(&table.oid)),
            // What is done to it afterwards would be taken for what is done to another.
            Some(Kind::RenameStmt(_)) => (
                "RENAME",
                masking.bound.contains(&table.oid) || masking.reaching.contains_key(&table.oid),
            ),
            Some(Kind::ReindexStmt(_)) => ("REINDEX", masking.bound.contains(&table.oid)),
            Some(Kind::RefreshMatViewStmt(_)) => ("REFRESH", masking.above.contains(&table.oid)),
            _ => return Ok(()),
        };
        match is_shut {
            true => Err(Veto::never(&format!(
                "{what} of {}.{}, which is tied to a masked column,",
                table.schema, table.name
            ))),
            false => Ok(()),
        }
    }

    /// `COPY t (a, b) TO` becomes `COPY (SELECT a, b FROM …) TO`.
    fn copied(
        &mut self,
        copy: &pg_query::protobuf::CopyStmt,
        relation: &RangeVar,
        (table, cover): (&schema::Table, &cover::Cover),
    ) -> Result<(), Veto> {
        let named = self.tokens.named(relation).ok_or_else(|| lost(relation))?;
        let mut to = named.to;
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        if copy.attlist.is_empty() {
            for column in table.columns.iter().filter(|column| !column.is_generated) {
                let shown = shown(column, cover);
                columns.extend(shown.is_some().then_some(column));
                list.extend(shown);
            }
        } else {
            let close = self
                .tokens
                .closed(named.next)
                .ok_or_else(|| lost(relation))?;
            to = self.tokens.end_of(close).ok_or_else(|| lost(relation))?;
            for name in &copy.attlist {
                let name = match &name.node {
                    Some(pg_query::protobuf::node::Node::String(name)) => name.sval.as_str(),
                    _ => return Err(lost(relation)),
                };
                let column = table.column(name);
                let shown = column.and_then(|column| shown(column, cover));
                list.push(
                    shown.ok_or_else(|| {
                        Veto::unclear(format!("column \"{name}\" cannot be copied"))
                    })?,
                );
                columns.extend(column);
            }
        }
        // A table alone is copied, without what inherits from it.
        let only = if table.kind == b'r' { "ONLY " } else { "" };
        let from = format!(
            "{only}{}.{} AS \"~\"",
            expression::identifier(&table.schema),
            expression::identifier(&table.name),
        );
        let list = list.join(", ");
        // No condition chooses rows of it.
        let way = match cover.condition.order {
            Order::None | Order::Found(_) => Way::Plain,
            Order::Laid => Way::Sorted,
        };
        let query = cover
            .condition
            .query((&list, columns.into_iter()), &from, way);
        self.put(named.from, to, query, true);
        Ok(())
    }
}

/// Whether a schema is one of the session's own, or of another session: `pg_temp`, `pg_temp_3`.
fn is_temporary(schema: &str) -> bool {
    let rest = schema.strip_prefix("pg_temp");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

fn shown(column: &schema::Column, cover: &cover::Cover) -> Option<String> {
    let name = expression::identifier(&column.name);
    match cover.masks.get(&column.number) {
        None => Some(name),
        Some(mask) => cover::stand_in(mask, column).map(|stands| format!("{stands} AS {name}")),
    }
}

/// The `COPY` of a relation.
fn copy_of<'a>(draft: &Draft<'a>, relation: &RangeVar) -> Option<&'a pg_query::protobuf::CopyStmt> {
    draft.copies().find(|copy| {
        copy.relation
            .as_ref()
            .is_some_and(|of| std::ptr::eq(of, relation))
    })
}

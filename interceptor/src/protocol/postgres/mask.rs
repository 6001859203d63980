//! Masking for PostgreSQL: what is masked is taken away before the server computes with it.
//!
//! Pure: a text that was read, a snapshot of the catalog, the search path and the masks go in; the text
//! as it is, another text, or a refusal comes out. Each reference to a relation that holds a masked
//! column is replaced by a query that shows something else in the column's place, and the outcome is
//! read again: no masked relation may be named outside of these queries. What cannot be replaced, or
//! would answer a question about a masked value in another way, is refused.

mod cover;
pub mod expression;
mod functions;
mod known;
mod named;
mod resolve;
pub mod schema;
mod substitute;
mod tables;
mod way;
mod writes;

use std::collections::BTreeSet;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{ParseResult, RangeVar, ScanToken};

use self::cover::{Condition, Order, Way};
pub use self::cover::{Masking, Misfit, Writable};
pub(super) use self::functions::shows_closed;
pub use self::functions::steers;
pub use self::known::{Again, Asked, Changes, Known, Past, Watch};
use self::resolve::{Meaning, Pin, Veto};
pub use self::schema::Schema;
pub use self::substitute::Rewrite;
use self::substitute::{Splice, Tokens, apply, hints};
pub(super) use self::tables::tables;
use self::way::{Candidate, Reading};
use super::facts::draft::{Draft, Reference};
use super::facts::evidence::Role;
use crate::masking::Masked;
use crate::policy::Refusal;

/// The server's table of columns.
const ATTRIBUTES: &str = "pg_attribute";

/// A text that was read, with all that is known of it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [ScanToken],
    pub(super) parsed: &'a ParseResult,
    pub(super) drafts: &'a [Draft<'a>],
    /// The search path of each statement.
    pub(super) paths: &'a [Option<Vec<String>>],
}

/// What becomes of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes upstream as it is.
    Untouched(Vec<Masked>),
    /// Another text goes upstream.
    Rewritten(Rewritten),
    /// It does not.
    Refused(Refusal),
}

#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) rewrite: Rewrite,
    pub(super) masked: Vec<Masked>,
    /// Whether it stands for every text of its shape.
    pub(super) of_its_shape: bool,
}

/// A refusal of what cannot be read, or is not in SQL.
pub(super) fn unreadable() -> Refusal {
    Veto::unclear("what cannot be read cannot be masked").refusal()
}

/// A refusal of a statement that was prepared when other columns were masked.
pub(super) fn outdated() -> Refusal {
    Veto::new(
        "the statement was prepared for another search path, or when other columns were masked",
        "masking",
        "prepare it again",
    )
    .refusal()
}

/// A refusal of a setting that a client brings to a database in which something may be masked.
pub(super) fn brought(setting: &str) -> Option<Refusal> {
    let setting = setting.to_ascii_lowercase();
    steers(&setting).then(|| functions::steering(&setting).refusal())
}

/// Masks a text. `literals` are the ends of its literals, where it has a shape; `again` reads the outcome.
pub(super) fn mask(
    masking: &Masking,
    subject: Subject<'_>,
    literals: Option<&[usize]>,
    again: impl FnOnce(&str, &dyn Fn(&[Draft<'_>]) -> bool) -> bool,
) -> Outcome {
    match decide(masking, subject, literals, again) {
        Ok(outcome) => outcome,
        Err(veto) => Outcome::Refused(veto.refusal()),
    }
}

fn decide(
    masking: &Masking,
    subject: Subject<'_>,
    literals: Option<&[usize]>,
    again: impl FnOnce(&str, &dyn Fn(&[Draft<'_>]) -> bool) -> bool,
) -> Result<Outcome, Veto> {
    functions::statements(masking, subject.parsed)?;
    let mut work = Work {
        masking,
        tokens: Tokens::new(subject.text, subject.tokens),
        text: subject.text,
        splices: Vec::new(),
        masked: BTreeSet::new(),
        samples: false,
        kind: None,
        reading: None,
    };
    for (at, draft) in subject.drafts.iter().enumerate() {
        let path = subject.paths.get(at).and_then(Option::as_deref);
        let statement = subject.parsed.stmts.get(at);
        work.kind = statement.and_then(|statement| statement.stmt.as_ref()?.node.as_ref());
        work.statement(draft, path)?;
    }
    let Work {
        mut splices,
        masked,
        samples,
        ..
    } = work;
    let masked: Vec<Masked> = masked.into_iter().collect();
    // What was prepared may touch what this text does not.
    let runs = subject
        .drafts
        .iter()
        .any(|draft| !draft.executes.is_empty());
    if runs || !masked.is_empty() {
        functions::measures(masking, subject.parsed)?;
    }
    splices.extend(hints(subject.text, subject.tokens, &splices));
    if splices.is_empty() {
        return Ok(Outcome::Untouched(masked));
    }
    let unsure = || Veto::unclear("the statement cannot be masked in this form");
    let spliced = apply(subject.text, &mut splices).ok_or_else(unsure)?;
    let expected = splices.iter().filter(|splice| splice.reads).count();
    let holds = |drafts: &[Draft<'_>]| {
        stays_inside(masking, drafts, subject.paths, &spliced.inside) == Some(expected)
    };
    if !again(&spliced.text, &holds) {
        return Err(unsure());
    }
    Ok(Outcome::Rewritten(Rewritten {
        rewrite: Rewrite::new(spliced.text, &splices, literals.unwrap_or_default()),
        masked,
        of_its_shape: literals.is_some() && !samples,
    }))
}

/// The second look: how often a masked relation is read, all of it inside of what was put there; `None`
/// where it is read elsewhere.
fn stays_inside(
    masking: &Masking,
    drafts: &[Draft<'_>],
    paths: &[Option<Vec<String>>],
    inside: &[std::ops::Range<usize>],
) -> Option<usize> {
    if drafts.len() != paths.len() {
        return None;
    }
    let mut count = 0_usize;
    for (draft, path) in drafts.iter().zip(paths) {
        for reference in &draft.references {
            if !matches!(reference.role, Role::Read | Role::Named | Role::Written) {
                continue;
            }
            let meaning = masking.resolve(reference.relation, path.as_deref()).ok();
            let is_masked = match meaning {
                Some(Meaning::Masked(..) | Meaning::System(ATTRIBUTES)) => true,
                Some(Meaning::Plain(table, _)) if masking.asked.contains_key(&table.oid) => true,
                Some(Meaning::Plain(..) | Meaning::System(_) | Meaning::Elsewhere(_)) => false,
                None if reference.role == Role::Named => false,
                None => return None,
            };
            if !is_masked || reference.role != Role::Read {
                continue;
            }
            let at = usize::try_from(reference.relation.location).ok()?;
            if !inside.iter().any(|range| range.contains(&at)) {
                return None;
            }
            count = count.saturating_add(1);
        }
    }
    Some(count)
}

/// A relation in the place of which a query stands.
struct Replaced<'a> {
    relation: &'a RangeVar,
    /// What it is; none where it is the server's own.
    table: Option<&'a schema::Table>,
    /// Whether something of it is masked.
    is_masked: bool,
}

impl Replaced<'_> {
    fn is_called(&self, schema: &str, name: &str) -> bool {
        match self.table {
            Some(table) => table.schema == schema && table.name == name,
            None => schema == "pg_catalog" && name == ATTRIBUTES,
        }
    }
}

/// One text on its way.
struct Work<'a> {
    masking: &'a Masking,
    tokens: Tokens<'a>,
    text: &'a str,
    splices: Vec<Splice>,
    masked: BTreeSet<Masked>,
    /// Whether a piece of the text, literals and all, was put into another place.
    samples: bool,
    /// The statement that is looked at.
    kind: Option<&'a Kind>,
    /// What it does with relations of which rows may come in a hidden order, where it reads one.
    reading: Option<Reading>,
}

impl<'a> Work<'a> {
    fn statement(&mut self, draft: &Draft<'a>, path: Option<&[String]>) -> Result<(), Veto> {
        let before = self.masked.len();
        self.reading = None;
        let mut substituted: Vec<Replaced<'a>> = Vec::new();
        let mut touches = false;
        for reference in &draft.references {
            let relation = reference.relation;
            match reference.role {
                Role::Cte | Role::Label => {}
                Role::Read => {
                    if let Some(replaced) = self.read(draft, reference, path)? {
                        touches |= replaced.is_masked;
                        substituted.push(replaced);
                    }
                }
                Role::Written => touches |= self.written(draft, relation, path)?,
                Role::Named => touches |= self.named(draft, relation, path)?,
            }
        }
        touches |= self.masked.len() != before;
        if matches!(self.kind, Some(Kind::VacuumStmt(vacuum)) if vacuum.rels.is_empty()) {
            self.masked.extend(self.masking.masked().cloned());
        }
        if let Some(kind) = self.kind {
            functions::drops(self.masking, kind, path)?;
        }
        functions::check(self.masking, draft, path, touches)?;
        self.shows_no_locks(draft, path)?;
        self.grouped(draft, &substituted)?;
        self.unqualify(draft, &substituted)
    }

    /// A foreign key locks the row that it finds: who locked rows that a masked column refers to is not shown, and
    /// not waited for.
    fn shows_no_locks(&self, draft: &Draft<'_>, path: Option<&[String]>) -> Result<(), Veto> {
        let names = draft
            .columns
            .iter()
            .filter_map(|column| last(&column.fields));
        let names = names.chain(draft.fields.iter().copied()).any(is_lock);
        if !names && draft.locked.is_empty() {
            return Ok(());
        }
        for reference in &draft.references {
            if !matches!(reference.role, Role::Read | Role::Written) {
                continue;
            }
            let relation = reference.relation;
            let (table, shows) = match self.masking.resolve(relation, path)? {
                Meaning::Plain(table, _) => (table, names),
                // What stands in its place has no such columns.
                Meaning::Masked(table, _) => (table, false),
                Meaning::System(_) | Meaning::Elsewhere(_) => continue,
            };
            let locked = (relation.schemaname.as_str(), relation.relname.as_str());
            if shows && self.masking.referred.contains_key(&table.oid)
                || draft.locked.contains(&locked) && self.masking.locks_referred(table)
            {
                return Err(Veto::never(&format!(
                    "asking who locked rows of {}, to which a masked column refers,",
                    table.name
                )));
            }
        }
        Ok(())
    }

    fn put(&mut self, from: usize, to: usize, text: String, reads: bool) {
        self.splices.push(Splice {
            from,
            to,
            text: text.into(),
            reads,
        });
    }

    fn pin(&mut self, relation: &RangeVar, schema: &str) -> Result<(), Veto> {
        let start = usize::try_from(relation.location).map_err(|_negative| lost(relation))?;
        let schema = expression::identifier(schema);
        self.put(start, start, format!("{schema}."), false);
        Ok(())
    }

    /// A reference in `FROM` and its like. Gives back what was replaced.
    fn read(
        &mut self,
        draft: &Draft<'a>,
        reference: &Reference<'a>,
        path: Option<&[String]>,
    ) -> Result<Option<Replaced<'a>>, Veto> {
        let masking = self.masking;
        let relation = reference.relation;
        match masking.resolve(relation, path)? {
            Meaning::System(ATTRIBUTES) => {
                self.attributes(relation)?;
                return Ok(Some(Replaced {
                    relation,
                    table: None,
                    is_masked: false,
                }));
            }
            Meaning::System(name) => {
                functions::shows(masking, name)?;
                if name == "pg_settings" && matches!(self.kind, Some(Kind::ViewStmt(_))) {
                    return Err(Veto::never(
                        "a view of pg_settings, by which settings change,",
                    ));
                }
            }
            Meaning::Plain(table, _) if masking.asked.contains_key(&table.oid) => {
                self.asked(draft, (relation, table), path)?;
                return Ok(Some(Replaced {
                    relation,
                    table: Some(table),
                    is_masked: false,
                }));
            }
            Meaning::Plain(table, _)
                if is_opened(draft, relation) && masking.keeps_to_itself(table) =>
            {
                let only = if relation.inh { "" } else { "ONLY " };
                let (schema, name) = (&table.schema, &table.name);
                let (schema, name) = (expression::identifier(schema), expression::identifier(name));
                // A view of a query in `FROM` takes no writes.
                let query = format!("(SELECT * FROM {only}{schema}.{name} AS \"~\")");
                self.stands_in(relation, query, false)?;
            }
            Meaning::Plain(_, Pin::Written) | Meaning::Elsewhere(None) => {}
            Meaning::Plain(table, Pin::Needed) => self.pin(relation, &table.schema)?,
            Meaning::Elsewhere(Some(schema)) => self.pin(relation, schema)?,
            Meaning::Masked(table, cover) => {
                let sample = self.sample(draft, relation, table)?;
                let way = self.way(draft, &cover.condition, path);
                let query = cover.query(table, &from(relation, table, &sample), way);
                self.stands_in(relation, query, true)?;
                self.masked.extend(cover.masked.iter().cloned());
                return Ok(Some(Replaced {
                    relation,
                    table: Some(table),
                    is_masked: true,
                }));
            }
        }
        Ok(None)
    }

    /// A relation that shows all that it has, but not in the order of what is masked.
    fn asked(
        &mut self,
        draft: &Draft<'a>,
        (relation, table): (&RangeVar, &schema::Table),
        path: Option<&[String]>,
    ) -> Result<(), Veto> {
        let sample = self.sample(draft, relation, table)?;
        let names = table.columns.iter();
        let names: Vec<String> = names
            .map(|column| expression::identifier(&column.name))
            .collect();
        let condition = self.masking.asked.get(&table.oid);
        let condition = condition.ok_or_else(|| lost(relation))?;
        let list = names.join(", ");
        let way = self.way(draft, condition, path);
        let from = from(relation, table, &sample);
        let query = condition.query((&list, table.columns.iter()), &from, way);
        self.stands_in(relation, query, true)
    }

    /// How a relation of this condition is read in the statement.
    fn way(&mut self, draft: &Draft<'a>, condition: &Condition, path: Option<&[String]>) -> Way {
        if condition.order == Order::None {
            return Way::Plain;
        }
        let (masking, kind) = (self.masking, self.kind);
        let reading = self.reading.get_or_insert_with(|| {
            let read = draft.references.iter();
            let read = read.filter(|reference| reference.role == Role::Read);
            let candidates = read.filter_map(|reference| {
                let relation = reference.relation;
                let table = masking.ordered(relation, path)?;
                let alias = relation.alias.as_ref();
                let label = alias.map_or(&relation.relname, |alias| &alias.aliasname);
                Some(Candidate { label, table })
            });
            let candidates: Vec<_> = candidates.collect();
            Reading::of(kind, &candidates)
        });
        reading.way(&condition.order)
    }

    /// Puts a query in the place of a relation.
    fn stands_in(
        &mut self,
        relation: &RangeVar,
        mut query: String,
        is_masked: bool,
    ) -> Result<(), Veto> {
        let named = self.tokens.named(relation).ok_or_else(|| lost(relation))?;
        if relation.alias.is_none() {
            query.push_str(" AS ");
            query.push_str(&expression::identifier(&relation.relname));
        }
        if named.is_query {
            query.insert_str(0, "SELECT * FROM ");
        }
        self.put(named.from, named.to, query, is_masked);
        Ok(())
    }

    /// The server's table of columns, which shows what rows that are older than a column hold in it.
    fn attributes(&mut self, relation: &RangeVar) -> Result<(), Veto> {
        let schema = self.masking.schema.as_ref();
        let names = schema.map(|schema| schema.attributes.as_slice());
        let list: Vec<String> = names
            .unwrap_or_default()
            .iter()
            .map(|name| match name.as_str() {
                "attmissingval" => format!("CASE WHEN false THEN {name} END AS {name}"),
                name => expression::identifier(name),
            })
            .collect();
        if list.is_empty() {
            return Err(Veto::unclear("the columns of pg_attribute are not known"));
        }
        let list = list.join(", ");
        let query = format!("(SELECT {list} FROM pg_catalog.{ATTRIBUTES} AS \"~\")");
        self.stands_in(relation, query, true)
    }

    /// The `TABLESAMPLE` of a relation, taken out of its place.
    fn sample(
        &mut self,
        draft: &Draft<'a>,
        relation: &RangeVar,
        table: &schema::Table,
    ) -> Result<String, Veto> {
        let of = |sample: &&pg_query::protobuf::RangeTableSample| match sample
            .relation
            .as_ref()
            .and_then(|node| node.node.as_ref())
        {
            Some(pg_query::protobuf::node::Node::RangeVar(of)) => std::ptr::eq(of, relation),
            _ => false,
        };
        let Some(sample) = draft.samples.iter().copied().find(of) else {
            return Ok(String::new());
        };
        if self.masking.is_laid(table) {
            return Err(Veto::never(&format!(
                "a TABLESAMPLE of {}, of which the rows lie in the order of what is masked,",
                table.name
            )));
        }
        let unclear = || Veto::unclear("a TABLESAMPLE that is not plain numbers");
        let (from, to) = self.tokens.sample(sample).ok_or_else(unclear)?;
        let within =
            |location: i32| usize::try_from(location).is_ok_and(|at| (from..to).contains(&at));
        let names = draft.columns.iter().any(|column| within(column.location));
        let reads = draft
            .references
            .iter()
            .any(|other| within(other.relation.location));
        if names || reads {
            return Err(unclear());
        }
        let text = self.text.get(from..to).ok_or_else(unclear)?;
        // A hint in it would go along.
        if text.contains("/*") {
            return Err(unclear());
        }
        self.put(from, to, String::new(), false);
        self.samples = true;
        Ok(format!(" {text}"))
    }

    /// The target of a statement that writes. True where it is masked.
    fn written(
        &mut self,
        draft: &Draft<'a>,
        relation: &'a RangeVar,
        path: Option<&[String]>,
    ) -> Result<bool, Veto> {
        let masking = self.masking;
        match masking.resolve(relation, path)? {
            Meaning::System(name) => {
                return Err(Veto::never(&format!("writing to {name}")));
            }
            Meaning::Elsewhere(None) => {}
            Meaning::Elsewhere(Some(schema)) => self.pin(relation, schema)?,
            Meaning::Plain(table, pin) => {
                indirect(masking, (draft, relation), table)?;
                self.unordered(draft, relation, table)?;
                if pin == Pin::Needed {
                    self.pin(relation, &table.schema)?;
                }
                return Ok(self.reaches(table));
            }
            Meaning::Masked(table, cover) => {
                return self.masked_write(draft, relation, table, cover);
            }
        }
        Ok(false)
    }

    /// A write to a masked relation that asks nothing of what is masked. Always true.
    fn masked_write(
        &mut self,
        draft: &Draft<'a>,
        relation: &'a RangeVar,
        table: &schema::Table,
        cover: &cover::Cover,
    ) -> Result<bool, Veto> {
        indirect(self.masking, (draft, relation), table)?;
        self.unordered(draft, relation, table)?;
        writes::check(draft, relation, (table, cover))?;
        if relation.schemaname.is_empty() {
            self.pin(relation, &table.schema)?;
        }
        self.masked.extend(cover.masked.iter().cloned());
        Ok(true)
    }

    /// Has a write to `table` tell nothing of the order in which the server finds its rows.
    fn unordered(
        &mut self,
        draft: &Draft<'a>,
        relation: &'a RangeVar,
        table: &schema::Table,
    ) -> Result<(), Veto> {
        let masking = self.masking;
        match masking.order(table) {
            Order::None => {}
            Order::Laid => {
                let schema = masking.schema.as_deref();
                writes::unordered(draft, relation, (schema, table))?;
            }
            Order::Found(by) => {
                for column in writes::found(draft, relation, (table, by))? {
                    let range = self.tokens.names(column.location, column.fields.len());
                    let (from, to) = range.ok_or_else(|| lost(relation))?;
                    let named = self.text.get(from..to).ok_or_else(|| lost(relation))?;
                    self.put(from, to, cover::blind(named), false);
                }
            }
        }
        Ok(())
    }

    /// Whether a write to `table` may make the server speak of what is masked elsewhere.
    fn reaches(&mut self, table: &schema::Table) -> bool {
        let masked = self.masking.reaching.get(&table.oid);
        self.masked
            .extend(masked.into_iter().flat_map(|masked| masked.iter().cloned()));
        masked.is_some()
    }

    /// `schema.table.column` of a table that was replaced: its label is its name alone.
    fn unqualify(&mut self, draft: &Draft<'a>, replaced: &[Replaced<'a>]) -> Result<(), Veto> {
        if replaced.is_empty() {
            return Ok(());
        }
        for column in &draft.columns {
            let names: Vec<&str> = column
                .fields
                .iter()
                .filter_map(|field| match &field.node {
                    Some(pg_query::protobuf::node::Node::String(word)) => Some(word.sval.as_str()),
                    _ => None,
                })
                .collect();
            let before = match column.fields.len() {
                3 => 1,
                4 => 2,
                _ => continue,
            };
            let schema = names.get(before - 1).copied().unwrap_or_default();
            let table = names.get(before).copied().unwrap_or_default();
            let mut all = replaced.iter();
            let is_replaced = all.any(|one| one.is_called(schema, table));
            let is_written = draft.references.iter().any(|reference| {
                reference.role == Role::Written && reference.relation.relname == table
            });
            if is_replaced && !is_written {
                let unclear = || Veto::unclear(format!("the name of a column of {schema}.{table}"));
                let (from, to) = self
                    .tokens
                    .past(column.location, before)
                    .ok_or_else(unclear)?;
                self.put(from, to, String::new(), false);
            }
        }
        Ok(())
    }
}

/// A write that goes elsewhere than it says, through rules, or through a view above what is masked, or that
/// something would answer which is about what is masked.
fn indirect<'a>(
    masking: &Masking,
    (draft, relation): (&Draft<'a>, &'a RangeVar),
    table: &schema::Table,
) -> Result<(), Veto> {
    if table.has_rules {
        return Err(Veto::never(&format!(
            "writing to {}, which has rules,",
            table.name
        )));
    }
    let moving = masking.moving.get(&table.oid);
    if let Some(keys) = masking.referred.get(&table.oid) {
        let why = "a masked column refers to";
        writes::keeps_keys(draft, relation, (table, keys, moving), why)?;
    }
    if let Some(keys) = masking.stirring.get(&table.oid) {
        let why = "runs a function, or writes rows in a hidden order, where they are referred to";
        writes::keeps_keys(draft, relation, (table, keys, moving), why)?;
    }
    for oid in masking.guarded.get(&table.oid).into_iter().flatten() {
        let schema = masking.schema.as_ref();
        let holder = schema.and_then(|schema| schema.tables.get(oid));
        if let (Some(holder), Some(cover)) = (holder, masking.covers.get(oid)) {
            writes::unanswered(draft, relation, (holder, cover, moving))?;
        }
    }
    if masking.computing.contains(&table.oid) {
        return Err(Veto::never(&format!(
            "writing to {}, of which a default or a constraint runs a function of its own,",
            table.name
        )));
    }
    match masking.above.contains(&table.oid) || masking.through.contains(&table.oid) {
        true => Err(Veto::never(&format!(
            "writing through the view {}",
            table.name
        ))),
        false => Ok(()),
    }
}

/// A relation in the `FROM` of the query that stands in for it. No column has its label, so that none can be taken
/// for the row.
fn from(relation: &RangeVar, table: &schema::Table, sample: &str) -> String {
    let only = if relation.inh { "" } else { "ONLY " };
    let (schema, name) = (&table.schema, &table.name);
    let (schema, name) = (expression::identifier(schema), expression::identifier(name));
    format!("{only}{schema}.{name} AS \"~\"{sample}")
}

/// Whether a column of the system tells who locked a row.
fn is_lock(name: &str) -> bool {
    matches!(name, "xmax" | "cmin" | "cmax")
}

/// The last word of a name.
fn last(fields: &[pg_query::protobuf::Node]) -> Option<&str> {
    match fields.last().and_then(|field| field.node.as_ref()) {
        Some(Kind::String(word)) => Some(word.sval.as_str()),
        _ => None,
    }
}

/// Whether a view that is made would pass on to `relation` what is written to it.
fn is_opened(draft: &Draft<'_>, relation: &RangeVar) -> bool {
    let mut opens = draft.opens.iter();
    opens.any(|opened| std::ptr::eq(*opened, relation))
}

fn lost(relation: &RangeVar) -> Veto {
    Veto::unclear(format!(
        "the place where \"{}\" is named cannot be replaced",
        relation.relname
    ))
}

#[cfg(test)]
mod tests;

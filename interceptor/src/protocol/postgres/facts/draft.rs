//! One statement's facts while they are gathered, and the ask that they become.
//!
//! The typed walk writes down names as the text has them; here they are looked up under the search
//! path. A name that cannot be looked up makes the statement unreadable, never an ask that guesses.

use std::collections::{BTreeSet, HashMap, HashSet};

use pg_query::protobuf::{
    ColumnRef, CopyStmt, DeleteStmt, InsertStmt, MergeStmt, Node, RangeTableSample, RangeVar,
    ReturningClause, SelectStmt, TypeName, UpdateStmt,
};

use super::evidence::Role;
use super::functions;
use super::{Effect, Prepared};
use crate::policy::{Access, Action, Ask, Context, Resource};

/// What something is done to, as the text names it; an empty schema means unqualified.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Object<'t> {
    Database,
    Schema(&'t str),
    Relation {
        schema: &'t str,
        name: &'t str,
    },
    Function {
        schema: &'t str,
        name: &'t str,
    },
    /// A type, operator or other thing that policy knows only by its schema.
    Within(&'t str),
}

/// One thing done to one object.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Use<'t> {
    pub(in super::super) action: Action,
    pub(in super::super) object: Object<'t>,
    /// The schema that `CREATE SCHEMA` puts before the search path for its own elements.
    pub(in super::super) within: Option<&'t str>,
}

/// A function that the statement calls.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Call<'t> {
    pub(in super::super) schema: &'t str,
    pub(in super::super) name: &'t str,
}

/// A relation where the text names it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Reference<'t> {
    pub(in super::super) relation: &'t RangeVar,
    pub(in super::super) role: Role,
}

/// A statement, or a part of one, that changes rows.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Write<'t> {
    Insert(&'t InsertStmt),
    Update(&'t UpdateStmt),
    Delete(&'t DeleteStmt),
    Merge(&'t MergeStmt),
    /// In either direction.
    Copy(&'t CopyStmt),
}

impl<'t> Write<'t> {
    /// What is written.
    pub(in super::super) fn relation(self) -> Option<&'t RangeVar> {
        match self {
            Self::Insert(insert) => insert.relation.as_ref(),
            Self::Update(update) => update.relation.as_ref(),
            Self::Delete(delete) => delete.relation.as_ref(),
            Self::Merge(merge) => merge.relation.as_ref(),
            Self::Copy(copy) => copy.relation.as_ref(),
        }
    }

    /// What is given back.
    pub(in super::super) fn returning(self) -> Option<&'t ReturningClause> {
        match self {
            Self::Insert(insert) => insert.returning_clause.as_ref(),
            Self::Update(update) => update.returning_clause.as_ref(),
            Self::Delete(delete) => delete.returning_clause.as_ref(),
            Self::Merge(merge) => merge.returning_clause.as_ref(),
            Self::Copy(_) => None,
        }
    }
}

/// What the typed walk found in one statement.
#[derive(Debug)]
pub(in super::super) struct Draft<'t> {
    /// Words for people.
    pub(in super::super) summary: &'static str,
    pub(in super::super) uses: Vec<Use<'t>>,
    pub(in super::super) calls: Vec<Call<'t>>,
    /// Names after a dot in expressions: columns, or functions in column notation.
    pub(in super::super) fields: BTreeSet<&'t str>,
    /// Settings that it names in any way.
    pub(in super::super) settings: BTreeSet<String>,
    /// Those of them that it gives a value, other than the one that the session began with.
    pub(in super::super) sets: BTreeSet<String>,
    pub(in super::super) has_where: bool,
    pub(in super::super) has_limit: bool,
    /// Whether its rows are those of a query, so that without a table it asks for the database.
    pub(in super::super) is_query: bool,
    pub(in super::super) effects: Vec<Effect>,
    /// The name that it prepares its body under.
    pub(in super::super) prepares: Option<&'t str>,
    /// Names of prepared statements that it runs or explains.
    pub(in super::super) executes: Vec<&'t str>,
    /// Whether what it asks for depends on the value of a literal, not only on its being one.
    pub(in super::super) values_matter: bool,
    /// Why its meaning cannot be read.
    pub(in super::super) problem: Option<&'static str>,
    /// Every relation, in whatever role.
    pub(in super::super) references: Vec<Reference<'t>>,
    /// Relations to which a view that is made passes on what is written to it.
    pub(in super::super) opens: Vec<&'t RangeVar>,
    pub(in super::super) samples: Vec<&'t RangeTableSample>,
    /// Queries with a `GROUP BY`.
    pub(in super::super) grouped: Vec<&'t SelectStmt>,
    pub(in super::super) columns: Vec<&'t ColumnRef>,
    pub(in super::super) operators: Vec<&'t [Node]>,
    /// Types that are named in expressions and definitions.
    pub(in super::super) types: Vec<&'t TypeName>,
    pub(in super::super) writes: Vec<Write<'t>>,
    /// Relations of which a `FOR UPDATE` waits for who refers to a row, by schema and name as they are written.
    pub(in super::super) locked: HashSet<(&'t str, &'t str)>,
    /// Whether it asks for a setting whose name is not a constant.
    pub(in super::super) computes_setting: bool,
    /// Whether what it does to the relations that it names tells nothing of their rows.
    pub(in super::super) names_harmlessly: bool,
    /// Whether it is one write, and none lies in it: its command tag counts all rows that its text touches.
    pub(in super::super) tells_rows: bool,
}

impl<'t> Draft<'t> {
    /// The `COPY` statements in it, in either direction.
    pub(in super::super) fn copies(&self) -> impl Iterator<Item = &'t CopyStmt> + '_ {
        self.writes.iter().filter_map(|write| match write {
            Write::Copy(copy) => Some(*copy),
            Write::Insert(_) | Write::Update(_) | Write::Delete(_) | Write::Merge(_) => None,
        })
    }
}

impl Default for Draft<'_> {
    fn default() -> Self {
        Self {
            summary: "",
            uses: Vec::new(),
            calls: Vec::new(),
            fields: BTreeSet::new(),
            settings: BTreeSet::new(),
            sets: BTreeSet::new(),
            has_where: true,
            has_limit: false,
            is_query: false,
            effects: Vec::new(),
            prepares: None,
            executes: Vec::new(),
            values_matter: false,
            problem: None,
            references: Vec::new(),
            opens: Vec::new(),
            samples: Vec::new(),
            grouped: Vec::new(),
            columns: Vec::new(),
            operators: Vec::new(),
            types: Vec::new(),
            writes: Vec::new(),
            locked: HashSet::new(),
            computes_setting: false,
            names_harmlessly: false,
            tells_rows: false,
        }
    }
}

/// A search path with more schemas counts as unknown, and an ask with more accesses is refused as
/// unreadable: both are multiplied by what an agent sends.
const MAX_SCHEMAS: usize = 64;
const MAX_ACCESSES: usize = 4096;

/// Functions of `pg_catalog` that do what `NOTIFY` does.
const NOTIFIES: &[&str] = &["pg_notify"];

/// What names are looked up in while one statement is resolved.
pub(in super::super) struct Lookup<'a> {
    pub(in super::super) path: Option<&'a [String]>,
    pub(in super::super) catalog: &'a HashSet<String>,
    pub(in super::super) functions: &'a HashSet<String>,
    pub(in super::super) prepared: &'a HashMap<String, Prepared>,
    pub(in super::super) statements: u32,
    pub(in super::super) in_transaction: bool,
}

/// An ask, and whether it stands only under the search path that it was made under.
pub(in super::super) struct Resolved {
    pub(in super::super) ask: Ask,
    pub(in super::super) uses_path: bool,
}

impl Lookup<'_> {
    /// The ask that `draft` becomes; `None` where a name cannot be looked up, or a prepared statement
    /// is not known by its name.
    pub(in super::super) fn resolve(&self, draft: &Draft<'_>) -> Option<Resolved> {
        let mut resolver = Resolver {
            lookup: self,
            accesses: BTreeSet::new(),
            uses_path: false,
        };
        let mut context = Context {
            has_where: draft.has_where,
            has_limit: draft.has_limit,
            settings: draft.settings.clone(),
            functions: BTreeSet::new(),
            command: String::new(),
            statements: self.statements,
            in_transaction: self.in_transaction,
            tells_rows: draft.tells_rows && self.statements == 1,
            http: None,
            ssh: None,
            kubernetes: None,
        };
        for used in &draft.uses {
            resolver.object(used)?;
            resolver.bounded()?;
        }
        for call in &draft.calls {
            context.functions.insert(dotted(call));
            resolver.call(call)?;
            resolver.bounded()?;
        }
        for name in &draft.fields {
            if self.functions.contains(*name) {
                context.functions.insert((*name).to_owned());
                resolver.call(&Call { schema: "", name })?;
                resolver.bounded()?;
            }
        }
        for name in &draft.executes {
            resolver.execute(name, &mut context)?;
            resolver.bounded()?;
        }
        let accesses = resolver.accesses;
        let mut ask = Ask { accesses, context };
        if ask.accesses.is_empty() || (draft.is_query && !reads_a_table(&ask)) {
            ask.accesses.insert(Access {
                action: Action::Select,
                resource: Resource::Database,
            });
        }
        Some(Resolved {
            ask,
            uses_path: resolver.uses_path,
        })
    }
}

fn reads_a_table(ask: &Ask) -> bool {
    ask.accesses.iter().any(|access| {
        access.action == Action::Select && matches!(access.resource, Resource::Table { .. })
    })
}

fn dotted(call: &Call<'_>) -> String {
    if call.schema.is_empty() {
        call.name.to_owned()
    } else {
        format!("{}.{}", call.schema, call.name)
    }
}

struct Resolver<'a> {
    lookup: &'a Lookup<'a>,
    accesses: BTreeSet<Access>,
    uses_path: bool,
}

impl Resolver<'_> {
    fn add(&mut self, action: Action, resource: Resource) {
        self.accesses.insert(Access { action, resource });
    }

    fn bounded(&self) -> Option<()> {
        (self.accesses.len() <= MAX_ACCESSES).then_some(())
    }

    fn object(&mut self, used: &Use<'_>) -> Option<()> {
        let action = used.action;
        match used.object {
            Object::Database => self.add(action, Resource::Database),
            Object::Schema(schema) => self.add(
                action,
                Resource::Schema {
                    schema: schema.to_owned(),
                },
            ),
            Object::Relation { schema, name } => {
                let is_builtin = self.lookup.catalog.contains(name);
                // What is in no schema of the path can only be a temporary relation.
                for schema in self.schemas(schema, is_builtin, used.within, "pg_temp")? {
                    self.add(
                        action,
                        Resource::Table {
                            schema,
                            table: name.to_owned(),
                        },
                    );
                }
            }
            Object::Function { schema, name } => {
                let is_builtin = functions::is_builtin(name);
                for schema in self.schemas(schema, is_builtin, used.within, "pg_catalog")? {
                    self.add(
                        action,
                        Resource::Function {
                            schema,
                            function: name.to_owned(),
                        },
                    );
                }
            }
            Object::Within(schema) => {
                for schema in self.schemas(schema, false, used.within, "pg_catalog")? {
                    self.add(action, Resource::Schema { schema });
                }
            }
        }
        Some(())
    }

    fn call(&mut self, call: &Call<'_>) -> Option<()> {
        let is_builtin = functions::is_builtin(call.name);
        for schema in self.schemas(call.schema, is_builtin, None, "pg_catalog")? {
            if !functions::is_harmless(&schema, call.name) {
                let function = call.name.to_owned();
                if schema == "pg_catalog" && NOTIFIES.contains(&call.name) {
                    self.add(Action::Notify, Resource::Database);
                }
                self.add(Action::Call, Resource::Function { schema, function });
            }
        }
        Some(())
    }

    /// The schemas that a name may be found in: the one that it gives, or those of the search path.
    /// The server looks into `pg_catalog` first, unless the path lists it further back.
    fn schemas(
        &mut self,
        given: &str,
        is_builtin: bool,
        within: Option<&str>,
        nowhere: &str,
    ) -> Option<Vec<String>> {
        if !given.is_empty() {
            return Some(vec![given.to_owned()]);
        }
        self.uses_path = true;
        let path = self.lookup.path.filter(|path| path.len() <= MAX_SCHEMAS)?;
        let mut schemas: Vec<String> = within.map(str::to_owned).into_iter().collect();
        if is_builtin {
            if path.iter().any(|schema| schema == "pg_catalog") {
                schemas.extend(
                    path.iter()
                        .take_while(|schema| *schema != "pg_catalog")
                        .cloned(),
                );
            }
            schemas.push("pg_catalog".to_owned());
        } else {
            schemas.extend(path.iter().cloned());
        }
        if schemas.is_empty() {
            schemas.push(nowhere.to_owned());
        }
        Some(schemas)
    }

    fn execute(&mut self, name: &str, context: &mut Context) -> Option<()> {
        let known = self.lookup.prepared.get(name)?;
        if known.search_path.is_some() {
            self.uses_path = true;
            if known.search_path.as_deref() != self.lookup.path {
                return None;
            }
        }
        let body = &known.ask;
        self.accesses.extend(body.accesses.iter().cloned());
        context.has_where &= body.context.has_where;
        context.has_limit = body.context.has_limit;
        context
            .settings
            .extend(body.context.settings.iter().cloned());
        context
            .functions
            .extend(body.context.functions.iter().cloned());
        Some(())
    }
}

//! A role of its own for a target: what the server must let it do, so that policy and masks decide the rest.
//!
//! An upper bound of both: what policy may ever permit to anybody, and of masked columns those that a mask
//! computes from. A hidden column, and one in whose place stands the same for all, is never read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Database;
use super::terminal;
use super::text::sql;
use crate::config::Target;
use crate::masking::Relation;
use crate::policy::{Action, Ever, Resource};
use crate::protocol::postgres::inject::survey::{Public, Rights};
use crate::protocol::postgres::mask::schema::{Column, Table};
use crate::protocol::postgres::mask::{Masking, Writable};

/// What else policy may permit, that no grant on a relation gives.
const BEYOND: [(Action, &str); 5] = [
    (
        Action::Ddl,
        "data definition, which takes owning what is changed",
    ),
    (
        Action::Grant,
        "granting, which takes owning what is granted",
    ),
    (
        Action::Maintain,
        "maintenance, which takes owning what is maintained",
    ),
    (Action::System, "the server's files, programs and settings"),
    (Action::Replicate, "replication, which takes REPLICATION"),
];

/// What a role is granted, database by database.
pub(super) struct Grants<'a> {
    target: &'a Target,
    ever: Ever,
    script: Script,
}

/// The SQL, for psql.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Script {
    target: String,
    role: String,
    create: String,
    databases: Vec<Part>,
}

/// What is done in one database.
#[derive(Clone, Debug, Serialize)]
struct Part {
    database: String,
    /// What a reader should know.
    notes: Vec<String>,
    statements: Vec<String>,
    /// What is worth doing, and may be in the way of others.
    suggestions: Vec<String>,
}

impl<'a> Grants<'a> {
    pub(super) fn new(target: &'a Target, role: Option<&str>, ever: Ever) -> Self {
        let named = || format!("interceptor_{}", target.name.replace('-', "_"));
        let role = role.map_or_else(named, str::to_owned);
        let create = format!(
            "CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION NOINHERIT;",
            sql(&role)
        );
        Self {
            target,
            ever,
            script: Script {
                target: target.name.clone(),
                role,
                create,
                databases: Vec::new(),
            },
        }
    }

    pub(super) fn script(&self) -> &Script {
        &self.script
    }

    /// Takes in a database.
    pub(super) fn add(&mut self, database: &Database, rights: &Rights) {
        let reveal = |relation: &Relation, column: &str| {
            let column = Resource::Column {
                schema: relation.schema.clone(),
                table: relation.name.clone(),
                column: column.to_owned(),
            };
            self.may(&database.name, Action::Reveal, &column)
        };
        let masks = database.masks.without(reveal);
        let masking = Masking::new(
            Some(Arc::clone(&database.schema)),
            masks.into(),
            Default::default(),
        );
        let mut work = Work {
            grants: self,
            database,
            masking,
            part: Part {
                database: database.name.clone(),
                notes: Vec::new(),
                statements: Vec::new(),
                suggestions: Vec::new(),
            },
        };
        work.everybody(rights);
        work.relations(rights);
        work.beyond();
        let part = work.part;
        self.script.databases.push(part);
    }

    fn may(&self, database: &str, action: Action, resource: &Resource) -> bool {
        self.ever.may(action, &self.target.name, database, resource)
    }

    fn to(&self) -> String {
        sql(&self.script.role)
    }
}

/// One database at work.
struct Work<'a> {
    grants: &'a Grants<'a>,
    database: &'a Database,
    /// With what may be revealed to somebody as it is.
    masking: Masking,
    part: Part,
}

impl Work<'_> {
    fn may(&self, action: Action, resource: &Resource) -> bool {
        self.grants.may(&self.database.name, action, resource)
    }

    /// Whether anything may ever be made in a schema.
    fn makes(&self, schema: &str) -> bool {
        let inside = Resource::Table {
            schema: schema.to_owned(),
            table: String::new(),
        };
        let Grants { ever, target, .. } = self.grants;
        ever.may_any(Action::Ddl, &target.name, &self.database.name, &inside)
    }

    fn everybody(&mut self, rights: &Rights) {
        let database = sql(&self.database.name);
        let connect = format!(
            "GRANT CONNECT ON DATABASE {database} TO {};",
            self.grants.to()
        );
        self.part.statements.push(connect);
        for public in &rights.public {
            match public {
                Public::Temporary if self.makes("pg_temp") => {}
                Public::Temporary => self.part.statements.push(format!(
                    "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;"
                )),
                Public::Create(schema) if self.makes(schema) => {}
                Public::Create(schema) => self.part.statements.push(format!(
                    "REVOKE CREATE ON SCHEMA {} FROM PUBLIC;",
                    sql(schema)
                )),
                Public::Connect(other) if self.offers(other) => {}
                Public::Connect(other) => self.part.suggestions.push(format!(
                    "REVOKE CONNECT ON DATABASE {} FROM PUBLIC;",
                    sql(other)
                )),
                Public::Relation(schema, name) => self.part.suggestions.push(format!(
                    "REVOKE ALL ON TABLE {}.{} FROM PUBLIC;",
                    sql(schema),
                    sql(name)
                )),
            }
        }
    }

    /// Whether the target offers another database.
    fn offers(&self, database: &str) -> bool {
        let all = crate::cli::upstream::databases(self.grants.target, None);
        all.is_ok_and(|all| all.contains(&database))
    }

    fn relations(&mut self, rights: &Rights) {
        let schema = Arc::clone(&self.database.schema);
        let mut tables: Vec<&Table> = schema.tables.values().collect();
        tables.retain(|table| table.kind != b'S');
        tables.sort_unstable_by_key(|table| (&table.schema, &table.name));
        let mut schemas = self.beside(rights);
        let mut statements = Vec::new();
        for table in tables {
            let granted = self.relation(table);
            if granted.is_empty() {
                continue;
            }
            schemas.insert(table.schema.clone());
            let insert = |statement: &String| statement.starts_with("GRANT INSERT");
            let inserts = granted.iter().any(insert);
            statements.extend(granted);
            let sequences = rights.sequences.iter();
            for (_, schema, name) in sequences.filter(|(oid, ..)| inserts && *oid == table.oid) {
                schemas.insert(schema.clone());
                statements.push(format!(
                    "GRANT USAGE ON SEQUENCE {}.{} TO {};",
                    sql(schema),
                    sql(name),
                    self.grants.to()
                ));
            }
        }
        let to = self.grants.to();
        let usage = schemas.iter();
        let usage = usage.map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {to};", sql(schema)));
        self.part.statements.extend(usage.chain(statements));
    }

    /// Schemas that are used without a relation in them: by the types of columns, which masks cast to, and by
    /// functions that policy may permit.
    fn beside(&self, rights: &Rights) -> BTreeSet<String> {
        let called = rights.functions.iter().filter(|(schema, name)| {
            let function = Resource::Function {
                schema: schema.clone(),
                function: name.clone(),
            };
            self.may(Action::Call, &function)
        });
        let called = called.map(|(schema, _)| schema.clone());
        called.chain(rights.types.iter().cloned()).collect()
    }

    /// The grants on one relation.
    fn relation(&mut self, table: &Table) -> Vec<String> {
        let resource = Resource::Table {
            schema: table.schema.clone(),
            table: table.name.clone(),
        };
        let name = format!("{}.{}", table.schema, table.name);
        let may = |actions: &[Action]| actions.iter().any(|action| self.may(*action, &resource));
        let reads = may(&[Action::Select]);
        let inserts = may(&[Action::Insert, Action::CopyIn, Action::Merge]);
        let updates = may(&[Action::Update, Action::Merge]);
        let deletes = may(&[Action::Delete, Action::Merge]);
        let truncates = may(&[Action::Truncate]);
        let locks = may(&[Action::Lock]);
        if !(reads || inserts || updates || deletes || truncates) {
            self.part
                .notes
                .push(format!("nothing on {name}: policy never permits it"));
            return Vec::new();
        }
        if self.masking.is_closed(table) {
            self.part
                .notes
                .push(format!("nothing on {name}: masking closes it"));
            return Vec::new();
        }
        if locks && !updates {
            self.part.notes.push(format!(
                "SELECT … FOR UPDATE on {name} may be permitted, and takes UPDATE, which is not granted"
            ));
        }
        let mut granted = Vec::new();
        let mut grant = |what: &str, columns: Option<Vec<&Column>>| {
            granted.extend(self.grant(what, table, columns));
        };
        let Writable {
            insert,
            update,
            delete,
        } = self.masking.writable(table);
        let is_masked = self.masking.is_masked(table);
        let some = |columns| is_masked.then_some(columns);
        if reads {
            grant("SELECT", some(self.masking.reads(table)));
            if self.masking.asks_place(table) {
                grant("SELECT (ctid)", None);
            }
        }
        // Nothing writes to a materialized view but its owner's REFRESH.
        let takes = table.kind != b'm';
        if inserts && takes && !insert.is_empty() {
            grant("INSERT", some(insert));
        }
        if updates && takes && !update.is_empty() {
            grant("UPDATE", some(update));
        }
        if deletes && takes && delete {
            grant("DELETE", None);
        }
        if truncates && matches!(table.kind, b'r' | b'p') && !is_masked {
            grant("TRUNCATE", None);
        }
        granted
    }

    fn grant(&self, what: &str, table: &Table, columns: Option<Vec<&Column>>) -> Option<String> {
        let list = match columns {
            None => String::new(),
            Some(columns) if columns.is_empty() => return None,
            Some(columns) => {
                let names: Vec<_> = columns.iter().map(|column| sql(&column.name)).collect();
                format!(" ({})", names.join(", "))
            }
        };
        Some(format!(
            "GRANT {what}{list} ON TABLE {}.{} TO {};",
            sql(&table.schema),
            sql(&table.name),
            self.grants.to()
        ))
    }

    fn beyond(&mut self) {
        let database = Resource::Database;
        for (action, what) in BEYOND {
            if self.may(action, &database) {
                self.part
                    .notes
                    .push(format!("not given, though policy may permit it: {what}"));
            }
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.target;
        writeln!(
            to,
            "-- interceptor discover {target} --grants: a role that can do on the servers of this target what policy may"
        )?;
        writeln!(
            to,
            "-- ever permit, and no more. An upper bound: whatever hangs on who asks, or on the statement, counts as permitted."
        )?;
        writeln!(
            to,
            "-- Of masked columns it reads those that their mask is computed from; hidden ones it cannot read."
        )?;
        writeln!(
            to,
            "-- For psql, as a superuser. Then `\\password {}`, and the same in `targets.{target}.postgres`.",
            terminal::line(&self.role)
        )?;
        writeln!(to, "\\set ON_ERROR_STOP on")?;
        writeln!(to, "{}", self.create)?;
        for part in &self.databases {
            write!(to, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "\n{}", connect(&self.database))?;
        for note in &self.notes {
            writeln!(to, "-- {}", terminal::line(note))?;
        }
        writeln!(to, "BEGIN;")?;
        for statement in &self.statements {
            writeln!(to, "{statement}")?;
        }
        writeln!(to, "COMMIT;")?;
        if !self.suggestions.is_empty() {
            writeln!(
                to,
                "-- What everybody may do, the role too. Worth taking away, where nobody else stands on it:"
            )?;
        }
        for suggestion in &self.suggestions {
            writeln!(to, "-- {suggestion}")?;
        }
        Ok(())
    }
}

/// psql takes what has an equals sign in it for a connection string.
fn connect(database: &str) -> String {
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
    match database.contains(['=', '\\', '\'']) {
        true => format!(
            "\\connect -reuse-previous=on {}",
            sql(&format!("dbname='{escaped}'"))
        ),
        false => format!("\\connect {}", sql(database)),
    }
}

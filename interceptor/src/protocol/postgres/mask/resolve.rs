//! What a relation's name means to the server, under the search path and the snapshot of its catalog.
//!
//! What is not certain is made so by writing the schema before the name, or refused: a name that is
//! found in the snapshot means that relation and no other, a name that is not found can only be a
//! temporary relation of the session, which holds nothing but what was masked before.

mod veto;

use pg_query::protobuf::RangeVar;

pub(super) use self::veto::Veto;
use super::cover::{Cover, Masking};
use super::functions;
use super::schema::{Schema, Table};

/// What a name means.
#[derive(Debug)]
pub(super) enum Meaning<'a> {
    /// A relation of the system's schemas.
    System(&'a str),
    /// A relation that holds what is masked.
    Masked(&'a Table, &'a Cover),
    /// Another relation; its schema must be written where another search path, or another catalog, would
    /// find another one.
    Plain(&'a Table, Pin),
    /// Nothing that is known: only a relation of this schema can be meant, a temporary one.
    Elsewhere(Option<&'static str>),
}

/// Whether the schema must be written before the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    Written,
    Needed,
}

/// Schemas that are the system's own.
fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
}

impl Masking {
    fn schema(&self) -> Result<&Schema, Veto> {
        self.schema
            .as_deref()
            .ok_or_else(|| Veto::unclear("what is masked in this database is not known"))
    }

    /// What `relation` means under `path`.
    pub(super) fn resolve<'a>(
        &'a self,
        relation: &'a RangeVar,
        path: Option<&[String]>,
    ) -> Result<Meaning<'a>, Veto> {
        let (schema, name) = (relation.schemaname.as_str(), relation.relname.as_str());
        match schema {
            "" => self.look_up(name, path),
            "pg_temp" => Ok(Meaning::Elsewhere(None)),
            schema if is_system(schema) => Ok(Meaning::System(name)),
            // The data of other relations, by another way in.
            schema if schema.starts_with("pg_toast") => Err(Veto::never("reading pg_toast")),
            schema if schema.starts_with("pg_temp_") => Ok(Meaning::Elsewhere(None)),
            schema => match self.schema()?.find(schema, name) {
                Some(table) => self.known(table, Pin::Written),
                None => Err(self.unknown(schema, name)),
            },
        }
    }

    fn unknown(&self, schema: &str, name: &str) -> Veto {
        Veto::new(
            format!("relation \"{schema}.{name}\" is not known, or not known yet"),
            "masking",
            "a relation that was just made is known to the next session",
        )
    }

    fn look_up<'a>(&'a self, name: &'a str, path: Option<&[String]>) -> Result<Meaning<'a>, Veto> {
        let Some(path) = path else {
            return Err(Veto::unclear("the search path is not known"));
        };
        let schema = self.schema()?;
        let is_listed = path.iter().any(|schema| schema == "pg_catalog");
        if !is_listed && self.catalog.contains(name) {
            return Ok(Meaning::System(name));
        }
        let mut found: Option<&Table> = None;
        let mut pin = Pin::Written;
        for place in path {
            if place == "pg_catalog" && self.catalog.contains(name) && found.is_none() {
                return Ok(Meaning::System(name));
            }
            let Some(table) = schema.find(place, name) else {
                continue;
            };
            if found.is_none() {
                found = Some(table);
            } else {
                // Another one, should this one go.
                pin = Pin::Needed;
            }
        }
        match found {
            Some(table) => self.known(table, pin),
            None if path.iter().any(|schema| schema == "information_schema") => {
                functions::system(name)?;
                Ok(Meaning::Elsewhere(Some("information_schema")))
            }
            None => Ok(Meaning::Elsewhere(Some("pg_temp"))),
        }
    }

    fn known<'a>(&'a self, table: &'a Table, pin: Pin) -> Result<Meaning<'a>, Veto> {
        if let Some(why) = self.unfit.get(&table.oid) {
            return Err(Veto::new(
                format!("\"{}.{}\" is closed: {why}", table.schema, table.name),
                format!("{}.{}", table.schema, table.name),
                "the operator is to change what `sensitive` of the target says of it",
            ));
        }
        if self.unordered.contains(&table.oid) {
            return Err(Veto::new(
                format!(
                    "in which order rows come to \"{}.{}\" may depend on what is masked, and it takes some of them, or puts one after the other",
                    table.schema, table.name
                ),
                "masking",
                "read the tables below it; the operator finds it in `interceptor doctor`",
            ));
        }
        if self.opaque.contains(&table.oid) {
            return Err(Veto::new(
                format!(
                    "what \"{}.{}\" shows depends on what is masked, on a masked column that it does not have, or on a function whose code cannot be looked into",
                    table.schema, table.name
                ),
                "masking",
                "read the tables below it",
            ));
        }
        Ok(match self.covers.get(&table.oid) {
            Some(cover) => Meaning::Masked(table, cover),
            None => Meaning::Plain(table, pin),
        })
    }
}

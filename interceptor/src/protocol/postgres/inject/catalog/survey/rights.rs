//! What a role of its own needs beside its rights on relations, and what everybody has already.

use super::{Cells, Error, Survey, number, texts, wrong};

const QUERY: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 10000; SET LOCAL search_path = pg_catalog; \
    SELECT DISTINCT e.adrelid::pg_catalog.text, n.nspname, s.relname FROM pg_catalog.pg_attrdef AS e \
    JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) e.oid \
    AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
    AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
    JOIN pg_catalog.pg_class AS s ON s.oid OPERATOR(pg_catalog.=) d.refobjid \
    AND s.relkind OPERATOR(pg_catalog.=) 'S' \
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) s.relnamespace; \
    SELECT 'database', '', 'TEMPORARY' \
    WHERE pg_catalog.has_database_privilege('public', pg_catalog.current_database(), 'TEMPORARY') \
    UNION ALL SELECT 'schema', n.nspname, 'CREATE' FROM pg_catalog.pg_namespace AS n \
    WHERE n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' \
    AND pg_catalog.has_schema_privilege('public', n.oid, 'CREATE') \
    UNION ALL SELECT 'other', b.datname, 'CONNECT' FROM pg_catalog.pg_database AS b \
    WHERE b.datallowconn AND b.datname OPERATOR(pg_catalog.<>) pg_catalog.current_database() \
    AND pg_catalog.has_database_privilege('public', b.oid, 'CONNECT'); \
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f']::pg_catalog.\"char\"[]) \
    AND (EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) AS a WHERE a.grantee OPERATOR(pg_catalog.=) 0) \
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS t, pg_catalog.aclexplode(t.attacl) AS a \
        WHERE t.attrelid OPERATOR(pg_catalog.=) c.oid AND a.grantee OPERATOR(pg_catalog.=) 0)); \
    SELECT DISTINCT n.nspname, p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'; \
    SELECT DISTINCT n.nspname FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t \
    ON t.oid OPERATOR(pg_catalog.=) a.atttypid JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) t.typnamespace JOIN pg_catalog.pg_class AS c \
    ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f']::pg_catalog.\"char\"[]) \
    AND NOT a.attisdropped AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' \
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'; \
    COMMIT";

/// What a server gives beside rights on relations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Sequences that a relation's defaults take their values from: its number, their schema and name.
    pub sequences: Vec<(u32, String, String)>,
    /// What everybody may do.
    pub public: Vec<Public>,
    /// Functions outside of the system's schemas: schema and name.
    pub functions: Vec<(String, String)>,
    /// Schemas of the types of columns.
    pub types: Vec<String>,
}

/// What everybody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Public {
    /// Make temporary tables.
    Temporary,
    /// Make things in a schema.
    Create(String),
    /// Use another database of the server.
    Connect(String),
    /// Something on a relation: its schema and name.
    Relation(String, String),
}

impl Rights {
    fn row(&mut self, result: u8, row: &Cells<'_>) -> Result<(), Error> {
        match result {
            1 => {
                let [oid, schema, name] = texts(row)?;
                let sequence = (number(oid)?, schema.to_owned(), name.to_owned());
                self.sequences.push(sequence);
            }
            2 => {
                let [kind, name, _] = texts::<3>(row)?;
                self.public.push(match kind {
                    "database" => Public::Temporary,
                    "schema" => Public::Create(name.to_owned()),
                    "other" => Public::Connect(name.to_owned()),
                    _ => return Err(wrong("a right of everybody on nothing")),
                });
            }
            3 => {
                let [schema, name] = texts(row)?;
                let relation = Public::Relation(schema.to_owned(), name.to_owned());
                self.public.push(relation);
            }
            4 => {
                let [schema, name] = texts(row)?;
                self.functions.push((schema.to_owned(), name.to_owned()));
            }
            5 => {
                let [schema] = texts(row)?;
                self.types.push(schema.to_owned());
            }
            _ => return Err(wrong("a row of no result")),
        }
        Ok(())
    }
}

impl Survey {
    /// What a role of its own needs, and what everybody has.
    ///
    /// # Errors
    /// Where the server does not answer as it must.
    pub async fn rights(&mut self) -> Result<Rights, Error> {
        let mut rights = Rights::default();
        self.must(QUERY, |result, row| rights.row(result, row))
            .await?;
        Ok(rights)
    }
}

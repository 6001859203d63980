//! What the login role can do on its server and in one database.

use super::{Cells, Error, Survey, texts, wrong};

/// Functions that the system, or an extension, withholds from everybody are in `pg_init_privs` with what
/// it grants instead; whoever may run one has been given it. What a superuser's function does under its
/// owner's rights is as far-reaching.
const QUERY: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 10000; SET LOCAL search_path = pg_catalog; \
    SELECT r.rolsuper::pg_catalog.text, r.rolbypassrls::pg_catalog.text, r.rolcreaterole::pg_catalog.text, \
    r.rolcreatedb::pg_catalog.text, r.rolreplication::pg_catalog.text \
    FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) SESSION_USER; \
    SELECT r.rolname FROM pg_catalog.pg_roles AS r \
    WHERE r.rolname OPERATOR(pg_catalog.<>) SESSION_USER \
    AND r.rolname OPERATOR(pg_catalog.<>) 'pg_database_owner' \
    AND pg_catalog.pg_has_role(SESSION_USER, r.oid, 'MEMBER') \
    AND (r.rolname OPERATOR(pg_catalog.~~) 'pg\\_%' OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole \
    OR r.rolcreatedb OR r.rolreplication) ORDER BY r.rolname USING OPERATOR(pg_catalog.<); \
    SELECT n.nspname, c.relname, \
    pg_catalog.pg_has_role(SESSION_USER, c.relowner, 'USAGE')::pg_catalog.text, \
    pg_catalog.has_any_column_privilege(SESSION_USER, c.oid, 'SELECT')::pg_catalog.text, \
    pg_catalog.has_any_column_privilege(SESSION_USER, c.oid, 'INSERT')::pg_catalog.text, \
    pg_catalog.has_any_column_privilege(SESSION_USER, c.oid, 'UPDATE')::pg_catalog.text, \
    pg_catalog.has_table_privilege(SESSION_USER, c.oid, 'DELETE')::pg_catalog.text, \
    pg_catalog.has_table_privilege(SESSION_USER, c.oid, 'TRUNCATE')::pg_catalog.text \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','p','v','m','f']::pg_catalog.\"char\"[]) \
    AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
    ORDER BY n.nspname USING OPERATOR(pg_catalog.<), c.relname USING OPERATOR(pg_catalog.<); \
    SELECT n.nspname FROM pg_catalog.pg_namespace AS n \
    WHERE n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' \
    AND pg_catalog.has_schema_privilege(SESSION_USER, n.oid, 'CREATE') \
    UNION ALL SELECT '' WHERE pg_catalog.has_database_privilege(SESSION_USER, pg_catalog.current_database(), 'CREATE'); \
    SELECT DISTINCT n.nspname, p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
    ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE pg_catalog.has_function_privilege(SESSION_USER, p.oid, 'EXECUTE') AND (EXISTS ( \
        SELECT FROM pg_catalog.pg_init_privs AS i WHERE i.objoid OPERATOR(pg_catalog.=) p.oid \
        AND i.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
        AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(i.initprivs) AS a \
            WHERE a.grantee OPERATOR(pg_catalog.=) 0)) \
    OR p.prosecdef AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND EXISTS ( \
        SELECT FROM pg_catalog.pg_roles AS o WHERE o.oid OPERATOR(pg_catalog.=) p.proowner AND o.rolsuper)); \
    COMMIT";

/// The attributes of a role, in the order of the first question.
const ATTRIBUTES: [&str; 5] = [
    "SUPERUSER",
    "BYPASSRLS",
    "CREATEROLE",
    "CREATEDB",
    "REPLICATION",
];

/// What a role can do on a relation, in the order of the third question.
const ON_RELATIONS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// What a role can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Powers {
    /// Its attributes, as `ALTER ROLE` names them.
    pub attributes: Vec<&'static str>,
    /// Roles of the system, and others with attributes, that it is a member of.
    pub roles: Vec<String>,
    /// Relations that it owns, or may do something on.
    pub held: Vec<Held>,
    /// Schemas that it may make things in; the empty name is the database itself.
    pub creates: Vec<String>,
    /// Functions that only few may run, and it may: schema and name.
    pub functions: Vec<(String, String)>,
}

/// What it can do on one relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is the role's own, or of a role whose rights it has.
    pub is_owner: bool,
    /// What it may do there, as `GRANT` names it.
    pub privileges: Vec<&'static str>,
}

impl Powers {
    /// Whether nothing on the server binds it.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        self.attributes.contains(&"SUPERUSER")
    }

    fn row(&mut self, result: u8, row: &Cells<'_>) -> Result<(), Error> {
        match result {
            1 => {
                let set = texts::<5>(row)?;
                self.attributes = named(&ATTRIBUTES, &set);
            }
            2 => {
                let [role] = texts(row)?;
                self.roles.push(role.to_owned());
            }
            3 => {
                let [schema, name, owner, rights @ ..] = texts::<8>(row)?;
                let held = Held {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    is_owner: owner == "true",
                    privileges: named(&ON_RELATIONS, &rights),
                };
                if held.is_owner || !held.privileges.is_empty() {
                    self.held.push(held);
                }
            }
            4 => {
                let [schema] = texts(row)?;
                self.creates.push(schema.to_owned());
            }
            5 => {
                let [schema, name] = texts(row)?;
                self.functions.push((schema.to_owned(), name.to_owned()));
            }
            _ => return Err(wrong("a row of no result")),
        }
        Ok(())
    }
}

/// The words whose column is true.
fn named(words: &[&'static str], set: &[&str]) -> Vec<&'static str> {
    let pairs = words.iter().zip(set);
    pairs
        .filter(|(_, set)| **set == "true")
        .map(|(word, _)| *word)
        .collect()
}

impl Survey {
    /// What the login role can do.
    ///
    /// # Errors
    /// Where the server does not answer as it must.
    pub async fn powers(&mut self) -> Result<Powers, Error> {
        let mut powers = Powers::default();
        self.must(QUERY, |result, row| powers.row(result, row))
            .await?;
        Ok(powers)
    }
}

//! What the login roles of the targets can do upstream: more than policy ever permits is a warning.
//!
//! Policy is the boundary, and the server's own rights the wall behind it: what this program would refuse
//! the server should refuse, too.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::Check;
use super::masked::Masked;
use crate::cli::told;
use crate::cli::upstream::{self, Unknown};
use crate::config::{Config, Target};
use crate::masking::{Masks, Relation};
use crate::policy::{Action, Ever, Resource};
use crate::protocol::postgres::inject::survey::{Held, Powers, Survey};

/// How long one database may take, beside the login.
const PATIENCE: Duration = Duration::from_secs(30);
/// More names are counted.
const NAMED_MAX: usize = 5;

/// Logs in to each target's databases once, as the daemon does. What policy permits is not known where it
/// does not load; then only what no policy permits is told.
pub(super) async fn checks(config: &Config, ever: Option<&Ever>) -> Vec<Check> {
    let mut checks = Vec::new();
    let file = &config.paths.config;
    for target in config.targets.values() {
        match upstream::databases(target, None) {
            Ok(databases) if databases.is_empty() => checks.push(Check::good(
                &format!("target {}", target.name),
                "it offers no database to look into",
            )),
            Ok(databases) => {
                for (at, database) in databases.into_iter().enumerate() {
                    checks.extend(of_database(target, (database, at == 0), ever, file).await);
                }
            }
            Err(error) => checks.push(bad(target, &error)),
        }
    }
    checks
}

pub(super) fn bad(target: &Target, error: &anyhow::Error) -> Check {
    let name = &target.name;
    let mend = match error.downcast_ref::<Unknown>() {
        Some(Unknown { host, cause: _ }) => format!(
            "see that this host can look it up (`getent hosts {host}`), or correct the name at \
             `targets.{name}` in the configuration"
        ),
        None => "see that the server runs and takes the credential".to_owned(),
    };
    Check::bad(&format!("target {name}"), told(error), mend)
}

/// `is_first` of its target: what holds for all of the server is told there.
async fn of_database(
    target: &Target,
    (database, is_first): (&str, bool),
    ever: Option<&Ever>,
    file: &Path,
) -> Vec<Check> {
    let place = Place {
        target: &target.name,
        database,
        is_first,
        role: upstream::role(target),
        ever,
    };
    match asked(target, database).await {
        Ok((powers, masked)) => {
            let reads = masked.as_ref().and_then(|masked| place.reads(masked));
            let mut checks = place.checks(&powers, reads);
            checks.extend(masked.iter().flat_map(|masked| masked.misfits(file)));
            checks.extend(masked.iter().filter_map(|masked| place.unordered(masked)));
            checks
        }
        Err(error) => vec![bad(target, &error)],
    }
}

/// What the role can do, and what the target's masks find there, where it has some.
async fn asked<'a>(
    target: &'a Target,
    database: &'a str,
) -> anyhow::Result<(Powers, Option<Masked<'a>>)> {
    let masks = Masks::of_database(&target.sensitive, database);
    let upstream = upstream::log_in(target, database, !masks.is_empty()).await?;
    let schema = upstream.known.as_ref().and_then(|known| known.current());
    let mut survey = Survey::new(upstream);
    let slow = |_elapsed| anyhow::anyhow!("no answer in 30 s");
    let powers = timeout(PATIENCE, survey.powers()).await.map_err(slow)??;
    let masked = match schema {
        None => None,
        Some(schema) => Some(Masked {
            target,
            database,
            masks,
            schema,
            readable: timeout(PATIENCE, survey.readable()).await.map_err(slow)??,
        }),
    };
    Ok((powers, masked))
}

/// Where a role's powers are looked at, and against what.
struct Place<'a> {
    target: &'a str,
    database: &'a str,
    is_first: bool,
    role: &'a str,
    ever: Option<&'a Ever>,
}

impl Place<'_> {
    /// `reads` is what it may read that no mask needs.
    fn checks(&self, powers: &Powers, reads: Option<String>) -> Vec<Check> {
        let mut found = match powers.is_superuser() {
            // It includes all the others.
            true if self.is_first => {
                vec!["is a superuser: no right of the server binds it".to_owned()]
            }
            true => return Vec::new(),
            false => self.found(powers),
        };
        if !powers.is_superuser() {
            found.extend(reads);
        }
        let what = format!("target {}", self.target);
        if found.is_empty() {
            let role = self.role;
            let is = format!("logged in to {} as {role}, an ordinary role", self.database);
            return vec![Check::good(&what, is)];
        }
        let mend = format!(
            "make it a role that can do no more: `interceptor discover {} --grants` prints one",
            self.target
        );
        let warning = |is: String| {
            let is = format!("its role {} {is}", self.role);
            Check::warning(&what, is, mend.as_str())
        };
        found.into_iter().map(warning).collect()
    }

    /// Masked columns that the role may read, though nobody is ever shown them and no mask is computed from them.
    fn reads(&self, masked: &Masked<'_>) -> Option<String> {
        let ever = self.ever?;
        let revealed = |relation: &Relation, column: &str| {
            let column = Resource::Column {
                schema: relation.schema.clone(),
                table: relation.name.clone(),
                column: column.to_owned(),
            };
            ever.may(Action::Reveal, self.target, self.database, &column)
        };
        let names = masked.readable(revealed);
        (!names.is_empty()).then(|| {
            format!(
                "may read in {} what is masked for everybody and no mask needs: {}",
                self.database,
                listed(&names)
            )
        })
    }

    /// What is closed for the order in which its rows come, of which nobody would know why.
    fn unordered(&self, masked: &Masked<'_>) -> Option<Check> {
        let names = masked.unordered();
        let is = format!(
            "database {}: closed while columns are masked, as they may take rows in the order of an index with a masked \
             column, or put them one after the other in it: {}",
            self.database,
            listed(&names)
        );
        let mend = "have them take no rows by LIMIT, DISTINCT ON, a window or an aggregate such as array_agg, or keep \
                    masked columns out of indexes of others that they name";
        let what = format!("target {}", self.target);
        (!names.is_empty()).then(|| Check::warning(&what, is, mend))
    }

    fn found(&self, powers: &Powers) -> Vec<String> {
        let mut found = match self.is_first {
            true => of_server(powers),
            false => Vec::new(),
        };
        let mut say = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                found.push(format!("{what} {}", listed(&names)));
            }
        };
        let owned = powers.held.iter().filter(|held| held.is_owner);
        say(
            &format!("owns in {}, which no grant takes away:", self.database),
            owned.map(name).collect(),
        );
        let others = powers.held.iter().filter(|held| !held.is_owner);
        let others = others.filter_map(|held| {
            let more = self.more(held);
            (!more.is_empty()).then(|| format!("{} ({})", name(held), more.join(", ")))
        });
        say(
            &format!("may do in {} what policy never permits:", self.database),
            others.collect(),
        );
        let creates = powers.creates.iter();
        let creates = creates.filter(|schema| !self.may_create(schema));
        let creates = creates.map(|schema| match schema.as_str() {
            "" => format!("the database {}", self.database),
            schema => format!("schema {schema}"),
        });
        say(
            "may make things, which policy never permits, in",
            creates.collect(),
        );
        let functions = powers.functions.iter();
        let functions = functions.filter(|(schema, name)| {
            let function = Resource::Function {
                schema: schema.clone(),
                function: name.clone(),
            };
            !self.may(Action::Call, &function, false)
        });
        say(
            &format!(
                "may run in {} functions that only few may, and that policy never permits:",
                self.database
            ),
            functions
                .map(|(schema, name)| format!("{schema}.{name}"))
                .collect(),
        );
        found
    }

    /// Whether policy may ever permit it; `unknown` where it did not load.
    fn may(&self, action: Action, resource: &Resource, unknown: bool) -> bool {
        self.ever.map_or(unknown, |ever| {
            ever.may(action, self.target, self.database, resource)
        })
    }

    /// What a role may do to a relation that policy never permits anybody.
    fn more(&self, held: &Held) -> Vec<&'static str> {
        let table = Resource::Table {
            schema: held.schema.clone(),
            table: held.name.clone(),
        };
        let may = |action| self.may(action, &table, true);
        let is_more = |privilege: &&&str| match **privilege {
            "SELECT" => !may(Action::Select),
            "INSERT" => !(may(Action::Insert) || may(Action::CopyIn) || may(Action::Merge)),
            "UPDATE" => !(may(Action::Update) || may(Action::Merge) || may(Action::Lock)),
            "DELETE" => !(may(Action::Delete) || may(Action::Merge)),
            _ => !may(Action::Truncate),
        };
        let privileges = held.privileges.iter();
        privileges.filter(is_more).copied().collect()
    }

    fn may_create(&self, schema: &str) -> bool {
        let schema = schema.to_owned();
        // What is made is asked about as itself; in a database that is a schema.
        let (place, inside) = match schema.as_str() {
            "" => (Resource::Database, Resource::Schema { schema }),
            _ => (
                Resource::Schema {
                    schema: schema.clone(),
                },
                Resource::Table {
                    schema,
                    table: String::new(),
                },
            ),
        };
        let makes = |ever: &Ever| ever.may_any(Action::Ddl, self.target, self.database, &inside);
        self.may(Action::Ddl, &place, true) || self.ever.is_none_or(makes)
    }
}

fn of_server(powers: &Powers) -> Vec<String> {
    let attributes = powers.attributes.iter();
    let mut found: Vec<String> = attributes
        .map(|attribute| match *attribute {
            "BYPASSRLS" => "has BYPASSRLS: row-level security does not bind it".to_owned(),
            other => format!("has {other}, which no statement of an agent needs"),
        })
        .collect();
    if !powers.roles.is_empty() {
        found.push(format!("is a member of {}", listed(&powers.roles)));
    }
    found
}

fn name(held: &Held) -> String {
    format!("{}.{}", held.schema, held.name)
}

/// Some names, and how many more there are. They are the server's.
fn listed(names: &[String]) -> String {
    let mut listed = names
        .iter()
        .take(NAMED_MAX)
        .map(|name| crate::cli::terminal::line(name).into_owned())
        .collect::<Vec<_>>()
        .join(", ");
    let more = names.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

//! Which functions, operators, casts, settings and system relations a statement may use.
//!
//! By a list of what is known to compute from its arguments alone. What reads a table that a text names,
//! or the server's memory of data, is refused as long as anything is masked; everything else that is not
//! known is refused where a masked relation is touched. Functions outside of `pg_catalog` are refused, but those
//! that say of themselves that they compute from their arguments, in C, or that the configuration vouches for.

mod drops;
mod statements;

use std::collections::HashSet;
use std::sync::LazyLock;

use pg_query::protobuf::Node;
use pg_query::protobuf::node::Node as Kind;

pub(super) use self::drops::check as drops;
pub(super) use self::statements::{check as statements, measures};
use super::cover::Masking;
use super::expression::KEYS;
use super::resolve::Veto;
use crate::protocol::postgres::facts::draft::{Call, Draft};
use crate::protocol::postgres::facts::functions::{is_builtin, is_harmless};

/// Read whatever a text tells them to, or give out what others stored, in whichever schema they are.
static READERS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("functions/readers.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect()
});

/// What the names of such functions begin with.
const READING: [&str; 22] = [
    "query_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "cursor_to_xml",
    "pg_read_",
    "pg_ls_",
    "pg_stat_",
    "pg_logical_",
    "dblink",
    "crosstab",
    "lo_",
    "heap_page",
    "pg_get_wal_",
    "pg_lock_status",
    // How much is written of a row is how long its values are.
    "pg_current_wal_",
    "pgstattuple",
    "pgstatgin",
    "pgstathash",
    "pg_freespace",
    "pg_relpages",
    "pg_file_read",
];

/// Not harmless, but nothing that tells data.
const ALSO: [&str; 22] = [
    "current_setting",
    "nextval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_backend_pid",
    "pg_cancel_backend",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_notify",
    "pg_sleep",
    "pg_sleep_for",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "set_config",
    "setseed",
    "txid_current",
    "txid_current_if_assigned",
];

/// Relations of the system that hold data of others, or what others asked.
const CLOSED: [&str; 14] = [
    "pg_authid",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_largeobject",
    // Keys of locks that others hold are made of what they lock.
    "pg_locks",
    "pg_shadow",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_user_mapping",
    "pg_user_mappings",
    "user_mapping_options",
    "_pg_user_mappings",
];

/// Tell what a sequence gave out last.
const COUNTING: [&str; 7] = [
    "currval",
    "lastval",
    "nextval",
    "pg_get_sequence_data",
    "pg_sequence_last_value",
    "pg_sequences",
    "setval",
];

/// What a view must not name, whatever else it shows: updating one over `pg_settings` changes settings, and
/// `attmissingval` holds the values of columns that rows do not have yet.
const UNSHOWN: [&str; 2] = ["attmissingval", "pg_settings"];

/// Settings by which a session has the server take one index rather than another way: rows that come without
/// `ORDER BY` come in its order. Beside those that begin with one of [`STEERS`].
const STEERING: [&str; 19] = [
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "debug_parallel_query",
    "effective_cache_size",
    "force_parallel_mode",
    "from_collapse_limit",
    "join_collapse_limit",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
];

/// What the names of others of that kind begin with; `pg_hint_plan` is an extension that is told in comments.
const STEERS: [&str; 3] = ["enable_", "geqo", "pg_hint_plan."];

/// Whether a setting, in small letters, says by which ways rows are read.
#[must_use]
pub fn steers(setting: &str) -> bool {
    STEERS.iter().any(|front| setting.starts_with(front)) || STEERING.contains(&setting)
}

/// Functions that give another value for each row, in the order in which they are called.
const VARYING: [&str; 11] = [
    "array_sample",
    "array_shuffle",
    "clock_timestamp",
    "currval",
    "gen_random_uuid",
    "lastval",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
];

/// Whether a function computes the same, whichever row comes first.
pub(super) fn is_steady(name: &str) -> bool {
    is_harmless("pg_catalog", name) && !VARYING.contains(&name)
}

/// Operators that a text uses without naming them.
const IMPLIED: [&str; 6] = ["=", "<>", "<", ">", "<=", ">="];

/// Whether a relation of the system may be read while anything is masked, and by `masking`.
pub(super) fn shows(masking: &Masking, name: &str) -> Result<(), Veto> {
    match masking.counts && COUNTING.contains(&name) {
        true => Err(Veto::never(&format!(
            "reading {name}, as a masked column is numbered by a sequence,"
        ))),
        false => system(name),
    }
}

/// Whether a relation of the system may be read while anything is masked.
pub(super) fn system(name: &str) -> Result<(), Veto> {
    let is_closed = CLOSED.contains(&name)
        || name.starts_with("pg_stats_")
        || name.starts_with("pg_stat_")
        || name.starts_with("pg_statio_");
    match is_closed {
        true => Err(Veto::never(&format!("reading {name}"))),
        false => Ok(()),
    }
}

fn reads(name: &str) -> bool {
    READERS.contains(name) || READING.iter().any(|front| name.starts_with(front))
}

/// Whether a view's definition, or another expression, names what is closed, as the server writes it: a view
/// shows with its owner's eyes what nobody may ask for.
pub(in super::super) fn shows_closed(definition: &str) -> bool {
    if ["*::pg_attribute", "*::\"pg_attribute\""]
        .iter()
        .any(|row| definition.contains(row))
    {
        return true;
    }
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut rest = definition;
    while let Some(start) = rest.find(is_word) {
        rest = rest.get(start..).unwrap_or_default();
        let end = rest.find(|letter| !is_word(letter));
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        if system(word).is_err()
            || UNSHOWN.contains(&word)
            || behind.trim_start_matches('"').starts_with('(') && reads(word)
        {
            return true;
        }
        rest = behind;
    }
    false
}

/// Whether `draft` uses nothing that must not be used; `touches` where it touches a masked relation.
pub(super) fn check(
    masking: &Masking,
    draft: &Draft<'_>,
    path: Option<&[String]>,
    touches: bool,
) -> Result<(), Veto> {
    for call in &draft.calls {
        called(masking, call, path, touches)?;
    }
    for name in &draft.fields {
        if reads(name) || matches!(*name, "current_setting" | "set_config") {
            return Err(Veto::never(&format!(
                "the column notation .{name}, which is a call,"
            )));
        }
        if is_foreign_field(masking, name, path) {
            return Err(Veto::never(&format!(
                "the column notation .{name}, which is a call of a function of a user,"
            )));
        }
        if masking.counts && COUNTING.contains(name) {
            return Err(Veto::never(&format!(
                "the column notation .{name}, as a masked column is numbered by a sequence,"
            )));
        }
    }
    if draft.computes_setting {
        return Err(Veto::never("a setting whose name is computed"));
    }
    if let Some(name) = draft.settings.iter().find(|name| name.starts_with(KEYS)) {
        return Err(Veto::never(&format!("the setting {name}")));
    }
    if let Some(name) = draft.sets.iter().find(|name| steers(name)) {
        return Err(steering(name));
    }
    let Some(schema) = &masking.schema else {
        return Ok(());
    };
    let named = draft.operators.iter().map(|operator| last_two(operator));
    // Those that `BETWEEN`, `CASE`, `USING` and their like are made of.
    let implied = IMPLIED.iter().map(|symbol| ("", *symbol));
    for (place, symbol) in named.chain(implied.filter(|_| touches)) {
        let runs_code =
            |(there, known): &(String, String)| known == symbol && within(there, place, path);
        if schema.operators.iter().any(runs_code) {
            return Err(Veto::never(&format!(
                "the operator {symbol}, which runs a function of its own,"
            )));
        }
    }
    for name in &draft.types {
        let (_, name) = last_two(&name.names);
        if schema.casts.contains(name) {
            return Err(Veto::never(&format!(
                "the cast to {name}, which runs a function of its own,"
            )));
        }
    }
    match touches && schema.casts_unasked {
        true => Err(Veto::never(
            "a database with casts that run functions of their own",
        )),
        false => Ok(()),
    }
}

/// Why such a setting is not made.
pub(in super::super) fn steering(setting: &str) -> Veto {
    Veto::never(&format!(
        "{setting}, which may have rows come in the order of what is masked,"
    ))
}

fn called(
    masking: &Masking,
    call: &Call<'_>,
    path: Option<&[String]>,
    touches: bool,
) -> Result<(), Veto> {
    if reads(call.name) {
        return Err(Veto::never(&format!("{}()", call.name)));
    }
    let builtin = matches!(call.schema, "" | "pg_catalog") && is_builtin(call.name);
    if !builtin {
        return foreign(masking, call, path);
    }
    let functions = masking.schema.iter().flat_map(|schema| &schema.functions);
    let hidden = functions.filter(|(there, name)| {
        name == call.name && call.schema.is_empty() && within(there, "", path)
    });
    let mut hidden = hidden.filter(|named| !masking.vouches_for(named));
    if let Some((there, name)) = hidden.next() {
        return Err(Veto::new(
            format!("{name}() may be a function of schema {there}"),
            "masking",
            "write pg_catalog before the name of a built-in function",
        ));
    }
    if masking.counts && COUNTING.contains(&call.name) {
        return Err(Veto::never(&format!(
            "{}(), as a masked column is numbered by a sequence,",
            call.name
        )));
    }
    let known = is_harmless("pg_catalog", call.name) || ALSO.contains(&call.name);
    match touches && !known {
        true => Err(Veto::never(&format!("{}() on a masked table", call.name))),
        false => Ok(()),
    }
}

/// Whether a function that is not built in is known to compute from its arguments alone, or vouched for, wherever
/// it may be found. What policy says with `Call` is another matter: the code of others sees what it likes.
fn foreign(masking: &Masking, call: &Call<'_>, path: Option<&[String]>) -> Result<(), Veto> {
    let Some(schema) = masking.schema.as_ref() else {
        return Ok(());
    };
    // A symbol is an operator, of which the code is looked at elsewhere.
    let is_name = call
        .name
        .contains(|letter: char| letter.is_alphanumeric() || letter == '_');
    if !is_name || call.schema == "information_schema" {
        return Ok(());
    }
    let named = |place: &str| (place.to_owned(), call.name.to_owned());
    let is_good = |place: &str| {
        let named = named(place);
        schema.computing.contains(&named) || masking.vouches_for(&named)
    };
    let is_bad = |place: &str| schema.functions.contains(&named(place)) && !is_good(place);
    let good = match (call.schema, path) {
        ("", None) => false,
        ("", Some(path)) => {
            let mut places = path.iter();
            path.iter().any(|place| is_good(place)) && !places.any(|place| is_bad(place))
        }
        (place, _) => is_good(place),
    };
    match good {
        true => Ok(()),
        false => Err(Veto::new(
            format!(
                "{}() is not known to compute from its arguments alone, and may not be called while columns are masked",
                call.name
            ),
            "masking",
            "use a function of the server; the operator may name this one in `postgres.functions` of the target",
        )),
    }
}

/// Whether a field of this name may be such a function of users: no table has a column that is called so.
fn is_foreign_field(masking: &Masking, name: &str, path: Option<&[String]>) -> bool {
    masking.schema.as_ref().is_some_and(|schema| {
        let mut functions = schema.functions.iter();
        let is_function = functions.any(|named| {
            named.1 == name && within(&named.0, "", path) && !masking.vouches_for(named)
        });
        is_function
            && !schema
                .tables
                .values()
                .any(|table| table.column(name).is_some())
    })
}

/// Whether what is in schema `there` can be meant by a name with schema `given`, or with none.
fn within(there: &str, given: &str, path: Option<&[String]>) -> bool {
    match (given, path) {
        ("", Some(path)) => path.iter().any(|schema| schema == there),
        ("", None) => true,
        (given, _) => given == there,
    }
}

/// Schema and name, empty where there is none.
fn last_two(names: &[Node]) -> (&str, &str) {
    let mut words = names.iter().rev().filter_map(|node| match &node.node {
        Some(Kind::String(word)) => Some(word.sval.as_str()),
        _ => None,
    });
    let name = words.next().unwrap_or_default();
    (words.next().unwrap_or_default(), name)
}

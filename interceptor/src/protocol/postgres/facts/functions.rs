//! Which functions are harmless, and which names the server's own schema has.
//!
//! Both lists are data beside this file. A function that is not listed as harmless asks for `Call`; a
//! name is harmless only if every overload of it is. The lists know names, not signatures: an overload
//! of a listed name in a schema of the search path is not seen.

use std::collections::HashSet;
use std::sync::LazyLock;

static HARMLESS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let text = include_str!("functions/harmless.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect()
});

/// Function names of `pg_catalog`, those of every supported major version together.
static CATALOG: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("functions/catalog.txt")
        .split_whitespace()
        .collect()
});

/// The server's own aggregate functions (`catalog/pg_aggregate.dat`).
const AGGREGATES: [&str; 54] = [
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "every",
    "json_agg",
    "json_agg_strict",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "max",
    "min",
    "mode",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "range_intersect_agg",
    "rank",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
    "xmlagg",
];

/// Whether a function of `pg_catalog` of this name makes one value of many rows.
pub(in super::super) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name)
}

/// Whether `pg_catalog` has a function, or a type that is written like one, of this name.
pub(in super::super) fn is_builtin(name: &str) -> bool {
    CATALOG.contains(name) || (HARMLESS.contains(name) && !name.contains('.'))
}

/// Whether calling `schema.name` needs no permission of its own.
pub(in super::super) fn is_harmless(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => !name.contains('.') && HARMLESS.contains(name),
        "information_schema" => HARMLESS.contains(format!("{schema}.{name}").as_str()),
        _ => false,
    }
}

/// Whether a field of this name may be a call of a built-in function that asks for `Call`: to the
/// server `(x).f` and `t.f` are `f(x)` and `f(t)` where there is no such column.
pub(super) fn is_dangerous_field(name: &str) -> bool {
    CATALOG.contains(name) && !HARMLESS.contains(name)
}

#[cfg(test)]
mod tests;

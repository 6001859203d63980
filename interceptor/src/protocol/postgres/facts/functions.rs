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

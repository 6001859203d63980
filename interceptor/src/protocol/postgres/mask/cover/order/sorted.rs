//! What sorts the rows of a relation by all that is shown of them: those that are left in another order are the same.

use crate::protocol::postgres::mask::expression::identifier;
use crate::protocol::postgres::mask::schema::Column;

/// ` ORDER BY …` of a query that is called `"~"` and shows these; nothing where none is shown.
pub(super) fn by<'c>(shown: impl Iterator<Item = &'c Column>) -> String {
    let keys: Vec<String> = shown.map(key).collect();
    match keys.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", keys.join(", ")),
    }
}

/// What tells all values apart that look otherwise, whatever settings and collations there are, and runs nothing of
/// users. Numbers as in `pg_type.dat`.
fn key(column: &Column) -> String {
    let name = format!("\"~\".{}", identifier(&column.name));
    match column.type_oid {
        // `bool`, `bytea`, `char`, `name`, `int8`, `int2`, `int4`, `oid`, `date`, `timestamp`, `timestamptz`, `uuid`.
        16 | 17 | 18 | 19 | 20 | 21 | 23 | 26 | 1082 | 1114 | 1184 | 2950 => name,
        // `text` and `varchar`, whatever is equal in their collation.
        25 | 1043 => format!("{name} COLLATE pg_catalog.\"C\""),
        // As it is stored: every type has that.
        _ => format!("ROW({name}) USING OPERATOR(pg_catalog.*<)"),
    }
}

//! What sorts the rows of a relation by all that is shown of them: those that are left in another order are the same.

use crate::protocol::postgres::mask::expression::identifier;
use crate::protocol::postgres::mask::schema::{Column, Schema, Table};

/// Whether nothing of users runs for that.
pub(super) fn can(schema: &Schema, table: &Table) -> bool {
    let mut columns = table.columns.iter();
    let casts = columns.any(|column| key(column).contains("CAST("));
    !casts || !schema.casts.contains("text")
}

/// ` ORDER BY …` of a query that is called `"~"` and shows these; nothing where none is shown.
pub(super) fn by<'c>(shown: impl Iterator<Item = &'c Column>) -> String {
    let keys: Vec<String> = shown.map(key).collect();
    match keys.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", keys.join(", ")),
    }
}

/// What tells all values apart that look otherwise, in a type that the server can sort. Numbers as in `pg_type.dat`.
fn key(column: &Column) -> String {
    let name = format!("\"~\".{}", identifier(&column.name));
    match column.type_oid {
        // `bool`, `bytea`, `char`, `name`, `int8`, `int2`, `int4`, `oid`, `date`, `timestamp`, `timestamptz`, `uuid`.
        16 | 17 | 18 | 19 | 20 | 21 | 23 | 26 | 1082 | 1114 | 1184 | 2950 => name,
        // `text` and `varchar`, whatever is equal in their collation.
        25 | 1043 => format!("{name} COLLATE pg_catalog.\"C\""),
        700 => format!("pg_catalog.float4send({name})"),
        701 => format!("pg_catalog.float8send({name})"),
        1042 => format!("pg_catalog.bpcharsend({name})"),
        // Shapes: their text follows `extra_float_digits`.
        600 => format!("pg_catalog.point_send({name})"),
        601 => format!("pg_catalog.lseg_send({name})"),
        602 => format!("pg_catalog.path_send({name})"),
        603 => format!("pg_catalog.box_send({name})"),
        604 => format!("pg_catalog.poly_send({name})"),
        628 => format!("pg_catalog.line_send({name})"),
        718 => format!("pg_catalog.circle_send({name})"),
        // Ranges of numbers and times.
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => format!("pg_catalog.range_send({name})"),
        // Arrays of these, of `float4`, `float8` and of times.
        629 | 719 | 1017 | 1018 | 1019 | 1020 | 1021 | 1022 | 1027 | 1115 | 1182 | 1183 | 1185
        | 1187 | 1270 => {
            format!("pg_catalog.array_send({name})")
        }
        _ => format!("CAST({name} AS pg_catalog.text) COLLATE pg_catalog.\"C\""),
    }
}

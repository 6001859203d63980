//! What stands in the place of a column: one expression for each kind of mask and type.
//!
//! Every expression is total: it has a value for whatever the column holds, so that no error tells
//! what that is. Names are qualified, the column's type is kept, and unless the mask says otherwise
//! neither length nor nullness shows.

use crate::masking::{Joinable, Mask};

/// The setting that holds the key of hashes that are equal within a session.
pub const SESSION_KEY: &str = "interceptor.session_key";
/// The same for those that are equal in all sessions of a target.
pub const TARGET_KEY: &str = "interceptor.target_key";
/// What the names of settings begin with that no statement of an agent may name.
pub const KEYS: &str = "interceptor.";

/// Digits of the largest number that stands for a hash: 60 bits.
const HASH_DIGITS: i32 = 19;

/// What a type can be masked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Text,
    Int2,
    Int4,
    Int8,
    Numeric,
    Bool,
    Date,
    Timestamp,
    /// A timestamp with time zone.
    Instant,
    Uuid,
    Bytes,
    Other,
}

/// Numbers as in `pg_type.dat`; they never change.
fn family(oid: u32, name: &str, is_domain: bool) -> Family {
    match oid {
        // A check of the domain may not take what stands in.
        _ if is_domain => Family::Other,
        19 | 25 | 1042 | 1043 => Family::Text,
        _ if name == "citext" || name.ends_with(".citext") => Family::Text,
        21 => Family::Int2,
        23 => Family::Int4,
        20 => Family::Int8,
        1700 if holds_hashes(name) => Family::Numeric,
        16 => Family::Bool,
        1082 => Family::Date,
        1114 => Family::Timestamp,
        1184 => Family::Instant,
        2950 => Family::Uuid,
        17 => Family::Bytes,
        _ => Family::Other,
    }
}

/// Whether a `numeric` has room for any number of a hash before its point: another fails for most of them.
fn holds_hashes(name: &str) -> bool {
    let Some((_, limits)) = name.split_once('(') else {
        return true;
    };
    let mut limits = limits.trim_end_matches(')').split(',');
    let mut next = || {
        limits
            .next()
            .and_then(|limit| limit.trim().parse::<i32>().ok())
    };
    let (precision, scale) = (next().unwrap_or_default(), next().unwrap_or_default());
    precision.saturating_sub(scale) >= HASH_DIGITS
}

/// A column, as far as its mask needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub column: &'a str,
    /// The number of its type, of a domain's base.
    pub type_oid: u32,
    /// Its type as the server writes it.
    pub type_name: &'a str,
    /// Whether that is a domain.
    pub is_domain: bool,
}

/// Why a mask cannot stand for a type, for who configures it, with what can; `None` where it can.
#[must_use]
pub fn objection(mask: &Mask, of: Subject<'_>) -> Option<String> {
    if matches!(mask, Mask::Hide) || expression(mask, of).is_some() {
        return None;
    }
    let fits: Vec<&str> = fitting(of)
        .filter(|fits| *fits != "constant" || !matches!(mask, Mask::Constant(_)))
        .collect();
    let what = match mask {
        Mask::Constant(_) => "this constant",
        mask => word(mask),
    };
    Some(format!(
        "{what} cannot stand in for {} of type {}: use {}",
        of.column,
        of.type_name,
        fits.join(", ")
    ))
}

/// The words of all masks that can stand for a type.
fn fitting(of: Subject<'_>) -> impl Iterator<Item = &'static str> {
    let others = [
        Mask::Constant("0".into()),
        Mask::Constant("true".into()),
        Mask::Constant(uuid::Uuid::nil().to_string().into()),
        Mask::Hash(Joinable::Session),
        Mask::Last4,
        Mask::Email,
        Mask::Year,
        Mask::Partial(1),
    ];
    let mut words: Vec<&str> = others
        .iter()
        .filter(|mask| expression(mask, of).is_some())
        .map(word)
        .collect();
    words.dedup();
    let always = ["null", "hide"].into_iter();
    always.chain(words)
}

/// The word for a mask in messages.
#[must_use]
pub fn word(mask: &Mask) -> &'static str {
    match mask {
        Mask::Null => "null",
        Mask::Constant(_) => "constant",
        Mask::Hash(_) => "hash",
        Mask::Last4 => "last4",
        Mask::Email => "email",
        Mask::Year => "year",
        Mask::Partial(_) => "partial",
        Mask::Hide => "hide",
    }
}

/// Whether what stands in is computed from what the column holds; where it is not, nobody needs to read it.
#[must_use]
pub fn is_computed(mask: &Mask, of: Subject<'_>) -> bool {
    match mask {
        Mask::Null | Mask::Constant(_) | Mask::Hide => false,
        Mask::Hash(_) | Mask::Last4 | Mask::Email | Mask::Year | Mask::Partial(_) => {
            expression(mask, of).is_some()
        }
    }
}

/// The expression, in terms of the column's name alone; `None` where there is none that keeps the type.
#[must_use]
pub fn expression(mask: &Mask, of: Subject<'_>) -> Option<String> {
    let family = family(of.type_oid, of.type_name, of.is_domain);
    let name = identifier(of.column);
    let text = format!("CAST({name} AS pg_catalog.text)");
    let inner = match mask {
        Mask::Hide => return None,
        Mask::Null => "NULL".to_owned(),
        Mask::Constant(constant) => constant_of(family, constant)?,
        Mask::Last4 => kept(family, &text, "right", 4)?,
        Mask::Partial(shown) => kept(family, &text, "left", u32::from(*shown))?,
        Mask::Email => email(family, &text)?,
        Mask::Year => year(family, &name)?,
        Mask::Hash(joinable) => hash(family, &name, *joinable)?,
    };
    Some(format!("CAST({inner} AS {})", of.type_name))
}

fn constant_of(family: Family, constant: &str) -> Option<String> {
    let stands = match family {
        Family::Text => true,
        Family::Int2 => constant.parse::<i16>().is_ok(),
        Family::Int4 => constant.parse::<i32>().is_ok(),
        Family::Int8 => constant.parse::<i64>().is_ok(),
        Family::Bool => matches!(constant, "true" | "false"),
        Family::Uuid => uuid::Uuid::parse_str(constant).is_ok(),
        Family::Numeric
        | Family::Date
        | Family::Timestamp
        | Family::Instant
        | Family::Bytes
        | Family::Other => false,
    };
    stands.then(|| literal(constant))
}

/// Shows so many characters at one end, where at least as many stay hidden.
fn kept(family: Family, text: &str, end: &str, shown: u32) -> Option<String> {
    let least = shown.saturating_mul(2);
    (family == Family::Text).then(|| {
        let part = format!("pg_catalog.{end}({text}, {shown})");
        // A good deal faster than `concat`, which looks at the types of its arguments each time.
        let both = match end {
            "left" => format!("{part} OPERATOR(pg_catalog.||) '****'"),
            _ => format!("'****' OPERATOR(pg_catalog.||) {part}"),
        };
        format!(
            "CASE WHEN pg_catalog.length({text}) OPERATOR(pg_catalog.>=) {least} \
             THEN {both} ELSE '****' END"
        )
    })
}

/// The domain is what follows the last `@`, so that no `@` before it shows more.
fn email(family: Family, text: &str) -> Option<String> {
    (family == Family::Text).then(|| {
        let domain = format!("pg_catalog.strpos(pg_catalog.reverse({text}), '@')");
        format!(
            "CASE WHEN {domain} OPERATOR(pg_catalog.>) 1 \
             AND {domain} OPERATOR(pg_catalog.<) pg_catalog.length({text}) \
             THEN pg_catalog.left({text}, 1) OPERATOR(pg_catalog.||) '***' \
             OPERATOR(pg_catalog.||) pg_catalog.right({text}, {domain}) \
             ELSE '***' END"
        )
    })
}

/// Within the years that every type of time has: beyond them the computation may fail.
fn year(family: Family, name: &str) -> Option<String> {
    let (of, first) = match family {
        Family::Date => (
            "date",
            format!(
                "pg_catalog.make_date(CAST(pg_catalog.date_part('year', {name}) AS pg_catalog.int4), 1, 1)"
            ),
        ),
        Family::Timestamp => (
            "timestamp",
            format!("pg_catalog.date_trunc('year', {name})"),
        ),
        // In no time zone of the session, which the agent chooses.
        Family::Instant => (
            "timestamptz",
            format!("pg_catalog.date_trunc('year', {name}, 'UTC')"),
        ),
        Family::Text
        | Family::Int2
        | Family::Int4
        | Family::Int8
        | Family::Numeric
        | Family::Bool
        | Family::Uuid
        | Family::Bytes
        | Family::Other => return None,
    };
    let at = if family == Family::Instant {
        " 00:00+00"
    } else {
        ""
    };
    Some(format!(
        "CASE WHEN {name} OPERATOR(pg_catalog.>=) CAST('0002-01-01{at}' AS pg_catalog.{of}) \
         AND {name} OPERATOR(pg_catalog.<) CAST('9999-01-01{at}' AS pg_catalog.{of}) THEN {first} END"
    ))
}

/// Without the key the setting is null, and so is the hash. A null value has a hash as well.
fn hash(family: Family, name: &str, joinable: Joinable) -> Option<String> {
    let key = match joinable {
        Joinable::Session => SESSION_KEY,
        Joinable::Target => TARGET_KEY,
    };
    let key = format!("pg_catalog.current_setting({}, true)", literal(key));
    let digest = |value: &str| {
        format!(
            "pg_catalog.sha256(pg_catalog.convert_to({key} OPERATOR(pg_catalog.||) '/' \
             OPERATOR(pg_catalog.||) COALESCE({value}, '') OPERATOR(pg_catalog.||) '/' \
             OPERATOR(pg_catalog.||) {key}, 'UTF8'))"
        )
    };
    let of_text = digest(&format!("CAST({name} AS pg_catalog.text)"));
    let hex =
        |digits: u8| format!("pg_catalog.left(pg_catalog.encode({of_text}, 'hex'), {digits})");
    let bits = |digits: u8, bits: u8, to: &str| {
        format!(
            "CAST(CAST('x' OPERATOR(pg_catalog.||) {} AS pg_catalog.bit({bits})) AS pg_catalog.{to})",
            hex(digits)
        )
    };
    Some(match family {
        Family::Text => hex(16),
        Family::Uuid => hex(32),
        Family::Int4 => bits(7, 28, "int4"),
        Family::Int8 | Family::Numeric => bits(15, 60, "int8"),
        Family::Bytes => digest(&format!("pg_catalog.encode({name}, 'hex')")),
        Family::Int2
        | Family::Bool
        | Family::Date
        | Family::Timestamp
        | Family::Instant
        | Family::Other => {
            return None;
        }
    })
}

/// A name in double quotes.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

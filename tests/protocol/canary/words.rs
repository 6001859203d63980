//! The words of the grammar: types, relations with the types of their columns, and templates of values.

mod calls;
mod forms;

pub(super) use self::calls::{FAILING, FORBIDDEN};
pub(super) use self::forms::FORMS;

/// A type of value, as far as the grammar tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ty {
    Text,
    Int,
    Big,
    Num,
    Float,
    Bool,
    Date,
    Stamp,
    Zoned,
    Uuid,
    Bytes,
    Json,
    Texts,
    Span,
    Days,
    Ip,
    Page,
    Address,
    Mood,
    Words,
    Spot,
}

/// What a template's hole is called, and the server's name of the type.
pub(super) const TYPES: [(Ty, &str, &str); 21] = [
    (Ty::Text, "text", "text"),
    (Ty::Int, "int", "int"),
    (Ty::Big, "big", "bigint"),
    (Ty::Num, "num", "numeric"),
    (Ty::Float, "float", "float8"),
    (Ty::Bool, "bool", "bool"),
    (Ty::Date, "date", "date"),
    (Ty::Stamp, "stamp", "timestamp"),
    (Ty::Zoned, "zoned", "timestamptz"),
    (Ty::Uuid, "uuid", "uuid"),
    (Ty::Bytes, "bytes", "bytea"),
    (Ty::Json, "json", "jsonb"),
    (Ty::Texts, "texts", "text[]"),
    (Ty::Span, "span", "int8range"),
    (Ty::Days, "days", "daterange"),
    (Ty::Ip, "ip", "inet"),
    (Ty::Page, "page", "xml"),
    (Ty::Address, "address", "address"),
    (Ty::Mood, "mood", "mood"),
    (Ty::Words, "words", "tsvector"),
    (Ty::Spot, "spot", "point"),
];

type Columns = &'static [(&'static str, Ty)];

const PERSON: Columns = &[
    ("id", Ty::Int),
    ("name", Ty::Text),
    ("city", Ty::Text),
    ("grp", Ty::Int),
    ("score", Ty::Num),
    ("made", Ty::Zoned),
    ("flag", Ty::Bool),
    ("ssn", Ty::Text),
    ("email", Ty::Text),
    ("phone", Ty::Text),
    ("note", Ty::Text),
    ("born", Ty::Date),
    ("seen", Ty::Stamp),
    ("at", Ty::Zoned),
    ("pin", Ty::Int),
    ("num", Ty::Int),
    ("big", Ty::Big),
    ("amount", Ty::Num),
    ("uid", Ty::Uuid),
    ("raw", Ty::Bytes),
    ("tags", Ty::Texts),
    ("doc", Ty::Json),
    ("addr", Ty::Address),
    ("mood", Ty::Mood),
    ("span", Ty::Span),
    ("days", Ty::Days),
    ("ratio", Ty::Float),
    ("ip", Ty::Ip),
    ("code", Ty::Text),
    ("page", Ty::Page),
    ("words", Ty::Words),
    ("spot", Ty::Spot),
    ("handle", Ty::Text),
];
const ORDERS: Columns = &[
    ("id", Ty::Int),
    ("person_id", Ty::Int),
    ("item", Ty::Text),
    ("qty", Ty::Int),
    ("price", Ty::Num),
    ("day", Ty::Date),
    ("card", Ty::Text),
    ("memo", Ty::Text),
    ("fee", Ty::Num),
];
const EVENT: Columns = &[
    ("id", Ty::Int),
    ("what", Ty::Text),
    ("day", Ty::Date),
    ("payload", Ty::Text),
    ("num", Ty::Big),
];
const BASE: Columns = &[("id", Ty::Int), ("what", Ty::Text), ("label", Ty::Text)];

/// Relations that can be read, and how often.
pub(super) const RELATIONS: &[(usize, (&str, Columns))] = &[
    (30, ("person", PERSON)),
    (10, ("orders", ORDERS)),
    (6, ("event", EVENT)),
    (1, ("event_low", EVENT)),
    (1, ("event_mid", EVENT)),
    (1, ("event_mid_b", EVENT)),
    (1, ("event_rest", EVENT)),
    (3, ("base", BASE)),
    (
        3,
        (
            "leaf",
            &[
                ("id", Ty::Int),
                ("what", Ty::Text),
                ("label", Ty::Text),
                ("extra", Ty::Text),
            ],
        ),
    ),
    (
        3,
        (
            "vault",
            &[
                ("id", Ty::Int),
                ("what", Ty::Text),
                ("code", Ty::Text),
                ("low", Ty::Text),
            ],
        ),
    ),
    (1, ("kinded", &[("id", Ty::Int), ("kind", Ty::Text)])),
    (1, ("kinds", &[("kind", Ty::Text)])),
    (
        1,
        (
            "checks",
            &[("id", Ty::Int), ("what", Ty::Text), ("code", Ty::Text)],
        ),
    ),
    (2, ("refers", &[("id", Ty::Int), ("code", Ty::Text)])),
    (
        4,
        (
            "v_person",
            &[
                ("id", Ty::Int),
                ("name", Ty::Text),
                ("ssn", Ty::Text),
                ("u", Ty::Text),
                ("l", Ty::Int),
                ("email", Ty::Text),
                ("born", Ty::Date),
                ("doc", Ty::Json),
            ],
        ),
    ),
    (
        3,
        (
            "v_order",
            &[
                ("id", Ty::Int),
                ("item", Ty::Text),
                ("card", Ty::Text),
                ("name", Ty::Text),
                ("ssn", Ty::Text),
                ("amount", Ty::Num),
            ],
        ),
    ),
    (3, ("v_top", &[("x", Ty::Text), ("id", Ty::Int)])),
    (
        2,
        (
            "v_plain",
            &[("id", Ty::Int), ("name", Ty::Text), ("city", Ty::Text)],
        ),
    ),
    (
        2,
        (
            "v_city",
            &[("city", Ty::Text), ("n", Ty::Big), ("best", Ty::Num)],
        ),
    ),
    (
        3,
        (
            "m_person",
            &[
                ("id", Ty::Int),
                ("ssn", Ty::Text),
                ("doc", Ty::Json),
                ("amount", Ty::Num),
                ("tags", Ty::Texts),
            ],
        ),
    ),
    (2, ("m_top", &[("x", Ty::Text), ("id", Ty::Int)])),
    (
        2,
        (
            "city",
            &[
                ("name", Ty::Text),
                ("country", Ty::Text),
                ("people", Ty::Int),
            ],
        ),
    ),
    (
        2,
        (
            "nums",
            &[
                ("n", Ty::Int),
                ("word", Ty::Text),
                ("day", Ty::Date),
                ("more", Ty::Num),
            ],
        ),
    ),
];

/// Relations that are closed, or of which most is refused.
pub(super) const CLOSED: [&str; 8] = [
    "v_asks",
    "split_low",
    "v_union",
    "v_calls",
    "split",
    "split_rest",
    "pg_stats",
    "pg_statistic",
];

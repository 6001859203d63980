//! What a request would touch, as far as its server could tell beside the session. People see it; whoever asks
//! does not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a request would touch. It is true of the moment in which the server was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// How many rows.
    pub rows: Rows,
    /// The server's plan, line by line; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

/// How many rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// So many.
    Counted(u64),
    /// More than so many, and nobody counted on.
    MoreThan(u64),
    /// Why they were not counted.
    NotCounted(String),
}

impl Touches {
    /// Nothing is known of it.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self {
            rows: Rows::NotCounted(why.into()),
            plan: Vec::new(),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted(1) => to.write_str("1 row"),
            Self::Counted(rows) => write!(to, "{rows} rows"),
            Self::MoreThan(rows) => write!(to, "more than {rows} rows"),
            Self::NotCounted(why) => write!(to, "not counted: {why}"),
        }
    }
}

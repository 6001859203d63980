//! Which columns of an answer are text, or may hold some.

use std::sync::Arc;

use super::super::super::super::wire::{self, Body};

/// Types whose values cannot be masked and stay what they are: numbers, times, addresses of hosts, and lists
/// of such (`pg_type.dat`). All others are read as text, those that nobody knows too.
const OTHERS: [i32; 44] = [
    16, 20, 21, 23, 24, 26, 27, 28, 29, 650, 651, 700, 701, 774, 775, 790, 791, 829, 869, 1000,
    1005, 1007, 1016, 1021, 1022, 1028, 1040, 1041, 1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185,
    1186, 1187, 1231, 1266, 1270, 1700, 2950, 2951,
];

/// The columns of an answer. By default nothing is known of them: all are text.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// Whether each is text; `None` where this is not known.
    texts: Option<Arc<[bool]>>,
}

impl Columns {
    /// As a `RowDescription` says.
    pub(super) fn described(body: &[u8]) -> Self {
        Self {
            texts: texts(body).ok(),
        }
    }

    /// Whether a column is, or may be, text.
    pub(super) fn is_text(&self, column: usize) -> bool {
        let texts = self.texts.as_ref();
        texts.is_none_or(|texts| texts.get(column).copied().unwrap_or(true))
    }

    /// Whether none is.
    pub(super) fn are_others(&self) -> bool {
        let texts = self.texts.as_ref();
        texts.is_some_and(|texts| !texts.contains(&true))
    }
}

fn texts(body: &[u8]) -> Result<Arc<[bool]>, wire::Error> {
    let mut body = Body::new(body);
    let count = body.i16("number of columns")?;
    let mut texts = Vec::new();
    for _ in 0..count {
        body.string("column name")?;
        body.i32("table")?;
        body.i16("number in the table")?;
        let kind = body.i32("type")?;
        body.i16("size of the type")?;
        body.i32("modifier of the type")?;
        body.i16("format")?;
        texts.push(!OTHERS.contains(&kind));
    }
    Ok(texts.into())
}

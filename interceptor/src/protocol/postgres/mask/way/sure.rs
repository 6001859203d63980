//! Conditions that fail for no row: columns compared with constants, joined by `AND`, `OR` and `NOT`.
//!
//! Where rows come in a hidden order, the first for which something fails, and how, would tell of it.

use std::collections::BTreeSet;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{AExpr, AExprKind, ColumnRef, Node};

use super::super::last;

/// The first number of an object that users make (`access/transam.h`).
const FIRST_OF_USERS: u32 = 16_384;
/// `numeric`, of which a value may be too large for what it is compared with.
const NUMERIC: u32 = 1_700;
/// `numeric`, and what is always one: `int8`, `int2`, `int4`.
const EXACT: [u32; 4] = [20, 21, 23, NUMERIC];
/// `name`, `text`, `bpchar`, `varchar`.
const TEXTS: [u32; 4] = [19, 25, 1_042, 1_043];
/// Functions of a text that fail for none.
const ON_TEXTS: [&str; 6] = ["lower", "upper", "btrim", "ltrim", "rtrim", "length"];
/// Shapes: an area may be too large.
const SHAPES: [u32; 7] = [600, 601, 602, 603, 604, 628, 718];

/// The types that a column of a name may have; none where that is another's, and not looked at by itself.
pub(in super::super) struct Column(pub(in super::super) BTreeSet<u32>);

/// What each column that is named is; `None` where that is not known.
pub(in super::super) type Columns<'c> = dyn Fn(&[&str]) -> Option<Column> + 'c;

/// What may fail in conditions after all, alike for each row for which it does.
#[derive(Default)]
pub(in super::super) struct Sure {
    /// How many places may.
    places: usize,
    /// Whether two columns may have no common collation.
    collates: bool,
}

impl Sure {
    /// Whether nothing may.
    pub(in super::super) fn is_certain(&self) -> bool {
        self.places == 0 && !self.collates
    }

    /// Whether at most one may, so that it does not matter for which row it does.
    pub(in super::super) fn is_alike(&self) -> bool {
        self.places.saturating_add(usize::from(self.collates)) <= 1
    }

    /// Whether a condition fails for no row, but for what is counted here.
    pub(in super::super) fn holds(&mut self, condition: &Node, columns: &Columns<'_>) -> bool {
        match &condition.node {
            Some(Kind::BoolExpr(joined)) => joined.args.iter().all(|one| self.holds(one, columns)),
            Some(Kind::NullTest(test)) => test
                .arg
                .as_deref()
                .is_some_and(|of| self.is_side(of, columns)),
            Some(Kind::BooleanTest(test)) => test
                .arg
                .as_deref()
                .is_some_and(|of| self.holds(of, columns)),
            Some(Kind::AExpr(compared)) => self.compares(compared, columns),
            _ => self.is_side(condition, columns),
        }
    }

    fn compares(&mut self, compared: &AExpr, columns: &Columns<'_>) -> bool {
        let operator = match compared.name.as_slice() {
            [name] => last(std::slice::from_ref(name)),
            _ => None,
        };
        let kind = AExprKind::try_from(compared.kind);
        let (Some(left), Some(right)) = (compared.lexpr.as_deref(), compared.rexpr.as_deref())
        else {
            return false;
        };
        let is = |names: &[&str]| operator.is_some_and(|name| names.contains(&name));
        let is_known = match kind {
            Ok(AExprKind::AexprOp | AExprKind::AexprIn) => is(&["=", "<>", "<", ">", "<=", ">="]),
            Ok(AExprKind::AexprOpAny | AExprKind::AexprOpAll) => {
                is(&["=", "<>"]) && matches!(right.node, Some(Kind::ParamRef(_)))
            }
            // A pattern may end in what it escapes with.
            Ok(AExprKind::AexprLike | AExprKind::AexprIlike) => {
                self.places = self.places.saturating_add(1);
                is(&["~~", "!~~", "~~*", "!~~*"])
            }
            Ok(
                AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct
                | AExprKind::AexprBetween
                | AExprKind::AexprNotBetween,
            ) => true,
            _ => false,
        };
        let listed = matches!(
            kind,
            Ok(AExprKind::AexprIn | AExprKind::AexprBetween | AExprKind::AexprNotBetween)
        );
        let mut sides = vec![left];
        match &right.node {
            Some(Kind::List(list)) if listed => sides.extend(&list.items),
            _ if listed => return false,
            _ => sides.push(right),
        }
        is_known
            && self.agree(&sides, columns)
            && sides.iter().all(|side| self.is_side(side, columns))
    }

    /// Whether values are compared as what they are, whatever they are.
    fn agree(&mut self, sides: &[&Node], columns: &Columns<'_>) -> bool {
        let named = sides.iter().filter_map(|side| match &side.node {
            Some(Kind::ColumnRef(column)) => Some(named(column)),
            _ => None,
        });
        let named: Vec<_> = named.collect();
        let types: Option<Vec<Column>> =
            named.iter().map(|words| columns(words.as_ref()?)).collect();
        let Some(types) = types else {
            return false;
        };
        self.collates |= types.len() > 1;
        let has_numeric = types.iter().any(|one| one.0.contains(&NUMERIC));
        let is_exact =
            |one: &Column| !one.0.is_empty() && one.0.iter().all(|of| EXACT.contains(of));
        let is_written =
            |side: &&Node| matches!(side.node, Some(Kind::AConst(_) | Kind::ColumnRef(_)));
        !has_numeric
            || sides.iter().all(is_written) && (types.len() == 1 || types.iter().all(is_exact))
    }

    /// A column of a type of the server's own, a constant or a parameter. What a cast of a text does not take is told
    /// before any row is looked at, where its type is the server's own.
    pub(in super::super) fn is_side(&mut self, side: &Node, columns: &Columns<'_>) -> bool {
        match &side.node {
            Some(Kind::AConst(_) | Kind::ParamRef(_) | Kind::SqlvalueFunction(_)) => true,
            Some(Kind::ColumnRef(column)) => named(column)
                .and_then(|words| columns(&words))
                .is_some_and(|column| {
                    let mut types = column.0.iter();
                    types.all(|of| *of < FIRST_OF_USERS && !SHAPES.contains(of))
                }),
            Some(Kind::FuncCall(call)) => {
                let name = match call.funcname.as_slice() {
                    [name] => last(std::slice::from_ref(name)),
                    _ => None,
                };
                let is_plain = call.over.is_none()
                    && call.agg_filter.is_none()
                    && call.agg_order.is_empty()
                    && !(call.agg_distinct || call.func_variadic);
                let is_text = |column: &ColumnRef| {
                    let column = named(column).and_then(|words| columns(&words));
                    column.is_some_and(|column| {
                        !column.0.is_empty() && column.0.iter().all(|of| TEXTS.contains(of))
                    })
                };
                is_plain
                    && name.is_some_and(|name| ON_TEXTS.contains(&name))
                    && call.args.len() == 1
                    && call.args.iter().all(|of| match &of.node {
                        Some(Kind::ColumnRef(column)) => is_text(column),
                        Some(Kind::AConst(_) | Kind::ParamRef(_)) => true,
                        _ => false,
                    })
            }
            Some(Kind::TypeCast(cast)) => {
                let of = cast.arg.as_deref().and_then(|of| of.node.as_ref());
                let names = cast
                    .type_name
                    .as_ref()
                    .map(|name| (name.names.as_slice(), name.setof));
                let is_text = match of {
                    Some(Kind::AConst(constant)) => matches!(
                        constant.val,
                        Some(pg_query::protobuf::a_const::Val::Sval(_))
                    ),
                    _ => false,
                };
                let is_builtin = match names {
                    Some(([schema, _], false)) => {
                        last(std::slice::from_ref(schema)) == Some("pg_catalog")
                    }
                    _ => false,
                };
                let is_constant = is_text || matches!(of, Some(Kind::ParamRef(_)));
                if !(is_text && is_builtin) {
                    self.places = self.places.saturating_add(1);
                }
                is_constant && names.is_some_and(|(_, is_set)| !is_set)
            }
            _ => false,
        }
    }
}

/// The words of a column's name, where each is one.
pub(in super::super) fn named(column: &ColumnRef) -> Option<Vec<&str>> {
    let words = column.fields.iter();
    words
        .map(|field| last(std::slice::from_ref(field)))
        .collect()
}

//! What stands behind `FROM`: tables, queries, functions, and their joins.

use super::{Columns, Grammar, Ty, under};
use crate::canary::words::{RELATIONS, TYPES};

impl Grammar {
    /// One to three sources of rows; what they offer is in scope.
    pub(super) fn from(&mut self, depth: usize) -> String {
        let (mut from, mut scope) = self.source(depth);
        for _ in 0..self.random.weighed(&[(60, 0), (30, 1), (10, 2)]) {
            let lateral = self.random.percent(15);
            if lateral {
                self.scope.clone_from(&scope);
            }
            let (other, more) = match lateral {
                true => self.lateral(),
                false => self.source(depth),
            };
            let (left, right) = (scope.clone(), more.clone());
            scope.extend(more);
            let join = match self.random.below(8) {
                0 => format!("{from}, {other}"),
                1 => format!("{from} CROSS JOIN {other}"),
                2 => format!("{from} LEFT JOIN {other} ON {}", self.joins(&left, &right)),
                3 if !lateral => {
                    format!("{from} FULL JOIN {other} ON {}", self.equal(&left, &right))
                }
                _ => format!("{from} JOIN {other} ON {}", self.joins(&left, &right)),
            };
            from = join;
        }
        self.scope = scope;
        from
    }

    fn joins(&mut self, left: &Columns, right: &Columns) -> String {
        match self.random.percent(70) {
            true => self.equal(left, right),
            false => {
                self.scope = [left.as_slice(), right.as_slice()].concat();
                self.value(Ty::Bool, 1)
            }
        }
    }

    fn equal(&mut self, left: &Columns, right: &Columns) -> String {
        let sortable = |ty: Ty| !matches!(ty, Ty::Page | Ty::Spot);
        let pairs: Vec<_> = left
            .iter()
            .flat_map(|one| right.iter().map(move |other| (one, other)))
            .filter(|(one, other)| one.1 == other.1 && sortable(one.1))
            .collect();
        match pairs.is_empty() {
            true => "true".to_owned(),
            false => {
                let (one, other) = self.random.pick(&pairs);
                format!("{} = {}", one.0, other.0)
            }
        }
    }

    fn source(&mut self, depth: usize) -> (String, Columns) {
        if depth > 0 && self.random.percent(18) {
            let count = self.random.below(3) + 1;
            let wanted: Vec<Ty> = (0..count).map(|_| self.random.pick(&TYPES).0).collect();
            let (query, columns) = self.any_query(&wanted, depth - 1);
            let alias = self.name();
            return (format!("({query}) AS {alias}"), under(&alias, columns));
        }
        if self.random.percent(4) {
            let alias = self.name();
            let columns = vec![(alias.clone(), Ty::Int)];
            return (format!("generate_series(1, 3) AS {alias}"), columns);
        }
        let (table, columns) = self.random.weighed(RELATIONS);
        let columns: Columns = columns
            .iter()
            .map(|(name, ty)| ((*name).to_owned(), *ty))
            .collect();
        let written = match self.random.below(14) {
            0 => format!("public.{table}"),
            1 => format!("ONLY {table}"),
            2 => format!("\"{table}\""),
            _ => table.to_owned(),
        };
        let alias = self.name();
        if self.random.percent(8) {
            // Other names for the first columns.
            let named: Vec<String> = columns.iter().take(3).map(|_| self.name()).collect();
            let renamed = named
                .iter()
                .cloned()
                .zip(columns.iter().map(|column| column.1));
            let rest = columns.iter().skip(3).cloned();
            let all = renamed.chain(rest).collect();
            return (
                format!("{written} AS {alias}({})", named.join(", ")),
                under(&alias, all),
            );
        }
        let sample = match (self.random.percent(3), table.starts_with("v_")) {
            (true, false) => " TABLESAMPLE bernoulli (100)",
            _ => "",
        };
        (
            format!("{written} AS {alias}{sample}"),
            under(&alias, columns),
        )
    }

    fn lateral(&mut self) -> (String, Columns) {
        let alias = self.name();
        let (text, columns): (String, &[(&str, Ty)]) = match self.random.below(5) {
            0 => (
                format!("jsonb_each_text({})", self.value(Ty::Json, 1)),
                &[("key", Ty::Text), ("value", Ty::Text)],
            ),
            1 => {
                let text = self.value(Ty::Texts, 1);
                return (
                    format!("unnest({text}) AS {alias}"),
                    vec![(alias, Ty::Text)],
                );
            }
            2 => {
                let text = self.value(Ty::Text, 1);
                return (
                    format!("regexp_split_to_table({text}, '[0-9]') AS {alias}"),
                    vec![(alias, Ty::Text)],
                );
            }
            3 => (
                format!(
                    "LATERAL (SELECT {} AS x, {} AS y)",
                    self.value(Ty::Text, 1),
                    self.value(Ty::Num, 1)
                ),
                &[("x", Ty::Text), ("y", Ty::Num)],
            ),
            _ => (
                format!("LATERAL (VALUES ({}), ('z'))", self.value(Ty::Text, 1)),
                &[("column1", Ty::Text)],
            ),
        };
        let columns = columns.iter().map(|(name, ty)| ((*name).to_owned(), *ty));
        (
            format!("{text} AS {alias}"),
            under(&alias, columns.collect()),
        )
    }
}

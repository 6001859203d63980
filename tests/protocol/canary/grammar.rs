//! Statements from a grammar: most are right and are answered, all are about the schema of the canary.

mod sources;
mod statements;

use super::random::Random;
use super::words::{CLOSED, FAILING, FORBIDDEN, FORMS, RELATIONS, TYPES, Ty};

/// What can be named where.
type Columns = Vec<(String, Ty)>;

/// Statements that belong together, each a message of its own.
pub(super) type Script = Vec<String>;

/// Makes statements.
#[derive(Debug)]
pub(super) struct Grammar {
    pub(super) random: Random,
    /// What literals of text are, beside others.
    guesses: Vec<String>,
    scope: Columns,
    named: usize,
}

impl Grammar {
    /// `guesses` are values that whoever asks hopes to find.
    pub(super) fn new(seed: u64, guesses: Vec<String>) -> Self {
        Self {
            random: Random::new(seed),
            guesses,
            scope: Columns::new(),
            named: 0,
        }
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("n{}", self.named)
    }

    /// The next script.
    pub(super) fn script(&mut self) -> Script {
        self.scope.clear();
        self.named = 0;
        let kind = self.random.weighed(&[
            (52, Self::plain as fn(&mut Self) -> Script),
            (6, Self::rows),
            (4, Self::failing),
            (3, Self::forbidden),
            (4, Self::closed),
            (4, Self::explain),
            (4, Self::copy),
            (4, Self::cursor),
            (4, Self::prepared),
            (10, Self::write),
            (5, Self::temporary),
            (3, Self::odd),
            (2, Self::several),
        ]);
        kind(self)
    }

    fn plain(&mut self) -> Script {
        vec![self.query(2)]
    }

    /// A query with whatever can stand around a select list.
    pub(super) fn query(&mut self, depth: usize) -> String {
        let count = self.random.below(4) + 1;
        let wanted: Vec<Ty> = (0..count).map(|_| self.random.pick(&TYPES).0).collect();
        let (query, _) = self.any_query(&wanted, depth);
        query
    }

    /// A query that gives these types, and the names of its columns.
    fn any_query(&mut self, wanted: &[Ty], depth: usize) -> (String, Columns) {
        let outer = std::mem::take(&mut self.scope);
        let kind = self.random.weighed(&[
            (60, 0),
            (if depth > 0 { 10 } else { 0 }, 1),
            (if depth > 0 { 10 } else { 0 }, 2),
            (14, 3),
            (if depth > 0 { 3 } else { 0 }, 4),
            (2, 5),
        ]);
        let made = match kind {
            1 => self.set_operation(wanted, depth),
            2 => self.with(wanted, depth),
            3 => self.grouped(wanted),
            4 => self.recursive(wanted),
            5 => self.values(wanted),
            _ => self.select(wanted, depth),
        };
        self.scope = outer;
        made
    }

    fn select(&mut self, wanted: &[Ty], depth: usize) -> (String, Columns) {
        let from = self.from(depth);
        let (list, columns) = self.list(wanted);
        let distinct = match self.random.below(12) {
            0 => "DISTINCT ".to_owned(),
            1 => format!("DISTINCT ON (({})::text) ", self.any_value(1)),
            _ => String::new(),
        };
        let mut query = format!("SELECT {distinct}{list} FROM {from}");
        if self.random.percent(35) {
            query.push_str(&format!(" WHERE {}", self.value(Ty::Bool, 2)));
        }
        if distinct.is_empty() && self.random.percent(30) {
            query.push_str(&format!(" ORDER BY ({})::text", self.any_value(1)));
            let order: &&str = self.random.pick(&["", "", " DESC", " NULLS FIRST"]);
            query.push_str(order);
        }
        if self.random.percent(20) {
            query.push_str(&format!(" LIMIT {}", self.random.below(9) + 1));
        }
        if self.random.percent(5) {
            query.push_str(" OFFSET 2");
        }
        (query, columns)
    }

    fn list(&mut self, wanted: &[Ty]) -> (String, Columns) {
        let mut list = Vec::new();
        let mut columns = Columns::new();
        for ty in wanted {
            let (value, name) = (self.value(*ty, 2), self.name());
            list.push(format!("{value} AS {name}"));
            columns.push((name, *ty));
        }
        (list.join(", "), columns)
    }

    fn set_operation(&mut self, wanted: &[Ty], depth: usize) -> (String, Columns) {
        let (one, columns) = self.any_query(wanted, depth - 1);
        let (other, _) = self.any_query(wanted, depth - 1);
        let sorts = !wanted.iter().any(|ty| matches!(ty, Ty::Page | Ty::Spot));
        let by = match sorts {
            true => *self
                .random
                .pick(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL"]),
            false => "UNION ALL",
        };
        let order = match sorts && self.random.percent(40) {
            true => " ORDER BY 1",
            false => "",
        };
        (format!("({one}) {by} ({other}){order}"), columns)
    }

    fn with(&mut self, wanted: &[Ty], depth: usize) -> (String, Columns) {
        let inner: Vec<Ty> = wanted.iter().copied().chain([Ty::Text, Ty::Int]).collect();
        let (query, columns) = self.any_query(&inner, depth - 1);
        // Of a name that a table has, too.
        let name = *self.random.pick(&["c", "c", "c", "orders", "person"]);
        let how = *self
            .random
            .pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
        let alias = self.name();
        self.scope = under(&alias, columns);
        let (list, columns) = self.list(wanted);
        let filter = match self.random.percent(40) {
            true => format!(" WHERE {}", self.value(Ty::Bool, 1)),
            false => String::new(),
        };
        (
            format!("WITH {name} AS {how}({query}) SELECT {list} FROM {name} AS {alias}{filter}"),
            columns,
        )
    }

    fn recursive(&mut self, wanted: &[Ty]) -> (String, Columns) {
        self.scope = under("p", columns_of("person"));
        let first = self.value(Ty::Text, 1);
        let next = self.value(Ty::Text, 1);
        self.scope = vec![("c.n".to_owned(), Ty::Int), ("c.t".to_owned(), Ty::Text)];
        let (list, columns) = self.list(wanted);
        let query = format!(
            "WITH RECURSIVE c(n, t) AS (SELECT 1, {first} FROM person AS p WHERE p.id = 1 UNION ALL \
             SELECT c.n + 1, {next} FROM c JOIN person AS p ON p.id = c.n + 1 WHERE c.n < 4) SELECT {list} FROM c"
        );
        (query, columns)
    }

    fn values(&mut self, wanted: &[Ty]) -> (String, Columns) {
        let mut row = Vec::new();
        let mut columns = Columns::new();
        for (at, ty) in (1..).zip(wanted) {
            let (inner, _) = self.any_query(&[*ty], 0);
            row.push(format!("(SELECT * FROM ({inner}) AS s LIMIT 1)"));
            columns.push((format!("column{at}"), *ty));
        }
        (format!("VALUES ({})", row.join(", ")), columns)
    }

    /// Groups, sets of them, aggregates, ordered sets, `HAVING`.
    fn grouped(&mut self, wanted: &[Ty]) -> (String, Columns) {
        let from = self.from(0);
        let scope = self.scope.clone();
        // A constant would be no key.
        let key = format!("({} || '')", self.value(Ty::Text, 1));
        let number = format!("({} + 0)", self.column(Ty::Int));
        let mut list = Vec::new();
        let mut columns = Columns::new();
        let is_key = self.random.percent(40);
        for ty in wanted {
            let value = match *ty == Ty::Text && is_key {
                true => key.clone(),
                false => self.aggregate(*ty),
            };
            let name = self.name();
            list.push(format!("{value} AS {name}"));
            columns.push((name, *ty));
        }
        self.scope = scope;
        let filter = match self.random.percent(30) {
            true => format!(" WHERE {}", self.value(Ty::Bool, 1)),
            false => String::new(),
        };
        let group = match self.random.below(6) {
            0 if !is_key => String::new(),
            1 => format!(" GROUP BY ROLLUP ({key}, {number})"),
            2 => format!(" GROUP BY GROUPING SETS (({key}), ({number}), ())"),
            3 => format!(" GROUP BY CUBE ({key}, {number})"),
            _ => format!(" GROUP BY {key}"),
        };
        let having = match self.random.percent(20) {
            true => format!(" HAVING {}", self.aggregate(Ty::Bool)),
            false => String::new(),
        };
        let list = list.join(", ");
        (
            format!("SELECT {list} FROM {from}{filter}{group}{having}"),
            columns,
        )
    }

    fn aggregate(&mut self, ty: Ty) -> String {
        let forms = aggregates(ty);
        let form = match forms.is_empty() {
            true => {
                let (_, hole, _) = TYPES.iter().find(|(of, ..)| *of == ty).unwrap();
                format!("(array_agg({{{hole}}}))[1]")
            }
            false => (*self.random.pick(forms)).to_owned(),
        };
        // No window inside of an aggregate.
        self.fill(&form, 0)
    }

    fn any_value(&mut self, depth: usize) -> String {
        let ty = *self
            .random
            .pick(&[Ty::Text, Ty::Int, Ty::Num, Ty::Date, Ty::Big, Ty::Uuid]);
        self.value(ty, depth)
    }

    /// A value of a type: a column, a constant, or one made of others.
    pub(super) fn value(&mut self, ty: Ty, depth: usize) -> String {
        if depth == 0 || self.random.percent(40) {
            return self.column(ty);
        }
        let forms = FORMS.iter().find(|(of, _)| *of == ty).unwrap().1;
        let form = *self.random.pick(forms);
        match form.contains(" OVER ") && depth < 2 {
            true => self.column(ty),
            false => format!("({})", self.fill(form, depth - 1)),
        }
    }

    /// A template with its holes filled.
    pub(super) fn fill(&mut self, form: &str, depth: usize) -> String {
        let mut out = String::new();
        let mut rest = form;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            let end = rest[at..].find('}').unwrap() + at;
            let hole = &rest[at + 1..end];
            let ty = TYPES.iter().find(|(_, name, _)| *name == hole);
            match (hole, ty) {
                ("small", _) => out.push_str(&(self.random.below(9) + 1).to_string()),
                (_, Some((ty, ..))) => out.push_str(&self.value(*ty, depth)),
                // A brace of the SQL.
                (_, None) => out.push_str(&rest[at..=end]),
            }
            rest = &rest[end + 1..];
        }
        out + rest
    }

    fn column(&mut self, ty: Ty) -> String {
        let fitting: Vec<usize> = (0..self.scope.len())
            .filter(|at| self.scope[*at].1 == ty)
            .collect();
        if !fitting.is_empty() && self.random.percent(88) {
            let at = *self.random.pick(&fitting);
            return self.scope[at].0.clone();
        }
        self.constant(ty)
    }

    fn constant(&mut self, ty: Ty) -> String {
        let known: &[&str] = match ty {
            Ty::Text => &[
                "'a'",
                "'n3'",
                "''",
                "'K2'",
                "'%'",
                "'c1'::text",
                "NULL::text",
            ],
            Ty::Int => &["0", "1", "7", "NULL::int", "-3"],
            Ty::Big => &["0::bigint", "123456789::bigint"],
            Ty::Num => &["0.5", "1::numeric", "100.25"],
            Ty::Float => &["0.5::float8", "2e3::float8"],
            Ty::Bool => &["true", "false"],
            Ty::Date => &["date '2024-01-03'", "date '2150-06-01'"],
            Ty::Stamp => &["timestamp '2024-01-03 04:05'"],
            Ty::Zoned => &["timestamptz '2024-01-03 04:05+00'"],
            Ty::Uuid => &["'00000000-0000-4000-8000-000000000001'::uuid"],
            Ty::Bytes => &["'\\x0102'::bytea", "''::bytea"],
            Ty::Json => &["'{\"a\": 1}'::jsonb", "'[]'::jsonb"],
            Ty::Texts => &["ARRAY['a', 'b']", "'{}'::text[]"],
            Ty::Span => &["int8range(1, 5)"],
            Ty::Days => &["daterange('2024-01-01', '2024-02-01')"],
            Ty::Ip => &["inet '10.0.0.1'"],
            Ty::Page => &["'<a>b</a>'::xml"],
            Ty::Address => &["ROW('s', 1)::address"],
            Ty::Mood => &["'sad'::mood"],
            Ty::Words => &["'a:1'::tsvector"],
            Ty::Spot => &["point(1, 2)"],
        };
        if ty == Ty::Text && !self.guesses.is_empty() && self.random.percent(50) {
            let guess = self.random.pick(&self.guesses);
            return format!("'{guess}'");
        }
        (*self.random.pick(known)).to_owned()
    }
}

fn under(alias: &str, columns: Columns) -> Columns {
    let named = columns.into_iter();
    named
        .map(|(name, ty)| (format!("{alias}.{name}"), ty))
        .collect()
}

fn columns_of(table: &str) -> Columns {
    let (_, (_, columns)) = RELATIONS
        .iter()
        .find(|(_, (name, _))| *name == table)
        .unwrap();
    columns
        .iter()
        .map(|(name, ty)| ((*name).to_owned(), *ty))
        .collect()
}

/// Aggregates that give a type.
fn aggregates(ty: Ty) -> &'static [&'static str] {
    match ty {
        Ty::Text => &[
            "max({text})",
            "min({text})",
            "string_agg({text}, ',')",
            "string_agg({text}, ',' ORDER BY {int})",
            "string_agg(DISTINCT {text}, ';')",
            "array_agg({text})::text",
            "json_agg({text})::text",
            "mode() WITHIN GROUP (ORDER BY {text})",
            "percentile_disc(0.5) WITHIN GROUP (ORDER BY {text})",
            "max({text}) FILTER (WHERE {bool})",
            "min({date}::text)",
            "xmlagg({page})::text",
            "json_object_agg({int}, {text})::text",
        ],
        Ty::Int => &[
            "max({int})",
            "min({int})",
            "count({text})::int",
            "count(DISTINCT {text})::int",
            "bit_xor({int})",
            "count(*) FILTER (WHERE {bool})::int",
        ],
        Ty::Big => &[
            "count(*)",
            "max({big})",
            "sum({int})",
            "count(*) FILTER (WHERE {bool})",
        ],
        Ty::Num => &[
            "sum({num})",
            "avg({num})",
            "max({num})",
            "stddev({num})",
            "avg({int})",
            "sum({big})",
        ],
        Ty::Float => &[
            "avg({float})",
            "corr({float}, {float})",
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY {float})",
        ],
        Ty::Bool => &[
            "bool_or({bool})",
            "every({bool})",
            "count(*) > 1",
            "max({text}) > 'K'",
        ],
        Ty::Json => &[
            "jsonb_agg({text})",
            "jsonb_object_agg({int}, {text})",
            "jsonb_agg({json})",
            "to_jsonb(array_agg({uuid}))",
        ],
        Ty::Texts => &[
            "array_agg({text})",
            "array_agg({text} ORDER BY {text} DESC)",
            "array_agg(DISTINCT {text})",
        ],
        Ty::Date => &["max({date})", "min({date})"],
        Ty::Stamp => &["max({stamp})"],
        Ty::Zoned => &["min({zoned})"],
        _ => &[],
    }
}

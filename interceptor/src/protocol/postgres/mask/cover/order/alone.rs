//! Views of which an index may be enough, so that their rows come in its order: the server puts a view's query in
//! its place, and reads no column that nobody asks for.
//!
//! By the text of the query, as the server writes it. What it certainly evaluates of a table is what its conditions
//! name, and what it selects of that which is asked of the view. A table that an outer join adds may be left out, and
//! what that join asks of the others with it; and so may tests for null. What is counted or summed up has no order;
//! what a condition looks for may, as the server may begin there.

pub(super) mod tree;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use pg_query::protobuf::{JoinType, SetOperation, SubLinkType};
use serde_json::Value;

use self::tree::{Referred, called, items, kind, part, referred, string, sublinks, word};
use super::Held;
use crate::protocol::postgres::facts::functions::{is_aggregate, is_builtin};
use crate::protocol::postgres::mask::schema::{Schema, Table};

/// How deep queries lie in queries at most.
pub(super) const DEPTH_MAX: usize = 64;
/// How much is looked at for one view at most, and for all of them. What takes more is taken for one that has an order.
const STEPS_MAX: usize = 4_000_000;
const STEPS_OF_ALL_MAX: usize = 10 * STEPS_MAX;

/// Columns of the system (`catalog/heap.c`).
pub(in super::super::super) const SYSTEM: [&str; 6] =
    ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// The columns of a query that are asked for, by their places.
pub(super) type Asked = BTreeSet<usize>;

/// What is known of views.
pub(super) struct Views<'a> {
    pub(super) schema: &'a Schema,
    /// What indexes with masked columns hold, by table.
    pub(super) held: &'a HashMap<u32, Held<'a>>,
    /// Tables of which the rows lie in the order of what is masked.
    pub(super) laid: &'a HashSet<u32>,
    /// The columns by which rows of others are found in it, by table.
    pub(super) by: &'a HashMap<u32, BTreeSet<&'a str>>,
    /// The queries of views, read; those first that were there first.
    pub(super) queries: BTreeMap<u32, Value>,
    /// Views that were looked at, and whether their rows, or some below, lie in such an order.
    pub(super) lying: RefCell<HashMap<u32, bool>>,
    /// Views, and whether their own query has the same rows in whichever order they come.
    pub(super) bags: RefCell<HashMap<u32, bool>>,
    /// Views for which no index is enough, each with what is asked of it.
    read: RefCell<HashSet<(u32, Asked)>>,
    /// The steps that are left, for the view that is looked at and for all.
    left: Cell<(usize, usize)>,
}

/// Queries by the names that `WITH` gives them.
type Named<'q> = HashMap<&'q str, &'q Value>;

/// One thing in a `FROM`.
struct Source<'q> {
    label: &'q str,
    /// What it calls its columns instead, from the first on.
    renames: Vec<&'q str>,
    of: Of<'q>,
}

enum Of<'q> {
    Relation(&'q Table),
    Query(&'q Value),
    /// A query by the name that it has there.
    Named(&'q str, &'q Value),
    /// What has no order of an index.
    Other,
}

/// What is evaluated, and of which sources, by their places.
struct Part<'q> {
    what: What<'q>,
    of: Range<usize>,
}

#[derive(Clone, Copy)]
enum What<'q> {
    Tree(&'q Value),
    /// A column of each that has one of this name.
    Name(&'q str),
}

/// What is evaluated of the columns of one source.
#[derive(Default)]
struct Used<'q> {
    names: HashSet<&'q str>,
    all: bool,
}

impl<'a> Views<'a> {
    pub(super) fn new(
        schema: &'a Schema,
        held: &'a HashMap<u32, Held<'a>>,
        (laid, by): (&'a HashSet<u32>, &'a HashMap<u32, BTreeSet<&'a str>>),
    ) -> Self {
        let mut above: HashSet<u32> = held.keys().chain(laid).copied().collect();
        let mut queries = BTreeMap::new();
        loop {
            let is_new = |table: &&Table| table.is_view() && !queries.contains_key(&table.oid);
            let views = schema.tables.values().filter(is_new);
            let views =
                views.filter(|view| view.depends.iter().any(|(oid, _)| above.contains(oid)));
            let views: Vec<&Table> = views.collect();
            if views.is_empty() {
                return Self {
                    schema,
                    held,
                    laid,
                    by,
                    queries,
                    lying: RefCell::default(),
                    bags: RefCell::default(),
                    read: RefCell::default(),
                    left: Cell::new((STEPS_MAX, STEPS_OF_ALL_MAX)),
                };
            }
            for view in views {
                above.insert(view.oid);
                queries.insert(view.oid, query(view).unwrap_or_default());
            }
        }
    }

    /// The views below which an index holds something masked.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Table> + '_ {
        let views = self.queries.keys();
        views.filter_map(|oid| self.schema.tables.get(oid))
    }

    /// Begins with another view.
    pub(super) fn begin(&self) {
        self.left.set((STEPS_MAX, self.left.get().1));
    }

    /// Whether there are steps left after so many.
    fn step(&self, steps: usize) -> bool {
        let (of_one, of_all) = self.left.get();
        let left = (of_one.saturating_sub(steps), of_all.saturating_sub(steps));
        self.left.set(left);
        left.0 > 0 && left.1 > 0
    }

    /// Whether no index was enough for what fills a materialized view.
    pub(super) fn is_filled_plainly(&self, view: &Table) -> bool {
        let query = self.queries.get(&view.oid);
        query.is_none_or(|query| self.query(query, &Named::new(), (None, 0)))
    }

    /// Whether no index is enough for a view of which this is asked.
    pub(super) fn is_read(&self, view: &Table, asked: &Asked) -> bool {
        self.view(view, asked, 0)
    }

    fn view(&self, view: &Table, asked: &Asked, depth: usize) -> bool {
        let Some(query) = self.queries.get(&view.oid) else {
            return true;
        };
        let key = (view.oid, asked.clone());
        if self.read.borrow().contains(&key) {
            return true;
        }
        let is_read = self.query(query, &Named::new(), (Some(asked), depth));
        // Where one is not, nothing above it is looked at further.
        if is_read {
            self.read.borrow_mut().insert(key);
        }
        is_read
    }

    /// The same of a query; `None` asks for all that it selects.
    fn query(
        &self,
        query: &Value,
        outer: &Named<'_>,
        (asked, depth): (Option<&Asked>, usize),
    ) -> bool {
        let depth = depth.saturating_add(1);
        if depth > DEPTH_MAX || !query.is_object() || !self.step(1) {
            return false;
        }
        let named = named(query, outer);
        if let (Some(left), Some(right)) = (part(query, "larg"), part(query, "rarg")) {
            let mut sides = [left, right].into_iter();
            // Others compare the rows, or sort them.
            return !is_plain_union(query)
                || sides.all(|side| self.query(side, &named, (asked, depth)));
        }
        if is_gathered(query) {
            return true;
        }
        let Some((sources, mut parts)) = self.sources(query, &named) else {
            return false;
        };
        let fields = [
            "where_clause",
            "group_clause",
            "having_clause",
            "window_clause",
            "distinct_clause",
        ];
        let targets = items(query, "target_list").iter().enumerate();
        let targets = targets.filter(|(place, _)| asked.is_none_or(|asked| asked.contains(place)));
        let trees = fields.into_iter().filter_map(|field| query.get(field));
        let trees = trees.chain(targets.map(|(_, target)| target));
        parts.extend(trees.map(|tree| Part {
            what: What::Tree(tree),
            of: 0..sources.len(),
        }));
        let (used, steps) = uses(&sources, &parts);
        if !self.step(steps) {
            return false;
        }
        let below = sources
            .iter()
            .zip(&used)
            .all(|(source, used)| self.source(source, used, (&named, depth)));
        below && self.inner(query, (&named, depth))
    }

    fn source(
        &self,
        source: &Source<'_>,
        used: &Used<'_>,
        (named, depth): (&Named<'_>, usize),
    ) -> bool {
        match source.of {
            Of::Other => true,
            Of::Relation(view) if view.kind == b'v' => {
                let names = view.columns.iter().map(|column| column.name.as_str());
                self.view(view, &places(names, source, used), depth)
            }
            Of::Relation(table) if self.is_laid(table) => false,
            Of::Relation(table) => {
                let held = self.held.get(&table.oid);
                let names = table.columns.iter().map(|column| column.name.as_str());
                let names: Vec<&str> = names.collect();
                let asked = places(names.iter().copied(), source, used);
                let asked = asked.iter().filter_map(|place| names.get(*place));
                // In no index.
                let is_system = SYSTEM.iter().any(|name| used.names.contains(name));
                let is_beside =
                    |held: &BTreeSet<&str>| asked.clone().any(|name| !held.contains(name));
                is_system || held.is_none_or(|held| held.iter().all(is_beside))
            }
            Of::Query(query) => {
                let asked = places(outputs(query).into_iter(), source, used);
                self.query(query, named, (Some(&asked), depth))
            }
            Of::Named(name, query) => {
                let asked = places(outputs(query).into_iter(), source, used);
                let mut others = named.clone();
                // Where it names itself, it is what this asks about.
                others.remove(name);
                self.query(query, &others, (Some(&asked), depth))
            }
        }
    }

    /// Whether the queries in expressions of a query, of which the order of rows counts, are so, too. What a condition
    /// looks for may be joined.
    fn inner(&self, query: &Value, within: (&Named<'_>, usize)) -> bool {
        let fields = query.as_object().into_iter().flatten();
        let mut fields = fields.filter(|(field, _)| *field != "with_clause");
        fields.all(|(field, value)| {
            let is_joined = matches!(field.as_str(), "where_clause" | "from_clause");
            let mut links = Vec::new();
            sublinks(value, &mut links);
            let mut links = links.into_iter();
            links.all(|link| self.link(link, is_joined, within))
        })
    }

    fn link(&self, link: &Value, is_joined: bool, (named, depth): (&Named<'_>, usize)) -> bool {
        let of = link.get("sub_link_type").and_then(Value::as_i64);
        let is = |one: SubLinkType| of == Some(kind(one));
        let Some(query) = link.pointer("/subselect/node/SelectStmt") else {
            return false;
        };
        if is_joined && is(SubLinkType::ExistsSublink) {
            let mut bare = query.clone();
            // The server leaves out what does not say whether there is a row.
            for field in [
                "target_list",
                "group_clause",
                "distinct_clause",
                "window_clause",
            ] {
                if let Some(value) = bare.get_mut(field) {
                    *value = Value::Null;
                }
            }
            return self.query(&bare, named, (Some(&Asked::new()), depth));
        }
        let counts = is_joined && is(SubLinkType::AnySublink)
            || is(SubLinkType::ArraySublink)
            || is(SubLinkType::ExprSublink)
                && (part(query, "limit_count").is_some() || collects(query));
        !counts || self.query(query, named, (None, depth))
    }

    /// What a query reads, and what its joins ask; `None` where that is not plain.
    fn sources<'q>(
        &'q self,
        query: &'q Value,
        named: &Named<'q>,
    ) -> Option<(Vec<Source<'q>>, Vec<Part<'q>>)> {
        let (mut sources, mut parts) = (Vec::new(), Vec::new());
        for item in items(query, "from_clause") {
            self.from(item, named, (&mut sources, &mut parts))?;
        }
        Some((sources, parts))
    }

    fn join<'q>(
        &'q self,
        join: &'q Value,
        named: &Named<'q>,
        (sources, parts): (&mut Vec<Source<'q>>, &mut Vec<Part<'q>>),
    ) -> Option<()> {
        if part(join, "alias").is_some() {
            return None;
        }
        let start = sources.len();
        self.from(join.get("larg")?, named, (sources, parts))?;
        let middle = sources.len();
        self.from(join.get("rarg")?, named, (sources, parts))?;
        let by = join.get("jointype").and_then(Value::as_i64);
        let of = match by {
            _ if by == Some(kind(JoinType::JoinLeft)) => middle..sources.len(),
            _ if by == Some(kind(JoinType::JoinRight)) => start..middle,
            _ => start..sources.len(),
        };
        let names = items(join, "using_clause").iter().filter_map(string);
        let asked = names.map(What::Name);
        let asked = asked.chain(part(join, "quals").map(What::Tree));
        parts.extend(asked.map(|what| Part {
            what,
            of: of.clone(),
        }));
        Some(())
    }

    /// A relation, by the name that the server writes.
    fn relation(&self, named: &Value) -> Of<'_> {
        let (schema, name) = (word(named, "schemaname"), word(named, "relname"));
        let found = schema.zip(name);
        match found.and_then(|(schema, name)| self.schema.find(schema, name)) {
            Some(table) => Of::Relation(table),
            None => Of::Other,
        }
    }

    fn from<'q>(
        &'q self,
        item: &'q Value,
        named: &Named<'q>,
        (sources, parts): (&mut Vec<Source<'q>>, &mut Vec<Part<'q>>),
    ) -> Option<()> {
        let (what, item) = item.get("node")?.as_object()?.iter().next()?;
        if what == "JoinExpr" {
            return self.join(item, named, (sources, parts));
        }
        let alias = part(item, "alias");
        let relname = word(item, "relname");
        let label = alias.and_then(|alias| word(alias, "aliasname"));
        let renames = alias.map(|alias| items(alias, "colnames").iter().filter_map(string));
        let of = match what.as_str() {
            "RangeVar" if word(item, "schemaname").is_some_and(str::is_empty) => {
                match named.get_key_value(relname?) {
                    Some((name, query)) => Of::Named(name, query),
                    None => Of::Other,
                }
            }
            "RangeVar" => self.relation(item),
            "RangeSubselect" => Of::Query(item.pointer("/subquery/node/SelectStmt")?),
            // Read as it lies, and by no index.
            "RangeTableSample" => match self.relation(item.pointer("/relation/node/RangeVar")?) {
                Of::Relation(table) if self.is_laid(table) => Of::Relation(table),
                _ => Of::Other,
            },
            "RangeFunction" | "RangeTableFunc" | "JsonTable" => Of::Other,
            _ => return None,
        };
        sources.push(Source {
            label: label.or(relname).unwrap_or_default(),
            renames: renames.into_iter().flatten().collect(),
            of,
        });
        Some(())
    }
}

/// A view's query.
fn query(view: &Table) -> Option<Value> {
    let parsed = pg_query::parse(&view.definition, pg_query::ParserOptions::DEFAULT).ok()?;
    let mut tree = serde_json::to_value(parsed.protobuf).ok()?;
    Some(tree.pointer_mut("/stmts/0/stmt/node/SelectStmt")?.take())
}

/// The queries that have names in a query.
fn named<'q>(query: &'q Value, outer: &Named<'q>) -> Named<'q> {
    let mut named = outer.clone();
    let with = part(query, "with_clause");
    for one in with.map_or(&[][..], |with| items(with, "ctes")) {
        let one = one.pointer("/node/CommonTableExpr");
        let query = one.and_then(|one| one.pointer("/ctequery/node/SelectStmt"));
        if let (Some(name), Some(query)) = (one.and_then(|one| word(one, "ctename")), query) {
            named.insert(name, query);
        }
    }
    named
}

/// What of each source is evaluated in `parts`, and how many steps that takes.
fn uses<'q>(sources: &[Source<'q>], parts: &[Part<'q>]) -> (Vec<Used<'q>>, usize) {
    // Of a table that is there twice the server may make one, without what joined the two.
    let mut times: HashMap<u32, usize> = HashMap::new();
    for source in sources {
        if let Of::Relation(table) = source.of {
            let times = times.entry(table.oid).or_default();
            *times = times.saturating_add(1);
        }
    }
    let is_twice = |source: &Source<'q>| match source.of {
        Of::Relation(table) => times.get(&table.oid).is_some_and(|times| *times > 1),
        _ => false,
    };
    let mut used: Vec<Used<'q>> = sources.iter().map(|_| Used::default()).collect();
    let mut steps = 0_usize;
    for part in parts {
        let mut found = Referred::default();
        match part.what {
            What::Tree(tree) => referred(tree, &mut HashSet::new(), &mut found),
            What::Name(_) => {}
        }
        let compared = found.columns.len().saturating_add(1);
        let compared = compared.saturating_mul(sources.len());
        steps = steps.saturating_add(found.nodes).saturating_add(compared);
        let all = sources.iter().zip(&mut used).enumerate();
        for (_, (source, used)) in all.filter(|(place, _)| part.of.contains(place)) {
            if is_twice(source) {
                continue;
            }
            if let What::Name(name) = part.what {
                used.names.insert(name);
            }
            for fields in &found.columns {
                used.takes(fields, source, sources.len() == 1);
            }
        }
    }
    (used, steps)
}

impl<'q> Used<'q> {
    /// Takes in a column that is named, where it is one of `source`; a star is no name.
    fn takes(&mut self, fields: &[Option<&'q str>], source: &Source<'_>, is_only: bool) {
        match fields {
            [Some(of), None] if *of == source.label => self.all = true,
            [Some(of), Some(name)] if *of == source.label => {
                self.names.insert(name);
            }
            // A column comes before a row of the same name.
            [Some(name)] if is_only && (*name != source.label || source.has(name)) => {
                self.names.insert(name);
            }
            [Some(name)] if *name == source.label => self.all = true,
            _ => {}
        }
    }
}

impl Source<'_> {
    fn has(&self, name: &str) -> bool {
        let has = |mut names: std::slice::Iter<'_, &str>| names.any(|one| *one == name);
        has(self.renames.iter())
            || match self.of {
                Of::Relation(table) => table.columns.iter().any(|column| column.name == name),
                Of::Query(query) | Of::Named(_, query) => has(outputs(query).iter()),
                Of::Other => false,
            }
    }
}

/// The places of what is used among the columns of a source.
fn places<'n>(names: impl Iterator<Item = &'n str>, source: &Source<'_>, used: &Used<'_>) -> Asked {
    names
        .enumerate()
        .filter(|(place, name)| {
            let name = source.renames.get(*place).unwrap_or(name);
            used.all || used.names.contains(name)
        })
        .map(|(place, _)| place)
        .collect()
}

/// The names under which a query selects, by their places.
fn outputs(query: &Value) -> Vec<&str> {
    if let Some(left) = part(query, "larg") {
        return outputs(left);
    }
    let targets = items(query, "target_list").iter();
    targets
        .map(|target| {
            let target = target.pointer("/node/ResTarget");
            let name = target.and_then(|target| word(target, "name"));
            let column = target.and_then(|target| target.pointer("/val/node/ColumnRef"));
            // The server writes no name where it is that of the column.
            let column = column.and_then(|column| items(column, "fields").last());
            let name = name.filter(|name| !name.is_empty());
            name.or_else(|| column.and_then(string)).unwrap_or_default()
        })
        .collect()
}

/// Whether a query makes one row of many, the same in whichever order they come.
fn is_gathered(query: &Value) -> bool {
    let distinct = items(query, "distinct_clause");
    let is_distinct = !distinct.is_empty()
        && distinct
            .iter()
            .all(|one| one.get("node").is_none_or(Value::is_null));
    let groups = !items(query, "group_clause").is_empty() || {
        let mut calls = Vec::new();
        called(query.get("target_list").unwrap_or(&Value::Null), &mut calls);
        calls.iter().any(|name| is_aggregate(name))
    };
    let is_cut = part(query, "limit_count").is_some() || part(query, "limit_offset").is_some();
    (is_distinct || groups) && !is_cut && !collects(query)
}

/// Whether a query puts rows one after the other into a value, or may.
fn collects(query: &Value) -> bool {
    let mut calls = Vec::new();
    for field in ["target_list", "having_clause"] {
        called(query.get(field).unwrap_or(&Value::Null), &mut calls);
    }
    calls.iter().any(|name| {
        let is_known = *name == "xmlagg" || *name == "any_value" || name.contains("_agg");
        is_known || !is_builtin(name)
    })
}

fn is_plain_union(query: &Value) -> bool {
    let is_union = query.get("op").and_then(Value::as_i64) == Some(kind(SetOperation::SetopUnion));
    is_union && query.get("all").and_then(Value::as_bool) == Some(true)
}

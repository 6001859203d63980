//! The second reading: a walk that knows names of nodes and fields, not their types.
//!
//! The parse tree is serialised into a flat list of named items, and everything is found by looking
//! through that list: relations wherever they hang, functions, statements. It shares no code with the
//! typed walk and resolves `WITH` names upwards from the reference instead of downwards from the
//! clause. Must never be taught a thing by calling into the typed walk.

mod record;

use std::collections::HashMap;

use pg_query::protobuf::ParseResult;

use self::record::{Index, Tree};
use super::evidence::{Evidence, Role};

/// Fields through which a relation is read. `relation` only below `RangeTableSample`.
const READ_FIELDS: [&str; 5] = [
    "from_clause",
    "larg",
    "rarg",
    "using_clause",
    "source_relation",
];

/// Statements whose direct field `relation` is what they write.
const WRITERS: [&str; 4] = ["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"];

/// Lists whose words look like relations and are not looked up as such.
const LABELS: [(&str, &str); 3] = [
    ("LockingClause", "locked_rels"),
    ("ImportForeignSchemaStmt", "table_list"),
    ("ConstraintsSetStmt", "constraints"),
];

/// What this walk sees in `parsed`; `None` where the tree cannot be serialised.
pub(super) fn walk(parsed: &ParseResult) -> Option<Evidence> {
    let tree = Tree::of(parsed)?;
    let clauses = Clauses::of(&tree);
    let mut evidence = Evidence::default();
    // The first message is the text itself.
    for at in tree.messages().skip(1) {
        look(&tree, at, &clauses, &mut evidence);
    }
    if tree.wrappers() > 0 {
        evidence.kinds.insert("Node", tree.wrappers());
    }
    Some(evidence)
}

fn look(tree: &Tree, at: Index, clauses: &Clauses<'_>, evidence: &mut Evidence) {
    let kind = tree.kind(at);
    evidence.saw(kind);
    match kind {
        "RawStmt" => evidence.statements = evidence.statements.saturating_add(1),
        "RangeVar" => relation(tree, at, clauses, evidence),
        "FuncCall" | "CreateTrigStmt" | "CreateEventTrigStmt" => {
            evidence
                .functions
                .push(tree.words(at, "funcname").join("."));
        }
        "RangeTableSample" => evidence.functions.push(tree.words(at, "method").join(".")),
        "AExpr" => operator(tree, at, "name", evidence),
        "SubLink" => operator(tree, at, "oper_name", evidence),
        "SortBy" => operator(tree, at, "use_op", evidence),
        "ColumnRef" => fields(&tree.words(at, "fields"), 1, evidence),
        "AIndirection" => fields(&tree.words(at, "indirection"), 0, evidence),
        "VariableSetStmt" | "VariableShowStmt" => {
            let name = tree.text(at, "name").unwrap_or_default();
            evidence.settings.push(name.to_lowercase().into());
        }
        "UpdateStmt" | "DeleteStmt" if !tree.has(at, "where_clause") => {
            evidence.unbounded = evidence.unbounded.saturating_add(1);
        }
        "CopyStmt" if tree.flag(at, "is_program") || tree.text(at, "filename").is_some() => {
            evidence.server_files = evidence.server_files.saturating_add(1);
        }
        _ => {}
    }
}

fn operator(tree: &Tree, at: Index, field: &str, evidence: &mut Evidence) {
    let words = tree.words(at, field);
    if words.len() > 1 {
        evidence.functions.push(words.join("."));
    }
}

fn fields(words: &[&str], skip: usize, evidence: &mut Evidence) {
    evidence
        .fields
        .extend(words.iter().skip(skip).map(|word| Box::from(*word)));
}

fn relation(tree: &Tree, at: Index, clauses: &Clauses<'_>, evidence: &mut Evidence) {
    let schema = tree.text(at, "schemaname").unwrap_or_default();
    let name = tree.text(at, "relname").unwrap_or_default();
    let said = role(tree, at);
    let is_clause = said == Role::Read && schema.is_empty() && clauses.reach(tree, at, name);
    let role = if is_clause { Role::Cte } else { said };
    evidence.relation(role, schema, name);
}

fn role(tree: &Tree, at: Index) -> Role {
    let field = tree.field(at);
    let parent = tree
        .parent(at)
        .map(|parent| tree.kind(parent))
        .unwrap_or_default();
    if READ_FIELDS.contains(&field) || (field == "relation" && parent == "RangeTableSample") {
        Role::Read
    } else if field == "relation" && WRITERS.contains(&parent) {
        Role::Written
    } else if LABELS.contains(&(parent, field)) {
        Role::Label
    } else {
        Role::Named
    }
}

/// Where the `WITH` clauses are and what they name.
struct Clauses<'a> {
    /// By the statement that owns it: the clause, and whether it is recursive.
    owned: HashMap<Index, (Index, bool)>,
    /// By clause and name: the first query of that name.
    queries: HashMap<(Index, &'a str), Index>,
}

impl<'a> Clauses<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut clauses = Self {
            owned: HashMap::new(),
            queries: HashMap::new(),
        };
        for at in tree.messages() {
            let Some(parent) = tree.parent(at) else {
                continue;
            };
            if tree.kind(at) == "WithClause" {
                clauses
                    .owned
                    .insert(parent, (at, tree.flag(at, "recursive")));
            } else if tree.kind(at) == "CommonTableExpr" {
                let name = tree.text(at, "ctename").unwrap_or_default();
                clauses.queries.entry((parent, name)).or_insert(at);
            }
        }
        clauses
    }

    /// Whether some `WITH` above `at` has a query of this name that is in scope there: anywhere below
    /// the statement that owns the clause, but inside the clause only in the queries that come later,
    /// or in all of them where it is recursive.
    fn reach(&self, tree: &Tree, at: Index, name: &str) -> bool {
        let mut inside = None;
        let mut below = at;
        while let Some(above) = tree.parent(below) {
            if tree.kind(below) == "CommonTableExpr" {
                inside = Some(below);
            }
            if let Some((clause, is_recursive)) = self.owned.get(&above).copied()
                && let Some(query) = self.queries.get(&(clause, name))
            {
                let own = inside.filter(|_| clause == below && !is_recursive);
                if own.is_none_or(|own| *query < own) {
                    return true;
                }
            }
            below = above;
        }
        false
    }
}

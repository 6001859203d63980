//! The second reading: a walk that knows names of nodes and fields, not their types.
//!
//! The parse tree is serialised into a flat list of named items, and everything is found by looking
//! through that list: relations wherever they hang, functions, statements. It shares no code with the
//! typed walk and resolves `WITH` names upwards from the reference instead of downwards from the
//! clause. Must never be taught a thing by calling into the typed walk.

mod record;

use pg_query::protobuf::ParseResult;

use self::record::{Index, Tree};
use super::evidence::{Evidence, Role};

/// Fields through which a relation is read. `relation` only below `RangeTableSample`.
const READ_FIELDS: [&str; 5] = ["from_clause", "larg", "rarg", "using_clause", "source_relation"];

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
    let mut evidence = Evidence::default();
    for at in tree.all() {
        if tree.is_scalar(at) {
            continue;
        }
        look(&tree, at, &mut evidence);
    }
    evidence.kinds.remove("ParseResult");
    Some(evidence)
}

fn look(tree: &Tree, at: Index, evidence: &mut Evidence) {
    let kind = tree.kind(at);
    evidence.saw(kind);
    match kind {
        "RawStmt" => evidence.statements = evidence.statements.saturating_add(1),
        "RangeVar" => relation(tree, at, evidence),
        "FuncCall" | "CreateTrigStmt" | "CreateEventTrigStmt" => {
            evidence.functions.push(tree.words(at, "funcname").join("."));
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
    evidence.fields.extend(words.iter().skip(skip).map(|word| Box::from(*word)));
}

fn relation(tree: &Tree, at: Index, evidence: &mut Evidence) {
    let schema = tree.text(at, "schemaname").unwrap_or_default();
    let name = tree.text(at, "relname").unwrap_or_default();
    let role = match role(tree, at) {
        Role::Read if schema.is_empty() && is_cte(tree, at, name) => Role::Cte,
        other => other,
    };
    evidence.relation(role, schema, name);
}

fn role(tree: &Tree, at: Index) -> Role {
    let field = tree.field(at);
    let parent = tree.parent(at).map(|parent| tree.kind(parent)).unwrap_or_default();
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

/// Whether some `WITH` above `at` has a query of this name that is in scope there: anywhere below the
/// statement that owns the clause, but inside the clause only in the queries that come later, or in
/// all of them where it is recursive.
fn is_cte(tree: &Tree, at: Index, name: &str) -> bool {
    let mut inside = None;
    let mut below = at;
    while let Some(above) = tree.parent(below) {
        if tree.kind(below) == "CommonTableExpr" {
            inside = Some(below);
        }
        if let Some(clause) = tree.child(above, "with_clause") {
            let within = (clause == below).then_some(inside).flatten();
            let recursive = tree.flag(clause, "recursive");
            let mut queries = tree.children(clause, "ctes");
            let visible = |query: &Index| recursive || within.is_none_or(|own| *query < own);
            if queries.any(|query| visible(&query) && tree.text(query, "ctename") == Some(name)) {
                return true;
            }
        }
        below = above;
    }
    false
}

//! The first reading: every kind of node by its type, no wildcard.
//!
//! Says what a statement does to what. Each message's fields are named one by one, so that a new field
//! or kind of the grammar does not compile until somebody has decided what it means. Kinds that only
//! the server's analysis makes never come out of the parser; one that does is unreadable.

mod definition;
mod object;
mod plain;
mod query;
mod server;
mod session;
mod setting;
mod statement;

use std::collections::HashMap;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{Node, ParseResult, RangeVar, RawStmt};

use super::draft::{Call, Draft, Object, Reference, Use};
use super::evidence::{Evidence, Role};
use super::functions;
use crate::policy::Action;

/// A message that can be walked.
trait Visit<'t> {
    fn visit(&'t self, walk: &mut Walk<'t>);
}

/// The walk over one text.
pub(super) struct Walk<'t> {
    evidence: Evidence,
    draft: Draft<'t>,
    /// Names of the `WITH` queries in scope, innermost clause last, and how often each is in scope.
    scopes: Vec<Vec<&'t str>>,
    visible: HashMap<&'t str, usize>,
    /// What `FOR UPDATE OF` can name: label, query level, and which uses stand behind it.
    marks: Vec<Mark<'t>>,
    level: usize,
    /// Whether the next query is the one whose rows the statement returns.
    outermost: bool,
    /// How many columns were named so far.
    columns: usize,
    /// The setting that a call of `set_config` with a column for its name is about.
    setting_of_all: Option<&'t str>,
    /// The schema that is being created around what is walked.
    within: Option<&'t str>,
}

struct Mark<'t> {
    label: &'t str,
    level: usize,
    uses: std::ops::Range<usize>,
}

/// Walks a parsed text: one draft a statement, in order, and what was seen.
pub(super) fn walk(parsed: &ParseResult) -> (Vec<Draft<'_>>, Evidence) {
    let mut walk = Walk {
        evidence: Evidence::default(),
        draft: Draft::default(),
        scopes: Vec::new(),
        visible: HashMap::new(),
        marks: Vec::new(),
        level: 0,
        outermost: false,
        columns: 0,
        setting_of_all: None,
        within: None,
    };
    let drafts = parsed
        .stmts
        .iter()
        .map(|statement| walk.statement(statement))
        .collect();
    (drafts, walk.evidence)
}

impl<'t> Walk<'t> {
    fn statement(&mut self, statement: &'t RawStmt) -> Draft<'t> {
        let RawStmt {
            stmt,
            stmt_location: _,
            stmt_len: _,
        } = statement;
        self.draft.values_matter = !is_about_rows(stmt.as_deref());
        self.evidence.statements = self.evidence.statements.saturating_add(1);
        self.evidence.saw("RawStmt");
        self.outermost = true;
        self.setting_of_all = stmt.as_deref().and_then(setting::of_all_settings);
        stmt.visit(self);
        if let Some(Kind::VariableSetStmt(set)) = stmt.as_ref().and_then(|node| node.node.as_ref())
        {
            self.sets(set);
        }
        if let Some(changed) = stmt.as_deref().and_then(setting::sets_search_path) {
            self.draft.effects = vec![changed];
        }
        self.draft.names_harmlessly = matches!(
            stmt.as_ref().and_then(|node| node.node.as_ref()),
            Some(Kind::LockStmt(_) | Kind::TruncateStmt(_) | Kind::VacuumStmt(_))
        );
        self.draft.tells_rows = self.draft.writes.len() == 1 && is_write(stmt.as_deref());
        std::mem::take(&mut self.draft)
    }

    /// Notes a message; every visit begins with it.
    fn saw(&mut self, kind: &'static str) {
        self.evidence.saw(kind);
    }

    /// Names the statement for people; nested statements do not rename it.
    fn begin(&mut self, words: &'static str) {
        if self.draft.summary.is_empty() {
            self.draft.summary = words;
        }
    }

    /// A statement that is about the database as a whole.
    fn utility(&mut self, words: &'static str, action: Action) {
        self.begin(words);
        self.ask(action, Object::Database);
    }

    fn refuse(&mut self, problem: &'static str) {
        self.draft.problem.get_or_insert(problem);
    }

    fn ask(&mut self, action: Action, object: Object<'t>) {
        self.draft.uses.push(Use {
            action,
            object,
            within: self.within,
        });
    }

    /// A relation, in the role that the text gives it.
    fn relation(&mut self, relation: &'t RangeVar, role: Role, actions: &[Action]) {
        let RangeVar {
            catalogname: _,
            schemaname: schema,
            relname: name,
            inh: _,
            relpersistence: _,
            alias,
            location: _,
        } = relation;
        self.saw("RangeVar");
        self.evidence.relation(role, schema, name);
        self.draft.references.push(Reference { relation, role });
        alias.visit(self);
        for action in actions {
            self.ask(*action, Object::Relation { schema, name });
        }
    }

    /// The object of a utility statement.
    fn named(&mut self, relation: Option<&'t RangeVar>, actions: &[Action]) {
        if let Some(relation) = relation {
            self.relation(relation, Role::Named, actions);
        }
    }

    /// A relation that the statement makes.
    fn created(&mut self, relation: Option<&'t RangeVar>) {
        let Some(relation) = relation else { return };
        self.relation(relation, Role::Named, &[]);
        let is_temporary = relation.relpersistence == "t" && relation.schemaname.is_empty();
        let schema = if is_temporary {
            "pg_temp"
        } else {
            &relation.schemaname
        };
        self.ask(
            Action::Ddl,
            Object::Relation {
                schema,
                name: &relation.relname,
            },
        );
    }

    /// A list in which relations have a role of their own.
    fn relations(&mut self, nodes: &'t [Node], role: Role, actions: &[Action]) {
        for node in nodes {
            if let Some(Kind::RangeVar(relation)) = &node.node {
                self.saw("Node");
                self.relation(relation, role, actions);
            } else {
                node.visit(self);
            }
        }
    }

    /// A relation that is read, unless it is a `WITH` query in scope.
    fn read(&mut self, relation: &'t RangeVar) {
        let start = self.draft.uses.len();
        let is_cte = relation.schemaname.is_empty()
            && self
                .visible
                .get(relation.relname.as_str())
                .is_some_and(|times| *times > 0);
        if is_cte {
            self.relation(relation, Role::Cte, &[]);
        } else {
            self.relation(relation, Role::Read, &[Action::Select]);
        }
        let alias = relation
            .alias
            .as_ref()
            .map(|alias| alias.aliasname.as_str());
        self.mark(alias.unwrap_or(&relation.relname), start);
    }

    fn mark(&mut self, label: &'t str, start: usize) {
        let uses = start..self.draft.uses.len();
        self.marks.push(Mark {
            label,
            level: self.level,
            uses,
        });
    }

    /// A function that is called or attached.
    fn function(&mut self, parts: &[&'t str]) {
        self.evidence.functions.push(parts.join("."));
        self.call(parts);
    }

    fn call(&mut self, parts: &[&'t str]) {
        let (schema, name) = qualified(parts);
        self.draft.calls.push(Call { schema, name });
    }

    /// An operator: only one that names its schema can be judged.
    fn operator(&mut self, name: &'t [Node]) {
        let parts = words(name);
        if !name.is_empty() {
            self.draft.operators.push(name);
        }
        if parts.len() > 1 {
            self.evidence.functions.push(parts.join("."));
            if qualified(&parts).0 != "pg_catalog" {
                self.call(&parts);
            }
        }
    }

    /// A field of an expression, which to the server may be a function call.
    fn field(&mut self, name: &'t str) {
        self.evidence.fields.push(name.into());
        self.draft.fields.insert(name);
        if functions::is_dangerous_field(name) {
            self.call(&["pg_catalog", name]);
        }
    }

    fn setting(&mut self, name: &str) {
        self.draft.settings.insert(name.to_lowercase());
    }

    /// The same, where it gets a value.
    fn set(&mut self, name: &str) {
        self.setting(name);
        self.draft.sets.insert(name.to_lowercase());
    }
}

/// Whether it is of the kinds whose literals are values to the server, and nothing else.
fn is_about_rows(statement: Option<&Node>) -> bool {
    matches!(
        statement.and_then(|node| node.node.as_ref()),
        Some(
            Kind::SelectStmt(_)
                | Kind::InsertStmt(_)
                | Kind::UpdateStmt(_)
                | Kind::DeleteStmt(_)
                | Kind::MergeStmt(_)
        )
    )
}

/// Whether it is a write itself, and not what holds one.
fn is_write(statement: Option<&Node>) -> bool {
    match statement.and_then(|node| node.node.as_ref()) {
        Some(
            Kind::InsertStmt(_) | Kind::UpdateStmt(_) | Kind::DeleteStmt(_) | Kind::MergeStmt(_),
        ) => true,
        Some(Kind::CopyStmt(copy)) => copy.is_from,
        _ => false,
    }
}

/// The strings of a name list.
fn words(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().filter_map(word).collect()
}

fn word(node: &Node) -> Option<&str> {
    if let Some(Kind::String(text)) = &node.node {
        Some(&text.sval)
    } else {
        None
    }
}

/// Schema and name of `[[database.]schema.]name`; the database can only be the session's own.
fn qualified<'t>(parts: &[&'t str]) -> (&'t str, &'t str) {
    match parts {
        [] => ("", ""),
        [name] => ("", name),
        [.., schema, name] => (schema, name),
    }
}

impl<'t> Visit<'t> for Node {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.saw("Node");
        if let Some(kind) = &self.node {
            walk.kind(kind);
        }
    }
}

impl<'t, T: Visit<'t>> Visit<'t> for Option<T> {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        if let Some(inner) = self {
            inner.visit(walk);
        }
    }
}

impl<'t, T: Visit<'t>> Visit<'t> for Box<T> {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        (**self).visit(walk);
    }
}

impl<'t, T: Visit<'t>> Visit<'t> for Vec<T> {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        for inner in self {
            inner.visit(walk);
        }
    }
}

/// Visits what a message holds and skips the rest; both sides together name every field.
macro_rules! children {
    ($walk:expr, $message:expr, $kind:ident { $($seen:ident)* ; $($rest:ident)* }) => {{
        let $kind { $($seen,)* $($rest: _,)* } = $message;
        $walk.saw(stringify!($kind));
        $($seen.visit($walk);)*
    }};
}
use children;

/// One arm a kind: those of the parser are visited, those that only the analysis makes are refused.
macro_rules! dispatch {
    ($walk:expr, $kind:expr; $($raw:ident)*; $($analysed:ident)*) => {
        match $kind {
            $(Kind::$raw(message) => message.visit($walk),)*
            $(Kind::$analysed(_))|* => $walk.refuse("a node that no parser makes"),
        }
    };
}

impl<'t> Walk<'t> {
    fn kind(&mut self, kind: &'t Kind) {
        dispatch! { self, kind;
            Alias RangeVar IntoClause GroupingFunc MergeSupportFunc NamedArgExpr BoolExpr SubLink
            CaseExpr CaseWhen RowExpr CoalesceExpr MinMaxExpr SqlvalueFunction XmlExpr JsonFormat
            JsonReturning JsonValueExpr JsonIsPredicate JsonBehavior NullTest BooleanTest SetToDefault
            CurrentOfExpr JoinExpr TypeName ColumnRef ParamRef AExpr TypeCast CollateClause RoleSpec
            FuncCall AStar AIndices AIndirection AArrayExpr ResTarget MultiAssignRef SortBy WindowDef
            RangeSubselect RangeFunction RangeTableFunc RangeTableFuncCol RangeTableSample ColumnDef
            TableLikeClause IndexElem DefElem LockingClause XmlSerialize PartitionElem PartitionSpec
            PartitionBoundSpec PartitionRangeDatum PartitionCmd GroupingSet WithClause InferClause
            OnConflictClause CtesearchClause CtecycleClause CommonTableExpr MergeWhenClause
            ReturningOption ReturningClause TriggerTransition JsonOutput JsonArgument JsonFuncExpr
            JsonTablePathSpec JsonTable JsonTableColumn JsonKeyValue JsonParseExpr JsonScalarExpr
            JsonSerializeExpr JsonObjectConstructor JsonArrayConstructor JsonArrayQueryConstructor
            JsonAggConstructor JsonObjectAgg JsonArrayAgg InsertStmt DeleteStmt UpdateStmt MergeStmt
            SelectStmt ReturnStmt CreateSchemaStmt AlterTableStmt AlterTableCmd AtalterConstraint
            ReplicaIdentityStmt AlterCollationStmt AlterDomainStmt GrantStmt ObjectWithArgs AccessPriv
            GrantRoleStmt AlterDefaultPrivilegesStmt CopyStmt VariableSetStmt VariableShowStmt
            CreateStmt Constraint CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt
            AlterTableMoveAllStmt CreateExtensionStmt AlterExtensionStmt AlterExtensionContentsStmt
            CreateFdwStmt AlterFdwStmt CreateForeignServerStmt AlterForeignServerStmt
            CreateForeignTableStmt CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt
            ImportForeignSchemaStmt CreatePolicyStmt AlterPolicyStmt CreateAmStmt CreateTrigStmt
            CreateEventTrigStmt AlterEventTrigStmt CreatePlangStmt CreateRoleStmt AlterRoleStmt
            AlterRoleSetStmt DropRoleStmt CreateSeqStmt AlterSeqStmt DefineStmt CreateDomainStmt
            CreateOpClassStmt CreateOpClassItem CreateOpFamilyStmt AlterOpFamilyStmt DropStmt
            TruncateStmt CommentStmt SecLabelStmt DeclareCursorStmt ClosePortalStmt FetchStmt IndexStmt
            CreateStatsStmt StatsElem AlterStatsStmt CreateFunctionStmt FunctionParameter
            AlterFunctionStmt DoStmt CallStmt RenameStmt AlterObjectDependsStmt AlterObjectSchemaStmt
            AlterOwnerStmt AlterOperatorStmt AlterTypeStmt RuleStmt NotifyStmt ListenStmt UnlistenStmt
            TransactionStmt CompositeTypeStmt CreateEnumStmt CreateRangeStmt AlterEnumStmt ViewStmt
            LoadStmt CreatedbStmt AlterDatabaseStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt
            DropdbStmt AlterSystemStmt ClusterStmt VacuumStmt VacuumRelation ExplainStmt
            CreateTableAsStmt RefreshMatViewStmt CheckPointStmt DiscardStmt LockStmt ConstraintsSetStmt
            ReindexStmt CreateConversionStmt CreateCastStmt CreateTransformStmt PrepareStmt ExecuteStmt
            DeallocateStmt DropOwnedStmt ReassignOwnedStmt AlterTsdictionaryStmt
            AlterTsconfigurationStmt PublicationTable PublicationObjSpec CreatePublicationStmt
            AlterPublicationStmt CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt
            Integer Float Boolean String BitString List AConst;
            TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr
            DistinctExpr NullIfExpr ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore
            RelabelType CoerceViaIo ArrayCoerceExpr ConvertRowtypeExpr CollateExpr CaseTestExpr
            ArrayExpr RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan
            JsonTableSiblingJoin MergeAction CoerceToDomain CoerceToDomainValue NextValueExpr
            InferenceElem ReturningExpr TargetEntry RangeTblRef FromExpr OnConflictExpr Query
            RangeTblEntry RtepermissionInfo RangeTblFunction TableSampleClause WithCheckOption
            SortGroupClause WindowClause RowMarkClause SetOperationStmt PlassignStmt RawStmt
            InlineCodeBlock CallContext IntList OidList
        }
    }
}

//! Data definition of tables and what hangs on them.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::*;

use super::statement::statements;
use super::{Visit, Walk, children, qualified, words};
use crate::policy::Action;
use crate::protocol::postgres::facts::Effect;
use crate::protocol::postgres::facts::draft::Object;
use crate::protocol::postgres::facts::evidence::Role;

statements! {
    CreateStmt "CREATE TABLE" [] {
        table_elts partbound partspec of_typename constraints nnconstraints options ;
        relation inh_relations oncommit tablespacename access_method if_not_exists
    } |statement, walk| {
        walk.created(statement.relation.as_ref());
        // A child's rows are the parent's rows too.
        walk.relations(&statement.inh_relations, Role::Named, &[Action::Ddl]);
    };
    CreateForeignTableStmt "CREATE FOREIGN TABLE" [] { base_stmt options ; servername } |_, _| {};
    CreateTableAsStmt "CREATE TABLE AS" [] {
        query into ; objtype is_select_into if_not_exists
    } |_, _| {};
    RefreshMatViewStmt "REFRESH MATERIALIZED VIEW" [relation: Ddl] { ; concurrent skip_data } |_, _| {};
    ViewStmt "CREATE VIEW" [] {
        aliases query options ; view replace with_check_option
    } |statement, walk| {
        walk.created(statement.view.as_ref());
        walk.opened(statement.query.as_deref());
        walk.draft.effects.push(Effect::Stores);
    };
    IndexStmt "CREATE INDEX" [relation: Ddl] {
        index_params index_including_params options where_clause exclude_op_names ; idxname
        access_method table_space idxcomment index_oid old_number old_create_subid
        old_first_relfilelocator_subid unique nulls_not_distinct primary isconstraint
        iswithoutoverlaps deferrable initdeferred transformed concurrent if_not_exists
        reset_default_tblspc
    } |_, _| {};
    CreateSeqStmt "CREATE SEQUENCE" [] {
        options ; sequence owner_id for_identity if_not_exists
    } |statement, walk| walk.created(statement.sequence.as_ref());
    AlterSeqStmt "ALTER SEQUENCE" [sequence: Ddl] { options ; for_identity missing_ok } |_, _| {};
    AlterTableStmt "ALTER TABLE" [relation: Ddl] { cmds ; objtype missing_ok } |statement, walk| {
        let owner = i32::from(AlterTableType::AtChangeOwner);
        let is_gift = |command: &Node| {
            matches!(&command.node, Some(Kind::AlterTableCmd(command)) if command.subtype == owner)
        };
        if let Some(table) = statement.relation.as_ref()
            && statement.cmds.iter().any(is_gift)
        {
            let (schema, name) = (table.schemaname.as_str(), table.relname.as_str());
            walk.ask(Action::Grant, Object::Relation { schema, name });
        }
    };
    AlterTableMoveAllStmt "ALTER TABLE ALL IN TABLESPACE" [] {
        roles ; orig_tablespacename objtype new_tablespacename nowait
    } |_, walk| {
        walk.ask(Action::Ddl, Object::Database);
        walk.ask(Action::System, Object::Database);
    };
    RuleStmt "CREATE RULE" [relation: Ddl] {
        where_clause actions ; rulename event instead replace
    } |_, walk| walk.draft.effects.push(Effect::Stores);
    CreateTrigStmt "CREATE TRIGGER" [relation: Ddl, constrrel: Ddl] {
        funcname args columns when_clause transition_rels ; replace isconstraint trigname row timing
        events deferrable initdeferred
    } |statement, walk| {
        walk.function(&words(&statement.funcname));
        walk.draft.effects.push(Effect::Stores);
    };
    CreatePolicyStmt "CREATE POLICY" [table: Ddl] {
        roles qual with_check ; policy_name cmd_name permissive
    } |_, walk| walk.draft.effects.push(Effect::Stores);
    AlterPolicyStmt "ALTER POLICY" [table: Ddl] {
        roles qual with_check ; policy_name
    } |_, walk| walk.draft.effects.push(Effect::Stores);
    CreateStatsStmt "CREATE STATISTICS" [] {
        defnames stat_types exprs ; relations stxcomment transformed if_not_exists
    } |statement, walk| {
        walk.defines(&statement.defnames);
        // The server keeps the most common values of what it is asked to watch.
        walk.relations(&statement.relations, Role::Named, &[Action::Ddl, Action::Select]);
    };
    AlterStatsStmt "ALTER STATISTICS" [] { defnames stxstattarget ; missing_ok } |statement, walk| {
        walk.defines(&statement.defnames);
    };
    DropStmt "DROP" [] { objects ; remove_type behavior missing_ok concurrent } |statement, walk| {
        for object in &statement.objects {
            walk.object(statement.remove_type, Some(object), Action::Ddl);
        }
    };
    TruncateStmt "TRUNCATE" [] { ; relations restart_seqs behavior } |statement, walk| {
        walk.relations(&statement.relations, Role::Named, &[Action::Truncate]);
    };
    CommentStmt "COMMENT" [] { object ; objtype comment } |statement, walk| {
        walk.object(statement.objtype, statement.object.as_deref(), Action::Ddl);
    };
    RenameStmt "ALTER" [relation: Ddl] {
        object ; rename_type relation_type subname newname behavior missing_ok
    } |statement, walk| {
        if statement.relation.is_none() {
            walk.object(statement.rename_type, statement.object.as_deref(), Action::Ddl);
        }
        if statement.rename_type == i32::from(ObjectType::ObjectSchema) {
            walk.ask(Action::Ddl, Object::Schema(&statement.subname));
            walk.ask(Action::Ddl, Object::Schema(&statement.newname));
        }
    };
    AlterObjectDependsStmt "ALTER" [relation: Ddl] {
        object extname ; object_type remove
    } |statement, walk| {
        if statement.relation.is_none() {
            walk.object(statement.object_type, statement.object.as_deref(), Action::Ddl);
        }
    };
    AlterObjectSchemaStmt "ALTER" [relation: Ddl] {
        object ; object_type newschema missing_ok
    } |statement, walk| {
        if statement.relation.is_none() {
            walk.object(statement.object_type, statement.object.as_deref(), Action::Ddl);
        }
        walk.ask(Action::Ddl, Object::Schema(&statement.newschema));
    };
    AlterOwnerStmt "ALTER" [relation: Ddl Grant] {
        object newowner ; object_type
    } |statement, walk| {
        if statement.relation.is_none() {
            walk.object(statement.object_type, statement.object.as_deref(), Action::Ddl);
            walk.object(statement.object_type, statement.object.as_deref(), Action::Grant);
        }
    };
    ClusterStmt "CLUSTER" [relation: Maintain] { params ; indexname } |statement, walk| {
        if statement.relation.is_none() {
            walk.ask(Action::Maintain, Object::Database);
        }
    };
    VacuumStmt "VACUUM" [] { options rels ; is_vacuumcmd } |statement, walk| {
        if !statement.is_vacuumcmd && walk.draft.summary == "VACUUM" {
            walk.draft.summary = "ANALYZE";
        }
        if statement.rels.is_empty() {
            walk.ask(Action::Maintain, Object::Database);
        }
    };
    VacuumRelation "VACUUM" [relation: Maintain] { va_cols ; oid } |_, _| {};
    ReindexStmt "REINDEX" [relation: Maintain] { params ; kind name } |statement, walk| {
        if statement.kind == i32::from(ReindexObjectType::ReindexObjectSchema) {
            walk.ask(Action::Maintain, Object::Schema(&statement.name));
        } else if statement.relation.is_none() {
            walk.ask(Action::Maintain, Object::Database);
        }
    };
    CheckPointStmt "CHECKPOINT" [] { ; } |_, walk| walk.ask(Action::Maintain, Object::Database);
    CreateSchemaStmt "CREATE SCHEMA" [] { authrole ; schemaname schema_elts if_not_exists } |statement, walk| {
        let owner = statement.authrole.as_ref().map(|role| role.rolename.as_str());
        let name = if statement.schemaname.is_empty() {
            owner.unwrap_or_default()
        } else {
            &statement.schemaname
        };
        if name.is_empty() {
            walk.refuse("a schema that is named after a role of the session");
        }
        walk.ask(Action::Ddl, Object::Schema(name));
        let outer = walk.within.replace(name);
        statement.schema_elts.visit(walk);
        walk.within = outer;
    };
}

impl<'t> Walk<'t> {
    /// Who writes to a view writes to the one relation that it is a plain query of, with the rights of who made
    /// the view: making it asks for that.
    fn opened(&mut self, query: Option<&'t Node>) {
        let Some(relation) = query.and_then(written_through) else {
            return;
        };
        let (schema, name) = (relation.schemaname.as_str(), relation.relname.as_str());
        for action in [Action::Insert, Action::Update, Action::Delete] {
            self.ask(action, Object::Relation { schema, name });
        }
        self.draft.opens.push(relation);
    }
}

/// The relation to which a view of this query passes on what is written to it, as far as its text tells
/// (`view_query_is_auto_updatable`, `rewriteHandler.c`).
fn written_through(query: &Node) -> Option<&RangeVar> {
    let Some(Kind::SelectStmt(select)) = &query.node else {
        return None;
    };
    let [from] = select.from_clause.as_slice() else {
        return None;
    };
    let is_plain = select.with_clause.is_none()
        && select.larg.is_none()
        && select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.limit_offset.is_none()
        && select.limit_count.is_none()
        && !select.target_list.iter().any(is_aggregate);
    match &from.node {
        Some(Kind::RangeVar(relation)) if is_plain => Some(relation),
        _ => None,
    }
}

/// Whether a column of a query can only be an aggregate or a window function: no other is called so.
fn is_aggregate(target: &Node) -> bool {
    let Some(Kind::ResTarget(target)) = &target.node else {
        return false;
    };
    match target.val.as_ref().and_then(|value| value.node.as_ref()) {
        Some(Kind::FuncCall(call)) => {
            call.agg_star
                || call.agg_distinct
                || call.agg_filter.is_some()
                || call.over.is_some()
                || !call.agg_order.is_empty()
        }
        _ => false,
    }
}

impl<'t> Visit<'t> for ReturnStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, ReturnStmt { returnval ; });
    }
}

impl<'t> Visit<'t> for AlterTableCmd {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            subtype: _,
            name: _,
            num: _,
            newowner,
            def,
            behavior: _,
            missing_ok: _,
            recurse: _,
        } = self;
        walk.saw("AlterTableCmd");
        newowner.visit(walk);
        // The parent of `INHERIT` is a relation.
        walk.relations(
            def.as_deref().map(std::slice::from_ref).unwrap_or_default(),
            Role::Named,
            &[Action::Ddl],
        );
    }
}

impl<'t> Visit<'t> for PartitionCmd {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            name,
            bound,
            concurrent: _,
        } = self;
        walk.saw("PartitionCmd");
        walk.named(name.as_ref(), &[Action::Ddl]);
        bound.visit(walk);
    }
}

impl<'t> Visit<'t> for TableLikeClause {
    /// The server wants `SELECT` on what is copied from.
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            options: _,
            relation_oid: _,
        } = self;
        walk.saw("TableLikeClause");
        walk.named(relation.as_ref(), &[Action::Select]);
    }
}

impl<'t> Visit<'t> for ColumnDef {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            colname: _,
            type_name,
            compression: _,
            inhcount: _,
            is_local: _,
            is_not_null: _,
            is_from_type: _,
            storage: _,
            storage_name: _,
            raw_default,
            cooked_default,
            identity: _,
            identity_sequence,
            generated: _,
            coll_clause,
            coll_oid: _,
            constraints,
            fdwoptions,
            location: _,
        } = self;
        walk.saw("ColumnDef");
        type_name.visit(walk);
        raw_default.visit(walk);
        cooked_default.visit(walk);
        walk.named(identity_sequence.as_ref(), &[Action::Ddl]);
        coll_clause.visit(walk);
        constraints.visit(walk);
        fdwoptions.visit(walk);
    }
}

impl<'t> Visit<'t> for Constraint {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        // A foreign key answers whether a value exists in the table that it points to.
        walk.named(self.pktable.as_ref(), &[Action::Ddl, Action::Select]);
        children!(walk, self, Constraint {
            raw_expr keys including exclusions options where_clause fk_attrs pk_attrs fk_del_set_cols
            old_conpfeqop ;
            pktable contype conname deferrable initdeferred is_enforced skip_validation
            initially_valid is_no_inherit cooked_expr generated_when generated_kind
            nulls_not_distinct without_overlaps indexname indexspace reset_default_tblspc
            access_method fk_with_period pk_with_period fk_matchtype fk_upd_action fk_del_action
            old_pktable_oid location
        });
    }
}

impl<'t> Visit<'t> for GrantStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            is_grant,
            targtype,
            objtype,
            objects,
            privileges,
            grantees,
            grant_option: _,
            grantor,
            behavior: _,
        } = self;
        walk.begin(if *is_grant { "GRANT" } else { "REVOKE" });
        walk.saw("GrantStmt");
        let is_relation = |node: &Node| matches!(node.node, Some(Kind::RangeVar(_)));
        let in_schemas = *targtype == i32::from(GrantTargetType::AclTargetAllInSchema);
        for object in objects {
            walk.relations(std::slice::from_ref(object), Role::Named, &[Action::Grant]);
            let kind = if in_schemas {
                i32::from(ObjectType::ObjectSchema)
            } else {
                *objtype
            };
            if !is_relation(object) {
                walk.object(kind, Some(object), Action::Grant);
            }
        }
        privileges.visit(walk);
        grantees.visit(walk);
        grantor.visit(walk);
        if objects.is_empty() {
            walk.ask(Action::Grant, Object::Database);
        }
    }
}

impl<'t> Visit<'t> for CreateFunctionStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin(if self.is_procedure {
            "CREATE PROCEDURE"
        } else {
            "CREATE FUNCTION"
        });
        children!(walk, self, CreateFunctionStmt {
            funcname parameters return_type options sql_body ; is_procedure replace
        });
        let (schema, name) = qualified(&words(&self.funcname));
        walk.ask(Action::Ddl, Object::Function { schema, name });
        if self.sql_body.is_none() {
            // Its body is a string in a language that is not read.
            walk.ask(Action::Do, Object::Database);
        }
    }
}

//! Messages that mean nothing by themselves: what is below them is walked, the rest is skipped.
//!
//! `Kind { walked ; skipped }`: both sides together name every field of the message.

use pg_query::protobuf::*;

use super::{Visit, Walk};

macro_rules! plain {
    ($($kind:ident { $($seen:ident)* ; $($rest:ident)* })*) => { $(
        impl<'t> Visit<'t> for $kind {
            fn visit(&'t self, walk: &mut Walk<'t>) {
                let Self { $($seen,)* $($rest: _,)* } = self;
                walk.saw(stringify!($kind));
                $($seen.visit(walk);)*
            }
        }
    )* };
}

plain! {
    Alias { colnames ; aliasname }
    GroupingFunc { xpr args refs ; agglevelsup location }
    MergeSupportFunc { xpr ; msftype msfcollid location }
    NamedArgExpr { xpr arg ; name argnumber location }
    BoolExpr { xpr args ; boolop location }
    CaseExpr { xpr arg args defresult ; casetype casecollid location }
    CaseWhen { xpr expr result ; location }
    RowExpr { xpr args colnames ; row_typeid row_format location }
    CoalesceExpr { xpr args ; coalescetype coalescecollid location }
    MinMaxExpr { xpr args ; minmaxtype minmaxcollid inputcollid op location }
    SqlValueFunction { xpr ; op r#type typmod location }
    XmlExpr { xpr named_args arg_names args ; op name xmloption indent r#type typmod location }
    JsonFormat { ; format_type encoding location }
    JsonReturning { format ; typid typmod }
    JsonValueExpr { raw_expr formatted_expr format ; }
    JsonIsPredicate { expr format ; item_type unique_keys location }
    JsonBehavior { expr ; btype coerce location }
    NullTest { xpr arg ; nulltesttype argisrow location }
    BooleanTest { xpr arg ; booltesttype location }
    SetToDefault { xpr ; type_id type_mod collation location }
    CurrentOfExpr { xpr ; cvarno cursor_name cursor_param }
    ParamRef { ; number location }
    TypeCast { arg type_name ; location }
    CollateClause { arg collname ; location }
    RoleSpec { ; roletype rolename location }
    AStar { ; }
    AIndices { lidx uidx ; is_slice }
    AArrayExpr { elements ; list_start list_end location }
    ResTarget { indirection val ; name location }
    MultiAssignRef { source ; colno ncolumns }
    WindowDef {
        partition_clause order_clause start_offset end_offset ; name refname frame_options location
    }
    RangeFunction { functions alias coldeflist ; lateral ordinality is_rowsfrom }
    RangeTableFunc { docexpr rowexpr namespaces columns alias ; lateral location }
    RangeTableFuncCol { type_name colexpr coldefexpr ; colname for_ordinality is_not_null location }
    IndexElem { expr collation opclass opclassopts ; name indexcolname ordering nulls_ordering }
    DefElem { arg ; defnamespace defname defaction location arg_location }
    XmlSerialize { expr type_name ; xmloption indent location }
    PartitionElem { expr collation opclass ; name location }
    PartitionSpec { part_params ; strategy location }
    PartitionBoundSpec {
        listdatums lowerdatums upperdatums ; strategy is_default modulus remainder location
    }
    PartitionRangeDatum { value ; kind location }
    GroupingSet { content ; kind location }
    InferClause { index_elems where_clause ; conname location }
    OnConflictClause { infer target_list where_clause ; action location }
    CteSearchClause { search_col_list ; search_breadth_first search_seq_column location }
    CteCycleClause {
        cycle_col_list cycle_mark_value cycle_mark_default ; cycle_mark_column cycle_path_column
        location cycle_mark_type cycle_mark_typmod cycle_mark_collation cycle_mark_neop
    }
    CommonTableExpr {
        aliascolnames ctequery search_clause cycle_clause ctecolnames ctecoltypes ctecoltypmods
        ctecolcollations ; ctename ctematerialized location cterecursive cterefcount
    }
    MergeWhenClause { condition target_list values ; match_kind command_type r#override }
    ReturningOption { ; option value location }
    ReturningClause { options exprs ; }
    TriggerTransition { ; name is_new is_table }
    JsonOutput { type_name returning ; }
    JsonArgument { val ; name }
    JsonFuncExpr {
        context_item pathspec passing output on_empty on_error ; op column_name wrapper quotes
        location
    }
    JsonTablePathSpec { string ; name name_location location }
    JsonTable { context_item pathspec passing columns on_error alias ; lateral location }
    JsonTableColumn {
        type_name pathspec format columns on_empty on_error ; coltype name wrapper quotes location
    }
    JsonKeyValue { key value ; }
    JsonParseExpr { expr output ; unique_keys location }
    JsonScalarExpr { expr output ; location }
    JsonSerializeExpr { expr output ; location }
    JsonObjectConstructor { exprs output ; absent_on_null unique location }
    JsonArrayConstructor { exprs output ; absent_on_null location }
    JsonArrayQueryConstructor { query output format ; absent_on_null location }
    JsonAggConstructor { output agg_filter agg_order over ; location }
    JsonObjectAgg { constructor arg ; absent_on_null unique }
    JsonArrayAgg { constructor arg ; absent_on_null }
    ObjectWithArgs { objname objargs objfuncargs ; args_unspecified }
    AccessPriv { cols ; priv_name }
    StatsElem { expr ; name }
    FunctionParameter { arg_type defexpr ; name mode location }
    ReplicaIdentityStmt { ; identity_type name }
    AtAlterConstraint {
        ; conname alter_enforceability is_enforced alter_deferrability deferrable initdeferred
        alter_inheritability noinherit
    }
    Integer { ; ival }
    Float { ; fval }
    Boolean { ; boolval }
    String { ; sval }
    BitString { ; bsval }
    List { items ; }
}

impl<'t> Visit<'t> for AConst {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            isnull: _,
            location: _,
            val,
        } = self;
        walk.saw("AConst");
        match val {
            None => {}
            Some(a_const::Val::Ival(value)) => value.visit(walk),
            Some(a_const::Val::Fval(value)) => value.visit(walk),
            Some(a_const::Val::Boolval(value)) => value.visit(walk),
            Some(a_const::Val::Sval(value)) => value.visit(walk),
            Some(a_const::Val::Bsval(value)) => value.visit(walk),
        }
    }
}

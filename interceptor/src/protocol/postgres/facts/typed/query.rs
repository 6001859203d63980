//! Queries and the statements that change rows: what is read, what is written, what `WITH` hides.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::*;

use super::{Visit, Walk, children, words};
use crate::policy::Action;
use crate::protocol::postgres::facts::draft::{Object, Write};
use crate::protocol::postgres::facts::evidence::Role;

impl<'t> Walk<'t> {
    /// Walks a `WITH` clause and leaves its names in scope until `close`.
    ///
    /// A recursive clause shows each name to all of its queries, a plain one only to those that follow.
    fn open(&mut self, clause: Option<&'t WithClause>) {
        self.scopes.push(Vec::new());
        let Some(WithClause {
            ctes,
            recursive,
            location: _,
        }) = clause
        else {
            return;
        };
        self.saw("WithClause");
        if *recursive {
            ctes.iter().for_each(|query| self.show(query));
        }
        for query in ctes {
            query.visit(self);
            if !*recursive {
                self.show(query);
            }
        }
    }

    fn show(&mut self, query: &'t Node) {
        if let (Some(Kind::CommonTableExpr(query)), Some(scope)) =
            (&query.node, self.scopes.last_mut())
        {
            scope.push(&query.ctename);
            let times = self.visible.entry(&query.ctename).or_default();
            *times = times.saturating_add(1);
        }
    }

    fn close(&mut self) {
        for name in self.scopes.pop().unwrap_or_default() {
            if let Some(times) = self.visible.get_mut(name) {
                *times = times.saturating_sub(1);
            }
        }
    }

    /// `FOR UPDATE` and its like, over the uses that the query's `FROM` made. Without `OF` it locks
    /// all of them, those of queries in `FROM` too.
    fn lock(&mut self, clauses: &'t [Node], from: Range<usize>) {
        let mut locked = BTreeMap::new();
        for keys in [false, true] {
            let (mut labels, mut all) = (HashSet::new(), false);
            for clause in clauses {
                if let Some(Kind::LockingClause(clause)) = &clause.node
                    && keys == (clause.strength == i32::from(LockClauseStrength::LcsForupdate))
                {
                    all |= clause.locked_rels.is_empty();
                    labels.extend(clause.locked_rels.iter().filter_map(label));
                }
            }
            for at in self.locked(labels, all, &from) {
                *locked.entry(at).or_default() |= keys;
            }
        }
        for (at, keys) in locked {
            if let Some(used) = self.draft.uses.get(at).copied()
                && used.action == Action::Select
            {
                if let (true, Object::Relation { schema, name }) = (keys, used.object) {
                    self.draft.locked.insert((schema, name));
                }
                self.ask(Action::Lock, used.object);
            }
        }
    }

    /// The uses that are locked by these labels, or all of them, by their places.
    fn locked(&self, mut labels: HashSet<&str>, all: bool, from: &Range<usize>) -> Vec<usize> {
        let mut locked = Vec::new();
        for mark in self.marks.iter().filter(|mark| mark.level == self.level) {
            if labels.remove(mark.label) {
                locked.extend(mark.uses.clone());
            }
        }
        // A label that is not found is the server's error; until then it locks everything.
        if all || !labels.is_empty() {
            locked = from.clone().collect();
        }
        locked
    }

    /// Begins a statement that is not a query: its rows are bounded by no `LIMIT`.
    fn change(&mut self, words: &'static str, with: Option<&'t WithClause>) {
        self.begin(words);
        self.outermost = false;
        self.open(with);
    }

    fn written(&mut self, relation: Option<&'t RangeVar>, actions: &[Action]) {
        if let Some(relation) = relation {
            self.relation(relation, Role::Written, actions);
        }
    }

    fn also(&mut self, relation: Option<&'t RangeVar>, action: Action) {
        if let Some(RangeVar {
            schemaname: schema,
            relname: name,
            ..
        }) = relation
        {
            self.ask(action, Object::Relation { schema, name });
        }
    }

    /// An `UPDATE` or `DELETE`; `reads` where it uses a column of its table.
    fn bounded(&mut self, relation: Option<&'t RangeVar>, condition: Option<&Node>, reads: bool) {
        if condition.is_none() {
            self.draft.has_where = false;
            self.evidence.unbounded = self.evidence.unbounded.saturating_add(1);
        }
        if reads || condition.is_some() {
            self.also(relation, Action::Select);
        }
    }
}

fn label(node: &Node) -> Option<&str> {
    if let Some(Kind::RangeVar(label)) = &node.node {
        Some(&label.relname)
    } else {
        None
    }
}

/// Whether a literal number bounds the rows: a parameter or an expression may turn out to be null.
fn is_limit(select: &SelectStmt) -> bool {
    let count = select
        .limit_count
        .as_ref()
        .and_then(|count| count.node.as_ref());
    let is_number = match count {
        Some(Kind::AConst(count)) => {
            matches!(
                count.val,
                Some(a_const::Val::Ival(_) | a_const::Val::Fval(_))
            )
        }
        Some(_) | None => false,
    };
    is_number && select.limit_option != i32::from(LimitOption::WithTies)
}

impl<'t> Visit<'t> for SelectStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin("SELECT");
        if std::mem::take(&mut walk.outermost) {
            walk.draft.is_query = true;
            walk.draft.has_limit = is_limit(self);
        }
        walk.open(self.with_clause.as_ref());
        walk.level = walk.level.saturating_add(1);
        let marks = walk.marks.len();
        let start = walk.draft.uses.len();
        self.larg.visit(walk);
        self.rarg.visit(walk);
        self.from_clause.visit(walk);
        let from = start..walk.draft.uses.len();
        let Self {
            with_clause: _,
            larg: _,
            rarg: _,
            from_clause: _,
            distinct_clause,
            into_clause,
            target_list,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            op: _,
            all: _,
        } = self;
        walk.saw("SelectStmt");
        if !group_clause.is_empty() {
            walk.draft.grouped.push(self);
        }
        let lists = [
            distinct_clause,
            target_list,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
        ];
        lists.into_iter().for_each(|list| list.visit(walk));
        let parts = [where_clause, having_clause, limit_offset, limit_count];
        parts.into_iter().for_each(|part| part.visit(walk));
        into_clause.visit(walk);
        locking_clause.visit(walk);
        if !locking_clause.is_empty() {
            walk.lock(locking_clause, from);
        }
        walk.marks.truncate(marks);
        walk.level = walk.level.saturating_sub(1);
        walk.close();
    }
}

impl<'t> Visit<'t> for InsertStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = self;
        walk.change("INSERT", with_clause.as_ref());
        walk.saw("InsertStmt");
        walk.draft.writes.push(Write::Insert(self));
        let target = relation.as_ref();
        walk.written(target, &[Action::Insert]);
        cols.visit(walk);
        select_stmt.visit(walk);
        on_conflict_clause.visit(walk);
        returning_clause.visit(walk);
        if let Some(conflict) = on_conflict_clause {
            if conflict.action == i32::from(OnConflictAction::OnconflictUpdate) {
                walk.also(target, Action::Update);
            }
            // Which rows exist already shows in which are left out.
            walk.also(target, Action::Select);
        }
        if returning_clause.is_some() {
            walk.also(target, Action::Select);
        }
        walk.close();
    }
}

impl<'t> Visit<'t> for UpdateStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = self;
        walk.change("UPDATE", with_clause.as_ref());
        walk.saw("UpdateStmt");
        walk.draft.writes.push(Write::Update(self));
        let target = relation.as_ref();
        if target.is_some_and(|target| target.relname == "pg_settings") {
            walk.refuse("an update of pg_settings, which is a SET by another name");
        }
        walk.written(target, &[Action::Update]);
        let before = walk.columns;
        target_list.visit(walk);
        from_clause.visit(walk);
        where_clause.visit(walk);
        returning_clause.visit(walk);
        let reads = walk.columns != before || returning_clause.is_some() || !from_clause.is_empty();
        walk.bounded(target, where_clause.as_deref(), reads);
        walk.close();
    }
}

impl<'t> Visit<'t> for DeleteStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = self;
        walk.change("DELETE", with_clause.as_ref());
        walk.saw("DeleteStmt");
        walk.draft.writes.push(Write::Delete(self));
        let target = relation.as_ref();
        walk.written(target, &[Action::Delete]);
        using_clause.visit(walk);
        where_clause.visit(walk);
        returning_clause.visit(walk);
        let reads = returning_clause.is_some() || !using_clause.is_empty();
        walk.bounded(target, where_clause.as_deref(), reads);
        walk.close();
    }
}

impl<'t> Visit<'t> for MergeStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = self;
        walk.change("MERGE", with_clause.as_ref());
        walk.saw("MergeStmt");
        walk.draft.writes.push(Write::Merge(self));
        let target = relation.as_ref();
        walk.written(target, &[Action::Merge, Action::Select]);
        source_relation.visit(walk);
        join_condition.visit(walk);
        for clause in merge_when_clauses {
            clause.visit(walk);
            if let Some(Kind::MergeWhenClause(clause)) = &clause.node {
                match CmdType::try_from(clause.command_type) {
                    Ok(CmdType::CmdInsert) => walk.also(target, Action::Insert),
                    Ok(CmdType::CmdUpdate) => walk.also(target, Action::Update),
                    Ok(CmdType::CmdDelete) => walk.also(target, Action::Delete),
                    Ok(CmdType::CmdNothing) => {}
                    Ok(
                        CmdType::Undefined
                        | CmdType::CmdUnknown
                        | CmdType::CmdSelect
                        | CmdType::CmdMerge
                        | CmdType::CmdUtility,
                    )
                    | Err(_) => walk.refuse("a MERGE that does something unknown"),
                }
            }
        }
        returning_clause.visit(walk);
        walk.close();
    }
}

impl<'t> Visit<'t> for LockingClause {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            locked_rels,
            strength: _,
            wait_policy: _,
        } = self;
        walk.saw("LockingClause");
        walk.relations(locked_rels, Role::Label, &[]);
    }
}

impl<'t> Visit<'t> for RangeVar {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.read(self);
    }
}

impl<'t> Visit<'t> for JoinExpr {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, JoinExpr {
            larg rarg using_clause join_using_alias quals alias ; jointype is_natural rtindex
        });
    }
}

impl<'t> Visit<'t> for RangeSubselect {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let start = walk.draft.uses.len();
        children!(walk, self, RangeSubselect { subquery alias ; lateral });
        if let Some(alias) = &self.alias {
            walk.mark(&alias.aliasname, start);
        }
    }
}

/// Ways to sample a table that come with the server. They are not on the list of harmless functions,
/// because a function of their name is never one of them.
const BUILTIN_SAMPLING: [&[&str]; 4] = [
    &["bernoulli"],
    &["system"],
    &["pg_catalog", "bernoulli"],
    &["pg_catalog", "system"],
];

impl<'t> Visit<'t> for RangeTableSample {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, RangeTableSample { relation method args repeatable ; location });
        walk.draft.samples.push(self);
        let method = words(&self.method);
        walk.evidence.functions.push(method.join("."));
        if !BUILTIN_SAMPLING.contains(&method.as_slice()) {
            walk.call(&method);
        }
    }
}

impl<'t> Visit<'t> for WithClause {
    /// Only the statement that owns a clause knows where its names reach.
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.refuse("a WITH clause outside of a statement");
    }
}

impl<'t> Visit<'t> for Query {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.refuse("a query that is already analysed");
    }
}

impl<'t> Visit<'t> for IntoClause {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            rel,
            col_names,
            access_method: _,
            options,
            on_commit: _,
            table_space_name: _,
            view_query,
            skip_data: _,
        } = self;
        walk.saw("IntoClause");
        walk.created(rel.as_ref());
        col_names.visit(walk);
        options.visit(walk);
        view_query.visit(walk);
    }
}

impl<'t> Visit<'t> for ColumnRef {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, ColumnRef { fields ; location });
        walk.columns = walk.columns.saturating_add(1);
        walk.draft.columns.push(self);
        words(&self.fields)
            .into_iter()
            .skip(1)
            .for_each(|name| walk.field(name));
    }
}

impl<'t> Visit<'t> for AIndirection {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, AIndirection { arg indirection ; });
        words(&self.indirection)
            .into_iter()
            .for_each(|name| walk.field(name));
    }
}

impl<'t> Visit<'t> for AExpr {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, AExpr { name lexpr rexpr ; kind rexpr_list_start rexpr_list_end location });
        walk.operator(&self.name);
    }
}

impl<'t> Visit<'t> for SubLink {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, SubLink {
            xpr testexpr oper_name subselect ; sub_link_type sub_link_id location
        });
        walk.operator(&self.oper_name);
    }
}

impl<'t> Visit<'t> for SortBy {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, SortBy { node use_op ; sortby_dir sortby_nulls location });
        walk.operator(&self.use_op);
    }
}

impl<'t> Visit<'t> for TypeName {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, TypeName {
            names typmods array_bounds ; type_oid setof pct_type typemod location
        });
        walk.draft.types.push(self);
    }
}

impl<'t> Visit<'t> for FuncCall {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, FuncCall {
            funcname args agg_order agg_filter over ;
            agg_within_group agg_star agg_distinct func_variadic funcformat location
        });
        let parts = words(&self.funcname);
        walk.function(&parts);
        walk.draft.values_matter |= matches!(
            parts.last().copied(),
            Some("set_config" | "current_setting")
        );
        match (parts.last().copied(), self.args.first().and_then(plain)) {
            (Some("set_config"), name) => match name.or(walk.setting_of_all) {
                Some(name) => {
                    walk.set(name);
                    walk.changes(name, None, false);
                }
                None => walk.refuse("a setting whose name is computed"),
            },
            (Some("current_setting"), Some(name)) => walk.setting(name),
            (Some("current_setting"), None) => walk.draft.computes_setting = true,
            (Some(_), _) | (None, _) => {}
        }
    }
}

/// The text of a string constant, a cast to `text` included. Another cast may make another text of it: `bpchar`
/// drops blanks, `varchar(11)` cuts, `xml` drops a declaration.
pub(super) fn plain(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Kind::AConst(_)) => literal(node),
        Some(Kind::TypeCast(cast)) => {
            let to = cast.type_name.as_ref()?;
            let is_text = matches!(
                words(&to.names).as_slice(),
                ["text"] | ["pg_catalog", "text"]
            ) && to.typmods.is_empty()
                && to.array_bounds.is_empty();
            literal(cast.arg.as_deref()?).filter(|_| is_text)
        }
        Some(_) | None => None,
    }
}

fn literal(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Kind::AConst(AConst {
            val: Some(a_const::Val::Sval(text)),
            ..
        })) => Some(&text.sval),
        Some(_) | None => None,
    }
}

//! Statements about the session: settings, transactions, prepared statements, cursors, `COPY`, code.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::*;

use super::{Visit, Walk, children};
use crate::policy::Action;
use crate::protocol::postgres::facts::Effect;
use crate::protocol::postgres::facts::draft::{Object, Write};
use crate::protocol::postgres::facts::evidence::Role;

impl<'t> Walk<'t> {
    /// A `SET` or `RESET` as a statement of its own.
    pub(super) fn sets(&mut self, set: &'t VariableSetStmt) {
        self.begin(
            if set.kind == i32::from(VariableSetKind::VarReset)
                || set.kind == i32::from(VariableSetKind::VarResetAll)
            {
                "RESET"
            } else {
                "SET"
            },
        );
        let kind = VariableSetKind::try_from(set.kind);
        if kind == Ok(VariableSetKind::VarSetValue) && is_needed(&set.name, &set.args) {
            return self.ask(Action::Transaction, Object::Database);
        }
        self.ask(Action::Set, Object::Database);
        match kind {
            Ok(VariableSetKind::VarSetValue) => {
                let to = schemas(&set.args);
                self.changes(&set.name, to, set.is_local);
            }
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset)
                if set.name.eq_ignore_ascii_case("search_path") =>
            {
                let local = set.is_local;
                self.draft.effects.push(Effect::ResetsSearchPath { local });
            }
            Ok(
                VariableSetKind::VarSetDefault
                | VariableSetKind::VarSetCurrent
                | VariableSetKind::VarReset,
            ) => self.changes(&set.name, None, set.is_local),
            // Characteristics of transactions: nothing that text is read by.
            Ok(VariableSetKind::VarSetMulti) => {}
            Ok(VariableSetKind::VarResetAll) => self.draft.effects.push(Effect::ResetsAll),
            Ok(VariableSetKind::Undefined) | Err(_) => self.refuse("a SET of an unknown kind"),
        }
    }

    /// A setting that becomes another one, and what that does to how later texts are read.
    pub(super) fn changes(
        &mut self,
        name: &str,
        to: Option<Vec<std::string::String>>,
        local: bool,
    ) {
        let effects = &mut self.draft.effects;
        match name.to_lowercase().as_str() {
            "search_path" => effects.push(Effect::SetsSearchPath { to, local }),
            // `$user` in the path is the current user.
            "role" | "session_authorization" => {
                effects.push(Effect::SetsSearchPath { to: None, local });
            }
            "client_encoding" => effects.push(Effect::SetsEncoding),
            "standard_conforming_strings" => effects.push(Effect::SetsConformingStrings),
            _ => {}
        }
    }
}

/// Whether a `SET` makes what must be so for the text to have been read at all. Drivers send these by
/// habit; they leave the session as it is and need no more permission than a transaction does.
fn is_needed(name: &str, values: &[Node]) -> bool {
    let [value] = values else { return false };
    let value = match &value.node {
        Some(Kind::AConst(AConst {
            val: Some(a_const::Val::Sval(text)),
            ..
        })) => text.sval.to_ascii_lowercase(),
        Some(_) | None => return false,
    };
    match name.to_ascii_lowercase().as_str() {
        // As `clean_encoding_name` (`common/encnames.c`): only letters and digits count.
        "client_encoding" if value.is_ascii() => {
            let letters = value.chars().filter(char::is_ascii_alphanumeric);
            matches!(
                letters.collect::<std::string::String>().as_str(),
                "utf8" | "unicode"
            )
        }
        "standard_conforming_strings" => value == "on",
        _ => false,
    }
}

/// The schemas of `SET search_path = a, b`, unless one of them stands for another.
fn schemas(values: &[Node]) -> Option<Vec<std::string::String>> {
    let name = |node: &Node| match &node.node {
        Some(Kind::AConst(AConst {
            val: Some(a_const::Val::Sval(text)),
            ..
        })) => {
            // The server cuts names here as anywhere, but not by the rules of the lexer.
            let is_plain = !text.sval.starts_with('$') && text.sval.len() < 63;
            is_plain.then(|| text.sval.clone())
        }
        Some(_) | None => None,
    };
    values
        .iter()
        .map(name)
        .filter(|name| name.as_deref() != Some(""))
        .collect()
}

impl<'t> Visit<'t> for VariableSetStmt {
    /// Also as a part of `ALTER SYSTEM`, `ALTER ROLE` and `CREATE FUNCTION`, where it sets nothing now.
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            kind,
            name,
            args,
            jumble_args: _,
            is_local: _,
            location: _,
        } = self;
        walk.saw("VariableSetStmt");
        walk.evidence.settings.push(name.to_lowercase().into());
        args.visit(walk);
        if *kind == i32::from(VariableSetKind::VarResetAll) {
            walk.setting("all");
        } else if *kind != i32::from(VariableSetKind::VarSetMulti) {
            let resets = [VariableSetKind::VarReset, VariableSetKind::VarSetDefault];
            match resets.map(i32::from).contains(kind) {
                true => walk.setting(name),
                false => walk.set(name),
            }
        } else if name == "TRANSACTION SNAPSHOT" {
            walk.setting("transaction_snapshot");
        } else {
            let prefix = if name == "TRANSACTION" {
                ""
            } else {
                "default_"
            };
            walk.characteristics(args, prefix);
        }
    }
}

impl Walk<'_> {
    /// `ISOLATION LEVEL`, `READ ONLY`, `DEFERRABLE` as the settings that they are.
    fn characteristics(&mut self, options: &[Node], prefix: &str) {
        for option in options {
            if let Some(Kind::DefElem(option)) = &option.node {
                self.setting(&format!("{prefix}{}", option.defname));
            }
        }
    }
}

impl<'t> Visit<'t> for VariableShowStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self { name } = self;
        walk.saw("VariableShowStmt");
        walk.utility("SHOW", Action::Show);
        walk.evidence.settings.push(name.to_lowercase().into());
        walk.setting(name);
    }
}

impl<'t> Visit<'t> for TransactionStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        children!(walk, self, TransactionStmt { options ; kind savepoint_name gid chain location });
        let chain = self.chain;
        let name = || self.savepoint_name.clone();
        let (words, action, effect) = match TransactionStmtKind::try_from(self.kind) {
            Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {
                walk.characteristics(&self.options, "");
                ("BEGIN", Action::Transaction, Some(Effect::Begin))
            }
            Ok(TransactionStmtKind::TransStmtCommit) => (
                "COMMIT",
                Action::Transaction,
                Some(Effect::Commit { chain }),
            ),
            Ok(TransactionStmtKind::TransStmtRollback) => (
                "ROLLBACK",
                Action::Transaction,
                Some(Effect::Rollback { chain }),
            ),
            Ok(TransactionStmtKind::TransStmtSavepoint) => (
                "SAVEPOINT",
                Action::Transaction,
                Some(Effect::Savepoint(name())),
            ),
            Ok(TransactionStmtKind::TransStmtRelease) => (
                "RELEASE",
                Action::Transaction,
                Some(Effect::Release(name())),
            ),
            Ok(TransactionStmtKind::TransStmtRollbackTo) => (
                "ROLLBACK TO",
                Action::Transaction,
                Some(Effect::RollbackTo(name())),
            ),
            // The block ends here and lives on outside of the session.
            Ok(TransactionStmtKind::TransStmtPrepare) => (
                "PREPARE TRANSACTION",
                Action::System,
                Some(Effect::Rollback { chain: false }),
            ),
            Ok(TransactionStmtKind::TransStmtCommitPrepared) => {
                ("COMMIT PREPARED", Action::System, None)
            }
            Ok(TransactionStmtKind::TransStmtRollbackPrepared) => {
                ("ROLLBACK PREPARED", Action::System, None)
            }
            Ok(TransactionStmtKind::Undefined) | Err(_) => {
                return walk.refuse("a transaction statement of an unknown kind");
            }
        };
        walk.utility(words, action);
        walk.draft.effects.extend(effect);
    }
}

impl<'t> Visit<'t> for ConstraintsSetStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            constraints,
            deferred: _,
        } = self;
        walk.saw("ConstraintsSetStmt");
        walk.utility("SET CONSTRAINTS", Action::Transaction);
        walk.relations(constraints, Role::Label, &[]);
    }
}

impl<'t> Visit<'t> for DiscardStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self { target } = self;
        walk.saw("DiscardStmt");
        walk.utility("DISCARD", Action::Set);
        match DiscardMode::try_from(*target) {
            Ok(DiscardMode::DiscardAll) => {
                walk.setting("all");
                walk.draft.effects.push(Effect::DiscardsAll);
            }
            Ok(DiscardMode::DiscardPlans) => walk.setting("plans"),
            Ok(DiscardMode::DiscardSequences) => walk.setting("sequences"),
            Ok(DiscardMode::DiscardTemp) => walk.setting("temp"),
            Ok(DiscardMode::Undefined) | Err(_) => walk.refuse("a DISCARD of an unknown kind"),
        }
    }
}

impl<'t> Visit<'t> for PrepareStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin("PREPARE");
        children!(walk, self, PrepareStmt { argtypes query ; name });
        walk.draft.prepares = Some(&self.name);
    }
}

impl<'t> Visit<'t> for ExecuteStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin("EXECUTE");
        children!(walk, self, ExecuteStmt { params ; name });
        walk.draft.executes.push(&self.name);
        walk.draft.effects.push(Effect::Executes {
            name: self.name.clone(),
        });
    }
}

impl<'t> Visit<'t> for DeallocateStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            name,
            isall,
            location: _,
        } = self;
        walk.saw("DeallocateStmt");
        walk.utility("DEALLOCATE", Action::Select);
        let all = *isall || name.is_empty();
        walk.draft
            .effects
            .push(Effect::Deallocates((!all).then(|| name.clone())));
    }
}

/// `CURSOR_OPT_HOLD`, the server's `nodes/parsenodes.h`.
const CURSOR_HOLD: i32 = 0x20;

impl<'t> Visit<'t> for DeclareCursorStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin("DECLARE CURSOR");
        children!(walk, self, DeclareCursorStmt { query ; portalname options });
        walk.draft.effects.push(Effect::DeclaresCursor {
            name: self.portalname.clone(),
            holds: self.options & CURSOR_HOLD != 0,
        });
    }
}

impl<'t> Visit<'t> for ClosePortalStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self { portalname } = self;
        walk.saw("ClosePortalStmt");
        walk.utility("CLOSE", Action::Select);
        let name = (!portalname.is_empty()).then(|| portalname.clone());
        walk.draft.effects.push(Effect::ClosesCursor(name));
    }
}

impl<'t> Visit<'t> for FetchStmt {
    /// What the cursor reads was judged when it was declared.
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            direction: _,
            how_many: _,
            portalname,
            ismove,
        } = self;
        walk.saw("FetchStmt");
        if !ismove {
            walk.draft.effects.push(Effect::Fetches(portalname.clone()));
        }
        walk.utility(if *ismove { "MOVE" } else { "FETCH" }, Action::Select);
    }
}

impl<'t> Visit<'t> for CopyStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = self;
        walk.begin("COPY");
        walk.saw("CopyStmt");
        walk.draft.writes.push(Write::Copy(self));
        let actions = if *is_from {
            [Action::CopyIn, Action::Insert]
        } else {
            [Action::CopyOut, Action::Select]
        };
        walk.named(relation.as_ref(), &actions);
        if query.is_some() {
            walk.ask(Action::CopyOut, Object::Database);
        }
        query.visit(walk);
        attlist.visit(walk);
        options.visit(walk);
        where_clause.visit(walk);
        if *is_program || !filename.is_empty() {
            walk.evidence.server_files = walk.evidence.server_files.saturating_add(1);
            walk.ask(Action::System, Object::Database);
        } else {
            walk.draft.effects.push(if *is_from {
                Effect::CopyIn
            } else {
                Effect::CopyOut
            });
            if !is_from && options.iter().any(names_columns) {
                walk.draft.effects.push(Effect::CopyHeader);
            }
        }
    }
}

/// Whether an option of a `COPY … TO` puts a line with the columns' names in front, for certain
/// (`defGetCopyHeaderOption`, `copy.c`).
fn names_columns(option: &Node) -> bool {
    let Some(Kind::DefElem(option)) = &option.node else {
        return false;
    };
    let value = option.arg.as_ref().and_then(|value| value.node.as_ref());
    option.defname == "header"
        && match value {
            None => true,
            Some(Kind::Boolean(value)) => value.boolval,
            Some(Kind::Integer(value)) => value.ival == 1,
            Some(Kind::String(value)) => ["true", "on"]
                .iter()
                .any(|word| value.sval.eq_ignore_ascii_case(word)),
            Some(_) => false,
        }
}

impl<'t> Visit<'t> for ExplainStmt {
    /// With `ANALYZE` or without, the explained statement's own accesses are asked for.
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.utility("EXPLAIN", Action::Explain);
        children!(walk, self, ExplainStmt { query options ; });
        walk.draft.effects.retain(|effect| {
            matches!(
                effect,
                Effect::SetsSearchPath { .. }
                    | Effect::ResetsSearchPath { .. }
                    | Effect::ResetsAll
                    | Effect::SetsEncoding
                    | Effect::SetsConformingStrings
            )
        });
    }
}

impl<'t> Visit<'t> for DoStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.utility("DO", Action::Do);
        children!(walk, self, DoStmt { args ; });
        walk.draft.effects.push(Effect::Unknown);
    }
}

impl<'t> Visit<'t> for CallStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.begin("CALL");
        children!(walk, self, CallStmt { funccall funcexpr outargs ; });
        if let Some(call) = &self.funccall {
            let parts = super::words(&call.funcname);
            let (schema, name) = super::qualified(&parts);
            walk.ask(Action::Call, Object::Function { schema, name });
        }
    }
}

impl<'t> Visit<'t> for FuncExpr {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        walk.refuse("a call that is already analysed");
    }
}

impl<'t> Visit<'t> for LockStmt {
    fn visit(&'t self, walk: &mut Walk<'t>) {
        let Self {
            relations,
            mode,
            nowait: _,
        } = self;
        walk.begin("LOCK");
        walk.saw("LockStmt");
        // Modes of the server's `storage/lockdefs.h`: reading takes the first, row locks and writing
        // the next two. What is stronger stops others from writing or reading a whole table.
        let actions: &[Action] = match mode {
            1 => &[Action::Select],
            2 | 3 => &[Action::Lock],
            _ => &[Action::Lock, Action::Maintain],
        };
        walk.relations(relations, Role::Named, actions);
    }
}

macro_rules! notifies {
    ($($kind:ident $words:literal $action:ident { $($rest:ident)* })*) => { $(
        impl<'t> Visit<'t> for $kind {
            fn visit(&'t self, walk: &mut Walk<'t>) {
                let Self { $($rest: _,)* } = self;
                walk.saw(stringify!($kind));
                walk.utility($words, Action::$action);
            }
        }
    )* };
}

notifies! {
    NotifyStmt "NOTIFY" Notify { conditionname payload payload_location }
    ListenStmt "LISTEN" Notify { conditionname }
    // Ends what the session itself began: a pool sends it with each connection that comes back.
    UnlistenStmt "UNLISTEN" Transaction { conditionname }
}

//! Which kinds of statement can be judged at all while columns are masked.
//!
//! A list of those that can: whatever stores code or text that is run later, moves data past SQL, or
//! lets masked relations be known by other names, is not on it.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{DefElem, ObjectType, ParseResult, ReindexObjectType};

use crate::protocol::postgres::mask::cover::Masking;
use crate::protocol::postgres::mask::resolve::Veto;

/// Whether every statement of a text is of a kind that can be masked.
pub(in super::super) fn check(masking: &Masking, parsed: &ParseResult) -> Result<(), Veto> {
    if masking.schema.is_none() {
        return Err(Veto::unclear(
            "what is masked in this database is not known",
        ));
    }
    for statement in &parsed.stmts {
        if let Some(kind) = statement.stmt.as_ref().and_then(|node| node.node.as_ref()) {
            one(kind)?;
            renames(masking, kind)?;
        }
    }
    Ok(())
}

/// Whether no `EXPLAIN` counts pages or bytes of the log: those are as many as values are long.
pub(in super::super) fn measures(masking: &Masking, parsed: &ParseResult) -> Result<(), Veto> {
    let by_default = masking
        .schema
        .as_ref()
        .is_none_or(|schema| schema.counts_pages);
    let kinds = parsed
        .stmts
        .iter()
        .filter_map(|statement| statement.stmt.as_ref()?.node.as_ref());
    for kind in kinds {
        let Kind::ExplainStmt(explain) = kind else {
            continue;
        };
        let (mut counts, mut runs, mut told) = (false, false, false);
        for option in &explain.options {
            match &option.node {
                Some(Kind::DefElem(option)) => match option.defname.as_str() {
                    "wal" => counts |= is_on(option),
                    "buffers" => {
                        counts |= is_on(option);
                        told = true;
                    }
                    "analyze" => runs |= is_on(option),
                    _ => {}
                },
                _ => counts = true,
            }
        }
        if counts || by_default && runs && !told {
            return Err(Veto::never("EXPLAIN with WAL or BUFFERS of a masked table"));
        }
    }
    Ok(())
}

/// As the server reads it (`defGetBoolean`); what is not certainly off is on.
fn is_on(option: &DefElem) -> bool {
    match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
        Some(Kind::String(word)) => {
            !(word.sval.eq_ignore_ascii_case("off") || word.sval.eq_ignore_ascii_case("false"))
        }
        Some(Kind::Integer(number)) => number.ival != 0,
        Some(Kind::Boolean(truth)) => truth.boolval,
        _ => true,
    }
}

/// Nothing gets the name of what is masked or closed.
fn renames(masking: &Masking, kind: &Kind) -> Result<(), Veto> {
    match kind {
        Kind::RenameStmt(rename)
            if rename.relation.is_some()
                && rename.subname.is_empty()
                && masking.names.contains(&rename.newname) =>
        {
            Err(Veto::never(&format!(
                "another relation of the name of a masked or closed one, {},",
                rename.newname
            )))
        }
        _ => Ok(()),
    }
}

fn one(kind: &Kind) -> Result<(), Veto> {
    match kind {
        Kind::CopyStmt(copy) if copy.is_program || !copy.filename.is_empty() => {
            Err(Veto::never("COPY with a file or a program of the server"))
        }
        // Of an index nothing is known, and all in a schema may be masked.
        Kind::ReindexStmt(reindex)
            if reindex.kind != i32::from(ReindexObjectType::ReindexObjectTable) =>
        {
            Err(Veto::never("REINDEX of anything but a table"))
        }
        Kind::RenameStmt(rename) if rename.rename_type == i32::from(ObjectType::ObjectSchema) => {
            Err(Veto::never("renaming a schema"))
        }
        Kind::SelectStmt(_)
        | Kind::InsertStmt(_)
        | Kind::UpdateStmt(_)
        | Kind::DeleteStmt(_)
        | Kind::MergeStmt(_)
        | Kind::CreateTableAsStmt(_)
        | Kind::ViewStmt(_)
        | Kind::PrepareStmt(_)
        | Kind::ExecuteStmt(_)
        | Kind::DeallocateStmt(_)
        | Kind::DeclareCursorStmt(_)
        | Kind::FetchStmt(_)
        | Kind::ClosePortalStmt(_)
        | Kind::CopyStmt(_)
        | Kind::ExplainStmt(_)
        | Kind::TransactionStmt(_)
        | Kind::VariableSetStmt(_)
        | Kind::VariableShowStmt(_)
        | Kind::ConstraintsSetStmt(_)
        | Kind::DiscardStmt(_)
        | Kind::LockStmt(_)
        | Kind::TruncateStmt(_)
        | Kind::VacuumStmt(_)
        | Kind::CreateStmt(_)
        | Kind::CreateSeqStmt(_)
        | Kind::AlterSeqStmt(_)
        | Kind::CreateEnumStmt(_)
        | Kind::AlterEnumStmt(_)
        | Kind::CompositeTypeStmt(_)
        | Kind::IndexStmt(_)
        | Kind::AlterTableStmt(_)
        | Kind::RenameStmt(_)
        | Kind::DropStmt(_)
        | Kind::CommentStmt(_)
        | Kind::GrantStmt(_)
        | Kind::RefreshMatViewStmt(_)
        | Kind::ReindexStmt(_)
        | Kind::ListenStmt(_)
        | Kind::UnlistenStmt(_)
        | Kind::NotifyStmt(_)
        | Kind::CallStmt(_)
        | Kind::CheckPointStmt(_) => Ok(()),
        _ => Err(Veto::never("a statement of this kind")),
    }
}

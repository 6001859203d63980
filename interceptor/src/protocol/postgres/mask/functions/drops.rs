//! What a `DROP` takes away: nothing that a mask hangs on, or by which it is known what is masked.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{DropBehavior, DropStmt, GrantTargetType, Node, ObjectType, RangeVar};

use crate::protocol::postgres::mask::cover::Masking;
use crate::protocol::postgres::mask::resolve::{Meaning, Veto};

/// Whether a statement drops nothing of that, and gives nothing away by the name of its schema.
pub(in super::super) fn check(
    masking: &Masking,
    kind: &Kind,
    path: Option<&[String]>,
) -> Result<(), Veto> {
    match kind {
        Kind::DropStmt(drop) => dropped(masking, drop, path),
        Kind::GrantStmt(grant) if grant.targtype != i32::from(GrantTargetType::AclTargetObject) => {
            Err(Veto::never("GRANT on all that is in a schema"))
        }
        _ => Ok(()),
    }
}

fn dropped(masking: &Masking, drop: &DropStmt, path: Option<&[String]>) -> Result<(), Veto> {
    use ObjectType as T;
    let cascades = drop.behavior == i32::from(DropBehavior::DropCascade);
    let mut names = drop.objects.iter().map(words);
    match ObjectType::try_from(drop.remove_type) {
        Ok(
            T::ObjectTable
            | T::ObjectForeignTable
            | T::ObjectView
            | T::ObjectMatview
            | T::ObjectSequence,
        ) => names.try_for_each(|name| relation(masking, &name, path)),
        Ok(T::ObjectTrigger | T::ObjectRule | T::ObjectPolicy) => names.try_for_each(|name| {
            let (_, of) = name.split_last().unwrap_or((&"", &[]));
            relation(masking, of, path)
        }),
        // Whose it is, and what refers to what by it, is not known.
        Ok(T::ObjectIndex) => match names.all(|name| matches!(name.as_slice(), ["pg_temp", _])) {
            true => Ok(()),
            false => Err(Veto::never("DROP INDEX")),
        },
        Ok(_) if !cascades => Ok(()),
        Ok(_) => Err(Veto::never(
            "DROP with CASCADE of what tables may be made of",
        )),
        Err(_unknown) => Err(Veto::unclear("a DROP of something unknown")),
    }
}

/// Whether a relation, of which something is dropped or all of it, has nothing to do with what is masked.
fn relation(masking: &Masking, name: &[&str], path: Option<&[String]>) -> Result<(), Veto> {
    let (schema, name) = match name {
        [.., schema, name] => (*schema, *name),
        [name] => ("", *name),
        [] => return Err(Veto::unclear("a DROP of something without a name")),
    };
    let named = RangeVar {
        schemaname: schema.to_owned(),
        relname: name.to_owned(),
        ..RangeVar::default()
    };
    let refused = |schema: &str| {
        Veto::never(&format!(
            "DROP of or on {schema}.{name}, which is masked or tied to a masked column,"
        ))
    };
    match masking.resolve(&named, path) {
        Ok(Meaning::Masked(table, _)) => Err(refused(&table.schema)),
        Ok(Meaning::Plain(table, _)) if masking.bound.contains(&table.oid) => {
            Err(refused(&table.schema))
        }
        Ok(Meaning::Plain(..) | Meaning::System(_) | Meaning::Elsewhere(_)) => Ok(()),
        Err(veto) if masking.names.contains(name) => Err(veto),
        // None that was there before.
        Err(_veto) => Ok(()),
    }
}

/// The words of a name.
fn words(object: &Node) -> Vec<&str> {
    match &object.node {
        Some(Kind::List(list)) => list.items.iter().filter_map(word).collect(),
        _ => word(object).into_iter().collect(),
    }
}

fn word(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Kind::String(word)) => Some(word.sval.as_str()),
        _ => None,
    }
}

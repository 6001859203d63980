//! What `DROP`, `COMMENT`, `ALTER` and `GRANT` name, as something that policy knows.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{Node, ObjectType};

use super::{Walk, qualified, word, words};
use crate::policy::Action;
use crate::protocol::postgres::facts::draft::Object;

/// How a kind of object is named.
enum Naming {
    /// `[schema.]relation`.
    Relation,
    /// `[schema.]relation.part`.
    PartOfRelation,
    /// With arguments, `[schema.]function(…)`.
    Function,
    Schema,
    /// A name list, in a schema.
    Listed,
    /// A name list whose first word is an index method.
    ListedByMethod,
    /// A type name, alone or with a constraint of it.
    Type,
    /// With arguments, `[schema.]operator(…)`.
    Operator,
    /// In no schema, or not judged by it.
    Database(Action),
}

/// How objects of a kind are named; `ddl` is what is done to the ones that are data definition.
fn naming(kind: ObjectType, ddl: Action) -> Naming {
    use ObjectType as T;
    match kind {
        T::ObjectTable
        | T::ObjectView
        | T::ObjectMatview
        | T::ObjectSequence
        | T::ObjectIndex
        | T::ObjectForeignTable => Naming::Relation,
        T::ObjectColumn
        | T::ObjectRule
        | T::ObjectTrigger
        | T::ObjectPolicy
        | T::ObjectTabconstraint => Naming::PartOfRelation,
        T::ObjectFunction | T::ObjectProcedure | T::ObjectRoutine | T::ObjectAggregate => {
            Naming::Function
        }
        T::ObjectSchema => Naming::Schema,
        T::ObjectType | T::ObjectDomain | T::ObjectDomconstraint => Naming::Type,
        T::ObjectOperator => Naming::Operator,
        T::ObjectOpclass | T::ObjectOpfamily => Naming::ListedByMethod,
        T::ObjectCollation
        | T::ObjectConversion
        | T::ObjectStatisticExt
        | T::ObjectTsconfiguration
        | T::ObjectTsdictionary
        | T::ObjectTsparser
        | T::ObjectTstemplate => Naming::Listed,
        T::ObjectAccessMethod
        | T::ObjectEventTrigger
        | T::ObjectExtension
        | T::ObjectFdw
        | T::ObjectForeignServer
        | T::ObjectLanguage
        | T::ObjectParameterAcl
        | T::ObjectPublication
        | T::ObjectPublicationNamespace
        | T::ObjectPublicationRel
        | T::ObjectSubscription
        | T::ObjectTablespace
        | T::ObjectUserMapping
        | T::ObjectDatabase => Naming::Database(Action::System),
        T::ObjectRole | T::ObjectDefacl => Naming::Database(Action::Grant),
        T::Undefined
        | T::ObjectAmop
        | T::ObjectAmproc
        | T::ObjectAttribute
        | T::ObjectCast
        | T::ObjectDefault
        | T::ObjectLargeobject
        | T::ObjectTransform => Naming::Database(ddl),
    }
}

impl<'t> Walk<'t> {
    /// Asks for `action` on an object of a kind; the node itself has been walked already.
    pub(super) fn object(&mut self, kind: i32, node: Option<&'t Node>, action: Action) {
        let Ok(kind) = ObjectType::try_from(kind) else {
            return self.refuse("an object of an unknown kind");
        };
        let parts = node.map(names).unwrap_or_default();
        match naming(kind, action) {
            Naming::Database(own) => {
                self.ask(action, Object::Database);
                if action == Action::Ddl {
                    self.ask(own, Object::Database);
                }
            }
            Naming::Schema => {
                for name in parts {
                    self.ask(action, Object::Schema(name));
                }
            }
            Naming::Relation => {
                let (schema, name) = qualified(&parts);
                self.ask(action, Object::Relation { schema, name });
            }
            Naming::PartOfRelation => {
                let (_, relation) = parts.split_last().unwrap_or((&"", &[]));
                let (schema, name) = qualified(relation);
                self.ask(action, Object::Relation { schema, name });
            }
            Naming::Function => {
                let (schema, name) = qualified(&parts);
                self.ask(action, Object::Function { schema, name });
            }
            Naming::ListedByMethod => {
                let (_, name) = parts.split_first().unwrap_or((&"", &[]));
                self.ask(action, Object::Within(qualified(name).0));
            }
            Naming::Listed | Naming::Type | Naming::Operator => {
                self.ask(action, Object::Within(qualified(&parts).0));
            }
        }
    }

    /// Asks for data definition on a thing that is known by its schema.
    pub(super) fn defines(&mut self, name: &'t [Node]) {
        self.ask(Action::Ddl, Object::Within(qualified(&words(name)).0));
    }

    /// Asks for data definition on a function.
    pub(super) fn defines_function(&mut self, name: &'t [Node]) {
        let (schema, name) = qualified(&words(name));
        self.ask(Action::Ddl, Object::Function { schema, name });
    }

    /// Functions that a definition wraps run later without being named: they are asked for here.
    pub(super) fn wraps(&mut self, options: &'t [Node]) {
        for option in options {
            if let Some(Kind::DefElem(option)) = &option.node
                && let Some(Kind::TypeName(name)) =
                    option.arg.as_ref().and_then(|arg| arg.node.as_ref())
                && WRAPPED.contains(&option.defname.as_str())
            {
                self.call(&words(&name.names));
            }
        }
    }
}

/// Options of `CREATE AGGREGATE`, `CREATE OPERATOR` and `CREATE TYPE` that name a function.
const WRAPPED: [&str; 29] = [
    "analyze",
    "canonical",
    "combinefunc",
    "deserialfunc",
    "end",
    "finalfunc",
    "function",
    "gettoken",
    "headline",
    "init",
    "input",
    "join",
    "lexize",
    "lextypes",
    "mfinalfunc",
    "minvfunc",
    "msfunc",
    "output",
    "procedure",
    "receive",
    "restrict",
    "send",
    "serialfunc",
    "sfunc",
    "start",
    "subscript",
    "subtype_diff",
    "typmod_in",
    "typmod_out",
];

/// The words of an object's name, however the grammar wraps them.
fn names(node: &Node) -> Vec<&str> {
    match &node.node {
        Some(Kind::List(list)) => match list.items.first().and_then(|first| first.node.as_ref()) {
            Some(Kind::TypeName(name)) => words(&name.names),
            Some(_) | None => words(&list.items),
        },
        Some(Kind::ObjectWithArgs(object)) => words(&object.objname),
        Some(Kind::TypeName(name)) => words(&name.names),
        Some(_) | None => word(node).into_iter().collect(),
    }
}

//! The schema and its Rust names say the same, and an id names one resource only.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, EntityUid};
use proptest::prelude::*;

use super::*;
use crate::policy::{ControlVerb, Resource};

fn names_of<'a>(uids: impl Iterator<Item = &'a EntityUid>) -> BTreeSet<String> {
    uids.map(|uid| uid.id().unescaped().to_owned()).collect()
}

#[test]
fn the_schema_has_exactly_the_actions_that_are_judged() {
    let groups = [
        "Read",
        "Write",
        "Admin",
        "Session",
        "HttpRead",
        "HttpWrite",
        "SshRun",
        "SshRead",
        "SshWrite",
        "SshForward",
        "KubeRead",
        "KubeWrite",
        "KubeRun",
        "KubeAdmin",
        "Control",
    ];
    let ours: BTreeSet<_> = Action::ALL
        .map(Action::name)
        .into_iter()
        .chain(ControlVerb::ALL.map(ControlVerb::name))
        .chain(["Resolve"])
        .chain(groups)
        .map(str::to_owned)
        .collect();
    assert_eq!(names_of(PARSED.actions()), ours);
    assert_eq!(
        names_of(PARSED.action_groups()),
        groups.map(str::to_owned).into()
    );
}

#[test]
fn every_action_has_the_name_that_it_is_serialised_with() {
    for action in Action::ALL {
        assert_eq!(serde_json::json!(action), action.name());
    }
    for verb in ControlVerb::ALL {
        assert_eq!(serde_json::json!(verb), verb.name());
    }
}

#[test]
fn the_schema_has_exactly_the_types_that_entities_are_made_of() {
    let theirs: BTreeSet<_> = PARSED.entity_types().map(ToString::to_string).collect();
    let ours: BTreeSet<_> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Action)
        .map(|kind| kind.name().to_owned())
        .collect();
    assert_eq!(theirs, ours);
}

#[test]
fn groups_cover_what_the_documentation_says() {
    let groups = Entities::from_entities(ACTIONS.clone(), None).unwrap();
    let of = |group: &str| {
        let constraint = ActionConstraint::In(vec![uid(Kind::Action, group)]);
        super::super::compile::covered(&constraint, &groups)
            .into_iter()
            .map(Action::name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(of("Read"), "Select CopyOut Explain Show");
    assert_eq!(
        of("Write"),
        "Insert Update Delete Merge Truncate CopyIn Lock"
    );
    assert_eq!(of("Admin"), "Ddl Grant Maintain System Do");
    assert_eq!(of("Session"), "Transaction Set");
    assert_eq!(of("HttpRead"), "HttpGet HttpHead HttpOptions");
    assert_eq!(
        of("HttpWrite"),
        "HttpPost HttpPut HttpPatch HttpDelete HttpOther HttpUpgrade"
    );
    assert_eq!(of("KubeRead"), "KubeGet KubeList KubeWatch");
    assert_eq!(
        of("KubeWrite"),
        "KubeCreate KubeUpdate KubePatch KubeDelete KubeDeleteCollection KubeEvict"
    );
    assert_eq!(
        of("KubeRun"),
        "KubeExec KubeAttach KubePortForward KubeProxy KubeDebug"
    );
    assert_eq!(
        of("KubeAdmin"),
        "KubeToken KubeBind KubeEscalate KubeImpersonate"
    );
    assert_eq!(of("Control"), "");
}

fn id(target: &str, database: &str, resource: &Resource) -> (Kind, String) {
    chain(target, database, resource).pop().unwrap()
}

fn table(schema: &str, table: &str) -> Resource {
    Resource::Table {
        schema: schema.to_owned(),
        table: table.to_owned(),
    }
}

fn path(path: &str) -> Resource {
    Resource::Path {
        path: path.to_owned(),
    }
}

fn object(namespace: &str, resource: &str, name: &str) -> Resource {
    Resource::KubeObject {
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
    }
}

#[test]
fn an_object_lies_in_its_kind_its_namespace_and_the_cluster() {
    let ids = |resource: &Resource| -> Vec<_> {
        let chain = chain("prod", "", resource).into_iter();
        chain
            .map(|(kind, id)| format!("{}::{id}", kind.name()))
            .collect()
    };
    assert_eq!(
        ids(&object("a", "deployments.apps", "web.1")),
        [
            "Target::prod",
            "KubeNamespace::prod/a",
            "KubeObject::prod/a/deployments.apps",
            "KubeObject::prod/a/deployments.apps/web.1"
        ]
    );
    assert_eq!(
        ids(&object("", "nodes", "n")),
        [
            "Target::prod",
            "KubeObject::prod/\"\"/nodes",
            "KubeObject::prod/\"\"/nodes/n"
        ]
    );
}

#[test]
fn ids_read_as_people_write_them() {
    let column = Resource::Column {
        schema: "public".to_owned(),
        table: "customers".to_owned(),
        column: "email".to_owned(),
    };
    let rows = [
        (path("/"), "crm/"),
        (path("/v1/report.json"), "crm/v1/report.json"),
        (path("/a b"), "crm/\"a b\""),
        (Resource::Target, "crm"),
        (Resource::Database, "crm/app"),
        (table("public", "customers"), "crm/app/public.customers"),
        (column, "crm/app/public.customers.email"),
        (table("Big", "o'clock-1"), "crm/app/Big.o'clock-1"),
        (table("a.b", "c"), r#"crm/app/"a.b".c"#),
        (table("a", "b.c"), r#"crm/app/a."b.c""#),
        (table("", r#"say "hi""#), r#"crm/app/""."say ""hi""""#),
    ];
    for (resource, expected) in rows {
        assert_eq!(id("crm", "app", &resource).1, expected);
    }
}

#[test]
fn an_id_that_no_resource_has_is_not_read() {
    let rows = [
        (Kind::Target, ""),
        (Kind::Target, "crm/app"),
        (Kind::Target, "a.b"),
        (Kind::Target, r#""crm""#),
        (Kind::Database, "crm"),
        (Kind::Database, "crm/"),
        (Kind::Schema, "crm/app"),
        (Kind::Table, "customers"),
        (Kind::Table, "public.customers"),
        (Kind::Table, "crm/app/customers"),
        (Kind::Table, "crm/app/public.customers.email"),
        (Kind::Table, r#"crm/app/"public.customers"#),
        (Kind::Table, "crm/app/pub lic.customers"),
        (Kind::Column, "crm/app/public.customers"),
        (Kind::Path, "crm"),
        (Kind::Path, "crm/v1/"),
        (Kind::Path, "crm//v1"),
        (Kind::Path, "crm/a b"),
        (Kind::Path, r#"crm/"a""#),
        (Kind::Path, r#"crm/"a /b""#),
        (Kind::Agent, "crm"),
        (Kind::KubeNamespace, "prod"),
        (Kind::KubeNamespace, "prod/"),
        (Kind::KubeNamespace, "prod/\"\""),
        (Kind::KubeNamespace, "prod/a/pods"),
        (Kind::KubeObject, "prod/a"),
        (Kind::KubeObject, "prod/a/"),
        (Kind::KubeObject, "prod//pods"),
        (Kind::KubeObject, "prod/a/pods/"),
        (Kind::KubeObject, "prod/a/pods/p/log"),
        (Kind::KubeObject, "prod/a/\"pods\""),
    ];
    for (kind, id) in rows {
        assert_eq!(names(kind, id), None, "{kind:?} {id}");
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![r#"[a."/ ]{0,4}"#, any::<String>()]
}

proptest! {
    #[test]
    fn two_resources_never_have_one_id(
        a in prop::array::uniform4(any_name()),
        b in prop::array::uniform4(any_name()),
    ) {
        let one = id(&a[0], &a[1], &table(&a[2], &a[3]));
        let two = id(&b[0], &b[1], &table(&b[2], &b[3]));
        prop_assert_eq!(one == two, a == b);
    }

    #[test]
    fn two_objects_never_have_one_id(
        a in prop::array::uniform4(any_name()),
        b in prop::array::uniform4(any_name()),
    ) {
        let one = id(&a[0], "", &object(&a[1], &a[2], &a[3]));
        let two = id(&b[0], "", &object(&b[1], &b[2], &b[3]));
        prop_assert_eq!(one == two, a == b);
        if !a[2].is_empty() {
            let named = if a[3].is_empty() { &a[..3] } else { &a[..] };
            prop_assert_eq!(names(one.0, &one.1), Some(named.to_vec()));
        }
    }

    #[test]
    fn an_id_is_read_back_as_the_names_it_was_made_of(
        target in any_name(),
        database in any_name(),
        parts in prop::array::uniform3(any_name()),
    ) {
        let [schema, table, column] = parts;
        let resource = Resource::Column {
            schema: schema.clone(),
            table: table.clone(),
            column: column.clone(),
        };
        let (kind, id) = id(&target, &database, &resource);
        prop_assert_eq!(names(kind, &id), Some(vec![target, database, schema, table, column]));
    }
}

//! What is ever permitted: never less than a decision says, and no more where a rule says it of the resource.

use super::*;
use crate::policy::Generation;
use crate::policy::tests::load_text;

fn table(schema: &str, name: &str) -> Resource {
    Resource::Table {
        schema: schema.to_owned(),
        table: name.to_owned(),
    }
}

fn may(policy: &str, action: Action, resource: &Resource) -> bool {
    let policy = load_text(policy).unwrap();
    policy.ever().may(action, "crm", "app", resource)
}

const ORDERS: (&str, &str) = ("public", "orders");

#[test]
fn what_hangs_on_who_asks_or_on_the_statement_may_be() {
    for (condition, expected) in [
        ("", true),
        ("when { context.hasWhere }", true),
        ("unless { context.hasWhere }", true),
        ("when { principal.user.uid == 7 && context.hasLimit }", true),
        ("when { resource.schema == \"public\" }", true),
        ("when { resource.schema == \"other\" }", false),
        ("unless { resource.schema == \"public\" }", false),
        ("unless { resource.schema == \"other\" }", true),
        ("when { resource.name like \"ord*\" }", true),
        ("when { resource.name like \"*ers\" }", true),
        ("when { resource.name like \"o*r*s\" }", true),
        ("when { resource.name like \"pg_*\" }", false),
        ("when { resource.name like \"*order\" }", false),
        (
            "when { [\"orders\", \"items\"].contains(resource.name) }",
            true,
        ),
        ("when { [\"items\"].contains(resource.name) }", false),
        ("when { resource in Database::\"crm/app\" }", true),
        ("when { resource in Schema::\"crm/app/other\" }", false),
        (
            "when { resource in [Schema::\"crm/app/other\", Schema::\"crm/app/public\"] }",
            true,
        ),
        ("when { action == Action::\"Delete\" }", true),
        ("unless { action == Action::\"Delete\" }", false),
        (
            "when { resource == Table::\"crm/app/public.orders\" }",
            true,
        ),
        (
            "when { resource != Table::\"crm/app/public.orders\" }",
            false,
        ),
        (
            "when { resource.name == \"items\" && context.hasLimit }",
            false,
        ),
        (
            "when { resource.name == \"items\" || context.hasLimit }",
            true,
        ),
        (
            "when { resource.target == \"crm\" && resource.database == \"app\" }",
            true,
        ),
        (
            "when { if resource.name == \"items\" then true else context.hasWhere }",
            true,
        ),
        (
            "when { if resource.name == \"orders\" then false else context.hasWhere }",
            false,
        ),
        ("when { !(resource.name == \"orders\") }", false),
    ] {
        let policy = format!(
            "permit (principal is Agent, action in Action::\"Write\", resource is Table) {condition};"
        );
        let found = may(&policy, Action::Delete, &table(ORDERS.0, ORDERS.1));
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn a_scope_admits_what_lies_in_it_and_nothing_else() {
    for (scope, expected) in [
        ("principal is Agent, action, resource", true),
        (
            "principal is Agent, action in Action::\"Write\", resource",
            true,
        ),
        (
            "principal is Agent, action in Action::\"Read\", resource",
            false,
        ),
        ("principal == Agent::\"claude\", action, resource", true),
        (
            "principal is Agent, action, resource in Target::\"crm\"",
            true,
        ),
        (
            "principal is Agent, action, resource in Target::\"shop\"",
            false,
        ),
        (
            "principal is Agent, action, resource == Table::\"crm/app/public.orders\"",
            true,
        ),
        (
            "principal is Agent, action, resource is Table in Schema::\"crm/app/public\"",
            true,
        ),
        (
            "principal is Agent, action, resource is Table in Schema::\"crm/app/x\"",
            false,
        ),
    ] {
        let found = may(
            &format!("permit ({scope});"),
            Action::Insert,
            &table(ORDERS.0, ORDERS.1),
        );
        assert_eq!(found, expected, "{scope}");
    }
    assert!(!may(
        "permit (principal == User::\"7\", action == Action::\"Run\", resource);",
        Action::Insert,
        &table("a", "b")
    ));
}

#[test]
fn a_forbid_counts_only_where_it_certainly_applies_to_everybody() {
    for (forbid, expected) in [
        (
            "forbid (principal, action == Action::\"Delete\", resource)",
            false,
        ),
        ("forbid (principal is Agent, action, resource)", false),
        (
            "forbid (principal == Agent::\"claude\", action, resource)",
            true,
        ),
        (
            "forbid (principal is Agent, action in [Action::\"Read\", Action::\"Write\"], resource) unless { context.hasWhere }",
            true,
        ),
        (
            "forbid (principal is Agent, action == Action::\"Delete\", resource in Table::\"crm/app/public.orders\")",
            false,
        ),
        (
            "forbid (principal is Agent, action == Action::\"Delete\", resource in Table::\"crm/app/public.items\")",
            true,
        ),
        (
            "forbid (principal is Agent, action == Action::\"Insert\", resource)",
            true,
        ),
    ] {
        let policy = format!("permit (principal is Agent, action, resource);\n{forbid};");
        let found = may(&policy, Action::Delete, &table(ORDERS.0, ORDERS.1));
        assert_eq!(found, expected, "{forbid}");
    }
}

#[test]
fn the_packs_say_what_their_names_say() {
    let pack = |name: &str| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        Policy::load(&root.join(name), Generation(1))
            .unwrap()
            .ever()
    };
    let orders = table(ORDERS.0, ORDERS.1);
    let column = Resource::Column {
        schema: ORDERS.0.to_owned(),
        table: ORDERS.1.to_owned(),
        column: "id".to_owned(),
    };
    for (name, write, truncate) in [
        ("starter", false, false),
        ("read-write", true, false),
        ("allow-all", true, true),
    ] {
        let ever = pack(name);
        let may = |action, resource| ever.may(action, "crm", "app", resource);
        assert!(may(Action::Select, &orders), "{name}");
        for action in [Action::Insert, Action::Update, Action::Delete] {
            assert_eq!(may(action, &orders), write, "{name}: {action:?}");
        }
        assert_eq!(may(Action::Truncate, &orders), truncate, "{name}");
        assert!(!may(Action::Reveal, &column), "{name}");
    }
    let starter = pack("starter");
    assert!(!starter.may(
        Action::Select,
        "crm",
        "app",
        &table("pg_catalog", "pg_authid")
    ));
    assert!(starter.may(
        Action::Select,
        "crm",
        "app",
        &table("pg_catalog", "pg_class")
    ));
    assert!(!starter.may(Action::Select, "crm", "app", &table("public", "pg_stats")));
}

#[test]
fn what_may_be_done_to_one_of_a_schema_may_be_done_in_it() {
    let any = |policy: &str, schema: &str| {
        let policy = load_text(policy).unwrap();
        let some = table(schema, "");
        policy.ever().may_any(Action::Ddl, "crm", "app", &some)
    };
    for (scope, condition, public, other) in [
        ("resource", "", true, true),
        ("resource in Schema::\"crm/app/public\"", "", true, false),
        ("resource in Database::\"crm/app\"", "", true, true),
        ("resource in Database::\"crm/else\"", "", false, false),
        (
            "resource == Table::\"crm/app/public.mine\"",
            "",
            true,
            false,
        ),
        (
            "resource in Table::\"crm/app/public.mine\"",
            "",
            true,
            false,
        ),
        (
            "resource",
            "when { resource == Table::\"crm/app/public.mine\" }",
            true,
            false,
        ),
        (
            "resource is Table",
            "when { resource.name like \"tmp_*\" }",
            true,
            true,
        ),
        (
            "resource is Table in Schema::\"crm/app/other\"",
            "",
            false,
            true,
        ),
        ("resource is Function", "", false, false),
        (
            "resource is Table",
            "when { resource.schema == \"public\" && resource.name == \"mine\" }",
            true,
            false,
        ),
    ] {
        let policy = format!(
            "@id(\"a\") permit (principal is Agent, action == Action::\"Ddl\", {scope}) {condition};"
        );
        let found = (any(&policy, "public"), any(&policy, "other"));
        assert_eq!(found, (public, other), "{policy}");
    }
    let all = "@id(\"a\") permit (principal is Agent, action == Action::\"Ddl\", resource);";
    for (scope, expected) in [
        ("resource == Table::\"crm/app/public.mine\"", true),
        ("resource in Schema::\"crm/app/public\"", false),
        ("resource", false),
    ] {
        let policy = format!("{all} @id(\"b\") forbid (principal is Agent, action, {scope});");
        assert_eq!(any(&policy, "public"), expected, "{policy}");
    }
}

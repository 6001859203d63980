//! The list of harmless functions against the server's own list of functions.

use super::*;

/// Names in the list of harmless ones that are types, not functions.
const CASTS: &str = "
    bytea inet jsonb regcollation regconfig regdictionary regnamespace regoper regproc
    regprocedure regrole regtype tsquery tsvector uuid regclass
";

/// Each has overloads or effects that a reader of the catalogue must not have.
const DANGEROUS: &str = "
    set_config current_setting nextval setval query_to_xml table_to_xml schema_to_xml
    database_to_xml cursor_to_xml ts_stat ts_rewrite pg_notify pg_reload_conf pg_terminate_backend
    pg_cancel_backend pg_export_snapshot pg_logical_emit_message loread lowrite pg_mcv_list_items
    pg_promote pg_config pg_current_logfile pg_lock_status pg_switch_wal pg_hba_file_rules setseed
    pg_sequence_last_value currtid2 brin_summarize_range gin_clean_pending_list
    pg_extension_config_dump pg_import_system_collations pg_show_all_settings pg_nextoid system
    bernoulli query_to_xmlschema pg_get_replication_slots
";

/// Beginnings that no harmless name has.
const FAMILIES: &str = "
    pg_read_ pg_ls_ pg_stat_ lo_ pg_sleep dblink txid_ pg_replication_ pg_logical_ binary_upgrade_
    pg_try_advisory pg_advisory_lock pg_advisory_xact pg_wal pg_log_ pg_create_ pg_drop_
    pg_snapshot_ pg_event_trigger_ pg_rotate_ pg_set_ pg_clear_ pg_restore_ pg_control_ pg_backup_
    pg_copy_ pg_current_
";

#[test]
fn every_harmless_name_is_one_that_the_server_has() {
    for name in HARMLESS.iter() {
        let is_known = CATALOG.contains(name)
            || CASTS.split_whitespace().any(|cast| cast == *name)
            || name.starts_with("information_schema.");
        assert!(is_known, "{name}");
    }
}

#[test]
fn dangerous_functions_are_not_harmless() {
    for name in DANGEROUS.split_whitespace() {
        assert!(
            is_builtin(name) && !is_harmless("pg_catalog", name),
            "{name}"
        );
    }
    for name in HARMLESS.iter() {
        let family = FAMILIES
            .split_whitespace()
            .find(|family| name.starts_with(family));
        assert_eq!(family, None, "{name}");
        assert!(!name.contains("_to_xml"), "{name}");
    }
}

#[test]
fn a_name_is_harmless_only_in_the_servers_own_schemas() {
    let rows = [
        ("pg_catalog", "lower", true),
        ("public", "lower", false),
        ("", "lower", false),
        ("pg_catalog", "no_such_function", false),
        ("information_schema", "_pg_expandarray", true),
        ("information_schema", "lower", false),
        ("pg_catalog", "_pg_expandarray", false),
        ("pg_catalog", "information_schema._pg_expandarray", false),
    ];
    for (schema, name, expected) in rows {
        assert_eq!(is_harmless(schema, name), expected, "{schema}.{name}");
    }
    assert!(!is_builtin("information_schema._pg_expandarray"));
}

#[test]
fn a_field_of_an_ordinary_name_is_no_call() {
    for name in [
        "name", "id", "length", "date", "text", "count", "type", "value", "age", "path", "left",
    ] {
        assert!(!is_dangerous_field(name), "{name}");
    }
    for name in [
        "pg_sleep",
        "pg_read_file",
        "query_to_xml",
        "nextval",
        "lo_get",
    ] {
        assert!(is_dangerous_field(name), "{name}");
    }
}

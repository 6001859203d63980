//! Commands of replication connections, as clients send them.

use super::*;

fn ask_of(text: &str) -> (Facts, Access) {
    let facts = read(text, &Names::default());
    let accesses = &facts.reading.asks[0].accesses;
    assert_eq!((facts.reading.asks.len(), accesses.len()), (1, 1), "{text}");
    let access = accesses.first().unwrap().clone();
    (facts, access)
}

const COMMANDS_AS_SENT: &[(&str, &str, Resource)] = &[
    ("IDENTIFY_SYSTEM", "identify_system", Resource::Database),
    ("SHOW wal_segment_size", "show", Resource::Database),
    ("show data_directory_mode;", "show", Resource::Database),
    (
        "BASE_BACKUP ( LABEL 'pg_basebackup base backup',  PROGRESS,  WAIT 0,  MANIFEST 'yes')",
        "base_backup",
        Resource::Target,
    ),
    (
        " \t\n\x0b\x0cbase_backup LABEL 'x' FAST",
        "base_backup",
        Resource::Target,
    ),
    (
        "START_REPLICATION 0/1000000 TIMELINE 1",
        "start_replication",
        Resource::Target,
    ),
    (
        "START_REPLICATION SLOT \"s\" 0/1000000 TIMELINE 1",
        "start_replication",
        Resource::Target,
    ),
    (
        "START_REPLICATION SLOT \"LOGICAL\" PHYSICAL 0/0",
        "start_replication",
        Resource::Target,
    ),
    (
        "START_REPLICATION SLOT \"a \"\" LOGICAL\" 0/0",
        "start_replication",
        Resource::Target,
    ),
    (
        "START_REPLICATION SLOT \"s\" LOGICAL 0/0 (\"proto_version\" '1')",
        "start_replication",
        Resource::Database,
    ),
    (
        "start_replication slot s logical 0/0",
        "start_replication",
        Resource::Database,
    ),
    (
        "CREATE_REPLICATION_SLOT \"s\" TEMPORARY PHYSICAL ( RESERVE_WAL)",
        "create_replication_slot",
        Resource::Target,
    ),
    (
        "CREATE_REPLICATION_SLOT \"s\" LOGICAL \"test_decoding\" (SNAPSHOT 'nothing')",
        "create_replication_slot",
        Resource::Database,
    ),
    (
        "CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL pgoutput",
        "create_replication_slot",
        Resource::Database,
    ),
    (
        "CREATE_REPLICATION_SLOT \"TEMPORARY\" PHYSICAL",
        "create_replication_slot",
        Resource::Target,
    ),
    (
        "DROP_REPLICATION_SLOT \"s\" WAIT",
        "drop_replication_slot",
        Resource::Target,
    ),
    (
        "READ_REPLICATION_SLOT s",
        "read_replication_slot",
        Resource::Target,
    ),
    (
        "ALTER_REPLICATION_SLOT s (FAILOVER true)",
        "alter_replication_slot",
        Resource::Database,
    ),
    ("TIMELINE_HISTORY 2", "timeline_history", Resource::Target),
    ("UPLOAD_MANIFEST", "upload_manifest", Resource::Target),
];

#[test]
fn a_command_is_one_ask_with_its_word() {
    for (text, command, resource) in COMMANDS_AS_SENT {
        let (facts, access) = ask_of(text);
        assert_eq!(access.action, Action::Replicate, "{text}");
        assert_eq!(access.resource, *resource, "{text}");
        assert_eq!(facts.reading.asks[0].context.command, *command, "{text}");
        assert!(facts.readable && facts.statements == 1, "{text}");
        assert!(!facts.uses_search_path, "{text}");
    }
}

#[test]
fn what_does_not_begin_with_a_command_is_read_as_sql() {
    let rows = [
        ("SELECT 1", Action::Select),
        ("BEGIN READ ONLY", Action::Transaction),
        // The server's scanner knows no comments: to it these are SQL, and fail as such.
        ("/* */ BASE_BACKUP", Action::Unreadable),
        ("-- x\nIDENTIFY_SYSTEM", Action::Unreadable),
        ("\"BASE_BACKUP\"", Action::Unreadable),
        ("BASE_BACKUPS", Action::Unreadable),
        ("BASE_BACKUP$", Action::Unreadable),
        ("BASE_BACKUP\u{e9}", Action::Unreadable),
        ("(BASE_BACKUP)", Action::Unreadable),
        ("", Action::Select),
        (";BASE_BACKUP", Action::Unreadable),
    ];
    for (text, action) in rows {
        assert_eq!(ask_of(text).1.action, action, "{text}");
    }
    assert!(tokens("").is_empty() && tokens(" \n").is_empty());
}

#[test]
fn only_streaming_reads_and_sends_at_once() {
    let rows = [
        ("START_REPLICATION 0/0", vec![Effect::CopyBoth]),
        ("UPLOAD_MANIFEST", vec![Effect::CopyIn]),
        ("BASE_BACKUP", vec![Effect::CopyOut]),
        ("IDENTIFY_SYSTEM", Vec::new()),
    ];
    for (text, effects) in rows {
        assert_eq!(ask_of(text).0.effects, effects, "{text}");
    }
}

#[test]
fn strings_are_hidden_and_the_rest_is_kept() {
    let rows = [
        (
            "BASE_BACKUP (LABEL 'it''s mine', TARGET 'server', TARGET_DETAIL '/x')",
            "BASE_BACKUP ( LABEL ? , TARGET ? , TARGET_DETAIL ? )",
        ),
        (
            "START_REPLICATION SLOT \"a b\" LOGICAL 1A/2B (\"publication_names\" '\"p\"')",
            "START_REPLICATION SLOT \"a b\" LOGICAL 1A/2B ( \"publication_names\" ? )",
        ),
        ("BASE_BACKUP LABEL 'open", "BASE_BACKUP LABEL ?"),
        ("SHOW a.b", "SHOW a . b"),
    ];
    for (text, redacted) in rows {
        let (facts, _) = ask_of(text);
        assert_eq!(&*facts.reading.redacted, redacted, "{text}");
        assert!(!facts.reading.fingerprint.is_empty());
    }
    let one = ask_of("BASE_BACKUP LABEL 'a'").0.reading;
    let other = ask_of("BASE_BACKUP LABEL 'b'").0.reading;
    assert_eq!(one.fingerprint, other.fingerprint);
}

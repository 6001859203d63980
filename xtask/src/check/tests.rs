//! The rules catch what they are for, and leave alone what is fine.

use std::path::PathBuf;

use super::{Source, dependencies, imports, tables, tidy};

fn path(text: &str) -> Vec<String> {
    text.split("::").map(str::to_owned).collect()
}

#[test]
fn imports_follow_the_table() {
    let rows = [
        ("protocol::postgres::wire", "crate::clock::BootTime", false),
        ("protocol::postgres::wire", "super::facts::Reading", false),
        ("protocol::postgres::wire::frame", "super::Tag", true),
        ("protocol::postgres::session", "crate::session::Gate", true),
        ("protocol::postgres::session", "crate::audit::Log", false),
        ("protocol::postgres::facts", "crate::policy::Ask", true),
        (
            "protocol::postgres::facts",
            "crate::policy::decide::now",
            false,
        ),
        ("policy::decide", "crate::protocol::Protocol", false),
        ("policy::decide", "crate::clock", true),
        ("identity", "crate::connection::accept", false),
        ("console", "crate::control::Status", true),
        ("console::page", "crate::audit", false),
        ("connection", "crate::daemon::Daemon", false),
        ("cli::daemon", "crate::daemon::run", true),
        ("daemon", "crate::control", true),
        ("capture::scope", "crate::policy::Ask", false),
    ];
    for (module, import, fine) in rows {
        let module = path(module);
        let text = format!("use {import};\n");
        let found = imports::imports(&text, &module);
        assert_eq!(found.len(), 1, "{import}");
        let broken = imports::broken(&module, &found[0].1);
        assert_eq!(broken.is_none(), fine, "{module:?} imports {import}");
    }
}

#[test]
fn import_trees_are_read_to_their_leaves() {
    let text = "// use crate::no;\nuse crate::{audit::{Log, event::Event as E}, clock};\nfn f() { crate::policy::x() }\n";
    let found: Vec<(usize, String)> = imports::imports(text, &path("session"))
        .into_iter()
        .map(|(line, path)| (line, path.join("::")))
        .collect();
    let wanted = [
        (2, "audit::Log"),
        (2, "audit::event::Event"),
        (2, "clock"),
        (3, "policy::x"),
    ];
    assert_eq!(found, wanted.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn licence_expressions_are_met_or_not() {
    let rows = [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH Odd-exception", false),
        ("", false),
    ];
    for (expression, fine) in rows {
        assert_eq!(dependencies::allowed(expression), fine, "{expression}");
    }
}

#[test]
fn the_lock_file_has_one_source() {
    let package = |name: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nsource = \"{source}\"\n")
    };
    let rows = [
        (
            package("a", "registry+here") + &package("b", "registry+here"),
            0,
        ),
        (
            package("a", "registry+here") + &package("b", "registry+there"),
            1,
        ),
        (package("a", "git+somewhere"), 1),
    ];
    for (lock, faults) in rows {
        assert_eq!(dependencies::locked(&lock).len(), faults, "{lock}");
    }
}

#[test]
fn packages_are_faulted_for_their_name_and_their_licence() {
    let rows = [
        ("serde v1|MIT OR Apache-2.0", 0),
        ("serde v1|MIT OR Apache-2.0 (*)", 0),
        ("ring v0.17|ISC", 1),
        ("ringbuf v1|MIT", 0),
        ("viral v1|AGPL-3.0", 1),
    ];
    for (tree, faults) in rows {
        assert_eq!(dependencies::packages(tree).len(), faults, "{tree}");
    }
}

#[test]
fn words_are_whole_words() {
    let rows = [
        ("a dog now", true),
        ("a dog nowhere", false),
        ("(a dog now)", true),
        ("a hotdog now", false),
    ];
    for (line, has) in rows {
        assert_eq!(tidy::has_word(line, "dog now"), has, "{line}");
    }
}

#[test]
fn files_are_faulted_for_what_they_lack() {
    let rows = [
        ("interceptor/src/a.rs", "fn a() {}\n", 1),
        ("interceptor/src/a.rs", "//! A.\nfn a() {}\n", 0),
        ("interceptor/src/a.rs", "//! A.\nfn a() {} \n", 1),
        ("interceptor/src/a.rs", "//! A.\nfn a() {}", 1),
        ("interceptor/src/a/mod.rs", "//! A.\n", 1),
        ("tests/e2e/lonely.rs", "//! A.\n", 1),
        ("tests/e2e/main.rs", "//! A.\n", 0),
        ("policies/bare.cedar", "permit;\n", 1),
        ("interceptor/src/protocol/ssh/wire.rs", "//! A.\n", 4),
        ("interceptor/src/a.rs", "//! A.\n#[ignore]\n", 1),
    ];
    for (path, text, faults) in rows {
        let sources = [Source {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }];
        let found = tidy::faults(&PathBuf::from("/nonexistent"), &sources);
        assert_eq!(found.len(), faults, "{path}: {found:?}");
    }
}

#[test]
fn names_in_code_stand_in_the_tables_of_readme() {
    let readme = "| verb | what |\n|---|---|\n| `run --agent NAME` | runs |\n| `connection.opened` | x |\n| `interceptor_flows_total` | x |\n";
    let rows = [
        (
            "interceptor/src/cli.rs",
            "pub enum Verb {\n    /// Runs.\n    Run(run::Run),\n}\n",
            0,
        ),
        (
            "interceptor/src/cli.rs",
            "pub enum Verb {\n    Run,\n    FlyAway {\n        High: u8,\n    },\n}\n",
            1,
        ),
        (
            "interceptor/src/cli.rs",
            "pub enum Other {\n    Fly,\n}\n",
            0,
        ),
        (
            "interceptor/src/audit/event.rs",
            "rename = \"connection.opened\"",
            0,
        ),
        (
            "interceptor/src/audit/event.rs",
            "rename = \"connection.lost\"",
            1,
        ),
        (
            "interceptor/src/telemetry/metrics.rs",
            "x.register(\n  \"flows\",",
            0,
        ),
        (
            "interceptor/src/telemetry/metrics.rs",
            "x.register(\"losses\",",
            1,
        ),
    ];
    for (path, text, faults) in rows {
        let sources = [
            Source {
                path: PathBuf::from("README.md"),
                text: readme.to_owned(),
            },
            Source {
                path: PathBuf::from(path),
                text: text.to_owned(),
            },
        ];
        assert_eq!(tables::faults(&sources).len(), faults, "{path}");
    }
}

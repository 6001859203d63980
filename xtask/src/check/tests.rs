//! The rules catch what they are for, and leave alone what is fine.

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
        ("connection", "crate::daemon::Daemon", false),
        ("cli::daemon", "crate::daemon::run", true),
        ("daemon", "crate::control", true),
        ("capture::scope", "crate::policy::Ask", false),
        ("protocol", "crate::session::opening::Opening", true),
        ("protocol", "crate::session::services::Services", false),
        ("targets", "crate::capture::Rule", true),
        ("control", "crate::connection::run", false),
        ("socket", "crate::policy::Refusal", false),
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
        ("interceptor/src/protocol/ssh/wire.rs", "//! A.\n", 3),
        ("interceptor/src/policy.rs", "//! A.\n", 1),
        // Two files are missing, and the lint.
        ("interceptor/src/protocol/ssh/facts.rs", "//! A.\n", 3),
        (
            "interceptor/src/protocol/ssh/facts.rs",
            "//! A.\n#![warn(clippy::wildcard_enum_match_arm)]\n",
            2,
        ),
        ("interceptor/src/a.rs", "//! A.\n#[ignore]\n", 1),
        (
            "interceptor/src/a.rs",
            "//! A.\nmod tests { #[ignore = \"x\"] }\n",
            1,
        ),
        ("interceptor/src/a/tests.rs", "//! A.\nfn shared() {}\n", 1),
        (
            "interceptor/src/a/tests.rs",
            "//! A.\n#[test]\nfn a() {}\n",
            0,
        ),
        (
            "interceptor/src/a/tests.rs",
            "//! A.\n#[tokio::test]\nasync fn a() {}\n",
            0,
        ),
        ("interceptor/src/a/tests.rs", "//! A.\nmod rows;\n", 0),
    ];
    for (path, text, faults) in rows {
        let found = tidy::faults(&[Source::new(path, text.into())]);
        assert_eq!(found.len(), faults, "{path}: {found:?}");
    }
}

#[test]
fn a_file_that_no_module_names_is_found_at_any_depth() {
    let rows = [
        (
            "tests/e2e/main.rs",
            "tests/e2e/http.rs",
            "tests/e2e/lost.rs",
        ),
        (
            "tests/e2e/http.rs",
            "tests/e2e/http/http.rs",
            "tests/e2e/http/lost.rs",
        ),
        (
            "interceptor/src/lib.rs",
            "interceptor/src/http.rs",
            "interceptor/src/lost.rs",
        ),
        (
            "a/src/x/tests.rs",
            "a/src/x/tests/http.rs",
            "a/src/x/tests/lost.rs",
        ),
    ];
    for (parent, named, lost) in rows {
        let mut sources = vec![
            Source::new(parent, "//! P.\npub(crate) mod http;\n".into()),
            Source::new(named, "//! N.\n".into()),
        ];
        if parent == "tests/e2e/http.rs" {
            sources.push(Source::new(
                "tests/e2e/main.rs",
                "//! M.\nmod http;\n".into(),
            ));
        }
        assert!(tidy::faults(&sources).is_empty(), "{parent}");
        sources.push(Source::new(lost, "//! L.\n".into()));
        assert_eq!(tidy::faults(&sources).len(), 1, "{lost}");
        // A program of its own is named by a manifest.
        sources.pop();
        sources.push(Source::new(lost, "//! L.\nfn main() {}\n".into()));
        assert!(tidy::faults(&sources).is_empty(), "{lost}");
    }
}

#[test]
fn files_and_directories_have_their_size() {
    let lines = |count: usize| Source::new("interceptor/src/a.rs", "//! A.\n".repeat(count).into());
    let rows = [
        (vec![Source::new("a.bin", vec![0xff; 256 << 10])], 0),
        (vec![Source::new("a.bin", vec![0xff; (256 << 10) + 1])], 1),
        // Documentation of this length is one fault already.
        (vec![lines(800)], 1),
        (vec![lines(801)], 2),
        (modules(11), 0),
        (modules(12), 1),
    ];
    for (row, (sources, faults)) in rows.into_iter().enumerate() {
        let found = tidy::faults(&sources);
        assert_eq!(found.len(), faults, "row {row}: {found:?}");
    }
}

fn modules(count: usize) -> Vec<Source> {
    let module = |n| Source::new(&format!("interceptor/src/a/m{n}.rs"), "//! M.\n".into());
    (0..count).map(module).collect()
}

#[test]
fn each_rule_of_a_pack_is_named_by_a_case() {
    let rule = "@id(\"a\") permit (principal, action, resource);\n";
    let rows = [
        ("cases:\n  - { rule: a }\n", 0),
        ("cases:\n  - { rule: b }\n", 1),
    ];
    for (cases, faults) in rows {
        let sources = [
            Source::new("policies/p/p.cedar", rule.into()),
            Source::new("policies/p/p.cases.yaml", cases.into()),
        ];
        assert_eq!(tidy::faults(&sources).len(), faults, "{cases}");
    }
}

/// A tree whose README and code name the same things, with `from` replaced by `to` in one of its files.
fn faults_of_tables(at: &str, from: &str, to: &str) -> usize {
    let files = [
        (
            "README.md",
            "| verb | what |\n|---|---|\n| `run --agent NAME`, `run again` | runs |\n\n\
             | event | when |\n|---|---|\n| `connection.opened` | x |\n\n\
             | metric | labels |\n|---|---|\n| `interceptor_flows_total` | |\n| `interceptor_now` | |\n",
        ),
        (
            "interceptor/src/cli.rs",
            "pub enum Verb {\n    /// Runs.\n    Run(run::Run),\n}\npub enum Other {\n    Fly,\n}\n",
        ),
        (
            "interceptor/src/audit/event.rs",
            "#[serde(rename = \"connection.opened\")]\n",
        ),
        (
            "interceptor/src/telemetry/metrics.rs",
            "r.register(\n  \"flows\", \"x\", flows);\nr.register(\"now\", \"x\", gauge(1));\n",
        ),
    ];
    let sources = files.map(|(path, text)| {
        let text = match path == at {
            true => text.replace(from, to),
            false => text.to_owned(),
        };
        Source::new(path, text.into_bytes())
    });
    tables::faults(&sources).len()
}

#[test]
fn readme_and_code_name_the_same_things() {
    let readme = "README.md";
    let (cli, event) = ("interceptor/src/cli.rs", "interceptor/src/audit/event.rs");
    let metrics = "interceptor/src/telemetry/metrics.rs";
    let rows = [
        (readme, "", "", 0),
        (
            cli,
            "}\npub enum Other",
            "    FlyAway {\n        High: u8,\n    },\n}\npub enum Other",
            1,
        ),
        (cli, "pub enum Verb", "pub enum Word", 2),
        (event, "connection.opened", "connection.lost", 2),
        (metrics, "\"flows\"", "\"losses\"", 2),
        (metrics, "gauge(1)", "now", 2),
        (metrics, "register(", "enter(", 3),
        (readme, "| `connection.opened` | x |", "", 1),
        (readme, "`run again`", "`walk`", 1),
        (readme, "interceptor_now", "interceptor_then", 2),
    ];
    for (path, from, to, faults) in rows {
        let found = faults_of_tables(path, from, to);
        assert_eq!(found, faults, "{path}: {from:?} for {to:?}");
    }
}

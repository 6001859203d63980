//! What is read of a directory, and what is refused before the parser sees it.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn file(text: &str) -> File {
    File {
        path: Arc::from(Path::new("a.cedar")),
        text: Arc::from(text),
    }
}

fn cut(text: &str) -> (Vec<Piece>, Vec<String>) {
    let mut mistakes = Vec::new();
    let pieces = split(&[file(text)], &mut mistakes);
    (pieces, mistakes.iter().map(ToString::to_string).collect())
}

#[test]
fn policies_are_cut_at_their_own_semicolons() {
    let text =
        "// one; two\n@id(\"a;b\")\npermit(x); // rest;\n\n  forbid(\"\\\";\");\n// end\nlast";
    let (pieces, mistakes) = cut(text);
    assert_eq!(mistakes, [""; 0]);
    let found: Vec<_> = pieces
        .iter()
        .map(|piece| (piece.line(), piece.text.as_str()))
        .collect();
    let expected = [
        (2, "@id(\"a;b\")\npermit(x);"),
        (5, "forbid(\"\\\";\");"),
        (7, "last"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn text_that_the_parser_would_not_survive_is_refused_with_its_line() {
    let nested = |open: &str, levels: usize| format!("permit\n{}", open.repeat(levels));
    let rows = [
        (nested("(", 100), None),
        (
            nested("(", 101),
            Some("a.cedar:2: brackets nest deeper than 100"),
        ),
        (
            nested("[{", 51),
            Some("a.cedar:2: brackets nest deeper than 100"),
        ),
        (format!("\"{}\";", "(".repeat(500)), None),
        (format!("// {}\n;", "(".repeat(500)), None),
        ("()".repeat(500), None),
        ("(;".repeat(500), None),
        (format!("a{};", "&&a".repeat(500)), None),
        (
            format!("a{};", "&&a".repeat(501)),
            Some("a.cedar:1: more than 1000 operators in one policy; split it"),
        ),
        (
            format!("a\n{};", "if ".repeat(1001)),
            Some("a.cedar:2: more than 1000 operators in one policy; split it"),
        ),
        (
            "ok;\n\"open".to_owned(),
            Some("a.cedar:2: a string is not closed"),
        ),
        ("\"\\".to_owned(), Some("a.cedar:1: a string is not closed")),
    ];
    for (text, expected) in rows {
        let (_, mistakes) = cut(&text);
        assert_eq!(mistakes.first().map(String::as_str), expected, "{text:.80}");
    }
}

fn mistakes_of(prepare: impl FnOnce(&Path)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let mut mistakes = Vec::new();
    read(dir.path(), &mut mistakes);
    let place = format!("{}", dir.path().display());
    mistakes
        .iter()
        .map(|mistake| mistake.to_string().replace(&place, "DIR"))
        .collect()
}

#[test]
fn nothing_that_could_hold_a_rule_is_passed_over() {
    let found = mistakes_of(|dir| {
        fs::create_dir(dir.join("more")).unwrap();
        fs::write(dir.join("more/x.cedar"), "").unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        fs::write(dir.join("y.cedar.json"), "").unwrap();
        fs::write(dir.join(".#y.cedar"), "").unwrap();
        fs::write(dir.join("latin1.cedar"), [0xe9]).unwrap();
        fs::create_dir(dir.join("z.cedarschema")).unwrap();
        fs::write(dir.join("w.cedar"), "").unwrap();
        fs::set_permissions(dir.join("w.cedar"), fs::Permissions::from_mode(0o666)).unwrap();
        if nix::unistd::geteuid().is_root() {
            fs::write(dir.join("u.cedar"), "").unwrap();
            fs::set_permissions(dir.join("u.cedar"), fs::Permissions::from_mode(0o660)).unwrap();
            std::os::unix::fs::chown(dir.join("u.cedar"), None, Some(4242)).unwrap();
        }
        // Only root can give a file away; without root the case is left out, and nothing else.
        if nix::unistd::geteuid().is_root() {
            fs::write(dir.join("v.cedar"), "").unwrap();
            std::os::unix::fs::chown(dir.join("v.cedar"), Some(4242), None).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.join("link.cedar")).unwrap();
    });
    let mut expected = vec![
        "DIR/more: is a directory with policies, which are not read",
        "DIR/y.cedar.json: is not read",
        "DIR/latin1.cedar: cannot be read",
        "DIR/w.cedar: may be written by others than its owner: chmod go-w it",
        "DIR/link.cedar: cannot be read",
    ];
    if nix::unistd::geteuid().is_root() {
        expected.push("DIR/v.cedar: belongs to uid 4242, who may change it");
        expected.push("DIR/u.cedar: may be written by others");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        let told = found.iter().any(|mistake| mistake.starts_with(expected));
        assert!(told, "{expected} in\n{found:#?}");
    }
}

#[test]
fn a_directory_without_policies_is_a_mistake() {
    let found = mistakes_of(|dir| fs::write(dir.join("README"), "").unwrap());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("DIR: holds no *.cedar file"),
        "{found:?}"
    );
    let mut mistakes = Vec::new();
    read(Path::new("/does/not/exist"), &mut mistakes);
    assert_eq!(mistakes.len(), 1);
}

#[test]
fn a_schema_of_another_version_is_a_mistake() {
    let with = |schema: String| {
        mistakes_of(|dir| {
            fs::write(dir.join("a.cedar"), "").unwrap();
            fs::write(dir.join("schema.cedarschema"), schema).unwrap();
        })
    };
    assert_eq!(with(super::super::SCHEMA.to_owned()), [""; 0]);
    assert_eq!(
        with(format!("// a note\n\n{}", super::super::SCHEMA)),
        [""; 0]
    );
    let fewer = with(super::super::SCHEMA.replace("privileged: Bool,", ""));
    assert!(
        fewer[0].contains("`privileged: Bool,` expected"),
        "{fewer:?}"
    );
    let more = with(format!("{}\nentity Another;", super::super::SCHEMA));
    assert!(more[0].contains("`entity Another;` is unknown"), "{more:?}");
}

#[test]
fn files_without_a_bound_are_refused() {
    let found = mistakes_of(|dir| {
        let mut text = String::new();
        while text.len() <= 1024 * 1024 {
            writeln!(text, "// line").unwrap();
        }
        fs::write(dir.join("a.cedar"), text).unwrap();
    });
    assert_eq!(found, ["DIR/a.cedar: is larger than 1048576 bytes"]);
}

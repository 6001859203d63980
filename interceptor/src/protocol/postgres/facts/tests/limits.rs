//! Texts that are too long, too deep or no statements.

use super::*;

fn is_readable(text: &str) -> bool {
    read(text, &names()).readable
}

#[test]
fn text_that_is_no_statement_is_answered_by_the_server() {
    for text in ["", " ", ";", " ; ; ", "-- x", "/* x */", "\n\t"] {
        let facts = read(text, &names());
        assert_eq!((facts.statements, facts.readable), (0, true), "{text:?}");
        assert_eq!(
            &*facts.reading.redacted.replace(&[' ', ';'][..], ""),
            "",
            "{text:?}"
        );
    }
}

#[test]
fn text_that_is_too_much_is_not_read() {
    let spaces = |length: usize| format!("SELECT 1{}", " ".repeat(length - 8));
    assert!(is_readable(&spaces(MAX_TEXT)));
    assert!(!is_readable(&spaces(MAX_TEXT + 1)));
    assert!(is_readable(&"END;".repeat(MAX_STATEMENTS)));
    assert!(!is_readable(&"END;".repeat(MAX_STATEMENTS + 1)));
    assert!(!is_readable(&format!(
        "SELECT 1{}",
        ",1".repeat(MAX_TOKENS / 2)
    )));
    assert!(!is_readable("SELECT 1\0; DELETE FROM t"));
    let many = |count: usize| {
        let list: Vec<String> = (0..count).map(|at| format!("t{at}")).collect();
        format!("SELECT FROM {}", list.join(","))
    };
    assert!(is_readable(&many(4000)));
    assert!(!is_readable(&many(5000)));
}

#[test]
fn depth_is_an_answer_and_never_an_overflow() {
    let repeat = |start: &str, more: &str, end: &str, times: usize| {
        format!("{start}{}{}", more.repeat(times), end.repeat(times))
    };
    for times in [1_000, 20_000, 150_000] {
        let texts = [
            repeat("SELECT 1", "+1", "", times),
            repeat("SELECT ", "NOT ", "", times) + "true",
            repeat("SELECT 1", "::int", "", times),
            repeat("SELECT 1", " UNION SELECT 1", "", times),
            repeat("SELECT 1 FROM a", " NATURAL JOIN a", "", times),
            repeat("SELECT ", "(SELECT ", "1)", times),
            repeat("SELECT ", "f(", ")", times),
            repeat("SELECT ", "CASE WHEN true THEN ", "1 END ", times),
            repeat("", "WITH a AS (", ") SELECT 1", times),
        ];
        for text in texts {
            let worker = std::thread::Builder::new().stack_size(256 << 10);
            let readable = worker
                .spawn(move || is_readable(&text))
                .unwrap()
                .join()
                .unwrap();
            assert!(!readable, "{times}");
        }
    }
}

#[test]
fn what_is_nested_as_people_nest_is_read() {
    let rows = [
        format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500)),
        format!("SELECT {}1{}", "(SELECT ".repeat(15), ")".repeat(15)),
        format!("SELECT 1{}", "+1".repeat(40)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(50)),
        format!("SELECT 1 WHERE a{}", " AND a".repeat(5000)),
        format!("SELECT 1 WHERE a{}", " OR a".repeat(5000)),
        format!("SELECT 1 WHERE a IN (1{})", ",1".repeat(5000)),
        format!("INSERT INTO t VALUES (1, 'a'){}", ",(1, 'a')".repeat(5000)),
    ];
    for text in rows {
        assert!(is_readable(&text), "{}", text.get(..60).unwrap());
    }
}

#[test]
fn a_text_made_to_be_slow_is_not() {
    // Quadratic code takes hours here.
    let with: Vec<String> = (0..9_000)
        .map(|at| format!("c{at} AS (TABLE c{})", at + 1))
        .collect();
    let texts = [
        format!(
            "WITH {} SELECT FROM {}c0",
            with.join(","),
            "c8999,".repeat(20_000)
        ),
        format!(
            "SELECT FROM a{} FOR UPDATE OF x{}",
            ",a".repeat(30_000),
            ",x".repeat(30_000)
        ),
        format!(
            "SELECT FROM a{}{}",
            ",a".repeat(30_000),
            " FOR UPDATE".repeat(20_000)
        ),
        format!(
            "SELECT FROM (SELECT FROM a{}) x FOR UPDATE OF x{}",
            ",a".repeat(20_000),
            ",x".repeat(20_000)
        ),
    ];
    for text in texts {
        let _facts = read(&text, &names());
    }
}

#[test]
fn a_path_of_many_schemas_multiplies_nothing() {
    let mut names = names();
    names.search_path = Some((0..1000).map(|at| format!("s{at}")).collect());
    assert!(!read("TABLE t", &names).readable);
    assert!(read("TABLE a.t", &names).readable);
}

#[test]
fn executing_a_wide_statement_often_is_not_read() {
    let list: Vec<String> = (0..4000).map(|at| format!("t{at}")).collect();
    let text = format!(
        "PREPARE p AS SELECT FROM {};{}",
        list.join(","),
        "EXECUTE p;".repeat(4000)
    );
    assert!(!is_readable(&text));
}

//! `options` is read as the server reads it.

use proptest::prelude::*;

use super::*;

fn check(rows: &[(&str, &[(&str, &str)])]) {
    for (text, expected) in rows {
        let read = read(text).map_err(|error| error.to_string());
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(read, Ok(expected), "{text:?}");
    }
}

#[test]
fn options_are_read_as_the_server_reads_them() {
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("  \t ", &[]),
        ("-c a=b", &[("a", "b")]),
        ("-ca=b", &[("a", "b")]),
        ("--a=b", &[("a", "b")]),
        ("--search_path=evil", &[("search_path", "evil")]),
        ("-csearch_path=evil", &[("search_path", "evil")]),
        ("--search-path=a-b", &[("search_path", "a-b")]),
        ("-c a=b -c c=d", &[("a", "b"), ("c", "d")]),
        (" -c\n a=b\t--c=d ", &[("a", "b"), ("c", "d")]),
        (r"-c a=x\ y", &[("a", "x y")]),
        (r"-c\ a=b", &[(" a", "b")]),
        (r"-c a=x\\y", &[("a", r"x\y")]),
        (r"-c a=x\", &[("a", "x")]),
        (r"\-c a=b", &[("a", "b")]),
        (r"-c a=\\\ b", &[("a", r"\ b")]),
        ("-c a=b=c", &[("a", "b=c")]),
        ("-c a=", &[("a", "")]),
        ("-c --a=b", &[("__a", "b")]),
        (
            "-eFc a=b",
            &[("datestyle", "euro"), ("fsync", "false"), ("a", "b")],
        ),
        ("-eca=b", &[("datestyle", "euro"), ("a", "b")]),
        ("-e-a=b", &[("datestyle", "euro"), ("a", "b")]),
        ("-S 64", &[("work_mem", "64")]),
        (
            "-fs -fh",
            &[("enable_seqscan", "false"), ("enable_hashjoin", "false")],
        ),
        ("-fsx", &[("enable_seqscan", "false")]),
    ];
    check(rows);
}

#[test]
fn switches_stand_for_the_settings_that_they_are_to_a_server() {
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("-d0", &[("log_min_messages", "notice")]),
        ("-d x", &[("log_min_messages", "notice")]),
        ("-d -3", &[("log_min_messages", "notice")]),
        ("-d 1", &[("log_min_messages", "debug1")]),
        (
            "-d +3x",
            &[
                ("log_min_messages", "debug3"),
                ("log_statement", "all"),
                ("debug_print_parse", "true"),
            ],
        ),
        (
            "-ed5",
            &[
                ("datestyle", "euro"),
                ("log_min_messages", "debug5"),
                ("log_statement", "all"),
                ("debug_print_parse", "true"),
                ("debug_print_plan", "true"),
                ("debug_print_rewritten", "true"),
            ],
        ),
        (
            "-tpa -tpl -t ex",
            &[
                ("log_parser_stats", "true"),
                ("log_planner_stats", "true"),
                ("log_executor_stats", "true"),
            ],
        ),
        // What only a server's own command line may say.
        ("-b -E -j -n -T -r /tmp/x -v 2 -D /x -C y", &[]),
        ("-EjFD /x -c a=b", &[("fsync", "false"), ("a", "b")]),
        ("-c a=\u{a0}b", &[("a", "\u{a0}b")]),
        ("-c a+b=c", &[("a+b", "c")]),
    ];
    check(rows);
}

#[test]
fn options_that_the_server_does_not_know_are_refused() {
    let rows = [
        "a=b",
        "-",
        "--",
        "-c",
        "-c a",
        "--a",
        "--=b",
        "-c =b",
        "-S",
        "-fx",
        "-tp",
        "-tx",
        "-t",
        "-d",
        "-v",
        "-o x",
        "-c a=b evil",
        "-E /tmp/x",
        "-- -c a=b",
        "-z",
        "-\u{e9}",
    ];
    for text in rows {
        assert!(read(text).is_err(), "{text:?}: {:?}", read(text));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        settings in prop::collection::vec(("[a-z_.]{1,10}", "[ -~\t\n\\\\é]{0,20}"), 0..6),
    ) {
        let text = write(settings.iter().map(|(name, value)| (&**name, &**value)));
        prop_assert_eq!(read(&text), Ok(settings));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-c=a \\\\feS\t]{0,40}") {
        let _settings = read(&text);
    }
}

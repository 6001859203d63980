//! Names of any kind are written so that they are read back, and act on no terminal.

use super::*;
use crate::policy::{column, column_name};

#[test]
fn a_key_reads_back_as_the_names_it_was_made_of() {
    for names in [
        ["public", "customers", "ssn"],
        ["a.b", "c/d", "e\"f"],
        ["with space", "tab\there", "\u{1b}[31mred"],
        ["1", "2", "3"],
        ["null", "true", "~"],
        ["Groß", "ñ", "日本"],
        ["#", ": ", "- "],
        ["\u{202e}", "\u{e0041}", "\\"],
    ] {
        let key = column_name(None, names);
        let text = format!("{}: hide\n", yaml(&key));
        let back: std::collections::BTreeMap<String, String> =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (key, _) = back.into_iter().next().unwrap();
        let (database, read) = column(&key).unwrap();
        assert_eq!((database, read), (None, names.map(str::to_owned)), "{text}");
        assert!(!text.trim_end().chars().any(terminal::acts), "{text:?}");
    }
    assert_eq!(yaml("public.customers.ssn"), "public.customers.ssn");
    assert_eq!(column_name(Some("a b"), ["s", "t", "c"]), "\"a b\"/s.t.c");
}

#[test]
fn a_name_in_sql_is_quoted_and_acts_on_nothing() {
    for (name, expected) in [
        ("plain", "\"plain\""),
        ("we\"ird", "\"we\"\"ird\""),
        ("back\\slash", "\"back\\slash\""),
        ("line\nfeed", "U&\"line\\+00000afeed\""),
        ("\u{1b}\"\\", "U&\"\\+00001b\"\"\\\\\""),
    ] {
        assert_eq!(sql(name), expected);
    }
}

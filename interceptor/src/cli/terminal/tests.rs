//! Nothing that comes from outside moves the cursor.

use super::{block, json, line};

const HOSTILE: &str = "a\u{1b}]0;owned\u{7}\u{9b}2J\r\n\tb\u{202e}c\u{200b}\u{7f}\u{e0041}";

#[test]
fn a_line_has_no_controls_and_says_which_there_were() {
    assert_eq!(
        line(HOSTILE),
        "a\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r\\n\\tb\\u{202e}c\\u{200b}\\u{7f}\\u{e0041}"
    );
}

#[test]
fn a_block_keeps_its_lines_and_nothing_else() {
    assert_eq!(block("a\n\tb\r\u{1b}"), "a\n\tb\\u{d}\\u{1b}");
}

#[test]
fn json_says_the_same_and_does_nothing() {
    let text = serde_json::to_string(&HOSTILE).unwrap();
    let shown = json(&text);
    assert!(!shown.chars().any(super::acts), "{shown}");
    assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), HOSTILE);
}

#[test]
fn ordinary_text_of_any_language_is_left_alone() {
    let text = "SELECT 'Gr\u{fc}\u{df}e', '\u{4f60}\u{597d}', '\u{1f600}'";
    assert_eq!(line(text), text);
}

//! Characters that nobody sees: what hides in a text, or turns the order of what is around it. One list, for the
//! terminal, the console, the chat and the words of policy.

/// Whether a character shows nothing of its own, or acts on what does: controls of C0 and C1, what Unicode calls
/// default-ignorable (DerivedCoreProperties, 15.1), line and paragraph separators, and marks for annotations.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of the console's expression, which is its own only because a browser has no other.
    fn of_the_console() -> Vec<(u32, u32)> {
        let text = include_str!("console/assets/page.js");
        let line = text.lines().find(|line| line.contains("const hidden"));
        let class = line.unwrap().split('/').nth(1).unwrap();
        let class = class.replace("]|[", "").replace(['[', ']', '{', '}'], "");
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut is_open = false;
        for part in class.split("\\u").skip(1) {
            let code = u32::from_str_radix(part.trim_end_matches('-'), 16).unwrap();
            match ranges.last_mut().filter(|_| is_open) {
                Some((_, last)) => *last = code,
                None => ranges.push((code, code)),
            }
            is_open = part.ends_with('-');
        }
        ranges
    }

    #[test]
    fn the_console_has_the_same_list() {
        let ranges = of_the_console();
        for c in '\0'..=char::MAX {
            let code = u32::from(c);
            let there = ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&code));
            let here = is_unseen(c) && c != '\t' && c != '\n';
            assert_eq!(there, here, "U+{code:04X}");
        }
    }

    #[test]
    fn letters_of_any_language_are_seen() {
        assert!(
            !"Gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f600} \u{5e9}\u{5dc}"
                .chars()
                .any(is_unseen)
        );
        for c in "\u{e0041}\u{fff9}\u{3164}\u{115f}\u{ffa0}\u{fe0f}\u{202e}\u{9b}".chars() {
            assert!(is_unseen(c), "{c:?}");
        }
    }
}

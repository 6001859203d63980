//! Texts of words that make statements, read with masks and without: the checks of the fuzzer, each time on the same
//! texts.

#[path = "../fuzz/targets/statements/checks.rs"]
mod checks;

use crate::canary::random::Random;

/// How many texts there are.
const TEXTS: usize = 60_000;

#[test]
fn what_goes_upstream_is_what_was_asked_whatever_words_make_a_text() {
    let reader = checks::Reader::new();
    let mut random = Random::new(4);
    let mut rewritten = 0;
    for _ in 0..TEXTS {
        let length = random.below(12) + 2;
        let words: Vec<u8> = (0..length)
            .map(|_| u8::try_from(random.below(255) + 1).unwrap())
            .collect();
        rewritten += usize::from(reader.check(&checks::text(&words)));
    }
    assert!(rewritten > TEXTS / 1_000, "only {rewritten} were rewritten");
}

//! What a text asks for, and what goes upstream in its place while columns are masked: any text, and texts of words
//! that make statements.
#![no_main]

#[path = "statements/checks.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static READER: LazyLock<checks::Reader> = LazyLock::new(checks::Reader::new);

fuzz_target!(|bytes: &[u8]| {
    READER.check(&checks::text(bytes));
});

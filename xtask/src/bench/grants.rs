//! `cargo xtask bench grants`: what a grant costs a request, with ten thousand of them alive: where nothing is
//! counted, and where what is taken is on disk first.

use super::{figure, of_crate, told};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 4] = [
    ("grants", "count"),
    ("lookup", "time"),
    ("check", "time"),
    ("take", "time or rate"),
];
const UNITS: [&str; 3] = ["µs", "1/s", "grants"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    let read = |line: &str| figure(line, &SUBJECTS, &UNITS);
    of_crate("grants", read, told)
}

//! `cargo xtask bench judge`: what a statement costs before it goes upstream, with and without masks, under a
//! hundred rules: read and judged for the first time, and again with another literal.

use super::{figure, of_crate, told};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 2] = [("pgbench", "time"), ("ten-joins", "time")];
const UNITS: [&str; 1] = ["µs"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    let read = |line: &str| figure(line, &SUBJECTS, &UNITS);
    of_crate("judge", read, told)
}

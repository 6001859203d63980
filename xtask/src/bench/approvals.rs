//! `cargo xtask bench approvals`: what a thousand requests cost that wait for people at once.

use super::{figure, of_crate, told};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 3] = [
    ("hold", "count or memory"),
    ("find", "time"),
    ("answer", "time"),
];
const UNITS: [&str; 5] = ["requests", "MiB", "KiB", "ms", "µs"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    let read = |line: &str| figure(line, &SUBJECTS, &UNITS);
    of_crate("approvals", read, told)
}

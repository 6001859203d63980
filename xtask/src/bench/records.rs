//! `cargo xtask bench records`: how long it takes to come to a place in a long recording, and to find words among
//! a million requests.

use super::{figure, of_crate, told};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 4] = [
    ("recording", "rate"),
    ("seek", "time"),
    ("index", "rate"),
    ("search", "time"),
];
const UNITS: [&str; 3] = ["ms", "MiB/s", "lines/s"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    let read = |line: &str| figure(line, &SUBJECTS, &UNITS);
    of_crate("records", read, told)
}

//! `cargo xtask bench detect`: bytes a second of one processor that value detectors read, over clean text
//! and over text full of what they look for, beside a set of regular expressions for the same kinds.

use super::{Figure, of_crate};

/// The subjects, as the bench prints them: a stream in pieces, and values one by one.
const SUBJECTS: [&str; 3] = ["stream", "values", "regex-set"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    of_crate("detect", figure, |figure| {
        format!(
            "{:<10} {:<6} {:>6.0} MB/s",
            figure.subject, figure.case, figure.value
        )
    })
}

/// `SUBJECT CASE MB/S FINDS`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split(' ');
    let subject = words.next()?;
    let subject = SUBJECTS.into_iter().find(|known| *known == subject)?;
    Some(Figure {
        subject,
        case: words.next()?.to_owned(),
        metric: "throughput",
        value: words.next()?.parse().ok()?,
        unit: "MB/s",
    })
}

//! `cargo xtask bench grants`: what a grant costs a request, with ten thousand of them alive: where nothing is
//! counted, and where what is taken is on disk first.

use super::{Figure, of_crate};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 3] = [
    ("grants", "count"),
    ("lookup", "time"),
    ("take", "time or rate"),
];
const UNITS: [&str; 3] = ["µs", "1/s", "grants"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    of_crate("grants", figure, |figure| {
        format!(
            "{:<8} {:<14} {:>12.3} {}",
            figure.subject, figure.case, figure.value, figure.unit
        )
    })
}

/// `SUBJECT CASE VALUE UNIT`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split(' ');
    let subject = words.next()?;
    let (subject, metric) = SUBJECTS.into_iter().find(|(known, _)| *known == subject)?;
    let case = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    let unit = words.next()?;
    Some(Figure {
        subject,
        case,
        metric,
        value,
        unit: UNITS.into_iter().find(|known| *known == unit)?,
    })
}

//! `cargo xtask bench approvals`: what a thousand requests cost that wait for people at once.

use super::{Figure, of_crate};

/// The subjects, as the bench prints them, and what is measured of each.
const SUBJECTS: [(&str, &str); 2] = [("hold", "count or memory"), ("answer", "time")];
const UNITS: [&str; 4] = ["requests", "MiB", "KiB", "ms"];

/// Builds and runs the bench, prints its figures and writes them.
pub(crate) fn measure() -> anyhow::Result<()> {
    of_crate("approvals", figure, |figure| {
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

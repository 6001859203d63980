//! The figures as a table for people and as JSON for programs.

use anyhow::Context as _;
use serde_json::json;

use super::Figure;

/// Prints one row a case and metric, one column a subject, in Markdown.
pub(super) fn print(figures: &[Figure]) {
    let mut subjects: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, &str, &str)> = Vec::new();
    for figure in figures {
        if !subjects.contains(&figure.subject) {
            subjects.push(figure.subject);
        }
        let row = (figure.case.as_str(), figure.metric, figure.unit);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    println!("\n| case | metric | {} |", subjects.join(" | "));
    println!("|---|---|{}", "---:|".repeat(subjects.len()));
    for (case, metric, unit) in rows {
        let cells: Vec<String> = subjects
            .iter()
            .map(|subject| {
                figures
                    .iter()
                    .find(|figure| {
                        figure.subject == *subject && figure.case == case && figure.metric == metric
                    })
                    .map_or_else(String::new, |figure| rounded(figure.value))
            })
            .collect();
        println!("| {case} | {metric}, {unit} | {} |", cells.join(" | "));
    }
}

/// `[{subject, case, metric, value, unit}, …]`.
pub(super) fn json(figures: &[Figure]) -> anyhow::Result<String> {
    let list: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "subject": figure.subject,
                "case": figure.case,
                "metric": figure.metric,
                "value": figure.value,
                "unit": figure.unit,
            })
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&list).context("write the figures as JSON")?;
    text.push('\n');
    Ok(text)
}

fn rounded(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

//! Sessions and results as text. Everything that was recorded passes through `terminal`.

use std::io::{self, Write};

use serde_json::Value;

use super::super::terminal;
use crate::clock::BootTime;
use crate::protocol::postgres::transcript::{Cell, Exchange, Notice, ResultSet};
use crate::recording::Meta;

/// Columns are shown at most this wide, in characters.
const WIDTH: usize = 80;

/// A session in one line: when, which, who, where to, how it ended.
pub(super) fn heading(meta: &Meta) -> String {
    let principal: Value = meta
        .principal
        .as_ref()
        .and_then(|principal| serde_json::from_str(principal.get()).ok())
        .unwrap_or_default();
    let text = |pointer: &str| match principal.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "?".to_owned(),
        Some(other) => other.to_string(),
    };
    let place = match &meta.database {
        Some(database) => format!("{}/{database}", meta.target),
        None => meta.target.clone(),
    };
    let end = match &meta.ended {
        Some(ended) => format!(
            "{} after {:.1} s, {} sent, {} received",
            ended.reason,
            ended.time.duration_since(meta.started).as_secs_f64(),
            bytes(ended.sent),
            bytes(ended.received),
        ),
        None => "no end".to_owned(),
    };
    let line = format!(
        "{:.3}  {}  {}  {}[{}]  {place}  {end}",
        meta.started,
        meta.session,
        text("/agent"),
        text("/process/executable/path"),
        text("/process/pid"),
    );
    terminal::line(&line).into_owned()
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// A statement with its time and its requests.
pub(super) fn asked(
    exchange: &Exchange,
    started: BootTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let at = exchange.at.since(started).as_secs_f64();
    write!(out, "+{at:.3} s")?;
    match exchange.ended {
        Some(ended) => {
            let took = ended.since(exchange.at).as_secs_f64() * 1000.0;
            write!(out, "  took {took:.1} ms")?;
        }
        None => write!(out, "  unanswered")?,
    }
    for (request, _) in &exchange.requests {
        write!(out, "  request {}", request.0)?;
    }
    if !exchange.executed {
        write!(out, "  (prepared only)")?;
    }
    if exchange.skipped {
        write!(out, "  (skipped by the server after an error)")?;
    }
    // Each line marked: none of it can pass for another request.
    let marked = statement(exchange).replace('\n', "\n  | ");
    writeln!(out, "\n  | {marked}")?;
    parameters(exchange, out)
}

/// A statement as it was typed.
pub(super) fn prompt(meta: &Meta, exchange: &Exchange, out: &mut impl Write) -> io::Result<()> {
    let database = meta.database.as_deref().unwrap_or(&meta.target);
    let marked = statement(exchange).replace('\n', "\n  | ");
    writeln!(out, "{}=> {marked}", terminal::line(database))?;
    parameters(exchange, out)
}

fn statement(exchange: &Exchange) -> String {
    if exchange.statement.is_empty() {
        return "(text not recorded)".to_owned();
    }
    terminal::block(&exchange.statement).into_owned()
}

fn parameters(exchange: &Exchange, out: &mut impl Write) -> io::Result<()> {
    for (number, parameter) in (1..).zip(&exchange.parameters) {
        writeln!(out, "  ${number} = {}", cell(parameter))?;
    }
    Ok(())
}

/// What came back.
pub(super) fn answered(exchange: &Exchange, out: &mut impl Write) -> io::Result<()> {
    for notice in &exchange.notices {
        said(notice, out)?;
    }
    if exchange.copied_in > 0 {
        writeln!(out, "({} copied in)", bytes(exchange.copied_in))?;
    }
    for result in &exchange.results {
        table(result, out)?;
    }
    for error in &exchange.errors {
        said(error, out)?;
    }
    Ok(())
}

fn said(notice: &Notice, out: &mut impl Write) -> io::Result<()> {
    let Notice {
        severity,
        code,
        message,
        detail,
        hint,
    } = notice;
    let head = format!("{severity} {code}: {message}");
    writeln!(out, "{}", terminal::line(&head))?;
    for (name, more) in [("DETAIL", detail), ("HINT", hint)] {
        if let Some(more) = more {
            writeln!(out, "{name}: {}", terminal::line(more))?;
        }
    }
    Ok(())
}

/// A result as psql shows it, more or less.
fn table(result: &ResultSet, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<String> = result
        .columns
        .iter()
        .map(|column| short(&terminal::line(&column.name)))
        .collect();
    let rows: Vec<Vec<String>> = result
        .rows
        .iter()
        .map(|row| row.iter().map(|value| short(&cell(value))).collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter().chain([&names]) {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, value) in widths.iter_mut().zip(row) {
            *width = (*width).max(value.chars().count());
        }
    }
    if !names.is_empty() {
        line(&names, &widths, out)?;
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}", rule.join("+"))?;
    }
    for row in &rows {
        line(row, &widths, out)?;
    }
    let kept = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if result.count > kept {
        writeln!(out, "({} more rows)", result.count - kept)?;
    }
    match result.tag.as_deref() {
        Some("") => writeln!(out, "(empty statement)"),
        Some(tag) => writeln!(out, "{}", terminal::line(tag)),
        None => writeln!(out, "(the result did not end)"),
    }
}

fn line(values: &[String], widths: &[usize], out: &mut impl Write) -> io::Result<()> {
    let padded: Vec<String> = values
        .iter()
        .zip(widths)
        .map(|(value, width)| format!(" {value:width$} "))
        .collect();
    writeln!(out, "{}", padded.join("|").trim_end())
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Text(text) => terminal::line(text).into_owned(),
        Cell::Binary(hex) => format!("\\x{hex}"),
    }
}

/// No wider than a column may be.
fn short(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.split_at(end).0),
    }
}

//! How it is written: a piece of the configuration, with names that come from the server.

use std::fmt::Write as _;

use super::propose::{Evidence, Named, NotSampled, Proposal, Report};
use super::terminal;
use crate::config::{Config, Target};

/// A piece of the configuration for `target`: each proposal with its reason as a comment above it.
pub(super) fn fragment(config: &Config, target: &Target, reports: &[Report]) -> String {
    let count = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let proposed = count(|report| report.proposals.len());
    let names: Vec<_> = reports
        .iter()
        .map(|report| report.database.as_str())
        .collect();
    let mut text = format!(
        "# interceptor discover {}: {proposed} columns proposed, {} configured already, in {}.\n\
         # A guess for somebody to read: above each line stands why. Goes below `targets.{}` in\n# {}\n",
        target.name,
        count(|report| report.configured.len()),
        names.join(", "),
        target.name,
        terminal::line(&config.paths.config.to_string_lossy()),
    );
    let head = match (proposed, target.sensitive.is_empty()) {
        (0, _) => "    # sensitive: nothing to add\n",
        (_, true) => "    sensitive:\n",
        (_, false) => "    # sensitive: is there already; these lines go to the others below it\n",
    };
    text.push_str(head);
    for report in reports {
        database(&mut text, report);
    }
    text
}

fn database(text: &mut String, report: &Report) {
    for Named {
        key,
        mask,
        relation,
    } in &report.configured
    {
        let is = match *relation {
            "missing" => "configured, and is not there",
            "unfit" => "configured, and closes its table: the mask cannot keep its type",
            _ => "configured already",
        };
        note(text, &format!("{key} is {is} ({mask})"));
    }
    for proposal in &report.proposals {
        propose(text, proposal);
    }
    for Named {
        key,
        mask,
        relation,
    } in &report.inherited
    {
        note(
            text,
            &format!("{key} of a {relation} inherits its mask ({mask})"),
        );
    }
    for doubt in &report.doubts {
        let why = why(&doubt.evidence);
        note(text, &format!("{} is not proposed: {why}", doubt.key));
    }
    for NotSampled { relation, why } in &report.not_sampled {
        note(
            text,
            &format!("{relation} was told by its names alone: {why}"),
        );
    }
}

/// A comment. What it names is the server's.
fn note(text: &mut String, words: &str) {
    line(text, &format!("      # {}", terminal::line(words)));
}

fn propose(text: &mut String, proposal: &Proposal) {
    let why = format!(
        "{} ({}): {}",
        proposal.sense.word(),
        proposal.kind,
        why(&proposal.evidence)
    );
    note(text, &why);
    let entry = format!("      {}: {}", yaml(&proposal.key), proposal.mask);
    line(text, &entry);
}

fn why(evidence: &Evidence) -> String {
    let mut why = Vec::new();
    why.extend(
        evidence
            .name
            .map(|sense| format!("its name says {}", sense.word())),
    );
    match evidence.values {
        None => why.push("its values were not looked at".to_owned()),
        Some(0) => why.push("it holds no values".to_owned()),
        Some(values) if evidence.found.is_empty() => {
            why.push(format!("none of {values} values says so"));
        }
        Some(values) => {
            let found = evidence.found.iter();
            why.extend(
                found.map(|(kind, count)| format!("{count} of {values} values hold {kind}")),
            );
        }
    }
    why.join("; ")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A text as a key of YAML: in quotes unless it is plain, and with nothing in it that a terminal acts on.
pub(super) fn yaml(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./-".contains(letter);
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if begins && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if terminal::acts(letter) => {
                // Writing to a string cannot fail.
                let _always_written = write!(quoted, "\\U{:08x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A name in SQL, always in quotes, and with nothing in it that a terminal acts on.
pub(super) fn sql(name: &str) -> String {
    if !name.chars().any(terminal::acts) {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    let mut quoted = String::from("U&\"");
    for letter in name.chars() {
        match letter {
            '"' => quoted.push_str("\"\""),
            '\\' => quoted.push_str("\\\\"),
            letter if terminal::acts(letter) => {
                // Writing to a string cannot fail.
                let _always_written = write!(quoted, "\\+{:06x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;

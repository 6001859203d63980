//! How the demo speaks: headings, sentences, command lines, what came of them.

use std::process::Command;

use support::{DEADLINE, Finished, Process};

use crate::shell;

/// A new part of the story.
pub(super) fn heading(text: &str) {
    println!("\n\x1b[1m── {text}\x1b[0m");
}

/// A sentence.
pub(super) fn say(text: &str) {
    println!("\x1b[2m{text}\x1b[0m");
}

/// Text of a file or a record.
pub(super) fn block(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Runs a command, shown as `line`, and shows both outputs as they are.
pub(super) fn command(line: &str, command: Command) -> anyhow::Result<Finished> {
    println!("\x1b[36m$ {line}\x1b[0m");
    let finished = Process::run(command, DEADLINE)?;
    block(&finished.stdout);
    block(&finished.stderr);
    Ok(finished)
}

/// The same, shown as it is.
pub(super) fn plain(line: Command) -> anyhow::Result<Finished> {
    command(&shell::line(&line), line)
}

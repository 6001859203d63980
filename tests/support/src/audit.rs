//! The audit log as an operator's tools see it: files of JSON lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::wait;

/// The audit log below one state directory.
#[derive(Clone, Debug)]
pub struct Log {
    directory: PathBuf,
}

impl Log {
    /// The log that a daemon with the state directory `state` writes.
    #[must_use]
    pub fn below(state: &Path) -> Self {
        Self {
            directory: state.join("audit"),
        }
    }

    /// All whole lines so far, in order.
    ///
    /// # Errors
    /// When a file cannot be read, or a whole line is not JSON.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.directory)
            .with_context(|| format!("read {}", self.directory.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .collect();
        files.sort();
        let mut lines = Vec::new();
        for file in files {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            for line in text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
            {
                let value = serde_json::from_str(line).with_context(|| {
                    format!("{} has a line that is not JSON: {line}", file.display())
                })?;
                lines.push(value);
            }
        }
        Ok(lines)
    }

    /// Lines of one kind so far.
    ///
    /// # Errors
    /// As [`Log::lines`].
    pub fn events(&self, event: &str) -> anyhow::Result<Vec<Value>> {
        let mut lines = self.lines()?;
        lines.retain(|line| line["event"] == event);
        Ok(lines)
    }

    /// Waits for a line of kind `event` that `wanted` accepts.
    ///
    /// # Errors
    /// When there is none until `deadline`; the text has the whole log.
    pub fn wait_for(
        &self,
        event: &str,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let what = format!("an audit line {event}");
        wait::for_files(&what, &self.directory, deadline, || {
            Ok(self.events(event)?.into_iter().find(&wanted))
        })
        .with_context(|| {
            let lines = self.lines().unwrap_or_default();
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            format!("the log has:\n{}", lines.join("\n"))
        })
    }
}

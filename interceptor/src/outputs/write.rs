//! JSON lines to a file, or to standard output.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where lines are written.
pub(super) struct Written(Option<PathBuf>);

impl Written {
    pub(super) fn stdout() -> Self {
        Self(None)
    }

    pub(super) fn file(path: &Path) -> Self {
        Self(Some(path.to_owned()))
    }

    /// Writes lines; on disk when this answers. The file is opened each time, so that it may be rotated.
    pub(super) async fn write(&self, lines: &[String]) -> Result<(), String> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let path = self.0.clone();
        let written = tokio::task::spawn_blocking(move || match path {
            None => std::io::stdout().lock().write_all(text.as_bytes()),
            Some(path) => {
                let mut options = OpenOptions::new();
                options.append(true).create(true).mode(0o600);
                let mut file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
                file.write_all(text.as_bytes())?;
                file.sync_data()
            }
        });
        let written = written.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("cannot be written: {error}"))
    }
}

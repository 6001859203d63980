//! What the verbs share that put a file among the host's own.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

/// Of which daemon.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The configuration file.
    #[arg(long, default_value = super::CONFIG)]
    pub(super) config: PathBuf,
}

/// Puts a file in place whole.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension(format!("interceptor-{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    written.with_context(|| format!("write {}", path.display()))
}

//! A directory that every user may read, with what agents run: the program and the Python drivers.
//!
//! A checkout and a cache may lie in a home directory that other users cannot enter; agents are other users.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use support::place;
use tempfile::TempDir;

use crate::setup::{Drivers, Ready};
use crate::shell;

/// What agents run. Removed when dropped.
pub(crate) struct Stage {
    directory: TempDir,
}

impl Stage {
    /// Copies `program` and, where there is one, the Python environment.
    pub(crate) fn set(program: &Path, ready: &Ready) -> anyhow::Result<Self> {
        let stage = Self {
            directory: place::temporary("stage")?,
        };
        let copy = stage.program();
        fs::copy(program, &copy)
            .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("copy {}", program.display()))?;
        if let Some(Drivers { python, node: _ }) = &ready.drivers {
            copy_for_all(python, &stage.directory.path().join("python"))?;
        }
        Ok(stage)
    }

    /// Copies a directory of programs beside it; where it is then.
    pub(crate) fn also(&self, from: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.directory.path().join(name);
        copy_for_all(from, &directory)?;
        Ok(directory)
    }

    /// Copies the server of a newer PostgreSQL beside the program; its clients are those of the older one.
    /// Gives back the directory of all programs.
    pub(crate) fn newer(&self, native: &Path, ready: &Ready) -> anyhow::Result<PathBuf> {
        let directory = self.directory.path().join("postgresql");
        let programs = directory.join("bin");
        if programs.is_dir() {
            return Ok(programs);
        }
        copy_for_all(native, &directory)?;
        for client in ["psql", "pgbench", "pg_dump", "pg_basebackup"] {
            let at = programs.join(client);
            symlink(ready.postgres.join(client), &at)
                .with_context(|| format!("link {}", at.display()))?;
        }
        Ok(programs)
    }

    /// Removes the stage that this process was started with: for the part that runs as root, when
    /// the outer process, whose stage it is, was killed before it could.
    pub(crate) fn sweep() {
        let stage = std::env::var_os("INTERCEPTOR_BIN")
            .and_then(|program| Path::new(&program).parent().map(Path::to_path_buf));
        let Some(stage) = stage else { return };
        let name = stage.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ic-stage-") && fs::remove_dir_all(&stage).is_err() {
            eprintln!("{} is left: remove it", stage.display());
        }
    }

    /// The program.
    pub(crate) fn program(&self) -> PathBuf {
        self.directory.path().join("interceptor")
    }

    /// The variables that tests read.
    pub(crate) fn variables(&self, ready: &Ready) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("INTERCEPTOR_WORKSPACE", shell::text(&place::workspace())),
            ("INTERCEPTOR_BIN", shell::text(&self.program())),
            (place::POSTGRES_PROGRAMS, shell::text(&ready.postgres)),
        ];
        if let Ok(temporary) = std::env::var(place::TEMPORARY) {
            variables.push((place::TEMPORARY, temporary));
        }
        if let Some(Drivers { python: _, node }) = &ready.drivers {
            let python = self.directory.path().join("python/bin/python");
            variables.push(("INTERCEPTOR_PYTHON", shell::text(&python)));
            variables.push(("INTERCEPTOR_NODE_MODULES", shell::text(node)));
        }
        variables
    }
}

/// A copy of a directory that every user may read.
fn copy_for_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut cp = Command::new("cp");
    cp.arg("-rP").arg(from).arg(to);
    shell::read(cp).with_context(|| format!("copy {}", from.display()))?;
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX"]).arg(to);
    shell::read(chmod)
        .map(drop)
        .with_context(|| format!("open {} to other users", to.display()))
}

//! A service of this machine's PAM: a password is right where it is what a file holds; gone when dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::suffix;

/// A PAM service that nobody else knows of.
pub struct Pam {
    name: String,
    file: PathBuf,
}

impl Pam {
    /// Makes one that asks for what `password` holds, with a program beside that file.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn of(password: &Path) -> anyhow::Result<Self> {
        let program = password.with_extension("check");
        let script = format!(
            "#!/bin/sh\n[ \"$(/usr/bin/tr -d '\\000')\" = \"$(/bin/cat {})\" ]\n",
            password.display()
        );
        fs::write(&program, script)
            .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", program.display()))?;
        let name = format!("ic-{}", suffix()?);
        let pam = Self {
            file: Path::new("/etc/pam.d").join(&name),
            name,
        };
        let service = format!(
            "auth required pam_exec.so expose_authtok quiet {}\naccount required pam_permit.so\n",
            program.display()
        );
        fs::write(&pam.file, service).with_context(|| format!("write {}", pam.file.display()))?;
        Ok(pam)
    }

    /// Its name, as `pg_hba.conf` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}

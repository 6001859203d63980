//! As whom upstream: where credentials come from. Zeroed, never printed.
//!
//! A [`Secret`] has no `Debug` that shows it, no `Serialize`, no `Display`. Stores are asked at each
//! dial, so that a rotated secret is used at once; each bounds its time and its size. No error holds a
//! byte of what was read. [`harden()`] keeps the daemon's memory from other processes and from core files.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::SecretSource;

mod credential;
mod env;
mod exec;
mod file;
mod harden;
#[cfg(test)]
mod tests;

pub use harden::harden;

/// A credential's bytes. Zeroed when dropped; `Debug` prints `[REDACTED]`.
pub type Secret = SecretString;

/// How long an answer counts as new, refused or not.
const NEW_FOR: Duration = Duration::from_secs(5);
/// Bytes of a secret.
const MAX_SECRET: usize = 64 << 10;

/// A place that secrets come from.
trait Store: Sync {
    /// What names a secret in it.
    type Name: ?Sized + Sync;

    /// Fetches one secret; bounded in time and size.
    fn fetch(&self, name: &Self::Name) -> impl Future<Output = Result<Secret, Error>> + Send;
}

/// All stores behind one door.
#[derive(Debug, Default)]
pub struct Secrets {
    file: file::Files,
    env: env::Environment,
    exec: exec::Commands,
    credential: credential::Credentials,
}

impl Secrets {
    /// Stores with nothing cached. The systemd credentials are those of `$CREDENTIALS_DIRECTORY` now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fetches a secret from where the configuration says. May wait as long as a command's timeout.
    ///
    /// # Errors
    /// Whatever keeps it from being had; never with a byte of it. Cancelling is safe: a command that
    /// nobody waits for is killed.
    pub async fn fetch(&self, source: &SecretSource) -> Result<Secret, Error> {
        match source {
            SecretSource::File(path) => self.file.fetch(path).await,
            SecretSource::Env(name) => self.env.fetch(name).await,
            SecretSource::Credential(name) => self.credential.fetch(name).await,
            SecretSource::Exec { .. } => self.exec.fetch(source).await,
        }
    }

    /// The same, for a secret that was refused: a command's answer is asked for anew, unless that was
    /// done a moment ago.
    ///
    /// # Errors
    /// As [`Secrets::fetch`].
    pub async fn fetch_again(
        &self,
        source: &SecretSource,
        refused: &Secret,
    ) -> Result<Secret, Error> {
        self.exec.doubt(source, refused, NEW_FOR);
        self.fetch(source).await
    }

    /// Forgets cached answers of every source but these: a reload has dropped the others.
    pub fn keep<'a>(&self, sources: impl IntoIterator<Item = &'a SecretSource>) {
        let sources: Vec<_> = sources.into_iter().collect();
        let files = sources.iter().filter_map(|source| match source {
            SecretSource::File(path) => Some(path.as_path()),
            _ => None,
        });
        self.file.keep(files);
        self.exec.keep(sources.iter().copied());
    }
}

/// Why a secret cannot be had. Names where it was looked for, never what was found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read secret file {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// A file that is no regular file.
    #[error("cannot use secret file {0}: it is not a regular file")]
    NotRegular(PathBuf),
    /// A file that somebody else may have written.
    #[error(
        "cannot trust secret file {path}: it belongs to uid {uid}; chown it to root or to the daemon's user"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A file that others may read.
    #[error("cannot trust secret file {path}: its mode is {mode:04o}; chmod it to 0600")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file whose file system does not answer.
    #[error("cannot read secret file {path}: it took longer than {timeout:?}")]
    Late {
        /// The file.
        path: PathBuf,
        /// How long it might have taken.
        timeout: Duration,
    },
    /// More than a secret can be.
    #[error("cannot use the secret of {0}: it is longer than 64 KiB")]
    TooLong(String),
    /// Nothing at all.
    #[error("cannot use the secret of {0}: it is empty")]
    Empty(String),
    /// Bytes that are no text, or text with a NUL.
    #[error("cannot use the secret of {0}: it is not UTF-8 text without NUL")]
    NotText(String),
    /// A variable that is not set.
    #[error("cannot find variable {0} in the daemon's environment; set it in the unit")]
    NoVariable(String),
    /// The daemon was not started with systemd credentials.
    #[error(
        "cannot find credential {0}: CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit"
    )]
    NoCredentials(String),
    /// A name that would leave the directory of credentials.
    #[error("cannot use the name of a credential: it is not a file name")]
    CredentialName,
    /// A source that says no absolute program.
    #[error("cannot run a secret's command: it names no absolute program")]
    NoProgram,
    /// A command that could not be started.
    #[error("cannot run secret command {program}: {cause}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// A command that took too long; it and its group are killed.
    #[error("cannot get a secret from command {program}: it took longer than {timeout:?}")]
    Timeout {
        /// The program.
        program: String,
        /// How long it might have taken.
        timeout: Duration,
    },
    /// A command that failed.
    #[error(
        "cannot get a secret from command {program}: it ended with {status}, and {stderr_bytes} bytes on standard error"
    )]
    Failed {
        /// The program.
        program: String,
        /// Its exit status or signal.
        status: std::process::ExitStatus,
        /// How much it said; what it said may hold secrets.
        stderr_bytes: u64,
    },
    /// The runtime is shutting down.
    #[error("cannot read secret file {0}: the daemon is stopping")]
    Stopping(PathBuf),
}

impl Error {
    fn read(path: &Path, cause: impl Into<std::io::Error>) -> Self {
        Self::Read {
            path: path.to_owned(),
            cause: Arc::new(cause.into()),
        }
    }
}

/// Bytes become a secret: one trailing newline dropped, bounded, text, not empty.
///
/// The caller's buffer stays the caller's to zero; the copy made here is exact in size, so that no
/// reallocation leaves bytes behind.
fn secret(bytes: &[u8], from: impl Fn() -> String) -> Result<Secret, Error> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() > MAX_SECRET {
        return Err(Error::TooLong(from()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_ignored| Error::NotText(from()))?;
    if text.is_empty() {
        return Err(Error::Empty(from()));
    }
    if text.contains('\0') {
        return Err(Error::NotText(from()));
    }
    Ok(Secret::from(Box::<str>::from(text)))
}

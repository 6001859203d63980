//! systemd credentials: files that the service manager made for this service alone (systemd.exec(5)).

use std::path::PathBuf;

use super::{Error, Secret, Store, file};

/// Permission bits that a credential may not have. systemd makes them 0400 and, where the service runs
/// as a user of its own, adds an ACL for it, which shows as the group's read bit: 0440.
const OTHERS: u32 = 0o037;

/// The directory that systemd made.
#[derive(Debug)]
pub(super) struct Credentials {
    directory: Option<PathBuf>,
    reader: file::Reader,
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
    }
}

impl Credentials {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory: directory.filter(|path| path.is_absolute()),
            reader: file::Reader::default(),
        }
    }
}

impl Store for Credentials {
    type Name = str;

    async fn fetch(&self, name: &str) -> Result<Secret, Error> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(Error::CredentialName);
        }
        let none = || Error::NoCredentials(name.to_owned());
        let path = self.directory.as_ref().ok_or_else(none)?.join(name);
        self.reader.fetch(&path, OTHERS).await
    }
}

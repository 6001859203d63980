//! The key of an encrypted recording: made for each session, and kept beside it for its recipients only.
//!
//! `key.age` holds 32 bytes, encrypted with `age` to each of `recording.recipients` (X25519): whoever has
//! one of their identities reads the recording, and the daemon, which has none, no longer can.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use age::x25519;
use zeroize::Zeroizing;

use crate::recording::Error;
use crate::recording::writer::press::SessionKey;

/// The file's name.
pub(in crate::recording) const FILE: &str = "key.age";

/// A header with some dozens of recipients is some kilobytes.
const FILE_MAX: u64 = 1 << 20;

/// Makes the key of a new recording; what `key.age` holds of it.
pub(in crate::recording) fn make(recipients: &[String]) -> Result<(SessionKey, Vec<u8>), String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_unspecified| "no random bytes".to_owned())?;
    let recipients: Result<Vec<x25519::Recipient>, _> = recipients
        .iter()
        .map(|recipient| recipient.parse())
        .collect();
    let recipients = recipients.map_err(str::to_owned)?;
    let all = recipients.iter().map(|one| one as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| error.to_string())?;
    let mut kept = Vec::new();
    let write = |kept: &mut Vec<u8>| {
        let mut to = encryptor.wrap_output(kept)?;
        to.write_all(&*bytes)?;
        to.finish().map(drop)
    };
    write(&mut kept).map_err(|error: std::io::Error| error.to_string())?;
    let key = SessionKey::new(&bytes).map_err(|error| error.to_string())?;
    Ok((key, kept))
}

/// Identities of `age`, which open what is encrypted to them.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identities").field(&self.0.len()).finish()
    }
}

impl Identities {
    /// Reads those of a file, as `age-keygen` writes it.
    ///
    /// # Errors
    /// Where it cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("read", path, error);
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(failed)?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Result<Vec<_>, _> = lines.map(str::parse).collect();
        match identities {
            Ok(identities) if !identities.is_empty() => Ok(Self(identities)),
            _ => Err(Error::Identity {
                path: path.to_owned(),
            }),
        }
    }

    /// Opens the key of the recording in `dir`.
    pub(in crate::recording) fn open(&self, dir: &Path) -> Result<SessionKey, Error> {
        let path = dir.join(FILE);
        let sealed = |why: &str| Error::Sealed {
            dir: dir.to_owned(),
            why: Arc::from(why),
        };
        if self.0.is_empty() {
            return Err(sealed(
                "name one of its recipients' identities with --identity",
            ));
        }
        let file = fs::File::open(&path).map_err(|error| Error::io("read", &path, error))?;
        let decryptor = age::Decryptor::new_buffered(std::io::BufReader::new(file.take(FILE_MAX)))
            .map_err(|error| sealed(&error.to_string()))?;
        let identities = self.0.iter().map(|one| one as &dyn age::Identity);
        let opened = decryptor.decrypt(identities);
        let from = opened.map_err(|error| sealed(&error.to_string()))?;
        let mut bytes = Zeroizing::new([0; 32]);
        from.take(32)
            .read_exact(&mut *bytes)
            .map_err(|error| sealed(&error.to_string()))?;
        SessionKey::new(&bytes).map_err(|error| sealed(&error.to_string()))
    }
}

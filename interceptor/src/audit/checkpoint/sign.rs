//! Who signs checkpoints: an Ed25519 key of this host's own (RFC 8032), made at first start.
//!
//! `audit.key` never leaves the daemon; `audit.pub` is all that it takes to check a copy of the log
//! elsewhere. What is signed is text, one field a line, so that other programs can check it too. A key
//! that is gone while its public half is there is not made anew: a new one would hide that.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Checkpoint;
use crate::audit::Error;
use crate::audit::verify::What;

/// The private key's file, in the state directory.
const KEY: &str = "audit.key";

/// The public key's file, in the state directory.
pub const PUBLIC: &str = "audit.pub";

/// More than this is no key.
const FILE_MAX: u64 = 64 << 10;

/// What stands before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo` (RFC 8410 §4).
const PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What is signed begins with this line: no signature of ours means anything else.
const PURPOSE: &str = "interceptor audit checkpoint";

/// The key that signs.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
    state: PathBuf,
    /// Nothing was signed with it yet.
    is_new: bool,
}

impl fmt::Debug for Signer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Signer").field(&self.public.id).finish()
    }
}

impl Signer {
    /// Reads `audit.key` (0600) of the state directory, or makes it where there is no `audit.pub` either.
    ///
    /// # Errors
    /// [`Error`] where it cannot be read or made, others can read it, or only its public half is there.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let path = state.join(KEY);
        let published = state.join(PUBLIC);
        let is_new = !exists(&published)?;
        if is_new && !exists(&path)? {
            make(&path)?;
        }
        let pair = read_pair(&path)?;
        let mut raw = [0; 32];
        for (to, from) in raw.iter_mut().zip(pair.public_key().as_ref()) {
            *to = *from;
        }
        let public = PublicKey::of(raw);
        if !is_new {
            let beside = PublicKey::read(&published)?;
            if !beside.iter().any(|key| key.id == public.id) {
                let why = "it is not that of audit.key; put the right pair back".to_owned();
                return Err(Error::key(&published, why));
            }
        }
        Ok(Self {
            pair,
            public,
            state: state.to_owned(),
            is_new,
        })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs how far the log is.
    pub(in crate::audit) fn sign(&self, mut checkpoint: Checkpoint) -> Checkpoint {
        checkpoint.key = Some(self.public.id.clone());
        let signature = self.pair.sign(signed(&checkpoint).as_bytes());
        checkpoint.signature = Some(hex::encode(signature.as_ref()));
        checkpoint
    }

    /// Signs what is no checkpoint. `purpose` is one line, and no other kind of document has it.
    #[must_use]
    pub fn sign_document(&self, purpose: &str, document: &[u8]) -> String {
        hex::encode(self.pair.sign(&of_kind(purpose, document)))
    }

    /// Whether a log may go on behind this checkpoint: it is signed with this key, or the key is new and the
    /// log older than signatures.
    pub(in crate::audit) fn accepts(&self, checkpoint: &Checkpoint) -> Result<(), What> {
        if self.is_new && checkpoint.v == 1 {
            return Ok(());
        }
        checkpoint.is_signed_by(std::slice::from_ref(&self.public))
    }

    /// Makes the public half known, once something is signed: from now on nothing goes without.
    pub(in crate::audit) fn publish(&self) -> Result<(), Error> {
        if !self.is_new {
            return Ok(());
        }
        replace(
            &self.state.join(PUBLIC),
            self.public.pem().as_bytes(),
            0o644,
        )
    }
}

/// What checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    raw: [u8; 32],
    id: String,
}

impl PublicKey {
    fn of(raw: [u8; 32]) -> Self {
        let sum = digest(&SHA256, &raw);
        let id = hex::encode(sum.as_ref().get(..8).unwrap_or_default());
        Self { raw, id }
    }

    /// Its name: the first half of a quarter of its SHA-256, as checkpoints name it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As a file has it: `SubjectPublicKeyInfo` in PEM, which openssl reads too.
    #[must_use]
    pub fn pem(&self) -> String {
        let der = [&PREFIX[..], &self.raw].concat();
        pem("PUBLIC KEY", &der).to_string()
    }

    /// Whether it signed a document by [`Signer::sign_document`].
    #[must_use]
    pub fn has_signed(&self, purpose: &str, document: &[u8], signature: &str) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, self.raw);
        hex::decode(signature).is_ok_and(|signature| {
            public
                .verify(&of_kind(purpose, document), &signature)
                .is_ok()
        })
    }

    /// Reads the keys of a file, one or several behind each other.
    ///
    /// # Errors
    /// Where it cannot be read, or has none or something else.
    pub fn read(path: &Path) -> Result<Vec<Self>, Error> {
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        let text = text(path, &file)?;
        let wrong = || Error::key(path, "no Ed25519 public key in PEM".to_owned());
        let keys: Option<Vec<_>> = blocks(&text, "PUBLIC KEY")
            .map(|block| {
                let der = block?;
                let raw = der.strip_prefix(&PREFIX)?;
                Some(Self::of(raw.try_into().ok()?))
            })
            .collect();
        keys.filter(|keys| !keys.is_empty()).ok_or_else(wrong)
    }
}

impl Checkpoint {
    /// Whether one of these keys signed it.
    ///
    /// # Errors
    /// What is wrong: no signature, that of another key, or one that is none.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> Result<(), What> {
        let (2, Some(id), Some(signature)) = (self.v, &self.key, &self.signature) else {
            return Err(What::Unsigned);
        };
        let Some(key) = keys.iter().find(|key| key.id == *id) else {
            return Err(What::OtherKey(id.clone()));
        };
        let bytes = hex::decode(signature).map_err(|_not_hex| What::Signature)?;
        let fields = [&self.hash, &self.segment, &self.time];
        let is_plain = fields.iter().all(|field| !field.contains('\n'));
        if !is_plain || hex::encode(&bytes) != *signature {
            return Err(What::Signature);
        }
        let public = UnparsedPublicKey::new(&ED25519, key.raw);
        let verified = public.verify(signed(self).as_bytes(), &bytes);
        verified.map_err(|_unspecified| What::Signature)
    }
}

/// What is signed of a document.
fn of_kind(purpose: &str, document: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), b"\n", document].concat()
}

/// What is signed of a checkpoint.
fn signed(checkpoint: &Checkpoint) -> String {
    let Checkpoint {
        v,
        seq,
        hash,
        segment,
        length,
        time,
        key,
        signature: _,
    } = checkpoint;
    let key = key.as_deref().unwrap_or_default();
    format!("{PURPOSE}\n{v}\n{key}\n{seq}\n{hash}\n{segment}\n{length}\n{time}\n")
}

fn exists(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

fn make(path: &Path) -> Result<(), Error> {
    let failed = || Error::key(path, "no key can be made".to_owned());
    let pair = Ed25519KeyPair::generate().map_err(|_unspecified| failed())?;
    let der = pair.to_pkcs8v1().map_err(|_unspecified| failed())?;
    let pem = pem("PRIVATE KEY", der.as_ref());
    replace(path, pem.as_bytes(), 0o600)
}

fn read_pair(path: &Path) -> Result<Ed25519KeyPair, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let why = "it is gone, though audit.pub is there; put it back. Only to begin with a new \
                       one, move audit.pub away and keep it: it is what older checkpoints are checked with";
            Error::key(path, why.to_owned())
        }
        _ => Error::io("read", path, error),
    })?;
    let found = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?;
    let ours = [0, nix::unistd::geteuid().as_raw()].contains(&found.uid());
    if !ours || found.mode() & 0o077 != 0 {
        let why = "others can reach it; make it the daemon's own with mode 0600".to_owned();
        return Err(Error::key(path, why));
    }
    let text = text(path, &file)?;
    let der = blocks(&text, "PRIVATE KEY")
        .next()
        .flatten()
        .map(Zeroizing::new);
    let pair = der.and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok());
    pair.ok_or_else(|| Error::key(path, "no Ed25519 private key in PEM".to_owned()))
}

fn text(path: &Path, file: &File) -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Error::io("read", path, error))?;
    Ok(text)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
        // The mode above is cut by the umask.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|error| Error::io("write", path, error))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The contents of each block with this label; `None` for one that is not whole.
fn blocks<'a>(text: &'a str, label: &str) -> impl Iterator<Item = Option<Vec<u8>>> + use<'a> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&begin)?;
        let Some((body, more)) = behind.split_once(&end) else {
            rest = "";
            return Some(None);
        };
        rest = more;
        let joined: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        Some(STANDARD.decode(joined.as_bytes()).ok())
    })
}

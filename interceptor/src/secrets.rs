//! As whom upstream: where credentials come from. Zeroed, never printed.
//!
//! A [`Secret`] has no `Debug` that shows it, no `Serialize`, no `Display`. Stores are asked at each
//! dial, so that a rotated secret is used at once; each bounds its time and its size.

use secrecy::SecretString;

/// A credential's bytes. Zeroed when dropped; `Debug` prints `[REDACTED]`.
pub type Secret = SecretString;

//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side (RFC 5802, RFC 7677). No I/O.
//!
//! Our own, because keys must outlive one exchange (`keys`) and a hostile server's numbers must be
//! bounded before they cost anything. A server that does not prove in the end that it knows the
//! password is not logged in to.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// The mechanism's name.
pub(in super::super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism's name, bound to the server's certificate.
pub(in super::super) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Fewer make the password cheap to guess for whoever sits between; RFC 7677, section 4.
const ITERATIONS_MIN: u32 = 4_096;
/// More are a way to burn this host's time (pgjdbc CVE-2026-42198).
const ITERATIONS_MAX: u32 = 600_000;
/// A server's part of the nonce is 24 characters in PostgreSQL (pgbouncer CVE-2026-6665).
const NONCE_MAX: usize = 256;
/// PostgreSQL's salts have 16 bytes.
const SALT_MAX: usize = 256;
const NONCE_BYTES: usize = 18;
const KEY: usize = 32;

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message that is not SCRAM.
    #[error("the server's SCRAM message is malformed at its {field}")]
    Malformed {
        /// Where.
        field: &'static str,
    },
    /// A nonce that does not go on from ours, or is too long.
    #[error("the server's SCRAM nonce does not extend ours")]
    Nonce,
    /// A cost outside what is accepted.
    #[error(
        "the server asks for {iterations} SCRAM iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are accepted"
    )]
    Iterations {
        /// As sent.
        iterations: u64,
    },
    /// The server says no.
    #[error("the server refuses the SCRAM exchange: {reason}")]
    Refused {
        /// Its word for it.
        reason: String,
    },
    /// The server does not know the password.
    #[error("the server's SCRAM signature is wrong: it does not know the password")]
    Signature,
    /// It offers no mechanism that is spoken.
    #[error("the server offers no SASL mechanism that is supported")]
    Mechanism,
    /// A mechanism that cannot be, over a wire in clear.
    #[error("the server offers SCRAM-SHA-256-PLUS over a connection that is not TLS")]
    PlusWithoutTls,
}

/// What the exchange is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Nothing to bind to.
    Unable,
    /// We could bind, the server did not offer it: it notices where somebody took the offer away.
    NotOffered,
    /// The server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::EndPoint(data) => data,
            Self::Unable | Self::NotOffered => &[],
        }
    }
}

/// Chooses among the server's mechanisms. `tls` tells whether the wire is under TLS, `end_point`
/// what there is to bind to.
pub(super) fn choose(
    mechanisms: &[String],
    tls: bool,
    end_point: Option<Vec<u8>>,
) -> Result<(&'static str, Binding), Error> {
    let offers = |name| mechanisms.iter().any(|offered| offered == name);
    let plus = offers(SCRAM_SHA_256_PLUS);
    if plus && !tls {
        return Err(Error::PlusWithoutTls);
    }
    match end_point {
        Some(data) if plus => Ok((SCRAM_SHA_256_PLUS, Binding::EndPoint(data))),
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::NotOffered)),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::Unable)),
        _ => Err(Error::Mechanism),
    }
}

/// What a password comes to with one salt and cost. Whoever has it can log in: zeroed when dropped.
pub(in super::super) struct Keys {
    client: Zeroizing<[u8; KEY]>,
    server: Zeroizing<[u8; KEY]>,
}

impl Keys {
    /// Runs PBKDF2: milliseconds to tenths of a second.
    pub(in super::super) fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Zeroizing::new([0; KEY]);
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, password, &mut *salted);
        Self {
            client: sign(&*salted, b"Client Key"),
            server: sign(&*salted, b"Server Key"),
        }
    }

    /// The client's proof and the server's signature for a whole exchange (RFC 5802, section 3).
    pub(in super::super) fn sign(&self, all: &str) -> (Zeroizing<[u8; KEY]>, Zeroizing<[u8; KEY]>) {
        let stored = digest::digest(&digest::SHA256, &*self.client);
        let mut proof = sign(stored.as_ref(), all.as_bytes());
        for (proof, key) in proof.iter_mut().zip(self.client.iter()) {
            *proof ^= key;
        }
        (proof, sign(&*self.server, all.as_bytes()))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Keys([REDACTED])")
    }
}

/// A salt for a password that has more bits than anybody can guess: always the same.
pub(in super::super) fn salt(password: &[u8]) -> Vec<u8> {
    sign(password, b"salt").to_vec()
}

/// The password as the server hashed it: prepared where it can be, else as it is (`pg_saslprep`).
pub(super) fn prepare(password: &str) -> Zeroizing<Vec<u8>> {
    let prepared = stringprep::saslprep(password);
    Zeroizing::new(prepared.map_or_else(
        |_| password.as_bytes().to_vec(),
        |text| text.into_owned().into_bytes(),
    ))
}

fn sign(key: &[u8], data: &[u8]) -> Zeroizing<[u8; KEY]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut out = Zeroizing::new([0; KEY]);
    for (out, byte) in out.iter_mut().zip(tag.as_ref()) {
        *out = *byte;
    }
    out
}

/// An exchange after our first message.
#[derive(Debug)]
pub(super) struct Exchange {
    binding: Binding,
    nonce: String,
}

/// What the server answers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    whole: String,
    nonce: String,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: NonZeroU32,
}

/// An exchange after our proof: what the server's own proof must be.
pub(super) struct Expected(Zeroizing<[u8; KEY]>);

impl std::fmt::Debug for Expected {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Expected([REDACTED])")
    }
}

impl Exchange {
    /// Begins with a fresh nonce; `None` where the system gives no random bytes.
    pub(super) fn new(binding: Binding) -> Option<Self> {
        let mut random = [0; NONCE_BYTES];
        rand::fill(&mut random).ok()?;
        Some(Self {
            binding,
            nonce: STANDARD.encode(random),
        })
    }

    /// The `client-first-message`. The user's name is empty: the server takes it from the startup
    /// message.
    pub(super) fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Reads the `server-first-message`; nothing may follow its three attributes.
    pub(super) fn challenge(&self, message: &[u8]) -> Result<Challenge, Error> {
        let malformed = |field| Error::Malformed { field };
        let whole = std::str::from_utf8(message).map_err(|_not_utf8| malformed("text"))?;
        let mut fields = whole.splitn(3, ',');
        let mut field = |prefix: &str, field| {
            let text = fields.next().and_then(|text| text.strip_prefix(prefix));
            text.ok_or_else(|| malformed(field))
        };
        let nonce = field("r=", "nonce")?;
        let salt = field("s=", "salt")?;
        let iterations = field("i=", "iterations")?;
        let extends = nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce);
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if !extends || !printable || nonce.len() > NONCE_MAX {
            return Err(Error::Nonce);
        }
        let salt = STANDARD
            .decode(salt)
            .map_err(|_not_base64| malformed("salt"))?;
        if salt.is_empty() || salt.len() > SALT_MAX {
            return Err(malformed("salt"));
        }
        Ok(Challenge {
            iterations: count(iterations)?,
            whole: whole.to_owned(),
            nonce: nonce.to_owned(),
            salt,
        })
    }

    /// The `client-final-message`, and what must answer it.
    pub(super) fn prove(self, challenge: &Challenge, keys: &Keys) -> (Zeroizing<String>, Expected) {
        let bound = [self.binding.header().as_bytes(), self.binding.data()].concat();
        let unproved = format!("c={},r={}", STANDARD.encode(bound), challenge.nonce);
        let all = format!("{},{},{unproved}", self.first_bare(), challenge.whole);
        let (proof, signature) = keys.sign(&all);
        let message = Zeroizing::new(format!("{unproved},p={}", STANDARD.encode(*proof)));
        (message, Expected(signature))
    }
}

fn count(text: &str) -> Result<NonZeroU32, Error> {
    let malformed = Error::Malformed {
        field: "iterations",
    };
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let iterations = text.parse::<u64>().map_err(|_not_a_number| malformed)?;
    u32::try_from(iterations)
        .ok()
        .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(count))
        .and_then(NonZeroU32::new)
        .ok_or(Error::Iterations { iterations })
}

impl Expected {
    /// Reads the `server-final-message`: all of the signature and nothing else.
    pub(super) fn verify(&self, message: &[u8]) -> Result<(), Error> {
        let malformed = Error::Malformed { field: "signature" };
        let text = std::str::from_utf8(message).map_err(|_not_utf8| malformed.clone())?;
        if let Some(reason) = text.strip_prefix("e=") {
            let reason = reason.chars().filter(|c| c.is_ascii_graphic()).take(64);
            return Err(Error::Refused {
                reason: reason.collect(),
            });
        }
        let signature = text
            .strip_prefix("v=")
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(|signature| signature.len() == KEY)
            .ok_or(malformed)?;
        constant_time::verify_slices_are_equal(&signature, &*self.0)
            .map_err(|_unspecified| Error::Signature)
    }
}

#[cfg(test)]
pub(super) mod tests;

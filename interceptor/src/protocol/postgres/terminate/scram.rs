//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677, RFC 5929). No I/O.
//!
//! Reads what a client may say as PostgreSQL's own server does (`libpq/auth-scram.c`), and refuses in
//! its words. The name in the exchange is not looked at: whatever user a client names, the exchange
//! takes the same steps and the same time.

use aws_lc_rs::{constant_time, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::postgres::inject::{Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// The cost that clients pay at each login, the least that RFC 7677 allows and PostgreSQL's default. The
/// password has 256 bits: nobody gains by guessing it.
pub(super) const ITERATIONS: u32 = 4_096;
/// Bytes of a server's part of the nonce (`SCRAM_RAW_NONCE_LEN`).
const NONCE_BYTES: usize = 18;
/// Longest message of an exchange (`PG_MAX_SASL_MESSAGE_LENGTH`).
const MESSAGE_MAX: usize = 1_024;
const END_POINT: &str = "tls-server-end-point";

/// Why a client has not proved that it knows the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// A message that is not SCRAM; what is wrong with it.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// Something that is not spoken.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The client could bind, and was made to believe that we cannot.
    #[error("SCRAM channel binding negotiation error")]
    Negotiation,
    /// The client's TLS is not with us.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The client does not know the password.
    #[error("the password is wrong")]
    Password,
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random,
}

/// The mechanisms that are offered over a wire with this to bind to.
pub(super) fn mechanisms(end_point: Option<&[u8]>) -> Vec<String> {
    let plus = end_point.map(|_| SCRAM_SHA_256_PLUS);
    plus.into_iter()
        .chain([SCRAM_SHA_256])
        .map(str::to_owned)
        .collect()
}

/// An exchange after the client's first message.
#[derive(Debug)]
pub(super) struct Exchange {
    /// What the last message must be bound to, as it stands in it.
    bound: String,
    /// The client's first message without its header.
    bare: String,
    nonce: String,
}

impl Exchange {
    /// Reads the choice of `mechanism` and the `client-first-message`; `end_point` as it was offered.
    pub(super) fn begin(
        mechanism: &str,
        message: &[u8],
        end_point: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let mut random = [0; NONCE_BYTES];
        rand::fill(&mut random).map_err(|_unspecified| Error::Random)?;
        Self::with_nonce(mechanism, message, end_point, &STANDARD.encode(random))
    }

    fn with_nonce(
        mechanism: &str,
        message: &[u8],
        end_point: Option<&[u8]>,
        ours: &str,
    ) -> Result<Self, Error> {
        let message = text(message)?;
        let malformed = Error::Malformed;
        let data = match (mechanism, end_point) {
            (SCRAM_SHA_256_PLUS, Some(end_point)) => Some(end_point),
            (SCRAM_SHA_256, _) => None,
            _ => return Err(Error::Mechanism),
        };
        let (flag, rest) = message
            .split_once(',')
            .ok_or_else(|| malformed("comma expected after the channel binding flag"))?;
        match (flag, data) {
            ("n" | "y", Some(_)) => {
                return Err(malformed("SCRAM-SHA-256-PLUS without channel binding data"));
            }
            ("y", None) if end_point.is_some() => return Err(Error::Negotiation),
            ("n" | "y", None) => {}
            (flag, data) => match (flag.strip_prefix("p="), data) {
                (None, _) => return Err(malformed("unexpected channel binding flag")),
                (Some(_), None) => {
                    return Err(malformed("channel binding data without SCRAM-SHA-256-PLUS"));
                }
                (Some(END_POINT), Some(_)) => {}
                (Some(_), Some(_)) => {
                    return Err(Error::Unsupported("unsupported SCRAM channel-binding type"));
                }
            },
        }
        let bare = match rest.split_once(',') {
            Some(("", bare)) => bare,
            Some((name, _)) if name.starts_with("a=") => {
                return Err(Error::Unsupported(
                    "client uses authorization identity, but it is not supported",
                ));
            }
            _ => return Err(malformed("unexpected attribute in client-first-message")),
        };
        let header = format!("{flag},,");
        let bound = [header.as_bytes(), data.unwrap_or_default()].concat();
        Ok(Self {
            bound: STANDARD.encode(bound),
            nonce: format!("{}{ours}", nonce(bare)?),
            bare: bare.to_owned(),
        })
    }

    /// The `server-first-message`.
    pub(super) fn challenge(&self, salt: &[u8]) -> String {
        let (nonce, salt) = (&self.nonce, STANDARD.encode(salt));
        format!("r={nonce},s={salt},i={ITERATIONS}")
    }

    /// Reads the `client-final-message`, which answers `challenge`; the `server-final-message` where it
    /// proves that the client knows the password.
    pub(super) fn end(self, challenge: &str, message: &[u8], keys: &Keys) -> Result<String, Error> {
        let message = text(message)?;
        let malformed = Error::Malformed;
        let (unproved, proof) = message
            .rsplit_once(",p=")
            .ok_or_else(|| malformed("no proof in client-final-message"))?;
        let (bound, rest) = unproved
            .strip_prefix("c=")
            .and_then(|rest| rest.split_once(','))
            .ok_or_else(|| malformed("no channel binding in client-final-message"))?;
        // What follows the nonce are extensions; none is known, and those that matter begin with `m`.
        let nonce = rest
            .split(',')
            .next()
            .and_then(|part| part.strip_prefix("r="));
        if nonce != Some(&self.nonce) {
            return Err(malformed("nonce does not match"));
        }
        if bound != self.bound {
            return Err(Error::Binding);
        }
        let proof = STANDARD
            .decode(proof)
            .map_err(|_not_base64| malformed("malformed proof in client-final-message"))?;
        let all = format!("{},{challenge},{unproved}", self.bare);
        let (expected, signature) = keys.sign(&all);
        constant_time::verify_slices_are_equal(&proof, &*expected)
            .map_err(|_unspecified| Error::Password)?;
        Ok(format!("v={}", STANDARD.encode(*signature)))
    }
}

fn text(message: &[u8]) -> Result<&str, Error> {
    if message.is_empty() || message.len() > MESSAGE_MAX {
        return Err(Error::Malformed("the length of the message"));
    }
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Error::Malformed("the message is no text")),
    }
}

/// The client's part of the nonce: of `n=…,r=…`, perhaps with extensions behind it.
fn nonce(bare: &str) -> Result<&str, Error> {
    if bare.starts_with("m=") {
        return Err(Error::Unsupported(
            "client requires an unsupported SCRAM extension",
        ));
    }
    let rest = bare
        .strip_prefix("n=")
        .and_then(|rest| rest.split_once(','));
    let nonce = rest.and_then(|(_name, rest)| rest.split(',').next()?.strip_prefix("r="));
    nonce
        .filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(Error::Malformed("no printable nonce"))
}

#[cfg(test)]
mod tests;

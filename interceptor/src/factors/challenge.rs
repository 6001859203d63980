//! Challenges that wait to be signed: each for one login and one purpose, once, and not for long.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

use super::{Bytes, Error, Login};
use crate::clock::{self, BootTime};
use crate::policy::ApprovalId;

/// How long one may be signed; browsers are told the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// At once, and of one login.
const WAITING: usize = 1_024;
const OF_ONE: usize = 16;

/// What is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That a new key is registered.
    Register,
    /// The same, by a key that is known.
    Confirm,
    /// An answer.
    Answer {
        /// To which question.
        approval: ApprovalId,
        /// Digest of all that is said.
        said: [u8; 32],
        /// Digest of what was shown of the question.
        shown: [u8; 32],
    },
}

/// What a challenge was given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// To whom.
    pub login: Login,
    /// For what.
    pub purpose: Purpose,
    until: BootTime,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(HashMap<Vec<u8>, Bound>);

impl Waiting {
    pub(super) fn give(&mut self, login: &Login, purpose: Purpose) -> Result<Bytes, Error> {
        let now = clock::boot();
        self.0.retain(|_, bound| now < bound.until);
        let of_one = |bound: &&Bound| bound.login == *login;
        if self.0.len() >= WAITING || self.0.values().filter(of_one).count() >= OF_ONE {
            return Err(Error::Full("challenges that wait to be signed"));
        }
        let challenge = digest(&purpose)?;
        let bound = Bound {
            login: login.clone(),
            purpose,
            until: now.after(PATIENCE),
        };
        self.0.insert(challenge.clone(), bound);
        Ok(Bytes(challenge))
    }

    pub(super) fn take(&mut self, challenge: &[u8]) -> Option<Bound> {
        let bound = self.0.remove(challenge)?;
        (clock::boot() < bound.until).then_some(bound)
    }
}

/// A challenge: what it is for, under a number that was never used before (section 13.4.3).
fn digest(purpose: &Purpose) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_unspecified| Error::Random)?;
    let mut digest = Context::new(&SHA256);
    digest.update(b"interceptor second factor\0");
    digest.update(&nonce);
    match purpose {
        Purpose::Register => digest.update(b"register"),
        Purpose::Confirm => digest.update(b"confirm"),
        Purpose::Answer {
            approval,
            said,
            shown,
        } => {
            digest.update(b"answer");
            digest.update(approval.0.as_bytes());
            digest.update(said);
            digest.update(shown);
        }
    }
    Ok(digest.finish().as_ref().to_vec())
}

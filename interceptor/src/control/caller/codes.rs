//! One-time codes by which people register their first key at the console.
//!
//! A login alone is a password, at many issuers: whoever has stolen one would have a second factor by it. Root of the
//! host knows whom the code is given to. It is for one person, counts once, and is forgotten when the daemon ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::json;

use super::super::Given;
use super::super::api::{Code, Enrol};
use super::logins::Logins;
use super::{Answer, Known};
use crate::clock::{self, BootTime};

/// How long a code may be used.
const GOOD_FOR: Duration = Duration::from_hours(24);
/// Codes that wait to be used.
const MOST: usize = 256;
/// Random bytes of a code, and letters of it that stand together.
const BYTES: usize = 10;
const TOGETHER: usize = 5;

type Hash = [u8; 32];

/// The codes that wait, each by whom it is for.
#[derive(Debug, Default)]
pub struct Codes(Mutex<HashMap<String, Waiting>>);

/// One that waits.
#[derive(Debug)]
struct Waiting {
    hash: Hash,
    until: BootTime,
}

/// A code that is used for something that may yet fail.
#[derive(Debug)]
pub struct Used {
    person: String,
    waiting: Waiting,
}

impl Codes {
    /// A code for this person; one that was given before counts no longer.
    ///
    /// # Errors
    /// Where there are too many, or no randomness.
    pub fn give(&self, person: &str) -> Result<String, &'static str> {
        let mut bytes = [0; BYTES];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_unspecified| "the system gives no random bytes")?;
        let letters: Vec<char> = hex::encode(bytes).chars().collect();
        let parts = letters.chunks(TOGETHER).map(String::from_iter);
        let code = parts.collect::<Vec<_>>().join("-");
        let now = clock::boot();
        let mut all = self.lock();
        all.retain(|_, one| now < one.until);
        if all.len() >= MOST && !all.contains_key(person) {
            return Err("256 codes wait to be used already");
        }
        let waiting = Waiting {
            hash: hash(&code),
            until: now.after(GOOD_FOR),
        };
        all.insert(person.to_owned(), waiting);
        Ok(code)
    }

    /// Uses a person's code; nobody can use it again, unless it is given back.
    #[must_use]
    pub fn take(&self, person: &str, code: &str) -> Option<Used> {
        let mut all = self.lock();
        // Hashes: how far they agree tells nothing.
        let is_good = |one: &Waiting| one.hash == hash(code.trim()) && clock::boot() < one.until;
        all.get(person).filter(|one| is_good(one))?;
        let (person, waiting) = all.remove_entry(person)?;
        Some(Used { person, waiting })
    }

    /// What it was used for has failed: it may be used again, unless there is another by now.
    pub fn give_back(&self, used: Used) {
        self.lock().entry(used.person).or_insert(used.waiting);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(code: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, code.as_bytes()).as_ref());
    hash
}

/// `POST /v1/console/enrol` on the control socket: a code for somebody's first key.
///
/// # Errors
/// An answer where it is not root who asks, or nobody of that name can log in.
pub async fn enrol(
    State(services): Given,
    Extension(logins): Extension<Arc<Logins>>,
    caller: Known,
    Json(asked): Json<Enrol>,
) -> Result<Json<Code>, Answer> {
    let detail = json!({ "enrol": asked.person });
    if caller.process()?.uid != 0 {
        caller.audit(&services, "console", "refused", detail);
        return Err(Answer::bad("codes are given by root of the host"));
    }
    let config = services.config.load();
    let issuer = config.console.as_ref().and_then(|one| one.issuer.as_ref());
    let subject = issuer.and_then(|issuer| asked.person.strip_prefix(issuer)?.strip_prefix(':'));
    if subject.is_none_or(str::is_empty) {
        return Err(Answer::bad(
            "name somebody who logs in at the console by its issuer: staff:SUBJECT, as rules name them",
        ));
    }
    let written = caller.write(&services, "console", "ok", detail);
    written.map_err(|error| Answer::failed(&error))?;
    let code = logins.codes.give(&asked.person);
    Ok(Json(Code {
        code: code.map_err(|error| Answer::failed(&error))?,
        seconds: GOOD_FOR.as_secs(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_for_one_person_and_used_once() {
        let codes = Codes::default();
        let code = codes.give("staff:1").unwrap();
        assert_eq!(code.len(), 4 * TOGETHER + 3, "{code}");
        assert!(codes.take("staff:2", &code).is_none());
        assert!(codes.take("staff:1", "").is_none());
        assert!(codes.take("staff:1", &format!(" {code}\n")).is_some());
        assert!(codes.take("staff:1", &code).is_none());
    }

    #[test]
    fn a_code_is_good_again_where_its_use_has_failed_unless_there_is_another() {
        let codes = Codes::default();
        let code = codes.give("staff:1").unwrap();
        let used = codes.take("staff:1", &code).unwrap();
        codes.give_back(used);
        let used = codes.take("staff:1", &code).unwrap();
        let other = codes.give("staff:1").unwrap();
        codes.give_back(used);
        assert!(codes.take("staff:1", &code).is_none());
        assert!(codes.take("staff:1", &other).is_some());
    }

    #[test]
    fn codes_are_bounded_and_last_for_a_while() {
        let codes = Codes::default();
        let all: Vec<_> = (0..MOST)
            .map(|number| codes.give(&format!("staff:{number}")).unwrap())
            .collect();
        assert!(codes.give("staff:more").is_err());
        assert!(codes.give("staff:0").is_ok());
        for waiting in codes.lock().values_mut() {
            waiting.until = clock::boot();
        }
        assert!(codes.take("staff:1", &all[1]).is_none());
        assert!(codes.give("staff:more").is_ok());
    }
}

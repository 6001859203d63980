//! Users of the host, as its name service knows them (getpwuid_r(3)), kept for a minute.
//!
//! A name service that fails is an error, not a user without a name or without groups: a rule may forbid
//! by either.

mod owners;
mod person;

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

pub use self::owners::{Owners, given_to};
pub use self::person::LoggedIn;
use super::Error;
use crate::clock::{self, BootTime};

/// How long an answer is kept.
const TTL: Duration = Duration::from_secs(60);
/// Users that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// A user as the host knows one of this number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Login name, where the host has one.
    pub name: Option<String>,
    /// Every group with its name, where it has one; none for a user that the host does not know.
    pub groups: Vec<(u32, Option<String>)>,
}

/// The effective user of a process; `None` where it is gone.
#[must_use]
pub fn uid_of(pid: u32) -> Option<u32> {
    let process = std::fs::metadata(format!("/proc/{pid}")).ok();
    process.map(|process| process.uid())
}

/// The user that logged in to the session which a process came by, where it came by any (the kernel's audit
/// keeps it over `sudo` and `su`).
#[must_use]
pub fn session_of(pid: u32) -> Option<u32> {
    let said = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    let uid = said.trim().parse().ok()?;
    (uid != u32::MAX).then_some(uid)
}

/// What the name service said.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Kept<Option<String>>,
    logins: Kept<Login>,
}

impl Names {
    /// The login name. May block on the network, where the host's users are kept there.
    pub(super) fn of(&self, uid: u32) -> Result<Option<String>, Error> {
        let found = || Ok(user(uid)?.map(|user| user.name));
        self.names
            .get(uid, found)
            .map_err(|cause| failed(uid, cause))
    }

    /// The login name and the groups. May block as long, and asks once for each group.
    pub(super) fn login(&self, uid: u32) -> Result<Login, Error> {
        self.logins
            .get(uid, || login(uid))
            .map_err(|cause| failed(uid, cause))
    }
}

/// Answers of the last minute. Failures are not kept.
#[derive(Debug)]
struct Kept<T> {
    found: Mutex<LruCache<u32, (BootTime, T)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            found: Mutex::new(LruCache::new(KEPT)),
        }
    }
}

impl<T: Clone> Kept<T> {
    fn get(&self, uid: u32, find: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let kept = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, found)) = kept().get(&uid)
            && clock::boot().since(*at) < TTL
        {
            return Ok(found.clone());
        }
        let found = find()?;
        kept().put(uid, (clock::boot(), found.clone()));
        Ok(found)
    }
}

fn failed(uid: u32, cause: io::Error) -> Error {
    Error::User {
        uid,
        cause: Arc::new(cause),
    }
}

fn user(uid: u32) -> io::Result<Option<User>> {
    Ok(User::from_uid(Uid::from_raw(uid))?)
}

fn login(uid: u32) -> io::Result<Login> {
    let Some(user) = user(uid)? else {
        return Ok(Login::default());
    };
    let name = CString::new(user.name.as_bytes())?;
    let named = |id: Gid| Ok((id.as_raw(), Group::from_gid(id)?.map(|group| group.name)));
    let groups = getgrouplist(&name, user.gid)?.into_iter().map(named);
    Ok(Login {
        groups: groups.collect::<io::Result<_>>()?,
        name: Some(user.name),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Kept, Names};

    #[test]
    fn a_name_service_that_fails_is_an_error_and_is_asked_again() {
        let kept = Kept::default();
        let fails = || Err(io::Error::other("no answer"));
        assert!(kept.get(7, fails).is_err());
        assert_eq!(kept.get(7, || Ok("seven")).ok(), Some("seven"));
        // What is known a moment ago bridges a failure.
        assert_eq!(kept.get(7, fails).ok(), Some("seven"));
        assert!(kept.get(8, fails).is_err());
    }

    #[test]
    fn root_has_its_name_and_its_group_and_a_number_without_a_user_has_neither() {
        let names = Names::default();
        let root = names.login(0).unwrap();
        assert_eq!(root.name.as_deref(), Some("root"));
        assert!(root.groups.contains(&(0, Some("root".to_owned()))));
        let nobody = names.login(u32::MAX - 7).unwrap();
        assert_eq!((nobody.name, nobody.groups), (None, Vec::new()));
    }
}

//! Second factors: keys by which people at the console prove that it is they who answer, and what they answer to.
//!
//! Web Authentication (W3C, "Web Authentication Level 3"), of which this is the relying party. A challenge is a
//! digest of what is proved: the question, what is said to it and what was shown; so an assertion is worth
//! nothing for anything else, and it counts once. What an authenticator is made by is not asked.

mod challenge;
mod read;
mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use self::challenge::Waiting;
pub use self::challenge::{Bound, Purpose};
pub use self::read::Bytes;
use self::read::{AuthenticatorData, ClientData, Kind, PublicKey};
use self::store::Store;
use crate::clock;
use crate::state;

/// Keys of one person, and of all.
const OF_ONE: usize = 8;
const OF_ALL: usize = 4_096;
/// Bytes of a key's name.
const NAME: usize = 64;

/// Why a proof is worth nothing. Each of them refuses.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be opened or written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// It does not have its form.
    #[error("read the {what}: {why}")]
    Form {
        /// What.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Its challenge was used, is too old, or was never given.
    #[error("its challenge was used already, is too old, or is none of ours")]
    Challenge,
    /// Its challenge was given for something else.
    #[error("its challenge was given for something else")]
    Purpose,
    /// It is for another page.
    #[error("it was made for another {0}")]
    Elsewhere(&'static str),
    /// The authenticator did not see to it that it was the person.
    #[error("the key did not verify who touched it")]
    Unverified,
    /// No key of this person has this name.
    #[error("it is by a key that is not registered here for whoever is logged in")]
    Unknown,
    /// The signature is not the key's.
    #[error("its signature is not the key's")]
    Signature,
    /// The key's counter went back: there may be a copy of it.
    #[error("the key's counter went back: there may be a copy of it")]
    Copied,
    /// The key is registered already.
    #[error("this key is registered already")]
    Known,
    /// There are too many.
    #[error("the limit of {0} is reached")]
    Full(&'static str),
    /// The name is none.
    #[error("a key's name is 1 to 64 bytes of text in one line")]
    Name,
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Root of the host.
    Root,
    /// Whom an issuer calls so.
    Person {
        /// The issuer.
        issuer: String,
        /// Its name for the person.
        subject: String,
    },
}

/// Where a proof is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The page's origin, as browsers say it.
    pub origin: String,
    /// The relying party's name: the host without its port.
    pub party: String,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub owner: Owner,
    /// By which login: a proof that was asked for in one counts in no other.
    pub login: Uuid,
}

/// A key that was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its credential id.
    pub id: Bytes,
    /// Whose it is.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: String,
    /// As it was sent, in COSE.
    public: Bytes,
    /// How often it has signed, where it counts.
    count: u32,
    /// When it was registered.
    pub made: Timestamp,
    /// When it was used last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Timestamp>,
}

/// What an authenticator signed (`AuthenticatorAssertionResponse`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The credential's id.
    pub id: Bytes,
    /// `clientDataJSON`.
    pub client_data: Bytes,
    /// `authenticatorData`.
    pub authenticator_data: Bytes,
    /// The signature of both.
    pub signature: Bytes,
}

/// What a new key says of itself (`AuthenticatorAttestationResponse`); whoever made it is not asked to vouch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The credential's id.
    pub id: Bytes,
    /// `clientDataJSON`.
    pub client_data: Bytes,
    /// `authenticatorData`, which holds the public key.
    pub authenticator_data: Bytes,
}

/// The proof that went with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// The credential's id.
    pub key: Bytes,
    /// What its owner calls it.
    pub name: String,
    /// What was signed: the digest of the question, the answer and what was shown.
    pub challenge: Bytes,
}

/// The keys of all, and the challenges that wait. One for the daemon.
#[derive(Debug)]
pub struct Factors {
    keys: Mutex<Vec<Arc<Key>>>,
    waiting: Mutex<Waiting>,
    store: Store,
    /// Held while one is verified: a counter is compared with the one before it.
    verifying: tokio::sync::Mutex<()>,
}

impl Factors {
    /// Opens the keys in `file`. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let (store, keys) = Store::open(file)?;
        Ok(Self {
            keys: Mutex::new(keys.into_iter().map(Arc::new).collect()),
            waiting: Mutex::default(),
            store,
            verifying: tokio::sync::Mutex::default(),
        })
    }

    /// The keys of one person, or of all.
    #[must_use]
    pub fn of(&self, owner: Option<&Owner>) -> Vec<Arc<Key>> {
        let keys = lock(&self.keys);
        let own = keys
            .iter()
            .filter(|key| owner.is_none_or(|owner| key.owner == *owner));
        own.map(Arc::clone).collect()
    }

    /// A challenge for whoever is logged in; it counts once, and soon.
    ///
    /// # Errors
    /// Where there are too many, or no randomness.
    pub fn challenge(&self, login: &Login, purpose: Purpose) -> Result<Bytes, Error> {
        lock(&self.waiting).give(login, purpose)
    }

    /// Takes a new key. Who has keys already proves it by one of them.
    ///
    /// # Errors
    /// What is wrong with it, or that it cannot be kept.
    pub async fn register(
        &self,
        (login, site): (&Login, &Site),
        name: &str,
        new: &Registration,
        by: Option<&Assertion>,
    ) -> Result<Arc<Key>, Error> {
        let fits = (1..=NAME).contains(&name.len()) && !name.chars().any(char::is_control);
        if !fits || name.trim().is_empty() {
            return Err(Error::Name);
        }
        let own = self.of(Some(&login.owner));
        match (own.is_empty(), by) {
            (true, None) => {}
            (false, Some(by)) => {
                self.prove((login, site), &Purpose::Confirm, by).await?;
            }
            (true, Some(_)) | (false, None) => return Err(Error::Unknown),
        }
        self.took(
            (login, site),
            Kind::Create,
            &new.client_data,
            &Purpose::Register,
        )?;
        let data = AuthenticatorData::read(&new.authenticator_data.0)?;
        data.holds(&site.party)?;
        let (id, public) = data.credential.ok_or(Error::Form {
            what: "authenticator data",
            why: "it holds no new key",
        })?;
        if id != new.id.0 {
            return Err(Error::Unknown);
        }
        PublicKey::read(public)?;
        let key = Arc::new(Key {
            id: Bytes(id.to_vec()),
            owner: login.owner.clone(),
            name: name.trim().to_owned(),
            public: Bytes(public.to_vec()),
            count: data.count,
            made: clock::wall(),
            used: None,
        });
        // One that is verified meanwhile, by this login or another, is seen here.
        let _alone = self.verifying.lock().await;
        self.has_room(&key, by.is_none())?;
        self.store.save(&key).await?;
        lock(&self.keys).push(Arc::clone(&key));
        Ok(key)
    }

    /// With `first`, nobody has proved anything by another key.
    fn has_room(&self, new: &Key, first: bool) -> Result<(), Error> {
        let keys = lock(&self.keys);
        if keys.iter().any(|key| key.id == new.id) {
            return Err(Error::Known);
        }
        let own = keys.iter().filter(|key| key.owner == new.owner).count();
        if first && own > 0 {
            return Err(Error::Unknown);
        }
        match (own >= OF_ONE, keys.len() >= OF_ALL) {
            (true, _) => Err(Error::Full("8 keys of one person")),
            (_, true) => Err(Error::Full("4,096 keys of all")),
            (false, false) => Ok(()),
        }
    }

    /// Forgets a key; whether there was one.
    ///
    /// # Errors
    /// Where it cannot be kept that it is gone.
    pub async fn remove(&self, id: &Bytes) -> Result<Option<Arc<Key>>, Error> {
        let _alone = self.verifying.lock().await;
        let found = self.of(None).into_iter().find(|key| key.id == *id);
        if found.is_some() {
            self.store.remove(id).await?;
            lock(&self.keys).retain(|key| key.id != *id);
        }
        Ok(found)
    }

    /// That whoever is logged in has proved this purpose.
    ///
    /// # Errors
    /// What is wrong with the proof, or that its use cannot be kept.
    pub async fn prove(
        &self,
        (login, site): (&Login, &Site),
        purpose: &Purpose,
        proof: &Assertion,
    ) -> Result<Factor, Error> {
        let challenge = self.took((login, site), Kind::Get, &proof.client_data, purpose)?;
        let data = AuthenticatorData::read(&proof.authenticator_data.0)?;
        data.holds(&site.party)?;
        let _alone = self.verifying.lock().await;
        let mut own = self.of(Some(&login.owner)).into_iter();
        let key = own.find(|key| key.id == proof.id).ok_or(Error::Unknown)?;
        let signed = read::signed(&proof.authenticator_data.0, &proof.client_data.0);
        PublicKey::read(&key.public.0)?.verify(&signed, &proof.signature.0)?;
        // Section 6.1.1, "Signature Counter Considerations".
        if (data.count, key.count) != (0, 0) && data.count <= key.count {
            return Err(Error::Copied);
        }
        let used = Key {
            count: data.count,
            used: Some(clock::wall()),
            ..Key::clone(&key)
        };
        self.store.save(&used).await?;
        let used = Arc::new(used);
        for known in lock(&self.keys)
            .iter_mut()
            .filter(|known| known.id == used.id)
        {
            *known = Arc::clone(&used);
        }
        Ok(Factor {
            key: key.id.clone(),
            name: key.name.clone(),
            challenge,
        })
    }

    /// Uses the challenge that a browser has signed for, whatever comes of it.
    fn took(
        &self,
        (login, site): (&Login, &Site),
        kind: Kind,
        client_data: &Bytes,
        purpose: &Purpose,
    ) -> Result<Bytes, Error> {
        let said = ClientData::read(&client_data.0)?;
        let bound = lock(&self.waiting).take(&said.challenge);
        let bound = bound.ok_or(Error::Challenge)?;
        if bound.login != *login || bound.purpose != *purpose {
            return Err(Error::Purpose);
        }
        said.is_of(kind, &site.origin)?;
        Ok(Bytes(said.challenge))
    }
}

/// What these locks guard is whole after each statement: a panic elsewhere leaves nothing torn.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

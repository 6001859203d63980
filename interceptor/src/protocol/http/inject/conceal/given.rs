//! The credentials that targets were given of late: a server may show what it was given in another request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret as _;

use super::forms::{Forms, LETTERS_MAX, LETTERS_MIN};
use crate::config::Inject;
use crate::secrets::Secret;

/// Credentials of a target that are looked for: the one in use, and those before it, which may be good still.
const KEPT: usize = 4;

fn can_be_found(secret: &Secret) -> Result<(), &'static str> {
    match secret.expose_secret().len() {
        0..LETTERS_MIN => {
            Err("it is shorter than 8 bytes, and could not be told from other text in answers")
        }
        length if length > LETTERS_MAX => {
            Err("it is longer than 8 KiB, and could not be looked for in answers")
        }
        _ => Ok(()),
    }
}

/// What the targets were given. One for the daemon.
#[derive(Debug, Default)]
pub(crate) struct Given {
    targets: Mutex<BTreeMap<String, Lately>>,
}

#[derive(Debug)]
struct Lately {
    inject: Inject,
    /// The newest first; each is all that belongs to one credential.
    secrets: VecDeque<Vec<Secret>>,
    forms: Arc<Forms>,
}

impl Given {
    /// What is looked for in the answer to a request that is given this credential.
    ///
    /// # Errors
    /// Why it must not be given, for the operator.
    pub(crate) fn forms(
        &self,
        target: &str,
        inject: &Inject,
        credential: &[&Secret],
    ) -> Result<Arc<Forms>, &'static str> {
        for secret in credential {
            can_be_found(secret)?;
        }
        let is_it = |one: &Vec<Secret>| {
            let said = one.iter().map(|secret| secret.expose_secret());
            said.eq(credential.iter().map(|secret| secret.expose_secret()))
        };
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = targets
            .remove(target)
            .filter(|lately| lately.inject == *inject);
        let lately = match before {
            Some(lately) if lately.secrets.front().is_some_and(is_it) => lately,
            before => {
                let mut secrets = before.map(|before| before.secrets).unwrap_or_default();
                secrets.retain(|one| !is_it(one));
                secrets.push_front(credential.iter().copied().cloned().collect());
                secrets.truncate(KEPT);
                let forms = Forms::new(inject, secrets.iter().flatten());
                let forms = forms.ok_or("it could not be looked for in answers")?;
                Lately {
                    inject: inject.clone(),
                    secrets,
                    forms: Arc::new(forms),
                }
            }
        };
        let forms = Arc::clone(&lately.forms);
        targets.insert(target.to_owned(), lately);
        Ok(forms)
    }

    /// Forgets them.
    pub(crate) fn forget(&self) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.clear();
    }
}

//! The credentials that targets were given of late: a server may show what it was given in another request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret as _;

use super::forms::{Forms, LETTERS_MAX, LETTERS_MIN};
use crate::config::Inject;
use crate::secrets::Secret;

/// Credentials of a target that are looked for: the one in use, and those before it, which may be good still.
const KEPT: usize = 4;

/// What the targets were given. One for the daemon.
#[derive(Debug, Default)]
pub(crate) struct Given {
    targets: Mutex<BTreeMap<String, Lately>>,
}

#[derive(Debug)]
struct Lately {
    inject: Inject,
    /// The newest first.
    secrets: VecDeque<Secret>,
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
        secret: &Secret,
    ) -> Result<Arc<Forms>, &'static str> {
        let said = secret.expose_secret();
        match said.len() {
            0..LETTERS_MIN => {
                return Err(
                    "it is shorter than 8 bytes, and could not be told from other text in answers",
                );
            }
            length if length > LETTERS_MAX => {
                return Err("it is longer than 8 KiB, and could not be looked for in answers");
            }
            _ => {}
        }
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = targets
            .remove(target)
            .filter(|lately| lately.inject == *inject);
        let lately = match before {
            Some(lately)
                if lately
                    .secrets
                    .front()
                    .is_some_and(|one| one.expose_secret() == said) =>
            {
                lately
            }
            before => {
                let mut secrets = before.map(|before| before.secrets).unwrap_or_default();
                secrets.retain(|one| one.expose_secret() != said);
                secrets.push_front(secret.clone());
                secrets.truncate(KEPT);
                let forms = Forms::new(inject, secrets.iter());
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

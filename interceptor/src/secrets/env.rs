//! Secrets in the daemon's own environment. It stays there for as long as the daemon lives: the other
//! stores are better.

use std::os::unix::ffi::OsStringExt as _;

use zeroize::Zeroizing;

use super::{Error, Secret, Store, secret};

/// The environment that the daemon was started with.
#[derive(Debug, Default)]
pub(super) struct Environment;

impl Store for Environment {
    type Name = str;

    async fn fetch(&self, name: &str) -> Result<Secret, Error> {
        let value = std::env::var_os(name).ok_or_else(|| Error::NoVariable(name.to_owned()))?;
        let value = Zeroizing::new(value.into_vec());
        secret(&value, || format!("variable {name}"))
    }
}

//! `interceptor ca`: has the host's clients trust the daemon's authority, by the store that the host's own tools keep.
//! One file of our own among the host's certificates, put there and taken away whole.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::host_files::{Which, write};
use crate::config;
use crate::tls::CERTIFICATE;

/// Where Debian keeps certificates of the host's own (update-ca-certificates(8)).
const CERTIFICATES: &str = "/usr/local/share/ca-certificates";
/// Where it puts together what clients read.
const STORE: &str = "/etc/ssl/certs";
const UPDATE: &str = "update-ca-certificates";
/// The file that is ours.
const NAME: &str = "interceptor.crt";
/// Bytes of a certificate.
const MOST: u64 = 1 << 20;

/// Have clients of this host trust the daemon's authority.
#[derive(Clone, Debug, Subcommand)]
pub enum Ca {
    /// Print its certificate.
    Show(Which),
    /// Add it to the host's store.
    Install(Store),
    /// Take it out of the host's store.
    Uninstall(Store),
}

/// Of which daemon, and where to.
#[derive(Clone, Debug, Args)]
pub struct Store {
    #[command(flatten)]
    which: Which,
    /// The directory of the host's own certificates.
    #[arg(long, default_value = CERTIFICATES)]
    certificates: PathBuf,
    /// The directory that clients read.
    #[arg(long, default_value = STORE)]
    store: PathBuf,
}

impl Ca {
    /// Carries the command out.
    ///
    /// # Errors
    /// Where a file cannot be read or written, the daemon has no authority yet, or the host's tool fails.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show(which) => super::print(&certificate(which)?),
            Self::Install(store) => {
                let certificate = certificate(&store.which)?;
                write(&store.certificates.join(NAME), &certificate)?;
                store.update()?;
            }
            Self::Uninstall(store) => store.take_out()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes the certificate of this daemon's authority out of the host's store, where it is there: another daemon's stays.
/// What was done, in words.
pub(super) fn uninstall(config: &Path) -> anyhow::Result<Option<String>> {
    let store = Store {
        which: Which {
            config: config.to_owned(),
        },
        certificates: PathBuf::from(CERTIFICATES),
        store: PathBuf::from(STORE),
    };
    if !store.has_ours() {
        return Ok(None);
    }
    store.take_out()?;
    let done = format!(
        "took the authority's certificate out of {}",
        store.store.display()
    );
    Ok(Some(done))
}

impl Store {
    /// Whether what lies there is of this daemon's authority, also as it was for other names.
    fn has_ours(&self) -> bool {
        let there = std::fs::read_to_string(self.certificates.join(NAME));
        let ours = certificate(&self.which);
        there.is_ok_and(|there| ours.is_ok_and(|ours| of_one_authority(&ours, &there)))
    }

    fn take_out(&self) -> anyhow::Result<()> {
        let path = self.certificates.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.with_context(|| format!("remove {}", path.display()))?,
        }
        self.update()
    }

    /// Has the host's tool put the store together anew.
    fn update(&self) -> anyhow::Result<()> {
        let mut command = Command::new(UPDATE);
        // Where something is taken out, links to it go with it.
        command.arg("--fresh");
        command.arg("--localcertsdir").arg(&self.certificates);
        command.arg("--etccertsdir").arg(&self.store);
        if self.store != Path::new(STORE) {
            // What else the host makes of its store is made of that one only.
            command
                .arg("--hooksdir")
                .arg(self.store.join("interceptor-no-hooks"));
        }
        let done = command
            .output()
            .with_context(|| format!("run {UPDATE}: on this host, add the certificate by hand"))?;
        ensure!(
            done.status.success(),
            "{UPDATE} failed: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
        Ok(())
    }
}

/// Whether two certificates have one key.
pub(super) fn of_one_authority(one: &str, other: &str) -> bool {
    let key = |pem: &str| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        Some(certificate.public_key().raw.to_vec())
    };
    key(one).is_some_and(|key_of_one| key(other) == Some(key_of_one))
}

/// What lies in the host's store, where something does.
pub(super) fn installed() -> Option<String> {
    std::fs::read_to_string(Path::new(CERTIFICATES).join(NAME)).ok()
}

/// The certificate of one daemon's authority.
fn certificate(which: &Which) -> anyhow::Result<String> {
    let config = config::load(&which.config).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let path = config.paths.state.join(CERTIFICATE);
    let shown = path.display();
    let found = std::fs::metadata(&path)
        .with_context(|| format!("read {shown}: where it is missing, start the daemon once"))?;
    if found.len() > MOST {
        bail!("{shown} is too large");
    }
    std::fs::read_to_string(&path).with_context(|| format!("read {shown}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_certificate_of_this_daemon_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("c.yaml"), "version: 1\npaths: { state: state }").unwrap();
        let store = Store {
            which: Which {
                config: at("c.yaml"),
            },
            certificates: at("certificates"),
            store: at("store"),
        };
        fs::create_dir(at("certificates")).unwrap();
        let installed = at("certificates").join(NAME);
        assert!(!store.has_ours(), "nothing is there");
        let (one, another) = (rcgen::KeyPair::generate(), rcgen::KeyPair::generate());
        let (one, another) = (one.unwrap(), another.unwrap());
        let made = |key: &rcgen::KeyPair| {
            let params = rcgen::CertificateParams::default();
            params.self_signed(key).unwrap().pem()
        };
        fs::write(&installed, made(&one)).unwrap();
        assert!(!store.has_ours(), "the daemon has no authority");
        fs::create_dir(at("state")).unwrap();
        fs::write(at("state").join(CERTIFICATE), made(&another)).unwrap();
        assert!(!store.has_ours(), "it is another daemon's");
        fs::write(at("state").join(CERTIFICATE), made(&one)).unwrap();
        assert!(store.has_ours());
        fs::write(&installed, "no certificate").unwrap();
        assert!(!store.has_ours());
    }
}

//! A certificate authority of a test's own, by the `openssl` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::DEADLINE;
use crate::process::{Finished, Process};

/// An authority and one server certificate from it, as PEM files in a directory.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The authority's certificate, which clients trust.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes both in `directory`; the server's names are `localhost`, 127.0.0.1 and ::1.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn make(directory: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| directory.join(name);
        let made = Self {
            ca: at("ca.crt"),
            certificate: at("server.crt"),
            key: at("server.key"),
        };
        fs::write(
            at("names"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=critical,CA:FALSE\n",
        )
        .context("write the certificate's names")?;
        openssl(
            directory,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=throw-away-authority \
             -keyout ca.key -out ca.crt",
        )?;
        openssl(
            directory,
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key \
             -out server.csr",
        )?;
        openssl(
            directory,
            "x509 -req -days 2 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names \
             -out server.crt",
        )?;
        Ok(made)
    }
}

impl Authority {
    /// A client certificate for `role`, made in the directory of the authority: one PEM with its key.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn client(&self, role: &str, serial: u32) -> anyhow::Result<String> {
        let directory = self.ca.parent().context("an authority has a directory")?;
        let name = format!("{role}-{serial}");
        openssl(
            directory,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={role} -keyout {name}.key \
                 -out {name}.csr"
            ),
        )?;
        openssl(
            directory,
            &format!(
                "x509 -req -days 2 -in {name}.csr -CA ca.crt -CAkey ca.key -set_serial {serial} -out {name}.crt"
            ),
        )?;
        let read = |ending: &str| {
            let file = directory.join(format!("{name}.{ending}"));
            fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
        };
        Ok(read("crt")? + &read("key")?)
    }
}

fn openssl(directory: &Path, arguments: &str) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split_whitespace())
        .current_dir(directory);
    Process::run(command, DEADLINE)
        .and_then(Finished::ok)
        .map(drop)
        .with_context(|| format!("openssl {arguments}"))
}

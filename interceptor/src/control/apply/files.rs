//! Reading what a daemon works by: its configuration, the files that this names, and the policies. Whatever is wrong
//! with any of them is told at once.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use crate::config::{self, Config, Held, Trust};
use crate::policy;
use crate::protocol::http::mask::grpc::Schema;
use crate::tls;
use crate::tokens::saml;

/// What `read` makes of the policies, in `policies` or where the configuration says; blocks on the disk.
///
/// # Errors
/// Every mistake of both, one a line.
pub fn both<P>(
    file: &Path,
    policies: Option<&Path>,
    read: impl FnOnce(&Path) -> Result<P, policy::Mistakes>,
) -> Result<(Config, P), Vec<String>> {
    match load(file) {
        Ok(config) => {
            let read = read(policies.unwrap_or(&config.paths.policies));
            let policy = read.map_err(|mistakes| lines(&mistakes))?;
            Ok((config, policy))
        }
        Err(mistakes) => {
            let policies = policies.or(mistakes.policies.as_deref());
            let also = policies.and_then(|from| read(from).err());
            let also = also.map(|also| lines(&also)).unwrap_or_default();
            Err([lines(&mistakes), also].concat())
        }
    }
}

/// The configuration, with the files that it names looked into; blocks on the disk.
///
/// # Errors
/// Every mistake in it.
pub fn load(file: &Path) -> Result<Config, config::Mistakes> {
    config::load_whole(file, &look)
}

/// One mistake a line, as both kinds show themselves.
fn lines(mistakes: &dyn Display) -> Vec<String> {
    mistakes.to_string().lines().map(str::to_owned).collect()
}

/// Whether a file that the configuration names holds what it is named for.
fn look(config: &Config, held: Held, path: &Path) -> Result<(), String> {
    match held {
        Held::Certificates => tls::holds_certificates(path)
            .map_err(|error| format!("expected certificates in PEM; {error}")),
        Held::SshCertificate => {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            match text {
                Ok(text) if text.contains("-cert-v01@openssh.com ") => Ok(()),
                Ok(_other) => Err("it holds none".to_owned()),
                Err(error) => Err(error),
            }
            .map_err(|error| {
                format!(
                    "expected a certificate of SSH; read {}: {error}",
                    path.display()
                )
            })
        }
        Held::Descriptors => Schema::read(path).map(drop).map_err(|error| {
            format!(
                "expected descriptors of messages (`protoc --include_imports -o FILE`); {error}"
            )
        }),
        Held::Trust => {
            let named = |trust: &Trust| match trust {
                Trust::Certificates(file) | Trust::Metadata(file) => file == path,
            };
            let mut issuers = config.saml.values();
            // One that has other mistakes is none of them yet.
            let Some(issuer) = issuers.find(|issuer| named(&issuer.trust)) else {
                return Ok(());
            };
            saml::has_keys(issuer).map_err(|error| format!("expected keys that sign; {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::policy::{Generation, Policy};

    fn read(from: &Path) -> Result<Policy, policy::Mistakes> {
        Policy::load(from, Generation(1))
    }

    fn mistakes(file: &Path) -> Vec<String> {
        both(file, None, read).err().unwrap_or_default()
    }

    #[track_caller]
    fn has(mistakes: &[String], beginning: &str, word: &str) {
        let is = |line: &&String| line.contains(beginning) && line.contains(word);
        assert!(
            mistakes.iter().any(|line| is(&line)),
            "{beginning} {word}: {mistakes:#?}"
        );
    }

    fn directory(config: &str, policy: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        fs::write(&file, config).unwrap();
        fs::create_dir(directory.path().join("policies")).unwrap();
        fs::write(directory.path().join("policies/a.cedar"), policy).unwrap();
        (directory, file)
    }

    const FINE: &str = "permit (principal is Agent, action, resource);";

    #[test]
    fn mistakes_of_configuration_and_policy_are_told_together() {
        let (_kept, file) = directory("version: 1\ndrain: soon\ncolour: red\n", "permit (");
        let found = mistakes(&file);
        has(&found, "c.yaml:2:8: drain:", "duration");
        has(&found, "c.yaml:3:1: colour:", "unknown key");
        has(&found, "a.cedar:1:", "");
        let (_kept, file) = directory("version: 1", "permit (");
        has(&mistakes(&file), "a.cedar:1:", "");
        let (_kept, file) = directory("version: 1", FINE);
        assert!(both(&file, None, read).is_ok());
        // What is no YAML says of no policies; who knows them has them read all the same.
        let (kept, file) = directory("version: [", "permit (");
        assert_eq!(mistakes(&file).len(), 1);
        let found = both(&file, Some(&kept.path().join("policies")), read).err();
        has(&found.unwrap(), "a.cedar:1:", "");
    }

    #[test]
    fn files_that_are_named_are_looked_into_and_told_with_their_key() {
        let config = "version: 1
targets:
  t:
    addresses: ['db.internal:5432']
    postgres: { user: u, databases: [d] }
    tls:
      ca: absent.pem
      certificate: text.pem
      key: { file: k }
  h:
    addresses: ['h.internal:22']
    ssh: { user: u, host_keys: [learn], key: { file: k }, certificate: text.pem }
  m: { addresses: ['m.internal:443'], http: { grpc: text.pem } }
issuers:
  i: { issuer: 'https://b.c', audiences: [x], ca: empty.pem }
  s: { saml: { entity_id: x, audiences: [y], recipient: 'https://b.c', metadata: text.pem } }
audit:
  outputs:
    o: { to: { syslog: { address: 'h.internal:6514', ca: absent.pem } } }
";
        let (kept, file) = directory(config, FINE);
        fs::write(kept.path().join("text.pem"), "no certificate").unwrap();
        fs::write(kept.path().join("empty.pem"), "").unwrap();
        let found = mistakes(&file);
        has(&found, "c.yaml:7:11: targets.t.tls.ca:", "No such file");
        has(
            &found,
            "c.yaml:8:20: targets.t.tls.certificate:",
            "expected certificates",
        );
        has(&found, "targets.h.ssh.certificate:", "it holds none");
        has(&found, "c.yaml:15:", "no certificate in it");
        has(
            &found,
            "issuers.s.saml.metadata:",
            "expected keys that sign",
        );
        has(
            &found,
            "targets.m.http.grpc:",
            "expected descriptors of messages",
        );
        has(&found, "audit.outputs.o.to.syslog.ca:", "absent.pem");
        assert_eq!(found.len(), 7, "{found:#?}");
        // Whoever only asks where things lie need not be able to read them.
        assert!(config::load(&file).is_ok());
    }

    #[test]
    fn a_file_with_certificates_is_taken() {
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        let config = "version: 1
targets:
  t:
    addresses: ['db.internal:5432']
    postgres: { user: u, databases: [d] }
    tls: { ca: ca.pem }
";
        let (kept, file) = directory(config, FINE);
        fs::write(kept.path().join("ca.pem"), made.cert.pem()).unwrap();
        let found = both(&file, None, read);
        assert!(found.is_ok(), "{:?}", found.err());
    }
}

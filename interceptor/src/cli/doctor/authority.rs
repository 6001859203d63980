//! The host's own authority: for which names clients trust it, and how its key lies on the disk.

use std::fs;

use super::Check;
use crate::cli::{ca, counted};
use crate::config::Config;
use crate::tls::{CERTIFICATE, Confined, unnamed};

const WHAT: &str = "authority";

/// Nothing where the daemon has not made one yet.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let Ok(shown) = fs::read_to_string(config.paths.state.join(CERTIFICATE)) else {
        return Vec::new();
    };
    let installed = ca::installed().filter(|there| ca::of_one_authority(&shown, there));
    let wanted = Confined::of(config);
    let mut checks = vec![names(config, wanted.as_ref())];
    checks.extend(installed.and_then(|there| store(&there, wanted.as_ref())));
    checks
}

/// For which names it is.
fn names(config: &Config, wanted: Option<&Confined>) -> Check {
    match wanted {
        Some(wanted) => {
            let count = counted(wanted.count(), "name or address", "names and addresses");
            Check::good(
                WHAT,
                format!("clients trust it for {count} and what is below them"),
            )
        }
        None => Check::good(
            WHAT,
            format!(
                "clients trust it for every name, since agents may dial the database {} by an alias, a short name \
                 or an address; `authority.names` says which those are, and confines it",
                unnamed(config).unwrap_or("?")
            ),
        ),
    }
}

/// Whether what clients find in the host's store is good for all of them.
fn store(there: &str, wanted: Option<&Confined>) -> Option<Check> {
    let what = "authority in the host's store";
    let is = match (Confined::in_pem(there)?, wanted) {
        (Some(_), None) => {
            "it is for some names only, and the one of now is for every name".to_owned()
        }
        (Some(there), Some(wanted)) => match wanted.beyond(&there) {
            Some(name) => format!(
                "it is not for {name}, which has become a target's since: clients do not trust it there"
            ),
            None => return Some(Check::good(what, "clients that read it trust every target")),
        },
        (None, Some(_)) => {
            "it is for every name, and the one of now only for those of targets".to_owned()
        }
        (None, None) => return Some(Check::good(what, "clients that read it trust every target")),
    };
    Some(Check::warning(
        what,
        is,
        "`sudo interceptor ca install` again",
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tls::Authority;

    fn config(addresses: &str) -> Config {
        let text =
            format!("version: 1\ntargets:\n  api: {{ addresses: [{addresses}], http: {{}} }}\n");
        crate::config::parse(&text, Path::new("/c.yaml")).unwrap()
    }

    #[test]
    fn a_store_with_an_older_certificate_is_told_of() {
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(state.path(), None).unwrap();
        let confined = |addresses: &str| Confined::of(&config(addresses));
        let pem = |names: Option<&Confined>| {
            authority.confine(names).unwrap();
            fs::read_to_string(state.path().join(CERTIFICATE)).unwrap()
        };
        let (one, two) = (
            confined("'a.example:443'"),
            confined("'a.example:443', 'b.example:443'"),
        );
        let rows = [
            (two.as_ref(), one.as_ref(), "ok       "),
            (one.as_ref(), two.as_ref(), "it is not for b.example"),
            (one.as_ref(), None, "for some names only"),
            (None, two.as_ref(), "for every name"),
            (None, None, "ok       "),
        ];
        for (there, wanted, expected) in rows {
            let said = store(&pem(there), wanted).unwrap().line();
            assert!(said.contains(expected), "{said}");
        }
        assert!(store("no certificate", one.as_ref()).is_none());
        let by_address = "version: 1\ntargets:\n  db: { addresses: ['10.0.0.8:5432'], postgres: { user: u, \
                          password: { env: P }, databases: [d] } }\n";
        let by_address = crate::config::parse(by_address, Path::new("/c.yaml")).unwrap();
        assert!(names(&by_address, None).line().contains("database db"));
    }
}

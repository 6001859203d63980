//! A certificate that is for some names only.

use std::path::Path;

use super::*;
use crate::config::TlsMode;
use crate::tls::authority::{Authority, CERTIFICATE, Dialled};
use crate::tls::testing::{LOOPBACK, authority, host, pair, upstream};

fn config(text: &str) -> Config {
    let text = format!("version: 1\ntargets:\n{text}");
    crate::config::parse(&text, Path::new("/c.yaml")).unwrap()
}

fn confined(names: &[&str]) -> Confined {
    let mut confined = Confined::default();
    names.iter().for_each(|name| confined.add(&host(name)));
    confined
}

const API: &str = "  api: { addresses: ['API.example:443', '*.apps.example:443'], http: { hosts: [api.example, 10.0.0.7] } }\n";
const SSH: &str = "  sh: { addresses: ['sh.example:22'], ssh: { user: u, key: { env: K }, host_keys: [learn] } }\n";
const POSTGRES: &str = "postgres: { user: u, password: { env: P }, databases: [d] } }\n";

#[test]
fn names_are_those_of_targets_whose_tls_ends_here() {
    let known = Confined::of(&config(&format!("{API}{SSH}"))).unwrap();
    assert_eq!(
        known,
        confined(&["api.example", "apps.example", "10.0.0.7"])
    );
    assert!(known.permits(&host("x.apps.example")) && !known.permits(&host("sh.example")));
    let named = config(&format!(
        "  db: {{ addresses: ['db.example:5432'], {POSTGRES}"
    ));
    // Agents may have names for it that stand nowhere here.
    assert_eq!(Confined::of(&named), None);
    let text = format!("  db: {{ addresses: ['10.0.0.8:5432'], {POSTGRES}");
    let by_address = config(&text);
    assert_eq!(Confined::of(&by_address), None);
    assert_eq!(unnamed(&by_address), Some("db"));
    let said = config(&format!("{text}authority: {{ names: [db.example] }}\n"));
    assert_eq!(
        Confined::of(&said),
        Some(confined(&["10.0.0.8", "db.example"]))
    );
}

#[test]
fn a_certificate_says_what_it_is_for() {
    for names in [
        &["db.example", "10.1.2.3", "::1"][..],
        &["db.example"],
        &["::1"],
        &[],
    ] {
        let (state, authority) = authority();
        let wanted = confined(names);
        let (before, expected) = (authority.certificate(), Some(wanted.clone()));
        assert!(authority.confine(Some(&wanted)).unwrap());
        assert_eq!(authority.confined(), expected, "{names:?}");
        assert_ne!(authority.certificate(), before);
        assert!(!authority.confine(Some(&wanted)).unwrap());
        let again = Authority::open(state.path(), None).unwrap();
        assert_eq!(again.confined(), expected, "{names:?}");
        assert!(authority.confine(None).unwrap());
        assert_eq!(authority.confined(), None);
    }
    let (few, many) = (
        confined(&["db.example"]),
        confined(&["example", "10.1.2.3"]),
    );
    assert_eq!(few.beyond(&many), None);
    assert_eq!(many.beyond(&few), Some("example".to_owned()));
}

/// Whether a client that trusts the certificate in `trusted` is served by this name.
async fn serves(authority: &Authority, trusted: &Path, name: &str, dialled: &Dialled) -> bool {
    let client = upstream(TlsMode::VerifyFull, Some(trusted));
    let (socket, accepted) = pair().await;
    let host = host(name);
    let (client, _server) = tokio::join!(
        client.connect(socket, &host),
        authority.accept(accepted, dialled)
    );
    client.is_ok()
}

#[tokio::test]
async fn a_client_takes_it_for_those_names_alone() {
    let (state, authority) = authority();
    let (first, shown) = (
        state.path().join("first.pem"),
        state.path().join(CERTIFICATE),
    );
    std::fs::copy(&shown, &first).unwrap();
    let confine = |names: &[&str]| authority.confine(Some(&confined(names))).unwrap();
    assert!(confine(&["db.example", "127.0.0.1"]));
    let second = state.path().join("second.pem");
    std::fs::copy(&shown, &second).unwrap();
    let at = Dialled::from(LOOPBACK);
    for (name, served) in [
        ("db.example", true),
        ("x.db.example", true),
        ("127.0.0.1", true),
        ("other.example", false),
    ] {
        assert_eq!(
            serves(&authority, &shown, name, &at).await,
            served,
            "{name}"
        );
        // Whoever trusts the one before has the same key to trust.
        assert!(serves(&authority, &first, name, &at).await, "{name}");
    }
    // An address that is not its own does not spoil the names beside it.
    let elsewhere = Dialled {
        host: host("10.9.9.9"),
        names: vec!["db.example".to_owned()],
    };
    assert!(serves(&authority, &shown, "db.example", &elsewhere).await);
    assert!(!serves(&authority, &shown, "10.9.9.9", &elsewhere).await);
    // Another target has come: whoever trusts the one before is served as before, and not by the new name.
    assert!(confine(&["db.example", "new.example", "127.0.0.1"]));
    for (name, served) in [
        ("db.example", true),
        ("127.0.0.1", true),
        ("new.example", false),
    ] {
        assert_eq!(
            serves(&authority, &second, name, &at).await,
            served,
            "{name}"
        );
        assert!(serves(&authority, &shown, name, &at).await, "{name}");
    }
}

#[test]
fn an_authority_that_was_not_made_here_is_left_as_it_is() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let (state, _) = authority();
    let key = std::fs::read_to_string(state.path().join("ca.key")).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let made = params
        .self_signed(&KeyPair::from_pem(&key).unwrap())
        .unwrap();
    std::fs::write(state.path().join(CERTIFICATE), made.pem()).unwrap();
    let authority = Authority::open(state.path(), None).unwrap();
    assert!(!authority.confine(Some(&confined(&["db.example"]))).unwrap());
    assert_eq!(authority.certificate(), *made.der());
}

//! Bundles of each kind with the authority in them; what is none, or has a password of its own, stays as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::*;

/// The certificate of an authority, PEM.
fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::default();
    params.self_signed(&key).unwrap().pem()
}

fn trust(certificate: &str) -> Trust {
    Trust {
        certificate: certificate.to_owned(),
        bundles: Vec::new(),
        known_hosts: Vec::new(),
    }
}

#[test]
fn a_bundle_holds_the_authority_once_however_its_lines_are_broken() {
    let (other, own) = (authority(), authority());
    let made = with(other.trim_end().as_bytes(), &own).unwrap().unwrap();
    let text = String::from_utf8(made.clone()).unwrap();
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(text.starts_with(other.trim_end()) && text.ends_with(&own));
    assert_eq!(with(&made, &own), Ok(None));
    let broken = text.replace('\n', "\r\n");
    assert_eq!(with(broken.as_bytes(), &own), Ok(None));
    for bad in [
        "",
        "root:x:0:0::/root:/bin/sh",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        assert!(with(bad.as_bytes(), &own).is_err(), "{bad:?}");
    }
}

#[test]
fn a_store_is_told_of_where_it_holds_the_authority_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("ca-certificates.crt");
    let own = authority();
    assert!(!is_trusting(&store, &own), "there is none");
    fs::write(&store, authority()).unwrap();
    assert!(!is_trusting(&store, &own), "it was left as it is");
    fs::write(&store, format!("{}{own}", authority())).unwrap();
    assert!(is_trusting(&store, &own));
}

#[test]
fn clusters_that_name_a_bundle_are_told_of_the_authority() {
    let (other, own) = (authority(), authority());
    let data = BASE64_STANDARD.encode(&other);
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n\
         - {{ name: a, cluster: {{ server: 'https://a:6443', certificate-authority-data: {data} }} }}\n\
         - {{ name: b, cluster: {{ server: 'https://b:6443', certificate-authority: ca.crt }} }}\n\
         - {{ name: c, cluster: {{ server: 'https://c:6443' }} }}\n\
         users: [{{ name: u, user: {{ token: t }} }}]\n"
    );
    let read = |path: &str| (path == "ca.crt").then(|| other.clone().into_bytes());
    let made = kubeconfig::with(config.as_bytes(), &own, read);
    let made: Value = serde_json::from_slice(&made.unwrap().unwrap()).unwrap();
    for number in [0, 1] {
        let cluster = &made["clusters"][number]["cluster"];
        let bundle = cluster["certificate-authority-data"].as_str().unwrap();
        let bundle = String::from_utf8(BASE64_STANDARD.decode(bundle).unwrap()).unwrap();
        assert_eq!(bundle, format!("{other}{own}"));
        assert!(cluster.get("certificate-authority").is_none());
    }
    let last = &made["clusters"][2]["cluster"];
    assert_eq!(last, &serde_json::json!({ "server": "https://c:6443" }));
    assert_eq!(made["current-context"], "a");
    assert_eq!(made["users"][0]["user"]["token"], "t");
    let again = made.to_string();
    assert_eq!(kubeconfig::with(again.as_bytes(), &own, read), Ok(None));
    let unread = kubeconfig::with(config.as_bytes(), &own, |_| None);
    assert!(unread.is_err(), "it would trust the authority alone");
}

/// What `keytool` says of a store, with the password of every JDK.
fn keytool(store: &Path, words: &[&str]) -> String {
    let done = Command::new("keytool")
        .args(words)
        .args(["-storepass", "changeit", "-keystore"])
        .arg(store)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stdout)
    );
    String::from_utf8(done.stdout).unwrap()
}

fn listed(store: &Path) -> String {
    keytool(store, &["-list"])
}

fn import(store: &Path, certificate: &Path, more: &[&str]) {
    let certificate = certificate.to_str().unwrap();
    let words = [
        "-importcert",
        "-noprompt",
        "-alias",
        "other",
        "-file",
        certificate,
    ];
    keytool(store, &[&words, more].concat());
}

#[test]
fn a_jdk_finds_the_authority_in_both_kinds_of_stores() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (other, own) = (authority(), authority());
    fs::write(at("other.pem"), &other).unwrap();
    import(&at("jks"), &at("other.pem"), &["-storetype", "JKS"]);
    // As JDKs are built with.
    let plain = [
        "-storetype",
        "PKCS12",
        "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE",
        "-J-Dkeystore.pkcs12.macAlgorithm=NONE",
    ];
    import(&at("plain"), &at("other.pem"), &plain);
    for name in ["jks", "plain"] {
        let made = java::with(&fs::read(at(name)).unwrap(), &der(&own).unwrap());
        let made = made.unwrap().unwrap();
        assert_eq!(java::with(&made, &der(&own).unwrap()), Ok(None));
        fs::write(at(name), &made).unwrap();
        let listed = listed(&at(name));
        let entries = listed.matches("trustedCertEntry").count();
        assert_eq!(entries, 2, "{name}: {listed}");
        assert!(listed.contains("interceptor,"), "{name}: {listed}");
    }
}

#[test]
fn a_store_with_a_password_of_its_own_or_that_is_none_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let own = authority();
    fs::write(at("other.pem"), authority()).unwrap();
    let kinds: [(&str, &[&str]); 2] = [
        ("jks", &["-storetype", "JKS"]),
        ("sealed", &["-storetype", "PKCS12"]),
    ];
    for (name, kind) in kinds {
        import(&at(name), &at("other.pem"), kind);
    }
    let mut jks = fs::read(at("jks")).unwrap();
    let last = jks.last_mut().unwrap();
    *last = !*last;
    let der = der(&own).unwrap();
    assert!(java::with(&jks, &der).is_err());
    assert!(java::with(&fs::read(at("sealed")).unwrap(), &der).is_err());
    for broken in [
        &b"\x30"[..],
        b"\x30\x03\x02\x01\x03",
        b"\xfe\xed\xfe\xed\0\0\0\x02",
    ] {
        assert!(java::is_store(broken));
        assert!(java::with(broken, &der).is_err(), "{broken:?}");
    }
}

#[test]
fn known_hosts_of_the_daemon_come_first() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let trust = Trust {
        known_hosts: vec!["web ssh-ed25519 AAAA".to_owned()],
        ..trust(&authority())
    };
    let found = Found {
        path: path.path().to_owned(),
        file: path.reopen().unwrap(),
        kind: Kind::KnownHosts,
        content: b"web ssh-ed25519 BBBB\n".to_vec(),
    };
    let made = extended(&found, &trust).unwrap().unwrap();
    assert_eq!(made, b"web ssh-ed25519 AAAA\nweb ssh-ed25519 BBBB\n");
}

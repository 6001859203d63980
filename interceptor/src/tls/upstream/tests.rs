//! Each TLS mode verifies what libpq verifies under that name.

use rcgen::{CertificateParams, IsCa, KeyPair};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Root, host, pair, serve, upstream};

fn built(tls: &UpstreamTls) -> Result<Upstream, Error> {
    Upstream::new(tls, None)
}

async fn handshake(client: &Upstream, server: &Arc<ServerConfig>, name: &str) -> bool {
    let (socket, accepted) = pair().await;
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let host = host(name);
    let (client, _server) = tokio::join!(client.connect(socket, &host), acceptor.accept(accepted));
    client.is_ok()
}

#[tokio::test]
async fn each_mode_verifies_what_libpq_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Root::new(directory.path(), "ours.pem");
    let other = Root::new(directory.path(), "other.pem");
    let right = ours.server("db.example");
    let misnamed = ours.server("else.example");
    let foreign = other.server("db.example");
    let address = ours.server("127.0.0.1");
    let rows = [
        (TlsMode::Require, false, &right, "db.example", true),
        (TlsMode::Require, false, &misnamed, "db.example", true),
        (TlsMode::Require, false, &foreign, "db.example", true),
        (TlsMode::Require, true, &misnamed, "db.example", true),
        (TlsMode::Require, true, &foreign, "db.example", false),
        (TlsMode::VerifyCa, true, &right, "db.example", true),
        (TlsMode::VerifyCa, true, &misnamed, "db.example", true),
        (TlsMode::VerifyCa, true, &foreign, "db.example", false),
        (TlsMode::VerifyFull, true, &right, "db.example", true),
        (TlsMode::VerifyFull, true, &misnamed, "db.example", false),
        (TlsMode::VerifyFull, true, &foreign, "db.example", false),
        (TlsMode::VerifyFull, true, &address, "127.0.0.1", true),
        (TlsMode::VerifyFull, true, &address, "127.0.0.2", false),
        (TlsMode::VerifyFull, true, &right, "127.0.0.1", false),
        (TlsMode::VerifyFull, false, &right, "db.example", false),
    ];
    for (n, (mode, ca, server, name, expected)) in rows.into_iter().enumerate() {
        let client = upstream(mode, ca.then_some(ours.file.as_path()));
        assert_eq!(
            handshake(&client, server, name).await,
            expected,
            "row {n}: {mode:?} {name}"
        );
    }
}

#[tokio::test]
async fn another_name_can_be_verified_than_the_one_that_is_dialled() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let server = root.server("db.example");
    for (name, expected) in [("db.example", true), ("else.example", false)] {
        let client = built(&UpstreamTls {
            mode: TlsMode::VerifyFull,
            ca: Some(root.file.clone()),
            server_name: Some(name.to_owned()),
            ..UpstreamTls::default()
        });
        let verified = handshake(&client.unwrap(), &server, "127.0.0.1").await;
        assert_eq!(verified, expected, "{name}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_its_own_root() {
    let directory = tempfile::tempdir().unwrap();
    let rows = [
        (false, 2099, true),
        (true, 2099, true),
        (false, 2001, false),
        (true, 2001, false),
    ];
    for (ca, year, expected) in rows {
        let mut params = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
        if ca {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = directory.path().join("self.pem");
        fs::write(&file, certificate.pem()).unwrap();
        let server = serve(&certificate, &key);
        let client = upstream(TlsMode::VerifyFull, Some(&file));
        let verified = handshake(&client, &server, "db.example").await;
        assert_eq!(verified, expected, "ca {ca}, until {year}");
        let named = handshake(&client, &server, "else.example").await;
        assert!(!named, "ca {ca}, until {year}");
    }
}

#[tokio::test]
async fn a_disabled_upstream_is_never_spoken_to_under_tls() {
    let client = upstream(TlsMode::Disable, None);
    assert!(!client.wanted());
    let (socket, _accepted) = pair().await;
    let error = client.connect(socket, &host("db.example")).await;
    assert!(matches!(error, Err(Error::Disabled)));
}

#[test]
fn only_a_verified_name_or_a_named_authority_proves_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let rows = [
        (TlsMode::Disable, false, false),
        (TlsMode::Require, false, false),
        (TlsMode::Require, true, false),
        (TlsMode::VerifyCa, true, true),
        (TlsMode::VerifyFull, true, true),
    ];
    for (mode, ca, proves) in rows {
        let client = upstream(mode, ca.then_some(root.file.as_path()));
        assert_eq!(client.proves_server(), proves, "{mode:?} {ca}");
        assert_eq!(client.mode(), mode);
    }
}

#[test]
fn roots_that_cannot_be_used_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no pem", broken, "-----BEGIN CERTIFICATE-----\n!"] {
        fs::write(&file, text).unwrap();
        let error = chain(Some(&file), true).unwrap_err();
        assert!(matches!(error, Error::Roots { .. }), "{text:?}: {error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(chain(Some(&file), true), Err(Error::Read { .. })));
}

#[test]
fn a_name_that_no_certificate_carries_is_refused() {
    for name in ["", "a b", "-", "a..b"] {
        let made = built(&UpstreamTls {
            mode: TlsMode::Require,
            ca: None,
            server_name: Some(name.to_owned()),
            ..UpstreamTls::default()
        });
        assert!(matches!(made, Err(Error::Name { .. })), "{name:?}");
    }
}

/// A server that takes only clients of `root`, and a client certificate of it: certificate, key.
fn mutual(root: &Root) -> (Arc<ServerConfig>, String, String) {
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate()).unwrap();
    let provider = provider();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let (chain, key) = root.leaf("db.example");
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![chain], key)
        .unwrap();
    let (certificate, key) = root.pem("agent");
    (Arc::new(server), certificate, key)
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let other = Root::new(directory.path(), "other.pem");
    let (server, certificate, key) = mutual(&root);
    let (foreign, foreign_key) = other.pem("agent");
    let file = directory.path().join("client.pem");
    let rows = [
        (None, None, false),
        (Some(&certificate), Some(key.clone()), true),
        (None, Some(format!("{certificate}{key}")), true),
        (None, Some(format!("{key}{certificate}")), true),
        (Some(&foreign), Some(foreign_key.clone()), false),
    ];
    for (n, (in_file, secret, expected)) in rows.into_iter().enumerate() {
        if let Some(in_file) = in_file {
            fs::write(&file, in_file).unwrap();
        }
        let tls = UpstreamTls {
            ca: Some(root.file.clone()),
            certificate: in_file.map(|_| file.clone()),
            ..UpstreamTls::default()
        };
        let secret = secret.map(Secret::from);
        let client = Upstream::new(&tls, secret.as_ref()).unwrap();
        let taken = handshake(&client, &server, "db.example").await;
        assert_eq!(taken, expected, "row {n}");
    }
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_refused_without_a_word_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let (certificate, key) = root.pem("agent");
    let (other, _) = root.pem("agent");
    let rows = [
        (key.clone(), "no certificate"),
        (certificate.clone(), "no private key"),
        (format!("{other}{key}"), "not that of the certificate"),
        (format!("{certificate}not a key"), "no private key"),
    ];
    for (secret, expected) in rows {
        let tls = UpstreamTls {
            ca: Some(root.file.clone()),
            ..UpstreamTls::default()
        };
        let error = Upstream::new(&tls, Some(&Secret::from(secret.as_str()))).unwrap_err();
        assert!(matches!(error, Error::Identity { .. }), "{error}");
        let text = error.to_string();
        let body = key.lines().nth(1).unwrap();
        assert!(!text.contains(body), "{text}");
        assert!(text.to_lowercase().contains(expected), "{text}");
    }
}

#[test]
fn what_was_read_from_the_same_files_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path(), "ca.pem");
    let tls = UpstreamTls {
        ca: Some(root.file.clone()),
        ..UpstreamTls::default()
    };
    let (one, key) = root.pem("agent");
    let secret = Secret::from(format!("{one}{key}").as_str());
    let first = Upstream::new(&tls, None).unwrap();
    assert!(first.is_same(&Upstream::new(&tls, None).unwrap()));
    assert!(!first.is_same(&Upstream::new(&tls, Some(&secret)).unwrap()));
    let other = Root::new(directory.path(), "other.pem");
    fs::copy(&other.file, &root.file).unwrap();
    assert!(!first.is_same(&Upstream::new(&tls, None).unwrap()));
}

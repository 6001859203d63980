//! The authority is made once; its leaves are cached, bounded and renewed.

use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::TlsMode;
use crate::tls::testing::{LOOPBACK, authority, host, pair, upstream};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_leaf_that_was_under_way_when_the_certificate_was_made_anew_is_not_kept() {
    let (_state, authority) = authority();
    let hosts = [host("db.example")];
    let before = authority.shown.load_full();
    let late = authority.make_leaf(&before, &hosts, now()).unwrap();
    let mut names = Confined::default();
    names.add(&host("db.example"));
    assert!(authority.confine(Some(&names)).unwrap());
    authority.keep_leaf(&before, &hosts, late.clone());
    let leaf = authority.leaf_of(&hosts).unwrap();
    assert!(!Arc::ptr_eq(&leaf.config, &late.config));
    let again = authority.leaf_of(&hosts).unwrap();
    assert!(Arc::ptr_eq(&leaf.config, &again.config));
}

#[test]
fn a_certificate_that_would_not_be_read_again_is_not_written() {
    let (state, authority) = authority();
    let mut names = Confined::default();
    for number in 0..24_000 {
        names.add(&host(&format!("{number}.{}.example", "a".repeat(40))));
    }
    let error = authority.confine(Some(&names)).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    assert_eq!(authority.confined(), None);
    assert!(Authority::open(state.path(), None).is_ok());
}

#[test]
fn a_key_that_is_sealed_is_read_by_whoever_has_the_secret_alone() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(KEY);
    let seal = |letter: u8| Seal::new(&[letter; 32]).unwrap();
    let open = |seal: Option<&Seal>| Authority::open(state.path(), seal);
    // One that lies there in clear is sealed, and stays the same.
    let clear = open(None).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("PRIVATE KEY"));
    let sealed = open(Some(&seal(1))).unwrap();
    assert_eq!(sealed.certificate(), clear.certificate());
    assert_eq!(sealed.derive("a", &[]), clear.derive("a", &[]));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("PRIVATE KEY"), "{text}");
    assert_eq!(mode(&path), 0o600);
    assert!(open(Some(&seal(1))).is_ok());
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left alone");
    let told = |seal: Option<&Seal>| open(seal).unwrap_err().to_string();
    assert!(told(None).contains("authority.seal"), "{}", told(None));
    let other = told(Some(&seal(2)));
    assert!(other.contains("another secret"), "{other}");
    // Any letter of it.
    for at in 0..text.trim_end().len() {
        let mut bent = text.clone().into_bytes();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        fs::write(&path, bent).unwrap();
        assert!(open(Some(&seal(1))).is_err(), "{at}");
    }
    assert!(Seal::new(&[1; 31]).is_err());
}

#[test]
fn a_new_authority_is_sealed_from_the_first_byte_on() {
    let state = tempfile::tempdir().unwrap();
    let seal = Seal::new(&[7; 32]).unwrap();
    let made = Authority::open(state.path(), Some(&seal)).unwrap();
    let text = fs::read_to_string(state.path().join(KEY)).unwrap();
    assert!(sealed::is_sealed(&text), "{text}");
    let again = Authority::open(state.path(), Some(&seal)).unwrap();
    assert_eq!(made.certificate(), again.certificate());
}

#[test]
fn an_authority_is_made_once_and_read_again() {
    let (state, first) = authority();
    assert_eq!(mode(&state.path().join(CERTIFICATE)), 0o644);
    assert_eq!(mode(&state.path().join(KEY)), 0o600);
    let second = Authority::open(state.path(), None).unwrap();
    assert_eq!(first.certificate(), second.certificate());
    let years = (second.expires().as_second() - now()) / DAY / 365;
    assert_eq!(years, 10);
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2);
}

#[test]
fn an_authority_whose_files_are_not_right_is_refused() {
    type Spoil = fn(&Path);
    let rows: &[(&str, Spoil, &str)] = &[
        ("open", |s| chmod(&s.join(KEY), 0o640), "lets others read"),
        (
            "no key",
            |s| fs::remove_file(s.join(KEY)).unwrap(),
            "key is missing",
        ),
        (
            "other key",
            |s| {
                let other = authority();
                fs::copy(other.0.path().join(KEY), s.join(KEY)).unwrap();
            },
            "another certificate's",
        ),
        (
            "garbage key",
            |s| fs::write(s.join(KEY), "x").unwrap(),
            "not a private key",
        ),
        (
            "garbage",
            |s| fs::write(s.join(CERTIFICATE), "x").unwrap(),
            "not a certificate",
        ),
        (
            "link",
            |s| {
                fs::rename(s.join(KEY), s.join("k")).unwrap();
                std::os::unix::fs::symlink(s.join("k"), s.join(KEY)).unwrap();
            },
            "symbolic link",
        ),
        (
            "leaf",
            |s| replace_certificate(s, false, 30),
            "not the certificate of an authority",
        ),
        ("expired", |s| replace_certificate(s, true, -1), "expired"),
    ];
    for (name, spoil, expected) in rows {
        let (state, _) = authority();
        spoil(state.path());
        let error = Authority::open(state.path(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

fn replace_certificate(state: &Path, ca: bool, days: i64) {
    let key = KeyPair::from_pem(&fs::read_to_string(state.join(KEY)).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }
    dates(&mut params, now() - 40 * DAY, now() + days * DAY);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(state.join(CERTIFICATE), certificate.pem()).unwrap();
}

#[test]
fn a_key_without_a_certificate_is_made_anew() {
    let (state, first) = authority();
    fs::remove_file(state.path().join(CERTIFICATE)).unwrap();
    let second = Authority::open(state.path(), None).unwrap();
    assert_ne!(first.certificate(), second.certificate());
}

#[test]
fn a_leaf_is_kept_and_their_number_is_bounded() {
    let (_state, authority) = authority();
    let first = authority.leaf(&host("db.example")).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &authority.leaf(&host("db.example")).unwrap()
    ));
    for n in 0..LEAVES_MAX.get() {
        authority.leaf(&host(&format!("n{n}.example"))).unwrap();
    }
    assert_eq!(authority.leaves.lock().unwrap().len(), LEAVES_MAX.get());
    assert!(!Arc::ptr_eq(
        &first,
        &authority.leaf(&host("db.example")).unwrap()
    ));
}

#[test]
fn a_leaf_is_made_anew_a_day_before_its_end() {
    let (_state, authority) = authority();
    let name = host("db.example");
    let first = authority.leaf(&name).unwrap();
    for (left, same) in [(LEAF_LEFT + 60, true), (LEAF_LEFT - 60, false)] {
        let aged = Leaf {
            end_point: None,
            config: Arc::clone(&first),
            expires: now() + left,
        };
        authority
            .leaves
            .lock()
            .unwrap()
            .put(vec![name.clone()], aged);
        let second = authority.leaf(&name).unwrap();
        assert_eq!(Arc::ptr_eq(&first, &second), same, "{left}");
    }
}

#[test]
fn a_leaf_does_not_outlive_its_authority() {
    let (state, _) = authority();
    replace_certificate(state.path(), true, 3);
    let authority = Authority::open(state.path(), None).unwrap();
    let leaf = authority
        .make_leaf(&authority.shown.load_full(), &[host("db.example")], now())
        .unwrap();
    assert_eq!(leaf.expires, authority.expires().as_second());
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_verifies_every_name_in_full() {
    let (state, authority) = authority();
    let long = format!("{}.example", "a".repeat(60));
    let rows = [
        ("db.example", LOOPBACK),
        ("127.0.0.1", LOOPBACK),
        ("::1", "::1".parse().unwrap()),
        ("10.1.2.3", "::ffff:10.1.2.3".parse().unwrap()),
        (&long, LOOPBACK),
    ];
    for (name, dialled) in rows {
        let dialled = Dialled::from(dialled);
        let client = upstream(TlsMode::VerifyFull, Some(&state.path().join(CERTIFICATE)));
        let (socket, accepted) = pair().await;
        let host = host(name);
        let (client, server) = tokio::join!(
            client.connect(socket, &host),
            authority.accept(accepted, &dialled)
        );
        let (mut client, accepted) = (client.unwrap(), server.unwrap());
        // Both ends bind a login to the same.
        let shown = client.peer_certificate().and_then(server_end_point);
        assert!(shown.is_some() && shown == accepted.end_point);
        let mut server = accepted.stream;
        assert_eq!(client.alpn(), Some(ALPN_POSTGRESQL));
        assert_eq!(server.alpn(), Some(ALPN_POSTGRESQL));
        assert!(client.is_tls() && server.is_tls());
        client.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }
}

/// A client that looks for `looked_for` and sends no name: no driver's own TLS, but the same checks.
async fn verifies_without_sending(authority: &Authority, state: &Path, looked_for: &str) -> bool {
    let pem = fs::read(state.join(CERTIFICATE)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    let (socket, accepted) = pair().await;
    let dialled = Dialled {
        host: Host::Ip(LOOPBACK),
        names: vec!["db".to_owned(), "db.example".to_owned()],
    };
    let name = looked_for.to_owned().try_into().unwrap();
    let (client, _server) = tokio::join!(
        TlsConnector::from(Arc::new(config)).connect(name, socket),
        authority.accept(accepted, &dialled)
    );
    client.is_ok()
}

/// JDBC sends no name that has no dot in it, and looks for it all the same.
#[tokio::test]
async fn a_client_that_sends_no_name_is_shown_all_that_lead_there() {
    let (state, authority) = authority();
    let rows = [
        ("127.0.0.1", true),
        ("db", true),
        ("db.example", true),
        ("other", false),
    ];
    for (looked_for, found) in rows {
        let verified = verifies_without_sending(&authority, state.path(), looked_for).await;
        assert_eq!(verified, found, "{looked_for}");
    }
}

#[test]
fn what_is_derived_is_the_same_as_long_as_the_authority_is() {
    let (state, first) = authority();
    let key = first.derive("a", &[b"b", b"c"]);
    let again = Authority::open(state.path(), None).unwrap();
    assert_eq!(again.derive("a", &[b"b", b"c"]), key);
    let others: [(&str, &[&[u8]]); 4] = [
        ("b", &[b"b", b"c"]),
        ("a", &[b"bc"]),
        ("a", &[b"b", b"d"]),
        ("ab", &[b"", b"c"]),
    ];
    for (purpose, of) in others {
        assert_ne!(first.derive(purpose, of), key, "{purpose}");
    }
    let (_state, other) = authority();
    assert_ne!(other.derive("a", &[b"b", b"c"]), key);
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused() {
    let (_state, authority) = authority();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (socket, accepted) = pair().await;
    let connector = TlsConnector::from(Arc::new(config));
    let name = "db.example".try_into().unwrap();
    let dialled = LOOPBACK.into();
    let (client, server) = tokio::join!(
        connector.connect(name, socket),
        authority.accept(accepted, &dialled)
    );
    assert!(client.is_err());
    assert!(matches!(server, Err(Error::Client(_))));
}

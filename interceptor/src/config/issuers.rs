//! Whose tokens are taken, and by what they are held to be good.

pub(super) mod saml;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::http::Uri;

use super::document::{Entry, Node};
use super::mistake::Report;
use super::{Config, Host, build, scalar};

/// Bytes of an issuer's address.
const MAX_URL: usize = 512;
/// Bytes of a claim's name.
const MAX_CLAIM: usize = 256;
/// Claims that are kept of one token.
const MAX_KEPT: usize = 32;

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name, the key in the file.
    pub name: String,
    /// What its tokens call it, to the letter.
    pub url: Url,
    /// Whom tokens must be meant for. At least one.
    pub audiences: Vec<String>,
    /// With which algorithms tokens may be signed. Default RS256, PS256, ES256, `EdDSA`.
    pub algorithms: Vec<Algorithm>,
    /// Who asks for a login; nobody logs in without.
    pub client: Option<String>,
    /// Whether an agent may begin a login for its own scope. Default false.
    pub from_scope: bool,
    /// What a login asks for. Default `openid`.
    pub scopes: Vec<String>,
    /// For whom beside the daemon its tokens may be exchanged. Default nobody.
    pub exchange_for: Vec<String>,
    /// Trusted roots for its TLS, PEM; the host's own where absent.
    pub ca: Option<PathBuf>,
    /// Whether a loopback address may be spoken to in clear. Default false.
    pub allow_http: bool,
    /// What is read of a token.
    pub claims: ClaimNames,
    /// How old a token may be. Default 24 h.
    pub max_age: Duration,
    /// How far its clock may be off. Default 30 s.
    pub skew: Duration,
}

/// Where a token says what: each a name, or a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user's name. Default `preferred_username`.
    pub user: String,
    /// The groups. Default `groups`.
    pub groups: String,
    /// What else policy sees. Default nothing.
    pub keep: Vec<String>,
}

/// With what a token is signed (RFC 7518 section 3.1, RFC 8037). Nothing without a public key is among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSA-PSS, SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// ECDSA on P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in a token's header.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.word() == word)
    }
}

/// An address of the web, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// As it was written.
    pub text: String,
    /// Whether it is spoken to under TLS.
    pub secure: bool,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The path, with a query where there is one.
    pub path: String,
}

impl Url {
    /// Reads an address without user, query and fragment.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(text: &str) -> Result<Self, String> {
        let url = Self::reach(text)?;
        match url.path.contains('?') {
            true => Err("expected an address without a query".into()),
            false => Ok(url),
        }
    }

    /// Reads an address that an issuer names, which may have a query.
    ///
    /// # Errors
    /// What was expected.
    pub fn reach(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected an address such as https://login.example.com/realm";
        let uri: Uri = text.parse().map_err(|_ignored| EXPECTED)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(EXPECTED.into()),
        };
        let authority = uri.authority().ok_or(EXPECTED)?;
        if authority.as_str().contains('@') || text.contains('#') || text.len() > MAX_URL {
            return Err(EXPECTED.into());
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with(':') => return Err(EXPECTED.into()),
            None if secure => 443,
            None => 80,
        };
        let address = scalar::address(&format!("{}:{port}", authority.host()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            text: text.to_owned(),
            secure,
            host: address.host,
            port,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub const fn at(&self) -> (&Host, u16) {
        (&self.host, self.port)
    }

    /// Whether it may be spoken to: under TLS, or in clear where that is allowed and nobody else hears it.
    ///
    /// # Errors
    /// What was expected.
    pub fn may_be_spoken_to(&self, allow_http: bool) -> Result<(), &'static str> {
        let here = matches!(self.host, Host::Ip(ip) if ip.is_loopback());
        match (self.secure, allow_http && here) {
            (true, _) | (false, true) => Ok(()),
            (false, false) => {
                Err("expected https; http is for loopback addresses, with allow_http: true")
            }
        }
    }
}

/// A claim's name, or a pointer to it.
pub(super) fn claim(text: &str) -> Result<(), String> {
    let fine = (1..=MAX_CLAIM).contains(&text.len()) && !text.chars().any(char::is_control);
    fine.then_some(())
        .ok_or_else(|| "expected a claim: its name, or a JSON pointer such as /a/b".into())
}

/// One entry of `issuers`. What cannot be read is left out: it is a mistake already.
pub(super) fn build(directory: &Path, entry: &Entry) -> Option<Issuer> {
    let node = &entry.node;
    let or = |said: Vec<String>, default: &[&str]| match said.is_empty() {
        true => default.iter().map(|&word| word.to_owned()).collect(),
        false => said,
    };
    let algorithms = or(
        build::texts(node, "algorithms"),
        &["RS256", "PS256", "ES256", "EdDSA"],
    );
    let claims = node.under("claims");
    let claim = |key, default: &str| build::text(claims, key).unwrap_or_else(|| default.into());
    Some(Issuer {
        name: entry.key.clone(),
        url: Url::read(&build::text(Some(node), "issuer")?).ok()?,
        audiences: build::texts(node, "audiences"),
        algorithms: algorithms
            .iter()
            .filter_map(|word| Algorithm::named(word))
            .collect(),
        client: build::text(Some(node), "client"),
        from_scope: build::flag(node, "from_scope", false),
        scopes: or(build::texts(node, "scopes"), &["openid"]),
        exchange_for: build::texts(node, "exchange_for"),
        ca: build::text(Some(node), "ca").map(|path| directory.join(path)),
        allow_http: build::flag(node, "allow_http", false),
        claims: ClaimNames {
            user: claim("user", "preferred_username"),
            groups: claim("groups", "groups"),
            keep: claims
                .map(|node| build::texts(node, "keep"))
                .unwrap_or_default(),
        },
        max_age: build::duration(Some(node), "max_age").unwrap_or(Duration::from_secs(86_400)),
        skew: build::duration(Some(node), "skew").unwrap_or(Duration::from_secs(30)),
    })
}

/// What is wrong between the keys of issuers.
pub(super) fn cross(root: &Node, config: &Config, report: &mut Report) {
    let mut seen = HashMap::new();
    for entry in build::map(root, "issuers") {
        if let Some(issuer) = config.saml.get(&entry.key) {
            saml::cross(entry, issuer, &mut seen, report);
        }
        let Some(issuer) = config.issuers.get(&entry.key) else {
            continue;
        };
        let mut wrong = |keys: &[&str], text: &str| mistake(entry, keys, text, report);
        if let Err(expected) = issuer.url.may_be_spoken_to(issuer.allow_http) {
            wrong(&["issuer"], expected);
        }
        if let Some(first) = seen.insert(&issuer.url.text, &issuer.name) {
            wrong(&["issuer"], &another(first));
        }
        if !once(&issuer.exchange_for) {
            wrong(&["exchange_for"], "expected each audience once");
        }
        if !once(&issuer.audiences) {
            wrong(&["audiences"], "expected each audience once");
        }
        if !once(&issuer.claims.keep) || issuer.claims.keep.len() > MAX_KEPT {
            let text = "expected each claim once, and at most 32 of them";
            wrong(&["claims", "keep"], text);
        }
        let asks_openid = issuer.scopes.iter().any(|scope| scope == "openid");
        if !asks_openid {
            let text = "expected openid among them; nobody says who logged in otherwise";
            wrong(&["scopes"], text);
        }
    }
}

/// Notes what is wrong about a key of an entry.
fn mistake(entry: &Entry, keys: &[&str], text: &str, report: &mut Report) {
    let node = keys
        .iter()
        .try_fold(&entry.node, |node, key| node.under(key));
    let place = node.map_or(entry.place, |node| node.place);
    let key = format!("issuers.{}.{}", entry.key, keys.join("."));
    report.add(place, &key, text);
}

fn another(first: &str) -> String {
    format!("expected an issuer of its own; `{first}` has it already")
}

fn once(list: &[String]) -> bool {
    let mut list = list.to_vec();
    list.sort();
    let before = list.len();
    list.dedup();
    list.len() == before
}

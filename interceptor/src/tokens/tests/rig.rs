//! An issuer of the test's own: keys, tokens, and a server on loopback that answers what it is told to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::config::{Algorithm, ClaimNames, Issuer, Url};
use crate::secrets::Secret;
use crate::tokens::Issuers;

/// The keys of an issuer: `rsa`, `ec` and `ed`.
pub(crate) struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The set that it publishes.
    pub(crate) fn jwks(&self) -> Value {
        let rsa = self.rsa.public_key();
        let n = rsa.modulus().big_endian_without_leading_zero();
        let e = rsa.exponent().big_endian_without_leading_zero();
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "rsa", "use": "sig", "n": base64url(n), "e": base64url(e) },
            { "kty": "EC", "kid": "ec", "crv": "P-256", "key_ops": ["verify"],
              "x": base64url(&point[1..33]), "y": base64url(&point[33..]) },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": base64url(self.ed.public_key()) },
            { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
            { "kty": "EC", "kid": "koblitz", "crv": "secp256k1", "x": "AA", "y": "AA" },
        ] })
    }

    /// The public key as others would take it for a secret.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// A token with the header that belongs to it.
    pub(crate) fn sign(&self, by: &str, claims: &Value) -> Secret {
        let key = match by {
            "ES256" => "ec",
            "EdDSA" => "ed",
            _ => "rsa",
        };
        self.sign_as(by, &json!({ "alg": by, "kid": key, "typ": "JWT" }), claims)
    }

    /// A token with any header.
    pub(crate) fn sign_as(&self, by: &str, header: &Value, claims: &Value) -> Secret {
        self.sign_text(by, &header.to_string(), &claims.to_string())
    }

    /// A token of any text.
    pub(crate) fn sign_text(&self, by: &str, header: &str, claims: &str) -> Secret {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.signature(by, signed.as_bytes());
        Secret::from(format!("{signed}.{}", base64url(signature)))
    }

    fn signature(&self, by: &str, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(encoding, &random, signed, &mut signature)
                .unwrap();
            signature
        };
        match by {
            "RS256" => rsa(&RSA_PKCS1_SHA256 as &'static dyn aws_lc_rs::signature::RsaEncoding),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, signed).unwrap().as_ref().to_vec(),
            _ => self.ed.sign(signed).as_ref().to_vec(),
        }
    }
}

/// Claims that are good for five minutes.
pub(crate) fn claims(idp: &Idp) -> Value {
    let now = clock::wall().as_second();
    json!({
        "iss": idp.url(),
        "aud": ["interceptor", "others"],
        "sub": "sub-1",
        "iat": now,
        "exp": now + 300,
        "preferred_username": "jane",
        "groups": ["staff", "dba"],
        "acr": "phr",
        "amr": ["hwk", "pin"],
        "ref": "refs/heads/main",
        "nested": { "a/b": 7 },
    })
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, Vec<(u16, String)>>,
    asked: Vec<(String, String)>,
}

/// An issuer.
pub(crate) struct Idp {
    signer: Signer,
    url: String,
    ca: Option<PathBuf>,
    script: Arc<Mutex<Script>>,
}

impl Idp {
    /// On loopback in clear.
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Under TLS, with the authority that signed for it; `issuers` trust `ca`.
    pub(crate) async fn secure(acceptor: TlsAcceptor, ca: PathBuf) -> Self {
        Self::serve(Some((acceptor, ca))).await
    }

    async fn serve(tls: Option<(TlsAcceptor, PathBuf)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (acceptor, ca) = tls.unzip();
        let scheme = if ca.is_some() { "https" } else { "http" };
        let idp = Self {
            signer: Signer::new(),
            url: format!("{scheme}://{at}"),
            ca,
            script: Arc::default(),
        };
        idp.says("/.well-known/openid-configuration", 200, &idp.discovery());
        idp.says("/jwks", 200, &idp.signer.jwks());
        let script = Arc::clone(&idp.script);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (script, acceptor) = (Arc::clone(&script), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(socket, &script).await,
                        Some(acceptor) => match acceptor.accept(socket).await {
                            Ok(socket) => answer(socket, &script).await,
                            Err(_refused) => {}
                        },
                    }
                });
            }
        });
        idp
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What it says of itself.
    pub(crate) fn discovery(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "token_endpoint": format!("{url}/token"),
            "authorization_endpoint": format!("{url}/authorize"),
            "device_authorization_endpoint": format!("{url}/device"),
        })
    }

    /// From now on it answers this there.
    pub(crate) fn says(&self, path: &str, status: u16, body: &Value) {
        self.says_text(path, &[(status, body.to_string())]);
    }

    /// From now on it answers these there, one after the other and the last for ever.
    pub(crate) fn says_text(&self, path: &str, answers: &[(u16, String)]) {
        let mut script = self.script.lock().unwrap();
        script.answers.insert(path.to_owned(), answers.to_vec());
    }

    /// How often it was asked there.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.bodies(path).len()
    }

    /// What it was sent there.
    pub(crate) fn bodies(&self, path: &str) -> Vec<String> {
        let script = self.script.lock().unwrap();
        let asked = script.asked.iter().filter(|(at, _)| at == path);
        asked.map(|(_, body)| body.clone()).collect()
    }

    /// As a configuration has it.
    pub(crate) fn issuers(&self) -> Issuers {
        let issuer = Issuer {
            name: "idp".to_owned(),
            url: Url::read(&self.url).unwrap(),
            audiences: vec!["interceptor".to_owned()],
            algorithms: vec![
                Algorithm::Rs256,
                Algorithm::Ps256,
                Algorithm::Es256,
                Algorithm::EdDsa,
            ],
            client: Some("cli".to_owned()),
            from_scope: false,
            scopes: vec!["openid".to_owned(), "profile".to_owned()],
            exchange_for: Vec::new(),
            ca: self.ca.clone(),
            allow_http: true,
            claims: ClaimNames {
                user: "preferred_username".to_owned(),
                groups: "groups".to_owned(),
                keep: ["ref", "/nested/a~1b", "absent"]
                    .map(str::to_owned)
                    .to_vec(),
            },
            max_age: Duration::from_secs(3_600),
            skew: Duration::from_secs(30),
        };
        Issuers::from([("idp".to_owned(), Arc::new(issuer))])
    }

    /// The same with one thing changed.
    pub(crate) fn issuers_with(&self, change: impl FnOnce(&mut Issuer)) -> Issuers {
        let mut issuers = self.issuers();
        let mut issuer = Issuer::clone(&issuers["idp"]);
        change(&mut issuer);
        issuers.insert("idp".to_owned(), Arc::new(issuer));
        issuers
    }
}

/// Reads one request and answers it.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, script: &Mutex<Script>) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                let length = line.strip_prefix("content-length:")?;
                length.trim().parse::<usize>().ok()
            });
            break (head.to_owned(), head.len() + 4 + length.unwrap_or(0));
        }
    };
    while bytes.len() < length {
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let body = String::from_utf8_lossy(&bytes[head.len() + 4..]).into_owned();
    let (status, text) = {
        let mut script = script.lock().unwrap();
        script.asked.push((path.clone(), body));
        match script.answers.get_mut(&path) {
            None => (404, String::new()),
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
        }
    };
    let answer = format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nlocation: /elsewhere\r\n\r\n{text}",
        text.len()
    );
    drop(socket.write_all(answer.as_bytes()).await);
    drop(socket.shutdown().await);
}

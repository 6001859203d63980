//! Keys of people are registered, prove one answer each, and nothing else.

mod crash;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::ApprovalId;

const ORIGIN: &str = "https://approvals.example.com";
const PARTY: &str = "approvals.example.com";

/// An authenticator that does as it is told.
enum Secret {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Secret {
    fn all() -> [Self; 3] {
        [
            Self::p256(),
            Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        ]
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    /// In COSE, as CTAP2 has it.
    fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                let head = [0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32];
                [&head, x, &[0x22, 0x58, 32], y].concat()
            }
            Self::Ed25519(pair) => {
                let head = [0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 32];
                [&head, pair.public_key().as_ref()].concat()
            }
            Self::Rsa(pair) => {
                let n = pair
                    .public_key()
                    .modulus()
                    .big_endian_without_leading_zero();
                let size = u16::try_from(n.len()).unwrap().to_be_bytes();
                let head = [0xa4, 1, 3, 3, 0x39, 1, 0, 0x20, 0x59];
                [&head, &size[..], n, &[0x21, 0x43, 1, 0, 1]].concat()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }
}

/// What a browser and a key say, and what of it may be wrong.
#[derive(Clone)]
struct Said {
    kind: &'static str,
    origin: &'static str,
    party: &'static str,
    flags: u8,
    count: u32,
    more: serde_json::Value,
}

impl Said {
    fn get(count: u32) -> Self {
        Self {
            kind: "webauthn.get",
            origin: ORIGIN,
            party: PARTY,
            flags: 0b101,
            count,
            more: json!({}),
        }
    }

    fn client_data(&self, challenge: &Bytes) -> Bytes {
        let mut said = json!({ "type": self.kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false });
        let fields = self.more.as_object().unwrap().clone();
        said.as_object_mut().unwrap().extend(fields);
        Bytes(serde_json::to_vec(&said).unwrap())
    }

    fn data(&self, credential: &[u8]) -> Bytes {
        let party = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.party.as_bytes());
        Bytes(
            [
                party.as_ref(),
                &[self.flags],
                &self.count.to_be_bytes(),
                credential,
            ]
            .concat(),
        )
    }

    fn signs(&self, secret: &Secret, id: &Bytes, challenge: &Bytes) -> Assertion {
        let (client_data, authenticator_data) = (self.client_data(challenge), self.data(&[]));
        let signed = read::signed(&authenticator_data.0, &client_data.0);
        Assertion {
            id: id.clone(),
            signature: Bytes(secret.sign(&signed)),
            client_data,
            authenticator_data,
        }
    }

    fn registers(&self, secret: &Secret, id: &Bytes, challenge: &Bytes) -> Registration {
        let size = u16::try_from(id.0.len()).unwrap().to_be_bytes();
        let credential = [&[0; 16], &size[..], &id.0, &secret.public()].concat();
        let said = Self {
            kind: if self.kind == "webauthn.get" {
                "webauthn.create"
            } else {
                self.kind
            },
            flags: self.flags | 1 << 6,
            ..self.clone()
        };
        Registration {
            id: id.clone(),
            client_data: said.client_data(challenge),
            authenticator_data: said.data(&credential),
        }
    }
}

struct Scene {
    factors: Factors,
    login: Login,
    site: Site,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            factors: Factors::open(&directory.path().join("factors.db")).unwrap(),
            login: Login {
                owner: Owner::Root,
                login: Uuid::now_v7(),
            },
            site: Site {
                origin: ORIGIN.to_owned(),
                party: PARTY.to_owned(),
            },
            directory,
        }
    }

    async fn register(
        &self,
        secret: &Secret,
        id: u8,
        by: Option<&Assertion>,
    ) -> Result<Bytes, Error> {
        let challenge = self.factors.challenge(&self.login, Purpose::Register)?;
        let id = Bytes(vec![id; 16]);
        let new = Said::get(0).registers(secret, &id, &challenge);
        let at = (&self.login, &self.site);
        let key = self.factors.register(at, "mine", &new, by).await?;
        assert_eq!(key.id, id);
        Ok(id)
    }

    async fn prove(&self, purpose: &Purpose, proof: &Assertion) -> Result<Factor, Error> {
        let at = (&self.login, &self.site);
        self.factors.prove(at, purpose, proof).await
    }
}

fn answer(said: u8) -> Purpose {
    Purpose::Answer {
        approval: ApprovalId(Uuid::nil()),
        said: [said; 32],
        shown: [7; 32],
    }
}

#[tokio::test]
async fn each_kind_of_key_proves_what_it_signed_and_that_once() {
    for secret in Secret::all() {
        let scene = Scene::new();
        let id = scene.register(&secret, 1, None).await.unwrap();
        let challenge = scene.factors.challenge(&scene.login, answer(1)).unwrap();
        let proof = Said::get(1).signs(&secret, &id, &challenge);
        let factor = scene.prove(&answer(1), &proof).await.unwrap();
        assert_eq!((factor.key, factor.challenge), (id, challenge));
        let again = scene.prove(&answer(1), &proof).await;
        assert!(matches!(again, Err(Error::Challenge)), "{again:?}");
        // It outlives the daemon, with its counter.
        let file = scene.directory.path().join("factors.db");
        let kept = Factors::open(&file).unwrap();
        assert_eq!(kept.of(Some(&Owner::Root)), scene.factors.of(None));
        assert_eq!(kept.of(None)[0].count, 1);
    }
}

#[tokio::test]
async fn what_is_signed_for_something_else_proves_nothing() {
    type Change = fn(&mut Said);
    let scene = Scene::new();
    let secret = Secret::p256();
    let id = scene.register(&secret, 1, None).await.unwrap();
    let good = Said::get(1);
    let wrong: [(&str, Change); 10] = [
        ("ceremony", |said| said.kind = "webauthn.create"),
        ("page", |said| {
            said.origin = "https://approvals.example.com:444"
        }),
        ("page", |said| said.origin = "http://approvals.example.com"),
        ("page", |said| said.more = json!({ "crossOrigin": true })),
        ("page", |said| said.more = json!({ "topOrigin": ORIGIN })),
        ("site", |said| said.party = "example.com"),
        ("verify", |said| said.flags = 0b001),
        ("verify", |said| said.flags = 0b100),
        ("contradicts", |said| said.flags = 0b1_0101),
        ("longer", |said| said.flags = 0b1000_0101),
    ];
    for (why, change) in wrong {
        let mut said = good.clone();
        change(&mut said);
        let challenge = scene.factors.challenge(&scene.login, answer(1)).unwrap();
        let proof = said.signs(&secret, &id, &challenge);
        let told = scene
            .prove(&answer(1), &proof)
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[tokio::test]
async fn a_proof_is_for_one_answer_by_ones_own_key_in_one_login() {
    let scene = Scene::new();
    let (secret, other) = (Secret::p256(), Secret::p256());
    let id = scene.register(&secret, 1, None).await.unwrap();
    let good = Said::get(1);
    let give = |purpose| scene.factors.challenge(&scene.login, purpose).unwrap();
    // Another answer, another key, another person's key, another login.
    let proof = good.signs(&secret, &id, &give(answer(1)));
    let told = scene.prove(&answer(2), &proof).await;
    assert!(matches!(told, Err(Error::Purpose)), "{told:?}");
    let proof = good.signs(&other, &id, &give(answer(1)));
    let told = scene.prove(&answer(1), &proof).await;
    assert!(matches!(told, Err(Error::Signature)), "{told:?}");
    let proof = good.signs(&secret, &Bytes(vec![2; 16]), &give(answer(1)));
    let told = scene.prove(&answer(1), &proof).await;
    assert!(matches!(told, Err(Error::Unknown)), "{told:?}");
    let login = Login {
        login: Uuid::now_v7(),
        ..scene.login.clone()
    };
    let proof = good.signs(&secret, &id, &give(answer(1)));
    let told = scene
        .factors
        .prove((&login, &scene.site), &answer(1), &proof)
        .await;
    assert!(matches!(told, Err(Error::Purpose)), "{told:?}");
    let proof = good.signs(&secret, &id, &Bytes(vec![0; 32]));
    let told = scene.prove(&answer(1), &proof).await;
    assert!(matches!(told, Err(Error::Challenge)), "{told:?}");
}

#[tokio::test]
async fn a_counter_that_goes_back_is_a_copys() {
    let scene = Scene::new();
    let secret = Secret::p256();
    let id = scene.register(&secret, 1, None).await.unwrap();
    for (count, fine) in [
        (0, true),
        (0, true),
        (5, true),
        (5, false),
        (4, false),
        (0, false),
        (6, true),
    ] {
        let challenge = scene.factors.challenge(&scene.login, answer(1)).unwrap();
        let proof = Said::get(count).signs(&secret, &id, &challenge);
        let proved = scene.prove(&answer(1), &proof).await;
        assert_eq!(proved.is_ok(), fine, "{count}: {proved:?}");
    }
}

#[tokio::test]
async fn each_key_but_the_first_is_vouched_for_by_another() {
    let scene = Scene::new();
    let (first, second) = (Secret::p256(), Secret::p256());
    let id = scene.register(&first, 1, None).await.unwrap();
    let told = scene.register(&second, 2, None).await;
    assert!(matches!(told, Err(Error::Unknown)), "{told:?}");
    let give = |purpose| scene.factors.challenge(&scene.login, purpose).unwrap();
    // What was signed for an answer vouches for no key.
    let wrong = Said::get(1).signs(&first, &id, &give(answer(1)));
    let told = scene.register(&second, 2, Some(&wrong)).await;
    assert!(matches!(told, Err(Error::Purpose)), "{told:?}");
    let by = Said::get(2).signs(&first, &id, &give(Purpose::Confirm));
    scene.register(&second, 2, Some(&by)).await.unwrap();
    let by = Said::get(3).signs(&first, &id, &give(Purpose::Confirm));
    let told = scene.register(&second, 2, Some(&by)).await;
    assert!(matches!(told, Err(Error::Known)), "{told:?}");
    assert_eq!(scene.factors.of(Some(&Owner::Root)).len(), 2);
    scene.factors.remove(&id).await.unwrap().unwrap();
    assert!(scene.factors.remove(&id).await.unwrap().is_none());
    let challenge = give(answer(1));
    let proof = Said::get(9).signs(&first, &id, &challenge);
    let told = scene.prove(&answer(1), &proof).await;
    assert!(matches!(told, Err(Error::Unknown)), "{told:?}");
}

#[test]
fn a_public_key_has_one_form() {
    for secret in Secret::all() {
        let public = secret.public();
        PublicKey::read(&public).unwrap();
        for at in 0..public.len() {
            assert!(PublicKey::read(&public[..at]).is_err());
        }
        let longer = [&public[..], &[0]].concat();
        assert!(PublicKey::read(&longer).is_err());
        // Another algorithm for the same key.
        let mut other = public.clone();
        other[4] ^= 1;
        assert!(PublicKey::read(&other).is_err());
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), flags: u8) {
        drop(ClientData::read(&bytes));
        drop(PublicKey::read(&bytes));
        drop(AuthenticatorData::read(&bytes));
        let mut data = vec![0; 32];
        data.push(flags);
        data.extend(bytes);
        if let Ok(read) = AuthenticatorData::read(&data) {
            prop_assert_eq!(read.credential.is_some(), flags & 1 << 6 != 0);
        }
    }
}
